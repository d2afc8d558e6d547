"""Decode → inspect → normalise → encode: bytes in, bytes and facts out. Knows no archive, table or shard.

Pillow decodes because it refuses what is truncated (OpenCV paints the rest grey and returns success); OpenCV reduces
and encodes because it is the fastest that is exact.
"""

from __future__ import annotations

import hashlib
import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks import image_checks, scan_sector
from tasks.schema import Encoding, ImageRules, Transform

cv2.setNumThreads(1)  # one image per process at a time: Dask's workers are the parallelism
Image.MAX_IMAGE_PIXELS = 100_000_000  # the largest film of the five datasets has 18 million
PNG_LEVEL = 1
"""zlib level: 224 px grey at level 6 is 4 % smaller and takes 5 times as long (measured, this file's defaults)."""
JPEG_QUALITY = 95
"""Where none is given."""
HISTOGRAM_BINS = 64
"""Bins over the full range of the bit depth, kept per image for the report."""
THUMBNAIL_SIDE = 64
PICTURE_SIDE = 128
"""Pixels; what images are compared with each other by, see :mod:`tasks.fingerprints`."""

SIGNATURES: Mapping[Encoding, bytes] = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff"}
"""First bytes of a file (PNG 3rd edition, 5.2; ITU-T T.81, B.1.1.3)."""
KEPT = "original bytes"
"""The transform of an image that is stored as it was published."""

Pixels = npt.NDArray[Any]
"""(height, width) or (height, width, 3), uint8 or uint16."""


class ImageRefused(Exception):
    """One image cannot be used; ``args`` are the stable reason code and the detail."""


@dataclass(frozen=True)
class Converted:
    """One image, encoded, with its facts."""

    encoded: bytes
    is_original: bool
    """Whether these are the published bytes, untouched."""
    histogram: list[int]
    """64 pixel counts over the full range of the bit depth, at published size, channels added up."""
    thumbnail: bytes
    """64 × 64 grey levels of 8 bits, row by row: area averages, filled up to a square."""
    picture: bytes
    """The same of 128 × 128."""
    facts: dict[str, Any]
    """Values of :data:`tasks.schema.IMAGE_COLUMNS`."""


def convert(data: bytes, transform: Transform, rules: ImageRules) -> Converted:
    """Turn one published image file into the stored form.

    At native size a file that needs no step and is in the wanted format is kept byte for byte.

    Raises :class:`ImageRefused` with one of ``empty-file``, ``not-an-image``, ``truncated-image``,
    ``undecodable-image``, ``oversized-image``, ``unsupported-mode``, ``alpha-channel``, ``bit-depth``,
    ``no-scan-found``.
    """
    mode, decoded, steps = decode(data, drops_alpha=rules.drops_alpha)
    published, cleaned = _clean(decoded, rules)
    steps += cleaned
    luma = _luma(published)
    counts = _counts(published)
    stored, reduced = _reduce(published, transform.size)
    is_kept = transform.size is None and not steps and data.startswith(SIGNATURES[transform.encoding])
    encoded = data if is_kept else _encode(stored, transform)
    source_sha256 = hashlib.sha256(data).hexdigest()
    facts = {
        "source_bytes": len(data),
        "source_sha256": source_sha256,
        "source_mode": mode,
        "source_width": published.shape[1],
        "source_height": published.shape[0],
        "width": stored.shape[1],
        "height": stored.shape[0],
        "channels": 1 if stored.ndim == 2 else stored.shape[2],
        "bit_depth": stored.dtype.itemsize * 8,
        "pixel_sha256": pixel_hash(published),
        "image_bytes": len(encoded),
        "image_sha256": source_sha256 if is_kept else hashlib.sha256(encoded).hexdigest(),
        "transform": KEPT if is_kept else "; ".join([*steps, *reduced, transform.encoding]),
        **_intensities(counts),
        **image_checks.facts(luma, counts if luma is published else _counts(luma)),
    }
    histogram = counts.reshape(HISTOGRAM_BINS, -1).sum(axis=1).tolist()
    picture = picture_of(luma)
    return Converted(encoded, is_kept, histogram, thumbnail_of(picture).tobytes(), picture.tobytes(), facts)


def decode(data: bytes, *, drops_alpha: bool = False) -> tuple[str, Pixels, list[str]]:
    """Published mode, pixels (height, width) or (height, width, 3), uint8 or uint16, and what was done to them.

    Grey held in several equal channels becomes one; an opaque alpha channel goes; everything else is kept or refused.
    """
    if not data:
        raise ImageRefused("empty-file", "the file has no bytes")
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
    pixels, collapsed = _collapse(np.asarray(expanded), drops_alpha=drops_alpha)
    return mode, pixels, [*steps, *expansion, *collapsed]


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
    elif pixels.ndim == 3 and _channels_agree(pixels):
        pixels = pixels[..., 0]
        steps.append("equal channels to grey")
    return np.ascontiguousarray(pixels), steps


