"""Samples of a recipe's splits: as the release has them, or dealt anew by image, as publishers without patients do."""

from __future__ import annotations

import numpy as np
import pandas as pd

from tasks.learning.admission import Release
from tasks.learning.reading import samples_of
from tasks.learning.recipe import Recipe


def dealt(release: Release, recipe: Recipe, *, with_others: bool = False) -> pd.DataFrame:
    """Rows of ``samples.parquet`` of the recipe's splits, and of all others too where wanted; in reading order.

    Where the recipe deals anew, ``split`` is what it deals; groups are then on both sides, which is the point.
    """
    splits = [*release.manifest["splits"]] if with_others else [*recipe.splits.named]
    samples = samples_of(release, splits)
    redeal = recipe.splits.redeal
    if redeal is None:
        return samples
    from sklearn.model_selection import train_test_split

    rows = np.flatnonzero(samples["split"].isin([recipe.splits.train, recipe.splits.validation]))
    strata = (
        samples.loc[rows, [c for c in samples.columns if c.startswith("label.")]].astype("string").agg("".join, axis=1)
    )
    alone = strata.map(strata.value_counts()) < 2  # a stratum of one image cannot be on both sides
    _, validation = train_test_split(
        rows,
        test_size=redeal.validation_share,
        random_state=redeal.seed,
        stratify=strata.mask(alone, strata.mode().iloc[0]),
    )
    split = samples["split"].to_numpy(dtype=object).copy()
    split[rows] = recipe.splits.train
    split[validation] = recipe.splits.validation
    return samples.assign(split=split)
