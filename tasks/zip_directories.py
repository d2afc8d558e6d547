"""The directory of a zip, with what is wrong with its entries: nobody's bytes are trusted for where they come from.

``zipfile`` takes the last signature of an end record for one, wherever it stands, reads no more entries than fit in the
size that it names, and lets entries share bytes: by each of them members can be hidden, or multiplied.
"""

from __future__ import annotations

import os
import re
import stat
import zipfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import IO

from tasks.plain_zips import HEADER_BYTES

END_RECORD = b"PK\x05\x06"
END_BYTES = 22
"""Of an end record without its comment (APPNOTE 4.3.16)."""
MOST_END_BYTES = END_BYTES + 65_535
ENTRIES_AT, COMMENT_LENGTH_AT = 10, 20
UNSAID = 0xFFFF
"""As a number of entries: a Zip64 record says it."""
UNIX = 3
"""Host system of an entry whose attributes hold a file's type (APPNOTE 4.4.2)."""
DRIVE = re.compile(r"^[A-Za-z]:")


def entries(stream: IO[bytes]) -> list[zipfile.ZipInfo]:
    """Every entry of the directory of a zip. Raises :class:`zipfile.BadZipFile` where some may be hidden."""
    tail = _tail(stream)  # first, so that what follows is at hand where reading takes a request
    with zipfile.ZipFile(stream) as opened:
        found = opened.infolist()
    _insist_on_all(found, tail)
    return found


def _tail(stream: IO[bytes]) -> bytes:
    """All that an end record with the longest of comments could take."""
    size_bytes = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size_bytes - MOST_END_BYTES))
    return stream.read()


def _insist_on_all(found: Sequence[zipfile.ZipInfo], tail: bytes) -> None:
    records = [match.start() for match in re.finditer(re.escape(END_RECORD), tail)]
    ending = [at for at in records if at + END_BYTES + _number(tail, at + COMMENT_LENGTH_AT) == len(tail)]
    if len(records) > 1 and ending != records[-1:]:  # one inside the comment of another, or followed by something
        raise zipfile.BadZipFile("it has several end records, and it is not clear which one counts")
    claimed = _number(tail, records[-1] + ENTRIES_AT)
    if claimed not in (UNSAID, len(found) % 2**16):
        raise zipfile.BadZipFile(f"its end record counts {claimed} entries, its directory has {len(found)}")


def _number(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], "little")


def problems(found: Sequence[zipfile.ZipInfo]) -> Iterator[tuple[zipfile.ZipInfo, str, str]]:
    """Each entry with the reason code and the detail why it must not be read, or two empty strings."""
    shared = _sharing_bytes(found)
    for info in found:
        if id(info) in shared:
            yield info, "unreadable-member", "its bytes are those of another member, too"
        else:
            yield info, *_problem(info)


def _sharing_bytes(found: Sequence[zipfile.ZipInfo]) -> set[int]:
    """Ids of entries that begin before the one before them may end: what multiplies a bomb."""
    in_place = sorted(found, key=lambda info: info.header_offset)
    shared: set[int] = set()
    for before, after in pairwise(in_place):
        if after.header_offset < before.header_offset + HEADER_BYTES + before.compress_size:
            shared |= {id(before), id(after)}
    return shared


def _problem(info: zipfile.ZipInfo) -> tuple[str, str]:
    if not info.filename:
        return "unsafe-path", "the member has no name"
    if "\0" in info.orig_filename:
        return "unsafe-path", f"the path {info.orig_filename!r} has a NUL in it"
    if leaves(info.filename):
        return "unsafe-path", f"the path {info.filename!r} leaves the archive"
    if info.header_offset < 0:
        return "unreadable-member", "the archive's directory says that it begins before the archive does"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:  # whatever system it says that it is from
        return "unsafe-path", "the member is a symbolic link"
    if info.create_system == UNIX and kind not in (0, stat.S_IFREG):
        return "unsafe-path", "the member is no file"
    return "", ""


def leaves(name: str) -> bool:
    """Whether a path leads out of the folder that it would be unpacked in, on any system."""
    parts = PurePosixPath(name.replace("\\", "/"))
    return parts.is_absolute() or ".." in parts.parts or bool(DRIVE.match(name))
