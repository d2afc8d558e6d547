"""NIH-shaped raw releases of any size up to the published one, written about as fast as a disk takes them.

    python -m tests.bench.fast_releases --images 11212 --out DIR [--form zip|tar.gz] [--side 1024]

Compressing a fresh film for each of 112,120 names would take hours. Here a few dozen phantoms are cut into strips, and
each strip is filtered and deflated once, as PNG has it, ending on a byte boundary and without reference to what stands
above it. An image is then a choice of strips, one for each height, under a stamp that holds its patient and number in
black and white bars: no two images have the same pixels, files are as large as the published ones (42 GB for all), and
a decoder has as much to do. The PNG format's specification (filters, zlib stream over several IDAT chunks) is at
https://www.w3.org/TR/png-3/, that of deflate in RFC 1951, of the zlib stream in RFC 1950.

Names, tables, boxes and lists are those of :mod:`tests.bench.published_counts`; pictures and labels have nothing to do
with each other. The same arguments give the same bytes, as long as zlib stays the same.
"""

from __future__ import annotations

import argparse
import gzip
import io
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from tasks.demo_release import zip_entry
from tasks.phantoms import chest
from tests.bench.published_counts import (
    IMAGES_OF_ARCHIVE,
    ROWS,
    SIDE,
    Tables,
    by_archive,
    part_of,
    published_tables,
    write_tables,
)

Form = Literal["zip", "tar.gz"]
Kind = Literal["film", "rgba", "dark", "bright"]
Grey = npt.NDArray[np.uint8]

ODD_IMAGES: dict[Kind, int] = {"rgba": 519, "dark": 61, "bright": 52}
"""Among 112,120: equal channels under an opaque alpha, mean grey below 50, mean above 195. The rest are plain films."""

_PHANTOMS: dict[Kind, int] = {"film": 28, "rgba": 4, "dark": 2, "bright": 2}
_STRIPS = 8
_STAMP_BITS = 32
# Phantoms are noisier and brighter than films; with this contrast a file is as large as a published one, about 375 kB.
_CONTRAST: dict[Kind, tuple[float, float]] = {
    "film": (0.62, 20),
    "rgba": (0.62, 20),
    "dark": (0.22, 0),
    "bright": (0.20, 196),
}
"""Factor and summand for grey levels."""
_ADLER_MODULUS = 65_521
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ZLIB_HEADER = b"\x78\x9c"
_LAST_BLOCK = b"\x03\x00"
"""An empty deflate block with the final bit set."""
_UNIX_TIMESTAMP = 1_513_728_000


@dataclass(frozen=True)
class Strip:
    """Some rows of a picture, filtered and deflated."""

    chunk: bytes
    """A whole IDAT chunk: length, type, raw deflate blocks up to a byte boundary, CRC."""
    adler: int
    """Adler-32 of the filtered rows, filter bytes included."""
    length: int
    """Bytes of the filtered rows."""


@dataclass(frozen=True)
class Bank:
    """Strips to choose from: for each kind of image and each height in it, as many as there are phantoms."""

    side: int
    strips: dict[Kind, list[list[Strip]]]


# Images


def draw_bank(side: int = SIDE, seed: int = 2017) -> Bank:
    """Draw and compress all strips once; some seconds at 1024 pixels."""
    return Bank(side, {kind: _strips_of(kind, number, side, seed) for kind, number in _PHANTOMS.items()})


