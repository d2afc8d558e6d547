"""Whether maps point at what radiologists boxed: boxes out of maps, overlaps, the pointing game, and what chance gets.

Plain numpy and scipy. Boxes are x, y, w, h (top-left corner and extent) in pixels of the map, which are those of the
network's image: :func:`letterbox` says how pixels of the stored image become them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import ndimage

from tasks import boxes as published

Boxes = npt.NDArray[np.float64]
"""(n, 4): x, y, w, h."""
Values = npt.NDArray[np.float64]
Map = npt.NDArray[np.float32]

THRESHOLDS = (60 / 255, 180 / 255)
"""Wang et al. 2017 (arXiv 1705.02315, 3.2): the map "normalized to [0, 255] and then thresholded by {60, 180}
individually", a box around each region; here the boxes of both levels together."""
IOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""T(IoU) of their Table 7."""
IOBB = (0.10, 0.25, 0.50, 0.75, 0.90)
"""T(IoBB) of their Tables 4 and 19."""
DRAWS = 20
"""How often every control is drawn."""
POOL = 256
"""Random maps that are drawn from; each is taken apart once."""
RESAMPLES = 1000
NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class Letterbox:
    """Where a stored image lies in the network's square: ``x × across + left``, ``y × down + top``."""

    width: int
    """Of the image in the square, pixels."""
    height: int
    left: int
    top: int
    across: float
    down: float

    def place(self, boxes: Boxes) -> Boxes:
        """Boxes in pixels of the stored image, in those of the square."""
        factors = np.array([self.across, self.down, self.across, self.down])
        placed: Boxes = boxes * factors + np.array([self.left, self.top, 0.0, 0.0])
        return placed


@dataclass(frozen=True)
class Boxed:
    """One answer that has boxes: an image and what is boxed in it."""

    row: int
    """Of the sample table."""
    label: str
    """The question's name."""
    group: str
    """Patient."""
    boxes: Boxes
    """Published ones, in pixels of the network's image."""


@dataclass(frozen=True)
class Detection:
    """What a map says: boxes around its hot regions, and its hottest point."""

    boxes: Boxes
    peak: tuple[float, float] | None
    """x, y of the middle of the hottest pixel; None where the map is flat."""


@dataclass(frozen=True)
class Match:
    """How one map fits the published boxes of one image."""

    iou: Values
    """Of every published box, with the detected one that overlaps it best; 0 where none does."""
    iobb: Values
    holds_centre: Values
    """1 where a detected box holds the published one's centre."""
    detected_iou: Values
    """Of every detected box, with the published one that it overlaps best."""
    detected_iobb: Values
    is_pointed: bool


def letterbox(width: int, height: int, size: int) -> Letterbox:
    """A stored image in a square of ``size``: the longer side scaled down to it, never up, centred on black."""
    factor = min(1.0, size / max(width, height))
    inner_width, inner_height = max(1, round(width * factor)), max(1, round(height * factor))
    left, top = (size - inner_width) // 2, (size - inner_height) // 2
    return Letterbox(inner_width, inner_height, left, top, inner_width / width, inner_height / height)


def boxed(samples: pd.DataFrame, questions: Mapping[str, Sequence[str]], size: int) -> list[Boxed]:
    """Every question that has boxes, image by image, from ``boxes_scaled``; sorted by question and row.

    ``questions`` is the labels that each stands for. Boxes without a place or an area are left out; so are samples of
    no group, whose patient is unknown.
    """
    if "boxes_scaled" not in samples:
        return []
    found = published.with_area(published.one_per_row(samples, "boxes_scaled"))
    pairs = []
    for question, labels in questions.items():
        own = found[found["label"].isin(list(labels))]
        for row, drawn in own.groupby("position", sort=True):
            position = int(str(row))
            sample = samples.iloc[position]
            if pd.isna(sample["group_id"]):
                continue
            frame = letterbox(int(sample["width"]), int(sample["height"]), size)
            placed = frame.place(drawn[list(published.NUMBERS)].to_numpy(np.float64))
            pairs.append(Boxed(position, question, str(sample["group_id"]), placed))
    return pairs


