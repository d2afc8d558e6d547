"""What disease adds to a chest film: opacity (added) and air (removed), with the place of what can be boxed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tasks.phantoms.drawing import Plane, Points, Stroke, clouds, draw, fill, grid, oval, rough_oval
from tasks.phantoms.thorax import Thorax

Extent = tuple[float, float, float, float]
"""Left, top, right, bottom as fractions of the image side."""


@dataclass(frozen=True)
class Scene:
    """What a finding needs to know to be drawn."""

    thorax: Thorax
    lungs: Mapping[int, Plane]
    """Air of each lung by hand, 0–1."""

    @property
    def side(self) -> int:
        """Pixels along the side of the planes."""
        return int(self.lungs[1].shape[0])


@dataclass(frozen=True)
class Drawn:
    """One finding: opacity to add, (side, side), below 0 where air takes tissue away; where it lies."""

    opacity: Plane
    extent: Extent


Painter = Callable[[np.random.Generator, Scene], Drawn]


def _extent(points: Points) -> Extent:
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _hand(rng: np.random.Generator) -> int:
    return 1 if rng.random() < 0.5 else -1


def _haze(rng: np.random.Generator, scene: Scene, outline: Points, softness: float) -> Plane:
    """A cloudy area, 0–1.5."""
    mottle = np.float32(0.8) + np.float32(0.28) * clouds(rng, scene.side, 10, octaves=3)
    haze: Plane = fill(scene.side, [outline], softness) * np.clip(mottle, 0.0, 1.5)
    return haze


def _patch(
    rng: np.random.Generator, scene: Scene, radius: tuple[float, float], strength: float, downs: tuple[float, float]
) -> Drawn:
    hand = _hand(rng)
    # The heart would hide a patch near the midline on the right of the image.
    centre = scene.thorax.at(hand, rng.uniform(0.45, 0.66) + (0.12 if hand > 0 else 0.0), rng.uniform(*downs))
    outline = rough_oval(rng, centre, rng.uniform(*radius), 0.22)
    return Drawn(strength * _haze(rng, scene, outline, 0.018) * scene.lungs[hand], _extent(outline))


def _infiltration(rng: np.random.Generator, scene: Scene) -> Drawn:
    return _patch(rng, scene, (0.08, 0.12), 0.30, (0.40, 0.85))


def _pneumonia(rng: np.random.Generator, scene: Scene) -> Drawn:
    return _patch(rng, scene, (0.08, 0.12), 0.48, (0.60, 0.90))


def _consolidation(rng: np.random.Generator, scene: Scene) -> Drawn:
    return _patch(rng, scene, (0.09, 0.14), 0.68, (0.20, 0.85))


def _atelectasis(rng: np.random.Generator, scene: Scene) -> Drawn:
    """Plate-like bands above the diaphragm."""
    hand = _hand(rng)
    x, y = scene.thorax.at(hand, rng.uniform(0.5, 0.6) + (0.14 if hand > 0 else 0.0), rng.uniform(0.78, 0.88))
    half = rng.uniform(0.055, 0.085)
    slope = hand * rng.uniform(-0.3, 0.3)
    bands = [
        Stroke(np.array([[x - half, y + gap - slope * half], [x + half, y + gap + slope * half]]), 0.011)
        for gap in (0.0, rng.uniform(0.022, 0.032))
    ]
    wedge = np.float32(0.5) * fill(scene.side, [oval((x, y + 0.012), (half, 0.035), angle=slope)], 0.012)
    points = np.vstack([band.points for band in bands]) + np.array([[0, -0.012], [0, 0.012]] * 2)
    opacity = np.float32(0.36) * (draw(scene.side, bands, 0.005) + wedge) * scene.lungs[hand]
    return Drawn(opacity, _extent(points))


def _effusion(rng: np.random.Generator, scene: Scene) -> Drawn:
    """Fluid with a meniscus that climbs the chest wall and blunts the angle."""
    hand = _hand(rng)
    level = rng.uniform(0.62, 0.92)
    shore = [(1.08, level - 0.20), (0.96, level - 0.10), (0.80, level), (0.5, level + 0.05), (0.1, level + 0.07)]
    outline = scene.thorax.along(hand, [*shore, (0.1, 1.3), (1.08, 1.3)])
    shown = scene.thorax.along(hand, [(0.3, 1.05), (1.0, 1.15), (0.97, level - 0.1)])
    return Drawn(0.85 * fill(scene.side, [outline], 0.010) * scene.lungs[hand], _extent(shown))


def _round(rng: np.random.Generator, scene: Scene, radius: tuple[float, float], strength: float) -> Drawn:
    hand = _hand(rng)
    centre = scene.thorax.at(hand, rng.uniform(0.42, 0.74), rng.uniform(0.28, 0.80))
    outline = rough_oval(rng, centre, rng.uniform(*radius), 0.08)
    return Drawn(strength * fill(scene.side, [outline], 0.004), _extent(outline))


def _mass(rng: np.random.Generator, scene: Scene) -> Drawn:
    return _round(rng, scene, (0.045, 0.075), 0.55)


def _nodule(rng: np.random.Generator, scene: Scene) -> Drawn:
    return _round(rng, scene, (0.014, 0.026), 0.50)


def _pneumothorax(rng: np.random.Generator, scene: Scene) -> Drawn:
    """Air outside a lung that has shrunk from apex and wall, with the thin line of the pleura."""
    hand = _hand(rng)
    thorax = scene.thorax
    shrink = rng.uniform(0.78, 0.88)
    whole = thorax.lung(hand)
    anchor = np.array(thorax.at(hand, 0.22, 0.62))
    edge = anchor + (whole - anchor) * np.array([shrink, shrink * 0.98])
    collapsed = fill(scene.side, [edge], 0.003)
    line = draw(scene.side, [Stroke(np.vstack([edge, edge[:1]]), 0.004)], 0.0015)
    x, y = grid(scene.side)
    upper = np.clip((thorax.at(hand, 0, 0.78)[1] - y) * 12, 0, 1) * np.clip((x - anchor[0]) * hand * 18, 0, 1)
    free = scene.lungs[hand] * (1 - collapsed)
    opacity = (0.18 * line * scene.lungs[hand] - 0.17 * free + 0.07 * collapsed * scene.lungs[hand]) * upper
    return Drawn(opacity, _extent(np.array([thorax.at(hand, 0.35, 0.0), thorax.at(hand, 0.9, 0.5)])))


def _cardiomegaly(rng: np.random.Generator, scene: Scene) -> Drawn:
    """The heart itself is drawn large by the thorax; here is only where it lies."""
    return Drawn(np.zeros((scene.side, scene.side), np.float32), _extent(scene.thorax.heart_outline()))


def _edema(rng: np.random.Generator, scene: Scene) -> Drawn:
    """Haze on both sides of the hila, like the wings of a bat."""
    centres = [scene.thorax.at(hand, rng.uniform(0.40, 0.48), rng.uniform(0.50, 0.60)) for hand in (-1, 1)]
    wings = [rough_oval(rng, centre, rng.uniform(0.10, 0.14), 0.18) for centre in centres]
    haze = 0.9 + 0.35 * clouds(rng, scene.side, 14, octaves=3)
    return Drawn(0.36 * fill(scene.side, wings, 0.035) * haze, _extent(np.vstack(wings)))


def _emphysema(rng: np.random.Generator, scene: Scene) -> Drawn:
    """Less tissue everywhere, with some bullae; the thorax is already overinflated."""
    opacity = -0.07 * (scene.lungs[-1] + scene.lungs[1])
    bullae = [
        oval(scene.thorax.at(_hand(rng), rng.uniform(0.4, 0.7), rng.uniform(0.1, 0.4)), (radius, radius * 1.2))
        for radius in rng.uniform(0.02, 0.045, size=5)
    ]
    opacity = opacity - 0.07 * fill(scene.side, bullae, 0.004)
    return Drawn(opacity.astype(np.float32), _extent(np.vstack(bullae)))


def _fibrosis(rng: np.random.Generator, scene: Scene) -> Drawn:
    """A coarse net towards the bases."""
    net = 1 - np.clip(np.abs(clouds(rng, scene.side, 44, octaves=2)) * 1.3, 0, 1)
    y = grid(scene.side)[1]
    low = np.clip((y - scene.thorax.at(1, 0, 0.42)[1]) * 5, 0, 1)
    opacity = 0.22 * net * low * (scene.lungs[-1] + scene.lungs[1])
    return Drawn(opacity.astype(np.float32), (*scene.thorax.at(-1, 1, 0.42), *scene.thorax.at(1, 1, 1.0)))


def _hernia(rng: np.random.Generator, scene: Scene) -> Drawn:
    """A pouch of stomach behind the heart, with air above fluid."""
    x, y = scene.thorax.at(1, rng.uniform(0.05, 0.2), 0.92)
    pouch = oval((x, y), (0.075, 0.07))
    air = oval((x, y - 0.022), (0.055, 0.034))
    opacity = 0.5 * fill(scene.side, [pouch], 0.004) - 0.75 * fill(scene.side, [air], 0.006)
    return Drawn(opacity.astype(np.float32), _extent(pouch))


def _pleural_thickening(rng: np.random.Generator, scene: Scene) -> Drawn:
    """A bright band inside the chest wall."""
    hand = _hand(rng)
    wall = scene.thorax.lung(hand)
    middle = np.array(scene.thorax.at(hand, 0.3, 0.6))
    knots = rng.uniform(0.80, 0.93, 25)
    shrink = np.interp(np.linspace(0, 24, len(wall)), np.arange(25), knots)[:, None]
    band = scene.lungs[hand] * (1 - fill(scene.side, [middle + (wall - middle) * shrink], 0.004))
    x, y = grid(scene.side)
    lateral = np.clip((x - scene.thorax.at(hand, 0.5, 0.5)[0]) * hand * 14, 0, 1)
    upper = np.clip((scene.thorax.at(hand, 0, 0.98)[1] - y) * 12, 0, 1)
    box = np.array([scene.thorax.at(hand, 0.6, 0.1), scene.thorax.at(hand, 1.0, 1.0)])
    return Drawn((0.52 * band * lateral * upper).astype(np.float32), _extent(box))


PAINTERS: Mapping[str, Painter] = {
    "Atelectasis": _atelectasis,
    "Cardiomegaly": _cardiomegaly,
    "Consolidation": _consolidation,
    "Edema": _edema,
    "Effusion": _effusion,
    "Emphysema": _emphysema,
    "Fibrosis": _fibrosis,
    "Hernia": _hernia,
    "Infiltration": _infiltration,
    "Mass": _mass,
    "Nodule": _nodule,
    "Pleural_Thickening": _pleural_thickening,
    "Pneumonia": _pneumonia,
    "Pneumothorax": _pneumothorax,
}
"""How each of the fourteen findings of ChestX-ray14 is drawn."""
