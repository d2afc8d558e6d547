"""The one entry to the data-quality report: facts of a release in, ``index.html`` and ``report.json`` out.

It reads no archive and no shard: two callables hand over the bytes of the few pictures on the contact sheets.
Everything that comes from data goes through the template's escaping; only the figures of :mod:`tasks.quality.plots`
and the style sheet are trusted text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from tasks import reasons
from tasks.files import readable_json, write_bytes
from tasks.quality import (
    box_sheet,
    contact_sheet,
    drift_figure,
    extremes,
    figures,
    notes,
    pair_sheet,
    statistics,
    wording,
)
from tasks.quality.box_sheet import BoxSheet
from tasks.quality.contact_sheet import ClassSheet
from tasks.quality.extremes import Worst
from tasks.quality.facts import Images, Refused, ReleaseFacts, ReportFacts
from tasks.quality.pair_sheet import Pair
from tasks.quality.tiles import Tile
from tasks.schema import Outcome
from tasks.storage import Location

__all__ = ["ReportFacts", "build"]

FORMAT = 1
"""Of ``report.json``, as ``report.schema.json`` describes it; raised when something in it changes its meaning."""
EXAMPLES = 5
"""Refused rows of each reason that are shown in full."""
GATES: tuple[tuple[str, str], ...] = (
    ("metadata", "Metadata gate"),
    ("images", "Images gate"),
)
GATE_NOTES: Mapping[str, str] = {
    "metadata": "Checked on the publisher’s tables, before any image is decoded.",
    "images": "Checked on the images and the splits, before anything is published.",
    "documents": "Checked on the documents as taken apart, before anything is published.",
}


def build(
    facts: ReportFacts, folder: Location, *, images: Images, refused: Refused, masks: Images | None = None
) -> None:
    """Write ``folder/index.html`` (self-contained, no request leaves it) and ``folder/report.json``.

    ``masks`` gives those of a dataset that has masks.
    """
    described = statistics.describe(facts.dataset, facts.samples, facts.histograms)
    shows_rows = not facts.dataset.is_restricted
    refusals = statistics.describe_quarantine(facts.quarantine, examples=EXAMPLES if shows_rows else 0)
    pictures = Pictures()
    if not facts.dataset.is_restricted:
        pictures = Pictures(
            classes=contact_sheet.of_samples(facts.dataset, facts.samples, images, masks),
            worst=extremes.of_samples(facts.samples, images),
            refused=contact_sheet.of_quarantine(facts.quarantine, refused),
            pairs=pair_sheet.of_pairs(facts.near_duplicates, images),
            boxed=box_sheet.of_boxes(facts.dataset, facts.samples, images),
        )
    html = render(facts, described, refusals, pictures)
    write_bytes(folder / "report.json", as_json(facts, described, refusals))
    # A member name can hold half a surrogate pair, which UTF-8 cannot: it is shown as its escape.
    write_bytes(folder / "index.html", html.encode("utf-8", "backslashreplace"))


@dataclass(frozen=True)
class Pictures:
    """All that shows single samples; nothing of a dataset whose terms forbid it."""

    classes: Sequence[ClassSheet] = ()
    worst: Sequence[Worst] = ()
    refused: Sequence[Tile] = ()
    pairs: Sequence[Pair] = ()
    boxed: BoxSheet | None = None


def render(
    facts: ReportFacts, described: Mapping[str, Any], refusals: Sequence[Mapping[str, Any]], pictures: Pictures
) -> str:
    """The whole page as text."""
    return template("page.html.jinja").render(
        shared(facts, refusals, GATES),
        statistics=described,
        splits={name: part for name, part in described["splits"].items() if part["samples"] or facts.published},
        labels=_label_rows(facts, described),
        tiles=wording.key_numbers(facts, described),
        figures=figures.draw(facts.dataset, described),
        checks=_image_checks(facts, described),
        unchecked=extremes.missing(facts.samples),
        near=pair_sheet.describe(facts.near_duplicates),
        drifts=[drift_figure.between_splits(facts.drift), drift_figure.since_before(facts.drift_before)],
        classes=pictures.classes,
        worst=pictures.worst,
        refused=pictures.refused,
        pairs=pictures.pairs,
        boxed=pictures.boxed,
        parameters=facts.parameters,
        snippets=wording.snippets(facts, described) if facts.published else {},
    )


def _image_checks(facts: ReportFacts, described: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One per image check that was made: its numbers, and the outcomes of the gate that judge it."""
    outcomes = {o.code: o for verdict in facts.verdicts for o in verdict.outcomes}
    return [
        {
            "check": check,
            "found": described["image_checks"][check.name],
            "outcomes": [outcomes[code] for code in check.codes if code in outcomes],
        }
        for check in extremes.CHECKS
        if check.name in described["image_checks"]
    ]


