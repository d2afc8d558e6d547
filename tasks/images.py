"""Decode → inspect → normalise → encode: bytes in, bytes and facts out. Knows no archive, table or shard.

How bytes become pixels is in :mod:`tasks.decoding`, how pixels become bytes in :mod:`tasks.encoding`, how many become
few in :mod:`tasks.reduction`. Everything that is told of an image is taken from the pixels decoded once.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tasks import image_checks, scan_sector
from tasks.decoding import ImageRefused, Pixels, decode
from tasks.dicom.pixels import decode as decode_dicom
from tasks.encoding import SIGNATURES, encode
from tasks.limits import DEFAULT, Limits
from tasks.reduction import reduced
from tasks.schema import Dicom, ImageRules, Transform

cv2.setNumThreads(1)  # one image per process at a time: Dask's workers are the parallelism
HISTOGRAM_BINS = 64
"""Bins over the full range of the bit depth, kept per image for the report."""
THUMBNAIL_SIDE = 64
PICTURE_SIDE = 128
"""Pixels; what images are compared with each other by, see :mod:`tasks.fingerprints`."""
WORTH_PAIRING = 2**18
"""Pixels from which on levels are counted in pairs: there are 65,536 of these to add up afterwards."""
KEPT = "original bytes"
"""The transform of an image that is stored as it was published."""


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


def convert(
    data: bytes,
    transform: Transform,
    rules: ImageRules,
    limits: Limits = DEFAULT,
    dicom: Dicom | None = None,
    frame: int | None = None,
    source_sha256: str = "",
) -> Converted:
    """Turn one published image file into the stored form.

    At native size a file that needs no step and is in the wanted format is kept byte for byte. ``dicom``: of a dataset
    of DICOM files; ``frame``: which one of such a file, from 1, None where it has one; ``source_sha256``: of the file,
    where it is known already.

    Raises :class:`ImageRefused` with one of ``empty-file``, ``not-an-image``, ``truncated-image``,
    ``undecodable-image``, ``oversized-image``, ``unsupported-mode``, ``alpha-channel``, ``bit-depth``,
    ``no-scan-found``.
    """
    if dicom is None:
        mode, decoded, steps = decode(data, drops_alpha=rules.drops_alpha, limits=limits)
    else:
        mode, decoded, steps = decode_dicom(data, frame, dicom, limits)
    published, cleaned = _clean(decoded, rules)
    steps += cleaned
    luma = _luma(published)
    counts = _counts(published)
    stored, reduction = _reduce(published, transform.size)
    is_plain = dicom is None and not steps  # a DICOM file may begin like any other
    is_kept = transform.size is None and is_plain and data.startswith(SIGNATURES[transform.encoding])
    encoded = data if is_kept else encode(stored, transform)
    source_sha256 = source_sha256 or hashlib.sha256(data).hexdigest()
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
        "transform": KEPT if is_kept else "; ".join([*steps, *reduction, transform.encoding]),
        **_intensities(counts),
        **image_checks.facts(luma, counts if luma is published else _counts(luma)),
    }
    histogram = counts.reshape(HISTOGRAM_BINS, -1).sum(axis=1).tolist()
    picture = picture_of(luma)
    return Converted(encoded, is_kept, histogram, thumbnail_of(picture).tobytes(), picture.tobytes(), facts)


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
        cleaned = cv2.bitwise_and(cleaned, cleaned, mask=is_scan.view(np.uint8))
        steps.append(f"outside the scan blackened ({1 - np.count_nonzero(is_scan) / is_scan.size:.0%} of the frame)")
    if rules.to_grey and pixels.ndim == 3:
        steps.append("colour to grey (BT.601)")
    return cleaned, steps


def _luma(pixels: Pixels) -> Pixels:
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)


def pixel_hash(pixels: Pixels) -> str:
    """SHA-256 (hex) of shape, dtype and pixels: equal for the same picture in any file format."""
    content = hashlib.sha256(f"{pixels.dtype.name} {'x'.join(map(str, pixels.shape))}\n".encode())
    content.update(np.ascontiguousarray(pixels).data)  # its buffer, not a copy of it
    return content.hexdigest()


def _counts(pixels: Pixels) -> npt.NDArray[np.int64]:
    """Pixels of each grey level that the type has, channels added up."""
    flat = np.ascontiguousarray(pixels).reshape(1, -1)
    if pixels.dtype == np.uint16 or flat.size < WORTH_PAIRING:
        return _histogram(flat).astype(np.int64)
    # Two at a time: a core waits where one level follows another of its kind, as in all that is black.
    pairs = _histogram(flat[:, : flat.size // 2 * 2].view(np.uint16)).reshape(256, 256)
    sums = [cv2.reduce(pairs, axis, cv2.REDUCE_SUM, dtype=cv2.CV_64F).ravel() for axis in (0, 1)]
    counts = (sums[0] + sums[1]).astype(np.int64)
    counts[flat[0, -1]] += flat.size % 2
    return np.asarray(counts, np.int64)


def _histogram(flat: Pixels) -> npt.NDArray[np.float32]:
    levels = int(np.iinfo(flat.dtype).max) + 1
    return np.asarray(cv2.calcHist([flat], [0], None, [levels], [0, levels]).ravel(), np.float32)


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
    return reduced(pixels, *target), [f"area {width}x{height} to {target[0]}x{target[1]}"]


def thumbnail_of(picture: Pixels) -> Pixels:
    """64 × 64 of the grey levels of :func:`picture_of`."""
    return cv2.resize(picture, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)


def picture_of(pixels: Pixels) -> Pixels:
    """128 × 128 grey levels of 8 bits: what images are compared with each other by.

    The longer side is scaled to fit and the shorter one filled up with black, so that an image that was turned, by
    whatever angle, becomes the same picture, turned.
    """
    luma = _luma(pixels)
    height, width = (max(1, round(side * PICTURE_SIDE / max(luma.shape))) for side in luma.shape)
    if max(luma.shape) >= PICTURE_SIDE:
        small = reduced(_halved(luma), width, height)
    else:  # area averages of a smaller image would be blocks, which no other copy of it has
        small = np.asarray(cv2.resize(luma, (width, height), interpolation=cv2.INTER_LINEAR))
    top, left = (PICTURE_SIDE - height) // 2, (PICTURE_SIDE - width) // 2
    small = cv2.copyMakeBorder(
        small, top, PICTURE_SIDE - height - top, left, PICTURE_SIDE - width - left, cv2.BORDER_CONSTANT, value=(0,)
    )
    if small.dtype != np.uint8:  # few of 16 bits use all of them
        small = cv2.convertScaleAbs(small, alpha=255 / image_checks.white_level(int(luma.max()), 16))
    return small


def _halved(pixels: Pixels) -> Pixels:
    """Halved as often as it can be without remainder, down to twice a picture: OpenCV is fastest at that."""
    while max(pixels.shape) >= 4 * PICTURE_SIDE and not (pixels.shape[0] % 2 or pixels.shape[1] % 2):
        pixels = cv2.resize(pixels, (pixels.shape[1] // 2, pixels.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return pixels
