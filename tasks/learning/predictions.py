"""predictions.parquet: one row per sample of the release, with what is true and what was said, raw and calibrated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.files import parquet
from tasks.learning.recipe import Question, Recipe
from tasks.learning.truths import Values

ABOUT = ("sample_id", "patient_id", "group_id", "split")
NEAREST = 1e-12
"""How near to 0 or 1 a probability counts before its logarithm is taken."""


def to_parquet(
    samples: pd.DataFrame,
    recipe: Recipe,
    true: Mapping[str, Values],
    answers: Mapping[str, Values],
    calibrated: Mapping[str, Values],
) -> bytes:
    """``truth.Q``, ``logit.Q``, ``probability.Q`` and ``calibrated.Q`` of labels; the same of every class, with the
    classes' names in ``truth.Q`` and ``predicted.Q``; ``truth.Q`` and ``predicted.Q`` of targets.

    What is not known, and what could not be answered, is null. ``split`` is the one that the recipe deals.
    """
    columns: dict[str, Any] = {name: samples[name] for name in ABOUT if name in samples}
    for question in recipe.questions():
        answer, truth = answers.get(question.name), true[question.name]
        if question.kind == "classes":
            columns |= _of_classes(question, truth, answer, calibrated.get(question.name))
        elif question.kind == "label":
            columns |= _of_label(question, truth, answer, calibrated.get(question.name))
        else:
            columns[f"truth.{question.name}"] = truth
            columns[f"predicted.{question.name}"] = np.full(len(truth), np.nan) if answer is None else answer[:, 0]
    return parquet(pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False))


def answers_in(predictions: pd.DataFrame, recipe: Recipe) -> dict[str, Values]:
    """The answers that :func:`to_parquet` was given."""
    found: dict[str, Values] = {}
    for question in recipe.questions():
        if question.kind == "classes":
            names = [f"probability.{question.name}.{name}" for name in question.of]
        else:
            names = [f"{'probability' if question.kind == 'label' else 'predicted'}.{question.name}"]
        own = predictions[names].to_numpy(np.float64)
        if not np.isnan(own).all():
            found[question.name] = own
    return found


def _of_label(question: Question, truth: Values, answer: Values | None, calibrated: Values | None) -> dict[str, Any]:
    nothing = np.full(len(truth), np.nan)
    probability = nothing if answer is None else answer[:, 0]
    clipped = np.clip(probability, NEAREST, 1 - NEAREST)
    return {
        f"truth.{question.name}": pd.Series(truth).astype("Int8"),
        f"logit.{question.name}": np.log(clipped) - np.log1p(-clipped),
        f"probability.{question.name}": probability,
        f"calibrated.{question.name}": nothing if calibrated is None else calibrated[:, 0],
    }


def _of_classes(question: Question, truth: Values, answer: Values | None, calibrated: Values | None) -> dict[str, Any]:
    names = np.array([*question.of, None], dtype=object)
    chosen = np.full(len(truth), -1) if answer is None else answer.argmax(axis=1)
    columns: dict[str, Any] = {
        f"truth.{question.name}": names[np.where(np.isnan(truth), -1, truth).astype(int)],
        f"predicted.{question.name}": names[chosen],
    }
    nothing = np.full(len(truth), np.nan)
    for place, name in enumerate(question.of):
        probability = nothing if answer is None else answer[:, place]
        columns[f"logit.{question.name}.{name}"] = np.log(np.clip(probability, NEAREST, 1.0))
        columns[f"probability.{question.name}.{name}"] = probability
        columns[f"calibrated.{question.name}.{name}"] = nothing if calibrated is None else calibrated[:, place]
    return columns
