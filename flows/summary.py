"""What the command line says: text and JSON from what lies in the lake, so that both tell the same."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flows.console import counts_text, size
from tasks.credentials import names, variable
from tasks.datasets import find
from tasks.files import read_json
from tasks.lake import Lake
from tasks.release import document_record
from tasks.release.verify import Verification
from tasks.schema import Accounting, Dataset, Outcome, Verdict
from tasks.sources.fetched import Fetched
from tasks.storage import Location

NAMED = 5
"""Fetched files that are named one by one."""
SHOWN = ("failed", "warned", "known", "tolerated")
"""Outcomes worth a line; what passed is counted."""


def catalogue_json(datasets: Mapping[str, Dataset]) -> str:
    """One line with name, title, samples, bytes, licence and home page of every dataset."""
    return json.dumps(
        [
            {
                "name": d.name,
                "title": d.title,
                "samples": d.samples,
                "licence": d.licence,
                "homepage": d.homepage,
                "sources": [{"name": s.name, "url": s.url, "bytes": s.size_bytes} for s in d.sources],
            }
            for d in datasets.values()
        ]
    )


def catalogue_text(datasets: Mapping[str, Dataset]) -> str:
    """A paragraph per dataset."""
    return "\n\n".join(
        f"{d.name}\n  {d.title}: {f'{d.samples:,} samples' if d.samples else 'size varies'}, "
        f"{len(d.labels)} labels, splits {', '.join(d.splits)} by {d.group}\n"
        f"  licence {d.licence}; home {d.homepage}\n"
        f"  {_how_to_get(d)}\n"
        f"  raw: {', '.join(s.name + (f' ({size(s.size_bytes)})' if s.size_bytes else '') for s in d.sources)}"
        for d in datasets.values()
    )


def _how_to_get(dataset: Dataset) -> str:
    """Whether ``prepare`` fetches it, and which secrets that takes; or where a person gets it."""
    needed = ", ".join(variable(name) for name in names(dataset))
    if dataset.remote is None:
        return f"get it at {dataset.sources[0].url} and give it with --raw"
    fetched = f"fetched from {dataset.remote.kind} ({dataset.remote.where}) where no --raw is given"
    return f"{fetched}; needs {needed}" if needed else fetched


def check_text(counts: Mapping[str, Any], verdict: Verdict) -> str:
    """What ``scanmill check`` found."""
    lines = [
        f"{counts['members']:,} members in {counts['archives']} archives, {counts['images']:,} images, "
        f"{counts['rows']:,} metadata rows",
        *(f"  {role:<14} {_table(table)}" for role, table in counts["tables"].items()),
        *_holdings(counts["holds"]),
        *_outcome_lines(verdict),
        f"metadata gate: {'passed' if verdict.passed else 'FAILED'}",
    ]
    return "\n".join(lines)


def _table(table: Mapping[str, str]) -> str:
    return table["name"] + (f" (form {table['form']})" if table["form"] else "")


def _holdings(holds: Mapping[str, Any]) -> list[str]:
    """What the tables hold, to be laid beside the publisher's numbers."""
    lines = [f"  {'rows':<14} {holds['rows']:,}"]
    if groups := holds["groups"]:
        largest = groups["largest"]
        lines[0] += f" of {groups['count']:,} groups; {groups['of_one']:,} have one, "
        lines[0] += f"{largest['group_id'] or 'the largest'} has {largest['rows']:,}"
    for name in ("sex", "view"):
        if holds[name]:
            lines.append(f"  {name:<14} {counts_text(holds[name])}")
    for name, split in holds["splits"].items():
        groups_text = f" of {split['groups']:,} groups" if split["groups"] else ""
        labels = {**{label: count for label, count in split["labels"].items() if count}, "none": split["none"]}
        lines.append(f"  {name:<14} {split['rows']:,}{groups_text}: {counts_text(labels)}")
    if boxes := holds["boxes"]:
        total = sum(boxes["boxes"].values())
        lines.append(f"  {'boxes':<14} {total:,} on {boxes['rows']:,} images: {counts_text(boxes['boxes'])}")
    return lines


