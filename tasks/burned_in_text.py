"""Writing that is burned into an image: names, dates, clocks, ids. And the lone lead letters that say which side it is.

No reader of letters, a screen: it finds rows of sharp, thin, evenly strong strokes of one height, bright or dark, and
does not know what they say. One or two letters by themselves are a side marker, which belongs on a film; three or more
in a row are text. Only upright rows are looked for: wires that close a breastbone, and the rulers of scanners, stand
one above the other like letters of a turned word.

Every threshold was set on planted text and clean images of seeds 1 to 3 of ``python -m tests.bench.burned_in_text``,
which reports what is found and missed on other seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from statistics import fmean
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
MUCH_INK = 0.01
"""Share of the pixels above which there may be thousands of pieces, most of them specks."""
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

_SQUARE, _NEIGHBOURS = np.ones((STROKE, STROKE), np.uint8), np.ones((3, 3), np.uint8)

Grey = npt.NDArray[np.uint8]
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
    strength: float
    """Grey levels that the strongest tenth of a row of strokes stands out by, at the least."""
    pieces: list[Box]


@dataclass(frozen=True)
class _Row:
    """Pieces that stand in a row."""

    plane: _Plane
    pieces: list[Box]

    @cached_property
    def box(self) -> Box:
        return reduce(_hull, self.pieces)

    @property
    def aspect(self) -> float:
        return self.box[2] / self.box[3]

    @cached_property
    def _ink(self) -> Grey:
        return self._cut(self.plane.ink)

    @cached_property
    def share(self) -> float:
        """Of the box that is ink."""
        return cv2.countNonZero(self._ink) / self._ink.size

    @cached_property
    def crossed(self) -> float:
        """Strokes that a level line crosses, in the quarter of lines that cross most."""
        starts = (self._ink[:, 1:] > self._ink[:, :-1]).sum(axis=1) + self._ink[:, 0]
        return _quantile(np.sort(starts), 0.75)

    @property
    def level(self) -> float:
        """Grey level of the strokes: their median."""
        ordered = np.sort(self._cut(self.plane.grey)[self._ink > 0])
        return (float(ordered[(len(ordered) - 1) // 2]) + float(ordered[len(ordered) // 2])) / 2

    def has_peak(self) -> bool:
        """Whether any of it is strong enough: what is not cannot be written, and most is not."""
        return cv2.minMaxLoc(self._cut(self.plane.contrast))[1] >= self.plane.strength

    def is_written(self) -> bool:
        """Whether its strokes are as sharp, even and strong as only writing is."""
        on = self._ink > 0
        contrast = self._cut(self.plane.contrast)[on]
        ordered = np.sort(contrast)
        strength = _quantile(ordered, 0.9)
        if strength < self.plane.strength:
            return False
        steps = np.sort(self._steps()[on])
        if _quantile(steps, 0.75) < LEAST_STEP or not SHARP[0] <= _quantile(steps, 0.9) / strength <= SHARP[1]:
            return False
        along = self._cut(self.plane.grey)[on][contrast >= _quantile(ordered, 0.6)]
        return float(cv2.meanStdDev(along)[1][0, 0]) <= EVEN * strength and self._are_alike(strength)

    def _steps(self) -> Grey:
        """Grey levels between the darkest and the brightest within three pixels."""
        x, y, w, h = self.box
        left, top = max(0, x - 1), max(0, y - 1)
        around = self.plane.grey[top : y + h + 1, left : x + w + 1]
        steps = cv2.morphologyEx(around, cv2.MORPH_GRADIENT, _NEIGHBOURS)
        return np.asarray(steps[y - top : y - top + h, x - left : x - left + w], np.uint8)

    def _are_alike(self, strength: float) -> bool:
        peaks = [cv2.minMaxLoc(self.plane.contrast[y : y + h, x : x + w])[1] for x, y, w, h in self.pieces]
        heights = [height for _, _, _, height in self.pieces]
        are_alike = _spread(heights) <= ALIKE[0] and _spread(peaks) <= ALIKE[1]
        return are_alike and min(peaks) <= LONE_PEAK * strength

    def _cut(self, plane: Grey) -> Grey:
        x, y, w, h = self.box
        return plane[y : y + h, x : x + w]


def _quantile(ordered: npt.NDArray[Any], share: float) -> float:
    """Of a sorted array; the nearest element, NumPy's own takes 50 times as long."""
    return float(ordered[round(share * (len(ordered) - 1))])


