"""Groups, splits and the second gate: which converted images become samples."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from tasks import boxes, checks, leakage, orientation, shards
from tasks.files import read_frame, write_json
from tasks.images import PICTURE_SIDE
from tasks.pairing import MASK_PLACE
from tasks.quality import drift
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
    samples, alike = assign_groups_and_splits(samples, plan.dataset, read_pictures(plan))
    samples = samples.join(orientation.compare(samples, is_asked=plan.dataset.appearance.is_oriented))
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
    _write_likeness(plan, kept, alike)
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


def read_pictures(plan: Plan) -> leakage.Read:
    """How the pictures that images are compared by come out of the chunks."""

    def read(places: Sequence[leakage.Place]) -> npt.NDArray[np.uint8]:
        stored = shards.in_chunks(places, plan.lake.chunks, "picture")
        found = np.frombuffer(b"".join(picture for picture in stored if picture is not None), np.uint8)
        return found.reshape(len(places), PICTURE_SIDE, PICTURE_SIDE)

    return read


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


def _write_likeness(plan: Plan, kept: pd.DataFrame, alike: pd.DataFrame) -> None:
    """The pairs that are left, and the fingerprints by which another dataset's release can be held against this one."""
    names = set(kept["sample_id"])
    left = alike[alike["sample_a"].isin(names) & alike["sample_b"].isin(names)]
    write_frame(plan.staging / "quality" / "near_duplicates.parquet", left, leakage.PAIRS)
    ordered = kept.sort_values("sample_id")[["sample_id", "pixel_sha256", "fingerprint"]]
    write_frame(plan.staging / "fingerprints.parquet", ordered)


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
