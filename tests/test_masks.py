"""Masks: paired with their images, judged, stored beside them in both stores, drawn, and accounted for."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import shutil
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlcroissant
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks import chunks, shards
from tasks.archives import Archive, Member
from tasks.chunks import Chunk, PairedMask, convert_chunk, plan_chunks
from tasks.datasets import find
from tasks.decoding import ImageRefused
from tasks.lake import Lake
from tasks.masks import convert_mask
from tasks.quality.tiles import thumbnail
from tasks.release.diff import compare
from tasks.release.verify import verify
from tasks.samples import index_members, join
from tasks.schema import (
    MASK_COLUMNS,
    MASK_REASONS,
    ImageRules,
    Parsed,
    Transform,
    UnusableInput,
    sample_schema,
)
from tests.conftest import Prepare
from tests.fakes import ovf_radiomics as fake
from tests.release_files import outcomes_of, samples_of

NAME = "ovf-radiomics"
STORED = 48
"""Longer side of what the reduced release stores; the fake's crops have 96 to 128 pixels."""

Grey = npt.NDArray[np.uint8]


def png(pixels: npt.NDArray[Any], mode: str | None = None) -> bytes:
    """Pixels as a PNG file, of another mode if one is given."""
    target = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(target, "PNG")
    return target.getvalue()


def pixels_of(data: bytes) -> Grey:
    return np.asarray(Image.open(io.BytesIO(data)))


def square(side: int = 12, value: int = 255) -> Grey:
    """A square of 4 by 4 at (3, 5) in a picture of ``side``."""
    pixels = np.zeros((side, side), np.uint8)
    pixels[5:9, 3:7] = value
    return pixels


# ---- one mask -------------------------------------------------------------------------------------------------------

PALETTE = Image.fromarray(square(value=1), "P")
PALETTE.putpalette([0, 0, 0, 250, 0, 0])
SAVED = io.BytesIO()
PALETTE.save(SAVED, "PNG")

FORMS = {
    "8 bits": png(square()),
    "8 bits, level 1": png(square(value=1)),
    "1 bit": png(square(), "1"),
    "16 bits": png(square().astype(np.uint16)),
    "equal channels": png(square(), "RGB"),
    "a palette in colour": SAVED.getvalue(),
}


@pytest.mark.parametrize("form", FORMS)
def test_whatever_is_not_zero_is_inside(form: str) -> None:
    converted = convert_mask(FORMS[form], (12, 12), (12, 12))
    np.testing.assert_array_equal(pixels_of(converted.encoded), square())
    assert converted.facts == {
        "mask_sha256": hashlib.sha256(converted.encoded).hexdigest(),
        "mask_bytes": len(converted.encoded),
        "mask_area": 16 / 144,
        "mask_x": 3,
        "mask_y": 5,
        "mask_w": 4,
        "mask_h": 4,
        "mask_touches_border": False,
    }


def spoiled(*patches: tuple[slice, slice]) -> Grey:
    pixels = square()
    for patch in patches:
        pixels[patch] = 255
    return pixels


COLOURED = np.zeros((12, 12, 3), np.uint8)
COLOURED[4:8, 4:8, 0] = 9
JPEG = io.BytesIO()
Image.fromarray(square()).save(JPEG, "JPEG")

REFUSED = {
    "other size": (png(square(13)), "mask-size", "the mask is 13x13, its image 12x12"),
    "nothing inside": (png(np.zeros((12, 12), np.uint8)), "mask-empty", "no pixel is inside"),
    "two parts": (png(spoiled((slice(0, 1), slice(0, 2)))), "mask-parts", "2 parts of 16, 2 pixels"),
    "no bytes": (b"", "mask-undecodable", "empty-file: the file has no bytes"),
    "cut short": (png(square())[:-30], "mask-undecodable", "truncated"),
    "channels that differ": (png(COLOURED), "mask-undecodable", "channels of mode RGB differ"),
    "a JPEG": (JPEG.getvalue(), "mask-undecodable", "no PNG"),
    "half transparent": (png(np.full((12, 12, 2), 9, np.uint8)), "mask-undecodable", "alpha-channel"),
}


