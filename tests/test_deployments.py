"""What users operate: ``scanmill deploy`` on a real server, workers, schedules, the chain from prepare to evaluate."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId, FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Cancelling

from tasks.datasets import catalogue
from tasks.lake import Lake, latest_release
from tests.bench.fast_releases import write_release
from tests.command import ROOT, said, scanmill
from tests.prefect_servers import Site, needs_postgres, site, wait_until

NIH = "nih-chest-xray"
PREPARE, TRAIN, EVALUATE, REFRESH = f"prepare/{NIH}", "train/nih-14-label", "evaluate/run", "refresh/nightly"
BY_EVENT = "train/nih-intensity-baseline"
SMALL = ["network.architecture=densenet-small", "network.size=32", "training.epochs=1", "training.batch_size=16"]
"""The recipe of the night as a machine without a GPU can follow it in a few seconds."""
DECLARED: list[dict[str, Any]] = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
DEPLOYMENTS = sorted(f"{one['entrypoint'].rpartition('.')[2]}/{one['name']}" for one in DECLARED)

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def sqlite(tmp_path_factory: pytest.TempPathFactory, flawless_nih: Path) -> Iterator[Site]:
    """Server and workers on SQLite, Prefect's default; the raw NIH release is where prefect.yaml looks for it."""
    yield from _site(tmp_path_factory.mktemp("sqlite-site"), "sqlite", flawless_nih)


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory, flawless_nih: Path) -> Iterator[Site]:
    """The same on PostgreSQL."""
    yield from _site(tmp_path_factory.mktemp("postgres-site"), "postgresql", flawless_nih)


def _site(folder: Path, database: Any, raw: Path) -> Iterator[Site]:
    with site(folder, database) as place:
        place.raw.mkdir()
        (place.raw / NIH).symlink_to(raw)
        yield place


