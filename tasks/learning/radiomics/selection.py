"""From many features to few: filters fitted on given rows and no others, and a penalty under which few features speak.

Rows that are trained on are the only ones that anything here is fitted on; whoever calls decides which those are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.linalg import helmert
from scipy.stats import f as f_distribution
from sklearn.linear_model import enet_path

from tasks.learning.radiomics.folds import Rows, Table, Values
from tasks.learning.recipe import Radiomics

DEEP = "deep."
"""How names of deep features begin."""
CONSTANT = 1e-10
"""A feature whose standard deviation is no larger share of its largest magnitude is constant but for rounding."""
LARGEST_F = 1e12
"""Of a feature that is the same for all rows of a class, and for no others."""
PENALTIES = 40
LEAST_PENALTY = 0.05
"""Of the path, as a share of the penalty under which nothing is left."""
TOLERANCE, ITERATIONS = 1e-5, 5000
"""Of coordinate descent: its duality gap, as a share of the spread of the classes."""


@dataclass(frozen=True)
class Filters:
    """Which features are left, and how they come of a table: z-scored, and mixed where they are components.

    Every array but ``columns``, ``means``, ``scales`` and the first axis of ``mixing`` has one entry per feature.
    """

    columns: Rows
    """Of the table, those that are read."""
    means: Values
    scales: Values
    mixing: Values | None
    """Columns × features; None where every column is a feature."""
    names: tuple[str, ...]
    f: Values
    """Of the analysis of variance between classes."""
    p: Values
    feature_means: Values
    """In the feature's own unit; of a component, that of z-scores."""
    feature_scales: Values
    left: tuple[tuple[str, int], ...]
    """How many features each step left."""
    explained: float | None = None
    """Share of the variance of deep features that is in their components."""
    reason: str = ""
    """Why it is one feature, where none passed."""

    def transform(self, values: Values) -> Values:
        """Rows × features, with mean 0 and standard deviation 1 where it was fitted.

        What is no number stands at the mean of the rows that it was fitted on.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            scaled = (values[:, self.columns] - self.means) / self.scales
        scaled[~np.isfinite(scaled)] = 0.0
        return scaled if self.mixing is None else np.asarray(scaled @ self.mixing)

    def only(self, places: Rows) -> Filters:
        """The same for some of the features, in that order; columns that no other reads are left out."""
        if self.mixing is None:
            read, mixing = places, None
        else:
            read = np.flatnonzero((self.mixing[:, places] != 0).any(axis=1))
            mixing = self.mixing[np.ix_(read, places)]
        return replace(
            self,
            columns=self.columns[read],
            means=self.means[read],
            scales=self.scales[read],
            mixing=mixing,
            names=tuple(self.names[place] for place in places),
            f=self.f[places],
            p=self.p[places],
            feature_means=self.feature_means[places],
            feature_scales=self.feature_scales[places],
        )


def fit_filters(table: Table, options: Radiomics) -> Filters:
    """Constant, correlated and untelling features out, in this order; deep ones into components where wanted.

    Where no feature passes the univariate test, the one that tells most is kept, and ``reason`` says so; where none
    varies, nothing is left. A feature that is no number on some row is left out with the constant ones.
    """
    names, values = table.names, table.values
    left = [("measured", len(names))]
    means, scales = _moments(values)
    # Finite moments are those of columns that hold nothing but numbers.
    with np.errstate(invalid="ignore"):
        is_varying = np.isfinite(scales) & (scales > CONSTANT * np.abs(values).max(axis=0, initial=0.0))
    columns = np.flatnonzero(is_varying)
    left.append(("constant", len(columns)))
    means, scales = means[columns], scales[columns]
    scaled = (values[:, columns] - means) / scales
    f, p = analysis_of_variance(scaled, table.truth)
    order = _most_telling_first(f, [names[column] for column in columns])
    kept = uncorrelated(scaled, order, options.correlation)
    left.append(("correlated", len(kept)))
    kept, reason = _telling(kept, p, options.univariate)
    left.append(("univariate", len(kept)))
    found = Filters(
        columns[kept],
        means[kept],
        scales[kept],
        None,
        tuple(names[column] for column in columns[kept]),
        f[kept],
        p[kept],
        means[kept],
        scales[kept],
        tuple(left),
        reason=reason,
    )
    if options.components is None:
        return found
    return _with_components(found, scaled[:, kept], table.truth, options.components)


def _moments(values: Values) -> tuple[Values, Values]:
    """Mean and standard deviation of each column; neither is a number where one of its values is none."""
    with np.errstate(over="ignore", invalid="ignore"):
        means = values.mean(axis=0)
        return means, np.sqrt(np.square(values - means).mean(axis=0))


def analysis_of_variance(scaled: Values, truth: Rows) -> tuple[Values, Values]:
    """F and p of each z-scored column between the classes that there are; 0 and 1 where there is only one class.

    Rows count as independent; where patients have several, p is somewhat too small, which is why it only filters.
    """
    classes, counts = np.unique(truth, return_counts=True)
    between, within = len(classes) - 1, len(truth) - len(classes)
    if between < 1 or within < 1:
        return np.zeros(scaled.shape[1]), np.ones(scaled.shape[1])
    sums = (truth[None, :] == classes[:, None]).astype(np.float64) @ scaled
    explained = (np.square(sums) / counts[:, None]).sum(axis=0)
    # Of a z-scored column, the whole sum of squares is the number of rows.
    rest = np.maximum(len(truth) - explained, 0.0)
    f = np.minimum((explained / between) / np.maximum(rest / within, 1 / LARGEST_F), LARGEST_F)
    return f, np.asarray(f_distribution.sf(f, between, within))


def _most_telling_first(f: Values, names: Sequence[str]) -> Rows:
    """By falling F, then by name. In single precision: copies of a feature differ in the last bits of a sum."""
    rank = np.argsort(np.argsort(np.array(names, dtype=object), kind="stable"), kind="stable")
    return np.lexsort((rank, -f.astype(np.float32)))


def uncorrelated(scaled: Values, order: Rows, limit: float) -> Rows:
    """Columns of which no two have |r| > ``limit``: taken greedily in ``order``, given back in the order of columns.

    r is taken in single precision, which is right to 1e-6 and twice as fast: it is most of the work of a fit.
    """
    ordered = scaled[:, order].astype(np.float32)
    is_alike = np.abs(ordered.T @ ordered) > limit * len(scaled)
    is_dropped = np.zeros(len(order), dtype=bool)
    for place in np.flatnonzero(is_alike.sum(axis=1) > 1):  # every feature is like itself
        if not is_dropped[place]:
            is_dropped[place + 1 :] |= is_alike[place, place + 1 :]
    return np.sort(order[~is_dropped])


def _telling(kept: Rows, p: Values, share: float) -> tuple[Rows, str]:
    """Of these columns, those that pass, or the best and why."""
    if not len(kept):
        return kept, "no feature varies"
    passes = benjamini_hochberg(p[kept], share)
    if passes.any():
        return kept[passes], ""
    best = int(np.argmin(p[kept]))
    reason = (
        f"none of {len(kept)} features passed the univariate test (Benjamini-Hochberg at {share:g}); "
        f"the one with the smallest p, {p[kept][best]:.2g}, was kept so that there is a model"
    )
    return kept[[best]], reason


def benjamini_hochberg(p: Values, share: float) -> npt.NDArray[np.bool_]:
    """Which of these tests pass, when ``share`` of those that pass may be false."""
    order = np.argsort(p, kind="stable")
    is_below = p[order] <= share * np.arange(1, len(p) + 1) / len(p)
    passes = np.zeros(len(p), dtype=bool)
    if is_below.any():
        passes[order[: int(np.flatnonzero(is_below)[-1]) + 1]] = True
    return passes


def _with_components(filters: Filters, scaled: Values, truth: Rows, count: int) -> Filters:
    """The same with principal components in the place of deep features, scaled to standard deviation 1.

    ``scaled`` are the rows that the filters were fitted on. Components come by falling variance, and a sign is chosen
    so that the largest loading is positive.
    """
    is_deep = np.array([name.startswith(DEEP) for name in filters.names], dtype=bool)
    plain, deep = np.flatnonzero(~is_deep), np.flatnonzero(is_deep)
    if not len(deep):
        return filters
    variances, axes = np.linalg.eigh(scaled[:, deep].T @ scaled[:, deep] / len(scaled))
    # Rounding leaves a little variance to axes that have none.
    largest_first = [place for place in np.argsort(-variances, kind="stable") if variances[place] > 1e-9 * len(deep)]
    kept = np.array(largest_first[:count], dtype=np.int64)
    spreads, loadings = np.sqrt(variances[kept]), axes[:, kept]
    loadings = loadings * np.sign(loadings[np.abs(loadings).argmax(axis=0), np.arange(len(kept))])
    mixing = np.zeros((len(filters.names), len(plain) + len(kept)))
    mixing[plain, np.arange(len(plain))] = 1.0
    mixing[deep, len(plain) :] = loadings / spreads
    prefix = filters.names[deep[0]].rsplit(".", 1)[0]
    f, p = analysis_of_variance(scaled @ mixing, truth)
    return replace(
        filters,
        mixing=mixing,
        names=(*(filters.names[place] for place in plain), *(f"{prefix}.pc{n + 1:02d}" for n in range(len(kept)))),
        f=f,
        p=p,
        feature_means=np.concatenate([filters.feature_means[plain], np.zeros(len(kept))]),
        feature_scales=np.concatenate([filters.feature_scales[plain], spreads]),
        left=(*filters.left, ("components", mixing.shape[1])),
        explained=float(variances[kept].sum() / variances.sum()),
    )


def indicators(table: Table) -> Values:
    """Rows × classes: 1 where a row is of the class, 0 elsewhere."""
    return np.asarray(np.eye(table.classes)[table.truth])


def penalties(features: Values, answers: Values) -> Values:
    """From the one under which nothing is left downwards, evenly on a logarithmic scale."""
    centred = answers - answers.mean(axis=0)
    largest = float(np.linalg.norm(features.T @ centred, axis=1).max(initial=0.0)) / len(features)
    return np.geomspace(1.0, LEAST_PENALTY, PENALTIES) * max(largest, np.finfo(np.float64).tiny)


def coefficients_along(features: Values, answers: Values, alphas: Values) -> Values:
    """Alphas × features × classes: where (1 / 2n) ‖centred answers - features · W‖² + alpha · Σ ‖w_j‖ is least.

    Classes are nominal, so that one penalty holds for a feature's coefficients of all classes together: it speaks for
    all or for none (the multi-task LASSO). ``alphas`` fall; ``features`` have mean 0.
    """
    if not features.shape[1]:
        return np.zeros((len(alphas), 0, answers.shape[1]))
    # A row's centred answers sum to 0, and so do a feature's coefficients: in a basis of what sums to 0 there is one
    # class less to fit, and every length is what it was.
    basis = helmert(answers.shape[1])
    _, found, _ = enet_path(
        np.asfortranarray(features),
        np.asfortranarray((answers - answers.mean(axis=0)) @ basis.T),
        l1_ratio=1.0,
        alphas=alphas,
        tol=TOLERANCE,
        max_iter=ITERATIONS,
    )
    return np.asarray(np.transpose(found, (2, 1, 0)) @ basis)
