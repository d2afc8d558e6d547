"""How good every model is in every set: the numbers of radiomics.json, with intervals from resampled patients.

Nothing is chosen here: the primary model and the arms' classifier come from cross-validation on the training set, and
what is said of the other sets is said once. A number that is not defined is null with a ``reason``, never 0 and never
left out of sight; a mean over classes names the classes that are not in it. The arithmetic is in
:mod:`tasks.learning.scoring`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from tasks.learning.radiomics import arms, published
from tasks.learning.radiomics.scored_sets import ScoredSet, aligned, probabilities, sets_of
from tasks.learning.recipe import Recipe
from tasks.learning.scoring import calibration, classes, decision, operating, ranking
from tasks.learning.scoring.draws import Values, both, everything, macro, ratio, score, sums, without_replicates
from tasks.learning.scoring.operating import MEASURES, Threshold
from tasks.learning.scoring.units import against_others

FORMAT_VERSION = 1
"""Of radiomics.json."""
MOST_PROBABLE = (Threshold("most_probable", 0.5, ""),)
"""A class is called where it is the most probable one: applied to 1 where it is, and 0 elsewhere."""
MEANS = {"macro_auroc": "auroc", "sensitivity": "sensitivity", "specificity": "specificity", "f1": "f1"}
"""Over the classes: what it is called, and of what it is the mean."""
OF_CLASS = ("auroc", "auprc", "accuracy", *MEASURES)


def of_models(
    models: pd.DataFrame,
    samples: pd.DataFrame,
    truth: Values,
    model: Mapping[str, Any],
    recipe: Recipe,
    resamples: int,
) -> dict[str, Any]:
    """What radiomics.json holds, as plain JSON.

    ``models`` is models.parquet (rows in any order), ``samples`` the rows of all sets of the recipe, ``truth`` the
    number of the class of each of these (NaN: unknown), ``model`` is model.json. Samples without any probability
    could not be measured: they are counted and not scored.
    """
    question = recipe.questions()[0]
    answers = aligned(models, samples)
    # One thread: the same sums in the same order every time.
    with threadpool_limits(limits=1):
        sets = sets_of(recipe, samples, truth, answers, resamples)
        scored = [_of_model(own, answers, sets, question.of, model["primary"]) for own in _models(model)]
        primary = _primary(model["primary"], answers, sets, question.of)
        pair = model.get("compared")
        compared = arms.compared(pair, answers, sets, recipe, resamples) if pair else None
    return {
        "format_version": FORMAT_VERSION,
        "classes": list(question.of),
        "question": question.name,
        "train": recipe.splits.train,
        "held_out": recipe.splits.held_out,
        "resamples": resamples,
        "sets": [_about(own, question.of) for own in sets],
        "models": scored,
        "primary": primary,
        "arms": compared,
        "published": published.beside(primary, question.of),
        "controls": dict(model.get("controls") or {}),
    }


def _models(model: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for variant in model["variants"]:
        for classifier in variant["classifiers"]:
            yield {
                "variant": variant["name"],
                "classifier": classifier["name"],
                "parameters": classifier["parameters"],
                "reason": classifier.get("reason", ""),
            }


def _about(own: ScoredSet, names: Sequence[str]) -> dict[str, Any]:
    """``samples`` are all of the set, ``scored`` have features and a known class; ``classes`` counts these."""
    counts = {name: int((own.truth == number).sum()) for number, name in enumerate(names)}
    return {
        "name": own.name,
        "samples": own.samples,
        "patients": own.patients,
        "scored": len(own.truth),
        "without_class": own.without_class,
        "without_features": own.without_features,
        "classes": counts,
        "is_cross_validated": own.is_cross_validated,
        "reason": own.reason,
    }


def _of_model(
    own: Mapping[str, Any],
    answers: pd.DataFrame,
    sets: Sequence[ScoredSet],
    names: Sequence[str],
    primary: Mapping[str, str],
) -> dict[str, Any]:
    found = {}
    for one in sets:
        said = own["reason"] or probabilities(answers, own["variant"], own["classifier"], names, one)
        scores = _scores(said, one, names)
        aurocs = {name: scores["classes"][name]["auroc"] for name in names}
        kept = {key: scores[key] for key in (*MEANS, "accuracy")}
        found[one.name] = without_replicates({**kept, "auroc": aurocs, "reason": scores["reason"]})
    is_primary = (own["variant"], own["classifier"]) == (primary["variant"], primary["classifier"])
    return {**own, "is_primary": is_primary, "sets": found}


def _primary(
    chosen: Mapping[str, str], answers: pd.DataFrame, sets: Sequence[ScoredSet], names: Sequence[str]
) -> dict[str, Any]:
    found = {}
    for own in sets:
        said = probabilities(answers, chosen["variant"], chosen["classifier"], names, own)
        scores = _scores(said, own, names)
        for number, name in enumerate(names):
            scores["classes"][name] |= _details(said, own, number, scores["classes"][name]["reason"])
        found[own.name] = without_replicates(scores)
    return {"variant": chosen["variant"], "classifier": chosen["classifier"], "sets": found}


def _scores(said: Values | str, own: ScoredSet, names: Sequence[str]) -> dict[str, Any]:
    """Of one model in one set; ``said`` is rows × classes, or why there is nothing."""
    reason = own.reason or (said if isinstance(said, str) else "")
    if reason or isinstance(said, str):
        sides = {name: _undefined(reason, own, number) for number, name in enumerate(names)}
        tallied: dict[str, Any] = {"accuracy": _nothing(reason), "confusion": []}
    else:
        chosen = said.argmax(axis=1).astype(np.float64)
        sides = {name: _side(said[:, number], chosen, own, number) for number, name in enumerate(names)}
        counted = classes.tally(own.truth, chosen, len(names), own.drawn)
        tallied = {"accuracy": counted.accuracy, "confusion": counted.counts}
    means = {name: _mean(sides, of) for name, of in MEANS.items()}
    return {"reason": reason, **means, **tallied, "classes": sides}


def _side(probability: Values, chosen: Values, own: ScoredSet, number: int) -> dict[str, Any]:
    """One class against the others, called where it is the most probable one."""
    truth = against_others(own.truth, number)
    positives = int(truth.sum())
    if positives in (0, len(truth)):
        return _undefined(f"{'every' if positives else 'no'} sample of this set is of this class", own, number)
    is_called = (chosen == number).astype(np.float64)
    areas = ranking.areas(truth, probability, own.drawn)
    called = operating.apply(MOST_PROBABLE, truth, is_called, own.drawn)[0]
    measures = {name: called[name] for name in MEASURES}
    for name, word in (("ppv", "no"), ("npv", "every")):
        if measures[name]["value"] is None:
            measures[name] = _nothing(f"{word} sample is called so")
    return {
        "samples": len(truth),
        "positives": positives,
        "reason": "",
        "auroc": score(areas.auroc, areas.aurocs),
        "auprc": score(areas.auprc, areas.auprcs),
        "accuracy": _share(is_called == truth, own),
        **measures,
    }


def _details(said: Values | str, own: ScoredSet, number: int, reason: str) -> dict[str, Any]:
    """Of a class of the primary model: whether its probability is a frequency, its curves, and what acting is worth."""
    if reason or isinstance(said, str):
        nothing = {name: _nothing(reason) for name in ("brier", "ece")}
        return {**nothing, "curves": {"roc": [], "pr": []}, "reliability": [], "decision": []}
    truth, probability = against_others(own.truth, number), said[:, number]
    return {
        **calibration.brier_and_error(truth, probability, own.drawn),
        "curves": ranking.curves(truth, probability),
        "reliability": calibration.reliability(truth, probability, None),
        "decision": decision.net_benefit(truth, probability),
    }


def _share(is_right: npt.NDArray[np.bool_], own: ScoredSet) -> dict[str, Any]:
    """Of the rows that are right, with its interval."""
    columns = np.stack([is_right.astype(np.float64), np.ones(len(is_right))], axis=1)
    whole, resampled = (sums(weights, columns) for weights in (everything(len(is_right)), own.drawn))
    ((value, replicates),) = both(*(ratio(one[:, :1], one[:, 1:]) for one in (whole, resampled)))
    return score(value, replicates)


def _mean(sides: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    reasons = {label: own["reason"] for label, own in sides.items()}
    found = macro({label: own[name] for label, own in sides.items()}, reasons)
    told = {reason: None for reason in reasons.values() if reason}  # each once, in their order
    return found if found["value"] is not None else {**found, "reason": "; ".join(told)}


def _undefined(reason: str, own: ScoredSet, number: int) -> dict[str, Any]:
    about = {"samples": len(own.truth), "positives": int((own.truth == number).sum()), "reason": reason}
    return {**about, **{name: _nothing(reason) for name in OF_CLASS}}


def _nothing(reason: str) -> dict[str, Any]:
    """A score that is not defined."""
    return {**score(None), "reason": reason}
