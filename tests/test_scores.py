"""Whether the numbers of an evaluation are right: against scikit-learn, torchmetrics and what is known of them."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import torch
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from torchmetrics.classification import BinaryCalibrationError, MulticlassCalibrationError

from tasks.learning import recipe as recipes
from tasks.learning import scores
from tasks.learning.recipe import Recipe
from tasks.learning.scoring import calibration, classes, delong, operating, ranking, subgroups, targets
from tasks.learning.scoring.draws import draw, everything, interval, one_of_each, sums
from tasks.schema import UnusableInput

Values = npt.NDArray[np.float64]
SCHEMA = json.loads((Path(scores.__file__).parent / "metrics.schema.json").read_bytes())
LABELS = """
dataset: nih-chest-xray
kind: intensity-baseline
labels: [Effusion, Mass, Hernia]
splits: {train: train, validation: validation, test: test}
"""
CLASSES = """
dataset: behsof
kind: intensity-baseline
classes: {steatosis: [steatosis_S0, steatosis_S1, steatosis_S2, steatosis_S3]}
ordinal: [steatosis]
splits: {train: train, validation: validation, test: external}
"""
TARGETS = """
dataset: chexchonet
kind: intensity-baseline
labels: [slvh]
targets: [ivsd]
splits: {train: train, validation: validation, test: test}
"""
RNG_SEED = 7
TIED = 25
"""Different scores that tied answers take."""


def made_up(
    count: int = 400, prevalence: float = 0.2, signal: float = 1.5, is_tied: bool = False, seed: int = RNG_SEED
) -> tuple[Values, Values]:
    """Truth, and a probability that knows something of it."""
    rng = np.random.default_rng(seed)
    truth = (rng.random(count) < prevalence).astype(np.float64)
    probability = calibration.sigmoid(rng.normal(size=count) + signal * truth - 1.0)
    return truth, np.round(probability * TIED) / TIED if is_tied else probability


def patients(count: int, images: int = 3) -> pd.Series:
    return pd.Series([f"p{number // images}" for number in range(count)])


# What is resampled


@pytest.mark.parametrize("is_tied", [False, True])
def test_every_resample_has_the_areas_that_scikit_learn_gives_with_these_weights(is_tied: bool) -> None:
    truth, answer = made_up(is_tied=is_tied)
    drawn = draw(patients(len(truth)), 0, 50)
    found = ranking.areas(truth, answer, drawn)
    assert found.auroc == pytest.approx(metrics.roc_auc_score(truth, answer), abs=1e-12)
    assert found.auprc == pytest.approx(metrics.average_precision_score(truth, answer), abs=1e-12)
    own = [metrics.roc_auc_score(truth, answer, sample_weight=weight) for weight in drawn]
    assert np.abs(found.aurocs - own).max() < 1e-12
    own = [metrics.average_precision_score(truth, answer, sample_weight=weight) for weight in drawn]
    assert np.abs(found.auprcs - own).max() < 1e-12
    assert found.aurocs.std() > 0


def test_a_draw_takes_whole_groups_and_as_many_as_there_are() -> None:
    groups = pd.Series(["a"] * 5 + ["b"] + ["c"] * 2)
    drawn = draw(groups, 3, 200)
    assert (drawn[:, :5] == drawn[:, :1]).all()
    assert (drawn[:, 6] == drawn[:, 7]).all()
    assert (drawn[:, [0, 5, 6]].sum(axis=1) == 3).all()
    assert (draw(groups, 3, 200) == drawn).all()
    assert (draw(groups, 4, 200) != drawn).any()
    assert abs(draw(patients(300), 0, 400).mean() - 1) < 0.02


def test_a_draw_without_positives_is_undefined_and_too_many_of_them_leave_no_interval() -> None:
    truth, answer = np.array([1.0, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3])
    drawn = np.array([[0, 2, 1, 1], [1, 1, 1, 1], [4, 0, 0, 0]], dtype=np.uint8)
    found = ranking.areas(truth, answer, drawn)
    assert np.isnan(found.aurocs).tolist() == [True, False, True]
    assert np.isnan(found.auprcs).tolist() == [True, False, True]
    assert interval(found.aurocs) == {"low": None, "high": None}
    assert interval(np.array([0.5, np.nan, 0.7, 0.6]))["low"] is not None


def test_areas_of_one_side_are_undefined() -> None:
    found = ranking.areas(np.zeros(5), np.linspace(0, 1, 5), everything(5))
    assert math.isnan(found.auroc)
    assert math.isnan(found.auprc)


def test_sums_do_not_depend_on_how_many_resamples_fit_into_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = np.random.default_rng(0).random((60, 3))
    drawn = draw(patients(60), 0, 40)
    whole, (truth, answer) = sums(drawn, columns), made_up(60, 0.4)
    areas = ranking.areas(truth, answer, drawn)
    monkeypatch.setattr("tasks.learning.scoring.draws.BLOCK_BYTES", 8 * 60 * 7)
    np.testing.assert_allclose(sums(drawn, columns), whole, rtol=1e-13)
    np.testing.assert_allclose(whole, drawn.astype(float) @ columns, rtol=1e-13)
    assert (ranking.areas(truth, answer, drawn).aurocs == areas.aurocs).all()


def test_the_interval_covers_what_is_true_about_as_often_as_it_says() -> None:
    """AUROC of two normal distributions one standard deviation apart is Φ(1/√2) = 0.760."""
    covered = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        truth = np.repeat([0.0, 1.0], 60)
        answer = rng.normal(size=120) + truth
        found = interval(ranking.areas(truth, answer, draw(pd.Series(range(120)), seed, 200)).aurocs)
        assert found["low"] is not None
        assert found["high"] is not None
        covered += found["low"] <= 0.5 * (1 + math.erf(0.5)) <= found["high"]
    assert 0.87 <= covered / 120 <= 1.0


def test_a_thousand_resamples_of_many_rows_are_quick() -> None:
    """A tenth of NIH's test list and one label; the bound is generous, the loop over scikit-learn takes 3 s."""
    truth, answer = made_up(2560, 0.05)
    drawn = draw(patients(2560, 9), 0, 1000)
    began = time.process_time()
    ranking.areas(truth, answer, drawn)
    assert time.process_time() - began < 1.0


