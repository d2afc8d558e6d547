"""Decode → inspect → reduce → encode the mask of an image: nonzero is inside. Knows no archive, table or shard."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tasks.decoding import ImageRefused, decode
from tasks.encoding import SIGNATURES
from tasks.limits import DEFAULT, Limits

PNG_LEVEL = 6
"""zlib level; a mask is flat, so that this costs next to nothing."""
AREAS_TOLD = 5
"""Parts whose areas a refusal names."""

Inside = npt.NDArray[np.uint8]
"""(height, width): 255 inside, 0 outside."""


@dataclass(frozen=True)
class ConvertedMask:
    """One mask as it is stored, with its facts."""

    encoded: bytes
    facts: dict[str, Any]
    """Values of :data:`tasks.schema.MASK_COLUMNS` but for where the mask came from."""


def convert_mask(
    data: bytes, published: tuple[int, int], stored: tuple[int, int], limits: Limits = DEFAULT
) -> ConvertedMask:
    """Turn a published mask into a PNG of 0 and 255, of the size that its image is stored in; never anything lossy.

    ``published`` and ``stored`` are width and height of the image. Raises :class:`tasks.decoding.ImageRefused` with one
    of :data:`tasks.schema.MASK_REASONS`.
    """
    inside = decode_mask(data, limits)
    height, width = inside.shape
    if (width, height) != published:
        raise ImageRefused("mask-size", f"the mask is {width}x{height}, its image {published[0]}x{published[1]}")
    area = _insist_on_one_part(inside)
    reduced = _reduce(inside, stored)
    encoded = _encode(reduced)
    x, y, w, h = cv2.boundingRect(inside)
    return ConvertedMask(
        encoded,
        {
            "mask_sha256": hashlib.sha256(encoded).hexdigest(),
            "mask_bytes": len(encoded),
            "mask_area": area / inside.size,
            "mask_x": x,
            "mask_y": y,
            "mask_w": w,
            "mask_h": h,
            "mask_touches_border": x == 0 or y == 0 or x + w == width or y + h == height,
        },
    )


def decode_mask(data: bytes, limits: Limits = DEFAULT) -> Inside:
    """255 where the PNG is not zero: bits, grey of 8 or 16 bits, equal channels, or a palette's colours but black."""
    try:
        mode, pixels, _ = decode(data, limits=limits)
    except ImageRefused as refusal:
        raise ImageRefused("mask-undecodable", ": ".join(refusal.args)) from refusal
    if not data.startswith(SIGNATURES["png"]):
        raise ImageRefused("mask-undecodable", "the mask is no PNG; what a lossy format leaves at an edge is no mask")
    if pixels.ndim == 3:
        if mode != "P":
            raise ImageRefused("mask-undecodable", f"the channels of mode {mode} differ, so it is no mask")
        pixels = pixels.max(axis=2)
    return np.where(pixels != 0, np.uint8(255), np.uint8(0))


def _insist_on_one_part(inside: Inside) -> int:
    """The number of pixels inside; diagonal neighbours belong together."""
    count, _, statistics, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    areas = sorted((int(area) for area in statistics[1:count, cv2.CC_STAT_AREA]), reverse=True)
    if not areas:
        raise ImageRefused("mask-empty", "no pixel is inside")
    if len(areas) > 1:
        told = ", ".join(f"{area:,}" for area in areas[:AREAS_TOLD]) + (", …" if len(areas) > AREAS_TOLD else "")
        raise ImageRefused("mask-parts", f"{len(areas)} parts of {told} pixels")
    return areas[0]


def _reduce(inside: Inside, stored: tuple[int, int]) -> Inside:
    """Nearest neighbours from pixel centre to pixel centre, as the image's area averages lie; nothing in between."""
    height, width = inside.shape
    if (width, height) == stored:
        return inside
    reduced = cv2.resize(inside, stored, interpolation=cv2.INTER_NEAREST_EXACT)
    if not reduced.any():
        raise ImageRefused("mask-empty", f"nothing of it is left at the stored size {stored[0]}x{stored[1]}")
    return reduced.astype(np.uint8)


def _encode(inside: Inside) -> bytes:
    is_encoded, buffer = cv2.imencode(".png", inside, [cv2.IMWRITE_PNG_COMPRESSION, PNG_LEVEL])
    if not is_encoded:
        raise ImageRefused("mask-undecodable", f"OpenCV could not encode {inside.shape}")
    return bytes(buffer.tobytes())
