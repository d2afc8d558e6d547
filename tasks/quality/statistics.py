"""What the samples of a release look like, in numbers: tables in, plain dictionaries out.

Everything is counted per split. A value is None where the columns it needs are not there (a gate stopped the flow
before images were decoded, or the publisher gave no ages). Nothing here draws, reads or writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks import boxes
from tasks.quality import extremes
from tasks.schema import Dataset

Floats = npt.NDArray[np.float64]

MEAN_BINS = 32
AGE_STEP_YEARS = 5
AGE_LAST_YEARS = 100
"""Lower edge of the last, open age bin."""
TARGET_BINS = 40
SIZE_GRID = 48
"""Sizes are rounded to at most this many steps a side where there are too many different ones to draw."""
UNASSIGNED = "unassigned"
UNKNOWN = "unknown"
GROUP_EDGES = (1, 2, 3, 6, 11, 21, 51)
"""Lower edges of the bins in which images per patient are counted."""


def describe(dataset: Dataset, samples: pd.DataFrame, histograms: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Every number the report draws or prints; split names in reading order."""
    parts = by_split(dataset, samples)
    return {
        "samples": len(samples),
        "splits": {name: _size_of(dataset, part) for name, part in parts.items()},
        "groups": group_sizes(dataset, samples),
        "labels": {name: label_counts(dataset, part) for name, part in parts.items()},
        "cooccurrence": cooccurrence(dataset, samples),
        "targets": {name: _targets(dataset, part) for name, part in parts.items()} if dataset.targets else None,
        "boxes": _boxes(dataset, parts),
        "age_years": ages(parts),
        "sex": _categories(parts, "sex"),
        "view": _categories(parts, "view"),
        "published_sizes": sizes(samples, "source_width", "source_height"),
        "output_sizes": sizes(samples, "width", "height"),
        "published_modes": _tally(samples, "source_mode"),
        "bit_depths": _tally(samples, "bit_depth"),
        "channels": _tally(samples, "channels"),
        "transforms": _tally(_without_shares(samples), "transform"),
        "mean_intensity": intensities(parts),
        "image_checks": extremes.describe(samples),
        "pixels": {name: pixels(histograms[name]) for name in parts if sum(histograms.get(name, ())) > 0} or None,
    }