def stamp_rows(side: int) -> int:
    """Rows at the top of an image that hold its stamp."""
    return max(1, side // 128)


def png(bank: Bank, kind: Kind, patient: int, number: int) -> bytes:
    """The file of one film."""
    choice = blake2b(f"{patient}/{number}".encode(), digest_size=_STRIPS).digest()
    chosen = [at_height[byte % len(at_height)] for at_height, byte in zip(bank.strips[kind], choice, strict=True)]
    stamp = _stamp(bank.side, 4 if kind == "rgba" else 1, patient, number)
    adler = zlib.adler32(stamp)
    for strip in chosen:
        adler = adler32_combine(adler, strip.adler, strip.length)
    return b"".join(
        (
            _SIGNATURE,
            _header(bank.side, 6 if kind == "rgba" else 0),
            _chunk(b"IDAT", _ZLIB_HEADER + _deflated(stamp)),
            *(strip.chunk for strip in chosen),
            _chunk(b"IDAT", _LAST_BLOCK + adler.to_bytes(4, "big")),
            _chunk(b"IEND", b""),
        )
    )


def adler32_combine(first: int, second: int, second_length: int) -> int:
    """Adler-32 of two byte strings in a row from that of each, as zlib's function of this name, which Python lacks."""
    low = (first & 0xFFFF) + (second & 0xFFFF) - 1
    # Every byte of the second string adds the first one's low sum once more; that sum starts at 1, not at 0.
    high = (first >> 16) + (second >> 16) + second_length * ((first & 0xFFFF) - 1)
    return high % _ADLER_MODULUS << 16 | low % _ADLER_MODULUS


def kinds_of(images: Sequence[str], seed: int = 2017) -> dict[str, Kind]:
    """Which of the published names are odd; what is not in the mapping is a plain film."""
    order = np.random.default_rng([seed, len(images)]).permutation(len(images)).tolist()
    kinds: list[Kind] = [kind for kind, count in ODD_IMAGES.items() for _ in range(count)]
    return {images[index]: kind for index, kind in zip(order, kinds, strict=False)}


def _strips_of(kind: Kind, number: int, side: int, seed: int) -> list[list[Strip]]:
    cuts = np.linspace(stamp_rows(side), side, _STRIPS + 1).astype(int).tolist()
    strips: list[list[Strip]] = [[] for _ in range(_STRIPS)]
    for phantom in range(number):
        pixels = _picture(np.random.default_rng([seed, list(_PHANTOMS).index(kind), phantom]), kind, side)
        for height in range(_STRIPS):
            strips[height].append(_strip(pixels[cuts[height] : cuts[height + 1]]))
    return strips


def _picture(rng: np.random.Generator, kind: Kind, side: int) -> Grey:
    """A phantom as (rows, columns, channels)."""
    factor, summand = _CONTRAST[kind]
    grey = chest(rng, side, view="PA" if rng.random() < 0.6 else "AP").pixels
    grey = (grey * np.float32(factor) + np.float32(summand)).astype(np.uint8)[:, :, None]
    return np.concatenate([grey, grey, grey, np.full_like(grey, 255)], axis=2) if kind == "rgba" else grey


def _strip(pixels: Grey) -> Strip:
    rows = _filtered(pixels)
    return Strip(_chunk(b"IDAT", _deflated(rows)), zlib.adler32(rows), len(rows))


def _filtered(pixels: Grey) -> bytes:
    """PNG's filtered rows. Each row has the filter with the smallest sum of absolute values, which is what Pillow does.

    The first row only has those that do not look above: nobody knows yet which strip will be there.
    """
    now = pixels.astype(np.int16)
    left, above, diagonal = np.zeros_like(now), np.zeros_like(now), np.zeros_like(now)
    left[:, 1:] = now[:, :-1]
    above[1:] = now[:-1]
    diagonal[1:, 1:] = now[:-1, :-1]
    predictions = (np.zeros_like(now), left, above, (left + above) // 2, _paeth(left, above, diagonal))
    candidates = np.stack([(now - guess).astype(np.uint8) for guess in predictions])
    # A byte above 127 is a small negative difference.
    costs = np.minimum(candidates, -candidates).sum(axis=(2, 3), dtype=np.int64)
    costs[2:, 0] = np.iinfo(np.int64).max
    best = costs.argmin(axis=0)
    rows = candidates[best, np.arange(len(now))].reshape(len(now), -1)
    return np.concatenate([best.astype(np.uint8)[:, None], rows], axis=1).tobytes()


def _paeth(left: npt.NDArray[np.int16], above: npt.NDArray[np.int16], diagonal: npt.NDArray[np.int16]) -> Grey:
    """Whichever of the three neighbours is nearest to left + above - diagonal."""
    to_left, to_above = np.abs(above - diagonal), np.abs(left - diagonal)
    to_diagonal = np.abs(left + above - 2 * diagonal)
    is_left = (to_left <= to_above) & (to_left <= to_diagonal)
    nearest = np.where(is_left, left, np.where(to_above <= to_diagonal, above, diagonal))
    return nearest.astype(np.uint8)


def _deflated(data: bytes) -> bytes:
    """Raw deflate blocks, none of them final; the full flush ends on a byte boundary and forgets what came before."""
    # Pillow's own level and strategy for filtered rows.
    compressor = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_FILTERED)
    return compressor.compress(data) + compressor.flush(zlib.Z_FULL_FLUSH)


def _stamp(side: int, channels: int, patient: int, number: int) -> bytes:
    """The top rows, unfiltered: patient and number as :data:`_STAMP_BITS` bars, each black or white."""
    code = np.array([patient << 8 | number], ">u4").view(np.uint8)
    bars = np.unpackbits(code) * np.uint8(255)
    row = bars[np.arange(side) * _STAMP_BITS // side]
    pixels = np.repeat(row[:, None], channels, axis=1)
    if channels == 4:
        pixels[:, 3] = 255
    return (b"\x00" + pixels.tobytes()) * stamp_rows(side)


def _header(side: int, colour_type: int) -> bytes:
    size = side.to_bytes(4, "big")
    return _chunk(b"IHDR", size + size + bytes([8, colour_type, 0, 0, 0]))


def _chunk(kind: bytes, content: bytes) -> bytes:
    crc = zlib.crc32(content, zlib.crc32(kind))
    return len(content).to_bytes(4, "big") + kind + content + crc.to_bytes(4, "big")


# Releases


def write_release(
    folder: Path, images: int = ROWS, *, form: Form = "zip", side: int = SIDE, seed: int = 2017
) -> Iterator[Path]:
    """Write tables and lists into ``folder``, then yield each archive as soon as it is whole.

    Whoever takes the paths may read and delete one before asking for the next, so that no disk need hold all.
    """
    if side < _STAMP_BITS:
        raise ValueError(f"side={side}: needs at least {_STAMP_BITS} pixels, one for each bar of the stamp")
    if form not in _WRITERS:
        raise ValueError(f"form={form!r}: known are {', '.join(_WRITERS)}")
    whole = published_tables(seed)
    tables = whole if images == ROWS else part_of(whole, images, seed)
    folder.mkdir(parents=True, exist_ok=True)
    write_tables(folder, tables, side=side)
    kinds = kinds_of([exam.image for exam in whole.exams], seed)
    return _write_archives(folder, tables, kinds, form, draw_bank(side, seed))


def _write_archives(folder: Path, tables: Tables, kinds: Mapping[str, Kind], form: Form, bank: Bank) -> Iterator[Path]:
    for position, block in enumerate(by_archive(tables.exams), start=1):
        path = folder / f"images_{position:03d}.{form}"
        partial = path.with_name(f".partial-{path.name}")
        with _WRITERS[form](partial) as add:
            for exam in block:
                kind = kinds.get(exam.image, "film")
                add(f"images/{exam.image}", png(bank, kind, exam.patient, exam.number))
        partial.rename(path)
        yield path


Add = Callable[[str, bytes], None]


@contextmanager
def _zip(path: Path) -> Iterator[Add]:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, content: bytes) -> None:
            archive.writestr(zip_entry(name), content)

        yield add


@contextmanager
def _tar_gz(path: Path) -> Iterator[Add]:
    # Deflating PNGs again would take thirty times as long and save 2 %: the blocks are stored.
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=0, fileobj=raw, mtime=_UNIX_TIMESTAMP) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):

        def add(name: str, content: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(content), _UNIX_TIMESTAMP, 0o644
            archive.addfile(info, io.BytesIO(content))

        yield add


_WRITERS = {"zip": _zip, "tar.gz": _tar_gz}


# The command


def main() -> None:
    """Write a release and say how fast that went."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fast_releases", description="a made-up raw release")
    parser.add_argument("--images", type=int, default=ROWS, help=f"60 to {ROWS} [{ROWS}]")
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--form", choices=sorted(_WRITERS), default="zip")
    parser.add_argument("--side", type=int, default=SIDE, help=f"width and height in pixels [{SIDE}]")
    parser.add_argument("--seed", type=int, default=2017)
    arguments = parser.parse_args()
    archives = write_release(
        arguments.out, arguments.images, form=arguments.form, side=arguments.side, seed=arguments.seed
    )
    for path in showing_progress(archives, arguments.images):
        print(path)


def showing_progress(archives: Iterable[Path], images: int) -> Iterator[Path]:
    """The same paths; after each one, images and bytes per second and the time left on stderr."""
    began = time.perf_counter()
    size_bytes = 0
    for position, path in enumerate(archives, start=1):
        seconds = time.perf_counter() - began
        size_bytes += path.stat().st_size
        # Parts of a release are dealt over the archives in proportion, so the published sizes tell the share done.
        done = images * _share_after(position)
        left = seconds * (images / done - 1)
        print(
            f"{path.name}: {done:,.0f} of {images:,} images, {done / seconds:,.0f} images/s, "
            f"{size_bytes / seconds / 1e6:,.0f} MB/s, {left:,.0f} s left",
            file=sys.stderr,
        )
        yield path


def _share_after(archives: int) -> float:
    return sum(IMAGES_OF_ARCHIVE[:archives]) / ROWS


if __name__ == "__main__":
    main()
