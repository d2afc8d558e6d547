"""What may have been done to a copy of a picture: what the search for near-duplicates is measured with.

Pictures are grey, uint8 (height, width).
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]
Change = Callable[[Grey, np.random.Generator], Grey]


def turned(picture: Grey, degrees: float) -> Grey:
    """Turned about its middle in a frame of the same size; the corners that come in are black."""
    height, width = picture.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_LINEAR), np.uint8)


def by_quarters(picture: Grey, rng: np.random.Generator) -> Grey:
    """Turned by 90°, 180° or 270°."""
    return np.ascontiguousarray(np.rot90(picture, int(rng.integers(1, 4))))


def mirrored(picture: Grey, axis: int) -> Grey:
    """Top to bottom (0) or left to right (1)."""
    return np.ascontiguousarray(np.flip(picture, axis))


def cropped(picture: Grey, share: float, rng: np.random.Generator) -> Grey:
    """Less that share of its height and of its width, taken away anywhere around."""
    kept = [round(side * (1 - share)) for side in picture.shape]
    top, left = (int(rng.integers(0, side - rest + 1)) for side, rest in zip(picture.shape, kept, strict=True))
    return np.ascontiguousarray(picture[top : top + kept[0], left : left + kept[1]])


def with_levels(picture: Grey, curve: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> Grey:
    """Every grey level g replaced by curve(g), both 0–255."""
    return np.asarray(np.clip(np.rint(curve(np.arange(256.0))), 0, 255).astype(np.uint8)[picture], np.uint8)


def compressed(picture: Grey, quality: int) -> Grey:
    """As a JPEG of that quality, 1–100, shows it."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def scaled(picture: Grey, factor: float) -> Grey:
    """Reduced by area averages."""
    return np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


def locally_equalised(picture: Grey) -> Grey:
    """By CLAHE on eight by eight tiles, clipped at 2."""
    return np.asarray(cv2.createCLAHE(2.0, (8, 8)).apply(picture), np.uint8)
