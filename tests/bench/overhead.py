"""What orchestration costs: a release prepared on a real Prefect server, and where the seconds went.

    python -m tests.bench.overhead --images 1121,11212 --workers 2

Counts what Prefect was asked to keep (task runs, artifacts, log records) and splits the wall time: seconds with work in
flight on Dask, and all others by stage. ``--database URL`` lets the server keep its books in PostgreSQL.

From two sizes follows what orchestration costs at the published one. It is all CPU of the command, its workers and the
server, start-up included, without that of hashing archives, converting, assembling and the search for likenesses:
Prefect, Dask, Great Expectations, tables, report and publication. The share is that of all CPU, each part on a line of
its own through the smallest and the largest size; the search does not grow in a line, and so both shares are shown.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.table import Table

from tests.bench import figures, raw_releases
from tests.bench.commands import DATASET, environment
from tests.bench.piece_clock import Clocked, logged_seconds
from tests.bench.published_counts import ROWS, SIDE

ROOT = Path(__file__).resolve().parents[2]
_START_SECONDS = 90.0
_LOGS_SECONDS = 4.0
"""The server writes task runs and logs behind the answer; this long after a run it has all of a release."""
_PAGE = 200
"""Rows that the API gives at most."""
_WARM_UP_IMAGES = 120
PIECES = ".pieces"
"""Ending of the file to which pieces of work add their CPU seconds."""
LIKENESS, HASHES = "likeness", "hashes"


@dataclass(frozen=True)
class Overhead:
    """One ``prepare`` into an empty lake, on a server that runs already."""

    images: int
    workers: int
    wall_seconds: float
    """Of the command, from its start to its end."""
    cpu_seconds: float
    """Of the command and its Dask workers, not of the server."""
    server_cpu_seconds: float
    """Of the server: to start, with some 9 s for the tables of a fresh database, and while the command ran."""
    pieces_cpu_seconds: float
    """Of converting and assembling, on the workers."""
    hashes_cpu_seconds: float
    """Of taking SHA-256 of the raw archives, in the command."""
    likeness_cpu_seconds: float
    """Of holding images against each other, in the command: the search for likenesses, and which way films lie."""
    before_flow_seconds: float
    """Python, imports, and what the command looks at first."""
    stage_seconds: dict[str, float]
    """By task run, in the order of the run."""
    dask_seconds: dict[str, float]
    """By stage: while pieces of work were in flight; part of ``stage_seconds``."""
    cluster_seconds: dict[str, float]
    """To start the local cluster and to stop it."""
    after_flow_seconds: float
    """From the end of the flow run to that of the process."""
    task_runs: int
    artifacts: int
    log_records: int

    @property
    def orchestration_cpu_seconds(self) -> float:
        """All CPU that is neither hashing, converting, assembling nor searching."""
        work = self.pieces_cpu_seconds + self.hashes_cpu_seconds + self.likeness_cpu_seconds
        return self.cpu_seconds + self.server_cpu_seconds - work

    @property
    def outside_seconds(self) -> float:
        """All wall time without work in flight on Dask."""
        return self.wall_seconds - sum(self.dask_seconds.values())

    @property
    def unaccounted_seconds(self) -> float:
        """Inside the flow run, but in no stage and not in the cluster: Prefect's own book-keeping."""
        told = sum(self.stage_seconds.values()) + sum(self.cluster_seconds.values())
        return self.wall_seconds - self.before_flow_seconds - self.after_flow_seconds - told

    def as_json(self) -> dict[str, Any]:
        """All fields and the sums."""
        names = ("orchestration_cpu_seconds", "outside_seconds", "unaccounted_seconds")
        sums = {name: getattr(self, name) for name in names}
        return {**asdict(self), **sums}


