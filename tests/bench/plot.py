"""The figures of a benchmark as a picture: CPU time of every contestant, one panel per comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

COLOURS = {"floor": "#8a8a8a", "ours": "#0b6e4f", "peer": "#c98a2b"}
_INCHES_PER_BAR, _INCHES_PER_PANEL, _WIDTH = 0.24, 0.8, 10.0


def draw(report: Mapping[str, Any], path: Path) -> None:
    """Bars of median CPU milliseconds per image (or row, or megabyte), lines from least to most; wall time as text."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in report["rows"]:
        panels.setdefault((row["row"], row["units"], row["workers"]), []).append(row)
    heights = [_INCHES_PER_PANEL + _INCHES_PER_BAR * len(rows) for rows in panels.values()]
    figure = Figure(figsize=(_WIDTH, sum(heights) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axis, ((name, units, workers), rows) in zip(axes, panels.items(), strict=True):
        _panel(axis, rows)
        by = f", {workers} workers" if workers else ""
        axis.set_title(f"{name}: {units:,}{by}", loc="left", fontsize=10)
    axes[-1].set_xlabel("CPU ms each, all processes: median, least to most; behind the bar seconds by the clock")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def _panel(axis: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    each = [1000 / row["units"] for row in rows]
    medians = [row["cpu_seconds"]["median"] * ms for row, ms in zip(rows, each, strict=True)]
    errors = [
        [abs(row["cpu_seconds"]["median"] - row["cpu_seconds"][end]) * ms for row, ms in zip(rows, each, strict=True)]
        for end in ("min", "max")
    ]
    names = [row["contestant"] for row in rows]
    bars = axis.barh(names, medians, xerr=errors, color=[COLOURS[row["kind"]] for row in rows], ecolor="#333333")
    axis.bar_label(bars, [f"{row['wall_seconds']['median']:.1f} s" for row in rows], padding=4, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.tick_params(labelsize=8)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
