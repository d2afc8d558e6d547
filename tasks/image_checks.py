"""What can be told of one image by itself: how much of it is black or white, contrast, borders, and what is written.

Facts only, as columns of the sample table; what is too dark or too wide is for the gate to say. All are of the
published pixels after cleaning, colour as luma. Grey levels are counted against white, which is 255 for 8 bits; deeper
images seldom use all of their 16 bits, so theirs is the top of the smallest of 8, 10, 12, 14 and 16 bits that holds
their brightest pixel.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tasks import burned_in_text

DEPTHS = (8, 10, 12, 14, 16)
"""Bits that detectors have (DICOM PS3.3, C.7.6.3: Bits Stored)."""
NEAR = 0.05
"""Of white: as near to black, or to white, a pixel counts as such."""
TAILS = (0.01, 0.99)
"""Quantiles that contrast lies between: a lead letter is white on the flattest of films."""
AT_ONCE = 128
"""Rows looked at together."""
NOISE = 0.12
"""Of the contrast: as far apart are the darkest and the brightest pixel of a row that is border. Noise with a standard
deviation of three of 255 levels has that among a thousand pixels; a wire or a letter is more."""
SAME = 0.06
"""Of the contrast: as far is the level of a border's rows from that of its first."""

Pixels = npt.NDArray[Any]
"""(height, width), uint8 or uint16."""
Counts = npt.NDArray[np.int64]
"""Pixels of each grey level, all levels of the type."""


def facts(luma: Pixels, counts: Counts) -> dict[str, Any]:
    """Columns ``dark_share`` to ``side_markers`` of :data:`tasks.schema.IMAGE_COLUMNS`.

    What is written is null where the image is too small to tell.
    """
    white = white_level(int(np.flatnonzero(counts)[-1]), luma.dtype.itemsize * 8)
    levels = _levels(counts, white)
    return {**levels, **_borders(luma, levels["contrast"] * white), **_writing(luma, white)}


def white_level(brightest: int, bit_depth: int) -> int:
    """The grey level that is white in an image of this depth whose brightest pixel is this."""
    return 255 if bit_depth == 8 else next(2**bits - 1 for bits in DEPTHS if brightest < 2**bits)


def _levels(counts: Counts, white: int) -> dict[str, float]:
    up_to = np.cumsum(counts)
    total = int(up_to[-1])
    low, high = np.searchsorted(up_to, [share * total for share in TAILS])
    dark, bright = int(NEAR * white), white - int(NEAR * white)
    return {
        "dark_share": float(up_to[dark] / total),
        "bright_share": float((total - up_to[bright - 1]) / total),
        "contrast": float((high - low) / white),
    }


def _borders(luma: Pixels, contrast: float) -> dict[str, int]:
    """Pixels of uniform border on each side; an image that is nothing else is all ``border_top``."""
    top = _border(luma, contrast)
    bottom = _border(luma[top:], contrast, from_end=True)
    inner = luma[top : luma.shape[0] - bottom].T
    left = _border(inner, contrast)
    right = _border(inner[left:], contrast, from_end=True)
    return {"border_top": top, "border_right": right, "border_bottom": bottom, "border_left": left}


def _border(rows: Pixels, contrast: float, *, from_end: bool = False) -> int:
    """How many of the first rows, or of the last, are of one grey level, noise aside; ``contrast`` of the image in grey
    levels."""
    if not rows.size:
        return 0
    darkest, brightest, _, _ = cv2.minMaxLoc(np.ascontiguousarray(rows[-1 if from_end else 0]))
    if brightest - darkest > NOISE * contrast:  # most images have no border, and their other rows need not be looked at
        return 0
    edge = (darkest + brightest) / 2
    for start in range(0, len(rows), AT_ONCE):
        part = rows[-start - AT_ONCE : len(rows) - start] if from_end else rows[start : start + AT_ONCE]
        low, high = part.min(axis=1).astype(np.int64), part.max(axis=1).astype(np.int64)
        is_picture = (high - low > NOISE * contrast) | (np.abs((low + high) / 2 - edge) > SAME * contrast)
        if is_picture.any():
            return start + int((is_picture[::-1] if from_end else is_picture).argmax())
    return len(rows)


def _writing(luma: Pixels, white: int) -> dict[str, Any]:
    grey = luma if luma.dtype == np.uint8 else cv2.convertScaleAbs(luma, alpha=255 / white)
    found = burned_in_text.find(np.asarray(grey, np.uint8))
    if found is None:
        return {"text_regions": None, "text_share": None, "side_markers": None}
    area = sum(w * h for _, _, w, h in found.text)
    return {
        "text_regions": len(found.text),
        "text_share": area / luma.size,
        "side_markers": len(found.markers),
    }
