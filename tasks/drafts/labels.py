"""Which columns of a table are labels, and what their cells say: classes, zeros and ones, or lists."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import pandas as pd

from tasks.drafts import words
from tasks.drafts.columns import MOSTLY, SAID, is_category, is_date, numbers_of
from tasks.drafts.words import folded, is_called, slug
from tasks.schema import UnusableInput

Kind = Literal["exclusive", "multiple"]

SEPARATORS = ("|", ";", ",", "/")
LONG = 60
"""Characters of a text that is no category any more."""


@dataclass(frozen=True)
class Labels:
    """What is present or absent in an image."""

    kind: Kind
    names: Mapping[str, str]
    """Label to what it stands for, as published."""
    spellings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of each column of classes or lists: folded text to label, empty where nothing is present."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Column of zeros and ones, or of yes and no, to label."""
    answers: Mapping[str, int] = field(default_factory=dict)
    """Folded cell of a flag to 1 or 0; empty where all are zeros and ones."""
    separator: str = ""
    """Between the parts of a list."""
    because: str = ""
    others: tuple[str, ...] = ()
    """Columns that could be labels as well."""
    is_sure: bool = True

    @property
    def speak_for_themselves(self) -> bool:
        """Whether a folded cell is the name of its label."""
        return all(said == name for found in self.spellings.values() for said, name in found.items())

    @property
    def columns(self) -> list[str]:
        return [*self.spellings, *self.flags]


def guess_labels(rows: pd.DataFrame, free: Collection[str], wanted: Collection[str], kind: Kind | None) -> Labels:
    """Labels of the columns that are ``wanted``, or of those among the ``free`` ones that look most like labels.

    Raises :class:`UnusableInput` for a wanted column that is not there.
    """
    for column in wanted:
        if column not in rows:
            raise UnusableInput(
                f"--label {column!r}: there is no such column; there are {', '.join(map(repr, rows.columns))}"
            )
    flags = [c for c in (wanted or free) if _is_flag(rows[c])]
    lists = [c for c in (wanted or free) if c not in flags and _separator(rows[c])]
    classes = [c for c in (wanted or free) if c not in (*flags, *lists) and (wanted or _is_class(rows[c], c))]
    if wanted:
        chosen, because = list(wanted), SAID
    else:
        chosen, because = _choice(flags, lists, classes)
    others = tuple(c for c in (*flags, *lists, *classes) if c not in chosen)
    made = _labels(rows, [c for c in chosen if c in flags], [c for c in chosen if c not in flags])
    is_sure = bool(wanted) or (bool(chosen) and not others)
    return replace(made, kind=kind or made.kind, because=because, others=others, is_sure=is_sure)


def _choice(flags: list[str], lists: list[str], classes: list[str]) -> tuple[list[str], str]:
    """Columns called like a label come first; then zeros and ones, lists, classes."""
    for found, what in ((lists, "a list in its cells"), (classes, "few values")):
        if named := [c for c in found if is_called(c, words.LABEL)]:
            return named[:1], f"by its name, {what}"
    if flags:
        return flags, f"{len(flags)} column{'' if len(flags) == 1 else 's'} of zeros and ones, or of yes and no"
    if lists or classes:
        return (lists or classes)[:1], "few values, each of them often"
    return [], "no column of few values: images without label"


def _is_flag(cells: pd.Series) -> bool:
    said = set(cells.map(folded)) - {""}
    is_answer = said <= {*words.YES, *words.NO}
    return is_answer and not said.isdisjoint(words.YES) and not said.isdisjoint(words.NO)


def _is_class(cells: pd.Series, column: str) -> bool:
    if not is_category(cells) or cells.str.len().max() > LONG or is_date(cells):
        return False
    return is_called(column, words.LABEL) or numbers_of(cells) is None


def _separator(cells: pd.Series) -> str:
    """What parts the cells of a list: its parts are few, each of them often, and some stand alone."""
    said = cells[cells != ""]
    for separator in SEPARATORS:
        parts = said[said.str.contains(separator, regex=False)]
        if len(parts) < 2 or said.str.len().max() > 4 * LONG:
            continue
        alone = {folded(cell) for cell in said if separator not in cell}
        every = pd.Series([folded(part) for cell in said for part in cell.split(separator) if part.strip()])
        in_lists = {folded(part) for cell in parts for part in cell.split(separator) if part.strip()}
        if is_category(every) and len(in_lists & alone) >= len(in_lists) * (1 - MOSTLY) + 1:
            return separator
    return ""


def _labels(rows: pd.DataFrame, flags: list[str], spelled: list[str]) -> Labels:
    names: dict[str, str] = {}
    by_column = {column: _flag_name(column, names) for column in flags}
    separator = _separator(rows[spelled[0]]) if len(spelled) == 1 else ""
    spellings: dict[str, dict[str, str]] = {}
    for column in spelled:
        spellings[column] = _spellings(rows[column], column, separator, names, has_prefix=len(spelled) + len(flags) > 1)
    is_single = len(spelled) == 1 and not flags and not separator
    return Labels(
        "exclusive" if is_single or (len(flags) > 1 and not spelled and _is_one_hot(rows[flags])) else "multiple",
        dict(sorted(names.items())),
        spellings,
        by_column,
        _answers(rows[flags]),
        separator,
    )


def _flag_name(column: str, names: dict[str, str]) -> str:
    name = slug(column) or "label"
    name = name if name not in names else f"{name}_{len(names) + 1}"
    names[name] = column
    return name


def _spellings(
    cells: pd.Series, column: str, separator: str, names: dict[str, str], *, has_prefix: bool
) -> dict[str, str]:
    """Folded text to label; texts that differ in signs alone are one label, under the commonest spelling."""
    texts = pd.Series([part.strip() for cell in cells for part in (cell.split(separator) if separator else [cell])])
    counts = texts[texts != ""].value_counts()
    by_word: dict[str, str] = {}
    found: dict[str, str] = {}
    for text in sorted(counts.index, key=lambda text: (-counts[text], text)):
        if separator and folded(text) in words.NOTHING:
            found[folded(text)] = ""
            continue
        word = slug(text)
        is_number = re.fullmatch(r"[\d_]+", word) is not None
        begin = f"{slug(column) or 'label'}_" if has_prefix or is_number or not word else ""
        name = f"{begin}{word or len(by_word) + 1}"
        if word or folded(text) not in found:
            by_word.setdefault(word or folded(text), name)
        name = by_word[word or folded(text)]
        names.setdefault(name, text)
        found[folded(text)] = name
    return dict(sorted(found.items(), key=lambda item: item[1]))


def _answers(flags: pd.DataFrame) -> dict[str, int]:
    said = {folded(cell) for column in flags for cell in flags[column]} - {""}
    if said <= {"0", "1", "0.0", "1.0"}:
        return {}
    return {word: int(word in words.YES) for word in sorted(said) if word in (*words.YES, *words.NO)}


def _is_one_hot(flags: pd.DataFrame) -> bool:
    present = flags.map(folded).isin(list(words.YES)).sum(axis=1)
    return bool((present == 1).all())
