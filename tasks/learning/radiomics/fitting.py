"""One variant fitted: its signature, its classifiers, and what each says of every row; labels shuffled; the choice.

Everything is fitted on the training rows alone: in a cross-validation by patient that selects features anew in every
fold, and then once on all of them. No other row enters, and no time of day is written down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from tasks.learning.radiomics import logistic
from tasks.learning.radiomics.classifiers import CLASSIFIERS, Parameters, fitted, macro_auroc, probabilities
from tasks.learning.radiomics.folds import Rows, Table, Values, by_patient, refuse_too_few
from tasks.learning.radiomics.signature import Signature, find, stability
from tasks.learning.radiomics.variants import Variant, answer_columns
from tasks.learning.recipe import ClassifierName, Radiomics
from tasks.learning.truths import shuffled
from tasks.schema import DataRefused

CONTROL: ClassifierName = "logistic-regression"
"""Fitted to shuffled labels."""
CONTROLS = 5
"""How often."""
FAILURES = (ValueError, ArithmeticError, np.linalg.LinAlgError)
"""Of a classifier that cannot be fitted to the rows it is given; they become its reason."""


@dataclass(frozen=True)
class Study:
    """Rows that could be measured and no others, and what is to be fitted to those that are trained on."""

    variant: Variant
    names: Sequence[str]
    """Of features; some may be of other variants."""
    values: Values
    """Rows × names."""
    truth: npt.NDArray[Any]
    """Numbers of classes; read where ``is_train`` alone."""
    groups: npt.NDArray[Any] | pd.Series
    """Each row's patient."""
    is_train: npt.NDArray[np.bool_]
    class_names: Sequence[str]
    options: Radiomics
    seed: int

    @cached_property
    def columns(self) -> Rows:
        """Places of the variant's features. Raises :class:`DataRefused` where there are none."""
        own = set(self.variant.columns(self.names))
        if not own:
            raise DataRefused(
                f"{self.variant.name}: none of the {len(self.names)} features that were measured belongs to it"
            )
        return np.array([place for place, name in enumerate(self.names) if name in own], dtype=np.int64)

    @property
    def trained(self) -> Table:
        """The variant's features of training rows, and nothing of any other row."""
        return Table(
            tuple(self.names[column] for column in self.columns),
            np.asarray(self.values[np.ix_(self.is_train, self.columns)], dtype=np.float64),
            np.asarray(self.truth)[self.is_train].astype(np.int64),
            np.asarray(self.groups, dtype=object)[self.is_train],
            len(self.class_names),
        )


@dataclass(frozen=True)
class _Fold:
    """A split of a cross-validation as its own signature shows it; shared by all classifiers and their settings."""

    trained: Table
    held: Table
    rows: Rows
    """That are held out."""


@dataclass(frozen=True)
class _Tuned:
    """A classifier, cross-validated."""

    parameters: Parameters
    """Best over all folds."""
    tried: int
    folds: tuple[float, ...]
    """Macro AUROC of each, under the parameters that were best in the other folds."""
    said: Values
    """Rows × classes: of each row when its patient was held out, under those parameters."""

    @property
    def auroc(self) -> float:
        """Mean over folds."""
        return float(np.nanmean(self.folds))


@dataclass(frozen=True)
class _Fit:
    """A classifier as it is written down, the model on all training rows, and what was said of rows."""

    entry: dict[str, Any]
    model: Any
    """Of scikit-learn; None where it failed."""
    of_train: Values
    """Rows × classes, out of fold; NaN where it failed."""
    of_others: Values


