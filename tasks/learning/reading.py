"""Images of a release, shard by shard: one is in memory at a time, and none that the manifest does not vouch for."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq

from tasks.learning.admission import Release
from tasks.progress import Meter
from tasks.schema import DataRefused
from tasks.storage import read_bytes

EXTENSIONS = ("png", "jpg")
BATCH = 64
"""Rows of a Parquet shard that are taken apart at once."""

Image = npt.NDArray[Any]
"""(height, width) grey, uint8 or uint16."""


def samples_of(release: Release, splits: Collection[str]) -> pd.DataFrame:
    """The sample table of these splits, in reading order."""
    entry = next(entry for entry in release.manifest["files"] if entry["path"] == "samples.parquet")
    table = pd.read_parquet(io.BytesIO(_vouched(release, entry)))
    return table[table["split"].isin(list(splits))].reset_index(drop=True)


def images_of(release: Release, splits: Collection[str]) -> Iterator[tuple[str, Image]]:
    """Sample id and grey pixels of every sample of these splits, from whichever store the release has.

    Raises :class:`DataRefused` where a shard is not what the manifest says.
    """
    stores = {entry["store"] for entry in release.manifest["shards"]}
    store = "parquet" if "parquet" in stores else "webdataset"
    shards = [e for e in release.manifest["shards"] if e["store"] == store and e["split"] in splits]
    meter = Meter("read", sum(entry["samples"] for entry in shards), "images")
    for entry in shards:
        content = _vouched(release, entry)
        for sample_id, encoded in (_from_parquet if store == "parquet" else _from_tar)(content):
            pixels = decode(encoded)
            if pixels is None:
                raise DataRefused(f"{release.folder / entry['path']} holds an image that cannot be decoded")
            yield sample_id, pixels
            meter.add(1)


def decode(encoded: bytes) -> Image | None:
    """Grey pixels of a stored image, in its own depth; colour becomes luma. None where it is none."""
    pixels = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim == 2:
        return pixels
    return cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2GRAY)


def _vouched(release: Release, entry: Mapping[str, Any]) -> bytes:
    content = read_bytes(release.folder / entry["path"])
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise DataRefused(f"{release.folder / entry['path']}: bytes were changed (sha256 differs)")
    return content


def _from_parquet(content: bytes) -> Iterator[tuple[str, bytes]]:
    opened = pq.ParquetFile(io.BytesIO(content))
    for batch in opened.iter_batches(batch_size=BATCH, columns=["sample_id", "image"]):
        for sample_id, image in zip(batch["sample_id"], batch["image"], strict=True):
            yield sample_id.as_py(), image["bytes"].as_py()


def _from_tar(content: bytes) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
        for member in tar:
            sample_id, _, extension = member.name.partition(".")
            if extension in EXTENSIONS:
                yield sample_id, tar.extractfile(member).read()  # type: ignore[union-attr]
