"""The floor: what the work costs at the least, as a bare loop over a pool of processes.

    python -m tests.bench.floor --raw RAW --out OUT --workers 2

Read a member, hash it (SHA-256), decode it with OpenCV, the fastest exact PNG decoder installed here, reduce it by area
to 224 pixels, encode it as PNG at level 1, and write the same samples to a tar and to a Parquet file, which are hashed
too. No tables, labels, checks, statistics, duplicates, report, fsync or way to resume, and a truncated image passes.
Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import tarfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.measure import tree_cpu_seconds

SIZE = 224
IMAGES_PER_SHARD = 256
"""As many as a chunk of scanmill has, so that both deal work to processes in equal pieces."""
_PNG_LEVEL_1 = [cv2.IMWRITE_PNG_COMPRESSION, 1]

Piece = tuple[str, tuple[str, ...], str]
"""A zip, members of it, and the path of the shard without extension."""


def main() -> None:
    """Convert everything and print what it cost, with and without starting the pool."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--raw", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, required=True)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True)
    pieces = list(_pieces(arguments.raw, arguments.out))
    # Spawn, as Dask does: forked children would get imports for nothing.
    with ProcessPoolExecutor(arguments.workers, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_wake, range(arguments.workers)))
        began, used = time.perf_counter(), tree_cpu_seconds()
        hashes = [sha256 for part in pool.map(write_shard, pieces) for sha256 in part]
        work = {"wall_seconds": time.perf_counter() - began, "cpu_seconds": tree_cpu_seconds() - used}
    print(json.dumps({"images": len(hashes), "image_digest": image_digest(hashes), "work": work}))


def image_digest(hashes: Sequence[str]) -> str:
    """One digest over the SHA-256 of all encoded images, whatever their order."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def _wake(number: int) -> int:
    cv2.setNumThreads(1)
    time.sleep(0.3)  # long enough that every process takes one
    return number


def _pieces(raw: Path, out: Path) -> Iterator[Piece]:
    for archive in sorted(raw.glob("*.zip")):
        with zipfile.ZipFile(archive) as opened:
            names = sorted(n for n in opened.namelist() if n.startswith("images/") and n.endswith(".png"))
        for start in range(0, len(names), IMAGES_PER_SHARD):
            part = tuple(names[start : start + IMAGES_PER_SHARD])
            yield str(archive), part, str(out / f"{archive.stem}-{start:06d}")


def write_shard(piece: Piece) -> list[str]:
    """Convert one piece into a tar and a Parquet file; returns the SHA-256 of its encoded images."""
    archive, names, target = piece
    rows = []
    with zipfile.ZipFile(archive) as opened:
        for name in names:
            data = opened.read(name)
            encoded = convert(data)
            hashes = (hashlib.sha256(data).hexdigest(), hashlib.sha256(encoded).hexdigest())
            rows.append((Path(name).stem, encoded, *hashes))
    for extension, content in (("tar", _tar(rows)), ("parquet", _parquet(rows))):
        Path(f"{target}.{extension}").write_bytes(content)
        Path(f"{target}.{extension}.sha256").write_text(hashlib.sha256(content).hexdigest())
    return [row[3] for row in rows]


def convert(data: bytes) -> bytes:
    """Published bytes to stored bytes."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        raise ValueError(f"OpenCV could not decode {len(data)} bytes; the benchmark's inputs have no defects")
    height, width = pixels.shape[:2]
    if max(height, width) > SIZE:
        scale = SIZE / max(height, width)
        pixels = cv2.resize(pixels, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    return cv2.imencode(".png", pixels, _PNG_LEVEL_1)[1].tobytes()


def _tar(rows: Sequence[tuple[str, bytes, str, str]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for key, encoded, _, _ in rows:
            entry = tarfile.TarInfo(f"{key}.png")
            entry.size = len(encoded)
            tar.addfile(entry, io.BytesIO(encoded))
    return buffer.getvalue()


def _parquet(rows: Sequence[tuple[str, bytes, str, str]]) -> bytes:
    columns = zip(*rows, strict=True)
    names = ("sample_id", "image", "source_sha256", "image_sha256")
    table = pa.table(dict(zip(names, map(pa.array, columns), strict=True)))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="NONE", use_dictionary=False, write_statistics=False)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
