"""Which images a benchmark converts, in a list that every contestant reads: floor and peers know no dataset.

Imports nothing of the rest, for :mod:`tests.bench.conversion_peers` runs in environments that have none of it.
"""

from __future__ import annotations

import csv
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple


class Listed(NamedTuple):
    """One image of the input."""

    key: str
    """Its name in every output: letters, digits and underscores."""
    label: str
    archive: str
    """The zip that it lies in; empty for a loose file."""
    member: str
    """Its name in the zip."""
    path: str
    """The loose file, or the member unpacked; empty where nobody unpacked it."""


def key_of(member: str) -> str:
    """A key without dots, which WebDataset would cut at."""
    return re.sub(r"[^A-Za-z0-9]", "_", member.rpartition(".")[0])


def is_sampled(key: str, step: int) -> bool:
    """Whether this image's pixels are compared: one in ``step``, the same ones for everybody."""
    return zlib.crc32(key.encode()) % step == 0


def write_list(path: Path, images: Iterable[Listed]) -> None:
    """As CSV with a header."""
    with path.open("w", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(Listed._fields)
        writer.writerows(images)


def read_list(path: Path) -> list[Listed]:
    """What :func:`write_list` wrote."""
    with path.open(newline="") as lines:
        return [Listed(**row) for row in csv.DictReader(lines)]


def pieces(images: Sequence[Listed], most: int) -> Iterator[list[Listed]]:
    """Runs of at most ``most`` images of one archive."""
    piece: list[Listed] = []
    for image in images:
        if piece and (len(piece) == most or image.archive != piece[0].archive):
            yield piece
            piece = []
        piece.append(image)
    if piece:
        yield piece


_opened: dict[str, zipfile.ZipFile] = {}


def read(image: Listed) -> bytes:
    """The published bytes: out of the zip, which stays open in this process, or from the file."""
    if not image.archive:
        return Path(image.path).read_bytes()
    if image.archive not in _opened:
        _opened[image.archive] = zipfile.ZipFile(image.archive)
    return _opened[image.archive].read(image.member)
