"""The signature: a few features and what each says of the classes, found on given rows; and how stable that is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tasks.learning.radiomics.folds import Rows, Split, Table, Values, drawn
from tasks.learning.radiomics.selection import Filters, coefficients_along, fit_filters, indicators, penalties
from tasks.learning.recipe import Radiomics

FREQUENCIES = 40
"""Features whose frequency is written down, those chosen most often first."""


@dataclass(frozen=True)
class Point:
    """One penalty of the path."""

    alpha: float
    error: float
    """Mean over folds of the held-out squared error, summed over classes."""
    standard_error: float
    features: int
    """How many are left under it on all rows."""


@dataclass(frozen=True)
class Signature:
    """What was found; ``filters`` gives the chosen features and no others."""

    filters: Filters
    coefficients: Values
    """Features × classes, of z-scored features."""
    alpha: float
    path: tuple[Point, ...]
    reason: str
    """Why it is smaller or other than the rule says; mostly empty."""

    @property
    def names(self) -> tuple[str, ...]:
        """Of the chosen features."""
        return self.filters.names

    def of(self, table: Table) -> Table:
        """The chosen features of these rows, z-scored as on the rows that it was found on."""
        return replace(table, names=self.names, values=self.filters.transform(table.values))

    def as_json(self, frequencies: Mapping[str, float]) -> dict[str, Any]:
        """What model.json says of it: how many each step left, the path, and what was chosen, the weightiest first."""
        weights = np.abs(self.coefficients).max(axis=1, initial=0.0)
        order = np.lexsort((np.argsort(np.argsort(np.array(self.names, dtype=object))), -weights))
        often = sorted(frequencies.items(), key=lambda pair: (-pair[1], pair[0]))[:FREQUENCIES]
        own = self.filters
        steps = [*own.left, ("lasso", len(own.names))]
        return {
            "steps": [{"step": step, "features": count} for step, count in steps],
            "alpha": self.alpha,
            "path": [asdict(point) for point in self.path],
            "selected": [
                {
                    "feature": own.names[place],
                    "coefficients": self.coefficients[place].tolist(),
                    "mean": float(own.feature_means[place]),
                    "scale": float(own.feature_scales[place]),
                    "f": float(own.f[place]),
                    "p": float(own.p[place]),
                    "frequency": frequencies.get(own.names[place], 0.0),
                }
                for place in order
            ],
            "frequencies": [
                {"feature": name, "frequency": share, "is_selected": name in own.names} for name, share in often
            ],
            "components": None
            if own.explained is None
            else {"kept": dict(own.left)["components"], "explained": own.explained},
            "reason": self.reason,
        }


def find(table: Table, splits: Sequence[Split], options: Radiomics) -> Signature:
    """The signature of these rows; ``splits`` of them choose the penalty, and the filters are fitted anew in each.

    The penalty is the largest whose held-out error lies within one standard error of the least; where no feature is
    left under it, the largest under which one is.
    """
    answers = indicators(table)
    filters = fit_filters(table, options)
    features = filters.transform(table.values)
    alphas = penalties(features, answers)
    along = coefficients_along(features, answers, alphas)
    counts = (along != 0).any(axis=2).sum(axis=1)
    errors = np.array([_errors(table.of(trained), table.of(held), alphas, options) for trained, held in splits])
    error = errors.mean(axis=0)
    spread = errors.std(axis=0, ddof=1) / np.sqrt(len(errors))
    place, reason = _one_standard_error(error, spread, counts)
    chosen = np.flatnonzero((along[place] != 0).any(axis=1))
    points = zip(alphas.tolist(), error.tolist(), spread.tolist(), counts.tolist(), strict=True)
    return Signature(
        filters.only(chosen),
        along[place][chosen],
        float(alphas[place]),
        tuple(Point(*point) for point in points),
        "; ".join(said for said in (filters.reason, reason) if said),
    )


def _errors(trained: Table, held: Table, alphas: Values, options: Radiomics) -> Values:
    """Held-out error under each penalty, when everything is fitted on the other side."""
    filters, answers = fit_filters(trained, options), indicators(trained)
    along = coefficients_along(filters.transform(trained.values), answers, alphas)
    said = answers.mean(axis=0) + filters.transform(held.values) @ along
    return np.asarray(np.square(indicators(held) - said).sum(axis=2).mean(axis=1))


def _one_standard_error(error: Values, spread: Values, counts: Rows) -> tuple[int, str]:
    """Place of the penalty, and why it is another than the rule says."""
    least = int(np.argmin(error))
    place = int(np.flatnonzero(error <= error[least] + spread[least])[0])
    if counts[place] or not counts.any():
        return place, ""
    first = int(np.flatnonzero(counts)[0])
    return (
        first,
        "no penalty told the classes apart better than none by one standard error; the first to speak was kept",
    )


def stability(table: Table, alpha: float, options: Radiomics, seed: int) -> dict[str, float]:
    """Share of draws of patients in which each feature was chosen, of those chosen at all; filters fitted anew in each.

    Under the penalty ``alpha``, not one chosen anew. A component is told by its number: the third of a draw need not
    be the third of another. Patients who are drawn twice make noise look more telling than it is, so that the
    frequency of a useless feature is small rather than 0.
    """
    times: dict[str, int] = {}
    for number in range(options.bootstraps):
        own = drawn(table, seed, number)
        filters = fit_filters(own, options)
        (found,) = coefficients_along(filters.transform(own.values), indicators(own), np.array([alpha]))
        for place in np.flatnonzero((found != 0).any(axis=1)):
            times[filters.names[place]] = times.get(filters.names[place], 0) + 1
    return {name: count / options.bootstraps for name, count in times.items()}
