"""From a run to an honest account of it, in nodes that each leave a file: predictions, controls, explanations, export,
scores, and at last the report.

A node that has left its file, with the same code and of the same run, is not done again.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.code_version import library_versions, source_digest
from tasks.datasets import find
from tasks.files import digest, read_frame, read_json, readable_json, write_bytes, write_json
from tasks.learning import intensities, predictions, run_report, truths
from tasks.learning.admission import Release, find_release
from tasks.learning.dealing import dealt
from tasks.learning.headline import headline, leak_of
from tasks.learning.prediction_csv import to_csv
from tasks.learning.recipe import Options, Recipe
from tasks.learning.runs import Run, find_run
from tasks.learning.training import insist_on_packages, table_of
from tasks.learning.truths import Values
from tasks.schema import DataRefused
from tasks.storage import read_bytes, remove_tree

if TYPE_CHECKING:
    from tasks.learning.baseline import Table

CONTROLS = 5
"""How often the same model, or a light head on a network's features, is fitted to labels shuffled among groups."""
CONTROL_ROWS = 4000
"""Of every split, at most, that a light head is fitted to or scored on: whole groups, the first by their hash."""
ANNOTATED = 200
"""Images that are written with what was said of them, at most: of splits without labels, else of the held out one."""
RESAMPLES = 1000
SCORED_BY = ("numpy", "pandas", "pyarrow", "scikit-learn", "scipy")
NODES = "evaluation"
"""Folder of a run with what its nodes have left."""


