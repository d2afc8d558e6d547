"""Seek points: where inflation can begin again, made while the file is read for other reasons."""

from __future__ import annotations

import io
import queue
import threading

from indexed_gzip import IndexedGzipFile

from tasks.tarballs.streams import PIECE_BYTES

SPACING_BYTES = 8 * 2**20
"""Unpacked bytes between seek points. A point holds 32 KiB, so those of 3.5 GB take 14 MiB."""
FAR = 2**60


class SeekPoints:
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
