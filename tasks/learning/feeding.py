"""Batches for a network: from the device's memory, where the images fit into it, or from the shards. In the same order.

Which images make up a batch is a pure function of seed and epoch (:mod:`scanmill`), so that a training goes on where it
stood, and reading from memory or from shards makes no difference to what is learned.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil
import torch
from torch import Tensor

import scanmill
from scanmill import order
from tasks.learning.admission import Release
from tasks.learning.reading import opened, refusing
from tasks.learning.recipe import Recipe, network_options, training_of

Rows = npt.NDArray[np.int64]
MEMORY_SHARE = 0.5
"""Of the free memory that images may take."""
BUFFERS = 3
"""Batches that may be on their way to a GPU, each through a buffer of its own."""
MEASURED = 2000
"""Images that grey levels are measured on, evenly over the split."""


class Feed(Protocol):
    """What Lightning takes for a data loader that can be resumed: batches of images and sample numbers."""

    kind: Literal["memory", "stream"]

    def __len__(self) -> int:
        """Batches of an epoch."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The rest of the current epoch."""

    def grey_levels(self) -> tuple[float, float]:
        """Mean and standard deviation of the images' pixels, as shares of white."""


def feed_of(
    release: Release,
    samples: pd.DataFrame,
    rows: Rows,
    recipe: Recipe,
    device: torch.device,
    *,
    is_training: bool = True,
) -> Feed:
    """Batches of these rows of ``samples``; shuffled, and dealt to the processes of a distributed one, for training.

    Raises :class:`DataRefused` for an image that is not what the release says.
    """
    options, size = training_of(recipe), network_options(recipe).size
    source = opened(release)
    numbers = numbers_in(source, samples)
    has_room = len(rows) * size * size < MEMORY_SHARE * _free_bytes(device)
    kind = {"auto": "memory" if has_room else "stream"}.get(options.reading, options.reading)
    how = _Order(
        batch_size=options.batch_size if is_training else max(options.batch_size, 64),
        seed=recipe.seed,
        shuffle=is_training,
        ranks=int(os.environ.get("WORLD_SIZE", "1")) if is_training else 1,
        rank=int(os.environ.get("RANK", "0")) if is_training else 0,
    )
    made = _FromMemory if kind == "memory" else _FromShards
    return made(source, numbers, rows, size, device, how)


def numbers_in(source: scanmill.Release, samples: pd.DataFrame) -> Rows:
    """For every row of ``samples`` its row in the release."""
    found: Rows = pd.Index(source.samples["sample_id"]).get_indexer(samples["sample_id"]).astype(np.int64)
    return found


def _readers(device: torch.device) -> dict[str, Any]:
    """Who decodes: beside a GPU processes, which are twice as fast; beside a network on the CPU threads, which are few.

    torchrun starts one of us for every device: the cores are shared.
    """
    cores = max((os.cpu_count() or 2) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 2)
    if device.type == "cuda" and hasattr(os, "memfd_create"):
        return {"processes": cores - 1}
    return {"threads": cores}


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


class _Order:
    """How batches are made, whichever way they come."""

    def __init__(self, *, batch_size: int, seed: int, shuffle: bool, rank: int, ranks: int) -> None:
        self.batch_size, self.seed, self.shuffle, self.rank, self.ranks = batch_size, seed, shuffle, rank, ranks

    def drops_last(self, count: int) -> bool:
        """A last small batch would weigh its images more, and batch norm fails on one alone."""
        return self.shuffle and count >= self.batch_size * self.ranks


