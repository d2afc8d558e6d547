"""A made-up radiomics run: invented vertebrae, probabilities and signatures, scored by the real statistics.

What the fit would say (features, coefficients, paths, frequencies, parameters) is invented; cross-validated AUROCs and
everything in radiomics.json are computed from the invented probabilities, so that they belong together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.learning import recipe as recipes
from tasks.learning.radiomics import statistics
from tasks.learning.radiomics.variants import Variant, variants_of
from tasks.learning.recipe import Recipe, radiomics_of
from tasks.learning.scoring import ranking
from tasks.learning.scoring.calibration import softmax
from tasks.learning.scoring.draws import everything

Values = npt.NDArray[np.float64]
NAMES = ("class_0", "class_1", "class_2")
SIZES = {"train": 712, "internal": 178, "external": 111, "prospective": 75}
"""Vertebrae of the paper."""
EASE = {"train": 1.0, "internal": 1.0, "external": 0.6, "prospective": 0.8}
"""Of the sets: what the signal is multiplied by."""
SKILL = {"radiomics": 1.2, "deep": 1.0, "fused": 1.7}
TAUGHT = {"radimagenet": 0.25, "imagenet": 0.0}
"""What an arm adds to the signal."""
LEARNT = (0.15, 0.1, -0.3, -0.05, 0.0, 0.02, -0.2, -0.1)
"""What a classifier adds to it, in the order of the recipe."""
PARAMETERS: dict[str, dict[str, Any]] = {
    "logistic-regression": {"C": 0.1},
    "svm": {"C": 1.0, "gamma": "scale"},
    "knn": {"n_neighbors": 15, "weights": "distance"},
    "random-forest": {"max_features": "sqrt", "min_samples_leaf": 2},
    "extra-trees": {"max_features": 0.5, "min_samples_leaf": 1},
    "gradient-boosting": {"learning_rate": 0.05, "max_depth": 3},
    "gaussian-nb": {"var_smoothing": 1e-9},
    "mlp": {"alpha": 0.01, "hidden_layer_sizes": [32]},
}
TEXTURES = (
    "original_glcm_Contrast",
    "original_glcm_Correlation",
    "original_firstorder_Entropy",
    "original_glrlm_RunEntropy",
    "original_shape2D_Elongation",
    "original_shape2D_PerimeterSurfaceRatio",
    "original_ngtdm_Coarseness",
    "log-sigma-1-0-mm-3D_glcm_Idm",
    "log-sigma-2-0-mm-3D_glszm_ZoneEntropy",
    "log-sigma-3-0-mm-3D_firstorder_Skewness",
    "wavelet-LH_glcm_ClusterShade",
    "wavelet-HL_glrlm_LongRunEmphasis",
    "wavelet-HH_firstorder_Kurtosis",
    "wavelet-LL_gldm_DependenceEntropy",
)
RECIPE = """
dataset: ovf-radiomics
kind: radiomics
classes: {fracture: [class_0, class_1, class_2]}
splits: {train: train, test: external, others: [internal, prospective]}
radiomics:
  arms: {radimagenet: {input: radimagenet}, imagenet: {input: imagenet}}
"""


@dataclass(frozen=True)
class MadeUp:
    """One run's content, before it is written."""

    recipe: Recipe
    samples: pd.DataFrame
    """``sample_id group_id patient_id split``."""
    truth: Values
    models: pd.DataFrame
    """models.parquet."""
    model: dict[str, Any]
    """model.json."""
    radiomics: dict[str, Any]
    """radiomics.json."""
    features: dict[str, Any]
    """What the schema of features.parquet says under ``scanmill``."""


def made_up(scale: float = 0.25, resamples: int = 40, *, is_awkward: bool = False, seed: int = 0) -> MadeUp:
    """A run at that share of the paper's size.

    ``is_awkward``: one arm alone, so that nothing is compared; nobody in the prospective set is of class 2, the
    internal set is empty, some samples have no features and one no class, and one classifier could not be fitted.
    """
    recipe = recipes.parse(RECIPE.encode(), name="ovf-radiomics", where="made up", overrides=_overrides(is_awkward))
    samples, truth = _cohort(scale, is_awkward, np.random.default_rng([seed, 0]))
    variants = variants_of(radiomics_of(recipe))
    models = _models(variants, samples, truth, recipe, is_awkward, seed)
    model = _model(variants, models, samples, truth, recipe, is_awkward, seed)
    is_told = models.iloc[:, 1:].notna().any(axis=1) & ~np.isnan(truth)
    models = models[is_told].reset_index(drop=True)
    radiomics = statistics.of_models(models, samples, truth, model, recipe, resamples)
    return MadeUp(recipe, samples, truth, models, model, radiomics, _features(recipe))


