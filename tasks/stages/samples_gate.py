"""Groups, splits and the second gate: which converted images become samples."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import boxes, checks, leakage, orientation, shards
from tasks.chunk_columns import Read, reader, squares
from tasks.comparison import Comparing
from tasks.files import parquet, read_frame, read_schema, write_bytes, write_json
from tasks.images import HISTOGRAM_BINS
from tasks.memory import give_back, giving_back
from tasks.pairing import MASK_PLACE
from tasks.quality import drift
from tasks.samples import meta_columns
from tasks.schema import Dataset, Verdict, sample_schema
from tasks.stages.metadata import Judge
from tasks.stages.plan import Plan, local_docs, read_entries, write_entries, write_frame
from tasks.storage import open_table

READ_APART = "histogram"
"""Column of images that is read when it is needed: of 112,120 it is 57 MB."""
HISTOGRAMS_AT_ONCE = 1024
AT_ONCE = 4096
"""Rows of such columns, and of fingerprints, that are held at a time."""


@giving_back
def validate_images(plan: Plan, judge: Judge, *, address: str | None) -> Verdict:
    """The second gate, over every entry that the first let pass: decides groups and splits, then judges.

    ``address`` is that of a Dask scheduler whose workers compare pictures; None compares in this process.
    """
    entries = read_entries(plan.work / "entries-checked.parquet")
    path = plan.work / "images.parquet"
    images = read_frame(path, [name for name in read_schema(path).names if name != READ_APART])
    images["image_row"] = range(len(images))
    again = ["stage", "reason", "detail", "source_bytes", *(MASK_PLACE.values() if plan.dataset.has_masks else ())]
    sound = entries[entries["stage"].isna()].drop(columns=again)
    samples = sound.merge(images, on=["archive", "member", "offset"], how="left", validate="one_to_one")
    samples.index = pd.Index(samples["entry"])
    read = reader(plan.lake.chunks)
    comparing = Comparing(str(plan.work / "comparison"), str(plan.lake.chunks), plan.dataset.near_duplicate, address)
    samples, alike = assign_groups_and_splits(samples, plan.dataset, read, comparing)
    give_back()
    is_shown = samples["pixel_sha256"].notna() & plan.dataset.appearance.is_oriented
    samples = samples.join(orientation.compare(samples["view"], is_shown, squares(samples, read, "thumbnail")))
    give_back()
    checked = checks.with_image_checks(samples, plan.dataset)
    checked = checked.join(leakage.as_checks(alike, samples, plan.dataset))
    shifts = drift.between_splits(plan.dataset, samples[samples["reason"] == ""])
    checked = checked.join(drift.as_checks(shifts, plan.dataset, samples.index))
    with local_docs(plan) as docs:
        verdict, refused, _ = judge(checked, plan.dataset, "images", docs)
    _mark_refused(entries, checked, refused)
    del checked
    give_back()
    for column in ("source_sha256", *(("mask_source_sha256",) if plan.dataset.has_masks else ())):
        entries[column] = samples[column].reindex(entries["entry"]).to_numpy()
    write_entries(plan.work / "entries-checked.parquet", entries, plan.dataset)
    kept = samples[~samples["entry"].isin(list(refused))]
    _write_samples(plan, kept)
    give_back()
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


def assign_groups_and_splits(
    samples: pd.DataFrame, dataset: Dataset, read: Read, comparing: Comparing | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Fill ``group_id`` by picture and ``split`` by the dataset's rule, where the publisher has none.

    Beside the samples the pairs that show the same picture, as :func:`tasks.leakage.find` gives them.
    """
    alike = None
    if dataset.group == "picture":
        samples["group_id"], alike = leakage.group_by_picture(samples, read, dataset, comparing)
    is_open = samples["split"].isna() & (samples["reason"] == "")
    if dataset.split is not None and is_open.any():
        samples["split"] = samples["split"].astype(object)
        samples.loc[is_open, "split"] = dataset.split(samples[is_open])
    if alike is None:
        return samples, leakage.find(samples, read, dataset, comparing)
    split = samples.set_index("sample_id")["split"]
    return samples, alike.assign(**{f"split_{end}": alike[f"sample_{end}"].map(split) for end in "ab"})


def _write_likeness(plan: Plan, kept: pd.DataFrame, alike: pd.DataFrame, read: Read) -> None:
    """The pairs that are left, and the fingerprints by which another dataset's release can be held against this one;
    of images that nobody looked at neither: an empty table would say that none are alike."""
    if not plan.dataset.is_decoded:
        return
    names = set(kept["sample_id"])
    left = alike[alike["sample_a"].isin(names) & alike["sample_b"].isin(names)]
    write_frame(plan.staging / "quality" / "near_duplicates.parquet", left, leakage.PAIRS)
    ordered = kept.sort_values("sample_id")
    places = list(zip(ordered["chunk"], ordered["chunk_row"], strict=True))
    stored = read(places, "fingerprint")
    parts = (stored[begin : begin + AT_ONCE] for begin in range(0, len(stored), AT_ONCE))
    prints = pa.chunked_array([_as_binary(part) for part in parts], pa.binary())
    table = pa.Table.from_pandas(ordered[["sample_id", "pixel_sha256"]], preserve_index=False)
    write_bytes(plan.staging / "fingerprints.parquet", parquet(table.append_column("fingerprint", prints)))


def _as_binary(rows: npt.NDArray[np.uint8]) -> pa.Array:
    """Rows of bytes as they are, without an object for each."""
    ends = np.arange(len(rows) + 1, dtype=np.int32) * np.int32(rows.shape[1])
    return pa.Array.from_buffers(pa.binary(), len(rows), [None, pa.py_buffer(ends), pa.py_buffer(rows)])


def _image_detail(row: dict[Hashable, Any]) -> str:
    header = f"{row['source_width']:.0f}x{row['source_height']:.0f} {row['source_mode']}"
    if pd.isna(row["intensity_mean"]):
        return header
    return (
        f"{header}, grey levels {row['intensity_min']:.0f}–{row['intensity_max']:.0f}, mean "
        f"{row['intensity_mean']:.1f}, standard deviation {row['intensity_std']:.2f}"
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
    """Grey levels of all pixels of each split; nothing where no pixel was looked at."""
    if not plan.dataset.is_decoded:
        return {}
    splits, names = pd.factorize(samples["split"], sort=True)
    sums = np.zeros((len(names), HISTOGRAM_BINS), np.int64)
    with open_table(plan.work / "images.parquet") as stream:
        stored = pq.ParquetFile(stream, page_checksum_verification=True)
        split_of = np.full(stored.metadata.num_rows, -1)
        split_of[samples["image_row"].to_numpy(np.int64)] = splits
        for batch in stored.iter_batches(HISTOGRAMS_AT_ONCE, columns=[READ_APART]):
            own, split_of = split_of[: len(batch)], split_of[len(batch) :]
            is_read = np.asarray(batch.column(0).is_valid())
            counts = batch.column(0).drop_null().flatten().to_numpy().reshape(-1, HISTOGRAM_BINS)
            for number in range(len(names)):
                sums[number] += counts[own[is_read] == number].sum(axis=0)
    return {str(name): row.tolist() for name, row in zip(names, sums, strict=True)}


def _plan_schema(dataset: Dataset, frame: pd.DataFrame) -> pa.Schema:
    schema = sample_schema(dataset, meta_columns(frame, dataset), is_placed=False)
    places = {"chunk": pa.string(), "chunk_row": pa.int64(), "offset": pa.int64()}
    return pa.schema([*schema, *places.items()])
