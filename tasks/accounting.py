"""Where everything went: the quarantine table, and sums that must meet before anything is published."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tasks.schema import QUARANTINE, Accounting, TableCount

ENTRY_COLUMNS = ["archive", "member", "offset", "table", "row", "sample_id", "stage", "reason", "detail"]


def quarantine(refused: pd.DataFrame, extras: pd.DataFrame, written_keys: pd.Series) -> pd.DataFrame:
    """Rows in the form of :data:`tasks.schema.QUARANTINE`, sorted.

    ``refused``: entries with ``stage reason detail`` set. ``extras``: ``table row image problem detail`` of boxes and
    lists; refused are those with a problem, and those of an image that is not written.
    """
    own = refused.reindex(columns=QUARANTINE.names)
    named = refused.dropna(subset="key").drop_duplicates("key")
    reasons = dict(zip(named["key"], named["reason"], strict=True))
    faulty = extras[extras["problem"] != ""].assign(stage="parse").rename(columns={"problem": "reason"})
    orphans = extras[~extras["image"].isin(written_keys) & (extras["problem"] == "")].copy()
    orphans["stage"] = "parse"
    orphans["reason"] = ["sample-refused" if image in reasons else "row-without-sample" for image in orphans["image"]]
    orphans["detail"] = [
        f"{image} was refused: {reasons[image]}" if image in reasons else f"no metadata row and no image is {image}"
        for image in orphans["image"]
    ]
    parts = [part.reindex(columns=QUARANTINE.names) for part in (own, faulty, orphans) if len(part)]
    rows = pd.concat(parts, ignore_index=True) if parts else own
    return rows.sort_values(["archive", "member", "offset", "table", "row"], ignore_index=True)


def account(
    index: pd.DataFrame, tables: Mapping[str, int], written: pd.DataFrame, extras: pd.DataFrame, rows: pd.DataFrame
) -> Accounting:
    """Count, and raise :class:`tasks.schema.AccountingError` unless all sums meet.

    ``index``: all members. ``tables``: name to number of rows read. ``written``: entries of the written samples.
    ``rows``: the quarantine.
    """
    is_ignored = index["kind"].isin(["ignored", "table"])
    attached = extras[extras["image"].isin(written["key"]) & (extras["problem"] == "")]
    written_rows = pd.concat([written["table"], attached["table"]]).value_counts()
    quarantined_rows = rows["table"].value_counts()
    accounting = Accounting(
        members=len(index),
        written=int(written["member"].notna().sum()),
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
