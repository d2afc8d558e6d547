"""Copies of a picture, changed as copies are changed: what the search for near-duplicates is measured with."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tasks.fingerprints.copies import (
    Change,
    Grey,
    by_quarters,
    compressed,
    cropped,
    locally_equalised,
    mirrored,
    scaled,
    turned,
    with_levels,
)


def _brighter_or_darker(film: Grey, rng: np.random.Generator) -> Grey:
    change = rng.choice([-30.0, 30.0])
    return with_levels(film, lambda grey: grey + change)


def _with_gamma(film: Grey, rng: np.random.Generator) -> Grey:
    gamma = rng.choice([0.7, 1.4])
    return with_levels(film, lambda grey: 255 * (grey / 255) ** gamma)


PROMISED: Mapping[str, Change] = {
    "turned by 90°, 180°, 270°": by_quarters,
    "turned by 1–5°": lambda film, rng: turned(film, rng.uniform(1, 5) * rng.choice([-1, 1])),
    "turned by any angle": lambda film, rng: turned(film, rng.uniform(5, 355)),
    "mirrored left to right": lambda film, _: mirrored(film, 1),
    "mirrored top to bottom": lambda film, _: mirrored(film, 0),
    "cropped by 5 %": lambda film, rng: cropped(film, 0.05, rng),
    "30 grey levels brighter or darker": _brighter_or_darker,
    "gamma 0.7 or 1.4": _with_gamma,
    "JPEG of quality 70": lambda film, _: compressed(film, 70),
    "scaled to 60 %": lambda film, _: scaled(film, 0.6),
    "locally equalised": lambda film, _: locally_equalised(film),
    "cropped by 5 %, mirrored, JPEG 70": lambda film, rng: compressed(mirrored(cropped(film, 0.05, rng), 1), 70),
}
"""What is promised to be found."""
BEYOND: Mapping[str, Change] = {
    "cropped by 10 %": lambda film, rng: cropped(film, 0.10, rng),
    "inverted": lambda film, _: np.asarray(255 - film, np.uint8),
}
"""What is not."""
KINDS: Mapping[str, Change] = {**PROMISED, **BEYOND}
