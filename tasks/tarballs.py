"""Reading tars and gzipped tars in place: one pass from end to end finds the members, seek points find them again.

The pass never holds more than a few pieces. What it found is remembered in two files beside each other, ``X.seek`` and
``X.members.json``; both are caches. This module says what is there and where a stream breaks; which members must not be
read for other reasons is for :mod:`tasks.archives` to say.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import queue
import tarfile
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from indexed_gzip import IndexedGzipFile

from tasks.code_version import source_digest
from tasks.files import read_json, write_bytes, write_json
from tasks.schema import UnusableInput

SUFFIXES = (".tar", ".tar.gz", ".tgz")
"""Names by which a tar is found, in any case; whether it is gzipped is told by its first bytes."""

DAMAGES = ("truncated-archive", "corrupt-archive", "crc-mismatch")
"""Problems that stand for the archive, not for the one member that carries them."""

PIECE_BYTES = 2**20
SPACING_BYTES = 8 * 2**20
"""Unpacked bytes between seek points. A point holds 32 KiB, so those of 3.5 GB take 14 MiB."""
READ_AHEAD_BYTES = 16 * 2**20
"""Every refill inflates from a seek point, half of :data:`SPACING_BYTES` in vain on average; members lie in order."""
HEADER_LIMIT_BYTES = 4 * PIECE_BYTES
"""A pax header or a long name beyond this is damage, not to be read into memory."""
FAR = 2**60

GZIP_MAGIC = b"\x1f\x8b"
GZIP = 16 + zlib.MAX_WBITS
BAD_TRAILER = ("incorrect data check", "incorrect length check")
"""What zlib says when a stream inflates but its own checksum or length is another."""
BAD_HEADER = (tarfile.TarError, ValueError, LookupError, OverflowError, RecursionError)
"""What tarfile raises for headers that are none."""

Tick = Callable[[int], None]
"""Called with the number of file bytes just read."""


class Unreadable(Exception):
    """One member cannot be read; ``args`` are the stable reason code and the detail."""


@dataclass(frozen=True)
class Entry:
    """One entry of a tar, directories left out; or the place where the archive breaks."""

    name: str
    offset: int
    """Byte offset of its first header block in the unpacked stream."""
    size_bytes: int
    crc32: int
    """Of its bytes as they are; 0 where they were not all read."""
    kind: Literal["file", "link", "special"]
    problem: str = ""
    """One of :data:`DAMAGES`, or empty."""
    detail: str = ""


@dataclass(frozen=True)
class Listing:
    """What one pass over an archive found."""

    sha256: str
    """Of the file as published."""
    entries: tuple[Entry, ...]
    """In the order in which they lie in the archive."""


def is_tar_name(name: str) -> bool:
    """Whether a file name says tar."""
    return name.lower().endswith(SUFFIXES)


def insist_on_content(path: Path) -> None:
    """Raise :class:`UnusableInput` for a file that is empty or starts neither as gzip nor as tar."""
    with path.open("rb") as stream:
        start = stream.read(tarfile.BLOCKSIZE)
    if start.startswith(GZIP_MAGIC):
        return
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "backslashreplace")
    except tarfile.HeaderError as error:
        what = "is empty" if not start else "is neither a gzip file nor a tar"
        raise UnusableInput(f"{path} {what}: fetch it again") from error


def is_remembered(seek: str) -> bool:
    """Whether :func:`scan` can do without a pass."""
    return _recall(seek) is not None


def forget(seek: str) -> None:
    """Make the next :func:`scan` do a pass."""
    for path in (_listing_path(seek), Path(seek)):
        path.unlink(missing_ok=True)


def scan(path: Path, seek: str, *, limit_bytes: int, tick: Tick = lambda size: None) -> Listing:
    """List and hash a tar, remembered or by one pass over the file; of files above ``limit_bytes`` no CRC is taken.

    ``seek`` is the path of the seek points, and tells where the listing is kept; empty keeps nothing.
    Raises :class:`UnusableInput` for a file that is no tar.
    """
    listing = _recall(seek)
    if listing is None:
        listing, points = _pass(path, limit_bytes, tick, has_points=bool(seek))
        if seek and points:
            write_bytes(Path(seek), points)
        if seek:
            entries = [list(astuple(entry)) for entry in listing.entries]
            write_json(_listing_path(seek), {"code": _code(), "sha256": listing.sha256, "entries": entries})
    return listing


def _listing_path(seek: str) -> Path:
    return Path(seek).with_suffix(".members.json")


def _code() -> str:
    """Another way of listing must not be served what an earlier one remembered."""
    return source_digest("tasks/tarballs.py")


def _recall(seek: str) -> Listing | None:
    if not seek:
        return None
    try:
        kept = read_json(_listing_path(seek))
        if kept["code"] == _code():
            return Listing(kept["sha256"], tuple(Entry(*fields) for fields in kept["entries"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _pass(path: Path, limit_bytes: int, tick: Tick, *, has_points: bool) -> tuple[Listing, bytes]:
    """Read the file once: listing, hash and exported seek points (none of a damaged or a plain tar)."""
    content = hashlib.sha256()
    is_gzip = _is_gzip(path)
    points = _SeekPoints(path.stat().st_size) if is_gzip and has_points else None

    def watched() -> Iterator[bytes]:
        for block in _blocks(path):
            content.update(block)
            if points is not None:
                points.feed(block)
            tick(len(block))
            yield block

    blocks = watched()
    source = _Source()
    try:
        stream = _Stream(lambda: _inflated(blocks, source) if is_gzip else blocks)
        entries = _list(path, stream, source, limit_bytes)
        for _ in blocks:  # behind a break, or behind the last gzip stream: for the hash alone
            pass
    finally:
        exported = points.finish() if points is not None else b""
    # Seek points end at the break, and the library cannot read between the last one and it: do without.
    is_damaged = any(entry.problem for entry in entries)
    return Listing(content.hexdigest(), tuple(entries)), b"" if is_damaged else exported


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def _blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while block := stream.read(PIECE_BYTES):
            yield block


@dataclass
class _Source:
    """How far inflation has come, and why it stopped early."""

    consumed: int = 0
    """Bytes of the gzip file that gave what was unpacked so far."""
    reason: str = ""
    """One of :data:`DAMAGES`, or empty."""
    message: str = ""


def _inflated(blocks: Iterator[bytes], source: _Source) -> Iterator[bytes]:
    """Unpacked pieces of one gzip stream or several in a row; ends at a break, and then says so in ``source``."""
    waiting = b""
    while True:
        while len(waiting) < len(GZIP_MAGIC) and (block := next(blocks, b"")):
            waiting += block
            source.consumed += len(waiting) - len(waiting.lstrip(b"\0"))
            waiting = waiting.lstrip(b"\0")
        if not waiting.startswith(GZIP_MAGIC):
            return  # as gzip does, which calls it trailing garbage; a tar that misses its end is noticed as such
        inflater = zlib.decompressobj(GZIP)
        while not inflater.eof:
            waiting = waiting or next(blocks, b"")
            before = inflater.copy()
            try:
                piece = inflater.decompress(waiting, PIECE_BYTES)
            except zlib.error as error:
                piece, used = _up_to_the_break(before, waiting)
                source.consumed += used
                yield piece
                is_trailer = any(text in str(error) for text in BAD_TRAILER)
                source.reason = "crc-mismatch" if is_trailer else "corrupt-archive"
                source.message = str(error).rpartition(": ")[2]
                return
            if not waiting and not piece and not inflater.eof:
                source.reason = "truncated-archive"
                return
            left = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            source.consumed += len(waiting) - len(left)
            waiting = left
            if piece:
                yield piece
        waiting = waiting.lstrip(b"\0")


def _up_to_the_break(inflater: Any, data: bytes) -> tuple[bytes, int]:
    """What ``data``, which does not inflate, gives up to the byte at which it fails, and how many bytes those are."""
    low, high = 0, len(data)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            inflater.copy().decompress(data[:middle])
            low = middle
        except zlib.error:
            high = middle
    return inflater.copy().decompress(data[:low]), low


class _Stream:
    """Unpacked pieces as the file that tarfile wants; forwards, or over again from the start."""

    def __init__(self, start: Callable[[], Iterator[bytes]]) -> None:
        self._start = start
        self._pieces = start()
        self._ready = memoryview(b"")
        self._position = 0

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes; fewer only at the end, or at a break."""
        if size > HEADER_LIMIT_BYTES:
            raise tarfile.HeaderError(f"a header claims {size} bytes")
        parts = []
        while size > 0 and (part := self._part(size)):
            parts.append(bytes(part))
            size -= len(part)
        return b"".join(parts)

    def peek(self, size: int) -> bytes:
        """What :meth:`read` will give next."""
        if len(self._ready) < size:
            data = self.read(size)
            self._position -= len(data)
            self._ready = memoryview(data + bytes(self._ready))
        return bytes(self._ready[:size])

    def seek(self, offset: int) -> int:
        """Go to ``offset``, or as far towards it as the stream goes; returns the position."""
        if offset < self._position:
            self._pieces, self._ready, self._position = self._start(), memoryview(b""), 0
        while self._position < offset and self._part(offset - self._position):
            pass
        return self._position

    def _part(self, size: int) -> memoryview:
        while not self._ready:
            piece = next(self._pieces, None)
            if piece is None:
                break
            self._ready = memoryview(piece)
        part, self._ready = self._ready[:size], self._ready[size:]
        self._position += len(part)
        return part


