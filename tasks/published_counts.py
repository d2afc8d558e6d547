"""What a complete copy must count up to: the publisher's numbers held against the rows that were read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any

import pandas as pd

from tasks.schema import Count, Dataset, PublishedCounts

COLUMN = "check.counts."
"""Prefix of the columns that hold the outcome, see :func:`with_counts`."""


def with_counts(entries: pd.DataFrame, dataset: Dataset) -> dict[str, pd.Series]:
    """For each of the dataset's published counts a column ``check.counts.<code>``: one text per count, the number that
    differs in words or empty, null below.

    A count belongs to no row. It is written to one because the gate judges rows, so that failing "rows" are numbers
    that differ. All is null where the copy is not complete.
    """
    rows = entries[entries["table"].notna()]
    return {f"{COLUMN}{counts.code}": _outcomes(rows, counts, entries.index) for counts in dataset.counts}


def _outcomes(rows: pd.DataFrame, published: PublishedCounts, index: pd.Index) -> pd.Series:
    outcomes = pd.Series(None, index=index, dtype=object)
    asked = set(chain.from_iterable(_columns(wanted) for wanted in published.counts))
    is_all_there = all(column in rows and rows[column].notna().any() for column in asked)
    if is_all_there and _differs(rows, published.complete) == "":
        words = [_differs(rows, wanted) for wanted in published.counts]
        outcomes.iloc[: len(words)] = words[: len(outcomes)]
    return outcomes


def _differs(rows: pd.DataFrame, wanted: Count) -> str:
    found = count(rows, wanted)
    is_right = abs(found - wanted.number) <= wanted.slack
    return "" if is_right else f"{wanted.what} {found:,} instead of {wanted.number:,}"


def _columns(wanted: Count) -> list[str]:
    return ["boxes"] if wanted.of == "boxes" else list(wanted.where)


def count(rows: pd.DataFrame, wanted: Count) -> int:
    """How many there are in entries that have a metadata row (see :func:`tasks.samples.join`)."""
    if wanted.of == "boxes":
        labels = pd.Series([box["label"] for boxes in rows["boxes"].dropna() for box in boxes], dtype=object)
        return int((labels == wanted.where["label"]).sum())
    # Of the columns no more than a counter looks at: copying all of them fifty times over took longer than counting.
    return COUNTERS[wanted.of](rows.loc[_holds(rows, wanted.where), list(COUNTED)])


def _holds(rows: pd.DataFrame, where: Mapping[str, Any]) -> pd.Series:
    holds = pd.Series(True, index=rows.index)
    for column, value in where.items():
        holds &= rows[column].eq(value).fillna(False).astype(bool)
    return holds


COUNTED = ("table", "row", "member", "group_id")
COUNTERS: Mapping[str, Callable[[pd.DataFrame], int]] = {
    "rows": lambda rows: len(rows.drop_duplicates(["table", "row"])),
    "images": lambda rows: int(rows["member"].notna().sum()),
    "patients": lambda rows: int(rows["group_id"].nunique()),
    "single patients": lambda rows: int((rows["group_id"].value_counts() == 1).sum()),
    "largest patient": lambda rows: int(rows["group_id"].value_counts().max()),
}
