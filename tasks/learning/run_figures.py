"""The figures of a run's page as inline SVG: large ones by :mod:`tasks.quality.plots`, small multiples drawn here.

A small multiple is a square of a hundred units with a frame; as many stand side by side as the window has room for.
Colours are the CSS variables of the page.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tasks.quality import plots
from tasks.quality.figures import Drawing

SIDE = 100
LEFT, TOP, WIDTH, HEIGHT = 36, 6, 142, 134
"""Of the frame in the drawing, and of the drawing, in units."""
LEAST_GROUP = 10
"""Samples behind a mean where single values must not be shown."""
Points = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Panel:
    """Small pictures of one question, with a line of words below its name."""

    name: str
    words: str
    pictures: Sequence[Markup]


def learning_curves(epochs: Sequence[Mapping[str, float | None]], best: float | None) -> list[Drawing]:
    """Loss of both sides, and AUROC of the validation side, over the epochs; only what was logged."""
    if not epochs:
        return []
    numbers = [row["epoch"] or 0.0 for row in epochs]
    dashed = f" Dashed: epoch {best:g}, whose weights were kept." if best is not None else ""
    drawn = []
    for title, names, ylabel in (
        ("Loss", {"train_loss": "train", "validation_loss": "validation"}, "loss"),
        ("Validation AUROC", {"validation_auroc": "validation"}, "macro AUROC"),
        ("Learning rate", {"learning_rate": "learning rate"}, "learning rate"),
    ):
        lines = {word: [row.get(name) for row in epochs] for name, word in names.items()}
        lines = {word: values for word, values in lines.items() if any(value is not None for value in values)}
        if not lines or (title == "Learning rate" and len(set(*lines.values())) < 2):
            continue
        svg = plots.over_epochs(numbers, lines, ylabel, best, f"Lines: {title.lower()} over {len(epochs)} epochs.")
        legend = [(word, f"--series-{index}") for index, word in enumerate(lines)] if len(lines) > 1 else []
        drawn.append(Drawing(title, Markup(svg), f"Per epoch.{dashed}", legend))
    return drawn


def curves(labels: Mapping[str, Mapping[str, Any]]) -> list[Panel]:
    """ROC beside precision and recall of every label that has them."""
    return [
        Panel(
            name,
            f"AUROC {_three(own['auroc']['value'])} · AUPRC {_three(own['auprc']['value'])}, "
            f"floor {_three(own['auprc']['chance'])}",
            [_roc(name, own), _precision(name, own)],
        )
        for name, own in labels.items()
        if own["curves"]["roc"] and own["curves"]["pr"]
    ]


def reliability(questions: Mapping[str, Mapping[str, Any]]) -> list[Panel]:
    """Observed over predicted share of every question, before calibration and after it."""
    panels = []
    for name, own in questions.items():
        if not own["reliability"]:
            continue
        before, after = own["ece"]["value"], own["calibrated"]["ece"]["value"]
        words = f"ECE {_three(before)}" + (f" → {_three(after)}" if after is not None else "")
        panels.append(Panel(name, words, [_reliability(name, own["reliability"])]))
    return panels


def subgroups(found: Sequence[Mapping[str, Any]], whole: Mapping[str, Any], unit: str) -> Drawing | None:
    """Macro AUROC of every subgroup with its interval, about that of the whole split."""
    if not found or whole.get("value") is None:
        return None
    kinds = list(dict.fromkeys(group["by"] for group in found))
    rows = [
        (
            f"{group['by'].replace('_', ' ')} {group['value']} (n {group['samples']:,})",
            *(group["macro"][key] for key in ("value", "low", "high")),
            kinds.index(group["by"]),
        )
        for group in found
    ]
    svg = plots.intervals(
        rows,
        "macro AUROC",
        whole["value"],
        f"Intervals: macro AUROC of {len(rows)} subgroups.",
        least=0.05,
        without="too few to say",
    )
    caption = (
        f"Macro AUROC with 95 % intervals; the line is the whole split, {_three(whole['value'])}. A subgroup's mean is "
        f"over the labels that are defined in it, so that two means need not be of the same labels. n counts {unit}."
    )
    return Drawing("Macro AUROC by subgroup", Markup(svg), caption.replace("'", "’"), is_wide=True)


def targets(found: Mapping[str, Mapping[str, Any]], units: Mapping[str, str], *, is_restricted: bool) -> list[Drawing]:
    """Predicted over true values; of a dataset whose single rows must not be shown, means of tenths."""
    drawn = []
    for name, own in found.items():
        pairs = [pair for pair in own["scatter"] if None not in pair]
        shown = tenths(pairs) if is_restricted else pairs
        if len(shown) < 2:
            continue
        alt = f"{'Line' if is_restricted else 'Dots'}: predicted over true {name}."
        svg = plots.agreement(shown, units.get(name, ""), alt, is_joined=is_restricted)
        caption = (
            f"Means of {len(shown)} parts of equal size, by what is predicted: the terms forbid single values."
            if is_restricted
            else f"{len(pairs):,} samples, chosen evenly. Dashed: where prediction and truth are equal."
        )
        drawn.append(Drawing(name, Markup(svg), caption))
    return drawn


def tenths(pairs: Points) -> list[tuple[float, float]]:
    """Mean truth and mean prediction of up to ten parts of equal size, in the order of the predictions."""
    parts = min(10, len(pairs) // LEAST_GROUP)
    ordered = sorted(pairs, key=lambda pair: (pair[1], pair[0]))
    ends = [len(ordered) * number // parts for number in range(parts + 1)] if parts else []
    return [
        (_mean(pair[0] for pair in ordered[low:high]), _mean(pair[1] for pair in ordered[low:high]))
        for low, high in itertools.pairwise(ends)
    ]


def _roc(name: str, own: Mapping[str, Any]) -> Markup:
    value = own["auroc"]["value"]
    drawn = [line([(0, 0), (1, 1)], "chance"), line(own["curves"]["roc"], "curve")]
    points = [dot(1 - p["specificity"]["value"], p["sensitivity"]["value"]) for p in _youden(own)]
    return panel(f"{name}: ROC curve, area {_three(value)}.", "1 − specificity", "sensitivity", [*drawn, *points])


def _youden(own: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [
        point
        for point in own["operating"]
        if point["rule"] == "youden" and None not in (point["sensitivity"]["value"], point["specificity"]["value"])
    ]


def _precision(name: str, own: Mapping[str, Any]) -> Markup:
    floor, value = own["auprc"]["chance"], own["auprc"]["value"]
    level = [line([(0, floor), (1, floor)], "chance")] if floor is not None else []
    drawn = [*level, line(own["curves"]["pr"], "curve")]
    alt = f"{name}: precision over recall, area {_three(value)}; chance is {_three(floor)}."
    return panel(alt, "recall", "precision", drawn)


def _reliability(name: str, bins: Sequence[Mapping[str, Any]]) -> Markup:
    """The axes end where the bins do: the probability of a rare finding is small."""
    after = [(b["calibrated_predicted"], b["observed"]) for b in bins if b.get("calibrated_predicted") is not None]
    before = [(b["predicted"], b["observed"]) for b in bins]
    end = min(1.0, math.ceil(10 * max(max(point) for point in [*before, *after])) / 10) or 0.1
    drawn = [line([(0, 0), (1, 1)], "chance")]
    for points, look in ((before, "before"), (after, "after")):
        scaled = [(x / end, y / end) for x, y in points]
        drawn += [line(scaled, look), *(dot(x, y, look) for x, y in scaled)] if scaled else []
    alt = f"{name}: observed over predicted share in {len(bins)} bins."
    return panel(alt, "predicted", "observed", drawn, (0.0, end), (0.0, end))


def panel(
    alt: str,
    xlabel: str,
    ylabel: str,
    drawn: Sequence[str],
    across: tuple[float, float] = (0.0, 1.0),
    upward: tuple[float, float] = (0.0, 1.0),
    marks: Sequence[float] = (),
) -> Markup:
    """Frame, ticks, and what is drawn within, in shares of the frame.

    Ticks stand at both ends and the middle of either axis; those of the upright one at ``marks``, where there are any.
    """
    low, high = upward
    heights = marks or (low, (low + high) / 2, high)
    ticks = []
    for share in (0.0, 0.5, 1.0):
        anchor = {0.0: "start", 0.5: "middle", 1.0: "end"}[share]
        word = _tick(across[0] + share * (across[1] - across[0]))
        ticks.append(f'<text x="{_place(share, 0)[0]}" y="{TOP + SIDE + 10}" text-anchor="{anchor}">{word}</text>')
    shares = [(height - low) / (high - low) for height in heights]
    for height, share in zip(heights, shares, strict=True):
        down = float(_place(0, share)[1]) + 3
        ticks.append(f'<text x="{LEFT - 4}" y="{down:g}" text-anchor="end">{_tick(height)}</text>')
    middle = f"{LEFT + SIDE / 2:g}"
    upright = f"translate(8 {TOP + SIDE / 2:g}) rotate(-90)"
    names = (
        f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{html.escape(xlabel)}</text>'
        f'<text transform="{upright}" text-anchor="middle">{html.escape(ylabel)}</text>'
    )
    across_at = "".join(f"M{LEFT} {_place(0, share)[1]}h{SIDE}" for share in shares if 0 < share < 1)
    cross = f"{across_at}M{LEFT + SIDE / 2:g} {TOP}v{SIDE}"
    frame = f'<path class="grid" d="M{LEFT} {TOP}h{SIDE}v{SIDE}h-{SIDE}z{cross}"/>'
    return Markup(
        f'<svg class="panel" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(alt, quote=True)}">'
        f"{frame}{''.join(drawn)}{''.join(ticks)}{names}</svg>"
    )


def _tick(value: float) -> str:
    """With a real minus."""
    return f"{value:.4g}".replace("-", "−")


def line(points: Points, look: str) -> str:
    """A line through points in shares of the frame; ``look`` is a class of the style sheet."""
    words = " ".join(f"{x},{y}" for x, y in (_place(*point) for point in points))
    return f'<polyline class="{look}" points="{words}"/>'


def dot(x: float, y: float, look: str = "curve") -> str:
    """A dot at a place in shares of the frame."""
    across, down = _place(x, y)
    return f'<circle class="{look}" cx="{across}" cy="{down}" r="2.6"/>'


def _place(x: float, y: float) -> tuple[str, str]:
    """Shares of the frame as coordinates to a tenth, as short as they can be."""
    return f"{round(LEFT + SIDE * x, 1):g}", f"{round(TOP + SIDE * (1 - y), 1):g}"


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