@pytest.mark.parametrize("defect", REFUSED)
def test_a_mask_that_cannot_be_used_is_refused_with_its_reason(defect: str) -> None:
    data, reason, detail = REFUSED[defect]
    with pytest.raises(ImageRefused) as refusal:
        convert_mask(data, (12, 12), (12, 12))
    assert refusal.value.args[0] == reason
    assert reason in MASK_REASONS
    assert detail in refusal.value.args[1]


def test_diagonal_neighbours_are_one_part() -> None:
    converted = convert_mask(png(spoiled((slice(9, 11), slice(7, 9)))), (12, 12), (12, 12))
    assert converted.facts["mask_area"] == 20 / 144


@pytest.mark.parametrize(
    "edge",
    [(slice(0, 12), slice(0, 3)), (slice(6, 7), slice(6, 12)), (slice(0, 6), slice(4, 5)), (slice(8, 12), slice(4, 5))],
)
def test_a_mask_at_the_border_is_a_fact(edge: tuple[slice, slice]) -> None:
    assert convert_mask(png(spoiled(edge)), (12, 12), (12, 12)).facts["mask_touches_border"] is True


def test_a_reduced_mask_lies_where_its_image_does_and_has_nothing_between_the_two_values() -> None:
    big = np.zeros((80, 100), np.uint8)
    big[20:60, 30:70] = 7
    converted = convert_mask(png(big), (100, 80), (50, 40))
    expected = np.zeros((40, 50), np.uint8)
    expected[10:30, 15:35] = 255
    np.testing.assert_array_equal(pixels_of(converted.encoded), expected)
    assert (converted.facts["mask_x"], converted.facts["mask_w"]) == (30, 40)


def test_a_mask_that_the_reduction_swallows_is_empty() -> None:
    small = np.zeros((100, 100), np.uint8)
    small[0, 0] = 1
    with pytest.raises(ImageRefused, match="mask-empty"):
        convert_mask(png(small), (100, 100), (10, 10))


# ---- pairs ----------------------------------------------------------------------------------------------------------


def member(name: str, offset: int = 0, crc32: int = 1, problem: str = "") -> Member:
    return Member("a.zip", name, offset, 10, crc32, problem, problem and "in words")


def entries_of(*members: Member, rows: tuple[str, ...] = ("a", "b")) -> pd.DataFrame:
    """What a release of these members makes of rows for these keys."""
    dataset = find(NAME)
    table = pd.DataFrame({"table": "vertebrae", "row": range(1, len(rows) + 1), "image": rows}, index=range(len(rows)))
    return join(index_members(members, dataset), Parsed(table), {}, dataset)


A = (member("images/a.png"), member("masks/a.png"))


def test_an_image_brings_its_mask_along() -> None:
    (entry,) = entries_of(*A, rows=("a",)).to_dict("records")
    assert (entry["mask_archive"], entry["mask_member"], entry["mask_offset"]) == ("a.zip", "masks/a.png", 0)
    assert entry["image_problem"] == ""


def problems(entries: pd.DataFrame) -> dict[tuple[str, int], str]:
    found = entries[entries["member"].notna()]
    return dict(zip(zip(found["member"], found["offset"], strict=True), found["image_problem"], strict=True))


def test_what_has_no_partner_is_refused_on_either_side() -> None:
    entries = entries_of(*A, member("images/b.png"), member("masks/c.png"))
    assert problems(entries) == {
        ("images/a.png", 0): "",
        ("images/b.png", 0): "image-without-mask",
        ("masks/c.png", 0): "mask-without-image",
    }
    assert entries["mask_member"].count() == 1
    assert list(entries.loc[entries["member"] == "masks/c.png", "sample_id"]) == ["c"]


