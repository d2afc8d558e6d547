"""The intensity-only baseline: linear models on grey-level statistics. The floor that every deep model has to beat.

Its coefficients are plain numbers in ``model.json``; using one needs numpy alone, and nothing is ever unpickled.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from tasks.learning.recipe import Options, Question
from tasks.learning.truths import Values

ITERATIONS = 2000

Table = npt.NDArray[np.float32]
"""Samples × features."""


@dataclass(frozen=True)
class Head:
    """The answer to one question: scores = coefficients · features + intercepts."""

    name: str
    kind: str
    coefficients: list[list[float]]
    intercepts: list[float]
    samples: int
    """How many it was fitted on."""
    reason: str = ""
    """Why there is none; then it has no coefficients."""
    has_converged: bool = True


@dataclass(frozen=True)
class Model:
    """What was fitted: z-scores of the features, and a head per question."""

    features: list[str]
    means: list[float]
    scales: list[float]
    heads: tuple[Head, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain mapping; floats come back exactly."""
        return asdict(self)

    @property
    def not_fitted(self) -> dict[str, str]:
        """Questions without an answer, and why."""
        return {head.name: head.reason for head in self.heads if head.reason}

    @property
    def not_converged(self) -> list[str]:
        """Questions whose fit did not come to its end."""
        return [head.name for head in self.heads if not head.has_converged]

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Model:
        """The inverse of :meth:`as_json`."""
        return Model(value["features"], value["means"], value["scales"], tuple(Head(**h) for h in value["heads"]))


def fit(
    features: Table,
    names: Sequence[str],
    truths: Mapping[str, Values],
    questions: Sequence[Question],
    options: Options,
) -> Model:
    """Fit every question on these samples, and on no other."""
    # One thread: the same sums in the same order every time, and no fight for cores that others have.
    with threadpool_limits(limits=1):
        scaler = StandardScaler().fit(features.astype(np.float64))
        scaled = scaler.transform(features.astype(np.float64))
        heads = [_head(question, scaled, truths[question.name], options) for question in questions]
    return Model(list(names), scaler.mean_.tolist(), scaler.scale_.tolist(), tuple(heads))


def predict(model: Model, features: Table, questions: Sequence[Question]) -> dict[str, Values]:
    """Question to samples × answers: the probability of presence, those of the classes, or the target's value.

    A question that could not be fitted has no entry.
    """
    scaled = (features.astype(np.float64) - np.array(model.means)) / np.array(model.scales)
    kinds = {question.name: question.kind for question in questions}
    return {
        head.name: _answer(kinds[head.name], scaled @ np.array(head.coefficients).T + np.array(head.intercepts))
        for head in model.heads
        if not head.reason
    }


def _answer(kind: str, scores: Values) -> Values:
    if kind == "target":
        return scores
    answers: Values
    if kind == "label":
        answers = np.exp(-np.logaddexp(0.0, -scores))
        return answers
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    answers = powers / powers.sum(axis=1, keepdims=True)
    return answers


def _head(question: Question, scaled: Values, truth: Values, options: Options) -> Head:
    is_known = ~np.isnan(truth)
    known, found = scaled[is_known], truth[is_known]
    if question.kind == "target":
        if len(found) < 2:
            return _none(question, len(found), f"{len(found)} samples to fit on have a value")
        ridge = Ridge(alpha=1 / options.inverse_penalty).fit(known, found)
        return Head(question.name, "ridge", [ridge.coef_.tolist()], [float(ridge.intercept_)], len(found))
    if len(np.unique(found)) < 2:
        return _none(question, len(found), _one_sided(question, found))
    model = LogisticRegression(C=options.inverse_penalty, class_weight=options.class_weight, max_iter=ITERATIONS)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(known, found)
    has_converged = not any(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    coefficients, intercepts = model.coef_, model.intercept_
    if question.kind == "classes":
        coefficients, intercepts = _by_class(question, model)
    return Head(
        question.name,
        "logistic",
        coefficients.tolist(),
        intercepts.tolist(),
        len(found),
        has_converged=has_converged,
    )


def _by_class(question: Question, model: LogisticRegression) -> tuple[Values, Values]:
    """A row for each of the question's classes; one that was never seen gets a score that comes to nothing."""
    coefficients = np.zeros((len(question.of), model.coef_.shape[1]))
    intercepts = np.full(len(question.of), -1000.0)
    seen = model.classes_.astype(int)
    if len(seen) == 2:  # scikit-learn keeps one row for two classes: the second's score, against nought
        intercepts[seen] = [0.0, float(model.intercept_[0])]
        coefficients[seen[1]] = model.coef_[0]
    else:
        coefficients[seen], intercepts[seen] = model.coef_, model.intercept_
    return coefficients, intercepts


def _none(question: Question, samples: int, reason: str) -> Head:
    return Head(question.name, "none", [], [], samples, reason)


def _one_sided(question: Question, found: Values) -> str:
    if not len(found):
        return "no sample to fit on has a known answer"
    if question.kind == "classes":
        return f"all samples to fit on are {question.of[int(found[0])]}"
    return f"all samples to fit on have it {'present' if found[0] else 'absent'}"
