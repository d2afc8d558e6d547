"""OpenLineage: what a flow read and made, told to a receiver such as Marquez or DataHub, where one is configured.

``OPENLINEAGE_URL``, ``OPENLINEAGE_CONFIG`` or an ``openlineage.yml`` say where, as for any OpenLineage client; the
package comes with ``pip install 'scanmill[openlineage]'``. Without these nothing is imported and nothing is sent.

Events are sent from a thread of their own: a receiver that is slow or away costs a run :data:`WAIT_SECONDS` at its end
and one warning, never its outcome. They hold names of archives, hashes and counts; no sample, no member, no secret.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.context import FlowRunContext

from tasks.code_version import library_versions, scanmill_version
from tasks.files import read_json, read_schema
from tasks.lake import Lake
from tasks.raw_again import origin_of
from tasks.schema import DataRefused
from tasks.storage import Location, is_remote, location

if TYPE_CHECKING:
    from openlineage.client import OpenLineageClient
    from openlineage.client.event_v2 import InputDataset, OutputDataset, RunEvent

logger = logging.getLogger("scanmill.openlineage")

WAIT_SECONDS = 10.0
"""Longest that a flow waits, at its end, for its events to be taken."""
ERROR_CHARACTERS = 500
NAMESPACE = "OPENLINEAGE_NAMESPACE"
"""Environment variable: the namespace of jobs; ``scanmill`` where it is not set."""
SETTINGS = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG")
FILES = (Path("openlineage.yml"), Path("~/.openlineage/openlineage.yml"))
THREAD = "openlineage"
SEVERITIES = {"error": "error", "warning": "warn", "known": "warn"}


def is_wanted() -> bool:
    """Whether a receiver is configured, in one of the ways that OpenLineage's own client knows."""
    if os.environ.get("OPENLINEAGE_DISABLED", "").strip().lower() == "true":
        return False
    is_set = any(os.environ.get(name) for name in SETTINGS)
    is_spelled = any(name.startswith("OPENLINEAGE__TRANSPORT") for name in os.environ)
    return is_set or is_spelled or any(path.expanduser().is_file() for path in FILES)


@contextlib.contextmanager
def told_to_openlineage(job: str) -> Iterator[Told]:
    """START before the block, COMPLETE after it; FAIL where it raises, ABORT where it is stopped."""
    told = Told(job, _sender())
    told.send("START")
    try:
        yield told
    except Exception as error:
        told.send("FAIL", error)
        raise
    except BaseException:
        told.send("ABORT")
        raise
    else:
        told.send("COMPLETE")
    finally:
        told.close()


class Told:
    """One run of one job: gathers what it read and made. Without a receiver all of it does nothing."""

    def __init__(self, job: str, sender: _Sender | None) -> None:
        """``job`` such as ``prepare.nih-chest-xray``."""
        self._job = job
        self._sender = sender
        self._run_id = str(uuid.uuid4())
        self._release: tuple[Lake, str] | None = None
        self._raw: tuple[str, ...] = ()
        self._run: Location | None = None
        self._is_made_here = False

    def making(self, lake: Lake, release: str, raw: Sequence[str]) -> None:
        """The release that is being made, and the raw places it is made from."""
        self._release, self._raw, self._is_made_here = (lake, release), tuple(raw), True

    def learning(self, lake: str, outcome: Mapping[str, Any]) -> None:
        """The run that came of a training or an evaluation: ``run release dataset`` of ``outcome``."""
        self._release = (Lake(lake, outcome["dataset"]), outcome["release"])
        self._run = location(lake) / "runs" / outcome["run"]

    def send(self, state: str, error: Exception | None = None) -> None:
        """Have one event sent; whatever goes wrong with it is one warning."""
        if self._sender is None:
            return
        try:
            self._sender.put(self._event(state, error))
        except Exception as trouble:
            logger.warning("what %s did cannot be told to OpenLineage: %s", self._job, trouble)

    def close(self) -> None:
        """Wait for what is on its way, not for long."""
        if self._sender is not None:
            self._sender.close()

    def _event(self, state: str, error: Exception | None) -> RunEvent:
        from openlineage.client.event_v2 import Job, Run, RunEvent, RunState

        is_over = state in ("COMPLETE", "FAIL")
        return RunEvent(
            eventType=RunState[state],
            eventTime=datetime.now(UTC).isoformat(),
            run=Run(self._run_id, facets=_run_facets(error)),
            job=Job(_namespace(), self._job, facets=_job_facets()),
            inputs=list(self._inputs()) if is_over else [],
            outputs=list(self._outputs()) if is_over else [],
            producer=_producer(),
        )

    def _inputs(self) -> Iterator[InputDataset]:
        if self._release is None:
            return
        lake, release = self._release
        if self._is_made_here:
            yield from _raw_inputs(_folder(lake, release), self._raw)
        else:
            yield _release_input(lake, release)

    def _outputs(self) -> Iterator[OutputDataset]:
        if self._run is not None:
            yield _run_output(self._run)
        elif self._release is not None and self._is_made_here:
            lake, release = self._release
            if (lake.release(release) / "manifest.json").is_file():
                yield _release_output(lake, release)


