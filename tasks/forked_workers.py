"""Local Dask workers are forked from one process that has imported what they need: alone, each would import for 1 s.

That process is Python's own fork server. It runs no Python thread, and knows nothing of the driver but its environment
and its import path.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from multiprocessing import forkserver
from typing import Any

NEEDED = ("tasks.deaf_workers", "distributed.nanny", "tasks.pieces", "tasks.chunks", "tasks.shards")
"""What workers import before they have done their first pieces."""
CAN_FORK = sys.platform == "linux"
"""Elsewhere system libraries do not stand it."""


@contextlib.contextmanager
def forked_workers(environment: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Dask's settings for the workers of this block; ``environment`` is what libraries read when they are loaded."""
    if not CAN_FORK:
        yield {}
        return
    from dask import config
    from distributed.utils import get_mp_context

    settings = {"distributed.worker.multiprocessing-method": "forkserver"}
    with config.set(settings):
        get_mp_context()  # type: ignore[no-untyped-call]  # the first call names what to import, but not what we need
    multiprocessing.set_forkserver_preload([*NEEDED])
    # The import path of the driver and nothing before it: there may be a tasks.py in the folder where the user is.
    path = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
    with _environment({**{name: str(value) for name, value in environment.items()}, **path}):
        forkserver.ensure_running()
    try:
        yield settings
    finally:
        _stop()


def _stop() -> None:
    """For the next cluster may need another environment, and this process is to be billed for what it did."""
    server: Any = forkserver._forkserver  # there is no public way to end it
    with contextlib.suppress(ProcessLookupError, TypeError):  # it has ended, or was never there
        os.kill(server._forkserver_pid, signal.SIGTERM)
    server._stop()


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update({name: before[name] for name in variables if name in before})
