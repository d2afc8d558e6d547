"""A made-up label table with exactly the counts that NIH published: 112,120 films of 30,805 invented patients.

Every count of ``Data_Entry_2017_v2020.csv``, the box file and the official lists is met to the unit: films and
patients, labels and boxes by split, distinct label strings, sexes, views, renumbered follow-ups, and the names at which
the twelve archives are cut. What lies behind the counts (who has what, at which age) is drawn by chance and means
nothing.

The order of construction: films per patient, official split, sets of findings by split, then everything that is free.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from tasks.demo_release import BOX_HEADER, BOXES, TABLE, TABLE_HEADER, write_lines
from tasks.invented_exams import Exam

ROWS = 112_120
PATIENTS = 30_805
TEST_PATIENTS = 2_797
SINGLE_FILM_PATIENTS = 17_503
LARGEST_PATIENT, LARGEST_FILMS = 10_007, 184
ROWS_MALE = 63_340
ROWS_PA = 67_310
ROWS_RENUMBERED = 24_106
"""Rows whose follow-up number differs from the suffix of the file name."""
ROWS_AGE_ZERO = 14
DISTINCT_LABEL_STRINGS = 836
UNSORTED_ROWS, UNSORTED_STRINGS = 51, 40
"""Rows whose labels are not in alphabetical order, and how many distinct strings they hold."""
BOXED_IMAGES = 880
SIDE = 1024
"""Pixels; the boxes are given in those of the published image."""

TRAIN_VAL_LIST, TEST_LIST = "train_val_list.txt", "test_list.txt"
NO_FINDING = "No Finding"

LAST_OF_ARCHIVE = (
    (1335, 6), (3923, 13), (6585, 6), (9232, 3), (11558, 7), (13774, 25),
    (16051, 9), (18387, 34), (20945, 49), (24717, 0), (28173, 2), (30805, 0),
)  # fmt: skip
"""Patient and file-name suffix of the last image in each of the twelve archives."""
IMAGES_OF_ARCHIVE = (4_999, *[10_000] * 10, 7_121)


@dataclass(frozen=True)
class SplitCounts:
    """Films of one official split, and how many of them carry each finding."""

    films: int
    no_finding: int
    findings: Mapping[str, int]


TRAIN_VAL = SplitCounts(
    films=86_524,
    no_finding=50_500,
    findings={
        "Atelectasis": 8280, "Cardiomegaly": 1707, "Consolidation": 2852, "Edema": 1378, "Effusion": 8659,
        "Emphysema": 1423, "Fibrosis": 1251, "Hernia": 141, "Infiltration": 13782, "Mass": 4034, "Nodule": 4708,
        "Pleural_Thickening": 2242, "Pneumonia": 876, "Pneumothorax": 2637,
    },
)  # fmt: skip
TEST = SplitCounts(
    films=25_596,
    no_finding=9_861,
    findings={
        "Atelectasis": 3279, "Cardiomegaly": 1069, "Consolidation": 1815, "Edema": 925, "Effusion": 4658,
        "Emphysema": 1093, "Fibrosis": 435, "Hernia": 86, "Infiltration": 6112, "Mass": 1748, "Nodule": 1623,
        "Pleural_Thickening": 1143, "Pneumonia": 555, "Pneumothorax": 2665,
    },
)  # fmt: skip
BOXES_OF_CLASS = {
    "Atelectasis": 180, "Cardiomegaly": 146, "Effusion": 153, "Infiltration": 123,
    "Mass": 85, "Nodule": 79, "Pneumonia": 120, "Pneumothorax": 98,
}  # fmt: skip

_ALPHABET = tuple(sorted(TRAIN_VAL.findings))
_FEWEST = 60
"""Images of a part: with fewer, an archive or the test side could be empty."""
_TRIES = 100
_MOST_FILMS = 150
"""Of any patient but the largest."""
# Width and height in pixels, spacing in mm as printed, share. The last two stand for the ends of the published ranges.
_FILMS: tuple[tuple[int, int, str, float], ...] = (
    (2992, 2991, "0.14300000000000002", 0.34),
    (2500, 2048, "0.168", 0.20),
    (2048, 2500, "0.168", 0.20),
    (3056, 2544, "0.139", 0.12),
    (2544, 3056, "0.139", 0.12),
    (3827, 4715, "0.115", 0.01),
    (1143, 966, "0.1988", 0.01),
)

FindingSet = tuple[str, ...]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PublishedBox:
    """A row of the box file: top-left corner and extent, in pixels of the 1024 px image."""

    image: str
    label: str
    """As the box file spells it: ``Infiltrate`` for ``Infiltration``."""
    x: float
    y: float
    w: float
    h: float


@dataclass(frozen=True)
class Tables:
    """Label table, official test side and boxes of a release, or of a part of one."""

    exams: tuple[Exam, ...]
    """Sorted by patient and follow-up."""
    test_patients: frozenset[int]
    boxes: tuple[PublishedBox, ...]


def published_tables(seed: int = 2017) -> Tables:
    """The whole release; the same seed gives the same rows."""
    rng = np.random.default_rng(seed)
    films = _films_of_patients(rng)
    is_test = _test_side(rng, films)
    patient = np.repeat(np.arange(1, PATIENTS + 1), films)
    number = np.concatenate([np.arange(count) for count in films])
    labels = _labels_of_films(rng, np.repeat(is_test, films))
    exams = _exams(rng, films, patient, number, labels)
    tested = [exam for exam, on_test_side in zip(exams, np.repeat(is_test, films), strict=True) if on_test_side]
    boxes = tuple(_boxes(rng, tested))
    test_patients = frozenset((np.flatnonzero(is_test) + 1).tolist())
    return Tables(tuple(sorted(exams, key=lambda exam: (exam.patient, exam.follow_up))), test_patients, boxes)


def published_exams(seed: int = 2017) -> tuple[Exam, ...]:
    """The 112,120 rows of the label table."""
    return published_tables(seed).exams


def part_of(tables: Tables, images: int, seed: int = 2017) -> Tables:
    """Whole patients with ``images`` films together, even over archives and split; all counts shrink about in step."""
    if not _FEWEST <= images <= len(tables.exams):
        message = f"images={images}: needs {_FEWEST} to {len(tables.exams)}"
        raise ValueError(message)
    rng = np.random.default_rng([seed, images])
    films = np.bincount([exam.patient for exam in tables.exams], minlength=PATIENTS + 1)
    is_test = np.isin(np.arange(PATIENTS + 1), list(tables.test_patients))
    strata = [
        np.flatnonzero(is_test[first : last + 1] == on_test_side) + first
        for first, last in _patients_of_archives()
        for on_test_side in (False, True)
    ]
    quotas = _apportion(np.array([films[patients].sum() for patients in strata], np.float64), images)
    kept = np.zeros(PATIENTS + 1, np.bool_)
    for patients, quota in zip(strata, quotas.tolist(), strict=True):
        kept[patients] = _some_with_sum(rng, films[patients], quota)
    exams = tuple(exam for exam in tables.exams if kept[exam.patient])
    names = {exam.image for exam in exams}
    boxes = tuple(box for box in tables.boxes if box.image in names)
    return Tables(exams, tables.test_patients & {exam.patient for exam in exams}, boxes)


def by_archive(exams: Sequence[Exam]) -> list[list[Exam]]:
    """The films of each of the twelve archives, in the order of their names."""
    blocks: list[list[Exam]] = [[] for _ in LAST_OF_ARCHIVE]
    archive = 0
    for exam in sorted(exams, key=lambda exam: exam.image):
        while (exam.patient, exam.number) > LAST_OF_ARCHIVE[archive]:
            archive += 1
        blocks[archive].append(exam)
    return blocks


def write_tables(folder: Path, tables: Tables, *, side: int = SIDE) -> None:
    """Table B, box file and both lists as published; boxes are scaled to images of ``side`` pixels."""
    lists: dict[bool, list[str]] = {False: [], True: []}
    for exam in tables.exams:
        lists[exam.patient in tables.test_patients].append(exam.image)
    boxes = [_box_line(box, side / SIDE) for box in tables.boxes]
    write_lines(folder / TABLE, [TABLE_HEADER, *(exam.as_row() for exam in tables.exams)], ends_with_newline=True)
    write_lines(folder / BOXES, [BOX_HEADER, *boxes], ends_with_newline=True)
    write_lines(folder / TRAIN_VAL_LIST, sorted(lists[False]), ends_with_newline=False)
    write_lines(folder / TEST_LIST, sorted(lists[True]), ends_with_newline=False)


def _box_line(box: PublishedBox, scale: float) -> str:
    return ",".join([box.image, box.label, *(repr(scale * value) for value in (box.x, box.y, box.w, box.h))])


# Films of each patient, and the split


def _patients_of_archives() -> Iterator[tuple[int, int]]:
    """First and last patient of each archive; here no patient's films lie in two archives."""
    for (before, _), (last, _) in pairwise(((0, 0), *LAST_OF_ARCHIVE)):
        yield before + 1, last


