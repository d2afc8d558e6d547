"""Made-up lateral spine films, cut out around one vertebral body: whole, or broken long ago, or broken just now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from tasks.phantoms.drawing import Plane, Points, Stroke, clouds, draw, fill, grid, open_curve

CLASSES = (0, 1, 2)
"""No fracture, old fracture, fresh fracture: how these are drawn, not what a publisher says the numbers mean."""

# Loss of the front height, as a share of the back height.
_LOSS = {0: (0.0, 0.08), 1: (0.18, 0.36), 2: (0.30, 0.50)}
_GAP = 0.075


@dataclass(frozen=True)
class Vertebra:
    """One made-up crop, grey uint8 (h, w), and its vertebral body."""

    pixels: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]
    """0 or 255, same shape: one filled shape that does not touch the border."""


@dataclass(frozen=True)
class _Body:
    """A vertebral body from the side, front at the left; lengths are fractions of the side."""

    centre: tuple[float, float]
    half_width: float
    half_height: float
    tilt: float
    loss: float = 0.0
    """Share of the front height that is lost, all from the upper endplate."""

    def place(self, points: Sequence[tuple[float, float]] | Points) -> Points:
        """From -1..1 (front to back, top to bottom) into the picture."""
        local = np.asarray(points) * [self.half_width, self.half_height]
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        x, y = local[:, 0], local[:, 1]
        return np.stack([self.centre[0] + x * cos - y * sin, self.centre[1] + x * sin + y * cos], axis=1)

    def upper_endplate(self, below: float = 0.0) -> Points:
        """From front to back; it sinks at the front, and in the middle nearly as much."""
        front, middle = -1 + 2 * self.loss + below, -0.86 + self.loss + below
        corner = 0.06 if self.loss < 0.1 else 0.0
        line = [(-1.04, front + corner), (-0.9, front), (-0.4, middle + 0.4 * self.loss), (0.1, middle)]
        return self.place(open_curve([*line, (0.6, -0.9 + 0.4 * self.loss + below), (0.95, -1.0 + below)]))

    def lower_endplate(self) -> Points:
        """From back to front."""
        return self.place(open_curve([(1.0, 1.0), (0.5, 0.9), (0.0, 0.85), (-0.5, 0.9), (-1.0, 1.0)]))

    def outline(self) -> Points:
        """Endplates joined by a hollow back and a front that buckles where it broke."""
        front = -1 + 2 * self.loss
        bulge = 0.10 * self.loss
        before = open_curve([(-1.02, 0.95), (-0.92 - bulge, 0.4), (-0.90 - bulge, front / 2), (-1.0, front + 0.12)])
        behind = open_curve([(0.97, -0.92), (0.90, -0.3), (0.90, 0.3), (0.99, 0.92)])
        return np.vstack([self.upper_endplate(), self.place(behind), self.lower_endplate(), self.place(before)])


def vertebra(rng: np.random.Generator, *, fracture_class: int, side: int = 112) -> Vertebra:
    """A crop ``side`` wide and 7/8 to once as high: a wedge that grows with the class, a dense band in class 2."""
    if fracture_class not in CLASSES:
        message = f"class {fracture_class} is not one of {CLASSES}"
        raise ValueError(message)
    height = round(side * rng.uniform(0.875, 1.0))
    top = (side - height) // 2
    bodies = _column(rng, rng.uniform(*_LOSS[fracture_class]))
    film = _film(rng, bodies, fracture_class, side)
    mask = np.zeros((side, side), np.uint8)
    cv2.fillPoly(mask, [np.round(bodies[1].outline() * side - 0.5).astype(np.int32)], 255)
    return Vertebra(*(np.ascontiguousarray(plane[top : top + height]) for plane in (film, mask)))


def _column(rng: np.random.Generator, loss: float) -> tuple[_Body, _Body, _Body]:
    """The body above, the one that the crop is about, the one below."""
    width, height = rng.uniform(0.225, 0.265), rng.uniform(0.165, 0.195)
    x, y = rng.uniform(0.43, 0.49), rng.uniform(0.485, 0.515)
    tilt, bend = rng.normal(0, 0.09), rng.normal(0.05, 0.03)
    middle = _Body((x, y), width, height, tilt, loss)
    neighbours = []
    for way in (-1, 1):
        turn = tilt + way * bend - (0.4 * loss if way < 0 else 0)
        reach = way * (2 * height + _GAP)
        # Above a wedge the spine sinks and leans forward.
        sunk = 0.8 * loss * height if way < 0 else 0.0
        centre = (x - reach * np.sin(tilt + way * bend / 2), y + reach * np.cos(tilt) + sunk)
        neighbours.append(_Body(centre, width * (1 + 0.03 * way), height, turn, rng.uniform(0, 0.05)))
    return neighbours[0], middle, neighbours[1]


def _film(
    rng: np.random.Generator, bodies: tuple[_Body, _Body, _Body], fracture_class: int, side: int
) -> npt.NDArray[np.uint8]:
    """Attenuation added up and developed, noise on top."""
    density = rng.uniform(0.20, 0.26) - 0.02 * fracture_class
    level = _soft_tissue(rng, side) + 0.17 * _arches(rng, bodies, side)
    inside = fill(side, [body.outline() for body in bodies], 0.006)
    level += density * inside + _trabeculae(rng, side, fracture_class) * inside
    level += _cortex(bodies, side)
    if fracture_class == 2:
        level += _dense_band(rng, bodies[1], side)
    level = cast(Plane, cv2.GaussianBlur(level, (0, 0), 0.005 * side))
    grain = rng.normal(0, rng.uniform(0.012, 0.022), (side, side))
    grey = 255 * np.clip(rng.uniform(0.92, 1.08) * level + grain + rng.uniform(-0.03, 0.03), 0, 1)
    return cast(npt.NDArray[np.uint8], grey.astype(np.uint8))


def _soft_tissue(rng: np.random.Generator, side: int) -> Plane:
    """Belly with gas before the spine, muscle behind it."""
    x, _ = grid(side)
    gas = np.clip(0.5 - x, 0, 1) * np.clip(clouds(rng, side, 3, octaves=2), 0, 2)
    return cast(Plane, 0.24 + 0.16 * np.exp(-(((x - 0.58) / 0.34) ** 2)) + 0.014 * clouds(rng, side, 6) - 0.18 * gas)


def _trabeculae(rng: np.random.Generator, side: int, fracture_class: int) -> Plane:
    """Struts that run up and down: fine in sound bone, few and coarse in an old fracture, crushed in a fresh one."""
    along, across, strength = {0: (0.10, 0.006, 0.050), 1: (0.13, 0.013, 0.055), 2: (0.02, 0.012, 0.040)}[
        fracture_class
    ]
    noise = rng.standard_normal((side, side), dtype=np.float32)
    struts = cv2.GaussianBlur(noise, (0, 0), sigmaX=max(0.4, across * side), sigmaY=along * side)
    return cast(Plane, struts * np.float32(strength / float(struts.std())))


def _cortex(bodies: tuple[_Body, _Body, _Body], side: int) -> Plane:
    """Bright rims; the endplates, struck along their length, are brighter than front and back."""
    rims = [Stroke(np.vstack([body.outline(), body.outline()[:1]]), 0.013, 0.55) for body in bodies]
    plates = [Stroke(line, 0.019) for body in bodies for line in (body.upper_endplate(), body.lower_endplate())]
    return np.float32(0.20) * draw(side, [*rims, *plates], 0.005)


def _dense_band(rng: np.random.Generator, body: _Body, side: int) -> Plane:
    """Bone pressed together below the upper endplate."""
    band = Stroke(body.upper_endplate(below=0.24), rng.uniform(0.055, 0.075))
    within = fill(side, [body.outline()], 0.006)
    return np.float32(rng.uniform(0.15, 0.21)) * draw(side, [band], 0.012) * within


def _arches(rng: np.random.Generator, bodies: tuple[_Body, _Body, _Body], side: int) -> Plane:
    """Pedicles, joints and spinous processes behind the bodies; between the pedicles is the gap where nerves leave."""
    strokes = []
    for body in bodies:
        slope = rng.normal(0, 0.03)
        pedicle = body.place([(0.8, -0.45), (1.55, -0.35 + slope)])
        joint = body.place(open_curve([(1.45, -1.15), (1.62, -0.4), (1.55, 0.4), (1.68, 1.05)]))
        process = body.place(open_curve([(1.6, 0.1), (2.1, 0.35), (2.75, 0.75 + slope)]))
        strokes += [Stroke(process, 0.13, 0.55), Stroke(pedicle, 0.115, 0.8), Stroke(joint, 0.085, 1.0)]
    return draw(side, strokes, 0.010)
