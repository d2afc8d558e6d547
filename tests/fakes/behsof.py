"""A small made-up BEHSOF: liver screens in a locked zip, one folder per patient, and two tables.

The folder names carry the grades, as published: site, row, steatosis by expert, steatosis by CAP, fibrosis.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from tasks.demo_release import zip_entry
from tasks.phantoms import liver
from tests.fakes.zip_encryption import Encryption, encrypt_zip

ARCHIVE = "image_Data.zip"
ROOT = "image_Data"
TABLE = "Demo_data.csv"
IMAGE_TABLE = "BEHSOF_images.csv"
PASSWORD = "made-up password"
PATIENTS = 113
STEATOSIS: Mapping[str, tuple[int, int, int, int]] = {"BEH": (10, 48, 30, 7), "TAL": (2, 9, 6, 1)}
"""Patients with expert grade 0 to 3; over both sites as published: 12, 57, 36, 8."""
FIBROSIS: Mapping[str, tuple[int, int, int]] = {"BEH": (20, 66, 9), "TAL": (4, 12, 2)}
"""Patients with F0 to F2; over both sites as published: 24, 78, 11."""
SITES: Mapping[str, str] = {"BEH": "BEHBOOD", "TAL": "TALEGHANI"}

KNOWN = (
    "Patient ID", "Steatosis stage", "Fibroscan S", "Fibroscan F", "CAP score", "E score", "sex", "Age", "Height",
    "Weight", "BMI", "waist", "Fasting Blood sugar", "ALT (SGPT)", "AST (SGOT)", "GGT", "Bilirubin total", "Albumin",
    "HbA1c", "HDL", "LDL", "Triglyceride", "Cholestrol", "Uric Acid", "Platelets",
)  # fmt: skip
PADDED: Mapping[str, str] = {
    "Fibroscan S": " Fibroscan S", "CAP score": "CAP score ", "sex": " sex ", "HbA1c": "HbA1c  ", "GGT": " GGT",
    "Uric Acid": "Uric Acid ",
}  # fmt: skip
"""Names that the table writes with stray spaces."""

_CAP_SCORE = ((185, 237), (238, 259), (260, 290), (291, 365))
_E_SCORE = ((3.4, 5.9), (6.0, 7.6), (7.7, 10.4))
# Mean, how much a grade of steatosis adds, sigma, decimals.
_MEASURED: Mapping[str, tuple[float, float, float, int]] = {
    "Fasting Blood sugar": (92, 6, 12, 0), "ALT (SGPT)": (22, 9, 8, 0), "AST (SGOT)": (20, 5, 5, 0),
    "GGT": (24, 7, 9, 0), "Bilirubin total": (0.7, 0.02, 0.2, 2), "Albumin": (4.4, -0.05, 0.3, 1),
    "HbA1c": (5.2, 0.25, 0.4, 1), "HDL": (50, -3, 8, 0), "LDL": (105, 4, 22, 0), "Triglyceride": (105, 28, 35, 0),
    "Cholestrol": (175, 8, 28, 0), "Uric Acid": (4.8, 0.4, 0.9, 1), "Platelets": (255, -6, 45, 0),
}  # fmt: skip
_INVENTED: Mapping[str, tuple[float, float, float, int]] = {
    "hip": (99, 3, 7, 0), "Systolic BP": (118, 4, 12, 0), "Diastolic BP": (75, 2, 8, 0), "Heart rate": (74, 1, 9, 0),
    "WBC": (6.6, 0.2, 1.4, 1), "RBC": (4.9, 0, 0.4, 2), "Hemoglobin": (14.2, 0, 1.3, 1), "Hematocrit": (42, 0, 3.5, 1),
    "MCV": (86, 0, 5, 1), "MCH": (29, 0, 2, 1), "MCHC": (33.4, 0, 0.9, 1), "RDW": (13.2, 0.1, 0.8, 1),
    "Neutrophils": (57, 0, 8, 0), "Lymphocytes": (34, 0, 7, 0), "Creatinine": (0.95, 0.02, 0.18, 2),
    "Urea": (29, 0, 7, 0), "Sodium": (140, 0, 2.2, 0), "Potassium": (4.3, 0, 0.3, 1), "Calcium": (9.4, 0, 0.4, 1),
    "Phosphorus": (3.6, 0, 0.5, 1), "Iron": (95, 0, 28, 0), "Ferritin": (85, 30, 40, 0), "TIBC": (330, 0, 40, 0),
    "Vitamin D": (27, -2, 9, 1), "TSH": (2.3, 0, 1.0, 2), "ALP": (180, 6, 45, 0), "Bilirubin direct": (0.2, 0, 0.06, 2),
    "INR": (1.02, 0, 0.05, 2), "CRP": (2.2, 0.8, 1.4, 1), "ESR": (10, 1, 5, 0), "Insulin": (8.5, 3, 3.5, 1),
}  # fmt: skip
_ANSWERS: Mapping[str, tuple[str, ...]] = {
    "Diabetes": ("no", "no", "yes"), "Hypertension": ("no", "no", "yes"), "Metformin": ("no", "no", "no", "yes"),
    "Family history": ("no", "yes"), "Smoking": ("never", "former", "current"),
    "Physical activity": ("low", "moderate", "high"),
}  # fmt: skip


@dataclass(frozen=True)
class PlantedDefects:
    """Where each defect is, by the folder name that is the patient's id; empty where written without."""

    windows_path: str = ""
    """The id cell is a Windows path whose last segment is this."""
    spaced: str = ""
    """The id cell has a space inside."""
    missing_cap: str = ""
    negative_cap: str = ""
    without_folder: str = ""
    mismatched: str = ""
    """The first grade of the name is not the table's ``Steatosis stage``."""
    truncated: str = ""
    """Member of the archive."""
    junk: str = ""
    """Member of the archive."""


