"""The bytes of a tar, unpacked piece by piece, up to the very byte at which a damaged file breaks."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tasks.storage import Location, open_whole

PIECE_BYTES = 2**20
HEADER_LIMIT_BYTES = 4 * PIECE_BYTES
"""A pax header or a long name beyond this is damage, not to be read into memory."""
GZIP_MAGIC = b"\x1f\x8b"
GZIP = 16 + zlib.MAX_WBITS
BAD_TRAILER = ("incorrect data check", "incorrect length check")
"""What zlib says when a stream inflates but its own checksum or length is another."""


def is_gzip(path: Location) -> bool:
    with path.open("rb") as stream:
        return stream.read(len(GZIP_MAGIC)) == GZIP_MAGIC


def blocks(path: Location) -> Iterator[bytes]:
    with open_whole(path) as stream:
        while block := stream.read(PIECE_BYTES):
            yield block


@dataclass
class Source:
    """How far inflation has come, and why it stopped early."""

    consumed: int = 0
    """Bytes of the gzip file that gave what was unpacked so far."""
    reason: str = ""
    """One of :data:`DAMAGES`, or empty."""
    message: str = ""


def inflated(blocks: Iterator[bytes], source: Source) -> Iterator[bytes]:
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


class Stream:
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
