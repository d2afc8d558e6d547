"""BEHSOF and CheXchoNet beyond the contract: ids that tell nothing, typed values, writing gone, rules counted."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from tasks import scan_sector
from tasks.decoding import ImageRefused
from tasks.images import convert
from tasks.lake import Lake, latest_release
from tasks.phantoms import liver
from tasks.schema import ImageRules, Transform
from tests.command import said, scanmill
from tests.conftest import Prepare, write_fake
from tests.fakes import behsof, chexchonet
from tests.release_files import outcomes_of, samples_of

FOLDER = re.compile(r"(?:TAL|BEH)\d{5}")


def published(lake: Path, dataset: str) -> Path:
    place = Lake(str(lake), dataset)
    return lake / dataset / "releases" / latest_release(place)


@pytest.fixture(scope="module")
def livers(tmp_path_factory: pytest.TempPathFactory, prepare: Prepare) -> tuple[behsof.PlantedDefects, Path]:
    """What was planted, and the release."""
    folder = tmp_path_factory.mktemp("livers")
    planted = behsof.write(folder / "raw", images=226, password=None)
    prepare("behsof", folder / "raw", folder / "lake")
    return planted, published(folder / "lake", "behsof")


def test_no_grade_of_a_folder_reaches_an_id_a_shard_or_a_path(livers: tuple[behsof.PlantedDefects, Path]) -> None:
    _, release = livers
    samples = samples_of(release)
    assert samples["member"].str.contains(FOLDER).all()
    assert not [name for name in samples.index if FOLDER.search(name)]
    assert samples["patient_id"].str.fullmatch(r"(?:TAL|BEH)\d\d").all()
    assert list(samples["patient_id"]) == [FOLDER.search(member)[0][:5] for member in samples["member"]]  # type: ignore[index]
    stored = pd.concat(pd.read_parquet(path, columns=["image"]) for path in release.glob("parquet/*/*.parquet"))
    assert not [image["path"] for image in stored["image"] if FOLDER.search(image["path"])]


def test_taleghani_is_external_and_a_fifth_of_every_stage_of_behbood_validates(
    livers: tuple[behsof.PlantedDefects, Path],
) -> None:
    samples = samples_of(livers[1])
    assert ((samples["split"] == "external") == samples["patient_id"].str.startswith("TAL")).all()
    patients = samples[samples["split"] != "external"].drop_duplicates("patient_id")
    for stage, count in enumerate(behsof.STEATOSIS["BEH"]):
        own = patients[patients[f"label.steatosis_S{stage}"] == 1]
        assert abs((own["split"] == "validation").sum() - count / 5) <= 1


def test_ids_are_read_through_paths_and_spaces_and_values_have_types(
    livers: tuple[behsof.PlantedDefects, Path],
) -> None:
    planted, release = livers
    samples = samples_of(release)
    rows = samples.drop_duplicates("patient_id").set_index("patient_id")
    ids, scores = (rows[name].astype(str).to_dict() for name in ("meta.Patient ID", "meta.CAP score"))
    assert "\\" in ids[planted.windows_path[:5]]
    assert " " in ids[planted.spaced[:5]]
    assert scores[planted.negative_cap[:5]] == "-1"
    unknown = rows.index[rows["target.cap"].isna()]
    assert set(unknown) == {planted.missing_cap[:5], planted.negative_cap[:5]}
    assert (rows["target.cap"].dropna() > 100).all()
    types = samples.dtypes
    assert types["meta.alt_u_l"] == "float64"
    assert types["meta.Ferritin"] == "float64"  # a column that nobody declared, of numbers only
    assert set(samples["meta.Smoking"]) == {"never", "former", "current"}
    assert (rows["meta.alt_u_l"] == rows["meta.ALT (SGPT)"].astype(float)).all()
    outcomes = outcomes_of(release)
    assert outcomes["grade-mismatch"]["observed"].startswith("Steatosis stage")
    assert outcomes["grade-mismatch"]["failed"] == (samples["patient_id"] == planted.mismatched[:5]).sum()
    quarantine = pd.read_parquet(release / "quarantine.parquet")
    (alone,) = quarantine.loc[quarantine["reason"] == "row-without-image", "detail"]
    assert planted.without_folder[:5] in alone


LAYOUTS = {"plain": {}, "below other folders": {"top_folders": True}, "in one folder": {"flat": True}}


def test_livers_below_other_folders_or_in_one_are_the_same_livers(prepare: Prepare, tmp_path: Path) -> None:
    found = {}
    for name, options in LAYOUTS.items():
        behsof.write(tmp_path / name, images=120, defects=False, password=None, **options)  # type: ignore[arg-type]
        prepare("behsof", tmp_path / name, tmp_path / f"lake-{name}")
        found[name] = samples_of(published(tmp_path / f"lake-{name}", "behsof"))
    for name, samples in found.items():
        for column in ("patient_id", "split", "target.cap", "pixel_sha256"):
            assert sorted(samples[column]) == sorted(found["plain"][column]), name
        assert not [one for one in samples.index if FOLDER.search(one)], name


def test_livers_without_patient_ids_are_refused(tmp_path: Path) -> None:
    behsof.write(tmp_path / "raw", images=120, defects=False, password=None)
    (tmp_path / "raw" / "image_Data.zip").unlink()
    (tmp_path / "raw" / "NAFLD").mkdir()
    (tmp_path / "raw" / "NAFLD" / "1.jpg").write_bytes(b"\xff\xd8\xff")
    result = scanmill("check", "behsof", "--raw", tmp_path / "raw")
    assert result.exit_code == 2
    assert "no image of behsof" in said(result)


@pytest.mark.parametrize("side", [200, 480, 800])
@pytest.mark.parametrize("grade", range(4))
def test_all_writing_around_a_scan_goes_and_the_scan_stays(grade: int, side: int) -> None:
    screen = liver(np.random.default_rng(grade), steatosis=grade, fibrosis=grade, side=side, site="HOSPITAL")
    is_encoded, data = cv2.imencode(".jpg", screen.pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert is_encoded
    rules = ImageRules(to_grey=True, hides_outside_scan=True)
    converted = convert(data.tobytes(), Transform(size=None), rules)
    pixels = cv2.imdecode(np.frombuffer(converted.encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    assert pixels.ndim == 2
    for x, y, w, h in screen.texts:
        assert not pixels[y : y + h, x : x + w][~screen.sector[y : y + h, x : x + w]].max(initial=0) > 40
    lit = cv2.cvtColor(np.ascontiguousarray(screen.pixels), cv2.COLOR_RGB2GRAY) > 24
    assert (pixels[screen.sector & lit] > 0).mean() > 0.97
    assert re.fullmatch(
        r"outside the scan blackened \(\d+% of the frame\); colour to grey \(BT.601\); png",
        converted.facts["transform"],
    )


def test_a_screen_without_a_scan_is_refused() -> None:
    screen = np.zeros((480, 640, 3), np.uint8)
    cv2.putText(screen, "NAME 01/02/1950", (20, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (255, 255, 255), 3)
    assert scan_sector.find(screen[..., 0]) is None
    _, data = cv2.imencode(".png", screen)
    with pytest.raises(ImageRefused, match="no-scan-found"):
        convert(data.tobytes(), Transform(size=None), ImageRules(hides_outside_scan=True))


def test_echo_values_are_numbers_and_every_rule_counts_what_breaks_it(
    fakes: Callable[[str], Path], lakes: Callable[[str], Path], tmp_path: Path
) -> None:
    planted = write_fake("chexchonet", tmp_path / "again")  # the same as the session's fake
    release = published(lakes("chexchonet"), "chexchonet")
    samples, outcomes = samples_of(release), outcomes_of(release)
    names = samples["meta.cxr_filename"]
    assert samples.loc[names == planted.zero_lvidd, "target.lvidd"].item() == 0
    assert samples.loc[names == planted.outlier, "target.ivsd"].item() == 9.5
    assert outcomes["zero-measurement"]["observed"].startswith("lvidd 1 of 1")
    assert outcomes["large-measurement"]["observed"].startswith("ivsd 1 of 1")
    quarantine = pd.read_parquet(release / "quarantine.parquet")
    (refused,) = quarantine.loc[quarantine["reason"] == "composite-label", "member"]
    assert Path(refused).name == planted.inconsistent_composite
    assert (outcomes["slvh-threshold"]["failed"], outcomes["dlv-threshold"]["failed"]) == (1, 1)
    offset = samples["meta.cxr_time_offset"].str.extract(r"^(\d+) days", expand=False).astype(int)
    assert (samples["meta.time_offset_days"].astype(int) == offset).all()
    assert samples["meta.cxr_path"].str.startswith("./cxrs/").all()
    assert samples["member"].str.contains("/images/").all()


def test_films_that_come_later_move_nobody(prepare: Prepare, tmp_path: Path) -> None:
    write_fake("chexchonet", tmp_path / "raw", images=160, defects=False)
    table = tmp_path / "raw" / chexchonet.PLACE / "metadata.csv"
    lines = table.read_text().splitlines(keepends=True)
    prepare("chexchonet", tmp_path / "raw", tmp_path / "lake")
    before = samples_of(published(tmp_path / "lake", "chexchonet"))
    table.write_text("".join([lines[0], *lines[11:]]))
    for line in lines[1:11]:
        (table.parent / "images" / line.split(",")[1]).unlink()
    prepare("chexchonet", tmp_path / "raw", tmp_path / "lake")
    fewer = samples_of(published(tmp_path / "lake", "chexchonet"))
    assert len(fewer) == len(before) - 10
    pd.testing.assert_series_equal(before.loc[fewer.index, "split"], fewer["split"])
