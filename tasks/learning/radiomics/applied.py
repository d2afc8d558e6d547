"""The primary model of a run on other vertebrae: images and masks of a folder, measured and answered, as CSV."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scanmill.images import decode
from tasks.decoding import ImageRefused
from tasks.files import read_frame
from tasks.learning import evaluation
from tasks.learning.admission import find_release
from tasks.learning.dealing import dealt
from tasks.learning.prediction_csv import to_csv
from tasks.learning.radiomics.feature_chunks import Engine, engines_of, measure_of
from tasks.learning.radiomics.fitting import finished_model
from tasks.learning.radiomics.pipeline import model_of, models_of, rows_of, said_by, study_of
from tasks.learning.radiomics.regions import Image, Inside
from tasks.learning.radiomics.texture import Unmeasurable
from tasks.learning.radiomics.variants import Variant, variants_of
from tasks.learning.recipe import radiomics_of
from tasks.learning.runs import Run
from tasks.masks import convert_mask, decode_mask
from tasks.progress import Meter
from tasks.schema import DataRefused, ScanmillError, UnusableInput

SAME = 1e-9
"""How near a model that is fitted again has to come to what the run says of vertebrae that it did not learn from."""
SUFFIXES = (".png", ".jpg", ".jpeg")

Measure = Callable[[Image, Inside], list[float]]


def of_split(run: Run, lake: str, split: str | None = None) -> tuple[bytes, int]:
    """CSV and number of rows of a set of the release, or of all: what the run has said already.

    A vertebra that could not be measured has no answer, and a reason. Raises :class:`ScanmillError` for a set that the
    recipe does not name.
    """
    named = run.recipe.splits.named
    if split is not None and split not in named:
        raise ScanmillError(f"run {run.name} has no set '{split}'; it has {', '.join(named)}")
    release = find_release(lake, run.recipe.dataset, run.about["identity"]["release"])
    samples = dealt(release, run.recipe)
    samples = samples[samples["split"].isin([split] if split else named)].reset_index(drop=True)
    question = run.recipe.questions()[0]
    answers = (
        said_by(models_of(run), run.recipe, model_of(run)["primary"]).reindex(samples["sample_id"]).to_numpy(np.float64)
    )
    reasons = read_frame(run.folder / "features.parquet", ["sample_id", "reason"]).set_index("sample_id")["reason"]
    said = reasons.reindex(samples["sample_id"]).to_list()
    return to_csv(samples, run.recipe.questions(), {question.name: answers}, reasons=said), len(samples)


def of_folder(run: Run, lake: str, folder: Path) -> tuple[bytes, int]:
    """The same of ``folder/images`` and ``folder/masks``, a PNG mask for each image, by name.

    A vertebra whose mask is missing or cannot be used has no answer, and a reason. Raises :class:`UnusableInput` where
    there is no image, and :class:`DataRefused` where this machine does not fit the model that the run has.
    """
    paths = sorted(path for path in (folder / "images").glob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UnusableInput(f"{folder / 'images'} has no PNG or JPEG file; {folder / 'masks'} has a PNG mask for each")
    model = model_of(run)
    variant = next(v for v in variants_of(radiomics_of(run.recipe)) if v.name == model["primary"]["variant"])
    answer = _model(run, lake, model, variant)
    engines = [measure_of(engine) for engine in _engines(run, variant)]
    question = run.recipe.questions()[0]
    answers, reasons = np.full((len(paths), len(question.of)), np.nan), []
    meter = Meter("predict", len(paths), "vertebrae")
    for number, path in enumerate(meter.each(paths)):
        try:
            answers[number] = answer(_measured(path, folder / "masks" / f"{path.stem}.png", engines))[0]
            reasons.append("")
        except (Unmeasurable, ImageRefused) as error:
            reasons.append(": ".join(str(part) for part in error.args))
    samples = pd.DataFrame({"sample_id": [path.stem for path in paths]})
    names = [path.name for path in paths]
    content = to_csv(samples, run.recipe.questions(), {question.name: answers}, names, reasons=reasons)
    return content, len(paths)


def _measured(image: Path, mask: Path, engines: list[Measure]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """(1, features) of one vertebra."""
    pixels = decode(image.read_bytes())
    if pixels is None:
        raise Unmeasurable("image-undecodable: it is no PNG or JPEG that can be read")
    if not mask.is_file():
        raise Unmeasurable(f"image-without-mask: there is no {mask.name} in masks/")
    size = (pixels.shape[1], pixels.shape[0])
    inside = decode_mask(convert_mask(mask.read_bytes(), size, size).encoded) > 0  # held to what a release is held to
    return np.array([[value for measure in engines for value in measure(pixels, inside)]])


def _engines(run: Run, variant: Variant) -> list[Engine]:
    """Those whose features the variant reads, in the order of its columns."""
    every = engines_of(radiomics_of(run.recipe), run.recipe.seed)
    return [e for e in every if (e.arm is None and variant.source != "deep") or (e.arm and e.arm == variant.arm)]


def _model(run: Run, lake: str, model: Mapping[str, Any], variant: Variant) -> Callable[[Any], Any]:
    """The primary model, fitted again, and held to what the run says of vertebrae that it did not learn from."""
    primary = model["primary"]
    told = next(own for own in model["variants"] if own["name"] == variant.name)
    parameters = next(own["parameters"] for own in told["classifiers"] if own["name"] == primary["classifier"])
    samples = dealt(evaluation.source_of(run, lake), run.recipe)
    table = pd.read_parquet(io.BytesIO(run.read("features.parquet")))
    rows, study = study_of(run.recipe, variant, rows_of(samples, run.recipe), table)
    answer = finished_model(study, primary["classifier"], parameters)
    is_other = ~study.is_train
    before = said_by(models_of(run), run.recipe, primary).loc[rows.loc[is_other, "sample_id"]].to_numpy(np.float64)
    if is_other.any() and not np.allclose(answer(study.values[is_other]), before, rtol=0, atol=SAME):
        raise DataRefused(
            f"run {run.name} was fitted by other code or libraries than are here, which answer otherwise: train again"
        )
    return answer
