"""What the grey levels of one image say, without regard to where they are: features of the intensity baseline."""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
import numpy.typing as npt

from tasks.learning.reading import Image
from tasks.learning.recipe import Options

PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
FINE_BINS = 64
"""Bins that the entropy is taken over; the histogram's are sums of these."""

Features = npt.NDArray[np.float32]


def names(options: Options) -> list[str]:
    """What the columns of :func:`describe` are called."""
    side = options.thumbnail
    return [
        *(f"histogram_{index:02d}" for index in range(options.histogram)),
        "mean",
        "std",
        *(f"percentile_{point:02d}" for point in PERCENTILES),
        "entropy_bits",
        *(f"thumbnail_{row:02d}_{column:02d}" for row in range(side) for column in range(side)),
    ]


def describe(pixels: Image, options: Options) -> Features:
    """One image as numbers; grey levels in shares of the full range, so that 8 and 16 bits say the same."""
    levels = 256 if pixels.dtype == np.uint8 else 65536
    shares = np.bincount(pixels.ravel(), minlength=levels) / pixels.size
    grey = np.arange(levels) / (levels - 1)
    mean = float(shares @ grey)
    spread = float(shares @ (grey - mean) ** 2) ** 0.5
    fine = shares.reshape(FINE_BINS, -1).sum(axis=1)
    used = fine[fine > 0]
    parts = [
        fine.reshape(options.histogram, -1).sum(axis=1),
        [mean, spread],
        grey[np.searchsorted(np.cumsum(shares), np.array(PERCENTILES) / 100 - 1e-9)],
        [float(-(used @ np.log2(used)))],
    ]
    if options.thumbnail:
        small = cv2.resize(pixels, (options.thumbnail, options.thumbnail), interpolation=cv2.INTER_AREA)
        parts.append(small.ravel() / (levels - 1))
    return np.concatenate([np.asarray(part, dtype=np.float32) for part in parts])


def describe_all(images: Iterable[tuple[str, Image]], options: Options) -> dict[str, Features]:
    """Sample id to features."""
    return {sample_id: describe(pixels, options) for sample_id, pixels in images}
