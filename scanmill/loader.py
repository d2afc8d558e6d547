"""Batches of a release, decoded ahead by threads or processes; the place in an epoch can be kept and gone on from."""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from scanmill import order
from scanmill.decoding_process import SLOTS, DecodingProcess
from scanmill.images import Files, Form, fill
from scanmill.release import Release
from scanmill.stores import Images, Rows, has_ranges, index_of

FORMAT = "scanmill-loader/1"
WINDOW = 4
"""Shards that are mixed where whole shards are read: at most twice as many, 60 MiB each, are in memory."""
SPREAD = 3
"""Shards in memory beside those of the window, where the order is the caller's."""


class Batch(NamedTuple):
    """Some samples. A named tuple, so that ``DataLoader`` makes tensors of its arrays."""

    images: npt.NDArray[Any]
    """(samples, 1, height, width), grey, uint8 or uint16; nobody else holds it."""
    rows: Rows
    """Row numbers in ``release.samples``."""
    sample_ids: list[str]
    columns: dict[str, npt.NDArray[Any]]
    """By name, one value per sample: labels, targets and other numbers float32, NaN unknown; integers without unknowns
    as they are; anything else as objects."""


class Loader:
    """Images of a release in batches; iterating gives one epoch of :class:`Batch`, and the next time the next epoch.

    ``split`` (a name or several) or ``rows`` (row numbers of ``release.samples``) says which samples; neither, all.
    ``size``: letterboxed into size × size (longer side scaled down by area averages, never enlarged; centred on black).
    Without it all images must have one shape.
    ``bits``: None gives 8 bits where all images of these rows have 8, else 16, and 8-bit ones times 257. 8 narrows
    16-bit images to the nearest 257th; 16 widens all.
    ``shuffle`` and ``seed``: the order is a function of seed, epoch, rows and window alone. ``window``: how many shards
    are mixed with each other at a time; None: all. ``"auto"``: None for tars on this machine, which are read at any
    place; 4 for Parquet and for object storage, where whole shards are read, each once.
    ``threads``, or ``processes`` instead (Linux; faster for grey PNG of 8 bits): who reads, verifies and decodes.
    ``rank`` and ``ranks``: this process and how many there are; by default RANK and WORLD_SIZE of the environment, else
    0 and 1. Every sample comes to exactly one rank. The last round is shared out evenly over the ranks (those that get
    nothing of it have one batch less), or left out with ``drop_last``.
    ``verify``: hold every image against the SHA-256 of the sample table whenever it is read; ``"once"``: when this
    loader first reads it (a decoder still checks PNG's own CRC every time); False: never.
    ``columns``: columns of the sample table that come along.
    ``store``: ``"webdataset"`` or ``"parquet"``; None: tars where there are any.
    ``prefetch``: batches decoded ahead of the consumer; by default two for each thread or process.

    Raises :class:`ValueError` for what cannot be; iterating raises :class:`scanmill.ReleaseRefused` for a damaged
    image, naming shard and sample.
    """

    def __init__(
        self,
        release: Release,
        *,
        split: str | Sequence[str] | None = None,
        rows: Sequence[int] | npt.NDArray[np.integer[Any]] | None = None,
        batch_size: int = 64,
        size: int | None = None,
        bits: Literal[8, 16] | None = None,
        shuffle: bool = False,
        seed: int = 0,
        window: int | Literal["auto"] | None = "auto",
        threads: int = 2,
        processes: int = 0,
        rank: int | None = None,
        ranks: int | None = None,
        drop_last: bool = False,
        verify: bool | Literal["once"] = True,
        columns: Sequence[str] = (),
        store: str | None = None,
        prefetch: int | None = None,
    ) -> None:
        """Checks everything that can be checked without reading an image."""
        self.release = release
        self.rows = _rows(release, split, rows)
        self.batch_size = _at_least("batch_size", batch_size, 1)
        self._store = _store(release, store)
        self._index = index_of(release, self._store)
        self._form = _form(release.samples, self.rows, size, bits)
        self._shuffle, self._seed = bool(shuffle), int(seed)
        self._window = _window(window, has_ranges(release, self._store))
        self._processes = _processes(processes)
        self._threads = _at_least("threads", threads, 1)
        self._rank, self._ranks = _ranks(rank, ranks)
        self._drop_last = drop_last
        self._verify = _verify(verify)
        self._check = np.full(len(release.samples), verify is not False)
        self._columns = {name: _values(release, name) for name in columns}
        ahead = 2 * (self._processes or self._threads)
        self._prefetch = ahead if prefetch is None else _at_least("prefetch", prefetch, 1)
        self._epoch = self._begin = self._consumed = 0
        self._children: list[DecodingProcess] = []
        self._finalizer = weakref.finalize(self, _close, self._children)
        _register()

    def __len__(self) -> int:
        """Batches of this rank in a whole epoch."""
        return order.count_batches(len(self.rows), self.batch_size, self._rank, self._ranks, drop_last=self._drop_last)

    @property
    def epoch(self) -> int:
        """Number of the epoch that is under way, or that the next iteration is. Setting it goes to its beginning."""
        return self._epoch

    @epoch.setter
    def epoch(self, number: int) -> None:
        self._epoch, self._begin, self._consumed = _at_least("epoch", number, 0), 0, 0

    def set_epoch(self, number: int) -> None:
        """The same, but the place in the current epoch is kept: what training frameworks call before each epoch."""
        if number != self._epoch:
            self.epoch = number

    def state_dict(self) -> dict[str, Any]:
        """The place in the epoch, as plain JSON: every batch handed out so far is behind it, on all ranks alike.

        Ranks must have had the same number of batches; then each rank's state is the same.
        """
        return {**self._identity(), "epoch": self._epoch, "samples": self._consumed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there: the next iteration gives exactly the remaining samples of that epoch.

        Threads, processes, batch size, ranks and store may differ. Raises :class:`ValueError` where release, rows,
        shuffling, seed or window do.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise ValueError(
                    f"the state has {name} {state.get(name)!r}, this loader has {value!r}: it cannot go on"
                )
        samples = int(state["samples"])
        if not 0 <= samples <= len(self.rows):
            raise ValueError(f"the state is {samples} samples into the epoch; an epoch has {len(self.rows)}")
        self.epoch = int(state["epoch"])
        self._begin = self._consumed = samples

    @property
    def bits(self) -> int:
        """Of the images that come: 8 (uint8) or 16 (uint16)."""
        return self._form.bits

    def values(self, name: str) -> npt.NDArray[Any]:
        """One of ``columns``, of every row of the release, as it comes in batches."""
        return self._columns[name]

    def _identity(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "release": self.release.manifest_sha256,
            "rows": hashlib.sha256(self.rows.astype("<i8").tobytes()).hexdigest(),
            "shuffle": self._shuffle,
            "seed": self._seed if self._shuffle else None,
            "window": self._window if self._shuffle else None,
        }

    def order(self, epoch: int) -> Rows:
        """All row numbers in the order of that epoch, over all ranks."""
        if not self._shuffle:
            return self.rows
        if self._window is None:
            return self.rows[order.shuffled(len(self.rows), self._seed, epoch)]
        shards = self._index.shard[self.rows]
        return self.rows[order.shuffled_by_shard(shards, self._window, self._seed, epoch)]

    def __iter__(self) -> Iterator[Batch]:
        """The current epoch, from its beginning or from where a loaded state left it.

        After the last batch the epoch counts one up; after a ``break`` it is begun again.
        """
        _insist_on_main_process()
        self._consumed = self._begin
        return self._batches(self._epoch, self._begin)

    def _batches(self, epoch: int, begin: int) -> Iterator[Batch]:
        rows, count, size = self.order(epoch), len(self.rows), self.batch_size
        spans = list(order.spans(count, begin, size, self._rank, self._ranks, drop_last=self._drop_last))
        own = np.concatenate([rows[first:end] for first, end in spans]) if spans else rows[:0]
        ahead = 2 * (self._window or SPREAD)
        images = Images(self.release, self._store, self._index, own, ahead, self._check)
        files = Files()
        lanes = self._lanes()
        pool = ThreadPoolExecutor(lanes.qsize() or self._threads, thread_name_prefix="scanmill")
        pending: deque[tuple[Future[Batch], int]] = deque()
        try:
            for first, end in spans:
                consumed = order.had(first, count, begin, size, self._ranks)
                pending.append((pool.submit(self._load, rows[first:end], images, files, lanes), consumed))
                if len(pending) > self._prefetch:
                    yield self._delivered(epoch, *pending.popleft())
            while pending:
                yield self._delivered(epoch, *pending.popleft())
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            images.close()
            files.close()
            _close(self._children, only_dead=True)
        if self._epoch == epoch:
            self.epoch = epoch + 1

    def _delivered(self, epoch: int, future: Future[Batch], consumed: int) -> Batch:
        batch = future.result()
        if self._epoch == epoch:
            self._consumed = consumed
        return batch

    def _load(self, rows: Rows, images: Images, files: Files, lanes: queue.SimpleQueue[Lane]) -> Batch:
        pieces = images.pieces(rows)
        form = self._form
        pixels = np.empty((len(rows), 1, form.height, form.width), np.uint8 if form.bits == 8 else np.uint16)
        if self._processes:
            lane = lanes.get()
            try:
                lane[0].fill(lane[1], pixels, pieces, form)
            finally:
                lanes.put(lane)
        else:
            fill(pixels, pieces, form, files)
        del pieces
        images.done(rows)
        if self._verify == "once":
            self._check[rows] = False
        columns = {name: values[rows] for name, values in self._columns.items()}
        return Batch(pixels, rows, [self._index.sample[row] for row in rows.tolist()], columns)

    def _lanes(self) -> queue.SimpleQueue[Lane]:
        """Every slot of every decoding process, those of different processes beside each other; none with threads."""
        largest = self.batch_size * self._form.height * self._form.width * self._form.bits // 8
        while len(self._children) < self._processes:
            self._children.append(DecodingProcess(largest))
        lanes: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        for slot in range(SLOTS):
            for child in self._children:
                lanes.put((child, slot))
        return lanes

    def close(self) -> None:
        """End decoding processes now, rather than when the loader is forgotten. The next iteration starts new ones."""
        _close(self._children)


Lane = tuple[DecodingProcess, int]
"""A process and a slot of its memory."""


def _close(children: list[DecodingProcess], *, only_dead: bool = False) -> None:
    """End the processes and forget them."""
    for child in [child for child in children if child.is_dead or not only_dead]:
        child.close()
        children.remove(child)


def _rows(release: Release, split: Any, rows: Any) -> Rows:
    if split is not None and rows is not None:
        raise ValueError("give split= or rows=, not both")
    if split is not None:
        return release.rows_of(split if isinstance(split, str) else tuple(split))
    count = len(release.samples)
    if rows is None:
        return np.arange(count, dtype=np.int64)
    wanted = np.asarray(rows)
    if wanted.ndim != 1 or (wanted.size and wanted.dtype.kind not in "iu"):
        raise ValueError(
            f"rows must be row numbers of release.samples in one dimension, not {wanted.dtype} {wanted.shape}"
        )
    if wanted.size and not (wanted.min() >= 0 and wanted.max() < count):
        raise ValueError(f"rows go from {wanted.min()} to {wanted.max()}; release.samples has 0 to {count - 1}")
    return wanted.astype(np.int64)


def _store(release: Release, store: str | None) -> str:
    if store is None and release.stores:
        return release.stores[0]
    if store not in release.stores:
        raise ValueError(f"{release.place} has no store '{store}'; it has {', '.join(release.stores) or 'none'}")
    return store


def _form(samples: pd.DataFrame, rows: Rows, size: int | None, bits: int | None) -> Form:
    if bits not in (None, 8, 16):
        raise ValueError(f"bits={bits}: known are 8 and 16")
    depths = samples["bit_depth"].to_numpy()[rows]
    depth = bits or (16 if (depths > 8).any() else 8)
    if size is not None:
        side = _at_least("size", size, 1)
        return Form(side, side, depth, is_letterboxed=True)
    shapes = np.unique(samples[["height", "width"]].to_numpy(np.int64)[rows], axis=0)
    if len(shapes) > 1:
        raise ValueError(
            f"these images have {len(shapes):,} shapes, from {shapes[0][1]} × {shapes[0][0]} to "
            f"{shapes[-1][1]} × {shapes[-1][0]} pixels: give size= to have all letterboxed into one"
        )
    height, width = shapes[0].tolist() if len(shapes) else (0, 0)
    return Form(height, width, depth, is_letterboxed=False)


def _window(window: Any, has_any_place: bool) -> int | None:
    if window == "auto":
        return None if has_any_place else WINDOW
    return None if window is None else _at_least("window", window, 1)


def _processes(processes: int) -> int:
    if _at_least("processes", processes, 0) and not hasattr(os, "memfd_create"):
        raise ValueError(f"processes={processes} works on Linux only: give threads= instead")
    return processes


def _ranks(rank: int | None, ranks: int | None) -> tuple[int, int]:
    if (rank is None) != (ranks is None):
        raise ValueError(f"rank={rank}, ranks={ranks}: give both or neither")
    if rank is None or ranks is None:
        rank, ranks = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if not 0 <= rank < ranks:
        raise ValueError(f"rank {rank} of {ranks}: ranks count from 0")
    return rank, ranks


def _verify(verify: Any) -> bool | str:
    if verify is not True and verify is not False and verify != "once":
        raise ValueError(f"verify={verify!r}: known are True, False and 'once'")
    known: bool | str = verify
    return known


def _at_least(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise ValueError(f"{name}={value!r}: a whole number, {least} at least")
    return int(value)


def _values(release: Release, name: str) -> npt.NDArray[Any]:
    if name not in release.samples.columns:
        near = [column for column in release.samples.columns if column.startswith(name.partition(".")[0])]
        raise ValueError(f"samples.parquet has no column '{name}'; it has {', '.join(near or release.samples.columns)}")
    values = release.samples[name]
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        if name.startswith(("label.", "target.")) or pd.api.types.is_float_dtype(values) or values.hasnans:
            return values.to_numpy(np.float32, na_value=np.nan)
        return values.to_numpy()
    if pd.api.types.is_bool_dtype(values) and not values.hasnans:
        return values.to_numpy(bool)
    return values.astype(object).where(values.notna(), None).to_numpy()


def _register() -> None:
    """Let torch know, where it is in use, that a loader is an iterable dataset, for ``DataLoader(loader, …)``."""
    data = sys.modules.get("torch.utils.data")
    if data is not None and not issubclass(Loader, data.IterableDataset):
        data.IterableDataset.register(Loader)


def _insist_on_main_process() -> None:
    data = sys.modules.get("torch.utils.data")
    if data is not None and data.get_worker_info() is not None:
        raise ValueError(
            "a scanmill.Loader decodes in threads or processes of its own; as the dataset of a DataLoader it needs "
            "num_workers=0 (each worker would read every sample)"
        )
