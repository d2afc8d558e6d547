"""Thresholds: chosen where they may be chosen, on the validation split, and applied once to another.

A sample is called positive where its probability is at least the threshold. Thresholds are probabilities that occur in
the split they were chosen on; of equally good ones the highest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tasks.learning.scoring.calibration import FEWEST
from tasks.learning.scoring.draws import Drawn, Values, both, everything, ratio, score, sums

SENSITIVITY = 0.9
MEASURES = ("sensitivity", "specificity", "ppv", "npv", "f1")


@dataclass(frozen=True)
class Threshold:
    """One rule's choice."""

    rule: str
    """``youden``, ``max_f1`` or ``sensitivity_0.90``."""
    value: float
    chosen_on: str
    """Name of the split."""


def choose(truth: Values, probability: Values, split: str) -> tuple[Threshold, ...] | str:
    """One threshold per rule, from rows with ``truth`` 0 or 1; or the reason why there is none."""
    positives = int((truth == 1).sum())
    negatives = len(truth) - positives
    if min(positives, negatives) < FEWEST:
        return (
            f"too few in {split} to choose a threshold: {positives} of {len(truth)} are positive, {FEWEST} of each "
            f"side are needed"
        )
    order = np.argsort(-probability, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)
    hits = np.cumsum(truth[order] == 1)[ends]
    called = ends + 1
    sensitivity, specificity = hits / positives, 1 - (called - hits) / negatives
    best = {
        "youden": int(np.argmax(sensitivity + specificity)),
        "max_f1": int(np.argmax(2 * hits / (called + positives))),
        f"sensitivity_{SENSITIVITY:.2f}": int(np.argmax(sensitivity >= SENSITIVITY)),
    }
    return tuple(Threshold(rule, float(probability[order][ends[place]]), split) for rule, place in best.items())


def apply(thresholds: tuple[Threshold, ...], truth: Values, probability: Values, drawn: Drawn) -> list[dict[str, Any]]:
    """Sensitivity, specificity, PPV, NPV and F1 of every threshold with intervals; null where they are 0/0."""
    is_positive = (truth == 1).astype(np.float64)
    columns = [is_positive, np.ones(len(truth))]
    for threshold in thresholds:
        is_called = (probability >= threshold.value).astype(np.float64)
        columns += [is_called, is_called * is_positive]
    table = np.stack(columns, axis=1)
    whole, resampled = sums(everything(len(truth)), table), sums(drawn, table)
    found = []
    for place, threshold in enumerate(thresholds, start=1):
        own = [0, 1, 2 * place, 2 * place + 1]
        scores = both(_measures(whole[:, own]), _measures(resampled[:, own]))
        about = {"rule": threshold.rule, "threshold": threshold.value, "chosen_on": threshold.chosen_on}
        found.append({**about, **{name: score(*one) for name, one in zip(MEASURES, scores, strict=True)}})
    return found


def _measures(summed: Values) -> Values:
    """Of weights of the positives, of all, of those called and of those rightly called: resamples × measures."""
    positives, total, called, right = summed.T
    passed = total - called
    return np.stack(
        [
            ratio(right, positives),
            ratio(total - positives - (called - right), total - positives),
            ratio(right, called),
            ratio(passed - (positives - right), passed),
            ratio(2 * right, called + positives),
        ],
        axis=1,
    )
