"""Published bytes to pixels: by the fastest decoder for what is wholly plain, by Pillow for all else.

Pillow has the last word: it refuses what is truncated (OpenCV paints the rest grey and returns success), and knows
every mode there is. kornia-rs (the Rust ``png`` crate, libjpeg-turbo) takes half the time for PNGs of 8 and 16 bits
and for JPEGs, and gives the same pixels (tests/test_images.py); it sees only files that hold nothing but a picture, and
what it does not like goes to Pillow, whose verdict counts.
"""

from __future__ import annotations

import io
import struct
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from kornia_rs.io import decode_image_jpegturbo, decode_image_png_u8, decode_image_png_u16
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.schema import Encoding

Image.MAX_IMAGE_PIXELS = 100_000_000  # the largest film of the five datasets has 18 million

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
"""First bytes of a file (PNG 3rd edition, 5.2)."""
PNG_START = PNG_SIGNATURE + b"\0\0\0\rIHDR"
"""These, and the head of the first chunk (11.2.1)."""
PLAIN_PNGS = {
    bytes([8, 0, 0, 0, 0]): ("L", "mono", decode_image_png_u8),
    bytes([8, 2, 0, 0, 0]): ("RGB", "rgb", decode_image_png_u8),
    bytes([16, 0, 0, 0, 0]): ("I;16", "mono", decode_image_png_u16),
}
"""Bytes 24–28 of a PNG (bit depth, colour type, compression, filter, interlace) to Pillow's mode and to the decoder."""
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
SPARSE = 16
"""Of so many pixels each way one is looked at first: in colour they differ already."""

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


def decode(data: bytes, *, drops_alpha: bool = False) -> tuple[str, Pixels, list[str]]:
    """Published mode, pixels (height, width) or (height, width, 3), uint8 or uint16, and what was done to them.

    Grey held in several equal channels becomes one; an opaque alpha channel goes; everything else is kept or refused.
    Raises :class:`ImageRefused` with one of ``empty-file``, ``not-an-image``, ``truncated-image``,
    ``undecodable-image``, ``oversized-image``, ``unsupported-mode``, ``alpha-channel``.
    """
    if not data:
        raise ImageRefused("empty-file", "the file has no bytes")
    mode, decoded, steps = _by_kornia(data) or _by_pillow(data)
    pixels, collapsed = _collapse(decoded, drops_alpha=drops_alpha)
    return mode, pixels, [*steps, *collapsed]


def _by_kornia(data: bytes) -> tuple[str, Pixels, list[str]] | None:
    """None for whatever is not wholly plain or not wholly sound: Pillow says what is to become of it."""
    header = plain_header(data)
    if header is None:
        return None
    try:
        pixels = _png_pixels(data, header) if header.encoding == "png" else _jpeg_pixels(data, header)
    except Exception:  # that is what it raises for every damage
        return None
    return header.mode, pixels if header.mode == "RGB" else pixels[..., 0], []


def plain_header(data: bytes) -> Header | None:
    """What a file says of its picture; None unless it is wholly plain: of such a one the header tells nothing yet."""
    try:
        return _plain_png(data) if data.startswith(PNG_START) else _plain_jpeg(data)
    except (IndexError, struct.error):  # it ends too early
        return None


def _plain_png(data: bytes) -> Header | None:
    known = PLAIN_PNGS.get(data[24:29])
    width, height = struct.unpack_from(">II", data, 16)
    if known is None or not _is_of_size(width, height) or not _has_plain_chunks(data):
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


def _plain_jpeg(data: bytes) -> Header | None:
    found = _jpeg_frame(data)
    if found is None:
        return None
    height, width, components = found
    if components not in JPEG_MODES or not _is_of_size(width, height):
        return None
    return Header("jpeg", JPEG_MODES[components], width, height)


def _jpeg_pixels(data: bytes, header: Header) -> Pixels:
    pixels: Pixels = decode_image_jpegturbo(data, "rgb" if header.mode == "RGB" else "mono")
    return pixels


def _jpeg_frame(data: bytes) -> tuple[int, int, int] | None:
    """Height, width and components of 8 bits; None unless every segment before the scan is a plain one."""
    if not data.startswith(b"\xff\xd8"):
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


def _is_of_size(width: int, height: int) -> bool:
    """Checked before memory is asked for."""
    return 0 < width * height <= Image.MAX_IMAGE_PIXELS  # type: ignore[operator]


def _by_pillow(data: bytes) -> tuple[str, Pixels, list[str]]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            _refuse_unsupported(image, data)
            mode = image.mode
            upright, steps = _upright(image)
            upright.load()
    except UnidentifiedImageError as error:
        raise ImageRefused("not-an-image", f"{len(data)} bytes that begin {data[:12]!r}") from error
    except Image.DecompressionBombError as error:
        raise ImageRefused("oversized-image", str(error)) from error
    except (OSError, SyntaxError, ValueError, struct.error) as error:
        reason = "truncated-image" if "truncated" in str(error).lower() else "undecodable-image"
        raise ImageRefused(reason, str(error) or type(error).__name__) from error
    expanded, expansion = _expand(upright)
    return mode, np.asarray(expanded), [*steps, *expansion]


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


def _collapse(pixels: npt.NDArray[Any], *, drops_alpha: bool) -> tuple[Pixels, list[str]]:
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