def _open_tar(stream: Any) -> tarfile.TarFile:
    """A tar whose ``next`` member is the one at the stream's position.

    A name that is no UTF-8 keeps its bytes as ``\\xff``.
    """
    return tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="backslashreplace")


def _list(path: Path, stream: _Stream, source: _Source, limit_bytes: int) -> list[Entry]:
    entries: list[Entry] = []
    info: tarfile.TarInfo | None = None
    with contextlib.suppress(*BAD_HEADER):
        tar = _open_tar(stream)
        info = tar.next()
    if info is None:
        raise UnusableInput(f"{path} is no tar, or breaks off in its first header: fetch it again")
    while info is not None:
        crc32 = _crc32(tar, info, limit_bytes) if info.isfile() else 0
        # Only a sparse file is stored in fewer bytes than its size; there the end of its last block must do.
        data_end = info.offset_data + (info.size if info.isfile() and not info.issparse() else 0)
        if info.issparse() or not info.isfile():
            data_end = tar.offset
        is_cut = stream.seek(data_end) < data_end
        problem, detail = _break(source, stream.tell()) if is_cut else ("", "")
        if not info.isdir():
            size = max(info.size, 0)
            entries.append(Entry(_name(info), info.offset, size, 0 if is_cut else crc32, _kind(info), problem, detail))
        if is_cut:
            return entries
        info, end = _next(tar, stream, source, info)
    return [*entries, end] if end is not None else entries


