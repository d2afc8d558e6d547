"""A Word document taken apart: its tables, its figures and its text as Markdown.

Left out: page headers and footers, comments, hidden text, deleted text, numbers that Word makes up for headings.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import docx
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from docx.exceptions import PythonDocxError
from docx.opc.exceptions import OpcError

from tasks.documents import captions
from tasks.documents.blocks import Block, Paragraph, Picture, Table, plain
from tasks.documents.frames import frame
from tasks.documents.markdown import References, markdown
from tasks.documents.reading import Reader

MAIN_MEMBER = "word/document.xml"
MOST_MEMBERS = 10_000
MOST_BYTES = 1 << 30
"""Of all members unpacked."""
MOST_XML_BYTES = 1 << 27
"""Of one XML member unpacked: its tree takes about ten times as much."""

_BROKEN = (
    # SyntaxError: lxml's XMLSyntaxError is one.
    zipfile.BadZipFile, zlib.error, SyntaxError, KeyError, ValueError, AttributeError, TypeError, IndexError,
    NotImplementedError, RuntimeError, EOFError, OSError, PythonDocxError, OpcError,
)  # fmt: skip
"""What zipfile, lxml and python-docx raise for a document that does not hold together."""


class DocumentRefused(Exception):
    """The document cannot be read; ``args`` are the stable reason code and the detail."""


@dataclass(frozen=True, eq=False)
class DocumentTable:
    """One table as published, every cell as text."""

    number: int
    """From 1 in reading order; a nested table comes after the one that it stands in."""
    caption: str
    heading: str
    """The nearest heading above."""
    position: int
    """Index of the body's block (paragraph or table, empty ones counted) that is this table or holds it."""
    frame: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def path(self) -> str:
        """Where the Markdown expects its Parquet file."""
        return _table_path(self.number)


@dataclass(frozen=True)
class Figure:
    """One picture as embedded, byte for byte."""

    number: int
    name: str
    media_type: str
    data: bytes
    caption: str
    position: int

    @property
    def path(self) -> str:
        """Where the Markdown expects it."""
        return f"figures/{self.name}"


@dataclass(frozen=True, eq=False)
class Document:
    """What a Word document holds."""

    tables: tuple[DocumentTable, ...]
    figures: tuple[Figure, ...]
    markdown: str
    title: str


def extract(data: bytes) -> Document:
    """Raises :class:`DocumentRefused` with ``not-a-document`` or ``undecodable-document``."""
    _guard(data)
    body, notes = _read(data)
    steps = captions.walk([*body, *notes.values()])
    tables, figures = _tables(steps), _figures(steps)
    references = References(
        {table: (found.path, found.position) for table, found in tables.items()},
        {picture: (found.path, found.caption) for picture, found in figures.items()},
    )
    text = markdown(body, notes, references)
    return Document(tuple(tables.values()), tuple(figures.values()), text, _title(body))


def parquet_bytes(table: DocumentTable) -> bytes:
    """The frame as Parquet; what is known about the table is in the schema's metadata. Same table, same bytes."""
    metadata = {
        "caption": table.caption,
        "heading": table.heading,
        "position": str(table.position),
        "number": str(table.number),
        "notes": "\n".join(table.notes),
    }
    schema = pa.schema([(name, pa.string()) for name in table.frame.columns], metadata=metadata)
    columns = [pa.array(table.frame[name].tolist(), pa.string()) for name in table.frame.columns]
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns, schema=schema), buffer)
    return buffer.getvalue()


def _guard(data: bytes) -> None:
    """Refuse what is no Word file, what does not unpack whole, and what would unpack to more than memory bears."""
    if not data.startswith(b"PK"):
        raise DocumentRefused("not-a-document", f"begins with {data[:16]!r}, not with PK")
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError) as error:
        raise DocumentRefused("not-a-document", f"no whole zip: {error}") from error
    members = archive.infolist()
    if MAIN_MEMBER not in archive.namelist():
        raise DocumentRefused("not-a-document", f"no {MAIN_MEMBER} among {len(members)} members")
    total = sum(member.file_size for member in members)
    if len(members) > MOST_MEMBERS or total > MOST_BYTES:
        raise DocumentRefused("undecodable-document", f"{len(members)} members of {total} bytes unpacked: too large")
    xml = (member for member in members if member.filename.endswith((".xml", ".rels")))
    largest = max(xml, key=lambda member: member.file_size)
    if largest.file_size > MOST_XML_BYTES:
        raise DocumentRefused("undecodable-document", f"{largest.filename} of {largest.file_size} bytes: too large")
    try:
        broken = archive.testzip()
    except _BROKEN as error:
        raise DocumentRefused("undecodable-document", f"{type(error).__name__}: {error}") from error
    if broken is not None:
        raise DocumentRefused("undecodable-document", f"{broken} does not match its checksum")


def _read(data: bytes) -> tuple[Sequence[Sequence[Block]], Mapping[str, Sequence[Block]]]:
    try:
        reader = Reader(docx.Document(io.BytesIO(data)))
        return reader.body(), reader.notes()
    except _BROKEN as error:
        raise DocumentRefused("undecodable-document", f"{type(error).__name__}: {error}") from error


def _tables(steps: Sequence[captions.Step]) -> Mapping[Table, DocumentTable]:
    found = captions.table_captions(steps)
    notes = captions.table_notes(steps, found)
    entered = [(step, step.block) for step in steps if step.kind == "enter" and isinstance(step.block, Table)]
    return {
        table: DocumentTable(
            number=number,
            caption=captions.caption_text(found.get(table)),
            heading=step.heading,
            position=step.position,
            frame=frame(table),
            notes=notes[table],
        )
        for number, (step, table) in enumerate(entered, 1)
    }


def _figures(steps: Sequence[captions.Step]) -> Mapping[Picture, Figure]:
    found = captions.figure_captions(steps)
    placed = [(step.position, picture) for step in steps for picture in captions.pictures_of(step.block)]
    return {
        picture: Figure(
            number=number,
            name=f"figure-{number:02d}.{picture.extension}",
            media_type=picture.media_type,
            data=picture.data,
            caption=captions.caption_text(found.get(picture)),
            position=position,
        )
        for number, (position, picture) in enumerate(placed, 1)
    }


def _title(body: Sequence[Sequence[Block]]) -> str:
    """The paragraph styled as title, else the first heading; the file's own property is often a template's."""
    lines = [block for blocks in body for block in blocks if isinstance(block, Paragraph) and plain(block)]
    titled = [line for line in lines if line.is_title] or [line for line in lines if line.level]
    return captions.caption_text(titled[0]) if titled else ""


def _table_path(number: int) -> str:
    return f"tables/table-{number:02d}.parquet"
