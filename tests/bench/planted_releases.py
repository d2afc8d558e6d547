"""Raw releases with something to learn: NIH ChestX-ray14, CheXchoNet and BEHSOF as published, answers drawn into them.

Films of made-up patients who have several each; what a patient has is on (nearly) all of their films, so that a split
by film would leak. More common than in life, so that some hundreds of films are enough to learn from:

* NIH: the phantoms' fourteen findings, each on about one film in eleven; boxes of the eight boxed ones on test films.
* CheXchoNet: the heart is as wide as ``lvidd`` says, the walls drawn in it as thick as ``ivsd`` and ``lvpwd`` say. The
  labels are the sizes above the published thresholds, which differ by sex, and sex is not to be seen.
* BEHSOF: the phantoms' liver, brighter with steatosis, coarser with fibrosis; grades F0 to F2, as published.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import numpy.typing as npt

from tasks.datasets.chexchonet import SALT, SHARES
from tasks.demo_release import BOX_HEADER, BOXES, TABLE, TABLE_HEADER, write_lines, zip_entry
from tasks.invented_exams import Exam
from tasks.phantoms import chest, chests, liver
from tasks.phantoms.drawing import Points, fill
from tasks.phantoms.findings import PAINTERS
from tasks.phantoms.livers import Scan
from tasks.phantoms.thorax import Thorax, draw_thorax
from tasks.splits import group_fraction
from tests.fakes import behsof, chexchonet

SIDE = 224
"""Of the chest films, in pixels."""
FILMS_EACH = 3.0
"""Per patient, on average."""
CARRIED = 1 / 9
"""Of the NIH patients, for each finding; nearly all of their films show it."""
SHOWN = 0.8
TEST_SHARE = 0.3
"""Of the NIH patients; the publisher's list has 0.23 of the films."""
ARCHIVES = 3
HELD_OUT = (0.12, 0.28)
"""Of the CheXchoNet patients, for validation and test."""
CENTIMETRE = 0.05
"""Of a heart's wall, as a share of the side."""
WALL = 30.0
"""By how many grey levels a wall is lighter than what it encloses."""
GAIN = (0.7, 1.3)
"""Of BEHSOF's frames, least and most."""

Grey = npt.NDArray[np.uint8]