def _overrides(is_awkward: bool) -> Sequence[str]:
    return ("radiomics.arms={imagenet: {input: imagenet}}",) if is_awkward else ()


def _cohort(scale: float, is_awkward: bool, rng: np.random.Generator) -> tuple[pd.DataFrame, Values]:
    """Every seventh patient has two vertebrae, as about so many of the paper's have."""
    rows, classes = [], []
    for name, size in SIZES.items():
        count = 0 if is_awkward and name == "internal" else round(size * scale)
        shares = (0.6, 0.4, 0.0) if is_awkward and name == "prospective" else (0.35, 0.35, 0.3)
        patients = np.arange(count) * 7 // 8
        for number, patient in enumerate(patients):
            identity = f"{name[:2]}{patient:04}"
            rows.append((f"{identity}_l{number}", identity, identity, name))
        classes.append(rng.choice(3, size=count, p=shares).astype(np.float64))
    samples = pd.DataFrame(rows, columns=["sample_id", "group_id", "patient_id", "split"])
    truth = np.concatenate(classes)
    if is_awkward:
        truth[-1] = np.nan
    return samples, truth


def _models(
    variants: Sequence[Variant], samples: pd.DataFrame, truth: Values, recipe: Recipe, is_awkward: bool, seed: int
) -> pd.DataFrame:
    """Probabilities that share most of their noise, as models of the same images do; class 2 is the hardest."""
    ease = samples["split"].map(EASE).to_numpy(np.float64)
    own_class = (truth[:, None] == np.arange(3)) * np.array([1.3, 1.1, 0.7])
    shared = np.random.default_rng([seed, 1]).normal(size=(len(samples), 3))
    columns: dict[str, Any] = {"sample_id": samples["sample_id"]}
    for place, variant in enumerate(variants):
        of_variant = np.random.default_rng([seed, 2, place]).normal(size=(len(samples), 3))
        for number, name in enumerate(radiomics_of(recipe).classifiers):
            if _is_broken(variant, name, is_awkward):
                continue
            own = np.random.default_rng([seed, 3, place, number]).normal(size=(len(samples), 3))
            skill = SKILL[variant.source] + TAUGHT.get(variant.arm or "", 0.0) + LEARNT[number]
            said = softmax(skill * ease[:, None] * own_class + 0.8 * shared + 0.5 * of_variant + 0.3 * own)
            columns |= {f"{variant.name}.{name}.{label}": said[:, k] for k, label in enumerate(NAMES)}
    models = pd.DataFrame(columns)
    if is_awkward:  # nothing could be measured of these
        models.loc[models.index % 29 == 5, models.columns[1:]] = np.nan
    return models


def _is_broken(variant: Variant, classifier: str, is_awkward: bool) -> bool:
    return is_awkward and variant.source == "deep" and classifier == "mlp"


def _model(
    variants: Sequence[Variant],
    models: pd.DataFrame,
    samples: pd.DataFrame,
    truth: Values,
    recipe: Recipe,
    is_awkward: bool,
    seed: int,
) -> dict[str, Any]:
    options = radiomics_of(recipe)
    folds = pd.factorize(samples["group_id"])[0] % options.folds
    found = []
    for place, variant in enumerate(variants):
        tried: list[dict[str, Any]] = []
        for name in options.classifiers:
            if _is_broken(variant, name, is_awkward):
                reason = "the solver did not converge in any fold"
                about: dict[str, Any] = {"auroc": None, "auroc_sd": None, "folds": [], "reason": reason}
                tried.append({"name": name, "parameters": {}, "tried": 6, **about})
                continue
            own = models[[f"{variant.name}.{name}.{label}" for label in NAMES]].to_numpy(np.float64)
            is_in = (samples["split"] == "train").to_numpy() & ~np.isnan(truth) & ~np.isnan(own).any(axis=1)
            values = [
                _macro_auroc(truth[is_in & (folds == fold)], own[is_in & (folds == fold)])
                for fold in range(options.folds)
            ]
            measured = {"auroc": float(np.mean(values)), "auroc_sd": float(np.std(values, ddof=1)), "folds": values}
            tried.append({"name": name, "parameters": PARAMETERS[name], "tried": 6, **measured, "reason": ""})
        found.append({**_signature(variant, np.random.default_rng([seed, 4, place])), "classifiers": tried})
    best = max(
        ((one["auroc"], own["name"], one["name"]) for own in found for one in own["classifiers"] if not one["reason"]),
        key=lambda one: one[0],
    )
    shuffled = np.random.default_rng([seed, 5]).normal(0.5, 0.03, 5)
    return {
        "question": "fracture",
        "classes": list(NAMES),
        "variants": found,
        "primary": {"variant": best[1], "classifier": best[2]},
        "compared": _compared(found),
        "controls": {"shuffled": [float(value) for value in shuffled]},
    }


