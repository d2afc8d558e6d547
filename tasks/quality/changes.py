"""What a release brought beside the one before it: a page of its own, outside every digest.

The same raw release makes the same bytes, whichever release came before; so what came before cannot stand in the
report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tasks.files import write_bytes, write_json
from tasks.quality.page import template
from tasks.release.diff import CHANGES, Difference
from tasks.schema import Dataset
from tasks.sources.fetched import Fetched
from tasks.storage import Location

PAGE = "changes.html"
NAMED = 40
"""Names of each kind on the page; ``scanmill diff --list`` and ``raw/fetched.jsonl`` have all."""


@dataclass(frozen=True)
class Names:
    """Some of many names."""

    count: int
    shown: tuple[str, ...]


def build(
    folder: Location,
    dataset: Dataset,
    release: str,
    fetched: Fetched | None,
    before: str | None,
    difference: Difference | None,
    reuse: Mapping[str, Any],
) -> None:
    """Write ``folder/changes.html``.

    ``before`` is None for the first release of a lake, ``difference`` also where the two cannot be compared.
    """
    html = template("changes.html.jinja").render(
        dataset=dataset,
        release=release,
        fetched=fetched,
        before=before,
        files=_files(fetched, dataset),
        difference=difference,
        samples=_samples(difference),
        inputs=_inputs(difference),
        reuse=reuse,
    )
    write_bytes(folder / PAGE, html.encode("utf-8", "backslashreplace"))


def record(folder: Location, run: Mapping[str, Any], fetched: Fetched | None, before: str | None) -> None:
    """``run.json``: when, how fast, what was reused, what was fetched, and after which release."""
    write_json(folder / "run.json", {**run, "fetched": fetched and asdict(fetched), "after": before})


def _files(fetched: Fetched | None, dataset: Dataset) -> dict[str, Names]:
    """Fetched files by what happened to them; without names where the dataset's terms forbid showing single ones."""
    if fetched is None:
        return {}
    kinds = {"new": fetched.added, "changed": fetched.changed, "taken away": fetched.removed}
    kinds["left out"] = fetched.left_out
    return {kind: _names(paths, is_hidden=dataset.is_restricted) for kind, paths in kinds.items() if paths}


def _names(names: Sequence[str], *, is_hidden: bool = False) -> Names:
    return Names(len(names), () if is_hidden else tuple(names[:NAMED]))


def _samples(difference: Difference | None) -> dict[str, tuple[int, Mapping[str, int]]]:
    """Kind to number of samples, and where they are."""
    if difference is None:
        return {}
    kinds = ("added", "removed", "moved", *CHANGES, "refused", "restored")
    return {kind: (len(difference.findings[kind].ids), difference.findings[kind].counts) for kind in kinds}


def _inputs(difference: Difference | None) -> dict[str, Names]:
    if difference is None:
        return {}
    inputs = difference.inputs
    kinds = {"new": inputs.added, "other bytes": inputs.changed, "gone": inputs.removed, "the same": inputs.same}
    return {kind: _names(names) for kind, names in kinds.items()}