def test_a_mask_that_is_there_twice_is_like_an_image_that_is() -> None:
    same = entries_of(*A, member("masks/a.png", 7), rows=("a",))
    assert problems(same) == {("images/a.png", 0): "", ("masks/a.png", 7): "duplicate-member"}
    differing = entries_of(*A, member("masks/a.png", 7, crc32=2), rows=("a",))
    assert problems(differing) == {
        ("images/a.png", 0): "image-without-mask",
        ("masks/a.png", 0): "duplicate-member",
        ("masks/a.png", 7): "duplicate-member",
    }


def test_only_the_first_of_two_images_takes_the_mask() -> None:
    entries = entries_of(*A, member("images/a.png", 7), rows=("a",))
    assert problems(entries) == {("images/a.png", 0): "", ("images/a.png", 7): "duplicate-member"}
    assert list(entries["mask_member"].notna()) == [True, False]


def test_a_mask_that_must_not_be_read_counts_as_none() -> None:
    entries = entries_of(A[0], member("masks/a.png", problem="encrypted-member"), rows=("a",))
    assert problems(entries) == {("images/a.png", 0): "image-without-mask", ("masks/a.png", 0): "encrypted-member"}
    assert "encrypted-member" in entries["problem_detail"].iloc[0]


def test_no_member_is_lost_or_counted_twice() -> None:
    members = (*A, member("images/a.png", 7), member("masks/b.png"), member("masks/a.png", 9), member("unheard.of"))
    entries = entries_of(*members)
    assert entries["member"].count() + entries["mask_member"].count() == len(members)


def test_other_datasets_keep_their_columns() -> None:
    names = [name for name, _ in MASK_COLUMNS]
    assert not set(names) & set(sample_schema(replace(find(NAME), has_masks=False), {}).names)
    assert [name for name in sample_schema(find(NAME), {}).names if name in names] == names


# ---- a chunk --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Archive, Archive]:
    """An archive of one image, and another one of its mask."""
    found = []
    for name, data in (("images", png(np.arange(144, dtype=np.uint8).reshape(12, 12))), ("masks", png(square()))):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as opened:
            opened.writestr(f"{name}/a.png", data)
        found.append(Archive(f"{name}.zip", "zip", (str(tmp_path / f"{name}.zip"),)))
    return found[0], found[1]


def chunk_of(pair: tuple[Archive, Archive], identity: str = "2" * 64, crc32: int = 0) -> Chunk:
    images, masks = pair
    image = Member(images.name, "images/a.png", 0, 144, 0)
    mask = PairedMask(masks, Member(masks.name, "masks/a.png", 0, 100, crc32), identity)
    (planned,) = plan_chunks(images, [image], "1" * 64, {}, Transform(None), ImageRules(), {image: mask})
    return planned


def test_a_chunk_holds_the_mask_with_its_image_from_whichever_archive(
    pair: tuple[Archive, Archive], tmp_path: Path
) -> None:
    chunk = chunk_of(pair)
    assert convert_chunk(chunk, str(tmp_path))["refused"] == 0
    (row,) = pq.read_table(tmp_path / chunk.file_name).to_pylist()
    assert (row["mask_archive"], row["mask_member"]) == ("masks.zip", "masks/a.png")
    assert row["image"] is None  # published as it is stored, so it stays in raw
    np.testing.assert_array_equal(pixels_of(row["mask"]), square())


def test_another_mask_is_another_chunk(pair: tuple[Archive, Archive]) -> None:
    assert chunk_of(pair).digest == chunk_of(pair).digest
    assert chunk_of(pair).digest != chunk_of(pair, identity="3" * 64).digest


def test_a_mask_whose_archive_is_broken_is_refused_in_the_readers_words(
    pair: tuple[Archive, Archive], tmp_path: Path
) -> None:
    path = Path(pair[1].paths[0])
    path.write_bytes(path.read_bytes().replace(b"IDAT", b"IDOT"))
    chunk = chunk_of(pair)
    assert convert_chunk(chunk, str(tmp_path))["refused"] == 1
    (row,) = pq.read_table(tmp_path / chunk.file_name).to_pylist()
    assert row["reason"] == "mask-undecodable"
    assert row["detail"].startswith("crc-mismatch: ")
    assert row["source_sha256"]
    assert row["width"] is None


