"""Networks from recipe to answers: trained, killed and gone on with, promoted, asked, on one device, two, and on S3."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from upath import UPath

from tasks.files import sha256_file
from tasks.learning import evaluation, feeding, network_training, reading
from tasks.learning import recipe as recipes
from tasks.learning.admission import find_release
from tasks.learning.dealing import dealt
from tasks.learning.network_run import say
from tasks.learning.predicting import of_folder, of_split
from tasks.learning.promotion import latest, pointer, promote
from tasks.learning.reading import images_of, samples_of
from tasks.learning.runs import find_run
from tasks.learning.training import forget_unfinished, train
from tasks.schema import DataRefused, ScanmillError, UnusableInput
from tasks.storage import is_remote, listed, location
from tests.command import ROOT, said, scanmill
from tests.fakes.servers import s3
from tests.readme import README, invocations
from tests.release_files import files_of
from tests.test_learning import lake_of, metrics_of

BREASTS = "mammography-density"
QUESTION = "density_and_finding"
NETWORK = f"""
dataset: {BREASTS}
kind: network
classes: {{{QUESTION}: all}}
splits: {{train: train, validation: validation}}
network: {{architecture: densenet-small, size: 32, dropout: 0.2}}
training:
  epochs: 6
  batch_size: 32
  learning_rate: 1.0e-3
  patience: 1
  augmentation: {{flip_horizontal: true, rotate_degrees: 20}}
  checkpoint_minutes: 1.0e-9
"""
"""Stops early; a checkpoint after every step."""
BASELINE = f"""
dataset: {BREASTS}
kind: intensity-baseline
classes: {{{QUESTION}: all}}
splits: {{train: train, validation: validation}}
"""
RESAMPLES = 20
TYPED = [w for w in invocations(README, "train", "evaluate", "predict", "compare") if "ovf-radiomics" not in w]
"""Of the README; radiomics is in tests/test_radiomics.py."""
SHORT = ("training.epochs=1", "training.batch_size=64")


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """What is compared byte by byte must be summed in one order; and it is faster for networks as small as these."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("recipes") / "tiny.yaml"
    path.write_text(NETWORK)
    return str(path)


