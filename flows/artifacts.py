"""What a run leaves to look at in Prefect, made of what lies in the lake: link, accounting, verdict, what was new.

Counts and sentences only. Refused members and rows are named in the lake's quarantine, and not in Prefect's database;
of a dataset whose terms forbid showing single rows no file name goes there either.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prefect.client.schemas.actions import ArtifactCreate

from flows.console import size
from tasks.datasets import find
from tasks.files import read_json
from tasks.lake import Lake
from tasks.progress import Progress
from tasks.quality.drift import Shift, largest
from tasks.schema import Accounting, Outcome, Status, Verdict
from tasks.sources.fetched import Fetched
from tasks.storage import Location

LAKE_URL = "SCANMILL_LAKE_URL"
"""Environment variable: where a web server shows the lake. Browsers follow no ``file://`` link out of Prefect's UI."""
NAMED = 40
"""Fetched files of each kind that are named; ``raw/fetched.jsonl`` has all."""
HARMLESS = ("distinct_pixel_contents", "groups")
"""Findings that are counts and no trouble."""
ORDER: tuple[Status, ...] = ("failed", "unchecked", "warned", "known", "tolerated", "passed")


def outcome(lake: Lake, release: str) -> list[ArtifactCreate]:
    """Link, accounting and verdict of a release, published or refused by a gate; nothing where there is neither."""
    for folder in (lake.refused(release), lake.release(release)):
        if (folder / "quality" / "report.json").exists():
            return _outcome(lake, release, folder)
    return []


def _outcome(lake: Lake, release: str, folder: Location) -> list[ArtifactCreate]:
    report = read_json(folder / "quality" / "report.json")
    verdicts = [Verdict.from_json(verdict) for verdict in report["verdicts"]]
    words = "published" if report["published"] else "refused by a gate; nothing was published"
    title = f"{lake.dataset}@{release}: {words}"
    found = [_link(lake, title, folder / "quality" / "index.html", report), _gates(lake, title, verdicts)]
    if report["accounting"]:
        found.append(_accounting(lake, title, Accounting.from_json(report["accounting"])))
    return found


def _link(lake: Lake, title: str, page: Location, report: Mapping[str, Any]) -> ArtifactCreate:
    lines = [f"[{title}]({address(lake, page)})", "", *(f"* {_plain(line)}" for line in _essentials(report))]
    return ArtifactCreate(
        key=f"{lake.dataset}-report",
        type="markdown",
        description=f"The data-quality report of {title}. It lies at {page}",
        data="\n".join(lines),
    )


def _essentials(report: Mapping[str, Any]) -> Iterator[str]:
    """The report in a few lines: what the gates said, what was kept, what leaks, what differs most."""
    outcomes = [outcome for verdict in report["verdicts"] for outcome in verdict["outcomes"]]
    for status in ORDER:
        if codes := [outcome["code"] for outcome in outcomes if outcome["status"] == status]:
            yield f"{len(codes)} {status}" + (f": {', '.join(codes)}" if status != "passed" else "")
    if counted := report["accounting"]:
        yield (
            f"kept {counted['written']:,} of {counted['members']:,} archive members, "
            f"refused {counted['quarantined']:,}, no data {sum(counted['ignored'].values()):,}"
        )
    if "findings" in report:
        yield from _leaks(report)
        shifts = largest([Shift(**shift) for shift in report["drift"]], 1)
        yield f"largest drift between splits: {shifts[0].sentence}" if shifts else "no sure drift between splits"


def _leaks(report: Mapping[str, Any]) -> Iterator[str]:
    near = report["near_duplicates"]
    found = {name: finding for name, finding in report["findings"].items() if name not in HARMLESS and finding["value"]}
    yield from (f"duplicates and leakage: {finding['value']:,} {finding['sentence']}" for finding in found.values())
    if near and near["across_labelled_splits"]:
        yield f"duplicates and leakage: {near['across_labelled_splits']:,} near-duplicate pairs across labelled splits"
    elif not found:
        yield "no duplicates or leakage found" + ("" if near else "; near-duplicates were not looked for")


def address(lake: Lake, place: Location) -> str:
    """A URL of something in the lake: where a web server shows it, if there is one; else ``file://`` or ``s3://``."""
    if base := os.environ.get(LAKE_URL):
        return f"{base.rstrip('/')}/{lake.dataset}/{place.relative_to(lake.home).as_posix()}"  # type: ignore[arg-type]
    return str(place.resolve().as_uri())


