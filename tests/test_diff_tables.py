"""What ``scanmill diff`` reads out of two tables, cell by cell; no release is made here."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.lake import Lake
from tasks.release.diff import CHANGES, KINDS, Difference, Kind, compare
from tasks.schema import BOX, QUARANTINE, UnusableInput
from tests.command import said, scanmill

BOXES = [{"label": "Mass", "x": 1.0, "y": 2.0, "w": 3.0, "h": 4.0}]
TYPES = {"label.Mass": pa.int8(), "age_years": pa.float64(), "boxes": pa.list_(BOX), "tar_offset": pa.int64()}
ROWS: dict[str, list[Any]] = {
    "sample_id": ["a", "b", "c"],
    "archive": ["1.zip"] * 3,
    "member": ["a.png", "b.png", "c.png"],
    "split": ["train", "validation", "test"],
    "label.Mass": [1, 0, None],
    "age_years": [58.0, None, 0.1],
    "meta.note": ["x", None, ""],
    "boxes": [BOXES, None, []],
    "pixel_sha256": ["p1", "p2", "p3"],
    "image_sha256": ["i1", "i2", "i3"],
    "intensity_mean": [1.5, 2.5, 3.5],
    "shard": ["train/000000", "validation/000000", "test/000000"],
    "tar_offset": [512, 512, 512],
}


def table(**changes: list[Any]) -> pa.Table:
    columns = {name: values for name, values in {**ROWS, **changes}.items() if values}
    return pa.table({name: pa.array(values, TYPES.get(name)) for name, values in columns.items()})


def release(
    lake: Path, samples: pa.Table, name: str = "0a", refused: dict[str, str] | None = None, **manifest: Any
) -> tuple[Lake, str]:
    """A release folder with nothing but what is compared."""
    place = Lake(str(lake), "nih-chest-xray")
    folder = place.release(name)
    folder.mkdir(parents=True)
    about: dict[str, Any] = {
        "format_version": 1,
        "dataset": "nih-chest-xray",
        "release": name,
        "parameters": {},
        "code": {},
    }
    parts: dict[str, Any] = {"inputs": [], "splits": {}, "shards": [], "files": [], "gates": {}}
    (folder / "manifest.json").write_text(json.dumps({**about, **parts, **manifest}))
    pq.write_table(samples, folder / "samples.parquet")
    rows = [{"sample_id": sample_id, "reason": reason} for sample_id, reason in (refused or {}).items()]
    pq.write_table(pa.Table.from_pylist(rows, schema=QUARANTINE), folder / "quarantine.parquet")
    return place, name


def compared(tmp_path: Path, before: pa.Table, after: pa.Table) -> Difference:
    return compare(release(tmp_path / "one", before), release(tmp_path / "two", after, "0b"))


def differing(found: Difference) -> dict[Kind, tuple[str, ...]]:
    return {kind: found.findings[kind].ids for kind in KINDS if found.findings[kind].ids}


def test_equal_values_do_not_differ_however_they_are_written_and_ordered(tmp_path: Path) -> None:
    other = table().to_pandas().iloc[::-1]
    (tmp_path / "by-pandas").mkdir()
    other.to_parquet(tmp_path / "by-pandas" / "samples.parquet", index=False)
    found = compared(tmp_path, table(), pq.read_table(tmp_path / "by-pandas" / "samples.parquet"))
    assert differing(found) == {}
    assert found.same == 3
    assert found.columns.retyped == ()


@pytest.mark.parametrize(
    ("column", "values", "kind", "ids"),
    [
        ("label.Mass", [0, 0, None], "labels", "a"),
        ("label.Mass", [1, None, 1], "labels", "bc"),
        ("age_years", [58.0, 0.0, math.nextafter(0.1, 1)], "metadata", "bc"),
        ("meta.note", ["x", "", ""], "metadata", "b"),
        ("boxes", [[{**BOXES[0], "w": 3.5}], None, []], "boxes", "a"),
        ("boxes", [BOXES, [], None], "boxes", "bc"),
        ("pixel_sha256", ["p1", "p2", "p9"], "pixels", "c"),
        ("image_sha256", ["i1", "i9", "i3"], "stored-image", "b"),
        ("intensity_mean", [1.5, 2.5, 3.75], "image-facts", "c"),
        ("split", ["test", "validation", "test"], "moved", "a"),
        ("archive", ["2.zip", "1.zip", "1.zip"], "moved-in-raw", "a"),
        ("shard", ["train/000001"] * 3, "metadata", ""),
        ("tar_offset", [1024, None, 0], "metadata", ""),
    ],
)
def test_a_changed_cell_is_of_one_kind(column: str, values: list[Any], kind: Kind, ids: str, tmp_path: Path) -> None:
    found = compared(tmp_path, table(), table(**{column: values}))
    assert differing(found) == ({kind: tuple(ids)} if ids else {})
    is_change = kind in CHANGES
    assert found.changed == (len(ids) if is_change else 0)
    assert found.same == 3 - (len(ids) if is_change or kind == "moved" else 0)
    if is_change and ids:
        assert found.findings[kind].counts == {column: len(ids)}


def test_values_are_told_and_columns_of_one_release_are_named_not_counted(tmp_path: Path) -> None:
    changes: dict[str, list[Any]] = {"label.Mass": [1, 1, 0], "age_years": [1.0, None, 0.1]}
    after = table(**changes, **{"meta.note": [], "meta.new": ["y"] * 3})
    after = after.set_column(after.column_names.index("intensity_mean"), "intensity_mean", pa.array(["1", "2", "3"]))
    found = compared(tmp_path, table(), after)
    assert found.findings["labels"].details == ("label.Mass 0 → 1", "label.Mass null → 0")
    assert found.findings["metadata"].details == ("age_years 58.0 → 1.0",)
    columns = found.columns
    assert (columns.only_before, columns.only_after, columns.retyped) == (
        ("meta.note",),
        ("meta.new",),
        ("intensity_mean",),
    )
    assert differing(found).keys() == {"labels", "metadata"}


def test_quarantine_inputs_settings_and_shards_are_compared(tmp_path: Path) -> None:
    def entry(name: str, content: str) -> dict[str, Any]:
        digest = hashlib.sha256(content.encode()).hexdigest()
        of_shard = {"store": "parquet", "split": "train", "samples": 1}
        return {"name": name, "path": name, "sha256": digest, "bytes": 10, **of_shard}

    before = release(
        tmp_path / "one",
        table().slice(0, 2),
        refused={"c": "blank-frame"},
        inputs=[entry("1.zip", "s1"), entry("t.csv", "s2"), entry("gone.txt", "s3")],
        shards=[entry("a", "h1"), entry("b", "h2")],
        parameters={"size": 224, "tables": {"entries": {"form": "2017"}}},
    )
    after = release(
        tmp_path / "two",
        table().slice(1),
        "0b",
        refused={"a": "undecodable-image", "z": "no-split"},
        inputs=[entry("1.zip", "s1"), entry("t.csv", "s9"), entry("2.zip", "s4")],
        shards=[entry("a", "h1"), entry("c", "h3")],
        parameters={"size": 224, "tables": {"entries": {"form": "2020"}}},
    )
    found = compare(before, after)
    assert differing(found) == {"added": ("c",), "removed": ("a",), "refused": ("a",), "restored": ("c",)}
    assert found.findings["refused"].details == ("undecodable-image",)
    assert found.findings["restored"].details == ("blank-frame",)
    assert found.findings["added"].counts == {"test": 1}
    inputs, shards = found.inputs, found.shards
    assert (inputs.added, inputs.removed, inputs.changed, inputs.same) == (
        ("2.zip",),
        ("gone.txt",),
        ("t.csv",),
        ("1.zip",),
    )
    assert [(s.name, s.before, s.after) for s in found.settings] == [("tables.entries.form", "2017", "2020")]
    assert (shards.files, shards.shared, shards.size_bytes, shards.new_bytes) == (2, 1, 20, 10)
    text = scanmill("diff", f"{before[0].home}@0a", f"{after[0].home}@0b").stdout
    assert "1 → 2 rows; 1 sample went there (undecodable-image 1); 1 sample came back (blank-frame 1)" in text
    assert "1 of 2 shared, 10 B new of 20 B" in text


def test_json_is_one_line_and_cuts_ids_not_counts_and_the_list_has_all(tmp_path: Path) -> None:
    many = [f"s{number:05d}" for number in range(1500)]
    common = {"sample_id": many, "split": ["train"] * 1500}
    before = pa.table({**common, "label.Mass": [0] * 1500, "meta.note": ["tab\there"] * 1500})
    after = pa.table({**common, "label.Mass": [1] * 1500, "meta.note": [""] * 1500})
    one, two = release(tmp_path / "one", before), release(tmp_path / "two", after, "0b")
    command = ("diff", f"{one[0].home}@0a", f"{two[0].home}@0b")
    (line,) = scanmill(*command, "--json").stdout.splitlines()
    answer = json.loads(line)
    assert answer["ok"] is True
    assert (answer["counts"]["changed"], len(answer["changed"])) == (1500, 1000)
    assert answer["changed_columns"] == {"label.Mass": 1500, "meta.note": 1500}
    listed = [line.split("\t") for line in scanmill(*command, "--list").stdout.splitlines()]
    assert [(kind, name) for kind, name, _ in listed] == [("changed", name) for name in many]
    text = scanmill(*command).stdout
    assert text.count("label.Mass 0 → 1") == 5
    assert "1,495 more" in text


@pytest.mark.parametrize("name", ["manifest.json", "samples.parquet", "quarantine.parquet"])
def test_a_damaged_release_is_unusable_and_its_file_is_named(name: str, tmp_path: Path) -> None:
    whole, damaged = release(tmp_path / "one", table()), release(tmp_path / "two", table(), "0b")
    path = damaged[0].release("0b") / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for pair in ((whole, damaged), (damaged, whole)):
        result = scanmill("diff", *(f"{lake.home}@{name}" for lake, name in pair))
        assert result.exit_code == 2
        assert str(path) in said(result)
        assert "scanmill verify" in result.stderr


def test_a_manifest_of_another_format_or_without_its_parts_is_unusable(tmp_path: Path) -> None:
    whole = release(tmp_path / "one", table())
    with pytest.raises(UnusableInput, match="format version 2"):
        compare(whole, release(tmp_path / "two", table(), format_version=2))
    with pytest.raises(UnusableInput, match=r"manifest\.json cannot be read"):
        compare(whole, release(tmp_path / "three", table(), shards=[{"path": "a"}]))


def test_a_sample_id_that_is_there_twice_cannot_be_compared(tmp_path: Path) -> None:
    twice = table(sample_id=["a", "a", "c"])
    with pytest.raises(UnusableInput, match="twice"):
        compared(tmp_path, table(), twice)
