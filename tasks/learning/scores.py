"""How good answers are: the numbers of metrics.json, with intervals from resampled groups; undefined ones say why.

A metric that cannot be computed is null with a ``reason``, never 0 and never left out. What is chosen or fitted to make
numbers (thresholds, calibration) comes from the validation split and is applied to the others once. The arithmetic is
in :mod:`tasks.learning.scoring`; ``metrics.schema.json`` describes the outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from tasks.learning.recipe import Question, Recipe
from tasks.learning.scoring import calibration, classes, operating, ranking, subgroups, targets
from tasks.learning.scoring.calibration import Calibration
from tasks.learning.scoring.draws import Drawn, draw, macro, score, without_replicates
from tasks.learning.scoring.operating import Threshold
from tasks.learning.scoring.units import Unit, Units, against_others, mixed, of_groups, rows_of, sides
from tasks.learning.truths import Values

FORMAT_VERSION = 2
"""Of metrics.json."""
NO_VALIDATION = "there is no validation split to choose it on"
FITTED_ON_THESE = "the model was fitted on this split"


@dataclass(frozen=True)
class Choices:
    """What the validation split decided, or why it could not."""

    split: str = ""
    calibrations: Mapping[str, Calibration | str] = field(default_factory=dict)
    """By question."""
    thresholds: Mapping[str, tuple[Threshold, ...] | str] = field(default_factory=dict)
    """By label, and by ``question.class``."""
    reason: str = NO_VALIDATION
    """Said of what is in neither."""


def describe(
    recipe: Recipe, not_fitted: Mapping[str, str], not_converged: Sequence[str] = (), leak: str = "none"
) -> dict[str, Any]:
    """What metrics.json says before it comes to numbers; ``leak`` is ``none``, ``possible`` or ``certain``."""
    return {
        "format_version": FORMAT_VERSION,
        "fitted_on": recipe.splits.train,
        "held_out": recipe.splits.held_out or recipe.splits.train,
        "leak": leak,
        "not_fitted": dict(not_fitted),
        "not_converged": list(not_converged),
    }


def of_splits(
    recipe: Recipe,
    not_fitted: Mapping[str, str],
    samples: pd.DataFrame,
    truths: Mapping[str, Values],
    answers: Mapping[str, Values],
    *,
    resamples: int,
    calibrated_on: str | None = None,
    unit: Unit = "sample",
    subgroup_columns: Mapping[str, str] | None = None,
    is_one_per_group_shown: bool = False,
    is_brief: bool = False,
) -> dict[str, Any]:
    """Scores of every split that there is; those of the split that was fitted on flatter, and get no interval.

    ``not_fitted`` gives the reason for each question without answers; ``calibrated_on`` names the split that decides
    thresholds and calibration; ``subgroup_columns`` maps what subgroups are called by (``site``) to a column of
    ``samples`` (``meta.site``), beside sex, age and view; ``is_one_per_group_shown`` adds AUROCs of one image per
    group. ``is_brief`` leaves out all but the values: enough for a control (:func:`beside`, :func:`beside_baseline`).
    """
    reasons = {name: f"not fitted: {reason}" for name, reason in not_fitted.items()}
    splits = _split(recipe, samples, truths, answers, {} if is_brief else subgroup_columns or {})
    found = {}
    # One thread: the same sums in the same order every time.
    with threadpool_limits(limits=1):
        units = {split: _scored_as(own, unit, recipe) for split, own in splits.items()}
        choices = Choices() if is_brief else _choose(recipe, units, calibrated_on)
        for split, own in units.items():
            is_train = split == recipe.splits.train
            found[split] = of_split(
                recipe.questions(),
                reasons,
                own,
                Choices(reason=FITTED_ON_THESE) if is_train else choices,
                seed=recipe.seed,
                resamples=0 if is_train else resamples,
                has_subgroups=not is_train and not is_brief,
                is_one_per_group_shown=is_one_per_group_shown and not is_train,
                is_brief=is_brief,
            )
            counts = {"samples": len(splits[split].groups), "groups": int(splits[split].groups.nunique())}
            found[split] = {**counts, "unit": unit, **found[split]}
            if unit == "group":
                _say_mixed(recipe.questions(), splits[split], found[split])
    return found


def calibrations(
    recipe: Recipe,
    samples: pd.DataFrame,
    truths: Mapping[str, Values],
    answers: Mapping[str, Values],
    *,
    calibrated_on: str | None,
    unit: Unit = "sample",
) -> dict[str, Calibration | str]:
    """By question, the calibration that :func:`of_splits` uses, or why there is none.

    ``scoring.calibration.apply_all`` puts the answers of samples right with it, whatever the unit was.
    """
    return dict(_decided(recipe, samples, truths, answers, calibrated_on, unit).calibrations)


def thresholds(
    recipe: Recipe,
    samples: pd.DataFrame,
    truths: Mapping[str, Values],
    answers: Mapping[str, Values],
    *,
    chosen_on: str | None,
    unit: Unit = "sample",
) -> dict[str, float]:
    """By label, Youden's threshold as :func:`of_splits` chooses it; labels that it cannot choose one for have none."""
    chosen = _decided(recipe, samples, truths, answers, chosen_on, unit).thresholds
    labels = {question.name for question in recipe.questions() if question.kind == "label"}
    return {
        name: next(one.value for one in found if one.rule == "youden")
        for name, found in chosen.items()
        if name in labels and not isinstance(found, str)
    }


