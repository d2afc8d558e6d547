"""Two releases side by side: what came, went, changed, and that nobody changed sides."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.release.diff import PLACEMENT
from tests.command import said, scanmill
from tests.conftest import Prepare, released
from tests.fakes import damage
from tests.fakes import nih_chest_xray as nih
from tests.release_files import samples_of

NAME = "nih-chest-xray"
THIRD = "images_003.zip"


def reference(release: Path) -> str:
    """As the command line takes it."""
    return f"{release.parent.parent}@{release.name}"


def difference(before: Path, after: Path, exit_code: int = 0) -> dict[str, Any]:
    """What the machine-readable line says."""
    result = scanmill("diff", reference(before), reference(after), "--json")
    assert result.exit_code == exit_code, result.stdout + result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_release_does_not_differ_from_itself(flawless_release: Path) -> None:
    found = difference(flawless_release, flawless_release)
    assert found["ok"]
    assert set(found["counts"].values()) == {0}
    assert found["same"] == 100
    assert found["new_bytes"] == 0
    text = scanmill("diff", reference(flawless_release), str(flawless_release.parent.parent)).stdout
    assert "0 added, 0 removed, 0 changed, 100 the same" in text
    assert "no sample moved" in text


def test_an_appended_archive_adds_samples_and_moves_nobody(
    flawless_release: Path, copy: Path, prepare: Prepare, tmp_path: Path
) -> None:
    nih.drop(copy, THIRD)
    part = released(prepare, copy, tmp_path / "lake", allow_missing=0.9)
    before, after = samples_of(part), samples_of(flawless_release)
    found = difference(part, flawless_release)
    assert set(found["added"]) == set(after.index) - set(before.index)
    assert {**found["counts"], "added": 0} == dict.fromkeys(found["counts"], 0) | {"restored": found["counts"]["added"]}
    assert found["inputs"]["added"] == [THIRD]
    assert found["restored"][next(iter(found["added"]))] == "row-without-image"
    assert found["settings"] == {"allow_missing": [0.9, None]}
    new = set(after.loc[list(found["added"]), "shard"])
    assert found["shards"] - found["shared_shards"] == 2 * len(new)
    back = difference(flawless_release, part)
    assert back["removed"] == found["added"]
    text = scanmill("diff", reference(part), reference(flawless_release)).stdout
    assert f"{THIRD} added" in text
    assert f"{len(found['added'])} added (" in text


def test_changed_cells_are_counted_by_column_and_named(
    flawless_release: Path, copy: Path, prepare: Prepare, tmp_path: Path
) -> None:
    table = damage.TableFile(copy / nih.TABLE)
    header, *rows = table.rows()
    row = next(cells for cells in rows if cells[1] == "No Finding")
    row[1], row[4] = "Hernia", str(int(row[4]) + 1)
    table.write([header, *rows])
    found = difference(flawless_release, released(prepare, copy, tmp_path / "lake"))
    sample = row[0].removesuffix(".png")
    columns = {"label.Hernia", "age_years", "meta.Finding Labels", "meta.Patient Age", "meta.findings"}
    assert {name: set(changed) for name, changed in found["changed"].items()} == {sample: columns}
    assert found["changed_columns"] == dict.fromkeys(found["changed_columns"], 1)
    assert found["inputs"]["other bytes"] == [nih.TABLE]
    listed = scanmill("diff", reference(flawless_release), str(tmp_path / "lake" / NAME), "--list").stdout.splitlines()
    assert [line.split("\t")[:2] for line in listed] == [["changed", sample]]


def test_other_pixels_boxes_and_parameters_are_told_apart(
    flawless_release: Path, copy: Path, prepare: Prepare, tmp_path: Path
) -> None:
    boxes = copy / "BBox_List_2017.csv"
    lines = boxes.read_text().splitlines()
    boxed = lines[1].split(",")[0].removesuffix(".png")
    boxes.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
    names = [name for name in samples_of(flawless_release).query("archive == @THIRD").index if name != boxed][:2]
    contents = {name: damage.content_of(copy / THIRD, f"images/{name}.png") for name in names}
    swapped = dict(zip(names, reversed(contents.values()), strict=True))
    damage.change_members(copy / THIRD, lambda name, data: swapped.get(Path(name).stem, data))
    found = difference(flawless_release, released(prepare, copy, tmp_path / "lake", size=32))
    assert {name for name, columns in found["changed"].items() if "pixel_sha256" in columns} == set(names)
    assert [name for name, columns in found["changed"].items() if "boxes" in columns] == [boxed]
    assert found["settings"]["size"] == [224, 32]
    assert found["changed_columns"]["image_sha256"] == 100
    assert not set(found["changed_columns"]) & set(PLACEMENT)


def test_a_sample_that_changed_its_split_is_named_and_the_exit_code_says_so(
    flawless_release: Path, copy: Path, prepare: Prepare, tmp_path: Path
) -> None:
    samples = samples_of(flawless_release)
    patient = samples.loc[samples["split"] == "train", "patient_id"].iloc[0]
    moved = samples["split"].mask(samples["patient_id"] == patient, "test")
    moved.rename_axis("sample_id").to_csv(tmp_path / "mine.csv")
    other = released(prepare, copy, tmp_path / "lake", splits=str(tmp_path / "mine.csv"))
    found = difference(flawless_release, other, exit_code=1)
    films = samples.index[samples["patient_id"] == patient]
    assert found["moved"] == {name: ["train", "test"] for name in films}
    result = scanmill("diff", reference(flawless_release), reference(other))
    assert result.exit_code == 1
    assert f"{len(films)} MOVED: {films[0]} train → test" in result.stdout


def test_what_cannot_be_compared_is_one_clear_error(
    flawless_release: Path, lakes: Callable[[str], Path], tmp_path: Path
) -> None:
    other = lakes("mammography-density") / "mammography-density"
    assert "of mammography-density" in said(scanmill("diff", reference(flawless_release), other))
    assert "does not exist" in said(scanmill("diff", reference(flawless_release), tmp_path / "nowhere"))
    assert f"has no release 0123456789abcdef; published: {flawless_release.name}" in said(
        scanmill("diff", reference(flawless_release), f"{flawless_release.parent.parent}@0123456789abcdef")
    )
    shutil.copytree(flawless_release.parent.parent, tmp_path / NAME)
    manifest = tmp_path / NAME / "releases" / flawless_release.name / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:100])
    result = scanmill("diff", tmp_path / NAME, reference(flawless_release))
    assert result.exit_code == 2
    assert "scanmill verify" in said(result)
