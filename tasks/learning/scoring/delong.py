"""DeLong's variance of an AUROC, his paired test, and what becomes of both for patients with several images.

DeLong, DeLong & Clarke-Pearson, Biometrics 1988. One AUROC on independent rows is :func:`variance`; several labels, or
rows that belong together, are scored by the influence of each row, summed within its group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import rankdata

from tasks.schema import UnusableInput

Values = npt.NDArray[np.float64]
QUANTILE = 1.959963984540054
"""Of the normal distribution at 97.5 %."""


@dataclass(frozen=True)
class Components:
    """Of one AUROC: how each positive fares against the negatives, and each negative against the positives."""

    auroc: float
    positives: Values
    """Share of the negatives that each positive beats; V10."""
    negatives: Values
    """Share of the positives that beat each negative; V01."""


@dataclass(frozen=True)
class Test:
    """A difference, its standard error, and how surprising it is where there is none."""

    __test__ = False  # no test of pytest

    difference: float
    error: float
    z: float
    p: float
    """Two-sided."""
    low: float
    """Of 95 %."""
    high: float


def components(truth: Values, answer: Values) -> Components:
    """Of rows with ``truth`` 0 or 1, by mid-ranks.

    Raises :class:`UnusableInput` where there is no positive or no negative.
    """
    is_positive = truth == 1
    count, others = int(is_positive.sum()), int((~is_positive).sum())
    if not count or not others:
        raise UnusableInput(f"an AUROC needs both sides: {count} positives and {others} negatives")
    ranks = rankdata(answer)
    positives = (ranks[is_positive] - rankdata(answer[is_positive])) / others
    negatives = 1 - (ranks[~is_positive] - rankdata(answer[~is_positive])) / count
    return Components(float(positives.mean()), positives, negatives)


def variance(found: Components) -> float:
    """Of the AUROC; NaN with fewer than two positives or negatives."""
    return _covariance(found, found)


def interval(truth: Values, answer: Values) -> tuple[float, float, float]:
    """AUROC and its 95 % interval by the normal distribution, cut at 0 and 1; NaN where there is no variance."""
    found = components(truth, answer)
    half = QUANTILE * math.sqrt(variance(found))
    return found.auroc, max(found.auroc - half, 0.0), min(found.auroc + half, 1.0)


def paired(truth: Values, first: Values, second: Values) -> Test:
    """Two answers about the same independent rows: AUROC of ``first`` minus that of ``second``.

    Curves that are the same give p = 1.
    """
    one, other = components(truth, first), components(truth, second)
    spread = variance(one) + variance(other) - 2 * _covariance(one, other)
    return test(one.auroc - other.auroc, math.sqrt(max(spread, 0.0)) if not math.isnan(spread) else math.nan)


def test(difference: float, error: float) -> Test:
    """Of a difference with a standard error, by the normal distribution.

    Without error (the same curves, or the same on every row) z is 0 and p is 1 where there is no difference, and z is
    infinite and p is 0 where there is one. NaN where the error is.
    """
    if error < 1e-15:  # below what rounding leaves of a variance that is nought
        same = abs(difference) < 1e-12
        z = 0.0 if same else math.copysign(math.inf, difference)
        return Test(difference, error, z, 1.0 if same else 0.0, difference, difference)
    z = difference / error
    low, high = difference - QUANTILE * error, difference + QUANTILE * error
    return Test(difference, error, z, float(math.erfc(abs(z) / math.sqrt(2))), low, high)


test.__test__ = False  # type: ignore[attr-defined]


def influence(truth: Values, answer: Values) -> Values:
    """How much each row moves the AUROC; sums up to 0. A row whose ``truth`` is NaN moves nothing."""
    is_known = ~np.isnan(truth)
    known = truth[is_known]
    found = components(known, answer[is_known])
    own = np.empty(len(known))
    own[known == 1] = (found.positives - found.auroc) / len(found.positives)
    own[known != 1] = (found.negatives - found.auroc) / len(found.negatives)
    influences = np.zeros(len(truth))
    influences[is_known] = own
    return influences


def clustered_error(influences: Values, groups: pd.Series) -> float:
    """Standard error of the mean over labels (labels × rows), rows of one group counted as one.

    Give the difference of two models' influences for the error of the difference of their macro AUROC.
    """
    numbers, names = pd.factorize(groups)
    summed = np.bincount(numbers, weights=influences.mean(axis=0), minlength=len(names))
    return float(np.sqrt((summed**2).sum()))


def holm(values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, by Holm's step-down; NaN stays and is not counted."""
    found = np.asarray(values, dtype=np.float64)
    told = np.flatnonzero(~np.isnan(found))
    order = told[np.argsort(found[told], kind="stable")]
    stepped = found[order] * np.arange(len(order), 0, -1)
    adjusted = np.full(len(found), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(stepped), 1.0) if len(order) else stepped
    return [float(value) for value in adjusted]


def _covariance(one: Components, other: Components) -> float:
    if len(one.positives) < 2 or len(one.negatives) < 2:
        return math.nan
    among = np.cov(one.positives, other.positives)[0, 1] / len(one.positives)
    against = np.cov(one.negatives, other.negatives)[0, 1] / len(one.negatives)
    return float(among + against)
