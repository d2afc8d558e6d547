"""Groups drawn with replacement, what their weights sum up to, and the 95 % interval of what was resampled.

The weight of a row in one resample is how often its group was drawn: a patient with forty films comes in or stays out
as a whole, and every metric of every question is computed on the same draws.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

INTERVAL = (2.5, 97.5)
"""Percentiles of the resampled values: 95 %."""
BLOCK_BYTES = 8 << 20
"""Of one block of weights as float64: what bounds the memory."""

Values = npt.NDArray[np.float64]
Drawn = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
"""Resamples × rows: how often each row was drawn; no rows of resamples where no interval is wanted."""


def draw(groups: pd.Series, seed: int, resamples: int) -> Drawn:
    """As many groups as there are, with replacement, so often; an array of resamples × rows."""
    numbers, names = pd.factorize(groups)
    count = len(names)
    rng = np.random.default_rng([seed, 2])
    drawn = np.empty((resamples, len(numbers)), dtype=np.uint16 if count > 255 else np.uint8)
    most = 0
    for row in drawn:
        often = np.bincount(rng.integers(0, max(count, 1), size=count), minlength=count)
        row[:] = often[numbers]
        most = max(most, int(often.max(initial=0)))
    return drawn if most > 255 else drawn.astype(np.uint8)


def one_of_each(groups: pd.Series, seed: int, draws: int) -> Drawn:
    """Draws × rows: 1 for the one row of every group that was drawn, 0 for the others."""
    numbers, names = pd.factorize(groups)
    rng = np.random.default_rng([seed, 3])
    drawn = np.zeros((draws, len(numbers)), dtype=np.uint8)
    for row in drawn:
        order = rng.permutation(len(numbers))
        chosen = np.empty(len(names), dtype=np.int64)
        chosen[numbers[order]] = order
        row[chosen] = 1
    return drawn


def everything(rows: int) -> Drawn:
    """The one draw that is no draw: every row once."""
    return np.ones((1, rows), dtype=np.uint8)


def blocks(drawn: Drawn) -> Iterator[slice]:
    """Slices of the resamples, few enough at a time that their weights as float64 stay small."""
    step = max(1, BLOCK_BYTES // max(8 * drawn.shape[1], 1))
    yield from (slice(start, start + step) for start in range(0, len(drawn), step))


def sums(drawn: Drawn, columns: Values) -> Values:
    """Of rows × columns, the weighted sum of each column in each resample: resamples × columns."""
    parts = [drawn[block].astype(np.float64) @ columns for block in blocks(drawn)]
    return np.concatenate(parts) if parts else np.empty((0, columns.shape[1]))


def ratio(above: Values, below: Values) -> Values:
    """``above / below``, NaN where there is nothing below."""
    found = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    np.divide(above, below, out=found, where=below > 0)
    return found


def interval(replicates: Values) -> dict[str, float | None]:
    """95 %, from the resamples that are defined (not NaN); none where fewer than half are."""
    usable = replicates[~np.isnan(replicates)]
    if not len(replicates) or len(usable) < len(replicates) / 2:
        return {"low": None, "high": None}
    low, high = np.percentile(usable, INTERVAL)
    return {"low": float(low), "high": float(high)}


def score(value: float | None, replicates: Values | None = None, chance: float | None = None) -> dict[str, Any]:
    """One number with its interval; ``replicates`` stay beside it until :func:`without_replicates` is called.

    What is NaN or infinite is null, and has no interval.
    """
    own = replicates if replicates is not None else np.empty(0)
    beside = {} if chance is None else {"chance": chance}
    if value is None or not math.isfinite(value):
        return {"value": None, "low": None, "high": None, **beside}
    return {"value": float(value), **interval(own), **beside, "replicates": own}


def both(first: Values, resampled: Values) -> list[tuple[float, Values]]:
    """Column by column, the value on all rows (the only row of ``first``) and the resampled ones."""
    return [(float(first[0, column]), resampled[:, column]) for column in range(first.shape[1])]


def mean_of_defined(replicates: Values) -> Values:
    """Of labels × resamples, the mean of each resample over the labels that are defined in it."""
    if not replicates.size:
        return np.empty(0)
    is_defined = ~np.isnan(replicates)
    return ratio(np.where(is_defined, replicates, 0.0).sum(axis=0), is_defined.sum(axis=0).astype(np.float64))


def macro(scored: Mapping[str, Mapping[str, Any]], reasons: Mapping[str, str]) -> dict[str, Any]:
    """The mean over the labels where a metric is defined, and the names of the others, with their reasons.

    ``scored`` holds one :func:`score` per label, made on the same draws. A rare label that is not in a draw is left out
    of the mean of that draw; one without value is never counted as 0.
    """
    defined = {label: own for label, own in scored.items() if own["value"] is not None}
    undefined = {label: reasons.get(label, "") for label in scored if label not in defined}
    about = {"labels": len(defined), "undefined": undefined}
    if not defined:
        return {**score(None), **about}
    chances = [own["chance"] for own in defined.values() if own.get("chance") is not None]
    return {
        **score(
            float(np.mean([own["value"] for own in defined.values()])),
            mean_of_defined(np.array([own["replicates"] for own in defined.values()])),
            float(np.mean(chances)) if chances else None,
        ),
        **about,
    }


def without_replicates(value: Any) -> Any:
    """The same scores, without the resampled values that the intervals were made of."""
    if isinstance(value, dict):
        return {key: without_replicates(item) for key, item in value.items() if key != "replicates"}
    return [without_replicates(item) for item in value] if isinstance(value, list) else value