def _accounting(lake: Lake, title: str, counted: Accounting) -> ArtifactCreate:
    return ArtifactCreate(
        key=f"{lake.dataset}-accounting",
        type="table",
        description=f"Where everything went that was found: {title}. The parts of each sum stand below it.",
        data=json.dumps([*_members(counted), *_rows(counted), *_reasons(counted)]),
    )


def _members(counted: Accounting) -> Iterator[dict[str, Any]]:
    yield _line("archive members", "found", "", counted.members)
    yield _line("archive members", "written", "", counted.written)
    yield _line("archive members", "quarantined", "", counted.quarantined)
    for reason, count in sorted(counted.ignored.items()):
        yield _line("archive members", "ignored", reason, count)


def _rows(counted: Accounting) -> Iterator[dict[str, Any]]:
    for table in counted.tables:
        yield _line(f"rows of {table.table}", "found", "", table.found)
        yield _line(f"rows of {table.table}", "written", "", table.written)
        yield _line(f"rows of {table.table}", "quarantined", "", table.quarantined)


def _reasons(counted: Accounting) -> Iterator[dict[str, Any]]:
    """Why: a line of the quarantine can stand for a member, for a row, or for both."""
    yield _line("quarantine lines", "found", "", sum(counted.reasons.values()))
    for reason, count in sorted(counted.reasons.items()):
        yield _line("quarantine lines", "quarantined", reason, count)


def _line(what: str, became: str, reason: str, count: int) -> dict[str, Any]:
    return {"what": what, "became": became, "reason": reason, "count": count}


def _gates(lake: Lake, title: str, verdicts: Sequence[Verdict]) -> ArtifactCreate:
    lines = [f"# {title}", ""]
    for verdict in verdicts:
        lines += [f"## {verdict.gate} gate: {'passed' if verdict.passed else 'FAILED'}", ""]
        lines += ["| outcome | expectation | failed | allowed | what must hold |", "|---|---|---|---|---|"]
        lines += [_expectation(outcome) for outcome in sorted(verdict.outcomes, key=_rank)]
        lines.append("")
    return ArtifactCreate(
        key=f"{lake.dataset}-gates",
        type="markdown",
        description=f"What the gates said of {title}",
        data="\n".join(lines),
    )


def _rank(outcome: Outcome) -> int:
    return ORDER.index(outcome.status)


def _expectation(outcome: Outcome) -> str:
    counts = f"{outcome.failed:,} of {outcome.checked:,}" if outcome.checked > 1 else _plain(outcome.observed)
    allowed = f"{outcome.tolerance:.1%}" if outcome.tolerance else "none"
    words = [outcome.sentence]
    if outcome.status != "passed":
        words += [outcome.observed if outcome.checked > 1 else "", outcome.remedy]
    return f"| {outcome.status} | {outcome.code} | {counts} | {allowed} | {_plain(' · '.join(filter(None, words)))} |"


def _plain(text: str) -> str:
    """A publisher's words in one cell of a Markdown table, and as words."""
    for sign in "\\`*_[]<>|":
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())


def source(lake: Lake, fetched: Fetched) -> ArtifactCreate:
    """What a look at the publisher's brought."""
    lines = [f"# {_plain(str(fetched))}", ""]
    lines.append(f"{size(fetched.size_bytes)} in {fetched.requests:,} requests; {fetched.unchanged:,} files as before.")
    kinds = {"New": fetched.added, "Changed": fetched.changed, "Taken away": fetched.removed}
    named = 0 if find(lake.dataset).is_restricted else NAMED
    for kind, paths in ({**kinds, "Left out": fetched.left_out}).items():
        lines += _files(kind, paths, named)
    return ArtifactCreate(
        key=f"{lake.dataset}-source",
        type="markdown",
        description=f"What was new at the source of {lake.dataset}",
        data="\n".join(lines),
    )


def _files(kind: str, paths: Sequence[str], named: int) -> list[str]:
    if not paths:
        return []
    lines = ["", f"## {kind}: {len(paths):,}", "", *(f"* {_plain(path)}" for path in paths[:named])]
    return [*lines, f"* and {len(paths) - named:,} more"] if len(paths) > named > 0 else lines


def progress(dataset: str, now: Progress) -> ArtifactCreate:
    """How far a long stage is."""
    return ArtifactCreate(
        key=f"{dataset}-{now.stage}",
        type="progress",
        description=str(now),
        data=100.0 if now.done >= now.total else round(100.0 * now.done / now.total, 1),
    )