def _films_of_patients(rng: np.random.Generator) -> Integers:
    """Films of patients 1, 2, 3 …: the archives' sizes and last names, the largest patient and the single films."""
    films = np.zeros(PATIENTS, np.int64)
    for patient, suffix in LAST_OF_ARCHIVE:
        films[patient - 1] = suffix + 1
    films[LARGEST_PATIENT - 1] = LARGEST_FILMS
    free = [np.flatnonzero(films[first - 1 : last] == 0) + first - 1 for first, last in _patients_of_archives()]
    weights = np.array([len(places) for places in free], np.float64)
    singles = _apportion(weights, SINGLE_FILM_PATIENTS - int((films == 1).sum()))
    blocks = zip(_patients_of_archives(), IMAGES_OF_ARCHIVE, free, singles.tolist(), strict=True)
    for (first, last), images, places, single in blocks:
        mixed = rng.permutation(places)
        films[mixed[:single]] = 1
        several = mixed[single:]
        films[several] = _heavy_tailed(rng, len(several), images - int(films[first - 1 : last].sum()))
    return films


def _heavy_tailed(rng: np.random.Generator, count: int, total: int) -> Integers:
    """``count`` numbers of films, 2 to :data:`_MOST_FILMS` each, that add up to ``total``: many small, a few large."""
    weights = rng.lognormal(0, 1.4, count)
    numbers = np.minimum(2 + _apportion(weights, total - 2 * count), _MOST_FILMS)
    while (missing := total - int(numbers.sum())) > 0:
        with_room = np.flatnonzero(numbers < _MOST_FILMS)
        numbers[rng.choice(with_room, min(missing, len(with_room)), replace=False)] += 1
    return numbers


