"""The seam: the one place where Prefect's ``task()`` is applied. Names, retries and cache policy on one screen.

Prefect sees a stage, never a chunk. Nothing is cached or persisted by Prefect: finished work is found by its name in
the lake, and hashing arguments would cost more than looking there. A stage is retried only where time can heal it.
"""

from __future__ import annotations

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.stages import assembly, conversion, documents, metadata, publication, samples_gate
from tasks.stages import fetch as fetching
from tasks.stages import index as indexing


def _can_heal(task_: Any, run: Any, state: Any) -> bool:
    """Retry trouble with files and networks; a user's mistake and a gate's no stay what they are."""
    try:
        state.result()
    except OSError:
        return True
    except BaseException:
        return False
    return False


ONCE: dict[str, Any] = {"cache_policy": NO_CACHE}
HEALING: dict[str, Any] = {**ONCE, "retries": 2, "retry_delay_seconds": 5, "retry_condition_fn": _can_heal}

fetch = task(name="fetch", **HEALING)(fetching.fetch)
gather = task(name="gather", **HEALING)(indexing.gather)
index = task(name="index", **HEALING)(indexing.index)
parse = task(name="parse", **HEALING)(metadata.parse)
validate_metadata = task(name="validate-metadata", **ONCE)(metadata.validate_metadata)
convert = task(name="convert", tags=["dask"], **HEALING)(conversion.convert)
validate_images = task(name="validate-images", **ONCE)(samples_gate.validate_images)
assemble = task(name="assemble", tags=["dask"], **HEALING)(assembly.assemble)
describe = task(name="describe", **ONCE)(publication.describe)
publish = task(name="publish", **ONCE)(publication.publish)

# Of a document release.
extract = task(name="extract", **HEALING)(documents.extract)
describe_documents = task(name="describe-documents", **ONCE)(documents.describe_documents)
publish_documents = task(name="publish-documents", **ONCE)(documents.publish_documents)

# After a gate's no.
settle = task(name="settle", **ONCE)(assembly.settle)
refuse = task(name="refuse", **ONCE)(publication.refuse)
