"""Laying one picture over another: how far it was turned, whether mirrored, what was cropped; and how well they agree.

First the turn, from rings of both (one FFT over all angles); then the place, on thumbnails of 64 pixels, and for those
that agree so far on pictures of 128, by the enhanced correlation coefficient of Evangelidis and Psarakis (IEEE TPAMI
2008, doi 10.1109/TPAMI.2008.113), as in OpenCV. What decides is the finest detail that JPEG and scaling leave: two
patients share ribs, and two films of one patient too, but no vessel lies on the same pixel twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from tasks.fingerprints.polar import ANGLES, FRAMES, Floats, Picture, even_contrast, unrolled

FINE = 1.0
"""Pixels over which contrast is evened out for the comparison. At 1 pixel of 128 unrelated phantom chests reach 0.69
and copies of one begin at 0.81; at 1.5 pixels of 64 they overlap (tests/bench/near_duplicates.py)."""
COARSE = 2.0
"""The same while the place is sought, in pixels of a thumbnail: smoother, so that the way is found from further off."""
TURNING = 1.5
"""The same while the turn is sought."""
STEPS = 30
FINAL_STEPS = 10
"""Of the search for the place, on thumbnails and on pictures; two of one picture meet in four, others never stop."""
REFINABLE = 0.2
"""By how much seeking the place anew may raise a similarity: of copies of phantom chests by 0.05 at most."""
OVERLAP = 0.5
"""Share of the second picture that must lie on the first, within the largest circle of both (0.785 of a square): of
less, a good match says little. Turning by any angle leaves the circle whole, and fills the corners with black."""
MOST_STRETCHED = 1.35
"""Longer over shorter axis of a placement, and its scale either way; beyond, nothing real was laid on anything."""


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


def spectrum(thumbnail: Picture, frame: int = 0) -> npt.NDArray[np.complex64]:
    """What :func:`turns` compares, (ANGLES // 2 + 1, RINGS): a Fourier transform over the angle."""
    return np.fft.rfft(unrolled(even_contrast(thumbnail, TURNING), frame), axis=0).astype(np.complex64)


def turns(first: npt.NDArray[np.complex64], second: npt.NDArray[np.complex64]) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Best correlation of n pairs of spectra over all turns, mirrored or not; and its place.

    A place is the steps of a turn, of which ``ANGLES`` are a whole one, and ``ANGLES`` more where mirrored.
    """
    plain = np.fft.irfft((first * second.conj()).sum(axis=2), n=ANGLES, axis=1)
    mirrored = np.fft.irfft((first * second).sum(axis=2), n=ANGLES, axis=1)
    both = np.concatenate([plain, mirrored], axis=1)
    place = both.argmax(axis=1)
    return both[np.arange(len(both)), place].astype(np.float32), place


def place(first: Picture, second: Picture, frame: int, turn: int) -> Alignment:
    """Lay one thumbnail on another, beginning from a frame of the first and a place that :func:`turns` gave."""
    is_mirrored, steps = divmod(turn, ANGLES)
    start = _beginning(len(first), frame, steps * 2 * np.pi / ANGLES, bool(is_mirrored))
    return _laid(first, second, start, COARSE, STEPS)


def refine(first: Picture, second: Picture, rough: Alignment, *, times: int, least: float) -> Alignment:
    """Lay larger pictures, with ``times`` the pixels a side, on each other as their thumbnails lie already.

    Their place is sought anew only where it could bring the similarity to ``least``.
    """
    centre = (times - 1) / 2  # pixel 0 of the small one covers pixels 0 to times - 1 of the large one
    linear = rough.matrix[:, :2]
    shift = times * rough.matrix[:, 2] + centre - linear @ np.full(2, centre, np.float32)
    matrix = np.column_stack([linear, shift]).astype(np.float32)
    similarity = _agreement(first, second, matrix)
    if similarity >= least or similarity < least - REFINABLE:
        return Alignment(similarity, matrix)
    return _laid(first, second, matrix, COARSE * times, FINAL_STEPS)


def _beginning(side: int, frame: int, turn: float, is_mirrored: bool) -> Floats:
    scale, right, down = FRAMES[frame]
    rotation = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    if is_mirrored:
        rotation = rotation @ np.diag([1.0, -1.0])
    centre = np.full(2, (side - 1) / 2)
    shift = centre + np.array([right, down]) * side - rotation @ centre
    return np.column_stack([rotation, shift]).astype(np.float32)


def _laid(first: Picture, second: Picture, start: Floats, blur: float, steps: int) -> Alignment:
    """The placement moved to where both agree best; as it was where there is no way up."""
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-3)
    template, moved = (even_contrast(picture, blur) * _circle(picture.shape) for picture in (second, first))
    try:
        _, found = cv2.findTransformECC(template, moved, start.copy(), cv2.MOTION_AFFINE, criteria)
        matrix = np.asarray(found, np.float32)
    except cv2.error:  # it does not converge, or leaves the picture
        matrix = start
    return Alignment(_agreement(first, second, matrix) if _is_plausible(matrix) else 0.0, matrix)


@cache
def _circle(shape: tuple[int, int]) -> Floats:
    """1 within the largest ellipse, 0 outside."""
    down, right = (np.linspace(-1, 1, side, dtype=np.float32) for side in shape)
    return (down[:, None] ** 2 + right[None] ** 2 <= 1).astype(np.float32)


def _is_plausible(matrix: Floats) -> bool:
    strengths = np.linalg.svd(matrix[:, :2], compute_uv=False)
    return bool(strengths[1] * MOST_STRETCHED >= 1 and strengths[0] <= MOST_STRETCHED)


def _agreement(first: Picture, second: Picture, matrix: Floats) -> float:
    """Correlation of even contrast where both pictures are, 0–1."""
    size, flags = second.shape[::-1], cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    laid = cv2.warpAffine(even_contrast(first, FINE), matrix, size, flags=flags)
    inside = (cv2.warpAffine(_circle(first.shape), matrix, size, flags=flags) > 0.99) & (_circle(second.shape) > 0)
    if inside.mean() < OVERLAP:
        return 0.0
    a, b = laid[inside], even_contrast(second, FINE)[inside]
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return max(0.0, float(a @ b) / norm) if norm > 0 else 0.0
