"""Boxes around findings: from pixels of the published image to those of the stored one, and one table row for each.

Pure functions of the sample table, where a sample has a list of ``label x y w h`` (see :data:`tasks.schema.BOX`): the
top-left corner and the extent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from tasks.schema import Dataset

NUMBERS = ("x", "y", "w", "h")


def scaled(samples: pd.DataFrame) -> pd.Series:
    """``boxes_scaled``: the boxes in pixels of the stored image. Null stays null, and so does a number that is null."""
    boxed = samples[samples["boxes"].notna()]
    across, down = boxed["width"] / boxed["source_width"], boxed["height"] / boxed["source_height"]
    values = [
        [_stretched(box, factor_x, factor_y) for box in boxes]
        for boxes, factor_x, factor_y in zip(boxed["boxes"], across, down, strict=True)
    ]
    return pd.Series(values, index=boxed.index, dtype=object).reindex(samples.index)


def _stretched(box: dict[str, Any], across: float, down: float) -> dict[str, Any]:
    factors = {"x": across, "y": down, "w": across, "h": down}
    numbers = {name: None if pd.isna(box[name]) else float(box[name] * factors[name]) for name in NUMBERS}
    return {"label": box["label"], **numbers}


def one_per_row(samples: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row per box: ``position`` of its sample in the table, ``label``, and ``x y w h``, NaN where not known."""
    rows = [
        (position, str(box["label"]), *(box[name] for name in NUMBERS))
        for position, boxes in enumerate(samples[column])
        if isinstance(boxes, list | np.ndarray)
        for box in boxes
    ]
    return pd.DataFrame(rows, columns=["position", "label", *NUMBERS]).astype(dict.fromkeys(NUMBERS, "float64"))


def with_area(boxes: pd.DataFrame) -> pd.DataFrame:
    """Those of :func:`one_per_row` that have a place and an area; what has not cannot be drawn."""
    is_known = boxes[list(NUMBERS)].map(np.isfinite).all(axis=1)
    return boxes[is_known & (boxes["w"] > 0) & (boxes["h"] > 0)]


def labels_in_order(dataset: Dataset, found: Sequence[str]) -> list[str]:
    """The found labels once each: declared ones as declared, then any others by name."""
    others = sorted(set(found) - set(dataset.labels))
    return [*(name for name in dataset.labels if name in set(found)), *others]