def shared(
    facts: ReleaseFacts, refusals: Sequence[Mapping[str, Any]], gates: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """What the page of any release says; ``gates`` are the names and titles of those that it has to pass."""
    known = notes.of_release(facts)
    return {
        "facts": facts,
        "dataset": facts.dataset,
        "notes": known,
        "answer": notes.answer(facts, known),
        "tally": wording.tally(facts),
        "gates": [_gate(facts, name, title) for name, title in gates],
        "meanings": wording.MEANINGS,
        "glyphs": wording.GLYPHS,
        "accounting": facts.accounting,
        "refusals": refusals,
        "reasons": reasons.REASONS,
        "ignored": wording.IGNORED,
        "homepage": _web_address(facts.dataset.homepage),
    }


def as_json(facts: ReportFacts, described: Mapping[str, Any], refusals: Sequence[Mapping[str, Any]]) -> bytes:
    """The report for machines."""
    own = {
        "findings": facts.findings,
        "near_duplicates": pair_sheet.describe(facts.near_duplicates),
        "calibration": facts.calibration,
        "drift": [shift.as_json() for shift in facts.drift],
        "holds": facts.holds,
        "dicom": facts.headers,
        "statistics": described,
    }
    return shared_json(facts, refusals, own)


def shared_json(facts: ReleaseFacts, refusals: Sequence[Mapping[str, Any]], own: Mapping[str, Any]) -> bytes:
    """The report of any release for machines: sorted keys, null for what is not a number; ``own`` is what it adds."""
    value = {
        "format": FORMAT,
        "dataset": {"name": facts.dataset.name, "version": facts.dataset.version, "title": facts.dataset.title},
        "release": facts.release,
        "published": facts.published,
        "parameters": facts.parameters,
        "inputs": list(facts.inputs),
        "verdicts": [verdict.as_json() for verdict in facts.verdicts],
        "accounting": facts.accounting.as_json() if facts.accounting else None,
        "quarantine": {refusal["reason"]: refusal["rows"] for refusal in refusals},
        **own,
    }
    plain: dict[str, Any] = _plain(value)
    return readable_json(plain)


def _plain(value: Any) -> Any:
    """The same value in JSON's own types."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # a numpy scalar
        value = value.item()
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value).encode("utf-8", "backslashreplace").decode()


def _label_rows(facts: ReportFacts, described: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One per label, the commonest first: name, description, and per split present and labelled samples."""
    rows = [
        {
            "name": name,
            "description": description,
            "splits": {split: labels["counts"][name] for split, labels in described["labels"].items()},
            "total": sum(labels["counts"][name]["present"] for labels in described["labels"].values()),
        }
        for name, description in facts.dataset.labels.items()
    ]
    return sorted(rows, key=lambda row: -row["total"]) if facts.dataset.label_kind == "multiple" else rows


def _gate(facts: ReleaseFacts, name: str, title: str) -> dict[str, Any]:
    """One gate for the page; ``verdict`` is None where it has not run."""
    verdict = next((verdict for verdict in facts.verdicts if verdict.gate == name), None)
    statements = {known.code: known.statement for known in facts.dataset.known}
    outcomes = sorted(verdict.outcomes, key=_rank) if verdict else []
    told = [(outcome, statements.get(outcome.code, "")) for outcome in outcomes]
    return {
        "name": name,
        "title": title,
        "note": GATE_NOTES[name],
        "verdict": verdict,
        "telling": [(outcome, statement) for outcome, statement in told if outcome.status != "passed"],
        "passed": [(outcome, statement) for outcome, statement in told if outcome.status == "passed"],
    }


def _rank(outcome: Outcome) -> int:
    return wording.ORDER.index(outcome.status)


def _web_address(address: str) -> str:
    """The address where it may become a link, else nothing."""
    return address if address.startswith(("https://", "http://")) else ""


@cache
def template(name: str) -> Template:
    """A page of this folder, compiled once in a process, for a third of a second."""
    return environment().get_template(name)


def environment() -> Environment:
    """Templates of this folder, with what they share."""
    folder = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=wording.count,
        number=wording.number,
        size=wording.size,
        plural=wording.plural,
        level=wording.level,
        measured=wording.measured,
        place=wording.place,
    )
    environment.globals.update(share=wording.share, style=Markup((folder / "page.css").read_text(encoding="utf-8")))
    return environment
