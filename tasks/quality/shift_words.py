"""A comparison of two sets of samples as one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tasks.quality.effects import Effect, EffectName, Interval, magnitude

EFFECTS: Mapping[EffectName, str] = {
    "cohen-h": "Cohen's h",
    "cliff-delta": "Cliff's delta",
    "cramer-v": "Cramér's V",
}


def sentence(name: str, effect: Effect, counts: tuple[int, int], places: tuple[str, str]) -> str:
    """Both values and what they are of, then difference and effect, each with its 95 % interval in brackets."""
    values = (effect.reference_value, effect.other_value)
    told = _shares(values, effect.difference) if effect.distance is None else _means(values, effect.difference)
    first, second = (f"{v} of {n:,} {place}" for v, n, place in zip(told[:2], counts, places, strict=True))
    size = effect.size
    return (
        f"{name}: {first}, {second}: {told[2]}; {EFFECTS[effect.name]} {plain(size.value, 2)} "
        f"({plain(size.low, 2)} to {plain(size.high, 2)}), {magnitude(effect.name, size.value)}"
    )


def _shares(values: tuple[float, float], difference: Interval) -> tuple[str, str, str]:
    points = [_signed(100 * limit, 1) for limit in (difference.value, difference.low, difference.high)]
    return f"{values[0]:.1%}", f"{values[1]:.1%}", f"{points[0]} points ({points[1]} to {points[2]})"


def _means(values: tuple[float, float], difference: Interval) -> tuple[str, str, str]:
    limits = (difference.value, difference.low, difference.high)
    decimals = _decimals(max(map(abs, limits)))
    first, second = (f"mean {plain(value, min(decimals, _decimals(value) + 1))}" for value in values)
    change = [_signed(limit, decimals) for limit in limits]
    return first, second, f"{change[0]} ({change[1]} to {change[2]})"


def _decimals(value: float) -> int:
    """As many as leave three digits that count."""
    return 1 if value == 0 else min(6, max(0, 2 - math.floor(math.log10(abs(value)))))


def _signed(value: float, decimals: int) -> str:
    text = plain(value, decimals)
    return text if value < 0 or not _is_shown(value, decimals) else f"+{text}"


def plain(value: float, decimals: int) -> str:
    """The number with a real minus, and with none before a nought."""
    return f"{value:,.{decimals}f}".replace("-", "−" if _is_shown(value, decimals) else "")


def _is_shown(value: float, decimals: int) -> bool:
    return round(abs(value), decimals) > 0