def boxes_of(heat: Map, threshold: float = 0.5) -> Boxes:
    """Boxes around the regions of a map, of 0 to 1, that reach the threshold; neighbours by side hang together."""
    regions, _ = ndimage.label(heat >= threshold)
    places = [(across.start, down.start, across.stop, down.stop) for down, across in ndimage.find_objects(regions)]
    corners = np.array(places, dtype=np.float64).reshape(-1, 4)
    return np.column_stack([corners[:, :2], corners[:, 2:] - corners[:, :2]])


def detect(heat: Map, thresholds: Sequence[float] = THRESHOLDS) -> Detection:
    """What a map says; nothing where it is flat."""
    if heat.max() <= heat.min():
        return Detection(np.zeros((0, 4)), None)
    return Detection(np.concatenate([boxes_of(heat, threshold) for threshold in thresholds]), _peak(heat))


def _peak(heat: Map) -> tuple[float, float]:
    """Of several hottest pixels, as along a border, the one nearest to their middle."""
    rows, columns = np.nonzero(heat == heat.max())
    distances = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
    nearest = int(distances.argmin())
    return float(columns[nearest]) + 0.5, float(rows[nearest]) + 0.5


def intersections(ones: Boxes, others: Boxes) -> Values:
    """Areas that they share, (ones, others)."""
    first = np.maximum(ones[:, None, :2], others[None, :, :2])
    last = np.minimum(ones[:, None, :2] + ones[:, None, 2:], others[None, :, :2] + others[None, :, 2:])
    sides = np.maximum(last - first, 0.0)
    shared: Values = sides[..., 0] * sides[..., 1]
    return shared


def ious(detected: Boxes, others: Boxes) -> Values:
    """Intersection over union, (detected, others)."""
    shared = intersections(detected, others)
    areas, other_areas = detected[:, 2] * detected[:, 3], others[:, 2] * others[:, 3]
    return shared / (areas[:, None] + other_areas[None, :] - shared)


def iobbs(detected: Boxes, others: Boxes) -> Values:
    """Intersection over the area of the *detected* box, (detected, others): a small box inside a large one gets 1."""
    return intersections(detected, others) / (detected[:, 2] * detected[:, 3])[:, None]


def match(detection: Detection, boxes: Boxes) -> Match:
    """One map against the published boxes of its image."""
    found = detection.boxes
    iou, iobb = ious(found, boxes), iobbs(found, boxes)
    middles = boxes[:, :2] + boxes[:, 2:] / 2
    held: npt.NDArray[Any] = np.array([[_holds(box, middle) for middle in middles] for box in found]).reshape(
        len(found), len(boxes)
    )
    return Match(
        iou=iou.max(axis=0, initial=0.0),
        iobb=iobb.max(axis=0, initial=0.0),
        holds_centre=np.asarray(held.any(axis=0), dtype=np.float64),
        detected_iou=iou.max(axis=1, initial=0.0),
        detected_iobb=iobb.max(axis=1, initial=0.0),
        is_pointed=detection.peak is not None and any(_holds(box, np.array(detection.peak)) for box in boxes),
    )


def _holds(box: Values, point: Values) -> bool:
    return bool((box[:2] <= point).all() and (point < box[:2] + box[2:]).all())


