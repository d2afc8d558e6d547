"""Image files that are odd, damaged, or meant to do harm; every pixel is made up."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from functools import cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 64
SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, RGBA = 0, 2, 6
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, and steps of both, of the seven passes (PNG 3rd edition, 8.2)."""

Pixels = npt.NDArray[Any]


def film(number: int, side: int = SIDE) -> Pixels:
    """A picture that is like no other: blurred noise, of its own for every number."""
    noise = np.random.default_rng(number).integers(0, 256, (side // 8, side // 8), np.uint8)
    return np.asarray(cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC))


def chunk(kind: bytes, data: bytes = b"", crc32: int | None = None) -> bytes:
    """Of a PNG, with its checksum or another one."""
    check = zlib.crc32(kind + data) if crc32 is None else crc32
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)


def header(width: int, height: int, depth: int = 8, kind: int = GREY, interlace: int = 0) -> bytes:
    """Signature and first chunk."""
    return SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlace))


def rows(pixels: Pixels) -> bytes:
    """As they stand in a PNG before they are packed: no filter, the higher byte first."""
    big = pixels.astype(pixels.dtype.newbyteorder(">"))
    return b"".join(b"\0" + row.tobytes() for row in big)


def png(pixels: Pixels, *, before: bytes = b"", after: bytes = b"", behind: bytes = b"") -> bytes:
    """With chunks before and after the pixels, and bytes behind the end."""
    kind = GREY if pixels.ndim == 2 else {3: RGB, 4: RGBA}[pixels.shape[2]]
    start = header(pixels.shape[1], pixels.shape[0], pixels.dtype.itemsize * 8, kind)
    return start + before + chunk(b"IDAT", zlib.compress(rows(pixels))) + after + chunk(b"IEND") + behind


def interlaced(pixels: Pixels) -> bytes:
    """In seven passes (Adam7)."""
    height, width = pixels.shape
    passes = b"".join(rows(pixels[top::down, left::along]) for top, left, down, along in ADAM7)
    return header(width, height, interlace=1) + chunk(b"IDAT", zlib.compress(passes)) + chunk(b"IEND")


@cache
def zeros(size_bytes: int) -> bytes:
    """So many, packed by zlib some hundred to one."""
    packer = zlib.compressobj(1)
    whole, rest = divmod(size_bytes, 2**20)
    parts = [*(packer.compress(bytes(2**20)) for _ in range(whole)), packer.compress(bytes(rest))]
    return b"".join([*parts, packer.flush()])


def black(width: int, height: int, kind: int) -> bytes:
    """A sound PNG of nothing, as large as is wanted."""
    channels = {GREY: 1, RGB: 3, RGBA: 4}[kind]
    return header(width, height, kind=kind) + chunk(b"IDAT", zeros(height * (1 + width * channels))) + chunk(b"IEND")


def largest(side: int) -> bytes:
    """A sound grey PNG with a picture in its upper left corner, black else."""
    corner = np.zeros((1024, side), np.uint8)
    corner[:, :1024] = film(99, 1024)
    packer = zlib.compressobj(6)
    parts = [packer.compress(rows(corner))]
    parts += [packer.compress(bytes(1 + side)) for _ in range(side - len(corner))]
    return header(side, side) + chunk(b"IDAT", b"".join([*parts, packer.flush()])) + chunk(b"IEND")


def with_text(pixels: Pixels, size_bytes: int, count: int = 1, *, is_behind: bool = False) -> bytes:
    """Compressed text that unpacks to so many bytes, so many times."""
    texts = chunk(b"zTXt", b"Comment\0\0" + zeros(size_bytes)) * count
    return png(pixels, after=texts) if is_behind else png(pixels, before=texts)


def with_profile(pixels: Pixels, size_bytes: int) -> bytes:
    """A colour profile that unpacks to so many bytes."""
    return png(pixels, before=chunk(b"iCCP", b"bomb\0\0" + zeros(size_bytes)))


