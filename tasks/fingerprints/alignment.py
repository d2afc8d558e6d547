"""Laying one picture over another: how far it was turned, whether mirrored, what was cropped; and how well they agree.

From where a glance has laid them (:mod:`tasks.fingerprints.glance`): on thumbnails of 64 pixels, and for those that
agree so far on pictures of 128, by fitting again and again the second picture and its changes under small movements
(inverse compositional alignment: Baker and Matthews, IJCV 2004, doi 10.1023/B:VISI.0000011205.11775.fd). What decides
is the finest detail that JPEG and scaling leave: two patients share ribs, and two films of one patient too, but no
vessel lies on the same pixel twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tasks.fingerprints.polar import SIDE, Floats, Picture, even_contrast

FINE = 1.0
"""Pixels over which contrast is evened out for the comparison. At 1 pixel of 128 unrelated phantom chests reach 0.69
and copies of one begin at 0.81; at 1.5 pixels of 64 they overlap (tests/bench/near_duplicates.py)."""
COARSE = 2.0
"""The same while the place is sought, in pixels of a thumbnail: smoother, so that the way is found from further off."""
PLACEABLE = 0.12
"""By how much seeking the place on thumbnails may have to raise a similarity; copies, in chests, begin at 0.63."""
STEPS = 3
FINAL_STEPS = 5
"""Of the search for the place, on thumbnails and on pictures; two of one picture meet in two, others never stop."""
REFINABLE = 0.05
"""The same on pictures, where copies of phantom chests and livers begin at 0.81."""
OVERLAP = 0.5
"""Share of the second picture that must lie on the first, within the largest circle of both (0.785 of a square): of
less, a good match says little. Turning by any angle leaves the circle whole, and fills the corners with black."""
MOST_STRETCHED = 1.35
"""Longer over shorter axis of a placement, and its scale either way; beyond, nothing real was laid on anything."""


RIDGE = 1e-6
TINY = 1e-9
"""Keep a fit defined for a picture of one grey level."""

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Alignment:
    """How the second picture lies on the first."""

    similarity: float
    """Correlation of both pictures' even contrast where they overlap, 0–1; 0 where they cannot be laid so."""
    matrix: Floats
    """(2, 3): from pixels of the second to those of the first."""

    @property
    def turned_degrees(self) -> float:
        """How far the second is turned against the first, −180 to 180, clockwise as seen."""
        return -float(np.degrees(np.arctan2(self.matrix[1, 0], self.matrix[0, 0])))

    @property
    def is_mirrored(self) -> bool:
        """Whether the second is a mirror image of the first."""
        return bool(np.linalg.det(self.matrix[:, :2]) < 0)


