"""The scan on an ultrasound screen, told from the names, clocks and rulers that the scanner writes around it.

Those are thin and stand apart; the scan is the largest connected thing that is not black. Everything outside its convex
hull is blackened, so that neither a person's name nor a date is left for a model, or anybody, to read. What lies on the
scan itself (callipers, a focus mark) stays: it cannot be told from tissue by shape alone.
"""

from __future__ import annotations

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
"""Longer side, in pixels, at which a screen is looked at: writing and scan are told apart as well, and much faster."""
PIECE_SHARE = 0.1
"""Shadows and vessels can cut a scan in pieces: one this large, as a share of the largest, belongs to it. Markers and
grey bars are smaller."""
SMALLEST_SHARE = 0.05
"""A scan covers at least this share of its screen; what is smaller is no scan, or not found."""

Grey = npt.NDArray[np.uint8]


def find(grey: Grey) -> npt.NDArray[np.bool_] | None:
    """Mask (height, width) of the scan, or None where nothing on the screen is large enough to be one."""
    scale = min(1.0, LOOKED_AT / max(grey.shape))
    small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else grey
    outline = _outline(small.astype(np.uint8))
    if outline is None:
        return None
    height, width = grey.shape
    corners = (outline + 0.5) * (width / small.shape[1], height / small.shape[0]) - 0.5  # from pixel centre to centre
    hull = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(hull, np.rint(corners).astype(np.int32), 1)
    found: npt.NDArray[np.bool_] = hull.astype(bool)
    return found if found.mean() >= SMALLEST_SHARE else None


def _outline(grey: Grey) -> npt.NDArray[np.int32] | None:
    """Corners (n, 2), x and y, of the convex hull of the largest thing that is not black."""
    side = min(grey.shape)
    lit = (grey > BLACK).astype(np.uint8)
    joined = cv2.morphologyEx(lit, cv2.MORPH_CLOSE, _disc(side / 120))  # speckle is full of holes
    thick = cv2.morphologyEx(joined, cv2.MORPH_OPEN, _disc(side * STROKE_SHARE))
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(thick, connectivity=8)
    if count < 2:
        return None
    areas = statistics[1:, cv2.CC_STAT_AREA]
    pieces = 1 + np.flatnonzero(areas >= PIECE_SHARE * areas.max())
    outlines, _ = cv2.findContours(np.isin(labels, pieces).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    corners: npt.NDArray[np.int32] = cv2.convexHull(np.vstack(outlines))[:, 0, :].astype(np.int32)
    return corners


def _disc(diameter: float) -> npt.NDArray[Any]:
    odd = max(3, 2 * round(diameter / 2) + 1)
    disc: npt.NDArray[Any] = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (odd, odd))
    return disc
