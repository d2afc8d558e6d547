"""What metadata tables hold, in the numbers that publishers print: rows, patients, labels per split, boxes."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tasks import boxes
from tasks.schema import Dataset

OFFICIAL_SPLIT = "meta.official_split"
"""Field of a dataset that keeps the publisher's split where ours is a finer one."""


def count_rows(rows: pd.DataFrame, dataset: Dataset) -> dict[str, Any]:
    """Counts over all rows of :class:`tasks.schema.Parsed`, before any is refused.

    ``rows``; ``groups``: how many, how many have one row, the largest (named only where the dataset's terms allow);
    ``sex`` and ``view``: value to rows; ``splits``: published split to rows, groups and rows per label (``none``: rows
    with no label); ``boxes``: label to boxes, and rows that have any; ``distinct``: published column to number of
    different texts.
    """
    by = OFFICIAL_SPLIT if OFFICIAL_SPLIT in rows else "split"
    splits = rows[by].fillna("none") if by in rows else pd.Series("none", index=rows.index)
    return {
        "rows": len(rows),
        "groups": _groups(rows, is_named=not dataset.is_restricted),
        "sex": _values(rows, "sex"),
        "view": _values(rows, "view"),
        "splits": {str(name): _split(rows[splits == name], dataset) for name in sorted(splits.unique())},
        "boxes": _boxes(rows),
        "distinct": {
            column.removeprefix("meta."): int(rows[column].nunique())
            for column in rows.columns
            if column.startswith("meta.") and column.removeprefix("meta.") not in dataset.fields
        },
    }


def _groups(rows: pd.DataFrame, *, is_named: bool) -> dict[str, Any] | None:
    if "group_id" not in rows or rows["group_id"].isna().all():
        return None
    sizes = rows["group_id"].value_counts().sort_index()
    largest = str(sizes.idxmax())
    return {
        "count": len(sizes),
        "of_one": int((sizes == 1).sum()),
        "largest": {"group_id": largest if is_named else None, "rows": int(sizes.max())},
    }


def _values(rows: pd.DataFrame, column: str) -> dict[str, int]:
    if column not in rows:
        return {}
    return {str(value): int(count) for value, count in rows[column].value_counts().sort_index().items()}


def _split(part: pd.DataFrame, dataset: Dataset) -> dict[str, Any]:
    labels = part[[f"label.{name}" for name in dataset.labels]].eq(1).fillna(False)
    is_known = part[labels.columns].notna().any(axis=1)
    return {
        "rows": len(part),
        "groups": int(part["group_id"].nunique()) if "group_id" in part else None,
        "labels": {name: int(labels[f"label.{name}"].sum()) for name in dataset.labels},
        "none": int((is_known & ~labels.any(axis=1)).sum()),
    }


def _boxes(rows: pd.DataFrame) -> dict[str, Any] | None:
    if "boxes" not in rows or rows["boxes"].isna().all():
        return None
    return {"rows": int(rows["boxes"].notna().sum()), "boxes": _values(boxes.one_per_row(rows, "boxes"), "label")}
