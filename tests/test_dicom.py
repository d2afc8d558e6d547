"""DICOM files from raw to release: pixels against pydicom's own, ids, what must not leave a header, damage, sums."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pydicom.data
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.pixels.processing import apply_rescale, apply_voi_lut, convert_color_space

from tasks.decoding import ImageRefused
from tasks.dicom.headers import header_of
from tasks.dicom.identifying import insist_on_keeps
from tasks.dicom.pixels import decode
from tasks.limits import DEFAULT
from tasks.schema import Dicom, UnusableInput
from tasks.stages.conversion import convert
from tasks.stages.index import gather, index
from tasks.stages.plan import request
from tasks.waves import cluster
from tests import dicom_files
from tests.command import said, scanmill
from tests.conftest import Prepare
from tests.dicom_files import NAME, SECRETS, dicom, picture
from tests.release_files import files_of

HERE = Path(__file__).resolve().parent
DATASET = "made-up-dicom"
Numbers = np.ndarray[Any, Any]


def as_they_are(numbers: Numbers) -> Numbers:
    return numbers


@dataclass(frozen=True)
class Case:
    """One sound file, and what its pixels are to be, told by those that pydicom has of it."""

    data: bytes
    transform: str = "png"
    expected: Callable[[Numbers], Numbers] = as_they_are
    bits: int = 16


P8, P12 = picture(2, 8), picture(1)
SIGNED = (picture(5).astype(np.int32) - 1024).astype(np.int16)
FRAMES = np.stack([picture(seed) for seed in (21, 22, 23)])
COLOUR = np.dstack([P8, P8 // 2, P8[::-1]])
TURNED: dict[str, Any] = {"PhotometricInterpretation": "MONOCHROME1"}

CASES: dict[str, Case] = {
    "12 bits, implicit": Case(dicom(10, picture(10), syntax="implicit")),
    "12 bits, explicit": Case(dicom(11, picture(11))),
    "12 bits, deflated": Case(dicom(12, picture(12), syntax="deflated")),
    "12 bits, big-endian": Case(dicom(13, picture(13), syntax="big")),
    "12 bits, JPEG lossless": Case(dicom(14, picture(14), syntax="jpeg-lossless")),
    "12 bits, JPEG-LS": Case(dicom(15, picture(15), syntax="jpeg-ls")),
    "12 bits, JPEG 2000": Case(dicom(16, picture(16), syntax="jpeg-2000")),
    "12 bits, RLE": Case(dicom(17, picture(17), syntax="rle")),
    "10 bits": Case(dicom(18, picture(18, 10), bits=10)),
    "16 bits": Case(dicom(19, picture(19, 16), bits=16)),
    "8 bits, big-endian": Case(dicom(20, P8, bits=8, syntax="big"), bits=8),
    "8 bits, JPEG": Case(dicom(24, picture(24, 8), bits=8, syntax="jpeg"), bits=8),
    "MONOCHROME1": Case(dicom(25, picture(25), **TURNED), "MONOCHROME1 inverted; png", lambda n: 4095 - n),
    "MONOCHROME1, JPEG lossless": Case(
        dicom(26, picture(26), syntax="jpeg-lossless", **TURNED), "MONOCHROME1 inverted; png", lambda n: 4095 - n
    ),
    "signed, rescale": Case(
        dicom(27, SIGNED, bits=16, RescaleSlope=1, RescaleIntercept=-24), "plus 1024; png", lambda n: n + 1024
    ),
    "signed, MONOCHROME1, big-endian": Case(
        dicom(28, SIGNED, bits=16, syntax="big", **TURNED),
        "MONOCHROME1 inverted; plus 4096; png",
        lambda n: 4095 - n,
    ),
    "colour": Case(dicom(29, COLOUR, bits=8), bits=8),
    "colour, planes apart": Case(
        dicom(30, COLOUR[::-1], bits=8, PlanarConfiguration=1, PixelData=COLOUR[::-1].transpose(2, 0, 1).tobytes()),
        bits=8,
    ),
    "colour, YBR_FULL": Case(
        dicom(
            31,
            convert_color_space(COLOUR[:, ::-1], "RGB", "YBR_FULL"),
            bits=8,
            PhotometricInterpretation="YBR_FULL",
        ),
        "YBR_FULL to rgb; png",
        bits=8,
    ),
    "colour, JPEG": Case(dicom(32, COLOUR[::-1, ::-1], bits=8, syntax="jpeg"), bits=8),
}
"""By what they are; SOPInstanceUID ends with the number."""
MULTI = {
    "frames, MONOCHROME1": Case(dicom(40, FRAMES, **TURNED), "MONOCHROME1 inverted; png", lambda n: 4095 - n),
    "frames, JPEG lossless": Case(dicom(41, FRAMES[:, ::-1], syntax="jpeg-lossless")),
    "frames, RLE": Case(dicom(42, FRAMES[:, :, ::-1], syntax="rle")),
    "frames, big-endian, an odd number of bytes": Case(
        dicom(43, np.stack([picture(seed, 8)[:95, :87] for seed in (44, 45, 46)]), bits=8, syntax="big"), bits=8
    ),
}
SOUND = dicom(60, P12)
REFUSED = {
    "no-dicom": ("not-an-image", b"just a note"),
    "empty": ("empty-file", b""),
    "png": ("not-an-image", b"\x89PNG\r\n\x1a\n" + bytes(200)),
    "report": ("not-an-image", dicom(61, None)),
    "cut": ("truncated-image", dicom(62, P12)[:-3000]),
    "cut-jpeg": ("truncated-image", dicom(63, P12, syntax="jpeg-lossless")[:-2000]),
    "cut-header": ("truncated-image", SOUND[:600]),
    "giant": ("oversized-image", dicom(64, P12, Rows=60_000, Columns=60_000)),
    "frames-of-nothing": ("truncated-image", dicom(65, P12, NumberOfFrames=900_000)),
    "deep": ("undecodable-image", dicom_files.nested(100_000)),
    "nameless": ("undecodable-image", dicom(66, P12, SOPInstanceUID=f"../{NAME}")),
    "deep-colour": ("unsupported-mode", dicom(67, np.dstack([P12] * 3))),
    "float": ("unsupported-mode", dicom(68, None, FloatPixelData=bytes(64))),
    "other-jpeg": ("undecodable-image", dicom_files.other_size(dicom(69, P12, syntax="jpeg-lossless"))),
}
TWINS = {"twin-a": dicom(70, picture(70)), "twin-b": dicom(70, picture(71))}
COPY = dicom(72, picture(72))


BAD_FRAME = dicom_files.without_end(dicom(90, FRAMES[:, ::-1, ::-1], syntax="jpeg-lossless"), 1)


def frame_files() -> Iterator[tuple[str, bytes]]:
    """A file of two frames, and another whose name looks like the second of them."""
    yield "looks", dicom(80, np.stack([picture(80), picture(81)]))
    yield "looks#frame=2", dicom(82, picture(82))
    yield "looks#frame=3", b"no DICOM file"


def write(folder: Path) -> None:
    """Sound files in a zip, those of frames in a tar, the rest loose."""
    (folder / "images").mkdir(parents=True)
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, case in enumerate(CASES.values()):
            archive.writestr(zipfile.ZipInfo(f"images/{number:03d}"), case.data)
        archive.writestr(zipfile.ZipInfo("DICOMDIR"), b"a directory")
    with tarfile.open(folder / "b.tar.gz", "w:gz") as archive_:
        for number, case in enumerate(MULTI.values()):
            info = tarfile.TarInfo(f"images/m{number}.dcm")
            info.size = len(case.data)
            archive_.addfile(info, io.BytesIO(case.data))
    loose = {name: data for name, (_, data) in REFUSED.items()}
    for name, data in [
        *loose.items(),
        *TWINS.items(),
        ("copy-a", COPY),
        ("copy-b", COPY),
        ("bad", BAD_FRAME),
        *frame_files(),
    ]:
        (folder / "images" / name).write_bytes(data)


@pytest.fixture(scope="module", autouse=True)
def declared() -> Iterator[None]:
    """The dataset of these files in the catalogue."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SCANMILL_DATASETS", str(HERE / "dicom_datasets"))
        yield


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dicom") / "raw"
    write(folder)
    return folder


