"""A logistic regression of a signature as plain numbers; to apply one needs numpy alone, and nothing is unpickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]


def as_json(
    names: Sequence[str],
    means: Values,
    scales: Values,
    coefficients: Values,
    intercepts: Values,
    classes: Sequence[str],
) -> dict[str, Any]:
    """``coefficients`` is classes × names, of z-scores; with two classes, the one row that scikit-learn keeps."""
    if len(coefficients) == 1:  # the second's score, against nought
        coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
        intercepts = np.concatenate([np.zeros_like(intercepts), intercepts])
    return {
        "classes": list(classes),
        "features": list(names),
        "means": means.tolist(),
        "scales": scales.tolist(),
        "coefficients": coefficients.tolist(),
        "intercepts": intercepts.tolist(),
    }


def apply_logistic(variant: Mapping[str, Any], features: Mapping[str, Any]) -> Values:
    """Rows × classes: probabilities by a variant's ``logistic``, of measured features by name.

    A value that is no number stands at the mean of the training set, as in the fit. Raises KeyError where a feature is
    missing, and ValueError where the variant has no logistic regression.
    """
    model = variant["logistic"]
    if model is None:
        raise ValueError(f"{variant['name']} has no logistic regression: see its classifiers for the reason")
    columns = [np.asarray(features[name], dtype=np.float64) for name in model["features"]]
    with np.errstate(over="ignore", invalid="ignore"):
        scaled = (np.stack(columns, axis=1) - np.array(model["means"])) / np.array(model["scales"])
    scaled[~np.isfinite(scaled)] = 0.0
    scores = scaled @ np.array(model["coefficients"]).T + np.array(model["intercepts"])
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
