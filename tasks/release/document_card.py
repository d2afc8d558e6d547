"""README.md of a document release, with one configuration per table for Hugging Face ``datasets``.

Without them ``load_dataset`` would take all Parquet files for parts of one table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from tasks.release import document_record
from tasks.release.card import Verbatim, findings, licence, link, size_category, template, terms
from tasks.release.document_record import Record
from tasks.schema import Accounting, Dataset, Verdict


def card(
    dataset: Dataset,
    release: str,
    manifest: Mapping[str, Any],
    documents: Sequence[Record],
    accounting: Accounting,
    verdicts: Sequence[Verdict],
) -> bytes:
    """``README.md`` of one release."""
    tables = [(document, table) for document in documents for table in document["tables"]]
    text = template("document_card.md.jinja").render(
        front_matter=Verbatim(_front_matter(dataset, documents)),
        dataset=dataset,
        homepage=link(dataset.homepage),
        release=release,
        inputs=sorted(manifest["inputs"], key=lambda entry: str(entry["name"])),
        documents=documents,
        tables=tables,
        figures=[(document, figure) for document in documents for figure in document["figures"]],
        example=tables[0][1]["path"] if tables else None,
        example_name=document_record.table_name(*tables[0]) if tables else None,
        accounting=accounting,
        findings=findings([outcome for verdict in verdicts for outcome in verdict.outcomes]),
        is_passed=all(verdict.passed for verdict in verdicts),
        kind="documents",
        **terms(dataset, manifest, verdicts),
    )
    return text.encode()


def _front_matter(dataset: Dataset, documents: Sequence[Record]) -> str:
    values: dict[str, Any] = {
        "pretty_name": dataset.title,
        **licence(dataset),
        "size_categories": [size_category(sum(table["rows"] for table in document_record.tables(documents)))],
        "tags": ["medical", "radiology", "scanmill"],
    }
    configs = [
        {"config_name": document_record.table_name(document, table), "data_files": table["path"]}
        for document in documents
        for table in document["tables"]
    ]
    return yaml.safe_dump(values | ({"configs": configs} if configs else {}), sort_keys=False, allow_unicode=True)
