"""Where samples differ: every split from the largest one, and a release from the one before it.

Tables in, plain values out; :mod:`tasks.quality.effects` has the formulas and their sources. Each comparison is an
effect size with its 95 % interval, in which samples of one patient (``group_id``) count as one another's likes. What
cannot be compared is there as well, and says why. Values that are not known are left out of a comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.quality import effects
from tasks.quality.effects import CUTS, Effect, EffectName, Floats, Integers, Magnitude, Side
from tasks.quality.shift_words import sentence
from tasks.schema import Dataset, DriftKind

FEWEST_GROUPS = 5
"""Groups with a known value that each side must have; of fewer, an interval says nothing."""
ALL = "all samples"
SPLITS = "splits"
SUFFIX = "_drift"


@dataclass(frozen=True)
class Shift:
    """One feature compared between two sets of samples. What could not be compared has None for its numbers."""

    subject: str
    """What is compared: ``splits``, or of two releases ``all samples`` or the name of a split."""
    kind: DriftKind
    feature: str
    """In words, with its unit; a label by its name."""
    reference: str
    other: str
    """Two splits, or ``before`` and ``after``."""
    reference_n: int
    other_n: int
    """Samples with a known value (of images per patient: patients)."""
    reference_value: float | None
    other_value: float | None
    """Share (0–1) of a label, or of the category whose share differs most; mean of a number, in its unit."""
    effect_name: EffectName
    effect: float | None
    low: float | None
    high: float | None
    """Effect size with its 95 % interval. h and delta are positive where ``other`` has more; V, 0 to 1, has no sign."""
    magnitude: Magnitude
    sentence: str
    reference_groups: int = 0
    other_groups: int = 0
    """Groups that those samples are of."""
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    """``other_value`` less ``reference_value`` with its 95 % interval."""
    distance: float | None = None
    """Kolmogorov–Smirnov distance, 0–1, of numbers."""
    category: str = ""
    """The category that the values are of."""

    @property
    def sure(self) -> float | None:
        """The smallest size of the effect that its interval leaves possible; None where nothing was compared."""
        return None if self.low is None or self.high is None else effects.sure(self.low, self.high)

    @property
    def strength(self) -> float:
        """How surely and how much it differs, whatever the measure: 1 is surely no longer negligible."""
        return (self.sure or 0.0) / CUTS[self.effect_name][0]

    def as_json(self) -> dict[str, Any]:
        """Plain mapping for report.json and drift.json."""
        return asdict(self)


def between_splits(dataset: Dataset, samples: pd.DataFrame) -> list[Shift]:
    """Every labelled split beside the largest of them, feature by feature; empty where there are not two.

    ``samples`` has columns of :func:`tasks.schema.sample_schema`; one that is missing counts as unknown.
    """
    if "split" not in samples:
        return []
    found = samples["split"].value_counts()
    there = [split for split in dataset.labelled_splits if found.get(split, 0)]
    if len(there) < 2:
        return []
    largest = max(there, key=lambda split: int(found[split]))
    table = _Table(dataset, samples)
    split = table.split
    pairs = [
        _Sides(SPLITS, largest, other, (f"in {largest}", f"in {other}"), split == largest, split == other)
        for other in there
        if other != largest
    ]
    return [table.compare(feature, sides) for feature in _features(dataset) for sides in pairs]


def between_releases(dataset: Dataset, before: pd.DataFrame, after: pd.DataFrame) -> list[Shift]:
    """Two releases feature by feature, all their samples first, then each split that both have.

    Patients that both have are recognised by their ``group_id``, so that a release which adds a few samples is known to
    differ by little. Columns as for :func:`between_splits`; :func:`columns` names those that are looked at.
    """
    names = columns(dataset)
    both = pd.concat([frame.reindex(columns=names) for frame in (before, after)], ignore_index=True)
    table = _Table(dataset, both)
    is_after = np.arange(len(both)) >= len(before)
    parts = {ALL: np.ones(len(both), dtype=bool)} | {split: table.split == split for split in dataset.splits}
    pairs = [
        _Sides(subject, "before", "after", ("before", "after"), is_in & ~is_after, is_in & is_after)
        for subject, is_in in parts.items()
        if (is_in & ~is_after).any() and (is_in & is_after).any()
    ]
    return [table.compare(feature, sides) for sides in pairs for feature in _features(dataset)]


def columns(dataset: Dataset) -> list[str]:
    """The columns of a sample table that comparisons look at."""
    named = {column for feature in _features(dataset) for column in feature.columns}
    return sorted({"group_id", "split", *named})


def largest(shifts: Sequence[Shift], count: int | None = None, least: float = 1.0) -> list[Shift]:
    """Those that surely are at least so strong, by default more than negligible; the strongest first."""
    found = [shift for shift in shifts if shift.strength and shift.strength >= least]
    return sorted(found, key=lambda shift: -shift.strength)[:count]


def as_checks(shifts: Sequence[Shift], dataset: Dataset, index: pd.Index) -> pd.DataFrame:
    """Columns ``check.<kind>_drift`` for the images gate: what differs in words, empty where it is within the limit.

    A comparison belongs to no row. It is written to one because the gate judges rows, the first to the first row and so
    on, so that failing "rows" are comparisons that fail; of a table with fewer rows the last one gets the rest.
    """
    limits = dataset.drift_limits()
    return pd.DataFrame(
        {f"check.{kind}{SUFFIX}": _said(shifts, kind, limit, index) for kind, limit in limits.items()}, index=index
    )


def _said(shifts: Sequence[Shift], kind: DriftKind, limit: float, index: pd.Index) -> pd.Series:
    made = [shift for shift in shifts if shift.kind == kind and shift.sure is not None]
    words = [shift.sentence if (shift.sure or 0.0) > limit else "" for shift in made]
    if len(words) > len(index):
        words[len(index) - 1 :] = ["; ".join(filter(None, words[len(index) - 1 :]))]
    return pd.Series([*words, *[None] * (len(index) - len(words))], index=index, dtype=object)


def summary(shifts: Sequence[Shift]) -> Iterator[str]:
    """How many comparisons were made and how they came out, in a few words each."""
    made = [shift for shift in shifts if shift.effect is not None]
    yield f"{len(made):,} comparisons"
    yield f"{len(largest(shifts)):,} surely more than negligible"
    if len(made) < len(shifts):
        yield f"{len(shifts) - len(made):,} cannot be made"


@dataclass(frozen=True)
class _Feature:
    kind: DriftKind
    words: str
    measure: Literal["share", "number", "category", "groups"]
    columns: tuple[str, ...] = ()
    reckon: Callable[..., pd.Series] = lambda values: values


@dataclass(frozen=True)
class _Sides:
    """Which samples are compared, and what they are called."""

    subject: str
    reference: str
    other: str
    places: tuple[str, str]
    """The two with their prepositions."""
    is_reference: npt.NDArray[np.bool_]
    is_other: npt.NDArray[np.bool_]


def _features(dataset: Dataset) -> list[_Feature]:
    """What is compared, in the order in which it is shown."""
    unit = dataset.group if dataset.group == "patient" else "group"
    site = [_Feature("site", "site", "category", (f"meta.{dataset.site}",))] if dataset.site else []
    return [
        *(_Feature("label", name, "share", (f"label.{name}",)) for name in dataset.labels),
        *(_Feature("target", f"{name} ({u})", "number", (f"target.{name}",)) for name, u in dataset.targets.items()),
        _Feature("age", "age (years)", "number", ("age_years",)),
        _Feature("sex", "sex", "category", ("sex",)),
        _Feature("view", "view", "category", ("view",)),
        *site,
        _Feature("intensity", "mean grey (share of its range)", "number", ("intensity_mean", "bit_depth"), _of_range),
        _Feature(
            "intensity", "grey contrast (share of its range)", "number", ("intensity_std", "bit_depth"), _of_range
        ),
        _Feature("size", "longer side (pixels)", "number", ("source_width", "source_height"), np.maximum),
        _Feature("size", "width by height", "number", ("source_width", "source_height"), lambda w, h: w / h),
        _Feature("group", f"images per {unit}", "groups"),
    ]


def _of_range(level: pd.Series, depth: pd.Series) -> pd.Series:
    """A grey level as a share of the range of its bit depth; 8 and 16 bits are then alike."""
    return level / (2.0**depth - 1)


class _Table:
    """Samples with their groups as numbers; each feature is read once."""

    def __init__(self, dataset: Dataset, samples: pd.DataFrame) -> None:
        self.samples = samples
        self.unit = "patients" if dataset.group == "patient" else "groups"
        self.split = samples["split"].astype(object).to_numpy()
        self.groups, self.count = _numbered(samples)
        self._read: dict[str, tuple[Floats, list[str]]] = {}

    def compare(self, feature: _Feature, sides: _Sides) -> Shift:
        """One comparison."""
        if feature.measure == "groups":
            reference, other = (self._sizes(is_in) for is_in in (sides.is_reference, sides.is_other))
            words: list[str] = []
        else:
            values, words = self._values(feature)
            is_known = ~np.isnan(values)
            reference, other = (
                Side(values[is_in & is_known], self.groups[is_in & is_known])
                for is_in in (sides.is_reference, sides.is_other)
            )
        why = self._hindrance(reference, sides.places[0]) or self._hindrance(other, sides.places[1])
        blank = _blank(feature, sides, reference, other, why)
        if why:
            return blank
        effect = self._effect(feature, reference, other)
        return _filled(blank, sides, effect, "" if effect.category is None else words[effect.category])

    def _effect(self, feature: _Feature, reference: Side, other: Side) -> Effect:
        if feature.measure == "share":
            return effects.of_share(reference, other, self.count)
        if feature.measure == "category":
            return effects.of_category(reference, other, self.count)
        return effects.of_number(reference, other, self.count)

    def _values(self, feature: _Feature) -> tuple[Floats, list[str]]:
        """The feature of every sample, NaN where it is not known, and the names of its categories in order."""
        if feature.words not in self._read:
            self._read[feature.words] = self._reckoned(feature)
        return self._read[feature.words]

    def _reckoned(self, feature: _Feature) -> tuple[Floats, list[str]]:
        given = [self.samples[name] for name in feature.columns if name in self.samples]
        if len(given) < len(feature.columns):
            return np.full(len(self.samples), np.nan), []
        if feature.measure == "category":
            places, names = pd.factorize(given[0].astype(object), sort=True)
            return np.where(places < 0, np.nan, places.astype(np.float64)), [str(name) for name in names]
        numbers = [pd.to_numeric(column, errors="coerce").astype("float64") for column in given]
        values = feature.reckon(*numbers).to_numpy(dtype=np.float64, na_value=np.nan)
        return np.where(np.isfinite(values), values, np.nan), []

    def _sizes(self, is_in: npt.NDArray[np.bool_]) -> Side:
        """Samples of each group that is there; those without a group are left out."""
        has_group = self.samples["group_id"].notna().to_numpy() if "group_id" in self.samples else np.zeros_like(is_in)
        sizes = np.bincount(self.groups[is_in & has_group], minlength=self.count)
        groups = np.flatnonzero(sizes)
        return Side(sizes[groups].astype(np.float64), groups)

    def _hindrance(self, side: Side, place: str) -> str:
        groups = len(np.unique(side.groups))
        if not len(side.values):
            return f"nothing is known {place}"
        if groups < FEWEST_GROUPS:
            return f"{groups} {self.unit[:-1] if groups == 1 else self.unit} {place} tell too little"
        return ""


def _numbered(samples: pd.DataFrame) -> tuple[Integers, int]:
    """A number for the group of every sample; one without a group is a group of its own."""
    if "group_id" not in samples:
        return np.arange(len(samples)), len(samples)
    groups, names = pd.factorize(samples["group_id"].astype(object))
    is_alone = groups < 0
    alone = len(names) + np.arange(int(is_alone.sum()))
    groups = groups.astype(np.int64)
    groups[is_alone] = alone
    return groups, len(names) + len(alone)


def _blank(feature: _Feature, sides: _Sides, reference: Side, other: Side, why: str) -> Shift:
    """A comparison that has not been made."""
    names: dict[str, EffectName] = {"share": "cohen-h", "category": "cramer-v"}
    return Shift(
        subject=sides.subject,
        kind=feature.kind,
        feature=feature.words,
        reference=sides.reference,
        other=sides.other,
        reference_n=len(reference.values),
        other_n=len(other.values),
        reference_value=None,
        other_value=None,
        effect_name=names.get(feature.measure, "cliff-delta"),
        effect=None,
        low=None,
        high=None,
        magnitude="not comparable",
        sentence=f"{feature.words}: cannot be compared, {why}",
        reference_groups=len(np.unique(reference.groups)),
        other_groups=len(np.unique(other.groups)),
    )


def _filled(blank: Shift, sides: _Sides, effect: Effect, category: str) -> Shift:
    name = f"{blank.feature} {category}" if category else blank.feature
    return replace(
        blank,
        reference_value=_rounded(effect.reference_value),
        other_value=_rounded(effect.other_value),
        effect=_rounded(effect.size.value),
        low=_rounded(effect.size.low),
        high=_rounded(effect.size.high),
        magnitude=effects.magnitude(effect.name, effect.size.value),
        sentence=sentence(name, effect, (blank.reference_n, blank.other_n), sides.places),
        difference=_rounded(effect.difference.value),
        difference_low=_rounded(effect.difference.low),
        difference_high=_rounded(effect.difference.high),
        distance=None if effect.distance is None else _rounded(effect.distance),
        category=category,
    )


def _rounded(value: float) -> float:
    """Six digits: sums are the same on any machine to so many, and nobody reads more."""
    return float(f"{value:.6g}") if abs(value) >= 1e-9 else 0.0