def by_split(dataset: Dataset, samples: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The samples of each split; declared splits first, and those without a split last where there are any."""
    if "split" not in samples:
        return {UNASSIGNED: samples} if len(samples) else dict.fromkeys(dataset.splits, samples)
    split = split_names(samples)
    return {name: samples[split == name] for name in dict.fromkeys((*dataset.splits, *split_order(dataset, split)))}


def split_names(samples: pd.DataFrame) -> npt.NDArray[np.object_]:
    """The split of every sample, ``unassigned`` where it has none."""
    if "split" not in samples:
        return np.full(len(samples), UNASSIGNED, dtype=object)
    names: npt.NDArray[np.object_] = (
        samples["split"].astype(object).where(samples["split"].notna(), UNASSIGNED).to_numpy()
    )
    return names


def split_order(dataset: Dataset, names: npt.NDArray[np.object_]) -> list[str]:
    """The splits among these, declared ones first, the others by name."""
    found = set(pd.unique(names))
    return [*(name for name in dataset.splits if name in found), *sorted(found - set(dataset.splits))]


def label_counts(dataset: Dataset, part: pd.DataFrame) -> dict[str, Any]:
    """Per label the samples that have it, have it not, and of which it is not known."""
    values = label_values(dataset, part)
    present, absent = (values == 1).sum(axis=0), (values == 0).sum(axis=0)
    per_sample = np.bincount((values == 1).sum(axis=1)[~np.isnan(values).all(axis=1)], minlength=1)
    return {
        "counts": {
            name: {"present": int(p), "absent": int(a), "unknown": int(len(part) - p - a)}
            for name, p, a in zip(dataset.labels, present, absent, strict=True)
        },
        "labelled": int((~np.isnan(values)).any(axis=1).sum()) if dataset.labels else 0,
        "per_sample": [int(n) for n in per_sample] if dataset.labels else [],
    }


def cooccurrence(dataset: Dataset, samples: pd.DataFrame) -> list[list[int]] | None:
    """Labels × labels: samples that have both; on the diagonal those that have the one. None for exclusive labels."""
    if dataset.label_kind != "multiple" or len(dataset.labels) < 2:
        return None
    present = (label_values(dataset, samples) == 1).astype(np.float64)
    counts = present.T @ present
    return [[int(n) for n in row] for row in counts] if counts.any() else None


def group_sizes(dataset: Dataset, samples: pd.DataFrame) -> dict[str, Any] | None:
    """Images per patient (or per picture that they show): distinct ones, median, largest, and binned counts."""
    column = _group_column(dataset)
    if column not in samples or not samples[column].notna().any():
        return None
    sizes_of = samples[column].value_counts().to_numpy()
    bins = np.searchsorted(GROUP_EDGES, sizes_of, side="right") - 1
    return {
        "kind": dataset.group,
        "distinct": len(sizes_of),
        "median": float(np.median(sizes_of)),
        "largest": int(sizes_of.max()),
        "edges": list(GROUP_EDGES),
        "counts": [int(n) for n in np.bincount(bins, minlength=len(GROUP_EDGES))],
    }


def ages(parts: Mapping[str, pd.DataFrame]) -> dict[str, Any] | None:
    """Ages in years: per split the quartiles, and over all splits counts per sex in bins of five years."""
    parts = {name: part for name, part in parts.items() if "age_years" in part}
    if not any(part["age_years"].notna().any() for part in parts.values()):
        return None
    edges = np.append(np.arange(0, AGE_LAST_YEARS + 1, AGE_STEP_YEARS), np.inf)
    everyone = pd.concat([part.reindex(columns=["age_years", "sex"]) for part in parts.values()])
    sex = everyone["sex"].astype(object).where(everyone["sex"].notna(), UNKNOWN)
    years = floats(everyone["age_years"])
    return {
        "splits": {name: quantiles(floats(part["age_years"])) for name, part in parts.items()},
        "edges": [int(edge) for edge in edges[:-1]],
        "by_sex": {
            str(name): [int(n) for n in np.histogram(years[(sex == name).to_numpy()], edges)[0]]
            for name in sorted(sex.unique())
        },
    }


def sizes(samples: pd.DataFrame, width: str, height: str) -> dict[str, Any] | None:
    """Image sizes in pixels: the distinct ones, the commonest, and (width, height, samples) to draw."""
    if width not in samples or height not in samples:
        return None
    known = samples[[width, height]].dropna().astype("int64")
    if known.empty:
        return None
    tally = _tally_sizes(known.to_numpy())
    step = 1
    while len(cells := _tally_sizes(known.to_numpy() // step * step + step // 2)) > SIZE_GRID**2 // 8:
        step *= 2
    return {
        "distinct": len(tally),
        "commonest": tally[:8],
        "step_pixels": step,
        "cells": cells,
        "shortest_side": int(known.to_numpy().min()),
        "longest_side": int(known.to_numpy().max()),
    }


def intensities(parts: Mapping[str, pd.DataFrame]) -> dict[str, Any] | None:
    """Mean grey of every image as a share of the full range, 0–1: 32 bins and quantiles per split."""
    found = {}
    for name, part in parts.items():
        if not {"intensity_mean", "bit_depth"} <= set(part):
            return None
        mean = floats(part["intensity_mean"]) / (2.0 ** floats(part["bit_depth"]) - 1)
        if np.isfinite(mean).any():
            counts = np.histogram(mean[np.isfinite(mean)], MEAN_BINS, (0.0, 1.0))[0]
            found[name] = {"counts": [int(n) for n in counts], **quantiles(mean)}
    return found or None


def pixels(histogram: Sequence[int]) -> dict[str, Any]:
    """Shares of pixels per grey bin, and of the darkest and the brightest bin."""
    shares = np.asarray(histogram, dtype=np.float64) / sum(histogram)
    return {"shares": [round(float(s), 6) for s in shares], "black": float(shares[0]), "white": float(shares[-1])}


def describe_quarantine(quarantine: pd.DataFrame, examples: int) -> list[dict[str, Any]]:
    """Refused rows by reason, the commonest first: how many, at which stage, and the first ``examples`` in full."""
    if quarantine.empty:
        return []
    reasons = quarantine["reason"].astype(object).where(quarantine["reason"].notna(), UNKNOWN)
    found = [_refusal(str(reason), part, examples) for reason, part in quarantine.groupby(reasons, sort=True)]
    return sorted(found, key=lambda refusal: -refusal["rows"])


def _refusal(reason: str, part: pd.DataFrame, examples: int) -> dict[str, Any]:
    """Counts and examples of one reason; nulls become None."""
    first = part.head(examples).astype(object)
    return {
        "reason": reason,
        "rows": len(part),
        "members": int(part["member"].notna().sum()),
        "table_rows": int(part["row"].notna().sum()),
        "stages": sorted(str(stage) for stage in part["stage"].dropna().unique()),
        "examples": first.where(first.notna(), None).to_dict("records"),
    }


def _size_of(dataset: Dataset, part: pd.DataFrame) -> dict[str, Any]:
    """Samples, distinct groups and encoded bytes of one split."""
    column = _group_column(dataset)
    return {
        "samples": len(part),
        "groups": int(part[column].nunique()) if column in part else 0,
        "bytes": int(part["image_bytes"].sum()) if "image_bytes" in part else None,
        "shards": int(part["shard"].nunique()) if "shard" in part else None,
    }


def _group_column(dataset: Dataset) -> str:
    return "patient_id" if dataset.group == "patient" else "group_id"


def label_values(dataset: Dataset, part: pd.DataFrame) -> Floats:
    """Samples × labels: 1, 0, or NaN for unknown; a column that is not there is unknown."""
    values = np.full((len(part), len(dataset.labels)), np.nan)
    for index, name in enumerate(dataset.labels):
        if f"label.{name}" in part:
            values[:, index] = floats(part[f"label.{name}"])
    return values


def floats(column: pd.Series) -> Floats:
    """The column as float64, null as NaN."""
    return pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def quantiles(values: Floats) -> dict[str, Any]:
    """Known and missing values, and the 1, 25, 50, 75 and 99 percent points."""
    known = values[np.isfinite(values)]
    points = np.percentile(known, [1, 25, 50, 75, 99]) if len(known) else [None] * 5
    found = {
        name: None if point is None else float(point)
        for name, point in zip(("p01", "p25", "median", "p75", "p99"), points, strict=True)
    }
    return {"known": len(known), "missing": len(values) - len(known), **found}


def _targets(dataset: Dataset, part: pd.DataFrame) -> dict[str, Any]:
    """Quantiles of every regression target, in the declared unit."""
    columns = {name: f"target.{name}" for name in dataset.targets}
    return {name: quantiles(floats(part[column])) for name, column in columns.items() if column in part}


def _boxes(dataset: Dataset, parts: Mapping[str, pd.DataFrame]) -> dict[str, Any] | None:
    """Boxes and samples with boxes: in all, per split, and boxes per label and split."""
    if not any("boxes" in part for part in parts.values()):
        return None
    found = {name: boxes.one_per_row(part, "boxes") for name, part in parts.items() if "boxes" in part}
    splits = {name: {"samples": int(of["position"].nunique()), "boxes": len(of)} for name, of in found.items()}
    labels = boxes.labels_in_order(dataset, [label for of in found.values() for label in of["label"]])
    return {
        "samples": sum(split["samples"] for split in splits.values()),
        "boxes": sum(split["boxes"] for split in splits.values()),
        "splits": splits,
        "labels": {label: {name: int((of["label"] == label).sum()) for name, of in found.items()} for label in labels},
    }


def _categories(parts: Mapping[str, pd.DataFrame], column: str) -> dict[str, dict[str, int]] | None:
    """Per split the samples of each category, ``unknown`` for null; None where no sample has one."""
    if not any(column in part and part[column].notna().any() for part in parts.values()):
        return None
    return {name: _tally(part, column) or {} for name, part in parts.items()}


def _without_shares(samples: pd.DataFrame) -> pd.DataFrame:
    """Samples whose ``transform`` does not say how much of a frame a step concerned: that is another number each."""
    if "transform" not in samples:
        return samples
    return samples.assign(transform=samples["transform"].str.replace(r" \(\d+% of the frame\)", "", regex=True))


def _tally(samples: pd.DataFrame, column: str) -> dict[str, int] | None:
    """Value to samples, the commonest first."""
    if column not in samples or samples.empty:
        return None
    known = samples[column].dropna()
    found = {_word(value): int(n) for value, n in known.value_counts().items()}
    if len(known) < len(samples):
        found[UNKNOWN] = len(samples) - len(known)
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _word(value: Any) -> str:
    """A category as text; a whole number that nulls have made a float loses its ``.0``."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _tally_sizes(pairs: npt.NDArray[np.int64]) -> list[list[int]]:
    """(width, height, samples), the commonest first."""
    distinct, counts = np.unique(pairs, axis=0, return_counts=True)
    rows = [[int(w), int(h), int(n)] for (w, h), n in zip(distinct, counts, strict=True)]
    return sorted(rows, key=lambda row: (-row[2], row[0], row[1]))