@pytest.fixture(scope="module")
def breasts(lakes: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with the made-up mammography release, which no test changes; runs come in."""
    return lake_of(lakes(BREASTS), BREASTS, tmp_path_factory.mktemp("breasts"))


@pytest.fixture(scope="module")
def trained(breasts: Path, recipe: str) -> str:
    """Name of an evaluated run of the network."""
    run = str(train(recipe, str(breasts))["run"])
    evaluation.evaluate(run, str(breasts), RESAMPLES)
    return run


@pytest.fixture
def own_lake(breasts: Path, tmp_path: Path) -> Path:
    """The same lake without a run."""
    return lake_of(breasts, BREASTS, tmp_path / "lake")


def environment_of(lake: Path, run: str) -> dict[str, Any]:
    return dict(json.loads((lake / "runs" / run / "environment.json").read_text()))


def columns_of(table: pd.DataFrame, prefix: str) -> list[str]:
    """Those that begin so, without it."""
    return [str(name).removeprefix(prefix) for name in table if str(name).startswith(prefix)]


def losses_of(lake: Path, run: str) -> list[float]:
    """Of validation, epoch by epoch."""
    rows = csv.DictReader((lake / "runs" / run / "metrics.csv").read_text().splitlines())
    return [float(row["validation_loss"]) for row in rows]


def test_it_stops_when_it_gets_no_better_and_keeps_the_best_epoch(breasts: Path, trained: str) -> None:
    losses, environment = losses_of(breasts, trained), environment_of(breasts, trained)
    best = int(np.argmin(losses))
    assert environment["best_epoch"] == best + 1
    assert environment["epochs_run"] == len(losses) == best + 2 < 6, "one epoch of patience"
    assert environment["stopped"] == "no better for too long"
    predictions = pd.read_parquet(breasts / "runs" / trained / "predictions.parquet")
    own = predictions[predictions["split"] == "validation"]
    surprise = [-row[f"logit.{QUESTION}.{row[f'truth.{QUESTION}']}"] for _, row in own.iterrows()]
    assert np.mean(surprise) == pytest.approx(losses[best], rel=1e-4), "the weights are those of the best epoch"
    assert abs(losses[best] - losses[-1]) > 1e-3 * losses[best]


def test_a_run_says_what_it_was_made_with_and_leaves_nothing_unfinished(breasts: Path, trained: str) -> None:
    folder = breasts / "runs" / trained
    assert {"run.json", "recipe.yaml", "model.safetensors", "metrics.csv", "environment.json"} <= set(files_of(folder))
    assert {path.name for path in (breasts / "runs").glob(".*")} == {".lock"}
    environment = environment_of(breasts, trained)
    assert (environment["architecture"], environment["initial_weights"]) == ("densenet-small", None)
    assert environment["samples_seen"] == environment["epochs_run"] * 32 * (181 // 32)
    vouched = json.loads((folder / "run.json").read_text())["files"]
    assert vouched["model.safetensors"] == sha256_file(folder / "model.safetensors")


def test_evaluated_it_has_every_part_and_again_there_is_nothing_to_do(breasts: Path, trained: str) -> None:
    folder = breasts / "runs" / trained
    before = files_of(folder)
    assert {"predictions.parquet", "predictions.csv", "report/index.html", "export/model.onnx"} <= set(before)
    scored = metrics_of(breasts, trained)["splits"]["validation"]["classes"][QUESTION]["auroc"]
    assert scored["shuffled"]
    assert scored["intensity"] is not None
    assert not evaluation.evaluate(trained, str(breasts), RESAMPLES)["is_new"]
    assert files_of(folder) == before


@pytest.mark.parametrize("words", TYPED, ids=" ".join)
def test_what_the_readme_says_of_training_can_be_typed(
    words: list[str],
    breasts: Path,
    trained: str,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_server: None,
) -> None:
    """With a small recipe in the place of the large one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new-films").mkdir()
    cv2.imwrite(str(tmp_path / "new-films" / "a.png"), np.arange(4096, dtype=np.uint8).reshape(64, 64))
    places = {"nih-14-label": recipe, "/data/lake": str(breasts)}
    typed = [trained if word.endswith("-…") else places.get(word, word) for word in words]
    result = scanmill(*typed, *(["--resamples", RESAMPLES] if words[0] == "evaluate" else []))
    assert result.exit_code == 0, result.output
    assert trained in result.stdout or "predictions.csv" in result.stdout


def test_killed_twice_it_ends_with_the_bytes_of_one_that_was_not(
    breasts: Path, trained: str, own_lake: Path, recipe: str
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.killed_training", recipe, str(own_lake)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    for name in ("model.safetensors", "metrics.csv"):
        there, here = (lake / "runs" / trained / name for lake in (breasts, own_lake))
        assert there.read_bytes() == here.read_bytes(), name
    assert environment_of(own_lake, trained)["samples_seen"] == environment_of(breasts, trained)["samples_seen"]
    assert {path.name for path in (own_lake / "runs").iterdir()} == {".lock", trained}


def test_stopped_early_and_killed_before_and_after_it_was_published_it_is_not_trained_any_more(
    breasts: Path, trained: str, own_lake: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = network_training._write_made

    def die(*arguments: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(network_training, "_write_made", die)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, str(own_lake))
    monkeypatch.setattr(network_training, "_write_made", real)
    with monkeypatch.context() as patch:
        patch.setattr(network_training, "forget", die)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, str(own_lake))
    assert losses_of(own_lake, trained) == losses_of(breasts, trained)
    assert list((own_lake / "runs").glob(".training-*")), "it was killed once it was published"
    train(recipe, str(own_lake))
    assert {path.name for path in (own_lake / "runs").iterdir()} == {".lock", trained}


def test_while_one_process_is_at_it_others_are_refused(
    own_lake: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals: list[str] = []

    def meanwhile(*arguments: Any, **options: Any) -> Any:
        for attempt in (train, forget_unfinished):
            with pytest.raises(UnusableInput) as refused:
                attempt(recipe, str(own_lake))
            refusals.append(str(refused.value))
        raise KeyboardInterrupt

    monkeypatch.setattr(network_training, "feed_of", meanwhile)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, str(own_lake))
    assert len(refusals) == 2
    assert all("this training of tiny is already running" in refusal for refusal in refusals)


def test_with_no_resume_it_begins_anew(
    own_lake: Path, recipe: str, monkeypatch: pytest.MonkeyPatch, prefect_server: None
) -> None:
    def die(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(network_training, "_write_made", die)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, str(own_lake), overrides=SHORT)
    (unfinished,) = (own_lake / "runs").glob(".training-*")
    (unfinished / "last.ckpt").write_bytes(b"what no training could go on from")
    settings = [word for override in SHORT for word in ("--set", override)]
    outcome = scanmill("train", recipe, "--lake", own_lake, "--no-resume", "--json", *settings)
    assert json.loads(outcome.stdout)["is_new"], outcome.stderr


@pytest.mark.parametrize("ranks", [1, 2])
def test_memory_and_shards_give_the_same_batches_also_from_within_an_epoch(
    breasts: Path, recipe: str, ranks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    every: list[npt.NDArray[np.int64]] = []
    for rank in range(ranks):
        monkeypatch.setenv("WORLD_SIZE", str(ranks))
        monkeypatch.setenv("RANK", str(rank))
        for is_parquet in (False, True):
            read = {way: batches_of(breasts, recipe, way, is_parquet=is_parquet) for way in ("memory", "stream")}
            assert read["memory"].keys() == read["stream"].keys()
            for name, batches in read["memory"].items():
                assert_equal(batches, read["stream"][name])
            assert_equal(read["memory"]["all"][3:], read["memory"]["rest"])
            assert len(read["memory"]["rest"]) > 0
            assert not np.array_equal(read["memory"]["all"][0][1], read["memory"]["next"][0][1])
        every += [rows for _, rows in read["memory"]["all"]]
    seen = np.concatenate(every)
    assert len(seen) == len(set(seen.tolist())) == 181 // (16 * ranks) * 16 * ranks


Batches = list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]


def batches_of(lake: Path, recipe: str, way: str, *, is_parquet: bool) -> dict[str, Batches]:
    """A whole epoch, the rest of it from its third batch on by another feed, and the next epoch."""
    wanted = recipes.load(recipe, (f"training.reading={way}", "training.batch_size=16"))
    release = find_release(str(lake), BREASTS, None)
    samples = dealt(release, wanted)
    rows = np.flatnonzero(samples["split"] == "train")

    def feed() -> Any:
        made = feeding.feed_of(release, samples, rows, wanted, torch.device("cpu"))
        assert made.kind == way
        return made

    with pytest.MonkeyPatch.context() as patch:
        if is_parquet:  # as if there were no tars: whole shards are read, and mixed a few at a time
            real = reading.opened
            patch.setattr("tasks.learning.feeding.opened", lambda release: without_tars(real(release)))
        first, second = feed(), feed()
        iterated = iter(first)
        begun = [next(iterated) for _ in range(3)]
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        rest = list(second)
        second.set_epoch(1)
        found = {"all": [*begun, *iterated], "rest": rest, "next": list(second)}
        assert len(found["all"]) == len(first)
    return {name: [(images.numpy(), rows.numpy()) for images, rows in own] for name, own in found.items()}


def without_tars(opened: Any) -> Any:
    shards = [shard for shard in opened.manifest["shards"] if shard["store"] == "parquet"]
    return dataclasses.replace(opened, manifest={**opened.manifest, "shards": shards})


def assert_equal(some: Batches, others: Batches) -> None:
    assert len(some) == len(others)
    for (images, rows), (other_images, other_rows) in zip(some, others, strict=True):
        assert np.array_equal(rows, other_rows)
        assert np.array_equal(images, other_images)


def test_grey_levels_are_those_of_the_training_images_however_they_are_read(breasts: Path, recipe: str) -> None:
    release, found = find_release(str(breasts), BREASTS, None), []
    for way in ("memory", "stream"):
        wanted = recipes.load(recipe, (f"training.reading={way}",))
        samples = dealt(release, wanted)
        rows = np.flatnonzero(samples["split"] == "train")
        feed = feeding.feed_of(release, samples, rows, wanted, torch.device("cpu"))
        found.append(feed.grey_levels())
        seen = (
            torch.cat(
                [
                    images
                    for images, _ in feeding.feed_of(
                        release, samples, rows, wanted, torch.device("cpu"), is_training=False
                    )
                ]
            ).double()
            / 255
        )
    assert found[0] == found[1]
    assert found[0] == pytest.approx((float(seen.mean()), float(seen.std(correction=0))), rel=1e-9)


def crafted(lake: Path, source: str, name: str, skill: float) -> str:
    """A copy of an evaluated run whose predictions are better, or worse."""
    folder = Path(shutil.copytree(lake / "runs" / source, lake / "runs" / name))
    predictions = pd.read_parquet(folder / "predictions.parquet")
    names = columns_of(predictions, "probability.")
    noise = np.random.default_rng(0).random((len(predictions), len(names)))
    for place, column in enumerate(names):
        is_it = (predictions[f"truth.{QUESTION}"] == column.removeprefix(f"{QUESTION}.")).to_numpy(float)
        predictions[f"probability.{column}"] = skill * is_it + (1 - skill) * noise[:, place]
    predictions.to_parquet(folder / "predictions.parquet")
    return name


def test_the_latest_run_is_the_first_then_only_one_that_is_not_worse(
    breasts: Path, trained: str, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(breasts, lake)
    good, bad = crafted(lake, trained, "good", 0.9), crafted(lake, trained, "bad", 0.0)
    assert latest(str(lake), "tiny") is None
    first = promote(good, str(lake))
    assert first["is_promoted"]
    second = promote(bad, str(lake))
    assert not second["is_promoted"]
    assert second["high"] < 0
    assert (second["before"], find_run(str(lake), bad).name) == (good, bad)
    kept = latest(str(lake), "tiny")
    assert kept is not None
    assert kept.name == good
    assert json.loads((lake / "runs" / bad / "promotion.json").read_text()) == second
    place = Path(str(pointer(str(lake), "tiny")))
    place.unlink()
    assert promote(bad, str(lake))["is_promoted"], "the first again"
    better = promote(good, str(lake))
    assert (better["is_promoted"], better["low"] > 0) == (True, True)
    marker = lake / "runs" / good / "run.json"
    marker.write_text(marker.read_text() + "\n")
    with pytest.raises(DataRefused, match="has changed since"):
        latest(str(lake), "tiny")
    place.write_text('{"run": 7')
    with pytest.raises(DataRefused, match="damaged"):
        promote(bad, str(lake))


def test_splits_dealt_by_image_are_stratified_and_everything_says_that_they_leak(breasts: Path, tmp_path: Path) -> None:
    path = tmp_path / "dealt.yaml"
    path.write_text(BASELINE)
    overrides = ("splits.redeal={validation_share: 0.3, seed: 7}",)
    wanted = recipes.load(str(path), overrides)
    release = find_release(str(breasts), BREASTS, None)
    samples = dealt(release, wanted, with_others=True)
    assert samples.equals(dealt(release, wanted, with_others=True))
    published = samples_of(release, ["train", "validation", "predict"])
    assert (samples["split"].to_numpy() == "predict").sum() == (published["split"] == "predict").sum() == 80
    named = samples[samples["split"] != "predict"]
    assert (named["split"] == "validation").sum() == round(0.3 * len(named))
    labels = [f"label.{name}" for name in columns_of(named, "label.")]
    shares = named[named["split"] == "validation"][labels].mean() - named[labels].mean()
    assert shares.abs().max() < 0.02, "each class is in both as often"
    assert named.groupby("group_id")["split"].nunique().max() == 2
    other = recipes.load(str(path), ("splits.redeal={validation_share: 0.3, seed: 8}",))
    assert not dealt(release, other)["split"].equals(dealt(release, wanted)["split"])
    run = train(str(path), str(breasts), overrides=overrides)["run"]
    assert evaluation.evaluate(run, str(breasts), RESAMPLES)["is_leaky"]
    assert metrics_of(breasts, run)["leak"] == "certain"
    assert "LEAKY" in (breasts / "runs" / run / "report" / "index.html").read_text()
    with pytest.raises(DataRefused, match="never promoted"):
        promote(run, str(breasts))


def test_a_control_learns_and_is_scored_on_labels_that_were_dealt_anew_by_group(breasts: Path, tmp_path: Path) -> None:
    path = tmp_path / "control.yaml"
    path.write_text(BASELINE)
    run = train(str(path), str(breasts), overrides=("shuffle_labels=true",))["run"]
    evaluation.evaluate(run, str(breasts), RESAMPLES)
    predictions = pd.read_parquet(breasts / "runs" / run / "predictions.parquet")
    own = predictions[predictions["split"] != "predict"]
    samples = samples_of(find_release(str(breasts), BREASTS, None), ["train", "validation"]).set_index("sample_id")
    names = columns_of(samples, "label.")
    labels = samples[[f"label.{name}" for name in names]].loc[own["sample_id"].tolist()]
    published = labels.to_numpy(float).argmax(axis=1)
    given = own[f"truth.{QUESTION}"].map({name: number for number, name in enumerate(names)}).to_numpy()
    assert (given != published).mean() > 0.3
    assert (own.groupby("group_id")[f"truth.{QUESTION}"].nunique() == 1).all()
    with pytest.raises(DataRefused, match="never promoted"):
        promote(run, str(breasts))


def rows_of(content: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content))


def test_without_labels_there_is_a_csv_of_the_publishers_file_names(
    breasts: Path, trained: str, tmp_path: Path
) -> None:
    out = tmp_path / "said.csv"
    outcome = json.loads(scanmill("predict", trained, "--lake", breasts, "--out", out, "--json").stdout)
    table = rows_of(out.read_bytes())
    assert outcome["rows"] == len(table) == 80
    release = find_release(str(breasts), BREASTS, None)
    samples = samples_of(release, ["predict"])
    assert table["image_name"].tolist() == [Path(member).name for member in samples["member"]]
    names = columns_of(table, f"probability.{QUESTION}.")
    probabilities = table[[f"probability.{QUESTION}.{name}" for name in names]].to_numpy()
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-4)
    assert table["predicted_label"].tolist() == [names[place] for place in probabilities.argmax(axis=1)]
    run = find_run(str(breasts), trained)
    features = say(run, release, samples, range(3)).features
    assert features.shape[0] == 3
    with pytest.raises(ScanmillError, match=r"no split 'tset'; it has .*predict"):
        of_split(trained, str(breasts), "tset")


def test_a_folder_of_images_is_answered_as_the_release_is(breasts: Path, trained: str, tmp_path: Path) -> None:
    release = find_release(str(breasts), BREASTS, None)
    for number, (sample_id, pixels) in enumerate(images_of(release, ["predict"])):
        suffix = ("png", "PNG")[number % 2]
        shown = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if number % 3 == 0 else pixels
        (tmp_path / f"{sample_id}.{suffix}").write_bytes(bytes(cv2.imencode(".png", shown)[1].tobytes()))
    (tmp_path / "notes.txt").write_text("no image")
    content, count = of_folder(trained, str(breasts), tmp_path)
    table = rows_of(content).set_index("sample_id")
    known = rows_of(of_split(trained, str(breasts))[0]).set_index("sample_id").loc[table.index]
    assert count == len(table) == 80
    columns = [f"probability.{name}" for name in columns_of(table, "probability.")]
    assert np.abs(table[columns].to_numpy() - known[columns].to_numpy()).max() <= 1.1e-6
    (tmp_path / "film.jpeg").write_bytes(bytes(cv2.imencode(".jpg", pixels)[1].tobytes()))
    assert of_folder(trained, str(breasts), tmp_path)[1] == 81
    (tmp_path / "broken.png").write_bytes(b"no PNG")
    with pytest.raises(DataRefused, match=r"broken\.png cannot be decoded"):
        of_folder(trained, str(breasts), tmp_path)
    with pytest.raises(UnusableInput, match="no PNG or JPEG"):
        of_folder(trained, str(breasts), tmp_path / "nothing")


def test_what_cannot_be_trained_is_refused_in_words(
    own_lake: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ScanmillError, match="needs a validation split"):
        train(recipe, str(own_lake), overrides=("splits.validation=null",))
    with pytest.raises(DataRefused, match="age_years is known of no sample"):
        train(recipe, str(own_lake), overrides=("network.inputs=[age_years]",))
    with pytest.raises(DataRefused, match=r"no column meta\.weight_kg"):
        train(recipe, str(own_lake), overrides=("network.inputs=[meta.weight_kg]",))
    assert not list((own_lake / "runs").glob("tiny*"))
    monkeypatch.setitem(sys.modules, "monai", None)
    refused = scanmill("train", recipe, "--lake", own_lake)
    assert "training and evaluation need monai: pip install 'scanmill[learn]'" in said(refused)


def test_two_devices_train_one_network(own_lake: Path, recipe: str) -> None:
    run = train(recipe, str(own_lake), overrides=(*SHORT, "training.devices=2"))["run"]
    environment = environment_of(own_lake, run)
    assert (environment["devices"], environment["epochs_run"]) == (2, 1)
    assert environment["samples_seen"] == 128, "64 on each, and the rest is too few for both"
    assert {path.name for path in (own_lake / "runs").iterdir()} == {".lock", run}
    own = find_run(str(own_lake), run)
    release = find_release(str(own_lake), BREASTS, None)
    samples = samples_of(release, ["validation"])
    truth = samples[[f"label.{name}" for name in own.recipe.questions()[0].of]].to_numpy(float).argmax(axis=1)
    answers = say(own, release, samples, ()).answers[QUESTION]
    surprise = -np.log(answers[np.arange(len(truth)), truth]).mean()
    assert surprise == pytest.approx(losses_of(own_lake, run)[0], rel=1e-4)


@pytest.fixture
def bucket() -> Iterator[tuple[s3.Storage, UPath]]:
    """An empty bucket, and who serves it."""
    with s3.in_environment() as storage:
        place = location("s3://networks")
        assert is_remote(place)
        place.fs.call_s3("create_bucket", Bucket="networks")
        yield storage, place


def test_on_object_storage_another_machine_goes_on_from_the_lakes_checkpoint(
    bucket: tuple[s3.Storage, UPath],
    breasts: Path,
    recipe: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage, place = bucket
    for file in listed(breasts / BREASTS):
        (place / "lake" / BREASTS / file.name).write_bytes(file.path.read_bytes())
    lake = str(place / "lake")

    def die(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setenv(network_training.SCRATCH, str(tmp_path / "one machine"))
        patch.setattr(network_training, "_write_made", die)
        with pytest.raises(KeyboardInterrupt):
            train(recipe, lake, overrides=SHORT)
    kept = {Path(file.name).name for file in listed(place / "lake" / "runs")}
    assert {"last.ckpt", "best.ckpt"} <= kept
    monkeypatch.setenv(network_training.SCRATCH, str(tmp_path / "another machine"))
    storage.forget()
    run = train(recipe, lake, overrides=SHORT)["run"]
    assert any(method == "GET" and path.endswith("/last.ckpt") for method, path in storage.requests)
    assert not any(method == "PUT" and path.endswith(".ckpt") for method, path in storage.requests), "it was done"
    evaluation.predict(run, lake)
    there = {file.name.partition("/")[0] for file in listed(place / "lake" / "runs")}
    assert there == {run}, "no checkpoint is left behind"
    assert not list((tmp_path / "another machine").iterdir())
    assert len(pd.read_parquet(io.BytesIO((place / "lake" / "runs" / run / "predictions.parquet").read_bytes()))) == 320
