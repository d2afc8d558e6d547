"""Phantoms, the made-up releases drawn from them, and the damages that other tests plant into these."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.demo_release import BOXES, TABLE, PlantedDefects, PlantedMember, write_nih_release
from tasks.phantoms import BOXED, breast, chest
from tests.fakes import damage, mammography_density, nih_chest_xray


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def _read(folder: Path, place: PlantedMember) -> bytes:
    with zipfile.ZipFile(folder / place.archive) as archive:
        return archive.read(place.member)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PlantedDefects]:
    folder = tmp_path_factory.mktemp("nih")
    return folder, write_nih_release(folder, images=120, archives=3, side=32)


@pytest.fixture(scope="module")
def mammography(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mammography")
    mammography_density.write(folder)
    return folder


@pytest.mark.parametrize("side", [32, 300, 1024])
def test_chest_is_the_same_again_and_another_for_another_generator(side: int) -> None:
    first, again, other = (chest(np.random.default_rng(seed), side).pixels for seed in (1, 1, 2))
    assert first.shape == (side, side)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert np.abs(first.astype(int) - other).mean() > 5


def test_chest_boxes_the_eight_boxed_findings_inside_the_film() -> None:
    for view in ("PA", "AP"):
        boxes = chest(np.random.default_rng(3), 128, frozenset({*BOXED, "Edema", "Hernia"}), view).boxes
        assert [box.label for box in boxes] == list(BOXED)
        for box in boxes:
            assert box.x >= 0
            assert box.y >= 0
            assert box.w > 1
            assert box.h > 1
            assert max(box.x + box.w, box.y + box.h) <= 128


def test_a_mass_brightens_its_box() -> None:
    with_mass = chest(np.random.default_rng(5), 256, frozenset({"Mass"}))
    (box,) = with_mass.boxes
    left, top, right, bottom = (int(v) for v in (box.x, box.y, box.x + box.w, box.y + box.h))
    inside = with_mass.pixels[top:bottom, left:right].mean()
    assert inside > with_mass.pixels[bottom : 2 * bottom - top, left:right].mean() + 10


def test_unknown_finding_and_density_are_named() -> None:
    with pytest.raises(ValueError, match="Fracture"):
        chest(np.random.default_rng(0), 32, frozenset({"Fracture"}))
    with pytest.raises(ValueError, match="density 5"):
        breast(np.random.default_rng(0), density=5)


def test_denser_breasts_are_brighter_on_black() -> None:
    means = [np.mean([breast(np.random.default_rng(s), 96, density).mean() for s in range(12)]) for density in (1, 4)]
    assert means[0] < means[1]
    assert np.percentile(breast(np.random.default_rng(1)), 5) == 0


def test_release_is_the_same_byte_for_byte(release: tuple[Path, PlantedDefects], tmp_path: Path) -> None:
    planted = write_nih_release(tmp_path, images=120, archives=3, side=32)
    assert planted == release[1]
    assert _hashes(tmp_path) == _hashes(release[0])


def test_release_tables_have_the_publishers_form(release: tuple[Path, PlantedDefects]) -> None:
    folder, planted = release
    table = (folder / TABLE).read_bytes()
    assert b"\r" not in table
    assert table.endswith(b"\n")
    lines = table.decode().splitlines()
    assert {line.count(",") for line in lines} == {10}
    assert len(lines) - 1 == 120 - len(planted.without_row)
    header, *boxes = (folder / BOXES).read_text().splitlines()
    assert header.count(",") == 8
    assert {line.count(",") for line in boxes} == {5}
    assert {line.split(",")[1] for line in boxes} == {*BOXED, "Infiltrate"} - {"Infiltration"}


def test_release_lists_part_the_table_by_patient(release: tuple[Path, PlantedDefects]) -> None:
    folder, _ = release
    train_val, test = ((folder / name).read_text() for name in ("train_val_list.txt", "test_list.txt"))
    assert not train_val.endswith("\n")
    assert not test.endswith("\n")
    images = [line.split(",")[0] for line in (folder / TABLE).read_text().splitlines()[1:]]
    assert sorted(train_val.split("\n") + test.split("\n")) == images
    assert not {n[:8] for n in train_val.split("\n")} & {n[:8] for n in test.split("\n")}
    assert 0.15 < len(test.split("\n")) / len(images) < 0.31
    assert {line.split(",")[0] for line in (folder / BOXES).read_text().splitlines()[1:]} <= set(test.split("\n"))


def test_release_defects_are_where_it_says(release: tuple[Path, PlantedDefects]) -> None:
    folder, planted = release
    rows = (folder / TABLE).read_text().splitlines()
    names = Counter(
        name for path in folder.glob("*.zip") for name in zipfile.ZipFile(path).namelist() if name.endswith(".png")
    )
    rgba = np.asarray(Image.open(io.BytesIO(_read(folder, planted.opaque_rgba[0]))))
    assert rgba.shape == (32, 32, 4)
    assert (rgba[..., 3] == 255).all()
    assert (rgba[..., :1] == rgba[..., :3]).all()
    dark, blank = (
        np.asarray(Image.open(io.BytesIO(_read(folder, place)))) for place in (planted.dark[0], planted.blank[0])
    )
    assert 0 < dark.mean() < 20
    assert dark.std() > 1
    assert not blank.any()
    assert _read(folder, planted.empty[0]) == b""
    assert _read(folder, planted.truncated[0]).startswith(b"\x89PNG")
    assert not _read(folder, planted.truncated[0]).endswith(b"IEND\xaeB`\x82")
    assert _read(folder, planted.not_an_image[0]).startswith(b"<html>")
    assert [name for name, count in names.items() if count > 1] == [planted.duplicated[0].member]
    assert planted.without_row[0].member.removeprefix("images/") not in "\n".join(rows)
    for row in (*planted.without_image, *planted.unknown_label, *planted.implausible_age):
        assert rows[row.row].startswith(f"{row.image},")
    assert f"images/{planted.without_image[0].image}" not in names
    assert rows[planted.unknown_label[0].row].split(",")[1] == "Fracture"
    assert rows[planted.implausible_age[0].row].split(",")[4] == "411"


def test_clean_release_has_one_image_per_row(tmp_path: Path) -> None:
    assert nih_chest_xray.write(tmp_path, images=80, defects=False) == PlantedDefects()
    pixels: Counter[bytes] = Counter()
    for path in sorted(tmp_path.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            pixels.update(archive.read(name) for name in archive.namelist() if name.startswith("images/0"))
    assert len(pixels) == len((tmp_path / TABLE).read_text().splitlines()) - 1 == 80


def test_mammography_archive_has_the_publishers_form(mammography: Path) -> None:
    with zipfile.ZipFile(mammography / mammography_density.ARCHIVE) as archive:
        content = {name.removeprefix("mammography_images/"): archive.read(name) for name in archive.namelist()}
    labels = content["Training_set.csv"].decode().split("\r\n")
    assert content["Testing_set.csv"].startswith(b"filename\r\nImage_1.jpg\r\n")
    assert labels[0] == "filename,label"
    assert len({line.split(",")[1] for line in labels[1:-1]}) == 8
    assert content["sample_submission.csv"].count(b"Density3Benign") == 80
    train = Counter(content[f"train/Image_{i}.jpg"] for i in range(1, 241))
    test = Counter(content[f"test/Image_{i}.jpg"] for i in range(1, 81))
    assert max(train.values()) > 1
    assert max(test.values()) > 1
    assert train.keys() & test.keys()
    for data in [*train, *test]:
        image = np.asarray(Image.open(io.BytesIO(data)))
        assert image.shape == (224, 224, 3)
        assert (image[..., :1] == image).all()


def test_mammography_without_defects_repeats_no_file(tmp_path: Path) -> None:
    mammography_density.write(tmp_path, defects=False, newline="\n")
    with zipfile.ZipFile(tmp_path / mammography_density.ARCHIVE) as archive:
        images = {archive.read(name) for name in archive.namelist() if name.endswith(".jpg")}
        assert b"\r" not in archive.read("mammography_images/Training_set.csv")
    assert len(images) == 320


@pytest.mark.parametrize("reason", [*damage.DAMAGES])
def test_every_damage_changes_the_archive(mammography: Path, tmp_path: Path, reason: str) -> None:
    whole = (mammography / mammography_density.ARCHIVE).read_bytes()
    damaged = tmp_path / mammography_density.ARCHIVE
    damaged.write_bytes(whole)
    damage.DAMAGES[reason](tmp_path)
    assert damaged.read_bytes() != whole
    with zipfile.ZipFile(damaged) as archive:
        names = archive.namelist()
        image = "mammography_images/train/Image_7.jpg"
        if reason == "crc-mismatch":
            assert archive.testzip() == image
        elif reason == "encrypted-member":
            with pytest.raises(RuntimeError, match="encrypted"):
                archive.read(image)
        else:
            assert archive.testzip() is None
        assert names.count(image) == {"duplicate-member": 2, "row-without-image": 0}.get(reason, 1)
        assert ("../evil.jpg" in names) == (reason == "unsafe-path")


@pytest.mark.parametrize("reason", [*damage.NIH_DAMAGES])
def test_every_damage_changes_the_nih_release(
    release: tuple[Path, PlantedDefects], tmp_path: Path, reason: str
) -> None:
    for path in release[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    damage.NIH_DAMAGES[reason](tmp_path)
    changed = {name for name, digest in _hashes(tmp_path).items() if digest != _hashes(release[0])[name]}
    assert changed == ({TABLE} if reason in ("image-without-row", "unknown-label") else {"images_002.zip"})


def test_damages_to_tables_and_whole_archives(mammography: Path, tmp_path: Path) -> None:
    archive = tmp_path / mammography_density.ARCHIVE
    archive.write_bytes((mammography / mammography_density.ARCHIVE).read_bytes())
    table = damage.TableFile(archive, "mammography_images/Training_set.csv")
    damage.add_row(table, "Image_999.jpg")
    assert table.rows()[-1][0] == "Image_999.jpg"
    damage.rename_column(table, "label", "class")
    assert table.rows()[0] == ["filename", "class"]
    damage.drop_column(table, "class")
    assert table.rows()[1] == ["Image_1.jpg"]
    damage.duplicate_member(
        archive, f"{mammography_density.ROOT}/test/Image_1.jpg", same_bytes=False, other=table.member
    )
    damage.remove_member(archive, table.member)
    with zipfile.ZipFile(archive) as opened:
        assert table.member not in opened.namelist()
    damage.corrupt_zip(archive)
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(archive)


def test_patient_in_two_splits(release: tuple[Path, PlantedDefects], tmp_path: Path) -> None:
    for name in ("train_val_list.txt", "test_list.txt"):
        (tmp_path / name).write_bytes((release[0] / name).read_bytes())
    moved = damage.patient_in_two_splits(tmp_path)
    assert moved in (tmp_path / "test_list.txt").read_text()
    assert moved not in (tmp_path / "train_val_list.txt").read_text()
    assert moved[:8] in (tmp_path / "train_val_list.txt").read_text()
