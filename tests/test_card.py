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

from tasks.datasets import catalogue
from tasks.release.card import card, markdown
from tasks.release.croissant import croissant
from tasks.release.licences import spdx
from tasks.release.statistics import describe
from tasks.schema import (
    Accounting,
    Dataset,
    Datasheet,
    Known,
    Outcome,
    Parsed,
    Source,
    Table,
    TableCount,
    Terms,
    Verdict,
    sample_schema,
)

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
    terms=Terms(may_redistribute=True, redistribution="With attribution.", bibtex="@misc{nobody,\n  year = {2024}\n}"),
    datasheet=Datasheet(collection=("Nobody took them.",), not_for=("Anything.",)),
)

SCHEMA = sample_schema(DATASET, {f"meta.{name}": pa.string() for name in META})

MANIFEST: dict[str, Any] = {
    "format_version": 1,
    "dataset": "made-up",
    "release": "0a1b",
    "inputs": [
        {"name": "more films.zip", "bytes": 7, "sha256": "3" * 64},
        {"name": "films.zip", "bytes": 5, "sha256": "2" * 64},
    ],
    "parameters": {"size": 224, "encoding": "png", "quality": None},
    "code": {"scanmill": "0.1.0", "source": "5" * 16, "numpy": "2.4", "pillow": "13"},
    "accounting": {"members": 1203, "written": 1200, "quarantined": 1, "ignored": {"table": 2}},
    "splits": {
        "train_val": {
            "samples": 1200,
            "shards": 1,
            "groups": 700,
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

SAMPLES = pd.DataFrame({"age_years": [30.0, 50.0, None], "label.Mass": [1, 0, 0], "target.ivsd": [None, None, None]})

AGES = Outcome("metadata", "plausible-age", "Every age is plausible.", "known", 0.01, 1201, 14, "known", known_rows=16)
DECODABLE = Outcome(
    "images", "decodable", "Every image decodes.", "error", 0.01, 1201, 1, "tolerated", observed=HOSTILE
)
VERDICTS = (Verdict("metadata", (AGES,)), Verdict("images", (DECODABLE,)))


def text_of(dataset: Dataset = DATASET, manifest: Mapping[str, Any] = MANIFEST) -> str:
    return card(dataset, "0a1b", manifest, ACCOUNTING, VERDICTS).decode()


def croissant_of(
    dataset: Dataset = DATASET, manifest: Mapping[str, Any] = MANIFEST, samples: pd.DataFrame = SAMPLES
) -> dict[str, Any]:
    described = json.loads(croissant(dataset, "0a1b", manifest, SCHEMA, describe(samples, dataset)))
    assert isinstance(described, dict)
    return described


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
    assert croissant_of(manifest=shuffled) == croissant_of()


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
        terms=Terms(may_redistribute=True, redistribution=HOSTILE, licence_url=HOSTILE, bibtex=HOSTILE),
        datasheet=Datasheet(collection=(HOSTILE,), not_for=(HOSTILE,)),
    )
    tame, wild = text_of(), text_of(hostile)
    assert front_of(wild)["pretty_name"] == HOSTILE
    body, tame_body = wild.split("---\n", 2)[2], tame.split("---\n", 2)[2]
    assert body.count("\n```") == tame_body.count("\n```")
    prose, tame_prose = (re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE) for text in (body, tame_body))
    assert re.findall(r"^(#+) ", prose, re.MULTILINE) == re.findall(r"^(#+) ", tame_prose, re.MULTILINE)
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
    described = croissant_of()
    nodes = [*described["distribution"], *described["recordSet"], *described["prov:wasDerivedFrom"]]
    nodes += [field for record_set in described["recordSet"] for field in record_set["field"]]
    nodes += [figure for node in nodes for figure in node.get("cr:annotation", [])]
    ids = [node["@id"] for node in nodes]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[A-Za-z0-9._~%/-]+", name) for name in ids)
    assert "samples/meta.OriginalImage%5BWidth" in ids


def test_croissant_names_every_file_with_its_hash() -> None:
    described = croissant_of()
    files = {
        node["contentUrl"]: node["sha256"] for node in described["distribution"] if node["@type"] == "cr:FileObject"
    }
    assert files == {entry["path"]: entry["sha256"] for entry in [*MANIFEST["files"], *MANIFEST["shards"]]}


@pytest.mark.parametrize(
    ("version", "expected"), [("1", "1.0.0+0a1b"), ("1.2", "1.2.0+0a1b"), ("2024-05", "0.0.0+2024-05.0a1b")]
)
def test_croissant_version_is_semantic(version: str, expected: str) -> None:
    described = croissant_of(replace(DATASET, version=version))
    assert described["version"] == expected


@pytest.mark.parametrize("stores", [("webdataset", "parquet"), ("parquet",), ("webdataset",), ()])
def test_croissant_is_valid_without_warnings(stores: tuple[str, ...]) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    issues = mlcroissant.Dataset(croissant_of(manifest=with_stores(*stores))).metadata.ctx.issues
    assert not issues.errors
    assert not issues.warnings


@pytest.mark.parametrize(
    ("licence", "identifier"),
    [("CC BY 4.0", "CC-BY-4.0"), ("CC0 1.0", "CC0-1.0"), ("cc-by-nc-sa-4.0", "CC-BY-NC-SA-4.0"), ("see website", None)],
)
def test_spdx_knows_creative_commons(licence: str, identifier: str | None) -> None:
    assert spdx(licence) == identifier


def test_croissant_tells_every_input_with_its_hash_and_what_made_the_release_of_them() -> None:
    described = croissant_of()
    inputs = described["prov:wasDerivedFrom"]
    assert {entity["prov:label"]: entity["sha256"] for entity in inputs} == {
        "films.zip": "2" * 64,
        "more films.zip": "3" * 64,
    }
    made = described["prov:wasGeneratedBy"]
    assert [used["@id"] for used in made["prov:used"]] == [entity["@id"] for entity in inputs]
    agent = made["prov:wasAssociatedWith"]
    assert (agent["prov:label"], agent["softwareVersion"]) == ("scanmill 0.1.0", "5" * 16)
    assert agent["softwareRequirements"] == ["numpy 2.4", "pillow 13"]
    parameters = {property["name"]: property["value"] for property in made["additionalProperty"]}
    assert parameters == {"encoding": "png", "quality": "null", "size": "224"}


def figures_of(described: Mapping[str, Any], column: str) -> dict[str, float]:
    (samples,) = (record_set for record_set in described["recordSet"] if record_set["@id"] == "samples")
    (field,) = (field for field in samples["field"] if field["name"] == column)
    return {figure["name"]: figure["value"] for figure in field.get("cr:annotation", [])}


def test_croissant_annotates_columns_with_their_figures() -> None:
    ages = {"valid": 2, "invalid": 1, "mean": 40.0, "deviation": 14.1421, "minimum": 30.0, "maximum": 50.0}
    assert figures_of(croissant_of(), "age_years") == ages
    labels = {"valid": 3, "invalid": 0, "mean": 0.333333, "deviation": 0.57735}
    assert figures_of(croissant_of(), "label.Mass") == labels
    assert figures_of(croissant_of(), "target.ivsd") == {"valid": 0, "invalid": 3}
    assert figures_of(croissant_of(), "sample_id") == {}


def test_croissant_tells_no_extreme_of_a_restricted_dataset() -> None:
    figures = figures_of(croissant_of(replace(DATASET, is_restricted=True)), "age_years")
    assert figures == {"valid": 2, "invalid": 1, "mean": 40.0, "deviation": 14.1421}


def test_croissant_enumerates_all_splits_and_what_they_are_for() -> None:
    (splits,) = (record_set for record_set in croissant_of()["recordSet"] if record_set["@id"] == "splits")
    rows = [tuple(row.values()) for row in splits["data"]]
    assert rows == [("train_val", "cr:TestSplit", 1200, 700), ("test", "cr:TestSplit", 0, 0)]


@pytest.mark.parametrize("name", catalogue())
def test_every_dataset_says_whether_it_may_be_passed_on_how_to_cite_it_and_what_it_is_not_for(name: str) -> None:
    dataset = catalogue()[name]
    text = text_of(dataset)
    expected = {True: "**May be redistributed.**", False: "**Do not redistribute.**", None: "**Ask before you redist"}
    assert text.split("\n## ", 1)[0].count(expected[dataset.terms.may_redistribute]) == 1
    assert "```bibtex\n@" in text
    assert "- *Not for:* " in text
    licence = dataset.terms.images_licence or dataset.licence
    assert front_of(text)["license"] == (spdx(licence) or "other").lower()


def test_a_restricted_dataset_and_one_of_unclear_licence_are_not_to_be_passed_on() -> None:
    refused = {name for name, dataset in catalogue().items() if dataset.terms.may_redistribute is False}
    assert refused == {"chexchonet", "mammography-density"}


def test_images_of_your_own_are_not_under_the_licence_of_the_publishers_document() -> None:
    own = replace(DATASET, terms=replace(DATASET.terms, images_licence="your own"))
    assert front_of(text_of(own))["license_name"] == "your-own"
    assert "Licence of the images: your own" in text_of(own)
    assert croissant_of(own)["license"]["name"] == "your own"


def test_an_undeclared_dataset_is_not_said_to_be_free() -> None:
    bare = replace(DATASET, terms=Terms(), datasheet=Datasheet())
    text = text_of(bare)
    assert "**Ask before you redistribute.**" in text
    assert "bibtex" not in text
    assert text.count("- Not known.") == 3
    assert croissant_of(bare)["rai:dataBiases"] == ["Not known."]


def test_the_card_warns_of_leaks_and_counts_the_checks_at_its_top() -> None:
    leaking = replace(DATASET, known=(replace(DATASET.known[0], is_leak=True),))
    top = text_of(leaking).split("\n## ", 1)[0]
    assert "> **Leakage in the published data.** Sixteen ages are above 120 years. Rows here: 14." in top
    assert "Of 2 checks 1 found no more than is tolerated, 1 found what is known of the published data." in top
    assert "Leakage" not in text_of().split("\n## ", 1)[0]


def test_the_datasheet_tells_what_the_publisher_did_from_what_scanmill_did() -> None:
    sheet = text_of().split("\n## Datasheet\n", 1)[1]
    titles = re.findall(r"^### (.*)$", sheet, re.MULTILINE)
    assert titles[:3] == ["Motivation", "Composition", "Collection process"]
    assert "- Nobody took them." in sheet
    assert "- *In this release:* 1,200 train\\_val, 0 test samples, of 700 patients; 1 of 1,203 members" in sheet
    assert "- *By scanmill:* Images were reduced to 224 pixels on the longer side" in sheet
    lossy = MANIFEST | {"parameters": {"size": None, "encoding": "jpeg", "quality": 90}}
    assert "- *By scanmill:* They are stored as JPEG of quality 90." in text_of(manifest=lossy)
    assert "- *By scanmill:* Images keep their published size." in text_of(manifest=lossy)


@pytest.mark.parametrize("name", catalogue())
def test_the_front_matter_is_what_the_hub_reads(name: str) -> None:
    hub = pytest.importorskip("huggingface_hub")
    data = hub.DatasetCard(text_of(catalogue()[name])).data
    assert data.pretty_name == catalogue()[name].title
    assert data.license == "other" or spdx(data.license)
    assert (data.license == "other") == hasattr(data, "license_name")
    assert data.size_categories == ["1K<n<10K"]
