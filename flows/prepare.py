"""``prepare``: from a raw release to a published, verified one.

prefect deployment run 'prepare/nih-chest-xray'      or      scanmill prepare nih-chest-xray --raw RAW --lake LAKE
"""

from __future__ import annotations

import time
from typing import Annotated, Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from expectations.gates import judge
from tasks import steps
from tasks.files import complaining_of_space, lock
from tasks.schema import STORES, Encoding, Store
from tasks.stages.index import reuse_published
from tasks.stages.plan import Plan, request
from tasks.waves import cluster


@flow(name="prepare", task_runner=ThreadPoolTaskRunner(max_workers=1), validate_parameters=True)  # type: ignore[arg-type]
def prepare(
    dataset: Annotated[str, Field(description="Name of a dataset of the catalogue, such as nih-chest-xray")],
    raw: Annotated[list[str], Field(description="Folders, zips or tars of the raw release; read in place")],
    lake: Annotated[str, Field(description="Folder of the lake")],
    size: Annotated[
        int | None, Field(description="Longer side in pixels; 0 is native: the published size", ge=0)
    ] = None,
    encoding: Annotated[Encoding, Field(description="Lossless png, or jpeg")] = "png",
    quality: Annotated[int, Field(description="JPEG quality", ge=1, le=100)] = 95,
    stores: Annotated[list[Store], Field(description="webdataset, parquet, or both")] = list(STORES),  # noqa: B006
    workers: Annotated[int | None, Field(description="Local Dask workers; 0 runs in process", ge=0)] = None,
    dask: Annotated[str | None, Field(description="Address of a Dask scheduler, tcp://host:port")] = None,
    table: Annotated[str | None, Field(description="Label table to use where several are there: form or file")] = None,
    splits: Annotated[str | None, Field(description="CSV or Parquet of your own splits, by sample or patient")] = None,
    allow_missing: Annotated[
        float | None, Field(description="Share of metadata rows that may lack their image, 0 to 1", ge=0, le=1)
    ] = None,
    allow_gate_failure: Annotated[bool, Field(description="Publish although a gate failed")] = False,
    rehash: Annotated[bool, Field(description="Hash the raw files anew instead of trusting their time stamps")] = False,
) -> dict[str, Any]:
    """Prepare one dataset; returns the release id, its folder, whether anything was done, and what was reused.

    Raises :class:`tasks.schema.DataRefused` when a gate fails, after writing the report that says why.
    """
    began = time.time()
    wanted = request(
        dataset,
        raw,
        lake,
        size=size,
        encoding=encoding,
        quality=quality,
        stores=stores,
        table=table,
        splits=splits,
        allow_missing=allow_missing,
    )
    home = wanted.place.home
    with lock(wanted.place.lock, purpose=f"a prepare of {dataset} into {lake}"), complaining_of_space(home):
        plan = steps.index(wanted, steps.fetch(raw), rehash=rehash)
        if plan.is_published:
            reuse_published(plan, allow_gate_failure=allow_gate_failure)
            return {"release": plan.release, "is_new": False}
        steps.parse(plan)
        has_passed = steps.validate_metadata(plan, judge).passed
        _stop_unless(has_passed or allow_gate_failure, plan)
        with cluster(workers, dask) as address:
            reuse = steps.convert(plan, address=address)
            has_passed = steps.validate_images(plan, judge).passed and has_passed
            _stop_unless(has_passed or allow_gate_failure, plan)
            reuse |= steps.assemble(plan, address=address)
        steps.describe(plan, is_published=True)
        steps.publish(plan, {"began": began, "seconds": round(time.time() - began, 1), **reuse})
    return {"release": plan.release, "is_new": True, **reuse}


def _stop_unless(may_go_on: bool, plan: Plan) -> None:
    """After a gate's no: settle the accounts, write the report, and raise what it says."""
    if not may_go_on:
        steps.settle(plan)
        steps.describe(plan, is_published=False)
        steps.refuse(plan)