def _clean(pixels: Pixels, rules: ImageRules) -> tuple[Pixels, list[str]]:
    """What the dataset's rules take away: writing around the scan, and colour. Deeper than 8 bits is left alone."""
    steps = []
    luma = _luma(pixels) if rules.hides_outside_scan or rules.to_grey else pixels
    cleaned = luma if rules.to_grey else pixels
    if rules.hides_outside_scan and pixels.dtype == np.uint8:
        is_scan = scan_sector.find(luma)
        if is_scan is None:
            raise ImageRefused(
                "no-scan-found", "no scan can be told from the writing on this screen, so all would stay"
            )
        cleaned = cleaned * (is_scan if cleaned.ndim == 2 else is_scan[..., None])
        steps.append(f"outside the scan blackened ({1 - is_scan.mean():.0%} of the frame)")
    if rules.to_grey and pixels.ndim == 3:
        steps.append("colour to grey (BT.601)")
    return cleaned, steps


def _luma(pixels: Pixels) -> Pixels:
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def _channels_agree(pixels: npt.NDArray[Any]) -> bool:
    return bool(np.array_equal(pixels[..., 0], pixels[..., 1]) and np.array_equal(pixels[..., 1], pixels[..., 2]))


def pixel_hash(pixels: Pixels) -> str:
    """SHA-256 (hex) of shape, dtype and pixels: equal for the same picture in any file format."""
    content = hashlib.sha256(f"{pixels.dtype.name} {'x'.join(map(str, pixels.shape))}\n".encode())
    content.update(np.ascontiguousarray(pixels).data)  # its buffer, not a copy of it
    return content.hexdigest()


def _counts(pixels: Pixels) -> npt.NDArray[np.int64]:
    """Pixels of each grey level that the type has, channels added up."""
    levels = int(np.iinfo(pixels.dtype).max) + 1
    planes = [pixels] if pixels.ndim == 2 else [np.ascontiguousarray(pixels[..., i]) for i in range(pixels.shape[2])]
    counts = np.zeros(levels, np.int64)
    for plane in planes:
        counts += cv2.calcHist([plane], [0], None, [levels], [0, levels]).ravel().astype(np.int64)
    return counts


def _intensities(counts: npt.NDArray[np.int64]) -> dict[str, float]:
    """Minimum, maximum, mean and standard deviation in grey levels, exact."""
    values = np.arange(len(counts), dtype=np.float64)
    total = counts.sum()
    mean = float((counts * values).sum() / total)
    present = np.flatnonzero(counts)
    return {
        "intensity_min": float(present[0]),
        "intensity_max": float(present[-1]),
        "intensity_mean": mean,
        "intensity_std": float(np.sqrt((counts * (values - mean) ** 2).sum() / total)),
    }


def _reduce(pixels: Pixels, size: int | None) -> tuple[Pixels, list[str]]:
    """Area-averaged reduction so that the longer side is ``size``; smaller images stay as they are."""
    height, width = pixels.shape[:2]
    if size is None or max(height, width) <= size:
        return pixels, []
    scale = size / max(height, width)
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    reduced = cv2.resize(pixels, target, interpolation=cv2.INTER_AREA)
    return reduced, [f"area {width}x{height} to {target[0]}x{target[1]}"]


def thumbnail_of(picture: Pixels) -> Pixels:
    """64 × 64 of the grey levels of :func:`picture_of`."""
    return cv2.resize(picture, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)


def picture_of(pixels: Pixels) -> Pixels:
    """128 × 128 grey levels of 8 bits: what images are compared with each other by.

    The longer side is scaled to fit and the shorter one filled up with black, so that an image that was turned, by
    whatever angle, becomes the same picture, turned.
    """
    luma = _luma(pixels)
    # Area averages of a smaller image would be blocks, which no other copy of it has.
    way = cv2.INTER_AREA if max(luma.shape) >= PICTURE_SIDE else cv2.INTER_LINEAR
    height, width = (max(1, round(side * PICTURE_SIDE / max(luma.shape))) for side in luma.shape)
    small = cv2.resize(luma, (width, height), interpolation=way)
    top, left = (PICTURE_SIDE - height) // 2, (PICTURE_SIDE - width) // 2
    small = cv2.copyMakeBorder(
        small, top, PICTURE_SIDE - height - top, left, PICTURE_SIDE - width - left, cv2.BORDER_CONSTANT, value=(0,)
    )
    if small.dtype != np.uint8:  # few of 16 bits use all of them
        small = cv2.convertScaleAbs(small, alpha=255 / image_checks.white_level(int(luma.max()), 16))
    return small


def _encode(pixels: Pixels, transform: Transform) -> bytes:
    if transform.encoding == "jpeg" and pixels.dtype != np.uint8:
        raise ImageRefused("bit-depth", "16-bit pixels do not fit a JPEG: use --encoding png")
    settings = {
        "png": [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL],
        "jpeg": [cv2.IMWRITE_JPEG_QUALITY, transform.quality or JPEG_QUALITY],
    }[transform.encoding]
    ordered = pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    is_encoded, buffer = cv2.imencode(f".{transform.extension}", ordered, settings)
    if not is_encoded:
        raise ImageRefused("undecodable-image", f"OpenCV could not encode {pixels.shape} {pixels.dtype}")
    return buffer.tobytes()
