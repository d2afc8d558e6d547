"""A document release in Croissant 1.1: every file with its hash, and one record set per table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from tasks.release.croissant import DATA_TYPES, Node, described, files
from tasks.release.document_record import Record, table_name
from tasks.schema import Dataset


def croissant(
    dataset: Dataset,
    release: str,
    manifest: Mapping[str, Any],
    documents: Sequence[Record],
    schemas: Mapping[str, pa.Schema],
) -> bytes:
    """``croissant.json`` of one release; ``schemas`` are those of the tables, by path."""
    record_sets = [
        _record_set(document, table, schemas[table["path"]]) for document in documents for table in document["tables"]
    ]
    return described(dataset, release, manifest, list(files(manifest)), record_sets)


def _record_set(document: Record, table: Mapping[str, Any], schema: pa.Schema) -> Node:
    name = table_name(document, table)
    return {
        "@type": "cr:RecordSet",
        "@id": name,
        "name": name,
        "description": table["caption"] or f"Table {table['number']} of {document['member']}; it has no caption.",
        "field": [_field(name, field, table["path"]) for field in schema],
    }


def _field(record_set: str, field: pa.Field, path: str) -> Node:
    """Ids are IRIs and column names are a publisher's, so ids are percent-encoded."""
    return {
        "@type": "cr:Field",
        "@id": f"{record_set}/{quote(field.name, safe='')}",
        "name": field.name,
        "dataType": DATA_TYPES[field.type],
        "source": {"fileObject": {"@id": quote(path)}, "extract": {"column": field.name}},
    }
