"""Two runs side by side on the samples that neither was fitted on: paired differences, and whether they can be told.

Every difference is B − A. Intervals are of a paired bootstrap: groups (patients) are drawn, and both runs are scored on
the same draws. DeLong's test stands beside it, for independent rows and for rows that belong together.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from threadpoolctl import threadpool_limits

from tasks.learning.recipe import Question
from tasks.learning.runs import Run, find_run
from tasks.learning.scoring import delong, ranking, targets
from tasks.learning.scoring.draws import Drawn, Values, draw, everything, interval, mean_of_defined
from tasks.learning.scoring.units import Unit, Units, against_others, of_groups
from tasks.schema import DataRefused, ScanmillError
from tasks.storage import read_bytes

FORMAT_VERSION = 1
SEED = 0
"""Of the draws: neither run's own, so that it does not matter which is named first."""
BETTER, WORSE, NOT_TOLD = "better", "worse", "no difference told"


@dataclass(frozen=True)
class Predictions:
    """What one run said of the split that was held out."""

    run: str
    release: str
    dataset: str
    split: str
    unit: Unit
    questions: tuple[Question, ...]
    table: pd.DataFrame
    """Rows of predictions.parquet that lie in ``split``."""


def compare(lake: str, run_a: str, run_b: str, resamples: int = 1000) -> dict[str, Any]:
    """Compare run B with run A of the same dataset; plain JSON, see :func:`compare_predictions`.

    Raises :class:`ScanmillError` where there is no such run, one is not evaluated, or they have nothing in common, and
    :class:`DataRefused` where one is damaged.
    """
    return compare_predictions(predictions_of(find_run(lake, run_a)), predictions_of(find_run(lake, run_b)), resamples)


def predictions_of(run: Run) -> Predictions:
    """Those of the split that the run's recipe holds out."""
    path = run.folder / "predictions.parquet"
    if not run.is_evaluated:
        raise ScanmillError(f"run {run.name} is not evaluated: run `scanmill evaluate {run.name}` first")
    split = run.recipe.splits.held_out
    if split is None:
        raise ScanmillError(f"run {run.name} holds out no split: its recipe names neither test nor validation")
    try:
        table = pq.read_table(io.BytesIO(read_bytes(path))).to_pandas()
        own = table[table["split"] == split].reset_index(drop=True)
    except (OSError, ValueError, KeyError) as error:
        raise DataRefused(f"{path} is damaged: {error}; evaluate again") from error
    identity = run.about["identity"]
    return Predictions(
        run.name,
        identity["release"],
        run.recipe.dataset,
        split,
        run.recipe.evaluation.unit,
        run.recipe.questions(),
        own,
    )


def compare_predictions(a: Predictions, b: Predictions, resamples: int = 1000) -> dict[str, Any]:
    """What can be told of two runs from the samples that both held out and from the questions that both answer.

    Keys: ``format_version``; ``dataset``; ``a`` and ``b`` (``run release split samples``); ``samples`` and ``groups``
    that both have; ``unit``; ``resamples``; ``notes`` (sentences); ``only_a`` and ``only_b`` (questions);
    ``labels`` (name to PAIR); ``classes`` (question to MACRO with ``classes``: name to PAIR); ``targets`` (name to
    ``samples reason r2 mae``, each a DIFFERENCE); ``macro`` (a MACRO over labels, else over the first classes; of
    targets alone, their mean R²); ``verdict`` on B by the interval of that: ``better``, ``worse`` or ``no difference
    told``.

    DIFFERENCE: ``a b difference low high p``, the interval and two-sided p by bootstrap. PAIR: ``samples positives
    reason``, ``auroc`` (a DIFFERENCE), ``delong`` and ``clustered`` (``error z p holm``; rows taken as independent, and
    rows of a group as one; ``holm`` adjusts for the number of labels). MACRO: a DIFFERENCE with ``metric of labels
    undefined clustered``. Null is not defined.
    """
    aligned, notes = _aligned(a, b)
    questions = _shared(a, b)
    unit: Unit = "group" if a.unit == b.unit == "group" else "sample"
    if a.unit != b.unit:
        notes.append("one run is evaluated by patient and the other by image: compared by image")
    truths, differing = _truths(questions, *aligned)
    notes += differing
    sides = [Units(aligned[1]["group_id"], truths, _answers(questions, table), {}) for table in aligned]
    if unit == "group":
        sides = [of_groups(side, questions) for side in sides]
    with threadpool_limits(limits=1):  # the same sums in the same order every time
        found = _compared(questions, sides[0], sides[1], draw(sides[1].groups, SEED, resamples))
    return {
        "format_version": FORMAT_VERSION,
        "dataset": b.dataset,
        "a": _about(a),
        "b": _about(b),
        "samples": len(aligned[0]),
        "groups": int(aligned[1]["group_id"].nunique()),
        "unit": unit,
        "resamples": resamples,
        "notes": notes,
        "only_a": _missing(a, questions),
        "only_b": _missing(b, questions),
        **found,
        "verdict": _verdict(found["macro"]),
    }


