"""Boxes, maps and chance: what counts as found, where a box lies in the network's image, and what the controls get."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from scanmill.images import fitted
from tasks.learning import localisation
from tasks.learning.localisation import Boxed, Detection, letterbox

SIZE = 64


def boxes(*rows: tuple[float, float, float, float]) -> Any:
    """(n, 4) of x, y, w, h."""
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def blob(x: float, y: float, spread: float = 6.0) -> Any:
    """A map that is hottest at a point."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    heat = np.exp(-((columns + 0.5 - x) ** 2 + (rows + 0.5 - y) ** 2) / (2 * spread**2))
    return ((heat - heat.min()) / (heat.max() - heat.min())).astype(np.float32)


def planted(count: int, seed: int = 0, label: str = "Mass") -> list[Boxed]:
    """One box of 14 × 10 at a random place in each image of a patient of its own."""
    places = np.random.default_rng(seed).uniform(2, SIZE - 18, (count, 2))
    return [Boxed(row, label, f"patient {row}", boxes((x, y, 14, 10))) for row, (x, y) in enumerate(places)]


def found(pairs: list[Boxed]) -> list[Detection]:
    """What maps say that are hottest in the middle of each image's box."""
    return [localisation.detect(blob(*(pair.boxes[0, :2] + pair.boxes[0, 2:] / 2))) for pair in pairs]


def test_overlaps_of_hand_computed_boxes() -> None:
    detected, published = boxes((0, 0, 4, 4), (10, 10, 2, 2)), boxes((2, 2, 4, 4), (8, 8, 8, 8), (30, 30, 1, 1))
    assert localisation.ious(detected, published) == pytest.approx(
        np.array([[4 / 28, 0, 0], [0, 4 / 64, 0]])  # 4 shared of 16 + 16 - 4; 4 shared of 64
    )
    assert localisation.iobbs(detected, published) == pytest.approx(np.array([[4 / 16, 0, 0], [0, 1.0, 0]]))


def test_boxes_of_a_map_are_those_of_its_regions() -> None:
    heat = np.zeros((12, 12), np.float32)
    heat[1:4, 2:7] = 0.6
    heat[8:10, 9:12] = 1.0
    heat[4, 7] = 0.6  # touches the first by a corner only
    assert localisation.boxes_of(heat, 0.5).tolist() == [[2, 1, 5, 3], [7, 4, 1, 1], [9, 8, 3, 2]]
    assert localisation.boxes_of(heat, 0.7).tolist() == [[9, 8, 3, 2]]
    assert localisation.detect(heat).peak == (10.5, 8.5)
    flat = localisation.detect(np.zeros((12, 12), np.float32))
    assert (flat.peak, flat.boxes.shape) == (None, (0, 4))


