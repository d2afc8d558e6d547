"""Groups, splits and the second gate: which converted images become samples."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from tasks import boxes, checks, leakage, orientation, shards
from tasks.files import read_frame, read_schema, read_table, write_bytes, write_json
from tasks.images import HISTOGRAM_BINS
from tasks.pairing import MASK_PLACE
from tasks.quality import drift
from tasks.samples import meta_columns
from tasks.schema import Dataset, Verdict, sample_schema
from tasks.stages.metadata import Judge
from tasks.stages.plan import Plan, local_docs, parquet, read_entries, write_entries, write_frame

READ_APART = "histogram"
"""Column of images that is read when it is needed: of 112,120 it is 57 MB."""
AT_ONCE = 4096
"""Rows of such a column that are held as single values."""


def validate_images(plan: Plan, judge: Judge) -> Verdict:
    """The second gate, over every entry that the first let pass: decides groups and splits, then judges."""
    entries = read_entries(plan.work / "entries-checked.parquet")
    path = plan.work / "images.parquet"
    images = read_frame(path, [name for name in read_schema(path).names if name != READ_APART])
    images["image_row"] = range(len(images))
    again = ["stage", "reason", "detail", "source_bytes", *(MASK_PLACE.values() if plan.dataset.has_masks else ())]
    sound = entries[entries["stage"].isna()].drop(columns=again)
    samples = sound.merge(images, on=["archive", "member", "offset"], how="left", validate="one_to_one")
    samples.index = pd.Index(samples["entry"])
    read = reader(plan)
    samples, alike = assign_groups_and_splits(samples, plan.dataset, read)
    is_shown = samples["pixel_sha256"].notna() & plan.dataset.appearance.is_oriented
    samples = samples.join(orientation.compare(samples["view"], is_shown, leakage.squares(samples, read, "thumbnail")))
    checked = checks.with_image_checks(samples, plan.dataset)
    checked = checked.join(leakage.as_checks(alike, samples, plan.dataset))
    shifts = drift.between_splits(plan.dataset, samples[samples["reason"] == ""])
    checked = checked.join(drift.as_checks(shifts, plan.dataset, samples.index))
    with local_docs(plan) as docs:
        verdict, refused, _ = judge(checked, plan.dataset, "images", docs)
    _mark_refused(entries, checked, refused)
    for column in ("source_sha256", *(("mask_source_sha256",) if plan.dataset.has_masks else ())):
        entries[column] = samples[column].reindex(entries["entry"]).to_numpy()
    write_entries(plan.work / "entries-checked.parquet", entries, plan.dataset)
    kept = samples[~samples["entry"].isin(list(refused))]
    _write_samples(plan, kept)
    _write_likeness(plan, kept, alike, read)
    write_json(plan.work / "verdict-images.json", verdict.as_json())
    return verdict


def _mark_refused(entries: pd.DataFrame, checked: pd.DataFrame, refused: dict[int, str]) -> None:
    """Set ``stage reason detail``; what conversion refused keeps the reason that it gave."""
    rows = checked.loc[list(refused)]
    for entry, row in zip(refused, rows.to_dict("records"), strict=True):
        if row["reason"]:
            marks = ["convert", row["reason"], row["detail"]]
        else:
            is_copy = refused[entry] == "near-duplicate-across-splits"
            marks = ["validate-images", refused[entry], row["check.copy_of"] if is_copy else _image_detail(row)]
        entries.loc[entry, ["stage", "reason", "detail"]] = marks


def reader(plan: Plan) -> leakage.Read:
    """How what images are compared by comes out of the chunks."""

    def read(places: Sequence[leakage.Place], column: leakage.Column) -> npt.NDArray[np.uint8]:
        order = sorted(range(len(places)), key=places.__getitem__)  # so that every chunk is read once
        parts = [order[begin : begin + AT_ONCE] for begin in range(0, len(order), AT_ONCE)]
        found = np.empty((0, 0), np.uint8)
        for part in parts:
            rows = _rows(plan, [places[n] for n in part], column)
            if part is parts[0]:
                found = np.empty((len(places), rows.shape[1]), np.uint8)
            found[part] = rows
        return found

    return read


def _rows(plan: Plan, places: Sequence[leakage.Place], column: leakage.Column) -> npt.NDArray[np.uint8]:
    stored = shards.in_chunks(places, plan.lake.chunks, column)
    found = np.frombuffer(b"".join(value for value in stored if value is not None), np.uint8)
    return found.reshape(len(places), -1)


def assign_groups_and_splits(
    samples: pd.DataFrame, dataset: Dataset, read: leakage.Read
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fill ``group_id`` by picture and ``split`` by the dataset's rule, where the publisher has none.

    Beside the samples the pairs that show the same picture, as :func:`tasks.leakage.find` gives them.
    """
    alike = None
    if dataset.group == "picture":
        samples["group_id"], alike = leakage.group_by_picture(samples, read, dataset)
    is_open = samples["split"].isna() & (samples["reason"] == "")
    if dataset.split is not None and is_open.any():
        samples["split"] = samples["split"].astype(object)
        samples.loc[is_open, "split"] = dataset.split(samples[is_open])
    if alike is None:
        return samples, leakage.find(samples, read, dataset)
    split = samples.set_index("sample_id")["split"]
    return samples, alike.assign(**{f"split_{end}": alike[f"sample_{end}"].map(split) for end in "ab"})


