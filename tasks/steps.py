"""The seam: the one place where Prefect's ``task()`` is applied. Names, retries and cache policy on one screen.

Prefect sees a stage, never a chunk. Nothing is cached or persisted by Prefect: finished work is found by its name in
the lake, and hashing arguments would cost more than looking there. A stage is retried only where time can heal it.
"""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.schema import ScanmillError
from tasks.stages import assembly, conversion, metadata, publication, samples_gate
from tasks.stages import index as indexing


def _can_heal(task_: Any, run: Any, state: Any) -> bool:
    """Retry trouble with files and networks; a user's mistake and a gate's no stay what they are."""
    try:
        state.result()
    except (OSError, TimeoutError) as error:
        return not isinstance(error, ScanmillError)
    except BaseException:
        return False
    return False


fetch = task(name="fetch", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5, retry_condition_fn=_can_heal)(
    indexing.fetch
)
index = task(name="index", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=5, retry_condition_fn=_can_heal)(
    indexing.index
)
parse = task(name="parse", cache_policy=NO_CACHE)(metadata.parse)
validate_metadata = task(name="validate-metadata", cache_policy=NO_CACHE)(metadata.validate_metadata)
convert = task(
    name="convert",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=10,
    retry_condition_fn=_can_heal,
    tags=["dask"],
)(conversion.convert)
validate_images = task(name="validate-images", cache_policy=NO_CACHE)(samples_gate.validate_images)
assemble = task(
    name="assemble",
    cache_policy=NO_CACHE,
    retries=1,
    retry_delay_seconds=10,
    retry_condition_fn=_can_heal,
    tags=["dask"],
)(assembly.assemble)
describe = task(name="describe", cache_policy=NO_CACHE)(publication.describe)
publish = task(name="publish", cache_policy=NO_CACHE)(publication.publish)
settle = task(name="settle", cache_policy=NO_CACHE)(assembly.settle)
refuse = task(name="refuse", cache_policy=NO_CACHE)(publication.refuse)
