"""Splits by group, from a hash of the group alone: adding data moves nobody."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pandas as pd


def group_fraction(group: str, salt: str) -> float:
    """A number in [0, 1) that depends on group and salt only."""
    return int(hashlib.sha256(f"{salt}\0{group}".encode()).hexdigest()[:13], 16) / 16**13


def split_by_group(
    groups: pd.Series, strata: pd.Series, shares: Mapping[str, float], salts: Mapping[str, str]
) -> pd.Series:
    """Split name per row: groups of one stratum are dealt out by hash, in the given shares (which sum to 1).

    ``salts`` holds one salt per stratum; a group must lie in one stratum. Rows of one group get one split, whatever
    else is in the table.
    """
    bounds = pd.Series(shares).cumsum()

    def deal(group: str, stratum: str) -> str:
        fraction = group_fraction(group, salts[stratum])
        return next((str(name) for name, bound in bounds.items() if fraction < bound), str(bounds.index[-1]))

    pairs = zip(groups, strata, strict=True)
    return pd.Series([deal(group, stratum) for group, stratum in pairs], index=groups.index, dtype=object)


def deal_evenly(groups: pd.Series, strata: pd.Series, share: float, salt: str) -> pd.Series:
    """Whether each row's group is among the share with the lowest hashes of its stratum; one row per group.

    Of every stratum the nearest whole number of groups is taken. For tables that are complete: a group that comes later
    can move another.
    """
    fractions = groups.map(lambda group: group_fraction(str(group), salt))
    place = fractions.groupby(strata).rank(method="first")
    wanted = (fractions.groupby(strata).transform("size") * share).round()
    return place <= wanted