@pytest.fixture(scope="module")
def lake(raw: Path, prepare: Prepare, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("dicom-lake")
    prepare(DATASET, raw, place)
    return place


@pytest.fixture(scope="module")
def release(lake: Path) -> Path:
    (folder,) = (lake / DATASET / "releases").iterdir()
    return folder


def row_of(samples: pd.DataFrame, archive: str, member: str) -> Any:
    """The sample of a member."""
    return samples.loc[(archive, member)]


@pytest.fixture(scope="module")
def samples(release: Path) -> pd.DataFrame:
    return pd.read_parquet(release / "samples.parquet").set_index(["archive", "member"])


@pytest.fixture(scope="module")
def stored(release: Path) -> dict[str, Numbers]:
    """Pixels by sample id, as Pillow reads them."""
    rows = [row for path in release.glob("parquet/*/*.parquet") for row in pq.read_table(path).to_pylist()]
    return {row["sample_id"]: np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))) for row in rows}


@pytest.mark.parametrize("name", CASES)
def test_pixels_are_those_of_pydicom(name: str, samples: pd.DataFrame, stored: dict[str, Numbers]) -> None:
    case = CASES[name]
    row = row_of(samples, "a.zip", f"images/{list(CASES).index(name):03d}")
    numbers = dcmread(io.BytesIO(case.data)).pixel_array.astype(np.int32)
    np.testing.assert_array_equal(stored[row["sample_id"]], case.expected(numbers))
    assert (row["transform"], row["bit_depth"]) == (case.transform, case.bits)
    assert row["sample_id"] == str(dcmread(io.BytesIO(case.data)).SOPInstanceUID).replace(".", "-2e")


