"""Published bytes to pixels: by the fastest decoder for what is wholly plain, by Pillow for all else.

Pillow has the last word: it refuses what is truncated (OpenCV paints the rest grey and returns success), and knows
every mode there is. kornia-rs (the Rust ``png`` crate, libjpeg-turbo) takes half the time for PNGs of 8 and 16 bits
and for JPEGs, and gives the same pixels (tests/test_images.py); it sees only files that hold nothing but a picture, and
what it does not like goes to Pillow, whose verdict counts.
"""

from __future__ import annotations

import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from kornia_rs.io import decode_image_jpegturbo, decode_image_png_u8, decode_image_png_u16
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.limits import DEFAULT, Limits, variable
from tasks.schema import Encoding

warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")  # what is broken in Exif, to a terminal
Image.MAX_IMAGE_PIXELS = None  # it only warns, and not of bytes: see _refuse_large

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""First bytes of a file (PNG 3rd edition, 5.2)."""
PNG_START = PNG_SIGNATURE + b"\0\0\0\rIHDR"
"""These, and the head of the first chunk (11.2.1)."""
JPEG_SIGNATURE = b"\xff\xd8"
"""Start of image (ITU-T T.81, table B.1)."""
PLAIN_PNGS = {
    bytes([8, 0, 0, 0, 0]): ("L", "mono", decode_image_png_u8),
    bytes([8, 2, 0, 0, 0]): ("RGB", "rgb", decode_image_png_u8),
    bytes([16, 0, 0, 0, 0]): ("I;16", "mono", decode_image_png_u16),
}
"""Bytes 24–28 of a PNG (bit depth, colour type, compression, filter, interlace) to Pillow's mode and to the decoder."""
PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Of a pixel, by colour type (11.2.1)."""
ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
"""First row, first column, and steps of both, of the passes of an interlaced one."""
PIECE_BYTES, ZLIB_HEADER_BYTES = 2**20, 2
PLAIN_CHUNKS = frozenset(
    (b"IHDR", b"IDAT", b"IEND", b"bKGD", b"cHRM", b"gAMA", b"hIST", b"pHYs", b"sBIT", b"sRGB", b"tIME")
)
"""Those that change no pixel. Transparency, text (which may hold an orientation), Exif, animation and unknown ones do,
or may."""
PLAIN_SEGMENTS = frozenset((0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD, 0xE0, 0xFE))
"""Of a JPEG before its scan: frames of Huffman-coded DCT, tables, restart interval, JFIF, comment (ITU-T T.81, table
B.1). Exif and XMP may hold an orientation, Adobe's segment another colour space, MPF more pictures."""
JPEG_FRAMES = frozenset((0xC0, 0xC1, 0xC2))
JPEG_MODES = {1: "L", 3: "RGB"}
"""Components of a JPEG to Pillow's mode."""
MARKER = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
"""What stands between the segments of a JPEG; 0 within a scan is no marker, and a restart ends none (B.1.1.3)."""
START_OF_IMAGE, END_OF_IMAGE, START_OF_SCAN = 0xD8, 0xD9, 0xDA
SCAN = bytes((0xFF, START_OF_SCAN))
SEQUENTIAL, PROGRESSIVE = frozenset((0xC0, 0xC1, 0xC3, 0xC9, 0xCB)), frozenset((0xC2, 0xCA))
"""Frames of which one scan may hold all, and those that come in many (table B.1; hierarchical ones are not read)."""
CHANNELS = {"1": 1, "L": 1, "I;16": 2, "I": 4, "LA": 2, "RGB": 3}
"""Bytes of a pixel once it is decoded, by Pillow's mode; 4 of all others, palettes among them."""
SPARSE = 16
"""Of so many pixels each way one is looked at first: in colour they differ already."""

PILLOWS = (OSError, SyntaxError, ValueError, LookupError, TypeError, OverflowError)
"""What Pillow raises for files that do not hold together; a colour profile cut short is an :class:`IndexError`."""

Pixels = npt.NDArray[Any]
"""(height, width) or (height, width, 3), uint8 or uint16."""


