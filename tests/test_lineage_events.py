"""OpenLineage events of real runs, as a receiver on this machine gets them; and runs whose receiver is no good."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import UUID

import pandas as pd
import pytest

from flows import lineage_events
from tasks.schema import DataRefused
from tests.conftest import Prepare, write_fake
from tests.fakes import damage

NIH, RESTRICTED = "nih-chest-xray", "chexchonet"


class Receiver(ThreadingHTTPServer):
    """Takes events as Marquez does, at ``/api/v1/lineage``; ``hang`` makes it take none."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.events: list[dict[str, Any]] = []
        self.hang = Event()
        self.released = Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        if self.server.hang.is_set():
            self.server.released.wait(60)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        is_right = self.path == "/api/v1/lineage"
        if is_right:
            self.server.events.append(json.loads(body))
        self.send_response(201 if is_right else 404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    server = Receiver()
    Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("OPENLINEAGE_URL", server.url)
    yield server
    server.released.set()
    server.shutdown()


def insist_on_form(event: dict[str, Any]) -> None:
    """What OpenLineage's specification 2-0-2 asks of a run event: required fields, and of every facet its origin."""
    assert {"eventType", "eventTime", "run", "job", "inputs", "outputs", "producer", "schemaURL"} <= set(event)
    assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
    places = [*event["inputs"], *event["outputs"]]
    assert all(place["namespace"] and place["name"] for place in places)
    holders = [event["run"].get("facets", {}), event["job"].get("facets", {})]
    holders += [place.get(kind, {}) for place in places for kind in ("facets", "inputFacets", "outputFacets")]
    facets = [facet for holder in holders for facet in holder.values()]
    assert facets
    for facet in facets:
        assert facet["_producer"] == event["producer"]
        assert facet["_schemaURL"].startswith("https://openlineage.io/spec/")


def test_a_run_tells_what_it_read_and_what_it_made(
    receiver: Receiver, flawless_nih: Path, prepare: Prepare, tmp_path: Path
) -> None:
    outcome = prepare(NIH, flawless_nih, tmp_path / "lake")
    start, complete = receiver.events
    assert [event["eventType"] for event in receiver.events] == ["START", "COMPLETE"]
    assert not [name for name in os.environ if name.startswith("OPENLINEAGE__")]
    for event in receiver.events:
        insist_on_form(event)
        assert event["job"] == start["job"] | {"facets": event["job"]["facets"]}
        assert (event["job"]["namespace"], event["job"]["name"]) == ("scanmill", f"prepare.{NIH}")
        assert UUID(event["run"]["runId"]) == UUID(start["run"]["runId"])
        assert UUID(event["run"]["facets"]["parent"]["run"]["runId"])
        assert event["producer"].startswith("urn:scanmill:")
    release = tmp_path / "lake" / NIH / "releases" / outcome["release"]
    manifest = json.loads((release / "manifest.json").read_bytes())
    read = {place["name"]: place["facets"]["version"]["datasetVersion"] for place in complete["inputs"]}
    assert read == {str(flawless_nih / entry["name"]): f"sha256:{entry['sha256']}" for entry in manifest["inputs"]}
    (made,) = complete["outputs"]
    assert (made["namespace"], made["name"]) == ("file", str(tmp_path / "lake" / NIH))
    assert made["facets"]["version"]["datasetVersion"] == outcome["release"]
    samples = pd.read_parquet(release / "samples.parquet")
    assert [field["name"] for field in made["facets"]["schema"]["fields"]] == list(samples.columns)
    metrics = made["facets"]["dataQualityMetrics"]
    assert metrics["rowCount"] == len(samples) == made["outputFacets"]["outputStatistics"]["rowCount"]
    assert metrics["columnMetrics"]["label.Effusion"]["sum"] == samples["label.Effusion"].sum()
    code = complete["job"]["facets"]["scanmill_code"]
    assert code["source"] == manifest["code"]["source"]
    report = json.loads((release / "quality" / "report.json").read_bytes())
    expected = {o["code"]: o["status"] != "failed" for v in report["verdicts"] for o in v["outcomes"]}
    assertions = {a["assertion"]: a["success"] for a in made["facets"]["dataQualityAssertions"]["assertions"]}
    assert assertions == expected


def test_a_gates_no_is_a_failed_run_with_its_first_line(
    receiver: Receiver, copy: Path, prepare: Prepare, tmp_path: Path
) -> None:
    moved = damage.patient_in_two_splits(copy)
    with pytest.raises(DataRefused):
        prepare(NIH, copy, tmp_path / "lake")
    failed = receiver.events[-1]
    assert [event["eventType"] for event in receiver.events] == ["START", "FAIL"]
    message = failed["run"]["facets"]["errorMessage"]["message"]
    assert message == f"the metadata gate of {NIH} failed; nothing was published"
    (refused,) = (tmp_path / "lake" / NIH / "refused").iterdir()
    inputs = json.loads((refused / "quality" / "run.json").read_bytes())["inputs"]
    assert {place["name"] for place in failed["inputs"]} == {str(copy / entry["name"]) for entry in inputs}
    assert str(copy / "images_001.zip") in {place["name"] for place in failed["inputs"]}
    assert failed["outputs"] == []
    assert moved not in json.dumps(receiver.events)


def test_no_event_names_a_member_a_sample_or_a_patient(receiver: Receiver, prepare: Prepare, tmp_path: Path) -> None:
    write_fake(RESTRICTED, tmp_path / "raw", images=60)
    prepare(RESTRICTED, tmp_path / "raw", tmp_path / "lake", allow_gate_failure=True)
    told = json.dumps(receiver.events)
    (release,) = (tmp_path / "lake" / RESTRICTED / "releases").iterdir()
    samples = pd.read_parquet(release / "samples.parquet")
    refused = pd.read_parquet(release / "quarantine.parquet")
    assert receiver.events[-1]["eventType"] == "COMPLETE"
    for column in (samples["sample_id"], samples["member"].map(lambda m: Path(m).stem), refused["sample_id"].dropna()):
        assert len(column)
        assert not [name for name in column if str(name) in told]


def test_a_receiver_that_is_away_or_hangs_costs_a_warning_and_no_run(
    receiver: Receiver,
    flawless_nih: Path,
    flawless_release: Path,
    prepare: Prepare,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(lineage_events, "WAIT_SECONDS", 1.0)
    shutil.copytree(flawless_release.parent.parent, tmp_path / "lake" / NIH)
    receiver.hang.set()
    for url in (receiver.url, "http://127.0.0.1:9"):
        monkeypatch.setenv("OPENLINEAGE_URL", url)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            began = time.monotonic()
            with lineage_events.told_to_openlineage("prepare.anything"):
                pass
            assert time.monotonic() - began < 3
        assert [record.name for record in caplog.records] == ["scanmill.openlineage"]
    assert prepare(NIH, flawless_nih, tmp_path / "lake")["release"] == flawless_release.name


def test_without_the_package_one_warning_names_the_remedy(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "openlineage", None)
    with caplog.at_level(logging.WARNING, "scanmill.openlineage"), lineage_events.told_to_openlineage("train.anything"):
        pass
    (record,) = (r for r in caplog.records if r.name == "scanmill.openlineage")
    assert "pip install 'scanmill[openlineage]'" in record.getMessage()
    assert receiver.events == []


def test_events_go_to_a_file_as_well_and_a_stopped_run_is_aborted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openlineage.yml").write_text(
        f"transport:\n  type: file\n  log_file_path: {tmp_path / 'events'}\n  append: true\n"
    )
    monkeypatch.setenv("OPENLINEAGE_CONFIG", str(tmp_path / "openlineage.yml"))
    with pytest.raises(KeyboardInterrupt), lineage_events.told_to_openlineage("train.anything"):
        raise KeyboardInterrupt
    lines = (tmp_path / "events").read_text().splitlines()
    assert [json.loads(line)["eventType"] for line in lines] == ["START", "ABORT"]


def test_nothing_is_loaded_where_nothing_is_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in lineage_events.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(sys.modules, "openlineage", None)
    assert not lineage_events.is_wanted()
    with lineage_events.told_to_openlineage("train.anything") as told:
        told.send("START")