# DeLong

Y = np.repeat([0.0, 1.0], 6)
A = np.array([0.10, 0.20, 0.35, 0.40, 0.55, 0.60, 0.30, 0.45, 0.60, 0.70, 0.80, 0.90])
B = np.array([0.30, 0.25, 0.50, 0.45, 0.65, 0.70, 0.20, 0.40, 0.50, 0.75, 0.60, 0.85])


def test_delong_gives_the_numbers_of_the_invented_fixture() -> None:
    """../shared/facts/learning.md §4."""
    found = delong.paired(Y, A, B)
    assert found.difference == pytest.approx(0.2222222222222222, abs=1e-12)
    assert found.error == pytest.approx(0.07556372504853023, abs=1e-12)
    assert found.z == pytest.approx(2.9408584883752296, abs=1e-12)
    assert found.p == pytest.approx(0.0032730402365484207, abs=1e-12)
    assert delong.paired(Y, B, A).z == pytest.approx(-found.z, abs=1e-12)
    assert delong.components(Y, A).auroc == pytest.approx(0.8194444444444444, abs=1e-12)
    assert delong.components(Y, B).auroc == pytest.approx(0.5972222222222222, abs=1e-12)


@pytest.mark.parametrize("is_tied", [False, True])
def test_delong_agrees_with_scikit_learn_and_with_the_bootstrap(is_tied: bool) -> None:
    truth, answer = made_up(1500, 0.3, is_tied=is_tied)
    value, low, high = delong.interval(truth, answer)
    assert value == pytest.approx(metrics.roc_auc_score(truth, answer), abs=1e-12)
    found = ranking.areas(truth, answer, draw(pd.Series(range(1500)), 0, 1000)).aurocs
    assert math.sqrt(delong.variance(delong.components(truth, answer))) == pytest.approx(found.std(), rel=0.1)
    span = interval(found)
    assert (low, high) == pytest.approx((span["low"], span["high"]), abs=0.005)


def test_delong_of_a_difference_agrees_with_the_paired_bootstrap() -> None:
    truth, first = made_up(1500, 0.3)
    second = first + np.random.default_rng(1).normal(scale=0.1, size=1500)
    drawn = draw(pd.Series(range(1500)), 0, 1000)
    one, other = ranking.areas(truth, first, drawn), ranking.areas(truth, second, drawn)
    assert delong.paired(truth, first, second).error == pytest.approx((one.aurocs - other.aurocs).std(), rel=0.1)