def write_nih(folder: Path, images: int, seed: int = 0) -> None:
    """Archives, label table, boxes and lists of ``images`` films; the same arguments give the same bytes."""
    rng = np.random.default_rng([seed, 1])
    exams: list[Exam] = []
    while len(exams) < images:
        exams += _nih_patient(rng, exams[-1].patient + 1 if exams else 1)
    exams = exams[:images]
    patients = sorted({exam.patient for exam in exams})
    test = {int(patient) for patient in rng.choice(patients, round(TEST_SHARE * len(patients)), replace=False)}
    boxes: list[str] = []
    for number in range(ARCHIVES):
        with zipfile.ZipFile(folder / f"images_{number + 1:03d}.zip", "w", zipfile.ZIP_STORED) as archive:
            for exam in exams[images * number // ARCHIVES : images * (number + 1) // ARCHIVES]:
                film = np.random.default_rng([seed, exam.patient, exam.number])
                phantom = chest(film, SIDE, exam.findings, exam.view, has_words=False)
                archive.writestr(zip_entry(f"images/{exam.image}"), _encoded(".png", phantom.pixels))
                if exam.patient in test:
                    boxes += [_box_row(exam, box) for box in phantom.boxes]
    write_lines(folder / TABLE, [TABLE_HEADER, *(exam.as_row() for exam in exams)], ends_with_newline=True)
    write_lines(folder / BOXES, [BOX_HEADER, *boxes], ends_with_newline=True)
    for name, is_test in (("train_val_list.txt", False), ("test_list.txt", True)):
        names = [exam.image for exam in exams if (exam.patient in test) == is_test]
        write_lines(folder / name, names, ends_with_newline=False)


def _nih_patient(rng: np.random.Generator, patient: int) -> Iterator[Exam]:
    """All films of one; what they have does not go away, but is not on every film."""
    carried = [name for name in sorted(PAINTERS) if rng.random() < CARRIED]
    sex, age = "FM"[rng.integers(2)], int(np.clip(rng.normal(50, 17), 5, 90))
    for number in range(int(rng.geometric(1 / FILMS_EACH))):
        shown = [name for name in carried if rng.random() < SHOWN]
        yield Exam(
            patient=patient,
            number=number,
            labels="|".join(shown) or "No Finding",
            follow_up=number,
            age_years=age,
            sex=sex,
            view="PA" if rng.random() < 0.6 else "AP",
            film=(2992, 2991),
            spacing="0.143",
        )


def _box_row(exam: Exam, box: chests.Box) -> str:
    label = "Infiltrate" if box.label == "Infiltration" else box.label
    return ",".join([exam.image, label, *(repr(round(value, 12)) for value in (box.x, box.y, box.w, box.h))])


def write_chexchonet(folder: Path, images: int, seed: int = 0) -> None:
    """Table, films and checksums where a recursive download puts them; the same arguments give the same bytes."""
    rng = np.random.default_rng([seed, 2])
    films: list[chexchonet.Film] = []
    while len(films) < images:
        films += _films_of(rng, _echo(rng))
    films = films[:images]
    pictures = {f"images/{film.name}": _heart(np.random.default_rng([seed, n]), film) for n, film in enumerate(films)}
    table = "".join(f"{line}\n" for line in [chexchonet.HEADER, *(film.as_row() for film in films)])
    contents = {chexchonet.TABLE: table.encode(), **pictures}
    sums = "".join(f"{hashlib.sha256(content).hexdigest()} {name}\n" for name, content in sorted(contents.items()))
    root = folder / chexchonet.PLACE
    (root / "images").mkdir(parents=True)
    for name, content in {**contents, chexchonet.CHECKSUMS: sums.encode()}.items():
        (root / name).write_bytes(content)


def _echo(rng: np.random.Generator) -> chexchonet.Echo:
    """One patient's sizes; about three in ten have a thick wall, as many a wide cavity."""
    sex = "FM"[rng.integers(2)]
    wall, cavity = chexchonet.WALL_CM[sex], chexchonet.CAVITY_CM[sex]
    septum, behind = rng.normal(wall - 0.22, 0.28) + rng.normal(0, 0.06, 2)
    ivsd, lvpwd = (round(float(np.clip(value, 0.6, 2.4)), 3) for value in (septum, behind))
    lvidd = round(float(np.clip(rng.normal(cavity - 0.4, 0.75), 3.2, 8.0)), 3)
    return chexchonet.Echo(_patient_of(rng, *HELD_OUT), sex, ivsd, lvpwd, lvidd, (0, 0, 0))


def _patient_of(rng: np.random.Generator, validation: float, test: float) -> str:
    """An id that the dataset's hash deals to validation and test as often as that: its own shares suit 71,589 films."""
    wanted = rng.choice(["validation", "test", "train"], p=[validation, test, 1 - validation - test])
    while True:
        patient = rng.bytes(16).hex()
        place, upper = group_fraction(patient, SALT), SHARES["validation"]
        dealt = "validation" if place < upper else "test" if place < upper + SHARES["test"] else "train"
        if dealt == wanted:
            return patient


def _films_of(rng: np.random.Generator, echo: chexchonet.Echo) -> Iterator[chexchonet.Film]:
    age = int(np.clip(rng.normal(60, 16), 18, 85))
    for day in sorted(rng.choice(700, int(rng.geometric(1 / FILMS_EACH)), replace=False).tolist()):
        yield chexchonet.Film(
            echo,
            name=f"{echo.patient}_{rng.bytes(4).hex()}.jpg",
            offset=f"{day} days 08:00:00.000000",
            year=2013 + day // 365,
            spacing=0.15,
            age=age + day // 365,
            slvh=echo.slvh,
            dlv=echo.dlv,
            composite=echo.slvh | echo.dlv,
        )


def _heart(rng: np.random.Generator, film: chexchonet.Film) -> bytes:
    """A film whose heart is as the echo measured it, its contrast equalised as the publisher did."""
    echo, drawn = film.echo, []

    def measured(*args: Any, **asked: Any) -> Thorax:
        # 3.2 to 8.0 cm become 0.33 to 0.62 of the chest's width, give or take what a breath changes.
        share = 0.33 + 0.06 * (echo.lvidd - 3.2) + float(rng.normal(0, 0.006))
        drawn.append(replace(draw_thorax(*args, **asked), heart=share))
        return drawn[-1]

    with mock.patch.object(chests, "draw_thorax", measured):
        plain = chest(rng, SIDE, has_words=False).pixels
    lighter = plain + WALL * _walls(drawn[0].heart_outline(), echo)
    level = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(2, 2)).apply(np.clip(lighter, 0, 255).astype(np.uint8))
    return _encoded(".jpg", cv2.normalize(level, np.empty_like(level), 0, 255, cv2.NORM_MINMAX))


def _walls(outline: Points, echo: chexchonet.Echo) -> npt.NDArray[np.float32]:
    """0 to 1: a rim inside the heart's outline, on the left of the image as thick as the septum."""
    middle = outline.mean(axis=0)
    inwards = middle - outline
    inwards /= np.linalg.norm(inwards, axis=1, keepdims=True)
    thickness = np.where(outline[:, 0] < middle[0], echo.ivsd, echo.lvpwd)[:, None] * CENTIMETRE
    inside = outline + inwards * thickness
    return fill(SIDE, [outline], 0.004) - fill(SIDE, [inside], 0.004)


def write_behsof(folder: Path, images: int, seed: int = 0) -> None:
    """The fake's archive and tables, with grades as common as each other and more patients at the second hospital."""
    with mock.patch.multiple(
        behsof,
        PATIENTS=191,
        STEATOSIS={"BEH": (24, 24, 24, 23), "TAL": (24, 24, 24, 24)},
        FIBROSIS={"BEH": (32, 32, 31), "TAL": (32, 32, 32)},
        liver=_liver,
    ):
        behsof.write(folder, images=images, defects=False, seed=seed, password=None)


def _liver(rng: np.random.Generator, *, steatosis: int, fibrosis: int, site: str) -> Scan:
    """F2 as coarse as the phantoms' F3, or speckle hides it; and a gain that each frame has of its own, so that the
    mean grey says little of fat: its contrast to the kidney, and how fast the depth fades, still do.
    """
    scan = liver(rng, steatosis=steatosis, fibrosis=fibrosis + fibrosis // 2, site=site)
    louder = np.clip(scan.pixels * rng.uniform(*GAIN), 0, 255).astype(np.uint8)
    return replace(scan, pixels=np.where(scan.sector[..., None], louder, scan.pixels))


def _encoded(suffix: str, pixels: cv2.typing.MatLike) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 1]
    is_encoded, data = cv2.imencode(suffix, pixels, options)
    assert is_encoded, "OpenCV encodes any uint8 image"
    return data.tobytes()