class Header(NamedTuple):
    """What a file says of its picture before it is decoded."""

    encoding: Encoding
    mode: str
    """Pillow's."""
    width: int
    height: int


class ImageRefused(Exception):
    """One image cannot be used; ``args`` are the stable reason code and the detail."""


def decode(data: bytes, *, drops_alpha: bool = False, limits: Limits = DEFAULT) -> tuple[str, Pixels, list[str]]:
    """Published mode, pixels (height, width) or (height, width, 3), uint8 or uint16, and what was done to them.

    Grey held in several equal channels becomes one; an opaque alpha channel goes; everything else is kept or refused.
    What would take more memory or time than ``limits`` allow is refused by its header, before it is decoded.
    Raises :class:`ImageRefused` with one of ``empty-file``, ``not-an-image``, ``truncated-image``,
    ``undecodable-image``, ``oversized-image``, ``unsupported-mode``, ``alpha-channel``.
    """
    if not data:
        raise ImageRefused("empty-file", "the file has no bytes")
    if data.startswith(JPEG_SIGNATURE):
        refuse_many_scans(data, limits)
    mode, decoded, steps = _by_kornia(data, limits) or _by_pillow(data, limits)
    pixels, collapsed = collapse(decoded, drops_alpha=drops_alpha)
    return mode, pixels, [*steps, *collapsed]


def _by_kornia(data: bytes, limits: Limits) -> tuple[str, Pixels, list[str]] | None:
    """None for whatever is not wholly plain or not wholly sound: Pillow says what is to become of it."""
    header = plain_header(data, limits)
    if header is None:
        return None
    try:
        pixels = _png_pixels(data, header) if header.encoding == "png" else _jpeg_pixels(data, header)
    except Exception:  # that is what it raises for every damage
        return None
    return header.mode, pixels if header.mode == "RGB" else pixels[..., 0], []


def plain_header(data: bytes, limits: Limits = DEFAULT) -> Header | None:
    """What a file says of its picture; None unless it is wholly plain, and as small as ``limits`` ask: of such a one
    the header tells nothing yet."""
    try:
        return _plain_png(data, limits) if data.startswith(PNG_START) else _plain_jpeg(data, limits)
    except (IndexError, struct.error):  # it ends too early
        return None


def _plain_png(data: bytes, limits: Limits) -> Header | None:
    known = PLAIN_PNGS.get(data[24:29])
    width, height = struct.unpack_from(">II", data, 16)
    if known is None or not _is_of_size(known[0], width, height, limits) or not _has_plain_chunks(data):
        return None
    return Header("png", known[0], width, height)


def _png_pixels(data: bytes, header: Header) -> Pixels:
    """Every checksum but that of the whole is verified: one that is wrong alone is its encoder's fault, no damage."""
    _, channels, by = PLAIN_PNGS[data[24:29]]
    pixels: Pixels = by(data, (header.height, header.width), channels)
    return pixels


def _has_plain_chunks(data: bytes) -> bool:
    position = len(PNG_SIGNATURE)
    while position < len(data):
        if data[position + 4 : position + 8] not in PLAIN_CHUNKS:
            return False
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return position == len(data)


def _plain_jpeg(data: bytes, limits: Limits) -> Header | None:
    found = _jpeg_frame(data)
    if found is None:
        return None
    height, width, components = found
    if components not in JPEG_MODES or not _is_of_size(JPEG_MODES[components], width, height, limits):
        return None
    return Header("jpeg", JPEG_MODES[components], width, height)


def _jpeg_pixels(data: bytes, header: Header) -> Pixels:
    pixels: Pixels = decode_image_jpegturbo(data, "rgb" if header.mode == "RGB" else "mono")
    return pixels


def _jpeg_frame(data: bytes) -> tuple[int, int, int] | None:
    """Height, width and components of 8 bits; None unless every segment before the scan is a plain one."""
    if not data.startswith(JPEG_SIGNATURE):
        return None
    found = None
    position = 2
    while data[position] == 0xFF and data[position + 1] != 0xDA:
        marker = data[position + 1]
        if marker not in PLAIN_SEGMENTS:
            return None
        if marker in JPEG_FRAMES:
            precision, *found_here = struct.unpack_from(">BHHB", data, position + 4)
            found = None if precision != 8 else (found_here[0], found_here[1], found_here[2])
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return found if data[position] == 0xFF else None