def score(
    pairs: Sequence[Boxed],
    detections: Sequence[Detection],
    size: int,
    cells: tuple[int, int],
    *,
    seed: int = 0,
    draws: int = DRAWS,
    resamples: int = RESAMPLES,
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[str, Any] | None:
    """How well maps find boxes, per label and in the mean over labels; None where nothing is boxed.

    ``detections`` are those of ``pairs``, in their order; ``size`` is the side of the maps and ``cells`` their grid
    before they were enlarged. Per label:

    - ``iou``, ``iobb``: by threshold T, the share of published boxes that a detected box of the label's map overlaps by
      *more* than T (Wang et al. 2017, arXiv 1705.02315: "correct … by requiring IoU > T(IoU) or IoBB > T(IoBB)").
      IoBB is intersection / area of the detected box.
    - ``false_positives_per_image``: detected boxes that overlap no published box of the label by more than T, divided
      by the images that have one. The paper does not say over which images its own number is: not comparable.
    - ``pointing``: the share of images whose hottest pixel lies in a box of the label (pointing game, Zhang et al.
      2016, arXiv 1608.00507, without its tolerance of 15 px); a flat map misses. ``pointing_low`` and ``_high`` are
      Wilson's 95 % interval, images taken as independent.
    - ``holds_centre``: the share of published boxes whose centre lies in a detected box; for boxes as small as a cell.
    - ``random``: the same of maps of random cells, enlarged like the model's, so of equal smoothness: mean of
      ``draws``; low and high are the 95 % range of the draws.
    - ``swapped``: the same with the map of another patient's image of the label: what the label's usual place alone
      gives; None where there is no other patient.
    - ``centre``: the pointing game of one who always points at the middle.
    - ``above_random``: pointing less random pointing, 95 % interval by a bootstrap of patients.

    ``mean`` is over labels, each counting as much; its intervals are bootstraps of patients. The same ``seed`` gives
    the same controls.
    """
    if not pairs:
        return None
    found = [match(detection, pair.boxes) for pair, detection in zip(pairs, detections, strict=True)]
    pool = _random_detections(size, cells, thresholds, seed)
    labels = list(dict.fromkeys(pair.label for pair in pairs))
    groups = np.array([pair.group for pair in pairs], dtype=object)
    hits = np.array([own.is_pointed for own in found], dtype=np.float64)
    random_hits = np.zeros(len(pairs))
    scored: dict[str, dict[str, Any]] = {}
    middle = Detection(np.zeros((0, 4)), (size / 2, size / 2))
    for number, label in enumerate(labels):
        rng = np.random.default_rng([seed, 2, number])
        places = [place for place, pair in enumerate(pairs) if pair.label == label]
        own = [pairs[place] for place in places]
        by_chance = [[match(pool[rng.integers(len(pool))], pair.boxes) for pair in own] for _ in range(draws)]
        random_hits[places] = np.mean([[one.is_pointed for one in drawn] for drawn in by_chance], axis=0)
        dealt = [_swapped(own, [detections[place] for place in places], rng) for _ in range(draws)]
        share = float(hits[places].mean())
        low, high = wilson(round(share * len(places)), len(places))
        scored[label] = {
            "boxes": sum(len(pair.boxes) for pair in own),
            "images": len(own),
            "patients": len({pair.group for pair in own}),
            **_shares([found[place] for place in places]),
            "pointing_low": low,
            "pointing_high": high,
            "random": _over_draws([_shares(drawn) for drawn in by_chance]),
            "swapped": _over_draws([_shares(drawn) for drawn in dealt if drawn is not None]),
            "centre": {"pointing": float(np.mean([match(middle, pair.boxes).is_pointed for pair in own]))},
        }
    membership = np.array([[pair.label == label for pair in pairs] for label in labels], dtype=np.float64)
    weights = _weights(groups, seed, resamples)
    pointed, random = _label_means(hits, membership, weights), _label_means(random_hits, membership, weights)
    for number, label in enumerate(labels):
        difference = scored[label]["pointing"] - scored[label]["random"]["pointing"]
        scored[label]["above_random"] = {"value": difference, **_interval(pointed[:, number] - random[:, number])}
    return {
        "thresholds": list(thresholds),
        "cells": list(cells),
        "draws": draws,
        "resamples": resamples,
        "labels": scored,
        "mean": _mean(list(scored.values()), pointed, random),
    }


def wilson(hits: int, trials: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927)."""
    if not trials:
        return 0.0, 1.0
    share, z = hits / trials, NORMAL_95
    below = 1 + z**2 / trials
    middle = (share + z**2 / (2 * trials)) / below
    half = z * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2)) / below
    return max(0.0, middle - half), min(1.0, middle + half)


def random_maps(count: int, size: int, cells: tuple[int, int], seed: int) -> Map:
    """Maps of random cells, 0 to 1, enlarged to ``size`` bilinearly as Grad-CAM's are: float32 (count, size, size)."""
    rng = np.random.default_rng([seed, 1])
    coarse = rng.random((count, *cells), dtype=np.float32)
    # OpenCV takes pixels by their centres and repeats the border, as torch does without align_corners.
    fine = np.stack([cv2.resize(plane, (size, size), interpolation=cv2.INTER_LINEAR) for plane in coarse])
    low, high = fine.min(axis=(1, 2), keepdims=True), fine.max(axis=(1, 2), keepdims=True)
    heat: Map = (fine - low) / np.where(high > low, high - low, 1)
    return heat


def _random_detections(size: int, cells: tuple[int, int], thresholds: Sequence[float], seed: int) -> list[Detection]:
    return [detect(heat, thresholds) for heat in random_maps(POOL, size, cells, seed)]


def _swapped(pairs: Sequence[Boxed], detections: Sequence[Detection], rng: np.random.Generator) -> list[Match] | None:
    """Every image with what the map of another patient's image says; None where there is one patient only."""
    groups = np.array([pair.group for pair in pairs], dtype=object)
    if len(set(groups)) < 2:
        return None
    others = [int(rng.choice(np.flatnonzero(groups != pair.group))) for pair in pairs]
    return [match(detections[other], pair.boxes) for pair, other in zip(pairs, others, strict=True)]


def _shares(found: Sequence[Match]) -> dict[str, Any]:
    iou, iobb = (np.concatenate([getattr(own, name) for own in found]) for name in ("iou", "iobb"))
    wrong_iou, wrong_iobb = (
        np.concatenate([getattr(own, name) for own in found]) for name in ("detected_iou", "detected_iobb")
    )
    false = {f"iou_{level:g}": float((wrong_iou <= level).sum() / len(found)) for level in IOU}
    false |= {f"iobb_{level:g}": float((wrong_iobb <= level).sum() / len(found)) for level in IOBB}
    return {
        "iou": {f"{level:g}": float((iou > level).mean()) for level in IOU},
        "iobb": {f"{level:g}": float((iobb > level).mean()) for level in IOBB},
        "false_positives_per_image": false,
        "holds_centre": float(np.concatenate([own.holds_centre for own in found]).mean()),
        "pointing": float(np.mean([own.is_pointed for own in found])),
    }


def _over_draws(drawn: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Means over the draws, and the range of 95 % of them where it is pointed; None where there were none."""
    if not drawn:
        return None
    low, high = np.percentile([own["pointing"] for own in drawn], [2.5, 97.5])
    return {**_means(drawn), "pointing_low": float(low), "pointing_high": float(high)}


def _means(scored: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean of every number, level by level."""
    return {
        key: _means([own[key] for own in scored])
        if isinstance(value, dict)
        else float(np.mean([own[key] for own in scored]))
        for key, value in scored[0].items()
    }


def _mean(scored: Sequence[Mapping[str, Any]], pointed: Values, random: Values) -> dict[str, Any]:
    """Over the labels, each counting as much as any other."""
    kept = ("iou", "iobb", "false_positives_per_image", "holds_centre", "pointing")
    own = _means([{key: label[key] for key in kept} for label in scored])
    controls = _means(
        [{"random": {key: label["random"][key] for key in kept}, "centre": label["centre"]} for label in scored]
    )
    swapped = [{key: label["swapped"][key] for key in kept} for label in scored if label["swapped"] is not None]
    interval = _interval(_row_means(pointed))
    difference = own["pointing"] - controls["random"]["pointing"]
    return {
        "boxes": sum(label["boxes"] for label in scored),
        "labels": len(scored),
        **own,
        "pointing_low": interval["low"],
        "pointing_high": interval["high"],
        **controls,
        "swapped": _means(swapped) if swapped else None,
        "above_random": {"value": difference, **_interval(_row_means(pointed - random))},
    }


def _weights(groups: npt.NDArray[Any], seed: int, resamples: int) -> Values:
    """(resamples, pairs): how often the pair's patient was drawn."""
    numbers, names = pd.factorize(groups)
    counts = np.random.default_rng([seed, 3]).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    weights: Values = counts[:, numbers].astype(np.float64)
    return weights


def _label_means(values: Values, membership: Values, weights: Values) -> Values:
    """(resamples, labels): weighted means of the label's pairs; NaN where none of them was drawn."""
    totals = weights @ membership.T
    sums = (weights * values) @ membership.T
    means: Values = np.where(totals > 0, sums / np.where(totals > 0, totals, 1.0), np.nan)
    return means


def _row_means(values: Values) -> Values:
    """Of each resample, over the labels that were drawn."""
    is_there = ~np.isnan(values)
    means: Values = np.where(is_there, values, 0.0).sum(axis=1) / np.maximum(is_there.sum(axis=1), 1)
    return means


def _interval(replicates: Values) -> dict[str, float | None]:
    """95 %, from the resamples that are defined; none where fewer than half are."""
    usable = replicates[~np.isnan(replicates)]
    if not len(replicates) or len(usable) < len(replicates) / 2:
        return {"low": None, "high": None}
    low, high = np.percentile(usable, [2.5, 97.5])
    return {"low": float(low), "high": float(high)}
