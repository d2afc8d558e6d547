"""A document release: Word files taken apart, judged, described and published. Every table a Parquet file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

import pandas as pd

from tasks.archives import Archive, MemberRefused, read_member
from tasks.documents.docx import Document, DocumentRefused, DocumentTable, Figure, parquet_bytes
from tasks.documents.docx import extract as take_apart
from tasks.files import read_frame, read_json, read_schema, write_bytes, write_json
from tasks.quality import document_page
from tasks.quality.facts import DocumentFacts
from tasks.release import document_record
from tasks.release import manifest as releases
from tasks.release.document_card import card
from tasks.release.document_croissant import croissant
from tasks.schema import QUARANTINE, Accounting, Verdict
from tasks.sources.fetched import Fetched
from tasks.stages.metadata import Judge
from tasks.stages.plan import Plan, about, inputs, local_docs, verdicts, write_frame
from tasks.stages.publication import finish, release_facts
from tasks.storage import Location, remove_tree

STEM_LIMIT = 80
"""Longest folder name made of a document's own; some file systems end at 143 bytes."""


@dataclass(frozen=True)
class _Found:
    """One member that is not ignored: what the quarantine says of it, or what ``documents.json`` does."""

    place: Mapping[str, Any]
    """Columns ``archive member offset source_bytes source_sha256`` of the quarantine."""
    stage: str = ""
    reason: str = ""
    detail: str = ""
    record: Mapping[str, Any] | None = None

    def refused(self, reason: str, detail: str, stage: str = "extract") -> _Found:
        return replace(self, stage=stage, reason=reason, detail=detail, record=None)


def extract(plan: Plan, judge: Judge) -> Verdict:
    """Take every document apart into the staged release, and put them before their gate."""
    members = read_frame(plan.work / "members.parquet")
    wanted = members[members["kind"] != "ignored"].sort_values(["archive", "member", "offset"])
    folders = _folders(wanted)
    archives = {archive.name: archive for archive in plan.archives}
    rows: list[dict[str, Any]] = wanted.to_dict("records")  # type: ignore[assignment]
    found = [_extract(archives[row["archive"]], row, folders.get(at), plan.staging) for at, row in enumerate(rows)]
    with local_docs(plan) as docs:
        verdict, refused, _ = judge(_frame(rows, found), plan.dataset, "documents", docs)
    found = [_set_aside(one, refused.get(entry), plan.staging) for entry, one in enumerate(found)]
    write_json(plan.work / "verdict-documents.json", verdict.as_json())
    write_json(plan.staging / document_record.NAME, {"documents": [one.record for one in found if one.record]})
    _settle(plan, members, found)
    return verdict


def _folders(wanted: pd.DataFrame) -> dict[int, str]:
    """Position to folder name of each document: letters, digits, ``-`` and ``_`` of its own name, each name once."""
    folders: dict[int, str] = {}
    taken: set[str] = set()
    for position, (kind, member) in enumerate(zip(wanted["kind"], wanted["member"], strict=True)):
        if kind == "document":
            stem = PurePosixPath(member).stem
            plain = re.sub(r"[^A-Za-z0-9_]+", "-", stem).strip("-")[:STEM_LIMIT].rstrip("-") or "document"
            number, name = 1, plain
            while name.lower() in taken:  # some file systems do not tell capitals from small letters
                number += 1
                name = f"{plain}-{number}"
            taken.add(name.lower())
            folders[position] = name
    return folders


def _extract(archive: Archive, row: Mapping[str, Any], folder: str | None, staging: Location) -> _Found:
    """Read, take apart and write one document; of any other member only why it is not one."""
    place = {name: row[name] for name in ("archive", "member", "offset")} | {"source_bytes": row["size_bytes"]}
    found = _Found({**place, "source_sha256": row["sha256"]})
    if row["problem"]:
        return found.refused(row["problem"], row["detail"])
    if folder is None:
        return found.refused(row["reason"], "no rule of the dataset matches the path")
    try:
        data = read_member(archive, row["member"], row["offset"], row["crc32"])
        found = _Found({**place, "source_bytes": len(data), "source_sha256": hashlib.sha256(data).hexdigest()})
        document = take_apart(data)
    except (MemberRefused, DocumentRefused) as error:
        return found.refused(*error.args)
    if not (document.markdown.strip() or document.tables or document.figures):
        return found.refused("empty-document", "there is no text, no table and no figure in it")
    return replace(found, record=_write(document, found.place, f"{document_record.FOLDER}/{folder}", staging))


def _write(document: Document, place: Mapping[str, Any], folder: str, staging: Location) -> dict[str, Any]:
    """Its text, tables and figures as files, and what ``documents.json`` says of them."""
    write_bytes(staging / folder / "text.md", document.markdown.encode())
    for table in document.tables:
        write_bytes(staging / folder / table.path, parquet_bytes(table))
    for figure in document.figures:
        write_bytes(staging / folder / figure.path, figure.data)
    return {
        "archive": place["archive"],
        "member": place["member"],
        "bytes": place["source_bytes"],
        "sha256": place["source_sha256"],
        "title": document.title,
        "folder": folder,
        "text": f"{folder}/text.md",
        "characters": len(document.markdown),
        "tables": [_described_table(table, folder) for table in document.tables],
        "figures": [_described_figure(figure, folder) for figure in document.figures],
    }


