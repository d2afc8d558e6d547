"""Copies of a picture, changed as copies are changed: what the search for near-duplicates is measured with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]
"""(height, width)"""
Change = Callable[[Grey, np.random.Generator], Grey]


def turned(film: Grey, degrees: float) -> Grey:
    """Turned about its middle in a frame of the same size; the corners that come in are black."""
    height, width = film.shape
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(film, matrix, (width, height), flags=cv2.INTER_LINEAR), np.uint8)


def cropped(film: Grey, share: float, rng: np.random.Generator) -> Grey:
    """Less that share of its height and of its width, taken away anywhere around."""
    height, width = (round(side * (1 - share)) for side in film.shape)
    top, left = rng.integers(film.shape[0] - height + 1), rng.integers(film.shape[1] - width + 1)
    return film[top : top + height, left : left + width]


def compressed(film: Grey, quality: int) -> Grey:
    """As a JPEG of that quality shows it."""
    _, data = cv2.imencode(".jpg", film, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), np.uint8)


def with_levels(film: Grey, curve: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]) -> Grey:
    """Every grey level g replaced by curve(g), both 0–255."""
    return np.asarray(np.clip(np.rint(curve(np.arange(256.0))), 0, 255).astype(np.uint8)[film], np.uint8)


def _mirrored(film: Grey, axis: int) -> Grey:
    return np.ascontiguousarray(np.flip(film, axis))


def _brighter_or_darker(film: Grey, rng: np.random.Generator) -> Grey:
    change = rng.choice([-30.0, 30.0])
    return with_levels(film, lambda grey: grey + change)


def _with_gamma(film: Grey, rng: np.random.Generator) -> Grey:
    gamma = rng.choice([0.7, 1.4])
    return with_levels(film, lambda grey: 255 * (grey / 255) ** gamma)


PROMISED: Mapping[str, Change] = {
    "turned by 90°, 180°, 270°": lambda film, rng: np.ascontiguousarray(np.rot90(film, int(rng.integers(1, 4)))),
    "turned by 1–5°": lambda film, rng: turned(film, rng.uniform(1, 5) * rng.choice([-1, 1])),
    "turned by any angle": lambda film, rng: turned(film, rng.uniform(5, 355)),
    "mirrored left to right": lambda film, _: _mirrored(film, 1),
    "mirrored top to bottom": lambda film, _: _mirrored(film, 0),
    "cropped by 5 %": lambda film, rng: cropped(film, 0.05, rng),
    "30 grey levels brighter or darker": _brighter_or_darker,
    "gamma 0.7 or 1.4": _with_gamma,
    "JPEG of quality 70": lambda film, _: compressed(film, 70),
    "scaled to 60 %": lambda film, _: np.asarray(
        cv2.resize(film, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA), np.uint8
    ),
    "locally equalised": lambda film, _: np.asarray(cv2.createCLAHE(2.0, (8, 8)).apply(film), np.uint8),
    "cropped by 5 %, mirrored, JPEG 70": lambda film, rng: compressed(_mirrored(cropped(film, 0.05, rng), 1), 70),
}
"""What is promised to be found."""
BEYOND: Mapping[str, Change] = {
    "cropped by 10 %": lambda film, rng: cropped(film, 0.10, rng),
    "inverted": lambda film, _: np.asarray(255 - film, np.uint8),
}
"""What is not."""
KINDS: Mapping[str, Change] = {**PROMISED, **BEYOND}