def test_the_same_curve_twice_gives_p_1() -> None:
    truth, answer = made_up()
    same = delong.paired(truth, answer, answer * 3 - 1)
    assert (same.difference, same.z, same.p) == (0.0, 0.0, 1.0)
    apart = delong.paired(np.array([0.0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.9, 0.8, 0.2, 0.1]))
    assert (apart.z, apart.p) == (math.inf, 0.0)


def test_one_side_alone_has_no_delong() -> None:
    with pytest.raises(UnusableInput, match="0 positives and 4 negatives"):
        delong.components(np.zeros(4), np.arange(4.0))


def test_influences_give_delong_for_single_rows_and_the_bootstrap_for_patients() -> None:
    truth, answer = made_up(900, 0.3)
    alone = delong.clustered_error(delong.influence(truth, answer)[None], pd.Series(range(900)))
    assert alone == pytest.approx(math.sqrt(delong.variance(delong.components(truth, answer))), rel=0.01)
    groups = patients(300, 3)
    rng = np.random.default_rng(2)
    shared = np.repeat(rng.normal(size=100), 3)  # what images of one patient have in common
    truths = np.stack([np.repeat(rng.random(100) < share, 3).astype(float) for share in (0.3, 0.5)])
    answers = truths + 1.5 * shared + 0.3 * rng.normal(size=(2, 300))
    influences = np.stack([delong.influence(*pair) for pair in zip(truths, answers, strict=True)])
    drawn = draw(groups, 0, 1000)
    replicates = np.mean([ranking.areas(*pair, drawn).aurocs for pair in zip(truths, answers, strict=True)], axis=0)
    clustered = delong.clustered_error(influences, groups)
    assert clustered == pytest.approx(replicates.std(), rel=0.15)
    assert clustered > 1.4 * delong.clustered_error(influences, pd.Series(range(300)))


def test_an_unknown_truth_moves_nothing() -> None:
    truth, answer = made_up(60, 0.4)
    wider = delong.influence(np.append(truth, np.nan), np.append(answer, 0.5))
    np.testing.assert_array_equal(wider[:-1], delong.influence(truth, answer))
    assert wider[-1] == 0
    assert abs(wider.sum()) < 1e-12


def test_holm_steps_down() -> None:
    """0.01·4, 0.02·3, 0.03·2 held at 0.06, 0.9."""
    assert delong.holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert delong.holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert math.isnan(delong.holm([math.nan, 0.01])[0])
    assert delong.holm([math.nan, 0.01])[1] == pytest.approx(0.01)
    assert delong.holm([]) == []


# Calibration


def test_the_calibration_error_is_that_of_torchmetrics() -> None:
    truth, probability = made_up(2000)
    found = calibration.brier_and_error(truth, probability, everything(0)[:0].reshape(0, 2000))
    own = BinaryCalibrationError(n_bins=10, norm="l1")(torch.tensor(probability), torch.tensor(truth))
    assert found["ece"]["value"] == pytest.approx(float(own), abs=1e-6)
    assert found["brier"]["value"] == pytest.approx(metrics.brier_score_loss(truth, probability), abs=1e-12)


def test_the_calibration_error_of_a_resample_is_that_of_its_rows() -> None:
    truth, probability = made_up(200)
    drawn = draw(patients(200), 0, 10)
    found = calibration.brier_and_error(truth, probability, drawn)
    for weight, error, brier in zip(drawn, found["ece"]["replicates"], found["brier"]["replicates"], strict=True):
        rows = np.repeat(np.arange(200), weight)
        own = calibration.brier_and_error(truth[rows], probability[rows], drawn[:0, rows])
        assert (error, brier) == pytest.approx((own["ece"]["value"], own["brier"]["value"]), abs=1e-12)


def test_platt_is_a_logistic_regression_on_log_odds_and_mends_what_is_too_sure() -> None:
    truth, probability = made_up(3000)
    honest = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        calibration.log_odds(probability)[:, None], truth
    )
    found = calibration.platt(truth, probability)
    assert isinstance(found, calibration.Platt)
    assert (found.slope, found.intercept) == pytest.approx((honest.coef_[0, 0], honest.intercept_[0]), abs=1e-4)
    sure = calibration.sigmoid(3 * calibration.log_odds(probability) + 2)
    mended = calibration.platt(truth, sure)
    assert isinstance(mended, calibration.Platt)
    before = calibration.brier_and_error(truth, sure, draw(patients(3000), 0, 0))
    after = calibration.brier_and_error(truth, mended.apply(sure), draw(patients(3000), 0, 0))
    assert after["ece"]["value"] < 0.03 < 0.2 < before["ece"]["value"]
    assert after["brier"]["value"] < before["brier"]["value"]


