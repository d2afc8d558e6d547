"""The tar of a shard: what lies where is known from names and sizes, before there is an image.

The same bytes as those of ``tarfile``, which makes every header anew from some twenty fields: here all but the name,
the size and the checksum stand fast. Headers are USTAR, or PAX for a long name; mtime, uid and gid are 0, mode is 0644.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MOST_NAME, MOST_SIZE = 100, 8**11
"""Of a file, as far as one block can tell (POSIX.1-1988, ustar)."""
_EMPTY = tarfile.TarInfo().tobuf(tarfile.PAX_FORMAT)
_EMPTY_SUM = sum(_EMPTY[:124]) + sum(_EMPTY[135:148]) + 8 * ord(" ") + sum(_EMPTY[156:])
"""Sum of a header without name and size, its checksum counted as blanks."""


class Entry(NamedTuple):
    """One file."""

    header: bytes
    offset: int
    """Where its bytes begin."""
    size: int


class Entries(NamedTuple):
    """The files of one sample: image, mask where there is one, and its JSON, whose bytes are known."""

    files: tuple[Entry, ...]
    record: bytes


def planned(
    names: Sequence[str], endings: Sequence[str], sizes: Sequence[Sequence[int]], records: Sequence[bytes]
) -> list[Entries]:
    """The files of all samples: one for each ending, with ``sizes`` in bytes column by column, then ``.json``."""
    found = []
    position = 0
    for name, record, *own in zip(names, records, *sizes, strict=True):
        files = []
        for ending, size in zip((*endings, "json"), (*own, len(record)), strict=True):
            header = header_of(f"{name}.{ending}", size)
            files.append(Entry(header, position + len(header), size))
            position += len(header) + size + -size % tarfile.BLOCKSIZE
        found.append(Entries(tuple(files), record))
    return found


def pieces(entries: Sequence[Entries], files: Sequence[Sequence[bytes]]) -> Iterator[bytes]:
    """The tar, one sample after the other; ``files`` column by column."""
    size = 0
    for own, *contents in zip(entries, *files, strict=True):
        parts: list[bytes] = []
        for entry, content in zip(own.files, (*contents, own.record), strict=True):
            parts += (entry.header, content, bytes(-entry.size % tarfile.BLOCKSIZE))
        sample = b"".join(parts)
        size += len(sample)
        yield sample
    # As tarfile ends one: two empty blocks, and more up to a whole record.
    end = 2 * tarfile.BLOCKSIZE
    yield bytes(end + -(size + end) % tarfile.RECORDSIZE)


def header_of(name: str, size: int) -> bytes:
    """What stands before a file; more than one block where its name is long."""
    if len(name) > MOST_NAME or not name.isascii() or size >= MOST_SIZE:
        entry = tarfile.TarInfo(name)
        entry.size = size
        return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    named = name.encode()
    told = b"%011o" % size
    checksum = b"%06o" % (_EMPTY_SUM + sum(named) + sum(told))
    return b"".join((named.ljust(100, b"\0"), _EMPTY[100:124], told, _EMPTY[135:148], checksum, _EMPTY[154:]))
