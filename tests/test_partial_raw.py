"""Raw data that are not all there, that grow, and that come again with other bytes."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

from tests.command import said, scanmill
from tests.conftest import Prepare
from tests.fakes import nih_chest_xray as nih
from tests.release_files import files_of, outcomes_of, samples_of

NAME = "nih-chest-xray"
IMAGES = 100
THIRD = "images_003.zip"


def members(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        return [name for name in opened.namelist() if name.endswith(".png")]


def shards_of(release: Path) -> dict[str, int]:
    """SHA-256 of every shard to its inode."""
    manifest = json.loads((release / "manifest.json").read_bytes())
    return {entry["sha256"]: (release / entry["path"]).stat().st_ino for entry in manifest["shards"]}


def test_what_is_missing_is_said_and_a_tolerance_decides_whether_the_rest_is_published(
    copy: Path, prepare: Prepare, tmp_path: Path
) -> None:
    missing = len(members(copy / THIRD))
    nih.drop(copy, THIRD)
    places = ["--raw", copy, "--lake", tmp_path / "lake", "--workers", 0]
    refused = scanmill("prepare", NAME, *places)
    assert refused.exit_code == 1
    words = said(refused)
    assert f"row-without-image: {missing} of {IMAGES}" in words
    assert f"images_001 {missing} of {IMAGES}" in words  # all of the fake's patients are in the first published archive
    assert "--allow-missing" in words
    answer = json.loads(scanmill("prepare", NAME, *places, "--allow-missing", 0.5, "--json").stdout)
    assert answer["accounting"]["written"] == IMAGES - missing
    assert answer["accounting"]["reasons"]["row-without-image"] == missing
    assert outcomes_of(Path(answer["folder"]))["row-without-image"]["status"] == "tolerated"
    too_little = scanmill("prepare", NAME, *places, "--allow-missing", 0.1)
    assert too_little.exit_code == 1


def test_an_archive_that_arrives_later_costs_only_itself_and_moves_nobody(
    copy: Path, flawless_nih: Path, prepare: Prepare, tmp_path: Path
) -> None:
    nih.drop(copy, THIRD)
    home = tmp_path / "lake" / NAME
    before = home / "releases" / prepare(NAME, copy, tmp_path / "lake", allow_missing=0.5)["release"]
    old = shards_of(before)
    shutil.copy(flawless_nih / THIRD, copy)
    outcome = prepare(NAME, copy, tmp_path / "lake", allow_missing=0.5)
    after = home / "releases" / outcome["release"]
    assert outcome["images"] - outcome["reused"] == len(members(flawless_nih / THIRD))
    assert old.items() <= shards_of(after).items()
    earlier, later = samples_of(before), samples_of(after)
    assert len(later) == IMAGES
    assert later.loc[earlier.index, "split"].equals(earlier["split"])
    assert set(later.index) - set(earlier.index) == {Path(name).stem for name in members(flawless_nih / THIRD)}
    at_once = tmp_path / "other" / NAME / "releases"
    whole = prepare(NAME, flawless_nih, tmp_path / "other", allow_missing=0.5)["release"]
    assert files_of(at_once / whole) == files_of(after)


def test_an_archive_fetched_again_with_other_bytes_is_noticed_and_only_it_is_done_again(
    copy: Path, prepare: Prepare, tmp_path: Path
) -> None:
    home = tmp_path / "lake" / NAME / "releases"
    before = home / prepare(NAME, copy, tmp_path / "lake")["release"]
    images = {name: zipfile.ZipFile(copy / THIRD).read(name) for name in members(copy / THIRD)}
    with zipfile.ZipFile(copy / THIRD, "w", zipfile.ZIP_DEFLATED) as packed_again:
        for name, data in images.items():
            packed_again.writestr(name, data)
    outcome = prepare(NAME, copy, tmp_path / "lake")
    assert home / outcome["release"] != before
    assert outcome["images"] - outcome["reused"] == len(images)
    # Other zip, same images: the shards are what they were.
    assert shards_of(home / outcome["release"]) == shards_of(before)


def test_the_archives_of_a_complete_copy_are_named_by_what_is_missing_of_each(tmp_path: Path) -> None:
    """Rows of patients in the published range of images_012 and images_005, of which no film is there."""
    folder = tmp_path / "raw"
    nih.write(folder, images=IMAGES, defects=False)
    moved = {"0000001": "0003000", "0000002": "0001100"}  # patients 10-19 to 30,000-9, and 20-29 to 11,000-9
    for path in [*folder.glob("*.csv"), *folder.glob("*.txt")]:
        lines = path.read_text().split("\n")
        path.write_text("\n".join(moved.get(line[:7], line[:7]) + line[7:] for line in lines))
    answer = json.loads(scanmill("check", NAME, "--raw", folder, "--json").stdout)
    observed = {o["code"]: o["observed"] for o in answer["verdict"]["outcomes"]}["row-without-image"]
    rows = [line[:7] for line in (folder / nih.TABLE).read_text().split("\n")]
    expected = {part: rows.count(new) for part, new in (("images_005", "0001100"), ("images_012", "0003000"))}
    assert all(expected.values())
    assert observed == "; ".join(f"{part} {count} of {count}" for part, count in expected.items())