def test_a_temperature_cools_classes_that_are_too_sure() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2000, 4))
    truth = np.array([rng.choice(4, p=row) for row in calibration.softmax(logits)]).astype(float)
    found = calibration.temperature(truth, calibration.softmax(3 * logits))
    assert isinstance(found, calibration.Temperature)
    assert found.temperature == pytest.approx(3, rel=0.1)
    cooled = found.apply(calibration.softmax(3 * logits))
    np.testing.assert_allclose(cooled.sum(axis=1), 1)
    error = calibration.error_of_bins(
        (cooled.argmax(axis=1) == truth) * 1.0, cooled.max(axis=1), draw(patients(2000), 0, 0)
    )
    own = MulticlassCalibrationError(4, n_bins=10, norm="l1")(torch.tensor(cooled), torch.tensor(truth).long())
    assert error["ece"]["value"] == pytest.approx(float(own), abs=1e-6)


@pytest.mark.parametrize(
    ("truth", "probability", "words"),
    [
        ([1.0] * 9 + [0.0] * 40, np.linspace(0.1, 0.9, 49), "9 of 49 are positive"),
        ([1.0, 0.0] * 20, np.full(40, 0.3), "the same probability"),
        ([0.0] * 20 + [1.0] * 20, np.linspace(0.1, 0.9, 40), "wholly apart"),
    ],
)
def test_what_cannot_be_calibrated_says_why(truth: list[float], probability: Values, words: str) -> None:
    found = calibration.platt(np.array(truth), probability)
    assert isinstance(found, str)
    assert words in found


def test_reliability_bins_hold_every_row_once_and_1_in_the_last() -> None:
    probability = np.array([0.0, 0.05, 0.3, 0.35, 1.0])
    found = calibration.reliability(np.array([0.0, 1, 0, 1, 1]), probability, probability / 2)
    assert [(own["low"], own["samples"], own["observed"]) for own in found] == [
        (0.0, 2, 0.5),
        (0.3, 2, 0.5),
        (0.9, 1, 1),
    ]
    assert found[1]["predicted"] == pytest.approx(0.325)
    assert found[1]["calibrated_predicted"] == pytest.approx(0.1625)


# Thresholds, classes, targets


@pytest.mark.parametrize("is_tied", [False, True])
def test_thresholds_are_the_best_that_can_be_had(is_tied: bool) -> None:
    truth, probability = made_up(500, is_tied=is_tied)
    chosen = operating.choose(truth, probability, "validation")
    assert not isinstance(chosen, str)
    found = {one.rule: one.value for one in chosen}
    false, true, thresholds = metrics.roc_curve(truth, probability, drop_intermediate=False)
    assert found["youden"] == thresholds[np.argmax(true - false)]
    assert found["sensitivity_0.90"] == thresholds[np.argmax(true >= 0.9)]
    hits, called = true * truth.sum(), true * truth.sum() + false * (1 - truth).sum()
    best = (2 * hits / (called + truth.sum())).max()
    assert metrics.f1_score(truth, probability >= found["max_f1"]) == pytest.approx(best)


def test_a_threshold_is_applied_as_it_is() -> None:
    truth, probability = made_up(500)
    drawn = draw(patients(500), 0, 20)
    (found,) = operating.apply((operating.Threshold("youden", 0.4, "validation"),), truth, probability, drawn)
    called = probability >= 0.4
    (right_no, wrong_yes), (wrong_no, right_yes) = metrics.confusion_matrix(truth, called)
    assert found["sensitivity"]["value"] == pytest.approx(right_yes / (right_yes + wrong_no))
    assert found["specificity"]["value"] == pytest.approx(right_no / (right_no + wrong_yes))
    assert found["ppv"]["value"] == pytest.approx(right_yes / (right_yes + wrong_yes))
    assert found["npv"]["value"] == pytest.approx(right_no / (right_no + wrong_no))
    assert found["f1"]["value"] == pytest.approx(metrics.f1_score(truth, called))
    own = [metrics.f1_score(truth, called, sample_weight=weight) for weight in drawn]
    np.testing.assert_allclose(found["f1"]["replicates"], own, atol=1e-12)
    assert found["ppv"]["low"] < found["ppv"]["value"] < found["ppv"]["high"]
    (never,) = operating.apply((operating.Threshold("youden", 1.0, "validation"),), truth, probability, drawn)
    assert never["ppv"]["value"] is None  # nothing is called positive: 0/0
    assert never["sensitivity"]["value"] == 0