def _name(info: tarfile.TarInfo) -> str:
    # Only a pax header can hold a NUL, and only a damaged or a malicious one does.
    return info.name.replace("\0", "\\x00")


def _kind(info: tarfile.TarInfo) -> Literal["file", "link", "special"]:
    return "file" if info.isfile() else "link" if info.issym() or info.islnk() else "special"


def _crc32(tar: tarfile.TarFile, info: tarfile.TarInfo, limit_bytes: int) -> int:
    if not 0 <= info.size <= limit_bytes:
        return 0
    crc32 = 0
    for piece in _data(tar, info):
        crc32 = zlib.crc32(piece, crc32)
    return crc32


def _data(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    """The bytes of a file in pieces; fewer than its size where the stream breaks."""
    opened = tar.extractfile(info)
    with contextlib.suppress(tarfile.ReadError):
        while opened is not None and (piece := opened.read(PIECE_BYTES)):
            yield piece


def _next(
    tar: tarfile.TarFile, stream: _Stream, source: _Source, previous: tarfile.TarInfo
) -> tuple[tarfile.TarInfo | None, Entry | None]:
    """The header after ``previous``; or None, and an entry that says how the archive breaks if it does."""
    if tar.offset <= previous.offset:
        return None, _after(stream.tell(), "corrupt-archive", f"{previous.name} claims {previous.size} bytes")
    stream.seek(tar.offset)
    has_end = False
    while True:
        start = stream.tell()
        block = stream.peek(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE:
            break
        if not any(block):
            has_end = True  # tars that were put behind each other go on after it
            stream.seek(start + tarfile.BLOCKSIZE)
            continue
        try:
            return tarfile.TarInfo.fromtarfile(tar), None
        except BAD_HEADER as error:
            if source.reason or not stream.read(1):
                break
            detail = f"the archive is damaged at {_place(source, start)}, where no header is ({error}): fetch it again"
            return None, _after(start, "corrupt-archive", detail)
    if has_end and source.reason == "crc-mismatch":
        detail = (
            f"the checksum of the whole archive does not fit its content ({source.message}); "
            f"what each image itself says was checked: fetch it again"
        )
        return None, _after(start, source.reason, detail)
    return None, None if has_end and not source.reason else _after(start, *_break(source, start))


def _break(source: _Source, position: int) -> tuple[str, str]:
    """Problem and detail of a stream that ends at ``position`` (unpacked) and should not."""
    place = _place(source, position)
    if source.reason in ("", "truncated-archive"):
        return (
            "truncated-archive",
            f"the archive breaks off at {place}; nothing of what follows is there: fetch it again",
        )
    return "corrupt-archive", f"the archive is damaged at {place} ({source.message}): fetch it again"


def _place(source: _Source, position: int) -> str:
    """Where that is; the first number is where a break is, and within a piece or two of another damage."""
    unpacked = f"byte {position} of the unpacked stream"
    return f"byte {source.consumed} of the file, {unpacked}" if source.consumed else unpacked


def _after(position: int, problem: str, detail: str) -> Entry:
    return Entry(f"(after byte {position})", position, 0, 0, "special", problem, detail)


class _SeekPoints:
    """Makes seek points, in a thread of its own, of blocks that the pass has read: the file is read once.

    The library inflates a second time; it does so without holding the interpreter's lock.
    """

    def __init__(self, size_bytes: int) -> None:
        self._fed = _Fed(size_bytes)
        self._exported = b""
        self._thread = threading.Thread(target=self._make, daemon=True)
        self._thread.start()

    def feed(self, block: bytes) -> None:
        self._fed.blocks.put(block)

    def finish(self) -> bytes:
        """The points as the library exports them; nothing where it gave up."""
        self._fed.blocks.put(b"")
        self._thread.join()
        return self._exported

    def _make(self) -> None:
        try:
            # The pass checks the checksum itself.
            settings = {"spacing": SPACING_BYTES, "buffer_size": PIECE_BYTES, "skip_crc_check": True}
            opened = IndexedGzipFile(fileobj=self._fed, **settings)
            opened.seek(FAR)
            sink = io.BytesIO()
            opened.export_index(fileobj=sink)
            self._exported = sink.getvalue()
        except (OSError, ValueError):
            pass  # damage; the pass says where
        finally:
            while self._fed.read(PIECE_BYTES):
                pass


class _Fed:
    """Blocks that another thread puts in, as the file that the library wants: read once, from end to end."""

    mode = "rb"

    def __init__(self, size_bytes: int) -> None:
        self.blocks: queue.Queue[bytes] = queue.Queue(maxsize=4)
        self._size_bytes = size_bytes
        self._position = 0
        self._ready = memoryview(b"")
        self._has_ended = False

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Only asked for the file's size and for its start, before anything is read."""
        self._position = self._size_bytes if whence == io.SEEK_END else offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        if not self._ready and not self._has_ended:
            block = self.blocks.get()
            self._has_ended = not block
            self._ready = memoryview(block)
        part, self._ready = self._ready[:size], self._ready[size:]
        self._position += len(part)
        return bytes(part)


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
        if not _is_gzip(Path(path)):
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
def _from_the_start(path: str, inode: int, size_bytes: int, modified_ns: int) -> _Stream:
    return _Stream(lambda: _inflated(_blocks(Path(path)), _Source()))


def _member(stream: Any, name: str, offset: int, crc32: int, limit_bytes: int) -> bytes:
    stream.seek(offset)
    try:
        tar = _open_tar(stream)
    except BAD_HEADER as error:
        raise Unreadable("unreadable-member", f"no tar header at byte {offset}: {error}") from error
    info = tar.next()
    if info is None or _name(info) != name or not info.isfile() or not 0 <= info.size <= limit_bytes:
        raise Unreadable("unreadable-member", f"no file {name} at byte {offset}: the archive has changed")
    data = b"".join(_data(tar, info))
    if len(data) != info.size:
        raise Unreadable("unreadable-member", f"{len(data)} of {info.size} bytes are there")
    if crc32 and zlib.crc32(data) != crc32:
        raise Unreadable("crc-mismatch", f"Bad CRC-32 for file {name!r}: the archive has changed since it was listed")
    return data