def _write_likeness(plan: Plan, kept: pd.DataFrame, alike: pd.DataFrame, read: leakage.Read) -> None:
    """The pairs that are left, and the fingerprints by which another dataset's release can be held against this one."""
    names = set(kept["sample_id"])
    left = alike[alike["sample_a"].isin(names) & alike["sample_b"].isin(names)]
    write_frame(plan.staging / "quality" / "near_duplicates.parquet", left, leakage.PAIRS)
    ordered = kept.sort_values("sample_id")
    places = list(zip(ordered["chunk"], ordered["chunk_row"], strict=True))
    stored = read(places, "fingerprint")
    parts = (stored[begin : begin + AT_ONCE] for begin in range(0, len(stored), AT_ONCE))
    prints = pa.chunked_array([[row.tobytes() for row in part] for part in parts], pa.binary())
    table = pa.Table.from_pandas(ordered[["sample_id", "pixel_sha256"]], preserve_index=False)
    write_bytes(plan.staging / "fingerprints.parquet", parquet(table.append_column("fingerprint", prints)))


def _image_detail(row: dict[Hashable, Any]) -> str:
    return (
        f"{row['source_width']:.0f}x{row['source_height']:.0f} {row['source_mode']}, grey levels "
        f"{row['intensity_min']:.0f}–{row['intensity_max']:.0f}, mean {row['intensity_mean']:.1f}, "
        f"standard deviation {row['intensity_std']:.2f}"
    )


def _write_samples(plan: Plan, kept: pd.DataFrame) -> None:
    """The samples to be written, in reading order, with the position of the shard each goes to."""
    ordered = shards.in_reading_order(kept, plan.dataset.splits)
    if plan.dataset.has_boxes:
        ordered["boxes_scaled"] = boxes.scaled(ordered)
    shards.plan_shards(ordered, plan.dataset.splits, plan.dataset.name, plan.request.transform.extension)
    schema = _plan_schema(plan.dataset, ordered)
    shards.write_plan(ordered, schema, plan.work / "plan.parquet")
    columns = ["key", "member", "table", "row", *(["mask_member"] if plan.dataset.has_masks else [])]
    write_frame(plan.work / "written.parquet", ordered[columns])
    write_json(plan.work / "histograms.json", _histograms(plan, ordered))


def _histograms(plan: Plan, samples: pd.DataFrame) -> dict[str, list[int]]:
    """Grey levels of all pixels of each split."""
    stored = read_table(plan.work / "images.parquet", ["histogram"])["histogram"].combine_chunks()
    numbers = np.cumsum(np.asarray(stored.is_valid())) - 1  # of an image among those that could be read
    counts = stored.drop_null().flatten().to_numpy().reshape(-1, HISTOGRAM_BINS)
    return {
        str(split): [int(n) for n in counts[numbers[part["image_row"].to_numpy(np.int64)]].sum(axis=0)]
        for split, part in samples.groupby("split")
    }


def _plan_schema(dataset: Dataset, frame: pd.DataFrame) -> pa.Schema:
    schema = sample_schema(dataset, meta_columns(frame, dataset), is_placed=False)
    places = {"chunk": pa.string(), "chunk_row": pa.int64(), "offset": pa.int64()}
    return pa.schema([*schema, *places.items()])