class _Sender:
    """Hands events to the client one after the other, in a thread of its own; gives up after the first trouble."""

    def __init__(self, client: OpenLineageClient) -> None:
        self._client = client
        self._events: queue.SimpleQueue[RunEvent | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._send_all, name=THREAD, daemon=True)
        self._thread.start()

    def put(self, event: RunEvent) -> None:
        self._events.put(event)

    def close(self) -> None:
        self._events.put(None)
        self._thread.join(WAIT_SECONDS)
        if self._thread.is_alive():
            logger.warning("the OpenLineage receiver did not answer within %.0f s; the run goes on", WAIT_SECONDS)

    def _send_all(self) -> None:
        logging.getLogger("urllib3.connectionpool").addFilter(_is_of_others)  # it would tell of every attempt
        while (event := self._events.get()) is not None:
            try:
                self._client.emit(event)
            except Exception as error:
                text = f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS]
                logger.warning("the OpenLineage receiver takes no events (%s); the run goes on", text)
                return


def _is_of_others(record: logging.LogRecord) -> bool:
    return record.threadName != THREAD


def _sender() -> _Sender | None:
    if not is_wanted():
        return None
    if find_spec("openlineage") is None:
        logger.warning("OpenLineage is configured, but not installed: pip install 'scanmill[openlineage]'")
        return None
    try:
        from openlineage.client import OpenLineageClient
        from openlineage.client.event_v2 import set_producer

        set_producer(_producer())
        before = set(os.environ)
        client = OpenLineageClient()
        # It writes what OPENLINEAGE_URL and OPENLINEAGE_API_KEY say under other names into the environment, where every
        # child process would see them and the next client would take them for the user's.
        for name in set(os.environ) - before:
            del os.environ[name]
        return _Sender(client)
    except Exception as error:  # a configuration that its own client does not understand
        logger.warning("OpenLineage cannot be used as it is configured: %s", error)
        return None


def _producer() -> str:
    return f"urn:scanmill:{scanmill_version()}"


def _namespace() -> str:
    return os.environ.get(NAMESPACE) or "scanmill"


def _run_facets(error: Exception | None) -> dict[str, Any]:
    from openlineage.client.facet_v2 import error_message_run, parent_run, processing_engine_run

    facets: dict[str, Any] = {
        "processing_engine": processing_engine_run.ProcessingEngineRunFacet(version=scanmill_version(), name="scanmill")
    }
    context = FlowRunContext.get()
    if context is not None and context.flow_run is not None:
        facets["parent"] = parent_run.ParentRunFacet(
            run=parent_run.Run(runId=str(context.flow_run.id)),
            job=parent_run.Job(namespace="prefect", name=context.flow_run.name),
        )
    if error is not None:
        facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(_words(error), "PYTHON")
    return facets


def _words(error: Exception) -> str:
    """What a gate said in its first line; of any other error only the kind: its text may name a file of a patient."""
    if isinstance(error, DataRefused):
        return str(error).partition("\n")[0][:ERROR_CHARACTERS]
    return f"{type(error).__name__}; its text is in the logs of the run"


def _job_facets() -> dict[str, Any]:
    import attr
    from openlineage.client.event_v2 import Job  # noqa: F401 (loads the base of the facets)
    from openlineage.client.facet_v2 import JobFacet, job_type_job

    from tasks.code_version import release_version

    @attr.define
    class CodeJobFacet(JobFacet):
        """Which code ran."""

        scanmill: str
        source: str
        libraries: dict[str, str]

    return {
        "jobType": job_type_job.JobTypeJobFacet("BATCH", "SCANMILL", "FLOW"),
        "scanmill_code": CodeJobFacet(scanmill_version(), release_version(), library_versions()),
    }


def _folder(lake: Lake, release: str) -> Location:
    """Of the release, published or refused."""
    published = lake.release(release)
    return published if (published / "manifest.json").is_file() else lake.refused(release)


def _raw_inputs(folder: Location, raw: Sequence[str]) -> Iterator[InputDataset]:
    """Every archive and loose table, its SHA-256 as its version."""
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import dataset_version_dataset, input_statistics_input_dataset

    for name, entry in origin_of(folder).inputs.items():
        namespace, place = _named(_place_of(name, raw))
        version = dataset_version_dataset.DatasetVersionDatasetFacet(f"sha256:{entry['sha256']}")
        size = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(size=int(entry["bytes"]))
        yield InputDataset(namespace, place, facets={"version": version}, inputFacets={"inputStatistics": size})


