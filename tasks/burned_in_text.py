"""Writing that is burned into an image: names, dates, clocks, ids. And the lone lead letters that say which side it is.

No reader of letters, a screen: it finds rows of sharp, thin, evenly strong strokes of one height, bright or dark, and
does not know what they say. One or two letters by themselves are a side marker, which belongs on a film; three or more
in a row are text. Only upright rows are looked for: wires that close a breastbone, and the rulers of scanners, stand
one above the other like letters of a turned word.

Every threshold was set on planted text and clean images of seeds 1 to 3 of ``python -m tests.bench.burned_in_text``,
which reports what is found and missed on other seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

LOOKED_AT = 640
"""Longer side, in pixels, above which an image is looked at reduced, by the smallest whole factor that does."""
SMALLEST = 128
"""Longer side, in pixels, below which no writing could be read: such images are not looked at."""
STROKE = 11
"""Pixels as looked at: what is thicker is no stroke."""
HEIGHTS = (4, 48)
"""Lowest and tallest piece of writing, in pixels as looked at: 8 to 96 on a film of 1024."""
CONTRAST = 36
"""Grey levels of 255 by which a stroke differs from what is around it, at the least; ribs reach 30."""
MOST_INK, MOST_PIECES = 0.04, 150
"""Where more than this share of the pixels differs so much, or more pieces do, the image is a texture: the contrast
asked for rises by a third until they are fewer."""
STRENGTH = 2.0
"""The strongest tenth of a row of strokes, over the contrast that was asked for: writing stands out of its texture."""
LEAST_STRENGTH = 60
"""The same in grey levels."""
SHARP = (0.8, 1.25)
"""Steps of grey level within three pixels, over contrast, of the strongest tenth each: writing goes from stroke to
ground at once (1), anatomy slowly (less), and at the edge of a frame there is more step than stroke."""
LEAST_STEP = 70
"""Grey levels that a quarter of the strokes' pixels change by within three pixels."""
EVEN = 0.22
"""Standard deviation of the grey level along the strokes, over their contrast."""
ALIKE = (0.35, 0.3)
"""Largest standard deviation over mean of the pieces' heights, and of their contrasts."""
LONE_PEAK = 1.25
"""The weakest piece's peak over the strength of the row: speckle has peaks, strokes have plateaus."""
TEXT_ASPECT = 1.4
"""A row of three letters is this much wider than high."""
CROSSINGS = (1.3, 5.0)
"""Strokes that a line across the row crosses, for every height's length of it: letters are narrower than high."""
LETTERS = 3
"""In a row from here on are text."""
RUN_TOGETHER = (5, 1.6)
"""Strokes crossed, in all and for every height's length, that count for letters where small ones touch."""
TOUCHING = 14
"""Pixels as looked at: only letters up to this height touch. A bright line of skin is one taller piece."""
LEAST_INK = 0.2
"""Share of its box that a row of letters covers."""
MARKER_HEIGHT = 9
"""Pixels as looked at: lead letters are large."""
MARKER_LEVEL = 160
"""Grey level of 255: lead stops the rays, its letters are among the brightest there is on a film."""
MARKER_ASPECT = (0.25, 1.6)
MARKER_INK = (0.12, 0.72)
"""Share of its box that a letter, framed or not, covers; a dot or a clip covers more."""
MARKER_ZONE = 0.25
"""Side markers lie within this share of the width from the left or right edge."""

Grey = npt.NDArray[np.uint8]
Pieces = npt.NDArray[np.int32]
"""(n, 4): x, y, w, h of connected strokes."""
Box = tuple[int, int, int, int]
"""x, y, w, h: top-left corner and extent in pixels."""


@dataclass(frozen=True)
class Writing:
    """What is written on one image, as boxes in pixels of it, from left to right."""

    text: tuple[Box, ...]
    """One box per line of text."""
    markers: tuple[Box, ...]
    """One box per side marker."""


@dataclass(frozen=True)
class _Plane:
    """All strokes of one polarity."""

    ink: Grey
    """1 where a stroke is."""
    contrast: Grey
    """Grey levels between a pixel and what is around it."""
    grey: Grey
    asked: int
    """Contrast that ink has, at the least."""
    pieces: Pieces


