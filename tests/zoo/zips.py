"""Zips written byte by byte (APPNOTE 4.3), so that every field can lie."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

UNIX, MACINTOSH = 3, 19
UTF_8, ENCRYPTED = 0x800, 0x1
DEFLATED = 8
MIB = 2**20


@dataclass(frozen=True)
class Entry:
    """One entry, as in its local header and in the directory; what is None is as it should be."""

    name: bytes
    data: bytes
    """As packed."""
    size_bytes: int | None = None
    crc32: int | None = None
    method: int = 0
    mode: int = 0
    system: int = UNIX
    flags: int = 0
    local_name: bytes | None = None
    is_zip64: bool = False
    at: int | None = None
    """Number of the entry whose bytes these are too; it is not written then."""


def written(path: Path, entries: Sequence[Entry], *, claimed: int | None = None, comment: bytes = b"") -> Path:
    """Write them; ``claimed`` is the number that the end record counts."""
    body, directory = bytearray(), bytearray()
    places: list[int] = []
    for entry in entries:
        offset = len(body) if entry.at is None else places[entry.at]
        places.append(offset)
        if entry.at is None:
            body += _local(entry)
        directory += _central(entry, offset)
    count = len(entries) if claimed is None else claimed
    path.parent.mkdir(parents=True, exist_ok=True)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), len(comment))
    path.write_bytes(bytes(body) + bytes(directory) + end + comment)
    return path


def _local(entry: Entry) -> bytes:
    name = entry.name if entry.local_name is None else entry.local_name
    sizes, extra = _sizes(entry)
    head = struct.pack("<4sHHHHHIIIHH", b"PK\3\4", *_shared(entry), *sizes, len(name), len(extra))
    return head + name + extra + entry.data


def _central(entry: Entry, offset: int) -> bytes:
    sizes, extra = _sizes(entry)
    attributes = (0, 0, 0, entry.mode << 16, offset)
    numbers = (20 | entry.system << 8, *_shared(entry), *sizes, len(entry.name), len(extra), *attributes)
    return struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", *numbers) + entry.name + extra


def _shared(entry: Entry) -> tuple[int, ...]:
    crc32 = zlib.crc32(entry.data) if entry.crc32 is None else entry.crc32
    return (45 if entry.is_zip64 else 20, entry.flags, entry.method, 0, 33, crc32)


def _sizes(entry: Entry) -> tuple[tuple[int, int], bytes]:
    size = len(entry.data) if entry.size_bytes is None else entry.size_bytes
    if entry.is_zip64:
        return (0xFFFFFFFF, 0xFFFFFFFF), struct.pack("<HHQQ", 1, 16, size, len(entry.data))
    return (len(entry.data), size), b""


def deflated(size_bytes: int, begin: bytes = b"") -> bytes:
    """``begin`` and zeros up to that size, packed a thousand to one."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [packer.compress(begin), packer.compress(bytes((size_bytes - len(begin)) % MIB))]
    parts += [packer.compress(bytes(MIB)) for _ in range((size_bytes - len(begin)) // MIB)]
    return b"".join([*parts, packer.flush()])
