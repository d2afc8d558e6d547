"""Decision curves: what acting on a probability is worth, threshold by threshold, beside acting on everybody.

Vickers & Elkin, Med Decis Making 2006;26:565. Whoever acts from probability t on holds one false alarm to cost
t / (1 − t) of one found case; the net benefit is the found cases less the false alarms at that price, per row. Acting
on nobody is worth 0.
"""

from __future__ import annotations

import numpy as np

from tasks.learning.scoring.draws import Values

THRESHOLDS: Values = np.arange(1, 100) / 100
"""Probabilities from which on one acts."""


def net_benefit(truth: Values, probability: Values, thresholds: Values = THRESHOLDS) -> list[dict[str, float]]:
    """``threshold``, and the net benefit of acting where the ``model`` says at least that, and on ``all``.

    ``truth`` is 1 or 0. Empty where there is no row.
    """
    if not len(truth):
        return []
    is_positive = truth == 1
    # Of rows by rising probability: how many there are, and how many positives, below each threshold.
    order = np.argsort(probability, kind="stable")
    below = np.searchsorted(probability[order], thresholds, side="left")
    positives = np.concatenate([[0], np.cumsum(is_positive[order])])
    found = positives[-1] - positives[below]
    false_alarms = len(truth) - below - found
    price = thresholds / (1 - thresholds)
    model = (found - false_alarms * price) / len(truth)
    everybody = (positives[-1] - (len(truth) - positives[-1]) * price) / len(truth)
    return [
        {"threshold": float(threshold), "model": float(own), "all": float(of_all)}
        for threshold, own, of_all in zip(thresholds, model, everybody, strict=True)
    ]
