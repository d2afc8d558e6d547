"""Features of a network made few, so that a light head can be fitted to them in a moment."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

DIRECTIONS = 64
"""Principal ones, of the training split: enough for a head to find what leaks, few enough not to overfit by itself."""

Table = npt.NDArray[np.float32]


def directions(features: Table, is_train: npt.NDArray[np.bool_]) -> Table:
    """(rows, at most :data:`DIRECTIONS`): scores on the principal directions of the training rows."""
    count = min(DIRECTIONS, features.shape[1], int(is_train.sum()))
    with threadpool_limits(limits=1):
        fitted = PCA(n_components=count, svd_solver="full").fit(features[is_train].astype(np.float64))
        reduced: Table = fitted.transform(features.astype(np.float64)).astype(np.float32)
    return reduced
