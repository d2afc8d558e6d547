"""What the columns of a table mean that are not labels: patient, age, sex, view, split, hospital, measurements."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import pandas as pd

from tasks.drafts import words
from tasks.drafts.words import folded, is_called
from tasks.readings import number

Role = Literal["patient", "age", "sex", "view", "split", "site"]
ROLES: tuple[Role, ...] = ("patient", "age", "sex", "split", "view", "site")
"""In the order in which they are guessed: a column has one."""

MOSTLY = 0.9
"""Share of the cells that say something of which a guess has to be true."""
FEW = 30
"""Different values of what is a category."""
MOST_YEARS = 120
SAID = "as you say"
"""Why a column is what it is, where a user has said so."""
NONE = "none"
"""What a user says of a role that no column has."""


@dataclass(frozen=True)
class Numbers:
    """How the numbers of a column are written."""

    has_comma: bool = False
    suffix: str = ""
    """As the ``Y`` of ``043Y``."""

    def read(self, cells: pd.Series) -> pd.Series:
        """Numbers, null where there is none."""
        if self.suffix:
            cells = cells.str.removesuffix(self.suffix)
        return number(cells.str.replace(",", ".", regex=False) if self.has_comma else cells)


@dataclass(frozen=True)
class Guess:
    """The column of a role, and why."""

    column: str | None
    because: str
    is_sure: bool = True
    """False where a user should be asked."""
    values: Mapping[str, str] = field(default_factory=dict)
    """Folded cell to the value that it stands for, for sexes and splits; where tables are splits, their role to it."""
    numbers: Numbers = Numbers()


def guess_columns(rows: pd.DataFrame, image: str, answers: Mapping[str, str | None]) -> dict[Role, Guess]:
    """The column of every role; ``answers`` are a user's own: a column, ``none``, or nothing said."""
    guesses: dict[Role, Guess] = {}
    taken = {image}
    for role in ROLES:
        own = answers.get(role)
        if own is not None and own.casefold() == NONE:
            guesses[role] = Guess(None, SAID)
        else:
            candidates = [own] if own is not None else [c for c in rows.columns if c not in taken]
            guess = GUESSERS[role](rows, candidates, own is not None)
            guesses[role] = replace(guess, because=SAID, is_sure=True) if own is not None else guess
        taken |= {guesses[role].column} - {None}  # type: ignore[arg-type]
    return _without_crossing(rows, guesses)


def numbers_of(cells: pd.Series) -> Numbers | None:
    """How the cells that say something are written, if nearly all of them are numbers."""
    said = cells[cells != ""]
    if said.empty:
        return None
    for way in (Numbers(), Numbers(has_comma=True), Numbers(suffix="Y"), Numbers(suffix="y")):
        if way.read(said).notna().mean() >= MOSTLY:
            return way
    return None


def is_category(cells: pd.Series) -> bool:
    """Whether a column has few values, each of them three times on average."""
    said = cells[cells != ""].map(folded)
    different = said.nunique()
    return 2 <= different <= FEW and len(said) >= 3 * different


def units_of(rows: pd.DataFrame, columns: list[str]) -> dict[str, str]:
    """Measurements: columns of numbers with a unit in their names, to that unit."""
    found = {column: words.unit_of(column) for column in columns}
    return {c: unit for c, unit in found.items() if unit and numbers_of(rows[c]) and rows[c].nunique() > 2}


def _patient(rows: pd.DataFrame, columns: list[str], is_own: bool) -> Guess:
    named = [c for c in columns if is_own or (words.names_patient(c) and not _is_said_of_patients(c))]
    named = [c for c in named if is_own or (rows[c] != "").mean() >= MOSTLY]
    if named:
        best = max(named, key=lambda c: (is_called(c, words.IDENTITY), -rows[c].nunique()))
        return Guess(best, f"by its name; {_repetition(rows[best])}")
    ids = [c for c in columns if is_called(c, ("id", "nr", "nummer", "code")) and 2 * rows[c].nunique() <= len(rows)]
    ids = [c for c in ids if rows[c].nunique() > FEW and (rows[c] != "").all()]
    if ids:
        return Guess(ids[0], f"by repetition: {_repetition(rows[ids[0]])}", is_sure=False)
    return Guess(None, "no column is called like one; groups are what shows one picture", is_sure=False)


def _is_said_of_patients(column: str) -> bool:
    told = (*words.AGE, *words.SEX, *words.VIEW, "weight", "height", "gewicht", "position", "orientation")
    return is_called(column, told) or words.unit_of(column) is not None


def _repetition(cells: pd.Series) -> str:
    return f"{cells[cells != ''].nunique():,} different in {len(cells):,} rows"


