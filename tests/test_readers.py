"""A release opens with the tools its users have, and all of them see the same samples."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks.files import sha256_file
from tasks.release.manifest import is_volatile
from tests import readers
from tests.bench import foreign_readers, open_release


@pytest.mark.parametrize("name", readers.READERS)
def test_every_reader_sees_what_the_sample_table_declares(name: str, release: Path) -> None:
    pytest.importorskip(name)
    expected = readers.declared(release)
    assert expected
    assert readers.READERS[name](release) == expected


def test_hugging_face_decodes_the_image_column(release: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    image = pytest.importorskip("PIL.Image")
    for rows in readers.load_hugging_face(release, tmp_path).values():
        assert isinstance(rows.features["image"], datasets.Image)
        assert isinstance(rows[0]["image"], image.Image)
        assert rows[0]["image"].size == (rows[0]["width"], rows[0]["height"])


def test_hugging_face_finds_exactly_the_splits_of_the_manifest(release: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    declared = json.loads((release / "manifest.json").read_bytes())["splits"]
    found = {split: len(rows) for split, rows in readers.load_hugging_face(release, tmp_path).items()}
    assert found == {split: value["samples"] for split, value in declared.items() if value["samples"]}


def test_croissant_is_valid(release: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    described = mlcroissant.Dataset(release / "croissant.json")
    assert not described.metadata.ctx.issues.errors
    assert not described.metadata.ctx.issues.warnings
    assert described.metadata.conforms_to == [
        "http://mlcommons.org/croissant/1.1",
        "http://mlcommons.org/croissant/RAI/1.0",
    ]
    assert described.metadata.data_biases
    assert described.metadata.creators


def test_croissant_hashes_are_those_of_the_files_and_of_the_raw_inputs(
    release: Path, dataset_name: str, fakes: Callable[[str], Path]
) -> None:
    described = json.loads((release / "croissant.json").read_bytes())
    files = {file["contentUrl"]: file["sha256"] for file in described["distribution"] if "sha256" in file}
    assert "samples.parquet" in files
    assert not any(map(is_volatile, files))
    assert files == {path: sha256_file(release / path) for path in files}
    inputs = json.loads((release / "manifest.json").read_bytes())["inputs"]
    stated = {entity["prov:label"]: entity["sha256"] for entity in described["prov:wasDerivedFrom"]}
    assert stated == {entry["name"]: entry["sha256"] for entry in inputs}
    archives = {path.name: sha256_file(path) for path in fakes(dataset_name).glob("*.zip")}
    assert archives.items() <= stated.items()


def test_croissant_figures_are_those_of_the_sample_table(release: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    (samples,) = (s for s in mlcroissant.Dataset(release / "croissant.json").metadata.record_sets if s.id == "samples")
    table = pd.read_parquet(release / "samples.parquet")
    assert [figure.value for figure in samples.annotations] == [len(table)]
    labels = [field for field in samples.fields if field.name.startswith("label.")]
    assert labels
    for field in labels:
        figures = {figure.name: figure.value for figure in field.annotations}
        assert figures["valid"] == table[field.name].notna().sum()
        assert figures["mean"] == pytest.approx(table[field.name].mean(), rel=1e-5)


@pytest.mark.parametrize("record_set", ["samples", "images"])
def test_croissant_records_load(record_set: str, release: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    expected = readers.declared(release)
    records = list(islice(mlcroissant.Dataset(release / "croissant.json").records(record_set), 10))
    assert len(records) == min(10, len(expected))
    for record in records:
        sample = expected[record[f"{record_set}/sample_id"].decode()]
        assert record[f"{record_set}/split"].decode() == sample.split
        assert _croissant_labels(record, record_set) == list(sample.labels.values())


def test_croissant_images_decode_and_filter_by_split(release: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    image = pytest.importorskip("PIL.Image")
    for split in {sample.split for sample in readers.declared(release).values()}:
        dataset = mlcroissant.Dataset(release / "croissant.json")
        for record in islice(dataset.records("images", filters={"images/split": split}), 3):
            assert isinstance(record["images/image"], image.Image)
            assert record["images/split"].decode() == split


def test_the_examples_of_the_card_run(release: Path, tmp_path: Path) -> None:
    for name in (*readers.READERS, "mlcroissant"):
        pytest.importorskip(name)
    card = (release / "README.md").read_text()
    blocks = re.findall(r"```(python|sql)\n(.*?)```", card, flags=re.DOTALL)
    code = [text if kind == "python" else f"import duckdb\nprint(duckdb.sql({text!r}))" for kind, text in blocks]
    assert len(code) >= 5
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(code)],
        cwd=release,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["duckdb", "pandas"])
def test_what_a_lone_tool_sees_is_what_the_manifest_says(
    name: str, lakes: Callable[[str], Path], tmp_path: Path
) -> None:
    pytest.importorskip(name)
    (release,) = (lakes("mammography-density") / "mammography-density" / "releases").glob("[0-9a-f]*")
    script = [sys.executable, "-I", foreign_readers.__file__, name, str(release)]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60)
    seen, wanted = json.loads(done.stdout), open_release.expected(release)
    assert seen == wanted
    assert open_release.differences(seen, wanted) == []
    seen["samples"]["train"] += 1
    assert len(open_release.differences(seen, wanted)) == 1
    assert open_release.differences({"samples": wanted["samples"]}, wanted) == []
    assert open_release.differences({}, wanted) == ["samples: nothing"]


def _croissant_labels(record: dict[str, Any], record_set: str) -> list[int | None]:
    values = [value for name, value in record.items() if name.startswith(f"{record_set}/label.")]
    return [None if value is None else int(value) for value in values]
