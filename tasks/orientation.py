"""Which images stand on their side or their head, or are negatives: told by what the others of the dataset look like.

The typical picture is the median of all, contrast set aside. An image that fits it better turned, or as a negative,
and by a clear margin, is said to be so; of one that fits in no way nothing is said. Mirrored images are not looked
for: in a person whose heart is on the right the film is right.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

LEAST_IMAGES = 50
"""Of fewer there is no typical picture: the median still shows the single patients."""
MOST_FOR_TYPICAL = 500
"""Images that the typical picture is made of, evenly from all; more change it by two grey levels at most."""
ROUNDS = 2
"""After the first, what is turned has been turned back before the median is taken."""
FITS = 0.5
"""Correlation with the typical picture from which on an image is spoken of; of made-up films 99 % have over 0.7."""
MARGIN = 0.25
"""By so much it must fit better than as it is."""
UPRIGHT_MARGIN = 0.1
"""By so much the image as it is must fit better than in any other way to be called upright."""
AT_ONCE = 256
"""Images compared at a time: 4 MB as float32, twice."""

Thumbnails = npt.NDArray[np.uint8]
"""(n, side, side) grey levels."""
Read = Callable[[npt.NDArray[np.int64]], Thumbnails]
"""Positions to thumbnails."""
Plane = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Judgement:
    """One entry per image."""

    is_told: npt.NDArray[np.bool_]
    """Whether anything can be said of it; where not, the others mean nothing."""
    is_inverted: npt.NDArray[np.bool_]
    turned: npt.NDArray[np.int64]
    """Degrees, 0, 90, 180 or 270, by which it was turned clockwise."""


def compare(views: pd.Series, is_shown: pd.Series, thumbnails: Read) -> pd.DataFrame:
    """Columns :data:`tasks.schema.COMPARED_COLUMNS` of images by their ``views``; null where nothing can be told, and
    of those that are not to be ``shown``. ``thumbnails`` gives those of the others by position.

    Views look different, and are compared each with its own where there are enough of them.
    """
    positions = np.flatnonzero(is_shown.to_numpy(bool))
    seen = views.iloc[positions].fillna("")
    numbers = seen.map(seen.value_counts())
    kinds = seen.where(numbers >= LEAST_IMAGES, "").to_numpy(object)
    columns = pd.DataFrame({"looks_inverted": None, "looks_turned_degrees": None}, index=views.index, dtype=object)
    for kind in sorted(set(kinds)):
        own = positions[kinds == kind]
        judged = judge(own, thumbnails)
        told = views.index[own[judged.is_told]]
        columns.loc[told, "looks_inverted"] = judged.is_inverted[judged.is_told]
        columns.loc[told, "looks_turned_degrees"] = judged.turned[judged.is_told]
    return columns


def judge(positions: npt.NDArray[np.int64], thumbnails: Read) -> Judgement:
    """Compare each of these images with the typical one in four turns, as it is and as a negative."""
    count = len(positions)
    if count < LEAST_IMAGES:
        return Judgement(np.zeros(count, bool), np.zeros(count, bool), np.zeros(count, np.int64))
    ways = _ways(_typical(thumbnails(positions[:: -(-count // MOST_FOR_TYPICAL)])))
    parts = (positions[begin : begin + AT_ONCE] for begin in range(0, count, AT_ONCE))
    fit = np.concatenate([_normal(thumbnails(part)) @ ways.T for part in parts])
    # Columns: the four turns, as they are; then as negatives, which fit as badly as the others fit well.
    fit = np.hstack([fit, -fit])
    best = fit.argmax(axis=1)
    strength = fit.max(axis=1)
    others = np.where(np.arange(fit.shape[1]) == best[:, None], -1.0, fit).max(axis=1)
    is_as_it_is = best == 0
    is_clear = np.where(is_as_it_is, strength - others >= UPRIGHT_MARGIN, strength - fit[:, 0] >= MARGIN)
    # Of two ways that fit alike none is told: a dark frame around a bright middle is the same on its side.
    is_clear &= strength - others >= UPRIGHT_MARGIN
    return Judgement((strength >= FITS) & is_clear, best >= 4, (best % 4) * 90)


def _normal(thumbnails: Thumbnails) -> Plane:
    """Rows of mean 0 and length 1, (n, side²); a blank one is all 0."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.sqrt((flat**2).sum(axis=1, keepdims=True))
    return np.asarray(flat / np.maximum(length, 1e-6), np.float32)


def _typical(thumbnails: Thumbnails) -> Plane:
    """The median picture, (side, side)."""
    pictures = _normal(thumbnails).reshape(-1, *thumbnails.shape[1:])
    typical = np.median(pictures, axis=0)
    for _ in range(ROUNDS - 1):
        fit = pictures.reshape(len(pictures), -1) @ _ways(typical).T
        turns = np.abs(fit).argmax(axis=1)
        signs = np.sign(np.take_along_axis(fit, turns[:, None], axis=1))[:, 0]
        # A picture that fits in no way would only blur it.
        fits = np.abs(fit).max(axis=1) >= FITS
        if fits.any():
            upright = [np.rot90(p, k) * s for p, k, s in zip(pictures[fits], turns[fits], signs[fits], strict=True)]
            typical = np.median(upright, axis=0)
    return np.asarray(typical, np.float32)


def _ways(typical: Plane) -> Plane:
    """The typical picture turned clockwise by 0, 90, 180 and 270 degrees, as rows of mean 0 and length 1."""
    turned = np.stack([np.rot90(typical, -k) for k in range(4)]).reshape(4, -1)
    turned = turned - turned.mean(axis=1, keepdims=True)
    return np.asarray(turned / np.maximum(np.linalg.norm(turned, axis=1, keepdims=True), 1e-6), np.float32)
