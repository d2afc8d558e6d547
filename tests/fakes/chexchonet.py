"""A small made-up CheXchoNet: one table with echo measurements, one flat folder of films.

As published, ``cxr_path`` names a folder that the release does not have, and the films of a patient share one echo.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from tasks.phantoms import chest

PLACE = "physionet.org/files/chexchonet/1.0.0"
"""Where a recursive download lands."""
TABLE = "metadata.csv"
CHECKSUMS = "SHA256SUMS.txt"
HEADER = (
    "patient_id,cxr_filename,cxr_time_offset,cxr_year,cxr_path,cxr_pixel_spacing_x,cxr_pixel_spacing_y,age,sex,ivsd,"
    "lvpwd,lvidd,slvh,dlv,composite_slvh_dlv,heart_transplant,lung_transplant,pacemaker_or_icd"
)
WALL_CM = {"M": 1.5, "F": 1.4}
"""Septum or back wall above this: slvh."""
CAVITY_CM = {"M": 5.9, "F": 5.3}
"""Left ventricle in diastole wider than this: dlv."""

_SMALLEST = 60
# Shares of the films, as published.
_THICK, _WIDE, _BOTH = 0.0865, 0.0607, 0.0094
_LICENCE = "Made up: the published release has the PhysioNet Restricted Health Data License here.\n"


@dataclass(frozen=True)
class PlantedDefects:
    """Where each defect is, by file name of the film; empty where the release was written without."""

    zero_lvidd: str = ""
    outlier: str = ""
    """Its ``ivsd`` is 9.5 cm, and its labels agree."""
    inconsistent_composite: str = ""
    against_threshold: tuple[str, ...] = ()
    """Labels that the measurements contradict: slvh of the first, dlv of the second."""
    truncated: str = ""
    without_image: str = ""
    without_row: str = ""


@dataclass(frozen=True)
class Echo:
    """What the films of a patient have in common."""

    patient: str
    sex: str
    ivsd: float
    lvpwd: float
    lvidd: float
    procedures: tuple[int, int, int]
    """Heart transplant, lung transplant, pacemaker or defibrillator."""

    @property
    def slvh(self) -> int:
        return int(max(self.ivsd, self.lvpwd) > WALL_CM[self.sex])

    @property
    def dlv(self) -> int:
        return int(self.lvidd > CAVITY_CM[self.sex])


@dataclass(frozen=True)
class Film:
    """One row of the table."""

    echo: Echo
    name: str
    offset: str
    year: int
    spacing: float
    age: int
    slvh: int
    dlv: int
    composite: int

    def as_row(self) -> str:
        """Cells in the published order; no folder is called ``cxrs``."""
        echo = self.echo
        place = [echo.patient, self.name, self.offset, self.year, f"./cxrs/{self.name}", self.spacing, self.spacing]
        measured = [self.age, echo.sex, echo.ivsd, echo.lvpwd, echo.lvidd]
        labels = [self.slvh, self.dlv, self.composite, *echo.procedures]
        return ",".join(map(str, [*place, *measured, *labels]))


def write(folder: Path, *, images: int = 320, defects: bool = True, seed: int = 0) -> PlantedDefects:
    """Write the release and its checksums where a recursive download puts them; ``images`` rows."""
    contents, planted = _release(images, seed, has_defects=defects)
    sums = "".join(f"{hashlib.sha256(content).hexdigest()} {name}\n" for name, content in sorted(contents.items()))
    root = folder / PLACE
    (root / "images").mkdir(parents=True, exist_ok=True)
    for name, content in {**contents, CHECKSUMS: sums.encode()}.items():
        (root / name).write_bytes(content)
    return planted


def files(*, images: int = 320, defects: bool = True, seed: int = 0) -> dict[str, bytes]:
    """Every file that :func:`write` writes, by its path in the release, but for the checksums."""
    contents, _ = _release(images, seed, has_defects=defects)
    return contents


def _release(images: int, seed: int, *, has_defects: bool) -> tuple[dict[str, bytes], PlantedDefects]:
    if images < _SMALLEST:
        message = f"images={images}: needs at least {_SMALLEST}"
        raise ValueError(message)
    rng = np.random.default_rng(seed)
    films = _films(rng, images)
    planted = PlantedDefects()
    if has_defects:
        films, planted = _with_defects(rng, films)
    pictures = {f"images/{film.name}": _picture(np.random.default_rng([seed, i]), film) for i, film in enumerate(films)}
    if has_defects:
        whole = pictures[f"images/{planted.truncated}"]
        pictures[f"images/{planted.truncated}"] = whole[: len(whole) * 3 // 5]
        pictures[f"images/{planted.without_row}"] = pictures.pop(f"images/{planted.without_image}")
    table = "".join(f"{line}\n" for line in [HEADER, *(film.as_row() for film in films)])
    return {TABLE: table.encode(), **pictures, "LICENSE.txt": _LICENCE.encode()}, planted


def _films(rng: np.random.Generator, images: int) -> list[Film]:
    """``images`` films, those of a patient together."""
    thick, wide, both = (round(images * (share - _BOTH)) for share in (_THICK, _WIDE, 2 * _BOTH))
    both = max(both, 2)
    groups = [
        *_patients(rng, thick, is_thick=True),
        *_patients(rng, wide, is_wide=True),
        *_patients(rng, both, is_thick=True, is_wide=True),
        *_patients(rng, images - thick - wide - both, singles=8),
    ]
    return [film for i in rng.permutation(len(groups)) for film in groups[i]]


def _patients(
    rng: np.random.Generator, images: int, *, is_thick: bool = False, is_wide: bool = False, singles: int = 2
) -> Iterator[list[Film]]:
    """The films of one patient after the other, women and men by turns; the first ``singles`` have one each."""
    left = images
    while left:
        sex = "FM"[singles % 2]
        count = 1 if singles > 0 else min(int(rng.geometric(0.3)), left)
        yield _films_of(rng, _echo(rng, sex, is_thick=is_thick, is_wide=is_wide), count)
        left -= count
        singles -= 1


def _echo(rng: np.random.Generator, sex: str, *, is_thick: bool, is_wide: bool) -> Echo:
    """Measurements on the asked side of the thresholds, never on one."""
    wall, cavity = WALL_CM[sex], CAVITY_CM[sex]
    ivsd = np.clip(rng.normal(1.10, 0.17), 0.6, wall - 0.01)
    lvpwd = np.clip(rng.normal(1.05, 0.16), 0.6, wall - 0.01)
    lvidd = np.clip(rng.normal(cavity - 1.15, 0.48), 3.0, cavity - 0.02)
    if is_thick:
        ivsd = wall + 0.01 + rng.exponential(0.18)
        lvpwd = rng.choice([lvpwd, wall + 0.01 + rng.exponential(0.12)])
    if is_wide:
        lvidd = cavity + 0.02 + rng.exponential(0.4)
    heart, lung, device = (int(rng.random() < share) for share in (0.10, 0.13, 0.07))
    ivsd, lvpwd, lvidd = (round(float(value), 3) for value in (ivsd, lvpwd, lvidd))
    return Echo(rng.bytes(16).hex(), sex, ivsd, lvpwd, lvidd, (heart, lung, device))


def _films_of(rng: np.random.Generator, echo: Echo, count: int) -> list[Film]:
    """Films within two years around the echo, none after 2018."""
    days = np.sort(rng.choice(700, count, replace=False)).tolist()
    start, age = rng.integers(0, 7 * 365 - 700), np.clip(rng.normal(60, 16), 18, 87)
    films = []
    for day in days:
        hour, minute, second, micro = rng.integers((24, 60, 60, 1_000_000)).tolist()
        film = Film(
            echo,
            name=f"{echo.patient}_{rng.bytes(4).hex()}.jpg",
            offset=f"{start + day} days {hour:02d}:{minute:02d}:{second:02d}.{micro:06d}",
            year=2012 + int(start + day) // 365,
            spacing=float(rng.choice([0.139, 0.15, 0.175, 0.19, 0.194, 0.2])),
            age=int(age) + day // 365,
            slvh=echo.slvh,
            dlv=echo.dlv,
            composite=echo.slvh | echo.dlv,
        )
        films.append(film)
    return films


def _with_defects(rng: np.random.Generator, films: Sequence[Film]) -> tuple[list[Film], PlantedDefects]:
    """Changes five healthy patients with one film each, so that films of a patient still share their echo."""
    count = Counter(film.echo.patient for film in films)
    sound = [film for film in films if count[film.echo.patient] == 1 and not film.composite]
    zero, outlier, composite, thick, wide = (sound[i] for i in rng.choice(len(sound), 5, replace=False))
    changed = {
        zero: replace(zero, echo=replace(zero.echo, lvidd=0.0)),
        outlier: replace(outlier, echo=replace(outlier.echo, ivsd=9.5), slvh=1, composite=1),
        composite: replace(composite, composite=1),
        thick: replace(thick, slvh=1, composite=1),
        wide: replace(wide, dlv=1, composite=1),
    }
    whole = [film for film in films if film not in changed]
    truncated, absent = (whole[i] for i in rng.choice(len(whole), 2, replace=False))
    planted = PlantedDefects(
        zero_lvidd=zero.name,
        outlier=outlier.name,
        inconsistent_composite=composite.name,
        against_threshold=(thick.name, wide.name),
        truncated=truncated.name,
        without_image=absent.name,
        without_row=f"{rng.bytes(16).hex()}_{rng.bytes(4).hex()}.jpg",
    )
    return [changed.get(film, film) for film in films], planted


def _picture(rng: np.random.Generator, film: Film) -> bytes:
    """The film as a JPEG, its contrast equalised as the publisher did; a large heart where the echo was abnormal."""
    findings = frozenset({"Cardiomegaly"}) if film.composite else frozenset()
    level = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(2, 2)).apply(chest(rng, 224, findings).pixels)
    grey = cv2.normalize(level, np.empty_like(level), 0, 255, cv2.NORM_MINMAX)
    is_encoded, data = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 95])
    assert is_encoded, "OpenCV encodes any uint8 image as JPEG"
    return data.tobytes()