@dataclass(frozen=True)
class _Row:
    """Pieces that stand in a row."""

    plane: _Plane
    pieces: Pieces

    @cached_property
    def box(self) -> Box:
        x, y = self.pieces[:, :2].min(axis=0)
        right, bottom = (self.pieces[:, :2] + self.pieces[:, 2:]).max(axis=0)
        return int(x), int(y), int(right - x), int(bottom - y)

    @property
    def aspect(self) -> float:
        return self.box[2] / self.box[3]

    @cached_property
    def _ink(self) -> Grey:
        return self._cut(self.plane.ink)

    @cached_property
    def share(self) -> float:
        """Of the box that is ink."""
        return float(self._ink.mean())

    @cached_property
    def crossed(self) -> float:
        """Strokes that a level line crosses, in the quarter of lines that cross most."""
        starts = np.count_nonzero(self._ink[:, 1:] > self._ink[:, :-1], axis=1) + self._ink[:, 0]
        return _quantile(np.sort(starts), 0.75)

    @property
    def level(self) -> float:
        """Grey level of the strokes."""
        return float(np.median(self._cut(self.plane.grey)[self._ink > 0]))

    def is_written(self) -> bool:
        """Whether its strokes are as sharp, even and strong as only writing is."""
        on = self._ink > 0
        contrast = self._cut(self.plane.contrast)[on]
        ordered = np.sort(contrast)
        strength = _quantile(ordered, 0.9)
        if strength < max(LEAST_STRENGTH, STRENGTH * self.plane.asked):
            return False
        steps = np.sort(self._steps()[on])
        if _quantile(steps, 0.75) < LEAST_STEP or not SHARP[0] <= _quantile(steps, 0.9) / strength <= SHARP[1]:
            return False
        along = self._cut(self.plane.grey)[on][contrast >= _quantile(ordered, 0.6)]
        return float(along.std()) <= EVEN * strength and self._are_alike(strength)

    def _steps(self) -> Grey:
        """Grey levels between the darkest and the brightest within three pixels."""
        x, y, w, h = self.box
        left, top = max(0, x - 1), max(0, y - 1)
        around = self.plane.grey[top : y + h + 1, left : x + w + 1]
        steps = cv2.morphologyEx(around, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        return np.asarray(steps[y - top : y - top + h, x - left : x - left + w], np.uint8)

    def _are_alike(self, strength: float) -> bool:
        peaks = np.array([self.plane.contrast[y : y + h, x : x + w].max() for x, y, w, h in self.pieces], float)
        heights = self.pieces[:, 3]
        return bool(
            heights.std() <= ALIKE[0] * heights.mean()
            and peaks.std() <= ALIKE[1] * peaks.mean()
            and peaks.min() <= LONE_PEAK * strength
        )

    def _cut(self, plane: Grey) -> Grey:
        x, y, w, h = self.box
        return plane[y : y + h, x : x + w]


def _quantile(ordered: npt.NDArray[Any], share: float) -> float:
    """Of a sorted array; the nearest element, NumPy's own takes 50 times as long."""
    return float(ordered[round(share * (len(ordered) - 1))])


def find(grey: Grey) -> Writing | None:
    """Text and side markers on a grey image (height, width); None where it is too small to hold any."""
    if max(grey.shape) < SMALLEST:
        return None
    factor = -(-max(grey.shape) // LOOKED_AT)
    small = _reduced(grey, factor)
    text: list[Box] = []
    markers: list[Box] = []
    for polarity in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        plane = _plane(small, polarity)
        for row in _rows(plane):
            if _is_text(row):
                text.append(row.box)
            elif polarity == cv2.MORPH_TOPHAT and _is_marker(row):
                markers.append(row.box)
    words = _joined(text)
    lone = [box for box in _joined(markers) if not any(_touch(box, word) for word in words)]
    return Writing(_scaled(words, factor), _scaled(lone, factor))


def _reduced(grey: Grey, factor: int) -> Grey:
    if factor == 1:
        return grey
    size = (max(1, grey.shape[1] // factor), max(1, grey.shape[0] // factor))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)


def _plane(small: Grey, polarity: int) -> _Plane:
    contrast = np.asarray(cv2.morphologyEx(small, polarity, np.ones((STROKE, STROKE), np.uint8)), np.uint8)
    asked = CONTRAST
    while True:
        ink = np.asarray(cv2.threshold(contrast, asked, 1, cv2.THRESH_BINARY)[1], np.uint8)
        if cv2.countNonZero(ink) <= MOST_INK * ink.size:
            pieces = _pieces(ink)
            if len(pieces) <= MOST_PIECES:
                return _Plane(ink, contrast, small, asked, pieces)
        asked += asked // 3


def _pieces(ink: Grey) -> Pieces:
    outlines, _ = cv2.findContours(ink, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    boxes = np.array([cv2.boundingRect(outline) for outline in outlines], np.int32).reshape(-1, 4)
    return boxes[(boxes[:, 3] >= HEIGHTS[0]) & (boxes[:, 3] <= HEIGHTS[1])]


def _rows(plane: _Plane) -> list[_Row]:
    """Pieces of about one height, on one level, that are no further apart than a letter is high."""
    if not len(plane.pieces):
        return []
    x, y, w, h = plane.pieces.T
    lower, taller = np.minimum(h[:, None], h), np.maximum(h[:, None], h)
    shared = np.minimum((y + h)[:, None], y + h) - np.maximum(y[:, None], y)
    gap = np.maximum(x[:, None], x) - np.minimum((x + w)[:, None], x + w)
    labels = _connected((2 * lower >= taller) & (2 * shared >= taller) & (gap <= taller))
    return [_Row(plane, plane.pieces[labels == label]) for label in np.flatnonzero(labels == np.arange(len(labels)))]


def _connected(is_linked: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """The lowest index that links lead to, for every index."""
    labels = np.arange(len(is_linked))
    while True:
        lowest = np.where(is_linked, labels, len(labels)).min(axis=1)
        if (lowest == labels).all():
            return labels
        labels = lowest


def _is_text(row: _Row) -> bool:
    if row.aspect < TEXT_ASPECT:
        return False
    is_together = row.box[3] <= TOUCHING and row.crossed >= max(RUN_TOGETHER[0], RUN_TOGETHER[1] * row.aspect)
    if len(row.pieces) < LETTERS and not is_together:
        return False
    is_dense = CROSSINGS[0] * row.aspect <= row.crossed <= CROSSINGS[1] * row.aspect and row.share >= LEAST_INK
    return is_dense and row.is_written()


def _is_marker(row: _Row) -> bool:
    if len(row.pieces) >= LETTERS or row.box[3] < MARKER_HEIGHT or not _is_beside(row):
        return False
    is_letter = MARKER_ASPECT[0] <= row.aspect <= MARKER_ASPECT[1] and MARKER_INK[0] <= row.share <= MARKER_INK[1]
    return is_letter and row.level >= MARKER_LEVEL and row.is_written()


def _is_beside(row: _Row) -> bool:
    x, _, width, _ = row.box
    middle = (x + width / 2) / row.plane.ink.shape[1]
    return not MARKER_ZONE < middle < 1 - MARKER_ZONE


def _joined(boxes: list[Box]) -> list[Box]:
    """Boxes that share pixels as one."""
    joined: list[Box] = []
    for box in sorted(boxes):
        while (other := next((o for o in joined if _touch(o, box)), None)) is not None:
            joined.remove(other)
            box = _hull(box, other)
        joined.append(box)
    return sorted(joined)


def _touch(a: Box, b: Box) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def _hull(a: Box, b: Box) -> Box:
    x, y = min(a[0], b[0]), min(a[1], b[1])
    return x, y, max(a[0] + a[2], b[0] + b[2]) - x, max(a[1] + a[3], b[1] + b[3]) - y


def _scaled(boxes: list[Box], factor: int) -> tuple[Box, ...]:
    return tuple((x * factor, y * factor, w * factor, h * factor) for x, y, w, h in boxes)
