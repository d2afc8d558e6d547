"""One of several classes: confusion, recall of each, accuracy, and the kappa of grades."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.learning.scoring.draws import Drawn, Values, everything, ratio, score, sums


@dataclass(frozen=True)
class Tally:
    """What was said of each class, on all rows and in every resample."""

    counts: list[list[int]]
    """Rows are what is true, columns what was said."""
    accuracy: dict[str, Any]
    balanced_accuracy: dict[str, Any]
    """Mean recall of the classes that are there."""
    quadratic_kappa: dict[str, Any]
    """Cohen's, with squared distances: for classes that are grades."""
    recalls: list[dict[str, Any]]


def tally(truth: Values, chosen: Values, count: int, drawn: Drawn) -> Tally:
    """Of numbers of classes, 0 to ``count`` − 1; resamples of one class only are undefined."""
    cells = (truth * count + chosen).astype(np.int64)
    table = np.eye(count * count)[cells]
    whole = sums(everything(len(truth)), table).reshape(-1, count, count)
    resampled = sums(drawn, table).reshape(-1, count, count)
    is_told = (resampled.sum(axis=2) > 0).sum(axis=1) > 1
    resampled[~is_told] = np.nan
    first, others = _recalls(whole), _recalls(resampled)
    return Tally(
        counts=whole[0].astype(np.int64).tolist(),
        accuracy=score(_accuracy(whole)[0], _accuracy(resampled)),
        balanced_accuracy=score(_mean(first)[0], _mean(others)),
        quadratic_kappa=score(_kappa(whole)[0], _kappa(resampled)),
        recalls=[score(first[0, number], others[:, number]) for number in range(count)],
    )


def _accuracy(confusions: Values) -> Values:
    return ratio(np.trace(confusions, axis1=1, axis2=2), confusions.sum(axis=(1, 2)))


def _recalls(confusions: Values) -> Values:
    """Resamples × classes; NaN where a class is not there."""
    return ratio(np.diagonal(confusions, axis1=1, axis2=2), confusions.sum(axis=2))


def _mean(recalls: Values) -> Values:
    """Over the classes that are there."""
    is_there = ~np.isnan(recalls)
    return ratio(np.where(is_there, recalls, 0.0).sum(axis=1), is_there.sum(axis=1).astype(np.float64))


def _kappa(confusions: Values) -> Values:
    """1 − (squared distance seen / squared distance by chance); NaN where chance is never wrong."""
    grades = np.arange(confusions.shape[1])
    distance = (grades[:, None] - grades) ** 2
    by_chance = confusions.sum(axis=2)[:, :, None] * confusions.sum(axis=1)[:, None, :]
    expected = ratio((by_chance * distance).sum(axis=(1, 2)), confusions.sum(axis=(1, 2)))
    return 1 - ratio((confusions * distance).sum(axis=(1, 2)), expected)
