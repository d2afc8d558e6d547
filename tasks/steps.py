"""The seam: the one place where Prefect's ``task()`` is applied. Names, retries, time limits and cache policy on one
screen.

Prefect sees a stage, never a chunk. Nothing is cached or persisted by Prefect: finished work is found by its name in
the lake, and hashing arguments would cost more than looking there. So a run whose process was killed is simply started
again, as the same run or as another.

A stage is tried again only where time can heal its trouble, and where it may be: ``publish`` takes the staged files
with it, and ``validate-images`` judges what it has marked itself.
"""

from __future__ import annotations

import contextlib
import errno
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.task_engine import TaskRunTimeoutError
from prefect.tasks import exponential_backoff

from tasks.learning import evaluation, promotion, training
from tasks.learning.radiomics import pipeline
from tasks.schema import ScanmillError, UnusableInput
from tasks.stages import assembly, conversion, documents, metadata, publication, samples_gate
from tasks.stages import fetch as fetching
from tasks.stages import index as indexing

PASSING = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,  # what s3fs makes of "SlowDown" and "ServiceUnavailable"
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EIO,  # a network disk's hiccup, and what s3fs makes of an answer that it does not know
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.EREMOTEIO,  # what s3fs makes of "InternalError"
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
"""Errors of files and networks that time can heal. A full disk, a missing file, a right that is lacking are none."""
THROTTLED = frozenset({"RequestTimeout", "SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException"})
"""Codes of S3 that ask for patience, whatever their HTTP status."""


def _can_heal(task_: Any, run: Any, state: Any) -> bool:
    """Whether a stage that failed so may be tried again: a user's mistake and a gate's no stay what they are."""
    try:
        state.result()
    except TaskRunTimeoutError:  # it had time enough
        return False
    except (ConnectionError, TimeoutError):  # among them a Dask scheduler that is lost
        return True
    except ScanmillError:
        return False
    except OSError as error:
        return error.errno in PASSING
    except BaseException as error:
        return _is_storage_trouble(error)
    return False


def _is_storage_trouble(error: BaseException) -> bool:
    """Whether botocore says so; it need not be installed."""
    known: Any = sys.modules.get("botocore.exceptions")
    if known is None or not isinstance(error, known.ClientError):
        return known is not None and isinstance(error, known.HTTPClientError)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response.get("Error", {}).get("Code")
    return status == 429 or status >= 500 or code in THROTTLED


# Prefect enforces a time limit by an alarm, in the main thread only: which is where a flow calls its stages.
TABLES_SECONDS = timedelta(hours=6).total_seconds()
"""For a stage that reads tables, samples of images, or the shards of a release once more."""
BYTES_SECONDS = timedelta(days=7).total_seconds()
"""For a stage that reads all of the raw release, over a slow line perhaps. It frees the dataset's lock in the end."""

ONCE: dict[str, Any] = {"cache_policy": NO_CACHE, "timeout_seconds": TABLES_SECONDS}
HEALING: dict[str, Any] = {
    **ONCE,
    "retries": 3,
    "retry_delay_seconds": exponential_backoff(5),  # 5, 10, 20 s
    "retry_jitter_factor": 0.3,
    "retry_condition_fn": _can_heal,
}
LONG: dict[str, Any] = {**HEALING, "timeout_seconds": BYTES_SECONDS}


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """Turn a time limit's error into words. Raises :class:`UnusableInput`."""
    try:
        yield
    except TaskRunTimeoutError as error:
        raise UnusableInput(
            f"a stage was stopped, for it did not end within its time limit ({error}) Disk, network or Dask hang; "
            f"what is finished is kept, and the same run started again goes on from there"
        ) from error


# No stage has a tag: before a tagged one Prefect asks its server for a slot, so that a server that is gone for a while
# would hold the run up.
fetch = task(name="fetch", **LONG)(fetching.fetch)
gather = task(name="gather", **LONG)(indexing.gather)
index = task(name="index", **LONG)(indexing.index)
parse = task(name="parse", **HEALING)(metadata.parse)
validate_metadata = task(name="validate-metadata", **ONCE)(metadata.validate_metadata)
convert = task(name="convert", **LONG)(conversion.convert)
validate_images = task(name="validate-images", **ONCE)(samples_gate.validate_images)
assemble = task(name="assemble", **LONG)(assembly.assemble)
describe = task(name="describe", **ONCE)(publication.describe)
publish = task(name="publish", **ONCE)(publication.publish)

# Of a document release.
extract = task(name="extract", **LONG)(documents.extract)
describe_documents = task(name="describe-documents", **ONCE)(documents.describe_documents)
publish_documents = task(name="publish-documents", **ONCE)(documents.publish_documents)

# After a gate's no.
settle = task(name="settle", **ONCE)(assembly.settle)
refuse = task(name="refuse", **ONCE)(publication.refuse)

# Of what is learned from a release.
train = task(name="train", **LONG)(training.train)  # a retry goes on from the last checkpoint
predict = task(name="predict", **LONG)(evaluation.predict)
control_shuffled = task(name="control-shuffled-labels", **HEALING)(evaluation.control_shuffled)
control_intensity = task(name="control-grey-levels", **HEALING)(evaluation.control_intensity)
explain = task(name="explain", **HEALING)(evaluation.explain)
export = task(name="export", **HEALING)(evaluation.export)
score = task(name="score", **HEALING)(evaluation.score)
report = task(name="report", **HEALING)(evaluation.report)
promote = task(name="promote", **HEALING)(promotion.promote)

# Of radiomics, whose scores and report are nodes of their own.
measure = task(name="measure", **LONG)(pipeline.measure)
fit = task(name="fit", **LONG)(pipeline.fit)
score_radiomics = task(name="score", **HEALING)(pipeline.score)
report_radiomics = task(name="report", **HEALING)(pipeline.report)
