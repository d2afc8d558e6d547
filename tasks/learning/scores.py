"""How good answers are: scikit-learn's metrics, with intervals from resampled groups; undefined ones say why.

A metric that cannot be computed is null with a ``reason``, never 0 and never left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import sklearn
from sklearn import metrics

from tasks.learning.baseline import Model
from tasks.learning.recipe import Question, Recipe
from tasks.learning.truths import Values

FORMAT_VERSION = 1
"""Of metrics.json."""
WITHOUT_INTERVAL = ("brier",)
INTERVAL = (2.5, 97.5)
"""Percentiles of the resampled values: 95 %."""

Weights = Values
"""Resamples × samples: how often each sample was drawn."""
Metric = Callable[[Values, Values, Values], float]

OF_LABEL: Mapping[str, Metric] = {
    "auroc": lambda truth, answer, weight: metrics.roc_auc_score(truth, answer, sample_weight=weight),
    "auprc": lambda truth, answer, weight: metrics.average_precision_score(truth, answer, sample_weight=weight),
    "brier": lambda truth, answer, weight: metrics.brier_score_loss(truth, answer, sample_weight=weight),
}
OF_CLASSES: Mapping[str, Metric] = {
    "accuracy": lambda truth, answer, weight: metrics.accuracy_score(truth, answer, sample_weight=weight),
    "balanced_accuracy": lambda truth, answer, weight: metrics.recall_score(
        truth, answer, labels=np.unique(truth), average="macro", sample_weight=weight
    ),
}
OF_TARGET: Mapping[str, Metric] = {
    "r2": lambda truth, answer, weight: metrics.r2_score(truth, answer, sample_weight=weight),
    "mae": lambda truth, answer, weight: metrics.mean_absolute_error(truth, answer, sample_weight=weight),
}


def describe(recipe: Recipe, model: Model) -> dict[str, Any]:
    """What metrics.json says before it comes to numbers."""
    return {
        "format_version": FORMAT_VERSION,
        "fitted_on": recipe.splits.train,
        "held_out": recipe.splits.held_out or recipe.splits.train,
        "not_fitted": {head.name: head.reason for head in model.heads if head.reason},
        "not_converged": [head.name for head in model.heads if not head.has_converged],
    }


def of_splits(
    recipe: Recipe,
    model: Model,
    samples: pd.DataFrame,
    true: Mapping[str, Values],
    answers: Mapping[str, Values],
    *,
    resamples: int,
) -> dict[str, Any]:
    """Scores of every split that there is; those of the split that was fitted on flatter, and get no interval."""
    found = {}
    for split in recipe.splits.named:
        is_in = (samples["split"] == split).to_numpy()
        if is_in.any():
            found[split] = of_split(
                recipe.questions(),
                {head.name: f"not fitted: {head.reason}" for head in model.heads if head.reason},
                {name: values[is_in] for name, values in true.items()},
                {name: values[is_in] for name, values in answers.items()},
                samples.loc[is_in, "group_id"],
                seed=recipe.seed,
                resamples=0 if split == recipe.splits.train else resamples,
            )
    return found


def draw(groups: pd.Series, seed: int, resamples: int) -> Weights:
    """Groups drawn with replacement, so often: a patient with forty films comes in or stays out as a whole."""
    numbers, names = pd.factorize(groups)
    count = len(names)
    if not count:
        return np.empty((0, 0))
    rng = np.random.default_rng([seed, 2])
    return rng.multinomial(count, np.full(count, 1 / count), size=resamples)[:, numbers].astype(np.float64)


def of_split(
    questions: Sequence[Question],
    reasons: Mapping[str, str],
    truths: Mapping[str, Values],
    answers: Mapping[str, Values],
    groups: pd.Series,
    *,
    seed: int,
    resamples: int,
) -> dict[str, Any]:
    """Scores of every question in one split; ``reasons`` say why a question has no answers."""
    weights = draw(groups, seed, resamples)
    scored: dict[str, dict[str, Any]] = {"labels": {}, "classes": {}, "targets": {}}
    # Thousands of calls on arrays that are known to be sound: scikit-learn's checks would cost more than its sums.
    with sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
        for question in questions:
            place = {"label": "labels", "classes": "classes", "target": "targets"}[question.kind]
            own = truths[question.name], answers.get(question.name)
            scored[place][question.name] = score(question, *own, weights, reasons.get(question.name, ""))
    means = {name: macro(scored["labels"], weights, name) for name in ("auroc", "auprc")} if scored["labels"] else {}
    about = {"samples": len(groups), "groups": int(groups.nunique()), "resamples": resamples}
    return {**about, "macro": means, **without_replicates(scored)}


def beside(scored: dict[str, Any], controls: Sequence[Any]) -> dict[str, Any]:
    """The same scores, and beside each value what models got that were fitted to shuffled labels."""
    if "value" in scored:
        values = [control["value"] for control in controls if control["value"] is not None]
        span = {"mean": float(np.mean(values)), "least": min(values), "most": max(values)} if values else None
        return {**scored, "shuffled": span}
    inner = {key: value for key, value in scored.items() if isinstance(value, dict)}
    return scored | {key: beside(value, [c[key] for c in controls if key in c]) for key, value in inner.items()}


def score(
    question: Question, truth: Values, answer: Values | None, weights: Weights, reason: str = ""
) -> dict[str, Any]:
    """Everything that is said of the answers to one question in one split.

    ``answer`` is None where the model has none, for ``reason``; ``weights`` has no rows where no interval is wanted.
    """
    is_known = ~np.isnan(truth)
    known, drawn = truth[is_known], weights[:, is_known] if len(weights) else weights
    given = None if answer is None else answer[is_known]
    if question.kind == "classes":
        return _of_classes(question, known, given, drawn, reason)
    if question.kind == "label":
        return _of_label(known, None if given is None else given[:, 0], drawn, reason)
    return _of_target(known, None if given is None else given[:, 0], drawn, reason)


def macro(scored: Mapping[str, Mapping[str, Any]], weights: Weights, name: str) -> dict[str, Any]:
    """The mean of one metric over the labels where it is defined, and the names of the others.

    The resampled values of every label belong to the same draws, so their means do too; a rare label that is not in a
    draw is left out of its mean.
    """
    defined = {label: own for label, own in scored.items() if own[name]["value"] is not None}
    undefined = {label: own["reason"] for label, own in scored.items() if label not in defined}
    if not defined:
        return {"value": None, **_interval(np.empty(0)), "labels": 0, "undefined": undefined}
    value = float(np.mean([own[name]["value"] for own in defined.values()]))
    replicates = np.array([own[name]["replicates"] for own in defined.values() if "replicates" in own[name]])
    return {"value": value, **_interval(_means(replicates)), "labels": len(defined), "undefined": undefined}


def _means(replicates: Values) -> Values:
    """Of labels × resamples, the mean of each resample over the labels that are defined in it."""
    if not replicates.size:
        return np.empty(0)
    is_defined = ~np.isnan(replicates)
    counts = is_defined.sum(axis=0)
    sums: Values = np.where(is_defined, replicates, 0.0).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def without_replicates(value: Any) -> Any:
    """The same scores, without the resampled values that the intervals were made of."""
    if isinstance(value, dict):
        return {key: without_replicates(item) for key, item in value.items() if key != "replicates"}
    return [without_replicates(item) for item in value] if isinstance(value, list) else value


def _of_label(truth: Values, answer: Values | None, weights: Weights, reason: str) -> dict[str, Any]:
    positives = int((truth == 1).sum())
    about: dict[str, Any] = {
        "samples": len(truth),
        "positives": positives,
        "prevalence": positives / len(truth) if len(truth) else None,
    }
    reason = reason or _one_sided(len(truth), positives)
    return {**about, "reason": reason, **_measured(OF_LABEL, truth, answer, weights, reason)}


def _of_target(truth: Values, answer: Values | None, weights: Weights, reason: str) -> dict[str, Any]:
    reason = reason or ("" if len(truth) > 1 else f"{len(truth)} samples have a value")
    spread = float(np.abs(truth - truth.mean()).mean()) if len(truth) else None
    about = {"samples": len(truth), "mae_of_the_mean": spread, "reason": reason}
    return {**about, **_measured(OF_TARGET, truth, answer, weights, reason)}


def _of_classes(
    question: Question, truth: Values, answer: Values | None, weights: Weights, reason: str
) -> dict[str, Any]:
    reason = reason or ("" if len(truth) else "no sample has a known class")
    labels = {
        name: _of_label(
            (truth == index).astype(np.float64), None if answer is None else answer[:, index], weights, reason
        )
        for index, name in enumerate(question.of)
    }
    chosen = None if answer is None else answer.argmax(axis=1).astype(np.float64)
    everything = range(len(question.of))
    counted = [] if reason or chosen is None else metrics.confusion_matrix(truth, chosen, labels=everything).tolist()
    for index, own in enumerate(labels.values()):
        row = counted[index] if counted else []
        own["recall"] = row[index] / sum(row) if sum(row) else None
    return {
        "samples": len(truth),
        "reason": reason,
        **_measured(OF_CLASSES, truth, chosen, weights, reason),
        "auroc": macro(labels, weights, "auroc"),
        "confusion": counted,
        "classes": labels,
    }


def _one_sided(samples: int, positives: int) -> str:
    if not samples:
        return "no sample has a known answer"
    if positives in (0, samples):
        return f"{'every' if positives else 'no'} sample of this split has it"
    return ""


def _measured(
    kinds: Mapping[str, Metric], truth: Values, answer: Values | None, weights: Weights, reason: str
) -> dict[str, Any]:
    if reason or answer is None:
        return {name: {"value": None, **_interval(np.empty(0))} for name in kinds}
    whole = np.ones(len(truth))
    return {
        name: {
            "value": _plain(metric(truth, answer, whole)),
            **_resampled(metric, truth, answer, weights if name not in WITHOUT_INTERVAL else weights[:0]),
        }
        for name, metric in kinds.items()
    }


def _resampled(metric: Metric, truth: Values, answer: Values, weights: Weights) -> dict[str, Any]:
    replicates = np.array([_once(metric, truth, answer, weight) for weight in weights])
    return {**_interval(replicates), "replicates": replicates}


def _once(metric: Metric, truth: Values, answer: Values, weight: Values) -> float:
    """One resample; NaN where it happens to hold one side only."""
    drawn = weight > 0  # those left out would only be sorted along
    if drawn.sum() < 2 or truth[drawn].min() == truth[drawn].max():
        return math.nan
    return float(metric(truth[drawn], answer[drawn], weight[drawn]))


def _interval(replicates: Values) -> dict[str, Any]:
    """95 %, from the resamples that are defined; none where fewer than half are."""
    usable = replicates[~np.isnan(replicates)]
    if not len(replicates) or len(usable) < len(replicates) / 2:
        return {"low": None, "high": None}
    low, high = np.percentile(usable, INTERVAL)
    return {"low": float(low), "high": float(high)}


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
