"""Which figures a release gets, and the words under them; drawn by :mod:`tasks.quality.plots`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tasks.quality import plots
from tasks.quality.statistics import UNKNOWN
from tasks.schema import Dataset


@dataclass(frozen=True)
class Drawing:
    """One figure: its SVG, the heading over it, the caption under it, and (name, CSS variable) of its colours."""

    title: str
    svg: Markup
    caption: str
    legend: Sequence[tuple[str, str]] = ()
    is_wide: bool = False


def draw(dataset: Dataset, statistics: Mapping[str, Any]) -> dict[str, Drawing]:
    """Every figure that this release has something to show in, by name."""
    drawn = {
        "labels": _labels(dataset, statistics),
        "cooccurrence": _cooccurrence(dataset, statistics),
        "age": _age(statistics),
        "sex": _categories(statistics, "sex", "Sex", {"F": "women", "M": "men"}),
        "view": _categories(statistics, "view", "View", {}),
        "groups": _groups(statistics),
        "published_sizes": _published_sizes(statistics),
        "mean_intensity": _mean_intensity(statistics),
        "pixels": _pixels(statistics),
    }
    return {name: drawing for name, drawing in drawn.items() if drawing is not None}


def _drawing(title: str, svg: str, caption: str, legend: Sequence[str] = (), *, is_wide: bool = False) -> Drawing:
    keys = [(name, f"--series-{index % len(plots.SERIES)}") for index, name in enumerate(legend)]
    return Drawing(title, Markup(svg), caption, keys, is_wide)


def _labels(dataset: Dataset, statistics: Mapping[str, Any]) -> Drawing | None:
    labelled = {split: labels for split, labels in statistics["labels"].items() if labels["labelled"]}
    if not labelled:
        return None
    totals = {name: sum(labels["counts"][name]["present"] for labels in labelled.values()) for name in dataset.labels}
    names = sorted(totals, key=lambda name: -totals[name]) if dataset.label_kind == "multiple" else list(totals)
    shares = {name: {split: _share(labels["counts"][name]) for split, labels in labelled.items()} for name in names}
    svg = plots.label_balance(shares, f"Bars: share of samples with each of {len(names)} labels, per split.")
    caption = "Share of the samples of a split whose label is known that have it. Equal bars mean balanced splits."
    return _drawing("Label balance", svg, caption, list(labelled))


def _share(counts: Mapping[str, int]) -> float | None:
    known = counts["present"] + counts["absent"]
    return counts["present"] / known if known else None


def _cooccurrence(dataset: Dataset, statistics: Mapping[str, Any]) -> Drawing | None:
    counts = statistics["cooccurrence"]
    if counts is None:
        return None
    names = list(dataset.labels)
    order = sorted(range(len(names)), key=lambda index: -counts[index][index])
    ordered = [[counts[row][column] for column in order] for row in order]
    svg = plots.cooccurrence(
        [names[index] for index in order], ordered, f"Heat map: how often {len(names)} labels occur together."
    )
    steps = ["0", *(f"> {edge:.0%}".replace("%", " %") for edge in plots.HEAT_EDGES)]
    legend = [(step, f"--heat-{index}") for index, step in enumerate(steps)]
    caption = (
        "Numbers are samples with both labels; the outlined diagonal is the label’s own total. "
        "Colour is the share of the row’s samples that also have the column’s label."
    )
    return Drawing("Labels that occur together", Markup(svg), caption, legend, is_wide=True)


def _age(statistics: Mapping[str, Any]) -> Drawing | None:
    ages = statistics["age_years"]
    if ages is None:
        return None
    missing = sum(split["missing"] for split in ages["splits"].values())
    unknown = sum(ages["by_sex"].get(UNKNOWN, ()))
    has_both = {"F", "M"} <= set(ages["by_sex"])
    notes = [f"{missing:,} without an age" if missing else "", f"{unknown:,} of unknown sex" if unknown else ""]
    left_out = " and ".join(note for note in notes[: 2 if has_both else 1] if note)
    caption = f"Samples per five years of age, all splits. {f'Not drawn: {left_out}.' if left_out else ''}".strip()
    svg = plots.age_pyramid(ages["edges"], ages["by_sex"], "Population pyramid: samples by age and sex.")
    return _drawing("Age" + (" and sex" if has_both else ""), svg, caption)


def _categories(statistics: Mapping[str, Any], name: str, title: str, words: Mapping[str, str]) -> Drawing | None:
    """Shares of the categories of one column per split; beyond six they are drawn as one, ``other``."""
    parts = {split: part for split, part in (statistics[name] or {}).items() if part}
    if not parts:
        return None
    totals: dict[str, int] = {}
    for part in parts.values():
        for category, samples in part.items():
            totals[category] = totals.get(category, 0) + samples
    # Named ones in the order they are named in (the colours of the age pyramid), then the commonest, unknown last.
    rank = {category: place for place, category in enumerate(words)}
    order = sorted(totals, key=lambda c: (c == UNKNOWN, rank.get(c, len(rank)), -totals[c], c))
    named, others = (order, []) if len(order) <= 6 else (order[:5], order[5:])
    drawn = {split: {c: part.get(c, 0) for c in named} for split, part in parts.items()}
    for split, part in parts.items() if others else ():
        drawn[split]["other"] = sum(part.get(category, 0) for category in others)
    order = [*named, "other"] if others else named
    svg = plots.stacked(drawn, order, f"Stacked bars: {title.lower()} per split.")
    counts = " · ".join(f"{words.get(c, c)} {totals[c]:,}" for c in named)
    return _drawing(title, svg, f"Share of samples per split. In all: {counts}.", [words.get(c, c) for c in order])


def _groups(statistics: Mapping[str, Any]) -> Drawing | None:
    groups = statistics["groups"]
    if groups is None or groups["largest"] == 1:
        return None
    edges = groups["edges"]
    ends = [edge - 1 for edge in edges[1:]]
    names = [str(a) if a == b else f"{a}–{b}" for a, b in zip(edges, ends, strict=False)] + [f"{edges[-1]}+"]
    is_patient = groups["kind"] == "patient"
    title, noun = ("Images per patient", "patients") if is_patient else ("Images that show one picture", "pictures")
    last = max(index for index, counted in enumerate(groups["counts"]) if counted) + 1
    xlabel = "images of one patient" if is_patient else "images that show one picture"
    svg = plots.bars(names[:last], groups["counts"][:last], xlabel, f"Bars: {noun} by their number of images.")
    caption = f"{noun.capitalize()} by number of images. Median {groups['median']:g}, most {groups['largest']:,}."
    return _drawing(title, svg, caption)


def _published_sizes(statistics: Mapping[str, Any]) -> Drawing | None:
    sizes = statistics["published_sizes"]
    if sizes is None or sizes["distinct"] < 4:
        return None
    rounded = f" Rounded to {sizes['step_pixels']} pixels." if sizes["step_pixels"] > 1 else ""
    caption = f"{sizes['distinct']:,} different sizes; the area of a dot is the number of images.{rounded}"
    svg = plots.size_bubbles(sizes["cells"], "Bubble chart: width against height of the published images.")
    return _drawing("Published sizes", svg, caption)


def _mean_intensity(statistics: Mapping[str, Any]) -> Drawing | None:
    means = statistics["mean_intensity"]
    if means is None:
        return None
    shares = {split: [n / max(mean["known"], 1) for n in mean["counts"]] for split, mean in means.items()}
    svg = plots.curves(shares, "mean grey of an image", "images", None, "Lines: mean grey of the images, per split.")
    caption = "Share of images by their mean grey, from black (0 %) to white (100 %), before conversion."
    return _drawing("Mean intensity", svg, caption, list(shares))


def _pixels(statistics: Mapping[str, Any]) -> Drawing | None:
    pixels = statistics["pixels"]
    if not pixels:
        return None
    shares = {split: part["shares"] for split, part in pixels.items()}
    # Black borders and burnt-in white would press everything else flat: either end may run off the scale.
    inner = max(max(part[1:-1], default=0.0) for part in shares.values())
    highest = {end: max(part[end] for part in pixels.values()) for end in ("black", "white")}
    top = inner * 1.15 if inner and max(highest.values()) > 2 * inner else None
    off = " and ".join(end for end, most in highest.items() if top and most > top)
    svg = plots.curves(shares, "grey of a pixel", "pixels", top, "Lines: pixel intensity histogram, per split.")
    ends = "; ".join(f"{split} {part['black']:.1%} black, {part['white']:.1%} white" for split, part in pixels.items())
    caption = f"Share of pixels by grey, 64 bins.{f' Off the scale: {off}.' if off else ''} End bins: {ends}."
    return _drawing("Pixel histogram", svg, caption.replace("%", " %"), list(shares))
