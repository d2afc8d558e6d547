"""The figures of a radiomics page: curves of several classes in one frame, net benefit, the path of the LASSO, arms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from tasks.learning.run_figures import Panel, Points, dot, line, panel
from tasks.quality import plots
from tasks.quality.figures import Drawing

SERIES = len(plots.SERIES)
LEAST_SHOWN = 0.05
"""The axis of differences in AUROC shows so much to either side at least: where nothing differs it must look so."""
FLOOR = -0.1
"""Net benefit is drawn from here on, as a share of the highest drawn; treating all falls far below."""


def curves(sets: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> list[Panel]:
    """Per set one ROC frame and one of precision over recall, with a line for every class that has them."""
    found = []
    for name, own in sets.items():
        drawn = {key: part["curves"] for key, part in own["classes"].items() if part["curves"]["roc"]}
        if not drawn:
            continue
        places = {key: place for place, key in enumerate(own["classes"])}
        pictures = [
            panel(
                f"{name}: ROC curves of {len(drawn)} classes, each against the rest.",
                "1 − specificity",
                "sensitivity",
                [
                    line([(0, 0), (1, 1)], "chance"),
                    *(line(part["roc"], _look(places[key])) for key, part in drawn.items()),
                ],
            ),
            panel(
                f"{name}: precision over recall of {len(drawn)} classes, each against the rest.",
                "recall",
                "precision",
                [line(part["pr"], _look(places[key])) for key, part in drawn.items() if part["pr"]],
            ),
        ]
        words = " · ".join(f"{_plain(key)} {_three(own['classes'][key]['auroc']['value'])}" for key in own["classes"])
        found.append(Panel(titles[name], f"AUROC {words}", pictures))
    return found


def reliability(sets: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> list[Panel]:
    """Observed over predicted share: one panel per set, a frame per class."""
    found = []
    for name, own in sets.items():
        pictures = [
            _captioned(
                _plain(key),
                f"ECE {_three(part['ece']['value'])}, Brier {_three(part['brier']['value'])}",
                _reliability(f"{name}, {_plain(key)}", part["reliability"], _look(place)),
            )
            for place, (key, part) in enumerate(own["classes"].items())
            if part["reliability"]
        ]
        if pictures:
            found.append(Panel(titles[name], _missing(own), pictures))
    return found


def _reliability(name: str, bins: Sequence[Mapping[str, Any]], look: str) -> Markup:
    points = [(part["predicted"], part["observed"]) for part in bins]
    drawn = [line([(0, 0), (1, 1)], "chance"), line(points, look), *(dot(*point, look) for point in points)]
    return panel(f"{name}: observed over predicted share in {len(bins)} bins.", "predicted", "observed", drawn)


def decisions(sets: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> list[Panel]:
    """Net benefit over the threshold: one panel per set, a frame per class."""
    found = []
    for name, own in sets.items():
        pictures = [
            _captioned(
                _plain(key),
                _useful(part["decision"]),
                _decision(f"{name}, {_plain(key)}", part["decision"], _look(place)),
            )
            for place, (key, part) in enumerate(own["classes"].items())
            if part["decision"]
        ]
        if pictures:
            found.append(Panel(titles[name], _missing(own), pictures))
    return found


def _decision(name: str, rows: Sequence[Mapping[str, float]], look: str) -> Markup:
    """The frame ends above the highest net benefit; what falls below the floor is cut off there."""
    top = _rounded_up(max(max(row["model"], row["all"]) for row in rows))
    low = FLOOR * top
    drawn = [line([(0, nought := -low / (top - low)), (1, nought)], "chance")]
    for key, colour in (("all", "all"), ("model", look)):
        points = [(row["threshold"], (row[key] - low) / (top - low)) for row in rows]
        drawn += [line(part, colour) for part in above(points)]
    alt = f"{name}: net benefit of the model, of acting on all and of acting on none, over the threshold."
    return panel(alt, "threshold", "net benefit", drawn, upward=(low, top), marks=(0.0, top / 2, top))


def _useful(rows: Sequence[Mapping[str, float]]) -> str:
    """Between which thresholds the model beats both simple rules, in words."""
    better = [row["threshold"] for row in rows if row["model"] > max(row["all"], 0.0) + 1e-12]
    if not better:
        return "pays at no threshold"
    is_whole = len(better) == sum(min(better) <= row["threshold"] <= max(better) for row in rows)
    return f"pays {'' if is_whole else 'mostly '}from {min(better):.2g} to {max(better):.2g}"


def _missing(own: Mapping[str, Any]) -> str:
    """Which classes of a set have no frame, and why."""
    return "; ".join(f"{_plain(key)}: {part['reason']}" for key, part in own["classes"].items() if part.get("reason"))


def _captioned(name: str, words: str, picture: Markup) -> Markup:
    """A frame with its name above and a line of words below."""
    return Markup('<div class="one"><b>{}</b>{}<p>{}</p></div>').format(name, picture, words)


def above(points: Points) -> list[list[tuple[float, float]]]:
    """A line in shares of the frame as the pieces of it that lie in the frame, cut where it crosses the lower edge."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for number, (x, y) in enumerate(points):
        before = points[number - 1] if number else None
        if before is not None and (before[1] < 0) != (y < 0):
            crossing = (before[0] + (x - before[0]) * before[1] / (before[1] - y), 0.0)
            pieces[-1].append(crossing)
            if y < 0:
                pieces.append([])
        if y >= 0:
            pieces[-1].append((x, y))
    return [piece for piece in pieces if len(piece) > 1]


def _rounded_up(value: float) -> float:
    """To the next tenth that is above it, never nought."""
    return max(0.1, math.ceil(10 * value + 1e-9) / 10)


def lasso(path: Sequence[Mapping[str, Any]], alpha: float | None, words: str) -> Drawing | None:
    """Cross-validated error over the penalty with its standard error, and how many features stay at each."""
    if not path:
        return None
    rows = sorted(path, key=lambda row: row["alpha"])
    svg = plots.penalties(
        [row["alpha"] for row in rows],
        [row["error"] for row in rows],
        [row["standard_error"] for row in rows],
        [row["features"] for row in rows],
        alpha,
        f"Line: cross-validated error over {len(rows)} penalties, and the number of features that stay.",
    )
    return Drawing("LASSO path", Markup(svg), words, is_wide=True)


def arms(found: Mapping[str, Any], names: Sequence[str]) -> Drawing:
    """Differences in AUROC, first arm minus second, set by set: the macro form, then every class."""
    rows: list[tuple[str, Any, Any, Any, int]] = []
    for name in names:
        for own in found["macro"]:
            if own["set"] == name:
                rows.append((f"{name}, mean of classes", own["difference"], own["low"], own["high"], 1))
        for own in found["rows"]:
            if own["set"] == name:
                rows.append((f"{name}, {_plain(own['class'])}", own["difference"], own["low"], own["high"], 0))
    first, second = (found[key].partition("@")[2] or found[key] for key in ("first", "second"))
    label = f"AUROC, {first} − {second}"
    alt = f"Intervals: differences in AUROC between the two arms, {len(rows)} rows."
    svg = plots.intervals(rows, label, 0.0, alt, least=LEAST_SHOWN, without="not defined for both")
    caption = (
        f"Right of the line {first} is better. Intervals of 95 %, not adjusted: of classes DeLong’s, "
        "of their mean by patient."
    )
    legend = [("mean of classes", "--series-1"), ("one class against the rest", "--series-0")]
    return Drawing("Differences", Markup(svg), caption, legend, is_wide=True)


def _look(place: int) -> str:
    return f"of-{place % SERIES}"


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
