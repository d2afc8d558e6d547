"""Features of every sample of a recipe: measured on Dask where they are not known yet, then gathered into one table."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.chunks import distrusting
from tasks.code_version import library_versions
from tasks.files import make_folder, read_json, write_json
from tasks.lake import Lake
from tasks.learning.admission import Release
from tasks.learning.radiomics import texture
from tasks.learning.radiomics.feature_chunks import (
    Engine,
    FeatureChunk,
    cut,
    engines_of,
    in_pieces,
    measure_chunk,
    plan_chunks,
    read_chunk,
)
from tasks.learning.radiomics.units import NONE, unit_of, words_of
from tasks.learning.radiomics.variants import RADIOMICS_PREFIX, deep_prefix
from tasks.learning.recipe import Recipe, radiomics_of
from tasks.progress import Meter
from tasks.schema import DataRefused, UnusableInput
from tasks.storage import Location, is_remote, listed
from tasks.waves import run_waves

logger = logging.getLogger("scanmill.measure")

FOLDER = "features"
"""Of a dataset in the lake: the feature cache, as safe to delete as the chunks of conversion."""
DEEP_FEATURES = 2048
LOST = "worker-lost"
"""Reason of a sample that killed whoever measured it."""
PREPROCESSING = {
    "radimagenet": "blue, green and red are the grey level x, as (x − 127.5) · 2 / 255",
    "imagenet": "red, green and blue are the grey level x, as (x / 255 − mean) / sd with mean 0.485, 0.456, 0.406 and "
    "sd 0.229, 0.224, 0.225",
}


def measure(
    release: Release, recipe: Recipe, samples: pd.DataFrame, lake: str, *, address: str | None
) -> dict[str, Any]:
    """Measure what was not measured before; ``samples`` as :func:`tasks.learning.dealing.dealt` gives them.

    Returns ``samples chunks chunks_reused measurements reused lost``, and the same per engine under ``engines``; one
    measurement is one sample by one engine. ``address`` is that of a Dask scheduler; None measures in this process. A
    sample that kills its worker is noted as lost, and tried again the next time. Raises :class:`DataRefused` for a
    release without masks or with a damaged image; :class:`tasks.schema.ScanmillError` where PyRadiomics or a file of
    weights is missing.
    """
    texture.insist_on_pyradiomics()
    folder = _folder(lake, recipe)
    make_folder(folder)
    there = _there(folder)
    counts: dict[str, dict[str, int]] = {}
    todo: list[FeatureChunk] = []
    for engine, chunks in _planned(release, recipe, samples):
        undone = [piece for chunk in chunks for piece in in_pieces(chunk, there) if piece.file_name not in there]
        if undone and engine.arm:
            _insist_on_weights(engine)
        todo += undone
        counts[engine.name] = {
            "chunks": len(chunks),
            "chunks_reused": sum(chunk.file_name in there for chunk in chunks),
            "measurements": len(samples),
            "reused": len(samples) - _images(undone),
        }
    sums = {key: sum(own[key] for own in counts.values()) for key in next(iter(counts.values()))}
    found = (sums["reused"], sums["measurements"], sums["chunks_reused"], sums["chunks"])
    logger.info("measure: %d of %d measurements (%d of %d chunks) are there already, from an earlier run", *found)
    meter = Meter("measure", _images(todo), "measurements")
    lost = run_waves(
        measure_chunk,
        todo,
        address=address,
        tick=lambda chunk: meter.add(len(chunk.samples)),
        cut=cut,
        release=_place(release),
        manifest_sha256=release.manifest_sha256,
        folder=str(folder),
    )
    for chunk, why in lost:
        write_json(folder / chunk.lost_name, {"why": why})
    return {"samples": len(samples), **sums, "lost": _images(chunk for chunk, _ in lost), "engines": counts}


def gather(release: Release, recipe: Recipe, samples: pd.DataFrame, lake: str) -> pa.Table:
    """One row per sample, in their order: ``sample_id reason`` and a float64 column per feature, with its unit.

    What could not be measured by one engine has no feature at all, and a reason. Raises :class:`UnusableInput` where
    :func:`measure` has not come to its end.
    """
    folder = _folder(lake, recipe)
    there = _there(folder)
    ids = samples["sample_id"].astype(str)
    places = pd.Series(range(len(ids)), index=ids)
    reasons: list[dict[str, None]] = [{} for _ in range(len(ids))]
    parts: list[tuple[list[pa.Field], npt.NDArray[np.float64]]] = []
    for engine, chunks in _planned(release, recipe, samples):
        fields = _fields(engine)
        values = np.full((len(ids), len(fields)), np.nan)
        for chunk in (piece for whole in chunks for piece in in_pieces(whole, there)):
            own = [int(places[sample.sample_id]) for sample in chunk.samples]
            for place, (reason, found) in zip(own, _results(chunk, folder, there), strict=True):
                if found is None:
                    reasons[place][reason] = None
                else:
                    values[place] = found
        parts.append((fields, values))
    said = ["; ".join(found) for found in reasons]
    is_missing = np.array([bool(reason) for reason in said], np.bool_)
    columns = [pa.array(ids.tolist(), pa.string()), pa.array(said, pa.string())]
    columns += [pa.array(column, pa.float64(), mask=is_missing) for _, values in parts for column in values.T]
    about = json.dumps(_about(recipe), sort_keys=True, ensure_ascii=False)
    fields = [pa.field("sample_id", pa.string()), pa.field("reason", pa.string())]
    fields += [field for own, _ in parts for field in own]
    return pa.table(columns, schema=pa.schema(fields, metadata={"scanmill": about}))


def to_parquet(table: pa.Table) -> bytes:
    """The table as a file: the same bytes for the same table."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="ZSTD", use_dictionary=["reason"], write_statistics=False)
    return buffer.getvalue()


