"""Rows that are trained on, and sides of a cross-validation: all rows of a patient are trained on, or all held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.schema import DataRefused

Values = npt.NDArray[np.float64]
"""Rows × features, or any other numbers."""
Rows = npt.NDArray[np.int64]
"""Numbers of rows, of columns or of classes."""
Split = tuple[Rows, Rows]
"""Rows that are trained on, and rows that are held out."""


@dataclass(frozen=True)
class Table:
    """Features of rows, their classes and their patients: all that anything may be fitted on."""

    names: tuple[str, ...]
    values: Values
    """Rows × names."""
    truth: Rows
    """Number of each row's class."""
    groups: npt.NDArray[np.object_]
    """Each row's patient."""
    classes: int

    def of(self, rows: Rows) -> Table:
        """Some of the rows; one may be there several times."""
        return replace(self, values=self.values[rows], truth=self.truth[rows], groups=self.groups[rows])

    @property
    def patients_by_class(self) -> Rows:
        """How many patients have a row of each class."""
        pairs = pd.DataFrame({"truth": self.truth, "group": self.groups}).drop_duplicates()
        return np.bincount(pairs["truth"].to_numpy(np.int64), minlength=self.classes)


def by_patient(table: Table, count: int, seed: int) -> list[Split]:
    """``count`` splits; every row is held out once, and every class is spread over the folds evenly, to one patient.

    A patient whose rows are of several classes counts for the rarest of them. Patients are dealt like cards, class by
    class: as even as scikit-learn's StratifiedGroupKFold where few patients have many rows, never a fold without a
    class that has enough patients, and 2 ms where that takes 490 (712 rows).
    """
    numbers, patients = pd.factorize(table.groups)
    rarity = np.argsort(np.argsort(table.patients_by_class, kind="stable"), kind="stable")
    strata = np.full(len(patients), table.classes)
    np.minimum.at(strata, numbers, rarity[table.truth])
    order = np.random.default_rng([seed, 2]).permutation(len(patients))
    order = order[np.argsort(strata[order], kind="stable")]
    fold = np.empty(len(patients), dtype=np.int64)
    fold[order] = np.arange(len(patients)) % count
    is_held = [fold[numbers] == number for number in range(count)]
    return [(np.flatnonzero(~held), np.flatnonzero(held)) for held in is_held]


def refuse_too_few(table: Table, class_names: Sequence[str], count: int) -> None:
    """Raise :class:`DataRefused` where a class has fewer patients than there are folds."""
    patients = table.patients_by_class
    few = [f"{name} has {n}" for name, n in zip(class_names, patients.tolist(), strict=True) if n < count]
    if few:
        fewest = int(patients.min())
        remedy = f"or set radiomics.folds={fewest}" if fewest > 1 else "as no smaller number of folds would do"
        raise DataRefused(
            f"too few patients for a cross-validation in {count} folds, each of which needs a patient of every class: "
            f"of those that are trained on, {', '.join(few)}; add patients, {remedy}"
        )


def drawn(table: Table, seed: int, number: int) -> Table:
    """As many patients as there are, drawn with replacement; rows of one that is drawn twice are there twice."""
    numbers, patients = pd.factorize(table.groups)
    chosen = np.random.default_rng([seed, 3, number]).integers(len(patients), size=len(patients))
    times = np.bincount(chosen, minlength=len(patients))
    return table.of(np.repeat(np.arange(len(numbers)), times[numbers]))
