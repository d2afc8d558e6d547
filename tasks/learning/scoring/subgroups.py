"""The same AUROCs for women and men, young and old, each view and each hospital; and for one image per patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from tasks.learning.recipe import Question
from tasks.learning.scoring.draws import Drawn, Values, macro, one_of_each, score
from tasks.learning.scoring.ranking import areas
from tasks.learning.scoring.units import Units, rows_of, sides

AGES: tuple[tuple[str, float], ...] = (("<40", 40), ("40–59", 60), ("60–79", 80), ("≥80", float("inf")))
"""Bands of age and the age that is too old for each: those of the checklist in facts/learning.md §12."""
FEWEST = 10
"""Positives, and negatives, below which a subgroup's AUROC says nothing."""
MOST_VALUES = 12
"""Of a column; the rarer ones are taken together."""
THE_REST = "all others"
UNKNOWN = "unknown"
DRAWS = 20
"""Of one image per patient: the protocol of CheXchoNet, mean ± 1.96 standard deviations."""


def parts_of(samples: pd.DataFrame, columns: Mapping[str, str]) -> dict[str, pd.Series]:
    """What samples are told apart by: sex, age in bands, view, and ``columns`` (name to column of ``samples``).

    Text, missing where it is not known. What the samples have no column for is not there.
    """
    found = {"sex": samples["sex"].astype("string")} if "sex" in samples else {}
    if "age_years" in samples:
        found["age"] = _bands(samples["age_years"])
    if "view" in samples:
        found["view"] = samples["view"].astype("string")
    for name, column in columns.items():
        if column in samples:
            found[name] = _without_rare(samples[column].astype("string"))
    return {name: values.reset_index(drop=True).astype(object) for name, values in found.items()}


def _bands(ages: pd.Series) -> pd.Series:
    years = ages.to_numpy(np.float64, na_value=np.nan)
    names = np.array([*(name for name, _ in AGES), None], dtype=object)
    place = np.searchsorted([limit for _, limit in AGES], years, side="right")
    return pd.Series(names[np.where(np.isnan(years), len(AGES), place)])


def _without_rare(values: pd.Series) -> pd.Series:
    counted = values.value_counts()
    common = sorted(counted.index, key=lambda value: (-counted[value], value))[:MOST_VALUES]
    return values.where(values.isin(common) | values.isna(), THE_REST)


def scored(questions: Sequence[Question], units: Units, drawn: Drawn) -> list[dict[str, Any]]:
    """A row per subgroup with at least one sample, of everything that has two of them; replicates are in them."""
    return [
        _subgroup(questions, units, drawn, name, value)
        for name, values in units.parts.items()
        for value in _values(name, values)
    ]


def _values(name: str, values: pd.Series) -> list[str]:
    """In order: bands of age by age, everything else by name, what is not known last; none where all are the same."""
    there = {str(value) for value in values.dropna().unique()}
    order = [band for band, _ in AGES if band in there] if name == "age" else sorted(there - {THE_REST})
    order += [THE_REST] if THE_REST in there else []
    order += [UNKNOWN] if values.isna().any() else []
    return order if len(order) > 1 else []


def _subgroup(questions: Sequence[Question], units: Units, drawn: Drawn, name: str, value: str) -> dict[str, Any]:
    own = units.parts[name]
    is_in = (own.isna() if value == UNKNOWN else own == value).to_numpy(bool)
    part, weights = rows_of(units, is_in), drawn[:, is_in]
    positives, found = {}, {}
    for column, truth, answer in sides(questions, part):
        is_known = ~np.isnan(truth)
        positives[column] = int((truth == 1).sum())
        known = weights if is_known.all() else weights[:, is_known]
        found[column] = _auroc(truth[is_known], answer[is_known], known)
    reasons = {column: one.get("reason", "") for column, one in found.items()}
    counted = _labels(questions, found)
    return {
        "by": name,
        "value": value,
        "samples": int(is_in.sum()),
        "positives": positives,
        "auroc": found,
        "macro": macro(counted, reasons),
    }


def _labels(questions: Sequence[Question], found: Mapping[str, Any]) -> dict[str, Any]:
    """What the macro is over: the labels, or the classes where there are none."""
    labels = {question.name for question in questions if question.kind == "label"} & set(found)
    return {column: one for column, one in found.items() if column in labels or not labels}


def _auroc(truth: Values, answer: Values, drawn: Drawn) -> dict[str, Any]:
    positives = int((truth == 1).sum())
    negatives = len(truth) - positives
    if min(positives, negatives) < FEWEST:
        few, what = (positives, "positives") if positives <= negatives else (negatives, "negatives")
        return {**score(None), "reason": f"n too small: {few} {what}"}
    if not np.isfinite(answer).all():
        return {**score(None), "reason": "some answers are no numbers"}
    own = areas(truth, answer, drawn)
    return score(own.auroc, own.aurocs, 0.5)


def one_per_group(questions: Sequence[Question], units: Units, seed: int) -> dict[str, Any] | None:
    """AUROC of one image per group, drawn :data:`DRAWS` times; None where every group has one image only."""
    if units.groups.is_unique:
        return None
    drawn = one_of_each(units.groups, seed, DRAWS)
    return {"draws": DRAWS, "labels": dict(_one_per_group(questions, units, drawn))}


def _one_per_group(questions: Sequence[Question], units: Units, drawn: Drawn) -> Iterator[tuple[str, dict[str, Any]]]:
    nothing = {"mean": None, "low": None, "high": None}
    for column, truth, answer in sides(questions, units):
        is_known = ~np.isnan(truth)
        if not is_known.any() or not np.isfinite(answer).all():
            yield column, nothing
            continue
        found = areas(truth[is_known], answer[is_known], drawn[:, is_known]).aurocs
        if np.isnan(found).any():  # a draw without positives: the label is too rare for this protocol
            yield column, nothing
            continue
        mean, half = float(found.mean()), 1.96 * float(found.std(ddof=1))
        yield column, {"mean": mean, "low": max(mean - half, 0.0), "high": min(mean + half, 1.0)}
