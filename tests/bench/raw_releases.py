"""What the benchmarks read: made-up NIH ChestX-ray14 releases, written once and kept."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

from tasks.demo_release import write_nih_release
from tests.bench.fast_releases import showing_progress, write_release
from tests.bench.published_counts import ROWS, by_archive, part_of, published_tables, write_tables

_ARCHIVES = 4
"""Few, for the published ones hold ten thousand films each: many small ones would make many small shards."""
_PIECE_BYTES = 16 * 2**20


def images(home: Path, count: int, side: int) -> Path:
    """A release of phantoms in a few zips, without defects, so that nothing is refused and all sides do equal work."""

    def write(folder: Path) -> None:
        write_nih_release(folder, images=count, archives=_ARCHIVES, side=side, with_defects=False)

    return _once(home, f"nih-{count}x{side}", write)


def many_images(home: Path, count: int, side: int) -> Path:
    """A release in twelve zips, of films put together from strips, with the published counts or a share of them."""

    def write(folder: Path) -> None:
        for _ in showing_progress(write_release(folder, count, side=side), count):
            pass

    return _once(home, f"fast-{count}x{side}", write)


def metadata(home: Path, rows: int) -> Path:
    """Tables of ``rows`` films and twelve zips of as many members of a few bytes: nothing here can be decoded."""

    def write(folder: Path) -> None:
        tables = published_tables()
        tables = tables if rows == ROWS else part_of(tables, rows)
        write_tables(folder, tables)
        for position, block in enumerate(by_archive(tables.exams), start=1):
            with zipfile.ZipFile(folder / f"images_{position:03d}.zip", "w", zipfile.ZIP_STORED) as archive:
                for exam in block:
                    archive.writestr(f"images/{exam.image}", b"pixels")

    return _once(home, f"published-metadata-{rows}", write)


def _once(home: Path, name: str, write: Callable[[Path], None]) -> Path:
    """The folder ``name``, written anew unless a finished one of the same generator is there."""
    folder = home / name
    marker = home / f"{name}.json"
    if not marker.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write(folder)
        marker.write_text(json.dumps({"bytes": size_bytes(folder)}) + "\n")
    return folder


def size_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def warm_page_cache(folder: Path) -> int:
    """Read every file once, so that no run pays for the disk alone; returns the bytes."""
    total = 0
    for path in sorted(folder.iterdir()):
        with path.open("rb") as stream:
            while piece := stream.read(_PIECE_BYTES):
                total += len(piece)
    return total