@pytest.fixture(scope="module")
def slow_raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw release that one worker takes a quarter of a minute to convert."""
    folder = tmp_path_factory.mktemp("slow") / "raw"
    for _ in write_release(folder, images=1200):
        pass
    return folder


@pytest.fixture(scope="module")
def unsound_raw(tmp_path_factory: pytest.TempPathFactory, flawless_nih: Path) -> Path:
    """A raw release with labels that nobody knows in a tenth of its rows: above every tolerance."""
    folder = Path(shutil.copytree(flawless_nih, tmp_path_factory.mktemp("unsound") / "raw"))
    table = folder / "Data_Entry_2017_v2020.csv"
    header, *rows = table.read_text().splitlines()
    cells = [row.split(",") for row in rows]
    for row in cells[::10]:
        row[1] = "Fracture"
    table.write_text("\n".join([header, *map(",".join, cells)]) + "\n")
    return folder


@contextmanager
def stopped(lake: Path) -> Iterator[int]:
    """The process that prepares NIH there stands still for the block: how long its work takes is up to the machine."""
    process = int((lake / NIH / ".lock").read_text().removeprefix("process "))
    os.kill(process, signal.SIGSTOP)
    try:
        yield process
    finally:
        os.kill(process, signal.SIGCONT)


def is_told_to_end(process: int) -> bool:
    """Whether SIGTERM waits for a process that stands still."""
    (pending,) = re.findall(r"^ShdPnd:\s*(\w+)$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return bool(int(pending, 16) & 1 << signal.SIGTERM - 1)


def whole(lake: Path) -> str:
    """Id of the latest NIH release, which must verify."""
    verified = scanmill("verify", lake / NIH)
    assert verified.exit_code == 0, verified.output
    return latest_release(Lake(str(lake), NIH))


def tree(place: Site, run: FlowRun) -> list[tuple[str, str]]:
    """Deployment and state of every child of a run."""
    return [(name, str(child.state and child.state.name)) for name, child in place.children(run)]


def message(run: FlowRun) -> str:
    """What the state of a run says."""
    assert run.state is not None
    return str(run.state.message)


def newest(place: Site, deployment: str) -> FlowRun:
    """The last run of a deployment that has begun."""
    return begun(place, deployment)[-1]


def begun(place: Site, deployment: str) -> list[FlowRun]:
    """Its runs that have begun, in their order."""
    with place.client as client:
        found = client.read_deployment_by_name(deployment)
        only = DeploymentFilter(id=DeploymentFilterId(any_=[found.id]))
        runs = client.read_flow_runs(deployment_filter=only, flow_run_filter=FlowRunFilter())
    return sorted((run for run in runs if run.start_time), key=lambda run: str(run.start_time))


def fired(place: Site, deployment: str, **parameters: Any) -> FlowRun:
    """A run that a schedule has started by itself, once; the schedule is gone afterwards."""
    soon = datetime.now(UTC) + timedelta(seconds=8)
    every = IntervalSchedule(interval=timedelta(seconds=30), anchor_date=soon)
    with place.client as client:
        found = client.read_deployment_by_name(deployment)
        (made,) = client.create_deployment_schedules(
            found.id, [DeploymentScheduleCreate(schedule=every, parameters=parameters)]
        )

    def by_itself() -> list[FlowRun]:
        return [run for run in begun(place, deployment) if run.auto_scheduled]

    wait_until(by_itself, f"{deployment} to start by its schedule")
    with place.client as client:
        client.delete_deployment_schedule(found.id, made.id)
    return place.ended(by_itself()[0])


# Without a server


def test_deploying_without_the_environment_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SCANMILL_RAW", raising=False)
    monkeypatch.setenv("SCANMILL_LAKE", "lake")
    refused = scanmill("deploy")
    assert refused.exit_code == 2
    assert "SCANMILL_RAW is not set" in said(refused)
    assert "SCANMILL_LAKE is 'lake'" in said(refused)


def test_every_dataset_has_a_deployment_and_what_can_be_fetched_a_schedule_that_is_on() -> None:
    prepares = {one["name"]: one for one in DECLARED if one["entrypoint"] == "flows.prepare.prepare"}
    assert set(prepares) == set(catalogue())
    for name, dataset in catalogue().items():
        assert any(schedule["active"] for schedule in prepares[name]["schedules"]) == (dataset.remote is not None)
        assert ("raw" in prepares[name]["parameters"]) == (dataset.remote is None)


def test_no_two_schedules_begin_in_the_same_hour() -> None:
    crons = [schedule["cron"] for one in DECLARED for schedule in one.get("schedules", ())]
    assert len({cron.split()[1] for cron in crons}) == len(crons) > 1


# On a server


def test_every_deployment_is_made_and_every_parameter_is_described(sqlite: Site) -> None:
    with sqlite.client as client:
        made = {name: client.read_deployment_by_name(name) for name in DEPLOYMENTS}
    for name, deployment in made.items():
        schema = deployment.parameter_openapi_schema
        assert schema is not None
        undescribed = [title for title, field in schema["properties"].items() if not field.get("description")]
        assert not undescribed, f"{name}: {undescribed}"
        assert deployment.enforce_parameter_schema
        assert deployment.description
        assert deployment.global_concurrency_limit is not None
        assert deployment.global_concurrency_limit.limit == 1
    assert made[PREPARE].parameters["raw"] == [str(sqlite.raw / NIH)]
    assert made[PREPARE].parameters["lake"] == str(sqlite.lake)


@pytest.mark.parametrize(
    ("deployment", "parameters", "reason"),
    [
        (PREPARE, {"dataset": "nih"}, "is not one of"),
        (PREPARE, {"lake": ""}, "non-empty"),
        (PREPARE, {"size": -1}, "minimum"),
        (PREPARE, {"encoding": "gif"}, "is not one of"),
        (PREPARE, {"stores": ["zarr"]}, "is not one of"),
        (REFRESH, {"train_hours": 0}, "minimum"),
        (EVALUATE, {}, "required"),
    ],
)
def test_bad_parameters_make_no_run(sqlite: Site, deployment: str, parameters: dict[str, object], reason: str) -> None:
    with pytest.raises(PrefectHTTPStatusError) as refused:
        sqlite.run(deployment, **parameters)
    assert reason in refused.value.response.text


def test_bad_parameters_are_exit_code_1_and_named(sqlite: Site) -> None:
    refused = sqlite.prefect("deployment", "run", PREPARE, "-p", "dataset=nih")
    assert refused.returncode == 1
    assert "'dataset'" in refused.stdout


def test_a_night_with_something_new_prepares_trains_and_evaluates(sqlite: Site) -> None:
    done = sqlite.prefect("deployment", "run", REFRESH, "--watch", "-p", f"overrides={json.dumps(SMALL)}")
    assert done.returncode == 0, done.stdout
    run = newest(sqlite, REFRESH)
    assert tree(sqlite, run) == [(PREPARE, "Completed"), (TRAIN, "Completed"), (EVALUATE, "Completed")]
    release = whole(sqlite.lake)
    _, training, evaluation = (child for _, child in sqlite.children(run))
    assert training.parameters["release"] == release
    name = evaluation.parameters["run"]
    assert (sqlite.lake / "runs" / name / "report" / "index.html").is_file()
    assert (sqlite.lake / "runs" / name / "export" / "model.onnx").is_file()
    assert message(run) == (
        f"{NIH}@{release} is trained on and evaluated, as {name}; runs/latest names {name} now (there was none before)"
    )
    assert json.loads((sqlite.lake / "runs" / "latest" / "nih-14-label.json").read_text())["run"] == name


def test_a_night_without_anything_new_by_its_schedule_trains_nothing(sqlite: Site) -> None:
    run = fired(sqlite, REFRESH, overrides=SMALL)
    assert tree(sqlite, run) == [(PREPARE, "Completed")]
    assert run.state is not None
    assert run.state.is_completed()
    assert message(run).startswith(f"nothing new: {NIH}@{whole(sqlite.lake)} is trained on and evaluated, as")


def test_what_a_lost_night_has_left_undone_is_done_the_next_night(sqlite: Site) -> None:
    """As if the server or the host had been lost between train and evaluate: the lake says what is missing."""
    (report,) = sqlite.lake.glob("runs/*/report/index.html")
    report.unlink()
    run = sqlite.ended(sqlite.run(REFRESH, overrides=SMALL))
    assert tree(sqlite, run) == [(PREPARE, "Completed"), (EVALUATE, "Completed")]
    assert report.is_file()


def test_a_gate_that_fails_stops_the_chain_and_the_parent_says_why(
    sqlite: Site, unsound_raw: Path, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    done = sqlite.prefect(
        *("deployment", "run", REFRESH, "--watch", "-p", f'raw=["{unsound_raw}"]', "-p", f'lake="{lake}"')
    )
    assert done.returncode == 1, done.stdout
    run = newest(sqlite, REFRESH)
    assert tree(sqlite, run) == [(PREPARE, "Failed")]
    assert message(run).startswith(
        f"{PREPARE} failed: the metadata gate of {NIH} failed; nothing was published: unknown-label: 10 of 100"
    )
    assert message(run).endswith("; train and evaluate were not started")
    assert "\n" not in message(run)
    assert not (lake / "runs").exists()
    assert not (lake / NIH / "latest.json").exists()


def test_a_parent_says_why_it_went_no_further(sqlite: Site) -> None:
    asked: dict[str, dict[str, Any]] = {
        "is for nih-chest-xray, and not for behsof": {"dataset": "behsof"},
        "there is no deployment prepare/none: run `scanmill deploy`; train": {"prepare": "prepare/none"},
        f"{PREPARE} was cancelled: after 0.0005 hours it was still": {"prepare_hours": 0.0005},
    }
    runs = {words: sqlite.run(REFRESH, **parameters) for words, parameters in asked.items()}
    for words, run in runs.items():
        ended = sqlite.ended(run)
        assert ended.state is not None
        assert ended.state.is_failed()
        assert words in message(ended)


def test_one_run_of_a_dataset_at_a_time_and_a_server_that_goes_away_in_mid_run(
    sqlite: Site, slow_raw: Path, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    asked = {"raw": [str(slow_raw)], "lake": str(lake), "workers": 1}
    first, second = sqlite.run(PREPARE, **asked), sqlite.run(PREPARE, **asked)
    wait_until(lambda: any(lake.glob(f"{NIH}/chunks/*.parquet")), "the first chunk")
    with stopped(lake) as holder:
        beside = sqlite.command("prepare", NIH, "--raw", slow_raw, "--lake", lake, "--workers", 1)
        assert beside.returncode == 2, beside.stderr
        assert f"is already running (process {holder})" in beside.stderr
        states = {sqlite.state(first), sqlite.state(second)}
        assert states == {"Running", "AwaitingConcurrencySlot"}
        sqlite.stop("server")
    wait_until(lambda: (lake / NIH / "latest.json").is_file(), "a release while there is no server")
    sqlite.start_server()

    for run in (first, second):
        ended = sqlite.ended(run)
        assert ended.state is not None
        assert ended.state.is_completed(), message(ended)
    assert [path.name for path in (lake / NIH / "releases").iterdir()] == [whole(lake)]


def test_a_parent_that_is_cancelled_takes_its_children_along(sqlite: Site, slow_raw: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    parent = sqlite.run(REFRESH, raw=[str(slow_raw)], lake=str(lake))
    wait_until(lambda: any(lake.glob(f"{NIH}/chunks/*.parquet")), "the first chunk")
    with stopped(lake) as holder:
        with sqlite.client as client:
            client.set_flow_run_state(parent.id, Cancelling())
        wait_until(lambda: is_told_to_end(holder), "SIGTERM for the child")
    assert message(sqlite.ended(parent)) != ""
    ((_, child),) = sqlite.children(parent)
    assert sqlite.state(sqlite.ended(child)) == "Cancelled"
    assert not (lake / NIH / "latest.json").exists()


@needs_postgres
def test_on_postgresql_by_schedule_and_then_by_event(postgres: Site) -> None:
    """The other chain: no parent; a published release starts training, and that starts evaluation."""
    again = postgres.command("deploy", "--by-event")
    assert again.returncode == 0, again.stderr
    with postgres.client as client:
        names = [found.name for found in client.read_automations()]
    assert len(names) == len(set(names)), "deploying again makes nothing twice"

    run = fired(postgres, PREPARE)
    assert run.state is not None
    assert run.state.is_completed(), message(run)
    wait_until(lambda: begun(postgres, EVALUATE), "an evaluation that nobody has asked for")
    training, evaluation = newest(postgres, BY_EVENT), postgres.ended(newest(postgres, EVALUATE))
    assert training.parameters["release"] == whole(postgres.lake)
    assert {training.created_by and training.created_by.type, evaluation.created_by and evaluation.created_by.type} == {
        "AUTOMATION"
    }
    assert evaluation.state is not None
    assert evaluation.state.is_completed(), message(evaluation)
    assert (postgres.lake / "runs" / evaluation.parameters["run"] / "report" / "index.html").is_file()
