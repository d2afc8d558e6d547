"""Releases of a few small images, by the writers of shards alone: no flow, no server, no dataset."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from tasks.files import readable_json
from tasks.release.manifest import name_of
from tasks.shard_tars import pieces
from tasks.shards import Shard, entries_of, records_of, write_parquet

DATASET = "tiny"
ABOUT = {
    "format_version": 1,
    "dataset": DATASET,
    "dataset_version": "1",
    "parameters": {"size": None},
    "code": {"scanmill": "0"},
}
Pixels = npt.NDArray[Any]


def textures(count: int, height: int = 24, width: int = 24, dtype: type = np.uint8, seed: int = 0) -> list[Pixels]:
    """Noise of all grey levels; no two alike."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, np.iinfo(dtype).max + 1, (height, width)).astype(dtype) for _ in range(count)]


def png(pixels: Pixels) -> bytes:
    """A PNG as the conversion writes it."""
    return bytes(cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes())


def write_release(
    lake: Path,
    images: Mapping[str, Sequence[Pixels] | Sequence[bytes]],
    *,
    shard_samples: int = 10,
    stores: tuple[str, ...] = ("webdataset", "parquet"),
    gates: Mapping[str, bool] | None = None,
    masks: Mapping[str, Sequence[Pixels]] | None = None,
    dataset: str = DATASET,
    columns: Mapping[str, Sequence[Any]] | None = None,
) -> Path:
    """Images (pixels, or files as encoded already) by split, as ``<lake>/tiny/releases/<id>``; returns that folder.

    Sample ids are ``<split>-0000``; ``label.even`` is 1 for even numbers, 0 for odd, unknown for multiples of 7.
    ``columns`` of all samples, split by split, are added to the sample table.
    """
    about = {**ABOUT, "dataset": dataset}
    inputs = [{"name": "made-up", "bytes": 1, "sha256": hashlib.sha256(repr(stores).encode()).hexdigest()}]
    release = name_of(about, inputs)
    folder = lake / dataset / "releases" / release
    tables: list[pd.DataFrame] = []
    shards: list[dict[str, Any]] = []
    written: dict[str, bytes] = {}
    for split, pictures in images.items():
        for number, first in enumerate(range(0, len(pictures), shard_samples)):
            shard = Shard(len(shards), dataset, split, number, "png")
            files = [
                picture if isinstance(picture, bytes) else png(picture) for picture in pictures[first:][:shard_samples]
            ]
            beside = [png(mask) for mask in masks[split][first:][:shard_samples]] if masks else []
            rows = _rows(split, first, files, beside)
            entries = entries_of(rows, records_of(rows), "png")
            contents = {
                "webdataset": b"".join(pieces(entries, [files, beside] if beside else [files])),
                "parquet": parquet_of(rows, files, beside),
            }
            for store in stores:
                path = shard.path(store)  # type: ignore[arg-type]
                written[path] = contents[store]
                shards.append({"store": store, "split": split, "samples": len(files), **_entry(path, contents[store])})
            tables.append(_placed(rows, shard.name, contents["webdataset"]))
    samples = pd.concat(tables, ignore_index=True).assign(**(columns or {}))
    buffer = io.BytesIO()
    samples.to_parquet(buffer, index=False)
    written["samples.parquet"] = buffer.getvalue()
    manifest = {
        **about,
        "release": release,
        "inputs": inputs,
        "splits": {split: {"samples": len(pictures)} for split, pictures in images.items()},
        "shards": shards,
        "files": [_entry("samples.parquet", written["samples.parquet"])],
        "gates": {"metadata": True, "images": True} if gates is None else dict(gates),
    }
    written["manifest.json"] = readable_json(manifest)
    for path, content in written.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    point_to(folder)
    return folder


def parquet_of(rows: pa.Table, files: Sequence[bytes], masks: Sequence[bytes] = ()) -> bytes:
    """A Parquet shard of PNGs."""
    buffer = io.BytesIO()
    write_parquet(buffer, rows, files, "png", masks)
    return buffer.getvalue()


def point_to(folder: Path) -> None:
    """Make ``latest.json`` vouch for this release."""
    sha256 = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
    pointer = {"release": folder.name, "manifest_sha256": sha256}
    (folder.parent.parent / "latest.json").write_text(json.dumps(pointer))


def change_manifest(folder: Path, **changes: Any) -> None:
    """Other values for some of its keys, with a pointer that vouches for them."""
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    point_to(folder)


def _entry(path: str, content: bytes) -> dict[str, Any]:
    return {"path": path, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _rows(split: str, first: int, files: Sequence[bytes], masks: Sequence[bytes]) -> pa.Table:
    numbers = range(first, first + len(files))
    shapes = [_decoded(file) for file in files]
    table = pa.table(
        {
            "sample_id": [f"{split}-{number:04d}" for number in numbers],
            "patient_id": [f"{split}-{number // 2}" for number in numbers],
            "group_id": [f"{split}-{number // 2}" for number in numbers],
            "age_years": pa.array([None if number % 5 == 0 else 40.0 + number for number in numbers], pa.float64()),
            "sex": [("F", "M", None)[number % 3] for number in numbers],
            "split": [split] * len(files),
            "label.even": pa.array([None if number % 7 == 0 else 1 - number % 2 for number in numbers], pa.int8()),
            "target.grey": [float(shape.mean()) for shape in shapes],
            "height": [shape.shape[0] for shape in shapes],
            "width": [shape.shape[1] for shape in shapes],
            "bit_depth": [shape.dtype.itemsize * 8 for shape in shapes],
            "image_bytes": [len(file) for file in files],
            "image_sha256": [hashlib.sha256(file).hexdigest() for file in files],
        }
    )
    if masks:
        table = table.append_column("mask_bytes", pa.array([len(mask) for mask in masks]))
        table = table.append_column("mask_sha256", pa.array([hashlib.sha256(mask).hexdigest() for mask in masks]))
    return table


def _decoded(file: bytes) -> Pixels:
    pixels = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels


def _placed(rows: pa.Table, shard: str, tar: bytes) -> pd.DataFrame:
    with tarfile.open(fileobj=io.BytesIO(tar)) as opened:
        offsets = [
            member.offset_data for member in opened if member.name.endswith(".png") and ".mask." not in member.name
        ]
    table: pd.DataFrame = rows.to_pandas()
    return table.assign(shard=shard, row=range(rows.num_rows), tar_offset=offsets)