def _spread(values: Sequence[float]) -> float:
    """Standard deviation over mean."""
    mean = fmean(values)
    return math.sqrt(fmean([(value - mean) ** 2 for value in values])) / mean


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
        for row in _rows(plane) if plane else ():
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


def _plane(small: Grey, polarity: int) -> _Plane | None:
    """None where nothing stands out enough to be written."""
    contrast = np.asarray(cv2.morphologyEx(small, polarity, _SQUARE), np.uint8)
    strongest = cv2.minMaxLoc(contrast)[1]
    asked = CONTRAST
    while strongest >= (strength := max(LEAST_STRENGTH, STRENGTH * asked)):
        ink = np.asarray(cv2.threshold(contrast, asked, 1, cv2.THRESH_BINARY)[1], np.uint8)
        share = cv2.countNonZero(ink) / ink.size
        if share <= MOST_INK:
            pieces = _speckled_pieces(ink) if share > MUCH_INK else _pieces(ink)
            if len(pieces) <= MOST_PIECES:
                return _Plane(ink, contrast, small, strength, pieces)
        asked += asked // 3
    return None


def _pieces(ink: Grey) -> list[Box]:
    """Boxes of connected strokes of a likely height, in order; what is written in a frame counts as well."""
    outlines, tree = cv2.findContours(ink, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    if not outlines:
        return []
    is_hole = (tree[0, :, 3] >= 0).tolist()
    boxes = [cv2.boundingRect(line) for line, skip in zip(outlines, is_hole, strict=True) if not skip]
    return sorted((x, y, w, h) for x, y, w, h in boxes if HEIGHTS[0] <= h <= HEIGHTS[1])


def _speckled_pieces(ink: Grey) -> list[Box]:
    """The same, faster where there are thousands of pieces, slower where there are few."""
    _, _, statistics, _ = cv2.connectedComponentsWithStats(ink, ltype=cv2.CV_16U)
    heights = statistics[1:, cv2.CC_STAT_HEIGHT]
    likely = statistics[1:][(heights >= HEIGHTS[0]) & (heights <= HEIGHTS[1])]
    return sorted((x, y, w, h) for x, y, w, h, _ in likely.tolist())


def _rows(plane: _Plane) -> list[_Row]:
    """Pieces of about one height, on one level, that are no further apart than a letter is high."""
    joined = [[index] for index in range(len(plane.pieces))]
    for one, other in _neighbours(plane.pieces):
        row, more = joined[one], joined[other]
        if row is not more:
            row += more
            for index in more:
                joined[index] = row
    return [_Row(plane, [plane.pieces[i] for i in row]) for index, row in enumerate(joined) if row[0] == index]


def _neighbours(pieces: list[Box]) -> Iterator[tuple[int, int]]:
    """Indices of pieces, which are in order of ``x``, that stand side by side."""
    for one, (x, y, w, h) in enumerate(pieces):
        farthest, bottom = x + w + 2 * h, y + h
        for other in range(one + 1, len(pieces)):
            x2, y2, w2, h2 = pieces[other]
            if x2 > farthest:
                break
            if y2 >= bottom or y >= y2 + h2:  # most by far
                continue
            taller = max(h, h2)
            shared = min(bottom, y2 + h2) - max(y, y2)
            if 2 * shared >= taller <= 2 * min(h, h2) and x2 - min(x + w, x2 + w2) <= taller:
                yield one, other


def _is_text(row: _Row) -> bool:
    is_short = len(row.pieces) < LETTERS
    if row.aspect < TEXT_ASPECT or (is_short and not _may_be_touching(row.box)) or not row.has_peak():
        return False
    if row.share < LEAST_INK:
        return False
    if is_short and row.crossed < max(RUN_TOGETHER[0], RUN_TOGETHER[1] * row.aspect):
        return False
    return CROSSINGS[0] * row.aspect <= row.crossed <= CROSSINGS[1] * row.aspect and row.is_written()


def _may_be_touching(box: Box) -> bool:
    """A stroke and a gap are two pixels at the least."""
    _, _, width, height = box
    return height <= TOUCHING and width >= 2 * RUN_TOGETHER[0] - 1


def _is_marker(row: _Row) -> bool:
    if len(row.pieces) >= LETTERS or row.box[3] < MARKER_HEIGHT or not _is_beside(row):
        return False
    if not MARKER_ASPECT[0] <= row.aspect <= MARKER_ASPECT[1] or not row.has_peak():
        return False
    return MARKER_INK[0] <= row.share <= MARKER_INK[1] and row.level >= MARKER_LEVEL and row.is_written()


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
