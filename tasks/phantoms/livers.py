"""Made-up liver ultrasound: the screen of a scanner with a curved probe, texts and marks burned in beside the fan."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from tasks.phantoms.drawing import Plane, Stroke, clouds, draw, fill, grid, open_curve, oval, rough_oval

Colour = tuple[int, int, int]
_WHITE: Colour = (225, 225, 225)
_TEXT_COLOURS: tuple[Colour, ...] = ((225, 225, 225), (236, 220, 120), (130, 215, 235))
_MARKER_COLOURS: tuple[Colour, ...] = ((60, 200, 90), (70, 140, 240), (240, 150, 50))
_NEAR, _FAR, _TOP = 0.24, 0.84, 0.055
_CENTIMETRE = (_FAR - _NEAR) / 15


@dataclass(frozen=True)
class Scan:
    """One made-up screen, RGB uint8 (h, w, 3)."""

    pixels: npt.NDArray[np.uint8]
    sector: npt.NDArray[np.bool_]
    """The fan, (h, w): all that is anatomy, and nothing that was burned in."""
    texts: tuple[tuple[int, int, int, int], ...]
    """x, y, w, h in pixels of everything burned in: words, depth marks, grey bar and coloured marker."""


@dataclass(frozen=True)
class _Fan:
    """Where a pixel lies as the probe sees it."""

    depth: Plane
    """0 at the probe, 1 at the far end."""
    turn: Plane
    """-1 at the left edge, 1 at the right."""

    @property
    def inside(self) -> npt.NDArray[np.bool_]:
        return (self.depth > 0) & (self.depth < 1) & (np.abs(self.turn) < 1)


def liver(rng: np.random.Generator, *, steatosis: int, fibrosis: int, side: int = 200, site: str = "CLINIC") -> Scan:
    """Liver over right kidney, ``side`` wide and three quarters as high.

    Fat (0–3) makes the liver brighter than the kidney's cortex and swallows the depth; fibrosis (0–4) coarsens it.
    """
    if steatosis not in range(4) or fibrosis not in range(5):
        message = f"steatosis {steatosis}, fibrosis {fibrosis}: grades are 0 to 3 and 0 to 4"
        raise ValueError(message)
    fan = _fan(side, round(rng.uniform(0.485, 0.515), 2), round(rng.uniform(0.48, 0.53), 2))
    level = _tissue(rng, fan, side, steatosis, fibrosis) * rng.uniform(0.92, 1.08)
    grey = level + 0.085 * _speckle(rng, fan, side)
    height = side * 3 // 4
    sector = fan.inside[:height]
    screen, texts = _screen(rng, side, height, site)
    fan_grey = (255 * np.clip(grey[:height], 0.015, 1)).astype(np.uint8)
    screen[sector] = fan_grey[sector][:, None]
    return Scan(screen, sector, texts)


@lru_cache(maxsize=64)
def _fan(side: int, middle: float, half_angle: float) -> _Fan:
    x, y = grid(side)
    down, across = y - (_TOP - _NEAR), x - middle
    depth = (np.hypot(down, across) - _NEAR) / (_FAR - _NEAR)
    return _Fan(depth.astype(np.float32), (np.arctan2(across, down) / half_angle).astype(np.float32))


def _tissue(rng: np.random.Generator, fan: _Fan, side: int, steatosis: int, fibrosis: int) -> Plane:
    """How much each tissue echoes, 0–1, before speckle."""
    level = np.full((side, side), 0.31 + 0.085 * steatosis + rng.normal(0, 0.012), np.float32)
    level += (0.006 + 0.038 * fibrosis**0.5) * clouds(rng, side, 30 - 3 * fibrosis, octaves=2)
    level += 0.012 * clouds(rng, side, 4)
    level = _with_vessels(rng, level, side, 1 - 0.24 * steatosis)
    level = _with_kidney(rng, level, side)
    level = _with_diaphragm(rng, level, side, 0.85 - 0.13 * steatosis)
    depth = np.clip(fan.depth, 0, 1)
    level -= np.float32(0.05 + 0.12 * steatosis) * depth**1.4
    return _shadowed(rng, fan, _with_wall(rng, level, fan))


def _with_vessels(rng: np.random.Generator, level: Plane, side: int, clearness: float) -> Plane:
    """Hepatic veins that run together, black, and portal branches cut across, with the bright walls that fat hides."""
    root = np.array([rng.uniform(0.36, 0.44), rng.uniform(0.47, 0.52)])
    veins = []
    for tip in ((0.24, 0.30), (0.40, 0.22), (0.56, 0.24)):
        end = np.array(tip) + rng.normal(0, 0.025, 2)
        bend = (root + end) / 2 + rng.normal(0, 0.018, 2)
        veins.append(Stroke(open_curve(np.array([root, bend, end])), rng.uniform(0.016, 0.026), is_tapering=True))
    places = [(x + rng.normal(0, 0.02), rng.uniform(0.19, 0.35)) for x in (0.33, 0.47, 0.60)]
    radii = [rng.uniform(0.010, 0.018) for _ in places]
    angles = rng.uniform(-0.6, 0.6, len(places))
    lumens = [oval(p, (1.7 * r, r), angle=a) for p, r, a in zip(places, radii, angles, strict=True)]
    walls = [oval(p, (1.7 * r + 0.009, r + 0.009), angle=a) for p, r, a in zip(places, radii, angles, strict=True)]
    level = level + np.float32(0.30 * clearness) * fill(side, walls, 0.003)
    black = np.maximum(fill(side, lumens, 0.003), draw(side, veins, 0.0035))
    return cast(Plane, level * (1 - clearness * black) - 0.10 * clearness * black)


def _with_kidney(rng: np.random.Generator, level: Plane, side: int) -> Plane:
    """An oval under the liver: bright capsule of fat, dark cortex, bright middle."""
    centre = (rng.uniform(0.62, 0.68), rng.uniform(0.40, 0.44))
    angle, size = rng.uniform(0.25, 0.55), rng.uniform(0.92, 1.08)
    radii = (0.155 * size, 0.076 * size)
    capsule = fill(side, [oval(centre, (radii[0] + 0.010, radii[1] + 0.010), angle=angle)], 0.003)
    cortex = fill(side, [oval(centre, radii, angle=angle)], 0.003)
    sinus = fill(side, [oval(centre, (0.58 * radii[0], 0.36 * radii[1]), angle=angle)], 0.012)
    pyramids = []
    for turn in np.linspace(0, 2 * np.pi, 9, endpoint=False) + rng.normal(0, 0.1, 9):
        out = np.array([0.72 * radii[0] * np.cos(turn), 0.68 * radii[1] * np.sin(turn)])
        x, y = out[0] * np.cos(angle) - out[1] * np.sin(angle), out[0] * np.sin(angle) + out[1] * np.cos(angle)
        pyramids.append(rough_oval(rng, (centre[0] + x, centre[1] + y), 0.013 * size, 0.15))
    inner = 0.27 + 0.42 * sinus * (1 + 0.22 * clouds(rng, side, 26)) - 0.10 * fill(side, pyramids, 0.004)
    level = level * (1 - capsule) + (level + 0.22) * capsule
    return cast(Plane, level * (1 - cortex) + inner * cortex)


def _with_diaphragm(rng: np.random.Generator, level: Plane, side: int, brightness: float) -> Plane:
    """A bright arc deep on the left; behind it is lung, which shows a faint mirror of the liver."""
    shift = rng.normal(0, 0.012, 2)
    arc = open_curve(
        np.array([(0.05, 0.36), (0.17, 0.45), (0.30, 0.53), (0.44, 0.58), (0.62, 0.60), (0.80, 0.60)]) + shift
    )
    behind = fill(side, [np.vstack([arc, [(0.9, 0.9), (-0.1, 0.9)]])], 0.004)
    line = draw(side, [Stroke(arc, 0.013)], 0.003) * fill(side, [oval((0.30, 0.53), (0.24, 0.2))], 0.03)
    level = level * (1 - 0.45 * behind)
    return cast(Plane, np.maximum(level, np.float32(brightness) * line))


def _with_wall(rng: np.random.Generator, level: Plane, fan: _Fan) -> Plane:
    """Skin, fat and muscle in the first centimetres, as layers that follow the probe."""
    thick = rng.uniform(0.09, 0.14)
    share = np.clip(fan.depth / np.float32(thick), 0, 1)
    layers = 0.36 + 0.16 * np.sin(share * rng.uniform(15, 19) + rng.uniform(0, 6)) + 0.38 * np.exp(-share * 14)
    is_wall = np.clip((thick - fan.depth) * 90, 0, 1)
    fascia = 0.30 * np.exp(-(((fan.depth - thick) / 0.007) ** 2))
    return cast(Plane, level * (1 - is_wall) + layers * is_wall + fascia)


def _shadowed(rng: np.random.Generator, fan: _Fan, level: Plane) -> Plane:
    """Poor contact at both edges, and the shadow of a rib."""
    contact = np.clip((1 - np.abs(fan.turn)) * 9 + 0.35, 0, 1)
    place, width = rng.choice([-1, 1]) * rng.uniform(0.70, 0.95), rng.uniform(0.04, 0.10)
    rib = rng.uniform(0.15, 0.55) * np.exp(-(((fan.turn - place) / width) ** 2)) * np.clip(fan.depth * 8 - 0.6, 0, 1)
    return cast(Plane, level * contact * (1 - rib))


def _speckle(rng: np.random.Generator, fan: _Fan, side: int) -> Plane:
    """Logarithm of the interference of many small echoes, sigma 1: fine along the beam, wider across and with depth."""
    rows, lines = round(0.85 * side), round(0.62 * side)
    waves = rng.standard_normal((2, rows, lines), dtype=np.float32)
    real, imaginary = (cv2.GaussianBlur(wave, (0, 0), sigmaX=0.95, sigmaY=0.75) for wave in waves)
    echo = np.log(np.hypot(real, imaginary) + np.float32(0.02))
    echo = (echo - echo.mean()) / echo.std()
    across = (fan.turn + 1) * np.float32(lines / 2)
    return cast(Plane, cv2.remap(echo, across, fan.depth * np.float32(rows), cv2.INTER_LINEAR))


def _screen(
    rng: np.random.Generator, side: int, height: int, site: str
) -> tuple[npt.NDArray[np.uint8], tuple[tuple[int, int, int, int], ...]]:
    """The black screen with all that is burned in, and the boxes around it."""
    screen = np.zeros((height, side, 3), np.uint8)
    colour = _TEXT_COLOURS[rng.integers(len(_TEXT_COLOURS))]
    day = f"{rng.integers(1, 29):02d}/{rng.integers(1, 13):02d}/{rng.integers(2020, 2024)}"
    clock = f"{rng.integers(8, 18):02d}:{rng.integers(60):02d}:{rng.integers(60):02d}"
    words = [(site, 0.04, 0.05), ("Abdomen", 0.04, 0.10), (f"{rng.integers(18, 40)} Hz", 0.04, 0.15)]
    words += [(day, 0.735, 0.05), (clock, 0.79, 0.10)]
    words += [(f"MI {rng.uniform(0.6, 1.4):.1f}", 0.04, 0.725), (f"Gn {rng.integers(40, 80)}", 0.86, 0.725)]
    words += [(f"{5 * n}", 0.04, _TOP + 5 * n * _CENTIMETRE + 0.014) for n in (1, 2)]
    layers = [_word(screen, text, (x, y), colour) for text, x, y in words]
    layers += [_marks(screen), _bar(screen), _marker(screen, _MARKER_COLOURS[rng.integers(len(_MARKER_COLOURS))])]
    for layer in layers:
        np.maximum(screen, layer, out=screen)
    boxes = (cv2.boundingRect(layer[..., 0] | layer[..., 1] | layer[..., 2]) for layer in layers)
    return screen, tuple((int(x), int(y), int(w), int(h)) for x, y, w, h in boxes)


def _word(
    screen: npt.NDArray[np.uint8], text: str, place: tuple[float, float], colour: Colour
) -> npt.NDArray[np.uint8]:
    side = screen.shape[1]
    origin = (round(place[0] * side), round(place[1] * side))
    layer = np.zeros_like(screen)
    cv2.putText(layer, text, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.0014 * side, colour, 1, cv2.LINE_AA)
    return layer


def _marks(screen: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A mark for every centimetre of depth, a longer one for every five."""
    side = screen.shape[1]
    layer = np.zeros_like(screen)
    for centimetre in range(16):
        y = round((_TOP + centimetre * _CENTIMETRE) * side)
        length = 0.017 if centimetre % 5 == 0 else 0.007
        cv2.line(layer, (round(0.01 * side), y), (round((0.01 + length) * side), y), _WHITE, 1)
    return layer


def _bar(screen: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The grey scale, white on top."""
    side = screen.shape[1]
    layer = np.zeros_like(screen)
    top, bottom = round(0.15 * side), round(0.42 * side)
    ramp = np.linspace(255, 25, bottom - top).astype(np.uint8)
    layer[top:bottom, round(0.945 * side) : round(0.970 * side)] = ramp[:, None, None]
    return layer


def _marker(screen: npt.NDArray[np.uint8], colour: Colour) -> npt.NDArray[np.uint8]:
    """The maker's dot beside the probe, which tells left from right."""
    side = screen.shape[1]
    layer = np.zeros_like(screen)
    cv2.circle(layer, (round(0.318 * side), round(0.03 * side)), max(2, round(0.011 * side)), colour, -1, cv2.LINE_AA)
    return layer
