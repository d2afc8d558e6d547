"""What features of pure chance seem to be worth when they are chosen before the split, and when inside it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tasks.learning.radiomics.classifiers import fitted, macro_auroc, probabilities
from tasks.learning.radiomics.fitting import CONTROL, Study, fit_variant
from tasks.learning.radiomics.folds import Table as Rows
from tasks.learning.radiomics.folds import by_patient
from tasks.learning.radiomics.selection import Filters, coefficients_along, fit_filters, indicators, penalties
from tasks.learning.radiomics.variants import Variant
from tasks.learning.recipe import Radiomics, load, radiomics_of
from tests.bench.vertebra_cohort import CLASS_SHARES

NOISE = (712, 364, 2522)
"""Rows that are trained on, further rows, features."""
CHOSEN = 17
"""Features in the paper's signature; so many are taken of noise."""
NOISES = 5


def measure(is_quick: bool) -> dict[str, Any]:
    """Macro AUROC of features of pure chance, by where they were chosen: mean, least and most over several draws."""
    sizes = (120, 60, 300) if is_quick else NOISE
    options = radiomics_of(load("ovf-radiomics", ("radiomics.bootstraps=2", f"radiomics.classifiers=[{CONTROL}]")))
    found: dict[str, list[float]] = {}
    for seed in range(2 if is_quick else NOISES):
        for name, value in _of_noise(*sizes, options, seed).items():
            found.setdefault(name, []).append(value)
    scores = {
        name: {"mean": float(np.mean(values)), "least": min(values), "most": max(values)}
        for name, values in found.items()
    }
    return {"trained": sizes[0], "held_out": sizes[1], "features": sizes[2], "chosen": CHOSEN, "scores": scores}


def _of_noise(trained: int, held: int, count: int, options: Radiomics, seed: int) -> dict[str, float]:
    """One draw; one patient in seven has two rows, as in the cohorts."""
    rng = np.random.default_rng([seed, 3])
    values = rng.standard_normal((trained + held, count))
    truth = rng.choice(3, trained + held, p=CLASS_SHARES)
    patients = np.array([f"{number - (number % 8 == 1):04d}" for number in range(trained + held)], dtype=object)
    names = tuple(f"radiomics.original_glcm_{number:04d}" for number in range(count))
    every = Rows(names, values, truth, patients, 3)
    rows, others = every.of(np.arange(trained)), every.of(np.arange(trained, trained + held))
    splits = [(rows.of(fit), rows.of(score)) for fit, score in by_patient(rows, options.folds, seed)]
    of_all, of_trained = _strongest(every, options), _strongest(rows, options)
    study = Study(
        Variant("radiomics"),
        names,
        values,
        truth,
        patients,
        np.arange(len(truth)) < trained,
        ("class_0", "class_1", "class_2"),
        options,
        seed,
    )
    said, frame = fit_variant(study)
    ours = frame.to_numpy()[trained:]
    return {
        "before the split, cross-validated": float(np.mean([_auroc(of_trained, *split) for split in splits])),
        "before the split, held out": _auroc(of_all, rows, others),
        "inside the folds, cross-validated": float(
            np.mean([_auroc(_strongest(fit, options), fit, score) for fit, score in splits])
        ),
        "inside the split, held out": _auroc(of_trained, rows, others),
        "scanmill, cross-validated": float(said["classifiers"][0]["auroc"]),
        "scanmill, held out": macro_auroc(others.truth, ours),
    }


def _strongest(rows: Rows, options: Radiomics) -> Filters:
    """The first features of the LASSO's path, as many as the paper's signature has, whatever a test says of them."""
    filters = fit_filters(rows, options.model_copy(update={"univariate": 1.0}))
    features = filters.transform(rows.values)
    alphas = penalties(features, indicators(rows))[:15]
    speaks = (coefficients_along(features, indicators(rows), alphas) != 0).any(axis=2)
    enough = np.flatnonzero(speaks.sum(axis=1) >= CHOSEN)
    return filters.only(np.flatnonzero(speaks[enough[0] if len(enough) else -1]))


def _auroc(chosen: Filters, fit: Rows, score: Rows) -> float:
    """Of a logistic regression of these features, fitted to some rows and scored on others."""
    shown = [Rows(chosen.names, chosen.transform(rows.values), rows.truth, rows.groups, 3) for rows in (fit, score)]
    model = fitted(CONTROL, {"C": 0.1}, shown[0], 0)
    return macro_auroc(score.truth, probabilities(model, shown[1].values, 3))
