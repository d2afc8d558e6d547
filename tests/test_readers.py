"""A release opens with the tools its users have, and all of them see the same samples."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from tests import readers


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
    issues = mlcroissant.Dataset(release / "croissant.json").metadata.ctx.issues
    assert not issues.errors
    # The specification wants a date of publication; not every publisher gives one.
    assert [warning for warning in issues.warnings if "datePublished" not in warning] == []


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
    blocks = re.findall(r"```(\w+)\n(.*?)```", card, flags=re.DOTALL)
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


def _croissant_labels(record: dict[str, Any], record_set: str) -> list[int | None]:
    values = [value for name, value in record.items() if name.startswith(f"{record_set}/label.")]
    return [None if value is None else int(value) for value in values]
