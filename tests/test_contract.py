"""What every dataset promises, held once for all: names, splits, sums, the layout on disk, and the very bytes.

`make contract DATASET=NAME DATASETS=FOLDER` runs it over a dataset of your own, and says what its declaration lacks.
"""

from __future__ import annotations

import csv
import hashlib
import html
import io
import json
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator
from PIL import Image

from tasks.archives import Archive
from tasks.datasets import VARIABLE, catalogue, file_of
from tasks.drafts.gaps import gaps
from tasks.files import sha256_file
from tasks.samples import escape_key, unescape_key
from tasks.schema import (
    CANONICAL,
    COMPARED_COLUMNS,
    HEADERS,
    IMAGE_COLUMNS,
    MASK_COLUMNS,
    QUARANTINE,
    Dataset,
    UnusableInput,
)
from tasks.shards import SHARD_BYTES, SHARD_SAMPLES, in_reading_order, plan_shards, read_images
from tests import raw_files
from tests.conftest import Prepare, published_in
from tests.fakes import damage
from tests.fakes.mammography_density import ARCHIVE, LESIONS, ROOT
from tests.release_files import files_of, outcomes_of
from tests.tiny_releases import parquet_of

ROW_GROUP_LIMIT = 64 * 2**20
EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "datasets"
WORKED = sorted(path.stem.replace("_", "-") for path in EXAMPLES.glob("[!_]*.py"))


