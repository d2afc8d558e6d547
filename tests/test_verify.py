"""``scanmill verify``: a fresh release passes, and each kind of damage is found and named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.command import scanmill

DATASET = "nih-chest-xray"


@pytest.fixture
def home(tmp_path: Path, lakes: Callable[[str], Path]) -> Path:
    """``<lake>/<dataset>`` of a copy that a test may damage."""
    shutil.copytree(lakes(DATASET) / DATASET, tmp_path / DATASET, ignore=shutil.ignore_patterns("data_docs"))
    return tmp_path / DATASET


def folder_of(home: Path) -> Path:
    """The release that the pointer names."""
    return home / "releases" / str(json.loads((home / "latest.json").read_bytes())["release"])


def first(folder: Path, pattern: str) -> Path:
    """One file of the release."""
    return min(folder.glob(pattern))


def flip(path: Path) -> Path:
    """Turn one bit in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path


def truncate(path: Path) -> Path:
    """Cut the last byte off."""
    path.write_bytes(path.read_bytes()[:-1])
    return path


def delete(path: Path) -> Path:
    """Remove the file."""
    path.unlink()
    return path


def create(path: Path) -> Path:
    """Put a file where none was."""
    path.write_text("not of this release")
    return path


def change_label(path: Path) -> Path:
    """Turn one label round, as somebody with pandas would."""
    samples = pd.read_parquet(path)
    samples["label.Mass"] = samples["label.Mass"].where(samples.index > 0, 1 - samples["label.Mass"])
    samples.to_parquet(path, index=False)
    return path


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Change a JSON file in place."""
    value = json.loads(path.read_bytes())
    change(value)
    path.write_text(json.dumps(value, sort_keys=True, indent=1) + "\n")
    return path


DAMAGES: dict[str, Callable[[Path], Path]] = {
    "a flipped bit in a tar": lambda folder: flip(first(folder, "webdataset/*/*.tar")),
    "a flipped bit in a parquet shard": lambda folder: flip(first(folder, "parquet/*/*.parquet")),
    "a truncated tar": lambda folder: truncate(first(folder, "webdataset/*/*.tar")),
    "a truncated parquet shard": lambda folder: truncate(first(folder, "parquet/*/*.parquet")),
    "a deleted tar": lambda folder: delete(first(folder, "webdataset/*/*.tar")),
    "a deleted parquet shard": lambda folder: delete(first(folder, "parquet/*/*.parquet")),
    "an edited label": lambda folder: change_label(folder / "samples.parquet"),
    "a truncated sample table": lambda folder: truncate(folder / "samples.parquet"),
    "a deleted quarantine": lambda folder: delete(folder / "quarantine.parquet"),
    "an edited card": lambda folder: flip(folder / "README.md"),
    "an edited report": lambda folder: flip(folder / "quality" / "report.json"),
    "a deleted report": lambda folder: delete(folder / "quality" / "index.html"),
    "a file too many": lambda folder: create(folder / "parquet" / "extra.parquet"),
    "a file too many beside the data docs": lambda folder: create(folder / "quality" / "run.json.parquet"),
    "a file too many beside the run": lambda folder: create(folder / "quality" / "data_docs.html"),
    "a manifest with another count": lambda folder: edit_json(
        folder / "manifest.json", lambda m: m["accounting"].update(written=m["accounting"]["written"] - 1)
    ),
    "a manifest that is no JSON": lambda folder: truncate(truncate(folder / "manifest.json")),
    "a deleted manifest": lambda folder: delete(folder / "manifest.json"),
}


def test_a_fresh_release_is_whole(home: Path) -> None:
    for reference in (str(home), f"{home}@{folder_of(home).name}"):
        result = scanmill("verify", reference)
        assert result.exit_code == 0, result.output
        assert "is whole" in result.stdout


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_and_named(damage: str, home: Path) -> None:
    folder = folder_of(home)
    name = DAMAGES[damage](folder).relative_to(folder).as_posix()
    result = scanmill("verify", home)
    assert result.exit_code == 1
    assert any(line.startswith(f"{home}: {name}") for line in result.stderr.splitlines()), result.stderr


@pytest.mark.parametrize("damage", ["a flipped bit in a tar", "an edited label"])
def test_damage_to_one_file_is_reported_once(damage: str, home: Path) -> None:
    DAMAGES[damage](folder_of(home))
    answer = json.loads(scanmill("verify", home, "--json").stdout)
    assert answer["ok"] is False
    assert len(answer["problems"]) == 1


def test_a_manifest_whose_counts_were_edited_is_found_without_the_pointer(home: Path) -> None:
    folder = folder_of(home)
    edit_json(folder / "manifest.json", lambda manifest: manifest["splits"]["test"].update(samples=7))
    result = scanmill("verify", f"{home}@{folder.name}")
    assert result.exit_code == 1
    assert "manifest.json" in result.stderr


def test_a_pointer_that_vouches_for_another_manifest_is_found(home: Path) -> None:
    edit_json(home / "latest.json", lambda pointer: pointer.update(manifest_sha256="0" * 64))
    result = scanmill("verify", home)
    assert result.exit_code == 1
    assert "latest.json" in result.stderr


def test_a_pointer_to_a_release_that_is_not_there_is_found(home: Path) -> None:
    edit_json(home / "latest.json", lambda pointer: pointer.update(release="0123456789abcdef"))
    result = scanmill("verify", home)
    assert result.exit_code == 1
    assert "latest.json" in result.stderr


@pytest.mark.parametrize("text", ["", "{", '{"release": "../../elsewhere"}', "[]"])
def test_a_pointer_that_cannot_be_read_is_named(text: str, home: Path) -> None:
    (home / "latest.json").write_text(text)
    result = scanmill("verify", home)
    assert result.exit_code == 1
    assert "latest.json is damaged" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("reference", ["nowhere/at-all", ".", "@1234"])
def test_a_reference_to_no_release_is_wrong_use(reference: str, tmp_path: Path) -> None:
    result = scanmill("verify", tmp_path / reference)
    assert result.exit_code == 2
    assert str(tmp_path) in result.stderr
