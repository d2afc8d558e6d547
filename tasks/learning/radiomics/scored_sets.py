"""Which rows of every set can be scored, what is true of them, and the draws of patients that all models share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.learning.radiomics.variants import answer_columns
from tasks.learning.recipe import Recipe
from tasks.learning.scoring.draws import Drawn, Values, draw


@dataclass(frozen=True)
class ScoredSet:
    """One set of the recipe; its rows are those with features and a known class."""

    name: str
    is_cross_validated: bool
    """It was trained on: every row has the probability of the fold that did not see its patient."""
    samples: int
    """All that lie in the set."""
    without_class: int
    """Those whose class is not known."""
    without_features: int
    """Those of known class that nothing could be measured of."""
    places: npt.NDArray[np.int64]
    """Of the scored rows, in the sample table."""
    groups: pd.Series
    truth: Values
    """Numbers of classes."""
    drawn: Drawn

    @property
    def patients(self) -> int:
        """Groups that have a scored row."""
        return int(self.groups.nunique())

    @property
    def reason(self) -> str:
        """Why nothing can be scored; empty where something can."""
        if not self.samples:
            return "no sample lies in this set"
        return "" if len(self.truth) else "no sample of this set has both features and a known class"


def sets_of(
    recipe: Recipe, samples: pd.DataFrame, truth: Values, answers: pd.DataFrame, resamples: int
) -> tuple[ScoredSet, ...]:
    """Those that the recipe names, train first; ``answers`` is of the same rows, all null where there are no features.

    Patients are drawn among all that are answered, as in :mod:`tasks.learning.scores`, so that the intervals are too.
    """
    has_features = answers.notna().any(axis=1).to_numpy(bool)
    is_known = ~np.isnan(truth)
    groups = samples["group_id"].reset_index(drop=True)
    found = []
    for name in recipe.splits.named:
        is_in = (samples["split"] == name).to_numpy(bool)
        is_drawn = is_in & has_features
        is_scored = is_drawn & is_known
        drawn = draw(groups[is_drawn], recipe.seed, resamples)
        found.append(
            ScoredSet(
                name=name,
                is_cross_validated=name == recipe.splits.train,
                samples=int(is_in.sum()),
                without_class=int((is_in & ~is_known).sum()),
                without_features=int((is_in & is_known & ~has_features).sum()),
                places=np.flatnonzero(is_scored),
                groups=groups[is_scored].reset_index(drop=True),
                truth=truth[is_scored],
                drawn=drawn if is_known[is_drawn].all() else drawn[:, is_known[is_drawn]],
            )
        )
    return tuple(found)


def aligned(models: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """The probabilities of models.parquet in the order of the sample table; null for samples that it does not have."""
    return models.set_index("sample_id").reindex(samples["sample_id"]).reset_index(drop=True)


def probabilities(
    answers: pd.DataFrame, variant: str, classifier: str, classes: Sequence[str], own: ScoredSet
) -> Values | str:
    """Rows × classes of one model in one set; or why there are none."""
    columns = answer_columns(variant, classifier, classes)
    if missing := [column for column in columns if column not in answers]:
        return f"no probabilities: {', '.join(missing)}"
    found: Values = answers[columns].to_numpy(np.float64)[own.places]
    broken = int((~np.isfinite(found)).any(axis=1).sum())
    return f"{broken} of {len(found)} answers are no numbers" if broken else found