def main() -> None:
    """Measure, print the table, write the JSON."""
    arguments = _parser().parse_args()
    arguments.home.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="overhead-", dir=arguments.home)).resolve()
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        with prefect_server(scratch, arguments.database) as (api, server):
            found = list(_measure(arguments, scratch, api, server))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    console.print(table(found))
    fit = at_published_size(found)
    if fit:
        console.print(fit_text(fit))
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    database = arguments.database.partition(":")[0] or "sqlite"
    report = {"machine": figures.machine(), "database": database, "runs": [one.as_json() for one in found], "fit": fit}
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"written: {arguments.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.overhead", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=_numbers, default=(600,), help="sizes, with commas [600]")
    parser.add_argument("--workers", type=int, default=2, help="local Dask workers [2]")
    parser.add_argument("--side", type=int, default=SIDE, help=f"width and height of the images in pixels [{SIDE}]")
    parser.add_argument("--database", default="", help="of the server, postgresql+asyncpg://…; default: SQLite")
    parser.add_argument("--home", type=Path, default=Path("bench-results/inputs"), help="raw releases and scratch")
    parser.add_argument("--out", type=Path, default=Path("bench-results/overhead.json"))
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


@contextlib.contextmanager
def prefect_server(scratch: Path, database: str = "") -> Iterator[tuple[str, psutil.Process]]:
    """Address of the API of a server of our own and its process, with a fresh database unless one is named."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        **environment(scratch / "server", None),
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    Path(own["PREFECT_HOME"]).mkdir(parents=True)
    if database:
        own["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
    api = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start"]
    with (scratch / "server.txt").open("wb") as log:
        server = subprocess.Popen(command, env=own, stdout=log, stderr=log)
        try:
            _wait_for(api, server, scratch / "server.txt")
            yield api, psutil.Process(server.pid)
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(api: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{api}/health", timeout=2).is_success:
                return
        time.sleep(0.2)
    raise RuntimeError(f"no Prefect server came up at {api}; it says:\n{log.read_text()[-2000:]}")


def _measure(arguments: argparse.Namespace, scratch: Path, api: str, server: psutil.Process) -> Iterator[Overhead]:
    home = arguments.home.resolve()
    to_start = _cpu_of(server)
    warm_up = raw_releases.many_images(home, _WARM_UP_IMAGES, 64)
    measure(warm_up, _WARM_UP_IMAGES, scratch, api, arguments.workers)
    for images in arguments.images:
        raw = raw_releases.many_images(home, images, arguments.side)
        raw_releases.warm_page_cache(raw)
        before = _cpu_of(server)
        found = measure(raw, images, scratch, api, arguments.workers)
        yield replace(found, server_cpu_seconds=to_start + _cpu_of(server) - before)


def _cpu_of(process: psutil.Process) -> float:
    """CPU seconds so far of a process and its children."""
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return float(sum(used.user + used.system for used in times))


def measure(raw: Path, images: int, scratch: Path, api: str, workers: int) -> Overhead:
    """One run of the command, and what the server knows of it afterwards; not what it cost the server."""
    times, lake = scratch / "times.json", scratch / "lake"
    pieces = times.with_suffix(PIECES)
    pieces.unlink(missing_ok=True)
    arguments = ["prepare", DATASET, "--raw", str(raw), "--lake", str(lake), "--workers", str(workers), "--json"]
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from tests.bench.overhead import timed; timed()"
    command = [sys.executable, "-c", code, str(times), *arguments]
    began, before = time.time(), _children_cpu()
    ended = subprocess.run(command, env=environment(scratch, api), capture_output=True, text=True, check=False)
    wall, cpu = time.time() - began, _children_cpu() - before
    if ended.returncode != 0:
        raise RuntimeError(f"exit code {ended.returncode}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}")
    shutil.rmtree(lake)
    time.sleep(_LOGS_SECONDS)
    with httpx.Client(base_url=api, timeout=60) as client:
        found = _overhead(client, began, images, workers, wall, cpu, _read(times))
    return replace(found, pieces_cpu_seconds=logged_seconds(pieces))


def _children_cpu() -> float:
    """Of processes that have ended; the server has not."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _read(times: Path) -> list[tuple[str, float, float]]:
    return [tuple(line) for line in json.loads(times.read_text())]