def _is_of_size(mode: str, width: int, height: int, limits: Limits) -> bool:
    """Checked before memory is asked for."""
    return 0 < width * height * CHANNELS.get(mode, 4) <= limits.image_bytes


def refuse_many_scans(data: bytes, limits: Limits) -> None:
    """Each scan may be a few bytes, and is a pass over the whole picture: a thousand took ten seconds.

    Raises :class:`ImageRefused` with ``undecodable-image``.
    """
    most = limits.jpeg_scans
    if _has_more_scans(data, most):
        raise ImageRefused(
            "undecodable-image", f"a JPEG of more than {most} scans ({variable('jpeg_scans')}): it would take too long"
        )


def _has_more_scans(data: bytes, most: int) -> bool:
    """Looks no further than the header of a JPEG that holds all in one scan, and no closer than is needed at others:
    what is counted may lie within a segment."""
    scans, components, position = 0, 0, len(JPEG_SIGNATURE)
    is_progressive = False
    while scans <= most and (found := MARKER.search(data, position)):
        position = found.end()
        marker, length = data[position - 1], int.from_bytes(data[position : position + 2], "big")
        if marker == END_OF_IMAGE:
            break
        if marker in SEQUENTIAL or marker in PROGRESSIVE:
            components, is_progressive = int.from_bytes(data[position + 7 : position + 8]), marker in PROGRESSIVE
        if marker == START_OF_SCAN:
            scans += 1
            holds_all = not is_progressive and components <= int.from_bytes(data[position + 2 : position + 3])
            if holds_all or (scans == 1 and data.count(SCAN, position) < most):
                return False
        position += 0 if marker == START_OF_IMAGE else length
    return scans > most


def _refuse_large(image: Image.Image, limits: Limits) -> None:
    if image.width * image.height and not _is_of_size(image.mode, image.width, image.height, limits):
        mib = image.width * image.height * CHANNELS.get(image.mode, 4) / 2**20
        raise ImageRefused(
            "oversized-image",
            f"{image.width} x {image.height} pixels of mode {image.mode} would take {mib:,.0f} MiB; "
            f"the most is {limits.image_mib} ({variable('image_mib')})",
        )


def _by_pillow(data: bytes, limits: Limits) -> tuple[str, Pixels, list[str]]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            _refuse_large(image, limits)
            _refuse_unsupported(image, data)
            mode = image.mode
            upright, steps = _upright(image)
            upright.load()
            if image.format == "PNG":
                _insist_on_all_pixels(data)
    except UnidentifiedImageError as error:
        raise ImageRefused("not-an-image", f"{len(data)} bytes that begin {data[:12]!r}") from error
    except (*PILLOWS, struct.error, zlib.error) as error:
        reason = "truncated-image" if "truncated" in str(error).lower() else "undecodable-image"
        raise ImageRefused(reason, str(error) or type(error).__name__) from error
    expanded, expansion = _expand(upright)
    return mode, np.asarray(expanded), [*steps, *expansion]


