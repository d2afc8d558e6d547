"""What a dataset demands beyond the common expectations, as the plain mappings that ``Dataset.expectations`` holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

Demand = Mapping[str, Any]
Severity = Literal["critical", "warning"]


def one_of(
    code: str,
    column: str,
    values: Sequence[Any],
    sentence: str,
    *,
    gate: str = "metadata",
    severity: Severity = "warning",
    **meta: Any,
) -> Demand:
    """Every known value of ``column`` is one of ``values``."""
    kwargs = {"column": column, "value_set": list(values)}
    return _demand("expect_column_values_to_be_in_set", kwargs, code, sentence, gate, severity, meta)


def matching(
    code: str,
    column: str,
    regex: str,
    sentence: str,
    *,
    gate: str = "metadata",
    severity: Severity = "warning",
    **meta: Any,
) -> Demand:
    """Every known value of ``column`` matches."""
    kwargs = {"column": column, "regex": regex}
    return _demand("expect_column_values_to_match_regex", kwargs, code, sentence, gate, severity, meta)


def between(
    code: str,
    column: str,
    sentence: str,
    *,
    least: float | None = None,
    most: float | None = None,
    gate: str = "metadata",
    severity: Severity = "warning",
    **meta: Any,
) -> Demand:
    """Every known value of ``column`` lies between the bounds, which are allowed themselves."""
    bounds = {"min_value": least, "max_value": most}
    kwargs = {"column": column, **{name: bound for name, bound in bounds.items() if bound is not None}}
    return _demand("expect_column_values_to_be_between", kwargs, code, sentence, gate, severity, meta)


def _demand(
    kind: str,
    kwargs: Mapping[str, Any],
    code: str,
    sentence: str,
    gate: str,
    severity: Severity,
    meta: Mapping[str, Any],
) -> Demand:
    about = {"code": code, "gate": gate, "sentence": sentence, **meta}
    return {"type": kind, "kwargs": dict(kwargs), "severity": severity, "meta": about}
