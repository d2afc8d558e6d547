"""Radiomics from the command line: a published release with masks to a run, its files, and what a second time costs."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from tasks.learning import recipe as recipes
from tasks.learning import scores
from tests.command import environment, said, scanmill, start
from tests.fakes import ovf_radiomics
from tests.pyradiomics_baselines import needs_pyradiomics

pytestmark = needs_pyradiomics

SMALL = [
    "radiomics.log_sigmas=[]",
    "radiomics.wavelet=null",
    "radiomics.size=32",
    "radiomics.folds=3",
    "radiomics.bootstraps=4",
    "radiomics.classifiers=[logistic-regression, gaussian-nb]",
]
SETTINGS = [part for setting in SMALL for part in ("--set", setting)]
DATASET = RECIPE = "ovf-radiomics"
NOWHERE = f"{{path: no.pt, sha256: {'a' * 64}, layout: torchvision}}"
VARIANTS = ["radiomics", "deep@radimagenet", "fused@radimagenet", "deep@imagenet", "fused@imagenet"]
FILES = {
    "README.md",
    "features.parquet",
    "metrics.json",
    "model.json",
    "models.parquet",
    "predictions.csv",
    "predictions.parquet",
    "radiomics.json",
    "recipe.yaml",
    "report/index.html",
    "run.json",
}


def answered(command: str, *arguments: object) -> dict[str, Any]:
    """What a command prints with ``--json``."""
    result = scanmill(command, *arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def prepared(raw: Path, lake: Path) -> str:
    """The release id."""
    return str(answered("prepare", "ovf-radiomics", "--raw", raw, "--lake", lake, "--workers", 0)["release"])


def trained(lake: Path, workers: int = 0) -> dict[str, Any]:
    return answered("train", "ovf-radiomics", "--lake", lake, *SETTINGS, "--workers", workers)


def table_of(path: Path) -> dict[str, dict[str, str]]:
    """Rows of a CSV of predictions, by sample id."""
    with path.open(newline="") as stream:
        return {row["sample_id"]: row for row in csv.DictReader(stream)}


def chunks_in(lake: Path) -> dict[str, int]:
    """Feature chunk to when it was written."""
    return {path.name: path.stat().st_mtime_ns for path in (lake / "ovf-radiomics" / "features").glob("*.parquet")}


@pytest.fixture(scope="module")
def mill(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, Any]]:
    """Raw folder, lake, and what training on two Dask workers answered."""
    folder = tmp_path_factory.mktemp("vertebrae")
    ovf_radiomics.write(folder / "raw", images=90, seed=3, defects=False)
    prepared(folder / "raw", folder / "lake")
    return folder / "raw", folder / "lake", trained(folder / "lake", workers=2)


def test_one_command_leaves_a_whole_run(mill: tuple[Path, Path, dict[str, Any]]) -> None:
    _, lake, outcome = mill
    home = lake / "runs" / outcome["run"]
    assert outcome["is_new"]
    assert {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()} == FILES
    assert {path.name for path in (lake / "runs").iterdir()} == {".lock", home.name}
    told, model = (json.loads((home / name).read_text()) for name in ("radiomics.json", "model.json"))
    assert [own["name"] for own in model["variants"]] == VARIANTS
    assert {own["name"] for own in told["sets"]} == {"train", "internal", "external", "prospective"}
    assert len(told["models"]) == len(VARIANTS) * 2
    assert (told["arms"]["first"], told["arms"]["second"]) == ("fused@radimagenet", "fused@imagenet")
    metrics = json.loads((home / "metrics.json").read_text())
    primary = told["primary"]["sets"]["external"]["macro_auroc"]
    assert metrics["splits"]["external"]["classes"]["fracture"]["auroc"]["value"] == pytest.approx(
        primary["value"], abs=1e-12
    )
    assert outcome["headline"]["split"] == "external"
    page = (home / "report" / "index.html").read_text()
    assert f"{primary['value']:.3f}" in page
    assert "weights: none" in page
    jsonschema.validate(metrics, json.loads((Path(scores.__file__).parent / "metrics.schema.json").read_bytes()))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--no-resume"], "there is nothing to begin anew"),
        (["--set", "radiomics.sise=32"], "unknown key 'radiomics.sise'; known: .*size"),
        (["--set", "radiomics.arms={}"], "radiomics.arms: .*at least 1"),
        (["--set", "radiomics.classifiers=[svm, svm]"], "one is named twice"),
        (["--set", "splits.validation=internal"], "chooses by cross-validation: no validation"),
        (["--set", f"radiomics.arms.imagenet.weights={NOWHERE}"], "no.pt"),
        (["--set", "radiomics.folds=20"], "too few patients for a cross-validation in 20 folds"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_clear_error(
    mill: tuple[Path, Path, dict[str, Any]], options: list[str], words: str
) -> None:
    _, lake, _ = mill
    result = scanmill("train", RECIPE, "--lake", lake, *SETTINGS, "--workers", 0, *options)
    assert result.exit_code in (1, 2), result.output
    assert re.search(words, said(result)), result.output


def test_only_radiomics_has_workers_and_only_masks_have_radiomics(tmp_path: Path) -> None:
    workers = scanmill("train", "nih-14-label", "--lake", tmp_path, "--workers", 1)
    assert "--workers and --dask are for recipes of kind radiomics" in said(workers)
    own = tmp_path / "own.yaml"
    own.write_text(recipes.shipped()[RECIPE].read_text().replace("dataset: ovf-radiomics", "dataset: behsof"))
    assert "measures inside masks, and behsof has none" in said(scanmill("train", own, "--lake", tmp_path))


def test_features_and_predictions_have_a_row_per_vertebra(mill: tuple[Path, Path, dict[str, Any]]) -> None:
    _, lake, outcome = mill
    home = lake / "runs" / outcome["run"]
    (manifest,) = (lake / "ovf-radiomics" / "releases").glob("*/manifest.json")
    written = sum(split["samples"] for split in json.loads(manifest.read_text())["splits"].values())
    features = pq.read_table(home / "features.parquet")
    assert features.num_rows == written
    table = features.to_pandas()
    is_measured = table["reason"] == ""
    said_of = pd.read_parquet(home / "models.parquet")
    assert set(said_of["sample_id"]) == set(table.loc[is_measured, "sample_id"])
    shares = said_of.drop(columns="sample_id").to_numpy().reshape(len(said_of), -1, 3)
    np.testing.assert_allclose(shares.sum(axis=2), 1.0, atol=1e-6)


def test_again_there_is_nothing_to_do(mill: tuple[Path, Path, dict[str, Any]]) -> None:
    _, lake, outcome = mill
    again = trained(lake)
    assert (again["run"], again["is_new"]) == (outcome["run"], False)
    assert f"nothing to do: {again['run']} is done" in scanmill("train", RECIPE, "--lake", lake, *SETTINGS).stdout


def test_killed_it_goes_on_and_in_process_it_ends_with_the_same_bytes(
    mill: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    _, lake, outcome = mill
    own = tmp_path / "lake"
    shutil.copytree(lake / DATASET / "releases", own / DATASET / "releases")
    shutil.copy(lake / DATASET / "latest.json", own / DATASET / "latest.json")
    command = ["train", RECIPE, "--lake", own, *SETTINGS, "--workers", 0]
    process = start(command, environment(tmp_path / "prefect"), tmp_path / "log")
    while not (kept := chunks_in(own)):
        assert process.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (own / "runs").exists()
    other = trained(own)
    assert {name: chunks_in(own)[name] for name in kept} == kept
    for name in sorted(FILES - {"run.json", "report/index.html"}):  # these two tell the time
        there, here = (place / "runs" / outcome["run"] / name for place in (lake, own))
        assert here.read_bytes() == there.read_bytes(), name
    assert other["run"] == outcome["run"]


def test_the_primary_model_answers_for_other_vertebrae_and_says_where_it_cannot(
    mill: tuple[Path, Path, dict[str, Any]], tmp_path: Path
) -> None:
    raw, lake, outcome = mill
    run = outcome["run"]
    answered("predict", run, "--lake", lake, "--split", "external", "--out", tmp_path / "known.csv")
    known = table_of(tmp_path / "known.csv")
    name, other = list(known)[:2]
    for kind, names in (("images", (name, other)), ("masks", (name,))):
        (tmp_path / "new" / kind).mkdir(parents=True)
        for one in names:
            shutil.copy(raw / kind / f"{one}.png", tmp_path / "new" / kind)
    said = answered("predict", run, "--lake", lake, "--images", tmp_path / "new", "--out", tmp_path / "new.csv")
    assert said["rows"] == 2
    new = table_of(tmp_path / "new.csv")
    assert new[name] == known[name]
    assert new[name]["reason"] == ""
    assert float(new[name]["probability.fracture.class_0"]) >= 0
    assert new[other]["probability.fracture.class_0"] == new[other]["predicted_label"] == ""
    assert new[other]["reason"] == f"image-without-mask: there is no {other}.png in masks/"


def test_evaluate_compare_and_promote_take_such_a_run(mill: tuple[Path, Path, dict[str, Any]]) -> None:
    _, lake, outcome = mill
    run = outcome["run"]
    before = (lake / "runs" / run / "metrics.json").read_bytes()
    assert not answered("evaluate", run, "--lake", lake, "--promote")["is_new"]
    assert (lake / "runs" / run / "metrics.json").read_bytes() == before
    assert json.loads((lake / "runs" / "latest" / "ovf-radiomics.json").read_text())["run"] == run
    assert answered("compare", run, run, "--lake", lake, "--resamples", 20)["macro"]["difference"] == 0


def test_one_changed_image_costs_one_chunk_of_each_kind(mill: tuple[Path, Path, dict[str, Any]]) -> None:
    raw, lake, outcome = mill
    features = pd.read_parquet(lake / "runs" / outcome["run"] / "features.parquet", columns=["sample_id", "reason"])
    before = chunks_in(lake)
    name = features.loc[features["reason"] == "", "sample_id"].iloc[0]
    image = raw / "images" / f"{name}.png"
    pixels = cv2.imread(str(image), cv2.IMREAD_GRAYSCALE)
    assert pixels is not None
    is_encoded, data = cv2.imencode(".png", np.clip(pixels.astype(int) + 7, 0, 255).astype(np.uint8))
    assert is_encoded
    image.write_bytes(data.tobytes())
    prepared(raw, lake)
    trained(lake)
    after = chunks_in(lake)
    assert {chunk: after[chunk] for chunk in before} == before
    assert len(set(after) - set(before)) == 3, "one of PyRadiomics and one of each arm"