def fit_variant(study: Study) -> tuple[dict[str, Any], pd.DataFrame]:
    """What model.json says of a variant, and the probabilities of every row, in their order.

    Columns of the frame are ``<variant>.<classifier>.<class>``: for training rows from the fold in which their patient
    was held out, for others from the model fitted on all training rows; NaN where a classifier has a reason.

    Raises :class:`DataRefused` where a class has too few patients for the folds.
    """
    table, options, seed = study.trained, study.options, study.seed
    refuse_too_few(table, study.class_names, options.folds)
    # One thread: the same sums in the same order every time, and no fight for cores that others have.
    with threadpool_limits(limits=1):
        folds = _folds(table, options, seed)
        found = find(table, by_patient(table, options.folds, seed), options)
        frequencies = stability(table, found.alpha, options, seed)
        others = found.filters.transform(study.values[np.ix_(~study.is_train, study.columns)])
        fits = [_fit(name, folds, found.of(table), others, _state(seed)) for name in options.classifiers]
    said: dict[str, Values] = {}
    for fit in fits:
        columns = answer_columns(study.variant.name, fit.entry["name"], study.class_names)
        for number, name in enumerate(columns):
            said[name] = np.full(len(study.values), np.nan)
            said[name][study.is_train] = fit.of_train[:, number]
            said[name][~study.is_train] = fit.of_others[:, number]
    mapping = {
        "name": study.variant.name,
        "source": study.variant.source,
        "arm": study.variant.arm,
        **found.as_json(frequencies),
        "classifiers": [fit.entry for fit in fits],
        "logistic": _plain(table.names, found, fits, study.class_names),
    }
    return mapping, pd.DataFrame(said)


def finished_model(study: Study, classifier: ClassifierName, parameters: Parameters) -> Callable[[Values], Values]:
    """The model that :func:`fit_variant` had at its end, fitted again: rows × ``names`` to rows × classes.

    Nothing is ever unpickled; a fit is seconds, and the same rows give the same model.
    """
    table, options, seed = study.trained, study.options, study.seed
    with threadpool_limits(limits=1):
        found = find(table, by_patient(table, options.folds, seed), options)
        model = fitted(classifier, parameters, found.of(table), _state(seed))

    def said_of(rows: Values) -> Values:
        with threadpool_limits(limits=1):
            return probabilities(model, found.filters.transform(rows[:, study.columns]), len(study.class_names))

    return said_of


def shuffled_controls(study: Study, numbers: Sequence[int] = range(CONTROLS)) -> list[float | None]:
    """Cross-validated macro AUROCs of logistic regression when patients' classes are dealt anew among patients.

    At chance, unless something of the held-out side enters the other; None where it could not be fitted. ``numbers``
    tell the dealings apart, each of which can be done alone.
    """
    table, options, seed = study.trained, study.options, study.seed
    found: list[float | None] = []
    with threadpool_limits(limits=1):
        for number in numbers:
            true, patients = {"": table.truth.astype(np.float64)}, pd.Series(table.groups)
            dealt = shuffled(true, patients, seed + number)[""].astype(np.int64)
            folds = _folds(replace(table, truth=dealt), options, seed)
            try:
                found.append(_tuned(CONTROL, folds, _state(seed)).auroc)
            except FAILURES:
                found.append(None)
    return found


