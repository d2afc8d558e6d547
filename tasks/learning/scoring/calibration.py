"""Whether a probability is a frequency: Brier score, calibration error, reliability bins, and what puts it right.

The expected calibration error is that of ten equal-width bins, k/10 ≤ p < (k+1)/10 and 1 in the last: the mean over the
rows of |mean p − share present| of their bin. It is ``torchmetrics.BinaryCalibrationError(n_bins=10, norm="l1")``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from tasks.learning.scoring.draws import Drawn, Values, both, everything, ratio, score, sums

BINS = 10
FEWEST = 10
"""Positives, and negatives, that a calibration or a threshold is fitted to at least."""
NEAREST = 1e-7
"""How near to 0 or 1 a probability counts before its log-odds are taken: the resolution of float32."""
STEPS = 100
HOTTEST = 4.0
"""Bound of the logarithm of a temperature, either way."""


@dataclass(frozen=True)
class Platt:
    """A label's probability put right: sigmoid(slope · log-odds + intercept)."""

    slope: float
    intercept: float

    def apply(self, probability: Values) -> Values:
        """Of any shape, 0..1 in and out."""
        return sigmoid(self.slope * log_odds(probability) + self.intercept)

    def about(self) -> dict[str, Any]:
        """As metrics.json has it."""
        return {"method": "platt", "slope": self.slope, "intercept": self.intercept}


@dataclass(frozen=True)
class Temperature:
    """Probabilities of classes put right: softmax(log p / temperature)."""

    temperature: float

    def apply(self, probability: Values) -> Values:
        """Of rows × classes."""
        return softmax(np.log(np.clip(probability, NEAREST, 1.0)) / self.temperature)

    def about(self) -> dict[str, Any]:
        """As metrics.json has it."""
        return {"method": "temperature", "temperature": self.temperature}


Calibration = Platt | Temperature


def log_odds(probability: Values) -> Values:
    """Of probabilities, kept :data:`NEAREST` away from 0 and 1."""
    near = np.clip(probability, NEAREST, 1 - NEAREST)
    found: Values = np.log(near) - np.log1p(-near)
    return found


def sigmoid(odds: Values) -> Values:
    """The inverse of :func:`log_odds`."""
    found: Values = np.exp(-np.logaddexp(0.0, -odds))
    return found


def softmax(scores: Values) -> Values:
    """Of rows × classes."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    found: Values = powers / powers.sum(axis=1, keepdims=True)
    return found


def platt(truth: Values, probability: Values) -> Platt | str:
    """Logistic regression, without penalty, of ``truth`` (0 or 1) on the log-odds; or the reason why there is none."""
    positives = int((truth == 1).sum())
    if min(positives, len(truth) - positives) < FEWEST:
        return f"too few to calibrate on: {positives} of {len(truth)} are positive, {FEWEST} of each side are needed"
    odds = log_odds(probability)
    if odds.min() == odds.max():
        return "every sample gets the same probability"
    highest, lowest = odds[truth != 1].max(), odds[truth == 1].min()
    if lowest >= highest or odds[truth == 1].max() <= odds[truth != 1].min():
        return "positives and negatives are wholly apart: no slope is steep enough"
    slope, intercept = _logistic(truth, odds)
    return Platt(slope, intercept)


def _logistic(truth: Values, odds: Values) -> tuple[float, float]:
    """Newton's steps on the likelihood, halved where one would lead away; odds are scaled, so that two numbers do."""
    centre, scale = float(odds.mean()), float(odds.std())
    design = np.stack([(odds - centre) / scale, np.ones(len(odds))], axis=1)

    def loss(weights: Values) -> float:
        margins = design @ weights
        return float(np.logaddexp(0.0, margins).sum() - margins @ truth)

    weights = np.zeros(2)
    for _ in range(STEPS):
        said = sigmoid(design @ weights)
        slopes = design.T @ (said - truth)
        curvature = (design * (said * (1 - said))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-12 * np.eye(2), slopes)
        before = loss(weights)
        while loss(weights - step) > before and np.abs(step).max() > 1e-12:
            step = step / 2
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    slope = float(weights[0] / scale)
    return slope, float(weights[1] - slope * centre)


