"""From a run to an honest account of it: predictions, scores with intervals and controls, a report and a model card."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.code_version import library_versions, source_digest
from tasks.files import read_json, readable_json, write_bytes
from tasks.learning import intensities, reading, run_report, truths
from tasks.learning.admission import Release, find_release
from tasks.learning.headline import headline, is_leaky
from tasks.learning.recipe import Question, Recipe
from tasks.learning.runs import Run, find_run
from tasks.learning.training import insist_on_packages, table_of
from tasks.learning.truths import Values
from tasks.schema import DataRefused

if TYPE_CHECKING:
    from tasks.learning.baseline import Table

CONTROLS = 5
"""How often the same model is fitted to labels that were shuffled among groups."""
SCORED_BY = ("numpy", "pandas", "pyarrow", "scikit-learn")


def evaluate(run: str, lake: str, resamples: int = 200) -> dict[str, Any]:
    """Evaluate a finished run; returns ``run release dataset report headline is_leaky is_new``.

    Doing it again writes the same bytes; with the same code there is nothing to do. Raises :class:`DataRefused` where
    the release is not the one that the run was trained from any more.
    """
    insist_on_packages()
    there = finished(run, lake, resamples)
    if there is not None:
        return there
    own = find_run(lake, run)
    metrics = {**_evaluate(own, _source(own, lake), resamples), "evaluation": _version(own, resamples)}
    run_report.write(own, metrics)
    write_bytes(own.folder / "metrics.json", readable_json(metrics))  # last: it says that all the others are there
    return _outcome(own, metrics, is_new=True)


def finished(run: str, lake: str, resamples: int = 200) -> dict[str, Any] | None:
    """What :func:`evaluate` would return if it had nothing to do; None where it has."""
    own = find_run(lake, run)
    metrics = _read_metrics(own)
    is_done = metrics.get("evaluation") == _version(own, resamples) and own.report.is_file()
    return _outcome(own, metrics, is_new=False) if is_done else None


def _outcome(own: Run, metrics: Mapping[str, Any], *, is_new: bool) -> dict[str, Any]:
    return {
        "run": own.name,
        "release": own.about["identity"]["release"],
        "dataset": own.recipe.dataset,
        "report": str(own.report),
        "headline": headline(metrics),
        "is_leaky": is_leaky(own.recipe),
        "is_new": is_new,
    }


def _version(run: Run, resamples: int) -> dict[str, Any]:
    """What an evaluation depends on; the run's own digest stands for model and data."""
    return {
        "run_digest": run.about["digest"],
        "source": source_digest("tasks/learning/*.py", "tasks/learning/*.jinja", "tasks/quality/*.css"),
        "resamples": resamples,
        "controls": CONTROLS,
        **library_versions(SCORED_BY),
    }


def _read_metrics(run: Run) -> dict[str, Any]:
    try:
        return dict(read_json(run.folder / "metrics.json"))
    except (OSError, ValueError, TypeError) as error:
        raise DataRefused(f"{run.folder / 'metrics.json'} is damaged: {error}") from error


def _source(run: Run, lake: str) -> Release:
    identity = run.about["identity"]
    release = find_release(lake, run.recipe.dataset, identity["release"])
    if release.manifest_sha256 != identity["manifest_sha256"]:
        raise DataRefused(
            f"{run.recipe.dataset}@{release.name} is not what run {run.name} was trained from (its manifest has "
            f"changed): train again"
        )
    return release


def _evaluate(run: Run, source: Release, resamples: int) -> dict[str, Any]:
    """Predict and compare with chance; writes predictions.parquet on the way."""
    from tasks.learning import baseline, scores

    recipe, questions = run.recipe, run.recipe.questions()
    model = baseline.Model.from_json(json.loads(run.read("model.json")))
    samples = reading.samples_of(source, recipe.splits.named)
    features = table_of(samples, source, recipe.splits.named, recipe)
    true = truths.of(samples, recipe)
    answers = baseline.predict(model, features, questions)
    write_bytes(run.folder / "predictions.parquet", _predictions(samples, questions, true, answers))
    controls = [_control(recipe, samples, features, true, number) for number in range(CONTROLS)]
    found = scores.of_splits(recipe, model, samples, true, answers, resamples=resamples)
    splits = {
        split: scores.beside(scored, [] if split == recipe.splits.train else [control[split] for control in controls])
        for split, scored in found.items()
    }
    return {**scores.describe(recipe, model), "splits": splits}


def _control(
    recipe: Recipe, samples: pd.DataFrame, features: Table, true: Mapping[str, Values], number: int
) -> dict[str, Any]:
    """Scores of the same model fitted to shuffled labels, on shuffled labels: what chance, or a leak, gives."""
    from tasks.learning import baseline, scores

    dealt = truths.shuffled(true, samples["group_id"], recipe.seed + number)
    is_train = (samples["split"] == recipe.splits.train).to_numpy()
    model = baseline.fit(
        features[is_train],
        intensities.names(recipe.options),
        {name: values[is_train] for name, values in dealt.items()},
        recipe.questions(),
        recipe.options,
    )
    answers = baseline.predict(model, features, recipe.questions())
    return scores.of_splits(recipe, model, samples, dealt, answers, resamples=0)


def _predictions(
    samples: pd.DataFrame, questions: Sequence[Question], true: Mapping[str, Values], answers: Mapping[str, Values]
) -> bytes:
    """One row per sample; what is not known, and what could not be answered, is null."""
    columns: dict[str, Any] = {name: samples[name] for name in ("sample_id", "group_id", "split")}
    nothing = np.full(len(samples), np.nan)
    for question in questions:
        answer, truth = answers.get(question.name), true[question.name]
        if question.kind == "classes":
            columns |= _class_columns(question, truth, answer)
            continue
        word = "probability" if question.kind == "label" else "predicted"
        columns[f"truth.{question.name}"] = pd.Series(truth).astype("Int8") if question.kind == "label" else truth
        columns[f"{word}.{question.name}"] = nothing if answer is None else answer[:, 0]
    table = pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), buffer)
    return buffer.getvalue()


def _class_columns(question: Question, truth: Values, answer: Values | None) -> dict[str, Any]:
    """The true class and the likeliest by name, and the probability of each."""
    names = np.array([*question.of, None], dtype=object)
    chosen = np.full(len(truth), -1) if answer is None else answer.argmax(axis=1)
    columns: dict[str, Any] = {
        f"truth.{question.name}": names[np.where(np.isnan(truth), -1, truth).astype(int)],
        f"predicted.{question.name}": names[chosen],
    }
    for index, name in enumerate(question.of):
        column = np.full(len(truth), np.nan) if answer is None else answer[:, index]
        columns[f"probability.{question.name}.{name}"] = column
    return columns
