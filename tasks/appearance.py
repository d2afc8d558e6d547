"""How images look, as the gate is shown it: grey levels, borders and sizes against what the dataset declares.

Pure functions of tables. Nothing is said of a blank frame, which is one finding already and not five.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tasks.image_checks import white_level
from tasks.readings import yes_no
from tasks.schema import BLANK_CONTRAST, Dataset

PREVAILING = 0.9
"""Share of the images from which on their size is that of the copy: some are published again, all reduced alike."""


def shown(samples: pd.DataFrame, dataset: Dataset) -> dict[str, pd.Series]:
    """``check.mean_grey`` and ``check.grey_range`` (shares of white), ``check.border`` (of the side that the widest
    uniform border lies across), ``check.odd_size``, ``check.inverted`` and ``check.turned`` (degrees); null of images
    that are blank or could not be read, and where it is not asked for or cannot be told."""
    is_picture = samples["intensity_std"] / greatest(samples, dataset) >= BLANK_CONTRAST
    mean_grey = samples["intensity_mean"] / _white(samples)
    border = _widest_border(samples)
    return {
        "check.mean_grey": mean_grey.where(is_picture),
        "check.grey_range": samples["contrast"].where(is_picture),
        "check.border": border.where(is_picture & dataset.appearance.fills_frame),
        "check.odd_size": _odd_size(samples, dataset.appearance.sizes),
        "check.inverted": yes_no(samples["looks_inverted"]),
        "check.turned": samples["looks_turned_degrees"].astype("float64"),
    }


def greatest(samples: pd.DataFrame, dataset: Dataset) -> pd.Series:
    """The greatest grey level that an image can have: of its bit depth; of a DICOM file, which seldom uses all sixteen
    bits, the white of the fewest that hold its brightest pixel."""
    return _white(samples) if dataset.dicom else 2.0 ** samples["bit_depth"].astype("float64") - 1


def _white(samples: pd.DataFrame) -> pd.Series:
    """The grey level that is white, null of images that could not be read."""
    levels = [
        white_level(int(brightest), int(depth)) if pd.notna(brightest) else np.nan
        for brightest, depth in zip(samples["intensity_max"], samples["bit_depth"], strict=True)
    ]
    return pd.Series(levels, index=samples.index, dtype="float64")


def _widest_border(samples: pd.DataFrame) -> pd.Series:
    across = samples[["border_left", "border_right"]].max(axis=1) / samples["source_width"]
    down = samples[["border_top", "border_bottom"]].max(axis=1) / samples["source_height"]
    return pd.concat([across, down], axis=1).max(axis=1).astype("float64")


def _odd_size(samples: pd.DataFrame, sizes: tuple[tuple[int, int], ...]) -> pd.Series:
    """``yes`` of an image that has neither a declared size nor that of nearly all others."""
    own = samples["source_width"].astype("float64") + 1j * samples["source_height"].astype("float64")
    if not sizes:
        return pd.Series(None, index=samples.index, dtype=object)
    counts = own.dropna().value_counts()
    usual = [complex(*size) for size in sizes] + [size for size, n in counts.items() if n >= PREVAILING * counts.sum()]
    return yes_no((~own.isin(usual)).astype(object).where(own.notna(), None))
