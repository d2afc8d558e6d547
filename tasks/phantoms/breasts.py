"""Made-up mammograms: a breast before black, glandular tissue that grows with the density class, and one mass."""

from __future__ import annotations

from typing import cast

import numpy as np
import numpy.typing as npt

from tasks.phantoms.drawing import Plane, Points, Stroke, closed_curve, clouds, draw, fill, grid, open_curve, rough_oval

DENSITIES = (1, 2, 3, 4)
"""The four classes of breast density, from almost all fat to extremely dense."""

# Share of the breast that is glandular, and how bright that tissue is, by density class.
_GLANDULAR = {1: (0.14, 0.16), 2: (0.34, 0.24), 3: (0.60, 0.32), 4: (0.90, 0.40)}


def breast(
    rng: np.random.Generator, side: int = 224, density: int = 1, is_malignant: bool = False
) -> npt.NDArray[np.uint8]:
    """A mammogram with one mass, uint8 (side, side): round and sharp, or with spicules where malignant."""
    if density not in _GLANDULAR:
        message = f"density {density} is not one of {DENSITIES}"
        raise ValueError(message)
    outline, nipple = _outline(rng)
    skin = fill(side, [outline], 0.004)
    # Compressed tissue gets thinner towards the skin, so the edge is darker than the middle.
    thickness = np.clip(fill(side, [outline], 0.045) * 1.9 - 0.85, 0, 1) ** 0.7
    share, brightness = _GLANDULAR[density]
    gland = _gland(rng, side, nipple, share)
    tissue = 0.20 + 0.05 * clouds(rng, side, 6, octaves=4) + brightness * gland
    tissue += (0.06 + 0.05 * share) * _strands(rng, side, nipple)
    tissue += _pectoral_muscle(rng, side) + _mass(rng, side, nipple, is_malignant)
    rim = np.clip(skin - fill(side, [nipple + (outline - nipple) * 0.985 - [0.006, 0.0]], 0.004), 0, 1)
    image = skin * (0.25 + 0.75 * thickness) * np.clip(tissue, 0.05, 1.0) + 0.10 * rim * skin
    grain = rng.normal(0, 0.009, (side, side)) * skin
    grey = 255 * np.clip(rng.uniform(0.95, 1.25) * image + grain, 0, 1)
    film = grey.astype(np.uint8)
    return film if rng.random() < 0.5 else np.ascontiguousarray(film[:, ::-1])


def _outline(rng: np.random.Generator) -> tuple[Points, Points]:
    """The breast's outline, chest wall at the left edge, and the tip where the nipple is."""
    reach = rng.uniform(0.55, 0.82)
    middle = rng.uniform(0.50, 0.60)
    top, bottom = rng.uniform(-0.04, 0.06), rng.uniform(0.93, 1.02)
    points = [(-0.05, top - 0.05), (0.30 * reach, top), (0.78 * reach, middle - 0.29), (0.955 * reach, middle - 0.13)]
    points += [(reach, middle), (0.96 * reach, middle + 0.13), (0.78 * reach, middle + 0.29), (0.34 * reach, bottom)]
    points += [(-0.05, bottom + 0.05)]
    return closed_curve(points), np.array([reach, middle])


def _gland(rng: np.random.Generator, side: int, nipple: Points, share: float) -> Plane:
    """Fibroglandular tissue behind the nipple, 0–1, lumpy and with soft borders; covers about ``share`` of it."""
    x, y = grid(side)
    reach, middle = float(nipple[0]), float(nipple[1])
    across = (x - 0.52 * reach) / (0.20 + 0.42 * share) / reach
    down = (y - middle + 0.04) / (0.15 + 0.30 * share)
    lumps = 0.55 * clouds(rng, side, 5, octaves=4)
    fine = 0.85 + 0.16 * clouds(rng, side, 16, octaves=2)
    cover = np.clip(1.25 - (across**2 + down**2) + lumps * (1.25 - 0.6 * share), 0, 1)
    return cast(Plane, np.clip(cover * fine, 0, 1.2))


def _strands(rng: np.random.Generator, side: int, nipple: Points) -> Plane:
    """Ducts and ligaments: fine lines that gather at the nipple."""
    strokes = []
    for _ in range(30):
        start = np.array([rng.uniform(0.0, 0.6) * nipple[0], nipple[1] + rng.normal(0, 0.26)])
        bend = (start + nipple) / 2 + rng.normal(0, 0.045, 2)
        end = start + (nipple - start) * rng.uniform(0.5, 0.95)
        strokes.append(Stroke(open_curve(np.array([start, bend, end])), rng.uniform(0.003, 0.009), rng.uniform(0.4, 1)))
    return draw(side, strokes, 0.0035)


def _pectoral_muscle(rng: np.random.Generator, side: int) -> Plane:
    """The muscle as a bright triangle in the upper corner, as oblique views show it; absent in others."""
    if rng.random() < 0.35:
        return np.zeros((side, side), np.float32)
    width, height = rng.uniform(0.18, 0.34), rng.uniform(0.40, 0.68)
    corner = np.array([[-0.1, -0.1], [width, -0.1], [0.62 * width, 0.42 * height], [-0.03, height], [-0.1, height]])
    return np.float32(0.24) * fill(side, [corner], 0.012)


def _mass(rng: np.random.Generator, side: int, nipple: Points, is_malignant: bool) -> Plane:
    """A smooth round mass, or a rough one whose spicules draw the tissue in."""
    centre = (float(nipple[0]) * rng.uniform(0.38, 0.66), float(nipple[1]) + rng.uniform(-0.16, 0.14))
    if not is_malignant:
        shape = rough_oval(rng, centre, rng.uniform(0.045, 0.085), 0.07)
        return np.float32(rng.uniform(0.22, 0.30)) * fill(side, [shape], 0.009)
    radius = rng.uniform(0.040, 0.075)
    core = fill(side, [rough_oval(rng, centre, radius, 0.26, knots=13)], 0.010)
    spicules = []
    for turn in np.linspace(0, 2 * np.pi, 15, endpoint=False) + rng.normal(0, 0.22, 15):
        heading = np.array([np.cos(turn), np.sin(turn)])
        tip = rng.uniform(1.3, 2.6) * radius
        path = np.array([centre + 0.5 * radius * heading, centre + tip * heading + rng.normal(0, 0.012, 2)])
        spicules.append(Stroke(open_curve(path, steps=4), rng.uniform(0.006, 0.011), is_tapering=True))
    strength = np.float32(rng.uniform(0.30, 0.38))
    mass: Plane = strength * np.maximum(core, np.float32(0.55) * draw(side, spicules, 0.004))
    return mass
