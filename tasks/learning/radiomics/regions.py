"""Where a mask lies in its image, and the part of the image around it: pixels in, pixels out."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from scanmill.images import WIDEN

Image = npt.NDArray[Any]
"""(height, width), uint8 or uint16."""
Inside = npt.NDArray[np.bool_]
"""(height, width), of the image; True inside. Something is."""
Grey = npt.NDArray[np.float64]
"""(height, width), 0–255 whatever the depth of the image."""


class Box(NamedTuple):
    """A rectangle of whole pixels."""

    x: int
    y: int
    width: int
    height: int


def grey_of(pixels: Image) -> Grey:
    """On the scale 0–255; 16 bits are divided by 257 and not rounded, so that both depths of a picture say the same."""
    grey = pixels.astype(np.float64)
    return grey / WIDEN if pixels.dtype == np.uint16 else grey


def box_of(inside: Inside) -> Box:
    """The smallest one that holds the mask."""
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    x, y = int(columns[0]), int(rows[0])
    return Box(x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1)


def surroundings(grey: Grey, inside: Inside, reach: int) -> tuple[Grey, Inside]:
    """Both cut to the box of the mask and ``reach`` pixels around it, as far as the image goes."""
    box = box_of(inside)
    rows = slice(max(0, box.y - reach), box.y + box.height + reach)
    columns = slice(max(0, box.x - reach), box.x + box.width + reach)
    return grey[rows, columns], inside[rows, columns]


def square(grey: Grey, box: Box, margin: float, size: int) -> npt.NDArray[np.float32]:
    """(size, size): a square around the box, its side the longer one of the box and ``margin`` of that on both ends.

    A square that would reach beyond an edge of the image is moved inside; what an image has too little of for that is
    added by repeating its outermost pixels. Made smaller by area averages, larger by linear interpolation.
    """
    longer = max(box.width, box.height)
    side = max(1, math.ceil(longer * (1 + 2 * margin)))
    height, width = grey.shape
    missing = [max(0, side - length) for length in (height, width)]
    before = [amount // 2 for amount in missing]
    after = [amount - half for amount, half in zip(missing, before, strict=True)]
    padded = np.pad(grey.astype(np.float32), list(zip(before, after, strict=True)), mode="edge")
    top = _first(box.y + before[0], box.height, side, padded.shape[0])
    left = _first(box.x + before[1], box.width, side, padded.shape[1])
    cut = padded[top : top + side, left : left + side]
    how = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(cut, (size, size), interpolation=how), np.float32)


def _first(start: int, length: int, side: int, whole: int) -> int:
    """Where a stretch of ``side`` begins that has this one in its middle, and lies within ``whole``."""
    return min(max(start - (side - length) // 2, 0), whole - side)
