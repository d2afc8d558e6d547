"""From published text to values: what a cell says where it says something, null where it does not."""

from __future__ import annotations

import pandas as pd


def stem(names: pd.Series) -> pd.Series:
    """File names without what follows the last dot, and without blanks around them."""
    return names.str.strip().str.replace(r"\.[^.]*$", "", regex=True)


def folded(texts: pd.Series) -> pd.Series:
    """Texts without the differences that are none: case, and blanks around and between words."""
    return texts.str.casefold().str.split().str.join(" ")


def number(texts: pd.Series) -> pd.Series:
    """Numbers (float64) where a text is a finite one, else null."""
    numbers = pd.to_numeric(texts.str.strip(), errors="coerce").astype("float64")
    return numbers.where(numbers.abs() < float("inf"))


def whole(texts: pd.Series) -> pd.Series:
    """Whole numbers (Int64), padded or not, where a text is one, else null."""
    numbers = number(texts)
    return numbers.where(numbers % 1 == 0).astype("Int64")


def flag(texts: pd.Series) -> pd.Series:
    """A label (Int8) from ``0`` and ``1``, else null."""
    numbers = number(texts)
    return numbers.where(numbers.isin([0, 1])).astype("Int8")


def is_numeric(texts: pd.Series) -> bool:
    """Whether a column holds numbers only, empty cells apart, and at least one."""
    said = texts[texts.str.strip() != ""]
    return bool(len(said)) and bool(number(said).notna().all())


def yes_no(flags: pd.Series) -> pd.Series:
    """``yes`` and ``no``, as the gates' own columns have it; null stays null."""
    return flags.astype(object).map({True: "yes", False: "no"})
