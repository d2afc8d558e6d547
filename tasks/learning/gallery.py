"""Which samples of a split show best how a model errs, and pictures of them with its answer written underneath.

The choice depends on nothing but answers and truths, so the same run always shows the same pictures.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageDraw, ImageFont

from tasks.learning.recipe import Question

Values = npt.NDArray[np.float64]
Grey = npt.NDArray[np.uint8]
"""(height, width)."""
Colour = tuple[int, int, int]
Rows = npt.NDArray[np.int64]
Words = tuple[str, str, float | None]
"""Truth, what was said, and its probability."""
Ordered = list[tuple[int, Words]]

SHOWN_PIXELS = 224
"""Side of a picture: smaller ones are enlarged by a whole factor, larger ones reduced."""
JPEG_QUALITY = 80
FONT_PIXELS = 11
LINE_PIXELS = 15
MARGIN = 4
PAPER: Colour = (24, 26, 30)
INK: Colour = (236, 236, 236)
RIGHT: Colour = (120, 210, 150)
WRONG: Colour = (255, 150, 110)
OUTLINE: Colour = (0, 229, 255)
"""A cyan that neither films nor the heat have."""
HEAT_SHARE = 0.6
"""How much of the hottest pixel is heat; what is cold stays as it is."""


@dataclass(frozen=True)
class Shown:
    """One sample that is worth a look, and why."""

    row: int
    """Of the sample table."""
    split: str
    question: str
    kind: str
    """``worst false positive``, ``worst false negative``, ``confusion``, ``too high``, ``too low`` or ``right``."""
    truth: str
    said: str
    probability: float | None
    """Of presence, or of the class that was said; None for a target."""
    threshold: float | None = None
    """Of a label: from which probability on it is said to be present; None where that is nowhere, and for others."""


def choose(
    samples: pd.DataFrame,
    truth: Values,
    answer: Values,
    question: Question,
    split: str,
    count: int,
    *,
    threshold: float | None = None,
) -> list[Shown]:
    """Up to ``count`` samples of every kind of mistake, worst first, and as many that are right; no group twice a kind.

    ``truth`` is (N,), NaN unknown, ``answer`` (N, k), both in the order of the samples. A label is said to be present
    from ``threshold`` on; where none is given, from the probability at which as many are said to have it as have it. So
    a rare label has false positives too, however low its probabilities are.
    """
    rows = np.flatnonzero((samples["split"] == split).to_numpy() & ~np.isnan(truth))
    if not len(rows):
        return []
    groups = samples["group_id"].astype(object).to_numpy()
    cut = None
    if question.kind == "label":
        cut = cut_of(truth[rows], answer[rows, 0]) if threshold is None else threshold
        found = _of_label(truth, answer[:, 0], rows, cut)
    elif question.kind == "classes":
        found = _of_classes(truth, answer, rows, question.of)
    else:
        found = _of_target(truth, answer[:, 0], rows)
    shown_cut = cut if cut is not None and np.isfinite(cut) else None
    return [
        Shown(int(row), split, question.name, kind, *words, shown_cut)
        for kind, ordered in found.items()
        for row, words in _one_per_group(ordered, groups, count)
    ]


def cut_of(truth: Values, probability: Values) -> float:
    """The probability from which on as many are said to be positive as are; infinity where none is."""
    positives = int((truth == 1).sum())
    return float(np.sort(probability)[::-1][positives - 1]) if positives else float("inf")


def _of_label(truth: Values, probability: Values, rows: Rows, cut: float) -> dict[str, Ordered]:
    is_there, is_said = truth == 1, probability >= cut

    def picked(wanted: npt.NDArray[np.bool_], *, rising: bool = False) -> Ordered:
        kept = rows[wanted[rows]]
        order = np.argsort(probability[kept] if rising else -probability[kept], kind="stable")
        return [
            (int(row), (_presence(is_there[row]), _presence(is_said[row]), float(probability[row])))
            for row in kept[order]
        ]

    return {
        "worst false positive": picked(~is_there & is_said),
        "worst false negative": picked(is_there & ~is_said, rising=True),
        "right": picked(is_there & is_said),
    }


def _of_classes(truth: Values, answer: Values, rows: Rows, names: Sequence[str]) -> dict[str, Ordered]:
    """Surest first, and every pair of true and said class in turn."""
    said, surest = answer.argmax(axis=1), answer.max(axis=1)
    cells: dict[bool, dict[tuple[int, int], Ordered]] = {False: {}, True: {}}
    for row in rows[np.argsort(-surest[rows], kind="stable")]:
        cell = (int(truth[row]), int(said[row]))
        words = (names[cell[0]], names[cell[1]], float(surest[row]))
        cells[cell[0] == cell[1]].setdefault(cell, []).append((int(row), words))
    return {"confusion": _in_turn(cells[False].values()), "right": _in_turn(cells[True].values())}


def _of_target(truth: Values, answer: Values, rows: Rows) -> dict[str, Ordered]:
    errors = answer - truth

    def picked(order: Rows) -> Ordered:
        return [(int(row), (f"{truth[row]:.3g}", f"{answer[row]:.3g}", None)) for row in order]

    high, low = rows[errors[rows] > 0], rows[errors[rows] < 0]
    return {
        "too high": picked(high[np.argsort(-errors[high], kind="stable")]),
        "too low": picked(low[np.argsort(errors[low], kind="stable")]),
        "right": picked(rows[np.argsort(np.abs(errors[rows]), kind="stable")]),
    }


def _in_turn(queues: Iterable[Ordered]) -> Ordered:
    """One of every queue, then the second of every queue, and so on."""
    return [item for items in zip_longest(*queues) for item in items if item is not None]


def _one_per_group(ordered: Ordered, groups: npt.NDArray[Any], count: int) -> Ordered:
    kept: dict[Any, tuple[int, Words]] = {}
    for row, words in ordered:
        if len(kept) == count:
            break
        kept.setdefault(groups[row], (row, words))
    return list(kept.values())


def _presence(is_there: Any) -> str:
    return "present" if is_there else "absent"


def draw(image: Grey, boxes: Values | None = None) -> str:
    """The image with published boxes in its pixels; a JPEG data URI. What was said of it stands beside it."""
    return encoded(framed(image, boxes))


def draw_map(image: Grey, heat: npt.NDArray[np.float32], boxes: Values | None = None) -> str:
    """The image beside itself under a map of 0 to 1, with published boxes on both; a JPEG data URI."""
    plain, hot = framed(image, boxes), framed(heated(image, heat), boxes)
    pair = Image.new("RGB", (plain.width + MARGIN + hot.width, plain.height), PAPER)
    pair.paste(plain, (0, 0))
    pair.paste(hot, (plain.width + MARGIN, 0))
    return encoded(pair)


def readable(name: str) -> str:
    """A name as it is written under a picture."""
    return name.replace("_", " ")


def heated(image: Grey, heat: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Grey pixels under a map of 0 to 1: (height, width, 3) RGB; where the map is 0 they are as they were."""
    colours = cv2.cvtColor(
        cv2.applyColorMap((heat * 255).round().astype(np.uint8), cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB
    )
    share = HEAT_SHARE * heat[..., None]
    mixed: npt.NDArray[np.uint8] = (image[..., None] * (1 - share) + colours * share).round().astype(np.uint8)
    return mixed


def framed(pixels: npt.NDArray[np.uint8], boxes: Values | None = None) -> Image.Image:
    """Grey or RGB pixels as a picture of about the size that is shown, with (n, 4) boxes x, y, w, h in cyan."""
    picture = Image.fromarray(pixels).convert("RGB")
    longer = max(picture.size)
    factor = SHOWN_PIXELS / longer if longer > SHOWN_PIXELS else float(SHOWN_PIXELS // longer)
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    picture = picture.resize(size, Image.Resampling.BOX if factor < 1 else Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    for x, y, w, h in [] if boxes is None else boxes * factor:
        pen.rectangle((x, y, max(x, x + w - 1), max(y, y + h - 1)), outline=OUTLINE, width=2)
    return picture


def captioned(picture: Image.Image, lines: Sequence[tuple[str, Colour]]) -> Image.Image:
    """The picture with lines of text in a strip under it, never over it; too long ones end in dots."""
    font = ImageFont.load_default(FONT_PIXELS)
    sheet = Image.new("RGB", (picture.width, picture.height + 2 * MARGIN + LINE_PIXELS * len(lines)), PAPER)
    sheet.paste(picture, (0, 0))
    pen = ImageDraw.Draw(sheet)
    for number, (text, colour) in enumerate(lines):
        place = (MARGIN, picture.height + MARGIN + LINE_PIXELS * number)
        pen.text(place, _cut(text, font, picture.width - 2 * MARGIN), fill=colour, font=font)
    return sheet


def _cut(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def jpeg(picture: Image.Image, quality: int = JPEG_QUALITY) -> bytes:
    """Colour at full resolution: at half of it thin lines and letters would blur."""
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=quality, optimize=True, subsampling=0)
    return target.getvalue()


def encoded(picture: Image.Image) -> str:
    """A JPEG data URI."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(picture)).decode()