def is_not_worse(comparison: Mapping[str, Any]) -> bool:
    """Whether B may take A's place: the interval of the macro difference does not lie wholly below 0.

    Where there is no interval (too little to resample) nothing speaks against B.
    """
    high = comparison["macro"]["high"]
    return high is None or high >= 0


def _about(own: Predictions) -> dict[str, Any]:
    return {"run": own.run, "release": own.release, "split": own.split, "samples": len(own.table)}


def _aligned(a: Predictions, b: Predictions) -> tuple[tuple[pd.DataFrame, pd.DataFrame], list[str]]:
    """Rows of both that show the same sample, in the same order; and what has to be said about it."""
    if a.dataset != b.dataset:
        raise ScanmillError(
            f"{a.run} is of {a.dataset} and {b.run} of {b.dataset}: only runs of one dataset can be compared"
        )
    first, second = a.table.set_index("sample_id"), b.table.set_index("sample_id")
    shared = sorted(set(first.index) & set(second.index))
    if not shared:
        raise ScanmillError(
            f"{a.run} ({a.release}, {a.split}: {len(first):,} samples) and {b.run} ({b.release}, {b.split}: "
            f"{len(second):,}) held out no sample in common: evaluate both on releases that share their held-out split"
        )
    notes = []
    if len(shared) < max(len(first), len(second)):
        notes.append(
            f"the held-out splits differ ({len(first):,} samples of {a.run}, {len(second):,} of {b.run}): compared on "
            f"the {len(shared):,} that both have"
        )
    elif a.release != b.release:
        notes.append(f"of two releases, {a.release} and {b.release}, whose held-out samples are the same")
    pair = first.loc[shared].reset_index(), second.loc[shared].reset_index()
    if (pair[0]["group_id"] != pair[1]["group_id"]).any():
        notes.append(f"samples are grouped differently in the two releases: resampled by the groups of {b.run}")
    return pair, notes


def _shared(a: Predictions, b: Predictions) -> list[Question]:
    """Questions that are the same in both."""
    theirs = {(question.name, question.kind, question.of) for question in a.questions}
    found = [question for question in b.questions if (question.name, question.kind, question.of) in theirs]
    if not found:
        raise ScanmillError(
            f"{a.run} answers {', '.join(q.name for q in a.questions)} and {b.run} "
            f"{', '.join(q.name for q in b.questions)}: they have no question in common"
        )
    return found


def _missing(own: Predictions, shared: Sequence[Question]) -> list[str]:
    names = {question.name for question in shared}
    return [question.name for question in own.questions if question.name not in names]


def _truths(
    questions: Sequence[Question], first: pd.DataFrame, second: pd.DataFrame
) -> tuple[dict[str, Values], list[str]]:
    """What is true by both releases; unknown where they differ, and a sentence about each such question."""
    found, notes = {}, []
    for question in questions:
        one, other = _truth(question, first), _truth(question, second)
        is_same = one == other
        count = int((~is_same & ~(np.isnan(one) & np.isnan(other))).sum())
        if count:
            notes.append(f"{question.name}: {count:,} samples whose answer differs between the releases are left out")
        found[question.name] = np.where(is_same, other, np.nan)
    return found, notes


def _truth(question: Question, table: pd.DataFrame) -> Values:
    column = table[f"truth.{question.name}"]
    if question.kind == "classes":
        numbers = {name: float(number) for number, name in enumerate(question.of)}
        column = column.map(numbers)
    return np.asarray(column.astype("Float64").to_numpy(np.float64, na_value=np.nan), dtype=np.float64)