def _apportion(weights: npt.NDArray[np.float64], total: int) -> Integers:
    """Whole numbers in proportion to ``weights`` that add up to ``total``, by largest remainder."""
    exact = weights / weights.sum() * total
    whole: Integers = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: total - int(whole.sum())]] += 1
    return whole


def _test_side(rng: np.random.Generator, films: Integers) -> npt.NDArray[np.bool_]:
    """Which patients are in the official test list: their number and that of their films are both given.

    Test patients have more than twice as many films as others, so large ones are likelier; then patients of the two
    sides change places, one pair after another, for as long as that brings the films nearer.
    """
    order = rng.choice(PATIENTS, PATIENTS, replace=False, p=films**0.75 / (films**0.75).sum())
    test, others = order[:TEST_PATIENTS], order[TEST_PATIENTS:]
    missing = TEST.films - int(films[test].sum())
    while missing:
        here, there = int(rng.integers(len(test))), int(rng.integers(len(others)))
        gained = int(films[others[there]] - films[test[here]])
        if abs(missing - gained) < abs(missing):
            test[here], others[there] = others[there], test[here]
            missing -= gained
    is_test = np.zeros(PATIENTS, np.bool_)
    is_test[test] = True
    return is_test


def _some_with_sum(rng: np.random.Generator, sizes: Integers, total: int) -> npt.NDArray[np.bool_]:
    """Some of the ``sizes``, by chance, that add up to ``total``: whoever comes is taken if there is room."""
    if 2 * total > sizes.sum():
        # Who is left out is found in the same way; near the full sum nobody small would come late enough to fill up.
        return ~_some_with_sum(rng, sizes, int(sizes.sum()) - total)
    # With nobody of size one, a room of one could not be filled.
    smallest_room = 1 if (sizes == 1).any() else 2
    for _ in range(_TRIES):
        chosen = np.zeros(len(sizes), np.bool_)
        room = total
        for index in rng.permutation(len(sizes)).tolist():
            rest = room - int(sizes[index])
            if rest == 0 or rest >= smallest_room:
                chosen[index] = True
                room = rest
        if room == 0:
            return chosen
    raise ValueError(f"no choice among {len(sizes)} sizes adds up to {total} in {_TRIES} tries")


