"""Encoded images to pixels of one size and depth. Imports neither pandas nor pyarrow: decoding processes use it."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from scanmill.refusal import ReleaseRefused

try:
    from kornia_rs.io import decode_image_png_u8
except ImportError:  # 2.3 times as slow then, and the same pixels
    decode_image_png_u8 = None

Pixels: TypeAlias = "npt.NDArray[Any]"
"""(height, width) grey, uint8 or uint16."""
Encoded: TypeAlias = "bytes | memoryview"

WIDEN = 257
"""65535 / 255: what white of 8 bits has to be multiplied by to be white of 16."""
GREY_PNG = (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", bytes([8, 0, 0, 0, 0]))
"""Bytes 0–15 and 24–28 of a PNG of one channel of 8 bits, not interlaced (PNG, 3rd edition, 5.2 and 11.2.1)."""
MOST_PIXELS = 100_000_000
"""As in conversion, which refuses larger images."""
MOST_BYTES = 2 * MOST_PIXELS
"""Of the pixels that a header claims; decoding takes two and a half times that for a moment."""
PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\xff\xd8\xff"
"""Shards hold no other kind of file, and OpenCV has decoders of two dozen others, which are not for strangers."""
PNG_CHANNELS = {0: 1, 2: 3, 3: 4, 4: 4, 6: 4}
"""Colour type (PNG, 3rd edition, 11.2.1) to channels as OpenCV has them."""
DEFLATED, MOST_UNPACKED = 1040, 32
"""Times as many bytes as deflate can make of some (1032, zlib's technical notes), and as pixels can be unpacked to: of
one bit to a byte, of an index to four channels."""
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of a frame (ITU-T T.81, table B.1)."""
MOST_OPEN = 256
"""Files that stay open at the same time; a process may have 1,024 by default."""


class Piece(NamedTuple):
    """Where one encoded image is."""

    sample: str
    shard: str
    """Path of its shard, for messages."""
    sha256: str
    """Empty where it is not to be checked."""
    path: str
    """File of this machine that it lies in; empty where ``content`` holds it."""
    offset: int
    length: int
    content: Encoded


class Form(NamedTuple):
    """What pixels are wanted."""

    height: int
    width: int
    bits: int
    is_letterboxed: bool
    """Else the images have this size already."""


class Files:
    """Shards of this machine, open for reading at any place by any thread."""

    def __init__(self) -> None:
        """Nothing is open yet."""
        self._open: dict[str, int] = {}
        self._turn = threading.Lock()

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Bytes from there on; fewer where the file ends before."""
        descriptor = self._open.get(path)
        if descriptor is None:
            with self._turn:
                descriptor = self._open.get(path)
                if descriptor is None and len(self._open) < MOST_OPEN:
                    descriptor = self._open[path] = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        if descriptor is not None:
            return os.pread(descriptor, length, offset)
        with open(path, "rb", buffering=0) as stream:  # noqa: PTH123 (one of very many, opened for each image)
            return os.pread(stream.fileno(), length, offset)

    def close(self) -> None:
        """All of them; nothing may be reading."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()


Decode: TypeAlias = "Callable[[Encoded], Pixels | None]"


def decode(encoded: Encoded) -> Pixels | None:
    """Grey pixels in their own depth, by OpenCV, which lets other threads run; colour becomes luma. None where it is no
    image."""
    length = _trusted_length(encoded)
    if not length:
        return None
    try:
        pixels: Pixels | None = cv2.imdecode(np.frombuffer(encoded, np.uint8, length), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    if pixels is None or pixels.ndim == 2:
        return pixels
    grey: Pixels = cv2.cvtColor(pixels[..., :3], cv2.COLOR_BGR2GRAY)
    return grey


def _trusted_length(encoded: Encoded) -> int:
    """How many bytes, from the first, of a PNG or a JPEG OpenCV may be given; 0 for anything else, and for those whose
    header promises too many pixels."""
    if encoded[:16] == PNG_START and len(encoded) > 25:
        return _length_of_chunks(encoded) if 0 < _claimed_by_png(encoded) <= MOST_BYTES else 0
    return len(encoded) if encoded[:3] == JPEG_START and 0 < _claimed_by_jpeg(encoded) <= MOST_BYTES else 0


def _claimed_by_png(encoded: Encoded) -> int:
    """Bytes of the pixels that its header promises; 0 where so many bytes cannot hold them."""
    width, height = (int.from_bytes(encoded[at : at + 4], "big") for at in (16, 20))
    claimed = width * height * PNG_CHANNELS.get(encoded[25], 0) * (2 if encoded[24] == 16 else 1)
    can_be = len(encoded) * DEFLATED * (MOST_UNPACKED if encoded[24] < 8 or encoded[25] == 3 else 1)
    return claimed if claimed <= can_be else 0


def _length_of_chunks(encoded: Encoded) -> int:
    """Where the last chunk of a PNG ends; 0 where one is cut off or there are no pixels.

    OpenCV asks for the memory of a chunk before it reads it, and looks for pixels behind the last one, too.
    """
    at, has_pixels = 8, False
    while at + 12 <= len(encoded):
        end = at + 12 + int.from_bytes(encoded[at : at + 4], "big")
        kind = encoded[at + 4 : at + 8]
        has_pixels |= kind == b"IDAT"
        if kind == b"IEND":
            return end if has_pixels and end <= len(encoded) else 0
        at = end
    return 0


def _claimed_by_jpeg(encoded: Encoded) -> int:
    at = 2
    while at + 10 <= len(encoded) and encoded[at] == 0xFF:
        marker = encoded[at + 1]
        if marker in JPEG_FRAMES:
            height, width = (int.from_bytes(encoded[begin : begin + 2], "big") for begin in (at + 5, at + 7))
            return height * width * encoded[at + 9]
        # Fill bytes may stand before a marker.
        at += 1 if marker == 0xFF else 2 + int.from_bytes(encoded[at + 2 : at + 4], "big")
    return 0


def decode_alone(encoded: Encoded) -> Pixels | None:
    """The same pixels in less than half the time for grey PNG of 8 bits, but no other thread of the process runs
    meanwhile."""
    if decode_image_png_u8 is None or encoded[:16] != GREY_PNG[0] or encoded[24:29] != GREY_PNG[1]:
        return decode(encoded)
    size = (int.from_bytes(encoded[20:24], "big"), int.from_bytes(encoded[16:20], "big"))
    if size[0] * size[1] > MOST_PIXELS:
        return decode(encoded)
    try:
        pixels: Pixels = decode_image_png_u8(bytes(encoded), size, "mono")
    except Exception:  # that is what it raises for every damage
        return None
    return pixels[..., 0]


def fitted(pixels: Pixels, size: int) -> Pixels:
    """Letterboxed: longer side scaled down to ``size`` by area averages, never enlarged; centred on black."""
    height, width = pixels.shape
    if max(height, width) > size:
        scale = size / max(height, width)
        height, width = max(1, round(height * scale)), max(1, round(width * scale))
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    if (height, width) == (size, size):
        return pixels
    box = np.zeros((size, size), pixels.dtype)
    top, left = (size - height) // 2, (size - width) // 2
    box[top : top + height, left : left + width] = pixels
    return box


def at_depth(pixels: Pixels, bits: int) -> Pixels:
    """8 bits to 16 times 257; 16 bits to 8 as the nearest integer to a 257th."""
    if pixels.dtype.itemsize * 8 == bits:
        return pixels
    if bits == 16:
        return pixels.astype(np.uint16) * np.uint16(WIDEN)
    return ((pixels.astype(np.uint32) + WIDEN // 2) // WIDEN).astype(np.uint8)


def read_piece(piece: Piece, files: Files) -> Encoded:
    """Its bytes, checked. Raises :class:`ReleaseRefused` where they are not those of the sample table."""
    try:
        encoded = piece.content if not piece.path else files.read(piece.path, piece.offset, piece.length)
    except OSError as error:
        raise OSError(f"{piece.shard}: sample {piece.sample} cannot be read: {error}") from error
    if len(encoded) != piece.length:
        raise ReleaseRefused(f"{piece.shard}: sample {piece.sample} is cut off: {len(encoded)} of {piece.length} bytes")
    if piece.sha256 and hashlib.sha256(encoded).hexdigest() != piece.sha256:
        raise ReleaseRefused(f"{piece.shard}: sample {piece.sample} is damaged: bytes were changed (sha256 differs)")
    return encoded


def decode_piece(piece: Piece, files: Files, decode: Decode = decode) -> Pixels:
    """Its grey pixels in their own depth. Raises :class:`ReleaseRefused` for damage."""
    pixels = decode(read_piece(piece, files))
    if pixels is None:
        raise ReleaseRefused(f"{piece.shard}: sample {piece.sample} cannot be decoded")
    return pixels


def fill(target: npt.NDArray[Any], pieces: Sequence[Piece], form: Form, files: Files, decode: Decode = decode) -> None:
    """Decode every piece into its place of ``target`` (pieces, 1, height, width), of the form's depth.

    Raises :class:`ReleaseRefused` for what is damaged, naming shard and sample.
    """
    for number, piece in enumerate(pieces):
        pixels = decode_piece(piece, files, decode)
        if form.is_letterboxed:
            pixels = fitted(pixels, form.height)
        if pixels.shape != (form.height, form.width):
            raise ReleaseRefused(
                f"{piece.shard}: sample {piece.sample} has {pixels.shape[1]} × {pixels.shape[0]} pixels, "
                f"samples.parquet says {form.width} × {form.height}"
            )
        target[number, 0] = at_depth(pixels, form.bits)
