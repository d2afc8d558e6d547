"""The anatomy of one made-up chest: where its organs and bones lie, as outlines and strokes.

Coordinates are fractions of the image side. ``hand`` is -1 on the left of the image (the patient's right) and +1 on
its right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from tasks.phantoms.drawing import Points, Stroke, closed_curve, open_curve

Ratio = npt.NDArray[np.float64]

HANDS = (-1, 1)

# Outline of a lung: across from the midline (1 = chest wall at the base) and down from the apex (1 = diaphragm).
_LUNG = np.array(
    [
        (0.24, 0.16), (0.27, 0.04), (0.38, 0.00), (0.53, 0.05), (0.68, 0.18), (0.81, 0.38), (0.91, 0.62), (0.97, 0.86),
        (0.99, 1.04), (0.97, 1.16), (0.90, 1.09), (0.76, 1.01), (0.58, 0.98), (0.38, 1.01), (0.22, 1.06), (0.18, 0.92),
        (0.20, 0.66), (0.23, 0.46), (0.20, 0.30),
    ]
)  # fmt: skip
_HEART = ((-0.10, 0.44), (-0.24, 0.62), (-0.30, 0.80), (-0.20, 1.00), (0.10, 1.10), (0.42, 1.10), (0.66, 1.03))
_APEX_TO_BASE = ((0.70, 0.92), (0.58, 0.74), (0.40, 0.58), (0.24, 0.44), (0.14, 0.36))


@dataclass(frozen=True)
class Thorax:
    """Proportions of one patient as the film shows them."""

    midline: float
    apex: float
    """Height of the lung apices."""
    bases: tuple[float, float]
    """Height of the two diaphragm domes, left of the image first."""
    half_width: float
    """From the midline to the chest wall at the base."""
    heart: float
    """Widest heart over widest chest; above 0.5 the heart is enlarged."""
    lean: float
    """Shift of the midline from top to bottom."""
    rib_slope: float
    shoulder: float
    """Height of the shoulders."""
    wobble: Points
    """Personal deviations of the lung outline, (2 * knots, 2)."""

    @overload
    def at(self, hand: int, across: float, down: float) -> tuple[float, float]: ...
    @overload
    def at(self, hand: int, across: Ratio, down: Ratio) -> tuple[Ratio, Ratio]: ...
    def at(self, hand: int, across: Any, down: Any) -> tuple[Any, Any]:
        """A point given in units of this chest: across from the midline, down from apex (0) to dome (1)."""
        height = self.bases[(hand + 1) // 2] - self.apex
        return self.midline + self.lean * (down - 0.5) + hand * across * self.half_width, self.apex + down * height

    def along(self, hand: int, path: Sequence[tuple[float, float]] | Points) -> Points:
        """The same for many points at once, (n, 2)."""
        across, down = np.asarray(path, dtype=np.float64).T
        return np.stack(self.at(hand, across, down), axis=1)

    def lung(self, hand: int) -> Points:
        """Outline of one lung as air shows it, the heart not yet taken off."""
        knots = len(_LUNG)
        own = _LUNG + (self.wobble[:knots] if hand < 0 else self.wobble[knots:])
        return closed_curve(self.along(hand, own))

    def heart_outline(self) -> Points:
        """Outline of the heart, its apex to the right of the image."""
        # The template is 0.96 half-widths wide; the heart's share counts both halves of the chest.
        scale = 2 * self.heart / 0.96
        points = [(across * scale, 0.75 + (down - 0.75) * (0.55 + 0.45 * scale)) for across, down in _HEART]
        points += [(across * scale, 0.75 + (down - 0.75) * (0.55 + 0.45 * scale)) for across, down in _APEX_TO_BASE]
        return closed_curve(self.along(1, points))

    def mediastinum(self) -> Points:
        """Outline of the great vessels and the spine's soft tissue, with the aortic knob."""
        right = [(0.11, -0.25), (0.13, 0.05), (0.17, 0.22), (0.26, 0.29), (0.25, 0.37), (0.17, 0.43), (0.2, 1.2)]
        left = [(-0.16, 1.2), (-0.15, 0.6), (-0.18, 0.40), (-0.16, 0.2), (-0.14, 0.05), (-0.11, -0.25)]
        return closed_curve(self.along(1, right + left))

    def body(self) -> Points:
        """Outline of trunk, shoulders and neck."""
        half = [(0.24, -0.6), (0.25, -0.24), (0.42, -0.14)]
        points = [self.at(1, *point) for point in half]
        points += [(self.midline + 1.05 * self.half_width, self.shoulder), (self.midline + 1.5 * self.half_width, 0.26)]
        points += [self.at(1, 1.38, 0.6), self.at(1, 1.24, 0.9), self.at(1, 1.26, 1.7)]
        mirrored = [(2 * self.midline - x, y) for x, y in reversed(points)]
        return closed_curve(points + mirrored)

    def posterior_ribs(self) -> Iterator[Points]:
        """Centre lines of the ribs behind the lungs, from the spine to the chest wall."""
        for hand in HANDS:
            for number in range(10):
                start = -0.03 + number * 0.108
                wall = 0.52 + 0.50 * np.sqrt(min(1.0, (number + 0.3) / 6.5))
                fall = self.rib_slope * (0.7 + 0.06 * number)
                path = [(0.09, start), (0.34 * wall, start - 0.012), (0.66 * wall, start + 0.3 * fall)]
                path += [(0.90 * wall, start + 0.75 * fall), (wall, start + 1.15 * fall)]
                yield open_curve(self.along(hand, path), steps=5)

    def anterior_ribs(self) -> Iterator[Points]:
        """Centre lines of the ribs before the lungs, from the chest wall to where bone turns to cartilage."""
        for hand in HANDS:
            for number in range(7):
                start = 0.10 + number * 0.125
                wall = 0.60 + 0.42 * np.sqrt(min(1.0, (number + 0.5) / 5))
                drop = self.rib_slope * 1.25
                path = [(wall, start), (0.86 * wall, start + 0.55 * drop), (0.66 * wall, start + drop)]
                path += [(0.46 * wall, start + 1.12 * drop)]
                yield open_curve(self.along(hand, path), steps=5)

    def clavicles(self) -> Iterator[Points]:
        """Centre lines of the collar bones, from the breast bone to the shoulder."""
        for hand in HANDS:
            path = [(0.13, 0.13), (0.30, 0.085), (0.52, 0.035), (0.78, -0.01), (1.02, -0.045)]
            yield open_curve(self.along(hand, path))

    def scapulae(self, lateral: float) -> Iterator[Points]:
        """Outlines of the shoulder blades; the larger ``lateral``, the further they clear the lungs."""
        for hand in HANDS:
            points = [(0.72, 0.02), (0.66, 0.14), (0.74, 0.34), (0.86, 0.50), (0.93, 0.44), (0.97, 0.22), (1.02, 0.04)]
            yield closed_curve(self.along(hand, np.array(points) + np.array([lateral, 0.0])))

    def humeri(self) -> Iterator[Points]:
        """Outlines of the heads of the upper arms with some of the shaft."""
        for hand in HANDS:
            points = [(1.08, -0.03), (1.20, -0.09), (1.31, -0.03), (1.34, 0.12), (1.40, 0.5), (1.29, 0.5), (1.20, 0.14)]
            yield closed_curve(self.along(hand, points))

    def vessels(self, rng: np.random.Generator, count: int) -> Iterator[Stroke]:
        """Lung vessels: lines that fan out from the two hila, wind a little, taper and fork."""
        for hand in HANDS:
            headings = np.linspace(-1.45, 1.5, count) + rng.normal(0, 0.14, count)
            for heading in headings:
                root = (0.23 + rng.uniform(0, 0.09), 0.48 + rng.normal(0, 0.035))
                reach = rng.uniform(0.36, 0.62) * (1 - 0.2 * abs(heading))
                width = rng.uniform(0.005, 0.0095)
                trunk = _winding(rng, root, float(heading), reach)
                fork = (float(trunk[2, 0]), float(trunk[2, 1]))
                branch = _winding(rng, fork, heading + rng.choice([-0.6, 0.6]) * rng.uniform(0.7, 1.3), 0.6 * reach)
                yield Stroke(self.along(hand, branch), 0.55 * width, 0.6, is_tapering=True)
                yield Stroke(self.along(hand, trunk), width, 0.9, is_tapering=True)


