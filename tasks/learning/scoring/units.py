"""What is scored as one: every image, or every group (patient) with what its images say on average."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.learning.recipe import Question
from tasks.learning.scoring.calibration import NEAREST, log_odds, sigmoid, softmax
from tasks.learning.scoring.draws import Values

Unit = Literal["sample", "group"]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Units:
    """Rows that are scored, with what is true of them and what was answered."""

    groups: pd.Series
    """Group of every row."""
    truths: Mapping[str, Values]
    answers: Mapping[str, Values]
    parts: Mapping[str, pd.Series]
    """Of what patients and images are told apart by: the row's value as text; missing where it is not known."""


def of_groups(units: Units, questions: Sequence[Question]) -> Units:
    """One row per group.

    Answers are averaged over all images of the group: log-odds of labels, log p of classes (then scaled to sum up to
    1), values of targets. A label is present where any image has it present and absent where the known ones have it
    absent; a target is the mean of the known ones; a class, or a part, is the one that all known images have, and
    unknown where they differ.
    """
    numbers, names = pd.factorize(units.groups)
    kinds = {question.name: question.kind for question in questions}
    return Units(
        groups=pd.Series(names),
        truths={name: _truth(kinds[name], values, numbers) for name, values in units.truths.items()},
        answers={name: _answer(kinds[name], values, numbers) for name, values in units.answers.items()},
        parts={name: _common(values, numbers) for name, values in units.parts.items()},
    )


def rows_of(units: Units, is_in: npt.NDArray[np.bool_]) -> Units:
    """Those rows alone."""
    return Units(
        groups=units.groups[is_in].reset_index(drop=True),
        truths={name: values[is_in] for name, values in units.truths.items()},
        answers={name: values[is_in] for name, values in units.answers.items()},
        parts={name: values[is_in].reset_index(drop=True) for name, values in units.parts.items()},
    )


def sides(questions: Sequence[Question], units: Units) -> Iterator[tuple[str, Values, Values]]:
    """Everything that is present or absent and has an answer: name, truth (1, 0, NaN) and probability of every row.

    Labels by their name, and each class against the others as ``question.class``.
    """
    for question in questions:
        answer = units.answers.get(question.name)
        if answer is None or question.kind == "target":
            continue
        truth = units.truths[question.name]
        if question.kind == "label":
            yield question.name, truth, answer[:, 0]
            continue
        for number, name in enumerate(question.of):
            yield f"{question.name}.{name}", against_others(truth, number), answer[:, number]


def against_others(truth: Values, number: int) -> Values:
    """1 where it is that class, 0 where it is another, NaN where it is not known."""
    return np.where(np.isnan(truth), np.nan, (truth == number).astype(np.float64))


def mixed(question: Question, units: Units) -> int:
    """How many groups have images of different classes: they are left out where groups are scored."""
    if question.kind != "classes":
        return 0
    known = pd.Series(units.truths[question.name]).groupby(units.groups.to_numpy()).nunique()
    return int((known > 1).sum())


def _truth(kind: str, values: Values, numbers: Numbers) -> Values:
    of_group = pd.Series(values).groupby(numbers)
    if kind == "label":
        return np.asarray(of_group.max(), dtype=np.float64)
    if kind == "target":
        return np.asarray(of_group.mean(), dtype=np.float64)
    return np.asarray(of_group.first().where(of_group.nunique() == 1), dtype=np.float64)


def _answer(kind: str, values: Values, numbers: Numbers) -> Values:
    if kind == "label":
        return sigmoid(_means(log_odds(values), numbers))
    if kind == "target":
        return _means(values, numbers)
    return softmax(_means(np.log(np.clip(values, NEAREST, 1.0)), numbers))


def _means(values: Values, numbers: Numbers) -> Values:
    return pd.DataFrame(values).groupby(numbers).mean().to_numpy(np.float64)


def _common(values: pd.Series, numbers: Numbers) -> pd.Series:
    of_group = values.reset_index(drop=True).groupby(numbers)
    found: pd.Series = of_group.first().where(of_group.nunique() == 1)
    return found.reset_index(drop=True)