@dataclass(frozen=True)
class Patient:
    """Site, row at the site, and the three grades as the table has them."""

    site: str
    row: int
    steatosis: int
    cap: int
    fibrosis: int
    named_steatosis: int
    """The grade in the name."""

    @property
    def name(self) -> str:
        """Folder and id."""
        return f"{self.site}{self.row:02d}{self.named_steatosis}{self.cap}{self.fibrosis}"


def write(
    folder: Path,
    *,
    images: int = 330,
    defects: bool = True,
    seed: int = 0,
    password: str | None = PASSWORD,
    encryption: Encryption = "legacy",
    top_folders: bool = False,
    flat: bool = False,
) -> PlantedDefects:
    """Write the archive and both tables; a ``password`` of None leaves the archive open.

    ``top_folders`` sorts the patients into NAFLD and Non-NAFLD, ``flat`` puts the id into the file name instead.
    """
    if images < PATIENTS:
        message = f"images={images}: {PATIENTS} patients need at least one each"
        raise ValueError(message)
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    patients = [patient for site in SITES for patient in _patients(rng, site)]
    planted = PlantedDefects()
    if defects:
        patients, planted = _with_defects(rng, patients)
    pictured = [patient for patient in patients if patient.name != planted.without_folder]
    members: dict[str, bytes] = {}
    for patient, count in zip(pictured, _shares(rng, pictured, images), strict=True):
        members |= _screens(patient, count, seed, top_folders=top_folders, flat=flat)
    if defects:
        planted = replace(planted, truncated=str(rng.choice(sorted(members))), junk=f"{ROOT}/Thumbs.db")
        whole = members[planted.truncated]
        members[planted.truncated] = whole[: len(whole) * 3 // 5]
        members[planted.junk] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)
    _write_archive(folder / ARCHIVE, dict(sorted(members.items())), password, encryption)
    _write_tables(folder, rng, patients, planted)
    return planted


def _patients(rng: np.random.Generator, site: str) -> Iterator[Patient]:
    """All patients of a site; fibrosis tends to go with fat, and CAP to agree with the expert."""
    steatosis = rng.permutation(np.repeat(range(4), STEATOSIS[site]))
    fibrosis = np.empty_like(steatosis)
    fibrosis[np.argsort(steatosis + rng.normal(0, 1.2, len(steatosis)))] = np.repeat(range(3), FIBROSIS[site])
    cap = np.clip(steatosis + rng.choice([-1, 0, 0, 0, 0, 0, 1], len(steatosis)), 0, 3)
    for row, grades in enumerate(zip(steatosis.tolist(), cap.tolist(), fibrosis.tolist(), strict=True), start=1):
        yield Patient(site, row, *grades, named_steatosis=grades[0])


def _with_defects(rng: np.random.Generator, patients: Sequence[Patient]) -> tuple[list[Patient], PlantedDefects]:
    """One Behbood patient for each defect of the tables; only a mismatch changes the patient."""
    site = [patient for patient in patients if patient.site == "BEH"]
    path, spaced, missing, negative, absent, other = (site[i] for i in rng.choice(len(site), 6, replace=False))
    renamed = replace(other, named_steatosis=(other.steatosis + 1) % 4)
    planted = PlantedDefects(path.name, spaced.name, missing.name, negative.name, absent.name, renamed.name)
    return [renamed if patient == other else patient for patient in patients], planted


def _shares(rng: np.random.Generator, patients: Sequence[Patient], images: int) -> list[int]:
    """How many of the images each patient has, at least one; Behbood's have more, as published."""
    weights = np.array([1328 / 95 if patient.site == "BEH" else 185 / 18 for patient in patients])
    extra = rng.multinomial(images - len(patients), weights / weights.sum())
    return [1 + int(count) for count in extra]