def choose(variants: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """``primary`` and ``compared`` of model.json, from the mappings that :func:`fit_variant` gave, in their order.

    Raises :class:`DataRefused` where no classifier could be fitted to any of them.
    """
    scored = [
        (entry["auroc"], variant["name"], entry["name"])
        for variant in variants
        for entry in variant["classifiers"]
        if not entry["reason"]
    ]
    if not scored:
        reasons = sorted({entry["reason"] for variant in variants for entry in variant["classifiers"]})
        raise DataRefused(f"no classifier could be fitted to any variant: {'; '.join(reasons)}")
    _, variant_name, classifier = max(scored, key=lambda entry: entry[0])  # the first of equals
    return {"primary": {"variant": variant_name, "classifier": classifier}, "compared": _compared(variants)}


def _compared(variants: Sequence[Mapping[str, Any]]) -> dict[str, str] | None:
    """The two fused variants, and the classifier that does best over both; None where there are no two."""
    fused = [variant for variant in variants if variant["source"] == "fused"]
    if len(fused) != 2:
        return None
    first, second = ({e["name"]: e["auroc"] for e in v["classifiers"] if not e["reason"]} for v in fused)
    both = [name for name in first if name in second]
    if not both:
        return None
    best = max(both, key=lambda name: first[name] + second[name])
    return {"classifier": best, "first": fused[0]["name"], "second": fused[1]["name"]}


def _state(seed: int) -> int:
    """What scikit-learn wants: below 2³², whatever the seed."""
    return int(np.random.default_rng([seed, 4]).integers(2**31))


def _folds(table: Table, options: Radiomics, seed: int) -> list[_Fold]:
    """A signature is found anew on each, its penalty by a cross-validation within it."""
    folds = []
    for rows, held in by_patient(table, options.folds, seed):
        trained = table.of(rows)
        found = find(trained, by_patient(trained, options.folds, seed), options)
        folds.append(_Fold(found.of(trained), found.of(table.of(held)), held))
    return folds


def _tuned(name: ClassifierName, folds: Sequence[_Fold], state: int) -> _Tuned:
    """Every setting on every fold; what speaks for a fold is the setting that is best in the others.

    So no fold's score decides what it is scored with. Settings that cannot be fitted everywhere are passed over; raises
    ValueError where that leaves none.
    """
    classes = folds[0].held.classes
    answers: list[list[Values]] = []
    grid: list[Parameters] = []
    failure: Exception | None = None
    for parameters in CLASSIFIERS[name].grid:
        try:
            said = [probabilities(fitted(name, parameters, f.trained, state), f.held.values, classes) for f in folds]
        except FAILURES as error:
            failure = error
            continue
        grid.append(parameters)
        answers.append(said)
    if failure is not None and not grid:
        raise failure
    aurocs = np.array([[macro_auroc(f.held.truth, a) for f, a in zip(folds, said, strict=True)] for said in answers])
    if np.isnan(aurocs).all(axis=1).any():
        raise ValueError("no fold holds rows of several classes, so that none can be scored")
    out_of_fold = np.full((sum(len(fold.rows) for fold in folds), classes), np.nan)
    scored = []
    for number, fold in enumerate(folds):
        others = np.delete(aurocs, number, axis=1)
        best = _best(others if np.isfinite(others).any() else aurocs)
        out_of_fold[fold.rows] = answers[best][number]
        scored.append(float(aurocs[best, number]))
    return _Tuned(grid[_best(aurocs)], len(grid), tuple(scored), out_of_fold)


def _fit(name: ClassifierName, folds: Sequence[_Fold], signature: Table, others: Values, state: int) -> _Fit:
    """One classifier, tuned on the folds and fitted on all training rows; a failure becomes its reason."""
    try:
        tuned = _tuned(name, folds, state)
        model = fitted(name, tuned.parameters, signature, state)
        said = probabilities(model, others, signature.classes)
    except FAILURES as error:
        nothing = np.full((len(signature.truth), signature.classes), np.nan)
        entry = _failed(name, " ".join(str(error).split()))
        return _Fit(entry, None, nothing, np.full((len(others), signature.classes), np.nan))
    return _Fit(_entry(name, tuned), model, tuned.said, said)


def _best(aurocs: Values) -> int:
    """Of settings × folds; the first of equals."""
    return int(np.argmax(np.nanmean(aurocs, axis=1)))


def _entry(name: str, tuned: _Tuned) -> dict[str, Any]:
    is_defined = np.isfinite(tuned.folds)
    return {
        "name": name,
        "parameters": dict(tuned.parameters),
        "tried": tuned.tried,
        "auroc": tuned.auroc,
        "auroc_sd": float(np.nanstd(tuned.folds, ddof=1)) if is_defined.sum() > 1 else None,
        "folds": [value if defined else None for value, defined in zip(tuned.folds, is_defined, strict=True)],
        "reason": "",
    }


def _failed(name: str, reason: str) -> dict[str, Any]:
    empty: dict[str, Any] = {"parameters": {}, "tried": 0, "auroc": None, "auroc_sd": None, "folds": []}
    return {"name": name, **empty, "reason": reason}


def _plain(
    names: Sequence[str], found: Signature, fits: Sequence[_Fit], class_names: Sequence[str]
) -> dict[str, Any] | None:
    """The logistic regression as numbers of measured features: components are sums of these, and are worked in."""
    model = next((fit.model for fit in fits if fit.entry["name"] == CONTROL), None)
    if model is None:
        return None
    own = found.filters
    weights = model.coef_ if own.mixing is None else model.coef_ @ own.mixing.T
    read = [names[column] for column in own.columns]
    return logistic.as_json(read, own.means, own.scales, weights, model.intercept_, class_names)
