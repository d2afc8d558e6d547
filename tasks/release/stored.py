"""Single images of a published release, read where they lie in a shard and not with all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow.parquet as pq

from scanmill.manifest import stays_inside
from tasks.schema import DataRefused
from tasks.storage import Location, open_archive, open_table


def read_stored(folder: Location, dataset: str, rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """Encoded images of rows of ``samples.parquet`` (``shard row tar_offset image_bytes``), in their order.

    From the tars where the release has any, else from Parquet. Raises :class:`OSError` where a shard is not there, and
    :class:`DataRefused` for a shard that would lie outside the release.
    """
    by_shard: dict[str, list[int]] = {}
    for position, row in enumerate(rows):
        by_shard.setdefault(str(row["shard"]), []).append(position)
    images: list[bytes] = [b""] * len(rows)
    for shard, positions in sorted(by_shard.items()):
        split, _, number = shard.partition("/")
        if not stays_inside(shard) or not number.isalnum():
            raise DataRefused(f"{folder / 'samples.parquet'} names a shard that no release has: {shard!r}")
        own = [rows[position] for position in positions]
        tar = folder / "webdataset" / split / f"{dataset}-{split}-{number}.tar"
        found = _from_tar(tar, own) if tar.is_file() else _from_parquet(folder / "parquet" / f"{shard}.parquet", own)
        for position, image in zip(positions, found, strict=True):
            images[position] = image
    return images


def read_range(path: Location, offset: int, length: int) -> bytes:
    """That many bytes from there on."""
    with open_archive(path) as stream:
        stream.seek(offset)
        return stream.read(length)


def _from_tar(path: Location, rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
    found = []
    with open_archive(path) as stream:
        for row in rows:
            stream.seek(int(row["tar_offset"]))
            found.append(stream.read(int(row["image_bytes"])))
    return found


def _from_parquet(path: Location, rows: Sequence[Mapping[str, Any]]) -> list[bytes]:
    with open_table(path) as stream:
        opened = pq.ParquetFile(stream)
        images = opened.read(columns=["image"])["image"]
        return [images[int(row["row"])].as_py()["bytes"] for row in rows]
