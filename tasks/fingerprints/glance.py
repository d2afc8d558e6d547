"""A glance at many pairs at once: how the second picture is turned against the first, and whether they could agree.

On pictures of 32 pixels, as rings around the middle, and all in arrays: most candidates are strangers, and a stranger
costs some microseconds here, where laying it on the other picture takes a millisecond. First the turn, by one FFT over
all angles. Then how much of the first picture, turned so, is the second one moved, scaled and sheared a little: to
first order that is the second picture plus its change under each of these, so a least-squares fit tells. The fit's
correlation is what a pair is judged by, and its placement is where :mod:`tasks.fingerprints.alignment` begins.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from tasks.fingerprints.alignment import enlarged
from tasks.fingerprints.polar import FRAMES, Floats, even_contrast
from tasks.fingerprints.polar import SIDE as THUMBNAIL

SIDE = 32
"""Pixels of a side. What is finer tells less here: at 64 pixels the turn is no longer met well enough (of 2,000 chests
18 % of the nearest strangers pass for what 99.5 % of the copies pass, of 64 pixels half of them)."""
RINGS = 12
ANGLES = 64
BLUR = 1.0
"""Pixels over which contrast is evened out."""
AT_ONCE = 1024
"""Pairs whose pictures are unrolled together: 30 MB at most."""
FITTED = 256
"""Pairs of them that are fitted together: 13 MB."""
MOST_MOVED = 3.0
"""Pixels, and :data:`MOST_STRETCHED` shares of the side, up to which a fit is believed; the search begins unmoved
where it asks for more."""
MOST_STRETCHED = 0.2
RIDGE = 1e-6
"""Share of the mean square of the fitted pictures that keeps the fit defined for a picture of one grey level."""

Positions = npt.NDArray[np.int64]
Complex = npt.NDArray[np.complex64]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Glance:
    """What was seen of n pairs."""

    agreement: Floats
    """Correlation of the first picture with the fit of the second, 0–1; 0 for a picture without structure."""
    matrices: Floats
    """(n, 2, 3): from pixels of the second thumbnail to those of the first, as the fit lays them."""


def glance(thumbnails: Callable[[Positions], npt.NDArray[np.uint8]], candidates: Positions) -> Glance:
    """Look at candidates, as of :func:`tasks.fingerprints.search.nearest`; ``thumbnails`` gives (k, side, side)."""
    needed, ends = np.unique(candidates[:, :2], return_inverse=True)
    reduced = np.empty((len(needed), SIDE, SIDE), np.uint8)
    for begin in range(0, len(needed), AT_ONCE):
        reduced[begin : begin + AT_ONCE] = _reduced(thumbnails(needed[begin : begin + AT_ONCE]))
    looked_at = np.column_stack([ends.reshape(-1, 2), candidates[:, 2]])
    order = np.lexsort([looked_at[:, 1], looked_at[:, 0]])  # so that a first picture is made once for its partners
    agreement = np.zeros(len(candidates), np.float32)
    matrices = np.zeros((len(candidates), 2, 3), np.float32)
    for begin in range(0, len(order), AT_ONCE):
        part = order[begin : begin + AT_ONCE]
        agreement[part], matrices[part] = _glance(reduced, looked_at[part])
    return Glance(agreement, matrices)


def _glance(reduced: npt.NDArray[np.uint8], candidates: Positions) -> tuple[Floats, Floats]:
    needed, ends = np.unique(candidates[:, :2], return_inverse=True)
    firsts, seconds = ends.reshape(-1, 2).T
    evened = [even_contrast(picture, BLUR) for picture in reduced[needed]]
    wanted, own = np.unique(np.column_stack([firsts, candidates[:, 2]]), axis=0, return_inverse=True)
    first_rings = _weighted(np.stack([_rings(evened[n], int(frame)) for n, frame in wanted]))
    others, other = np.unique(seconds, return_inverse=True)
    plain = np.stack([_rings(evened[n], 0) for n in others])
    own, other = own.ravel(), other.ravel()
    turn = _turns(_spectra(first_rings)[own], _spectra(_weighted(plain))[other])
    agreement = np.zeros(len(candidates), np.float32)
    fitted = np.zeros((len(candidates), 8))
    for begin in range(0, len(candidates), FITTED):
        part = slice(begin, begin + FITTED)
        turned = _turned(first_rings[own[part]], turn[part])
        agreement[part], fitted[part] = _fit(turned, plain[other[part]])
    start = _beginnings(candidates[:, 2], turn)
    return agreement, enlarged(_moved(start, fitted)[:, :2], THUMBNAIL / SIDE)


def _reduced(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Thumbnails (n, 64, 64) at a quarter of their pixels, by area averages."""
    below = pictures.reshape(-1, pictures.shape[2])  # one below another, for no average reaches across
    halved = cv2.resize(below, (SIDE, len(pictures) * SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(halved, np.uint8).reshape(-1, SIDE, SIDE)


@cache
def _angles() -> Floats:
    return np.asarray(np.arange(ANGLES) * 2 * np.pi / ANGLES, np.float32)


@cache
def _radii() -> Floats:
    return np.asarray((np.arange(RINGS)[:, None] + 0.5) * (SIDE / 2 - 1) / RINGS, np.float32)


@cache
def _places(frame: int) -> tuple[Floats, Floats]:
    """Where the rings of a frame lie: x and y, each (RINGS, ANGLES)."""
    scale, right, down = FRAMES[frame]
    middle = (SIDE - 1) / 2
    x = middle + right * SIDE + scale * _radii() * np.cos(_angles())
    y = middle + down * SIDE + scale * _radii() * np.sin(_angles())
    return x.astype(np.float32), y.astype(np.float32)


@cache
def _area() -> Floats:
    """Square root of each ring's share of the area, (RINGS, 1)."""
    return np.asarray(np.sqrt(np.arange(RINGS)[:, None] + 0.5), np.float32)


def _rings(evened: Floats, frame: int) -> Floats:
    return np.asarray(cv2.remap(evened, *_places(frame), cv2.INTER_LINEAR), np.float32)


def _weighted(rings: Floats) -> Floats:
    """Rings (n, RINGS, ANGLES) weighted by area, each picture of mean 0 and norm 1; all 0 without structure."""
    weighted = rings * _area()
    weighted -= weighted.mean(axis=(1, 2), keepdims=True)
    norm = np.sqrt(np.einsum("nra,nra->n", weighted, weighted))[:, None, None]
    return np.asarray(np.divide(weighted, norm, out=np.zeros_like(weighted), where=norm > 0), np.float32)


def _spectra(rings: Floats) -> Complex:
    return np.asarray(np.fft.rfft(rings), np.complex64)


def _turns(first: Complex, second: Complex) -> Positions:
    """The turn at which each pair of spectra correlates best: of ``ANGLES`` steps around, as many more if mirrored."""
    plain = np.fft.irfft(np.einsum("nrf,nrf->nf", first, second.conj()), n=ANGLES)
    mirrored = np.fft.irfft(np.einsum("nrf,nrf->nf", first, second), n=ANGLES)
    return np.asarray(np.concatenate([plain, mirrored], axis=1).argmax(axis=1), np.int64)


def _turned(rings: Floats, turn: Positions) -> Floats:
    """Rings as they lie after their turn."""
    is_mirrored, steps = np.divmod(turn, ANGLES)
    angles = (steps[:, None] + np.where(is_mirrored[:, None], -1, 1) * np.arange(ANGLES)) % ANGLES
    return np.asarray(np.take_along_axis(rings, angles[:, None], axis=2), np.float32)


def _fit(turned: Floats, plain: Floats) -> tuple[Floats, Doubles]:
    """Correlation and factors of the fit of pictures to turned ones, each (n, RINGS, ANGLES)."""
    target = turned.reshape(len(turned), -1, 1)
    fitted = _changes(plain).reshape(len(plain), 8, -1)
    products = (fitted @ fitted.transpose(0, 2, 1)).astype(np.float64)
    with_target = (fitted @ target).astype(np.float64)
    ridge = RIDGE * np.trace(products, axis1=1, axis2=2)[:, None, None] / 8 + np.finfo(np.float32).tiny
    factors = np.linalg.solve(products + ridge * np.eye(8), with_target)
    explained = (factors * with_target).sum(axis=(1, 2))
    return np.sqrt(np.clip(explained, 0, 1)).astype(np.float32), factors[..., 0]


def _changes(plain: Floats) -> Floats:
    """(n, 8, RINGS, ANGLES): a constant, the picture, its slopes to the right and down, and each slope times x and y;
    all weighted by area."""
    cosine, sine = np.cos(_angles()), np.sin(_angles())
    x, y = _radii() * cosine, _radii() * sine
    around = np.roll(plain, -1, axis=2) - np.roll(plain, 1, axis=2)
    around *= _area() / _radii() * np.float32(ANGLES / (4 * np.pi))
    outwards = np.gradient(plain, (SIDE / 2 - 1) / RINGS, axis=1).astype(np.float32)
    outwards *= _area()
    changes = np.empty((len(plain), 8, RINGS, ANGLES), np.float32)
    changes[:, 0] = _area()
    np.multiply(plain, _area(), out=changes[:, 1])
    right, down = changes[:, 2], changes[:, 3]
    np.subtract(cosine * outwards, sine * around, out=right)
    np.add(sine * outwards, cosine * around, out=down)
    for n, (place, slope) in enumerate(((x, right), (y, right), (x, down), (y, down)), start=4):
        np.multiply(place, slope, out=changes[:, n])
    return changes


def _beginnings(frames: Positions, turn: Positions) -> Doubles:
    """(n, 3, 3): from pixels of the second picture to those of the first, as frame and turn alone lay them."""
    scale, right, down = np.array(FRAMES)[frames].T
    is_mirrored, steps = np.divmod(turn, ANGLES)
    angle, middle = steps * 2 * np.pi / ANGLES, (SIDE - 1) / 2
    side = np.where(is_mirrored, -1.0, 1.0)
    matrices = np.zeros((len(turn), 3, 3))
    matrices[:, 0, 0], matrices[:, 0, 1] = scale * np.cos(angle), -scale * np.sin(angle) * side
    matrices[:, 1, 0], matrices[:, 1, 1] = scale * np.sin(angle), scale * np.cos(angle) * side
    matrices[:, :2, 2] = middle + np.column_stack([right, down]) * SIDE - matrices[:, :2, :2].sum(axis=2) * middle
    matrices[:, 2, 2] = 1
    return matrices


def _moved(start: Doubles, factors: Doubles) -> Doubles:
    """The beginnings, moved as the fit asks; left where it asks for too much."""
    strength = factors[:, 1]
    asked = factors[:, 2:] / np.where(np.abs(strength) < 1e-6, np.inf, strength)[:, None]
    shift, stretch = asked[:, :2], asked[:, 2:].reshape(-1, 2, 2)
    is_believed = (np.abs(shift) <= MOST_MOVED).all(axis=1) & (np.abs(stretch) <= MOST_STRETCHED).all(axis=(1, 2))
    change = np.tile(np.eye(3), (len(start), 1, 1))
    change[is_believed, :2, 2] = shift[is_believed]
    change[is_believed, :2, :2] += stretch[is_believed]
    middle = np.array([[1, 0, (SIDE - 1) / 2], [0, 1, (SIDE - 1) / 2], [0, 0, 1]])
    return np.asarray(start @ middle @ np.linalg.inv(change) @ np.linalg.inv(middle), np.float64)
