"""metrics.json with every key that a page may ask for: what an evaluation did not measure is null, or empty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCORE: Mapping[str, Any] = dict.fromkeys(("value", "low", "high", "shuffled", "intensity", "chance"))
RATES = ("sensitivity", "specificity", "ppv", "npv", "f1")


def whole(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The same numbers; nothing is computed, nothing dropped. ``macro`` of a split has None for what has no labels."""
    about: dict[str, Any] = {"not_fitted": {}, "not_converged": [], "leak": None, "evaluation": None, "resamples": None}
    splits = {name: _split(scored) for name, scored in metrics["splits"].items()}
    return {**about, **metrics, "splits": splits}


def _split(scored: Mapping[str, Any]) -> dict[str, Any]:
    about = {"resamples": 0, "unit": "sample", "one_per_group": None}
    macro = scored.get("macro") or {}
    return {
        **about,
        **scored,
        "macro": {name: _mean(macro[name]) if macro.get(name) else None for name in ("auroc", "auprc")},
        "labels": {name: _label(own) for name, own in (scored.get("labels") or {}).items()},
        "classes": {name: _classes(own) for name, own in (scored.get("classes") or {}).items()},
        "targets": {name: _target(own) for name, own in (scored.get("targets") or {}).items()},
        "subgroups": [_subgroup(own) for own in scored.get("subgroups") or []],
    }


def _score(found: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**SCORE, **(found or {})}


def _mean(found: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"labels": 0, "undefined": {}, **_score(found)}


def _label(own: Mapping[str, Any]) -> dict[str, Any]:
    about = {"samples": 0, "positives": 0, "prevalence": None, "reason": "", "operating_reason": ""}
    curves = own.get("curves") or {}
    auprc = _score(own.get("auprc"))
    if auprc["chance"] is None:
        auprc["chance"] = own.get("prevalence")
    return {
        **about,
        **{"recall": None, "recall_low": None, "recall_high": None},
        **own,
        "auroc": _score(own.get("auroc")),
        "auprc": auprc,
        "brier": _score(own.get("brier")),
        "ece": _score(own.get("ece")),
        "calibrated": _calibrated(own.get("calibrated")),
        "reliability": own.get("reliability") or [],
        "curves": {"roc": curves.get("roc") or [], "pr": curves.get("pr") or []},
        "operating": [
            {"chosen_on": "", **point, **{rate: _score(point.get(rate)) for rate in RATES}}
            for point in own.get("operating") or []
        ],
    }


def _calibrated(found: Mapping[str, Any] | None) -> dict[str, Any]:
    """``reason`` is empty where a calibration was fitted; ``method`` is empty where none was."""
    found = found or {"reason": ""}
    about = {"method": "", "reason": "", "fitted_on": "", "slope": None, "intercept": None, "temperature": None}
    return {**about, **found, "brier": _score(found.get("brier")), "ece": _score(found.get("ece"))}


def _classes(own: Mapping[str, Any]) -> dict[str, Any]:
    scores = ("accuracy", "balanced_accuracy", "quadratic_kappa", "ece", "brier")
    return {
        **{"samples": 0, "reason": ""},
        **own,
        **{name: _score(own.get(name)) for name in scores},
        "auroc": _mean(own.get("auroc")),
        "confusion": own.get("confusion") or [],
        "calibrated": _calibrated(own.get("calibrated")),
        "reliability": own.get("reliability") or [],
        "classes": {name: _label(part) for name, part in own["classes"].items()},
    }


def _target(own: Mapping[str, Any]) -> dict[str, Any]:
    about = {"samples": 0, "mae_of_the_mean": None, "reason": ""}
    scores = {name: _score(own.get(name)) for name in ("r2", "mae")}
    return {**about, **own, **scores, "scatter": own.get("scatter") or []}


def _subgroup(own: Mapping[str, Any]) -> dict[str, Any]:
    auroc = {name: {"reason": "", **_score(found)} for name, found in (own.get("auroc") or {}).items()}
    return {"samples": 0, "positives": {}, **own, "auroc": auroc, "macro": {"reason": "", **_score(own.get("macro"))}}
