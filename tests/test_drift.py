"""Drift: planted shifts are found with honest intervals, chance is not taken for a shift, and a release says both."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from tasks.datasets import find
from tasks.quality import drift, effects
from tasks.quality.drift import Shift
from tasks.quality.effects import Effect, Side
from tests.command import scanmill
from tests.conftest import Prepare, released
from tests.fakes import damage
from tests.fakes import nih_chest_xray as nih
from tests.release_files import outcomes_of

NAME = "nih-chest-xray"
NIH = find(NAME)
ROUNDS = 300
Draw = Callable[[np.random.Generator, int], tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]


def films(rng: np.random.Generator, patients: int) -> npt.NDArray[np.int64]:
    """The patient of every film: most have one or two, a few have many."""
    return np.repeat(np.arange(patients), rng.geometric(1 / 3, patients))


def label(share: float) -> Draw:
    """A finding that a patient tends to have on all films or on none."""

    def draw(rng: np.random.Generator, patients: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        groups = films(rng, patients)
        own = rng.beta(share, 1 - share, patients)
        return (rng.random(len(groups)) < own[groups]).astype(np.float64), groups

    return draw


def number(mean: float) -> Draw:
    """A normal value of variance 1, half of which is the patient's."""

    def draw(rng: np.random.Generator, patients: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        groups = films(rng, patients)
        own, film = rng.normal(0, math.sqrt(0.5), patients), rng.normal(0, math.sqrt(0.5), len(groups))
        return mean + own[groups] + film, groups

    return draw


def category(shares: Sequence[float]) -> Draw:
    """One of several, nearly always the patient's."""

    def draw(rng: np.random.Generator, patients: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        groups = films(rng, patients)
        own, film = (rng.choice(len(shares), count, p=shares) for count in (patients, len(groups)))
        return np.where(rng.random(len(groups)) < 0.9, own[groups], film).astype(np.float64), groups

    return draw


def angle(share: float) -> float:
    return 2 * math.asin(math.sqrt(share))


def v_of(one: Sequence[float], other: Sequence[float]) -> float:
    return math.sqrt(sum((a - b) ** 2 / ((a + b) / 2) for a, b in zip(one, other, strict=True)) / 4)


CASES: dict[str, tuple[Callable[[Side, Side, int], Effect], Draw, Draw, float]] = {
    "equal shares": (effects.of_share, label(0.3), label(0.3), 0.0),
    "a rarer label": (effects.of_share, label(0.03), label(0.1), angle(0.1) - angle(0.03)),
    "equal numbers": (effects.of_number, number(0.0), number(0.0), 0.0),
    "higher numbers": (effects.of_number, number(0.0), number(0.5), math.erf(0.25)),
    "equal categories": (effects.of_category, category((0.5, 0.3, 0.2)), category((0.5, 0.3, 0.2)), 0.0),
    "other categories": (
        effects.of_category,
        category((0.5, 0.3, 0.2)),
        category((0.3, 0.3, 0.4)),
        v_of((0.5, 0.3, 0.2), (0.3, 0.3, 0.4)),
    ),
}


def covered(case: str, *, by_patient: bool = True) -> float:
    """Share of made-up comparisons whose interval holds the truth: 150 patients beside 50."""
    compare, reference, other, truth = CASES[case]
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(ROUNDS):
        (first, mine), (second, theirs) = reference(rng, 150), other(rng, 50)
        if not by_patient:
            mine, theirs = np.arange(len(first)), np.arange(len(second))
        count = int(mine.max()) + 1 + int(theirs.max()) + 1
        size = compare(Side(first, mine), Side(second, theirs + int(mine.max()) + 1), count).size
        hits += size.low <= truth <= size.high
    return hits / ROUNDS


@pytest.mark.parametrize("case", CASES)
def test_95_of_100_intervals_hold_the_truth_though_films_come_in_patients(case: str) -> None:
    assert 0.9 <= covered(case) <= 0.99


def test_intervals_that_took_films_for_independent_would_be_too_narrow() -> None:
    assert covered("equal shares", by_patient=False) < 0.85


def table(rng: np.random.Generator, patients: int, split: str, **shifts: float) -> pd.DataFrame:
    """A made-up sample table of one split; ``shifts``: share of effusion and of women, added years, brighter films."""
    groups = films(rng, patients)
    count = len(groups)
    columns: dict[str, Any] = {f"label.{name}": (rng.random(count) < 0.1).astype("int8") for name in NIH.labels}
    columns["label.Effusion"] = (rng.random(count) < shifts.get("effusion", 0.1)).astype("int8")
    women = rng.random(patients) < shifts.get("women", 0.4)
    return pd.DataFrame(
        {
            "group_id": [f"{split}-{patient}" for patient in groups],
            "split": split,
            "age_years": (rng.normal(50, 15, patients) + shifts.get("years", 0.0))[groups],
            "sex": np.where(women, "F", "M")[groups],
            "view": rng.choice(["PA", "AP"], count),
            "intensity_mean": rng.normal(120, 20, count) + shifts.get("brighter", 0.0),
            "intensity_std": rng.normal(60, 8, count),
            "bit_depth": 8,
            "source_width": 1024,
            "source_height": 1024,
            **columns,
        }
    )


def splits(seed: int, **shifts: float) -> pd.DataFrame:
    """Train, validation and test, the last with the shifts."""
    rng = np.random.default_rng(seed)
    parts = [table(rng, 400, "train"), table(rng, 80, "validation"), table(rng, 150, "test", **shifts)]
    return pd.concat(parts, ignore_index=True)


def shift_of(shifts: Sequence[Shift], feature: str, other: str = "test") -> Shift:
    """The comparison of one feature."""
    (found,) = [shift for shift in shifts if shift.feature == feature and shift.other == other]
    return found


def test_planted_shifts_are_found_with_their_sign_and_nothing_else_is() -> None:
    found = drift.between_splits(NIH, splits(1, effusion=0.35, women=0.9, years=12, brighter=-25))
    telling = {(shift.feature, shift.other) for shift in drift.largest(found)}
    planted = {"Effusion", "sex", "age (years)", "mean grey (share of its range)"}
    assert telling == {(feature, "test") for feature in planted}
    effusion, age, sex = (shift_of(found, feature) for feature in ("Effusion", "age (years)", "sex"))
    assert (effusion.low or 0) < angle(0.35) - angle(0.1) < (effusion.high or 0)
    assert (effusion.difference_low or 0) < 0.25 < (effusion.difference_high or 0)
    assert (age.difference_low or 0) < 12 < (age.difference_high or 0)
    assert age.reference == "train"
    assert age.magnitude in {"medium", "large"}
    assert (sex.low or 0) < v_of((0.4, 0.6), (0.9, 0.1)) < (sex.high or 0)
    assert (shift_of(found, "mean grey (share of its range)").high or 0) < 0
    limits = drift.as_checks(found, NIH, pd.RangeIndex(700))
    said = {column: [text for text in limits[column].dropna() if text] for column in limits}
    assert {column for column, texts in said.items() if texts} == {
        "check.label_drift",
        "check.sex_drift",
        "check.age_drift",
        "check.intensity_drift",
    }
    assert said["check.label_drift"] == [effusion.sentence]
    lenient = drift.as_checks(found, replace(NIH, drift={"age": 0.9}), pd.RangeIndex(700))
    assert set(lenient["check.age_drift"].dropna()) == {""}


def test_chance_is_not_taken_for_a_shift() -> None:
    for seed in range(20):
        shifts = drift.between_splits(NIH, splits(seed))
        said = drift.as_checks(shifts, NIH, pd.RangeIndex(700)).to_numpy().ravel()
        assert not [text for text in said if text], seed


def test_what_cannot_be_compared_is_there_and_says_why() -> None:
    samples = splits(2)
    samples.loc[samples["split"] == "test", "age_years"] = None
    few = samples["split"].eq("validation") & ~samples["group_id"].isin([f"validation-{n}" for n in range(3)])
    found = drift.between_splits(NIH, samples[~few].drop(columns=["source_width"]))
    age = shift_of(found, "age (years)")
    assert (age.effect, age.low, age.magnitude, age.other_n) == (None, None, "not comparable", 0)
    assert "nothing is known in test" in age.sentence
    assert "3 patients in validation" in shift_of(found, "Mass", "validation").sentence
    assert "nothing is known in train" in shift_of(found, "longer side (pixels)").sentence
    assert shift_of(found, "Mass").effect is not None


def test_a_hospital_that_is_only_in_one_split_is_the_largest_shift_there_is() -> None:
    livers = find("behsof")
    samples = splits(6).replace({"split": {"test": "external"}})
    names = {"train": "Behbood", "validation": "Behbood", "external": "Taleghani"}
    found = drift.between_splits(livers, samples.assign(**{"meta.site": samples["split"].map(names)}))
    site, same = (shift_of(found, "site", other) for other in ("external", "validation"))
    assert (site.effect or 0) > 0.95
    assert site.high == 1
    assert (site.reference_value, site.other_value) in {(1.0, 0.0), (0.0, 1.0)}
    assert (same.effect, same.low, same.high) == (0, 0, 0)


def test_a_release_does_not_drift_from_itself_nor_by_a_few_new_patients() -> None:
    before = splits(3)
    same = drift.between_releases(NIH, before, before)
    assert {shift.subject for shift in same} == {"all samples", "train", "validation", "test"}
    assert {shift.effect for shift in same} == {0.0}
    more = pd.concat([before, table(np.random.default_rng(4), 6, "train", years=40)])
    ages = [s for s in drift.between_releases(NIH, before, more) if s.kind == "age" and s.subject == "all samples"]
    alone = drift.between_releases(NIH, before, more.assign(group_id="new " + more["group_id"]))
    (strange,) = [s for s in alone if s.kind == "age" and s.subject == "all samples"]
    assert ages[0].effect == strange.effect
    assert ages[0].magnitude == "negligible"
    # Patients that both releases have tell nothing new: with them the interval is narrower by far.
    assert (ages[0].high or 0) - (ages[0].low or 0) < ((strange.high or 0) - (strange.low or 0)) / 2


def test_the_next_release_says_what_shifted_and_its_gate_warns_of_the_splits(
    flawless_release: Path, copy: Path, prepare: Prepare, tmp_path: Path
) -> None:
    first = told(flawless_release)
    assert (first["before"], first["shifts"]) == (None, [])
    dealt = {code: outcome["status"] for code, outcome in drifts_of(flawless_release).items()}
    assert dealt == {f"{kind}-drift": "passed" for kind in NIH.drift_limits()} | {"group-drift": "known"}
    lake = tmp_path / "lake"
    shutil.copytree(flawless_release.parents[2], lake)
    before = lake / NAME / "releases" / flawless_release.name
    samples = pd.read_parquet(before / "samples.parquet")
    older = set(samples.loc[samples["split"] == "test", "meta.Image Index"])
    table = damage.TableFile(copy / nih.TABLE)
    header, *rows = table.rows()
    table.write([header, *([*r[:4], str(min(95, int(r[4]) + 30)), *r[5:]] if r[0] in older else r for r in rows)])
    after = released(prepare, copy, lake)
    found = told(after)
    assert (found["before"], found["after"]) == (before.name, after.name)
    changed = {shift["subject"]: shift for shift in found["shifts"] if shift["effect"]}
    assert set(changed) == {"all samples", "test"}
    assert changed["test"]["feature"] == "age (years)"
    assert changed["test"]["effect"] > changed["all samples"]["effect"] > 0
    warned = drifts_of(after)["age-drift"]
    assert (warned["status"], warned["failed"]) == ("warned", 1)
    assert warned["observed"].startswith("age (years): mean ")
    report = json.loads((after / "quality" / "report.json").read_bytes())
    assert warned["observed"] in {shift["sentence"] for shift in report["drift"]}
    assert before.name not in json.dumps(report)
    difference = json.loads(
        scanmill("diff", f"{lake / NAME}@{before.name}", f"{lake / NAME}@{after.name}", "--json").stdout
    )
    assert changed["test"]["sentence"] in {shift["sentence"] for shift in difference["drift"]}
    text = scanmill("diff", f"{lake / NAME}@{before.name}", f"{lake / NAME}@{after.name}").stdout
    assert changed["test"]["sentence"] in text


def told(release: Path) -> dict[str, Any]:
    """What ``quality/drift.json`` says."""
    return dict(json.loads((release / "quality" / "drift.json").read_bytes()))


def drifts_of(release: Path) -> dict[str, Any]:
    """The outcomes about drift."""
    return {code: outcome for code, outcome in outcomes_of(release).items() if code.endswith("-drift")}
