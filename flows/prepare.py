"""``prepare``: from a raw release to a published, verified one.

prefect deployment run 'prepare/nih-chest-xray'      or      scanmill prepare nih-chest-xray --raw RAW --lake LAKE
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, replace
from typing import Annotated, Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from expectations.gates import judge
from flows.credentials import secrets_for
from flows.lineage_events import told_to_openlineage
from flows.parameters import DatasetName, LakePlace, RawPlaces, described, insist_on_absolute
from flows.showing import shown_in_prefect
from tasks import steps
from tasks.clusters import insist_on_bokeh, insist_on_cluster
from tasks.files import complaining_of_space
from tasks.lake import Lake
from tasks.locks import lock
from tasks.schema import STORES, DecodeCheck, Encoding, Store
from tasks.stages.index import reuse_published
from tasks.stages.plan import Plan, request
from tasks.storage import insist_on_reachable
from tasks.waves import cluster

SCHEDULER = "SCANMILL_DASK"
"""Environment variable: the Dask scheduler of runs that name neither one nor a number of local workers."""


@flow(name="prepare", task_runner=ThreadPoolTaskRunner(max_workers=1), validate_parameters=True)  # type: ignore[arg-type]
@described
def prepare(
    dataset: DatasetName,
    lake: LakePlace,
    raw: RawPlaces = None,
    source_url: Annotated[str | None, Field(description="Mirror to fetch from instead of the publisher's host")] = None,
    files: Annotated[str | None, Field(description="List of https addresses to fetch, one per line")] = None,
    size: Annotated[
        int | None, Field(description="Longer side in pixels; 0 is native: the published size", ge=0)
    ] = None,
    encoding: Annotated[Encoding, Field(description="Lossless png, or jpeg")] = "png",
    quality: Annotated[int, Field(description="JPEG quality", ge=1, le=100)] = 95,
    decode_check: Annotated[
        DecodeCheck,
        Field(description="off passes images of native size on undecoded; all that takes pixels is then not checked"),
    ] = "full",
    stores: Annotated[list[Store], Field(description="webdataset, parquet, or both")] = list(STORES),  # noqa: B006
    workers: Annotated[int | None, Field(description="Local Dask workers; 0 runs in process", ge=0)] = None,
    dask: Annotated[
        str | None,
        Field(description="Address of a Dask scheduler, tcp://host:port; default: SCANMILL_DASK of the worker"),
    ] = None,
    table: Annotated[str | None, Field(description="Label table to use where several are there: form or file")] = None,
    splits: Annotated[str | None, Field(description="CSV or Parquet of your own splits, by sample or patient")] = None,
    performance_report: Annotated[
        bool, Field(description="Keep Dask's performance reports with the run; they load Bokeh from a CDN")
    ] = False,
    allow_missing: Annotated[
        float | None, Field(description="Share of metadata rows that may lack their image, 0 to 1", ge=0, le=1)
    ] = None,
    allow_gate_failure: Annotated[bool, Field(description="Publish although a gate failed")] = False,
    rehash: Annotated[bool, Field(description="Hash the raw files anew instead of trusting their time stamps")] = False,
) -> dict[str, Any]:
    """Prepare one dataset; returns the release id, its folder, whether anything was done, and what was reused.

    Raises :class:`tasks.schema.DataRefused` when a gate fails, after writing the report that says why.
    """
    insist_on_absolute(lake)
    if workers is None:
        dask = dask or os.environ.get(SCHEDULER) or None
    if performance_report:
        insist_on_bokeh(workers, dask)
    began = time.time()
    place = Lake(lake, dataset)
    secrets = secrets_for(dataset)  # complains of an unknown dataset before a folder of that name is made
    insist_on_reachable(place.home)
    with (
        shown_in_prefect(place) as shown,
        told_to_openlineage(f"prepare.{dataset}") as told,
        lock(place.lock, purpose=f"a prepare of {dataset} into {lake}") as held,
        complaining_of_space(place.home),
        steps.in_time(),
    ):
        wanted = request(
            dataset,
            raw or [],
            lake,
            size=size,
            encoding=encoding,
            quality=quality,
            decode_check=decode_check,
            stores=stores,
            table=table,
            splits=splits,
            allow_missing=allow_missing,
        )
        fetched = None
        if not raw:
            fetched = steps.fetch(dataset, lake, secrets, source_url=source_url, files=files, rehash=rehash)
            shown.source(fetched)
            wanted = replace(wanted, raw=(fetched.folder,))
        plan = steps.index(wanted, steps.gather(wanted, secrets), rehash=rehash)
        told.making(place, plan.release, plan.request.raw)
        with shown.outcome_of(plan.release):
            if plan.is_published:
                reuse_published(plan, allow_gate_failure=allow_gate_failure)
                return {"release": plan.release, "is_new": False, "fetched": fetched and asdict(fetched)}
            if plan.is_documents:
                reuse = _documents(plan, allow_gate_failure=allow_gate_failure)
            else:
                insist_on_cluster(dask, with_report=performance_report)
                reuse = _samples(plan, workers, dask, performance_report, allow_gate_failure=allow_gate_failure)
            held.insist()
            run = {"began": began, "seconds": round(time.time() - began, 1), **reuse}
            (steps.publish_documents if plan.is_documents else steps.publish)(plan, run, fetched)
            shown.published(plan.release)
    return {"release": plan.release, "is_new": True, "fetched": fetched and asdict(fetched), **reuse}


def _samples(
    plan: Plan, workers: int | None, dask: str | None, performance_report: bool, *, allow_gate_failure: bool
) -> dict[str, int]:
    """All stages between index and publish, of a release of samples; returns what was reused."""
    steps.parse(plan)
    has_passed = steps.validate_metadata(plan, judge).passed
    _stop_unless(has_passed or allow_gate_failure, plan)
    with cluster(workers, dask, is_profiled=performance_report) as address:
        reuse: dict[str, int] = steps.convert(plan, address=address, with_report=performance_report)
        has_passed = steps.validate_images(plan, judge, address=address).passed and has_passed
        _stop_unless(has_passed or allow_gate_failure, plan)
        reuse |= steps.assemble(plan, address=address, with_report=performance_report)
    steps.describe(plan, is_published=True)
    return reuse


def _documents(plan: Plan, *, allow_gate_failure: bool) -> dict[str, int]:
    """The same of a document release."""
    has_passed = steps.extract(plan, judge).passed
    steps.describe_documents(plan, is_published=has_passed or allow_gate_failure)
    if not (has_passed or allow_gate_failure):
        steps.refuse(plan)
    return {}


def _stop_unless(may_go_on: bool, plan: Plan) -> None:
    """After a gate's no: settle the accounts, write the report, and raise what it says."""
    if not may_go_on:
        steps.settle(plan)
        steps.describe(plan, is_published=False)
        steps.refuse(plan)
