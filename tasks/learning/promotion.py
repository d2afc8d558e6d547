"""``runs/latest/<recipe>.json``: which run of a recipe to use. It moves only to a run that is not worse."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from tasks.files import read_json, readable_json, write_bytes, write_json
from tasks.learning.headline import leak_of
from tasks.learning.recipe import Recipe
from tasks.learning.runs import LATEST, MARKER, Run, find_run, home
from tasks.schema import DataRefused, ScanmillError
from tasks.storage import Location, read_bytes

FILE = "promotion.json"
"""In the folder of a run: what came of it."""


def promote(run: str, lake: str) -> dict[str, Any]:
    """Let the recipe's latest run be this one, unless it is told from the present one as worse.

    Returns ``run is_promoted before difference low high why``; the same lies in the run as ``promotion.json``. Worse is
    a difference of the headline score, on samples that both were tested on, whose 95 % interval lies below 0. Raises
    :class:`DataRefused` for a run that is not evaluated, and for one whose splits were dealt by image.
    """
    own = find_run(lake, run)
    if not own.is_evaluated:
        raise DataRefused(f"run {own.name} is not evaluated: nothing is known of it that could be compared")
    if not is_promotable(own.recipe):
        raise DataRefused(f"run {own.name} is a control, or was tested on what it has seen: it is never promoted")
    present = latest(lake, own.recipe.name)
    outcome = _judged(own, present, lake)
    write_json(own.folder / FILE, outcome)
    if outcome["is_promoted"]:
        marker = hashlib.sha256(read_bytes(own.folder / MARKER)).hexdigest()
        write_bytes(pointer(lake, own.recipe.name), readable_json({"run": own.name, "run_json_sha256": marker}))
    return outcome


def is_promotable(recipe: Recipe) -> bool:
    """Whether its runs are fit for use at all: no control, and not tested on what they have seen."""
    return leak_of(recipe) != "certain" and not recipe.shuffle_labels


def latest(lake: str, recipe: str) -> Run | None:
    """The run that a recipe's pointer names; None where there is none.

    Raises :class:`DataRefused` where it is not the run that the pointer was written for.
    """
    place = pointer(lake, recipe)
    if not place.is_file():
        return None
    try:
        said = read_json(place)
        name, sha256 = str(said["run"]), said["run_json_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataRefused(f"{place} is damaged ({error}): remove it, and promote a run") from error
    found = find_run(lake, name)
    if hashlib.sha256(read_bytes(found.folder / MARKER)).hexdigest() != sha256:
        raise DataRefused(f"{place} names run {found.name}, whose {MARKER} has changed since")
    return found


def pointer(lake: str, recipe: str) -> Location:
    """``runs/latest/<recipe>.json``."""
    return home(lake) / LATEST / f"{recipe}.json"


def promotion_of(run: Run) -> dict[str, Any] | None:
    """What came of the promotion of a run; None where nobody has tried."""
    try:
        return dict(read_json(run.folder / FILE))
    except FileNotFoundError:
        return None


def sentence(outcome: Mapping[str, Any]) -> str:
    """It in words."""
    if outcome["is_promoted"]:
        return f"runs/latest names {outcome['run']} now ({outcome['why']})"
    return f"runs/latest stays with {outcome['before']}: {outcome['why']}"


def _judged(own: Run, present: Run | None, lake: str) -> dict[str, Any]:
    from tasks.learning.comparison import compare, is_not_worse

    nothing = {"run": own.name, "difference": None, "low": None, "high": None}
    if present is None or present.name == own.name:
        why = "there was none before" if present is None else "it did before"
        return {**nothing, "is_promoted": True, "before": present.name if present else None, "why": why}
    try:
        compared = compare(lake, present.name, own.name)
    except ScanmillError as error:
        why = f"cannot be compared: {error}; to begin anew, remove {pointer(lake, own.recipe.name)}"
        return {**nothing, "is_promoted": False, "before": present.name, "why": why}
    found = compared["macro"]
    interval = _interval(found)
    is_good = is_not_worse(compared)
    word = "not worse" if is_good else "worse"
    return {
        "run": own.name,
        "is_promoted": is_good,
        "before": present.name,
        **{name: found[name] for name in ("difference", "low", "high")},
        "why": f"{word} than {present.name}: {interval}",
    }


def _interval(found: Mapping[str, Any]) -> str:
    if found["difference"] is None:
        return "no score of both is defined"
    if found["low"] is None:
        return f"{found['difference']:+.3f}, too little to tell"
    return f"{found['difference']:+.3f} (95 % {found['low']:+.3f} to {found['high']:+.3f})"