def _insist_on_all_pixels(data: bytes) -> None:
    """Pillow looks at no checksum of the pixels, and leaves rows black that are not there: see what it has not seen.

    Raises :class:`ImageRefused`. What it unpacks is counted, and not kept.
    """
    width, height, depth, kind, _, _, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    bits = depth * PNG_CHANNELS[kind]
    wanted = sum(
        rows * (1 + (columns * bits + 7) // 8)
        for rows, columns in (_passes(width, height) if interlace else [(height, width)])
        if columns
    )
    inflater, found = zlib.decompressobj(-zlib.MAX_WBITS), 0  # without the checksum of the whole, as everywhere
    header_bytes = ZLIB_HEADER_BYTES
    for pixels in _pixel_chunks(data):
        header_bytes, pixels = max(header_bytes - len(pixels), 0), pixels[header_bytes:]
        while found < wanted and pixels:
            found += len(inflater.decompress(pixels, PIECE_BYTES))
            pixels = inflater.unconsumed_tail
    if found < wanted:
        raise ImageRefused("truncated-image", f"its pixels end after {found} of {wanted} bytes")


def _passes(width: int, height: int) -> list[tuple[int, int]]:
    """Rows and columns of the seven pictures that an interlaced PNG consists of (Adam7, PNG 8.2)."""
    return [
        ((height - top + down - 1) // down, (width - left + along - 1) // along) for top, left, down, along in ADAM7
    ]


def _pixel_chunks(data: bytes) -> Iterator[bytes]:
    position = len(PNG_SIGNATURE)
    while (kind := data[position + 4 : position + 8]) not in (b"IEND", b""):
        end = position + 8 + int.from_bytes(data[position : position + 4], "big")
        if kind == b"IDAT":
            if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
                raise ImageRefused("undecodable-image", f"the checksum of its pixels at byte {position} does not fit")
            yield data[position + 8 : end]
        position = end + 4


def _refuse_unsupported(image: Image.Image, data: bytes) -> None:
    """Pillow narrows 16-bit colour to 8 bits and reads only the first frame, without a word: refuse both instead."""
    if image.format == "PNG" and data[24] == 16 and image.mode not in ("I;16", "I"):
        raise ImageRefused("unsupported-mode", f"16-bit PNG of colour type {data[25]}")
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16"):
        raise ImageRefused("unsupported-mode", f"mode {image.mode}")
    if image.mode in ("1", "I;16") and "transparency" in image.info:
        raise ImageRefused("alpha-channel", f"mode {image.mode} with a transparent level {image.info['transparency']}")
    if getattr(image, "n_frames", 1) > 1:
        raise ImageRefused("unsupported-mode", f"{getattr(image, 'n_frames', 1)} frames")


def _upright(image: Image.Image) -> tuple[Image.Image, list[str]]:
    orientation = image.getexif().get(0x0112, 1)
    if orientation not in range(2, 9):  # 1 is upright; others do not exist in EXIF 2.32, and are ignored by readers
        return image, []
    return ImageOps.exif_transpose(image), [f"exif orientation {orientation}"]


def _expand(image: Image.Image) -> tuple[Image.Image, list[str]]:
    """Palettes and bits to channels; nothing is lost by these."""
    has_transparency = "transparency" in image.info
    if image.mode == "1":
        return image.convert("L"), ["1 bit to 8"]
    if image.mode in ("P", "PA"):
        return image.convert("RGBA" if has_transparency or image.mode == "PA" else "RGB"), ["palette to rgb"]
    if has_transparency and image.mode in ("L", "RGB"):
        return image.convert("LA" if image.mode == "L" else "RGBA"), ["transparent colour to alpha"]
    return image, []


def collapse(pixels: npt.NDArray[Any], *, drops_alpha: bool) -> tuple[Pixels, list[str]]:
    """Without a channel of transparency, and of equal channels one; with what was done.

    Raises :class:`ImageRefused` with ``alpha-channel``.
    """
    steps = []
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        alpha = pixels[..., -1]
        is_opaque = bool((alpha == np.iinfo(pixels.dtype).max).all())
        if not is_opaque and not drops_alpha:
            raise ImageRefused("alpha-channel", f"alpha runs from {alpha.min()} to {alpha.max()}")
        pixels = pixels[..., :-1]
        steps.append("opaque alpha dropped" if is_opaque else "alpha dropped")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    pixels = np.ascontiguousarray(pixels)
    grey = _grey_of_equal_channels(pixels) if pixels.ndim == 3 else None
    return (pixels, steps) if grey is None else (grey, [*steps, "equal channels to grey"])


def _grey_of_equal_channels(pixels: Pixels) -> Pixels | None:
    """One of the channels (height, width) if all are the same."""
    few = pixels[::SPARSE, ::SPARSE]
    if not np.array_equal(few[..., 0], few[..., 1]):
        return None
    first, *others = cv2.split(pixels)
    return np.asarray(first) if all(np.array_equal(first, other) for other in others) else None