def test_a_mask_that_a_damaged_chunk_changed_is_not_stored(pair: tuple[Archive, Archive], tmp_path: Path) -> None:
    chunk = chunk_of(pair)
    convert_chunk(chunk, str(tmp_path))
    (row,) = pq.read_table(tmp_path / chunk.file_name).to_pylist()
    chunks.write_rows(chunk, [{**row, "mask": png(square(value=1))}], tmp_path)
    rows = pa.table({"chunk": [chunk.file_name], "chunk_row": [0], "mask_sha256": [row["mask_sha256"]]})
    with pytest.raises(UnusableInput, match="run the same command again"):
        shards.read_masks(rows, tmp_path)
    assert not (tmp_path / chunk.file_name).exists()


def test_shards_are_cut_by_the_bytes_of_masks_too() -> None:
    half = shards.SHARD_BYTES // 2
    frame = pd.DataFrame({"split": "train", "archive": "a.zip", "image_bytes": [half, half], "mask_bytes": [0, 1]})
    assert len(shards.plan_shards(frame, ("train",), "made-up", "png")) == 2


# ---- a release of the fake ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, fake.PlantedDefects]:
    """A raw folder with one of each defect, and where they are."""
    raw = tmp_path_factory.mktemp("vertebrae") / "raw"
    return raw, fake.write(raw)


def released(prepare: Prepare, raw: Path, lake: Path, **parameters: Any) -> Path:
    return lake / NAME / "releases" / str(prepare(NAME, raw, lake, **parameters)["release"])


