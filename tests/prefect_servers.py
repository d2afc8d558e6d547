"""Prefect as its users run it: a server on SQLite or PostgreSQL, a worker for each pool, each a process of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.request import urlopen

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun

from tests.command import COMMAND, ROOT, environment
from tests.prefect_database import put_database

Database = Literal["sqlite", "postgresql"]

PATIENCE_SECONDS = 240
POSTGRES = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
INSISTS = bool(os.environ.get("CI") or os.environ.get("SCANMILL_REQUIRE_ALL"))
needs_postgres = pytest.mark.skipif(
    POSTGRES is None and not INSISTS, reason="PostgreSQL is not installed (Debian: apt-get install postgresql)"
)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


def wait_until(done: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Return as soon as ``done()`` is true; fail after a while."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"waited {seconds:g} s for {what}"
        time.sleep(0.2)


@dataclass
class Site:
    """A Prefect server, and what runs beside it."""

    folder: Path
    database: str
    port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def lake(self) -> Path:
        """Where deployed flows publish to, unless told otherwise."""
        return self.folder / "lake"

    @property
    def raw(self) -> Path:
        """Raw releases by the name of their dataset."""
        return self.folder / "raw"

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self.port}/api"

    @property
    def variables(self) -> dict[str, str]:
        """Environment of every process, as docs/deployments.md tells users to set it; waits are shorter."""
        return environment(self.folder / "prefect", self.url) | {
            "PREFECT_SERVER_API_PORT": str(self.port),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.database,
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "3",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
            "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_LOGGING_LEVEL": "INFO",
            "SCANMILL_LAKE": str(self.lake),
            "SCANMILL_RAW": str(self.raw),
        }

    def command(self, *arguments: object, program: tuple[str, ...] = COMMAND) -> subprocess.CompletedProcess[str]:
        """Run ``scanmill``, or another program, to its end."""
        line = [*program, *map(str, arguments)]
        return subprocess.run(line, env=self.variables, cwd=ROOT, capture_output=True, text=True, check=False)

    def prefect(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run ``prefect`` to its end."""
        return self.command(*arguments, program=(sys.executable, "-m", "prefect"))

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a ``prefect`` process that stays; its output is in ``<name>.log``."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "prefect", *arguments],
                env=self.variables,
                cwd=self.folder,  # not the checkout: a worker needs an installed scanmill, and no folder
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.processes[name]

    def start_server(self) -> None:
        """Start the server, or start it again; returns when it answers."""
        process = self.start("server", "server", "start")

        def answers() -> bool:
            assert process.poll() is None, (self.folder / "server.log").read_text()[-3000:]
            with suppress(OSError), urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
            return False

        wait_until(answers, "the Prefect server")

    def start_worker(self, pool: str) -> subprocess.Popen[bytes]:
        """Start a worker of a pool."""
        return self.start(f"worker-{pool}", "worker", "start", "--pool", pool)

    def stop(self, name: str) -> None:
        """As a service manager stops it."""
        process = self.processes.pop(name)
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @property
    def client(self) -> SyncPrefectClient:
        """A client of this server."""
        return SyncPrefectClient(api=self.url)

    def run(self, deployment: str, **parameters: object) -> FlowRun:
        """Start a deployment, and do not wait."""
        with self.client as client:
            found = client.read_deployment_by_name(deployment)
            return client.create_flow_run_from_deployment(found.id, parameters=parameters)

    def seen(self, run: FlowRun) -> FlowRun:
        """The run as it is now."""
        with self.client as client:
            return client.read_flow_run(run.id)

    def state(self, run: FlowRun) -> str:
        """The name of its state."""
        state = self.seen(run).state
        return "" if state is None else str(state.name)

    def ended(self, run: FlowRun, seconds: float = PATIENCE_SECONDS) -> FlowRun:
        """The run when it has ended."""

        def is_final() -> bool:
            state = self.seen(run).state
            return state is not None and state.is_final()

        wait_until(is_final, f"the end of {run.name}", seconds)
        return self.seen(run)

    def children(self, run: FlowRun) -> list[tuple[str, FlowRun]]:
        """Deployment and run of every child, in the order of their start."""
        with self.client as client:
            ours = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id]))
            found = sorted(client.read_flow_runs(flow_run_filter=ours), key=lambda child: str(child.created))
            named = []
            for child in found:
                assert child.deployment_id is not None
                deployment = client.read_deployment(child.deployment_id)
                named.append((f"{client.read_flow(deployment.flow_id).name}/{deployment.name}", child))
            return named


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL cluster of its own, thrown away afterwards; the connection URL for Prefect."""
    assert POSTGRES is not None, "CI must have PostgreSQL: .ci/run installs it"
    folder = Path(tempfile.mkdtemp(prefix="scanmill-postgres-"))
    is_root = os.geteuid() == 0  # PostgreSQL refuses to run as root
    if is_root:
        shutil.chown(folder, "postgres", "postgres")
    owner = ["runuser", "-u", "postgres", "--"] if is_root else []

    def call(program: str, *arguments: object) -> None:
        line = [*owner, str(POSTGRES.with_name(program)), *map(str, arguments)]
        subprocess.run(line, check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=120)

    port, data = free_port(), folder / "data"
    call("initdb", "--pgdata", data, "--username", "prefect", "--auth", "trust", "--no-sync")
    settings = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    call("pg_ctl", "--pgdata", data, "--log", folder / "log", "--options", settings, "--wait", "start")
    try:
        call("createdb", "--host", "127.0.0.1", "--port", port, "--username", "prefect", "prefect")
        yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
    finally:
        call("pg_ctl", "--pgdata", data, "--mode", "immediate", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def site(folder: Path, database: Database) -> Iterator[Site]:
    """A server on that database, set up by ``scanmill deploy``, with a worker for each pool."""
    with postgresql() if database == "postgresql" else _sqlite(folder) as url:
        place = Site(folder, url)
        try:
            place.start_server()
            deployed = place.command("deploy")
            assert deployed.returncode == 0, deployed.stderr
            for pool in ("cpu", "gpu"):
                place.start_worker(pool)
            yield place
        finally:
            for name in [*place.processes][::-1]:
                place.stop(name)


@contextmanager
def _sqlite(folder: Path) -> Iterator[str]:
    put_database(folder / "prefect.db")
    yield f"sqlite+aiosqlite:///{folder / 'prefect.db'}"