def _planned(release: Release, recipe: Recipe, samples: pd.DataFrame) -> list[tuple[Engine, list[FeatureChunk]]]:
    if "mask_sha256" not in samples:
        raise DataRefused(f"{recipe.dataset}@{release.name} has no masks: there is nothing to measure inside")
    engines = engines_of(radiomics_of(recipe), recipe.seed)
    return [(engine, plan_chunks(engine, samples)) for engine in engines]


def _folder(lake: str, recipe: Recipe) -> Location:
    return Lake(lake, recipe.dataset).home / FOLDER


def _place(release: Release) -> str:
    return f"s3://{release.folder.path}" if is_remote(release.folder) else str(release.folder)


def _there(folder: Location) -> set[str]:
    """Names of all files of the cache; a name that exists is a whole file."""
    return {file.name for file in listed(folder)}


def _images(chunks: Iterable[FeatureChunk]) -> int:
    return sum(len(chunk.samples) for chunk in chunks)


def _insist_on_weights(engine: Engine) -> None:
    """One clear error before anything is measured, instead of one from a worker; see :func:`deep.network_of`."""
    arm = engine.options.arms[str(engine.arm)]
    if arm.weights is not None:
        from tasks.learning.radiomics import deep

        deep.network_of(engine.name, arm, deep.seed_of(engine.name, engine.seed))


def _results(
    chunk: FeatureChunk, folder: Location, there: Collection[str]
) -> Sequence[tuple[str, npt.NDArray[np.float64] | None]]:
    """Reason and features of each sample of a chunk; one or the other."""
    if chunk.file_name not in there:
        if chunk.lost_name not in there:
            raise UnusableInput(f"{folder / chunk.file_name} is missing: measure again (run the same command again)")
        why = f"{LOST}: {read_json(folder / chunk.lost_name)['why']}"
        return [(why, None)] * len(chunk.samples)
    with distrusting(folder / chunk.file_name):
        table = read_chunk(chunk, folder)
        if table["sample_id"].to_pylist() != [sample.sample_id for sample in chunk.samples]:
            raise pa.ArrowInvalid("it has other samples")
    reasons, values = table["reason"].to_pylist(), table["values"]
    return [(reason, None if reason else values[row].values.to_numpy()) for row, reason in enumerate(reasons)]


def _fields(engine: Engine) -> list[pa.Field]:
    """The columns of an engine, each with its unit and what it is of."""
    if engine.arm is None:
        named = [
            (f"{RADIOMICS_PREFIX}{name}", unit_of(name), words_of(name))
            for name in texture.names(texture.settings_of(engine.options))
        ]
    else:
        of = f"pooled feature of a ResNet-50, arm {engine.arm}"
        named = [(f"{deep_prefix(engine.arm)}{number:04d}", NONE, of) for number in range(DEEP_FEATURES)]
    return [pa.field(name, pa.float64(), metadata={"unit": unit, "of": of}) for name, unit, of in named]


def _about(recipe: Recipe) -> dict[str, Any]:
    """What was asked of which engine."""
    options = radiomics_of(recipe)
    arms = {}
    for engine in engines_of(options, recipe.seed)[1:]:
        arm = options.arms[str(engine.arm)]
        weights = arm.weights and {"file": Path(arm.weights.path).name, **engine.settings["weights"]}
        kept = {key: engine.settings[key] for key in ("network", "input", "size", "margin")}
        arms[engine.name] = {**kept, "weights": weights, "preprocessing": PREPROCESSING[arm.input]}
    versions = library_versions(("pyradiomics",))
    return {
        "engine": f"pyradiomics {versions['pyradiomics']}",
        "settings": texture.settings_of(options).as_json(),
        "arms": arms,
    }
