"""The made-up release of published size has the published counts, and its quickly written images are sound PNGs.

Numbers here are copied from the publisher's files as they were counted, not from the generator.
"""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
import zlib
from collections import Counter
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.bench.fast_releases import Kind, adler32_combine, draw_bank, kinds_of, png, write_release
from tests.bench.published_counts import by_archive, part_of, published_tables, write_tables

# Films with each label in train_val and test, and rows of the box file.
PUBLISHED = {
    "Atelectasis": (8280, 3279, 180),
    "Cardiomegaly": (1707, 1069, 146),
    "Consolidation": (2852, 1815, 0),
    "Edema": (1378, 925, 0),
    "Effusion": (8659, 4658, 153),
    "Emphysema": (1423, 1093, 0),
    "Fibrosis": (1251, 435, 0),
    "Hernia": (141, 86, 0),
    "Infiltration": (13782, 6112, 123),
    "Mass": (4034, 1748, 85),
    "Nodule": (4708, 1623, 79),
    "Pleural_Thickening": (2242, 1143, 0),
    "Pneumonia": (876, 555, 120),
    "Pneumothorax": (2637, 2665, 98),
    "No Finding": (50500, 9861, 0),
}
ARCHIVES = {
    "00001335_006.png": 4999,
    "00003923_013.png": 10000,
    "00006585_006.png": 10000,
    "00009232_003.png": 10000,
    "00011558_007.png": 10000,
    "00013774_025.png": 10000,
    "00016051_009.png": 10000,
    "00018387_034.png": 10000,
    "00020945_049.png": 10000,
    "00024717_000.png": 10000,
    "00028173_002.png": 10000,
    "00030805_000.png": 7121,
}
HEADER = (
    b"Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    b"OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]\n"
)
SIDE = 64
IMAGES = 480


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tables of the whole release."""
    folder = tmp_path_factory.mktemp("published")
    write_tables(folder, published_tables())
    return folder


@pytest.fixture(scope="module")
def entries(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "Data_Entry_2017_v2020.csv")


def test_lines_end_as_published(folder: Path) -> None:
    table, boxes = ((folder / name).read_bytes() for name in ("Data_Entry_2017_v2020.csv", "BBox_List_2017.csv"))
    assert table.startswith(HEADER)
    assert {line.count(b",") for line in table.splitlines()} == {10}
    assert boxes.startswith(b"Image Index,Finding Label,Bbox [x,y,w,h],,,\n")
    assert {line.count(b",") for line in boxes.splitlines()[1:]} == {5}
    assert all(content.endswith(b"\n") and b"\r" not in content for content in (table, boxes))
    # The published sizes, which only lists without a final newline have.
    assert (folder / "train_val_list.txt").stat().st_size == 1_470_907
    assert (folder / "test_list.txt").stat().st_size == 435_131


def test_rows_and_patients_are_those_published(entries: pd.DataFrame) -> None:
    assert len(entries) == entries["Image Index"].nunique() == 112_120
    assert entries.notna().all().all()
    assert entries["Image Index"].str.fullmatch(r"\d{8}_\d{3}\.png").all()
    assert (entries["Image Index"].str[:8].astype(int) == entries["Patient ID"]).all()
    films = entries["Patient ID"].value_counts()
    assert sorted(films.index) == list(range(1, 30_806))
    assert films[10007] == 184 == films.max()
    assert (films == 1).sum() == 17_503
    assert entries["Patient Gender"].value_counts().to_dict() == {"M": 63_340, "F": 48_780}
    assert entries.groupby("Patient ID")["Patient Gender"].nunique().max() == 1
    assert entries["View Position"].value_counts().to_dict() == {"PA": 67_310, "AP": 44_810}
    assert (entries["Patient Age"].min(), (entries["Patient Age"] == 0).sum()) == (0, 14)
    assert entries["Patient Age"].max() == 95
    assert entries["OriginalImage[Width"].between(1143, 3827).all()
    assert entries["Height]"].between(966, 4715).all()
    assert entries["OriginalImagePixelSpacing[x"].between(0.115, 0.1988).all()
    assert (entries["OriginalImagePixelSpacing[x"] == entries["y]"]).all()


def test_follow_ups_are_renumbered_as_published(entries: pd.DataFrame) -> None:
    follow_ups = entries["Follow-up #"]
    assert (entries["Image Index"].str[9:12].astype(int) != follow_ups).sum() == 24_106
    assert (follow_ups.min(), follow_ups.max()) == (0, 183)
    keys = list(zip(entries["Patient ID"], follow_ups, strict=True))
    assert len(set(keys)) == len(keys)
    assert keys == sorted(keys)


def test_labels_are_those_published(folder: Path, entries: pd.DataFrame) -> None:
    labels = entries["Finding Labels"]
    assert labels.nunique() == 836
    unsorted = labels[labels.map(lambda text: text.split("|") != sorted(text.split("|")))]
    assert (len(unsorted), unsorted.nunique()) == (51, 40)
    assert not labels.str.contains(r"No Finding\||\|No Finding").any()
    patients: list[set[int]] = []
    names: list[set[str]] = []
    for name, images, persons in (("train_val_list.txt", 86_524, 28_008), ("test_list.txt", 25_596, 2_797)):
        listed = (folder / name).read_text().split("\n")
        rows = entries[entries["Image Index"].isin(listed)]
        assert (len(listed), len(rows), rows["Patient ID"].nunique()) == (images, images, persons)
        position = len(names)
        counts = Counter(label for text in rows["Finding Labels"] for label in text.split("|"))
        assert counts == {label: published[position] for label, published in PUBLISHED.items()}
        patients.append(set(rows["Patient ID"]))
        names.append(set(listed))
    assert not patients[0] & patients[1]
    assert names[0] | names[1] == set(entries["Image Index"])


def test_boxes_are_those_published(folder: Path, entries: pd.DataFrame) -> None:
    boxes = pd.read_csv(folder / "BBox_List_2017.csv")
    assert (len(boxes), boxes["Image Index"].nunique()) == (984, 880)
    assert "Infiltration" not in set(boxes["Finding Label"])
    labels = boxes["Finding Label"].replace("Infiltrate", "Infiltration")
    assert labels.value_counts().to_dict() == {label: rows for label, (_, _, rows) in PUBLISHED.items() if rows}
    assert set(boxes["Image Index"]) <= set((folder / "test_list.txt").read_text().split("\n"))
    of_image = entries.set_index("Image Index")["Finding Labels"]
    assert all(label in of_image[image].split("|") for image, label in zip(boxes["Image Index"], labels, strict=True))
    x, y, w, h = (boxes[name] for name in ("Bbox [x", "y", "w", "h]"))
    assert (x.ge(0) & y.ge(0) & w.gt(0) & h.gt(0) & (x + w).le(1024) & (y + h).le(1024)).all()


def test_archives_and_odd_images_are_as_many_as_published() -> None:
    tables = published_tables()
    assert {block[-1].image: len(block) for block in by_archive(tables.exams)} == ARCHIVES
    odd = Counter(kinds_of([exam.image for exam in tables.exams]).values())
    assert odd == {"rgba": 519, "dark": 61, "bright": 52}
    part = part_of(tables, 11_212)
    sizes = [len(block) for block in by_archive(part.exams)]
    assert sum(sizes) == 11_212
    assert max(abs(size - published / 10) for size, published in zip(sizes, ARCHIVES.values(), strict=True)) < 2


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small release in each form."""
    home = tmp_path_factory.mktemp("releases")
    for form in ("zip", "tar.gz"):
        paths = list(write_release(home / form, IMAGES, form=form, side=SIDE))
        assert [path.name for path in paths] == [f"images_{number:03d}.{form}" for number in range(1, 13)]
    return {form: home / form for form in ("zip", "tar.gz")}


