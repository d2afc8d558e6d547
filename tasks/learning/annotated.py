"""A folder of images with what a model said of each written under them: for people who leaf through a split."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.files import make_folder, write_bytes
from tasks.learning.gallery import INK, RIGHT, WRONG, Colour, Grey, captioned, framed, jpeg, readable
from tasks.learning.recipe import Question
from tasks.progress import Meter
from tasks.schema import DataRefused
from tasks.storage import Location

Values = npt.NDArray[np.float64]
Images = Callable[[Sequence[int]], npt.NDArray[np.uint8]]
"""Rows of the sample table to (B, 1, S, S)."""

BATCH = 64
LABELS = 4
"""Most probable labels that are written under an image; those that are there are written whatever was said."""
QUALITY = 90


def write_annotated(
    folder: Location,
    rows: Sequence[int],
    images: Images,
    samples: pd.DataFrame,
    truths: Mapping[str, Values],
    answers: Mapping[str, Values],
    questions: Sequence[Question],
    *,
    names_samples: bool,
) -> list[str]:
    """Write ``<sample_id>.jpg`` for every row: the image, and under it answers, probabilities and the truth.

    Returns the names, in the order of the rows. Samples without a known answer are said to be unknown. The same input
    gives the same bytes. ``names_samples`` is False for a dataset whose terms forbid showing pictures: then
    :class:`DataRefused` is raised and nothing is written.
    """
    if not names_samples:
        raise DataRefused(
            f"{folder}: the terms of this dataset forbid showing pictures, so none are written; predictions are in "
            f"predictions.parquet"
        )
    make_folder(folder)
    names = []
    meter = Meter("annotate", len(rows), "images")
    for start in range(0, len(rows), BATCH):
        part = list(rows[start : start + BATCH])
        for row, image in zip(part, images(part), strict=True):
            names.append(f"{samples['sample_id'].iloc[row]}.jpg")
            write_bytes(folder / names[-1], annotated(image[0], row, truths, answers, questions))
        meter.add(len(part))
    return names


def annotated(
    image: Grey, row: int, truths: Mapping[str, Values], answers: Mapping[str, Values], questions: Sequence[Question]
) -> bytes:
    """One image with its strip of text, a JPEG."""
    return jpeg(captioned(framed(image), lines_of(row, truths, answers, questions)), QUALITY)


def lines_of(
    row: int, truths: Mapping[str, Values], answers: Mapping[str, Values], questions: Sequence[Question]
) -> list[tuple[str, Colour]]:
    """What is said of one sample, line by line: classes and targets one after the other, the labels that matter."""
    answered = [question for question in questions if question.name in answers]
    lines: list[tuple[str, Colour]] = []
    for question in answered:
        truth, answer = float(truths[question.name][row]), answers[question.name][row]
        if question.kind == "classes":
            lines += _of_classes(question, truth, answer)
        elif question.kind == "target":
            true = "unknown" if np.isnan(truth) else f"{truth:.3g}"
            lines.append((f"{readable(question.name)}: {float(answer[0]):.3g}, truth {true}", INK))
    labels = [
        (question.name, float(truths[question.name][row]), float(answers[question.name][row, 0]))
        for question in answered
        if question.kind == "label"
    ]
    return lines + _of_labels(labels)


def _of_classes(question: Question, truth: float, answer: npt.NDArray[Any]) -> list[tuple[str, Colour]]:
    said = int(answer.argmax())
    line = f"{readable(question.of[said])}, p {answer[said]:.2f}"
    if np.isnan(truth):
        return [(line, INK), ("truth: unknown", INK)]
    is_right = said == int(truth)
    verdict = "right" if is_right else "wrong"
    return [(f"{line}: {verdict}", RIGHT if is_right else WRONG), (f"truth: {readable(question.of[int(truth)])}", INK)]


def _of_labels(labels: Sequence[tuple[str, float, float]]) -> list[tuple[str, Colour]]:
    """The most probable ones and those that are there, most probable first; no verdict, as there is no threshold."""
    falling = sorted(labels, key=lambda label: -label[2])
    kept = [label for place, label in enumerate(falling) if place < LABELS or label[1] == 1]
    words = {0.0: "absent", 1.0: "present"}
    return [(f"{readable(name)}: p {said:.2f}, truth {words.get(truth, 'unknown')}", INK) for name, truth, said in kept]