def evaluate(run: str, lake: str, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Evaluate a finished run; returns ``run release dataset report headline is_leaky is_new``.

    Doing it again writes the same bytes; with the same code there is nothing to do. Raises :class:`DataRefused` where
    the release is not the one that the run was trained from any more.
    """
    there = finished(run, lake, resamples)
    if there is not None:
        return there
    for node in (predict, control_shuffled, control_intensity, explain, export):
        node(run, lake)
    score(run, lake, resamples)
    return report(run, lake, resamples)


def finished(run: str, lake: str, resamples: int = RESAMPLES) -> dict[str, Any] | None:
    """What :func:`evaluate` would return if it had nothing to do; None where it has."""
    own = find_run(lake, run)
    metrics = metrics_of(own)
    is_done = metrics.get("evaluation") == version_of(own, resamples) and own.report.is_file()
    return outcome_of(own, metrics, is_new=False) if is_done else None


def predict(run: str, lake: str) -> None:
    """Node: what the model says of every sample of the release, and the features that a control needs."""
    view = _View(run, lake)
    insist_on_packages(view.recipe.kind)
    if view.is_done("predictions"):
        return
    if view.recipe.kind == "network":
        from tasks.learning.network_run import say

        rows = control_rows(view.samples)
        said = say(view.run, view.release, view.samples, rows)
        answers = said.answers
        buffer = io.BytesIO()
        np.savez(buffer, rows=rows, features=said.features)
        write_bytes(view.place("features.npz"), buffer.getvalue())
    else:
        from tasks.learning import baseline

        answers = baseline.predict(view.baseline, view.intensities, view.questions)
    content = predictions.to_parquet(view.samples, view.recipe, view.truths, answers, view.calibrations(answers))
    write_bytes(view.run.folder / "predictions.parquet", content)
    judged = view.thresholds(answers)
    write_bytes(view.run.folder / "predictions.csv", to_csv(view.samples, view.questions, answers, thresholds=judged))
    view.done("predictions", {})


def control_shuffled(run: str, lake: str) -> None:
    """Node: the same model, or a light head on a network's features, fitted to labels shuffled among groups."""
    view = _View(run, lake)
    if not view.is_done("shuffled"):
        view.done("shuffled", {"scores": [_shuffled(view, number) for number in range(CONTROLS)]})


def control_intensity(run: str, lake: str) -> None:
    """Node: grey levels alone on the same questions and splits, beside a network."""
    view = _View(run, lake)
    if view.recipe.kind != "network" or view.is_done("intensity"):
        return
    from tasks.learning import baseline

    is_train = (view.samples["split"] == view.recipe.splits.train).to_numpy()
    options = Options(class_weight=view.recipe.training.class_weight if view.recipe.training else None)
    model = baseline.fit(
        view.intensities[is_train],
        intensities.names(options),
        {name: values[is_train] for name, values in view.truths.items()},
        view.questions,
        options,
    )
    answers = baseline.predict(model, view.intensities, view.questions)
    view.done("intensity", {"scores": view.scored_briefly(answers, view.truths, model.not_fitted)})


def explain(run: str, lake: str) -> None:
    """Node: where a network looks, what it gets wrong, and images with what was said of them."""
    view = _View(run, lake)
    if view.recipe.kind != "network" or view.is_done("explanations"):
        return
    from tasks.learning import explanations
    from tasks.learning.annotated import write_annotated
    from tasks.learning.network_run import images_by_row, load_scorer

    is_shown = not find(view.recipe.dataset).is_restricted
    answers, read = view.answers, images_by_row(view.run, view.release, view.samples)
    split = view.recipe.splits.held_out or view.recipe.splits.train
    network = load_scorer(view.run).network
    found = explanations.explain(
        network,
        read,
        view.samples,
        view.truths,
        answers,
        view.recipe,
        split,
        names_samples=is_shown,
        thresholds=view.thresholds(answers),
    )
    write_json(view.run.folder / "explanations" / "explanations.json", found)
    if is_shown:
        rows = _annotated_rows(view, split)
        write_annotated(
            view.run.folder / "annotated",
            rows,
            read,
            view.samples,
            view.truths,
            answers,
            view.questions,
            names_samples=True,
        )
    view.done("explanations", {})


def export(run: str, lake: str) -> None:
    """Node: the network as ONNX, held to torch, and a script that needs no scanmill."""
    view = _View(run, lake)
    if view.recipe.kind != "network" or view.is_done("export"):
        return
    from tasks.learning import export as exporting
    from tasks.learning.network_run import images_by_row, load_scorer

    scorer = load_scorer(view.run)
    read = images_by_row(view.run, view.release, view.samples)
    is_shown = not find(view.recipe.dataset).is_restricted
    exporting.write(
        scorer,
        view.run.folder / "export",
        columns=scorer.answer_columns,
        questions=view.questions,
        size=scorer.network.size,
        inputs=scorer.network.inputs,
        example=read([_annotated_rows(view, view.recipe.splits.train)[0]])[0, 0] if is_shown else None,
        about={"run": view.run.name, "dataset": view.recipe.dataset, "release": view.release.name},
    )
    view.done("export", {})


def score(run: str, lake: str, resamples: int = RESAMPLES) -> None:
    """Node: every number, with its interval, and beside it what chance and grey levels give."""
    from tasks.learning import scores

    view = _View(run, lake)
    recipe, dataset = view.recipe, find(view.recipe.dataset)
    not_fitted, not_converged = view.unfitted
    found = scores.of_splits(
        recipe,
        not_fitted,
        view.samples,
        view.truths,
        view.answers,
        resamples=resamples,
        calibrated_on=recipe.splits.validation,
        unit=recipe.evaluation.unit,
        subgroup_columns={"site": f"meta.{dataset.site}"} if dataset.site else None,
        is_one_per_group_shown=recipe.evaluation.is_one_per_group_shown,
    )
    shuffled = view.left("shuffled")["scores"]
    grey = view.left("intensity")["scores"] if recipe.kind == "network" else None
    splits = {}
    for split, own in found.items():
        is_train = split == recipe.splits.train
        scored = scores.beside(own, [] if is_train else [control.get(split, {}) for control in shuffled])
        splits[split] = scores.beside_baseline(scored, grey.get(split)) if grey and not is_train else scored
    said = scores.describe(recipe, not_fitted, not_converged, leak_of(recipe))
    view.done("scores", {"metrics": {**said, "resamples": resamples, "splits": splits}})


def report(run: str, lake: str, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Node: the page, the model card, and metrics.json, which says that all the others are there."""
    view = _View(run, lake)
    metrics = {**view.left("scores")["metrics"], "evaluation": version_of(view.run, resamples)}
    run_report.write(view.run, metrics)
    kept = _without_pairs(metrics) if find(view.recipe.dataset).is_restricted else metrics
    write_bytes(view.run.folder / "metrics.json", readable_json(kept))
    remove_tree(view.run.folder / NODES)
    return outcome_of(view.run, metrics, is_new=True)


def _without_pairs(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The same without pairs of truth and answer: each is one patient's. The page draws means of them."""
    splits = {
        name: {**own, "targets": {target: {**found, "scatter": []} for target, found in own["targets"].items()}}
        for name, own in metrics["splits"].items()
    }
    return {**metrics, "splits": splits}


def control_rows(samples: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Rows for a light head: of every split whole groups, in the order of their hashes, while they are few enough."""
    chosen: list[int] = []
    for _, part in samples.groupby("split", sort=True):
        ranked = sorted(part["group_id"].unique(), key=lambda group: digest(str(group)))
        place = part["group_id"].map({group: number for number, group in enumerate(ranked)})
        chosen += part.index[np.argsort(place.to_numpy(), kind="stable")][:CONTROL_ROWS].tolist()
    return np.array(sorted(chosen), dtype=np.int64)


@dataclass(frozen=True)
class _View:
    """A run and its release, as the nodes see them; what is costly is read when it is asked for."""

    name: str
    lake: str

    @cached_property
    def run(self) -> Run:
        return find_run(self.lake, self.name)

    @property
    def recipe(self) -> Recipe:
        return self.run.recipe

    @cached_property
    def questions(self) -> Any:
        return self.recipe.questions()

    @cached_property
    def release(self) -> Release:
        return source_of(self.run, self.lake)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Of all splits; those that the recipe does not name have no truths."""
        return dealt(self.release, self.recipe, with_others=True)

    @cached_property
    def truths(self) -> dict[str, Values]:
        is_named = self.samples["split"].isin(self.recipe.splits.named).to_numpy()
        found = {}
        for name, values in truths.of(self.samples[is_named].reset_index(drop=True), self.recipe).items():
            found[name] = np.full(len(self.samples), np.nan)
            found[name][is_named] = values
        return found

    @cached_property
    def answers(self) -> dict[str, Values]:
        """From ``predictions.parquet``."""
        return predictions.answers_in(read_frame(self.run.folder / "predictions.parquet"), self.recipe)

    @cached_property
    def baseline(self) -> Any:
        from tasks.learning import baseline

        return baseline.Model.from_json(json.loads(self.run.read("model.json")))

    @cached_property
    def unfitted(self) -> tuple[dict[str, str], list[str]]:
        """Questions without an answer and why; those whose fit did not come to its end."""
        if self.recipe.kind == "network":
            return {}, []
        return self.baseline.not_fitted, self.baseline.not_converged

    @cached_property
    def intensities(self) -> Table:
        """Grey levels of every sample."""
        return table_of(self.samples, self.release, [*self.release.manifest["splits"]], self.recipe)

    def calibrations(self, answers: Mapping[str, Values]) -> dict[str, Values]:
        from tasks.learning import scores
        from tasks.learning.scoring.calibration import apply_all

        recipe = self.recipe
        found = scores.calibrations(
            recipe,
            self.samples,
            self.truths,
            answers,
            calibrated_on=recipe.splits.validation,
            unit=recipe.evaluation.unit,
        )
        return dict(apply_all(found, answers))

    def thresholds(self, answers: Mapping[str, Values]) -> dict[str, float]:
        """Label to the probability from which on it counts as present: Youden's, chosen on validation."""
        from tasks.learning import scores

        return scores.thresholds(
            self.recipe,
            self.samples,
            self.truths,
            answers,
            chosen_on=self.recipe.splits.validation,
            unit=self.recipe.evaluation.unit,
        )

    def scored_briefly(
        self, answers: Mapping[str, Values], true: Mapping[str, Values], not_fitted: Mapping[str, str], rows: Any = None
    ) -> dict[str, Any]:
        """Values alone, of some rows of the samples or of all."""
        from tasks.learning import scores

        samples = self.samples if rows is None else self.samples.iloc[rows].reset_index(drop=True)
        return scores.of_splits(
            self.recipe,
            not_fitted,
            samples,
            true,
            answers,
            resamples=0,
            unit=self.recipe.evaluation.unit,
            is_brief=True,
        )

    def place(self, name: str) -> Any:
        return self.run.folder / NODES / name

    def is_done(self, node: str) -> bool:
        """Whether a node has left its file: of this run, with this code."""
        try:
            return bool(read_json(self.place(f"{node}.json"))["of"] == self._of)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def done(self, node: str, content: Mapping[str, Any]) -> None:
        write_json(self.place(f"{node}.json"), {**content, "of": self._of})

    def left(self, node: str) -> dict[str, Any]:
        """What a node has left. Raises :class:`DataRefused` where it has not."""
        if not self.is_done(node):
            raise DataRefused(f"{self.place(f'{node}.json')} is missing: evaluate the run from its beginning")
        return dict(read_json(self.place(f"{node}.json")))

    @cached_property
    def _of(self) -> str:
        return digest(version_of(self.run, 0))


def _shuffled(view: _View, number: int) -> dict[str, Any]:
    """Scores of a model fitted to shuffled labels, on shuffled labels: what chance, or a leak, gives."""
    from tasks.learning import baseline

    recipe = view.recipe
    features, names, options, rows = _features(view)
    samples = view.samples.iloc[rows].reset_index(drop=True)
    is_named = samples["split"].isin(recipe.splits.named).to_numpy()
    true = {name: values[rows][is_named] for name, values in view.truths.items()}
    named = samples[is_named].reset_index(drop=True)
    given = truths.shuffled(true, named["group_id"], recipe.seed + number)
    is_train = (named["split"] == recipe.splits.train).to_numpy()
    own = features[is_named]
    model = baseline.fit(
        own[is_train], names, {name: values[is_train] for name, values in given.items()}, view.questions, options
    )
    answers = baseline.predict(model, own, view.questions)
    return view.scored_briefly(answers, given, model.not_fitted, rows[is_named])


def _features(view: _View) -> tuple[Table, list[str], Options, npt.NDArray[np.int64]]:
    """Of a baseline its grey levels; of a network what its last layer sees, in few directions."""
    if view.recipe.kind != "network":
        every = np.arange(len(view.samples), dtype=np.int64)
        return view.intensities, intensities.names(view.recipe.options), view.recipe.options, every
    from tasks.learning.light_head import directions

    with np.load(io.BytesIO(read_bytes(view.place("features.npz")))) as kept:
        rows, features = kept["rows"], kept["features"].astype(np.float32)
    is_train = view.samples["split"].to_numpy()[rows] == view.recipe.splits.train
    reduced = directions(features, is_train)
    return reduced, [f"direction_{place:02d}" for place in range(reduced.shape[1])], Options(), rows


def _annotated_rows(view: _View, split: str) -> list[int]:
    """Spread evenly over the split without labels, where there is one, else over the one that is held out."""
    others = [name for name in view.release.manifest["splits"] if name not in view.recipe.splits.named]
    wanted = others[0] if others else split
    rows = np.flatnonzero(view.samples["split"] == wanted)
    every = max(1, -(-len(rows) // ANNOTATED))
    return [int(row) for row in rows[::every]]


def outcome_of(run: Run, metrics: Mapping[str, Any], *, is_new: bool) -> dict[str, Any]:
    """What an evaluation returns: names and the one number that stands for the run."""
    return {
        "run": run.name,
        "release": run.about["identity"]["release"],
        "dataset": run.recipe.dataset,
        "report": str(run.report),
        "headline": headline(metrics),
        "is_leaky": leak_of(run.recipe) == "certain",
        "is_new": is_new,
    }


def version_of(run: Run, resamples: int) -> dict[str, Any]:
    """What an evaluation depends on; the run's own digest stands for model and data."""
    sources = ("tasks/learning/**/*.py", "tasks/learning/**/*.jinja", "tasks/learning/**/*.css")
    look = ("tasks/quality/plots.py", "tasks/quality/figures.py", "tasks/quality/*.css", "tasks/quality/*.jinja")
    return {
        "run_digest": run.about["digest"],
        "source": source_digest("scanmill/*.py", *sources, *look),
        "resamples": resamples,
        "controls": CONTROLS,
        **library_versions(SCORED_BY),
    }


def metrics_of(run: Run) -> dict[str, Any]:
    """``metrics.json``. Raises :class:`DataRefused` where it is damaged."""
    try:
        return dict(read_json(run.folder / "metrics.json"))
    except (OSError, ValueError, TypeError) as error:
        raise DataRefused(f"{run.folder / 'metrics.json'} is damaged: {error}") from error


def source_of(run: Run, lake: str) -> Release:
    """The release that a run was trained from. Raises :class:`DataRefused` where it is another one by now."""
    identity = run.about["identity"]
    release = find_release(lake, run.recipe.dataset, identity["release"])
    if release.manifest_sha256 != identity["manifest_sha256"]:
        raise DataRefused(
            f"{run.recipe.dataset}@{release.name} is not what run {run.name} was trained from (its manifest has "
            f"changed): train again"
        )
    return release
