"""Answers that are values: explained variance and mean error."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.learning.scoring.draws import Drawn, Values, both, everything, ratio, score, sums

POINTS = 300
"""Of the scatter plot that metrics.json carries."""


def measures(truth: Values, answer: Values, drawn: Drawn) -> dict[str, Any]:
    """``r2`` and ``mae`` with intervals; resamples in which all values are the same are undefined."""
    whole, resampled = (replicates(truth, answer, weights) for weights in (everything(len(truth)), drawn))
    explained, error = both(whole, resampled)
    return {"r2": score(*explained), "mae": score(*error)}


def replicates(truth: Values, answer: Values, drawn: Drawn) -> Values:
    """Resamples × 2: R² and mean absolute error."""
    centred, wrong = truth - truth.mean(), answer - truth
    total, first, second, squared, absolute = sums(
        drawn, np.stack([np.ones(len(truth)), centred, centred**2, wrong**2, np.abs(wrong)], axis=1)
    ).T
    spread = second - ratio(first**2, total)
    # What rounding leaves of the spread of equal values is no spread.
    spread = np.where(spread > 1e-12 * np.maximum(second, 1e-300), spread, 0.0)
    return np.stack([1 - ratio(squared, spread), ratio(absolute, total)], axis=1)


def scatter(truth: Values, answer: Values, seed: int) -> list[list[float]]:
    """Pairs of truth and answer: all, or :data:`POINTS` of them drawn by the seed, in order of the truth."""
    rows = np.arange(len(truth))
    if len(rows) > POINTS:
        rows = np.random.default_rng([seed, 4]).choice(rows, POINTS, replace=False)
    rows = rows[np.lexsort((answer[rows], truth[rows]))]
    return [[float(truth[row]), float(answer[row])] for row in rows]
