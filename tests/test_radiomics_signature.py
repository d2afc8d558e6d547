"""A signature and eight classifiers on invented features: what is planted is found, and nothing leaks."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy.stats import false_discovery_control
from sklearn.feature_selection import f_classif
from sklearn.linear_model import LogisticRegression, MultiTaskLasso
from sklearn.model_selection import cross_val_predict
from threadpoolctl import threadpool_limits

from tasks.learning.radiomics import fitting
from tasks.learning.radiomics.classifiers import CLASSIFIERS, macro_auroc
from tasks.learning.radiomics.folds import Table, by_patient
from tasks.learning.radiomics.logistic import apply_logistic
from tasks.learning.radiomics.selection import (
    analysis_of_variance,
    benjamini_hochberg,
    coefficients_along,
    fit_filters,
    uncorrelated,
)
from tasks.learning.radiomics.signature import find
from tasks.learning.radiomics.variants import Variant
from tasks.learning.recipe import Arm, Radiomics
from tasks.schema import DataRefused

CLASSES = ("none", "old", "fresh")
FUSED = Variant("fused", "made")
PLANTED = ("deep.made.0007", "deep.made.0070", "radiomics.f003", "radiomics.f030")
"""Those that tell of the classes, each in another way."""


@dataclass(frozen=True)
class Cohort:
    """Vertebrae of patients, a quarter of whom have two; training rows and rows of other patients."""

    names: list[str]
    values: npt.NDArray[np.float64]
    truth: npt.NDArray[np.int64]
    groups: pd.Series
    is_train: npt.NDArray[np.bool_]

    def fit(self, options: Radiomics, seed: int = 0, variant: Variant = FUSED) -> tuple[dict[str, Any], pd.DataFrame]:
        """Of :func:`fitting.fit_variant`."""
        return fitting.fit_variant(self.study(options, seed, variant))

    def study(self, options: Radiomics, seed: int = 0, variant: Variant = FUSED) -> fitting.Study:
        """What is fitted."""
        return fitting.Study(
            variant, self.names, self.values, self.truth, self.groups, self.is_train, CLASSES, options, seed
        )


def options(**changed: Any) -> Radiomics:
    """Quick ones."""
    given = {"bootstraps": 20, "folds": 3, "classifiers": ("logistic-regression",), **changed}
    return Radiomics(arms={"made": Arm(input="imagenet")}, **given)


def cohort(
    *, patients: int = 320, train: int = 200, features: tuple[int, int] = (60, 200), effect: float = 0.9, seed: int = 0
) -> Cohort:
    """``features`` counts radiomics and deep ones; ``effect`` is in standard deviations."""
    rng = np.random.default_rng([seed, 77])
    order = np.sort(np.concatenate([np.arange(patients), np.arange(0, patients, 4)]))
    truth = rng.permutation(np.arange(patients) % 3)[order]
    names = [f"radiomics.f{n:03d}" for n in range(features[0])] + [f"deep.made.{n:04d}" for n in range(features[1])]
    values = rng.normal(size=(len(order), len(names)))
    ways = np.array([[-1, 0, 1], [1, -1, 0], [0, 1, -1], [1, -2, 1]]) * effect
    for name, way in zip(PLANTED, ways, strict=True):
        if name in names:
            values[:, names.index(name)] += way[truth]
    values = values * rng.uniform(0.01, 100, len(names)) + rng.uniform(-50, 50, len(names))
    patients_of = pd.Series([f"p{n:04d}" for n in order])
    return Cohort(names, values, truth, patients_of, order < train)


def table_of(made: Cohort) -> Table:
    """Its training rows."""
    rows = np.flatnonzero(made.is_train)
    groups = made.groups.to_numpy(dtype=object)
    return Table(tuple(made.names), made.values, made.truth, groups, len(CLASSES)).of(rows)


@pytest.fixture(scope="module")
def made() -> Cohort:
    return cohort()


@pytest.fixture(scope="module")
def all_eight(made: Cohort) -> tuple[dict[str, Any], pd.DataFrame]:
    """Fitted once, with every classifier."""
    return made.fit(options(classifiers=Radiomics.model_fields["classifiers"].default, folds=2, bootstraps=100))


def test_planted_features_are_found_and_little_else(all_eight: tuple[dict[str, Any], pd.DataFrame]) -> None:
    model, _ = all_eight
    selected = {entry["feature"]: entry for entry in model["selected"]}
    assert set(PLANTED) <= set(selected)
    assert len(selected) <= len(PLANTED) + 2  # of 256 others
    frequencies = {entry["feature"]: entry["frequency"] for entry in model["frequencies"]}
    assert min(frequencies[name] for name in PLANTED) >= 0.95
    assert max(frequency for name, frequency in frequencies.items() if name not in PLANTED) <= 0.6
    # Each class's coefficient has the sign of what was planted.
    assert np.sign(selected["deep.made.0007"]["coefficients"])[[0, 2]].tolist() == [-1, 1]
    assert np.sign(selected["radiomics.f030"]["coefficients"])[1] == -1
    weights = [max(map(abs, entry["coefficients"])) for entry in model["selected"]]
    assert weights == sorted(weights, reverse=True)
    counts = [step["features"] for step in model["steps"]]
    assert counts[0] == 260
    assert counts == sorted(counts, reverse=True)
    assert counts[-1] == len(selected)


def test_the_penalty_is_the_largest_within_one_standard_error(all_eight: tuple[dict[str, Any], pd.DataFrame]) -> None:
    path = all_eight[0]["path"]
    least = min(path, key=lambda point: point["error"])
    bound = least["error"] + least["standard_error"]
    assert max(point["alpha"] for point in path if point["error"] <= bound) == all_eight[0]["alpha"]
    assert path[0]["features"] == 0
    assert least["error"] < path[0]["error"] - 2 * path[0]["standard_error"]


def test_every_classifier_tells_the_classes_apart(made: Cohort, all_eight: tuple[dict[str, Any], pd.DataFrame]) -> None:
    model, said = all_eight
    assert len(model["classifiers"]) == 8
    for entry in model["classifiers"]:
        assert entry["reason"] == ""
        assert entry["tried"] >= 2
        assert entry["auroc"] == pytest.approx(np.mean(entry["folds"]))
        answers = said[[f"{FUSED.name}.{entry['name']}.{name}" for name in CLASSES]].to_numpy()
        np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-9)
        held_out = macro_auroc(made.truth[~made.is_train], answers[~made.is_train])
        assert held_out > 0.8, entry["name"]
        assert entry["auroc"] == pytest.approx(held_out, abs=0.1), entry["name"]


def test_same_bytes_at_any_number_of_threads(made: Cohort) -> None:
    fast = options(classifiers=("logistic-regression", "svm", "gradient-boosting"), folds=2)
    first, said = made.fit(fast)
    with threadpool_limits(limits=2):
        again, said_again = made.fit(fast)
    assert json.dumps(first) == json.dumps(again)
    assert said.to_numpy().tobytes() == said_again.to_numpy().tobytes()
    assert json.dumps(made.fit(fast, seed=1)[0]) != json.dumps(first)


def test_nothing_of_held_out_rows_enters(made: Cohort) -> None:
    rng = np.random.default_rng(1)
    rows = ~made.is_train
    values, truth, groups = made.values.copy(), made.truth.copy(), made.groups.copy()
    values[rows] = rng.normal(1e6, 1e9, size=(rows.sum(), values.shape[1]))
    truth[rows] = -5
    groups[rows] = "p0000"  # even that of a training patient
    fast = options(classifiers=("logistic-regression", "svm"))
    model, said = made.fit(fast)
    other, other_said = replace(made, values=values, truth=truth, groups=groups).fit(fast)
    assert json.dumps(model) == json.dumps(other)
    assert said[made.is_train].equals(other_said[made.is_train])
    assert not said[rows].equals(other_said[rows])


def test_a_fold_is_answered_by_what_the_other_folds_alone_give(made: Cohort) -> None:
    """Signature and model made by hand from the other folds, with one of the settings, say exactly the same."""
    wanted = options(folds=3)
    _, said = made.fit(wanted)
    table, answers = table_of(made), said[made.is_train].to_numpy()
    for trained, held in by_patient(table, 3, 0):
        own = table.of(trained)
        found = find(own, by_patient(own, 3, 0), wanted)
        side, other = found.of(own), found.of(table.of(held)).values
        grid = [setting["C"] for setting in CLASSIFIERS["logistic-regression"].grid]
        models = [LogisticRegression(C=c, max_iter=2000).fit(side.values, side.truth) for c in grid]
        assert any(np.allclose(model.predict_proba(other), answers[held], rtol=0, atol=1e-12) for model in models)


def test_patients_are_never_on_both_sides_of_a_fold(made: Cohort) -> None:
    table = table_of(made)
    assert table.patients_by_class.sum() < len(table.truth)
    splits = by_patient(table, 5, 3)
    assert np.sort(np.concatenate([held for _, held in splits])).tolist() == list(range(len(table.truth)))
    for trained, held in splits:
        assert not set(table.groups[trained]) & set(table.groups[held])
        assert len(trained) + len(held) == len(table.truth)
        counts = table.of(held).patients_by_class
        assert np.abs(counts - table.patients_by_class / 5).max() < 1


def test_copies_and_correlated_features_become_one(made: Cohort) -> None:
    original = made.values[:, made.names.index("radiomics.f003")]
    noisy = original + np.random.default_rng(0).normal(0, 0.2 * original.std(), len(original))
    names = ["radiomics.f003-scaled", *made.names, "radiomics.f003-copy", "radiomics.f003-noisy", "radiomics.same"]
    added = [-3 * original, *made.values.T, original, noisy, np.full(len(original), 0.1)]
    model, _ = replace(made, names=names, values=np.stack(added, axis=1)).fit(options())
    assert [step["features"] for step in model["steps"][:3]] == [264, 263, 260]
    # Equal ones tie and the first by name stays; of unequal ones, that which tells more.
    alike = [entry["feature"] for entry in model["selected"] if entry["feature"].startswith("radiomics.f003")]
    assert alike == ["radiomics.f003"]


def test_filters_agree_with_scikit_learn_and_scipy(made: Cohort) -> None:
    table = table_of(made)
    scaled = (table.values - table.values.mean(axis=0)) / table.values.std(axis=0)
    f, p = analysis_of_variance(scaled, table.truth)
    np.testing.assert_allclose(np.stack([f, p]), np.stack(f_classif(table.values, table.truth)), rtol=1e-8)
    for share in (0.01, 0.05, 0.5):
        assert np.array_equal(benjamini_hochberg(p, share), false_discovery_control(p) <= share)
    kept = uncorrelated(scaled, np.argsort(-f), 0.15)
    alike = np.abs(np.corrcoef(scaled[:, kept], rowvar=False)) - np.eye(len(kept))
    assert alike.max() <= 0.15
    assert len(kept) < len(f)
    answers = np.eye(3)[table.truth]
    (found,) = coefficients_along(scaled, answers, np.array([0.05]))
    lasso = MultiTaskLasso(alpha=0.05, tol=1e-10, max_iter=100_000).fit(scaled, answers)
    np.testing.assert_allclose(found.T, lasso.coef_, atol=1e-4)


def test_selecting_before_the_split_finds_classes_in_noise_and_this_pipeline_does_not() -> None:
    made = cohort(patients=420, train=120, features=(500, 1500), effect=0.0)
    table = table_of(made)
    # The leak: the twenty features that tell most of the classes are chosen with all rows in sight.
    filters = fit_filters(table, options(univariate=1.0))
    best = filters.transform(table.values)[:, np.argsort(-filters.f)[:20]]
    model = LogisticRegression(C=0.1)
    leaking = cross_val_predict(model, best, table.truth, cv=by_patient(table, 5, 0), method="predict_proba")
    assert macro_auroc(table.truth, leaking) > 0.8

    held_out = ~made.is_train
    # 1.0: of fewer features, but whatever the LASSO makes of all of them, without the univariate test.
    for share, variant in ((0.05, FUSED), (1.0, Variant("radiomics"))):
        fitted, said = made.fit(options(univariate=share, bootstraps=2), variant=variant)
        answers = said.to_numpy()
        within = macro_auroc(table.truth, answers[made.is_train])
        assert abs(fitted["classifiers"][0]["auroc"] - 0.5) < bound_of_chance(table.truth)
        assert abs(within - 0.5) < bound_of_chance(table.truth)
        assert abs(macro_auroc(made.truth[held_out], answers[held_out]) - 0.5) < bound_of_chance(made.truth[held_out])
        assert len(fitted["selected"]) >= 1
        assert ("univariate test" in fitted["reason"]) == (share == 0.05)


def bound_of_chance(truth: npt.NDArray[np.int64]) -> float:
    """Half the width of a 99 % interval about 0.5 of a macro AUROC without signal; patients with two rows count once.

    Of a class against the others the variance is (m + n + 1) / 12mn (Mann and Whitney); the mean of three is no wider.
    """
    counts = np.bincount(truth) * 0.8
    others = counts.sum() - counts
    return float(2.576 * np.sqrt((counts + others + 1) / (12 * counts * others)).mean())


def test_labels_shuffled_among_patients_are_not_found() -> None:
    made = cohort(patients=260, features=(40, 60))
    study = made.study(options())
    model, _ = fitting.fit_variant(study)
    shuffled = fitting.shuffled_controls(study)
    assert model["classifiers"][0]["auroc"] > 0.85
    assert len(shuffled) == fitting.CONTROLS
    found = [value for value in shuffled if value is not None]
    assert len(found) == fitting.CONTROLS
    assert abs(np.mean(found) - 0.5) < bound_of_chance(made.truth[made.is_train])


@pytest.mark.parametrize("components", [None, 5])
def test_plain_numbers_say_what_scikit_learn_says(made: Cohort, components: int | None) -> None:
    model, said = made.fit(options(components=components))
    model = json.loads(json.dumps(model))
    columns = {name: made.values[~made.is_train, number] for number, name in enumerate(made.names)}
    answers = said[[f"{FUSED.name}.logistic-regression.{name}" for name in CLASSES]].to_numpy()[~made.is_train]
    np.testing.assert_allclose(apply_logistic(model, columns), answers, rtol=0, atol=1e-12)


def test_components_stand_for_deep_features(made: Cohort) -> None:
    model, _ = made.fit(options(components=2, univariate=1.0))
    steps = {step["step"]: step["features"] for step in model["steps"]}
    assert steps == {**steps, "measured": 260, "components": 62}
    assert model["components"]["kept"] == 62
    assert 0 < model["components"]["explained"] < 0.2
    names = {entry["feature"] for entry in model["frequencies"] + model["selected"]}
    assert not {name for name in names if name.startswith("deep.") and ".pc" not in name}
    radiomics, _ = made.fit(options(components=2), variant=Variant("radiomics"))
    assert radiomics["components"] is None
    assert {entry["feature"] for entry in radiomics["selected"]} >= {"radiomics.f003", "radiomics.f030"}


def test_what_is_no_number_stands_at_the_mean_or_is_left_out(made: Cohort) -> None:
    values = made.values.copy()
    values[0, made.names.index("radiomics.f003")] = np.nan
    values[~made.is_train, made.names.index("radiomics.f030")] = np.inf
    model, said = replace(made, values=values).fit(options())
    selected = {entry["feature"] for entry in model["selected"]}
    assert "radiomics.f003" not in selected  # not a number on a row that is trained on
    assert "radiomics.f030" in selected
    assert np.isfinite(said.to_numpy()).all()


def test_too_few_patients_are_told() -> None:
    made = cohort(patients=60, train=60, features=(10, 0), effect=3)
    is_fresh = made.truth == 2
    few = made.groups.isin(made.groups[is_fresh].unique()[:2]).to_numpy()
    thin = replace(made, is_train=~is_fresh | few)
    with pytest.raises(DataRefused, match=r"3 folds.*fresh has 2;.*radiomics\.folds=2"):
        thin.fit(options(), variant=Variant("radiomics"))
    none = replace(made, is_train=~is_fresh)
    with pytest.raises(DataRefused, match="fresh has 0"):
        none.fit(options(), variant=Variant("radiomics"))

    wanted = options(folds=2, bootstraps=2, classifiers=("svm", "gaussian-nb"))
    model, said = thin.fit(wanted, variant=Variant("radiomics"))
    support, bayes = model["classifiers"]
    assert "a class has 1 patients where it is fitted" in support["reason"]
    assert support["auroc"] is None
    assert bayes["reason"] == ""
    assert bayes["auroc"] > 0.7
    assert said[[column for column in said.columns if ".svm." in column]].isna().to_numpy().all()
    assert model["logistic"] is None
    with pytest.raises(ValueError, match="no logistic regression"):
        apply_logistic(model, {})


def test_nothing_that_varies_is_a_reason_and_no_crash() -> None:
    made = cohort(patients=60, train=60, features=(10, 0))
    model, _ = replace(made, values=np.ones_like(made.values)).fit(options(), variant=Variant("radiomics"))
    assert model["reason"] == "no feature varies"
    assert "the signature is empty" in model["classifiers"][0]["reason"]
    with pytest.raises(DataRefused, match="no classifier could be fitted to any variant: the signature is empty"):
        fitting.choose([model])
    with pytest.raises(DataRefused, match="deep@made: none of the 10 features"):
        made.fit(options(), variant=Variant("deep", "made"))


def test_the_best_is_primary_and_arms_are_compared_with_what_is_best_over_both() -> None:
    def variant(name: str, source: str, **aurocs: float | None) -> dict[str, Any]:
        scored = [{"name": n, "auroc": v, "reason": "" if v else "it failed"} for n, v in aurocs.items()]
        return {"name": name, "source": source, "classifiers": scored}

    radiomics = variant("radiomics", "radiomics", svm=0.8, knn=0.9)
    first, second = variant("fused@a", "fused", svm=0.9, knn=0.7), variant("fused@b", "fused", svm=0.6, knn=0.75)
    assert fitting.choose([radiomics, first, second]) == {
        "primary": {"variant": "radiomics", "classifier": "knn"},
        "compared": {"classifier": "svm", "first": "fused@a", "second": "fused@b"},
    }
    without = variant("fused@b", "fused", svm=None, knn=0.75)
    assert fitting.choose([first, without])["compared"] == {
        "classifier": "knn", "first": "fused@a", "second": "fused@b"
    }  # fmt: skip
    assert fitting.choose([radiomics, first])["compared"] is None