def _decided(
    recipe: Recipe,
    samples: pd.DataFrame,
    truths: Mapping[str, Values],
    answers: Mapping[str, Values],
    split: str | None,
    unit: Unit,
) -> Choices:
    """What that split decides, as in :func:`of_splits`."""
    splits = _split(recipe, samples, truths, answers, {})
    with threadpool_limits(limits=1):
        units = {name: _scored_as(own, unit, recipe) for name, own in splits.items() if name == split}
        return _choose(recipe, units, split)


def of_split(
    questions: Sequence[Question],
    reasons: Mapping[str, str],
    units: Units,
    choices: Choices,
    *,
    seed: int,
    resamples: int,
    has_subgroups: bool = True,
    is_one_per_group_shown: bool = False,
    is_brief: bool = False,
) -> dict[str, Any]:
    """Scores of every question in one split; ``reasons`` say why a question has no answers."""
    drawn = draw(units.groups, seed, resamples)
    scored: dict[str, dict[str, Any]] = {"labels": {}, "classes": {}, "targets": {}}
    for question in questions:
        place = {"label": "labels", "classes": "classes", "target": "targets"}[question.kind]
        scored[place][question.name] = _of_question(question, reasons, units, choices, drawn, seed, is_brief)
    means = {name: _macro(scored["labels"], name) for name in ("auroc", "auprc")} if scored["labels"] else {}
    parts = subgroups.scored(questions, units, drawn) if has_subgroups else []
    singles = subgroups.one_per_group(questions, units, seed) if is_one_per_group_shown else None
    found: dict[str, Any] = without_replicates({"macro": means, **scored, "subgroups": parts})
    return {"resamples": resamples, **found, "one_per_group": singles}


def beside(scored: dict[str, Any], controls: Sequence[Any]) -> dict[str, Any]:
    """The same scores, and beside each value what models got that were fitted to shuffled labels (``shuffled``)."""
    if "value" in scored:
        values = [control["value"] for control in controls if control["value"] is not None]
        span = {"mean": float(np.mean(values)), "least": min(values), "most": max(values)} if values else None
        return {**scored, "shuffled": span}
    inner = {key: value for key, value in scored.items() if isinstance(value, dict)}
    return scored | {key: beside(value, [c[key] for c in controls if c.get(key)]) for key, value in inner.items()}


def beside_baseline(scored: dict[str, Any], baseline: Mapping[str, Any] | None) -> dict[str, Any]:
    """The same scores, and beside each value that of grey levels alone on the same rows (``intensity``).

    ``baseline`` is the same split as :func:`of_splits` scored it for the intensity baseline; null where it has no such
    value. Both leave the rows of lists, such as subgroups and thresholds, as they are.
    """
    own = baseline or {}
    if "value" in scored:
        return {**scored, "intensity": own.get("value")}
    inner = {key: value for key, value in scored.items() if isinstance(value, dict)}
    return scored | {key: beside_baseline(value, own.get(key)) for key, value in inner.items()}


def _split(
    recipe: Recipe,
    samples: pd.DataFrame,
    truths: Mapping[str, Values],
    answers: Mapping[str, Values],
    columns: Mapping[str, str],
) -> dict[str, Units]:
    whole = Units(samples["group_id"].reset_index(drop=True), truths, answers, subgroups.parts_of(samples, columns))
    is_in = {split: (samples["split"] == split).to_numpy(bool) for split in recipe.splits.named}
    return {split: rows_of(whole, rows) for split, rows in is_in.items() if rows.any()}


def _scored_as(units: Units, unit: Unit, recipe: Recipe) -> Units:
    return of_groups(units, recipe.questions()) if unit == "group" else units