def _macro_auroc(truth: Values, said: Values) -> float:
    whole = everything(len(truth))
    return float(np.mean([ranking.areas(truth == k, said[:, k], whole).auroc for k in range(len(NAMES))]))


def _compared(variants: Sequence[dict[str, Any]]) -> dict[str, str] | None:
    """The classifier with the highest mean over both fused variants; None where there is one."""
    fused = [own for own in variants if own["source"] == "fused"]
    if len(fused) < 2:
        return None
    means = {
        one["name"]: one["auroc"] + other["auroc"]
        for one, other in zip(fused[0]["classifiers"], fused[1]["classifiers"], strict=True)
    }
    best = max(means, key=lambda name: means[name])
    return {"classifier": best, "first": fused[0]["name"], "second": fused[1]["name"]}


def _signature(variant: Variant, rng: np.random.Generator) -> dict[str, Any]:
    """What a selection leaves behind: as many as the paper has (17 and 12), or about so."""
    count = {"radiomics": 9, "deep": 8, "fused": 17 if variant.arm == "radimagenet" else 12}[variant.source]
    measured = {"radiomics": 1125, "deep": 2048, "fused": 3173}[variant.source]
    textures = [f"radiomics.{name}" for name in TEXTURES]
    deep = [f"deep.{variant.arm}.{number:04}" for number in sorted(rng.choice(2048, 60, replace=False))]
    names = {"radiomics": textures, "deep": deep, "fused": [*textures, *deep]}[variant.source]
    wanted = min(count, len(names))
    chosen = [names[place] for place in sorted(rng.choice(min(len(names), 24), wanted, replace=False))]
    weights = rng.normal(size=(wanted, 3)) * np.geomspace(1.0, 0.05, wanted)[:, None]
    frequencies = {name: round(float(rng.beta(8, 2) if name in chosen else rng.beta(1, 6)), 2) for name in names}
    selected = [
        {
            "feature": name,
            "coefficients": [float(value) for value in weights[place]],
            "mean": float(rng.normal(10, 5)),
            "scale": float(rng.uniform(0.5, 4)),
            "f": float(rng.uniform(8, 60)),
            "p": float(10 ** -rng.uniform(3, 12)),
            "frequency": frequencies[name],
        }
        for place, name in enumerate(chosen)
    ]
    alphas = np.geomspace(0.2, 0.002, 30)
    best = 14
    errors = 0.46 + 0.16 * ((np.arange(30) - best) / 14.0) ** 2
    often = sorted(frequencies, key=lambda name: (-frequencies[name], name))[:40]
    steps = zip(
        ("measured", "constant", "correlated", "univariate", "lasso"),
        (measured, measured - 6, measured // 5, measured // 14, wanted),
        strict=True,
    )
    return {
        "name": variant.name,
        "source": variant.source,
        "arm": variant.arm,
        "steps": [{"step": step, "features": left} for step, left in steps],
        "alpha": float(alphas[best]),
        "path": [
            {
                "alpha": float(alpha),
                "error": float(error),
                "standard_error": 0.02,
                "features": int(wanted * (place / best) ** 1.5),
            }
            for place, (alpha, error) in enumerate(zip(alphas, errors, strict=True))
        ],
        "selected": sorted(selected, key=lambda own: -max(abs(value) for value in own["coefficients"])),
        "frequencies": [
            {"feature": name, "frequency": frequencies[name], "is_selected": name in chosen} for name in often
        ],
        "components": None,
    }


def _features(recipe: Recipe) -> dict[str, Any]:
    options = radiomics_of(recipe)
    return {
        "engine": "pyradiomics 3.0.1",
        "settings": {"binWidth": options.bin_width, "force2D": True, "sigma": list(options.log_sigmas)},
        "arms": {
            name: {
                "network": "resnet50",
                "input": arm.input,
                "weights": {"file": "ResNet50.pt", "sha256": "ab" * 32, "layout": "radimagenet"}
                if name == "radimagenet"
                else None,
                "size": options.size,
                "margin": options.margin,
                "preprocessing": "blue, green, red; (x − 127.5) · 2 / 255"
                if arm.input == "radimagenet"
                else "red, green, blue; mean .485 .456 .406, sd .229 .224 .225",
            }
            for name, arm in options.arms.items()
        },
    }
