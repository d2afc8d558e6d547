"""What training and evaluation leave to look at in Prefect: link, scores, summary; all made of what lies in the run.

Aggregates only: no sample and no patient is named in Prefect's database.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prefect.client.schemas.actions import ArtifactCreate

from flows.artifacts import address
from flows.run_logs import noticeboard_of_run
from tasks.files import read_json
from tasks.lake import Lake
from tasks.learning.runs import Run, find_run

Show = Callable[[Callable[[], Sequence[ArtifactCreate]]], None]


@contextlib.contextmanager
def shown_in_prefect(dataset: str) -> Iterator[Show]:
    """For the block: logs and progress reach the flow run that it is in, and so do the artifacts handed over."""
    with noticeboard_of_run(dataset) as board:
        yield lambda make: board.show("the run", make) if board else None


def training_artifacts(lake: str, outcome: Mapping[str, Any]) -> list[ArtifactCreate]:
    """What was trained from what, and the first scores; the report comes with the evaluation."""
    run = find_run(lake, outcome["run"])
    is_new = "trained now" if outcome["is_new"] else "was there already"
    text = (
        f"# {run.name}\n\n{is_new}, from `{outcome['dataset']}@{outcome['release']}` by recipe "
        f"`{outcome['recipe']}`\n\n```yaml\n{run.recipe.as_yaml().decode()}```\n"
    )
    what = f"Run {run.name}, not evaluated yet"
    return [_artifact(run, "training", "markdown", what, text), _scores(run)]


def evaluation_artifacts(lake: str, outcome: Mapping[str, Any]) -> list[ArtifactCreate]:
    """The link to the report, the table of scores, and the model card as a summary."""
    run = find_run(lake, outcome["run"])
    link = f"[evaluation of {run.name}]({address(Lake(lake, 'runs'), run.report)})"
    card = (run.folder / "README.md").read_bytes().decode().split("---\n", 2)[-1]
    return [
        _artifact(run, "report", "markdown", f"The report of run {run.name}. It lies at {run.report}", link),
        _scores(run),
        _artifact(run, "summary", "markdown", f"What run {run.name} is worth", card),
    ]


def _scores(run: Run) -> ArtifactCreate:
    rows = [row for split, own in read_json(run.folder / "metrics.json")["splits"].items() for row in _rows(split, own)]
    return _artifact(run, "scores", "table", f"Scores of run {run.name}", json.dumps(rows))


def _rows(split: str, scored: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name, own in scored["labels"].items():
        yield _row(split, name, own, "auroc") | _also(own, "auprc", "brier")
    for question, classes in scored["classes"].items():
        for name, own in classes["classes"].items():
            yield _row(split, f"{question}: {name}", own, "auroc") | _also(own, "auprc", "brier")
    for name, own in scored["targets"].items():
        yield _row(split, name, own, "r2") | _also(own, "mae")


def _row(split: str, name: str, own: Mapping[str, Any], metric: str) -> dict[str, Any]:
    found = own[metric]
    shuffled = found.get("shuffled")
    return {
        "split": split,
        "question": name,
        "samples": own["samples"],
        "present": own.get("positives", ""),
        "metric": metric,
        "value": _short(found["value"]) or own["reason"],
        "low": _short(found["low"]),
        "high": _short(found["high"]),
        "shuffled": _short(shuffled["mean"]) if shuffled else "",
    }


def _also(own: Mapping[str, Any], *metrics: str) -> dict[str, Any]:
    return {metric: _short(own[metric]["value"]) for metric in metrics}


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _artifact(run: Run, what: str, kind: str, description: str, data: str) -> ArtifactCreate:
    """Keyed by recipe, so that Prefect shows how one recipe fares from release to release."""
    name = re.sub(r"[^a-z0-9]+", "-", run.recipe.name.lower()).strip("-")
    return ArtifactCreate(key=f"{name}-{what}", type=kind, description=description, data=data)