@pytest.fixture(scope="session", params=[*catalogue(), *(name for name in WORKED if name not in catalogue())])
def dataset_name(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every dataset of the catalogue in turn, your own among them, and the worked examples."""
    folders = [*filter(None, [os.environ.get(VARIABLE)]), *([str(EXAMPLES)] if request.param in WORKED else [])]
    with pytest.MonkeyPatch.context() as patch:
        if request.param not in catalogue():
            patch.setenv(VARIABLE, os.pathsep.join(folders))
        yield str(request.param)


@pytest.fixture(scope="session")
def release(dataset_name: str, lakes: Callable[[str], Path]) -> Path:
    """Folder of the published release of the dataset in turn; conftest's own may still be that of another's turn."""
    return published_in(lakes(dataset_name), dataset_name)


@pytest.fixture
def dataset(dataset_name: str) -> Dataset:
    """The declaration of the dataset in turn."""
    return catalogue()[dataset_name]


@pytest.fixture
def raw(dataset_name: str, fakes: Callable[[str], Path]) -> Path:
    """The raw folder that the release in turn was made from."""
    return fakes(dataset_name)


@pytest.fixture
def samples(release: Path) -> pd.DataFrame:
    """The sample table of the release in turn."""
    return pd.read_parquet(release / "samples.parquet")


def manifest_of(release: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((release / "manifest.json").read_bytes())
    return value


def original(raw: Path, row: Mapping[Any, Any]) -> bytes:
    """The published bytes of a sample, read without scanmill."""
    return raw_files.read(raw, row["archive"], row["member"])


def test_a_declaration_says_where_the_data_come_from_and_under_which_terms(dataset: Dataset) -> None:
    if missing := gaps(dataset, file_of(dataset.name)):
        pytest.fail("\n".join([f"{dataset.name} is not whole yet:", *missing]), pytrace=False)


def test_the_sample_table_has_the_declared_columns_in_order(dataset: Dataset, release: Path) -> None:
    schema = pq.read_schema(release / "samples.parquet")
    canonical = [name for name, _ in CANONICAL]
    labels = [f"label.{name}" for name in dataset.labels] + [f"target.{name}" for name in dataset.targets]
    boxes = ["boxes", "boxes_scaled"] if dataset.has_boxes else []
    meta = [name for name in schema.names if name.startswith("meta.")]
    images = [name for name, _ in (*IMAGE_COLUMNS, *COMPARED_COLUMNS)]
    masks = [name for name, _ in MASK_COLUMNS] if dataset.has_masks else []
    assert schema.names == [*canonical, *labels, *boxes, *meta, *images, *masks, "shard", "row", "tar_offset"]
    assert {schema.field(name).type for name in labels if name.startswith("label.")} <= {pa.int8()}
    columns = {column for rule in dataset.tables if rule.has_header and rule.is_required for column in rule.columns}
    assert {f"meta.{column}" for column in columns} <= set(meta)


def test_sample_ids_are_unique_safe_and_lead_back_to_the_member(dataset: Dataset, samples: pd.DataFrame) -> None:
    assert len(samples) > 100
    assert samples["sample_id"].is_unique
    conceals = next(rule.conceals for rule in dataset.members if rule.kind == "image")
    for name, member in zip(samples["sample_id"], samples["member"], strict=True):
        assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
        if dataset.dicom is None:  # those images are called by what is in their headers
            assert unescape_key(name) in (re.sub(conceals, r"\1", member) if conceals else member)


@pytest.mark.parametrize("key", ["train/Image_1", "a-b", "a.b", "a--b", "a/-b", "Größe µ", "日本", "-2d", "a b/c"])
def test_any_key_survives_the_way_to_a_sample_id_and_back(key: str) -> None:
    name = escape_key(key)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", name)
    assert unescape_key(name) == key


def test_different_keys_never_meet_in_one_sample_id() -> None:
    keys = ["a/b", "a-b", "a--b", "a-2fb", "a-2db", "a.b", "a-2d-2db", "a-/b", "a/-b", "a-2f", "a/2f"]
    assert len({escape_key(key) for key in keys}) == len(keys)


def test_nothing_leaks_between_labelled_splits(dataset: Dataset, samples: pd.DataFrame) -> None:
    labelled = samples[samples["split"].isin(dataset.labelled_splits)]
    assert set(labelled["split"]) == set(dataset.labelled_splits)
    assert labelled["group_id"].notna().all()
    assert labelled["group_id"].nunique() < len(labelled)
    for unit in ("group_id", "pixel_sha256"):
        assert labelled.groupby(unit)["split"].nunique().max() == 1


def test_labels_are_as_exclusive_as_declared(dataset: Dataset, samples: pd.DataFrame) -> None:
    labels = samples.loc[samples["split"].isin(dataset.labelled_splits), [f"label.{name}" for name in dataset.labels]]
    assert labels.notna().all(axis=None)
    counts = labels.sum(axis=1)
    most = min(2, len(dataset.labels))
    assert (counts.max() == counts.min() == 1) if dataset.label_kind == "exclusive" else counts.max() >= most
    unlabelled = samples[~samples["split"].isin(dataset.labelled_splits)]
    assert unlabelled[list(labels.columns)].isna().all(axis=None)


def test_the_manifest_counts_what_is_in_the_raw_archives(
    dataset: Dataset, raw: Path, release: Path, samples: pd.DataFrame
) -> None:
    manifest = manifest_of(release)
    counted = manifest["accounting"]
    members = raw_files.names_of(raw)
    assert counted["members"] == len(members)
    assert counted["members"] == counted["written"] + counted["quarantined"] + sum(counted["ignored"].values())
    assert counted["written"] == len(samples) * (2 if dataset.has_masks else 1)
    quarantine = pq.read_table(release / "quarantine.parquet")
    assert quarantine.schema == QUARANTINE
    assert counted["quarantined"] == len(quarantine) - quarantine["member"].null_count
    places = {member if archive == "." else f"{archive}/{member}": (archive, member) for archive, member in members}
    rules = {rule.role: rule for rule in dataset.tables}
    by_name = {used["name"]: rules[role] for role, used in manifest["parameters"]["tables"].items()}
    for table in counted["tables"]:
        if table["table"] == HEADERS:
            assert table["found"] == table["written"] + table["quarantined"]
            continue
        rule = by_name[table["table"]]
        text = raw_files.read(raw, *places[table["table"]]).decode(rule.encoding)
        lines = [row for row in csv.reader(io.StringIO(text), delimiter=rule.separator) if any(row)]
        assert table["found"] == len(lines) - rule.has_header
        assert table["found"] == table["written"] + table["quarantined"]
    junk = sum(re.search(r"__MACOSX|\.DS_Store|Thumbs\.db", name) is not None for _, name in members)
    assert counted["ignored"].get("junk", 0) == junk


def test_the_manifest_counts_what_is_in_the_release(dataset: Dataset, release: Path, samples: pd.DataFrame) -> None:
    manifest = manifest_of(release)
    assert manifest["format_version"] == 1
    assert {name: split["samples"] for name, split in manifest["splits"].items()} == dict(
        samples["split"].value_counts()
    )
    for name, split in manifest["splits"].items():
        part = samples[samples["split"] == name]
        assert split["groups"] == part["group_id"].nunique()
        for label in dataset.labels:
            assert split["labels"][label]["present"] == (part[f"label.{label}"] == 1).sum()
    listed = {entry["path"]: entry for entry in [*manifest["shards"], *manifest["files"]]}
    assert {name: entry["sha256"] for name, entry in listed.items()} | {
        "manifest.json": sha256_file(release / "manifest.json")
    } == files_of(release)
    for store in ("webdataset", "parquet"):
        assert sum(s["samples"] for s in manifest["shards"] if s["store"] == store) == len(samples)


def test_inputs_are_pinned_by_their_hashes(raw: Path, release: Path) -> None:
    inputs = {entry["name"]: entry for entry in manifest_of(release)["inputs"]}
    for path in raw.glob("*.zip"):
        assert inputs[path.name] == {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_file(path)}
    for path in raw.glob("*.csv"):
        assert inputs[path.name]["sha256"] == sha256_file(path)


def test_the_lake_has_the_layout_of_the_contract_and_nothing_else(
    dataset: Dataset, release: Path, samples: pd.DataFrame
) -> None:
    home = release.parent.parent
    assert {path.name for path in home.iterdir() if not path.name.startswith(".")} == {
        "chunks",
        "releases",
        "latest.json",
    }
    assert [path.name for path in (home / "releases").iterdir()] == [release.name]
    assert json.loads((home / "latest.json").read_bytes()) == {
        "release": release.name,
        "manifest_sha256": sha256_file(release / "manifest.json"),
    }
    expected = {"manifest.json", "samples.parquet", "lineage.parquet", "quarantine.parquet"}
    expected |= {"croissant.json", "README.md", "fingerprints.parquet", "quality/near_duplicates.parquet"}
    expected |= {f"quality/{name}" for name in ("index.html", "report.json", "run.json", "changes.html", "drift.json")}
    expected |= {"boxes.coco.json"} if dataset.has_boxes else set()
    expected |= {"dicom.json"} if dataset.dicom else set()
    for shard in samples["shard"].unique():
        split, number = shard.split("/")
        assert re.fullmatch(r"\d{6}", number)
        expected.add(f"webdataset/{split}/{dataset.name}-{split}-{number}.tar")
        expected.add(f"parquet/{split}/{number}.parquet")
    names = {path.relative_to(release).as_posix() for path in release.rglob("*") if path.is_file()}
    docs = {name for name in names if name.startswith("quality/data_docs/")}
    assert names - docs == expected
    assert ("quality/data_docs/index.html" in docs) == (not dataset.is_restricted)
    assert set(samples["shard"].str.split("/").str[0]) == set(dataset.splits)


def test_the_report_for_machines_fits_its_schema(release: Path) -> None:
    schema = json.loads(resources.files("tasks.quality").joinpath("report.schema.json").read_text("utf-8"))
    Draft202012Validator(schema).validate(json.loads((release / "quality" / "report.json").read_bytes()))


def test_the_lines_under_load_it_run_as_they_stand(
    lakes: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import duckdb

    lake = lakes("mammography-density")
    monkeypatch.chdir(lake)
    (page,) = lake.glob("mammography-density/releases/*/quality/index.html")
    shown = page.read_text("utf-8").partition('<section id="open">')[2]
    found = re.findall(r"<h3>([^<]*)</h3><pre[^>]*><code>(.*?)</code>", shown, flags=re.DOTALL)
    lines = {tool: html.unescape(code) for tool, code in found}
    assert set(lines) == {"pandas", "DuckDB", "WebDataset", "Hugging Face datasets", "mlcroissant"}
    samples = pd.read_parquet(page.parent.parent / "samples.parquet")
    assert dict(duckdb.execute(lines["DuckDB"]).fetchall()) == samples["split"].value_counts().to_dict()
    loaded: dict[str, Any] = {}
    for tool in ("pandas", "WebDataset", "mlcroissant"):
        exec(lines[tool], loaded)
    assert len(loaded["samples"]) == len(samples)
    image, row = next(iter(loaded["train"]))
    assert image.size == (row["width"], row["height"])
    assert len(capsys.readouterr().out.splitlines()) == 10


def test_tars_are_sorted_without_clock_or_owner_and_hold_image_then_json(dataset: Dataset, release: Path) -> None:
    for path in release.glob("webdataset/*/*.tar"):
        with tarfile.open(path) as opened:
            entries = opened.getmembers()
            texts = {entry.name: opened.extractfile(entry).read() for entry in entries}  # type: ignore[union-attr]
        files = 3 if dataset.has_masks else 2
        images, sidecars = entries[::files], entries[files - 1 :: files]
        keys = [entry.name.removesuffix(".png") for entry in images]
        assert keys == sorted(keys)
        assert [entry.name for entry in images] == [f"{key}.png" for key in keys]
        assert [entry.name for entry in sidecars] == [f"{key}.json" for key in keys]
        assert {(e.mtime, e.uid, e.gid, e.uname, e.gname, e.mode, e.type) for e in entries} == {
            (0, 0, 0, "", "", 0o644, tarfile.REGTYPE)
        }
        for key in keys:
            row = json.loads(texts[f"{key}.json"])
            assert row["sample_id"] == key
            assert row["split"] == path.parent.name
            assert all(f"label.{name}" in row for name in dataset.labels)


def test_the_sample_table_points_at_the_right_bytes_in_both_stores(
    dataset: Dataset, release: Path, samples: pd.DataFrame
) -> None:
    for shard, part in samples.groupby("shard"):
        split, number = str(shard).split("/")
        tar = (release / f"webdataset/{split}/{dataset.name}-{split}-{number}.tar").read_bytes()
        rows = pq.read_table(release / f"parquet/{split}/{number}.parquet").to_pylist()
        assert sorted(part["row"]) == list(range(len(rows)))
        assert list(part["sample_id"]) == sorted(part["sample_id"])
        for sample in part.to_dict("records"):
            row = rows[sample["row"]]
            assert row["sample_id"] == sample["sample_id"]
            assert row["image"]["path"] == f"{sample['sample_id']}.png"
            start = int(sample["tar_offset"])
            image = tar[start : start + sample["image_bytes"]]
            assert image == row["image"]["bytes"]
            assert hashlib.sha256(image).hexdigest() == sample["image_sha256"]


def images_of(release: Path) -> dict[str, bytes]:
    """Stored image by sample id."""
    return {
        row["sample_id"]: row["image"]["bytes"]
        for path in release.glob("parquet/*/*.parquet")
        for row in pq.read_table(path, columns=["sample_id", "image"]).to_pylist()
    }


def grey(data: bytes) -> np.ndarray[Any, Any]:
    """Pixels as Pillow reads them, of several channels the first."""
    pixels = np.asarray(Image.open(io.BytesIO(data)))
    return pixels if pixels.ndim == 2 else pixels[..., 0]


def brighter(data: bytes, transform: str) -> np.ndarray[Any, Any]:
    """Pixels of a DICOM file as pydicom reads them, more brighter, none below zero (docs/dicom.md)."""
    pydicom = pytest.importorskip("pydicom")
    file = pydicom.dcmread(io.BytesIO(data))
    found: np.ndarray[Any, Any] = file.pixel_array.astype(np.int32)
    if file.PhotometricInterpretation == "MONOCHROME1":
        found = (-1 if file.PixelRepresentation else 2**file.BitsStored - 1) - found
    lift = re.search(r"plus (\d+)", transform)
    return found + int(lift[1]) if lift else found


def test_stored_pixels_are_those_that_pillow_reads_from_the_published_file(
    dataset: Dataset, release: Path, raw: Path, samples: pd.DataFrame
) -> None:
    same_size = samples[samples["width"] == samples["source_width"]]
    assert len(same_size) == len(samples)
    stored = images_of(release)
    for sample in same_size.to_dict("records"):
        data = original(raw, sample)
        assert sample["source_sha256"] == hashlib.sha256(data).hexdigest()
        pixels = np.asarray(Image.open(io.BytesIO(stored[sample["sample_id"]])))
        if dataset.dicom is not None:
            np.testing.assert_array_equal(pixels, brighter(data, sample["transform"]))
        elif dataset.image.hides_outside_scan:  # then what is not blackened is the luma, which libraries round unlike
            luma = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
            assert np.abs(luma.astype(int) - pixels)[pixels > 0].max() <= 1
            assert 0.05 < (pixels > 0).mean() < (luma > 0).mean()
        else:
            np.testing.assert_array_equal(pixels, grey(data))


def test_every_parquet_shard_is_one_row_group_within_the_limit(release: Path) -> None:
    for path in release.glob("parquet/*/*.parquet"):
        metadata = pq.read_metadata(path)
        assert metadata.num_row_groups == 1
        assert 0 < metadata.row_group(0).total_byte_size <= ROW_GROUP_LIMIT


def test_a_row_group_of_the_largest_shard_stays_within_64_mib() -> None:
    sizes = [2**20] * 70
    frame = pd.DataFrame({"split": "train", "archive": "a.zip", "image_bytes": sizes})
    plan_shards(frame, ("train",), "made-up", "png")
    first = frame[frame["position"] == 0]
    rows = pa.table({"sample_id": [f"sample_{number:06d}" for number in first.index]})
    data = parquet_of(rows, [bytes(size) for size in first["image_bytes"]])
    assert len(first) >= 60
    assert pq.read_metadata(pa.BufferReader(data)).row_group(0).total_byte_size <= ROW_GROUP_LIMIT


def test_shards_are_cut_by_split_archive_count_and_bytes() -> None:
    parts = [("train", "a.zip", SHARD_SAMPLES + 1, 10), ("train", "b.zip", 1, 10), ("test", "a.zip", 2, SHARD_BYTES)]
    rows = [
        {"split": split, "archive": archive, "sample_id": f"{archive[0]}{number:05d}", "image_bytes": size}
        for split, archive, count, size in parts
        for number in range(count)
    ]
    frame = in_reading_order(pd.DataFrame(rows).sample(frac=1, random_state=1), ("train", "test"))
    planned = plan_shards(frame, ("train", "test"), "made-up", "png")
    assert [shard.name for shard in planned] == [
        "train/000000",
        "train/000001",
        "train/000002",
        "test/000000",
        "test/000001",
    ]
    assert list(frame.groupby("position").size()) == [SHARD_SAMPLES, 1, 1, 1, 1]


def test_the_same_again_into_another_lake_with_two_workers_is_the_same_to_the_byte(
    prepare: Prepare, fakes: Callable[[str], Path], lakes: Callable[[str], Path], tmp_path: Path
) -> None:
    """In process, and in another place, ``test_object_storage.py`` makes other datasets again."""
    name = "nih-chest-xray"
    (first,) = (lakes(name) / name / "releases").iterdir()
    shutil.copytree(fakes(name), tmp_path / "elsewhere")
    raw = files_of(tmp_path / "elsewhere")
    outcome = prepare(name, tmp_path / "elsewhere", tmp_path / "lake", workers=2)
    assert files_of(tmp_path / "elsewhere") == raw
    assert outcome["release"] == first.name
    assert files_of(tmp_path / "lake" / name / "releases" / first.name) == files_of(first)


def test_another_parameter_is_another_release_and_the_first_one_stays(
    prepare: Prepare, fakes: Callable[[str], Path], lakes: Callable[[str], Path], tmp_path: Path
) -> None:
    name = "nih-chest-xray"
    shutil.copytree(lakes(name) / name, tmp_path / name)
    (first,) = (tmp_path / name / "releases").iterdir()
    before = files_of(first)
    outcome = prepare(name, fakes(name), tmp_path, size=32, encoding="jpeg", stores=["parquet"])
    second = first.with_name(outcome["release"])
    assert second != first
    assert files_of(first) == before
    assert json.loads((tmp_path / name / "latest.json").read_bytes())["release"] == second.name
    assert not (second / "webdataset").exists()
    samples = pd.read_parquet(second / "samples.parquet")
    assert samples[["width", "height"]].max(axis=None) == 32
    assert samples["tar_offset"].isna().all()
    image = pq.read_table(min(second.glob("parquet/*/*.parquet")))["image"][0].as_py()
    assert image["path"].endswith(".jpg")
    assert Image.open(io.BytesIO(image["bytes"])).format == "JPEG"


def test_native_keeps_the_published_bytes_and_re_encodes_only_what_must_change(
    prepare: Prepare, fakes: Callable[[str], Path], tmp_path: Path
) -> None:
    name = "nih-chest-xray"
    outcome = prepare(name, fakes(name), tmp_path, size=0, workers=2)
    release = tmp_path / name / "releases" / outcome["release"]
    samples = pd.read_parquet(release / "samples.parquet")
    stored = images_of(release)
    is_kept = samples["transform"] == "original bytes"
    assert set(samples.loc[~is_kept, "transform"]) == {"opaque alpha dropped; equal channels to grey; png"}
    assert (~is_kept).sum() == 1
    for sample in samples.to_dict("records"):
        data = original(fakes(name), sample)
        assert (stored[sample["sample_id"]] == data) == (sample["transform"] == "original bytes")
        assert np.array_equal(grey(stored[sample["sample_id"]]), grey(data))
    chunks = [
        pq.read_table(path, columns=["reason", "image"]) for path in (tmp_path / name / "chunks").glob("*.parquet")
    ]
    held = sum(table["image"].null_count for table in chunks)
    assert held == sum(table.num_rows for table in chunks) - 1  # the one that was re-encoded; no third copy of the rest


def test_native_notices_raw_that_changes_under_it(fakes: Callable[[str], Path], tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("images/x.png", b"published")
    place = {"archive": ["a.zip"], "member": ["images/x.png"], "offset": [0], "chunk": ["c"], "chunk_row": [0]}
    pq.write_table(pa.table({"image": pa.array([None], pa.binary())}), tmp_path / "c")
    rows = pa.table({**place, "image_sha256": [hashlib.sha256(b"published").hexdigest()]})
    source = [Archive("a.zip", "zip", (str(archive),))]
    assert read_images(rows, tmp_path, source) == [b"published"]
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("images/x.png", b"something else")
    with pytest.raises(UnusableInput, match=r"a.zip/images/x.png changed in raw"):
        read_images(rows, tmp_path, source)


def test_a_new_archive_converts_only_itself_and_shares_the_shards_of_the_others(
    prepare: Prepare, fakes: Callable[[str], Path], lakes: Callable[[str], Path], tmp_path: Path
) -> None:
    name = "nih-chest-xray"
    shutil.copytree(fakes(name), tmp_path / "raw")
    shutil.copytree(lakes(name) / name, tmp_path / "lake" / name)
    (first,) = (tmp_path / "lake" / name / "releases").iterdir()
    with (
        zipfile.ZipFile(tmp_path / "raw" / "images_001.zip") as archive,
        zipfile.ZipFile(tmp_path / "raw" / "images_004.zip", "w") as added,
    ):
        added.writestr("images/00009999_000.png", archive.read(archive.namelist()[-1]))
    outcome = prepare(name, tmp_path / "raw", tmp_path / "lake")
    assert (outcome["images"], outcome["reused"]) == (321, 320)
    shards = sorted(path.relative_to(first) for path in first.glob("*/*/*.[tp]ar*"))
    assert outcome["linked"] * 2 == len(shards)
    second = first.with_name(outcome["release"])
    assert all((second / shard).stat().st_ino == (first / shard).stat().st_ino for shard in shards)


def test_predict_is_the_publishers_unlabelled_folder_and_every_lesion_is_one_group(
    lakes: Callable[[str], Path],
) -> None:
    (release,) = (lakes("mammography-density") / "mammography-density" / "releases").iterdir()
    samples = pd.read_parquet(release / "samples.parquet")
    folder = samples["member"].str.split("/").str[-2]
    assert ((samples["split"] == "predict") == (folder == "test")).all()
    first = samples.sort_values(["archive", "member"]).groupby("group_id")["pixel_sha256"].first()
    assert list(first.index) == list("px-" + first.str[:16])
    assert len(first) == sum(LESIONS.values())
    outcomes = outcomes_of(release)
    for code, column in (("predict-copies-labelled", "pixel_sha256"), ("predict-shows-labelled", "group_id")):
        labelled = set(samples.loc[folder == "train", column])
        shown = samples.loc[folder == "test", column].isin(labelled).sum()
        assert (outcomes[code]["status"], outcomes[code]["failed"]) == ("known", shown)


def without_half(raw: Path) -> None:
    """Leave out every second training image of the mammography fake, with its row: what there was before data came."""
    table = damage.TableFile(raw / ARCHIVE, f"{ROOT}/Training_set.csv")
    header, *rows = table.rows()
    table.write([header, *rows[::2]])
    left_out = {f"{ROOT}/train/{cells[0]}" for cells in rows[1::2]}
    damage.remove_members(raw / ARCHIVE, left_out)


def test_adding_data_moves_nobody(
    prepare: Prepare, fakes: Callable[[str], Path], lakes: Callable[[str], Path], tmp_path: Path
) -> None:
    name = "mammography-density"
    shutil.copytree(fakes(name), tmp_path / "raw")
    without_half(tmp_path / "raw")
    before = tmp_path / "lake" / name / "releases" / prepare(name, tmp_path / "raw", tmp_path / "lake")["release"]
    (after,) = (lakes(name) / name / "releases").iterdir()
    old, new = (pd.read_parquet(folder / "samples.parquet").set_index("sample_id") for folder in (before, after))
    assert len(new) - len(old) == 120
    assert set(old["split"]) == {"train", "validation", "predict"}
    pd.testing.assert_series_equal(new.loc[old.index, "split"], old["split"])