@pytest.mark.parametrize("name", MULTI)
def test_frames_are_those_of_pydicom(name: str, samples: pd.DataFrame, stored: dict[str, Numbers]) -> None:
    case = MULTI[name]
    every = dcmread(io.BytesIO(case.data)).pixel_array.astype(np.int32)
    assert len(every) == 3
    for number, numbers in enumerate(every, 1):
        row = row_of(samples, "b.tar.gz", f"images/m{list(MULTI).index(name)}.dcm#frame={number}")
        np.testing.assert_array_equal(stored[row["sample_id"]], case.expected(numbers))
        assert row["sample_id"].endswith(f"--{number:04d}")
        assert row["transform"] == case.transform


def test_a_name_that_looks_like_a_frame_is_another_file(
    samples: pd.DataFrame, stored: dict[str, Numbers], release: Path
) -> None:
    files = dict(frame_files())
    for member, number in (("looks#frame=1", 0), ("looks#frame=2", 1)):
        numbers = dcmread(io.BytesIO(files["looks"])).pixel_array[number]
        np.testing.assert_array_equal(stored[row_of(samples, ".", f"images/{member}")["sample_id"]], numbers)
    other = row_of(samples, ".", "images/looks#frame=2#frame=1")
    np.testing.assert_array_equal(stored[other["sample_id"]], picture(82))
    refused = pd.read_parquet(release / "quarantine.parquet").set_index("member")["reason"]
    assert refused["images/looks#frame=3#frame=1"] == "not-an-image"


def test_headers_become_columns_and_splits_go_by_patient(samples: pd.DataFrame) -> None:
    assert samples["patient_id"].str.fullmatch(r"P\d{3}").all()
    assert set(samples["split"]) == {"train", "test"}
    assert samples.groupby("patient_id")["split"].nunique().max() == 1
    assert samples["age_years"].between(40, 70).all()
    assert samples.groupby("sex").size().min() > 3
    assert set(samples["meta.BitsStored"]) == {"8", "10", "12", "16"}
    signed = row_of(samples, "a.zip", f"images/{list(CASES).index('signed, rescale'):03d}")
    assert (signed["meta.RescaleIntercept"], signed["meta.ImagerPixelSpacing"]) == ("-24.0", r"0.1\0.1")


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_set_aside_with_its_reason(name: str, release: Path) -> None:
    quarantine = pd.read_parquet(release / "quarantine.parquet")
    rows = quarantine[quarantine["member"] == f"images/{name}"]
    assert rows["reason"].tolist() == [REFUSED[name][0]], rows["detail"].tolist()


def test_two_files_of_one_uid_are_kept_once_where_they_are_the_same_and_never_else(
    release: Path, samples: pd.DataFrame
) -> None:
    quarantine = pd.read_parquet(release / "quarantine.parquet").set_index("member")
    assert set(quarantine.index[quarantine["reason"] == "duplicate-member"]) == {
        "images/twin-a",
        "images/twin-b",
        "images/copy-b",
    }
    assert (".", "images/copy-a") in samples.index


