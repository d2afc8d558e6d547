"""Groups, splits and the second gate: which converted images become samples."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import pandas as pd
import pyarrow as pa

from tasks import boxes, checks, shards
from tasks.files import read_frame, write_json
from tasks.pairing import MASK_PLACE
from tasks.samples import meta_columns
from tasks.schema import Dataset, Verdict, sample_schema
from tasks.stages.metadata import Judge
from tasks.stages.plan import Plan, local_docs, read_entries, write_entries, write_frame


def validate_images(plan: Plan, judge: Judge) -> Verdict:
    """The second gate, over every entry that the first let pass: decides groups and splits, then judges."""
    entries = read_entries(plan.work / "entries-checked.parquet")
    images = read_frame(plan.work / "images.parquet")
    again = ["stage", "reason", "detail", "source_bytes", *(MASK_PLACE.values() if plan.dataset.has_masks else ())]
    sound = entries[entries["stage"].isna()].drop(columns=again)
    samples = sound.merge(images, on=["archive", "member", "offset"], how="left", validate="one_to_one")
    samples.index = pd.Index(samples["entry"])
    samples = assign_groups_and_splits(samples, plan.dataset)
    checked = checks.with_image_checks(samples, plan.dataset)
    with local_docs(plan) as docs:
        verdict, refused, _ = judge(checked, plan.dataset, "images", docs)
    _mark_refused(entries, checked, refused)
    for column in ("source_sha256", *(("mask_source_sha256",) if plan.dataset.has_masks else ())):
        entries[column] = samples[column].reindex(entries["entry"]).to_numpy()
    write_entries(plan.work / "entries-checked.parquet", entries, plan.dataset)
    kept = samples[~samples["entry"].isin(list(refused))]
    _write_samples(plan, kept)
    write_json(plan.work / "verdict-images.json", verdict.as_json())
    return verdict


def _mark_refused(entries: pd.DataFrame, checked: pd.DataFrame, refused: dict[int, str]) -> None:
    """Set ``stage reason detail``; what conversion refused keeps the reason that it gave."""
    rows = checked.loc[list(refused)]
    for entry, row in zip(refused, rows.to_dict("records"), strict=True):
        if row["reason"]:
            marks = ["convert", row["reason"], row["detail"]]
        else:
            marks = ["validate-images", refused[entry], _image_detail(row)]
        entries.loc[entry, ["stage", "reason", "detail"]] = marks


def assign_groups_and_splits(samples: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Fill ``group_id`` from identical pixels and ``split`` from the dataset's rule, where the publisher has none."""
    is_decoded = samples["reason"] == ""
    if dataset.group == "pixels":
        samples["group_id"] = ("px-" + samples["pixel_sha256"].str[:16]).where(is_decoded)
    is_open = samples["split"].isna() & is_decoded
    if dataset.split is not None and is_open.any():
        samples["split"] = samples["split"].astype(object)
        samples.loc[is_open, "split"] = dataset.split(samples[is_open])
    return samples


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
    histograms = {
        str(split): [int(n) for n in sum(part["histogram"].to_numpy())] for split, part in ordered.groupby("split")
    }
    write_json(plan.work / "histograms.json", histograms)


def _plan_schema(dataset: Dataset, frame: pd.DataFrame) -> pa.Schema:
    schema = sample_schema(dataset, meta_columns(frame, dataset), is_placed=False)
    places = {"chunk": pa.string(), "chunk_row": pa.int64(), "offset": pa.int64()}
    return pa.schema([*schema, *places.items()])
