"""Eight classifiers of a signature, each with the few settings that it is tried with.

Grids are small on purpose: signatures have tens of features and training sets hundreds of patients, where finer tuning
fits the folds. No class is weighted, so that probabilities stay frequencies.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.svm import SVC

from tasks.learning.radiomics.folds import Rows, Table, Values, by_patient
from tasks.learning.recipe import ClassifierName

CALIBRATION_FOLDS = 3
"""By patient, of the support vector machine, whose scores are no probabilities."""
TREES = 200

Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Classifier:
    """How one is made, and what it is tried with."""

    make: Callable[[Parameters, int, Table], Any]
    """Of parameters, a random state and the rows that it will be fitted on."""
    grid: tuple[Parameters, ...]


def _vary(name: str, *values: object) -> tuple[Parameters, ...]:
    return tuple({name: value} for value in values)


def _logistic(parameters: Parameters, state: int, table: Table) -> Any:
    return LogisticRegression(**parameters, max_iter=2000)


def _support_vectors(parameters: Parameters, state: int, table: Table) -> Any:
    """Calibrated on patients that it was not fitted on."""
    fewest = int(table.patients_by_class.min())
    if fewest < CALIBRATION_FOLDS:
        raise ValueError(
            f"its probabilities are calibrated in {CALIBRATION_FOLDS} folds by patient, "
            f"and a class has {fewest} patients where it is fitted"
        )
    splits = by_patient(table, CALIBRATION_FOLDS, state)
    return CalibratedClassifierCV(SVC(**parameters), method="sigmoid", cv=splits)


def _neighbours(parameters: Parameters, state: int, table: Table) -> Any:
    return KNeighborsClassifier(**parameters)


def _forest(parameters: Parameters, state: int, table: Table) -> Any:
    return RandomForestClassifier(TREES, **parameters, n_jobs=1, random_state=state)


def _extra_trees(parameters: Parameters, state: int, table: Table) -> Any:
    return ExtraTreesClassifier(TREES, **parameters, n_jobs=1, random_state=state)


def _boosting(parameters: Parameters, state: int, table: Table) -> Any:
    """Never stopped early: that would hold out rows without regard to patients."""
    return HistGradientBoostingClassifier(
        **parameters, learning_rate=0.1, max_iter=60, early_stopping=False, random_state=state
    )


def _bayes(parameters: Parameters, state: int, table: Table) -> Any:
    return GaussianNB(**parameters)


def _perceptron(parameters: Parameters, state: int, table: Table) -> Any:
    """One hidden layer, by L-BFGS: better than stochastic steps on so few rows, and nothing is held out to stop it."""
    return MLPClassifier((16,), **parameters, solver="lbfgs", max_iter=200, random_state=state)


CLASSIFIERS: Mapping[ClassifierName, Classifier] = {
    "logistic-regression": Classifier(_logistic, _vary("C", 0.001, 0.01, 0.1, 1.0)),
    "svm": Classifier(_support_vectors, _vary("C", 0.1, 1.0, 10.0)),
    "knn": Classifier(_neighbours, _vary("n_neighbors", 5, 15, 45)),
    "random-forest": Classifier(_forest, _vary("min_samples_leaf", 1, 5)),
    "extra-trees": Classifier(_extra_trees, _vary("min_samples_leaf", 1, 5)),
    "gradient-boosting": Classifier(_boosting, _vary("max_leaf_nodes", 4, 15)),
    "gaussian-nb": Classifier(_bayes, _vary("var_smoothing", 1e-9, 0.1)),
    "mlp": Classifier(_perceptron, _vary("alpha", 1.0, 10.0, 100.0)),
}


def fitted(name: ClassifierName, parameters: Parameters, table: Table, state: int) -> Any:
    """A classifier of scikit-learn, fitted; ``state`` decides what is random in it.

    Raises ValueError where it cannot be fitted to these rows.
    """
    if not table.names:
        raise ValueError("the signature is empty: no feature varies where it was looked for")
    with warnings.catch_warnings():
        # The number of steps is a setting like any other.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return CLASSIFIERS[name].make(parameters, state, table).fit(table.values, table.truth)


def probabilities(model: Any, features: Values, classes: int) -> Values:
    """Rows × classes; a class that it was never shown has probability 0.

    Raises ValueError where the model says what is no number.
    """
    said = np.zeros((len(features), classes))
    if not len(features):
        return said
    said[:, np.asarray(model.classes_, dtype=np.int64)] = model.predict_proba(features)
    if not np.isfinite(said).all():
        raise ValueError(f"{int((~np.isfinite(said)).any(axis=1).sum())} of {len(said)} answers are no numbers")
    return said


def macro_auroc(truth: Rows, said: Values) -> float:
    """Mean of each class's AUROC against the others, over classes that some rows are of and others are not.

    NaN where there is none.
    """
    found = [_auroc(truth == number, said[:, number]) for number in range(said.shape[1])]
    defined = [value for value in found if not np.isnan(value)]
    return float(np.mean(defined)) if defined else float("nan")


def _auroc(is_positive: npt.NDArray[np.bool_], said: Values) -> float:
    positives = int(is_positive.sum())
    pairs = positives * (len(said) - positives)
    if not pairs:
        return float("nan")
    return float((rankdata(said)[is_positive].sum() - positives * (positives + 1) / 2) / pairs)
