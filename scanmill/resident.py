"""A release in the memory of a GPU (or of the host): read and verified once, indexed there ever after."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scanmill import order
from scanmill.loader import Loader, _ranks
from scanmill.release import Release

if TYPE_CHECKING:
    import torch

GIB = 2**30


class Resident:
    """All images of a split, or of some rows, as one uint8 tensor (samples, 1, size, size) on a device.

    Arguments are those of :class:`scanmill.Loader`; 16-bit images have to be narrowed explicitly, with ``bits=8``.
    ``threads`` or ``processes`` read them in, one thread for each core by default.

    Raises :class:`ImportError` without torch, :class:`MemoryError` where the device has not enough free memory, and
    what a loader raises.
    """

    images: torch.Tensor
    """uint8 (samples, 1, size, size), in the order of ``rows``."""
    columns: dict[str, torch.Tensor]
    """By name, of all samples of the release, to be indexed by row numbers: ``resident.columns["age_years"][rows]``."""

    def __init__(
        self,
        release: Release,
        *,
        split: str | Sequence[str] | None = None,
        rows: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None,
        size: int = 224,
        bits: int | None = None,
        device: str | torch.device = "cuda",
        columns: Sequence[str] = (),
        verify: bool = True,
        store: str | None = None,
        threads: int | None = None,
        processes: int = 0,
    ) -> None:
        """Reads everything."""
        try:
            import torch
        except ImportError as error:
            raise ImportError("scanmill.Resident needs torch: pip install torch") from error
        loader = Loader(
            release,
            split=split,
            rows=rows,
            size=size,
            bits=bits,  # type: ignore[arg-type]
            verify=verify,
            columns=columns,
            store=store,
            threads=threads or os.cpu_count() or 1,
            processes=processes,
            rank=0,
            ranks=1,
        )
        if loader.bits != 8:
            raise ValueError(
                f"{release.place} has 16-bit images among these: give bits=8 to have them narrowed to 8 bits"
            )
        self.rows = loader.rows
        self.device = torch.device(device)
        self._insist_on_room(len(self.rows) * size * size)
        self.images = torch.empty((len(self.rows), 1, size, size), dtype=torch.uint8, device=self.device)
        self._rows = torch.from_numpy(self.rows).to(self.device)
        first = 0
        for batch in loader:
            self.images[first : first + len(batch.rows)].copy_(torch.from_numpy(batch.images))
            first += len(batch.rows)
        loader.close()
        self.columns = {name: torch.from_numpy(loader.values(name)).to(self.device) for name in columns}

    @property
    def bytes(self) -> int:
        """Of the images."""
        return self.images.numel()

    def __len__(self) -> int:
        """Samples."""
        return len(self.rows)

    def batches(
        self,
        batch_size: int,
        seed: int = 0,
        epoch: int = 0,
        *,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int | None = None,
        ranks: int | None = None,
        start: int = 0,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Images and row numbers of one epoch of this rank, both on the device.

        The order is that of ``Loader(…, shuffle=True, window=None)`` with this seed in this epoch; ``start`` is the
        number of samples that all ranks together have had of it (``samples`` of a loader's state).
        """
        import torch

        own, of = _ranks(rank, ranks)
        count = len(self.rows)
        dealt = order.shuffled(count, seed, epoch) if shuffle else np.arange(count, dtype=np.int64)
        on_device = torch.from_numpy(dealt).to(self.device)  # once an epoch, not once a batch
        for first, end in order.spans(count, start, batch_size, own, of, drop_last=drop_last):
            chosen = on_device[first:end]
            yield self.images[chosen], self._rows[chosen]

    def _insist_on_room(self, needed: int) -> None:
        free = _free_bytes(self.device)
        if free is not None and needed > free:
            raise MemoryError(
                f"{len(self.rows):,} images need {needed / GIB:.1f} GiB, {self.device} has {free / GIB:.1f} GiB free: "
                f"give a smaller size=, fewer rows=, or read with scanmill.Loader instead"
            )


def _free_bytes(device: torch.device) -> int | None:
    """Memory that can still be had of a device; None where nobody can tell."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    try:
        with open("/proc/meminfo") as stream:  # noqa: PTH123
            known = dict(line.split(":", 1) for line in stream)
        return int(known["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None
