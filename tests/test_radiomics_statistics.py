"""Whether the statistics of radiomics are right: against scikit-learn, direct loops, and what bootstraps say.

Areas against scikit-learn's with the weights of every resample, to 1e-12, and Holm's adjustment by hand are in
``test_scores.py``. The aSAH values of pROC are not checked: their data are under the GPL and stay out of here.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from sklearn import metrics

from tasks.learning import recipe as recipes
from tasks.learning import scores
from tasks.learning.radiomics import published, statistics
from tasks.learning.scoring import decision, delong, ranking
from tasks.learning.scoring.draws import draw, mean_of_defined
from tests.made_up_radiomics import NAMES, RECIPE, MadeUp, made_up

Values = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def run() -> MadeUp:
    return made_up()


@pytest.fixture(scope="module")
def awkward() -> MadeUp:
    return made_up(is_awkward=True)


def answers_in(run: MadeUp, name: str, variant: str, classifier: str) -> tuple[Values, Values, pd.Series]:
    """Truth, probabilities and patients of one set."""
    is_in = (run.samples["split"] == name).to_numpy()
    columns = [f"{variant}.{classifier}.{label}" for label in NAMES]
    said = run.models.loc[is_in, columns].to_numpy(np.float64)
    return run.truth[is_in], said, run.samples.loc[is_in, "group_id"].reset_index(drop=True)


# Models


def test_every_model_is_scored_as_scikit_learn_scores_it(run: MadeUp) -> None:
    assert len(run.radiomics["models"]) == 40
    for own in run.radiomics["models"][::7]:
        for name in ("train", "internal", "external", "prospective"):
            truth, said, _ = answers_in(run, name, own["variant"], own["classifier"])
            chosen, found = said.argmax(axis=1), own["sets"][name]
            told = metrics.precision_recall_fscore_support(truth, chosen, average="macro", zero_division=0)
            auroc = metrics.roc_auc_score(truth, said, multi_class="ovr")
            assert found["macro_auroc"]["value"] == pytest.approx(auroc, abs=1e-12)
            assert found["accuracy"]["value"] == pytest.approx(metrics.accuracy_score(truth, chosen), abs=1e-12)
            assert found["sensitivity"]["value"] == pytest.approx(told[1], abs=1e-12)
            assert found["f1"]["value"] == pytest.approx(told[2], abs=1e-12)
            assert found["macro_auroc"]["low"] < auroc < found["macro_auroc"]["high"]


def test_the_primary_model_is_told_class_by_class(run: MadeUp) -> None:
    primary = run.radiomics["primary"]
    assert [own["is_primary"] for own in run.radiomics["models"]].count(True) == 1
    truth, said, _ = answers_in(run, "external", primary["variant"], primary["classifier"])
    chosen, found = said.argmax(axis=1), primary["sets"]["external"]
    assert found["confusion"] == metrics.confusion_matrix(truth, chosen).tolist()
    for number, name in enumerate(NAMES):
        own, is_true, is_said = found["classes"][name], truth == number, chosen == number
        expected = {
            "auroc": metrics.roc_auc_score(is_true, said[:, number]),
            "auprc": metrics.average_precision_score(is_true, said[:, number]),
            "accuracy": (is_true == is_said).mean(),
            "sensitivity": metrics.recall_score(is_true, is_said),
            "specificity": metrics.recall_score(~is_true, ~is_said),
            "ppv": metrics.precision_score(is_true, is_said),
            "npv": metrics.precision_score(~is_true, ~is_said),
            "f1": metrics.f1_score(is_true, is_said),
            "brier": metrics.brier_score_loss(is_true, said[:, number]),
        }
        assert {key: own[key]["value"] for key in expected} == pytest.approx(expected, abs=1e-12)
        assert (own["samples"], own["positives"]) == (len(truth), int(is_true.sum()))
        assert own["curves"]["roc"][-1] == [1.0, 1.0]
        assert sum(one["samples"] for one in own["reliability"]) == len(truth)


def test_intervals_are_of_patients_drawn_and_those_of_the_metrics_of_the_run(run: MadeUp) -> None:
    primary = run.radiomics["primary"]
    truth, said, groups = answers_in(run, "external", primary["variant"], primary["classifier"])
    drawn = draw(groups, run.recipe.seed, run.radiomics["resamples"])
    assert (drawn.sum(axis=1) != len(groups)).any()  # patients are drawn, and have one or two vertebrae
    own = [
        np.mean([metrics.roc_auc_score(truth == k, said[:, k], sample_weight=weight) for k in range(3)])
        for weight in drawn
    ]
    found = primary["sets"]["external"]["macro_auroc"]
    assert (found["low"], found["high"]) == pytest.approx(tuple(np.percentile(own, (2.5, 97.5))), abs=1e-12)
    columns = [f"{primary['variant']}.{primary['classifier']}.{label}" for label in NAMES]
    told = scores.of_splits(
        run.recipe,
        {},
        run.samples,
        {"fracture": run.truth},
        {"fracture": run.models[columns].to_numpy(np.float64)},
        resamples=run.radiomics["resamples"],
        subgroup_columns={},
        is_brief=True,
    )["external"]["classes"]["fracture"]
    for key, other in (("macro_auroc", "auroc"), ("accuracy", "accuracy"), ("sensitivity", "balanced_accuracy")):
        ours = primary["sets"]["external"][key]
        assert [ours[side] for side in ("value", "low", "high")] == pytest.approx(
            [told[other][side] for side in ("value", "low", "high")], abs=1e-12
        )


def test_the_order_of_the_rows_does_not_matter(run: MadeUp) -> None:
    shuffled = run.models.sample(frac=1, random_state=1)
    less = {**run.model, "variants": run.model["variants"][:1]}
    again = statistics.of_models(shuffled, run.samples, run.truth, less, run.recipe, run.radiomics["resamples"])
    expected = {**run.radiomics, "models": run.radiomics["models"][:8]}
    assert json.dumps(again, allow_nan=False) == json.dumps(expected, allow_nan=False)


def test_what_is_not_defined_is_null_with_its_reason(awkward: MadeUp) -> None:
    found = awkward.radiomics
    json.dumps(found, allow_nan=False)
    assert found["arms"] is None
    sets = {own["name"]: own for own in found["sets"]}
    for name, own in sets.items():
        assert own["samples"] == own["scored"] + own["without_features"] + own["without_class"], name
        assert own["scored"] == sum(own["classes"].values())
    assert sets["train"]["without_features"] > 0
    assert sets["prospective"]["without_class"] == 1
    assert sets["internal"]["reason"] == "no sample lies in this set"
    prospective = found["primary"]["sets"]["prospective"]
    assert prospective["macro_auroc"]["undefined"] == {"class_2": "no sample of this set is of this class"}
    known = [prospective["classes"][name]["auroc"]["value"] for name in NAMES[:2]]
    assert prospective["macro_auroc"]["value"] == pytest.approx(np.mean(known))
    nobody = prospective["classes"]["class_2"]
    assert (nobody["f1"]["value"], nobody["f1"]["reason"]) == (None, "no sample of this set is of this class")
    assert (nobody["decision"], nobody["curves"]) == ([], {"roc": [], "pr": []})
    assert found["primary"]["sets"]["internal"]["accuracy"]["reason"] == "no sample lies in this set"
    (broken,) = [own for own in found["models"] if own["reason"]]
    assert (broken["variant"], broken["classifier"]) == ("deep@imagenet", "mlp")
    assert broken["sets"]["external"]["macro_auroc"]["value"] is None
    assert broken["sets"]["external"]["macro_auroc"]["reason"] == "the solver did not converge in any fold"


def test_answers_that_are_no_numbers_are_not_scored(run: MadeUp) -> None:
    models = run.models.copy()
    is_in = np.flatnonzero(run.samples["split"] == "external")
    models.loc[is_in[3], "radiomics.svm.class_1"] = np.nan
    less = {**run.model, "variants": run.model["variants"][:1]}
    found = statistics.of_models(models, run.samples, run.truth, less, run.recipe, 0)
    (own,) = [m for m in found["models"] if (m["variant"], m["classifier"]) == ("radiomics", "svm")]
    assert own["sets"]["external"]["reason"] == f"1 of {len(is_in)} answers are no numbers"
    assert own["sets"]["internal"]["macro_auroc"]["value"] is not None
    assert next(one for one in found["sets"] if one["name"] == "external")["without_features"] == 0


# Arms


def test_arms_are_compared_by_delong_by_patient_and_by_bootstrap(run: MadeUp) -> None:
    arms = run.radiomics["arms"]
    assert (arms["first"], arms["second"]) == ("fused@radimagenet", "fused@imagenet")
    assert len(arms["rows"]) == 12
    assert [row["set"] for row in arms["macro"] if row["is_cross_validated"]] == ["train"]
    for row in arms["rows"]:
        truth, first, groups = answers_in(run, row["set"], arms["first"], arms["classifier"])
        _, second, _ = answers_in(run, row["set"], arms["second"], arms["classifier"])
        number = NAMES.index(row["class"])
        own = (truth == number).astype(np.float64)
        expected = delong.paired(own, first[:, number], second[:, number])
        for key in ("difference", "low", "high", "z", "p"):
            assert row[key] == pytest.approx(getattr(expected, key), abs=1e-12)
        assert row["first"] - row["second"] == pytest.approx(row["difference"], abs=1e-12)
        moved = delong.influence(own, first[:, number]) - delong.influence(own, second[:, number])
        error = math.sqrt((pd.Series(moved).groupby(groups).sum() ** 2).sum())
        assert row["error_by_patient"] == pytest.approx(error, abs=1e-12)
        assert row["p_by_patient"] == pytest.approx(math.erfc(abs(row["difference"]) / error / math.sqrt(2)))
    for tested, key in ((arms["rows"], "p"), (arms["rows"], "p_by_patient"), (arms["macro"], "p")):
        assert [row[f"{key}_holm"] for row in tested] == delong.holm([row[key] for row in tested])
    for row in arms["macro"]:
        of_classes = [own["difference"] for own in arms["rows"] if own["set"] == row["set"]]
        assert row["difference"] == pytest.approx(np.mean(of_classes), abs=1e-12)


def test_the_arms_of_the_invented_fixture_differ_as_delong_says() -> None:
    """Six vertebrae of each of two classes; the numbers are those of ``test_scores.py``."""
    first = np.array([0.10, 0.20, 0.35, 0.40, 0.55, 0.60, 0.30, 0.45, 0.60, 0.70, 0.80, 0.90])
    second = np.array([0.30, 0.25, 0.50, 0.45, 0.65, 0.70, 0.20, 0.40, 0.50, 0.75, 0.60, 0.85])
    names = [f"v{number}" for number in range(12)]
    samples = pd.DataFrame({"sample_id": names, "group_id": names, "split": "external"})
    columns = {"fused@radimagenet.svm": first, "fused@imagenet.svm": second}
    said = {f"{arm}.class_1": own for arm, own in columns.items()}
    models = pd.DataFrame({"sample_id": names, **said, **{f"{arm}.class_0": 1 - own for arm, own in columns.items()}})
    pair = {"classifier": "svm", "first": "fused@radimagenet", "second": "fused@imagenet"}
    primary = {"variant": "fused@radimagenet", "classifier": "svm"}
    recipe = recipes.parse(
        RECIPE.encode(), name="two", where="here", overrides=["classes={fracture: [class_0, class_1]}"]
    )
    model = {"variants": [], "primary": primary, "compared": pair}
    found = statistics.of_models(models, samples, np.repeat([0.0, 1.0], 6), model, recipe, 0)
    (row,) = [own for own in found["arms"]["rows"] if (own["set"], own["class"]) == ("external", "class_1")]
    expected = {
        "first": 0.8194444444444444,
        "second": 0.5972222222222222,
        "difference": 0.2222222222222222,
        "z": 2.9408584883752296,
        "p": 0.0032730402365484207,
        "p_holm": 2 * 0.0032730402365484207,  # two classes of one set; the others have no sample
        "low": 0.2222222222222222 - delong.QUANTILE * 0.07556372504853023,
        "high": 0.2222222222222222 + delong.QUANTILE * 0.07556372504853023,
    }
    assert {key: row[key] for key in expected} == pytest.approx(expected, abs=1e-12)
    assert {own["reason"] for own in found["arms"]["macro"]} == {"", "no sample lies in this set"}


def clustered(patients: int, seed: int, gain: float = 0.0) -> tuple[Values, Values, Values, pd.Series]:
    """Three vertebrae of each patient, all of one class: truth, what two arms say, groups.

    Half of each arm's noise is the patient's, so that rows of a patient are far from independent.
    """
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), 3)
    truth = rng.integers(0, 3, patients)[groups]
    signal = (truth[:, None] == np.arange(3)).astype(np.float64)
    first, second = (
        (1 + more) * signal + rng.normal(size=(patients, 3))[groups] + rng.normal(size=(3 * patients, 3))
        for more in (gain, 0.0)
    )
    return truth.astype(np.float64), first, second, pd.Series(groups)


def test_the_error_of_delong_is_that_of_a_bootstrap_of_rows_within_5_percent() -> None:
    truth, first, second, _ = clustered(300, 3, 0.3)
    own = (truth == 0).astype(np.float64)
    one, other = first[::3, 0], second[::3, 0]  # one vertebra of each patient
    drawn = draw(pd.Series(range(300)), 0, 4000)
    differences = ranking.areas(own[::3], one, drawn).aurocs - ranking.areas(own[::3], other, drawn).aurocs
    assert delong.paired(own[::3], one, other).error == pytest.approx(differences.std(), rel=0.05)


def test_the_error_of_the_mean_by_patient_is_that_of_a_bootstrap_of_patients_within_5_percent() -> None:
    truth, first, second, groups = clustered(300, 4, 0.3)
    drawn = draw(groups, 0, 4000)
    sides = [(truth == k).astype(np.float64) for k in range(3)]
    moved = np.array(
        [delong.influence(own, first[:, k]) - delong.influence(own, second[:, k]) for k, own in enumerate(sides)]
    )
    resampled = mean_of_defined(
        np.array(
            [
                ranking.areas(own, first[:, k], drawn).aurocs - ranking.areas(own, second[:, k], drawn).aurocs
                for k, own in enumerate(sides)
            ]
        )
    )
    error = delong.clustered_error(moved, groups)
    assert error == pytest.approx(resampled.std(), rel=0.05)
    assert error > 1.2 * delong.clustered_error(moved, pd.Series(range(900)))


def test_arms_that_are_equally_good_are_told_apart_as_rarely_as_the_level_says_by_patient_alone() -> None:
    """Rows of a patient that are taken for independent are told apart far too often."""
    by_row, by_patient = 0, 0
    for seed in range(400):
        truth, first, second, groups = clustered(60, 1000 + seed)
        own = (truth == 0).astype(np.float64)
        found = delong.paired(own, first[:, 0], second[:, 0])
        moved = delong.influence(own, first[:, 0]) - delong.influence(own, second[:, 0])
        by_row += found.p < 0.05
        by_patient += delong.test(found.difference, delong.clustered_error(moved[None], groups)).p < 0.05
    assert by_row / 400 > 0.1
    assert 0.02 < by_patient / 400 < 0.085


# Decision curves


def test_net_benefit_is_what_is_counted_by_hand() -> None:
    """At .25 three are acted on, two of them rightly, and a false alarm costs a third of a found case."""
    truth = np.array([1.0, 0, 1, 0, 0])
    probability = np.array([0.9, 0.4, 0.25, 0.1, 0.2])
    found = decision.net_benefit(truth, probability, np.array([0.25, 0.5]))
    assert found[0] == pytest.approx({"threshold": 0.25, "model": (2 - 1 / 3) / 5, "all": (2 - 3 / 3) / 5})
    assert found[1] == pytest.approx({"threshold": 0.5, "model": 1 / 5, "all": (2 - 3) / 5})


def test_net_benefit_is_that_of_a_loop_also_where_probabilities_are_thresholds() -> None:
    rng = np.random.default_rng(0)
    truth = (rng.random(200) < 0.3).astype(np.float64)
    probability = np.where(rng.random(200) < 0.5, rng.integers(0, 101, 200) / 100, rng.random(200))
    found = decision.net_benefit(truth, probability)
    assert [own["threshold"] for own in found] == pytest.approx([k / 100 for k in range(1, 100)])
    for own in found:
        threshold = own["threshold"]
        net = 0.0
        for is_true, said in zip(truth, probability, strict=True):
            if said >= threshold:
                net += 1 if is_true else -threshold / (1 - threshold)
        assert own["model"] == pytest.approx(net / 200, abs=1e-12)
        share = truth.mean()
        assert own["all"] == pytest.approx(share - (1 - share) * threshold / (1 - threshold), abs=1e-12)
    assert decision.net_benefit(truth[:0], probability[:0]) == []


# The paper


def test_the_paper_stands_beside_the_primary_model(run: MadeUp) -> None:
    found: dict[str, Any] = run.radiomics["published"]
    assert sum(found["sets"].values()) == found["samples"] == 1076
    row = found["rows"][0]
    assert (row["class"], row["published"]) == ("class_0", {"auroc": 0.969, "accuracy": 0.863})
    own = run.radiomics["primary"]["sets"]["external"]["classes"]["class_0"]
    assert row["sets"]["external"] == {"auroc": own["auroc"], "accuracy": own["accuracy"]}
    other = published.beside({"variant": "fused@a", "classifier": "svm", "sets": {}}, ["mild", "severe"])
    assert [one["published"] for one in other["rows"]] == [None, None]