@pytest.fixture(scope="module")
def native(
    prepare: Prepare, planted: tuple[Path, fake.PlantedDefects], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of the release at published size."""
    return released(prepare, planted[0], tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def small(
    prepare: Prepare, planted: tuple[Path, fake.PlantedDefects], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Folder of the release reduced, as JPEG."""
    return released(prepare, planted[0], tmp_path_factory.mktemp("small"), size=STORED, encoding="jpeg")


def in_tars(release: Path) -> dict[str, dict[str, bytes]]:
    """Sample id to extension to bytes, with the order of the tar kept."""
    found: dict[str, dict[str, bytes]] = {}
    for path in release.glob("webdataset/*/*.tar"):
        with tarfile.open(path) as opened:
            for entry in opened.getmembers():
                name, _, extension = entry.name.partition(".")
                stream = opened.extractfile(entry)
                assert stream is not None
                found.setdefault(name, {})[extension] = stream.read()
    return found


def in_parquet(release: Path) -> dict[str, dict[str, Any]]:
    """Sample id to its row."""
    tables = [pq.read_table(path) for path in release.glob("parquet/*/*.parquet")]
    return {row["sample_id"]: row for table in tables for row in table.to_pylist()}


def test_each_defect_has_its_reason_and_takes_image_row_and_mask_along(
    native: Path, planted: tuple[Path, fake.PlantedDefects]
) -> None:
    raw, defects = planted
    quarantine = pd.read_parquet(native / "quarantine.parquet")
    own = quarantine[quarantine["reason"] != "sample-refused"]
    members = own[own["member"].notna()]
    names = {Path(str(m)).stem: r for m, r in zip(members["member"], members["reason"], strict=True)}
    by_folder = {
        defects.mask_of_another_size: "mask-size",
        defects.empty_mask: "mask-empty",
        defects.two_components: "mask-parts",
        defects.without_mask: "image-without-mask",
        defects.without_image: "mask-without-image",
        defects.without_row: "image-without-row",
    }
    assert names == by_folder
    assert list(own.loc[own["member"].isna(), "reason"]) == ["row-without-image"]
    followers = quarantine[quarantine["reason"] == "sample-refused"].set_index("member")
    refused = [defects.mask_of_another_size, defects.empty_mask, defects.two_components, defects.without_row]
    assert set(followers.index) == {f"masks/{name}.png" for name in refused}
    for name in refused:
        row = followers.loc[f"masks/{name}.png"]
        file = raw / "masks" / f"{name}.png"
        assert (row["archive"], row["offset"], row["source_bytes"]) == (".", 0, file.stat().st_size)
        assert row["stage"] == own.set_index("member").loc[f"images/{name}.png", "stage"]
        assert row["detail"] == f"./images/{name}.png was refused: {by_folder[name]}"
    assert (
        followers.loc[f"masks/{defects.empty_mask}.png", "source_sha256"]
        == hashlib.sha256((raw / "masks" / f"{defects.empty_mask}.png").read_bytes()).hexdigest()
    )


def test_every_image_and_mask_is_accounted_for(native: Path, planted: tuple[Path, fake.PlantedDefects]) -> None:
    counted = json.loads((native / "manifest.json").read_bytes())["accounting"]
    files = [path for path in planted[0].rglob("*") if path.is_file()]
    assert counted["members"] == len(files)
    assert counted["members"] == counted["written"] + counted["quarantined"] + sum(counted["ignored"].values())
    assert counted["written"] == 2 * len(samples_of(native))
    assert verify(Lake(str(native.parents[2]), NAME), native.name).problems == ()


def test_verify_misses_a_sample_by_its_members(native: Path, tmp_path: Path) -> None:
    home = tmp_path / NAME / "releases" / native.name
    shutil.copytree(native, home)
    pd.read_parquet(native / "samples.parquet").iloc[1:].to_parquet(home / "samples.parquet")
    manifest = json.loads((native / "manifest.json").read_bytes())
    for entry in manifest["files"]:
        if entry["path"] == "samples.parquet":
            data = (home / "samples.parquet").read_bytes()
            entry |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (home / "manifest.json").write_text(json.dumps(manifest))
    found = "\n".join(verify(Lake(str(tmp_path), NAME), native.name).problems)
    written = manifest["accounting"]["written"]
    assert f"{written // 2 - 1} rows of {written - 2} members, {written} members were written" in found


@pytest.mark.parametrize("form", ["native", "small"])
def test_both_stores_hold_the_mask_in_the_size_of_its_image(
    form: str, request: pytest.FixtureRequest, planted: tuple[Path, fake.PlantedDefects]
) -> None:
    release: Path = request.getfixturevalue(form)
    extension = {"native": "png", "small": "jpg"}[form]
    samples, tars, rows = samples_of(release), in_tars(release), in_parquet(release)
    assert set(tars) == set(rows) == set(samples.index)
    for name, sample in samples.iterrows():
        files, row = tars[str(name)], rows[str(name)]
        assert list(files) == [extension, "mask.png", "json"]
        assert list(row)[:3] == ["sample_id", "image", "mask"]
        assert row["mask"] == {"bytes": files["mask.png"], "path": f"{name}.mask.png"}
        assert row["image"]["bytes"] == files[extension]
        assert hashlib.sha256(files["mask.png"]).hexdigest() == sample["mask_sha256"]
        assert len(files["mask.png"]) == sample["mask_bytes"]
        mask = Image.open(io.BytesIO(files["mask.png"]))
        assert (mask.mode, mask.format, mask.size) == ("L", "PNG", (sample["width"], sample["height"]))
        assert set(np.unique(np.asarray(mask))) == {0, 255}
        assert json.loads(files["json"])["mask_area"] == pytest.approx(sample["mask_area"])
        if form == "native":
            np.testing.assert_array_equal(
                np.asarray(mask), pixels_of((planted[0] / sample["mask_member"]).read_bytes())
            )
            assert files["png"] == (planted[0] / sample["member"]).read_bytes()


def test_facts_are_those_of_the_published_mask(small: Path, planted: tuple[Path, fake.PlantedDefects]) -> None:
    raw, defects = planted
    samples = samples_of(small)
    assert set(samples["mask_archive"]) == {"."}
    for _, sample in samples.iterrows():
        data = (raw / sample["mask_member"]).read_bytes()
        assert sample["mask_source_sha256"] == hashlib.sha256(data).hexdigest()
        inside = pixels_of(data) > 0
        rows, columns = np.nonzero(inside)
        assert sample["mask_area"] == inside.mean()
        assert (sample["mask_x"], sample["mask_w"]) == (columns.min(), np.ptp(columns) + 1)
        assert (sample["mask_y"], sample["mask_h"]) == (rows.min(), np.ptp(rows) + 1)
    assert list(samples.index[samples["mask_touches_border"]]) == [defects.touches_border]


def test_the_sample_table_points_at_the_image_in_the_tar(native: Path) -> None:
    for name, sample in samples_of(native).iterrows():
        split, number = str(sample["shard"]).split("/")
        tar = (native / f"webdataset/{split}/{NAME}-{split}-{number}.tar").read_bytes()
        start = int(sample["tar_offset"])
        image = tar[start : start + int(sample["image_bytes"])]
        assert hashlib.sha256(image).hexdigest() == sample["image_sha256"], name


def test_the_gate_names_what_is_wrong_with_masks_and_warns_of_the_border(native: Path) -> None:
    found = outcomes_of(native)
    for code in ("mask-size", "mask-empty", "mask-parts", "image-without-mask", "mask-without-image"):
        assert (found[code]["failed"], found[code]["severity"]) == (1, "error"), code
    assert found["mask-undecodable"]["status"] == "passed"
    assert found["decodable"]["status"] == "passed"
    border = found["mask-at-border"]
    assert (border["failed"], border["status"]) == (1, "warned")
    assert re.fullmatch(r"\w+ 1 of \d+", border["observed"])


def test_a_mask_found_later_counts_as_a_change_of_its_image(native: Path, small: Path) -> None:
    difference = compare(
        (Lake(str(native.parents[2]), NAME), native.name), (Lake(str(small.parents[2]), NAME), small.name)
    )
    assert difference.findings["stored-image"].counts["mask_sha256"] == len(samples_of(native))
    assert "mask_area" not in difference.findings["image-facts"].counts
    assert difference.findings["metadata"].ids == ()


def test_datasets_reads_the_mask_as_a_picture(native: Path) -> None:
    (path, *_) = native.glob("parquet/*/*.parquet")
    features = json.loads(pq.read_schema(path).metadata[b"huggingface"])["info"]["features"]
    assert features == {"image": {"_type": "Image"}, "mask": {"_type": "Image"}}


@pytest.mark.parametrize("stores", [["parquet"], ["webdataset"]])
def test_croissant_loads_image_and_mask(
    stores: list[str], prepare: Prepare, planted: tuple[Path, fake.PlantedDefects], tmp_path: Path
) -> None:
    release = released(prepare, planted[0], tmp_path, stores=stores)
    described = mlcroissant.Dataset(str(release / "croissant.json"))
    samples = samples_of(release)
    masks = "images" if stores == ["parquet"] else "masks"
    found = {r[f"{masks}/sample_id"].decode(): r[f"{masks}/mask"] for r in described.records(masks)}
    assert set(found) == set(samples.index)
    images = [r["images/sample_id"].decode() for r in described.records("images")]
    assert sorted(images) == list(samples.index)
    for name, mask in found.items():
        assert mask.size == (samples.loc[name, "width"], samples.loc[name, "height"])
    card = (release / "README.md").read_text()
    assert "## Masks" in card
    assert "image-segmentation" in card


def test_the_outline_is_on_the_tile_and_follows_the_mask() -> None:
    grey = png(np.full((100, 100), 90, np.uint8))
    inside = np.zeros((100, 100), np.uint8)
    inside[30:60, 0:50] = 255
    drawn = thumbnail(grey, mask=png(inside))
    assert drawn is not None
    picture = pixels_of(base64.b64decode(drawn.partition(",")[2])).astype(int)
    is_coloured = picture.max(axis=2) - picture.min(axis=2) > 90
    rows, columns = np.nonzero(is_coloured)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (29, 60, 0, 50)
    assert not is_coloured[33:57, 3:47].any()
    assert is_coloured[40, 0]


def test_the_report_says_what_the_line_is(native: Path) -> None:
    assert "The line is the edge of each mask" in (native / "quality" / "index.html").read_text()