def _overhead(
    client: httpx.Client,
    began: float,
    images: int,
    workers: int,
    wall: float,
    cpu: float,
    spans: Sequence[tuple[str, float, float]],
) -> Overhead:
    newest = {"sort": "START_TIME_DESC", "limit": 1, "flows": {"name": {"any_": ["prepare"]}}}
    flow_run = client.post("/flow_runs/filter", json=newest).raise_for_status().json()[0]
    of_run = {"flow_run_id": {"any_": [flow_run["id"]]}}
    tasks = _all(client, "/task_runs/filter", {"task_runs": of_run})
    stages: dict[str, float] = {}
    for task in sorted(tasks, key=lambda task: str(task["start_time"])):
        stages[task["name"].rpartition("-")[0]] = _moment(task["end_time"]) - _moment(task["start_time"])
    took = {name: end - start for name, start, end in spans}
    return Overhead(
        images=images,
        workers=workers,
        wall_seconds=wall,
        cpu_seconds=cpu,
        server_cpu_seconds=0.0,
        pieces_cpu_seconds=0.0,
        hashes_cpu_seconds=sum(end - start for name, start, end in spans if name == HASHES),
        likeness_cpu_seconds=sum(end - start for name, start, end in spans if name == LIKENESS),
        before_flow_seconds=_moment(flow_run["start_time"]) - began,
        stage_seconds=stages,
        dask_seconds={name: took[name] for name in ("convert", "assemble") if name in took},
        cluster_seconds={name: took[name] for name in ("start cluster", "stop cluster") if name in took},
        after_flow_seconds=began + wall - _moment(flow_run["end_time"]),
        task_runs=len(tasks),
        artifacts=len(_all(client, "/artifacts/filter", {"artifacts": of_run})),
        log_records=len(_all(client, "/logs/filter", {"logs": of_run})),
    )


def _all(client: httpx.Client, path: str, wanted: Mapping[str, Any]) -> list[dict[str, Any]]:
    """All rows of a filter, page by page."""
    rows: list[dict[str, Any]] = []
    while True:
        page = client.post(path, json={**wanted, "limit": _PAGE, "offset": len(rows)}).raise_for_status().json()
        rows += page
        if len(page) < _PAGE:
            return rows


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def timed() -> None:
    """The ``scanmill`` command in a process of its own, with a clock at the cluster, at the waves of work and each of
    their pieces, and (of CPU) at the search for likenesses."""
    out = Path(sys.argv.pop(1))
    from flows.cli import main as command

    flow: Any = import_module("flows.prepare")
    stages: dict[str, Any] = {
        "convert": import_module("tasks.stages.conversion"),
        "assemble": import_module("tasks.stages.assembly"),
    }
    spans: list[tuple[str, float, float]] = []

    def clocked(name: str, call: Any, clock: Callable[[], float] = time.time) -> Any:
        def timed_call(*arguments: Any, **named: Any) -> Any:
            began = clock()
            try:
                return call(*arguments, **named)
            finally:
                spans.append((name, began, clock()))

        return timed_call

    def in_clocked_pieces(run_waves: Any) -> Any:
        return lambda work, items, **named: run_waves(Clocked(work, str(out.with_suffix(PIECES))), items, **named)

    real = flow.cluster

    @contextlib.contextmanager
    def cluster(*arguments: Any, **named: Any) -> Iterator[Any]:
        with contextlib.ExitStack() as stack:
            address = clocked("start cluster", stack.enter_context)(real(*arguments, **named))
            try:
                yield address
            finally:
                clocked("stop cluster", stack.close)()

    flow.cluster = cluster
    for name, stage in stages.items():
        stage.run_waves = clocked(name, in_clocked_pieces(stage.run_waves))
    inside: tuple[tuple[str, Any, str], ...] = (
        (HASHES, import_module("tasks.raw_memory").HashMemory, "hash_all"),
        (LIKENESS, import_module("tasks.leakage"), "find"),
        (LIKENESS, import_module("tasks.orientation"), "compare"),
        (LIKENESS, import_module("tasks.stages.likeness"), "measured"),
    )
    for what, place, name in inside:
        setattr(place, name, clocked(what, getattr(place, name), time.process_time))
    try:
        command()
    finally:
        out.write_text(json.dumps(spans))


