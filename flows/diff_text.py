"""What ``scanmill diff`` says: a summary for people, a table for other tools, and one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from flows.console import counts_text, size
from tasks.datasets import catalogue
from tasks.quality import drift
from tasks.quality.drift import Shift
from tasks.release.diff import CHANGES, KINDS, Difference, Finding, Inputs, Kind, Setting

EXAMPLES = 5
JSON_IDS = 1000
"""Ids of each kind in the JSON; the counts are whole, and ``--list`` gives all."""
DETAIL_WIDTH = 100
VALUE_WIDTH = 32
_INDENT = f"{'':13}"


def as_text(difference: Difference) -> str:
    """What a person reads: at most five examples of each kind."""
    return "\n".join([f"{difference.dataset}: {difference.before} → {difference.after}", *_lines(difference)])


def _lines(difference: Difference) -> Iterator[str]:
    found = difference.findings
    order = _reading_order(difference.dataset)
    yield f"  inputs     {_inputs(difference.inputs)}"
    yield f"  settings   {'; '.join(map(_setting, difference.settings)) or 'the same'}"
    yield (
        f"  samples    {_counted(found['added'], 'added', order)}, {_counted(found['removed'], 'removed', order)}, "
        f"{difference.changed:,} changed, {difference.same:,} the same"
    )
    yield from _examples(found["added"], "added    ")
    yield from _examples(found["removed"], "removed  ")
    for kind in CHANGES:
        yield from _change(kind, found[kind])
    yield from _moves(found["moved"])
    yield from _quarantine(difference)
    yield from _columns(difference)
    yield from _drift(difference.drift)
    yield from _moved_in_raw(found["moved-in-raw"])
    shards = difference.shards
    yield (
        f"  shards     {shards.shared:,} of {shards.files:,} shared, {size(shards.new_bytes)} new of "
        f"{size(shards.size_bytes)}"
    )


def _inputs(inputs: Inputs) -> str:
    named = {"added": inputs.added, "removed": inputs.removed, "has other bytes": inputs.changed}
    parts = [f"{name} {what}" for what, names in named.items() for name in names[:EXAMPLES]]
    parts += [f"{len(names) - EXAMPLES:,} more {what}" for what, names in named.items() if len(names) > EXAMPLES]
    return "; ".join([*parts, f"{len(inputs.same):,} the same"])


def _setting(setting: Setting) -> str:
    return f"{setting.name} {_short(setting.before, VALUE_WIDTH)} → {_short(setting.after, VALUE_WIDTH)}"


def _counted(finding: Finding, verb: str, order: Mapping[str, int]) -> str:
    counts = dict(sorted(finding.counts.items(), key=lambda item: (order.get(item[0], len(order)), item)))
    return f"{len(finding.ids):,} {verb}" + (f" ({counts_text(counts)})" if counts else "")


def _reading_order(dataset: str) -> dict[str, int]:
    declared = catalogue().get(dataset)
    return {split: place for place, split in enumerate(declared.splits)} if declared else {}


def _change(kind: Kind, finding: Finding) -> Iterator[str]:
    if finding.ids:
        yield f"{_INDENT}{kind.replace('-', ' ')}: {len(finding.ids):,} changed ({counts_text(finding.counts)})"
        yield from _examples(finding, "  ")


def _moves(finding: Finding) -> Iterator[str]:
    if not finding.ids:
        yield "  splits     no sample moved"
        return
    first = [f"{name} {move}" for name, move in zip(finding.ids, finding.details, strict=True)][:EXAMPLES]
    more = f", … {len(finding.ids) - EXAMPLES:,} more, see --list" if len(finding.ids) > EXAMPLES else ""
    yield f"  splits     {len(finding.ids):,} MOVED: {', '.join(first)}{more}"
    yield f"{_INDENT}{counts_text(finding.counts)}; a model trained on one release must not be tested on the other"


def _quarantine(difference: Difference) -> Iterator[str]:
    to, back = difference.findings["refused"], difference.findings["restored"]
    line = f"  quarantine {difference.quarantine_before:,} → {difference.quarantine_after:,} rows"
    line += f"; {_samples(to)} went there ({counts_text(to.counts)})" if to.ids else ""
    line += f"; {_samples(back)} came back ({counts_text(back.counts)})" if back.ids else ""
    yield line
    yield from _examples(to, "to    ")
    yield from _examples(back, "from  ")


def _columns(difference: Difference) -> Iterator[str]:
    columns = difference.columns
    named = {"gone": columns.only_before, "new": columns.only_after, "of another type": columns.retyped}
    parts = [f"{', '.join(names)} {what}" for what, names in named.items() if names]
    if parts:
        yield f"  columns    {'; '.join(parts)} (not compared row by row)"


def _drift(shifts: Sequence[Shift]) -> Iterator[str]:
    if not shifts:
        return
    yield f"  drift      {', '.join(drift.summary(shifts))}"
    for shift in drift.largest(shifts, EXAMPLES):
        yield f"{_INDENT}{shift.subject}: {shift.sentence}"


def _moved_in_raw(finding: Finding) -> Iterator[str]:
    if finding.ids:
        yield f"  raw        {_samples(finding)} moved in raw ({counts_text(finding.counts)}), which is no change"
        yield from _examples(finding)


def _samples(finding: Finding) -> str:
    return f"{len(finding.ids):,} sample{'s' if len(finding.ids) != 1 else ''}"


def _examples(finding: Finding, title: str = "") -> Iterator[str]:
    for sample_id, detail in list(zip(finding.ids, finding.details, strict=True))[:EXAMPLES]:
        yield f"{_INDENT}{title}{sample_id}  {_short(detail, DETAIL_WIDTH)}"
    if len(finding.ids) > EXAMPLES:
        yield f"{_INDENT}{title}… {len(finding.ids) - EXAMPLES:,} more, see --list"


def _short(value: Any, width: int) -> str:
    text = _one_line("null" if value is None else str(value))
    return text if len(text) <= width else f"{text[: width - 1]}…"


def as_list(difference: Difference) -> Iterator[str]:
    """Kind, id and detail with tabs between them: every sample of every kind, those that changed their split first."""
    for kind in (kind for kind in KINDS if kind not in CHANGES):
        finding = difference.findings[kind]
        for sample_id, detail in zip(finding.ids, finding.details, strict=True):
            yield f"{kind}\t{sample_id}\t{_one_line(detail)}"
    changed: dict[str, list[str]] = {}
    for finding in (difference.findings[kind] for kind in CHANGES):
        for sample_id, detail in zip(finding.ids, finding.details, strict=True):
            changed.setdefault(sample_id, []).append(detail)
    for sample_id in sorted(changed):
        yield f"changed\t{sample_id}\t{_one_line('; '.join(changed[sample_id]))}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def as_json(difference: Difference) -> str:
    """One line: every count, and up to a thousand samples of each kind."""
    found = difference.findings
    plain: tuple[Kind, ...] = ("added", "removed", "refused", "restored")
    named: dict[str, Any] = {kind: {name: ", ".join(part) for name, part in _first(found[kind])} for kind in plain}
    counts: dict[str, int] = {kind: len(found[kind].ids) for kind in KINDS}
    counts["changed"] = difference.changed
    content = {
        "ok": not difference.moved,
        "dataset": difference.dataset,
        "before": difference.before,
        "after": difference.after,
        "samples": [difference.samples_before, difference.samples_after],
        "quarantine_rows": [difference.quarantine_before, difference.quarantine_after],
        "counts": counts,
        "same": difference.same,
        "moved": {name: list(part) for name, part in _first(found["moved"])},
        "split_moves": found["moved"].counts,
        **named,
        "added_by_split": found["added"].counts,
        "removed_by_split": found["removed"].counts,
        "changed": _changed(difference),
        "changed_columns": {column: count for kind in CHANGES for column, count in found[kind].counts.items()},
        "moved-in-raw": {name: list(part) for name, part in _first(found["moved-in-raw"])},
        "inputs": _inputs_json(difference.inputs),
        "settings": {setting.name: [setting.before, setting.after] for setting in difference.settings},
        "columns": asdict(difference.columns),
        "drift": [shift.as_json() for shift in drift.largest(difference.drift, least=0.0)],
        "drift_compared": sum(shift.effect is not None for shift in difference.drift),
        "shards": difference.shards.files,
        "shared_shards": difference.shards.shared,
        "bytes": difference.shards.size_bytes,
        "new_bytes": difference.shards.new_bytes,
    }
    return json.dumps(content, sort_keys=True)


def _first(finding: Finding) -> list[tuple[str, tuple[str, ...]]]:
    return list(zip(finding.ids[:JSON_IDS], finding.parts, strict=False))


def _changed(difference: Difference) -> dict[str, list[str]]:
    """Columns that differ by id; up to a thousand samples of each kind of change."""
    columns: dict[str, list[str]] = {}
    for kind in CHANGES:
        for sample_id, names in _first(difference.findings[kind]):
            columns.setdefault(sample_id, []).extend(names)
    return columns


def _inputs_json(inputs: Inputs) -> dict[str, list[str]]:
    named = {"added": inputs.added, "removed": inputs.removed, "other bytes": inputs.changed, "same": inputs.same}
    return {what: list(names) for what, names in named.items()}
