"""What a run's page tells beside metrics.json: files of the run's folder and of its release; each may be missing."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.files import read_frame, read_json
from tasks.learning.runs import Run
from tasks.schema import DataRefused
from tasks.storage import Location, read_bytes

if TYPE_CHECKING:
    import pandas as pd

ENVIRONMENT = [
    "architecture",
    "parameters",
    "initial_weights",
    "input",
    "precision",
    "device",
    "hardware",
    "torch",
    "packages",
    "threads",
    "epochs_run",
    "best_epoch",
    "stopped",
    "seconds",
    "images_per_second",
    "samples_seen",
]


@dataclass(frozen=True)
class Sides:
    """What lies on which side of the split, counted on the predictions."""

    groups: int
    shared: int
    """Groups (patients) that lie in more than one of the splits that the recipe names."""
    of_classes: Mapping[str, Mapping[str, Mapping[str, int]]]
    """Question to class to split to the number of groups that show it."""


@dataclass(frozen=True)
class Inputs:
    """None, or empty, is a file that the run does not have."""

    environment: Mapping[str, Any] | None = None
    """``environment.json``, every key there."""
    epochs: Sequence[Mapping[str, float | None]] = ()
    """``metrics.csv``, one per epoch."""
    explanations: Mapping[str, Any] = field(default_factory=dict)
    export: Mapping[str, Any] = field(default_factory=dict)
    manifest: Mapping[str, Any] | None = None
    """Of the release that the run was trained from."""
    sides: Sides | None = None


def read(run: Run) -> Inputs:
    """Everything that is there.

    Raises :class:`DataRefused` for a file that is there and cannot be read.
    """
    identity = run.about["identity"]
    release = run.folder.parent.parent / identity["dataset"] / "releases" / identity["release"]
    environment = _json(run.folder / "environment.json")
    return Inputs(
        environment={**dict.fromkeys(ENVIRONMENT), **environment} if environment else None,
        epochs=_epochs(run.folder / "metrics.csv"),
        explanations=_json(run.folder / "explanations" / "explanations.json") or {},
        export=_json(run.folder / "export" / "export.json") or {},
        manifest=_json(release / "manifest.json"),
        sides=_sides(run),
    )


def _json(path: Location) -> Any:
    try:
        return read_json(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise DataRefused(f"{path} is damaged: {error}; evaluate or export again") from error


def _epochs(path: Location) -> list[dict[str, float | None]]:
    """One row per epoch, whether the file has one line of it or several."""
    try:
        text = read_bytes(path).decode()
    except (FileNotFoundError, NotADirectoryError):
        return []
    merged: dict[float, dict[str, float | None]] = {}
    try:
        for line in csv.DictReader(io.StringIO(text)):
            row = {name: float(value) for name, value in line.items() if name and value not in ("", None)}
            merged.setdefault(row["epoch"], {}).update(row)
    except (ValueError, KeyError) as error:
        raise DataRefused(f"{path} is damaged: {error}; it has a column epoch, and numbers") from error
    names = sorted({name for row in merged.values() for name in row})
    return [{name: merged[epoch].get(name) for name in names} for epoch in sorted(merged)]


def _sides(run: Run) -> Sides | None:
    questions = [question for question in run.recipe.questions() if question.kind == "classes"]
    columns = ["group_id", "split", *(f"truth.{question.name}" for question in questions)]
    try:
        frame = read_frame(run.folder / "predictions.parquet", columns)
    except (FileNotFoundError, NotADirectoryError):
        return None
    named = frame[frame["split"].isin(run.recipe.splits.named)]
    splits_of = named.groupby("group_id")["split"].nunique()
    of_classes: dict[str, dict[str, dict[str, int]]] = {}
    for question in questions:
        truth = named[f"truth.{question.name}"]
        of_classes[question.name] = {name: _groups_by_split(named[truth == name]) for name in question.of}
    return Sides(len(splits_of), int((splits_of > 1).sum()), of_classes)


def _groups_by_split(rows: pd.DataFrame) -> dict[str, int]:
    return {str(split): int(groups.nunique()) for split, groups in rows.groupby("split")["group_id"]}
