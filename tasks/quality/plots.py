"""Figures of the report as inline SVG text, drawn by matplotlib.

Colours are written as CSS variables, so one figure serves the light and the dark page; text stays text. Nothing in a
figure depends on the clock, on the machine's fonts or on the order of dictionaries.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

INK, MUTED, LINE, SURFACE = "#010101", "#020202", "#030303", "#040404"
SERIES = tuple(f"#05050{index}" for index in range(6))
HEAT = tuple(f"#06060{index}" for index in range(8))
HEAT_INK = tuple(f"#07070{index}" for index in range(2))
# Stand-ins that no figure uses for their own sake; each becomes a variable that the page's style sheet defines.
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    SURFACE: "--surface",
    **{colour: f"--series-{index}" for index, colour in enumerate(SERIES)},
    **{colour: f"--heat-{index}" for index, colour in enumerate(HEAT)},
    **{colour: f"--heat-ink-{index}" for index, colour in enumerate(HEAT_INK)},
}
HEAT_EDGES = (0.0, 0.01, 0.02, 0.05, 0.10, 0.20, 0.35)
"""Shares above which a cell of the heat map takes the next colour; the first colour is for none at all."""

STYLE: Any = {
    # Whatever the machine's own matplotlibrc says, the same figure; the backend is not touched, none is needed.
    **{name: value for name, value in matplotlib.rcParamsDefault.items() if not name.startswith("backend")},
    "svg.fonttype": "none",
    "svg.hashsalt": "scanmill",
    "text.parse_math": False,  # a label may hold a dollar sign
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same layout on every machine
    "font.size": 8.0,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.75,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "patch.linewidth": 0,
}
WIDTH, NARROW = 5.2, 4.6
"""Widths in inches of a figure beside another one, and beside a table that needs more room."""


@matplotlib.rc_context(STYLE)
def label_balance(shares: Mapping[str, Mapping[str, float | None]], alt: str) -> str:
    """Label → split → share (0–1) of the labelled samples that have it, as grouped bars."""
    splits = list(next(iter(shares.values())))
    figure, axes = _figure(NARROW, 0.55 + len(shares) * (0.12 + 0.09 * len(splits)))
    thickness = 0.78 / len(splits)
    for index, split in enumerate(splits):
        places = np.arange(len(shares)) + (index - (len(splits) - 1) / 2) * thickness
        widths = [of_split[split] or 0.0 for of_split in shares.values()]
        axes.barh(places, widths, thickness * 0.86, color=series(index))
    axes.set_yticks(range(len(shares)), [_short(name) for name in shares])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.invert_yaxis()
    axes.margins(y=0.02)
    _share_axis(axes)
    return _svg(figure, alt)


@matplotlib.rc_context(STYLE)
def cooccurrence(names: Sequence[str], counts: Sequence[Sequence[int]], alt: str) -> str:
    """Labels × labels: colour is the share of the row's samples that also have the column's label, text the number."""
    side = min(max(0.36 * len(names), 2.2), 7.0)
    figure, axes = _figure(side + 2.3, side + 1.3)
    for row, column in np.ndindex(len(names), len(names)):
        _heat_cell(axes, row, column, counts, has_text=len(names) <= 20)
    axes.set(xlim=(0, len(names)), ylim=(len(names), 0), aspect="equal")
    axes.set_xticks(np.arange(len(names)) + 0.5, [_short(n) for n in names], rotation=45, ha="left")
    axes.set_yticks(np.arange(len(names)) + 0.5, [_short(n) for n in names])
    axes.xaxis.tick_top()
    axes.tick_params(labelcolor=INK, pad=2)
    axes.spines[:].set_visible(False)
    return _svg(figure, alt)


@matplotlib.rc_context(STYLE)
def age_pyramid(edges: Sequence[int], by_sex: Mapping[str, Sequence[int]], alt: str) -> str:
    """Counts per five-year bin: women to the left, men to the right; without both sexes, all to the right."""
    figure, axes = _figure(WIDTH, 3.3)
    left = np.asarray(by_sex.get("F", np.zeros(len(edges))), dtype=np.float64)
    right = np.asarray(by_sex.get("M", np.zeros(len(edges))), dtype=np.float64)
    if not (left.any() and right.any()):
        left, right = left * 0, np.sum([np.asarray(v) for v in by_sex.values()], axis=0)
    axes.barh(edges, -left, 4.3, align="edge", color=series(0))
    axes.barh(edges, right, 4.3, align="edge", color=series(1))
    axes.axvline(0, color=SURFACE, linewidth=2)
    most = max(left.max(), right.max())
    # The larger side has room to spare, so that its words stand clear of the longest bar.
    axes.set_xlim(-most * 1.12 if left.any() else 0, most * 1.12)
    for place, word in ((0.0, "women"), (1.0, "men")) if left.any() else ():
        axes.text(place, 1.01, word, transform=axes.transAxes, color=MUTED, ha="left" if place == 0 else "right")
    used = np.flatnonzero(left + right)
    axes.set_ylim(edges[used[0]], edges[used[-1]] + 5)
    axes.set_ylabel("age, years")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    _count_axis(axes)
    return _svg(figure, alt)


@matplotlib.rc_context(STYLE)
def stacked(parts: Mapping[str, Mapping[str, int]], order: Sequence[str], alt: str) -> str:
    """One full-width bar per split, divided by category in the given order."""
    figure, axes = _figure(WIDTH, 0.42 + 0.34 * len(parts))
    start = np.zeros(len(parts))
    totals = np.array([max(sum(part.values()), 1) for part in parts.values()])
    for index, category in enumerate(order):
        widths = np.array([part.get(category, 0) for part in parts.values()]) / totals
        axes.barh(range(len(parts)), widths, 0.62, left=start, color=series(index), edgecolor=SURFACE, linewidth=1)
        start += widths
    axes.set_yticks(range(len(parts)), [_short(name) for name in parts])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    _share_axis(axes)
    return _svg(figure, alt)


@matplotlib.rc_context(STYLE)
def bars(names: Sequence[str], counts: Sequence[int], xlabel: str, alt: str) -> str:
    """Upright bars with their numbers above."""
    figure, axes = _figure(WIDTH, 2.4)
    axes.bar(range(len(names)), counts, 0.72, color=series(0))
    for place, count in enumerate(counts):
        axes.annotate(f"{count:,}", (place, count), (0, 2), textcoords="offset points", ha="center", color=MUTED)
    axes.set_xticks(range(len(names)), [_short(name) for name in names])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(xlabel)
    return _svg(figure, alt)


@matplotlib.rc_context(STYLE)
def curves(densities: Mapping[str, Sequence[float]], xlabel: str, ylabel: str, top: float | None, alt: str) -> str:
    """One line per split over the grey range 0–1; ``top`` cuts the upright axis where a spike would hide all."""
    figure, axes = _figure(WIDTH, 2.7)
    for index, density in enumerate(densities.values()):
        centres = (np.arange(len(density)) + 0.5) / len(density)
        axes.plot(centres, density, color=series(index), linewidth=1.6)
    axes.set(xlim=(0, 1), ylim=(0, top), xlabel=xlabel, ylabel=ylabel)
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0, symbol=" %"))
    axes.yaxis.set_major_locator(MaxNLocator(5, prune="lower"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %"))
    return _svg(figure, alt)


@matplotlib.rc_context(STYLE)
def size_bubbles(cells: Iterable[Sequence[int]], alt: str) -> str:
    """Width against height in pixels of the published images; area is the number of images."""
    width, height, count = np.array(list(cells), dtype=np.float64).T
    figure, axes = _figure(WIDTH, 3.3)
    area = 4 + 240 * count / count.max()
    axes.scatter(width, height, area, color=series(0), alpha=0.55, linewidths=0.5, edgecolors=SURFACE)
    longest = max(width.max(), height.max()) * 1.08
    axes.plot([0, longest], [0, longest], color=LINE, linewidth=0.75, linestyle="--", zorder=0)
    axes.set(xlim=(0, longest), ylim=(0, longest), aspect="equal", xlabel="width, pixels", ylabel="height, pixels")
    axes.grid(True)
    return _svg(figure, alt)


@matplotlib.rc_context(STYLE)
def forest(rows: Sequence[tuple[str, float, float | None, float | None, int]], alt: str) -> str:
    """One line per (name, effect, low, high, number of its colour): a dot with its interval, about nought."""
    figure, axes = _figure(7.6, 0.5 + 0.24 * len(rows))
    for place, (_, effect, low, high, index) in enumerate(rows):
        ends = [effect if low is None else low, effect if high is None else high]
        axes.plot(ends, [place, place], color=series(index), linewidth=2.2, solid_capstyle="butt")
        axes.plot([effect], [place], color=series(index), marker="o", markersize=5.5, linestyle="none")
    axes.axvline(0, color=MUTED, linewidth=0.75)
    # Where nothing differs it must look so: the axis never shows less than a small effect to either side.
    drawn = [end for _, effect, low, high, _ in rows for end in (effect, low, high) if end is not None]
    axes.set_xlim(min(-0.25, *(1.05 * end for end in drawn)), max(0.25, *(1.05 * end for end in drawn)))
    axes.set_yticks(range(len(rows)), [_short(name, 44) for name, *_ in rows])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.set_xlabel("effect size")
    return _svg(figure, alt)


@matplotlib.rc_context(STYLE)
def over_epochs(
    epochs: Sequence[float], lines: Mapping[str, Sequence[float | None]], ylabel: str, best: float | None, alt: str
) -> str:
    """One line per name over the epochs of a training, None where it was not measured; dashed is the epoch kept."""
    figure, axes = _figure(3.5, 2.3)
    for index, values in enumerate(lines.values()):
        known = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
        axes.plot(epochs, known, color=series(index), linewidth=1.6, marker="o", markersize=2.6)
    if best is not None:
        axes.axvline(best, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    axes.set(xlabel="epoch", ylabel=ylabel)
    axes.margins(x=0.03, y=0.08)
    axes.grid(axis="y")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    return _svg(figure, alt)


@matplotlib.rc_context(STYLE)
def penalties(
    alphas: Sequence[float],
    errors: Sequence[float],
    spreads: Sequence[float],
    kept: Sequence[int],
    chosen: float | None,
    alt: str,
) -> str:
    """Error ± its spread over penalties on a logarithmic axis; below it how much is kept; dashed is the chosen one."""
    figure = Figure(figsize=(7.6, 3.4), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.04))
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    middle, half = np.asarray(errors, dtype=np.float64), np.asarray(spreads, dtype=np.float64)
    upper.fill_between(alphas, middle - half, middle + half, color=series(4), alpha=0.35, linewidth=0)
    upper.plot(alphas, middle, color=series(0), linewidth=1.6)
    lower.plot(alphas, kept, color=series(1), linewidth=1.6, drawstyle="steps-mid")
    for axes, ylabel in ((upper, "error"), (lower, "features")):
        if chosen is not None:
            axes.axvline(chosen, color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
        axes.set_ylabel(ylabel)
        axes.grid(axis="y")
        axes.spines["left"].set_visible(False)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=axes is lower))
    lower.set_xscale("log")
    lower.set_xlabel("penalty α")
    lower.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    lower.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    lower.xaxis.set_minor_formatter(NullFormatter())
    lower.set_ylim(bottom=0)
    return _svg(figure, alt)


@matplotlib.rc_context(STYLE)
def intervals(
    rows: Sequence[tuple[str, float | None, float | None, float | None, int]],
    xlabel: str,
    reference: float,
    alt: str,
    *,
    least: float = 0.0,
    without: str = "",
) -> str:
    """One line per (name, value, low, high, number of its colour): a dot with its interval, about a reference.

    The axis shows ``least`` to either side of the reference at least; ``without`` stands where a value is None.
    """
    figure, axes = _figure(7.6, 0.5 + 0.24 * len(rows))
    axes.axvline(reference, color=MUTED, linewidth=0.75)
    for place, (_, value, low, high, index) in enumerate(rows):
        if value is None:
            axes.text(reference, place, f" {without}", color=MUTED, va="center", size=7)
            continue
        ends = [value if low is None else low, value if high is None else high]
        axes.plot(ends, [place, place], color=series(index), linewidth=2.2, solid_capstyle="butt")
        axes.plot([value], [place], color=series(index), marker="o", markersize=5.5, linestyle="none")
    drawn = [end for _, *ends, _ in rows for end in ends if end is not None]
    low, high = min([reference - least, *drawn]), max([reference + least, *drawn])
    room = 0.04 * max(high - low, 1e-9)
    axes.set_xlim(low - room, high + room)
    axes.set_yticks(range(len(rows)), [_short(name, 44) for name, *_ in rows])
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="x")
    axes.spines[["bottom", "left"]].set_visible(False)
    axes.set_xlabel(xlabel)
    return _svg(figure, alt)


@matplotlib.rc_context(STYLE)
def agreement(pairs: Sequence[Sequence[float]], unit: str, alt: str, *, is_joined: bool = False) -> str:
    """(true, predicted) as dots about the dashed line of equals; ``is_joined`` draws them as one line of means."""
    truth, predicted = np.array(pairs, dtype=np.float64).T
    figure, axes = _figure(NARROW, 3.6)
    low, high = float(min(truth.min(), predicted.min())), float(max(truth.max(), predicted.max()))
    room = 0.04 * max(high - low, 1e-9)
    axes.plot([low, high], [low, high], color=MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
    if is_joined:
        axes.plot(truth, predicted, color=series(0), linewidth=1.6, marker="o", markersize=4.5)
    else:
        axes.scatter(truth, predicted, 9, color=series(0), alpha=0.5, linewidths=0)
    axes.set(xlim=(low - room, high + room), ylim=(low - room, high + room), aspect="equal")
    axes.set(xlabel=f"true, {unit}", ylabel=f"predicted, {unit}")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(True)
    return _svg(figure, alt)


def series(index: int) -> str:
    """Colour of the nth split or category; they repeat after six."""
    return SERIES[index % len(SERIES)]


def heat_step(share: float) -> int:
    """Which of the eight colours a share (0–1) takes."""
    return sum(share > edge for edge in HEAT_EDGES)


def _heat_cell(axes: Axes, row: int, column: int, counts: Sequence[Sequence[int]], *, has_text: bool) -> None:
    """One square of the heat map; the diagonal, a label with itself, is an outline with its total.

    All squares lie within the axes, so that the layout need not measure 400 of them.
    """
    count, total = counts[row][column], counts[row][row]
    step = heat_step(count / total if total else 0.0)
    is_total = row == column
    face = SURFACE if is_total else HEAT[step]
    square = Rectangle((column, row), 1, 1, facecolor=face, edgecolor=SURFACE if not is_total else LINE, lw=1)
    axes.add_artist(square).set_in_layout(False)
    if has_text and (count or is_total):
        ink = MUTED if is_total else HEAT_INK[step >= 5]
        size = 6.4 if count < 10_000 else 5.6
        weight = "bold" if is_total else "normal"
        place = column + 0.5, row + 0.53
        number = axes.text(*place, f"{count:,}", ha="center", va="center", color=ink, size=size, weight=weight)
        number.set_in_layout(False)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02))
    return figure, figure.add_subplot()


def _share_axis(axes: Axes) -> None:
    """Horizontal axis in percent with hairlines."""
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * 100:g} %"))
    axes.grid(axis="x")
    axes.spines[["bottom", "left"]].set_visible(False)


def _count_axis(axes: Axes) -> None:
    """Horizontal axis of counts to both sides of nought."""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{abs(value):,.0f}"))
    axes.grid(axis="x")
    axes.spines[["bottom", "left"]].set_visible(False)


def _short(name: object, limit: int = 28) -> str:
    """A label on one line: underscores as spaces, the end cut where it is too long for an axis."""
    text = " ".join(str(name).replace("_", " ").split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _svg(figure: Figure, alt: str) -> str:
    """The figure as one ``<svg>`` element that takes its colours and its font from the page."""
    target = io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that DejaVu lacks is drawn by the reader's own font
        figure.savefig(target, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = target.getvalue()
    body = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text[text.index("<svg") :], flags=re.S)
    view = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', body)
    assert view is not None
    width = float(view[1]) * 4 / 3
    opening = (
        f'<svg class="plot" viewBox="{view[0][9:-1]}" style="--natural: {width:.0f}px; max-width: {width:.0f}px" '
        f'role="img" aria-label="{html.escape(alt, quote=True)}">'
    )
    return opening + _themed(body[body.index(">") + 1 :].strip())


def _themed(body: str) -> str:
    """Stand-in colours become CSS variables, the font the page's; names of groups, which would repeat, go."""
    body = re.sub(r"<style.*?</style>", "", body, flags=re.S)
    body = re.sub(r' id="[a-z0-9.]+_\d+"', "", body)
    body = re.sub(r"font-family: [^;\"]*; ", "", body)
    body = re.sub(r"(fill|stroke): (#0\d0\d0\d)", lambda m: f"{m[1]}: var({VARIABLES[m[2]]})", body)
    return re.sub(r"\s*\n\s*", "\n", body)
