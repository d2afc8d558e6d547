"""What a Dask cluster must be before work is given to it, and in which words it is said that it is not, or no longer.

Known by trial (distributed 2026.8.0): when the scheduler is killed, a client's futures are cancelled within
milliseconds, but what is submitted afterwards stays pending for ever, and so does work when the last worker has gone.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.pieces import code_here, differences
from tasks.schema import ScanmillError, UnusableInput

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS = 10
"""How long a scheduler may take to answer."""
WAIT_FOR_WORKERS_SECONDS = 300
"""How long a stage waits for the first worker, or for another after the last has gone: a cloud may have to start a
machine. Dask's setting ``scanmill.wait-for-workers`` (``DASK_SCANMILL__WAIT_FOR_WORKERS=60``) overrides it."""
KEPT = "what is finished is kept, the same command goes on from there"


class SchedulerLost(ScanmillError, ConnectionError):
    """The scheduler does not answer, or no longer. As an ``OSError`` it is tried again: it may have been restarted."""


class NoWorkers(ScanmillError):
    """There was no worker for as long as one is waited for."""


def seconds_for_workers() -> float:
    """How long to wait for workers."""
    from dask import config

    return float(config.get("scanmill.wait-for-workers", WAIT_FOR_WORKERS_SECONDS))


def silence_dask() -> None:
    """Whatever matters is said by us, once; Dask would print a traceback of every failed piece and lost connection."""
    for name in ("distributed", "distributed.client"):  # Dask gives the second a level of its own
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextlib.contextmanager
def connected(address: str) -> Iterator[Client]:
    """A client of a scheduler that, like every worker there is, runs the versions that we run.

    Raises :class:`SchedulerLost` when it does not answer, and :class:`UnusableInput` for other versions. Workers that
    join later are asked by their first piece.
    """
    from distributed import Client

    silence_dask()
    try:
        client = Client(address, set_as_default=False, timeout=CONNECT_SECONDS)  # type: ignore[no-untyped-call]
    except (OSError, ImportError, MemoryError) as error:  # the last is Dask's answer to a web server's, as at port 8787
        raise SchedulerLost(f"no Dask scheduler answers at {address} ({error}): start it; {KEPT}") from error
    try:
        try:
            _insist_on_same_code(client)
        except OSError as error:
            raise SchedulerLost(f"the Dask scheduler at {address} does not answer ({error}); {KEPT}") from error
        yield client
    finally:
        client.close()  # type: ignore[no-untyped-call]


def insist_on_cluster(address: str | None, *, with_report: bool) -> None:
    """Raise :class:`UnusableInput` for a scheduler that cannot do the work, before it is asked to."""
    if address is None:
        return
    try:
        with connected(address) as client:
            if with_report:
                _insist_on_bokeh_there(client, address)
    except (SchedulerLost, ValueError) as error:
        cause = error.__cause__ or error
        raise UnusableInput(
            f"no Dask scheduler answers at {address} ({cause}): give --dask tcp://host:8786, or "
            "--workers N for local ones"
        ) from error


def insist_on_bokeh(workers: int | None, address: str | None) -> None:
    """Raise :class:`UnusableInput` where no performance report can be made; asks nobody else."""
    if workers == 0 and address is None:
        raise UnusableInput("--workers 0 works without Dask, so that there is nothing for --performance-report to tell")
    if importlib.util.find_spec("bokeh") is None:
        raise UnusableInput("--performance-report needs bokeh: pip install 'scanmill[dashboard]'")


def _insist_on_bokeh_there(client: Client, address: str) -> None:
    try:
        client.run_on_scheduler(metadata.version, "bokeh")  # type: ignore[no-untyped-call]
    except metadata.PackageNotFoundError as error:
        raise UnusableInput(
            f"--performance-report needs bokeh where the scheduler {address} runs: pip install bokeh there"
        ) from error


def _insist_on_same_code(client: Client) -> None:
    told: Any = client.get_versions()
    ours = told["client"]["packages"]
    others = {
        "the Dask scheduler": told["scheduler"],
        **{f"the Dask worker {k}": v for k, v in told["workers"].items()},
    }
    for who, theirs in others.items():
        _complain(who, differences(_of_dask(theirs["packages"]), _of_dask(ours)))
    answers: dict[str, Any] = client.run(code_here, on_error="return")
    for worker, answer in answers.items():
        if isinstance(answer, OSError):  # it has just left
            continue
        if isinstance(answer, Exception):
            raise UnusableInput(f"the Dask worker {worker} has no usable scanmill ({answer!r}): install it there")
        _complain(f"the Dask worker {worker}", differences(answer, code_here()))


def _of_dask(packages: Mapping[str, str]) -> dict[str, str]:
    """What a scheduler and its workers must agree about to speak with each other."""
    python = ".".join(packages["python"].split(".")[:2])
    return {"python": python, "dask": packages["dask"], "distributed": packages["distributed"]}


def _complain(who: str, found: str) -> None:
    if found:
        raise UnusableInput(f"{who} has {found}: install the same everywhere, or the bytes would not be the same")


@contextlib.contextmanager
def reporting(client: Client, page: Any | None) -> Iterator[None]:
    """Keep Dask's performance report of the block as ``page``, if there is one wanted and the block succeeds."""
    if page is None:
        yield
        return
    import tempfile

    from distributed import performance_report

    from tasks.files import write_bytes

    with tempfile.TemporaryDirectory() as folder, client.as_current():
        written = Path(folder, "report.html")
        report = performance_report(filename=str(written))  # type: ignore[no-untyped-call]
        report.__enter__()  # type: ignore[no-untyped-call]
        yield
        # Not after an error: there may be no scheduler left to ask.
        report.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        write_bytes(page, written.read_bytes())
