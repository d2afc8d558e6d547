"""Assemble: chunks to shards, and sums that must meet."""

from __future__ import annotations

import pyarrow as pa

from tasks import accounting, lineage, shards
from tasks.files import parquet, read_frame, read_json, read_table, write_bytes, write_json
from tasks.memory import giving_back
from tasks.progress import Meter
from tasks.release.manifest import manifests
from tasks.schema import QUARANTINE, Accounting, UnusableInput, sample_schema
from tasks.stages.plan import Plan, read_entries, write_frame
from tasks.waves import run_waves


def planned_shards(plan: Plan) -> list[shards.Shard]:
    """The shards that the plan's row groups stand for."""
    columns = ["split", "archive", "image_bytes", *(["mask_bytes"] if plan.dataset.has_masks else [])]
    ordered = read_frame(plan.work / "plan.parquet", columns=columns)
    return shards.plan_shards(ordered, plan.dataset.splits, plan.dataset.name, plan.request.transform.extension)


@giving_back
def assemble(plan: Plan, *, address: str | None, with_report: bool = False) -> dict[str, int]:
    """Write every shard not written before, then ``samples.parquet``, ``lineage.parquet`` and
    ``quarantine.parquet`` with sums that meet."""
    planned = planned_shards(plan)
    write_json(plan.work / "earlier.json", shards.earlier_shards(manifests(plan.lake)))
    markers = plan.work / shards.MARKERS
    meter = Meter("assemble", len(planned), "shards")
    lost = run_waves(
        shards.assemble_shard,
        planned,
        address=address,
        tick=lambda shard: meter.add(1),
        page=plan.staging / "quality" / "dask-assemble.html" if with_report else None,
        archives=plan.archives,
        plan=str(plan.work / "plan.parquet"),
        chunks=str(plan.lake.chunks),
        staging=str(plan.staging),
        markers=str(markers),
        earlier=str(plan.work / "earlier.json"),
        stores=plan.request.stores,
    )
    if lost:
        names = ", ".join(shard.name for shard, _ in lost)
        raise UnusableInput(f"shards {names} could not be written: each {lost[0][1]}")
    _place_samples(plan, planned)
    _tell_lineage(plan)
    settle(plan)
    linked = sum(bool(read_json(path)["linked"]) for path in markers.iterdir())
    return {"shards": len(planned), "linked": linked}


def _place_samples(plan: Plan, planned: list[shards.Shard]) -> None:
    samples = read_table(plan.work / "plan.parquet")
    meta = {field.name: field.type for field in samples.schema if field.name.startswith("meta.")}
    schema = sample_schema(plan.dataset, meta)
    placed = pa.Table.from_pandas(shards.placements(plan.work / shards.MARKERS, planned), preserve_index=False)
    for name in ("shard", "row", "tar_offset"):
        samples = samples.append_column(name, placed[name])
    write_bytes(plan.staging / "samples.parquet", parquet(samples.select(schema.names).cast(schema)))


def _tell_lineage(plan: Plan) -> None:
    entries = read_entries(plan.work / "entries-checked.parquet")
    planned = read_frame(plan.work / "plan.parquet", columns=["sample_id", "chunk"])
    extras = read_frame(plan.work / "extras.parquet")
    table = lineage.table(planned, entries[entries["stage"].isna()], extras)
    write_bytes(plan.staging / lineage.NAME, parquet(table))


def settle(plan: Plan) -> Accounting:
    """Write ``quarantine.parquet``, count everything, and raise unless all sums meet.

    Before conversion (the first gate failed) nothing is written, and what was not refused is no one's loss: counted as
    quarantined with reason ``gate-failed``.
    """
    entries = read_entries(plan.work / "entries-checked.parquet")
    members = read_frame(plan.work / "members.parquet")
    extras = read_frame(plan.work / "extras.parquet")
    written = read_frame(plan.work / "written.parquet") if (plan.work / "written.parquet").exists() else None
    if written is None:
        is_open = entries["stage"].isna()
        entries.loc[is_open, ["stage", "reason"]] = ["validate-metadata", "gate-failed"]
        written = entries.iloc[:0]
    refused = entries[entries["stage"].notna()]
    rows = accounting.quarantine(refused, extras, written)
    write_frame(plan.staging / "quarantine.parquet", rows, QUARANTINE)
    counted = accounting.account(members, read_json(plan.work / "tables.json"), entries, written, extras, rows)
    write_json(plan.work / "accounting.json", counted.as_json())
    return counted
