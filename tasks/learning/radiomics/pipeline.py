"""From a release with masks to a run: features, a signature and classifiers for each set of them, scores and report.

Each node leaves files. What is measured waits in the lake's feature cache and what is fitted waits beside the runs,
each under a name made of all that it came from; a flow that was killed goes on from there.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.files import digest, read_frame, read_json, readable_json, write_bytes, write_json
from tasks.learning import evaluation, predictions, runs, truths
from tasks.learning.admission import Release, find_release, insist_on_whole
from tasks.learning.dealing import dealt
from tasks.learning.headline import leak_of
from tasks.learning.prediction_csv import to_csv
from tasks.learning.radiomics.variants import Variant, answer_columns, variants_of
from tasks.learning.recipe import Recipe, load, parse, radiomics_of
from tasks.learning.runs import Run, find_run, home
from tasks.learning.training import UNFINISHED, insist_on_packages, outcome
from tasks.learning.truths import Values
from tasks.progress import Meter
from tasks.schema import DataRefused, ScanmillError, UnusableInput
from tasks.storage import Location, location, read_bytes, remove_tree
from tasks.waves import run_waves

if TYPE_CHECKING:
    from tasks.learning.radiomics.fitting import Study


@dataclass(frozen=True)
class Piece:
    """One piece for a Dask worker: a variant fitted, or one of its controls."""

    variant: Variant
    control: int | None = None
    """Which of the times that labels are shuffled among patients."""

    @property
    def file_name(self) -> str:
        """Of what it leaves."""
        return (
            f"{self.variant.name}.json" if self.control is None else f"{self.variant.name}.control-{self.control}.json"
        )

    def __str__(self) -> str:
        return f"the {'fit' if self.control is None else 'control'} of {self.variant.name}"


def finished(
    recipe: str,
    lake: str,
    release: str | None = None,
    run: str | None = None,
    overrides: Sequence[str] = (),
    resamples: int = evaluation.RESAMPLES,
) -> dict[str, Any] | None:
    """What the flow would return if it had nothing to do; None where it has."""
    wanted = load(recipe, overrides)
    source = find_release(lake, wanted.dataset, release)
    _, found = runs.choose_name(lake, runs.identity(wanted, source), run)
    return evaluation.finished(found.name, lake, resamples) if found else None


def measure(
    recipe: str, lake: str, release: str, overrides: Sequence[str] = (), *, address: str | None = None
) -> dict[str, Any]:
    """Node: features of every sample of the recipe's sets, on Dask, into ``<lake>/<dataset>/features/``.

    Returns how many chunks there are and how many were there already, in all and by engine. ``address`` is that of a
    Dask scheduler; None measures in this process. Raises :class:`DataRefused` for a release that does not verify.
    """
    from tasks.learning.radiomics import feature_table

    wanted = load(recipe, overrides)
    insist_on_packages(wanted.kind)
    source = find_release(lake, wanted.dataset, release)
    insist_on_whole(lake, source)
    counts: dict[str, Any] = feature_table.measure(source, wanted, dealt(source, wanted), lake, address=address)
    return counts


def fit(
    recipe: str,
    lake: str,
    release: str,
    run: str | None = None,
    overrides: Sequence[str] = (),
    *,
    address: str | None = None,
    began: float | None = None,
) -> dict[str, Any]:
    """Node: a signature and classifiers per set of features, one Dask task each; publishes the run.

    Returns ``run release dataset recipe is_new``. ``began`` is when the flow began, for the run's clock. Raises
    :class:`DataRefused` where too few training patients of a class can be measured.
    """
    began = began or time.time()
    wanted = load(recipe, overrides)
    insist_on_packages(wanted.kind)
    source = find_release(lake, wanted.dataset, release)
    about = runs.identity(wanted, source)
    name, found = runs.choose_name(lake, about, run)
    if found is None:
        folder = home(lake) / f"{UNFINISHED}{digest(about)[:16]}"
        files = _fitted(wanted, source, lake, folder, address)
        runs.publish(lake, name, files, about, {"began": round(began, 3), "seconds": round(time.time() - began, 1)})
        remove_tree(folder)
    return outcome(name, source, wanted, is_new=found is None)


def score(run: str, lake: str, resamples: int = evaluation.RESAMPLES) -> None:
    """Node: every number of every model on every set, with its interval: ``radiomics.json``."""
    from tasks.learning.radiomics import statistics

    own = _radiomics_run(run, lake)
    insist_on_packages(own.recipe.kind)
    source = evaluation.source_of(own, lake)
    samples = dealt(source, own.recipe)
    found = statistics.of_models(
        models_of(own),
        samples,
        _truth(samples, own.recipe),
        model_of(own),
        own.recipe,
        resamples,
    )
    write_json(own.folder / "radiomics.json", {**found, "of": digest(evaluation.version_of(own, resamples))})


def report(run: str, lake: str, resamples: int = evaluation.RESAMPLES) -> dict[str, Any]:
    """Node: the page, the model card, and metrics.json, which says that all the others are there."""
    from tasks.learning import scores
    from tasks.learning.radiomics import report as page

    own = _radiomics_run(run, lake)
    version = evaluation.version_of(own, resamples)
    told = read_json(own.folder / "radiomics.json")
    if told["of"] != digest(version):
        raise DataRefused(
            f"{own.folder / 'radiomics.json'} was made by other code: evaluate the run from its beginning"
        )
    model = model_of(own)
    every = dealt(evaluation.source_of(own, lake), own.recipe)
    answered = _answered(own.recipe, every, models_of(own), model["primary"])
    splits = scores.of_splits(own.recipe, {}, *answered, resamples=resamples)
    controls = [{"value": value} for value in model["controls"]["shuffled"]]
    for split in splits:
        if split != own.recipe.splits.train:
            found = splits[split]["classes"][own.recipe.questions()[0].name]
            found["auroc"] = scores.beside(found["auroc"], controls)
    said = scores.describe(own.recipe, {}, (), leak_of(own.recipe))
    metrics = {**said, "resamples": resamples, "splits": splits, "evaluation": version}
    page.write(own, model, told, _about_features(own))
    write_bytes(own.folder / "metrics.json", readable_json(metrics))
    return evaluation.outcome_of(own, metrics, is_new=True)


def fit_piece(piece: Piece, *, folder: str) -> None:
    """Work of one Dask task: reads what :func:`fit` has laid out in ``folder``, leaves its own files there."""
    from tasks.learning.radiomics import fitting

    place = location(folder)
    recipe = parse(read_bytes(place / "recipe.yaml"), name="recipe", where=folder)
    rows, study = study_of(
        recipe, piece.variant, read_frame(place / "rows.parquet"), read_frame(place / "features.parquet")
    )
    if piece.control is not None:
        (auroc,) = fitting.shuffled_controls(study, [piece.control])
        write_json(place / piece.file_name, {"auroc": auroc})
        return
    mapping, said = fitting.fit_variant(study)
    said.insert(0, "sample_id", rows["sample_id"])
    write_bytes(place / f"{piece.variant.name}.parquet", _parquet(pa.Table.from_pandas(said, preserve_index=False)))
    write_json(place / piece.file_name, mapping)


def study_of(recipe: Recipe, variant: Variant, rows: pd.DataFrame, table: pd.DataFrame) -> tuple[pd.DataFrame, Study]:
    """Rows that could be measured, and what is to be fitted to them.

    ``rows`` are ``sample_id group_id split truth``, ``table`` is ``features.parquet``, in the same order.
    """
    from tasks.learning.radiomics.fitting import Study

    # A vertebra of unknown class teaches nothing; in the other sets it is answered like any other.
    is_told = (table["reason"] == "") & (rows["truth"].notna() | (rows["split"] != recipe.splits.train))
    rows, table = rows[is_told].reset_index(drop=True), table[is_told].reset_index(drop=True)
    names = variant.columns(list(table.columns))
    return rows, Study(
        variant=variant,
        names=names,
        values=table[names].to_numpy(np.float64),
        truth=rows["truth"].to_numpy(np.float64),
        groups=rows["group_id"],
        is_train=(rows["split"] == recipe.splits.train).to_numpy(),
        class_names=recipe.questions()[0].of,
        options=radiomics_of(recipe),
        seed=recipe.seed,
    )


def _fitted(recipe: Recipe, source: Release, lake: str, folder: Location, address: str | None) -> dict[str, bytes]:
    """Files of the run, by path."""
    from tasks.learning import scores
    from tasks.learning.radiomics import feature_table, fitting

    samples = dealt(source, recipe)
    features = feature_table.gather(source, recipe, samples, lake)
    rows = rows_of(samples, recipe)
    inputs = {
        "recipe.yaml": recipe.as_yaml(),
        "rows.parquet": _parquet(pa.Table.from_pandas(rows, preserve_index=False)),
        "features.parquet": feature_table.to_parquet(features),
    }
    for name, content in inputs.items():
        write_bytes(folder / name, content)
    variants = variants_of(radiomics_of(recipe))
    fitted = _done([Piece(variant) for variant in variants], folder, address)
    chosen = fitting.choose(fitted)
    primary = next(variant for variant in variants if variant.name == chosen["primary"]["variant"])
    controls = _done([Piece(primary, number) for number in range(fitting.CONTROLS)], folder, address)
    said = [read_frame(folder / f"{variant.name}.parquet").set_index("sample_id") for variant in variants]
    models = pd.concat(said, axis=1).reset_index()
    model = {
        "question": recipe.questions()[0].name,
        "classes": list(recipe.questions()[0].of),
        "variants": fitted,
        **chosen,
        "controls": {"shuffled": [own["auroc"] for own in controls]},
    }
    own, true, answers = _answered(recipe, samples, models, chosen["primary"])
    return {
        "recipe.yaml": inputs["recipe.yaml"],
        "features.parquet": inputs["features.parquet"],
        "model.json": readable_json(model),
        "models.parquet": _parquet(pa.Table.from_pandas(models, preserve_index=False)),
        "predictions.parquet": predictions.to_parquet(own, recipe, true, answers, {}),
        "predictions.csv": to_csv(own, recipe.questions(), answers),
        "metrics.json": readable_json({**scores.describe(recipe, {}, []), "evaluation": None, "splits": {}}),
    }


def _done(pieces: Sequence[Piece], folder: Location, address: str | None) -> list[dict[str, Any]]:
    """What the pieces left, in their order; those that are there already are not done again."""
    todo = [piece for piece in pieces if not (folder / piece.file_name).is_file()]
    meter = Meter("fit", len(todo), "signatures" if pieces[0].control is None else "controls")
    lost = run_waves(fit_piece, todo, address=address, tick=lambda piece: meter.add(1), folder=str(folder))
    if lost:
        raise UnusableInput("; ".join(f"{piece} {why}" for piece, why in lost) + ": give the workers more memory")
    return [read_json(folder / piece.file_name) for piece in pieces]


def rows_of(samples: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """What a fit has to know of samples: ``sample_id group_id split truth``."""
    return samples[["sample_id", "group_id", "split"]].assign(truth=_truth(samples, recipe))


def _truth(samples: pd.DataFrame, recipe: Recipe) -> Values:
    return truths.of(samples, recipe)[recipe.questions()[0].name]


def _answered(
    recipe: Recipe, samples: pd.DataFrame, models: pd.DataFrame, primary: Mapping[str, str]
) -> tuple[pd.DataFrame, dict[str, Values], dict[str, Values]]:
    """Samples, truths and what the primary model says; samples that could not be measured are not in it."""
    said = said_by(models, recipe, primary)
    is_told = samples["sample_id"].isin(said.index).to_numpy()
    own = samples[is_told].reset_index(drop=True)
    true = {name: values[is_told] for name, values in truths.of(samples, recipe).items()}
    return own, true, {recipe.questions()[0].name: said.loc[own["sample_id"]].to_numpy(np.float64)}


def said_by(models: pd.DataFrame, recipe: Recipe, primary: Mapping[str, str]) -> pd.DataFrame:
    """Probabilities of the primary model, by sample id."""
    columns = answer_columns(primary["variant"], primary["classifier"], recipe.questions()[0].of)
    return models.set_index("sample_id")[columns]


def _radiomics_run(run: str, lake: str) -> Run:
    own = find_run(lake, run)
    if own.recipe.kind != "radiomics":
        raise ScanmillError(f"run {own.name} is of kind {own.recipe.kind}, and not radiomics")
    return own


def model_of(run: Run) -> dict[str, Any]:
    """``model.json``. Raises :class:`DataRefused` where it was changed."""
    return dict(json.loads(run.read("model.json")))


def models_of(run: Run) -> pd.DataFrame:
    """``models.parquet``: ``sample_id``, and a column per variant, classifier and class. Raises as :func:`model_of`."""
    return pd.read_parquet(io.BytesIO(run.read("models.parquet")))


def _about_features(run: Run) -> Any:
    """What features.parquet says of its columns and of how they were measured."""
    return pq.read_schema(io.BytesIO(run.read("features.parquet")))


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()
