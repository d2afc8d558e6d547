"""Small pictures for the report: some samples of every class in every split, and some of what was refused.

The choice is spread evenly over the sample order, so the same release always shows the same pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.quality import statistics
from tasks.quality.facts import Images, Refused
from tasks.quality.tiles import Tile, thumbnail
from tasks.schema import Dataset

TILES = 24
"""Most tiles of one sheet."""
SHEET_TILES = 144
"""Tiles of all classes and splits together, more or less: at 7 kB each they are 1 MB of the page."""
FEWEST = 2
"""Tiles of every class in every split, where there are so many samples."""
NO_LABEL, NONE_OF_THEM = "no label", "none of the labels"
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ClassPart:
    """What one split shows of one class; ``samples`` is how many it has of it."""

    split: str
    samples: int
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class ClassSheet:
    """One class with some samples of every split; of a labelled one also where it has none of the class."""

    name: str
    parts: Sequence[ClassPart]


def of_samples(
    dataset: Dataset, samples: pd.DataFrame, images: Images, masks: Images | None = None
) -> list[ClassSheet]:
    """Samples by class and split, no sample twice unless a class has no other; where there are masks, outlined.

    A sample with several labels may stand for any of them. Those without one come last, as classes of their own.
    """
    if "image_sha256" not in samples or "sample_id" not in samples:
        return []
    cells = _cells(dataset, samples)
    chosen = _choose(cells)
    positions = sorted({position for part in chosen.values() for position in part})
    if not positions:
        return []
    shown = samples.iloc[positions]
    ids = [str(sample) for sample in shown["sample_id"]]
    encoded, outlines = images(ids), masks(ids) if masks is not None else {}
    tiles = {
        position: _sample_tile(dataset, row, encoded, outlines)
        for position, row in zip(positions, _records(shown), strict=True)
    }
    parts: dict[str, list[ClassPart]] = {name: [] for name, _ in chosen}
    for (name, split), shown_of in chosen.items():
        parts[name].append(ClassPart(split, len(cells[name, split]), [tiles[position] for position in shown_of]))
    labelled = np.array([split for name, split in cells if name != NO_LABEL], dtype=object)
    order = statistics.split_order(dataset, labelled)
    for name in parts.keys() - {NO_LABEL}:
        there = {part.split: part for part in parts[name]}
        parts[name] = [there.get(split, ClassPart(split, 0, ())) for split in order]
    return [ClassSheet(name, of) for name, of in parts.items()]


def _cells(dataset: Dataset, samples: pd.DataFrame) -> dict[tuple[str, str], Positions]:
    """(class, split) to the positions of its samples, in declared order; empty ones are left out."""
    splits = statistics.split_names(samples)
    values = statistics.label_values(dataset, samples)
    is_labelled = ~np.isnan(values).all(axis=1)
    classes = {name: values[:, index] == 1 for index, name in enumerate(dataset.labels)}
    if dataset.labels:
        classes[NONE_OF_THEM] = is_labelled & ~(values == 1).any(axis=1)
    classes[NO_LABEL] = ~is_labelled
    order = statistics.split_order(dataset, splits)
    cells = {(name, split): np.flatnonzero(has & (splits == split)) for name, has in classes.items() for split in order}
    return {cell: positions for cell, positions in cells.items() if len(positions)}


def _choose(cells: Mapping[tuple[str, str], Positions]) -> dict[tuple[str, str], list[int]]:
    """Positions to show of every cell; the rarest choose first, so that a rare class is not shown by leftovers."""
    each = min(TILES, max(FEWEST, SHEET_TILES // max(len(cells), 1)))
    taken: set[int] = set()
    chosen: dict[tuple[str, str], list[int]] = {}
    for cell in sorted(cells, key=lambda cell: len(cells[cell])):
        free = cells[cell][~np.isin(cells[cell], list(taken))]
        of = free if len(free) >= min(each, len(cells[cell])) else cells[cell]
        chosen[cell] = [int(of[place]) for place in spread(len(of), each)]
        taken.update(chosen[cell])
    return {cell: chosen[cell] for cell in cells}


def of_quarantine(quarantine: pd.DataFrame, refused: Refused) -> list[Tile]:
    """Up to 24 refused archive members, every reason in turn; metadata rows have no picture and are left out."""
    members = quarantine[quarantine["archive"].notna() & quarantine["member"].notna()]
    if members.empty:
        return []
    rows = _records(members.loc[_in_turn(members)])
    keys = [_key(row) for row in rows]
    originals = refused([key for key in keys if key is not None])
    return [
        Tile(
            name=str(row["member"]).rsplit("/", 1)[-1],
            words=str(row["reason"]),
            picture=thumbnail(originals.get(key) if key else None),
            location=f"{row['archive']}/{row['member']}",
        )
        for row, key in zip(rows, keys, strict=True)
    ]


def spread(length: int, count: int) -> list[int]:
    """At most ``count`` positions, evenly over ``range(length)``, first and last among them."""
    return sorted({int(p) for p in np.linspace(0, length - 1, min(length, count)).round()}) if length else []


def _sample_tile(
    dataset: Dataset, row: dict[str, Any], encoded: Mapping[str, bytes], masks: Mapping[str, bytes]
) -> Tile:
    """The tile of one written sample; its words are the labels it has."""
    values = {name: row.get(f"label.{name}") for name in dataset.labels}
    present = [name for name, value in values.items() if not pd.isna(value) and value == 1]
    is_labelled = any(not pd.isna(value) for value in values.values())
    words = ", ".join(present) or (NONE_OF_THEM if is_labelled else NO_LABEL)
    sample = str(row["sample_id"])
    return Tile(name=sample, words=words, picture=thumbnail(encoded.get(sample), mask=masks.get(sample)))


def _in_turn(members: pd.DataFrame) -> list[Any]:
    """Index labels of up to 24 members: the first of every reason, then the second, and so on."""
    turn = pd.DataFrame({"reason": members["reason"].astype(str), "turn": 0}, index=members.index)
    turn["turn"] = turn.groupby("reason").cumcount()
    chosen = turn.sort_values(["turn", "reason"], kind="stable").head(TILES)
    return list(chosen.sort_values(["reason", "turn"], kind="stable").index)


def _key(row: dict[str, Any]) -> tuple[str, str, int] | None:
    """Where the bytes of a refused member lie; None where the offset is not known."""
    if pd.isna(row["offset"]):
        return None
    return str(row["archive"]), str(row["member"]), int(row["offset"])


def _records(part: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries with text keys."""
    return [{str(key): value for key, value in row.items()} for row in part.to_dict("records")]