def temperature(truth: Values, probability: Values) -> Temperature | str:
    """The likeliest temperature for classes (``truth`` their numbers, rows × classes); or why there is none."""
    if len(truth) < FEWEST:
        return f"too few to calibrate on: {len(truth)} samples of known class, {FEWEST} are needed"
    if len(np.unique(truth)) < 2:
        return "all samples to calibrate on are of one class"
    if (probability.argmax(axis=1) == truth).all():
        return "every sample to calibrate on is named rightly: no temperature is low enough"
    logs = np.log(np.clip(probability, NEAREST, 1.0))
    own = truth.astype(np.int64)[:, None]

    def loss(logarithm: float) -> float:
        scaled = logs / np.exp(logarithm)
        top = scaled.max(axis=1)
        total = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((total - np.take_along_axis(scaled, own, axis=1)[:, 0]).mean())

    found = minimize_scalar(loss, bounds=(-HOTTEST, HOTTEST), method="bounded", options={"xatol": 1e-9})
    if HOTTEST - abs(found.x) < 1e-3:
        return "no temperature fits: the likeliest is beyond all bounds"
    return Temperature(float(np.exp(found.x)))


def brier_and_error(truth: Values, probability: Values, drawn: Drawn) -> dict[str, Any]:
    """``brier`` (mean squared error of the probability) and ``ece``, with intervals; ``truth`` is 0 or 1."""
    columns = np.concatenate([((probability - truth) ** 2)[:, None], _binned(truth, probability)], axis=1)
    whole, resampled = (_brier_and_error(sums(weights, columns)) for weights in (everything(len(truth)), drawn))
    brier, error = both(whole, resampled)
    return {"brier": score(*brier), "ece": score(*error)}


def error_of_bins(truth: Values, probability: Values, drawn: Drawn) -> dict[str, Any]:
    """``ece`` alone, with its interval."""
    return {"ece": brier_and_error(truth, probability, drawn)["ece"]}


def brier_of_classes(truth: Values, probability: Values, drawn: Drawn) -> dict[str, Any]:
    """``brier`` of classes: the squared error summed over the classes, 0 to 2, with its interval."""
    wanted = np.eye(probability.shape[1])[truth.astype(np.int64)]
    columns = np.stack([((probability - wanted) ** 2).sum(axis=1), np.ones(len(truth))], axis=1)
    whole, resampled = (sums(weights, columns) for weights in (everything(len(truth)), drawn))
    return {"brier": score(float(whole[0, 0] / whole[0, 1]), ratio(resampled[:, 0], resampled[:, 1]))}


def reliability(truth: Values, probability: Values, calibrated: Values | None) -> list[dict[str, Any]]:
    """The ten bins of the probability, empty ones left out.

    ``calibrated_predicted`` is the mean calibrated probability of the same rows; they stay in their bin.
    """
    found = []
    own = _bin_of(probability)
    for number in range(BINS):
        is_in = own == number
        if is_in.any():
            found.append(
                {
                    "low": number / BINS,
                    "high": (number + 1) / BINS,
                    "samples": int(is_in.sum()),
                    "predicted": float(probability[is_in].mean()),
                    "observed": float(truth[is_in].mean()),
                    "calibrated_predicted": None if calibrated is None else float(calibrated[is_in].mean()),
                }
            )
    return found


def fit(kind: str, truth: Values, probability: Values) -> Calibration | str:
    """Platt's for a label, a temperature for classes, of rows whose truth is known; or why there is none."""
    return temperature(truth, probability) if kind == "classes" else platt(truth, probability[:, 0])


def apply_all(found: Mapping[str, Calibration | str], answers: Mapping[str, Values]) -> dict[str, Values]:
    """Answers put right, of the questions that have a calibration; the others have no entry."""
    return {
        name: own.apply(answers[name]) for name, own in found.items() if not isinstance(own, str) and name in answers
    }


def _bin_of(probability: Values) -> npt.NDArray[np.int64]:
    edges = np.arange(BINS + 1) / BINS
    return np.clip(np.searchsorted(edges, probability, side="right") - 1, 0, BINS - 1)


def _binned(truth: Values, probability: Values) -> Values:
    """Rows × 20: the probability minus the truth in the column of its bin; and 1 in that of its bin."""
    is_in = _bin_of(probability)[:, None] == np.arange(BINS)
    return np.concatenate([is_in * (probability - truth)[:, None], is_in.astype(np.float64)], axis=1)


def _brier_and_error(summed: Values) -> Values:
    """Resamples × 2. What a bin adds is its weight · |mean p − share present|: the weight cancels out."""
    total = summed[:, 1 + BINS :].sum(axis=1)
    gaps = np.abs(summed[:, 1 : 1 + BINS]).sum(axis=1)
    return np.stack([ratio(summed[:, 0], total), ratio(gaps, total)], axis=1)
