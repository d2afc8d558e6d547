"""The directory of a zip, with what is wrong with its entries: nobody's bytes are trusted for where they come from.

``zipfile`` takes the last signature of an end record for one, wherever it stands, reads no more entries than fit in the
size that it names, and lets entries share bytes: by each of them members can be hidden, or multiplied. A name that is
not in the encoding that it claims makes the whole archive unreadable to it.
"""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import PurePosixPath
from typing import IO, Any

from tasks.limits import current, variable
from tasks.plain_zips import HEADER_BYTES, UTF_8

END_RECORD = b"PK\x05\x06"
END_BYTES = 22
"""Of an end record without its comment (APPNOTE 4.3.16)."""
MOST_END_BYTES = END_BYTES + 65_535
ENTRIES_AT, SIZE_AT, OFFSET_AT, COMMENT_LENGTH_AT = 10, 12, 16, 20
UNSAID = 0xFFFF
"""As a number of entries: a Zip64 record says it."""
END_RECORD_64, END_BYTES_64, ENTRIES_AT_64, SIZE_AT_64 = b"PK\x06\x06", 56, 32, 40
LOCATOR_BYTES = 20
"""Between the two (4.3.15)."""
ENTRY, ENTRY_BYTES = b"PK\x01\x02", 46
"""Of the directory, without name, extra field and comment (4.3.12)."""
FLAGS_AT, LOCAL_FLAGS_AT = 8, 6
BYTES_PER_ENTRY = 256
"""Of a directory, at most on average: those of publishers have about 100, or it takes more memory than it may."""
UNIX = 3
"""Host system of an entry whose attributes hold a file's type (APPNOTE 4.4.2)."""
DRIVE = re.compile(r"^[A-Za-z]:")


def entries(stream: IO[bytes]) -> list[zipfile.ZipInfo]:
    """Every entry of the directory of a zip. Raises :class:`zipfile.BadZipFile` where some may be hidden, or where
    there are more than memory is for."""
    tail = _tail(stream)  # first, so that what follows is at hand where reading takes a request
    with _opened(stream, tail) as opened:
        found = opened.infolist()
    _insist_on_all(found, tail)
    return found


def opened(stream: IO[bytes], *, is_listed: bool = False) -> zipfile.ZipFile:
    """A zip to read from. A name that claims to be UTF-8 and is not is read as the old code page 437, in which every
    byte is a letter. Raises :class:`zipfile.BadZipFile` for all that cannot be read, and where there are more entries
    than memory is for; of a zip that ``is_listed`` that is known, and its end need not be read twice."""
    return _opened(stream, None if is_listed else _tail(stream))


def _opened(stream: IO[bytes], tail: bytes | None) -> zipfile.ZipFile:
    if tail is not None:
        _insist_on_few(tail)
    try:
        try:
            return zipfile.ZipFile(stream)
        except UnicodeDecodeError:
            return zipfile.ZipFile(_respelled(stream, tail or _tail(stream)))
    except (NotImplementedError, ValueError, OverflowError) as error:
        raise zipfile.BadZipFile(str(error)) from error


def _insist_on_few(tail: bytes) -> None:
    count, size_bytes, _ = _directory(tail)
    most = current().members
    if count > most or size_bytes > most * BYTES_PER_ENTRY:
        raise zipfile.BadZipFile(
            f"its directory has {count} entries in {size_bytes} bytes; the most is {most} ({variable('members')})"
        )


def _directory(tail: bytes) -> tuple[int, int, int]:
    """Entries and bytes of the directory, as claimed, and where it ends, counted from the end of the archive."""
    at = tail.rfind(END_RECORD)
    if at < 0 or at + END_BYTES > len(tail):
        return 0, 0, 0  # no zip, as zipfile will say
    count, size_bytes = _number(tail, at + ENTRIES_AT), _number(tail, at + SIZE_AT, 4)
    at_64 = at - LOCATOR_BYTES - END_BYTES_64
    if at_64 >= 0 and tail.startswith(END_RECORD_64, at_64):
        return _number(tail, at_64 + ENTRIES_AT_64, 8), _number(tail, at_64 + SIZE_AT_64, 8), len(tail) - at_64
    return count, size_bytes, len(tail) - at


def _respelled(stream: IO[bytes], tail: bytes) -> IO[bytes]:
    """The archive with the flag of UTF-8 taken from entries whose name is none, in its directory and where they lie."""
    _, size_bytes, ends_before = _directory(tail)
    begin = max(stream.seek(0, os.SEEK_END) - ends_before - size_bytes, 0)
    before = begin - _number(tail, tail.rfind(END_RECORD) + OFFSET_AT, 4)  # what stands in front of the archive
    stream.seek(begin)
    directory = stream.read(size_bytes)
    instead: dict[int, bytes] = {}
    at = 0
    while directory.startswith(ENTRY, at):
        lengths = [_number(directory, at + field) for field in (28, 30, 32)]  # name, extra field, comment
        flags = _number(directory, at + FLAGS_AT)
        if flags & UTF_8 and not _is_utf_8(directory[at + ENTRY_BYTES : at + ENTRY_BYTES + lengths[0]]):
            plain = (flags & ~UTF_8).to_bytes(2, "little")
            instead[begin + at + FLAGS_AT] = plain
            instead[before + _number(directory, at + 42, 4) + LOCAL_FLAGS_AT] = plain
        at += ENTRY_BYTES + sum(lengths)
    return io.BufferedReader(_Respelled(stream, instead))


def _is_utf_8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True


class _Respelled(io.RawIOBase):
    """A file with other bytes in some places."""

    def __init__(self, stream: IO[bytes], instead: Mapping[int, bytes]) -> None:
        """``instead``: place to the two bytes that stand there."""
        self._stream, self._instead, self._position = stream, instead, 0
        self._places = sorted(instead)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        self._position = offset + (self._stream.seek(0, os.SEEK_END) if start is None else start)
        return self._position

    def readinto(self, target: Any) -> int:
        self._stream.seek(self._position)
        data = bytearray(self._stream.read(len(target)))
        first, last = (bisect_left(self._places, at) for at in (self._position - 1, self._position + len(data)))
        for place in self._places[first:last]:
            for at, byte in enumerate(self._instead[place], start=place - self._position):
                if 0 <= at < len(data):
                    data[at] = byte
        target[: len(data)] = data
        self._position += len(data)
        return len(data)


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


def _number(data: bytes, at: int, size: int = 2) -> int:
    return int.from_bytes(data[at : at + size], "little")


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
