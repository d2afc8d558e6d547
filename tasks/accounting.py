"""Where everything went: the quarantine table, and sums that must meet before anything is published."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tasks.schema import QUARANTINE, Accounting, TableCount

ENTRY_COLUMNS = ["archive", "member", "offset", "table", "row", "sample_id", "stage", "reason", "detail"]


def quarantine(refused: pd.DataFrame, extras: pd.DataFrame, written: pd.DataFrame) -> pd.DataFrame:
    """Rows in the form of :data:`tasks.schema.QUARANTINE`, sorted.

    ``refused``: entries with ``stage reason detail`` set; a refused image whose row another image brought in names no
    row, and its mask has a row of its own. ``extras``: ``table row image problem detail`` of boxes and lists; refused
    are those with a problem, and those of images none of which is written. ``written``: entries of the written samples.
    """
    own = refused.reindex(columns=QUARANTINE.names)
    own.loc[_is_among(own, written) & own["member"].notna(), ["table", "row"]] = None
    named = refused.dropna(subset="key").drop_duplicates("key")
    reasons = dict(zip(named["key"], named["reason"], strict=True))
    faulty = extras[extras["problem"] != ""].assign(stage="parse").rename(columns={"problem": "reason"})
    orphans = _orphans(extras[extras["problem"] == ""], written, reasons)
    found = (own, _masks(refused), faulty, orphans)
    parts = [part.reindex(columns=QUARANTINE.names) for part in found if len(part)]
    rows = pd.concat(parts, ignore_index=True) if parts else own
    return rows.sort_values(["archive", "member", "offset", "table", "row"], ignore_index=True)


def _masks(refused: pd.DataFrame) -> pd.DataFrame:
    """The masks of refused images: refused with them, at the same stage, whatever was wrong with either."""
    if "mask_member" not in refused:
        return refused.iloc[:0]
    masks = refused[refused["mask_member"].notna()]
    return masks.assign(
        archive=masks["mask_archive"],
        member=masks["mask_member"],
        offset=masks["mask_offset"],
        table=None,
        row=None,
        reason="sample-refused",
        detail=masks["archive"] + "/" + masks["member"] + " was refused: " + masks["reason"],
        source_bytes=masks["mask_source_bytes"],
        source_sha256=masks.get("mask_source_sha256"),
    )


def _orphans(extras: pd.DataFrame, written: pd.DataFrame, reasons: Mapping[str, str]) -> pd.DataFrame:
    """Rows of boxes and lists that belong to no written image, with the reason; each row once."""
    is_attached = extras["image"].isin(written["key"])
    orphans = extras[~is_attached & ~_is_among(extras, extras[is_attached])].drop_duplicates(["table", "row"])
    return orphans.assign(
        stage="parse",
        reason=["sample-refused" if image in reasons else "row-without-sample" for image in orphans["image"]],
        detail=[
            f"{image} was refused: {reasons[image]}" if image in reasons else f"no metadata row and no image is {image}"
            for image in orphans["image"]
        ],
    )


def members_of(samples: pd.DataFrame) -> int:
    """Archive members that went into these samples: an image each, and a mask where there are masks."""
    return sum(int(samples[column].count()) for column in ("member", "mask_member") if column in samples)


def _is_among(rows: pd.DataFrame, others: pd.DataFrame) -> pd.Series:
    """Whether each row's ``table`` and ``row`` are those of one of the others."""
    known = pd.MultiIndex.from_frame(others[["table", "row"]].dropna())
    return pd.Series(pd.MultiIndex.from_frame(rows[["table", "row"]]).isin(known), index=rows.index)


def account(
    index: pd.DataFrame,
    tables: Mapping[str, int],
    entries: pd.DataFrame,
    written: pd.DataFrame,
    extras: pd.DataFrame,
    rows: pd.DataFrame,
) -> Accounting:
    """Count, and raise :class:`tasks.schema.AccountingError` unless all sums meet.

    ``index``: all members. ``tables``: name to number of rows read. ``entries``: all of them; ``written``: those of the
    written samples. ``rows``: the quarantine. A row that stands for several images is written if any of them is.
    """
    is_ignored = index["kind"].isin(["ignored", "table"])
    attached = extras[extras["image"].isin(written["key"]) & (extras["problem"] == "")]
    places = [frame[["table", "row"]].dropna() for frame in (entries, extras)]
    shared = pd.concat([place[place.duplicated()] for place in places])
    written_rows = _count_rows(pd.concat([written[["table", "row"]], attached[["table", "row"]]]), shared)
    quarantined_rows = _count_rows(rows[["table", "row"]], shared)
    accounting = Accounting(
        members=len(index),
        written=members_of(written),
        quarantined=int(rows["member"].notna().sum()),
        ignored={str(k): int(v) for k, v in index.loc[is_ignored, "reason"].value_counts().items()},
        tables=tuple(
            TableCount(name, found, int(written_rows.get(name, 0)), int(quarantined_rows.get(name, 0)))
            for name, found in sorted(tables.items())
        ),
        reasons={str(k): int(v) for k, v in rows["reason"].value_counts().items()},
    )
    accounting.check()
    return accounting


def _count_rows(places: pd.DataFrame, shared: pd.DataFrame) -> pd.Series:
    """Table to number of rows; a row that is shared by several images counts once."""
    is_again = places.duplicated() & _is_among(places, shared)
    return places.loc[~is_again, "table"].value_counts()
