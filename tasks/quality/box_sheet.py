"""The contact sheet of boxed samples: which are shown, and where each box and its name are drawn.

All places are in pixels of the stored image, which is the coordinate system of the drawing over the picture. The choice
goes round the labels and is spread over the sample order, so every boxed label shows up and the same release always
shows the same pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from tasks import boxes
from tasks.quality.contact_sheet import TILES, spread
from tasks.quality.facts import Images
from tasks.quality.tiles import thumbnail
from tasks.schema import Dataset

PICTURE_PIXELS = 320
"""Longer side of a picture; shown about 240 wide, so that a nodule can still be made out."""
COLOURS = ("--series-0", "--series-1", "--series-2", "--series-3")
"""The four colours of the page that are farthest apart on a grey film, without the pale blue and the grey."""
DASHES = ("none", "4 2", "1.5 2", "7 2 1.5 2")
"""Strokes for the second, third and fourth label of a colour, in CSS pixels; labels beyond 16 begin again."""
FONT_SHARE = 0.058
"""Height of the letters as a share of the picture's width: 14 px where the picture is 240 wide."""
LETTER_WIDTH = 0.68
"""Mean advance of a bold letter of DejaVu Sans as a share of the font size; the page's other faces are narrower."""

Place = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Look:
    """How the boxes of one label are drawn."""

    colour: str
    """CSS variable."""
    dashes: str


@dataclass(frozen=True)
class Mark:
    """One box, and where the baseline of its name begins; pixels of the stored image."""

    label: str
    look: Look
    x: float
    y: float
    w: float
    h: float
    name_x: float
    name_y: float


@dataclass(frozen=True)
class BoxedTile:
    """One picture with its boxes; ``picture`` is a data URI, or None where nothing could be decoded."""

    name: str
    split: str
    words: str
    """What is marked where, for those who do not see it."""
    width: int
    height: int
    font_size: float
    picture: str | None
    marks: Sequence[Mark]


@dataclass(frozen=True)
class BoxSheet:
    """The section's drawings; ``looks`` by label, in the dataset's order."""

    tiles: Sequence[BoxedTile]
    looks: Mapping[str, Look]


def of_boxes(dataset: Dataset, samples: pd.DataFrame, images: Images) -> BoxSheet | None:
    """Up to 24 boxed samples, every boxed label in turn; None where nothing is boxed or no image was decoded."""
    if not {"boxes_scaled", "sample_id", "image_sha256", "width", "height"} <= set(samples):
        return None
    found = boxes.with_area(boxes.one_per_row(samples, "boxes_scaled"))
    if found.empty:
        return None
    looks = looks_of(boxes.labels_in_order(dataset, list(found["label"])))
    chosen = choose(found, list(looks))
    shown = samples.iloc[chosen]
    encoded = images([str(name) for name in shown["sample_id"]])
    tiles = [
        _tile({str(key): value for key, value in row.items()}, found[found["position"] == position], looks, encoded)
        for position, row in zip(chosen, shown.to_dict("records"), strict=True)
    ]
    return BoxSheet(tiles, looks)


def looks_of(labels: Sequence[str]) -> dict[str, Look]:
    """Colour and stroke of every label: four colours with a plain line, then the same four dashed, and so on."""
    pairs = [Look(colour, dashes) for dashes in DASHES for colour in COLOURS]
    return {label: pairs[number % len(pairs)] for number, label in enumerate(labels)}


def choose(found: pd.DataFrame, labels: Sequence[str]) -> list[int]:
    """Positions of up to 24 samples, in table order: each label gives one in turn, its own spread over the table."""
    share = -(-TILES // len(labels))
    queues = [_spread_first(found.loc[found["label"] == label, "position"].unique(), share) for label in labels]
    chosen: dict[int, None] = {}
    while len(chosen) < TILES and any(queues):
        for queue in queues:
            while queue and queue[0] in chosen:
                queue.pop(0)
            if queue and len(chosen) < TILES:
                chosen[queue.pop(0)] = None
    return sorted(chosen)


def _spread_first(positions: np.ndarray[Any, np.dtype[np.int64]], count: int) -> list[int]:
    """All positions: first ``count`` that are spread evenly, then the rest in order."""
    first = spread(len(positions), count)
    return [int(positions[i]) for i in (*first, *sorted(set(range(len(positions))) - set(first)))]


def _tile(
    row: Mapping[str, Any], found: pd.DataFrame, looks: Mapping[str, Look], encoded: Mapping[str, bytes]
) -> BoxedTile:
    width, height = int(row["width"]), int(row["height"])
    font_size = FONT_SHARE * width
    name = str(row["sample_id"])
    return BoxedTile(
        name=name,
        split=str(row["split"]),
        words=f"{name}, {width} × {height} pixels. {_words(found)}",
        width=width,
        height=height,
        font_size=font_size,
        picture=thumbnail(encoded.get(name), PICTURE_PIXELS),
        marks=_marks(found, looks, width, height, font_size),
    )


def _words(found: pd.DataFrame) -> str:
    rows = found[["label", *boxes.NUMBERS]].itertuples(index=False, name=None)
    return ". ".join(f"Box {readable(label)}: {w:.0f} × {h:.0f} at {x:.0f}, {y:.0f}" for label, x, y, w, h in rows)


def readable(label: str) -> str:
    """A label as it is written on the page."""
    return label.replace("_", " ")


def _marks(
    found: pd.DataFrame, looks: Mapping[str, Look], width: int, height: int, font_size: float
) -> tuple[Mark, ...]:
    taken: list[Place] = []
    marks = []
    for label, *numbers in found[["label", *boxes.NUMBERS]].itertuples(index=False, name=None):
        x, y, w, h = (float(number) for number in numbers)
        length = LETTER_WIDTH * font_size * len(readable(label))
        left, top, right, bottom = _place_name((x, y, w, h), (length, 1.2 * font_size), (width, height), taken)
        taken.append((left, top, right, bottom))
        marks.append(Mark(label, looks[label], x, y, w, h, left, bottom - 0.28 * font_size))
    return tuple(marks)


def _place_name(box: Place, size: tuple[float, float], picture: tuple[int, int], taken: Sequence[Place]) -> Place:
    """Where a name of this size goes: above its box, below, or inside, whichever is free first; always on the picture.

    ``box`` is x, y, w, h here.
    """
    (x, y, w, h), (length, line), (width, height) = box, size, picture
    gap = 0.15 * line
    lines = (y - line - gap, y + h + gap, y + gap, y + h - line - gap)
    columns = (x, x + w - length)
    candidates = [(_held(left, width - length), top) for top in lines for left in columns]
    places = [(left, top, left + length, top + line) for left, top in candidates if 0 <= top <= height - line]
    free = (place for place in places if not any(_overlap(place, other) for other in taken))
    left, top = _held(x, width - length), _held(y, height - line)
    return next(free, places[0] if places else (left, top, left + length, top + line))


def _held(value: float, limit: float) -> float:
    """The value, kept within 0 and the limit."""
    return max(0.0, min(value, limit))


def _overlap(one: Place, other: Place) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