def _answers(questions: Sequence[Question], table: pd.DataFrame) -> dict[str, Values]:
    """Samples × answers of each question that the run could answer."""
    found = {}
    for question in questions:
        columns = {
            "label": [f"probability.{question.name}"],
            "classes": [f"probability.{question.name}.{name}" for name in question.of],
            "target": [f"predicted.{question.name}"],
        }[question.kind]
        values = table[columns].astype("Float64").to_numpy(np.float64, na_value=np.nan)
        if np.isfinite(values).all():
            found[question.name] = values
    return found


def _compared(questions: Sequence[Question], a: Units, b: Units, drawn: Drawn) -> dict[str, Any]:
    labels = [question for question in questions if question.kind == "label"]
    compared = {
        question.name: _pair(b.truths[question.name], *_own(question, a, b), b.groups, drawn) for question in labels
    }
    classes = {question.name: _classes(question, a, b, drawn) for question in questions if question.kind == "classes"}
    wanted = [question for question in questions if question.kind == "target"]
    values = {question.name: _target(b.truths[question.name], *_own(question, a, b), drawn) for question in wanted}
    if compared:
        macro = _macro(compared, f"{_defined(compared)} labels", b.groups)
    elif classes:
        name, own = next(iter(classes.items()))
        macro = {key: value for key, value in own.items() if key not in ("classes", "samples")}
        macro["of"] = f"{own['labels']} classes of {name}"
    else:
        macro = _macro_of_targets(values)
    _adjust(compared)
    plain: dict[str, Any] = _plain({"labels": compared, "classes": classes, "targets": values, "macro": macro})
    return plain


def _own(question: Question, a: Units, b: Units) -> tuple[Values | None, Values | None]:
    first, second = a.answers.get(question.name), b.answers.get(question.name)
    return None if first is None else first[:, 0], None if second is None else second[:, 0]


def _pair(
    truth: Values, first: Values | None, second: Values | None, groups: pd.Series, drawn: Drawn
) -> dict[str, Any]:
    """One thing that is present or absent; ``replicates`` and ``influence`` stay in it until :func:`_plain`."""
    is_known = ~np.isnan(truth)
    known = truth[is_known]
    positives = int((known == 1).sum())
    about = {"samples": len(known), "positives": positives}
    reason = _unanswered(first, second)
    if not reason and positives in (0, len(known)):
        reason = f"{'every' if positives else 'no'} sample has it" if len(known) else "no sample has a known answer"
    if reason or first is None or second is None:
        return {**about, "reason": reason, "auroc": _nothing(), "delong": None, "clustered": None}
    weights = drawn if is_known.all() else drawn[:, is_known]
    one, other = (ranking.areas(known, answer[is_known], weights) for answer in (first, second))
    moved = delong.influence(truth, second) - delong.influence(truth, first)
    replicates = other.aurocs - one.aurocs
    error = delong.clustered_error(moved[None], groups)
    return {
        **about,
        "reason": "",
        "auroc": _difference(one.auroc, other.auroc, replicates),
        "delong": _tested(delong.paired(known, second[is_known], first[is_known])),
        "clustered": _tested(delong.test(other.auroc - one.auroc, error)),
        "replicates": replicates,
        "influence": moved,
    }


def _unanswered(first: Values | None, second: Values | None) -> str:
    silent = [name for name, answer in (("A", first), ("B", second)) if answer is None]
    return f"{' and '.join(silent)} could not answer it" if silent else ""


def _difference(one: float, other: float, replicates: Values) -> dict[str, Any]:
    """With a two-sided bootstrap p, whose least value is 2 / (resamples + 1); none where there is no interval."""
    span = interval(replicates)
    usable = replicates[~np.isnan(replicates)]
    tail = min(int((usable <= 0).sum()), int((usable >= 0).sum()))
    p = None if span["low"] is None else min(1.0, 2 * (tail + 1) / (len(usable) + 1))
    return {"a": one, "b": other, "difference": other - one, **span, "p": p}


def _nothing() -> dict[str, Any]:
    return dict.fromkeys(("a", "b", "difference", "low", "high", "p"))


def _tested(found: delong.Test) -> dict[str, Any]:
    return {"error": found.error, "z": found.z, "p": found.p, "holm": None}


def _defined(pairs: Mapping[str, Mapping[str, Any]]) -> int:
    return sum(own["auroc"]["difference"] is not None for own in pairs.values())


