"""A small made-up copy of the mammography density archive: few lesions, turned and mirrored into many files.

The publisher spread the variants of one lesion over both splits, and repeated some of them byte for byte.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

from tasks.phantoms import breast

ARCHIVE = "mammography_images.zip"
ROOT = "mammography_images"
LESIONS: Mapping[tuple[int, str], int] = {
    (1, "Benign"): 2, (1, "Malignant"): 4, (2, "Benign"): 2, (2, "Malignant"): 4,
    (3, "Benign"): 3, (3, "Malignant"): 2, (4, "Benign"): 2, (4, "Malignant"): 1,
}  # fmt: skip
"""Number of lesions by density and diagnosis; as published, a single one is D4M."""

_TURNS = 8
_TIMESTAMP = (2021, 5, 12, 0, 0, 0)


@dataclass(frozen=True)
class Picture:
    """One file: its label, the lesion that it shows, and its bytes."""

    label: str
    lesion: int
    content: bytes


def write(
    folder: Path,
    *,
    images: int = 320,
    defects: bool = True,
    seed: int = 0,
    newline: Literal["\r\n", "\n"] = "\r\n",
) -> dict[str, int]:
    """Write the archive, a quarter of ``images`` on the test side; ``defects`` repeats a third of the files exactly.

    Tells what the publisher has not: the number of the lesion that each image member shows.
    """
    lesions = sum(LESIONS.values())
    if images < 4 * lesions:
        message = f"images={images}: {lesions} lesions need at least {4 * lesions} images"
        raise ValueError(message)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    train: list[Picture] = []
    test: list[Picture] = []
    for pictures in _pictures_by_class(rng, images, has_repeats=defects):
        held_out = round(len(pictures) / 4)
        shuffled = [pictures[index] for index in rng.permutation(len(pictures))]
        test += shuffled[:held_out]
        train += shuffled[held_out:]
    train = [train[index] for index in rng.permutation(len(train))]
    test = [test[index] for index in rng.permutation(len(test))]
    _write_archive(folder / ARCHIVE, train, test, newline)
    sides = {"train": train, "test": test}
    return {f"{ROOT}/{side}/{_name(i)}": one.lesion for side, shown in sides.items() for i, one in enumerate(shown)}


def _pictures_by_class(rng: np.random.Generator, images: int, *, has_repeats: bool) -> Iterator[list[Picture]]:
    """Every class with all the variants of its lesions, ``images`` in sum."""
    lesions = sum(LESIONS.values())
    done = 0
    for (density, diagnosis), count in LESIONS.items():
        pictures: list[Picture] = []
        for _ in range(count):
            variants = images * (done + 1) // lesions - images * done // lesions
            lesion = breast(rng, density=density, is_malignant=diagnosis == "Malignant")
            # As published: 48 distinct files among the 72 of a lesion, the others repeat some of these.
            distinct = -(-2 * variants // 3) if has_repeats else variants
            files = [_jpeg(_variant(lesion, number)) for number in range(distinct)]
            pictures += [Picture(f"Density{density}{diagnosis}", done, files[i % distinct]) for i in range(variants)]
            done += 1
        yield pictures


def _variant(lesion: npt.NDArray[np.uint8], number: int) -> npt.NDArray[np.uint8]:
    """The lesion turned by quarters, mirrored, and with brighter fat every eight variants."""
    gamma = 1 / (1 + 0.1 * (number // _TURNS))
    steps = np.round(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    turned = np.rot90(steps[lesion], number % 4)
    return np.ascontiguousarray(turned[:, ::-1] if number % _TURNS >= 4 else turned)


def _jpeg(grey: npt.NDArray[np.uint8]) -> bytes:
    """An RGB JPEG whose three channels are equal, also once it is decoded."""
    is_encoded, data = cv2.imencode(".jpg", cv2.merge([grey, grey, grey]), [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert is_encoded, "OpenCV encodes any uint8 image as JPEG"
    return data.tobytes()


def _write_archive(path: Path, train: Sequence[Picture], test: Sequence[Picture], newline: str) -> None:
    tables = {
        "Training_set.csv": ["filename,label", *(f"{_name(i)},{picture.label}" for i, picture in enumerate(train))],
        "Testing_set.csv": ["filename", *(_name(i) for i in range(len(test)))],
        # A placeholder for a contest's answers, not the truth.
        "sample_submission.csv": ["filename,label", *(f"{_name(i)},Density3Benign" for i in range(len(test)))],
    }
    members = {".DS_Store": b"\x00\x00\x00\x01Bud1"}
    members |= {name: "".join(line + newline for line in lines).encode() for name, lines in tables.items()}
    members |= {f"train/{_name(i)}": picture.content for i, picture in enumerate(train)}
    members |= {f"test/{_name(i)}": picture.content for i, picture in enumerate(test)}
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(f"{ROOT}/{name}", _TIMESTAMP)
            info.compress_type = zipfile.ZIP_DEFLATED if name.endswith(".csv") else zipfile.ZIP_STORED
            info.create_system, info.external_attr = 3, 0o644 << 16
            archive.writestr(info, members[name])


def _name(index: int) -> str:
    return f"Image_{index + 1}.jpg"
