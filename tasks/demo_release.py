"""A made-up raw release in the layout of NIH ChestX-ray14 as Kaggle hands it out, for ``scanmill demo`` and the tests.

Every picture is a phantom, every patient is invented. Beside the publisher's own oddities (unsorted labels, follow-up
numbers that disagree with file names, lists without a final newline) it can carry defects, and tells where they are.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from tasks.invented_exams import Exam, draw_exams, split_by_patient
from tasks.phantoms import BOXED, Phantom, chest

TABLE = "Data_Entry_2017_v2020.csv"
BOXES = "BBox_List_2017.csv"
TABLE_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
_SMALLEST = 80
# Half the time of OpenCV's own choice, at the size that the published files have.
_PNG_FAST = [cv2.IMWRITE_PNG_COMPRESSION, 1]
_PNG_FAST += [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP]
_PNG_FAST += [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY]
_TIMESTAMP = (2017, 12, 20, 0, 0, 0)


@dataclass(frozen=True)
class PlantedMember:
    """An archive member: file name of the archive, path inside it."""

    archive: str
    member: str


@dataclass(frozen=True)
class PlantedRow:
    """A row of the label table: 1-based, header not counted, and the image it names."""

    row: int
    image: str


@dataclass(frozen=True)
class PlantedDefects:
    """Where each defect is; empty tuples where the release was written without."""

    opaque_rgba: tuple[PlantedMember, ...] = ()
    """Equal channels under an opaque alpha: odd, but to be kept."""
    dark: tuple[PlantedMember, ...] = ()
    """Underexposed, mean grey below 20, but with an image in it: to be kept."""
    blank: tuple[PlantedMember, ...] = ()
    truncated: tuple[PlantedMember, ...] = ()
    empty: tuple[PlantedMember, ...] = ()
    not_an_image: tuple[PlantedMember, ...] = ()
    duplicated: tuple[PlantedMember, ...] = ()
    """Members that one archive holds twice, bytes and all."""
    without_row: tuple[PlantedMember, ...] = ()
    without_image: tuple[PlantedRow, ...] = ()
    unknown_label: tuple[PlantedRow, ...] = ()
    implausible_age: tuple[PlantedRow, ...] = ()


def write_nih_release(
    folder: Path,
    *,
    images: int = 360,
    archives: int = 4,
    side: int = 1024,
    seed: int = 2017,
    with_defects: bool = True,
) -> PlantedDefects:
    """Write archives, tables and lists into ``folder``; the same arguments give the same bytes."""
    if images < _SMALLEST or not 1 <= archives <= images:
        message = f"images={images}, archives={archives}: needs at least {_SMALLEST} images and 1 to {images} archives"
        raise ValueError(message)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    exams = draw_exams(rng, images)
    test_patients = split_by_patient(rng, exams)
    roles = _choose(rng, exams) if with_defects else {}
    blocks = _blocks(exams, archives)
    boxes: list[str] = []
    for archive, block in blocks.items():
        boxes += _write_archive(folder / archive, block, roles, test_patients, side, seed)
    listed = _listed(exams, roles)
    write_lines(folder / TABLE, [TABLE_HEADER, *(exam.as_row() for exam in listed)], ends_with_newline=True)
    write_lines(folder / BOXES, [BOX_HEADER, *boxes], ends_with_newline=True)
    for name, is_test in (("train_val_list.txt", False), ("test_list.txt", True)):
        names = [exam.image for exam in listed if (exam.patient in test_patients) == is_test]
        write_lines(folder / name, names, ends_with_newline=False)
    (folder / "FAQ_CHESTXRAY.pdf").write_bytes(
        b"%PDF-1.4\n% Made up: the published release has a leaflet here.\n%%EOF\n"
    )
    return _planted(blocks, listed, roles)


def _blocks(exams: Sequence[Exam], archives: int) -> dict[str, list[Exam]]:
    """The sorted list cut into archives."""
    cuts = [len(exams) * number // archives for number in range(archives + 1)]
    return {f"images_{i + 1:03d}.zip": list(exams[cuts[i] : cuts[i + 1]]) for i in range(archives)}


def _choose(rng: np.random.Generator, exams: Sequence[Exam]) -> dict[str, str]:
    """One image for each field of :class:`PlantedDefects`: image name to field name."""
    # Boxed images stay whole, so that every box has its image.
    plain = [exam.image for exam in exams if not exam.findings & set(BOXED)]
    names = [field.name for field in fields(PlantedDefects)]
    chosen = rng.choice(len(plain), size=len(names), replace=False)
    return {plain[index]: name for index, name in zip(chosen, names, strict=True)}


def _listed(exams: Sequence[Exam], roles: Mapping[str, str]) -> list[Exam]:
    """The exams as the label table shows them, defects included."""
    rows = []
    for exam in exams:
        match roles.get(exam.image):
            case "without_row":
                continue
            case "unknown_label":
                rows.append(replace(exam, labels="Fracture"))
            case "implausible_age":
                rows.append(replace(exam, age_years=411))
            case _:
                rows.append(exam)
    return rows


def _write_archive(
    path: Path, block: Sequence[Exam], roles: Mapping[str, str], test_patients: frozenset[int], side: int, seed: int
) -> list[str]:
    """Write one archive; gives the box rows of its test images."""
    boxes: list[str] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        if path.name == "images_001.zip":
            _add(archive, "images/.DS_Store", b"\x00\x00\x00\x01Bud1")
            _add(archive, f"__MACOSX/images/._{block[0].image}", b"\x00\x05\x16\x07")
        for exam in block:
            role = roles.get(exam.image, "")
            if role == "without_image":
                continue
            # Each film has a generator of its own: it looks the same whatever else the release holds.
            rng = np.random.default_rng([seed, exam.patient, exam.number])
            # A release without defects has no words burned in, which are one.
            phantom = chest(rng, side, exam.findings, exam.view, has_words=bool(roles))
            content = _content(phantom.pixels, role)
            for _ in range(2 if role == "duplicated" else 1):
                _add(archive, f"images/{exam.image}", content)
            if exam.patient in test_patients:
                boxes += _box_rows(exam, phantom)
    return boxes


def _content(pixels: npt.NDArray[np.uint8], role: str) -> bytes:
    """What is in the file of an image that plays this role."""
    match role:
        case "opaque_rgba":
            return _png(cv2.merge([pixels, pixels, pixels, np.full_like(pixels, 255)]))
        case "blank":
            return _png(np.zeros_like(pixels))
        case "dark":
            return _png((pixels * np.float32(0.09)).astype(np.uint8))
        case "truncated":
            whole = _png(pixels)
            return whole[: len(whole) * 3 // 5]
        case "empty":
            return b""
        case "not_an_image":
            return b"<html><body>404 Not Found</body></html>\n"
    return _png(pixels)


def _png(pixels: npt.NDArray[np.uint8] | cv2.typing.MatLike) -> bytes:
    is_encoded, data = cv2.imencode(".png", pixels, _PNG_FAST)
    assert is_encoded, "OpenCV encodes any uint8 image as PNG"
    return data.tobytes()


def _box_rows(exam: Exam, phantom: Phantom) -> Iterator[str]:
    for box in phantom.boxes:
        label = "Infiltrate" if box.label == "Infiltration" else box.label
        corner_and_extent = (repr(round(value, 12)) for value in (box.x, box.y, box.w, box.h))
        yield ",".join([exam.image, label, *corner_and_extent])


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    with warnings.catch_warnings():
        # A name that is there twice is one of the defects.
        warnings.simplefilter("ignore", UserWarning)
        archive.writestr(zip_entry(name), content)


def zip_entry(name: str) -> zipfile.ZipInfo:
    """An entry that tells nothing of when and where it was written."""
    info = zipfile.ZipInfo(name, _TIMESTAMP)
    info.external_attr = 0o644 << 16
    info.create_system = 3
    return info


def write_lines(path: Path, lines: Sequence[str], *, ends_with_newline: bool) -> None:
    """Write text with LF between the lines; the publisher ends tables with one, and lists without."""
    path.write_bytes(("\n".join(lines) + ("\n" if ends_with_newline else "")).encode())


def _planted(blocks: Mapping[str, Sequence[Exam]], listed: Sequence[Exam], roles: Mapping[str, str]) -> PlantedDefects:
    archive_of = {exam.image: archive for archive, block in blocks.items() for exam in block}
    row_of = {exam.image: row for row, exam in enumerate(listed, start=1)}

    def members(role: str) -> tuple[PlantedMember, ...]:
        return tuple(PlantedMember(archive_of[image], f"images/{image}") for image in roles if roles[image] == role)

    def rows(role: str) -> tuple[PlantedRow, ...]:
        return tuple(PlantedRow(row_of[image], image) for image in roles if roles[image] == role)

    return PlantedDefects(
        opaque_rgba=members("opaque_rgba"),
        dark=members("dark"),
        blank=members("blank"),
        truncated=members("truncated"),
        empty=members("empty"),
        not_an_image=members("not_an_image"),
        duplicated=members("duplicated"),
        without_row=members("without_row"),
        without_image=rows("without_image"),
        unknown_label=rows("unknown_label"),
        implausible_age=rows("implausible_age"),
    )
