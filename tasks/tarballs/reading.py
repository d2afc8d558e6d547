"""One member of a tar, by its place: from the seek point before it, or from the start."""

from __future__ import annotations

import contextlib
import io
import threading
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from indexed_gzip import IndexedGzipFile

from tasks.tarballs.entries import BAD_HEADER, data_of, name_of, open_tar
from tasks.tarballs.seek_points import SPACING_BYTES
from tasks.tarballs.streams import Source, Stream, blocks, inflated, is_gzip

READ_AHEAD_BYTES = 16 * 2**20
"""Every refill inflates from a seek point, half of :data:`SPACING_BYTES` in vain on average; members lie in order."""


class Unreadable(Exception):
    """One member cannot be read; ``args`` are the stable reason code and the detail."""


_reading = threading.Lock()
"""A position in a stream is one thread's at a time; Dask workers usually have one thread anyway."""


def read(path: str, seek: str, name: str, offset: int, *, crc32: int, limit_bytes: int) -> bytes:
    """The bytes of the file whose header lies at ``offset``; ``crc32`` 0 is not known.

    Without seek points, or where they lead astray, it inflates from where it stopped last, or else from the start.
    Raises :class:`Unreadable` with ``unreadable-member`` or ``crc-mismatch``.
    """
    status = Path(path).stat()
    version = (path, status.st_ino, status.st_size, status.st_mtime_ns)
    with _reading:
        if not is_gzip(Path(path)):
            with Path(path).open("rb") as plain:
                return _member(plain, name, offset, crc32, limit_bytes)
        indexed = _indexed(*version, seek, _stamp(seek))
        if indexed is not None:
            with contextlib.suppress(Unreadable, OSError, ValueError):
                return _member(indexed, name, offset, crc32, limit_bytes)
        return _member(_from_the_start(*version), name, offset, crc32, limit_bytes)


def _stamp(seek: str) -> int:
    """Seek points that are made anew, or made at all, are others to a process that lives long."""
    return Path(seek).stat().st_mtime_ns if seek and Path(seek).is_file() else 0


@lru_cache(maxsize=2)
def _indexed(path: str, inode: int, size_bytes: int, modified_ns: int, seek: str, stamp: int) -> Any:
    """One open archive per process with its seek points; None where there are none."""
    if not stamp:
        return None
    try:
        # Kept open: opening anew at every refill, the library crashes where that fails.
        settings = {"spacing": SPACING_BYTES, "buffer_size": READ_AHEAD_BYTES, "drop_handles": False}
        opened = IndexedGzipFile(path, **settings)
        opened.import_index(fileobj=io.BytesIO(Path(seek).read_bytes()))
    except (OSError, ValueError):
        return None
    return opened


@lru_cache(maxsize=2)
def _from_the_start(path: str, inode: int, size_bytes: int, modified_ns: int) -> Stream:
    return Stream(lambda: inflated(blocks(Path(path)), Source()))


def _member(stream: Any, name: str, offset: int, crc32: int, limit_bytes: int) -> bytes:
    stream.seek(offset)
    try:
        tar = open_tar(stream)
    except BAD_HEADER as error:
        raise Unreadable("unreadable-member", f"no tar header at byte {offset}: {error}") from error
    info = tar.next()
    if info is None or name_of(info) != name or not info.isfile() or not 0 <= info.size <= limit_bytes:
        raise Unreadable("unreadable-member", f"no file {name} at byte {offset}: the archive has changed")
    data = b"".join(data_of(tar, info))
    if len(data) != info.size:
        raise Unreadable("unreadable-member", f"{len(data)} of {info.size} bytes are there")
    if crc32 and zlib.crc32(data) != crc32:
        raise Unreadable("crc-mismatch", f"Bad CRC-32 for file {name!r}: the archive has changed since it was listed")
    return data
