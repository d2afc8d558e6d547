"""A table of splits that a user brings: it decides for every sample, in place of the publisher's lists."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import pandas as pd
import pyarrow as pa

from tasks.samples import escape_key
from tasks.schema import Dataset, UnusableInput
from tasks.storage import Location
from tasks.tables import quoted

KEYS = ("sample_id", "image", "patient_id", "group_id")
"""Columns that may say whose split a row is, the first that is there decides."""
UNLISTED = ""
"""Split of what the file does not name: the gate refuses it, with reason ``no-split``."""


def split_file_input(path: Location) -> dict[str, Any]:
    """The file as an input of the release: name, bytes and sha256.

    Raises :class:`UnusableInput` when it cannot be read.
    """
    data = _read(path)
    return {"name": f"splits: {path.name}", "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def splits_of(path: Location, rows: pd.DataFrame, dataset: Dataset) -> pd.Series:
    """Split of every row of :class:`tasks.schema.Parsed` as the file has it; empty for what it does not name.

    The file is CSV, or Parquet such as ``samples.parquet`` of an earlier release, with a column ``split`` and one of
    ``sample_id``, ``image`` (file name or key), ``patient_id``, ``group_id``. Raises :class:`UnusableInput` for missing
    columns, unknown splits, one key in two splits, and where it names none of the rows.
    """
    table = _table(path)
    key = next((column for column in KEYS if column in table), None)
    if key is None or "split" not in table:
        raise UnusableInput(
            f"{path} needs a column split and one of {', '.join(KEYS)}; it has {quoted(list(table.columns))}"
        )
    if table.empty:
        raise UnusableInput(f"{path} names no sample: it has no rows")
    unknown = sorted(set(table["split"].fillna("")) - set(dataset.splits))
    if unknown:
        raise UnusableInput(f"{path}: split {unknown[0]!r} is not known; choose from {', '.join(dataset.splits)}")
    pairs = table[[key, "split"]].drop_duplicates()
    twice = pairs.loc[pairs[key].duplicated(), key]
    if len(twice):
        raise UnusableInput(f"{path}: {key} {twice.iloc[0]!r} is in two splits")
    splits = _keys(rows, key).map(dict(zip(_spelt(pairs[key], key), pairs["split"], strict=True)))
    if splits.isna().all():
        raise UnusableInput(f"{path} names no sample of this release by its {key}, such as {pairs[key].iloc[0]!r}")
    return splits.fillna(UNLISTED).astype(object)


def _read(path: Location) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnusableInput(f"the split file {path} cannot be read: {error.strerror}") from error


def _table(path: Location) -> pd.DataFrame:
    data = io.BytesIO(_read(path))
    try:
        if path.suffix.lower() == ".parquet":
            return pd.read_parquet(data).dropna(subset="split").astype(str).astype(object)  # all of it, here
        return pd.read_csv(data, dtype=str, encoding="utf-8-sig").rename(columns=str.strip).dropna(how="all")
    except (ValueError, KeyError, TypeError, OSError, pa.ArrowException) as error:
        raise UnusableInput(f"the split file {path} cannot be read: {error}") from error


def _keys(rows: pd.DataFrame, key: str) -> pd.Series:
    if key == "sample_id":
        return rows["image"].map(escape_key)
    return rows[key]


def _spelt(keys: pd.Series, key: str) -> pd.Series:
    """Keys as the rows spell them: an image may be given by its file name."""
    return keys.str.strip().str.replace(r"\.(?:png|jpe?g)$", "", regex=True, case=False) if key == "image" else keys
