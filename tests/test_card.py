"""The card and the Croissant description as pure functions: deterministic, well-formed, and safe with hostile text."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
import yaml

from tasks.release.card import card, markdown
from tasks.release.croissant import croissant, spdx
from tasks.schema import Accounting, Dataset, Known, Outcome, Parsed, Source, Table, TableCount, Verdict, sample_schema

HOSTILE = "a|b\n\n# title\n---\n```\n<script>alert(1)</script> [x](javascript:y) *z* _u_ `c` \\ &lt; $m$ ~s~ \u202e\x00"

META = ("OriginalImage[Width", "Height]", "Größe (µm)/x#?")


def parse(tables: Mapping[str, Table]) -> Parsed:
    return Parsed(pd.DataFrame())


DATASET = Dataset(
    name="made-up",
    version="1.2",
    title="Made-up films",
    summary="Films that nobody took.",
    sources=(Source("films.zip", "https://example.org/films.zip"),),
    licence="CC BY 4.0",
    citation="Nobody, 2024.",
    homepage="https://example.org/films",
    published="2024",
    members=(),
    tables=(),
    parse=parse,
    labels={"Mass": "a mass", "No Finding": "nothing found"},
    label_kind="multiple",
    splits=("train_val", "test"),
    labelled_splits=("train_val", "test"),
    group="patient",
    targets={"ivsd": "cm"},
    has_boxes=True,
    known=(Known("plausible-age", 16, "Sixteen ages are above 120 years.", "the publisher's table"),),
)

SCHEMA = sample_schema(DATASET, {f"meta.{name}": pa.string() for name in META})

MANIFEST: dict[str, Any] = {
    "format_version": 1,
    "dataset": "made-up",
    "release": "0a1b",
    "inputs": [{"name": "films.zip", "bytes": 5, "sha256": "2" * 64}],
    "parameters": {},
    "splits": {
        "train_val": {
            "samples": 1200,
            "shards": 1,
            "labels": {"Mass": {"present": 1100, "absent": 99, "unknown": 1}},
        },
        "test": {"samples": 0, "shards": 0},
    },
    "shards": [
        {"path": path, "store": store, "split": "train_val", "bytes": 1, "sha256": "0" * 64, "samples": 1200}
        for store, path in (
            ("webdataset", "webdataset/train_val/made-up-train_val-000000.tar"),
            ("parquet", "parquet/train_val/000000.parquet"),
        )
    ],
    "files": [{"path": "samples.parquet", "bytes": 1, "sha256": "1" * 64}],
}

ACCOUNTING = Accounting(
    members=1203,
    written=1200,
    quarantined=1,
    ignored={"table": 2},
    tables=(TableCount("films.csv", 1201, 1200, 1),),
    reasons={"decodable": 1},
)

AGES = Outcome("metadata", "plausible-age", "Every age is plausible.", "known", 0.01, 1201, 14, "known", known_rows=16)
DECODABLE = Outcome(
    "images", "decodable", "Every image decodes.", "error", 0.01, 1201, 1, "tolerated", observed=HOSTILE
)
VERDICTS = (Verdict("metadata", (AGES,)), Verdict("images", (DECODABLE,)))


def text_of(dataset: Dataset = DATASET, manifest: Mapping[str, Any] = MANIFEST) -> str:
    return card(dataset, "0a1b", manifest, ACCOUNTING, VERDICTS).decode()


def front_of(text: str) -> dict[str, Any]:
    _, front, _ = text.split("---\n", 2)
    values = yaml.safe_load(front)
    assert isinstance(values, dict)
    return values


def with_stores(*stores: str) -> dict[str, Any]:
    return MANIFEST | {"shards": [shard for shard in MANIFEST["shards"] if shard["store"] in stores]}


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(value)}
    return [reversed_keys(entry) for entry in reversed(value)] if isinstance(value, list) else value


def test_card_and_croissant_do_not_depend_on_the_order_of_the_manifest() -> None:
    shuffled = reversed_keys(copy.deepcopy(MANIFEST))
    assert text_of(manifest=shuffled) == text_of()
    assert croissant(DATASET, "0a1b", shuffled, SCHEMA) == croissant(DATASET, "0a1b", MANIFEST, SCHEMA)


def test_front_matter_names_only_splits_that_have_shards() -> None:
    front = front_of(text_of())
    assert front["configs"] == [
        {"config_name": "default", "data_files": [{"split": "train_val", "path": "parquet/train_val/*.parquet"}]}
    ]
    assert front["license"] == "cc-by-4.0"
    assert front["size_categories"] == ["1K<n<10K"]
    assert front["task_ids"] == ["multi-label-image-classification"]


@pytest.mark.parametrize(
    ("stores", "path"),
    [
        (("webdataset", "parquet"), "parquet/train_val/*.parquet"),
        (("parquet",), "parquet/train_val/*.parquet"),
        (("webdataset",), "webdataset/train_val/*.tar"),
    ],
)
def test_front_matter_points_at_a_store_that_is_there(stores: tuple[str, ...], path: str) -> None:
    (config,) = front_of(text_of(manifest=with_stores(*stores)))["configs"]
    assert [entry["path"] for entry in config["data_files"]] == [path]


def test_without_any_shard_there_is_no_configuration() -> None:
    assert "configs" not in front_of(text_of(manifest=with_stores()))


def test_card_counts_labels_where_the_manifest_does() -> None:
    assert "| Mass | a mass | 1,100 / 99 / 1 |" in text_of()
    bare = copy.deepcopy(MANIFEST)
    del bare["splits"]["train_val"]["labels"]
    assert "| Mass | a mass |\n" in text_of(manifest=bare)


def test_card_says_what_is_known_beside_what_was_found() -> None:
    assert "| Sixteen ages are above 120 years. | 16 | 14 | the publisher's table |" in text_of()


def test_card_admits_a_failed_gate() -> None:
    failed = (Verdict("images", (replace(DECODABLE, status="failed"),)),)
    assert "although a check failed" not in text_of()
    assert "although a check failed" in card(DATASET, "0a1b", MANIFEST, ACCOUNTING, failed).decode()


def test_hostile_text_stays_text() -> None:
    hostile = replace(
        DATASET,
        title=HOSTILE,
        summary=HOSTILE,
        licence=HOSTILE,
        citation=HOSTILE,
        homepage=f"https://x/ {HOSTILE}",
        labels={HOSTILE: HOSTILE},
        known=(Known("plausible-age", 1, HOSTILE, HOSTILE),),
    )
    tame, wild = text_of(), text_of(hostile)
    assert front_of(wild)["pretty_name"] == HOSTILE
    body, tame_body = wild.split("---\n", 2)[2], tame.split("---\n", 2)[2]
    assert re.findall(r"^(#+) ", body, re.MULTILINE) == re.findall(r"^(#+) ", tame_body, re.MULTILINE)
    assert body.count("\n```") == tame_body.count("\n```")
    prose = re.sub(r"^```.*?^```", "", body, flags=re.DOTALL | re.MULTILINE)
    assert "<script" not in prose
    assert not re.search(r"(?<!\\)\]\(javascript", prose)
    assert not {"\u202e", "\x00"} & set(body)


def test_hostile_text_does_not_break_tables() -> None:
    (row,) = re.findall(r"^\| Every image decodes.*$", text_of(), re.MULTILINE)
    assert len(re.findall(r"(?<!\\)\|", row)) == 6


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, text.", "plain, text."),
        ("train_val", r"train\_val"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("a\nb", "a b"),
        ("3.5 cm", r"3\.5 cm"),
        ("a < b & c", "a &lt; b &amp; c"),
    ],
)
def test_markdown_shows_text_literally(text: str, shown: str) -> None:
    assert markdown(text) == shown


def test_croissant_ids_are_unique_and_legal() -> None:
    described = json.loads(croissant(DATASET, "0a1b", MANIFEST, SCHEMA))
    nodes = [*described["distribution"], *described["recordSet"]]
    nodes += [field for record_set in described["recordSet"] for field in record_set["field"]]
    ids = [node["@id"] for node in nodes]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[A-Za-z0-9._~%/-]+", name) for name in ids)
    assert "samples/meta.OriginalImage%5BWidth" in ids


def test_croissant_names_every_file_with_its_hash() -> None:
    described = json.loads(croissant(DATASET, "0a1b", MANIFEST, SCHEMA))
    files = {
        node["contentUrl"]: node["sha256"] for node in described["distribution"] if node["@type"] == "cr:FileObject"
    }
    assert files == {entry["path"]: entry["sha256"] for entry in [*MANIFEST["files"], *MANIFEST["shards"]]}


@pytest.mark.parametrize(
    ("version", "expected"), [("1", "1.0.0+0a1b"), ("1.2", "1.2.0+0a1b"), ("2024-05", "0.0.0+2024-05.0a1b")]
)
def test_croissant_version_is_semantic(version: str, expected: str) -> None:
    described = json.loads(croissant(replace(DATASET, version=version), "0a1b", MANIFEST, SCHEMA))
    assert described["version"] == expected


@pytest.mark.parametrize("stores", [("webdataset", "parquet"), ("parquet",), ("webdataset",), ()])
def test_croissant_is_valid_without_warnings(stores: tuple[str, ...]) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    described = croissant(DATASET, "0a1b", with_stores(*stores), SCHEMA, published="2017-05-01")
    issues = mlcroissant.Dataset(json.loads(described)).metadata.ctx.issues
    assert not issues.errors
    assert not issues.warnings


@pytest.mark.parametrize(
    ("licence", "identifier"),
    [("CC BY 4.0", "CC-BY-4.0"), ("CC0 1.0", "CC0-1.0"), ("cc-by-nc-sa-4.0", "CC-BY-NC-SA-4.0"), ("see website", None)],
)
def test_spdx_knows_creative_commons(licence: str, identifier: str | None) -> None:
    assert spdx(licence) == identifier
