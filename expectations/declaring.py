"""How an expectation is written down: a plain mapping that Great Expectations accepts as it is.

``severity`` critical blocks (above its tolerance) and sends failing rows to quarantine, warning is shown, info is shown
small. In ``meta``: ``code`` (stable reason), ``sentence`` (for clinicians), ``gate``, ``tolerance`` (share of rows),
and ``action``: ``quarantine`` (default for critical), ``null`` (the cell is emptied, the row stays), ``refuse`` (no row
can be blamed: any failure is a failed gate) or ``note``.
"""

from __future__ import annotations

from typing import Any

from tasks.schema import Dataset

Expectation = dict[str, Any]

META = ("tolerance", "action", "count_by", "remedy", "is_told", "needs_pixels")
"""Settings of an expectation that are ours and not Great Expectations'; ``count_by`` names a column by whose values
failing rows are counted, ``remedy`` says what a user can do about a failed gate,
``is_told`` that the failing values are words about the whole table, to be shown one and all, ``needs_pixels`` that
there is nothing to judge where images were not decoded."""


def expectation(kind: str, code: str, sentence: str, severity: str = "critical", **settings: Any) -> Expectation:
    """``kind`` is Great Expectations' name without ``expect_``.

    ``settings``: those named in ``META`` go to meta, everything else to the expectation.
    """
    meta = {"code": code, "sentence": sentence}
    for name in META:
        if name in settings:
            meta[name] = settings.pop(name)
    return {"type": f"expect_{kind}", "kwargs": settings, "severity": severity, "meta": meta}


def never(column: str, code: str, sentence: str, bad: list[Any], **settings: Any) -> Expectation:
    """An error in every row whose value in ``column`` is one of ``bad``."""
    return expectation("column_values_to_not_be_in_set", code, sentence, column=column, value_set=bad, **settings)


def odd(code: str, sentence: str, column: str, **settings: Any) -> Expectation:
    """A warning for every row that says ``yes`` in ``column``."""
    return never(column, code, sentence, ["yes"], severity="warning", **settings)


def warned(
    code: str, sentence: str, column: str, least: float | None = None, most: float | None = None, **settings: Any
) -> Expectation:
    """A warning for every row whose value in ``column`` is below ``least`` or above ``most``."""
    bounds = {name: bound for name, bound in (("min_value", least), ("max_value", most)) if bound is not None}
    return expectation("column_values_to_be_between", code, sentence, "warning", column=column, **bounds, **settings)


def whole_groups(dataset: Dataset) -> Expectation:
    """No group is in two labelled splits; ``check.group_splits`` counts them, none is tolerated."""
    unit = {"patient": "patient", "picture": "group of images that show one picture"}[dataset.group]
    sentence = f"No {unit} is in two of the splits {', '.join(dataset.labelled_splits)}."
    return in_one_split("group-crosses-splits", sentence, "check.group_splits")


def in_one_split(code: str, sentence: str, column: str) -> Expectation:
    """``column`` counts the labelled splits of what must not be in two; no row can be blamed, the gate fails."""
    return expectation(
        "column_values_to_be_between", code, sentence, column=column, max_value=1, tolerance=0.0, action="refuse"
    )
