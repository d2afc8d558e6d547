"""Encoded images, and masks, out of the two stores of a release: by range where that is cheap, else by whole shards.

A tar on this machine is read at ``tar_offset``. Of object storage, and of Parquet files, whole shards are in memory
from shortly before their first image is wanted until after their last.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

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

MASK_EXTENSION = "mask.png"
"""What a mask is called after its sample; in a tar it comes next after its image."""

Rows = npt.NDArray[np.int64]
Column = Literal["image", "mask"]


@dataclass(frozen=True)
class Encodings:
    """The images, or the masks, of all samples, as plain lists by row number."""

    sha256: list[str]
    length: list[int]
    offset: list[int]
    """In the tar; empty where the release has none."""


@dataclass(frozen=True)
class Index:
    """Where every sample of a release lies, as plain lists by row number."""

    sample: list[str]
    row: list[int]
    shard: npt.NDArray[np.int64]
    """Number in ``paths``."""
    paths: list[str]
    """Of the shards in this store, within the release."""
    files: dict[Column, Encodings]
    """Those that are wanted."""


def index_of(release: Release, store: str, columns: tuple[Column, ...] = ("image",)) -> Index:
    """The sample table as a store needs it, to read these columns.

    Raises :class:`ReleaseRefused` where a shard is not in the manifest, and where masks are wanted and there are none.
    """
    samples = release.samples
    if "mask" in columns and "mask_sha256" not in samples:
        raise ReleaseRefused(f"{release.dataset}@{release.name} has no masks")
    code, names = pd.factorize(samples["shard"])
    ids = samples["sample_id"].astype(str).tolist()
    offsets: dict[Column, list[int]] = {}
    if store == "webdataset":
        offset = samples.get("tar_offset")
        if offset is None or not pd.api.types.is_numeric_dtype(offset) or offset.isna().any() or (offset < 0).any():
            raise ReleaseRefused(f"{release.place}/samples.parquet: tar_offset is missing")
        offsets["image"] = samples["tar_offset"].astype("int64").tolist()
        if "mask" in columns:
            ends = (samples["tar_offset"] + samples["image_bytes"]).astype("int64").tolist()
            sizes = samples["mask_bytes"].astype("int64").tolist()
            offsets["mask"] = [_after(*own) for own in zip(ends, ids, sizes, strict=True)]
    files = {
        column: Encodings(
            sha256=samples[f"{column}_sha256"].astype(str).tolist(),
            length=samples[f"{column}_bytes"].astype("int64").tolist(),
            offset=offsets.get(column, []),
        )
        for column in columns
    }
    return Index(
        sample=ids,
        row=samples["row"].astype("int64").tolist(),
        shard=code.astype(np.int64),
        paths=[release.shard_path(store, str(name)) for name in names],
        files=files,
    )


def _after(end: int, sample: str, size: int) -> int:
    """Where a mask begins in a tar whose image ends there: at the next block, behind a header (more for long names)."""
    entry = tarfile.TarInfo(f"{sample}.{MASK_EXTENSION}")
    entry.size = size
    return -(-end // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE + len(entry.tobuf(tarfile.PAX_FORMAT))


def has_ranges(release: Release, store: str) -> bool:
    """Whether single images can be read of that store as cheaply as whole shards."""
    return store == "webdataset" and release.place.storage is None


class Images:
    """Encoded images of some rows, and what else the index has of them, wanted about in this order; one reading.

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

    def pieces(self, rows: Rows, column: Column = "image") -> list[Piece]:
        """Of each row; waits for their shards. Raises :class:`OSError` where a shard cannot be read."""
        return [self._piece(row, int(self._index.shard[row]), column) for row in rows.tolist()]

    def _piece(self, row: int, shard: int, column: Column) -> Piece:
        index = self._index
        files = index.files[column]
        sha256 = files.sha256[row] if self._check[row] else ""
        file = self._files[shard]
        name = index.sample[row] if column == "image" else f"{index.sample[row]} ({column})"
        if self._whole is None:
            return Piece(name, file, sha256, file, files.offset[row], files.length[row], b"")
        content = self._whole.file(shard, row, column)
        return Piece(name, file, sha256, "", 0, files.length[row], content)

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
        if self._is_tar:
            return memoryview(content)
        return _files_of(content, tuple(self._index.files), str(place), self._entry(path))

    def _entry(self, path: str) -> str:
        return next(str(entry["sha256"]) for entry in self._release.manifest["shards"] if entry["path"] == path)

    def file(self, shard: int, row: int, column: Column) -> Encoded:
        with self._turn:
            found = self._held.get(shard) or self._fetch(shard)
        content = found.result()
        index = self._index
        if self._is_tar:
            files = index.files[column]
            return memoryview(content)[files.offset[row] : files.offset[row] + files.length[row]]
        number = index.row[row]
        if number >= len(content[column]):
            raise ReleaseRefused(f"{index.paths[shard]}: sample {index.sample[row]} is cut off: it has no row {number}")
        buffer = content[column][number].as_buffer()
        return memoryview(buffer).cast("B") if buffer is not None else b""  # pyarrow's bytes have a sign

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


def _files_of(content: bytes, columns: tuple[Column, ...], place: str, sha256: str) -> dict[Column, Any]:
    """The encoded files of a Parquet shard, not copied. Damage of the file's structure is told by its hash."""
    try:
        table = pq.ParquetFile(io.BytesIO(content)).read(columns=[f"{column}.bytes" for column in columns])
        return {column: table[column].combine_chunks().field("bytes") for column in columns}
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        is_damaged = hashlib.sha256(content).hexdigest() != sha256
        how = "bytes were changed (sha256 differs)" if is_damaged else "it is no Parquet shard of scanmill"
        raise ReleaseRefused(f"{place} cannot be read: {how}: {error}") from error
