"""Two runs side by side: whether differences are right, told only where they can be, and on shared ground alone."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn import metrics

from flows.comparison_text import WIDTH, comparison_text
from tasks.learning import recipe as recipes
from tasks.learning import runs
from tasks.learning.comparison import Predictions, compare, compare_predictions, is_not_worse
from tasks.learning.recipe import Question
from tasks.learning.scoring import delong
from tasks.learning.scoring.calibration import sigmoid, softmax
from tasks.schema import DataRefused, ScanmillError

Values = npt.NDArray[np.float64]
COUNT = 600
EFFUSION, MASS, HERNIA = (Question(name, "label", (name,)) for name in ("Effusion", "Mass", "Hernia"))
GRADE = Question("grade", "classes", ("s0", "s1", "s2"))
WALL = Question("ivsd", "target", ("ivsd",))
RECIPE = """
dataset: nih-chest-xray
kind: intensity-baseline
labels: [Effusion, Mass, Hernia]
splits: {train: train, validation: validation, test: test}
"""


def table(skill: float, seed: int = 0) -> pd.DataFrame:
    """Predictions of a model that knows so much; what is true, and half of the noise, is the same for all."""
    shared, own = np.random.default_rng(0), np.random.default_rng([1, seed])
    group = np.arange(COUNT) // 2
    columns: dict[str, Any] = {
        "sample_id": [f"s{number:04}" for number in range(COUNT)],
        "group_id": [f"p{number}" for number in group],
        "split": "test",
    }

    def noise(*shape: int) -> Values:
        return shared.normal(size=shape) + 0.7 * own.normal(size=shape)

    for name, share in (("Effusion", 0.4), ("Mass", 0.2), ("Hernia", 0.0)):
        truth = (shared.random(COUNT) < share).astype(float)
        columns[f"truth.{name}"] = pd.Series(truth).mask(shared.random(COUNT) < 0.05).astype("Int8")
        columns[f"probability.{name}"] = sigmoid(noise(COUNT) + skill * truth)
    grade = shared.integers(0, 3, COUNT)
    columns["truth.grade"] = np.array(GRADE.of, dtype=object)[grade]
    for number, name in enumerate(GRADE.of):
        columns[f"probability.grade.{name}"] = noise(COUNT) + skill * (grade == number)
    wall = shared.normal(10, 2, COUNT)
    columns["truth.ivsd"] = wall
    columns["predicted.ivsd"] = wall + noise(COUNT) * 2 / skill
    found = pd.DataFrame(columns)
    names = [f"probability.grade.{name}" for name in GRADE.of]
    found[names] = softmax(found[names].to_numpy())
    return found


def predictions(run: str, skill: float, *questions: Question, **changes: Any) -> Predictions:
    asked = questions or (EFFUSION, MASS, HERNIA, GRADE, WALL)
    whole = Predictions(run, "r1", "nih-chest-xray", "test", "sample", asked, table(skill, len(run)))
    return dataclasses.replace(whole, **changes)


@pytest.fixture(scope="module")
def better() -> dict[str, Any]:
    return compare_predictions(predictions("old", 1.0), predictions("newer", 2.0), 300)


def test_a_better_model_is_told_and_the_other_way_round_is_a_worse_one(better: dict[str, Any]) -> None:
    assert better["verdict"] == "better"
    assert is_not_worse(better)
    back = compare_predictions(predictions("newer", 2.0), predictions("old", 1.0), 300)
    assert back["verdict"] == "worse"
    assert not is_not_worse(back)
    assert back["macro"]["difference"] == -better["macro"]["difference"]
    assert back["labels"]["Mass"]["delong"]["z"] == pytest.approx(-better["labels"]["Mass"]["delong"]["z"])


def test_a_run_is_not_told_from_itself() -> None:
    found = compare_predictions(predictions("same", 1.0), predictions("same", 1.0), 100)
    assert found["verdict"] == "no difference told"
    assert is_not_worse(found)
    macro = found["macro"]
    assert (macro["difference"], macro["low"], macro["high"], macro["p"]) == (0, 0, 0, 1)
    assert macro["clustered"]["p"] == 1
    assert {found["labels"][name]["delong"]["holm"] for name in ("Effusion", "Mass")} == {1.0}


def test_equally_good_models_are_rarely_told_apart() -> None:
    """At 5 % each, eight of ten or more are expected not to be told."""
    told = []
    for seed in range(10):
        other = dataclasses.replace(predictions("one", 1.0), run="two", table=table(1.0, 100 + seed))
        told.append(compare_predictions(predictions("one", 1.0), other, 100)["verdict"] != "no difference told")
    assert sum(told) <= 2


def test_differences_are_those_of_the_areas(better: dict[str, Any]) -> None:
    first, second = table(1.0, len("old")), table(2.0, len("newer"))
    is_known = first["truth.Mass"].notna().to_numpy()
    truth = first["truth.Mass"][is_known].to_numpy(float)
    one, other = (own["probability.Mass"][is_known].to_numpy() for own in (first, second))
    found = better["labels"]["Mass"]
    auroc = found["auroc"]
    assert auroc["a"] == pytest.approx(metrics.roc_auc_score(truth, one))
    assert auroc["b"] == pytest.approx(metrics.roc_auc_score(truth, other))
    assert auroc["difference"] == pytest.approx(auroc["b"] - auroc["a"])
    assert auroc["low"] < auroc["difference"] < auroc["high"]
    expected = delong.paired(truth, other, one)
    assert (found["delong"]["z"], found["delong"]["p"]) == pytest.approx((expected.z, expected.p))
    assert found["clustered"]["error"] == pytest.approx((auroc["high"] - auroc["low"]) / 3.92, rel=0.25)
    assert found["delong"]["holm"] >= found["delong"]["p"]
    assert (found["samples"], found["positives"]) == (int(is_known.sum()), int(truth.sum()))


def test_the_mean_is_over_what_both_can_be_scored_by(better: dict[str, Any]) -> None:
    macro, labels = better["macro"], better["labels"]
    differences = [labels[name]["auroc"]["difference"] for name in ("Effusion", "Mass")]
    assert macro["difference"] == pytest.approx(np.mean(differences))
    assert (macro["labels"], macro["undefined"]) == (2, {"Hernia": "no sample has it"})
    assert labels["Hernia"]["auroc"]["difference"] is None
    assert macro["clustered"]["error"] == pytest.approx((macro["high"] - macro["low"]) / 3.92, rel=0.25)
    assert macro["p"] == pytest.approx(2 / 301)  # the least that 300 resamples can say


def test_classes_are_compared_one_against_the_others() -> None:
    first, second = table(1.0, 3), table(2.0, 5)
    found = compare_predictions(predictions("old", 1.0, GRADE), predictions("newer", 2.0, GRADE), 100)
    own = found["classes"]["grade"]
    truth = (first["truth.grade"] == "s1").to_numpy(float)
    value = metrics.roc_auc_score(truth, second["probability.grade.s1"])
    assert own["classes"]["s1"]["auroc"]["b"] == pytest.approx(value)
    assert own["difference"] == pytest.approx(np.mean([one["auroc"]["difference"] for one in own["classes"].values()]))
    assert found["macro"]["difference"] == own["difference"]
    assert found["macro"]["of"] == "3 classes of grade"
    assert found["verdict"] == "better"


def test_targets_are_compared_by_explained_variance_and_error() -> None:
    first, second = table(1.0, 3), table(2.0, 5)
    found = compare_predictions(predictions("old", 1.0, WALL), predictions("newer", 2.0, WALL), 100)
    own = found["targets"]["ivsd"]
    assert own["r2"]["a"] == pytest.approx(metrics.r2_score(first["truth.ivsd"], first["predicted.ivsd"]))
    error = metrics.mean_absolute_error(second["truth.ivsd"], second["predicted.ivsd"])
    assert own["mae"]["b"] == pytest.approx(error)
    assert own["mae"]["high"] < 0 < own["r2"]["low"]
    assert (found["macro"]["metric"], found["verdict"]) == ("mean R²", "better")


def test_only_samples_that_both_held_out_count_and_it_is_said() -> None:
    newer = predictions("newer", 2.0)
    shuffled = newer.table.iloc[100:].sample(frac=1, random_state=0)  # rows may lie in any order
    other = dataclasses.replace(newer, release="r2", table=shuffled)
    found = compare_predictions(predictions("old", 1.0), other, 50)
    assert found["samples"] == 500
    assert "compared on the 500 that both have" in found["notes"][0]
    old = predictions("old", 1.0)
    same = compare_predictions(dataclasses.replace(old, table=old.table.iloc[100:]), newer, 50)
    assert found["labels"]["Mass"]["auroc"]["a"] == same["labels"]["Mass"]["auroc"]["a"]
    assert found["labels"]["Mass"]["auroc"]["b"] == pytest.approx(same["labels"]["Mass"]["auroc"]["b"])


def test_a_sample_whose_truth_has_changed_is_left_out_and_it_is_said() -> None:
    newer = predictions("newer", 2.0)
    row = int(np.flatnonzero(newer.table["truth.Mass"].notna())[0])
    truth = newer.table["truth.Mass"].copy()
    truth.iloc[row] = 1 - int(truth.iloc[row])
    newer.table["truth.Mass"] = truth
    found = compare_predictions(predictions("old", 1.0), dataclasses.replace(newer, release="r2"), 0)
    assert found["labels"]["Mass"]["samples"] == newer.table["truth.Mass"].notna().sum() - 1
    assert "Mass: 1 samples whose answer differs" in " ".join(found["notes"])
    assert "whose held-out samples are the same" in found["notes"][0]
    assert found["macro"]["low"] is None
    assert found["verdict"] == "no difference told"
    assert is_not_worse(found)


def test_what_only_one_answers_is_named_and_not_compared() -> None:
    silent = predictions("newer", 2.0, EFFUSION, MASS)
    silent.table["probability.Mass"] = np.nan  # it could not be fitted
    found = compare_predictions(predictions("old", 1.0, EFFUSION, MASS, GRADE), silent, 50)
    assert (found["only_a"], found["only_b"]) == (["grade"], [])
    assert found["labels"]["Mass"]["reason"] == "B could not answer it"
    assert found["macro"]["undefined"] == {"Mass": "B could not answer it"}
    assert found["macro"]["labels"] == 1


def test_patients_are_averaged_where_both_runs_are_judged_so() -> None:
    old = predictions("old", 1.0, MASS, unit="group")
    found = compare_predictions(old, predictions("newer", 2.0, MASS, unit="group"), 50)
    assert found["unit"] == "group"
    known = table(1.0).groupby("group_id")["truth.Mass"].max().notna().sum()
    assert found["labels"]["Mass"]["samples"] == known
    mixed = compare_predictions(old, predictions("newer", 2.0, MASS), 50)
    assert mixed["unit"] == "sample"
    assert "compared by image" in mixed["notes"][0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": "chexchonet"}, "only runs of one dataset"),
        ({"questions": (GRADE,)}, "no question in common"),
        ({"questions": (Question("Mass", "label", ("Mass", "Nodule")),)}, "no question in common"),
        ({"table": table(1.0).assign(sample_id=[f"t{number}" for number in range(COUNT)])}, "no sample in common"),
    ],
)
def test_what_has_nothing_in_common_is_not_compared(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ScanmillError, match=words):
        compare_predictions(predictions("old", 1.0, MASS), predictions("newer", 2.0, MASS, **changes), 10)


# In a lake


def publish(lake: Path, run: str, skill: float, evaluation: dict[str, Any] | None) -> None:
    """A run as ``train`` and ``evaluate`` leave it, as far as a comparison reads it."""
    recipe = recipes.parse(RECIPE.encode(), name=run, where=run)
    training = table(skill, len(run)).assign(split="train")
    training["sample_id"] = "t" + training["sample_id"]
    content = io.BytesIO()
    pd.concat([training, table(skill, len(run))]).to_parquet(content)
    files = {
        "recipe.yaml": recipe.as_yaml(),
        "metrics.json": json.dumps({"evaluation": evaluation}).encode(),
        "predictions.parquet": content.getvalue(),
        "report/index.html": b"a report",
    }
    runs.publish(str(lake), run, files, {"release": "r1", "dataset": recipe.dataset}, {})


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lake")
    publish(folder, "old", 1.0, {"resamples": 1})
    publish(folder, "newer", 2.0, {"resamples": 1})
    publish(folder, "unfinished", 2.0, None)
    return folder


def test_runs_are_compared_on_the_split_that_was_held_out(lake: Path) -> None:
    found = compare(str(lake), "old", "newer", 300)
    expected = compare_predictions(
        predictions("old", 1.0, EFFUSION, MASS, HERNIA), predictions("newer", 2.0, EFFUSION, MASS, HERNIA), 300
    )
    assert found == expected
    assert json.dumps(compare(str(lake), "old", "newer", 300)) == json.dumps(found, allow_nan=False)


def test_runs_that_are_not_there_not_evaluated_or_damaged_are_refused(lake: Path) -> None:
    with pytest.raises(ScanmillError, match="has no run 'none'; it has newer, old"):
        compare(str(lake), "old", "none")
    with pytest.raises(ScanmillError, match="scanmill evaluate unfinished"):
        compare(str(lake), "old", "unfinished")
    publish(lake, "broken", 1.0, {"resamples": 1})
    (lake / "runs" / "broken" / "predictions.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataRefused, match=r"damaged.*evaluate again"):
        compare(str(lake), "old", "broken")


# On a terminal


def test_the_text_says_the_verdict_first_and_is_narrow(better: dict[str, Any]) -> None:
    text = comparison_text({**better, "notes": ["a long note " * 20]})
    first = text.splitlines()[0]
    assert first.startswith("B is better than A: macro AUROC")
    assert max(len(line) for line in text.splitlines()) <= WIDTH
    mass = better["labels"]["Mass"]["auroc"]
    (line,) = [line for line in text.splitlines() if line.startswith("  Mass ")]
    assert f"{mass['a']:.3f}" in line
    assert f"{mass['difference']:+.3f}" in line
    assert f"{mass['low']:+.3f} to {mass['high']:+.3f}" in line
    assert "not in the mean: Hernia (no sample has it)" in text
    assert "ivsd" in text
    same = compare_predictions(predictions("same", 1.0), predictions("same", 1.0), 20)
    assert comparison_text(same).startswith("B is not told from A")


def test_the_text_of_what_is_not_defined_holds_no_number() -> None:
    found = compare_predictions(predictions("old", 1.0, HERNIA), predictions("newer", 2.0, HERNIA), 20)
    text = comparison_text(found)
    assert "macro AUROC is not defined for both" in text
    assert "nan" not in text.lower()
    assert "None" not in text