def animated(first: Pixels, second: Pixels) -> bytes:
    """An APNG of two frames."""
    height, width = first.shape

    def control(number: int) -> bytes:
        return chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, 1, 10, 0, 0))

    again = control(1) + chunk(b"fdAT", struct.pack(">I", 2) + zlib.compress(rows(second)))
    return png(first, before=chunk(b"acTL", struct.pack(">II", 2, 0)) + control(0), after=again)


def with_bad_adler(pixels: Pixels) -> bytes:
    """Every chunk has its checksum, the packed pixels as a whole have not."""
    packed = bytearray(zlib.compress(rows(pixels)))
    packed[-1] ^= 1
    return header(pixels.shape[1], pixels.shape[0]) + chunk(b"IDAT", bytes(packed)) + chunk(b"IEND")


def with_bad_crc(pixels: Pixels) -> bytes:
    """The chunk of the pixels has another checksum."""
    return (
        header(pixels.shape[1], pixels.shape[0]) + chunk(b"IDAT", zlib.compress(rows(pixels)), crc32=1) + chunk(b"IEND")
    )


def with_too_few_rows(pixels: Pixels) -> bytes:
    """The header promises twice as many."""
    return header(pixels.shape[1], 2 * pixels.shape[0]) + png(pixels)[len(header(1, 1)) :]


def palette_with_alpha(pixels: Pixels) -> bytes:
    """Grey levels as a palette, the darker half of which is transparent."""
    image = Image.fromarray(pixels).convert("P")
    image.putpalette([level for level in range(256) for _ in range(3)])
    image = Image.frombytes("P", image.size, pixels.tobytes())
    image.putpalette([level for level in range(256) for _ in range(3)])
    return _saved(image, "PNG", transparency=bytes(128) + bytes([255]) * 128)


def jpeg(pixels: Pixels, **options: Any) -> bytes:
    """As Pillow writes it; ``mode`` CMYK for four channels."""
    return _saved(Image.fromarray(pixels), "JPEG", **options)


def cmyk(pixels: Pixels) -> bytes:
    """A printer's colours."""
    return _saved(Image.fromarray(np.dstack([pixels] * 4), "CMYK"), "JPEG")


def turned(pixels: Pixels) -> bytes:
    """A JPEG whose Exif says that it is to be turned by a quarter."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return jpeg(pixels, exif=exif)


def of_many_scans(pixels: Pixels, count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again."""
    whole = jpeg(pixels, progressive=True)
    last = whole.rindex(b"\xff\xda")
    return whole[:last] + whole[last:-2] * count + whole[-2:]


def with_broken_exif(pixels: Pixels) -> bytes:
    """An orientation that lies behind the end of its block."""
    block = b"Exif\0\0MM\0*" + struct.pack(">I", 0x7FFFFFFF)
    whole = jpeg(pixels)
    return whole[:2] + b"\xff\xe1" + struct.pack(">H", 2 + len(block)) + block + whole[2:]


def of_many_chunks(pixels: Pixels, count: int) -> bytes:
    """A PNG with the time in it, over and over."""
    return png(pixels, before=chunk(b"tIME", bytes((7, 0xE6, 1, 1, 0, 0, 0))) * count)


def dicom(pixels: Pixels) -> bytes:
    """The start of a DICOM file (PS3.10, 7.1) with the pixels behind it."""
    return bytes(128) + b"DICM" + b"\x02\0\0\0UL\x04\0" + bytes(4) + pixels.tobytes()


def saved(pixels: Pixels, form: str) -> bytes:
    """In another format."""
    return _saved(Image.fromarray(pixels), form)


def giant_jpeg(side: int) -> bytes:
    """A JPEG whose frame claims to be so large."""
    whole = jpeg(film(3))
    at = whole.index(b"\xff\xc0") + 5
    return whole[:at] + struct.pack(">HH", side, side) + whole[at + 4 :]


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, form, **options)
    return sink.getvalue()


def joined(parts: Iterable[bytes]) -> bytes:
    """One after the other."""
    return b"".join(parts)
