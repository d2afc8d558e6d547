"""Clinical inputs as a network reads them: raw numbers, with NaN for what is not known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.schema import DataRefused

SEXES = {"F": 0.0, "M": 1.0}

Table = npt.NDArray[np.float32]
"""(samples, inputs)."""


def clinical_of(samples: pd.DataFrame, inputs: Sequence[str]) -> Table | None:
    """Float32 (samples, inputs): years, F as 0 and M as 1, numbers of ``meta`` columns; NaN where not known.

    None where there are no inputs. Raises :class:`DataRefused` for one that the release does not have.
    """
    missing = [name for name in inputs if name not in samples]
    if missing:
        raise DataRefused(f"the release has no column {missing[0]}, which the recipe gives the network to read")
    columns = [_numbers(samples[name], is_sex=name == "sex") for name in inputs]
    return np.stack(columns, axis=1) if columns else None


def _numbers(column: pd.Series, *, is_sex: bool) -> Table:
    values = column.map(SEXES) if is_sex else pd.to_numeric(column, errors="coerce")
    numbers: Table = values.astype("Float64").to_numpy(np.float32, na_value=np.nan)
    return numbers