class Shown:
    """A picture, square and grey, and what it is compared by; that is made when it is needed, once."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture

    @cached_property
    def fine(self) -> Floats:
        """By what similarity is told."""
        return even_contrast(self.picture, FINE)

    @cached_property
    def coarse(self) -> Floats:
        """By what the place is sought."""
        return even_contrast(self.picture, COARSE * len(self.picture) / SIDE)

    @cached_property
    def changes(self) -> tuple[Floats, Doubles]:
        """(8, pixels): a constant, the picture, its slopes to the right and down, each slope times x and y, all within
        the circle; and the inverse of their products."""
        side = len(self.picture)
        along = (np.arange(side, dtype=np.float32) - (side - 1) / 2).astype(np.float32)
        right, down = (cv2.Sobel(self.coarse, cv2.CV_32F, *axis, ksize=1, scale=0.5) for axis in ((1, 0), (0, 1)))
        x, y = along[None], along[:, None]
        parts = (np.ones_like(right), self.coarse, right, down, x * right, y * right, x * down, y * down)
        changes = np.asarray((np.stack(parts) * _circle(side)).reshape(8, -1), np.float32)
        products = (changes @ changes.T).astype(np.float64)
        ridge = np.diag(RIDGE * np.diag(products) + TINY)
        return changes, np.asarray(np.linalg.inv(products + ridge), np.float64)


def place(first: Shown, second: Shown, start: Floats, *, least: float) -> Alignment:
    """Lay one thumbnail on another, beginning from a matrix as of :func:`tasks.fingerprints.glance.glance`.

    The place is sought only where it could bring the similarity to ``least``.
    """
    similarity = _agreement(first, second, start)
    if similarity < least - PLACEABLE:
        return Alignment(similarity, start)
    return _laid(first, second, start, STEPS)


def refine(first: Shown, second: Shown, rough: Alignment, *, times: int, least: float) -> Alignment:
    """Lay larger pictures, with ``times`` the pixels a side, on each other as their thumbnails lie already.

    Their place is sought anew only where it could bring the similarity to ``least``.
    """
    matrix = enlarged(rough.matrix, times)
    similarity = _agreement(first, second, matrix)
    if similarity >= least or similarity < least - REFINABLE:
        return Alignment(similarity, matrix)
    return _laid(first, second, matrix, FINAL_STEPS)


def enlarged(matrices: npt.NDArray[Any], times: float) -> Floats:
    """Placements (…, 2, 3) of pictures for others with ``times`` the pixels a side."""
    centre = (times - 1) / 2  # pixel 0 of the small one covers pixels 0 to times - 1 of the large one
    linear = matrices[..., :2]
    shift = times * matrices[..., 2] + centre - linear.sum(axis=-1) * centre
    return np.concatenate([linear, shift[..., None]], axis=-1).astype(np.float32)


def _laid(first: Shown, second: Shown, start: Floats, steps: int) -> Alignment:
    """The placement moved to where both agree best, step by step as Gauss and Newton do."""
    side, flags = len(second.picture), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    changes, inverse = second.changes
    matrix = start.astype(np.float64)
    for _ in range(steps):
        laid = cv2.warpAffine(first.coarse, matrix, (side, side), flags=flags)
        matrix = _moved(matrix, inverse @ (changes @ laid.ravel()), (side - 1) / 2)
        if not _is_plausible(matrix):
            return Alignment(0.0, start)
    return Alignment(_agreement(first, second, matrix), matrix.astype(np.float32))


def _moved(matrix: Doubles, factors: Doubles, middle: float) -> Doubles:
    """The placement moved as a fit with these factors of :attr:`Shown.changes` asks."""
    strength = factors[1] if abs(factors[1]) > TINY else 1.0
    right, down, a, b, c, d = (factors[2:] / strength).tolist()
    determinant = (1 + a) * (1 + d) - b * c
    if abs(determinant) < TINY:
        return matrix * 0
    back = np.array([[1 + d, -b], [-c, 1 + a]]) / determinant
    moved = np.empty((2, 3))
    moved[:, :2] = matrix[:, :2] @ back
    moved[:, 2] = matrix[:, 2] + matrix[:, :2] @ (middle - back @ np.array([middle + right, middle + down]))
    return moved


@cache
def _circle(side: int) -> Floats:
    """1 within the largest circle, 0 outside."""
    along = np.linspace(-1, 1, side, dtype=np.float32)
    return (along[:, None] ** 2 + along[None] ** 2 <= 1).astype(np.float32)


def _is_plausible(matrix: Doubles) -> bool:
    (a, b, _), (c, d, _) = matrix.tolist()
    # Both strengths of stretching are roots of their squares' sum and product.
    half, product = (a * a + b * b + c * c + d * d) / 2, (a * d - b * c) ** 2
    rest = math.sqrt(max(0.0, half * half - product))
    return bool(half - rest >= 1 / MOST_STRETCHED**2 and half + rest <= MOST_STRETCHED**2)


def _agreement(first: Shown, second: Shown, matrix: Floats | Doubles) -> float:
    """Correlation of even contrast where both pictures are, 0–1."""
    side, flags = len(second.picture), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(first.fine, matrix, (side, side), flags=flags)
    covered = cv2.warpAffine(_circle(len(first.picture)), matrix, (side, side), flags=flags)
    inside = ((covered > 0.99) * _circle(side)).ravel()
    count = float(inside.sum())
    if count < OVERLAP * inside.size:
        return 0.0
    a, b = laid.ravel(), second.fine.ravel()
    a_inside, b_inside = a * inside, b * inside
    a_sum, b_sum = float(a_inside.sum()), float(b_inside.sum())
    spread = (float(a_inside @ a) - a_sum**2 / count) * (float(b_inside @ b) - b_sum**2 / count)
    return max(0.0, (float(a_inside @ b) - a_sum * b_sum / count) / math.sqrt(spread)) if spread > 1e-6 else 0.0
