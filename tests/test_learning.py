"""Training and evaluation: the gate before them, what they leave in the lake, and whether their numbers hold."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from prefect.client.orchestration import get_client
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from typer.testing import Result

from tasks.datasets import catalogue
from tasks.learning import recipe as recipes
from tasks.learning import truths
from tasks.learning.admission import find_release
from tasks.learning.evaluation import evaluate
from tasks.learning.headline import Leak, words
from tasks.learning.reading import images_of, samples_of
from tasks.learning.training import train
from tasks.schema import DataRefused, ScanmillError, UnusableInput
from tests.command import said, scanmill
from tests.release_files import files_of

DENSITY = "mammography-intensity-baseline"
FINDINGS = """
dataset: nih-chest-xray
kind: intensity-baseline
labels: [Effusion, Infiltration, Hernia]
unions: {fluid: [Edema, Effusion]}
splits: {train: train, validation: validation, test: test}
options: {thumbnail: 8}
"""
RESAMPLES = 20
PATIENCE_SECONDS = 20


def lake_of(source: Path, dataset: str, folder: Path) -> Path:
    """A lake of one's own with the release of another."""
    for part in ("releases", "latest.json"):
        here, there = source / dataset / part, folder / dataset / part
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(here, there) if here.is_dir() else shutil.copy(here, there)
    return folder


def asked(path: str, wanted: dict[str, Any]) -> Any:
    """What Prefect's server answers."""
    with get_client(sync_client=True) as client:
        return client.request("POST", path, json=wanted).json()  # type: ignore[arg-type]


def metrics_of(lake: Path, run: str) -> dict[str, Any]:
    return dict(json.loads((lake / "runs" / run / "metrics.json").read_text()))


def manifest_of(lake: Path, dataset: str) -> Path:
    (manifest,) = (lake / dataset / "releases").glob("*/manifest.json")
    return manifest