def _outcome_lines(verdict: Verdict) -> list[str]:
    passed = sum(outcome.status == "passed" for outcome in verdict.outcomes)
    shown = [_outcome_line(outcome) for status in SHOWN for outcome in verdict.outcomes if outcome.status == status]
    left_out = [f"  unchecked  {not_checked(verdict.unchecked)}"] if verdict.unchecked else []
    return [*left_out, *shown, f"  passed     {passed} of {len(verdict.outcomes)} expectations"]


def not_checked(codes: Sequence[str]) -> str:
    """What a gate left out, and why."""
    return f"NOT CHECKED, as no image was decoded (--decode-check off): {', '.join(codes)}"


def _outcome_line(outcome: Outcome) -> str:
    count = f"{outcome.failed:,} of {outcome.checked:,}" if outcome.checked > 1 else outcome.observed
    declared = f", {outcome.known_rows:,} declared" if outcome.known_rows is not None else ""
    is_telling = outcome.checked > 1 and (outcome.status == "failed" or outcome.remedy)
    examples = f"\n{'':13}{outcome.observed}" if is_telling else ""
    return f"  {outcome.status:<10} {outcome.code}: {count}{declared}. {outcome.sentence}{examples}"


def release_json(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The machine-readable line of ``prepare``."""
    folder, manifest = _release(outcome)
    return {
        "ok": True,
        "dataset": manifest["dataset"],
        "release": outcome["release"],
        "is_new": outcome["is_new"],
        "folder": str(folder),
        "report": str(folder / "quality" / "index.html"),
        "splits": manifest["splits"],
        **_document_counts(folder, manifest),
        "accounting": manifest["accounting"],
        "gates": manifest["gates"],
        "unchecked": manifest.get("unchecked", []),
        "images_reused": outcome.get("reused"),
        "fetched": outcome.get("fetched"),
        "seconds": outcome["seconds"],
    }


def release_text(outcome: Mapping[str, Any]) -> str:
    """What a person reads after ``prepare``."""
    folder, manifest = _release(outcome)
    if not outcome["is_new"]:
        fetched = outcome.get("fetched")
        done = f"{Fetched(**fetched)} ({fetched['requests']} requests)\n" if fetched else ""
        done += f"nothing to do: release {outcome['release']} holds this already ({outcome['seconds']} s)"
        return f"{done}\n{_places(folder)}"
    counted = Accounting.from_json(manifest["accounting"])
    verdicts = [Verdict.from_json(v) for v in read_json(folder / "quality" / "report.json")["verdicts"]]
    lines = [
        f"published {manifest['dataset']}@{outcome['release']} in {outcome['seconds']} s",
        *(_fetched_lines(Fetched(**outcome["fetched"]), outcome["dataset"]) if outcome.get("fetched") else ()),
        *(
            f"  table      {_table(table)}"
            for table in manifest["parameters"].get("tables", {}).values()
            if table["form"]
        ),
        f"  found      {_found(counted)}",
        *(f"{'':13}{count:,} × {reason}" for reason, count in sorted(counted.reasons.items())),
        *(
            f"  rows       {t.table}: {t.found:,} = {t.written:,} written + {t.quarantined:,} quarantined"
            for t in counted.tables
        ),
        *(_document_lines(folder, manifest) if "documents" in manifest else _sample_lines(outcome, manifest)),
    ]
    for verdict in verdicts:
        lines += [
            f"{verdict.gate} gate: {'passed' if verdict.passed else 'FAILED (allowed)'}",
            *_outcome_lines(verdict),
        ]
    return "\n".join([*lines, _places(folder)])


def _sample_lines(outcome: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[str]:
    in_order = [name for name in find(manifest["dataset"]).splits if name in manifest["splits"]]
    splits = " · ".join(f"{name} {manifest['splits'][name]['samples']:,}" for name in in_order)
    yield f"  splits     {splits}"
    yield f"  labels     {_labels(manifest['splits'])}"
    yield (
        f"  shards     {len(manifest['shards'])}, {size(_bytes_of(manifest))} with everything; {outcome['linked']} "
        f"shared with an earlier release"
    )
    yield f"  reused     {outcome['reused']:,} of {outcome['images']:,} converted images, from an earlier run"


def _document_lines(folder: Location, manifest: Mapping[str, Any]) -> Iterator[str]:
    for name, count in _document_counts(folder, manifest).items():
        yield f"  {name:<10} {count:,}"
    yield f"  files      {len(manifest['files']):,}, {size(_bytes_of(manifest))} with everything"


def _document_counts(folder: Location, manifest: Mapping[str, Any]) -> dict[str, int]:
    """How many documents, tables and figures a document release has; nothing of another one."""
    if "documents" not in manifest:
        return {}
    documents = document_record.read(folder)
    tables, figures = (sum(len(document[part]) for document in documents) for part in ("tables", "figures"))
    return {"documents": len(documents), "tables": tables, "figures": figures}


def _bytes_of(manifest: Mapping[str, Any]) -> int:
    return sum(entry["bytes"] for entry in [*manifest["shards"], *manifest["files"]])


def fetched_text(fetched: Fetched, dataset: str) -> str:
    """What a person reads after ``fetch``."""
    return "\n".join([str(fetched), *_fetched_lines(fetched, dataset)[1:], f"raw:       {fetched.folder}"])


def _fetched_lines(fetched: Fetched, dataset: str) -> list[str]:
    """The source and what came from it; a few names, where the dataset's terms allow to show any."""
    named = 0 if find(dataset).is_restricted else NAMED
    lines = [f"  fetched    {fetched}; {size(fetched.size_bytes)} in {fetched.requests:,} requests"]
    for word, paths in {"new": fetched.added, "changed": fetched.changed, "taken away": fetched.removed}.items():
        lines += [f"{'':13}{word}: {path}" for path in paths[:named]]
        lines += [f"{'':13}and {len(paths) - named:,} more {word}"] if len(paths) > named > 0 else []
    return lines + [f"{'':13}left out: {words}" for words in fetched.left_out]


def verified_text(found: Verification) -> str:
    """What a release that is whole holds, and what of it agrees."""
    if found.documents is None:
        left_out = f"\n{not_checked(found.unchecked)}" if found.unchecked else ""
        return f"{found.samples:,} samples; checksums, accounting, splits and pointer agree{left_out}"
    noun = "document" if found.documents == 1 else "documents"
    return f"{found.documents:,} {noun}; checksums, accounting, captions and pointer agree"


def _found(counted: Accounting) -> str:
    ignored = ", ".join(f"{count} {reason}" for reason, count in sorted(counted.ignored.items()))
    return (
        f"{counted.members:,} archive members = {counted.written:,} written + {counted.quarantined:,} quarantined + "
        f"{sum(counted.ignored.values()):,} ignored ({ignored or 'none'})"
    )


def _labels(splits: Mapping[str, Any]) -> str:
    """Positive samples per label, over all splits."""
    totals: dict[str, int] = {}
    for split in splits.values():
        for label, counts in split["labels"].items():
            totals[label] = totals.get(label, 0) + counts["present"]
    return " · ".join(f"{label} {count:,}" for label, count in totals.items())


def _places(folder: Location) -> str:
    return f"release: {folder}\nreport:  {folder / 'quality' / 'index.html'}"


def _release(outcome: Mapping[str, Any]) -> tuple[Location, dict[str, Any]]:
    folder = Lake(outcome["lake"], outcome["dataset"]).release(outcome["release"])
    return folder, read_json(folder / "manifest.json")
