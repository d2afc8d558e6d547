"""Describe and publish, or refuse: the report, the card, the manifest and the swap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tasks import checks, shards
from tasks.archives import Archive, MemberRefused, read_member
from tasks.files import make_folder, read_frame, read_json, read_schema, read_table, sweep, write_bytes, write_json
from tasks.lake import latest_release
from tasks.memory import give_back, giving_back
from tasks.quality import changes, drift
from tasks.quality.drift import Shift
from tasks.quality.facts import ReportFacts
from tasks.quality.page import build
from tasks.release import coco, statistics
from tasks.release import manifest as releases
from tasks.release.card import card
from tasks.release.croissant import croissant
from tasks.release.diff import Difference, compare_staged, read_samples
from tasks.schema import Accounting, DataRefused, Outcome, ScanmillError, sample_schema
from tasks.sources.fetched import Fetched
from tasks.stages import likeness
from tasks.stages.assembly import planned_shards
from tasks.stages.index import DICOM_SUMMARY
from tasks.stages.plan import Plan, about, inputs, verdicts
from tasks.storage import Location, is_remote, location, move, read_bytes, remove_tree


@giving_back
def describe(plan: Plan, *, is_published: bool) -> Location:
    """The data-quality report, of a release to be published or of one that a gate refused. Returns its page."""
    samples = _report_samples(plan)
    before, drift_before = _drift_before(plan, samples)
    facts = ReportFacts(
        **release_facts(plan, is_published=is_published),
        samples=samples,
        histograms=_optional_json(plan.work / "histograms.json"),
        findings=checks.findings(samples, plan.dataset) if len(samples) else {},
        holds=_optional_json(plan.work / "row-counts.json") or None,
        headers=_optional_json(plan.work / DICOM_SUMMARY) or None,
        drift=drift.between_splits(plan.dataset, samples),
        drift_before=drift_before,
        release_before=before,
        **(_likeness(plan) if len(samples) and plan.dataset.is_decoded else {}),
    )
    give_back()
    folder = plan.staging / "quality"
    told = {"dataset": plan.dataset.name, "before": before, "after": plan.release}
    write_json(folder / "drift.json", {**told, "shifts": [shift.as_json() for shift in drift_before]})
    build(
        facts,
        folder,
        images=lambda ids: _encoded(plan, ids),
        refused=lambda places: _originals(plan, places),
        masks=(lambda ids: _masks(plan, ids)) if plan.dataset.has_masks else None,
    )
    return folder / "index.html"


def _likeness(plan: Plan) -> dict[str, Any]:
    """What the report says of images that look alike."""
    pairs = read_frame(plan.staging / "quality" / "near_duplicates.parquet")
    return {
        "near_duplicates": pairs[pairs["crosses_groups"]].reset_index(drop=True),
        "calibration": likeness.measured(plan),
        "overlap": likeness.overlap(plan),
    }


def _drift_before(plan: Plan, samples: pd.DataFrame) -> tuple[str | None, list[Shift]]:
    """The newest release so far, and how this one's samples differ from it; None without one that can be compared."""
    before = _release_before(plan)
    if before is None:
        return None, []
    try:
        earlier = read_samples(plan.lake, before, drift.columns(plan.dataset))
    except ScanmillError:
        return None, []
    return before, drift.between_releases(plan.dataset, earlier, samples)


def release_facts(plan: Plan, *, is_published: bool) -> dict[str, Any]:
    """What :class:`tasks.quality.facts.ReleaseFacts` asks of any release."""
    return {
        "dataset": plan.dataset,
        "release": plan.release,
        "parameters": about(plan)["parameters"],
        "code": about(plan)["code"],
        "inputs": inputs(plan),
        "verdicts": verdicts(plan),
        "accounting": Accounting.from_json(read_json(plan.work / "accounting.json")),
        "quarantine": read_frame(plan.staging / "quarantine.parquet"),
        "published": is_published,
        "has_data_docs": plan.data_docs is not None,
    }


def _optional_json(path: Location) -> dict[str, Any]:
    return dict(read_json(path)) if path.exists() else {}


def _report_samples(plan: Plan) -> pd.DataFrame:
    if (plan.work / "plan.parquet").exists():
        return read_frame(plan.work / "plan.parquet").drop(columns=list(shards.PLACES))
    empty: pd.DataFrame = sample_schema(plan.dataset, {}, is_placed=False).empty_table().to_pandas()
    return empty


def _encoded(plan: Plan, sample_ids: Sequence[str]) -> dict[str, bytes]:
    """Encoded images of a few samples, straight from the chunks; of none, nothing is read."""
    if not sample_ids:
        return {}
    chosen = _planned(plan, sample_ids, ("archive", "member", "image_sha256"))
    images = shards.read_images(chosen, plan.lake.chunks, plan.archives)
    return dict(zip(chosen["sample_id"].to_pylist(), images, strict=True))


def _masks(plan: Plan, sample_ids: Sequence[str]) -> dict[str, bytes]:
    """The same of their masks."""
    if not sample_ids:
        return {}
    chosen = _planned(plan, sample_ids, ("mask_sha256",))
    masks = shards.read_masks(chosen, plan.lake.chunks)
    return dict(zip(chosen["sample_id"].to_pylist(), masks, strict=True))


