"""From a training row back to the publisher's bytes: every range that ``scanmill trace`` names holds what it says."""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tasks.datasets import catalogue
from tests.command import said, scanmill
from tests.conftest import Prepare
from tests.fakes import damage, ovf_supplement
from tests.refusals import tarred

NIH = "nih-chest-xray"


def traced(place: object, *arguments: object) -> list[dict[str, Any]]:
    """What the command says as JSON, once it has ended well."""
    result = scanmill("trace", place, *arguments, "--json")
    assert result.exit_code == 0, result.output
    samples: list[dict[str, Any]] = json.loads(result.stdout)["samples"]
    return samples


def some_ids(release: Path) -> list[str]:
    """One sample of each split."""
    samples = pd.read_parquet(release / "samples.parquet")
    return [str(part["sample_id"].iloc[len(part) // 2]) for _, part in samples.groupby("split")]


def test_lineage_has_a_row_for_every_sample_in_the_same_order(dataset_name: str, release: Path) -> None:
    samples = pd.read_parquet(release / "samples.parquet")
    lineage = pd.read_parquet(release / "lineage.parquet")
    assert lineage["sample_id"].equals(samples["sample_id"])
    manifest = json.loads((release / "manifest.json").read_bytes())
    counted = {table["table"]: table["written"] for table in manifest["accounting"]["tables"]}
    places = {(place["table"], place["row"]) for rows in lineage["rows"] for place in rows}
    assert dict(pd.Series([table for table, _ in places]).value_counts()) == counted
    assert lineage["mask_offset"].notna().all() == catalogue()[dataset_name].has_masks
    chunks = {path.stem for path in (release.parent.parent / "chunks").glob("*.parquet")}
    assert set(lineage["chunk"]) == chunks


def test_every_named_range_holds_what_it_says_and_the_conversion_is_reproduced(
    dataset_name: str, release: Path, fakes: Callable[[str], Path]
) -> None:
    found = traced(release.parent.parent, *some_ids(release), "--verify")
    assert len(found) == len(catalogue()[dataset_name].splits)
    for one in found:
        image = _range(release / one["stored"]["webdataset"]["path"], one["stored"]["webdataset"])
        assert hashlib.sha256(image).hexdigest() == one["image"]["image_sha256"]
        place = one["stored"]["parquet"]
        table = pq.ParquetFile(release / place["path"]).read_row_group(
            place["row_group"], columns=["sample_id", "image"]
        )
        assert table.slice(place["row"], 1).to_pylist() == [
            {"sample_id": one["sample_id"], "image": {"bytes": image, "path": one["stored"]["webdataset"]["member"]}}
        ]
        column = (release / place["path"]).read_bytes()[place["column_offset"] :][: place["column_length"]]
        assert image in column
        assert all(check["ok"] for check in one["checks"])
        assert {"conversion": "reproduced byte for byte"}.items() <= {
            c["what"]: c["detail"] for c in one["checks"]
        }.items()
        _assert_source(one["source"], fakes(dataset_name))
        _assert_rows(one, fakes(dataset_name))
        split, labelled = one["split"], set(catalogue()[dataset_name].labelled_splits)
        assert split["split"] in split["group_splits"]
        assert len(labelled & set(split["group_splits"])) <= 1


def _range(path: Path, place: dict[str, Any]) -> bytes:
    return path.read_bytes()[place["offset"] : place["offset"] + place["length"]]


def _assert_source(source: dict[str, Any], raw: Path) -> None:
    """The bytes in the range of the archive are the published file."""
    if source["archive"] == ".":
        data = (raw / source["member"]).read_bytes()
    else:
        archive = (raw / source["archive"]).read_bytes()
        assert hashlib.sha256(archive).hexdigest() == source["archive_sha256"]
        place = source["place"]
        assert archive[place["header_offset"] :].startswith(b"PK\x03\x04")
        packed = archive[place["data_offset"] : place["data_offset"] + place["data_bytes"]]
        if place["is_encrypted"]:
            return  # the checks have read it
        data = packed if place["method"] == "stored" else zlib.decompress(packed, -15)
        assert zlib.crc32(data) == place["crc32"]
    assert hashlib.sha256(data).hexdigest() == source["sha256"]
    assert len(data) == source["bytes"]


def _assert_rows(one: dict[str, Any], raw: Path) -> None:
    """Each row is the line of that number below the table's header, as published."""
    for row in one["rows"]:
        data = _table(raw, row["table"])
        lines = [",".join(cells) for cells in csv.reader(data.decode("utf-8-sig").splitlines())]
        expected = lines[row["row"]] if row["header"] else lines[row["row"] - 1]
        assert ",".join(next(csv.reader([row["text"]]))) == expected


def _table(raw: Path, name: str) -> bytes:
    if (raw / name).is_file():
        return (raw / name).read_bytes()
    archive = next(path for path in raw.rglob("*.zip") if name.startswith(f"{path.relative_to(raw).as_posix()}/"))
    with zipfile.ZipFile(archive) as opened:
        return opened.read(name.removeprefix(f"{archive.relative_to(raw).as_posix()}/"))


def test_a_tar_member_is_found_in_the_unpacked_stream(flawless_nih: Path, prepare: Prepare, tmp_path: Path) -> None:
    raw = Path(shutil.copytree(flawless_nih, tmp_path / "raw"))
    tarred(raw / "images_002.zip")
    prepare(NIH, raw, tmp_path / "lake")
    (release,) = (tmp_path / "lake" / NIH / "releases").iterdir()
    samples = pd.read_parquet(release / "samples.parquet")
    name = samples.loc[samples["archive"] == "images_002.tar.gz", "sample_id"].iloc[5]
    (one,) = traced(tmp_path / "lake" / NIH, name, "--verify")
    place = one["source"]["place"]
    assert place["method"] == "tar"
    unpacked = gzip.decompress((raw / "images_002.tar.gz").read_bytes())
    data = unpacked[place["data_offset"] : place["data_offset"] + place["data_bytes"]]
    assert hashlib.sha256(data).hexdigest() == one["source"]["sha256"]
    assert unpacked[place["header_offset"] :].startswith(one["source"]["member"].encode())


def test_text_for_people_has_the_essentials(flawless_release: Path, flawless_nih: Path) -> None:
    name = some_ids(flawless_release)[0]
    text = scanmill("trace", f"{flawless_release.parent.parent}@{flawless_release.name}", name).stdout
    sample = pd.read_parquet(flawless_release / "samples.parquet").set_index("sample_id").loc[name]
    for word in (
        sample["source_sha256"],
        sample["image_sha256"],
        sample["member"],
        sample["archive"],
        sample["transform"],
    ):
        assert str(word) in text
    assert f"\n              {Path(sample['member']).name}," in text
    assert "the publisher's list" in text
    assert "reproduced" not in text


def test_without_the_raw_release_the_rest_is_told_and_verify_says_what_is_missing(
    flawless_release: Path, tmp_path: Path
) -> None:
    lake = Path(shutil.copytree(flawless_release.parent.parent.parent, tmp_path / "lake"))
    run = lake / NIH / "releases" / flawless_release.name / "quality" / "run.json"
    run.write_text(json.dumps({**json.loads(run.read_text()), "raw": [str(tmp_path / "gone")]}))
    name = some_ids(flawless_release)[0]
    (one,) = traced(lake / NIH, name)
    (there,) = traced(flawless_release.parent.parent, name)
    assert one["source"]["place"] == {"header_offset": there["source"]["place"]["header_offset"]}
    assert one["rows"][0]["kept"]["Image Index"] == f"{name}.png"
    assert {"sha256", "archive_sha256", "member"} <= set(one["source"])
    result = scanmill("trace", lake / NIH, name, "--verify")
    assert result.exit_code == 1
    assert "✕ published file" in result.stdout
    assert "say with --raw" in result.stdout
    assert "✓ stored image, webdataset" in result.stdout


def test_a_changed_archive_or_a_changed_shard_is_seen(
    flawless_release: Path, flawless_nih: Path, tmp_path: Path
) -> None:
    lake = Path(shutil.copytree(flawless_release.parent.parent.parent, tmp_path / "lake"))
    raw = Path(shutil.copytree(flawless_nih, tmp_path / "raw"))
    name = some_ids(flawless_release)[0]
    (one,) = traced(lake / NIH, name)
    damage.flip_member_byte(raw / one["source"]["archive"], one["source"]["member"])
    shard = lake / NIH / "releases" / flawless_release.name / one["stored"]["webdataset"]["path"]
    data = bytearray(shard.read_bytes())
    data[one["stored"]["webdataset"]["offset"] + 50] ^= 1
    shard.write_bytes(data)
    answer = scanmill("trace", lake / NIH, name, "--verify", "--raw", raw, "--json")
    assert answer.exit_code == 1
    checks = {check["what"]: check for check in json.loads(answer.stdout)["samples"][0]["checks"]}
    assert [what for what, check in checks.items() if not check["ok"]] == ["stored image, webdataset", "published file"]
    assert "has changed since the release was made" in checks["published file"]["detail"]


def test_a_refused_or_unknown_id_is_one_line(lakes: Callable[[str], Path]) -> None:
    home = lakes(NIH) / NIH
    (quarantine,) = home.glob("releases/*/quarantine.parquet")
    rows = pd.read_parquet(quarantine)
    refused = rows.loc[rows["reason"] == "blank-frame", "sample_id"].iloc[0]
    for name, expected in ((refused, f"({refused} was refused: blank-frame)"), ("nobody", "has no sample nobody")):
        result = scanmill("trace", home, name)
        assert result.exit_code == 2
        assert expected in said(result)


def test_a_document_release_says_where_to_look(prepare: Prepare, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / ovf_supplement.NAME).write_bytes(ovf_supplement.docx_bytes())
    prepare("ovf-radiomics", tmp_path / "raw", tmp_path / "lake")
    assert "documents.json says" in said(scanmill("trace", tmp_path / "lake" / "ovf-radiomics", "a"))


def test_an_encrypted_archive_needs_its_password_only_to_be_read(
    lakes: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = lakes("behsof") / "behsof"
    (release,) = (home / "releases").iterdir()
    monkeypatch.delenv("SCANMILL_BEHSOF_PASSWORD")
    (one,) = traced(home, some_ids(release)[0])
    assert one["source"]["place"]["is_encrypted"]
    result = scanmill("trace", home, some_ids(release)[0], "--verify")
    assert result.exit_code == 1
    assert "SCANMILL_BEHSOF_PASSWORD" in result.stdout


def test_a_prediction_of_a_run_leads_to_the_release_it_was_trained_from(
    prepare: Prepare, flawless_release: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "lake" / "runs" / "first"
    shutil.copytree(flawless_release.parent.parent, tmp_path / "lake" / NIH)
    folder.mkdir(parents=True)
    identity = {"dataset": NIH, "release": flawless_release.name}
    (folder / "run.json").write_text(json.dumps({"run": "first", "identity": identity}))
    name = some_ids(flawless_release)[0]
    predictions = pd.DataFrame({"sample_id": [name], "split": ["test"], "probability.Mass": [0.25]})
    predictions.to_parquet(folder / "predictions.parquet")
    (one,) = traced(folder, name)
    assert one["release"] == flawless_release.name
    assert one["prediction"] == {"probability.Mass": 0.25}


def test_help_shows_an_example() -> None:
    for command in ("trace", "quarantine"):
        assert f"scanmill {command} lake/" in scanmill(command, "--help").stdout.replace("\n", " ")
