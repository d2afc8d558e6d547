"""From a recipe and a published release to a run: model, metrics and what they were made of."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tasks.files import readable_json
from tasks.learning import intensities, reading, runs, truths
from tasks.learning.admission import Release, find_release, insist_on_whole
from tasks.learning.recipe import Recipe, load
from tasks.schema import DataRefused, ScanmillError

if TYPE_CHECKING:
    from tasks.learning.baseline import Model, Table


def train(recipe: str, lake: str, release: str | None = None, run: str | None = None) -> dict[str, Any]:
    """Train by a recipe from a release (the latest, where none is named); returns ``run release dataset is_new``.

    The same recipe, release and code find the finished run at once. Raises :class:`DataRefused` for a release that is
    not published, does not verify or failed a gate.
    """
    insist_on_packages()
    began = time.time()
    wanted = load(recipe)
    source = find_release(lake, wanted.dataset, release)
    about = runs.identity(wanted, source)
    name, found = runs.choose_name(lake, about, run)
    if found is None:
        insist_on_whole(lake, source)
        files = _fit(wanted, source)
        clock = {"began": round(began, 3), "seconds": round(time.time() - began, 1)}
        runs.publish(lake, name, files, about, clock)
    return outcome(name, source, wanted, is_new=found is None)


def finished(recipe: str, lake: str, release: str | None = None, run: str | None = None) -> dict[str, Any] | None:
    """What :func:`train` would return if it had nothing to do; None where it has."""
    wanted = load(recipe)
    source = find_release(lake, wanted.dataset, release)
    name, found = runs.choose_name(lake, runs.identity(wanted, source), run)
    return outcome(name, source, wanted, is_new=False) if found else None


def outcome(name: str, source: Release, recipe: Recipe, *, is_new: bool) -> dict[str, Any]:
    """What a training returns: names only, so that it can go through Prefect."""
    return {
        "run": name,
        "release": source.name,
        "dataset": recipe.dataset,
        "recipe": recipe.name,
        "is_new": is_new,
    }


def insist_on_packages() -> None:
    """Raise :class:`ScanmillError` where the packages of the extra ``learn`` are not installed."""
    if importlib.util.find_spec("sklearn") is None:
        raise ScanmillError("training and evaluation need scikit-learn: pip install 'scanmill[learn]'")


def table_of(samples: pd.DataFrame, release: Release, splits: Sequence[str], recipe: Recipe) -> Table:
    """Features of every sample, in the order of the samples."""
    described = intensities.describe_all(reading.images_of(release, splits), recipe.options)
    missing = set(samples["sample_id"]) - set(described)
    if missing:
        raise DataRefused(f"{release.folder}: {len(missing):,} samples of samples.parquet are in no shard")
    return np.stack([described[sample_id] for sample_id in samples["sample_id"]])


def _fit(recipe: Recipe, source: Release) -> dict[str, bytes]:
    """Files of a run, by path; images of the test split are not even opened."""
    from tasks.learning import baseline, scores

    splits = [name for name in (recipe.splits.train, recipe.splits.validation) if name]
    samples = reading.samples_of(source, splits)
    is_train = (samples["split"] == recipe.splits.train).to_numpy()
    if not is_train.any():
        raise DataRefused(f"{recipe.dataset}@{source.name} has no sample in split {recipe.splits.train}")
    features = table_of(samples, source, splits, recipe)
    true = truths.of(samples, recipe)
    questions = recipe.questions()
    model = baseline.fit(
        features[is_train],
        intensities.names(recipe.options),
        {name: values[is_train] for name, values in true.items()},
        questions,
        recipe.options,
    )
    insist_on_heads(model)
    answers = baseline.predict(model, features, questions)
    scored = scores.of_splits(recipe, model, samples, true, answers, resamples=0)
    return {
        "recipe.yaml": recipe.as_yaml(),
        "model.json": readable_json(model.as_json()),
        "metrics.json": readable_json({**scores.describe(recipe, model), "evaluation": None, "splits": scored}),
    }


def insist_on_heads(model: Model) -> None:
    """Raise :class:`DataRefused` where not one question could be fitted."""
    if all(head.reason for head in model.heads):
        said = "; ".join(f"{head.name}: {head.reason}" for head in model.heads)
        raise DataRefused(f"there is nothing to learn in the training split: {said}")
