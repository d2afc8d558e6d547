"""``--decode-check off``: files passed on undecoded, what is still found, and that all else is said to be unchecked."""

from __future__ import annotations

import io
import json
import struct
import zipfile
import zlib
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import Result

from tasks.decoding import ImageRefused
from tasks.images import convert
from tasks.pass_through import pass_through
from tasks.schema import HEADER_COLUMNS, IMAGE_COLUMNS, DataRefused, ImageRules, Transform
from tests.command import said, scanmill
from tests.conftest import Prepare, released, write_fake
from tests.fakes import damage
from tests.raw_files import read
from tests.release_files import outcomes_of, samples_of
from tests.test_images import GREY, file_of

NIH = "nih-chest-xray"
IMAGES = 320
ARCHIVE = "images_001.zip"
UNCHECKED = {"decodable", "blank-frame", "near-duplicate", "near-duplicate-across-splits", "burned-in-text"}
NATIVE = Transform(size=None, decode_check="off")
RECIPE = """
dataset: nih-chest-xray
kind: intensity-baseline
labels: [Effusion, Infiltration]
splits: {train: train, validation: validation, test: test}
options: {thumbnail: 8}
"""


def with_spoilt_pixels(data: bytes) -> bytes:
    """The same header and chunks; what the pixels are deflated to is nonsense, by a checksum that is right."""
    begin = data.index(b"IDAT") + 4
    size = int.from_bytes(data[begin - 8 : begin - 4], "big")
    pixels = bytes(byte ^ 0x55 for byte in data[begin : begin + size])
    return data[:begin] + pixels + struct.pack(">I", zlib.crc32(b"IDAT" + pixels)) + data[begin + size + 4 :]