def _choose(recipe: Recipe, units: Mapping[str, Units], split: str | None) -> Choices:
    """Thresholds and calibrations, from that split alone."""
    if split is None:
        return Choices()
    if split not in units:
        return Choices(split, reason=f"there is no sample in {split} to choose it on")
    own = units[split]
    fitted: dict[str, Calibration | str] = {}
    for question in recipe.questions():
        answer, truth = own.answers.get(question.name), own.truths[question.name]
        if question.kind == "target" or answer is None:
            continue
        is_known = ~np.isnan(truth)
        is_sound = bool(np.isfinite(answer[is_known]).all())
        sound = calibration.fit(question.kind, truth[is_known], answer[is_known]) if is_sound else _not_finite(answer)
        fitted[question.name] = sound
    thresholds: dict[str, tuple[Threshold, ...] | str] = {}
    for column, truth, answer in sides(recipe.questions(), own):
        is_known = ~np.isnan(truth)
        is_sound = bool(np.isfinite(answer[is_known]).all())
        thresholds[column] = (
            operating.choose(truth[is_known], answer[is_known], split) if is_sound else _not_finite(answer)
        )
    return Choices(split, fitted, thresholds, "")


def _say_mixed(questions: Sequence[Question], units: Units, scored: dict[str, Any]) -> None:
    """Beside classes of groups: how many groups are left out because their images are of different classes."""
    for question in questions:
        if question.kind == "classes":
            scored["classes"][question.name]["mixed_groups"] = mixed(question, units)


def _of_question(
    question: Question,
    reasons: Mapping[str, str],
    units: Units,
    choices: Choices,
    drawn: Drawn,
    seed: int,
    is_brief: bool,
) -> dict[str, Any]:
    """Everything that is said of the answers to one question in one split."""
    truth, answer = units.truths[question.name], units.answers.get(question.name)
    is_known = ~np.isnan(truth)
    known, given = truth[is_known], None if answer is None else answer[is_known]
    weights = drawn if is_known.all() else drawn[:, is_known]
    reason = reasons.get(question.name, "")
    if not reason and given is None:
        reason = "the model does not answer it"
    if not reason and given is not None and not np.isfinite(given).all():
        reason = _not_finite(given)
    if question.kind == "target":
        return _of_target(known, given, weights, reason, None if is_brief else seed)
    if question.kind == "classes":
        return _of_classes(question, known, given, weights, reason, choices, is_brief)
    fitted = choices.calibrations.get(question.name, choices.reason)
    right = None if given is None or isinstance(fitted, str) or reason else fitted.apply(given)[:, 0]
    return _of_side(
        question.name,
        known,
        None if given is None else given[:, 0],
        weights,
        reason,
        choices,
        (fitted, right),
        is_brief,
    )


def _of_side(
    name: str,
    truth: Values,
    answer: Values | None,
    drawn: Drawn,
    reason: str,
    choices: Choices,
    calibrated: tuple[Calibration | str, Values | None],
    is_brief: bool,
) -> dict[str, Any]:
    """Of a label, or of one class against the others: ``truth`` is 1 or 0, ``answer`` a probability."""
    positives = int((truth == 1).sum())
    prevalence = positives / len(truth) if len(truth) else None
    reason = reason or _one_sided(len(truth), positives)
    about = {"samples": len(truth), "positives": positives, "prevalence": prevalence, "reason": reason}
    if reason or answer is None:
        empty = {key: score(None) for key in ("auroc", "auprc", "brier", "ece")}
        return {**about, **empty} | ({} if is_brief else _no_details(reason))
    found = ranking.areas(truth, answer, drawn)
    scored = {
        **about,
        "auroc": score(found.auroc, found.aurocs, 0.5),
        "auprc": score(found.auprc, found.auprcs, prevalence),
        **calibration.brier_and_error(truth, answer, drawn),
    }
    if is_brief:
        return scored
    thresholds = choices.thresholds.get(name, choices.reason)
    is_told = not isinstance(thresholds, str)
    return {
        **scored,
        "calibrated": _calibrated(truth, *calibrated, drawn, choices.split),
        "reliability": calibration.reliability(truth, answer, calibrated[1]),
        "curves": ranking.curves(truth, answer),
        "operating": operating.apply(thresholds, truth, answer, drawn) if not isinstance(thresholds, str) else [],
        "operating_reason": "" if is_told else thresholds,
    }


def _no_details(reason: str) -> dict[str, Any]:
    """Of a label without scores."""
    return {
        "calibrated": {"reason": reason},
        "reliability": [],
        "curves": {"roc": [], "pr": []},
        "operating": [],
        "operating_reason": reason,
    }


