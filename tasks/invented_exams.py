"""Invented patients and their chest films, as the label table of NIH ChestX-ray14 would list them.

Shares of labels, views and sexes, image counts per patient and sizes of the films follow the published table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from tasks.phantoms import BOXED

# Images per label among 112,120 in the table of 2020.
_FREQUENCY = {
    "Infiltration": 19894, "Effusion": 13317, "Atelectasis": 11559, "Nodule": 6331, "Mass": 5782,
    "Pneumothorax": 5302, "Consolidation": 4667, "Pleural_Thickening": 3385, "Cardiomegaly": 2776,
    "Emphysema": 2516, "Edema": 2303, "Fibrosis": 1686, "Pneumonia": 1431, "Hernia": 227,
}  # fmt: skip
_NO_FINDING_SHARE = 0.54
_TEST_SHARE = 0.23
_FILM_SIZES = ((2992, 2991), (2500, 2048), (2048, 2500), (3056, 2544), (2544, 3056), (2992, 2991))
_SPACINGS = ("0.14300000000000002", "0.168", "0.168", "0.139", "0.139", "0.14300000000000002")


@dataclass(frozen=True)
class Exam:
    """One film: a row of the label table."""

    patient: int
    number: int
    """Position among the patient's films, as in the file name."""
    labels: str
    """As published: joined by ``|``, not always sorted."""
    follow_up: int
    age_years: int
    sex: str
    view: Literal["PA", "AP"]
    film: tuple[int, int]
    """Width and height of the original film in pixels."""
    spacing: str
    """Pixel spacing of the original film in millimetres, as the publisher prints it."""

    @property
    def image(self) -> str:
        """File name."""
        return f"{self.patient:08d}_{self.number:03d}.png"

    @property
    def findings(self) -> frozenset[str]:
        """What is to be seen; empty for No Finding."""
        return frozenset(self.labels.split("|")) - {"No Finding"}

    def as_row(self) -> str:
        """The line of the table, without its end."""
        width, height = self.film
        values = [self.image, self.labels, self.follow_up, self.patient, self.age_years, self.sex, self.view]
        return ",".join(map(str, [*values, width, height, self.spacing, self.spacing]))


def draw_exams(rng: np.random.Generator, count: int) -> list[Exam]:
    """``count`` films of made-up patients 1, 2, 3 …, sorted by patient and follow-up."""
    exams: list[Exam] = []
    patient = 0
    while len(exams) < count:
        patient += 1
        exams += _films_of(rng, patient, most=min(count - len(exams), max(4, count // 20)))
    return _with_one_unsorted(exams)


def split_by_patient(rng: np.random.Generator, exams: Sequence[Exam]) -> frozenset[int]:
    """Patients of the official test list: about 23 % of the films, every boxed finding among them."""
    findings: dict[int, set[str]] = {}
    films: dict[int, int] = {}
    for exam in exams:
        findings.setdefault(exam.patient, set()).update(exam.findings & set(BOXED))
        films[exam.patient] = films.get(exam.patient, 0) + 1
    order = [int(patient) for patient in rng.permutation(list(films))]
    chosen: list[int] = []
    for label in BOXED:
        if not any(label in findings[patient] for patient in chosen):
            carriers = [patient for patient in order if label in findings[patient]]
            # Small patients first, so that the wish for every finding does not swell the test side.
            chosen += sorted(carriers, key=lambda patient: films[patient])[:1]
    for patient in order:
        if sum(films[p] for p in chosen) + films[patient] / 2 > _TEST_SHARE * len(exams):
            break
        if patient not in chosen:
            chosen.append(patient)
    return frozenset(chosen)


def _films_of(rng: np.random.Generator, patient: int, most: int) -> Iterator[Exam]:
    """All films of one patient; most patients have one, a few have many."""
    count = 1 if rng.random() < 0.55 else min(most, 1 + int(rng.pareto(0.9) + 1))
    sex = "M" if rng.random() < 0.565 else "F"
    age = int(np.clip(rng.normal(46, 17), 1, 90))
    # The table of 2020 renumbered the follow-ups of some patients, while the file names stayed.
    gaps = rng.integers(1, 4, count) if rng.random() < 0.35 else np.ones(count, np.int64)
    follow_ups = np.cumsum(gaps) - 1
    for number, follow_up in enumerate(follow_ups.tolist()):
        kind = int(rng.integers(len(_FILM_SIZES)))
        width, height = _FILM_SIZES[kind]
        jitter = rng.integers(-120, 8, 2)
        yield Exam(
            patient=patient,
            number=number,
            labels=_labels(rng, patient, number),
            follow_up=follow_up,
            age_years=min(95, age + follow_up // 4),
            sex=sex,
            view="PA" if rng.random() < 0.60 else "AP",
            film=(width + int(jitter[0]), height + int(jitter[1])),
            spacing=_SPACINGS[kind],
        )


def _labels(rng: np.random.Generator, patient: int, number: int) -> str:
    if number == 0 and patient % 2 == 1 and patient // 2 < len(BOXED):
        # However small the release: one film with each boxed finding.
        return BOXED[patient // 2]
    if rng.random() < _NO_FINDING_SHARE + 0.02:
        return "No Finding"
    names = sorted(_FREQUENCY)
    weights = np.array([_FREQUENCY[name] for name in names], dtype=np.float64)
    count = int(rng.choice([1, 2, 3, 4], p=[0.60, 0.27, 0.10, 0.03]))
    picked = rng.choice(len(names), size=count, replace=False, p=weights / weights.sum())
    return "|".join(names[index] for index in sorted(picked))


def _with_one_unsorted(exams: list[Exam]) -> list[Exam]:
    """The same films, the labels of the first that has several turned round, as in 51 published rows."""
    for index, exam in enumerate(exams):
        if "|" in exam.labels:
            exams[index] = replace(exam, labels="|".join(reversed(exam.labels.split("|"))))
            break
    return exams