def _place_of(name: str, raw: Sequence[str]) -> Location:
    """Where an input lies: in one of the raw folders, or one of the raw places itself; loose files are their folder."""
    places = [location(place) for place in raw]
    if name.startswith("splits: ") or not places:
        return location(name)
    if name == ".":
        return places[0]
    return next((p if p.name == name else p / name for p in places if p.name == name or (p / name).exists()), places[0])


def _named(place: Location) -> tuple[str, str]:
    """Namespace and name by OpenLineage's naming conventions."""
    if is_remote(place):
        bucket, _, key = place.path.partition("/")
        return f"s3://{bucket}", key
    return "file", str(place.resolve())


def _release_output(lake: Lake, release: str) -> OutputDataset:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset

    manifest = read_json(lake.release(release) / "manifest.json")
    namespace, name = _named(lake.home)
    files = [*manifest["shards"], *manifest["files"]]
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
        rowCount=_samples(manifest), size=sum(int(f["bytes"]) for f in files), fileCount=len(files)
    )
    facets = {**_release_facets(lake, release), "dataQualityAssertions": _assertions(lake.release(release))}
    return OutputDataset(namespace, name, facets=facets, outputFacets={"outputStatistics": statistics})


def _release_input(lake: Lake, release: str) -> InputDataset:
    from openlineage.client.event_v2 import InputDataset

    namespace, name = _named(lake.home)
    assertions = {"dataQualityAssertions": _assertions(lake.release(release))}
    return InputDataset(namespace, name, facets=_release_facets(lake, release), inputFacets=assertions)


def _release_facets(lake: Lake, release: str) -> dict[str, Any]:
    """Version, columns, and counts of rows and of each label."""
    from openlineage.client.facet_v2 import data_quality_metrics_dataset, dataset_version_dataset, schema_dataset

    folder = lake.release(release)
    manifest = read_json(folder / "manifest.json")
    facets: dict[str, Any] = {"version": dataset_version_dataset.DatasetVersionDatasetFacet(release)}
    if (folder / "samples.parquet").is_file():
        fields = [
            schema_dataset.SchemaDatasetFacetFields(name=field.name, type=str(field.type), ordinal_position=number)
            for number, field in enumerate(read_schema(folder / "samples.parquet"), 1)
        ]
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields)
    facets["dataQualityMetrics"] = data_quality_metrics_dataset.DataQualityMetricsDatasetFacet(
        columnMetrics=_label_metrics(manifest), rowCount=_samples(manifest)
    )
    return facets


def _samples(manifest: Mapping[str, Any]) -> int:
    return sum(int(split["samples"]) for split in manifest["splits"].values())


def _label_metrics(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Of each label over all splits: samples that have it, that are known not to, and of which nothing is known."""
    from openlineage.client.facet_v2 import data_quality_metrics_dataset

    totals: dict[str, dict[str, int]] = {}
    for split in manifest["splits"].values():
        for label, counts in split["labels"].items():
            own = totals.setdefault(label, {"present": 0, "absent": 0, "unknown": 0})
            for kind in own:
                own[kind] += int(counts[kind])
    return {
        f"label.{label}": data_quality_metrics_dataset.ColumnMetrics(
            nullCount=counts["unknown"], sum=counts["present"], count=counts["present"] + counts["absent"]
        )
        for label, counts in totals.items()
    }


def _assertions(folder: Location) -> Any:
    """Every expectation of the gates with its counts; what exactly was seen stays in the report."""
    from openlineage.client.facet_v2 import data_quality_assertions_dataset as quality

    report = read_json(folder / "quality" / "report.json")
    outcomes = [outcome for verdict in report["verdicts"] for outcome in verdict["outcomes"]]
    return quality.DataQualityAssertionsDatasetFacet(
        [
            quality.Assertion(
                assertion=outcome["code"],
                success=outcome["status"] != "failed",
                name=f"{outcome['gate']}/{outcome['code']}",
                description=outcome["sentence"],
                severity=SEVERITIES.get(outcome["severity"], "warn"),
                expected=f"at most {outcome['tolerance']:.4g} of {outcome['checked']}",
                actual=f"{outcome['failed']} of {outcome['checked']} ({outcome['status']})",
            )
            for outcome in outcomes
        ]
    )


def _run_output(run: Location) -> OutputDataset:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import dataset_version_dataset

    namespace, name = _named(run)
    about = read_json(run / "run.json")
    version = dataset_version_dataset.DatasetVersionDatasetFacet(str(about["digest"]))
    return OutputDataset(namespace, name, facets={"version": version})
