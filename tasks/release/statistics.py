"""Figures over the sample table, column by column, as a Croissant description and others show them."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tasks.schema import Dataset

Statistics = Mapping[str, Mapping[str, float]]
"""Column to figure to value: ``valid`` and ``invalid`` (rows with and without a value), ``mean``, ``deviation`` (of the
sample, n - 1), ``minimum``, ``maximum``."""

FACTS = ("age_years", "source_width", "source_height", "intensity_mean", "mask_area")
"""Columns of numbers that every dataset may have and that tell something of it."""

DIGITS = 6
"""Significant digits: what differs beyond them may be the order of a sum."""


def describe(samples: pd.DataFrame, dataset: Dataset) -> Statistics:
    """Figures of labels (the mean is the share that is present), targets, declared numbers and :data:`FACTS`.

    Of a restricted dataset no smallest and largest value: each of them is one person's.
    """
    numbers = [f"meta.{name}" for name, field in dataset.fields.items() if field.kind != "text"]
    labels = [f"label.{name}" for name in dataset.labels]
    targets = [f"target.{name}" for name in dataset.targets]
    wanted = [name for name in (*FACTS, *labels, *targets, *numbers) if name in samples]
    has_extremes = {name: not (name in labels or dataset.is_restricted) for name in wanted}
    return {name: _figures(samples[name], has_extremes=has_extremes[name]) for name in wanted}


def _figures(column: pd.Series, *, has_extremes: bool) -> dict[str, float]:
    values = pd.to_numeric(column, errors="coerce").dropna().astype("float64")
    figures: dict[str, float] = {"valid": len(values), "invalid": len(column) - len(values)}
    if len(values):
        figures["mean"] = _rounded(values.mean())
    if len(values) > 1:
        figures["deviation"] = _rounded(values.std())
    if len(values) and has_extremes:
        figures |= {"minimum": _rounded(values.min()), "maximum": _rounded(values.max())}
    return figures


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