def _age(rows: pd.DataFrame, columns: list[str], is_own: bool) -> Guess:
    for column in columns:
        if is_own or is_called(column, words.AGE):
            way = numbers_of(rows[column])
            if way and (is_own or way.read(rows[column]).median() <= MOST_YEARS):
                return Guess(column, "by its name, numbers of years", numbers=way)
    return Guess(None, "no column of years")


def _sex(rows: pd.DataFrame, columns: list[str], is_own: bool) -> Guess:
    known = {word: sex for sex, said in words.SEXES.items() for word in said}
    for column in columns:
        values = set(rows[column].map(folded)) - {""}
        spelled = {value: known[value] for value in sorted(values) if value in known}
        is_named = is_own or is_called(column, words.SEX)
        if set(spelled.values()) == {"F", "M"} and (is_named or len(spelled) == len(values)):
            return Guess(column, f"its cells say {_quoted(sorted(spelled))}", values=spelled)
        if is_named and values <= set(words.ISO_SEXES):
            codes = {value: words.ISO_SEXES[value] for value in sorted(values)}
            return Guess(column, "1 is M and 2 is F as ISO 5218 has it: ask the publisher", False, codes)
        if is_named and values and spelled:
            return Guess(column, f"its cells say {_quoted(sorted(spelled))}", values=spelled)
        if is_named and values <= {"0", "1"}:
            return Guess(None, f"{column!r} says 0 and 1, and which is which only its publisher knows", False)
    return Guess(None, "no column of sexes")


def _split(rows: pd.DataFrame, columns: list[str], is_own: bool) -> Guess:
    known = {word: split for split, said in words.SPLITS.items() for word in said}
    for column in columns:
        cells = rows[column].map(folded)
        said = cells[cells != ""]
        values = {value: known[value] for value in sorted(set(said)) if value in known}
        if is_own:
            values = {value: known.get(value, words.slug(value)) for value in sorted(set(said)) if words.slug(value)}
        is_named = is_own or is_called(column, words.SPLIT)
        if len(set(values.values())) >= 2 and said.isin(list(values)).mean() >= (MOSTLY if is_named else 1):
            return Guess(column, f"its cells say {_quoted(list(values))}", values=values)
    return Guess(None, "none is published: dealt 70/15/15 by a hash of the group")


def _view(rows: pd.DataFrame, columns: list[str], is_own: bool) -> Guess:
    for column in columns:
        if is_own or (is_called(column, words.VIEW) and is_category(rows[column])):
            return Guess(column, f"by its name; {_repetition(rows[column])}")
    return Guess(None, "no column of views")


def _site(rows: pd.DataFrame, columns: list[str], is_own: bool) -> Guess:
    for column in columns:
        if is_own or (is_called(column, words.SITE) and is_category(rows[column])):
            return Guess(column, f"by its name; {_repetition(rows[column])}")
    return Guess(None, "no column of hospitals")


GUESSERS = {"patient": _patient, "age": _age, "sex": _sex, "view": _view, "split": _split, "site": _site}


def _without_crossing(rows: pd.DataFrame, guesses: dict[Role, Guess]) -> dict[Role, Guess]:
    """A published split that a patient crosses would be refused: it is left aside, and splits are dealt anew."""
    patient, split = guesses["patient"], guesses["split"]
    if patient.column is None or split.column is None:
        return guesses
    by_row = rows[split.column].map(folded).map(split.values)
    return guesses | {"split": unless_crossed(split, rows[patient.column], by_row, f"{split.column!r} puts")}


def unless_crossed(guess: Guess, patients: pd.Series, splits: pd.Series, putting: str) -> Guess:
    """The guess, or, where a patient crosses its splits, the one that they are dealt; ``putting`` begins the reason."""
    said = pd.DataFrame({"who": patients, "split": splits})
    crossing = int((said[said["who"] != ""].groupby("who")["split"].nunique() > 1).sum())
    because = f"{putting} {crossing} patients into two splits: dealt 70/15/15 by patient instead"
    return Guess(None, because, is_sure=False) if crossing else guess


def _quoted(values: list[str]) -> str:
    return ", ".join(values)


def is_date(cells: pd.Series) -> bool:
    """Whether most cells look like dates."""
    said = cells[cells != ""]
    return bool(len(said)) and bool(said.str.match(r"^\d{1,4}[-./]\d{1,2}[-./]\d{1,4}").mean() >= MOSTLY)


def decimals_of(cells: pd.Series) -> int:
    """Digits behind the point or comma, at most."""
    found = cells.str.extract(re.compile(r"[.,](\d+)\w?$"))[0].dropna()
    return int(found.str.len().max()) if len(found) else 0
