"""The floor: what the work costs at the least, as a bare loop over a pool of processes.

    python -m tests.bench.floor convert --list LIST --out OUT --workers 2 [--form png|jpeg|native]

``convert`` reads a member, hashes it (SHA-256), decodes it with the fastest exact decoder (:mod:`tests.bench.kernels`),
reduces it by area to 224 pixels, encodes it, and writes the same samples to a tar and to a Parquet file, which are
hashed too; ``native`` leaves decoding out and stores the published bytes. No tables, labels, checks, statistics,
duplicates, report, fsync or way to resume, and a truncated image passes.

Two smaller floors of native pass-through: ``decode`` reads and decodes and keeps nothing, ``unzip`` runs the programs
unzip and tar on each archive. Of verifying: ``hash`` is SHA-256 of every file below ``--list``, in this process.
Each prints one line of JSON.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench import kernels
from tests.bench.image_lists import Listed, pieces, read, read_list
from tests.bench.measure import tree_cpu_seconds

IMAGES_PER_SHARD = 256
"""As many as a chunk of scanmill has, so that both deal work to processes in equal pieces."""
_PIECE_BYTES = 2**20


def main() -> None:
    """Do all of it and print what it cost, with and without starting the pool."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["convert", "decode", "unzip", "hash"])
    parser.add_argument("--list", type=Path, required=True, help="of the images; a folder for hash")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--form", default="png", choices=["png", "jpeg", "native"])
    parser.add_argument("--to-grey", action="store_true")
    parser.add_argument("--password", help="of every zip")
    given = parser.parse_args()
    given.out.mkdir(parents=True)
    if given.what == "hash":
        print(json.dumps({"images": 0, "work": _timed(partial(hash_files, given.list))}))
        return
    images = read_list(given.list)
    work, items = _work(given, images)
    # Spawn, as Dask does: forked children would get imports for nothing.
    with ProcessPoolExecutor(given.workers, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(_wake, range(given.workers)))
        print(json.dumps({"images": len(images), "work": _timed(lambda: list(pool.map(work, items)))}))


def _work(given: argparse.Namespace, images: Sequence[Listed]) -> tuple[Callable[..., None], list[Any]]:
    if given.what == "unzip":
        return partial(unzip_and_tar, given.out), sorted({image.archive for image in images})
    shards = list(pieces(images, IMAGES_PER_SHARD))
    if given.what == "decode":
        return decode_all, shards
    numbered = [(given.out / f"{number:06d}", piece) for number, piece in enumerate(shards)]
    return partial(write_shard, given.form, given.to_grey, given.password), numbered


def _timed(work: Callable[[], object]) -> dict[str, float]:
    began, used = time.perf_counter(), tree_cpu_seconds()
    work()
    return {"wall_seconds": time.perf_counter() - began, "cpu_seconds": tree_cpu_seconds() - used}


def _wake(number: int) -> int:
    cv2.setNumThreads(1)
    time.sleep(0.3)  # long enough that every process takes one
    return number


def write_shard(form: str, to_grey: bool, password: str | None, work: tuple[Path, Sequence[Listed]]) -> None:
    """Convert one piece into a tar and a Parquet file."""
    target, images = work
    rows = []
    for image, data in _contents(images, password):
        encoded = kernels.convert(data, form, "fastest", to_grey=to_grey)
        source = hashlib.sha256(data).hexdigest()
        rows.append((image.key, encoded, source, source if form == "native" else hashlib.sha256(encoded).hexdigest()))
    extension = "jpg" if form == "jpeg" else "png"
    for kind, content in (("tar", _tar(rows, extension)), ("parquet", _parquet(rows))):
        Path(f"{target}.{kind}").write_bytes(content)
        Path(f"{target}.{kind}.sha256").write_text(hashlib.sha256(content).hexdigest())


def _contents(images: Sequence[Listed], password: str | None) -> Iterator[tuple[Listed, bytes]]:
    if password is None:
        return ((image, read(image)) for image in images)
    return _unlocked(images, password)


def _unlocked(images: Sequence[Listed], password: str) -> Iterator[tuple[Listed, bytes]]:
    """Members of one locked zip, by the fastest reader there is, scanmill's own."""
    import zipfile

    from pydantic import SecretStr

    from tasks import locked_zips

    secret = SecretStr(password)
    with zipfile.ZipFile(images[0].archive) as opened, Path(images[0].archive).open("rb") as stream:
        for image in images:
            yield image, locked_zips.read(opened, stream, opened.getinfo(image.member), secret)


def decode_all(images: Sequence[Listed]) -> None:
    """Read and decode, and keep nothing."""
    for image in images:
        kernels.decode(read(image), "fastest")


def unzip_and_tar(out: Path, archive: str) -> None:
    """One archive to files, and these to a tar, by the programs of these names."""
    folder = out / Path(archive).stem
    subprocess.run(["unzip", "-q", archive, "-d", folder], check=True)
    subprocess.run(["tar", "-cf", f"{folder}.tar", "-C", folder, "."], check=True)


def hash_files(folder: Path) -> None:
    """SHA-256 of every file below a folder, one after the other."""
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found = hashlib.sha256()
        with path.open("rb", buffering=0) as stream:
            while piece := stream.read(_PIECE_BYTES):
                found.update(piece)


def _tar(rows: Sequence[tuple[str, bytes, str, str]], extension: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for key, encoded, _, _ in rows:
            entry = tarfile.TarInfo(f"{key}.{extension}")
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
