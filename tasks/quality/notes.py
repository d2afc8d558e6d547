"""What a user has to know before using a release, most serious first, each in one sentence with where to read on.

What the gates, the leakage section and the drift section say at length, gathered for the top of the page. Nothing is
judged here a second time: a note speaks where an outcome, a pair or a shift already does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.quality import drift, pair_sheet
from tasks.quality.facts import ReleaseFacts, ReportFacts
from tasks.quality.wording import count, gate_line, level, plural, share, tally
from tasks.schema import Outcome

Kind = Literal["blocks", "unchecked", "leak", "warned", "known", "drift", "refused", "terms"]
KINDS: tuple[Kind, ...] = ("blocks", "unchecked", "leak", "warned", "known", "drift", "refused", "terms")
"""Most serious first."""
LEAKS = ("predict-copies-labelled", "predict-shows-labelled", "group-crosses-splits", "pixels-cross-splits")
"""Expectations that say that what a model is scored on can be seen in training."""
NEAR = ("near-duplicate", "near-duplicate-across-splits")
"""Those about near-duplicates. Of pairs across splits one side was set aside, so that they leak no more."""


@dataclass(frozen=True)
class Note:
    """One thing to know; ``where`` is the part of the page that has the numbers."""

    kind: Kind
    text: str
    where: str
    detail: str = ""
    """What was seen, in the words of the gate."""
    is_known: bool = False
    """Whether the dataset declares it as the publisher's."""


def of_release(facts: ReleaseFacts) -> list[Note]:
    """Every note, most serious first, in the order of the gates within a kind."""
    notes = [*_unchecked(facts), *_outcomes(facts), *_refused(facts), *_terms(facts)]
    if isinstance(facts, ReportFacts):
        notes += [*_pairs(facts), *_overlap(facts), *_drift(facts)]
    return sorted(notes, key=lambda note: KINDS.index(note.kind))


def _outcomes(facts: ReleaseFacts) -> Iterator[Note]:
    statements = {known.code: known for known in facts.dataset.known}
    for outcome in (outcome for verdict in facts.verdicts for outcome in verdict.outcomes):
        known = statements.get(outcome.code) if outcome.status == "known" else None
        is_leak = outcome.code in LEAKS or (known is not None and known.is_leak)
        where = "#leakage" if is_leak or outcome.code in NEAR else "#drift" if _is_drift(outcome) else "#gates"
        if outcome.status == "failed":
            yield Note("blocks", f"Expected: {outcome.sentence} {_counts(outcome)}", "#gates", outcome.observed)
        elif known is not None:
            yield Note("leak" if is_leak else "known", f"{known.statement} {_counts(outcome)}", where, is_known=True)
        elif outcome.status in ("warned", "known") or (outcome.status == "tolerated" and outcome.code in NEAR):
            kind: Kind = "leak" if is_leak else "drift" if _is_drift(outcome) else "warned"
            yield Note(kind, f"Expected: {outcome.sentence} {_counts(outcome)}", where)


def _unchecked(facts: ReleaseFacts) -> Iterator[Note]:
    """One for all that was left out: that nothing is said of it must not be taken for nothing found."""
    if codes := [code for verdict in facts.verdicts for code in verdict.unchecked]:
        yield Note("unchecked", f"No image was decoded, so it is not checked: {', '.join(codes)}.", "#gates")


def _counts(outcome: Outcome) -> str:
    """How many fail, in a sentence; what was seen where the expectation is not about rows."""
    if outcome.checked <= 1 or _is_drift(outcome):  # of a drift, what is counted are comparisons
        return f"Found: {outcome.observed}." if outcome.observed and outcome.status != "failed" else ""
    found = f"{count(outcome.failed)} of {count(outcome.checked)} ({share(outcome.failed, outcome.checked)})"
    if outcome.status == "known":
        return f"Here: {found}."
    return f"Not so: {found}" + (f", {level(outcome.tolerance)} tolerated." if outcome.status == "failed" else ".")


def _refused(facts: ReleaseFacts) -> Iterator[Note]:
    accounting = facts.accounting
    if accounting is not None and accounting.quarantined:
        members = plural(accounting.quarantined, "archive member")
        reasons = facts.quarantine["reason"].nunique()
        words = f"{members} of {count(accounting.members)} refused, for {plural(int(reasons), 'reason')}."
        yield Note("refused", words, "#accounting")


def _terms(facts: ReleaseFacts) -> Iterator[Note]:
    if facts.dataset.terms.may_redistribute is False:
        yield Note("terms", facts.dataset.terms.redistribution, "#provenance")
    if facts.dataset.is_restricted:
        yield Note("terms", "Its terms forbid showing single rows or pictures: this page has sums only.", "#provenance")


def _pairs(facts: ReportFacts) -> Iterator[Note]:
    found = pair_sheet.describe(facts.near_duplicates)
    has_spoken = any(o.code in NEAR and o.status != "passed" for v in facts.verdicts for o in v.outcomes)
    if found and found["across_labelled_splits"] and not has_spoken:
        pairs = plural(found["across_labelled_splits"], "pair")
        yield Note("leak", f"{pairs} of nearly the same picture in two labelled splits.", "#leakage")


def _overlap(facts: ReportFacts) -> Iterator[Note]:
    for other in facts.overlap or ():
        if other["pairs"]:
            words = f"{plural(other['pairs'], 'pair')} of the same or nearly the same picture with {other['dataset']}."
            yield Note("warned", f"{words} Do not train on the one and test on the other.", "#leakage")


def _drift(facts: ReportFacts) -> Iterator[Note]:
    """The surest shift of each comparison that no outcome of the gates tells of."""
    has_spoken = any(_is_drift(o) and o.status != "passed" for v in facts.verdicts for o in v.outcomes)
    compared = {"Between splits": [] if has_spoken else facts.drift, "Since the release before": facts.drift_before}
    for where, shifts in compared.items():
        if found := drift.largest(shifts):
            more = f" {plural(len(found) - 1, 'other comparison')} differ, too." if len(found) > 1 else ""
            yield Note("drift", f"{where}: {found[0].sentence}.{more}", "#drift")


def _is_drift(outcome: Outcome) -> bool:
    return outcome.code.endswith("-drift")


def answer(facts: ReleaseFacts, notes: Sequence[Note]) -> dict[str, str]:
    """What the page answers to “may I use it?”: ``title``, its ``tone`` (good, warn, bad, quiet), ``line``."""
    failed = [verdict for verdict in facts.verdicts if not verdict.passed]
    has_leak = any(note.kind == "leak" for note in notes)
    is_unchecked = any(note.kind == "unchecked" for note in notes)
    whose = "the publisher’s splits" if all(note.is_known for note in notes if note.kind == "leak") else "splits"
    gates = " and ".join(f"the {verdict.gate} gate" for verdict in failed) + " failed"
    line = gate_line(facts.verdicts, tally(facts))
    if not facts.published:
        why = f"Not published: {gates}. {line}." if failed else "Not published."
        return {"title": "No", "tone": "bad" if failed else "quiet", "line": why}
    if failed:
        return {"title": "At your own risk", "tone": "warn", "line": f"Published although {gates}. {line}."}
    cares = [f"{whose} leak"] if has_leak else []
    cares += ["no image was decoded"] if is_unchecked else []
    return {
        "title": f"Yes, with care: {' and '.join(cares)}" if cares else "Yes",
        "tone": "warn" if cares else "good",
        "line": f"Published. {line}." if line else "Published.",
    }