def _calibrated(
    truth: Values, fitted: Calibration | str, right: Values | None, drawn: Drawn, split: str
) -> dict[str, Any]:
    if isinstance(fitted, str) or right is None:
        return {"reason": str(fitted)}
    return {**fitted.about(), "fitted_on": split, **calibration.brier_and_error(truth, right, drawn)}


def _of_classes(
    question: Question,
    truth: Values,
    answer: Values | None,
    drawn: Drawn,
    reason: str,
    choices: Choices,
    is_brief: bool,
) -> dict[str, Any]:
    reason = reason or ("" if len(truth) else "no sample has a known class")
    fitted = choices.calibrations.get(question.name, choices.reason)
    right = None if answer is None or isinstance(fitted, str) or reason else fitted.apply(answer)
    one_by_one = {
        name: _of_side(
            f"{question.name}.{name}",
            against_others(truth, number),
            None if answer is None else answer[:, number],
            drawn,
            reason,
            choices,
            (fitted, None if right is None else right[:, number]),
            is_brief,
        )
        for number, name in enumerate(question.of)
    }
    counted = None if reason or answer is None else classes.tally(truth, _chosen(answer), len(question.of), drawn)
    for number, own in enumerate(one_by_one.values()):
        recall = counted.recalls[number] if counted else score(None)
        own |= {"recall": recall["value"], "recall_low": recall["low"], "recall_high": recall["high"]}
    found = {
        "samples": len(truth),
        "reason": reason,
        "accuracy": counted.accuracy if counted else score(None),
        "balanced_accuracy": counted.balanced_accuracy if counted else score(None),
        "auroc": _macro(one_by_one, "auroc"),
        "confusion": counted.counts if counted else [],
    }
    if getattr(question, "is_ordinal", False):
        found["quadratic_kappa"] = counted.quadratic_kappa if counted else score(None)
    if not is_brief:
        found |= _confidence(truth, None if reason else answer, right, fitted, drawn, choices.split)
    return {**found, "classes": one_by_one}


def _chosen(answer: Values) -> Values:
    return np.asarray(answer.argmax(axis=1), dtype=np.float64)


def _confidence(
    truth: Values,
    answer: Values | None,
    right: Values | None,
    fitted: Calibration | str,
    drawn: Drawn,
    split: str,
) -> dict[str, Any]:
    """Calibration of classes: the probability of the chosen one, and whether it was the right one."""
    if answer is None:
        return {"ece": score(None), "calibrated": {"reason": str(fitted)}, "reliability": []}
    is_right = (_chosen(answer) == truth).astype(np.float64)
    top = None if right is None else right.max(axis=1)  # a temperature changes no choice
    scored: dict[str, Any] = {"reason": str(fitted)}
    if top is not None and right is not None and not isinstance(fitted, str):
        measured = calibration.error_of_bins(is_right, top, drawn) | calibration.brier_of_classes(truth, right, drawn)
        scored = {**fitted.about(), "fitted_on": split, **measured}
    return {
        **calibration.error_of_bins(is_right, answer.max(axis=1), drawn),
        **calibration.brier_of_classes(truth, answer, drawn),
        "calibrated": scored,
        "reliability": calibration.reliability(is_right, answer.max(axis=1), top),
    }


def _of_target(truth: Values, answer: Values | None, drawn: Drawn, reason: str, seed: int | None) -> dict[str, Any]:
    """``seed`` draws the points of the scatter plot; None where there is none."""
    reason = reason or ("" if len(truth) > 1 else f"{len(truth)} samples have a value")
    if not reason and truth.min() == truth.max():
        reason = f"every sample has the same value, {truth[0]:g}"
    spread = float(np.abs(truth - truth.mean()).mean()) if len(truth) else None
    about = {"samples": len(truth), "mae_of_the_mean": spread, "reason": reason}
    if reason or answer is None:
        return {**about, "r2": score(None), "mae": score(None)} | ({} if seed is None else {"scatter": []})
    own = answer[:, 0]
    plotted = {} if seed is None else {"scatter": targets.scatter(truth, own, seed)}
    return {**about, **targets.measures(truth, own, drawn), **plotted}


def _macro(scored: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    return macro({label: own[name] for label, own in scored.items()}, {n: own["reason"] for n, own in scored.items()})


def _one_sided(samples: int, positives: int) -> str:
    if not samples:
        return "no sample has a known answer"
    if positives in (0, samples):
        return f"{'every' if positives else 'no'} sample of this split has it"
    return ""


def _not_finite(answer: Values) -> str:
    count = int((~np.isfinite(answer)).any(axis=1).sum() if answer.ndim > 1 else (~np.isfinite(answer)).sum())
    return f"{count} of {len(answer)} answers are no numbers"
