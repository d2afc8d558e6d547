"""Near-duplicates on the page: how many pairs of what kind, and the worst of them side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tasks.quality.facts import Images
from tasks.quality.tiles import thumbnail

PAIRS = 12
"""Pairs that are shown."""


@dataclass(frozen=True)
class Side:
    """One picture of a pair; ``picture`` is a data URI, or None where nothing could be decoded."""

    name: str
    split: str
    picture: str | None


@dataclass(frozen=True)
class Pair:
    """Two samples that are nearly the same picture, and how the one becomes the other, in words."""

    sides: tuple[Side, Side]
    similarity: float
    words: str
    crosses_splits: bool
    labels_agree: bool


def describe(pairs: pd.DataFrame | None) -> dict[str, int] | None:
    """Pairs in all, between labelled splits, and with different labels; samples in any. None where nobody looked."""
    if pairs is None:
        return None
    crosses, disagrees = pairs["crosses_splits"].astype(bool), ~pairs["labels_agree"].astype(bool)
    return {
        "pairs": len(pairs),
        "samples": int(pd.concat([pairs["sample_a"], pairs["sample_b"]]).nunique()),
        "across_labelled_splits": int(crosses.sum()),
        "with_different_labels": int(disagrees.sum()),
        "turned_or_mirrored": int((pairs["is_mirrored"].astype(bool) | (pairs["turned_degrees"].fillna(0) != 0)).sum()),
    }


def of_pairs(pairs: pd.DataFrame | None, images: Images) -> list[Pair]:
    """The first pairs of a table that has the worst first; a sample that is in many of them comes up once."""
    if pairs is None or pairs.empty:
        return []
    shown = _without_repeats(pairs)
    encoded = images(sorted({str(name) for column in ("sample_a", "sample_b") for name in shown[column]}))
    return [_pair({str(key): value for key, value in row.items()}, encoded) for row in shown.to_dict("records")]


def _without_repeats(pairs: pd.DataFrame) -> pd.DataFrame:
    """Up to twelve rows: one picture that is like a hundred others must not fill the sheet."""
    seen: set[Any] = set()
    chosen: list[int] = []
    for position, names in enumerate(pairs[["sample_a", "sample_b"]].itertuples(index=False, name=None)):
        if not seen & set(names):
            chosen.append(position)
            seen |= set(names)
        if len(chosen) == PAIRS:
            break
    return pairs.iloc[chosen]


def _pair(row: Mapping[str, Any], encoded: Mapping[str, bytes]) -> Pair:
    sides = tuple(
        Side(str(row[f"sample_{end}"]), str(row[f"split_{end}"]), thumbnail(encoded.get(str(row[f"sample_{end}"]))))
        for end in ("a", "b")
    )
    return Pair(
        sides=(sides[0], sides[1]),
        similarity=float(row["similarity"]),
        words=", ".join(_how(row)) or "as it is",
        crosses_splits=bool(row["crosses_splits"]),
        labels_agree=bool(row["labels_agree"]),
    )


def _how(row: Mapping[str, Any]) -> Sequence[str]:
    """What was done to the first picture to find the second."""
    degrees = row["turned_degrees"]
    is_turned = not pd.isna(degrees) and round(float(degrees)) % 360 != 0
    return [*(["mirrored"] if row["is_mirrored"] else []), *([f"turned by {float(degrees):.0f}°"] if is_turned else [])]
