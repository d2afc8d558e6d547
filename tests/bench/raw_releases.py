"""What the benchmarks read: made-up NIH ChestX-ray14 releases, written once and kept."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from tasks.demo_release import TABLE, TABLE_HEADER, write_nih_release
from tasks.invented_exams import Exam, draw_exams

_ARCHIVES = 4
"""Few, for the published ones hold ten thousand films each: many small ones would make many small shards."""
_EXAMS_AT_ONCE = 10_000
"""Drawn in one go, a patient of a release of 112,120 would have thousands of films, and file names only have three
digits for them."""
_TEST_PATIENTS = 0.23


def images(home: Path, count: int, side: int) -> Path:
    """A release of phantoms in a few zips, without defects, so that nothing is refused and all sides do equal work."""

    def write(folder: Path) -> None:
        write_nih_release(folder, images=count, archives=_ARCHIVES, side=side, with_defects=False)

    return _once(home, f"nih-{count}x{side}", write)


def metadata(home: Path, rows: int) -> Path:
    """Tables of ``rows`` films and one zip of as many members of a few bytes: nothing here can be decoded."""

    def write(folder: Path) -> None:
        exams = _many_exams(rows)
        rng = np.random.default_rng(0)
        patients = sorted({exam.patient for exam in exams})
        is_test = dict(zip(patients, (rng.random(len(patients)) < _TEST_PATIENTS).tolist(), strict=True))
        _write_lines(folder / TABLE, [TABLE_HEADER, *(exam.as_row() for exam in exams)])
        _write_lines(folder / "test_list.txt", [e.image for e in exams if is_test[e.patient]])
        _write_lines(folder / "train_val_list.txt", [e.image for e in exams if not is_test[e.patient]])
        with zipfile.ZipFile(folder / "images_001.zip", "w", zipfile.ZIP_STORED) as archive:
            for exam in exams:
                archive.writestr(f"images/{exam.image}", b"pixels")

    return _once(home, f"metadata-{rows}", write)


def _many_exams(count: int) -> list[Exam]:
    rng = np.random.default_rng(2017)
    exams: list[Exam] = []
    while len(exams) < count:
        last = exams[-1].patient if exams else 0
        block = draw_exams(rng, min(_EXAMS_AT_ONCE, count - len(exams)))
        exams += [replace(exam, patient=last + exam.patient) for exam in block]
    return exams


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n")


def _once(home: Path, name: str, write: Callable[[Path], None]) -> Path:
    """The folder ``name``, written anew unless a finished one of the same generator is there."""
    folder = home / name
    marker = home / f"{name}.json"
    if not marker.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write(folder)
        marker.write_text(json.dumps({"bytes": sum(path.stat().st_size for path in folder.iterdir())}) + "\n")
    return folder


def warm_page_cache(folder: Path) -> int:
    """Read every file once, so that no run pays for the disk alone; returns the bytes."""
    return sum(len(path.read_bytes()) for path in sorted(folder.iterdir()))
