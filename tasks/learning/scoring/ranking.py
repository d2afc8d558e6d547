"""Areas under the ROC and the precision-recall curve, on all rows and on every resample at once; and the curves.

Rows are sorted once; what a resample needs of them are cumulative weights at the scores of positives. Equal scores are
one threshold (mid-ranks), so that weighted values are those of ``sklearn.metrics.roc_auc_score`` and
``average_precision_score``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.learning.scoring.draws import Drawn, Values, blocks, everything, ratio

CURVE_POINTS = 60
"""Of a curve as it is written down, ends included."""
DIGITS = 5
"""Of the coordinates of a written curve."""

Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Areas:
    """Under one label's curves: the values on all rows, and resample by resample (NaN where one side is missing)."""

    auroc: float
    auprc: float
    aurocs: Values
    auprcs: Values


@dataclass(frozen=True)
class _Ranking:
    """Rows by falling score, and the tie groups that hold a positive, each from ``starts`` to before ``stops``."""

    order: Places
    positives: Places
    """Rows that are positive, by falling score."""
    starts: Places
    stops: Places
    before: Places
    """How many positives score higher than the group."""
    through: Places
    """How many positives score as high or higher."""


def areas(truth: Values, answer: Values, drawn: Drawn) -> Areas:
    """Of rows with ``truth`` 0 or 1 and any ``answer`` (higher is likelier); NaN where one side is missing."""
    ranking = _rank(truth, answer)
    whole = _areas(ranking, everything(len(truth)))
    parts = [_areas(ranking, drawn[block]) for block in blocks(drawn)]
    resampled = np.concatenate(parts, axis=1) if parts else np.empty((2, 0))
    return Areas(float(whole[0, 0]), float(whole[1, 0]), resampled[0], resampled[1])


def _rank(truth: Values, answer: Values) -> _Ranking:
    order = np.argsort(-answer, kind="stable")
    falling, is_positive = answer[order], truth[order] == 1
    edges = np.flatnonzero(np.diff(falling)) + 1
    starts, stops = np.concatenate([[0], edges]), np.concatenate([edges, [len(order)]])
    counted = np.concatenate([[0], np.cumsum(is_positive)])
    is_wanted = counted[stops] > counted[starts]
    starts, stops = starts[is_wanted], stops[is_wanted]
    return _Ranking(order, order[is_positive], starts, stops, counted[starts], counted[stops])


def _areas(ranking: _Ranking, drawn: Drawn) -> Values:
    """2 × resamples: AUROC and AUPRC. Weights are whole numbers, so that every sum but the last is exact."""
    rows, positive = _accumulated(drawn, ranking.order), _accumulated(drawn, ranking.positives)
    all_positive, all_negative = positive[:, -1], rows[:, -1] - positive[:, -1]
    before, through = positive.take(ranking.before, axis=1), positive.take(ranking.through, axis=1)
    own, as_high = through - before, rows.take(ranking.stops, axis=1)
    higher = rows.take(ranking.starts, axis=1) - before
    # A positive beats the negatives below it, and half of those that score the same.
    beaten = np.einsum("ij,ij->i", own, 2.0 * all_negative[:, None] - (higher + as_high - through)) / 2
    precise = np.einsum("ij,ij->i", own, through / np.maximum(as_high, 1))
    count = all_positive.astype(np.float64)
    pairs = count * all_negative
    is_one_sided = pairs == 0
    auroc, auprc = ratio(beaten, pairs), ratio(precise, count)
    return np.stack([auroc, np.where(is_one_sided, np.nan, auprc)])


def _accumulated(drawn: Drawn, order: Places) -> npt.NDArray[np.int32]:
    """Resamples × (rows + 1): the weight of all rows before each place. In int32, which adds up five times faster."""
    found = np.zeros((len(drawn), len(order) + 1), dtype=np.int32)
    np.cumsum(drawn.take(order, axis=1), axis=1, dtype=np.int32, out=found[:, 1:])
    return found


def curves(truth: Values, answer: Values) -> dict[str, list[list[float]]]:
    """``roc`` (false and true positive rate) and ``pr`` (recall, precision) from the highest threshold to the lowest.

    Thinned to :data:`CURVE_POINTS` points that lie evenly along the curve; empty where one side is missing.
    """
    order = np.argsort(-answer, kind="stable")
    is_positive = truth[order] == 1
    ends = np.append(np.flatnonzero(np.diff(answer[order])), len(order) - 1)
    hits = np.cumsum(is_positive)[ends] if len(order) else np.empty(0)
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    if not positives or not negatives:
        return {"roc": [], "pr": []}
    recall, false = hits / positives, (ends + 1 - hits) / negatives
    roc = np.concatenate([[[0.0, 0.0]], np.stack([false, recall], axis=1)])
    return {"roc": _thinned(roc), "pr": _thinned(np.stack([recall, hits / (ends + 1)], axis=1))}


def _thinned(points: Values) -> list[list[float]]:
    """Of many points of a curve, those nearest to equal steps along it (each coordinate's way counted)."""
    if len(points) > CURVE_POINTS:
        way = np.concatenate([[0.0], np.abs(np.diff(points, axis=0)).sum(axis=1).cumsum()])
        kept = np.unique(np.searchsorted(way, np.linspace(0, way[-1], CURVE_POINTS)).clip(0, len(points) - 1))
        points = points[kept]
    return [[round(float(x), DIGITS), round(float(y), DIGITS)] for x, y in points]
