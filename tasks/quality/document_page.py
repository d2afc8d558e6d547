"""The data-quality report of a document release: every table and every figure, in the look of the other reports."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from tasks.files import write_bytes
from tasks.quality import page, statistics, wording
from tasks.quality.facts import DocumentFacts, Read
from tasks.storage import Location

GATES = (("documents", "Documents gate"),)
ROWS = 50
"""Shown of each table."""
SHOWN_TYPES = ("image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp")
"""What every browser draws and what can hold no script."""
SHOWN_BYTES = 16 * 2**20
"""Of all figures together: the page is one file."""


@dataclass(frozen=True)
class TablePreview:
    """One table with its first rows."""

    member: str
    about: Mapping[str, Any]
    """As in ``documents.json``."""
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class FigurePreview:
    """One figure as a ``data:`` address, or the reason why it is not shown."""

    member: str
    about: Mapping[str, Any]
    address: str
    reason: str = ""


def build(facts: DocumentFacts, folder: Location, *, read: Read) -> None:
    """Write ``folder/index.html`` (self-contained, no request leaves it) and ``folder/report.json``."""
    shows_rows = not facts.dataset.is_restricted
    refusals = statistics.describe_quarantine(facts.quarantine, examples=page.EXAMPLES if shows_rows else 0)
    template = page.template("document_page.html.jinja")
    html = template.render(
        page.shared(facts, refusals, GATES),
        documents=facts.documents,
        tables=list(_tables(facts, read, shows_rows=shows_rows)),
        figures=list(_figures(facts, read)) if shows_rows else [],
        tiles=wording.document_numbers(facts),
        refused=(),
        parameters={},
        snippets=wording.document_snippets(facts) if facts.published else {},
    )
    write_bytes(folder / "report.json", page.shared_json(facts, refusals, {"documents": facts.documents}))
    # A member name can hold half a surrogate pair, which UTF-8 cannot: it is shown as its escape.
    write_bytes(folder / "index.html", html.encode("utf-8", "backslashreplace"))


def _tables(facts: DocumentFacts, read: Read, *, shows_rows: bool) -> Iterator[TablePreview]:
    for document in facts.documents:
        for table in document["tables"]:
            rows = _first_rows(read(table["path"])) if shows_rows else ()
            yield TablePreview(document["member"], table, rows)


def _first_rows(data: bytes) -> tuple[tuple[str, ...], ...]:
    first = pq.read_table(io.BytesIO(data)).slice(0, ROWS)
    return tuple(zip(*(column.to_pylist() for column in first.columns), strict=True))


def _figures(facts: DocumentFacts, read: Read) -> Iterator[FigurePreview]:
    left = SHOWN_BYTES
    for document in facts.documents:
        for figure in document["figures"]:
            if figure["media_type"] not in SHOWN_TYPES:
                yield FigurePreview(document["member"], figure, "", f"{figure['media_type']} is not shown by browsers")
            elif figure["bytes"] > left:
                yield FigurePreview(document["member"], figure, "", "left out, or this page would be too large")
            else:
                left -= figure["bytes"]
                data = base64.b64encode(read(figure["path"])).decode()
                yield FigurePreview(document["member"], figure, f"data:{figure['media_type']};base64,{data}")