def _screens(patient: Patient, count: int, seed: int, *, top_folders: bool, flat: bool) -> Iterator[tuple[str, bytes]]:
    """Member names and JPEGs; Taleghani's lie a level deeper, under the moment of the exam."""
    group = ("NAFLD" if patient.steatosis else "Non-NAFLD",) if top_folders else ()
    for number in range(count):
        rng = np.random.default_rng([seed, list(SITES).index(patient.site), patient.row, number])
        steatosis, fibrosis = patient.steatosis, patient.fibrosis
        scan = liver(rng, steatosis=steatosis, fibrosis=fibrosis, site=SITES[patient.site])
        if flat:
            place = [f"{patient.name}_{_base_name(number)}"]
        elif patient.site == "TAL":
            # Every third patient came twice, so that base names repeat within the patient too.
            exams = 2 if patient.row % 3 == 0 else 1
            place = [patient.name, _stamp(patient.row, number % exams), _base_name(number // exams)]
        else:
            place = [patient.name, _base_name(number)]
        yield "/".join((ROOT, *group, *place)), _jpeg(scan.pixels[..., ::-1])


def _base_name(number: int) -> str:
    return f"Image{number or ''}.jpg"


def _stamp(row: int, exam: int) -> str:
    """A folder name like 02_07_2022_12_49_23."""
    return f"{1 + row % 12:02d}_{1 + 5 * row % 12:02d}_2022_{9 + exam * 3:02d}_{7 * row % 60:02d}_{11 * row % 60:02d}"


def _jpeg(colours: cv2.typing.MatLike) -> bytes:
    is_encoded, data = cv2.imencode(".jpg", colours, [cv2.IMWRITE_JPEG_QUALITY, 80])
    assert is_encoded, "OpenCV encodes any uint8 image as JPEG"
    return data.tobytes()


def _write_archive(path: Path, members: Mapping[str, bytes], password: str | None, encryption: Encryption) -> None:
    if password is not None:
        encrypt_zip(path, members, password, encryption)
        return
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zip_entry(name), content)


def _write_tables(folder: Path, rng: np.random.Generator, patients: Sequence[Patient], planted: PlantedDefects) -> None:
    columns = [*KNOWN, *_INVENTED, *_ANSWERS]
    columns = [columns[i] for i in rng.permutation(len(columns))]
    lines = [",".join(PADDED.get(column, column) for column in columns)]
    for patient in patients:
        cells = {**_examined(rng, patient), **_odd_cells(patient.name, planted)}
        lines.append(",".join(cells[column] for column in columns))
    if planted != PlantedDefects():
        lines.append("," * (len(columns) - 1))
    (folder / TABLE).write_bytes("".join(f"{line}\r\n" for line in lines).encode())
    graded = [f"{patient.name},{patient.steatosis},{patient.fibrosis}" for patient in patients]
    images = ["Patient ID,Steatosis stage,Fibroscan F", *graded]
    (folder / IMAGE_TABLE).write_bytes("".join(f"{line}\r\n" for line in images).encode())


def _examined(rng: np.random.Generator, patient: Patient) -> dict[str, str]:
    """Cells of a patient, plausible for the grades."""
    sex = "MF"[rng.integers(2)]
    height = rng.normal(175 if sex == "M" else 162, 6)
    mass_index = np.clip(rng.normal(25 + 2 * patient.steatosis, 2.5), 18, 45)
    cells = {
        "Patient ID": patient.name,
        "Steatosis stage": str(patient.steatosis),
        "Fibroscan S": str(patient.cap),
        "Fibroscan F": str(patient.fibrosis),
        "CAP score": str(rng.integers(*_CAP_SCORE[patient.cap], endpoint=True)),
        "E score": f"{rng.uniform(*_E_SCORE[patient.fibrosis]):.1f}",
        "sex": sex,
        "Age": str(rng.integers(20, 75)),
        "Height": f"{height:.0f}",
        "Weight": f"{mass_index * (height / 100) ** 2:.1f}",
        "BMI": f"{mass_index:.1f}",
        "waist": f"{np.clip(2.6 * mass_index + rng.normal(24, 5), 60, 150):.0f}",
    }
    for name, (mean, rise, sigma, decimals) in {**_MEASURED, **_INVENTED}.items():
        value = max(rng.normal(mean + rise * patient.steatosis, sigma), 0.3 * mean)
        cells[name] = f"{value:.{decimals}f}"
    return cells | {name: str(rng.choice(answers)) for name, answers in _ANSWERS.items()}


def _odd_cells(name: str, planted: PlantedDefects) -> dict[str, str]:
    """What the table says of this patient instead."""
    odd: dict[str, dict[str, str]] = {
        planted.windows_path: {"Patient ID": rf"D:\BEHSOF\{ROOT}\{name}"},
        planted.spaced: {"Patient ID": f"{name[:5]} {name[5:]}"},
        planted.missing_cap: {"CAP score": ""},
        planted.negative_cap: {"CAP score": "-1"},
    }
    return odd.get(name, {})