def giant(data: bytes) -> bytes:
    """A PNG whose header claims 60,000 pixels each way."""
    header = struct.pack(">II", 60_000, 60_000) + data[24:29]
    return data[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + data[33:]


def no_image(data: bytes) -> bytes:
    return data[::-1]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Films of an NIH release: the first is sound by its header alone, the next two not even by that."""
    folder = tmp_path_factory.mktemp("raw") / "raw"
    write_fake(NIH, folder, images=IMAGES, defects=False)
    changes = dict(zip(films(folder), (with_spoilt_pixels, giant, no_image), strict=False))
    damage.change_members(folder / ARCHIVE, lambda name, data: changes[name](data) if name in changes else data)
    return folder


def films(raw: Path) -> list[str]:
    with zipfile.ZipFile(raw / ARCHIVE) as opened:
        return sorted(name for name in opened.namelist() if name.startswith("images/") and name.endswith(".png"))


@pytest.fixture(scope="module")
def full(raw: Path, prepare: Prepare, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released(prepare, raw, tmp_path_factory.mktemp("full"), size=0)


@pytest.fixture(scope="module")
def off(raw: Path, prepare: Prepare, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released(prepare, raw, tmp_path_factory.mktemp("off"), size=0, decode_check="off")


def spoilt(raw: Path) -> str:
    """Sample id of the film whose pixels alone are broken."""
    return Path(films(raw)[0]).stem


def images_of(release: Path) -> dict[str, bytes]:
    tables = [pq.read_table(path, columns=["sample_id", "image"]) for path in release.glob("parquet/*/*.parquet")]
    return {row["sample_id"]: row["image"]["bytes"] for table in tables for row in table.to_pylist()}


def test_the_same_bytes_are_stored_but_for_files_that_are_broken(full: Path, off: Path, raw: Path) -> None:
    with_check, without = images_of(full), images_of(off)
    assert set(without) - set(with_check) == {spoilt(raw)}
    assert {name: without[name] for name in with_check} == with_check
    own = samples_of(off)
    assert without[spoilt(raw)] == read(raw, ARCHIVE, str(own.loc[spoilt(raw), "member"]))
    told = [name for name in HEADER_COLUMNS if name in own]
    pd.testing.assert_frame_equal(own.loc[list(with_check), told], samples_of(full)[told].loc[list(with_check)])
    assert full.name != off.name
    assert json.loads((off / "manifest.json").read_bytes())["parameters"]["decode_check"] == "off"


def test_a_broken_header_is_refused_for_the_reason_of_the_full_check(full: Path, off: Path, raw: Path) -> None:
    place = ["member", "stage", "reason", "detail", "source_sha256"]
    tables = [pd.read_parquet(release / "quarantine.parquet")[place] for release in (full, off)]
    with_check, without = (table.dropna(subset="member") for table in tables)
    assert set(without["reason"]) >= {"not-an-image", "oversized-image"}
    assert set(with_check["member"]) - set(without["member"]) == {samples_of(off).loc[spoilt(raw), "member"]}
    both = with_check[with_check["member"].isin(without["member"])]
    pd.testing.assert_frame_equal(both.reset_index(drop=True), without.reset_index(drop=True))


def test_what_takes_pixels_is_null_and_never_said_to_have_passed(off: Path, full: Path) -> None:
    samples = samples_of(off)
    pixels = [name for name, _ in IMAGE_COLUMNS if name not in HEADER_COLUMNS]
    assert samples[pixels].isna().all(axis=None)
    outcomes = outcomes_of(off)
    left_out = {code for code, outcome in outcomes.items() if outcome["status"] == "unchecked"}
    assert left_out >= UNCHECKED
    assert set(outcomes_of(full)) == set(outcomes) - {"sound-header"}
    assert {(outcomes[code]["checked"], outcomes[code]["failed"]) for code in left_out} == {(0, 0)}
    assert outcomes["sound-header"]["status"] == "tolerated"
    assert outcomes["pixels-cross-splits"]["status"] == "passed"
    assert set(json.loads((off / "manifest.json").read_bytes())["unchecked"]) == left_out
    assert "unchecked" not in json.loads((full / "manifest.json").read_bytes())
    assert not (off / "quality" / "near_duplicates.parquet").exists()  # an empty one would say that there are none
    assert not (off / "fingerprints.parquet").exists()


def test_every_page_says_so_at_its_top(off: Path) -> None:
    page = (off / "quality" / "index.html").read_text("utf-8")
    assert "Yes, with care: no image was decoded" in page
    assert "No image was decoded, so it is not checked: decodable, blank-frame" in page
    card = (off / "README.md").read_text()
    assert "**Not checked.** No image was decoded" in card
    assert "were NOT CHECKED" in card
    report = json.loads((off / "quality" / "report.json").read_bytes())
    assert report["near_duplicates"] is None
    assert report["statistics"]["image_checks"] == {}
    assert report["statistics"]["pixels"] is None


def test_verify_says_what_nobody_has_looked_at(off: Path, full: Path) -> None:
    result = scanmill("verify", off.parents[1])
    assert result.exit_code == 0, result.stderr
    assert "NOT CHECKED, as no image was decoded (--decode-check off): decodable, blank-frame" in result.stdout
    assert "NOT CHECKED" not in scanmill("verify", full.parents[1]).stdout
    told = json.loads(scanmill("verify", off.parents[1], "--json").stdout)
    assert set(told["unchecked"]) >= UNCHECKED


def test_the_summary_says_so_and_the_same_again_is_nothing_to_do(raw: Path, prepare: Prepare, off: Path) -> None:
    arguments = ("prepare", NIH, "--raw", raw, "--lake", off.parents[2], "--size", "native", "--decode-check", "off")
    assert "nothing to do" in scanmill(*arguments).stdout
    told = json.loads(scanmill(*arguments, "--json").stdout)
    assert (told["release"], told["is_new"]) == (off.name, False)
    assert set(told["unchecked"]) >= UNCHECKED


def test_identical_files_in_two_splits_stop_the_gate(flawless_release: Path, copy: Path, prepare: Prepare) -> None:
    samples = samples_of(flawless_release)
    train, test = (samples[samples["split"] == split].iloc[0] for split in ("train", "test"))
    data = read(copy, train["archive"], train["member"])
    damage.change_members(copy / test["archive"], lambda name, own: data if name == test["member"] else own)
    with pytest.raises(DataRefused, match="pixels-cross-splits"):
        released(prepare, copy, copy.parent / "lake", size=0, decode_check="off")


def trained(lake: Path) -> Result:
    recipe = lake / "grey.yaml"
    recipe.write_text(RECIPE)
    return scanmill("train", recipe, "--lake", lake, "--json")


def test_a_model_can_be_trained_on_it(flawless_nih: Path, prepare: Prepare, tmp_path: Path) -> None:
    released(prepare, flawless_nih, tmp_path, size=0, decode_check="off", stores=["webdataset"])
    result = trained(tmp_path)
    assert result.exit_code == 0, result.output


def test_pixels_that_are_broken_are_told_when_they_are_trained_on(off: Path, raw: Path) -> None:
    result = trained(off.parents[2])
    assert result.exit_code == 1
    assert f"sample {spoilt(raw)} cannot be decoded" in result.output


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        ((NIH, "--decode-check", "off"), "add --size native"),
        ((NIH, "--decode-check", "off", "--size", "512"), "add --size native"),
        (("mammography-density", "--decode-check", "off", "--size", "native"), "split by what its images show"),
        (("behsof", "--decode-check", "off", "--size", "native"), "cleaned before they are stored"),
        ((NIH, "--decode-check", "half", "--size", "native"), "choose from full, off"),
    ],
)
def test_wrong_use_is_told_with_its_remedy(arguments: tuple[str, ...], remedy: str, tmp_path: Path) -> None:
    result = scanmill("prepare", *arguments, "--raw", tmp_path, "--lake", tmp_path / "lake")
    assert result.exit_code == 2
    assert "--decode-check" in said(result)
    assert remedy in said(result)
    assert not (tmp_path / "lake").exists()


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGB", "RGBA", "LA"])
def test_what_may_have_to_be_changed_is_decoded_and_stored_as_ever(mode: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(GREY).convert(mode).save(buffer, "PNG")
    facts, encoded = pass_through(buffer.getvalue(), NATIVE, ImageRules())
    whole = convert(buffer.getvalue(), Transform(size=None), ImageRules())
    assert facts == {name: whole.facts[name] for name in HEADER_COLUMNS}
    assert encoded == (None if whole.is_original else whole.encoded)


@pytest.mark.parametrize("kept", [0, 5, 20, 40, 300])
def test_a_file_that_ends_too_early_is_refused(kept: int) -> None:
    data = file_of(GREY)[:kept]
    with pytest.raises(ImageRefused) as found:
        pass_through(data, NATIVE, ImageRules())
    with pytest.raises(ImageRefused) as expected:
        convert(data, Transform(size=None), ImageRules())
    assert found.value.args == expected.value.args
