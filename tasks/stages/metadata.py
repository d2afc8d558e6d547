"""Parse the metadata, join it with the members, and put it before the first gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tasks import checks, credentials
from tasks.archives import Archive, MemberRefused, read_member
from tasks.datasets import find
from tasks.dicom.index import expanded, header_table, read_headers
from tasks.files import read_frame, write_json
from tasks.memory import giving_back
from tasks.row_counts import count_rows
from tasks.samples import image_members, join
from tasks.schema import DICOM, MEMBERS, Dataset, GateName, Parsed, Table, TableRule, UnusableInput, Verdict
from tasks.split_file import splits_of
from tasks.stages.index import classify, gather, holds_documents_only, insist_on_images
from tasks.stages.plan import Plan, Request, declared, local_docs, read_entries, write_entries, write_frame
from tasks.storage import location
from tasks.table_choice import ChosenTable, as_json, choose_tables
from tasks.tables import read_table

WORDS = {"image-without-row": "no metadata row names {}", "row-without-image": "no image is called {}"}
"""Details of reasons that have no value to show."""

Judge = Callable[[pd.DataFrame, Dataset, GateName, Path | None], tuple[Verdict, dict[int, str], set[tuple[int, str]]]]
"""What a gate is to the stages: see :func:`expectations.gates.judge`."""


@giving_back
def parse(plan: Plan) -> dict[str, int]:
    """Read the metadata tables and join them with the members: ``entries.parquet``, ``extras.parquet``."""
    members = read_frame(plan.work / "members.parquet")
    headers = read_frame(plan.work / "headers.parquet") if plan.dataset.dicom is not None else None
    entries, parsed, tables = _entries(
        plan.archives, members, headers, plan.tables, plan.dataset, plan.request.split_file
    )
    write_entries(plan.work / "entries.parquet", entries, plan.dataset)
    extras = parsed.extras.assign(table=parsed.extras["table"].map({role: t.name for role, t in tables.items()}))
    for column in ("problem", "detail"):
        extras[column] = extras[column].fillna("") if column in extras else ""
    write_frame(plan.work / "extras.parquet", extras)
    write_json(plan.work / "row-counts.json", count_rows(parsed.rows, plan.dataset))
    counts = {table.name: len(table.rows) for table in tables.values()}
    write_json(plan.work / "tables.json", counts)
    return counts


def _entries(
    archives: Sequence[Archive],
    members: pd.DataFrame,
    headers: pd.DataFrame | None,
    chosen: Sequence[ChosenTable],
    dataset: Dataset,
    split_file: str | None,
) -> tuple[pd.DataFrame, Parsed, dict[str, Table]]:
    rules = {rule.role: rule for rule in dataset.tables}
    by_name = {archive.name: archive for archive in archives}
    tables = {table.role: _table(rules[table.role], by_name[table.archive], table) for table in chosen}
    of_headers = {} if headers is None else {DICOM: header_table(members, headers, archives, dataset)}
    parsed = dataset.parse({**tables, **of_headers, MEMBERS: image_members(members)})
    if (parsed.rows["table"] == DICOM).any():  # then its rows are accounted for as those of any table
        tables |= of_headers
    if split_file is not None:
        parsed.rows["split"] = splits_of(location(split_file), parsed.rows, dataset)
    return join(members, parsed, tables, dataset), parsed, tables


def _table(rule: TableRule, archive: Archive, table: ChosenTable) -> Table:
    try:
        return read_table(rule, table.name, read_member(archive, table.member, table.offset))
    except MemberRefused as error:
        raise UnusableInput(
            f"{table.name} cannot be read ({': '.join(error.args)}): fetch the archive again"
        ) from error


@giving_back
def validate_metadata(plan: Plan, judge: Judge) -> Verdict:
    """The first gate; sets ``stage reason detail`` on the entries it refuses and empties impossible cells."""
    entries = read_entries(plan.work / "entries.parquet")
    checked = checks.with_metadata_checks(entries, plan.dataset)
    with local_docs(plan) as docs:
        verdict, refused, emptied = judge(checked, plan.dataset, "metadata", docs)
    for entry, column in sorted(emptied):
        entries.loc[entry, column] = None
    entries["stage"] = pd.Series(dict.fromkeys(refused, "validate-metadata"), dtype=object)
    entries["reason"] = pd.Series(refused, dtype=object)
    entries["detail"] = _details(checked, refused, plan.dataset)
    write_entries(plan.work / "entries-checked.parquet", entries, plan.dataset)
    write_json(plan.work / "verdict-metadata.json", verdict.as_json())
    return verdict


def check_metadata(request: Request, judge: Judge) -> tuple[dict[str, Any], Verdict]:
    """Index, parse and judge without a lake: nothing is written, hashed or decoded.

    Returns counts (archives, members, images, rows, entries, tables, and what the tables hold) and the verdict.
    """
    secrets = credentials.from_environment(find(request.dataset))
    archives = gather(request, secrets, insist=False)
    members = classify(archives, find(request.dataset))
    if holds_documents_only(members):
        raise UnusableInput(
            f"{', '.join(request.raw)} holds documents only, and no table to check: `scanmill prepare` takes them apart"
        )
    insist_on_images(members, find(request.dataset), request)
    chosen = choose_tables(members, find(request.dataset), request.table)
    dataset = declared(request, chosen)
    headers = None
    if dataset.dicom is not None:
        headers = read_headers(members, archives, dataset)
        members = expanded(members, headers, archives)
    entries, parsed, tables = _entries(archives, members, headers, chosen, dataset, request.split_file)
    verdict, _, _ = judge(checks.with_metadata_checks(entries, dataset), dataset, "metadata", None)
    counts = {
        "tables": as_json(chosen),
        "holds": count_rows(parsed.rows, dataset),
        "archives": len(archives),
        "members": len(members),
        "images": int((members["kind"] == "image").sum()),
        "rows": sum(len(table.rows) for table in tables.values()),
        "entries": len(entries),
    }
    return counts, verdict


def _details(entries: pd.DataFrame, refused: Mapping[int, str], dataset: Dataset) -> pd.Series:
    """What a person needs to find and understand a refused row: the join's words, or the offending value."""
    columns = {
        expectation["meta"]["code"]: expectation["kwargs"]["column"]
        for expectation in dataset.expectations
        if "column" in expectation["kwargs"]
    }
    texts = {}
    for entry, code in refused.items():
        problem = entries["problem_detail"].loc[entry]
        value = (
            f"{columns[code].removeprefix('meta.')}: {entries[columns[code]].loc[entry]!r}" if code in columns else ""
        )
        texts[entry] = problem or value or WORDS.get(code, "{}").format(entries["key"].loc[entry])
    return pd.Series(texts, dtype=object)
