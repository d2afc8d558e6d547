"""explanations.json of a run: whether the network looks where the finding is, what it gets wrong, how that looks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tasks.learning import gallery, localisation, saliency
from tasks.learning.clinical import clinical_of
from tasks.learning.gallery import Shown
from tasks.learning.recipe import Question, Recipe
from tasks.learning.saliency import Method
from tasks.progress import Meter

Values = npt.NDArray[np.float64]
Images = Callable[[Sequence[int]], npt.NDArray[np.uint8]]
"""Rows of the sample table to (B, 1, S, S)."""

PICTURES = 64
"""Of the gallery, at most, over all questions: 10 kB each."""
MAPS = 32
"""That are shown, at most: 20 kB each."""
EACH = 4
"""Samples of every kind of mistake in one question, at most."""
BATCH = 32
"""Images that are read at once."""
WITHHELD = "the terms of this dataset forbid showing pictures or naming samples"


def explain(
    network: torch.nn.Module,
    images: Images,
    samples: pd.DataFrame,
    truths: Mapping[str, Values],
    answers: Mapping[str, Values],
    recipe: Recipe,
    split: str,
    *,
    names_samples: bool,
    clinical: npt.NDArray[Any] | None = None,
    thresholds: Mapping[str, float] | None = None,
    method: Method = "gradcam",
) -> dict[str, Any]:
    """Content of explanations.json, for one split.

    ``images`` gives the network's images by rows of ``samples``; ``clinical`` is (N, inputs) for all samples, read from
    them by :func:`clinical_of` where it is None; ``thresholds`` are operating points by label, see
    :func:`tasks.learning.gallery.choose`.

    Keys: ``split``, ``method``, ``layer``; ``localisation`` (see :func:`tasks.learning.localisation.score`, None where
    the split has no boxes); ``gallery`` and ``maps`` with a picture each; ``not_mapped``, questions without an output
    of their own and why; ``withheld``, why there is no picture, or None. ``names_samples`` is False for a dataset whose
    terms forbid it (``Dataset.is_restricted``): then both lists are empty, and what remains are aggregates.
    """
    questions = recipe.questions()
    columns = cast(Sequence[str], network.columns)
    inputs = cast(Sequence[str], network.inputs)
    if inputs and clinical is None:
        clinical = clinical_of(samples, inputs)
    look = _Look(network, images, clinical if inputs else None, method)
    is_in_split = (samples["split"] == split).to_numpy()
    with_boxes = {q.name: q.of for q in questions if q.kind == "label" and q.name in columns}
    everywhere = localisation.boxed(samples, with_boxes, cast(int, network.size))
    boxed = [pair for pair in everywhere if is_in_split[pair.row]]
    found: dict[str, Any] = {
        "split": split,
        "method": method,
        "layer": str(network.cam_layer),
        "localisation": _localise(look, boxed, recipe.seed),
        "gallery": [],
        "maps": [],
        "not_mapped": {
            q.name: "it follows from other answers and has no output of its own"
            for q in questions
            if q.name in answers and _column(q, answers[q.name], 0, columns) is None
        },
        "withheld": None if names_samples else WITHHELD,
    }
    if not names_samples:
        return found
    answered = [question for question in questions if question.name in answers]
    cuts = _cuts(answered, is_in_split, truths, answers) | dict(thresholds or {})
    chosen = _chosen(answered, samples, truths, answers, split, cuts)
    mapped = _mapped(answered, chosen, boxed, answers, columns, split, cuts)
    return {**found, **_pictures(look, samples, chosen, mapped, boxed, answers, questions)}


class _Look:
    """A network and where its inputs come from."""

    def __init__(
        self, network: torch.nn.Module, images: Images, clinical: npt.NDArray[Any] | None, method: Method
    ) -> None:
        self.network, self.images, self.clinical, self.method = network, images, clinical, method

    def maps(
        self, pairs: Sequence[tuple[int, int]], pixels: Mapping[int, npt.NDArray[np.uint8]], meter: Meter
    ) -> saliency.Maps:
        """Of (row, column) pairs whose images have been read."""
        rows = sorted({row for row, _ in pairs})
        places = {row: place for place, row in enumerate(rows)}
        stack = np.stack([pixels[row] for row in rows])[:, None]
        own = None if self.clinical is None else self.clinical[rows]
        wanted = [(places[row], column) for row, column in pairs]
        return saliency.maps(self.network, stack, own, wanted, method=self.method, meter=meter)

    def read(self, rows: Sequence[int]) -> dict[int, npt.NDArray[np.uint8]]:
        """Rows to (S, S) pixels."""
        wanted = sorted(set(rows))
        return {row: image[0] for row, image in zip(wanted, self.images(wanted), strict=True)} if wanted else {}


def _localise(look: _Look, boxed: Sequence[localisation.Boxed], seed: int) -> dict[str, Any] | None:
    """Detections of every boxed answer, batch by batch: no more than one batch of maps is in memory."""
    if not boxed:
        return None
    columns = list(cast(Sequence[str], look.network.columns))
    by_row = sorted(range(len(boxed)), key=lambda place: boxed[place].row)
    detections: dict[int, localisation.Detection] = {}
    meter = Meter("localise", len(boxed), "maps")
    for start in range(0, len(by_row), BATCH):
        part = by_row[start : start + BATCH]
        pixels = look.read([boxed[place].row for place in part])
        pairs = [(boxed[place].row, columns.index(boxed[place].label)) for place in part]
        for place, heat in zip(part, look.maps(pairs, pixels, meter), strict=True):
            detections[place] = localisation.detect(heat)
    ordered = [detections[place] for place in range(len(boxed))]
    size = cast(int, look.network.size)
    return localisation.score(boxed, ordered, size, saliency.cells(look.network), seed=seed)


def _cuts(
    questions: Sequence[Question],
    is_in_split: npt.NDArray[np.bool_],
    truths: Mapping[str, Values],
    answers: Mapping[str, Values],
) -> dict[str, float]:
    """By label, from which probability on it is said to be there, where no operating point is given."""
    found = {}
    for question in questions:
        if question.kind == "label":
            truth = truths[question.name]
            is_known = is_in_split & ~np.isnan(truth)
            found[question.name] = gallery.cut_of(truth[is_known], answers[question.name][is_known, 0])
    return found


def _chosen(
    questions: Sequence[Question],
    samples: pd.DataFrame,
    truths: Mapping[str, Values],
    answers: Mapping[str, Values],
    split: str,
    cuts: Mapping[str, float],
) -> list[Shown]:
    """Every question has its share of the pictures; where there are too many, all lose their last ones."""
    shares = {question.name: 2 if question.kind == "classes" else 1 for question in questions}
    parts = sum(2 * 2 if question.kind == "classes" else 3 for question in questions)
    each = max(1, min(EACH, PICTURES // max(parts, 1)))
    found = {
        question.name: gallery.choose(
            samples,
            truths[question.name],
            answers[question.name],
            question,
            split,
            each * shares[question.name],
            threshold=cuts.get(question.name),
        )
        for question in questions
    }
    by_turn = sorted((turn, place) for place, own in enumerate(found.values()) for turn in range(len(own)))
    kept = {(place, turn) for turn, place in by_turn[:PICTURES]}
    return [
        shown for place, own in enumerate(found.values()) for turn, shown in enumerate(own) if (place, turn) in kept
    ]


def _mapped(
    questions: Sequence[Question],
    chosen: Sequence[Shown],
    boxed: Sequence[localisation.Boxed],
    answers: Mapping[str, Values],
    columns: Sequence[str],
    split: str,
    cuts: Mapping[str, float],
) -> list[Shown]:
    """Whose maps are shown: of boxed labels the surest and the least sure boxed one, of others the first of each kind.

    Those of all questions come in turn, so that the last question is not left out.
    """
    queues: list[list[Shown]] = []
    for question in questions:
        if _column(question, answers[question.name], 0, columns) is None:
            continue
        own = [shown for shown in chosen if shown.question == question.name]
        rows = [pair.row for pair in boxed if pair.label == question.name]
        queue = [next(shown for shown in own if shown.kind == kind) for kind in dict.fromkeys(s.kind for s in own)]
        if rows:
            probability = answers[question.name][:, 0]
            ordered = sorted(rows, key=lambda row: (-probability[row], row))
            ends = list(dict.fromkeys((ordered[0], ordered[-1])))
            cut = cuts[question.name]
            queue = [_boxed_shown(row, split, question.name, float(probability[row]), cut) for row in ends] + [
                shown for shown in queue if shown.row not in ends
            ][:1]
        queues.append(queue)
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)][:MAPS]


def _boxed_shown(row: int, split: str, question: str, probability: float, cut: float) -> Shown:
    is_said = probability >= cut
    kind, said = ("right", "present") if is_said else ("worst false negative", "absent")
    return Shown(row, split, question, kind, "present", said, probability, cut if np.isfinite(cut) else None)


def _column(question: Question, answer: Values, row: int, columns: Sequence[str]) -> int | None:
    """The output whose map explains an answer: of classes the one that was said; None where there is none."""
    name = question.name
    if question.kind == "classes":
        name = f"{question.name}.{question.of[int(answer[row].argmax())]}"
    return columns.index(name) if name in columns else None


def _pictures(
    look: _Look,
    samples: pd.DataFrame,
    chosen: Sequence[Shown],
    mapped: Sequence[Shown],
    boxed: Sequence[localisation.Boxed],
    answers: Mapping[str, Values],
    questions: Sequence[Question],
) -> dict[str, Any]:
    columns = cast(Sequence[str], look.network.columns)
    pixels = look.read([shown.row for shown in (*chosen, *mapped)])
    drawn = {(pair.row, pair.label): pair.boxes for pair in boxed}
    by_name = {question.name: question for question in questions}
    pairs = []
    for shown in mapped:
        column = _column(by_name[shown.question], answers[shown.question], shown.row, columns)
        assert column is not None
        pairs.append((shown.row, column))
    heats: Any = look.maps(pairs, pixels, Meter("explain", len(pairs), "maps")) if pairs else []
    names = [str(name) for name in samples["sample_id"]]

    def entry(shown: Shown, picture: str) -> dict[str, Any]:
        said = {
            "truth": shown.truth,
            "said": shown.said,
            "probability": shown.probability,
            "threshold": shown.threshold,
        }
        where = {"sample_id": names[shown.row], "split": shown.split, "question": shown.question, "kind": shown.kind}
        return {**where, **said, "image": picture}

    def boxes_of(shown: Shown) -> Values | None:
        return drawn.get((shown.row, shown.question))

    return {
        "gallery": [entry(shown, gallery.draw(pixels[shown.row], boxes_of(shown))) for shown in chosen],
        "maps": [
            entry(shown, gallery.draw_map(pixels[shown.row], heat, boxes_of(shown)))
            for shown, heat in zip(mapped, heats, strict=True)
        ],
    }
