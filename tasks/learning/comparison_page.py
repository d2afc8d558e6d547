"""The page of two runs side by side: what :mod:`tasks.learning.comparison` found, in the look of the other reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from tasks.files import write_bytes
from tasks.learning.run_report import templates
from tasks.quality import plots
from tasks.quality.figures import Drawing
from tasks.storage import Location

TEMPLATE = "comparison.html.jinja"
LEAST_SHOWN = 0.02
"""The axis of differences shows so much to either side at least: where nothing differs it must look so."""
TONES: Mapping[str, str] = {"better": "good", "worse": "bad", "no difference told": "quiet"}
TITLES: Mapping[str, str] = {
    "better": "B is better than A",
    "worse": "B is worse than A",
    "no difference told": "No difference can be told",
}


def write(place: Location, comparison: Mapping[str, Any]) -> None:
    """Write the page of a comparison, one file that asks nothing of the network, to ``place``."""
    write_bytes(place, page(comparison).encode("utf-8", "backslashreplace"))


def page(comparison: Mapping[str, Any]) -> str:
    """The whole page as text; the same comparison gives the same text."""
    macro = comparison["macro"]
    told = {
        "comparison": comparison,
        "a": comparison["a"],
        "b": comparison["b"],
        "macro": macro,
        "tone": TONES.get(comparison["verdict"], "quiet"),
        "title": TITLES.get(comparison["verdict"], comparison["verdict"]),
        "tables": _tables(comparison),
        "figures": _figures(comparison),
    }
    return templates(TEMPLATE).get_template(TEMPLATE).render(told)


def _tables(comparison: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Title to pairs, by label or class."""
    tables: dict[str, Mapping[str, Any]] = {"Labels": comparison["labels"]} if comparison["labels"] else {}
    for question, own in comparison["classes"].items():
        tables[str(question).replace("_", " ").capitalize()] = own["classes"]
    return tables


def _figures(comparison: Mapping[str, Any]) -> list[Drawing]:
    """Differences with their intervals about nought, the mean first."""
    drawn: list[Drawing] = []
    macro = comparison["macro"]
    for title, pairs in _tables(comparison).items():
        rows = [_row(name, own["auroc"], 0) for name, own in pairs.items()]
        if macro["difference"] is not None and not drawn:
            rows = [_row("mean", macro, 1), *rows]
        drawn.append(_drawing(f"{title}: difference in AUROC", rows, "AUROC, B − A"))
    if comparison["targets"]:
        rows = [_row(name, own["r2"], 0) for name, own in comparison["targets"].items()]
        drawn.append(_drawing("Targets: difference in R²", rows, "R², B − A"))
    return drawn


def _row(name: str, found: Mapping[str, Any], colour: int) -> tuple[str, Any, Any, Any, int]:
    return name, found["difference"], found["low"], found["high"], colour


def _drawing(title: str, rows: list[tuple[str, Any, Any, Any, int]], xlabel: str) -> Drawing:
    svg = plots.intervals(
        rows, xlabel, 0.0, f"Intervals: {title}, {len(rows)} rows.", least=LEAST_SHOWN, without="not defined for both"
    )
    caption = "B − A with its 95 % interval; right of the line B is better. An interval across the line tells nothing."
    return Drawing(title, Markup(svg), caption, is_wide=True)
