"""Shapes and textures on square float32 planes, in coordinates that are fractions of the side (x right, y down)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
"""One grey plane, (side, side)."""
Canvas = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]
"""Vertices, (n, 2): x, y as fractions of the side."""

_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Stroke:
    """A line through points; ``width`` is a fraction of the side, ``value`` 0–1."""

    points: Points
    width: float
    value: float = 1.0
    is_tapering: bool = False
    """Whether it gets thinner and fainter towards its last point, as vessels do."""


@lru_cache(maxsize=16)
def grid(side: int) -> tuple[Plane, Plane]:
    """Pixel centres as two planes, x and y in 0–1; shared, so never written to."""
    centres: Plane = (np.arange(side, dtype=np.float32) + np.float32(0.5)) / np.float32(side)
    x = np.broadcast_to(centres, (side, side))
    y = np.broadcast_to(centres[:, None], (side, side))
    return x, y


@lru_cache(maxsize=4)
def _spline_weights(steps: int) -> npt.NDArray[np.float64]:
    """Catmull–Rom weights of four neighbours, (steps, 4)."""
    t = np.linspace(0.0, 1.0, steps, endpoint=False)[:, None]
    powers = np.hstack([np.ones_like(t), t, t**2, t**3])
    basis = np.array([[0, 2, 0, 0], [-1, 0, 1, 0], [2, -5, 4, -1], [-1, 3, -3, 1]]) / 2
    return powers @ basis


def closed_curve(points: Sequence[tuple[float, float]] | Points, steps: int = 8) -> Points:
    """A smooth closed outline through every point, ``steps`` vertices from each point to the next."""
    corners = np.asarray(points, dtype=np.float64)
    neighbours = np.stack([np.roll(corners, shift, axis=0) for shift in (1, 0, -1, -2)], axis=1)
    outline: Points = np.einsum("sk,nkd->nsd", _spline_weights(steps), neighbours).reshape(-1, 2)
    return outline


def open_curve(points: Sequence[tuple[float, float]] | Points, steps: int = 8) -> Points:
    """A smooth line through every point, from the first to the last."""
    corners = np.asarray(points, dtype=np.float64)
    padded = np.vstack([corners[:1], corners, corners[-1:]])
    neighbours = np.stack([padded[i : len(corners) - 1 + i] for i in range(4)], axis=1)
    inner = np.einsum("sk,nkd->nsd", _spline_weights(steps), neighbours).reshape(-1, 2)
    return np.vstack([inner, corners[-1:]])


def oval(centre: tuple[float, float], radii: tuple[float, float], *, angle: float = 0.0, steps: int = 40) -> Points:
    """An ellipse's outline; the angle, in radians, turns it clockwise on the screen."""
    turn = np.linspace(0.0, 2 * np.pi, steps, endpoint=False)
    x, y = radii[0] * np.cos(turn), radii[1] * np.sin(turn)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos], axis=1)


def rough_oval(
    rng: np.random.Generator, centre: tuple[float, float], radius: float, roughness: float, knots: int = 9
) -> Points:
    """A blob's outline: a circle whose radius wanders by ``roughness`` (share of the radius, one sigma)."""
    turn = np.linspace(0.0, 2 * np.pi, knots, endpoint=False) + rng.uniform(0, 2 * np.pi)
    reach = radius * np.clip(1 + roughness * rng.standard_normal(knots), 0.35, 1.8)
    return closed_curve(np.stack([centre[0] + reach * np.cos(turn), centre[1] + reach * np.sin(turn)], axis=1))


def fill(side: int, outlines: Iterable[Points], softness: float) -> Plane:
    """The inside of the outlines: 1 inside, 0 outside; the edge is blurred with ``softness`` of the side as sigma."""
    canvas = np.zeros((side, side), np.uint8)
    for outline in outlines:
        cv2.fillPoly(canvas, [_on_canvas(outline, side)], 255, cv2.LINE_AA, _SUBPIXEL_BITS)
    return _softened(canvas, softness)


def draw(side: int, strokes: Iterable[Stroke], softness: float) -> Plane:
    """Lines over one another, the later one on top, 0–1, with a soft edge."""
    canvas = np.zeros((side, side), np.uint8)
    for stroke in strokes:
        points = _on_canvas(stroke.points, side)
        last = len(points) - 1
        if not stroke.is_tapering:
            _line(canvas, points, stroke.width, stroke.value)
            continue
        for i in range(last):
            left = 1 - i / last
            _line(canvas, points[i : i + 2], stroke.width * (0.2 + 0.8 * left), stroke.value * (0.3 + 0.7 * left))
    return _softened(canvas, softness)


def clouds(rng: np.random.Generator, side: int, cells: int, octaves: int = 1) -> Plane:
    """Smooth random texture, about mean 0 and sigma 1; the coarsest structure is 1/cells of the side."""
    total = np.zeros((side, side), np.float32)
    for octave in range(octaves):
        count = cells * 2**octave
        coarse = rng.standard_normal((count + 3, count + 3), dtype=np.float32)
        fine = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        total += cast(Plane, fine) * np.float32(0.55**octave)
    return total


def enlarge(plane: Plane, side: int) -> Plane:
    """The same plane with more pixels."""
    return cast(Plane, cv2.resize(plane, (side, side), interpolation=cv2.INTER_LINEAR))


def _on_canvas(points: Points, side: int) -> npt.NDArray[np.int32]:
    # cv2 counts from the centre of the first pixel, in units of 1/16 pixel.
    steps: npt.NDArray[np.int32] = np.round((points * side - 0.5) * 2**_SUBPIXEL_BITS).astype(np.int32)
    return steps


def _line(canvas: Canvas, points: npt.NDArray[np.int32], width: float, value: float) -> None:
    pixels = width * canvas.shape[0]
    # A line thinner than a pixel is drawn fainter instead, so that small renderings keep the same weight.
    grey = round(255 * value * min(1.0, pixels))
    cv2.polylines(canvas, [points], False, grey, max(1, round(pixels)), cv2.LINE_AA, _SUBPIXEL_BITS)


def _softened(canvas: Canvas, softness: float) -> Plane:
    sigma = softness * canvas.shape[0]
    blurred = canvas if sigma < 0.2 else cast(Canvas, cv2.GaussianBlur(canvas, (0, 0), sigma))
    return blurred.astype(np.float32) * np.float32(1 / 255)
