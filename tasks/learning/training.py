"""From a recipe and a published release to a run: model, metrics and what they were made of."""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tasks.files import digest, readable_json
from tasks.learning import intensities, reading, runs, truths
from tasks.learning.admission import Release, find_release, insist_on_whole
from tasks.learning.dealing import dealt
from tasks.learning.recipe import Recipe, load
from tasks.locks import lock
from tasks.schema import DataRefused, ScanmillError, UnusableInput
from tasks.storage import Location, remove_tree

if TYPE_CHECKING:
    from tasks.learning.baseline import Model, Table
    from tasks.learning.network_training import Job

NEEDED = {
    "intensity-baseline": ("sklearn",),
    "network": ("sklearn", "torch", "monai", "lightning", "safetensors", "onnx", "onnxruntime"),
    "radiomics": ("sklearn", "torch", "monai", "safetensors", "radiomics"),
}
PUBLISHED_AS = {"sklearn": "scikit-learn", "radiomics": "pyradiomics"}
UNFINISHED = ".training-"
"""Of folders in ``runs/`` that hold checkpoints of a training that has not come to its end."""


def train(
    recipe: str,
    lake: str,
    release: str | None = None,
    run: str | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Train by a recipe from a release (the latest, where none is named); returns ``run release dataset is_new``.

    The same recipe, release and code find the finished run at once, and go on with one that was killed. Raises
    :class:`DataRefused` for a release that is not published, does not verify or failed a gate.
    """
    began = time.time()
    wanted = load(recipe, overrides)
    if wanted.kind == "radiomics":
        raise ScanmillError(f"{wanted.name} is a recipe for radiomics: run the flow `radiomics`, not `train`")
    insist_on_packages(wanted.kind)
    source = find_release(lake, wanted.dataset, release)
    about = runs.identity(wanted, source)
    name, found = runs.choose_name(lake, about, run)
    if found is None:
        insist_on_whole(lake, source)
        if wanted.kind == "network":
            _publish_network(wanted, source, lake, name, about, began)
        else:
            runs.publish(lake, name, _fit(wanted, source), about, _clock(began))
    else:
        _forget_killed(_unfinished(lake, about))
    return outcome(name, source, wanted, is_new=found is None)


def finished(
    recipe: str,
    lake: str,
    release: str | None = None,
    run: str | None = None,
    overrides: Sequence[str] = (),
) -> dict[str, Any] | None:
    """What :func:`train` would return if it had nothing to do; None where it has."""
    wanted = load(recipe, overrides)
    source = find_release(lake, wanted.dataset, release)
    about = runs.identity(wanted, source)
    name, found = runs.choose_name(lake, about, run)
    if found is None:
        return None
    _forget_killed(_unfinished(lake, about))
    return outcome(name, source, wanted, is_new=False)


def _forget_killed(folder: Location) -> None:
    """Remove the checkpoints of a training that was killed between its publication and its end; nobody's, that is."""
    if folder.is_dir():
        with contextlib.suppress(UnusableInput), lock(folder / ".lock", purpose="this training"):
            remove_tree(folder)


def forget_unfinished(recipe: str, lake: str, release: str | None = None, overrides: Sequence[str] = ()) -> None:
    """Remove the checkpoints of a training that has not come to its end, so that it begins anew.

    Raises :class:`UnusableInput` where a process is at it.
    """
    from tasks.learning import network_training

    wanted = load(recipe, overrides)
    if wanted.kind == "radiomics":
        raise ScanmillError(f"{wanted.name}: what radiomics has finished is found by its digest, and never begun anew")
    if wanted.kind == "network":
        source = find_release(lake, wanted.dataset, release)
        network_training.begin_anew(_job(wanted, source, lake, runs.identity(wanted, source)))


def outcome(name: str, source: Release, recipe: Recipe, *, is_new: bool) -> dict[str, Any]:
    """What a training returns: names only, so that it can go through Prefect."""
    return {
        "run": name,
        "release": source.name,
        "dataset": recipe.dataset,
        "recipe": recipe.name,
        "is_new": is_new,
    }


def insist_on_packages(kind: str) -> None:
    """Raise :class:`ScanmillError` where packages of the extra ``learn``, or PyRadiomics, are missing."""
    missing = [name for name in NEEDED[kind] if importlib.util.find_spec(name) is None]
    if missing == ["radiomics"]:
        from tasks.learning.radiomics.texture import insist_on_pyradiomics

        insist_on_pyradiomics()
    if missing:
        named = ", ".join(PUBLISHED_AS.get(name, name) for name in missing)
        raise ScanmillError(f"training and evaluation need {named}: pip install 'scanmill[learn]'")


def _clock(began: float) -> dict[str, float]:
    return {"began": round(began, 3), "seconds": round(time.time() - began, 1)}


def _publish_network(
    recipe: Recipe, source: Release, lake: str, name: str, about: dict[str, Any], began: float
) -> None:
    """Fit, or go on fitting; what was unfinished is forgotten once the run is there."""
    from tasks.learning import network_training

    job = _job(recipe, source, lake, about)
    files = {**network_training.fit(job), "metrics.json": readable_json(_unscored(recipe))}
    runs.publish(lake, name, files, about, _clock(began))
    network_training.forget(job)


def _job(recipe: Recipe, source: Release, lake: str, about: Mapping[str, Any]) -> Job:
    from tasks.learning.network_training import Job

    return Job(recipe, lake, source, _unfinished(lake, about))


def _unfinished(lake: str, about: Mapping[str, Any]) -> Location:
    return runs.home(lake) / f"{UNFINISHED}{digest(dict(about))[:16]}"


def _unscored(recipe: Recipe) -> dict[str, Any]:
    """What metrics.json says until the run is evaluated."""
    from tasks.learning import scores

    return {**scores.describe(recipe, {}, []), "evaluation": None, "splits": {}}


def table_of(samples: pd.DataFrame, release: Release, splits: Sequence[str], recipe: Recipe) -> Table:
    """Features of every sample, in the order of the samples."""
    described = intensities.describe_all(reading.images_of(release, splits), recipe.options)
    missing = set(samples["sample_id"]) - set(described)
    if missing:
        raise DataRefused(f"{release.folder}: {len(missing):,} samples of samples.parquet are in no shard")
    return np.stack([described[sample_id] for sample_id in samples["sample_id"]])


def _fit(recipe: Recipe, source: Release) -> dict[str, bytes]:
    """Files of a baseline's run, by path; images of the test split are not even opened."""
    from tasks.learning import baseline, scores

    splits = [name for name in (recipe.splits.train, recipe.splits.validation) if name]
    every = dealt(source, recipe)
    is_seen = every["split"].isin(splits).to_numpy()
    samples = every[is_seen].reset_index(drop=True)
    is_train = (samples["split"] == recipe.splits.train).to_numpy()
    if not is_train.any():
        raise DataRefused(f"{recipe.dataset}@{source.name} has no sample in split {recipe.splits.train}")
    features = table_of(samples, source, splits, recipe)
    true = {name: values[is_seen] for name, values in truths.of(every, recipe).items()}
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
    scored = scores.of_splits(recipe, model.not_fitted, samples, true, answers, resamples=0)
    said = scores.describe(recipe, model.not_fitted, model.not_converged)
    return {
        "recipe.yaml": recipe.as_yaml(),
        "model.json": readable_json(model.as_json()),
        "metrics.json": readable_json({**said, "evaluation": None, "splits": scored}),
    }


def insist_on_heads(model: Model) -> None:
    """Raise :class:`DataRefused` where not one question could be fitted."""
    if all(head.reason for head in model.heads):
        said = "; ".join(f"{head.name}: {head.reason}" for head in model.heads)
        raise DataRefused(f"there is nothing to learn in the training split: {said}")