@pytest.fixture(scope="module")
def chests(lakes: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A lake with the made-up NIH release, and an evaluated run of a user's own recipe."""
    lake = lake_of(lakes("nih-chest-xray"), "nih-chest-xray", tmp_path_factory.mktemp("chests"))
    own = tmp_path_factory.mktemp("recipes") / "fluid.yaml"
    own.write_text(FINDINGS)
    run = train(str(own), str(lake))["run"]
    evaluate(run, str(lake), RESAMPLES)
    return lake, run


@pytest.fixture(scope="module")
def breasts(lakes: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the made-up mammography release, which no test changes; runs come in."""
    return lake_of(lakes("mammography-density"), "mammography-density", tmp_path_factory.mktemp("breasts"))


@pytest.fixture
def own_breasts(breasts: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return lake_of(breasts, "mammography-density", tmp_path / "lake")


def test_a_signal_in_the_images_is_found_and_none_in_shuffled_labels(chests: tuple[Path, str]) -> None:
    found = metrics_of(*chests)["splits"]["test"]["labels"]
    for name in ("Effusion", "fluid"):
        score = found[name]["auroc"]
        assert score["value"] > 0.9
        assert score["low"] > score["shuffled"]["most"]
    shuffled = [label["auroc"]["shuffled"]["mean"] for label in found.values() if label["auroc"]["shuffled"]]
    assert abs(np.mean(shuffled) - 0.5) < 0.15


def test_what_cannot_be_scored_is_null_and_says_why(chests: tuple[Path, str]) -> None:
    metrics = metrics_of(*chests)
    hernia = metrics["splits"]["test"]["labels"]["Hernia"]
    assert hernia["auroc"]["value"] is None
    assert "all samples to fit on have it absent" in hernia["reason"]
    assert metrics["splits"]["test"]["macro"]["auroc"]["labels"] == 3
    assert set(metrics["splits"]["test"]["macro"]["auroc"]["undefined"]) == {"Hernia"}


def test_a_stranger_gets_the_same_numbers_out_of_the_predictions(chests: tuple[Path, str]) -> None:
    lake, run = chests
    predictions = pd.read_parquet(lake / "runs" / run / "predictions.parquet")
    samples = pd.read_parquet(manifest_of(lake, "nih-chest-xray").with_name("samples.parquet")).set_index("sample_id")
    assert set(predictions["sample_id"]) == set(samples.index)
    own = samples.loc[predictions["sample_id"]]
    assert (predictions["split"].to_numpy() == own["split"].to_numpy()).all()
    assert (predictions["truth.Effusion"].to_numpy() == own["label.Effusion"].to_numpy()).all()
    for split, scored in metrics_of(lake, run)["splits"].items():
        part = predictions[predictions["split"] == split]
        truth, probability = part["truth.Effusion"].to_numpy(int), part["probability.Effusion"].to_numpy()
        effusion = scored["labels"]["Effusion"]
        assert effusion["auroc"]["value"] == pytest.approx(roc_auc_score(truth, probability))
        assert effusion["auprc"]["value"] == pytest.approx(average_precision_score(truth, probability))
        assert effusion["brier"]["value"] == pytest.approx(brier_score_loss(truth, probability))
        assert effusion["prevalence"] == pytest.approx(truth.mean())
    assert predictions["probability.Hernia"].isna().all()


def test_only_numbers_of_held_out_splits_get_an_interval(chests: tuple[Path, str]) -> None:
    splits = metrics_of(*chests)["splits"]
    assert splits["train"]["labels"]["Effusion"]["auroc"]["low"] is None
    score = splits["test"]["labels"]["Effusion"]["auroc"]
    assert score["low"] <= score["value"] <= score["high"]


def test_shuffling_keeps_the_samples_of_a_group_together() -> None:
    groups = pd.Series([f"p{number // 4}" for number in range(400)])
    truth = np.array([float(number // 4 % 5 == 0) for number in range(400)])
    dealt = truths.shuffled({"Mass": truth}, groups, seed=0)["Mass"]
    by_group = pd.Series(dealt).groupby(groups)
    assert (by_group.nunique() == 1).all()
    assert dealt.sum() == truth.sum()
    assert (dealt != truth).any()


def test_the_same_again_is_nothing_to_do_and_evaluating_again_gives_the_same_bytes(breasts: Path) -> None:
    first = train(DENSITY, str(breasts))
    again = train(DENSITY, str(breasts))
    assert (first["is_new"], again["is_new"]) == (True, False)
    assert first["run"] == again["run"] == f"{DENSITY}-{first['release']}"
    folder = breasts / "runs" / first["run"]
    assert evaluate(first["run"], str(breasts), RESAMPLES)["is_new"]
    before = files_of(folder)
    assert not evaluate(first["run"], str(breasts), RESAMPLES)["is_new"]
    (folder / "report" / "index.html").unlink()
    assert evaluate(first["run"], str(breasts), RESAMPLES)["is_new"]
    assert files_of(folder) == before
    assert {"run.json", "recipe.yaml", "model.json", "metrics.json", "predictions.parquet", "README.md"} <= set(before)


def test_classes_have_a_confusion_matrix_whose_rows_are_the_class_sizes(breasts: Path) -> None:
    run = train(DENSITY, str(breasts))["run"]
    evaluate(run, str(breasts), RESAMPLES)
    found = metrics_of(breasts, run)["splits"]["validation"]["classes"]["density_and_finding"]
    sizes = [own["positives"] for own in found["classes"].values()]
    assert [sum(row) for row in found["confusion"]] == sizes
    for number, (own, size) in enumerate(zip(found["classes"].values(), sizes, strict=True)):
        # A class of a single lesion lies in one split, and may be missing from this one.
        assert own["recall"] == (pytest.approx(found["confusion"][number][number] / size) if size else None)
    page = (breasts / "runs" / run / "report" / "index.html").read_text()
    assert "No patient is published" in page
    assert "Density4Malignant" in page
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", page)


@pytest.mark.parametrize("leak", ["none", "possible", "certain"])
def test_a_score_beyond_chance_is_no_good_news_where_splits_may_share_patients(leak: Leak) -> None:
    span = {"mean": 0.5, "least": 0.45, "most": 0.55}
    found = {"split": "test", "metric": "macro AUROC", "of": "2 labels", "value": 0.8, "low": 0.7, "high": 0.9}
    told = words({**found, "shuffled": span}, leak=leak)
    assert told["tone"] == ("good" if leak == "none" else "warn")
    assert ("may share patients" in told["line"]) == (leak == "possible")
    assert ("LEAKY" in told["line"]) == (leak == "certain")
    by_chance = words({**found, "shuffled": {**span, "most": 0.8}}, leak=leak)
    assert "Not told from chance" in by_chance["line"]
    assert ("LEAKY" in by_chance["line"]) == (leak == "certain")


def test_another_recipe_of_the_same_name_becomes_another_run(breasts: Path, tmp_path: Path) -> None:
    plain = train(DENSITY, str(breasts))
    changed = tmp_path / f"{DENSITY}.yaml"
    changed.write_text(recipes.shipped()[DENSITY].read_text().replace("seed: 0", "seed: 1"))
    other = train(str(changed), str(breasts))
    assert other["is_new"]
    assert other["run"].startswith(f"{plain['run']}-")
    with pytest.raises(ScanmillError, match="another training"):
        train(str(changed), str(breasts), run=plain["run"])


def test_both_stores_give_the_same_images(breasts: Path) -> None:
    release = find_release(str(breasts), "mammography-density", None)
    read = {}
    for store in ("webdataset", "parquet"):
        shards = [shard for shard in release.manifest["shards"] if shard["store"] == store]
        one = dataclasses.replace(release, manifest={**release.manifest, "shards": shards})
        images = images_of(one, ["train", "validation"])
        read[store] = {sample_id: hashlib.sha256(pixels.tobytes()).hexdigest() for sample_id, pixels in images}
    assert read["webdataset"] == read["parquet"]
    assert set(read["parquet"]) == set(samples_of(release, ["train", "validation"])["sample_id"])


def damage_a_shard(lake: Path) -> None:
    shard = next((lake / "mammography-density").glob("releases/*/parquet/train/*.parquet"))
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def fail_a_gate(lake: Path) -> None:
    manifest = manifest_of(lake, "mammography-density")
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "gates": {**content["gates"], "images": False}}))


def make_it_documents(lake: Path) -> None:
    manifest = manifest_of(lake, "mammography-density")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "documents": 1}))


def unpublish(lake: Path) -> None:
    (lake / "mammography-density" / "latest.json").unlink()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (damage_a_shard, "does not verify"),
        (fail_a_gate, "images gate failed"),
        (make_it_documents, "release of documents"),
        (unpublish, "no published release"),
    ],
)
def test_nothing_is_trained_from_what_the_gate_refuses(
    own_breasts: Path, harm: Callable[[Path], None], words: str
) -> None:
    harm(own_breasts)
    with pytest.raises(UnusableInput if harm is unpublish else DataRefused, match=words):
        train(DENSITY, str(own_breasts))
    assert not (own_breasts / "runs").exists()


def test_without_scikit_learn_the_remedy_is_said(breasts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)  # what Python takes for a package that is not installed
    with pytest.raises(ScanmillError, match=r"pip install 'scanmill\[learn\]'"):
        train(DENSITY, str(breasts))


def test_a_release_that_is_not_there_is_refused_with_those_that_are(breasts: Path) -> None:
    with pytest.raises(UnusableInput, match=manifest_of(breasts, "mammography-density").parent.name):
        train(DENSITY, str(breasts), release="0123456789abcdef")
    with pytest.raises(UnusableInput, match="--release takes its id alone"):
        train(DENSITY, str(breasts), release=f"{breasts}/mammography-density")


def test_a_release_that_was_made_anew_is_not_evaluated_as_the_old_one(own_breasts: Path) -> None:
    left = own_breasts / "runs" / ".staging-some-run"  # by a publication that was killed
    left.mkdir(parents=True)
    run = train(DENSITY, str(own_breasts))["run"]
    assert not left.exists()
    manifest = manifest_of(own_breasts, "mammography-density")
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    with pytest.raises(DataRefused, match="manifest has"):
        evaluate(run, str(own_breasts), RESAMPLES)


def test_a_model_that_was_changed_is_not_evaluated(own_breasts: Path) -> None:
    run = train(DENSITY, str(own_breasts))["run"]
    model = own_breasts / "runs" / run / "model.json"
    model.write_text(model.read_text().replace("1", "2", 1))
    with pytest.raises(DataRefused, match=r"model\.json: bytes were changed"):
        evaluate(run, str(own_breasts), RESAMPLES)


@pytest.mark.parametrize("name", recipes.shipped())
def test_every_recipe_that_is_shipped_fits_its_dataset(name: str) -> None:
    recipe = recipes.load(name)
    assert recipe.name == name
    assert recipe.questions()
    assert recipe.dataset in catalogue()
    assert recipes.parse(recipe.as_yaml(), name="any", where="any") == recipe


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("labels: [Effusion", "labels: [Efusion"), "no label 'Efusion'.*did you mean Effusion"),
        (("test: test", "test: tset"), "no labelled split 'tset'"),
        (("thumbnail: 8", "thumbnial: 8"), "unknown key 'options.thumbnial'; known: .*thumbnail"),
        (("kind: intensity-baseline", "knid: intensity-baseline"), "unknown key 'knid'"),
        (("thumbnail: 8", "histogram: 10"), "10 does not divide 64"),
        (("nih-chest-xray", "nih"), "no dataset 'nih'"),
        (("[Edema, Effusion]}", "[Edema"), "no YAML"),
    ],
)
def test_a_recipe_that_is_wrong_is_told_what_is(change: tuple[str, str], words: str) -> None:
    with pytest.raises(ScanmillError, match=words):
        recipes.parse(FINDINGS.replace(*change).encode(), name="mine", where="mine.yaml")


@pytest.fixture(scope="module")
def by_hand(breasts: Path, prefect_server: None) -> dict[str, Result]:
    """What the commands said of a run called so, in order."""
    run = breasts / "runs" / "by-hand"
    return {
        "train": scanmill("train", DENSITY, "--lake", breasts, "--run", "by-hand", "--json"),
        "no report": scanmill("report", run),
        "evaluate": scanmill("evaluate", "by-hand", "--lake", breasts, "--resamples", RESAMPLES),
        "report": scanmill("report", run),
        "again": scanmill("train", DENSITY, "--lake", breasts, "--run", "by-hand"),
    }


def test_the_commands_say_what_they_did_and_where_it_lies(by_hand: dict[str, Result]) -> None:
    assert {"run": "by-hand", "is_new": True}.items() <= json.loads(by_hand["train"].stdout).items()
    assert "not evaluated" in said(by_hand["no report"])
    page = Path(by_hand["report"].stdout.strip())
    assert page.is_file()
    assert f"report:  {page}" in by_hand["evaluate"].stdout
    assert "Density4Malignant" in by_hand["evaluate"].stdout
    assert "nothing to do" in by_hand["again"].stdout


def test_prefect_shows_report_scores_and_summary_and_names_no_sample(breasts: Path, by_hand: dict[str, Result]) -> None:
    rows = asked("/artifacts/latest/filter", {"artifacts": {"key": {"like_": f"{DENSITY}-%"}}})
    shown = {row["key"].removeprefix(f"{DENSITY}-"): row["data"] for row in rows}
    assert set(shown) >= {"training", "report", "scores", "summary"}
    assert (breasts / "runs" / "by-hand" / "report" / "index.html").as_uri() in shown["report"]
    validation = [row for row in json.loads(shown["scores"]) if row["split"] == "validation"]
    scored = metrics_of(breasts, "by-hand")["splits"]["validation"]["classes"]["density_and_finding"]["classes"]
    told = [own["reason"] or f"{own['auroc']['value']:.3f}" for own in scored.values()]
    assert [row["value"] for row in validation] == told
    predictions = pd.read_parquet(breasts / "runs" / "by-hand" / "predictions.parquet")
    assert not [sample_id for sample_id in predictions["sample_id"] if sample_id in json.dumps(shown)]


def test_a_new_run_is_announced_once(breasts: Path, by_hand: dict[str, Result]) -> None:
    announced: list[dict[str, Any]] = []
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not announced and time.monotonic() < deadline:  # events reach the server behind its answers
        announced = asked("/events/filter", {"filter": {"resource": {"id": ["scanmill.run.by-hand"]}}})["events"]
        time.sleep(0.1)
    (event,) = announced
    assert event["event"] == "scanmill.run.trained"
    assert {"run": "by-hand", "recipe": DENSITY, "lake": str(breasts)}.items() <= event["payload"].items()


def test_the_commands_end_with_1_for_the_data_and_2_for_the_user(own_breasts: Path) -> None:
    unknown = scanmill("train", "no-such-recipe", "--lake", own_breasts)
    assert DENSITY in said(unknown)
    assert unknown.exit_code == 2
    missing = scanmill("evaluate", "no-such-run", "--lake", own_breasts)
    assert "no-such-run" in said(missing)
    assert missing.exit_code == 2
    fail_a_gate(own_breasts)
    refused = scanmill("train", DENSITY, "--lake", own_breasts)
    assert "gate failed" in said(refused)
    assert refused.exit_code == 1
