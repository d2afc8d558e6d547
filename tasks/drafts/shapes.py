"""How files and cells look, without a word of what they say: for made-up ones of the same form."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import pandas as pd

from tasks.drafts.columns import Numbers, decimals_of, is_category, is_date, numbers_of

TOKEN = re.compile(r"\d+|[^\W\d_]+|[\W_]+")
OFTEN = 3
"""Times that a value has to occur, so that it says nothing of one person."""
SHORT = 40
FALLBACK = "image_{number:04d}"


def name_shape(stems: Sequence[str]) -> str:
    """An f-string of ``number`` that makes names of the form that most of these have.

    Only what is the same in all of them is kept; other letters become x, other digits 0, and one number counts.
    """
    parts = [TOKEN.findall(stem) for stem in stems]
    forms = Counter(tuple(map(_kind, tokens)) for tokens in parts)
    form, count = forms.most_common(1)[0]
    alike = [tokens for tokens in parts if tuple(map(_kind, tokens)) == form]
    columns = list(zip(*alike, strict=True))
    counters = [len(set(c)) if kind == "d" else 0 for kind, c in zip(form, columns, strict=True)]
    if count < max(OFTEN, len(stems) / 2) or max(counters) < 2:
        return FALLBACK
    at = counters.index(max(counters))
    return "".join(
        _counter(c) if place == at else escaped_braces(_masked(kind, c))
        for place, (kind, c) in enumerate(zip(form, columns, strict=True))
    )


def _kind(token: str) -> str:
    return "d" if token.isdigit() else "a" if token.isalpha() else token


def _counter(texts: Sequence[str]) -> str:
    width = min(map(len, texts))
    return "{number}" if width == 1 else f"{{number:0{width}d}}"


def _masked(kind: str, texts: Sequence[str]) -> str:
    if len(set(texts)) == 1 or kind not in ("d", "a"):
        return texts[0]
    return ("0" if kind == "d" else "X" if texts[0].isupper() else "x") * min(map(len, texts))


def escaped_braces(text: str) -> str:
    """As a text stands in an f-string."""
    return text.replace("{", "{{").replace("}", "}}")


def values_of(cells: pd.Series) -> tuple[str, ...]:
    """The values of a category that each occur often; empty where it is none."""
    counts = cells[cells != ""].value_counts()
    kept = sorted(str(v) for v, count in counts.items() if count >= OFTEN and len(str(v)) <= SHORT)
    return tuple(kept) if is_category(cells) and not is_date(cells) and len(kept) >= 2 else ()


def cell_code(cells: pd.Series) -> str:
    """Python code for a made-up cell of a column that is no category: a number of its size, a date, or words."""
    way = numbers_of(cells)
    if way is not None and not cells.str.match(r"^0\d").any():
        return number_code(cells, way)
    return '"2001-01-01"' if is_date(cells) else '"made up"'


def number_code(cells: pd.Series, way: Numbers) -> str:
    """Code for a made-up number between round bounds."""
    read = way.read(cells).dropna()
    low, high = _rounded(float(read.quantile(0.05)), math.floor), _rounded(float(read.quantile(0.95)), math.ceil)
    decimals = min(decimals_of(cells.str.removesuffix(way.suffix)), 4)
    drawn = f"rng.uniform({low:g}, {max(high, low + 1):g}):.{decimals}f" if decimals else _whole(low, high)
    shown = f'f"{{{drawn}}}{way.suffix}"'
    return f'{shown}.replace(".", ",")' if way.has_comma and decimals else shown


def _whole(low: float, high: float) -> str:
    return f"rng.integers({int(low)}, {int(max(high, low + 1))})"


def _rounded(value: float, to: object) -> float:
    """To one digit, away from the middle, so that no bound is a patient's value."""
    if value == 0:
        return 0.0
    step = 10.0 ** math.floor(math.log10(abs(value)))
    return (math.floor if to is math.floor else math.ceil)(value / step) * step
