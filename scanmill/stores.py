"""Encoded images out of the two stores of a release: by range where that is cheap, else by whole shards, each once.

A tar on this machine is read at ``tar_offset``. Of object storage, and of Parquet files, whole shards are in memory
from shortly before their first image is wanted until after their last.
"""

from __future__ import annotations

import hashlib
import io
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from scanmill.images import Encoded, Piece
from scanmill.refusal import ReleaseRefused
from scanmill.release import Release

FETCHERS = 2
"""Shards of object storage or Parquet that are read at the same time."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Index:
    """Where every sample of a release lies, as plain lists by row number."""

    sample: list[str]
    sha256: list[str]
    length: list[int]
    row: list[int]
    offset: list[int]
    """In the tar; empty where the release has none."""
    shard: npt.NDArray[np.int64]
    """Number in ``paths``."""
    paths: list[str]
    """Of the shards in this store, within the release."""


def index_of(release: Release, store: str) -> Index:
    """The sample table as a store needs it. Raises :class:`ReleaseRefused` where a shard is not in the manifest."""
    samples = release.samples
    code, names = pd.factorize(samples["shard"])
    offsets: list[int] = []
    if store == "webdataset":
        if samples["tar_offset"].isna().any():
            raise ReleaseRefused(f"{release.place}/samples.parquet: tar_offset is missing")
        offsets = samples["tar_offset"].astype("int64").tolist()
    return Index(
        sample=samples["sample_id"].astype(str).tolist(),
        sha256=samples["image_sha256"].astype(str).tolist(),
        length=samples["image_bytes"].astype("int64").tolist(),
        row=samples["row"].astype("int64").tolist(),
        offset=offsets,
        shard=code.astype(np.int64),
        paths=[release.shard_path(store, str(name)) for name in names],
    )


def has_ranges(release: Release, store: str) -> bool:
    """Whether single images can be read of that store as cheaply as whole shards."""
    return store == "webdataset" and release.place.storage is None


class Images:
    """Encoded images of some rows, wanted about in this order; one reading, from the first to the last.

    ``check`` says of every row of the release whether its hash is checked; it may change meanwhile.
    ``ahead`` is the number of shards that may be in memory at once, unless the order itself wants more.
    """

    def __init__(
        self, release: Release, store: str, index: Index, order: Rows, ahead: int, check: npt.NDArray[np.bool_]
    ) -> None:
        """Starts to fetch, where whole shards are."""
        self._index = index
        self._check = check
        self._folder = release.place
        self._files = [str(release.place / path) for path in index.paths]
        self._whole = None if has_ranges(release, store) else _Shards(release, store, index, order, ahead)

    def pieces(self, rows: Rows) -> list[Piece]:
        """Of each row; waits for their shards. Raises :class:`OSError` where a shard cannot be read."""
        return [self._piece(row, int(self._index.shard[row])) for row in rows.tolist()]

    def _piece(self, row: int, shard: int) -> Piece:
        index = self._index
        sha256 = index.sha256[row] if self._check[row] else ""
        file = self._files[shard]
        if self._whole is None:
            return Piece(index.sample[row], file, sha256, file, index.offset[row], index.length[row], b"")
        content = self._whole.image(shard, row)
        return Piece(index.sample[row], file, sha256, "", 0, index.length[row], content)

    def done(self, rows: Rows) -> None:
        """These rows are not wanted any more."""
        if self._whole is not None:
            self._whole.done(rows)

    def close(self) -> None:
        """Fetch no more, and wait for what is being fetched."""
        if self._whole is not None:
            self._whole.close()


class _Shards:
    """Whole shards in memory, counted down to their last image."""

    def __init__(self, release: Release, store: str, index: Index, order: Rows, ahead: int) -> None:
        self._release = release
        self._is_tar = store == "webdataset"
        self._index = index
        self._left = Counter(index.shard[order].tolist())
        _, first = np.unique(index.shard[order], return_index=True)
        self._waiting = index.shard[order][np.sort(first)].tolist()[::-1]
        self._held: dict[int, Future[Any]] = {}
        self._ahead = ahead
        self._turn = threading.Lock()
        self._pool = ThreadPoolExecutor(FETCHERS, thread_name_prefix="scanmill shards")
        with self._turn:
            self._fetch_ahead()

    def _fetch_ahead(self) -> None:
        while self._waiting and len(self._held) < self._ahead:
            self._fetch(self._waiting.pop())

    def _fetch(self, shard: int) -> Future[Any]:
        if shard not in self._held:
            self._held[shard] = self._pool.submit(self._read, self._index.paths[shard])
        return self._held[shard]

    def _read(self, path: str) -> Any:
        place = self._release.place / path
        try:
            content = place.read()
        except OSError as error:
            raise OSError(f"{place} cannot be read: {error}") from error
        return memoryview(content) if self._is_tar else _images_of(content, str(place), self._entry(path))

    def _entry(self, path: str) -> str:
        return next(str(entry["sha256"]) for entry in self._release.manifest["shards"] if entry["path"] == path)

    def image(self, shard: int, row: int) -> Encoded:
        with self._turn:
            found = self._held.get(shard) or self._fetch(shard)
        content = found.result()
        index = self._index
        if self._is_tar:
            return memoryview(content)[index.offset[row] : index.offset[row] + index.length[row]]
        number = index.row[row]
        if number >= len(content):
            raise ReleaseRefused(f"{index.paths[shard]}: sample {index.sample[row]} is cut off: it has no row {number}")
        buffer = content[number].as_buffer()
        return memoryview(buffer) if buffer is not None else b""

    def done(self, rows: Rows) -> None:
        with self._turn:
            for shard, count in Counter(self._index.shard[rows].tolist()).items():
                self._left[shard] -= count
                if self._left[shard] <= 0:
                    self._held.pop(shard, None)
            self._fetch_ahead()

    def close(self) -> None:
        with self._turn:
            self._waiting.clear()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._held.clear()


def _images_of(content: bytes, place: str, sha256: str) -> Any:
    """The encoded images of a Parquet shard, not copied. Damage of the file's structure is told by its hash."""
    try:
        images = pq.ParquetFile(io.BytesIO(content)).read(columns=["image.bytes"])["image"].combine_chunks()
        return images.field("bytes")
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        is_damaged = hashlib.sha256(content).hexdigest() != sha256
        how = "bytes were changed (sha256 differs)" if is_damaged else "it is no Parquet shard of scanmill"
        raise ReleaseRefused(f"{place} cannot be read: {how}: {error}") from error