def test_classes_are_counted_as_scikit_learn_counts_them() -> None:
    rng = np.random.default_rng(0)
    truth = rng.choice([0.0, 1.0, 3.0], size=300, p=[0.6, 0.3, 0.1])  # nobody is of class 2
    chosen = np.where(rng.random(300) < 0.6, truth, rng.integers(0, 4, 300))
    drawn = draw(patients(300), 0, 20)
    found = classes.tally(truth, chosen, 4, drawn)
    assert found.counts == metrics.confusion_matrix(truth, chosen, labels=range(4)).tolist()
    assert found.accuracy["value"] == pytest.approx(metrics.accuracy_score(truth, chosen))
    recalls = metrics.recall_score(truth, chosen, labels=[0, 1, 3], average=None)
    assert [one["value"] for one in found.recalls] == [
        *map(pytest.approx, recalls[:2]),
        None,
        pytest.approx(recalls[2]),
    ]
    assert found.balanced_accuracy["value"] == pytest.approx(recalls.mean())
    kappa = metrics.cohen_kappa_score(truth, chosen, weights="quadratic", labels=range(4))
    assert found.quadratic_kappa["value"] == pytest.approx(kappa)
    own = [
        metrics.cohen_kappa_score(truth, chosen, weights="quadratic", labels=range(4), sample_weight=w) for w in drawn
    ]
    np.testing.assert_allclose(found.quadratic_kappa["replicates"], own, atol=1e-12)
    assert found.recalls[0]["low"] < found.recalls[0]["value"] < found.recalls[0]["high"]


def test_targets_are_measured_as_scikit_learn_measures_them() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(50, 9, 200)
    answer = truth + rng.normal(0, 5, 200)
    drawn = draw(patients(200), 0, 20)
    found = targets.measures(truth, answer, drawn)
    assert found["r2"]["value"] == pytest.approx(metrics.r2_score(truth, answer), abs=1e-12)
    assert found["mae"]["value"] == pytest.approx(metrics.mean_absolute_error(truth, answer), abs=1e-12)
    own = [metrics.r2_score(truth, answer, sample_weight=weight) for weight in drawn]
    np.testing.assert_allclose(found["r2"]["replicates"], own, atol=1e-12)
    same = targets.replicates(np.array([0.1, 0.1, 0.7]), np.zeros(3), np.array([[1, 2, 0]], dtype=np.uint8))
    assert math.isnan(same[0, 0])
    assert len(targets.scatter(np.arange(1000.0), np.arange(1000.0), 0)) == targets.POINTS


@pytest.mark.parametrize("is_tied", [False, True])
def test_written_curves_are_short_and_keep_ends_and_area(is_tied: bool) -> None:
    truth, answer = made_up(3000, is_tied=is_tied)
    found = ranking.curves(truth, answer)
    for points in found.values():
        assert len(points) <= ranking.CURVE_POINTS
    roc = np.array(found["roc"])
    assert roc[0].tolist() == [0, 0]
    assert roc[-1].tolist() == [1, 1]
    assert (np.diff(roc, axis=0) >= 0).all()
    assert metrics.auc(*roc.T) == pytest.approx(metrics.roc_auc_score(truth, answer), abs=0.002)
    assert found["pr"][-1] == pytest.approx([1.0, truth.mean()], abs=1e-5)


# The whole of metrics.json


def parsed(text: str) -> Recipe:
    return recipes.parse(text.encode(), name="mine", where="mine.yaml")


