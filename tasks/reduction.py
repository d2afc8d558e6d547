"""Area-averaged reduction, with the pixels of OpenCV's ``INTER_AREA`` and, for many sizes, in 40 % of its time.

An average is a sum of whole numbers over a divisor. A matrix product in float32 has the sum without rounding, in
whatever order it adds, as long as none reaches 2²⁴. Where 2ᵏ published pixels become q stored ones, as 1024 → 224 (32
become 7), the divisor is a power of two, and OpenCV, which adds one share of a pixel after the other, does not round
either. Where the divisor is odd, as for 224 → 128 (7 become 4), OpenCV rounds; but no average lies in the middle
between two grey levels then, nor so near to it that this could tell.
"""

from __future__ import annotations

from functools import lru_cache
from math import gcd

import cv2
import numpy as np
import numpy.typing as npt

from tasks.decoding import Pixels

EXACT_SUM = 2**24
"""Whole numbers up to here are exact in float32."""
AT_ONCE = 2**17
"""Pixels that are widened to float32 together: they stay in a core's own cache."""


def reduced(pixels: Pixels, width: int, height: int) -> Pixels:
    """Area averages of the pixels; neither side may be enlarged."""
    rows, columns = (_ratio(*sizes) for sizes in ((pixels.shape[0], height), (pixels.shape[1], width)))
    if not _is_certain(rows, columns, int(np.iinfo(pixels.dtype).max)):
        return np.asarray(cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA))
    if pixels.ndim == 2:
        return _by_products(pixels, rows, columns)
    return np.asarray(cv2.merge([_by_products(channel, rows, columns) for channel in cv2.split(pixels)]))


def _ratio(size: int, target: int) -> tuple[int, int]:
    """In lowest terms: so many pixels become so many."""
    common = gcd(size, target)
    return size // common, target // common


def _is_certain(rows: tuple[int, int], columns: tuple[int, int], white: int) -> bool:
    """Whether OpenCV's pixels can be told; whole factors are left to it, for it is fast at them."""
    divisor = rows[0] * columns[0]
    if rows[1] == 1 or columns[1] == 1:
        return False
    if all(many & (many - 1) == 0 for many, _ in (rows, columns)):
        return white * divisor < EXACT_SUM
    # It rounds each share, product and sum by 2⁻²⁴ of white at most; half a level is 1 / (2 × divisor) away at least.
    roundings = sum(-(-many // few) + 3 for many, few in (rows, columns))
    return divisor % 2 == 1 and 2 * divisor * white * roundings < EXACT_SUM


def _by_products(pixels: Pixels, rows: tuple[int, int], columns: tuple[int, int]) -> Pixels:
    height, width = pixels.shape
    narrow = height // rows[0] * rows[1], width // columns[0] * columns[1]
    bands = pixels.reshape(-1, rows[0], width)
    merged = np.empty((len(bands), rows[1], width), np.float32)
    step = max(1, AT_ONCE // (rows[0] * width))
    for begin in range(0, len(bands), step):
        own = slice(begin, begin + step)
        np.matmul(_shares(*rows), bands[own].astype(np.float32), out=merged[own])
    summed = merged.reshape(-1, columns[0]) @ _shares(*columns).T
    summed *= np.float32(1 / (rows[0] * columns[0]))
    return np.asarray(np.rint(summed, out=summed), pixels.dtype).reshape(narrow)


@lru_cache(maxsize=16)
def _shares(many: int, few: int) -> npt.NDArray[np.float32]:
    """(few, many): how much of each pixel belongs to each of the few, in parts of ``few`` to the pixel; rows sum up to
    ``many``."""
    begins = np.maximum(np.arange(few)[:, None] * many, np.arange(many) * few)
    ends = np.minimum(np.arange(1, few + 1)[:, None] * many, np.arange(1, many + 1) * few)
    return np.asarray(np.maximum(ends - begins, 0), np.float32)