def at_published_size(found: Sequence[Overhead]) -> dict[str, Any]:
    """What each part costs at 112,120 images, by a line through the smallest and the largest size; empty of one size.

    ``parts``: CPU seconds ``fixed``, ``ms_per_image`` and ``at_published_size`` of each.
    """
    small, large = min(found, key=lambda one: one.images), max(found, key=lambda one: one.images)
    if small.images == large.images:
        return {}
    parts = {}
    for name in ("orchestration", "pieces", "hashes", "likeness"):
        ends = [getattr(one, f"{name}_cpu_seconds") for one in (small, large)]
        slope = (ends[1] - ends[0]) / (large.images - small.images)
        fixed = ends[0] - slope * small.images
        parts[name] = {
            "fixed": fixed,
            "ms_per_image": 1000 * slope,
            "at_published_size": fixed + slope * ROWS,
        }
    own, search = (parts[name]["at_published_size"] for name in ("orchestration", "likeness"))
    work = sum(parts[name]["at_published_size"] for name in ("pieces", "hashes"))
    return {
        "from_images": small.images,
        "to_images": large.images,
        "parts": parts,
        "share": own / (own + work + search),
        "share_without_search": own / (own + work),
    }


def fit_text(fit: Mapping[str, Any]) -> Table:
    """:func:`at_published_size` for a terminal."""
    drawn = Table(
        title=f"CPU at {ROWS:,} images, by a line through {fit['from_images']:,} and {fit['to_images']:,}",
        caption=f"Orchestration is {fit['share']:.1%} of all CPU, "
        f"{fit['share_without_search']:.1%} where the search for likenesses is not counted.",
    )
    for name in ("", "fixed s", "ms per image", f"s at {ROWS:,}"):
        drawn.add_column(name, justify="right" if name else "left")
    words = {
        "pieces": "converting and assembling",
        "hashes": "hashing archives",
        "likeness": "searching for likenesses",
    }
    for name, part in fit["parts"].items():
        numbers = (part["fixed"], part["ms_per_image"], part["at_published_size"])
        drawn.add_row(words.get(name, name), *(f"{number:,.2f}" for number in numbers))
    return drawn


def table(found: Sequence[Overhead]) -> Table:
    """One column per run."""
    drawn = Table(title="scanmill prepare on a Prefect server: where the seconds go")
    drawn.add_column("")
    for one in found:
        drawn.add_column(f"{one.images:,} images\n{one.workers} workers", justify="right")
    rows: dict[str, list[str]] = {
        "wall seconds": [f"{one.wall_seconds:.1f}" for one in found],
        "CPU seconds": [f"{one.cpu_seconds + one.server_cpu_seconds:.1f}" for one in found],
        "  converting and assembling": [f"{one.pieces_cpu_seconds:.1f}" for one in found],
        "  hashing archives": [f"{one.hashes_cpu_seconds:.1f}" for one in found],
        "  searching for likenesses": [f"{one.likeness_cpu_seconds:.1f}" for one in found],
        "  the Prefect server": [f"{one.server_cpu_seconds:.1f}" for one in found],
        "inside Dask work": [f"{sum(one.dask_seconds.values()):.1f}" for one in found],
        "outside Dask work": [f"{one.outside_seconds:.1f}" for one in found],
        "  before the flow": [f"{one.before_flow_seconds:.1f}" for one in found],
    }
    for stage in dict.fromkeys(stage for one in found for stage in one.stage_seconds):
        outside = [one.stage_seconds.get(stage, 0) - one.dask_seconds.get(stage, 0) for one in found]
        rows[f"  {stage}"] = [f"{seconds:.1f}" for seconds in outside]
    for what in ("start cluster", "stop cluster"):
        rows[f"  {what}"] = [f"{one.cluster_seconds.get(what, 0):.1f}" for one in found]
    rows |= {
        "  between stages": [f"{one.unaccounted_seconds:.1f}" for one in found],
        "  after the flow": [f"{one.after_flow_seconds:.1f}" for one in found],
        "task runs": [str(one.task_runs) for one in found],
        "artifacts": [str(one.artifacts) for one in found],
        "log records": [str(one.log_records) for one in found],
    }
    for name, cells in rows.items():
        drawn.add_row(name, *cells)
    return drawn


if __name__ == "__main__":
    main()