@pytest.mark.parametrize(("width", "height"), [(200, 100), (75, 301), (64, 64), (40, 20), (1024, 1024), (1000, 600)])
def test_a_box_lies_where_its_pixels_lie_after_letterboxing(width: int, height: int) -> None:
    frame = letterbox(width, height, SIZE)
    assert max(frame.width, frame.height) == min(SIZE, max(width, height))
    stored = np.zeros((height, width), np.float32)
    x, y, w, h = width * 0.5, height * 0.25, max(width // 4, 1), max(height // 4, 1)
    stored[int(y) : int(y) + h, int(x) : int(x) + w] = 1
    square = fitted(stored, SIZE)
    rows, columns = np.nonzero(fitted(np.ones_like(stored), SIZE))
    assert (columns.min(), columns.max() + 1 - columns.min()) == (frame.left, frame.width)
    assert (rows.min(), rows.max() + 1 - rows.min()) == (frame.top, frame.height)
    placed = frame.place(boxes((int(x), int(y), w, h)))[0]
    down, across = np.mgrid[:SIZE, :SIZE] + 0.5
    middle = np.array([(across * square).sum(), (down * square).sum()]) / square.sum()
    assert placed[:2] + placed[2:] / 2 == pytest.approx(middle, abs=0.05)
    assert placed[2] * placed[3] == pytest.approx(square.sum(), rel=0.05)


def test_the_sample_tables_boxes_become_pairs_by_question() -> None:
    box = {"label": "Mass", "x": 100.0, "y": 20.0, "w": 40.0, "h": 60.0}
    samples = pd.DataFrame(
        {
            "group_id": ["a", "b", None, "c"],
            "width": 200,
            "height": 100,
            "boxes_scaled": [[box, {**box, "label": "Nodule"}], None, [box], [{**box, "w": None}]],
        }
    )
    pairs = localisation.boxed(samples, {"Mass": ["Mass"], "either": ["Mass", "Nodule"]}, SIZE)
    assert [(pair.row, pair.label, pair.group, len(pair.boxes)) for pair in pairs] == [
        (0, "Mass", "a", 1),
        (0, "either", "a", 2),
    ]
    assert pairs[0].boxes[0] == pytest.approx([32, 16 + 6.4, 12.8, 19.2])
    assert localisation.boxed(samples.drop(columns="boxes_scaled"), {"Mass": ["Mass"]}, SIZE) == []


def test_shares_of_two_images_worked_out_by_hand() -> None:
    pairs = [
        Boxed(0, "Mass", "a", boxes((10, 10, 10, 10), (40, 40, 10, 10))),
        Boxed(1, "Mass", "b", boxes((20, 20, 4, 4))),
    ]
    detections = [
        Detection(boxes((10, 10, 10, 20), (0, 50, 5, 5)), (45.0, 45.0)),
        Detection(boxes((0, 0, 32, 32)), (1.0, 1.0)),
    ]
    own = _score(pairs, detections)["labels"]["Mass"]
    assert (own["boxes"], own["images"], own["patients"]) == (3, 2, 2)
    # Best IoU: 100/200, 0, 16/1024. Best IoBB: 100/200, 0, 16/1024.
    assert own["iou"] == {"0.1": 1 / 3, "0.2": 1 / 3, "0.3": 1 / 3, "0.4": 1 / 3, "0.5": 0, "0.6": 0, "0.7": 0}
    assert own["iobb"] == {"0.1": 1 / 3, "0.25": 1 / 3, "0.5": 0, "0.75": 0, "0.9": 0}
    # The second box of the first image and the only one of the second are wrong at 0.1; at 0.5 all three are.
    assert own["false_positives_per_image"]["iobb_0.1"] == 1.0
    assert own["false_positives_per_image"]["iobb_0.5"] == 1.5
    assert own["holds_centre"] == pytest.approx(2 / 3)  # the 1024 px box holds the tiny one's centre
    assert own["pointing"] == 0.5
    assert (own["pointing_low"], own["pointing_high"]) == pytest.approx((0.0945, 0.9055), abs=1e-4)
    assert own["centre"] == {"pointing": 0.0}


@pytest.mark.parametrize(
    ("hits", "trials", "low", "high"), [(0, 10, 0.0, 0.2775), (81, 263, 0.2553, 0.3662), (10, 10, 0.7225, 1.0)]
)
def test_wilson_against_published_values(hits: int, trials: int, low: float, high: float) -> None:
    # 81 of 263: Newcombe 1998 (Stat Med 17:857), table I, method 3.
    assert localisation.wilson(hits, trials) == pytest.approx((low, high), abs=1e-4)


def test_maps_that_find_the_boxes_beat_chance_and_other_patients_maps() -> None:
    pairs = planted(60)
    own = _score(pairs, found(pairs))["labels"]["Mass"]
    assert own["pointing"] == 1.0
    share = 14 * 10 / SIZE**2
    assert abs(own["random"]["pointing"] - share) < 0.03
    assert own["swapped"]["pointing"] < 0.15
    assert own["iou"]["0.3"] > 0.9 > 0.2 > own["random"]["iou"]["0.3"]
    assert own["above_random"]["low"] > 0.9
    assert own["random"].keys() == own["swapped"].keys() <= own.keys()


def test_random_maps_do_not_beat_chance() -> None:
    pairs = planted(80)
    maps = localisation.random_maps(80, SIZE, (4, 4), seed=99)
    assert maps.min(axis=(1, 2)) == pytest.approx(0)
    assert maps.max(axis=(1, 2)) == pytest.approx(1)
    own = _score(pairs, [localisation.detect(heat) for heat in maps])["labels"]["Mass"]
    assert own["above_random"]["low"] < 0 < own["above_random"]["high"]


def test_a_habit_is_told_from_looking() -> None:
    """All boxes at one place and all maps there: far better than random maps, no better than another patient's."""
    pairs = [Boxed(row, "Heart", f"patient {row}", boxes((25, 25, 14, 14))) for row in range(20)]
    own = _score(pairs, [localisation.detect(blob(32, 32))] * 20)["labels"]["Heart"]
    assert own["pointing"] == own["swapped"]["pointing"] == own["centre"]["pointing"] == 1.0
    assert own["random"]["pointing"] < 0.3


def test_the_mean_counts_labels_alike_and_patients_once() -> None:
    sure, blind = planted(30, label="Mass"), planted(10, seed=1, label="Nodule")
    detections = [*found(sure), *[Detection(np.zeros((0, 4)), None)] * 10]
    scored = _score([*sure, *blind], detections)
    assert scored["mean"]["pointing"] == 0.5
    assert scored["mean"]["boxes"] == 40
    assert scored["labels"]["Nodule"]["iobb"]["0.1"] == 0.0
    assert scored["labels"]["Nodule"]["above_random"]["value"] < 0
    # One patient with all of the hits: resampling images would hide that there is one patient only.
    one = [Boxed(pair.row, "Mass", "the same", pair.boxes) for pair in sure]
    mixed = _score([*one, *planted(30, seed=2)], [*found(sure), *[Detection(np.zeros((0, 4)), None)] * 30])
    apart = _score([*sure, *planted(30, seed=2)], [*found(sure), *[Detection(np.zeros((0, 4)), None)] * 30])
    assert _width(mixed) > 2 * _width(apart)
    assert _score(one, found(one))["labels"]["Mass"]["swapped"] is None


def test_the_same_seed_gives_the_same_numbers_and_nothing_boxed_gives_none() -> None:
    pairs = planted(12)
    assert _score(pairs, found(pairs)) == _score(pairs, found(pairs))
    assert localisation.score([], [], SIZE, (4, 4)) is None


def _score(pairs: list[Boxed], detections: list[Detection]) -> dict[str, Any]:
    scored = localisation.score(pairs, detections, SIZE, (4, 4), resamples=200)
    assert scored is not None
    return scored


def _width(scored: dict[str, Any]) -> float:
    interval = scored["labels"]["Mass"]["above_random"]
    return float(interval["high"] - interval["low"])