# Sets of findings


def _labels_of_films(rng: np.random.Generator, on_test_side: npt.NDArray[np.bool_]) -> list[str]:
    """The published string of every film."""
    vocabulary = _several_findings(rng)
    is_first_in_test = rng.random(len(vocabulary)) < 0.5
    labels = np.empty(ROWS, object)
    for counts, side, firsts in ((TRAIN_VAL, ~on_test_side, ~is_first_in_test), (TEST, on_test_side, is_first_in_test)):
        strings = [NO_FINDING] * counts.no_finding
        strings += ["|".join(found) for found in _sets_of_split(rng, counts, vocabulary, firsts)]
        labels[side] = rng.permutation(np.array(strings, object))
    return _with_unsorted(rng, [str(text) for text in labels])


def _several_findings(rng: np.random.Generator) -> list[FindingSet]:
    """Every set of two or more findings that occurs: all pairs, and larger ones until the strings are as many as
    published, together with the single findings, No Finding and the unsorted strings."""
    pairs = list(combinations(_ALPHABET, 2))
    larger = [found for size in (3, 4, 5) for found in combinations(_ALPHABET, size)]
    wanted = DISTINCT_LABEL_STRINGS - UNSORTED_STRINGS - 1 - len(_ALPHABET) - len(pairs)
    weights = _likelihood(larger)
    chosen = rng.choice(len(larger), wanted, replace=False, p=weights / weights.sum())
    return [*pairs, *(larger[index] for index in sorted(chosen.tolist()))]


def _likelihood(sets: Sequence[FindingSet]) -> npt.NDArray[np.float64]:
    """How likely each set is, up to a factor, if findings came together by chance."""
    rates = {name: (TRAIN_VAL.findings[name] + TEST.findings[name]) / ROWS for name in _ALPHABET}
    return np.array([np.prod([rates[name] for name in found]) for found in sets])


def _sets_of_split(
    rng: np.random.Generator, counts: SplitCounts, vocabulary: Sequence[FindingSet], is_due: npt.NDArray[np.bool_]
) -> list[FindingSet]:
    """One set for every film with findings; those that ``is_due`` marks occur at least once.

    A film with k findings uses up k-1 more than it would need alone. So sets of several are drawn until exactly that
    surplus of the split is used up, never more of a finding than there is; what is left of each comes alone.
    """
    left = dict(counts.findings)
    surplus = sum(left.values()) - (counts.films - counts.no_finding)
    drawn: list[FindingSet] = []
    due = [found for found, must in zip(vocabulary, is_due.tolist(), strict=True) if must]
    likelihood = _likelihood(vocabulary)
    others = rng.choice(len(vocabulary), 2 * surplus, p=likelihood / likelihood.sum()).tolist()
    for found in (*due, *(vocabulary[index] for index in others)):
        # One film at least with each finding alone, for that is a string too.
        if len(found) - 1 <= surplus and all(left[name] > 1 for name in found):
            drawn.append(found)
            surplus -= len(found) - 1
            for name in found:
                left[name] -= 1
    if surplus:
        raise ValueError(f"the sets drawn leave {surplus} findings over")
    return drawn + [(name,) for name, count in left.items() for _ in range(count)]


