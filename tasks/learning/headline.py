"""The one number that stands for a run, and how it is said: to a terminal, on the page, in Prefect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from tasks.datasets import find
from tasks.learning.recipe import Recipe

Leak = Literal["none", "possible", "certain"]
WARNINGS: Mapping[Leak, str] = {
    "none": "",
    "possible": " Splits may share patients, so new patients can be expected to score lower.",
    "certain": " LEAKY: dealt image by image, so the model is tested on what it has seen; nothing is said of others.",
}
CONTROL = {False: "the same model", True: "a light head on its features"}
"""What was fitted to shuffled labels: of a baseline, and of a network."""


def headline(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """On the split that was held out: macro AUROC of the labels, else of the classes; of targets alone, R²."""
    split = metrics["held_out"]
    scored = metrics["splits"].get(split)
    if scored is None:
        return {"split": split, "metric": None, "of": None, "value": None, "low": None, "high": None, "shuffled": None}
    if scored["labels"]:
        metric, of, found = "macro AUROC", f"{scored['macro']['auroc']['labels']} labels", scored["macro"]["auroc"]
    elif scored["classes"]:
        name, own = next(iter(scored["classes"].items()))
        metric, of, found = "macro AUROC", f"{own['auroc']['labels']} classes of {name}", own["auroc"]
    else:
        name, own = next(iter(scored["targets"].items()))
        metric, of, found = "R²", name, own["r2"]
    kept = {key: found.get(key) for key in ("value", "low", "high", "shuffled")}
    return {"split": split, "metric": metric, "of": of, **kept}


def leak_of(recipe: Recipe) -> Leak:
    """``certain`` where splits were dealt anew by image, ``possible`` where no patients are published.

    Splits that keep pictures of one lesion together may still share patients.
    """
    if recipe.splits.redeal is not None:
        return "certain"
    return "none" if find(recipe.dataset).group == "patient" else "possible"


def words(found: Mapping[str, Any], *, leak: Leak, is_network: bool = False) -> dict[str, str]:
    """A headline as ``title``, ``line`` and ``tone`` (good, warn, quiet).

    Where splits may share patients no number is good news. The control of a network is a light head on its features.
    """
    if found["value"] is None:
        return {"title": "Nothing could be scored", "line": f"No answer is known in {found['split']}.", "tone": "quiet"}
    interval = f" (95 % {found['low']:.3f} to {found['high']:.3f})" if found["low"] is not None else ""
    title = f"{found['metric']} {found['value']:.3f}{interval} on {found['split']}"
    span = found["shuffled"]
    if span is None or found["low"] is None:
        return {
            "title": title,
            "line": f"Over {found['of']}; there is too little to compare it with chance.",
            "tone": "quiet",
        }
    control = CONTROL[is_network]
    chance = f"{control} gets {span['mean']:.3f} ({span['least']:.3f} to {span['most']:.3f}) with shuffled labels"
    if found["low"] > span["most"]:
        line = f"Over {found['of']}. Better than chance: {chance}."
        return {"title": title, "line": line + WARNINGS[leak], "tone": "good" if leak == "none" else "warn"}
    line = f"Over {found['of']}. Not told from chance: {chance}."
    return {"title": title, "line": line + (WARNINGS[leak] if leak == "certain" else ""), "tone": "warn"}
