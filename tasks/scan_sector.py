"""The scan on an ultrasound screen, told from the names, clocks and rulers that the scanner writes around it.

Those are thin and stand apart; the scan is the largest connected thing that is not black. Everything outside its convex
hull is blackened, so that neither a person's name nor a date is left for a model, or anybody, to read. What lies on the
scan itself (callipers, a focus mark) stays: it cannot be told from tissue by shape alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

BLACK = 6
"""Grey levels of 255 up to which a pixel counts as background: deep tissue is little brighter."""
STROKE_SHARE = 1 / 20
"""Strokes thinner than this share of the shorter side are writing; letters on screens of 480
lines have 2 to 4 pixels, markers up to 20."""
LOOKED_AT = 400
"""Longer side, in pixels, above which a screen is looked at reduced, by the smallest whole factor that does: writing
and scan are told apart as well, and much faster."""
PIECE_SHARE = 0.1
"""Shadows and vessels can cut a scan in pieces: one this large, as a share of the largest, belongs to it. Markers and
grey bars are smaller."""
SMALLEST_SHARE = 0.05
"""A scan covers at least this share of its screen; what is smaller is no scan, or not found."""

Grey = npt.NDArray[np.uint8]


def find(grey: Grey) -> npt.NDArray[np.bool_] | None:
    """Mask (height, width) of the scan, or None where nothing on the screen is large enough to be one."""
    factor = -(-max(grey.shape) // LOOKED_AT)
    height, width = grey.shape
    size = (max(1, width // factor), max(1, height // factor))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if factor > 1 else grey
    outline = _outline(small.astype(np.uint8))
    if outline is None:
        return None
    corners = (outline + 0.5) * (width / size[0], height / size[1]) - 0.5  # from pixel centre to centre
    hull = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(hull, np.rint(corners).astype(np.int32), 1)
    return hull.view(np.bool_) if cv2.countNonZero(hull) >= SMALLEST_SHARE * hull.size else None


def _outline(grey: Grey) -> npt.NDArray[np.int32] | None:
    """Corners (n, 2), x and y, of the convex hull of the largest thing that is not black."""
    side = min(grey.shape)
    lit = (grey > BLACK).astype(np.uint8)
    joined = cv2.morphologyEx(lit, cv2.MORPH_CLOSE, _disc(side / 120))  # speckle is full of holes
    thick = cv2.morphologyEx(joined, cv2.MORPH_OPEN, _disc(side * STROKE_SHARE))
    outlines, tree = cv2.findContours(thick, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return None
    if np.count_nonzero(tree[0, :, 3] < 0) > 1:  # no outline around them: things that lie apart
        outlines = _large_ones(outlines, np.asarray(thick, np.uint8))
    corners: npt.NDArray[np.int32] = cv2.convexHull(np.vstack(outlines))[:, 0, :].astype(np.int32)
    return corners


def _large_ones(outlines: Sequence[npt.NDArray[Any]], thick: Grey) -> list[npt.NDArray[Any]]:
    """Outlines of the pieces, and of holes in them, that are large enough beside the largest."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(thick, ltype=cv2.CV_16U)
    areas = statistics[:, cv2.CC_STAT_AREA]
    is_large = areas >= PIECE_SHARE * areas[1:].max()
    return [line for line in outlines if is_large[labels[line[0, 0, 1], line[0, 0, 0]]]]


def _disc(diameter: float) -> npt.NDArray[Any]:
    odd = max(3, 2 * round(diameter / 2) + 1)
    disc: npt.NDArray[Any] = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (odd, odd))
    return disc