def _with_unsorted(rng: np.random.Generator, labels: Sequence[str]) -> list[str]:
    """Some strings of several findings turned round; each string keeps a sorted twin."""
    rows_of: dict[str, list[int]] = {}
    for row, text in enumerate(labels):
        if "|" in text:
            rows_of.setdefault(text, []).append(row)
    common = sorted(text for text, rows in rows_of.items() if len(rows) >= 3)
    chosen = [common[index] for index in rng.choice(len(common), UNSORTED_STRINGS, replace=False).tolist()]
    changed = list(labels)
    for place, text in enumerate(chosen):
        for row in rows_of[text][: 2 if place < UNSORTED_ROWS - UNSORTED_STRINGS else 1]:
            changed[row] = "|".join(reversed(text.split("|")))
    return changed


# What is free


def _exams(
    rng: np.random.Generator, films: Integers, patient: Integers, number: Integers, labels: Sequence[str]
) -> list[Exam]:
    follow_up = _follow_ups(rng, films)
    is_male = np.repeat(_some_with_sum(rng, films, ROWS_MALE), films)
    ages = _ages(rng, films, number)
    is_pa = rng.permutation(np.arange(ROWS) < ROWS_PA)
    kinds = rng.choice(len(_FILMS), ROWS, p=[kind[-1] for kind in _FILMS])
    shrunk = rng.integers(0, 120, (ROWS, 2))
    columns = (patient, number, follow_up, ages, is_male, is_pa, kinds, shrunk)
    exams = []
    for text, row in zip(labels, zip(*(column.tolist() for column in columns), strict=True), strict=True):
        person, suffix, follow, age, male, pa, kind, less = row
        width, height, spacing, _ = _FILMS[kind]
        view: Literal["PA", "AP"] = "PA" if pa else "AP"
        # The smallest kind of film is at the lower end of the range already.
        film = (width - less[0], height - less[1]) if width > 2000 else (width, height)
        exams.append(Exam(person, suffix, text, follow, age, "M" if male else "F", view, film, spacing))
    return exams


def _follow_ups(rng: np.random.Generator, films: Integers) -> Integers:
    """0, 1, 2 … as in the file names, but turned by one in some patients: the table of 2020 was renumbered."""
    # A single film stays number 0 however it is turned, so it adds nothing.
    is_turned = _some_with_sum(rng, np.where(films > 1, films, 0), ROWS_RENUMBERED)
    turn = is_turned.astype(np.int64)
    return np.concatenate([(np.arange(n) + t) % n for n, t in zip(films.tolist(), turn.tolist(), strict=True)])


def _ages(rng: np.random.Generator, films: Integers, number: Integers) -> Integers:
    """Age at each film in years, 0 to 95; exactly :data:`ROWS_AGE_ZERO` films of infants."""
    first = np.clip(rng.normal(46, 17, PATIENTS), 1, 95).astype(np.int64)
    first[rng.choice(np.flatnonzero(films == 1), ROWS_AGE_ZERO, replace=False)] = 0
    ages: Integers = np.minimum(np.repeat(first, films) + number // 8, 95)
    return ages


def _boxes(rng: np.random.Generator, tested: Sequence[Exam]) -> Iterator[PublishedBox]:
    """984 boxes on 880 films of the test side, each around one of the film's findings; sorted by finding."""
    findings = {exam.image: sorted(exam.findings & BOXES_OF_CLASS.keys()) for exam in tested}
    mixed = [str(image) for image in rng.permutation(sorted(image for image, found in findings.items() if found))]
    left = dict(BOXES_OF_CLASS)
    chosen: set[tuple[str, str]] = set()
    with_two = sum(left.values()) - BOXED_IMAGES
    for image in [image for image in mixed if len(findings[image]) >= 2][:with_two]:
        for label in findings[image][:2]:
            chosen.add((label, image))
            left[label] -= 1
    used = {image for _, image in chosen}
    # The rarest first: their films carry commoner findings too, which would use them up.
    for label in sorted(left, key=lambda label: TEST.findings[label]):
        carriers = [image for image in mixed if label in findings[image] and image not in used][: left[label]]
        used.update(carriers)
        chosen.update((label, image) for image in carriers)
    for label, image in sorted(chosen):
        w, h = rng.uniform(60, 420, 2)
        x, y = rng.uniform(0, SIDE - w), rng.uniform(0, SIDE - h)
        spelling = "Infiltrate" if label == "Infiltration" else label
        yield PublishedBox(image, spelling, *(round(float(value), 12) for value in (x, y, w, h)))
