"""Made-up frontal chest films: attenuation of the organs added up, then the film's response, marker and noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

import cv2
import numpy as np
import numpy.typing as npt

from tasks.phantoms.drawing import Plane, Points, Stroke, clouds, draw, enlarge, fill, grid, oval
from tasks.phantoms.findings import PAINTERS, Drawn, Extent, Scene
from tasks.phantoms.thorax import HANDS, Thorax, draw_thorax

BOXED = (
    "Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax"
)  # fmt: skip
"""The findings that ChestX-ray14 marks with boxes."""

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Box:
    """Where a finding lies: top-left corner and extent, in pixels of the image."""

    label: str
    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True)
class Phantom:
    """One made-up film, (side, side) uint8, and a box for every boxed finding on it."""

    pixels: Grey
    boxes: tuple[Box, ...]


def chest(
    rng: np.random.Generator,
    side: int = 1024,
    findings: frozenset[str] = frozenset(),
    view: Literal["PA", "AP"] = "PA",
    *,
    has_words: bool = True,
) -> Phantom:
    """A frontal chest film with these findings, uint8 (side, side); the same generator state gives the same film.

    Without ``has_words`` its lead letter is all that is written on it, and not a pixel else differs.
    """
    unknown = sorted(findings - PAINTERS.keys())
    if unknown:
        message = f"unknown findings {unknown}; known are {', '.join(PAINTERS)}"
        raise ValueError(message)
    # Soft organs are drawn small, ribs and vessels at twice that, only noise at full size: that is what makes it fast.
    fine = int(np.clip(side // 2, 128, 512))
    thorax = draw_thorax(
        rng,
        is_supine=view == "AP",
        has_large_heart="Cardiomegaly" in findings,
        has_large_lungs="Emphysema" in findings,
    )
    heart = fill(fine // 2, [thorax.heart_outline()], 0.006)
    # Some lung lies behind the heart, so a little of its air still shows there.
    lungs = {hand: fill(fine // 2, [thorax.lung(hand)], 0.006) * (1 - 0.8 * heart) for hand in HANDS}
    air = np.minimum(lungs[-1] + lungs[1], 1)
    scene = Scene(thorax, lungs)
    drawn = {name: PAINTERS[name](rng, scene) for name in sorted(findings)}
    soft = _soft_tissue(rng, thorax, air, heart) + _broad_bones(thorax, fine // 2, is_supine=view == "AP")
    soft += _sum_of(drawn, fine // 2)
    attenuation = enlarge(soft, fine)
    attenuation += _slender_bones(thorax, fine)
    attenuation += _lung_vessels(rng, thorax, enlarge(air, fine))
    film = _mark(rng, _exposed(rng, thorax, attenuation), view, has_words=has_words)
    boxes = tuple(_box(name, drawn[name].extent, side) for name in BOXED if name in drawn)
    return Phantom(_digitised(rng, film, side), boxes)


def _sum_of(drawn: Mapping[str, Drawn], side: int) -> Plane:
    total = np.zeros((side, side), np.float32)
    for finding in drawn.values():
        total += finding.opacity
    return total


def _soft_tissue(rng: np.random.Generator, thorax: Thorax, air: Plane, heart: Plane) -> Plane:
    """Attenuation of trunk, heart, great vessels, spine and abdomen, lungs taken out; 0 is air."""
    side = air.shape[0]
    x, y = grid(side)
    body = fill(side, [thorax.body()], 0.006)
    middle = fill(side, [thorax.mediastinum()], 0.010)
    spine = np.exp(-(((x - thorax.midline) / 0.044) ** 2))
    roundness = 1 - 0.55 * np.clip(np.abs(x - thorax.midline) / (1.5 * thorax.half_width), 0, 1) ** 2
    belly = np.clip((y - (thorax.bases[0] - 0.02)) * 9, 0, 1) * (1 - air)
    breasts = [oval(thorax.at(hand, 0.60, 0.86), (0.17, 0.15)) for hand in HANDS]
    hila = [oval(thorax.at(hand, 0.27, 0.47), (0.034, 0.066), angle=-0.3 * hand) for hand in HANDS]
    tissue = (0.74 + 0.10 * y) * body * roundness + 0.10 * rng.uniform(0, 1.6) * fill(side, breasts, 0.02)
    tissue = tissue * (1 - 0.66 * air) + 0.40 * heart + 0.40 * middle + 0.30 * spine * body + 0.62 * belly * body
    tissue += 0.20 * air * fill(side, hila, 0.014)
    tissue += 0.012 * clouds(rng, side, 40, octaves=2) * air
    tissue += 0.022 * clouds(rng, side, 5, octaves=3) * body
    tissue -= _gas(rng, thorax, side)
    return cast(Plane, tissue)


def _gas(rng: np.random.Generator, thorax: Thorax, side: int) -> Plane:
    """Air in the windpipe and its main branches, and in the stomach under the dome on the right of the image."""
    fork = thorax.at(1, 0.02, 0.36)
    trunk = [Stroke(np.array([thorax.at(1, 0.0, -0.5), fork]), 0.036)]
    for hand, across, down in ((-1, 0.20, 0.48), (1, 0.24, 0.46)):
        trunk.append(Stroke(np.array([fork, thorax.at(hand, across, down)]), 0.022, 0.7))
    x, y = thorax.at(1, rng.uniform(0.42, 0.56), 1.0)
    radius = rng.uniform(0.025, 0.055)
    bubble = oval((x, y + 0.018 + radius * 0.7), (radius * 1.5, radius * 0.7))
    return 0.34 * draw(side, trunk, 0.006) + 0.55 * fill(side, [bubble], 0.010)


def _broad_bones(thorax: Thorax, side: int, *, is_supine: bool) -> Plane:
    """Attenuation of shoulder blades, upper arms and vertebrae."""
    blades = fill(side, thorax.scapulae(0.02 if is_supine else 0.14), 0.004)
    arms = fill(side, thorax.humeri(), 0.004)
    bones: Plane = 0.13 * blades + 0.38 * arms + 0.10 * _vertebrae(thorax, side)
    return bones


def _slender_bones(thorax: Thorax, side: int) -> Plane:
    """Attenuation of ribs and collar bones."""
    behind = _hollow(side, list(thorax.posterior_ribs()), 0.022)
    before = _hollow(side, list(thorax.anterior_ribs()), 0.024)
    collar = _hollow(side, list(thorax.clavicles()), 0.027)
    bones: Plane = 0.16 * behind + 0.085 * before + 0.24 * collar
    return bones


def _hollow(side: int, paths: list[Points], width: float) -> Plane:
    """Long bones: a bright rim with a fainter inside."""
    rims = [Stroke(path, width) for path in paths]
    insides = [Stroke(path, width * 0.62, 0.62) for path in paths]
    return draw(side, [*rims, *insides], 0.0022)


def _vertebrae(thorax: Thorax, side: int) -> Plane:
    """Vertebral bodies as a row of blocks along the midline."""
    strokes = []
    for number in range(17):
        x, y = thorax.at(1, 0.0, -0.30 + number * 0.105)
        strokes.append(Stroke(np.array([[x - 0.030, y], [x + 0.030, y]]), 0.048, 0.8))
        strokes.append(Stroke(np.array([[x - 0.036, y + 0.022], [x + 0.036, y + 0.022]]), 0.007, 1.0))
        strokes.append(Stroke(np.array([[x, y], [x, y + 0.012]]), 0.010, 1.0))
    return draw(side, strokes, 0.003)


def _lung_vessels(rng: np.random.Generator, thorax: Thorax, air: Plane) -> Plane:
    """Attenuation of the vessels, which only air makes visible."""
    side = air.shape[0]
    # On a small rendering most vessels would be thinner than a pixel.
    vessels = draw(side, thorax.vessels(rng, 15 if side >= 256 else 5), 0.0018)
    return np.float32(0.17) * air * vessels


def _exposed(rng: np.random.Generator, thorax: Thorax, attenuation: Plane) -> Grey:
    """Grey levels 0–255 of the developed film, darker towards its edges and black outside the shutters."""
    side = attenuation.shape[0]
    x, y = grid(side)
    level = 1 - np.exp(np.maximum(attenuation, 0.02) * np.float32(-rng.uniform(1.45, 1.95)))
    dark, bright = rng.uniform(2, 16), rng.uniform(225, 250)
    film = dark + (bright - dark) * np.power(level, np.float32(rng.uniform(0.95, 1.35)))
    film *= 1 - rng.uniform(0.1, 0.3) * ((x - thorax.midline) ** 2 + (y - 0.5) ** 2)
    if rng.random() < 0.45:
        left, right, top, bottom = rng.uniform(0.0, 0.035, 4)
        shutter = np.array([[left, top], [1 - right, top], [1 - right, 1 - bottom], [left, 1 - bottom]])
        film *= fill(side, [shutter], 0.001)
    grey: Grey = np.clip(film, 0, 255).astype(np.uint8)
    return grey


def _mark(rng: np.random.Generator, film: Grey, view: str, *, has_words: bool) -> Grey:
    """The film with its lead letter, and with the word PORTABLE on some of those taken lying down."""
    side = film.shape[0]
    is_left = rng.random() < 0.7
    x, y = (rng.uniform(0.87, 0.92) if is_left else rng.uniform(0.05, 0.09)), rng.uniform(0.13, 0.19)
    weight = max(1, side // 170)
    _write(film, "L" if is_left else "R", (x, y), 1.3, weight)
    if view == "AP" and rng.random() < 0.5:
        place = (rng.uniform(0.04, 0.08), rng.uniform(0.055, 0.08))
        if has_words:
            _write(film, "PORTABLE", place, 0.55, max(1, side // 300))
    return film


def _write(film: Grey, text: str, place: tuple[float, float], size: float, weight: int) -> None:
    side = film.shape[0]
    origin = (round(place[0] * side), round(place[1] * side))
    cv2.putText(film, text, origin, cv2.FONT_HERSHEY_SIMPLEX, size * side / 512, 245.0, weight, cv2.LINE_AA)


def _digitised(rng: np.random.Generator, film: Grey, side: int) -> Grey:
    """The film at its final size with detector noise, uint8."""
    way = cv2.INTER_CUBIC if side > film.shape[0] else cv2.INTER_AREA
    image = cv2.resize(film, (side, side), interpolation=way)
    grain = rng.integers(0, 256, (side, side), dtype=np.uint8)
    # Averaged over 2 x 2, the way a detector's blur ties neighbours together; then scaled to a sigma of 1.5–3 levels.
    grain = cast(Grey, cv2.blur(grain, (2, 2)))
    amount = rng.uniform(0.04, 0.085)
    return cast(Grey, cv2.addWeighted(image, 1.0, grain, amount, -127.5 * amount))


def _box(label: str, extent: Extent, side: int) -> Box:
    left, top, right, bottom = (float(edge) for edge in np.clip(extent, 0.0, 1.0))
    return Box(label, left * side, top * side, (right - left) * side, (bottom - top) * side)
