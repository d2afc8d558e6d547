"""``documents.json`` of a document release: what it says, and whether the files beside it say the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.files import read_json
from tasks.storage import Location, open_table

NAME = "documents.json"
FOLDER = "documents"
"""Every document has a folder in this one."""

Record = Mapping[str, Any]
"""What is said of one document."""


def read(folder: Location) -> list[Record]:
    """The documents of a release, in the order of archive and member."""
    return list(read_json(folder / NAME)["documents"])


def tables(documents: Iterable[Record]) -> Iterator[Mapping[str, Any]]:
    """The tables of all documents."""
    return (table for document in documents for table in document["tables"])


def figures(documents: Iterable[Record]) -> Iterator[Mapping[str, Any]]:
    """The figures of all documents."""
    return (figure for document in documents for figure in document["figures"])


def table_name(document: Record, table: Mapping[str, Any]) -> str:
    """What a table is called where its path cannot stand: unique in the release."""
    return f"{document['folder'].rpartition('/')[2]}-table-{table['number']:02d}"


def problems(folder: Location, manifest: Mapping[str, Any], damaged: AbstractSet[str]) -> Iterator[str]:
    """What is wrong between ``documents.json``, the manifest, and the tables that are not known to be ``damaged``."""
    documents = read(folder)
    written = manifest["accounting"]["written"]
    if not len(documents) == manifest["documents"] == written:
        yield f"{NAME}: {len(documents)} documents, {manifest['documents']} are in the manifest, {written} were written"
    named = _paths(documents)
    listed = [entry["path"] for entry in manifest["files"] if entry["path"].startswith(f"{FOLDER}/")]
    for path in sorted(set(named) ^ set(listed)):
        yield f"{path}: is in {'the manifest' if path in listed else NAME} alone"
    for table in tables(documents):
        if table["path"] in listed and table["path"] not in damaged:
            yield from _table_problems(folder, table)


def _paths(documents: Sequence[Record]) -> list[str]:
    parts = [*tables(documents), *figures(documents)]
    return [*(document["text"] for document in documents), *(part["path"] for part in parts)]


def _table_problems(folder: Location, table: Mapping[str, Any]) -> Iterator[str]:
    try:
        with open_table(folder / table["path"]) as stream:
            stored = pq.read_metadata(stream)
    except (OSError, pa.ArrowException) as error:
        yield f"{table['path']}: cannot be read ({error})"
        return
    schema = stored.schema.to_arrow_schema()
    known = {name.decode(): value.decode() for name, value in (schema.metadata or {}).items()}
    for name in ("number", "caption", "heading", "position"):
        if known.get(name) != str(table[name]):
            yield f"{table['path']}: its {name} is {known.get(name)!r}, {NAME} has {str(table[name])!r}"
    if (stored.num_rows, schema.names) != (table["rows"], table["columns"]):
        yield f"{table['path']}: its rows or columns are not those that {NAME} has"