def _planned(plan: Plan, sample_ids: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Rows of the plan of a few samples: these columns, and where their files wait."""
    rows = read_table(plan.work / "plan.parquet", columns=["sample_id", *shards.PLACES, *columns])
    return rows.filter(pc.is_in(rows["sample_id"], pa.array(list(sample_ids), pa.string())))


def _originals(plan: Plan, places: Sequence[tuple[str, str, int]]) -> dict[tuple[str, str, int], bytes | None]:
    """Original bytes of refused members, None where they cannot or must not be read."""
    members = read_frame(plan.work / "members.parquet")
    unsafe = set(
        members.loc[members["problem"] != "", ["archive", "member", "offset"]].itertuples(index=False, name=None)
    )
    archives = {archive.name: archive for archive in plan.archives}
    return {place: None if place in unsafe else _original(archives[place[0]], place) for place in places}


def _original(archive: Archive, place: tuple[str, str, int]) -> bytes | None:
    try:
        return read_member(archive, place[1], place[2])
    except MemberRefused:
        return None


def publish(plan: Plan, run: Mapping[str, Any], fetched: Fetched | None) -> Location:
    """Boxes, card, Croissant and manifest, then the swap; ``run`` (times, reuse) stays outside every digest."""
    sweep(plan.staging)  # what a worker has half written that was killed and replaced
    counted = Accounting.from_json(read_json(plan.work / "accounting.json"))
    listed = shards.describe(plan.work / shards.MARKERS, planned_shards(plan))
    samples = read_frame(plan.staging / "samples.parquet")
    splits = releases.count_splits(samples, plan.dataset)
    annotated = coco.coco(plan.dataset, plan.release, samples, plan.request.transform.extension)
    if annotated is not None:
        write_bytes(plan.staging / coco.NAME, annotated)
    if plan.dataset.dicom is not None:
        write_bytes(plan.staging / DICOM_SUMMARY, read_bytes(plan.work / DICOM_SUMMARY))
    draft = releases.manifest(
        plan.staging, plan.release, about(plan), inputs(plan), splits, listed, counted, verdicts(plan)
    )
    # The card first, then Croissant over the files so far, then the manifest over everything.
    write_bytes(plan.staging / "README.md", card(plan.dataset, plan.release, draft, counted, verdicts(plan)))
    schema = read_schema(plan.staging / "samples.parquet")
    figures = statistics.describe(samples, plan.dataset)
    write_bytes(plan.staging / "croissant.json", croissant(plan.dataset, plan.release, draft, schema, figures))
    return finish(plan, draft, run, fetched)


def finish(plan: Plan, draft: Mapping[str, Any], run: Mapping[str, Any], fetched: Fetched | None) -> Location:
    """The manifest over all that the draft's release holds by now, what changed, then the swap."""
    shard_paths = {str(shard["path"]) for shard in draft["shards"]}
    final = {**draft, "files": releases.list_files(plan.staging, shard_paths)}
    _tell_changes(plan, final, run, fetched)
    return releases.publish(plan.lake, plan.release, final)


def _tell_changes(plan: Plan, manifest: Mapping[str, Any], run: Mapping[str, Any], fetched: Fetched | None) -> None:
    """``run.json`` and the page that says what is new beside the latest release, outside every digest."""
    before = _release_before(plan)
    difference = _difference(plan, before, manifest) if before else None
    folder = plan.staging / "quality"
    changes.record(folder, {**run, **_origin(plan)}, fetched, before)
    changes.build(folder, plan.dataset, plan.release, fetched, before, difference, run)


def _release_before(plan: Plan) -> str | None:
    """The latest release so far; None for the first, and where the pointer is damaged."""
    try:
        before = latest_release(plan.lake)
    except ScanmillError:
        return None
    return before if before != plan.release else None


def _difference(plan: Plan, before: str, manifest: Mapping[str, Any]) -> Difference | None:
    """The new release beside the one before it; None for one that cannot be compared."""
    try:
        return compare_staged((plan.lake, before), plan.staging, manifest)
    except ScanmillError:
        return None


def _origin(plan: Plan) -> dict[str, Any]:
    """Where raw lay, and what it was; for ``run.json``, as no digest may tell of places on a machine."""
    places = [location(path) for path in plan.request.raw]
    raw = [str(place if is_remote(place) else place.resolve()) for place in places]
    return {"raw": raw, "inputs": inputs(plan), "tables": about(plan)["parameters"].get("tables", {})}


def refuse(plan: Plan) -> None:
    """Move the report and the quarantine of a refused release to where they can be read, and raise what they say."""
    target = plan.lake.refused(plan.release)
    write_json(plan.staging / "quality" / "run.json", _origin(plan))
    remove_tree(target)
    make_folder(target)
    for name in ("quality", "quarantine.parquet"):
        move(plan.staging / name, target / name)
    failures = [outcome for verdict in verdicts(plan) for outcome in verdict.outcomes if outcome.status == "failed"]
    remove_tree(plan.work)
    remove_tree(plan.staging)
    lines = [line for outcome in failures for line in _failure(outcome)]
    raise DataRefused(
        f"the {failures[0].gate} gate of {plan.dataset.name} failed; nothing was published\n"
        + "\n".join(lines)
        + f"\nreport: {target / 'quality' / 'index.html'}"
    )


def _failure(outcome: Outcome) -> list[str]:
    """What a failed expectation says on the terminal."""
    allowed = _allowed(outcome.tolerance)
    lines = [f"  {outcome.code}: {outcome.failed:,} of {outcome.checked:,} ({allowed} allowed). {outcome.sentence}"]
    return lines + ([f"    {outcome.observed}", f"    {outcome.remedy}"] if outcome.remedy else [])


def _allowed(tolerance: float) -> str:
    return f"{tolerance:.1%}" if tolerance else "none"
