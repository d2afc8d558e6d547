"""What the benchmarks read: made-up raw releases in the publishers' own forms, written once and kept."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from tasks.demo_release import write_nih_release, zip_entry
from tasks.invented_exams import Exam
from tests.bench.fast_releases import Bank, Kind, draw_bank, kinds_of, png, showing_progress, write_release
from tests.bench.image_lists import Listed, key_of, write_list
from tests.bench.published_counts import ROWS, Tables, by_archive, part_of, published_tables, write_tables
from tests.fakes import behsof, chexchonet, mammography_density
from tests.fakes.zip_encryption import encrypt_zip

_ARCHIVES = 4
"""Few, for the published ones hold ten thousand films each: many small ones would make many small shards."""
_PIECE_BYTES = 16 * 2**20
_SCREEN = (800, 600)
"""Pixels of an ultrasound screen, as wide scanners show them; the tests' phantoms are four times smaller."""


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


def films(home: Path, count: int) -> Path:
    """CheXchoNet: loose grey JPEGs of 224 pixels, of quality 100 as published."""

    def write(folder: Path) -> None:
        chexchonet.write(folder, images=count, defects=False)
        root = folder / chexchonet.PLACE
        for path in (root / "images").iterdir():
            path.write_bytes(_encoded_again(path.read_bytes(), 100))
        names = [path for path in sorted(root.rglob("*")) if path.is_file() and path.name != chexchonet.CHECKSUMS]
        sums = [f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.relative_to(root)}\n" for path in names]
        (root / chexchonet.CHECKSUMS).write_text("".join(sums))

    return _once(home, f"chexchonet-{count}", write)


def mammograms(home: Path, count: int) -> Path:
    """Mammography: JPEGs of 224 pixels with three equal channels, in one zip."""

    def write(folder: Path) -> None:
        mammography_density.write(folder, images=count, defects=False)

    return _once(home, f"mammography-{count}", write)


def screens(home: Path, count: int) -> Path:
    """BEHSOF: coloured ultrasound screens with writing, in one locked zip."""

    def write(folder: Path) -> None:
        behsof.write(folder, images=count, defects=False, password=None)
        with zipfile.ZipFile(folder / behsof.ARCHIVE) as archive:
            members = {name: _encoded_again(archive.read(name), 90, _SCREEN) for name in archive.namelist()}
        encrypt_zip(folder / behsof.ARCHIVE, members, behsof.PASSWORD)

    return _once(home, f"behsof-{count}", write)


def growing(home: Path, count: int, side: int) -> Path:
    """Folder ``before`` with ``count`` films, and ``news`` with a thirteenth zip of 1 % more and the tables of all."""

    def write(folder: Path) -> None:
        whole = part_of(published_tables(), count + max(1, count // 100))
        news = _some_patients(whole, max(1, count // 100))
        before = [exam for exam in whole.exams if exam.patient not in news]
        bank, kinds = draw_bank(side), kinds_of([exam.image for exam in published_tables().exams])
        for name, exams in (("before", before), ("news", whole.exams)):
            (folder / name).mkdir()
            images = {exam.image for exam in exams}
            boxes = tuple(box for box in whole.boxes if box.image in images)
            tables = Tables(tuple(exams), whole.test_patients & {exam.patient for exam in exams}, boxes)
            write_tables(folder / name, tables, side=side)
        archives = [(folder / "before", block) for block in by_archive(before)]
        archives.append((folder / "news", [exam for exam in whole.exams if exam.patient in news]))
        for position, (place, block) in enumerate(archives, start=1):
            with zipfile.ZipFile(place / f"images_{position:03d}.zip", "w", zipfile.ZIP_STORED) as archive:
                for name, content in _films(bank, kinds, block):
                    archive.writestr(zip_entry(name), content)

    return _once(home, f"growing-{count}x{side}", write)


def _films(bank: Bank, kinds: Mapping[str, Kind], exams: Sequence[Exam]) -> Iterator[tuple[str, bytes]]:
    for exam in exams:
        yield f"images/{exam.image}", png(bank, kinds.get(exam.image, "film"), exam.patient, exam.number)


def _some_patients(tables: Tables, films: int) -> set[int]:
    """Patients who have about that many films together."""
    chosen: set[int] = set()
    for found, exam in enumerate(tables.exams[len(tables.exams) // 2 :]):
        if found >= films and exam.patient not in chosen:
            break
        chosen.add(exam.patient)
    return chosen


def _encoded_again(data: bytes, quality: int, size: tuple[int, int] | None = None) -> bytes:
    """The same JPEG of another quality, enlarged on request."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None, "the phantom was encoded just now"
    if size is not None:
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


# Lists


def listed(raw: Path, home: Path, *, is_unpacked: bool = False, password: str | None = None) -> Path:
    """The list of a raw release's images, in ``home``; unpacked, the members of zips are files there, written once."""
    unpacked = _unpacked(raw, home, password) if is_unpacked else None
    path = home / f"{raw.stem}{'-unpacked' if is_unpacked else ''}.csv"
    write_list(path, [*_in_zips(raw, unpacked), *_loose(raw)])
    return path


_EXTENSIONS = (".png", ".jpg", ".jpeg")


def _zips(raw: Path) -> list[Path]:
    return sorted(raw.glob("*.zip")) if raw.is_dir() else [raw]


def _in_zips(raw: Path, unpacked: Path | None) -> Iterator[Listed]:
    for path in _zips(raw):
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(_EXTENSIONS))
        for name in names:
            place = str(unpacked / path.stem / name) if unpacked else ""
            yield Listed(key_of(name), "0", "" if unpacked else str(path), name, place)


def _loose(raw: Path) -> Iterator[Listed]:
    for path in sorted(raw.rglob("*")):
        if path.suffix in _EXTENSIONS:
            name = path.relative_to(raw).as_posix()
            yield Listed(key_of(name), "0", "", name, str(path))


def _unpacked(raw: Path, home: Path, password: str | None) -> Path:
    def write(folder: Path) -> None:
        for path in _zips(raw):
            secret = ["-P", password] if password else []
            subprocess.run(["unzip", "-q", *secret, path, "-d", folder / path.stem], check=True)

    return _once(home, place_unpacked(raw, home).name, write)


def place_unpacked(raw: Path, home: Path) -> Path:
    """Where the members of a release's zips are as files, once somebody asked for them."""
    return home / f"{raw.stem}-unpacked"


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


def warm_page_cache(place: Path) -> int:
    """Read a file, or all of a folder, once, so that no run pays for the disk alone; returns the bytes."""
    total = 0
    for path in [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file()):
        with path.open("rb") as stream:
            while piece := stream.read(_PIECE_BYTES):
                total += len(piece)
    return total