def _described_table(table: DocumentTable, folder: str) -> dict[str, Any]:
    return {
        "number": table.number,
        "caption": table.caption,
        "heading": table.heading,
        "position": table.position,
        "notes": list(table.notes),
        "rows": len(table.frame),
        "columns": list(table.frame.columns),
        "path": f"{folder}/{table.path}",
    }


def _described_figure(figure: Figure, folder: str) -> dict[str, Any]:
    return {
        "number": figure.number,
        "caption": figure.caption,
        "position": figure.position,
        "media_type": figure.media_type,
        "bytes": len(figure.data),
        "path": f"{folder}/{figure.path}",
    }


def _frame(rows: Sequence[Mapping[str, Any]], found: Sequence[_Found]) -> pd.DataFrame:
    """What the gate looks at, one line per member that is not ignored."""
    repeats = _repeats(found)
    lines = [_line(row, one, entry in repeats) for entry, (row, one) in enumerate(zip(rows, found, strict=True))]
    frame = pd.DataFrame({"entry": range(len(lines))}).join(pd.DataFrame(lines))
    return frame.astype({"tables": "Int64", "tables_without_caption": "Int64"})


def _line(row: Mapping[str, Any], one: _Found, is_repeat: bool) -> dict[str, Any]:
    is_unexpected = row["kind"] != "document" and not row["problem"]
    tables = None if one.record is None else one.record["tables"]
    return {
        "archive": row["archive"],
        "member": row["member"],
        "problem": None if is_unexpected else one.reason,
        "tables": None if tables is None else len(tables),
        "tables_without_caption": None if tables is None else sum(not table["caption"] for table in tables),
        "check.is_unexpected": "yes" if is_unexpected else "no",
        "check.is_repeat": None if one.record is None else "yes" if is_repeat else "no",
    }


def _repeats(found: Iterable[_Found]) -> set[int]:
    seen: set[str] = set()
    repeats = set()
    for entry, one in enumerate(found):
        if one.record is not None:
            if one.record["sha256"] in seen:
                repeats.add(entry)
            seen.add(one.record["sha256"])
    return repeats


def _set_aside(one: _Found, code: str | None, staging: Location) -> _Found:
    """What an expectation of the dataset's own refused is written already: take it back."""
    if code is None or one.record is None:
        return one
    remove_tree(staging / one.record["folder"])
    return one.refused(code, "", "validate-documents")


def _settle(plan: Plan, members: pd.DataFrame, found: Sequence[_Found]) -> None:
    """Write ``quarantine.parquet`` and count; raises unless the sum meets."""
    refused = [one for one in found if one.reason]
    rows = [{**one.place, "stage": one.stage, "reason": one.reason, "detail": one.detail} for one in refused]
    quarantine = pd.DataFrame(rows).reindex(columns=QUARANTINE.names)
    write_frame(plan.staging / "quarantine.parquet", quarantine, QUARANTINE)
    ignored = members.loc[members["kind"] == "ignored", "reason"].value_counts()
    counted = Accounting(
        members=len(members),
        written=sum(one.record is not None for one in found),
        quarantined=len(refused),
        ignored={str(reason): int(count) for reason, count in ignored.items()},
        tables=(),
        reasons={str(reason): int(count) for reason, count in quarantine["reason"].value_counts().items()},
    )
    counted.check()
    write_json(plan.work / "accounting.json", counted.as_json())


def describe_documents(plan: Plan, *, is_published: bool) -> Location:
    """The data-quality report, of a release to be published or of one that the gate refused. Returns its page."""
    documents = document_record.read(plan.staging)
    facts = DocumentFacts(**release_facts(plan, is_published=is_published), documents=documents)
    folder = plan.staging / "quality"
    document_page.build(facts, folder, read=lambda path: (plan.staging / path).read_bytes())
    return folder / "index.html"


def publish_documents(plan: Plan, run: Mapping[str, Any], fetched: Fetched | None) -> Location:
    """Card, Croissant and manifest, then the swap; ``run`` and ``fetched`` stay outside every digest."""
    counted = Accounting.from_json(read_json(plan.work / "accounting.json"))
    documents = document_record.read(plan.staging)
    draft = releases.manifest(plan.staging, plan.release, about(plan), inputs(plan), {}, [], counted, verdicts(plan))
    draft |= {"documents": len(documents)}
    readme = card(plan.dataset, plan.release, draft, documents, counted, verdicts(plan))
    write_bytes(plan.staging / "README.md", readme)
    schemas = {table["path"]: read_schema(plan.staging / table["path"]) for table in document_record.tables(documents)}
    write_bytes(plan.staging / "croissant.json", croissant(plan.dataset, plan.release, draft, documents, schemas))
    return finish(plan, draft, run, fetched)
