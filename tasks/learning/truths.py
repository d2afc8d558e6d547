"""What is true of every sample, question by question; and the same with the labels dealt out anew among groups."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.learning.recipe import Question, Recipe

Values = npt.NDArray[np.float64]


def of(samples: pd.DataFrame, recipe: Recipe) -> dict[str, Values]:
    """Question to one number per sample: 1 or 0, the number of the class, or the target; NaN where it is not known.

    Give all samples of the recipe's splits at once: a recipe may want its labels dealt anew among groups.
    """
    found = {question.name: _of(samples, question, recipe) for question in recipe.questions()}
    return shuffled(found, samples["group_id"], recipe.seed) if recipe.shuffle_labels else found


def _of(samples: pd.DataFrame, question: Question, recipe: Recipe) -> Values:
    if question.kind == "target":
        values = samples[f"target.{question.of[0]}"].to_numpy(np.float64, na_value=np.nan)
        return np.where(values == 0, np.nan, values) if recipe.zero_is_unknown else values
    labels = samples[[f"label.{name}" for name in question.of]].astype("Float64").to_numpy(np.float64, na_value=np.nan)
    is_present, is_known = labels == 1, ~np.isnan(labels).any(axis=1)
    if question.kind == "classes":
        is_one = is_known & (is_present.sum(axis=1) == 1)
        return np.where(is_one, is_present.argmax(axis=1).astype(np.float64), np.nan)
    return np.where(is_present.any(axis=1), 1.0, np.where(is_known, 0.0, np.nan))


def shuffled(truths: Mapping[str, Values], groups: pd.Series, seed: int) -> dict[str, Values]:
    """The same answers for other groups: every group gets those of one sample of another, for all of its samples.

    Across all splits at once, so that a group that lies in two of them would give itself away: a model that is better
    than chance at these has seen what it is tested on.
    """
    rng = np.random.default_rng([seed, 1])
    numbers, names = pd.factorize(groups)
    order = rng.permutation(len(numbers))
    one_of_each = np.empty(len(names), dtype=np.int64)
    one_of_each[numbers[order]] = order
    donor = one_of_each[rng.permutation(len(names))][numbers]
    return {name: values[donor] for name, values in truths.items()}
