"""The worst of each image check: which samples fail it or come nearest to failing, and how all of them lie.

Every check is a number per sample, from columns of the sample table; a check whose columns are not there was not made.
The thresholds are those of the images gate, so nothing here decides what is bad: it orders.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.quality.facts import Images
from tasks.quality.tiles import Tile, thumbnail
from tasks.quality.wording import measured

Floats = npt.NDArray[np.float64]

SHOWN = 8
"""Samples of each check that are shown."""


@dataclass(frozen=True)
class Check:
    """One image check, worst first."""

    name: str
    title: str
    sentence: str
    columns: tuple[str, ...]
    value: Callable[[pd.DataFrame], Floats]
    """The number of every sample, NaN where it is not known."""
    worst: Literal["lowest", "highest"]
    unit: Literal["share", "degrees", "flag", "regions"]
    codes: tuple[str, ...] = ()
    """The expectations of the images gate that judge it."""
    only_found: bool = False
    """Whether nought is fine, so that only samples above it are worth a look."""


def _column(samples: pd.DataFrame, name: str) -> Floats:
    return pd.to_numeric(samples[name], errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _grey(name: str) -> Callable[[pd.DataFrame], Floats]:
    """Grey levels as a share of the full range, 0–1."""
    return lambda samples: _column(samples, name) / (2.0 ** _column(samples, "bit_depth") - 1)


def _as_is(name: str) -> Callable[[pd.DataFrame], Floats]:
    return lambda samples: _column(samples, name)


def _widest_border(samples: pd.DataFrame) -> Floats:
    """The widest uniform border as a share of the side that it lies across."""
    down = np.fmax(_column(samples, "border_top"), _column(samples, "border_bottom")) / _column(
        samples, "source_height"
    )
    across = np.fmax(_column(samples, "border_left"), _column(samples, "border_right")) / _column(
        samples, "source_width"
    )
    return np.fmax(down, across)


CHECKS: tuple[Check, ...] = (
    Check(
        "darkest",
        "Darkest",
        "Mean grey, from black (0 %) to white (100 %).",
        ("intensity_mean", "bit_depth"),
        _grey("intensity_mean"),
        "lowest",
        "share",
        ("near-black", "blank-frame"),
    ),
    Check(
        "brightest",
        "Brightest",
        "Mean grey, from black (0 %) to white (100 %).",
        ("intensity_mean", "bit_depth"),
        _grey("intensity_mean"),
        "highest",
        "share",
        ("near-white",),
    ),
    Check(
        "contrast",
        "Lowest contrast",
        "The grey range between the darkest and the brightest hundredth of the pixels, as a share of the full range.",
        ("contrast",),
        _as_is("contrast"),
        "lowest",
        "share",
        ("low-contrast",),
    ),
    Check(
        "border",
        "Widest border",
        "Uniform border or padding, as a share of the side that it lies across.",
        ("border_top", "border_right", "border_bottom", "border_left", "source_width", "source_height"),
        _widest_border,
        "highest",
        "share",
        ("wide-border",),
        only_found=True,
    ),
    Check(
        "text",
        "Most burned-in text",
        "Lines that look like writing in the picture; a lone side marker (L, R) is none. It can be a name: look.",
        ("text_regions",),
        _as_is("text_regions"),
        "highest",
        "regions",
        ("burned-in-text",),
        only_found=True,
    ),
    Check(
        "inverted",
        "Looks inverted",
        "Its negative is more like the other images than it is itself.",
        ("looks_inverted",),
        _as_is("looks_inverted"),
        "highest",
        "flag",
        ("inverted",),
        only_found=True,
    ),
    Check(
        "turned",
        "Looks turned",
        "Turned back by this angle, anticlockwise, it would look like the other images.",
        ("looks_turned_degrees",),
        _as_is("looks_turned_degrees"),
        "highest",
        "degrees",
        ("wrong-orientation",),
        only_found=True,
    ),
)
"""In the order of the report."""


def made(samples: pd.DataFrame) -> list[Check]:
    """The checks that these samples have the columns of, with a value in at least one."""
    return [
        check
        for check in CHECKS
        if set(check.columns) <= set(samples) and len(samples) and np.isfinite(check.value(samples)).any()
    ]


def missing(samples: pd.DataFrame) -> list[str]:
    """Titles of the others."""
    names = {check.name for check in made(samples)}
    return [check.title for check in CHECKS if check.name not in names]


def describe(samples: pd.DataFrame) -> dict[str, Any]:
    """Name of every check that was made to samples with and without a value, found ones, and quantiles of the value.

    ``found`` counts values above nought of the checks where nought is fine, None of the others.
    """
    return {check.name: _describe(check, check.value(samples)) for check in made(samples)}


def _describe(check: Check, values: Floats) -> dict[str, Any]:
    known = values[np.isfinite(values)]
    points = zip(("p01", "median", "p99"), np.percentile(known, [1, 50, 99]), strict=True)
    return {
        "unit": check.unit,
        "known": len(known),
        "missing": len(values) - len(known),
        "found": int((known > 0).sum()) if check.only_found else None,
        **{name: float(point) for name, point in points},
    }


@dataclass(frozen=True)
class Worst:
    """The worst samples of one check; the words of a tile are its value."""

    check: Check
    tiles: Sequence[Tile]


def of_samples(samples: pd.DataFrame, images: Images) -> list[Worst]:
    """Every check that was made, with its worst samples; none where no image was decoded."""
    if not {"sample_id", "split", "image_sha256"} <= set(samples):
        return []
    chosen = {check: _worst(check, check.value(samples)) for check in made(samples)}
    names, splits = samples["sample_id"].to_numpy(), samples["split"].to_numpy()
    encoded = images(sorted({str(names[place]) for of in chosen.values() for place, _ in of}))
    return [
        Worst(check, [_tile(str(names[p]), str(splits[p]), measured(v, check.unit), encoded) for p, v in of])
        for check, of in chosen.items()
    ]


def _tile(name: str, split: str, value: str, encoded: Mapping[str, bytes]) -> Tile:
    return Tile(name=name, words=f"{value} · {split}", picture=thumbnail(encoded.get(name)))


def _worst(check: Check, values: Floats) -> list[tuple[int, float]]:
    """(position, value) of at most eight samples, worst first."""
    ranks = np.where(np.isfinite(values), values if check.worst == "lowest" else -values, np.inf)
    order = np.argsort(ranks, kind="stable")[:SHOWN]
    return [(int(p), float(values[p])) for p in order if np.isfinite(values[p]) and (values[p] or not check.only_found)]