def exams(recipe: Recipe, count: int = 900) -> tuple[pd.DataFrame, dict[str, Values], dict[str, Values]]:
    """Samples of three splits, three images per patient; answers know something, and Hernia is in nobody."""
    rng = np.random.default_rng(1)
    group = np.arange(count) // 3
    samples = pd.DataFrame(
        {
            "sample_id": [f"s{number}" for number in range(count)],
            "group_id": [f"p{number}" for number in group],
            "split": np.array(recipe.splits.named)[group % 3],
            "sex": pd.Series(np.array(["F", "M"], dtype=object)[group // 3 % 2], dtype="string"),
            "age_years": np.where(group % 11 == 0, np.nan, 20 + group % 70),
            "view": pd.Series(["PA"] * count, dtype="string"),
            "meta.site": np.where(group % 30 == 2, "rare", "common"),
        }
    )
    truths: dict[str, Values] = {}
    answers: dict[str, Values] = {}
    for question in recipe.questions():
        if question.kind == "classes":
            truth = rng.integers(0, len(question.of), count // 3).repeat(3).astype(float)
            scored = rng.normal(size=(count, len(question.of))) + 1.5 * (truth[:, None] == np.arange(len(question.of)))
            truths[question.name], answers[question.name] = truth, calibration.softmax(2 * scored)
        elif question.kind == "target":
            truth = rng.normal(10, 2, count)
            truths[question.name] = np.where(rng.random(count) < 0.1, np.nan, truth)
            answers[question.name] = (truth + rng.normal(size=count))[:, None]
        else:
            share = 0.0 if question.name == "Hernia" else 0.3
            truth = (rng.random(count // 3) < share).repeat(3).astype(float)
            truths[question.name] = np.where(rng.random(count) < 0.1, np.nan, truth)
            answers[question.name] = calibration.sigmoid(rng.normal(size=count) + 1.5 * truth - 1)[:, None]
    return samples, truths, answers


def scored(text: str, **options: Any) -> dict[str, Any]:
    recipe = parsed(text)
    samples, truths, answers = exams(recipe)
    given = {"resamples": 30, "calibrated_on": "validation", "subgroup_columns": {"site": "meta.site"}, **options}
    return scores.of_splits(recipe, {}, samples, truths, answers, **given)


@pytest.fixture(scope="module")
def labels() -> dict[str, Any]:
    return scored(LABELS, is_one_per_group_shown=True)


@pytest.mark.parametrize("text", [LABELS, CLASSES, TARGETS])
@pytest.mark.parametrize("unit", ["sample", "group"])
def test_the_metrics_are_what_their_schema_says(text: str, unit: str) -> None:
    recipe = parsed(text)
    found = scored(text, unit=unit, is_one_per_group_shown=True)
    shuffled = scored(text, unit=unit, is_brief=True, resamples=0)
    splits = {
        split: scores.beside_baseline(scores.beside(own, [shuffled[split]]), shuffled[split])
        for split, own in found.items()
    }
    document = {**scores.describe(recipe, {"Mass": "too few"}), "evaluation": None, "splits": splits}
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(json.loads(json.dumps(document, allow_nan=False)), SCHEMA)
    broken = json.loads(json.dumps(document))
    del broken["splits"]["train"]["macro"]
    with pytest.raises(jsonschema.ValidationError, match="'macro' is a required property"):
        jsonschema.validate(broken, SCHEMA)


def test_the_same_input_gives_the_same_scores(labels: dict[str, Any]) -> None:
    assert json.dumps(scored(LABELS, is_one_per_group_shown=True)) == json.dumps(labels)


def test_what_nobody_has_is_in_no_mean_and_says_why(labels: dict[str, Any]) -> None:
    test = labels["test"]
    hernia = test["labels"]["Hernia"]
    assert hernia["auroc"]["value"] is None
    assert hernia["reason"] == "no sample of this split has it"
    assert hernia["operating"] == []
    assert hernia["calibrated"] == {"reason": hernia["reason"]}
    mean = test["macro"]["auroc"]
    assert mean["value"] == pytest.approx(
        np.mean([test["labels"][name]["auroc"]["value"] for name in ("Effusion", "Mass")])
    )
    assert (mean["labels"], mean["undefined"]) == (2, {"Hernia": hernia["reason"]})
    assert mean["low"] < mean["value"] < mean["high"]
    prevalences = [test["labels"][name]["prevalence"] for name in ("Effusion", "Mass")]
    assert test["macro"]["auprc"]["chance"] == pytest.approx(np.mean(prevalences))
    assert test["labels"]["Mass"]["auprc"]["chance"] == pytest.approx(prevalences[1])


def test_thresholds_and_calibration_come_from_validation_and_are_not_told_of_the_split_that_was_fitted(
    labels: dict[str, Any],
) -> None:
    recipe = parsed(LABELS)
    samples, truths, answers = exams(recipe)
    is_in = (samples["split"] == "validation").to_numpy() & ~np.isnan(truths["Mass"])
    expected = operating.choose(truths["Mass"][is_in], answers["Mass"][is_in, 0], "validation")
    for split in ("validation", "test"):
        found = labels[split]["labels"]["Mass"]
        assert [one["threshold"] for one in found["operating"]] == [
            one.value for one in expected if not isinstance(one, str)
        ]
        assert {one["chosen_on"] for one in found["operating"]} == {"validation"}
        assert found["calibrated"]["fitted_on"] == "validation"
    fitted = calibration.platt(truths["Mass"][is_in], answers["Mass"][is_in, 0])
    assert isinstance(fitted, calibration.Platt)
    assert labels["test"]["labels"]["Mass"]["calibrated"]["slope"] == fitted.slope
    train = labels["train"]["labels"]["Mass"]
    assert train["operating"] == []
    assert train["operating_reason"] == train["calibrated"]["reason"] == "the model was fitted on this split"
    assert labels["train"]["resamples"] == 0
    assert labels["train"]["subgroups"] == []


def test_without_validation_nothing_is_chosen() -> None:
    found = scored(LABELS, calibrated_on=None)["test"]["labels"]["Mass"]
    assert found["operating"] == []
    assert "no validation split" in found["operating_reason"]
    assert "no validation split" in found["calibrated"]["reason"]


def test_the_calibrations_can_be_had_for_the_samples(labels: dict[str, Any]) -> None:
    recipe = parsed(LABELS)
    samples, truths, answers = exams(recipe)
    fitted = scores.calibrations(recipe, samples, truths, answers, calibrated_on="validation")
    right = calibration.apply_all(fitted, answers)
    assert set(right) == {"Effusion", "Mass"}
    assert "0 of" in str(fitted["Hernia"])
    is_in = (samples["split"] == "test").to_numpy() & ~np.isnan(truths["Mass"])
    brier = metrics.brier_score_loss(truths["Mass"][is_in], right["Mass"][is_in, 0])
    assert labels["test"]["labels"]["Mass"]["calibrated"]["brier"]["value"] == pytest.approx(brier)


def test_subgroups_have_their_own_scores_and_small_ones_none(labels: dict[str, Any]) -> None:
    recipe = parsed(LABELS)
    samples, truths, answers = exams(recipe)
    found = {(own["by"], own["value"]): own for own in labels["test"]["subgroups"]}
    assert [value for by, value in found if by == "age"] == ["<40", "40–59", "60–79", "≥80", "unknown"]
    assert [value for by, value in found if by == "site"] == ["common", "rare"]
    assert not [value for by, value in found if by == "view"]  # all are PA
    women = (samples["split"] == "test") & (samples["sex"] == "F")
    own = found["sex", "F"]
    assert own["samples"] == women.sum()
    rows = women.to_numpy(bool) & ~np.isnan(truths["Mass"])
    value = metrics.roc_auc_score(truths["Mass"][rows], answers["Mass"][rows, 0])
    assert own["auroc"]["Mass"]["value"] == pytest.approx(value)
    assert own["auroc"]["Mass"]["low"] < value < own["auroc"]["Mass"]["high"]
    assert own["macro"]["undefined"] == {"Hernia": "n too small: 0 positives"}
    rare = found["site", "rare"]
    assert rare["auroc"]["Mass"] == {
        "value": None,
        "low": None,
        "high": None,
        "reason": f"n too small: {rare['positives']['Mass']} positives",
    }


def test_ages_fall_into_the_bands_of_the_checklist() -> None:
    found = subgroups.parts_of(pd.DataFrame({"age_years": [39.9, 40, 59, 60, 79.5, 80, np.nan]}), {})["age"]
    assert found.tolist()[:6] == ["<40", "40–59", "40–59", "60–79", "60–79", "≥80"]
    assert found.isna().tolist()[6]


def test_one_image_per_patient_is_drawn_twenty_times(labels: dict[str, Any]) -> None:
    found = labels["test"]["one_per_group"]
    assert found["draws"] == 20
    mass = found["labels"]["Mass"]
    assert mass["low"] < mass["mean"] < mass["high"]
    assert abs(mass["mean"] - labels["test"]["labels"]["Mass"]["auroc"]["value"]) < 0.05
    assert found["labels"]["Hernia"] == {"mean": None, "low": None, "high": None}
    drawn = one_of_each(patients(30), 0, 20)
    assert (drawn.reshape(20, 10, 3).sum(axis=2) == 1).all()
    assert (drawn.sum(axis=0) > 0).all()


def test_a_patient_is_scored_by_the_mean_log_odds_of_all_images() -> None:
    recipe = parsed(LABELS)
    samples, truths, answers = exams(recipe)
    found = scored(LABELS, unit="group")["test"]
    test = samples["split"] == "test"
    odds = pd.Series(calibration.log_odds(answers["Mass"][:, 0]))[test].groupby(samples["group_id"][test]).mean()
    truth = pd.Series(truths["Mass"])[test].groupby(samples["group_id"][test]).max()
    known = truth.notna()
    assert found["labels"]["Mass"]["samples"] == known.sum()
    assert found["labels"]["Mass"]["auroc"]["value"] == pytest.approx(metrics.roc_auc_score(truth[known], odds[known]))
    assert (found["samples"], found["groups"], found["unit"]) == (300, 100, "group")
    assert found["labels"]["Mass"]["auroc"]["value"] > scored(LABELS)["test"]["labels"]["Mass"]["auroc"]["value"]


def test_groups_whose_images_differ_in_class_are_left_out_and_counted() -> None:
    recipe = parsed(CLASSES)
    samples, truths, answers = exams(recipe)
    first = int(np.flatnonzero(samples["split"] == "external")[0])
    truths["steatosis"][first] = (truths["steatosis"][first] + 1) % 4
    found = scores.of_splits(recipe, {}, samples, truths, answers, resamples=0, unit="group")["external"]
    assert found["classes"]["steatosis"]["mixed_groups"] == 1
    assert found["classes"]["steatosis"]["samples"] == 99


def test_classes_that_are_grades_have_a_kappa_and_one_temperature_for_all() -> None:
    found = scored(CLASSES)["external"]["classes"]["steatosis"]
    assert 0.2 < found["quadratic_kappa"]["low"] < found["quadratic_kappa"]["value"] < found["quadratic_kappa"]["high"]
    assert found["calibrated"]["fitted_on"] == "validation"
    assert found["calibrated"]["ece"]["value"] < found["ece"]["value"]
    assert found["calibrated"]["brier"]["value"] < found["brier"]["value"]
    own = found["classes"]["steatosis_S1"]
    assert own["calibrated"]["temperature"] == found["calibrated"]["temperature"] > 1
    assert own["recall_low"] < own["recall"] < own["recall_high"]
    assert [row["rule"] for row in own["operating"]] == ["youden", "max_f1", "sensitivity_0.90"]
    plain = scored(CLASSES.replace("ordinal: [steatosis]\n", ""))["external"]["classes"]["steatosis"]
    assert "quadratic_kappa" not in plain


def test_a_question_without_answers_says_why_and_so_do_answers_that_are_no_numbers() -> None:
    recipe = parsed(LABELS)
    samples, truths, answers = exams(recipe)
    del answers["Mass"]
    answers["Effusion"][samples["split"] == "test"] = np.nan
    found = scores.of_splits(
        recipe, {"Mass": "too few"}, samples, truths, answers, resamples=5, calibrated_on="validation"
    )
    assert found["test"]["labels"]["Mass"]["reason"] == "not fitted: too few"
    assert found["test"]["labels"]["Effusion"]["reason"].endswith("answers are no numbers")
    assert found["validation"]["labels"]["Effusion"]["auroc"]["value"] > 0.5
    assert found["test"]["macro"]["auroc"]["value"] is None


def test_controls_and_the_baseline_stand_beside_every_value(labels: dict[str, Any]) -> None:
    controls = [scored(LABELS, resamples=0, is_brief=True)["test"] for _ in range(2)]
    controls[1]["labels"]["Mass"]["auroc"]["value"] = 0.4
    found = scores.beside_baseline(scores.beside(labels["test"], controls), controls[1])
    mass = found["labels"]["Mass"]["auroc"]
    assert mass["shuffled"]["least"] == 0.4
    assert mass["shuffled"]["most"] == controls[0]["labels"]["Mass"]["auroc"]["value"]
    assert mass["intensity"] == 0.4
    assert found["labels"]["Hernia"]["auroc"]["shuffled"] is None
    assert found["labels"]["Hernia"]["auroc"]["intensity"] is None
    assert scores.beside_baseline(labels["test"], None)["macro"]["auroc"]["intensity"] is None