def _winding(rng: np.random.Generator, root: tuple[float, float], heading: float, reach: float) -> Points:
    """Five points across and down a chest, outwards from the root."""
    along = np.linspace(0, 1, 5)
    turn = heading + rng.normal(0, 0.35) * along + np.cumsum(rng.normal(0, 0.12, 5))
    return np.stack([root[0] + reach * along * np.cos(turn), root[1] + 0.8 * reach * along * np.sin(turn)], axis=1)


def draw_thorax(rng: np.random.Generator, *, is_supine: bool, has_large_heart: bool, has_large_lungs: bool) -> Thorax:
    """A patient at random; lying flat (AP film), a large heart and overinflated lungs change the proportions."""
    inflation = rng.uniform(-0.03, 0.03) + (0.07 if has_large_lungs else 0.0) - (0.05 if is_supine else 0.0)
    dome = 0.73 + inflation
    heart = rng.uniform(0.56, 0.63) if has_large_heart else rng.uniform(0.38, 0.45) + (0.03 if is_supine else 0.0)
    apex = rng.uniform(0.10, 0.16) + (0.01 if is_supine else 0.0)
    return Thorax(
        midline=rng.uniform(0.475, 0.525),
        apex=apex,
        bases=(dome + rng.uniform(-0.015, 0.005), dome + rng.uniform(0.01, 0.03)),
        half_width=rng.uniform(0.365, 0.415),
        heart=heart - (0.04 if has_large_lungs and not has_large_heart else 0.0),
        lean=rng.normal(0, 0.012),
        rib_slope=rng.uniform(0.10, 0.16) * (0.8 if is_supine else 1.0),
        shoulder=apex + rng.uniform(-0.03, 0.03),
        wobble=rng.normal(0, 0.011, (2 * len(_LUNG), 2)),
    )
