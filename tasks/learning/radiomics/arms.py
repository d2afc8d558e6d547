"""The two arms against each other, same classifier on fused features: DeLong by class and set, and the mean of classes.

DeLong's test takes every row for itself; the error by patient counts the rows of a patient as one. The mean of the
classes is tested by the influence of each patient on it, and stands beside a bootstrap of patients. Every difference is
first − second; the arithmetic is that of :mod:`tasks.learning.comparison`, where runs are compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tasks.learning.comparison import Predictions, compare_predictions
from tasks.learning.radiomics.scored_sets import ScoredSet, probabilities
from tasks.learning.recipe import Question, Recipe
from tasks.learning.scoring import delong
from tasks.learning.scoring.draws import Values

TESTED = ("difference", "low", "high", "z", "p")
BY_PATIENT = ("error_by_patient", "p_by_patient", "p_by_patient_holm")


def compared(
    chosen: Mapping[str, str], answers: pd.DataFrame, sets: Sequence[ScoredSet], recipe: Recipe, resamples: int
) -> dict[str, Any]:
    """What radiomics.json says of the arms; ``chosen`` names the ``classifier``, and ``first`` and ``second`` variant.

    ``p_holm`` adjusts for all classes of all sets in ``rows``, and for all sets in ``macro``. What is not defined is
    null, with a ``reason``.
    """
    question = recipe.questions()[0]
    rows: list[dict[str, Any]] = []
    means: list[dict[str, Any]] = []
    for own in sets:
        found, reason = _of_set(chosen, answers, own, question, recipe, resamples)
        about = {"set": own.name, "is_cross_validated": own.is_cross_validated}
        rows += [{**about, "class": name, **_row(found, reason, name)} for name in question.of]
        means.append({**about, **_mean(found, reason)})
    for tested, names in ((rows, ("p", "p_by_patient")), (means, ("p",))):
        for name in names:
            _adjust(tested, name)
    return {**{key: chosen[key] for key in ("first", "second", "classifier")}, "rows": rows, "macro": means}


def _of_set(
    chosen: Mapping[str, str],
    answers: pd.DataFrame,
    own: ScoredSet,
    question: Question,
    recipe: Recipe,
    resamples: int,
) -> tuple[Mapping[str, Any], str]:
    """What a comparison of runs says of the question; or nothing, and why."""
    tables = []
    for side in ("second", "first"):
        said = probabilities(answers, chosen[side], chosen["classifier"], question.of, own)
        if own.reason or isinstance(said, str):
            return {}, own.reason or str(said)
        tables.append(_predictions(chosen[side], said, own, question, recipe))
    found: Mapping[str, Any] = compare_predictions(tables[0], tables[1], resamples)["classes"][question.name]
    return found, ""


def _predictions(variant: str, said: Values, own: ScoredSet, question: Question, recipe: Recipe) -> Predictions:
    """An arm as comparisons know a run."""
    table = pd.DataFrame({f"probability.{question.name}.{name}": said[:, n] for n, name in enumerate(question.of)})
    table["sample_id"] = [f"{place:09}" for place in own.places]
    table["group_id"] = own.groups
    table[f"truth.{question.name}"] = np.array(question.of, dtype=object)[own.truth.astype(np.int64)]
    return Predictions(variant, "", recipe.dataset, own.name, "sample", (question,), table)


def _row(found: Mapping[str, Any], reason: str, name: str) -> dict[str, Any]:
    pair: Mapping[str, Any] = found["classes"][name] if found else {"reason": reason, "delong": None}
    if pair["delong"] is None:
        names = ("first", "second", *TESTED, "p_holm", *BY_PATIENT)
        return {**dict.fromkeys(names), "reason": pair["reason"]}
    auroc, tested, clustered = pair["auroc"], pair["delong"], pair["clustered"]
    return {
        "first": auroc["b"],
        "second": auroc["a"],
        **_tested(auroc["difference"], tested),
        "p_holm": None,
        "error_by_patient": clustered["error"],
        "p_by_patient": clustered["p"],
        "p_by_patient_holm": None,
        "reason": "",
    }


def _mean(found: Mapping[str, Any], reason: str) -> dict[str, Any]:
    """Of the classes that both are defined for; ``undefined`` names the others with their reasons."""
    undefined = found.get("undefined", {})
    if not found or found["clustered"] is None:
        told = reason or "; ".join(f"{name}: {why}" for name, why in undefined.items())
        nothing = {**dict.fromkeys(("first", "second", *TESTED, "p_holm")), "bootstrap": {"low": None, "high": None}}
        return {**nothing, "undefined": undefined, "reason": told}
    return {
        "first": found["b"],
        "second": found["a"],
        **_tested(found["difference"], found["clustered"]),
        "p_holm": None,
        "bootstrap": {"low": found["low"], "high": found["high"]},
        "undefined": undefined,
        "reason": "",
    }


def _tested(difference: float, found: Mapping[str, Any]) -> dict[str, Any]:
    """z is null where it is infinite; all but the difference where a variance needs more rows than there are."""
    if found["error"] is None:
        return {"difference": difference, "low": None, "high": None, "z": None, "p": None}
    test = delong.test(difference, found["error"])
    return {"difference": difference, "low": test.low, "high": test.high, "z": found["z"], "p": found["p"]}


def _adjust(tested: Sequence[dict[str, Any]], name: str) -> None:
    """Holm's adjustment over all of them that have a p."""
    own = [row for row in tested if row[name] is not None]
    for row, adjusted in zip(own, delong.holm([row[name] for row in own]), strict=True):
        row[f"{name}_holm"] = adjusted
