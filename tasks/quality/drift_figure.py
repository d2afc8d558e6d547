"""Shifts on the page: the surest of a comparison as a forest plot and a table, the rest counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tasks.quality import plots
from tasks.quality.drift import SPLITS, Shift
from tasks.quality.effects import Magnitude
from tasks.quality.shift_words import EFFECTS, plain
from tasks.quality.wording import number, share

DRAWN = 16
"""Shifts of one comparison that are drawn and tabled; ``report.json`` and ``drift.json`` have all."""
COLOURS: Mapping[Magnitude, int] = {"large": 3, "medium": 1, "small": 0, "negligible": 5}
"""Number of the colour of each, the largest first."""


@dataclass(frozen=True)
class Row:
    """One shift as it is written in the table."""

    feature: str
    compared: str
    values: tuple[str, str]
    effect: str
    interval: str
    measure: str
    magnitude: str


@dataclass(frozen=True)
class Drift:
    """One comparison, the surest shifts first."""

    title: str
    heads: tuple[str, str]
    """What stands over the two values."""
    svg: Markup | None
    """None where nothing was compared."""
    legend: Sequence[tuple[str, str]]
    rows: Sequence[Row]
    counts: Mapping[str, int]
    """Magnitude to shifts; those that there are."""
    left_out: int
    """Shifts that are neither drawn nor tabled."""
    not_comparable: Sequence[str]
    """In words, why."""
    missing: str
    """Why there is nothing, where there is nothing."""


def between_splits(shifts: Sequence[Shift]) -> Drift:
    """The splits of one release beside the largest of them."""
    return _drift(
        "Between splits", ("largest split", "other"), shifts, "there are not two labelled splits with samples"
    )


def since_before(shifts: Sequence[Shift]) -> Drift:
    """A release beside the one before it."""
    why = "this is the first release of the dataset in this lake, or the one before cannot be read"
    return _drift("Since the release before", ("before", "now"), shifts, why)


def _drift(title: str, heads: tuple[str, str], shifts: Sequence[Shift], missing: str) -> Drift:
    found = sorted((s for s in shifts if s.effect is not None), key=lambda s: (-s.strength, -abs(s.effect or 0.0)))
    shown = found[:DRAWN]
    counts = {name: sum(shift.magnitude == name for shift in found) for name in COLOURS}
    return Drift(
        title=title,
        heads=heads,
        svg=Markup(_draw(title, shown)) if shown else None,
        legend=[(n, f"--series-{c}") for n, c in COLOURS.items() if any(shift.magnitude == n for shift in shown)],
        rows=[_row(shift) for shift in shown],
        counts={name: shifts_of for name, shifts_of in counts.items() if shifts_of},
        left_out=len(found) - len(shown),
        not_comparable=[shift.sentence for shift in shifts if shift.effect is None],
        missing=missing,
    )


def _draw(title: str, shown: Sequence[Shift]) -> str:
    rows = [
        (f"{_named(shift)} · {_place(shift)}", shift.effect or 0.0, shift.low, shift.high, COLOURS[shift.magnitude])
        for shift in shown
    ]
    return plots.forest(rows, f"{title}: effect sizes of {len(rows)} comparisons with their 95 % intervals.")


def _row(shift: Shift) -> Row:
    # A share has no Kolmogorov–Smirnov distance.
    as_text = share if shift.distance is None else number
    values = [("–" if value is None else as_text(value)) for value in (shift.reference_value, shift.other_value)]
    ends = (shift.effect, shift.low, shift.high)
    effect, low, high = ("–" if end is None else plain(end, 2) for end in ends)
    return Row(
        feature=_named(shift) + (f": {shift.category}" if shift.category else ""),
        compared=f"{shift.other} with {shift.reference}" if shift.subject == SPLITS else shift.subject,
        values=(values[0], values[1]),
        effect=effect,
        interval=f"{low} to {high}",
        measure=EFFECTS[shift.effect_name],
        magnitude=shift.magnitude,
    )


def _named(shift: Shift) -> str:
    return shift.feature.replace("_", " ")


def _place(shift: Shift) -> str:
    return shift.other if shift.subject == SPLITS else shift.subject
