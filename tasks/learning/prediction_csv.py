"""Predictions as a table for people: one row per image, under the name that the publisher gave its file."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import pandas as pd

from tasks.learning.recipe import Question
from tasks.learning.truths import Values


def to_csv(
    samples: pd.DataFrame,
    questions: Sequence[Question],
    answers: Mapping[str, Values],
    names: Sequence[str] | None = None,
    *,
    thresholds: Mapping[str, float] | None = None,
    reasons: Sequence[str] | None = None,
) -> bytes:
    """UTF-8 CSV with a heading, rows in the order of ``samples``; what could not be answered is empty.

    ``reasons`` say why, in a last column ``reason``.

    Columns are ``image_name`` (of ``names``, else the base name of ``member``), ``sample_id``, then per question: of
    classes ``predicted_label`` (the likeliest; ``predicted_label.Q`` where there are several such questions) and
    ``probability.Q.C`` for each class; of a label ``probability.Q``, and ``present.Q`` (0 or 1) where it has a
    threshold, a probability that counts as present from there on; of a target ``predicted.Q``, in its unit. Answers are
    (samples, k), numbers are written with six digits.
    """
    shown = [PurePosixPath(member).name for member in samples["member"]] if names is None else list(names)
    columns: dict[str, list[str]] = {"image_name": shown, "sample_id": [str(one) for one in samples["sample_id"]]}
    is_only_one = sum(question.kind == "classes" for question in questions) == 1
    for question in questions:
        columns |= _columns(question, answers.get(question.name), len(samples), is_only_one, thresholds or {})
    if reasons is not None:
        columns["reason"] = list(reasons)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return buffer.getvalue().encode()


def _columns(
    question: Question, answer: Values | None, count: int, is_only_one: bool, thresholds: Mapping[str, float]
) -> dict[str, list[str]]:
    name, nothing = question.name, [""] * count
    if question.kind == "classes":
        heading = "predicted_label" if is_only_one else f"predicted_label.{name}"
        chosen = nothing if answer is None else [_likeliest(question.of, row) for row in answer]
        return {heading: chosen} | {
            f"probability.{name}.{one}": nothing if answer is None else _written(answer[:, place])
            for place, one in enumerate(question.of)
        }
    values = nothing if answer is None else _written(answer[:, 0])
    if question.kind == "target":
        return {f"predicted.{name}": values}
    if name not in thresholds:
        return {f"probability.{name}": values}
    return {
        f"probability.{name}": values,
        f"present.{name}": nothing if answer is None else _judged(answer[:, 0], thresholds[name]),
    }


def _written(values: Sequence[float] | Values) -> list[str]:
    return ["" if math.isnan(value) else f"{value:.6g}" for value in values]


def _judged(values: Sequence[float] | Values, threshold: float) -> list[str]:
    return ["" if math.isnan(value) else str(int(value >= threshold)) for value in values]


def _likeliest(names: Sequence[str], row: Values) -> str:
    """The first of the likeliest ones; nothing where a probability is not known."""
    known = [float(value) for value in row]
    return "" if any(map(math.isnan, known)) else names[known.index(max(known))]