def _macro(pairs: Mapping[str, Mapping[str, Any]], of: str, groups: pd.Series) -> dict[str, Any]:
    """Mean over the labels that are defined for both runs, and the names of the others."""
    defined = {name: own for name, own in pairs.items() if own["auroc"]["difference"] is not None}
    about = {
        "metric": "macro AUROC",
        "of": of,
        "labels": len(defined),
        "undefined": {name: own["reason"] for name, own in pairs.items() if name not in defined},
    }
    if not defined:
        return {**about, **_nothing(), "clustered": None}
    one, other = (float(np.mean([own["auroc"][side] for own in defined.values()])) for side in ("a", "b"))
    replicates = mean_of_defined(np.array([own["replicates"] for own in defined.values()]))
    error = delong.clustered_error(np.array([own["influence"] for own in defined.values()]), groups)
    tested = _tested(delong.test(other - one, error))
    del tested["holm"]  # one test
    return {**about, **_difference(one, other, replicates), "clustered": tested}


def _classes(question: Question, a: Units, b: Units, drawn: Drawn) -> dict[str, Any]:
    """One class against the others, one by one, and their mean."""
    truth = b.truths[question.name]
    first, second = a.answers.get(question.name), b.answers.get(question.name)
    pairs = {
        name: _pair(
            against_others(truth, number),
            None if first is None else first[:, number],
            None if second is None else second[:, number],
            b.groups,
            drawn,
        )
        for number, name in enumerate(question.of)
    }
    macro = _macro(pairs, f"{_defined(pairs)} classes", b.groups)
    _adjust(pairs)
    return {"samples": int((~np.isnan(truth)).sum()), **macro, "classes": pairs}


def _target(truth: Values, first: Values | None, second: Values | None, drawn: Drawn) -> dict[str, Any]:
    is_known = ~np.isnan(truth)
    known = truth[is_known]
    reason = _unanswered(first, second)
    if not reason and (len(known) < 2 or known.min() == known.max()):
        reason = f"{len(known)} samples have a value, and no two differ"
    if reason or first is None or second is None:
        return {"samples": len(known), "reason": reason, "r2": _nothing(), "mae": _nothing()}
    weights = drawn if is_known.all() else drawn[:, is_known]
    whole, resampled = (
        [targets.replicates(known, answer[is_known], own) for answer in (first, second)]
        for own in (everything(len(known)), weights)
    )
    found = {
        name: _difference(
            float(whole[0][0, place]), float(whole[1][0, place]), resampled[1][:, place] - resampled[0][:, place]
        )
        for place, name in enumerate(("r2", "mae"))
    }
    return {"samples": len(known), "reason": "", **found, "replicates": resampled[1][:, 0] - resampled[0][:, 0]}


def _macro_of_targets(values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Mean R²."""
    defined = {name: own for name, own in values.items() if own["r2"]["difference"] is not None}
    about = {
        "metric": "mean R²",
        "of": f"{len(defined)} targets",
        "labels": len(defined),
        "undefined": {name: own["reason"] for name, own in values.items() if name not in defined},
        "clustered": None,
    }
    if not defined:
        return {**about, **_nothing()}
    one, other = (float(np.mean([own["r2"][side] for own in defined.values()])) for side in ("a", "b"))
    return {**about, **_difference(one, other, mean_of_defined(np.array([o["replicates"] for o in defined.values()])))}


def _adjust(pairs: Mapping[str, dict[str, Any]]) -> None:
    """Holm's adjustment over the labels, for both tests."""
    for name in ("delong", "clustered"):
        tested = [own[name] for own in pairs.values() if own[name] is not None]
        for own, adjusted in zip(tested, delong.holm([own["p"] for own in tested]), strict=True):
            own["holm"] = adjusted


def _verdict(macro: Mapping[str, Any]) -> str:
    low, high = macro["low"], macro["high"]
    if low is None or high is None:
        return NOT_TOLD
    return BETTER if low > 0 else WORSE if high < 0 else NOT_TOLD


def _plain(value: Any) -> Any:
    """JSON: nothing of the arrays, and null for what is no number."""
    if isinstance(value, dict):
        return dict(_entries(value))
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _entries(value: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if not isinstance(item, np.ndarray):
            yield key, _plain(item)