def test_everything_is_accounted_for_frame_by_frame(release: Path, samples: pd.DataFrame) -> None:
    counted = json.loads((release / "manifest.json").read_text())["accounting"]
    assert counted["written"] == len(samples) == len(CASES) + 3 * len(MULTI) + 1 + 3 + 2
    assert counted["ignored"] == {"dicom-directory": 1}
    assert counted["members"] == counted["written"] + len(REFUSED) + 1 + 2 + 1 + 1 + 1
    (table,) = counted["tables"]
    assert table["found"] == table["written"] + table["quarantined"]


def test_nothing_of_a_person_leaves_a_header(raw: Path, release: Path, lake: Path) -> None:
    """In no file of the release, nor in what the lake remembers of headers and pixels; seek points of a gzipped tar
    are pieces of the raw file."""
    (packed,) = raw.glob("*.zip")
    assert b"Mustermann" in zipfile.ZipFile(packed).read("images/001"), "or nothing is looked for"
    remembered = [path for path in (lake / DATASET / "chunks").rglob("*") if path.suffix != ".seek"]
    assert {".parquet", ".json"} == {path.suffix for path in remembered}
    for path in [*release.rglob("*"), *remembered]:
        data = _unpacked(path) if path.is_file() else b""
        assert not [secret for secret in SECRETS if secret.encode() in data], path


def _unpacked(path: Path) -> bytes:
    """A file's bytes, and of a Parquet file all of its cells."""
    data = path.read_bytes()
    return data + str(pq.read_table(path).to_pydict()).encode() if path.suffix == ".parquet" else data


def test_what_was_dropped_is_told_by_keyword_and_number_alone(release: Path) -> None:
    told = json.loads((release / "dicom.json").read_text())
    files = told["files"]
    assert told["dropped"]["PatientName"] == told["dropped"]["StudyDate"] == files
    assert {"PatientBirthDate", "AccessionNumber", "InstitutionName", "OtherPatientIDsSequence"} <= set(told["dropped"])
    assert told["files_with_private_elements"] == files
    assert told["kept"]["PatientID"] == files
    assert told["kept"]["RescaleSlope"] < files
    assert not set(told["kept"]) & set(told["dropped"])
    assert told["transfer_syntaxes"]["Explicit VR Big Endian"] == 4
    assert told["burned_in_annotation"] == {"no": files}
    listed = {entry["path"] for entry in json.loads((release / "manifest.json").read_text())["files"]}
    assert "dicom.json" in listed
    assert json.loads((release / "quality" / "report.json").read_text())["dicom"] == told
    page = (release / "quality" / "index.html").read_text()
    headers = page[page.index('<section id="dicom">') : page.index('<section id="worst">')]
    assert "<code>Explicit VR Big Endian</code> 4" in headers
    assert "<code>PatientName</code>" in headers[headers.index("Dropped: ") :]
    assert f"in {files} of the files; all were dropped" in headers


def test_a_release_verifies_and_a_frame_is_made_again(lake: Path, samples: pd.DataFrame) -> None:
    assert scanmill("verify", lake / DATASET).exit_code == 0
    names = [row_of(samples, "b.tar.gz", "images/m1.dcm#frame=2")["sample_id"]]
    names += [row_of(samples, ".", "images/looks#frame=2#frame=1")["sample_id"]]
    names += [row_of(samples, "a.zip", "images/004")["sample_id"]]
    result = scanmill("trace", lake / DATASET, *names, "--verify", "--json")
    assert result.exit_code == 0, result.output
    for told in json.loads(result.stdout)["samples"]:
        assert all(check["ok"] for check in told["checks"])
        assert "reproduced byte for byte" in [check["detail"] for check in told["checks"]]


