"""One member of a tar, by its place: from the seek point before it, or from the start."""

from __future__ import annotations

import contextlib
import io
import tarfile
import threading
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from indexed_gzip import IndexedGzipFile

from tasks.storage import is_remote, location, look, open_archive, read_bytes
from tasks.tarballs.entries import BAD_HEADER, data_of, name_of, open_tar
from tasks.tarballs.seek_points import SPACING_BYTES
from tasks.tarballs.streams import PIECE_BYTES, Source, Stream, blocks, inflated, is_gzip

Found = TypeVar("Found")

READ_AHEAD_BYTES = 16 * 2**20
"""Every refill inflates from a seek point, half of :data:`SPACING_BYTES` in vain on average; members lie in order."""
HEAD_OF_BYTES = 2**63
"""Largest file of which the first bytes are read: any."""


class Unreadable(Exception):
    """One member cannot be read; ``args`` are the stable reason code and the detail."""


_reading = threading.Lock()
"""A position in a stream is one thread's at a time; Dask workers usually have one thread anyway."""


def read(path: str, seek: str, name: str, offset: int, *, crc32: int, limit_bytes: int, version: str = "") -> bytes:
    """The bytes of the file whose header lies at ``offset``; ``crc32`` 0 is not known, nor is an empty ``version``.

    Without seek points, or where they lead astray, it inflates from where it stopped last, or else from the start.
    Raises :class:`Unreadable` with ``unreadable-member`` or ``crc-mismatch``.
    """
    return _with_stream(path, seek, version, lambda stream: _member(stream, name, offset, crc32, limit_bytes))


def data_range(path: str, seek: str, name: str, offset: int, *, limit_bytes: int, version: str = "") -> tuple[int, int]:
    """Where, in the unpacked stream, the bytes of that file begin, and how many they are.

    Raises :class:`Unreadable`.
    """

    def place(stream: Any) -> tuple[int, int]:
        _, info = _header(stream, name, offset, limit_bytes)
        return info.offset_data, info.size

    return _with_stream(path, seek, version, place)


def head(path: str, seek: str, name: str, offset: int, most_bytes: int, *, version: str = "") -> bytes:
    """The first bytes of the file whose header lies at ``offset``. Raises :class:`Unreadable`."""

    def take(stream: Any) -> bytes:
        found = bytearray()
        for piece in data_of(*_header(stream, name, offset, HEAD_OF_BYTES)):
            found += piece
            if len(found) >= most_bytes:
                break
        return bytes(found[:most_bytes])

    return _with_stream(path, seek, version, take)


def salvage(path: str, name: str, offset: int, *, limit_bytes: int, version: str = "") -> bytes:
    """What is there of a file that breaks off, or whose checksum does not fit; in a damaged archive from the start."""
    return _with_stream(path, "", version, lambda stream: _what_is_there(stream, name, offset, limit_bytes))


def _with_stream(path: str, seek: str, version: str, take: Callable[[Any], Found]) -> Found:
    version = version or look(location(path)).version
    with _reading:
        if not _is_packed(path, version):
            return take(_plain(path, version))
        indexed = _indexed(path, version, seek, _stamp(seek))
        if indexed is not None:
            with contextlib.suppress(Unreadable, OSError, ValueError):
                return take(indexed)
        return take(_from_the_start(path, version))


def _stamp(seek: str) -> str:
    """Seek points that are made anew, or made at all, are others to a process that lives long."""
    try:
        return look(location(seek)).version if seek else ""
    except FileNotFoundError:
        return ""


@lru_cache(maxsize=2)
def _is_packed(path: str, version: str) -> bool:
    return is_gzip(location(path))


@lru_cache(maxsize=2)
def _plain(path: str, version: str) -> Any:
    return open_archive(location(path), version)


@lru_cache(maxsize=2)
def _indexed(path: str, version: str, seek: str, stamp: str) -> Any:
    """One open archive per process with its seek points; None where there are none."""
    if not stamp:
        return None
    try:
        # Kept open: opening anew at every refill, the library crashes where that fails.
        settings = {"spacing": SPACING_BYTES, "buffer_size": READ_AHEAD_BYTES, "drop_handles": False}
        place = location(path)
        opened = IndexedGzipFile(open_archive(place, version) if is_remote(place) else path, **settings)
        opened.import_index(fileobj=io.BytesIO(read_bytes(location(seek))))
    except (OSError, ValueError):
        return None
    return opened


@lru_cache(maxsize=2)
def _from_the_start(path: str, version: str) -> Stream:
    return Stream(lambda: inflated(blocks(location(path)), Source()))


def _header(stream: Any, name: str, offset: int, limit_bytes: int) -> tuple[tarfile.TarFile, tarfile.TarInfo]:
    stream.seek(offset)
    try:
        tar = open_tar(stream)
    except BAD_HEADER as error:
        raise Unreadable("unreadable-member", f"no tar header at byte {offset}: {error}") from error
    info = tar.next()
    if info is None or name_of(info) != name or not info.isfile() or not 0 <= info.size <= limit_bytes:
        raise Unreadable("unreadable-member", f"no file {name} at byte {offset}: the archive has changed")
    return tar, info


def _what_is_there(stream: Any, name: str, offset: int, limit_bytes: int) -> bytes:
    _, info = _header(stream, name, offset, limit_bytes)
    stream.seek(info.offset_data)
    found = bytearray()
    while len(found) < info.size and (piece := stream.read(min(PIECE_BYTES, info.size - len(found)))):
        found += piece
    return bytes(found)


def _member(stream: Any, name: str, offset: int, crc32: int, limit_bytes: int) -> bytes:
    tar, info = _header(stream, name, offset, limit_bytes)
    data = b"".join(data_of(tar, info))
    if len(data) != info.size:
        raise Unreadable("unreadable-member", f"{len(data)} of {info.size} bytes are there")
    if crc32 and zlib.crc32(data) != crc32:
        raise Unreadable("crc-mismatch", f"Bad CRC-32 for file {name!r}: the archive has changed since it was listed")
    return data