def members(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in sorted(folder.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            found |= {name: archive.read(name) for name in archive.namelist()}
    for path in sorted(folder.glob("*.tar.gz")):
        with tarfile.open(path) as tar:
            for entry in tar:
                stream = tar.extractfile(entry)
                assert stream is not None
                found[entry.name] = stream.read()
    return found


def test_images_decode_and_all_differ(releases: dict[str, Path]) -> None:
    found = members(releases["zip"])
    listed = pd.read_csv(releases["zip"] / "Data_Entry_2017_v2020.csv")["Image Index"]
    assert sorted(found) == sorted(f"images/{name}" for name in listed)
    assert len(found) == IMAGES
    seen = set()
    for content in found.values():
        pixels = np.asarray(Image.open(io.BytesIO(content)))
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        assert pixels.shape[:2] == (SIDE, SIDE)
        assert np.array_equal(pixels, decoded), "the channels of RGBA are equal, so their order does not matter"
        # RGBA or not, what is seen must be unique.
        seen.add(sha256(pixels.reshape(SIDE, SIDE, -1)[:, :, 0].tobytes()).digest())
    assert len(seen) == IMAGES


def test_both_forms_hold_the_same_and_the_bytes_are_repeatable(releases: dict[str, Path], tmp_path: Path) -> None:
    assert members(releases["zip"]) == members(releases["tar.gz"])
    for form in releases:
        for path in write_release(tmp_path / form, IMAGES, form=form, side=SIDE):  # type: ignore[arg-type]
            assert path.read_bytes() == (releases[form] / path.name).read_bytes()
        for path in (tmp_path / form).iterdir():
            assert path.read_bytes() == (releases[form] / path.name).read_bytes()
    with gzip.open(releases["tar.gz"] / "images_001.tar.gz") as stream:
        assert stream.read(262)[257:262] == b"ustar"


@pytest.mark.parametrize(
    ("kind", "mode", "least", "most"),
    [("film", "L", 50, 195), ("rgba", "RGBA", 50, 195), ("dark", "L", 0, 50), ("bright", "L", 195, 255)],
)
def test_odd_images_are_as_odd_as_published(kind: Kind, mode: str, least: float, most: float) -> None:
    image = Image.open(io.BytesIO(png(draw_bank(SIDE), kind, patient=30_805, number=183)))
    assert image.mode == mode
    pixels = np.asarray(image).reshape(SIDE, SIDE, -1)
    assert least < pixels[:, :, 0].mean() < most
    if kind == "rgba":
        assert (pixels[:, :, :3] == pixels[:, :, :1]).all()
        assert (pixels[:, :, 3] == 255).all()


@pytest.mark.parametrize("lengths", [(0, 0), (1, 0), (0, 1), (70_000, 65_521), (5_552, 123_457)])
def test_adler32_of_two_parts_is_that_of_the_whole(lengths: tuple[int, int]) -> None:
    rng = np.random.default_rng(lengths[0])
    first, second = (rng.integers(0, 256, length, np.uint8).tobytes() for length in lengths)
    assert adler32_combine(zlib.adler32(first), zlib.adler32(second), len(second)) == zlib.adler32(first + second)