def test_refused_files_come_back_whole(lake: Path, tmp_path: Path) -> None:
    result = scanmill("quarantine", lake / DATASET, "--extract", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    for name, (reason, data) in REFUSED.items():
        path = tmp_path / "out" / reason / "loose" / "images" / name
        assert not data or path.read_bytes() == data
    assert (tmp_path / "out" / "truncated-image" / "loose" / "images" / "bad").read_bytes() == BAD_FRAME


@pytest.mark.parametrize(
    "name",
    [
        "693_J2KI.dcm",
        "CT_small.dcm",
        "GDCMJ2K_TextGBR.dcm",
        "JPEGLSNearLossless_16.dcm",
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "SC_jpeg_no_color_transform.dcm",
        "SC_rgb_jpeg_dcmtk.dcm",
        "SC_rgb_rle_2frame.dcm",
        "SC_rgb_small_odd_big_endian.dcm",
        "SC_ybr_full_422_uncompressed.dcm",
        "image_dfl.dcm",
    ],
)
def test_files_of_other_makers_that_pydicom_is_tested_with(name: str) -> None:
    """They come with pydicom."""
    data = Path(pydicom.data.__file__).with_name("test_files").joinpath(name).read_bytes()
    _, pixels, steps = decode(data, 1, Dicom(), DEFAULT)
    theirs = dcmread(io.BytesIO(data)).pixel_array.astype(np.int32)
    lift = sum(int(step.removeprefix("plus ")) for step in steps if step.startswith("plus "))
    np.testing.assert_array_equal(pixels, theirs.reshape(-1, *pixels.shape)[0] + lift)


def test_a_bad_frame_costs_itself_alone(release: Path, samples: pd.DataFrame) -> None:
    quarantine = pd.read_parquet(release / "quarantine.parquet").set_index("member")
    row = quarantine.loc["images/bad#frame=2"]
    assert (row["reason"], row["stage"], row["source_bytes"]) == ("truncated-image", "convert", len(BAD_FRAME))
    assert {(".", "images/bad#frame=1"), (".", "images/bad#frame=3")} <= set(samples.index)


def test_nothing_changed_is_found_without_reading_a_header(
    raw: Path, lake: Path, prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a header is read")

    monkeypatch.setattr("tasks.dicom.index.read_head", refuse)
    assert prepare(DATASET, raw, lake)["is_new"] is False
    other = request(DATASET, [str(raw)], str(lake), size=32)
    plan = index(other, gather(other, {}))
    assert not plan.is_published, "for another size they are remembered"


def test_two_workers_make_the_same_bytes(raw: Path, lake: Path, tmp_path: Path) -> None:
    """Of all chunks; what comes after is other datasets' as well."""
    asked = request(DATASET, [str(raw)], str(tmp_path))
    plan = index(asked, gather(asked, {}))
    with cluster(2, None) as address:
        convert(plan, address=address)
    chunks = files_of(tmp_path / DATASET / "chunks")
    there = files_of(lake / DATASET / "chunks")
    assert sum(not name.startswith("raw-hashes") for name in chunks) > 5
    assert {name: chunks[name] for name in chunks if name.endswith(".parquet")}.items() <= there.items()


@pytest.mark.parametrize(
    ("keyword", "words"),
    [
        ("PatientName", "can tell who somebody is"),
        ("StudyDate", "can tell who somebody is"),
        ("AccessionNumber", "can tell who somebody is"),
        ("InstitutionName", "can tell who somebody is"),
        ("DeviceSerialNumber", "can tell who somebody is"),
        ("ImageComments", "can tell who somebody is"),
        ("FrameOfReferenceUID", "can tell who somebody is"),
        ("PixelData", "no text and no number"),
        ("PixelSpacng", "there is no element of that keyword"),
    ],
)
def test_what_tells_who_somebody_is_cannot_be_kept(keyword: str, words: str) -> None:
    with pytest.raises(UnusableInput, match=words):
        insist_on_keeps((keyword,), DATASET)


def test_what_releases_need_can_be_kept() -> None:
    insist_on_keeps(("PatientID", "PatientSex", "PatientAge", "StudyInstanceUID", "KVP", "Manufacturer"), DATASET)


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("window", ["header", (300.0, 800.0)])
def test_a_window_makes_eight_bits_of_rescaled_numbers(window: Any, photometric: str) -> None:
    about: dict[str, Any] = {
        "RescaleSlope": 2,
        "RescaleIntercept": -100,
        "WindowCenter": [2000, 1],
        "WindowWidth": [3000, 2],
    }
    data = dicom(1, P12, PhotometricInterpretation=photometric, **about)
    _, levels, steps = decode(data, None, Dicom(window=window), DEFAULT)
    file = dcmread(io.BytesIO(data))
    centre, width = (2000, 3000) if window == "header" else window
    file.WindowCenter, file.WindowWidth = centre, width
    shown = apply_voi_lut(apply_rescale(file.pixel_array, file), file)
    expected = np.rint((shown + 100) / (4095 * 2) * 255)
    np.testing.assert_array_equal(levels, expected if photometric == "MONOCHROME2" else 255 - expected)
    assert steps[:2] == ["times 2.0 plus -100.0", f"window {centre:g}, {width:g} to 8 bits"]


def test_a_frame_has_the_window_that_its_own_group_says() -> None:
    def group(centre: int, intercept: int) -> Any:
        return dicom_files.item(
            FrameVOILUTSequence=[dicom_files.item(WindowCenter=centre, WindowWidth=1000)],
            PixelValueTransformationSequence=[dicom_files.item(RescaleSlope=1, RescaleIntercept=intercept)],
        )

    data = dicom(1, FRAMES, PerFrameFunctionalGroupsSequence=[group(500, 0), group(1500, -10), group(2500, 0)])
    _, levels, steps = decode(data, 2, Dicom(window="header"), DEFAULT)
    assert steps == ["times 1.0 plus -10.0", "window 1500, 1000 to 8 bits"]
    assert 0 < np.mean((levels > 0) & (levels < 255)) < 1
    np.testing.assert_array_equal(levels == 0, FRAMES[1] - 10.0 <= 1500 - 0.5 - 999 / 2)


def test_a_lookup_table_is_applied_before_a_window() -> None:
    turned = (4095 - np.arange(4096)) * 16
    table = dicom_files.item(LUTDescriptor=[4096, 0, 16], LUTData=turned.astype("<u2").tobytes())
    data = dicom(1, P12, VOILUTSequence=[table], WindowCenter=1, WindowWidth=2)
    _, levels, steps = decode(data, None, Dicom(window="header"), DEFAULT)
    assert steps == ["VOI LUT to 8 bits"]
    np.testing.assert_array_equal(levels, np.rint((4095.0 - P12) * 16 / 65535 * 255))


def test_other_datasets_need_nothing_of_it() -> None:
    code = (
        "import sys; sys.modules |= {'pydicom': None, 'gdcm': None}\n"
        "import tasks.chunks, tasks.stages.index, tasks.stages.metadata, tasks.trace, tasks.datasets\n"
        "tasks.datasets.catalogue()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=HERE.parent, check=True)


def test_a_palette_becomes_its_colours() -> None:
    for syntax in ("explicit", "implicit", "big"):
        _, pixels, steps = decode(dicom_files.palette(1, P8, syntax=syntax), None, Dicom(), DEFAULT)
        np.testing.assert_array_equal(pixels, np.dstack([P8, 255 - P8, P8 // 2]))
        assert steps == ["palette to rgb"]


def test_a_frame_that_ends_its_decoder_is_refused_and_the_next_is_read() -> None:
    deadly = (HERE / "fuzz" / "corpus" / "dicom" / "lossless-ends-its-process").read_bytes()
    for _ in range(2):
        with pytest.raises(ImageRefused, match="the decoder ended"):
            decode(deadly, None, Dicom(), DEFAULT)
    case = CASES["12 bits, JPEG lossless"]
    np.testing.assert_array_equal(
        decode(case.data, None, Dicom(), DEFAULT)[1], dcmread(io.BytesIO(case.data)).pixel_array
    )


def test_a_header_that_claims_much_is_refused_in_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.dicom.elements.MOST_STEPS", 5_000)
    many = dicom_files.with_many_elements(30_000)
    deflated = dicom_files.deflated_zeros(2**27)
    tracemalloc.start()
    header = header_of(many, len(many), (), DEFAULT)
    inflated = header_of(deflated, len(deflated), (), DEFAULT)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert header.problem == "undecodable-image"
    assert inflated.problem in ("undecodable-image", "truncated-image")
    assert peak < 80 * 2**20


def test_without_the_extra_one_error_names_it(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "gdcm" else find(name))
    words = said(scanmill("check", DATASET, "--raw", raw))
    assert "pip install 'scanmill[dicom]'" in words
    assert len(words.strip().splitlines()) == 1


def test_pixels_cannot_be_passed_on_undecoded(raw: Path, tmp_path: Path) -> None:
    words = said(
        scanmill("prepare", DATASET, "--raw", raw, "--lake", tmp_path, "--size", "native", "--decode-check", "off")
    )
    assert "DICOM files" in words
