"""What a run shows in Prefect: artifacts whose sums meet, logs of every process, one event; none of it stops a run."""

from __future__ import annotations

import errno
import io
import json
import logging
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.logging.handlers import APILogHandler
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings

from flows import noticeboard
from flows.noticeboard import Noticeboard
from flows.showing import PUBLISHED, PUBLISHED_ALL_THE_SAME, shown_in_prefect
from tasks import progress, steps
from tasks.clusters import SchedulerLost
from tasks.lake import Lake
from tasks.progress import Meter, Progress
from tasks.schema import DataRefused, UnusableInput
from tasks.waves import cluster, run_waves
from tests import talking_work
from tests.conftest import write_fake
from tests.fakes import damage, ovf_supplement
from tests.fakes.servers.figshare import FakeFigshare

NIH, MAMMOGRAPHY, RESTRICTED = "nih-chest-xray", "mammography-density", "chexchonet"
SUPPLEMENT = 25494829
PATIENCE_SECONDS = 20

pytestmark = pytest.mark.usefixtures("prefect_server")


class Ran:
    """A run of the flow, and what Prefect's server knows of it."""

    def __init__(self, dataset: str, lake: Path, **parameters: Any) -> None:
        from flows.prepare import prepare

        state: Any = prepare(dataset=dataset, lake=str(lake), workers=0, **parameters, return_state=True)
        self.id: UUID = state.state_details.flow_run_id
        self.lake = Lake(str(lake), dataset)
        self.state = state
        rows = asked("/artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [str(self.id)]}}})
        ours = [row for row in rows if row["key"]]  # Prefect keeps results of flows among them, without a key
        self.artifacts = {row["key"].removeprefix(f"{dataset}-"): row for row in ours}
        assert len(self.artifacts) == len(ours), "an artifact is there twice"

    def folder(self) -> Path:
        """Of the release that it made or found."""
        return Path(str(self.lake.release(self.state.result()["release"])))

    def counted(self) -> dict[tuple[str, str], int]:
        """The accounting that is shown: sums of counts."""
        sums: dict[tuple[str, str], int] = {}
        for line in json.loads(self.artifacts["accounting"]["data"]):
            key = (line["what"], line["became"])
            sums[key] = sums.get(key, 0) + line["count"]
        return sums

    def told(self, artifact: str) -> str:
        return str(self.artifacts[artifact]["data"])


def asked(path: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows that the server's API gives."""
    with get_client(sync_client=True) as client:
        answer: list[dict[str, Any]] = client.request("POST", path, json={**wanted, "limit": 200}).json()  # type: ignore[arg-type]
        return answer


def waited_for(look: Callable[[], list[dict[str, Any]]], count: int) -> list[dict[str, Any]]:
    """What is there as soon as there are so many; events and logs reach the server behind its answers."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(found := look()) < count and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


def events_of(ran: Ran) -> list[dict[str, Any]]:
    """Those of its release in its lake: other files of tests may have published the same into another."""
    place, release = ran.lake, ran.folder().name

    def look() -> list[dict[str, Any]]:
        wanted = {"filter": {"resource": {"id": [f"scanmill.dataset.{place.dataset}"]}}}
        with get_client(sync_client=True) as client:
            events = client.request("POST", "/events/filter", json=wanted).json()["events"]
        return [
            event
            for event in events
            if (event["payload"]["release"], event["payload"]["lake"]) == (release, place.root)
        ]

    return waited_for(look, 1)


@pytest.fixture(scope="module")
def first(prefect_server: None, fakes: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A first run of a release with defects."""
    return Ran(NIH, tmp_path_factory.mktemp("first"), raw=[str(fakes(NIH))])


@pytest.fixture(scope="module")
def again(first: Ran, fakes: Callable[[str], Path]) -> Ran:
    """The same run once more."""
    return Ran(NIH, Path(first.lake.root), raw=[str(fakes(NIH))])


@pytest.fixture(scope="module")
def refused(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """A run that the second gate stopped: one in eighty images cannot be decoded."""
    folder = tmp_path_factory.mktemp("refused")
    write_fake(MAMMOGRAPHY, folder / "raw", images=80)
    damage.DAMAGES["truncated-image"](folder / "raw")
    return Ran(MAMMOGRAPHY, folder / "lake", raw=[str(folder / "raw")])


# Artifacts


def test_a_published_release_shows_its_report_and_where_everything_went(first: Ran) -> None:
    assert f"]({(first.folder() / 'quality' / 'index.html').as_uri()})" in first.told("report")
    accounting = json.loads((first.folder() / "manifest.json").read_bytes())["accounting"]
    counted = first.counted()
    kinds = {what for what, _ in counted}
    assert kinds == {"archive members", "quarantine lines", *(f"rows of {t['table']}" for t in accounting["tables"])}
    for what in kinds:
        parts = [counted.get((what, became), 0) for became in ("written", "quarantined", "ignored")]
        assert sum(parts) == counted[what, "found"] > 0, what
    assert counted["archive members", "quarantined"] == accounting["quarantined"] > 0
    assert counted["archive members", "ignored"] == sum(accounting["ignored"].values()) > 0
    reasons = {line["reason"] for line in json.loads(first.told("accounting")) if line["what"] == "quarantine lines"}
    assert reasons - {""} == set(accounting["reasons"])


def test_the_link_comes_with_the_essentials_of_the_report(first: Ran) -> None:
    counted = json.loads((first.folder() / "manifest.json").read_bytes())["accounting"]
    told = first.told("report")
    assert f"* kept {counted['written']:,} of {counted['members']:,} archive members" in told
    report = json.loads((first.folder() / "quality" / "report.json").read_bytes())
    codes = {o["code"] for verdict in report["verdicts"] for o in verdict["outcomes"] if o["status"] == "warned"}
    (warned,) = re.findall(r"\* \d+ warned: (.*)", told)
    assert set(warned.split(", ")) == codes
    assert re.search(r"\* (no duplicates or leakage found|duplicates and leakage: )", told)
    assert re.search(r"\* (no sure|largest) drift between splits", told)


def test_a_published_release_shows_every_expectation_and_none_that_failed(first: Ran) -> None:
    report = json.loads((first.folder() / "quality" / "report.json").read_bytes())
    shown = [line.split(" | ")[:2] for line in first.told("gates").splitlines() if line.startswith("| ")][1:]
    rows = [(status.removeprefix("| "), code) for status, code in shown if code != "expectation"]
    outcomes = [outcome for verdict in report["verdicts"] for outcome in verdict["outcomes"]]
    assert sorted(rows) == sorted((outcome["status"], outcome["code"]) for outcome in outcomes)
    assert "metadata gate: passed" in first.told("gates")
    assert "images gate: passed" in first.told("gates")


def test_long_stages_end_at_100_percent(first: Ran) -> None:
    shown = {key: row["data"] for key, row in first.artifacts.items() if row["type"] == "progress"}
    assert shown == dict.fromkeys(shown, 100.0)
    assert {"convert", "assemble"} <= set(shown)


def test_nothing_new_shows_the_release_that_is_there(first: Ran, again: Ran) -> None:
    assert not again.state.result()["is_new"]
    for key in ("report", "accounting", "gates"):
        assert again.told(key) == first.told(key)


def test_a_refused_release_shows_the_verdict_first_and_its_report(refused: Ran) -> None:
    with pytest.raises(DataRefused):
        refused.state.result()
    (folder,) = Path(str(refused.lake.home), "refused").iterdir()
    assert f"{(folder / 'quality' / 'index.html').as_uri()})" in refused.told("report")
    assert "images gate: FAILED" in refused.told("gates")
    after = refused.told("gates").partition("images gate: FAILED")[2]
    rows = [line for line in after.splitlines() if line.startswith("| ")]
    assert rows[1].startswith("| failed | decodable | 1 of 80 | 1.0% | Every image can be read and decoded.")
    counted = refused.counted()
    assert counted["archive members", "found"] == sum(
        counted.get(("archive members", became), 0) for became in ("written", "quarantined", "ignored")
    )


def test_a_lake_behind_a_web_server_is_linked_there(
    first: Ran, fakes: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCANMILL_LAKE_URL", "https://files.example/lake/")
    ran = Ran(NIH, Path(first.lake.root), raw=[str(fakes(NIH))])
    place = f"https://files.example/lake/{NIH}/releases/{first.folder().name}/quality/index.html"
    assert f"]({place})" in ran.told("report")


def test_single_rows_of_a_restricted_dataset_are_not_shown(fakes: Callable[[str], Path], tmp_path: Path) -> None:
    import pandas as pd

    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: True}):
        ran = Ran(RESTRICTED, tmp_path, raw=[str(fakes(RESTRICTED))])
        records = logs_of(ran.id, 1)
    shown = json.dumps(list(ran.artifacts.values())) + json.dumps(records)
    samples = pd.read_parquet(ran.folder() / "samples.parquet")
    refused = pd.read_parquet(ran.folder() / "quarantine.parquet")
    places = pd.concat([samples["member"], samples["sample_id"], samples["patient_id"], refused["member"].dropna()])
    assert len(refused) > 0
    assert {"report", "accounting", "gates"} <= set(ran.artifacts)
    assert not [place for place in places.astype(str) if place in shown]


def test_a_fetched_release_of_documents_shows_what_was_new(tmp_path: Path) -> None:
    with FakeFigshare() as server:
        server.publish(SUPPLEMENT, {ovf_supplement.NAME: ovf_supplement.docx_bytes()})
        ran = Ran("ovf-radiomics", tmp_path, source_url=server.api)
    assert "## New: 1" in ran.told("source")
    assert ran.artifacts["fetch"]["data"] == 100.0
    assert "documents gate: passed" in ran.told("gates")
    assert ran.counted()["archive members", "written"] == 1


# A server in trouble


def test_a_server_that_hangs_costs_a_stage_nothing_and_the_end_little(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(noticeboard, "LAST_SECONDS", 0.5)
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # takes connections, answers nothing
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/api"
        stack.enter_context(temporary_settings({PREFECT_API_URL: url}))
        board = Noticeboard(NIH, uuid4())
        began = time.monotonic()
        for done in range(5000):
            board.move(Progress("convert", done, 5000, "images", 1.0))
        assert time.monotonic() - began < 2.5  # half a millisecond each, on a machine that does other things too
        board.close()
        assert time.monotonic() - began < 5
    assert "did not take the artifacts nih-chest-xray-convert" in caplog.text


def test_a_run_whose_artifacts_cannot_be_made_ends_well(
    first: Ran, fakes: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from flows import artifacts

    def fail(*arguments: object) -> Any:
        raise ValueError("damaged")

    monkeypatch.setattr(artifacts, "outcome", fail)
    ran = Ran(NIH, Path(first.lake.root), raw=[str(fakes(NIH))])
    assert ran.folder() == first.folder()
    assert ran.artifacts == {}
    assert "cannot be shown in Prefect" in caplog.text


# The event


def test_a_new_release_is_announced_once(first: Ran, again: Ran) -> None:
    (event,) = events_of(first)
    assert again.state.is_completed()
    assert event["event"] == PUBLISHED
    assert event["payload"] == {
        "dataset": NIH,
        "release": first.folder().name,
        "lake": first.lake.root,
        "samples": json.loads((first.folder() / "manifest.json").read_bytes())["accounting"]["written"],
        "gates_passed": True,
    }
    assert event["resource"]["scanmill.release"] == first.folder().name


def test_a_release_published_in_spite_of_a_gate_is_announced_under_another_name(refused: Ran) -> None:
    raw = Path(refused.lake.root).parent / "raw"
    ran = Ran(MAMMOGRAPHY, Path(refused.lake.root), raw=[str(raw)], allow_gate_failure=True)
    (event,) = events_of(ran)
    assert event["event"] == PUBLISHED_ALL_THE_SAME
    assert event["payload"]["gates_passed"] is False


# Logs


def logs_of(flow_run_id: UUID, count: int) -> list[dict[str, Any]]:
    """Records of scanmill's loggers that the server has of a run."""
    APILogHandler().flush()

    def look() -> list[dict[str, Any]]:
        records = asked("/logs/filter", {"logs": {"flow_run_id": {"any_": [str(flow_run_id)]}}})
        return [record for record in records if record["name"].startswith("scanmill")]

    return waited_for(look, count)


@pytest.fixture
def terminal() -> Iterator[io.StringIO]:
    """What the root logger's handler prints, as the command line and Prefect's workers set it up."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


def test_records_reach_the_run_once_from_stage_and_worker_and_the_terminal_stays_quiet(
    tmp_path: Path, terminal: io.StringIO
) -> None:
    @task
    def stage() -> None:
        logging.getLogger("scanmill.fetch").info("something happened")
        with cluster(1, None) as address:
            run_waves(talking_work.work, ["archive-7.zip"], address=address)

    @flow
    def run() -> None:
        with shown_in_prefect(Lake(str(tmp_path), NIH)):
            logging.getLogger("scanmill.prepare").warning("something is odd")
            stage()

    logging.getLogger("scanmill").addHandler(rival := APILogHandler())  # as PREFECT_LOGGING_EXTRA_LOGGERS=scanmill does
    try:
        with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: True}):
            ran: Any = run(return_state=True)
            records = logs_of(ran.state_details.flow_run_id, 3)
    finally:
        logging.getLogger("scanmill").removeHandler(rival)
    said = {record["message"]: record for record in records}
    assert len(said) == len(records) == 3
    worker = next(message for message in said if "archive-7.zip looks odd" in message)
    assert "tcp://127.0.0.1:" in worker
    assert said["something happened"]["task_run_id"]
    assert said["something is odd"]["task_run_id"] is None
    assert "something is odd" in terminal.getvalue()
    assert "something happened" not in terminal.getvalue()


def test_progress_is_a_line_a_minute_in_the_logs(tmp_path: Path) -> None:
    @flow
    def run() -> None:
        with shown_in_prefect(Lake(str(tmp_path), NIH)):
            meter = Meter("convert", 1000, "images")
            for _ in range(4):
                meter.add(250)
                time.sleep(progress.INTERVAL_SECONDS)

    with temporary_settings({PREFECT_LOGGING_TO_API_ENABLED: True}):
        ran: Any = run(return_state=True)
        records = logs_of(ran.state_details.flow_run_id, 1)
    (said,) = [record["message"] for record in records if record["name"] == "scanmill.progress"]
    assert said.startswith("convert 1,000/1,000 images")


# Retries and time limits


class Throttled:
    """An S3 error of the given kind, as botocore raises it."""

    def __new__(cls, status: int, code: str) -> Any:
        from botocore.exceptions import ClientError

        return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutObject")


TRANSIENT: dict[str, Callable[[], BaseException]] = {
    "connection cut": lambda: ConnectionResetError(errno.ECONNRESET, "cut"),
    "no answer": lambda: TimeoutError("no answer"),
    "stale handle": lambda: OSError(errno.ESTALE, "stale"),
    "input/output error": lambda: OSError(errno.EIO, "hiccup"),
    "scheduler lost": lambda: SchedulerLost("tcp://dask:8786 is gone"),
    "S3 throttles": lambda: Throttled(503, "SlowDown"),
    "S3 fails": lambda: Throttled(500, "InternalError"),
}
PERMANENT: dict[str, Callable[[], BaseException]] = {
    "disk full": lambda: OSError(errno.ENOSPC, "full"),
    "no right": lambda: PermissionError(errno.EACCES, "no"),
    "no file": lambda: FileNotFoundError(errno.ENOENT, "gone"),
    "read-only": lambda: OSError(errno.EROFS, "read-only"),
    "unusable input": lambda: UnusableInput("no"),
    "gate's no": lambda: DataRefused("no"),
    "defect": lambda: ValueError("no"),
    "S3 forbids": lambda: Throttled(403, "AccessDenied"),
}


def calls_until_it_ends(error: BaseException, options: dict[str, Any]) -> int:
    """How often a stage is called that fails the first time."""
    calls = []

    @task(**{**options, "retry_delay_seconds": 0})
    def stage() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise error

    stage(return_state=True)
    return len(calls)


@pytest.mark.parametrize("kind", TRANSIENT)
def test_trouble_that_time_can_heal_is_tried_again(kind: str) -> None:
    assert calls_until_it_ends(TRANSIENT[kind](), steps.HEALING) == 2


@pytest.mark.parametrize("kind", PERMANENT)
def test_other_trouble_is_not(kind: str) -> None:
    assert calls_until_it_ends(PERMANENT[kind](), steps.HEALING) == 1


@pytest.fixture
def free_alarm() -> Iterator[None]:
    """SIGALRM as in any process but a test's: pytest-timeout has taken it."""
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGALRM, before)


def test_a_stage_that_hangs_is_stopped_in_words_and_not_tried_again(free_alarm: None) -> None:
    calls = []

    @task(**{**steps.HEALING, "timeout_seconds": 0.3})
    def stage() -> None:
        calls.append(1)
        time.sleep(20)

    @flow
    def run() -> None:
        with steps.in_time():
            stage()

    began = time.monotonic()
    with pytest.raises(UnusableInput, match="did not end within its time limit"):
        run()
    assert time.monotonic() - began < 15
    assert len(calls) == 1