class _Resumable:
    """Counts epochs and batches, for Lightning's checkpoints."""

    def __init__(
        self, release: scanmill.Release, numbers: Rows, rows: Rows, size: int, device: torch.device, how: _Order
    ) -> None:
        self._release, self._size, self._device = release, size, device
        self._how, self._count = how, len(rows)
        self._rows = numbers[rows]
        self._back = np.full(len(release.samples), -1, dtype=np.int64)
        self._back[self._rows] = rows
        self._epoch = self._done = 0
        self._loader = self._loader_of(self._rows, shuffle=how.shuffle)
        """One for all epochs: what it decodes with stays from epoch to epoch."""

    def __len__(self) -> int:
        each = self._how.batch_size * self._how.ranks
        return self._count // each if self._how.drops_last(self._count) else -(-self._count // each)

    def set_epoch(self, epoch: int) -> None:
        """The epoch that the next iteration is of; one that is half done stays so."""
        if epoch != self._epoch:
            self._epoch, self._done = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """Where this process stands: a number of batches of an epoch."""
        return {"epoch": self._epoch, "done": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The inverse."""
        self._epoch, self._done = state["epoch"], state["done"]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self._done >= len(self):
            self._done = 0
        for images, rows in self._batches(self._epoch, self._done):
            self._done += 1
            yield images, rows

    def _batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        raise NotImplementedError

    def grey_levels(self) -> tuple[float, float]:
        """See :class:`Feed`; of whole counts, so that it is the same however images are read."""
        counts, shares = self._histogram().astype(np.float64), np.arange(256) / 255
        mean = float(counts @ shares / counts.sum())
        return mean, float(counts @ (shares - mean) ** 2 / counts.sum()) ** 0.5

    def _histogram(self) -> Rows:
        raise NotImplementedError

    def _loader_of(self, rows: Rows, *, shuffle: bool, is_alone: bool = False) -> scanmill.Loader:
        how = self._how
        return scanmill.Loader(
            self._release,
            rows=rows,
            batch_size=how.batch_size,
            size=self._size,
            bits=8,
            shuffle=shuffle,
            seed=how.seed,
            rank=0 if is_alone else how.rank,
            ranks=1 if is_alone else how.ranks,
            drop_last=shuffle and how.drops_last(len(rows)),
            **_readers(self._device),
        )

    def _spread_evenly(self) -> Rows:
        return self._rows[:: max(1, self._count // MEASURED)][:MEASURED]


class _FromMemory(_Resumable):
    kind: Literal["memory", "stream"] = "memory"

    def __init__(
        self, release: scanmill.Release, numbers: Rows, rows: Rows, size: int, device: torch.device, how: _Order
    ) -> None:
        super().__init__(release, numbers, rows, size, device, how)
        with refusing():
            self._images = scanmill.Resident(
                release, rows=self._rows, size=size, bits=8, device=device, **_readers(device)
            ).images
        self._numbers = torch.from_numpy(rows).to(device)
        self._place = np.full(len(release.samples), -1, dtype=np.int64)
        self._place[self._rows] = np.arange(len(rows))

    def _batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        how = self._how
        dealt = torch.from_numpy(self._place[self._loader.order(epoch)]).to(self._device)  # once, not in every batch
        begin, is_dropped = start * how.batch_size * how.ranks, how.drops_last(self._count)
        spans = order.spans(self._count, begin, how.batch_size, how.rank, how.ranks, drop_last=is_dropped)
        for first, end in spans:
            chosen = dealt[first:end]
            yield self._images[chosen], self._numbers[chosen]

    def _histogram(self) -> Rows:
        every = max(1, self._count // MEASURED)
        counts: Rows = torch.bincount(self._images[::every][:MEASURED].flatten(), minlength=256).cpu().numpy()
        return counts


class _Crossing:
    """The way of batches to a GPU, through a few buffers that it reads by itself: sending waits at most for the copy of
    the batch :data:`BUFFERS` before. ``pin_memory`` for every batch cost 5 to 6 ms while others decode, beside an H100
    with 16 cores (probably because it copies with a thread for each of them); this costs 0.3 ms."""

    def __init__(self, device: torch.device, most: int) -> None:
        """``most``: samples of the largest batch."""
        self._device, self._most = device, most
        self._buffers: deque[tuple[Tensor, Tensor, torch.cuda.Event]] = deque()

    def send(self, images: npt.NDArray[Any], rows: Rows) -> tuple[Tensor, Tensor]:
        """Both there, or on their way; as they are where there is no GPU."""
        if self._device.type != "cuda":
            return torch.from_numpy(images), torch.from_numpy(rows)
        if len(self._buffers) < BUFFERS:
            self._buffers.append((self._locked(images), self._locked(rows), torch.cuda.Event()))  # type: ignore[no-untyped-call]
        else:
            self._buffers.rotate(-1)
        *buffers, copied = self._buffers[-1]
        copied.synchronize()
        sent = [self._sent(values, buffer) for values, buffer in zip((images, rows), buffers, strict=True)]
        copied.record(torch.cuda.current_stream(self._device))
        return sent[0], sent[1]

    def _locked(self, like: npt.NDArray[Any]) -> Tensor:
        return torch.empty((self._most, *like.shape[1:]), dtype=torch.from_numpy(like).dtype, pin_memory=True)

    def _sent(self, values: npt.NDArray[Any], buffer: Tensor) -> Tensor:
        own = buffer[: len(values)]
        np.copyto(own.numpy(), values)
        return own.to(self._device, non_blocking=True)


class _FromShards(_Resumable):
    kind: Literal["memory", "stream"] = "stream"

    def __init__(
        self, release: scanmill.Release, numbers: Rows, rows: Rows, size: int, device: torch.device, how: _Order
    ) -> None:
        super().__init__(release, numbers, rows, size, device, how)
        self._crossing = _Crossing(device, how.batch_size)

    def _batches(self, epoch: int, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        consumed = start * self._how.batch_size * self._how.ranks
        self._loader.load_state_dict({**self._loader.state_dict(), "epoch": epoch, "samples": consumed})
        with refusing():
            for batch in self._loader:
                yield self._crossing.send(batch.images, self._back[batch.rows])

    def _histogram(self) -> Rows:
        counts = np.zeros(256, dtype=np.int64)
        with refusing():
            for batch in self._loader_of(self._spread_evenly(), shuffle=False, is_alone=True):
                counts += np.bincount(batch.images.ravel(), minlength=256)
        return counts
