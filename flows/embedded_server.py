"""Prefect's embedded server for one command, started in a process of its own as Prefect would start it.

Prefect imports the whole server into the process of the flow too, only to learn how to start it elsewhere: three
seconds of CPU and 80 MB that nothing uses.
"""

from __future__ import annotations

import atexit
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress

import httpx
from prefect.context import refresh_global_settings_context
from prefect.settings import get_current_settings

from tasks.schema import ScanmillError

TRIES = 3
"""Another program can take a port between the moment that it was free and that in which the server asks for it."""
PAUSE_SECONDS = 0.1
STOP_SECONDS = 5


def serve() -> None:
    """Have Prefect talk to a server of this process until it ends; where Prefect has one already, nothing is done.

    Raises :class:`ScanmillError` when none comes up in the time that Prefect's own setting gives it.
    """
    settings = get_current_settings()
    if settings.api.url or not settings.server.ephemeral.enabled:
        return
    allowed = settings.server.ephemeral.startup_timeout_seconds
    for _ in range(TRIES):
        if api := _start(time.monotonic() + allowed):
            _point_prefect_to(api)
            return
    raise ScanmillError(
        f"Prefect's embedded server did not come up within {allowed} s: the machine is busy: try again, or give it "
        f"longer with PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
    )


def _start(deadline: float) -> str | None:
    """Address of the API once it answers; None when the server has ended, or the time."""
    port = _free_port()
    api = f"http://127.0.0.1:{port}/api"
    # As in Prefect's own SubprocessASGIServer.
    own = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    place = ["--host", "127.0.0.1", "--port", str(port)]
    app = ["--factory", "prefect.server.api.server:create_app", "--log-level", "error", "--lifespan", "on"]
    server = subprocess.Popen([sys.executable, "-m", "uvicorn", *app, *place], env={**os.environ, **own})
    atexit.register(_stop, server)  # after the flow's last events are told, which Prefect does at exit too
    with httpx.Client(trust_env=False) as client:  # no proxy of the user's stands between
        while server.poll() is None and time.monotonic() < deadline:
            with suppress(httpx.TransportError):
                if client.get(f"{api}/health").is_success:
                    return api
            time.sleep(PAUSE_SECONDS)
    _stop(server)
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _stop(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _point_prefect_to(api: str) -> None:
    """For all threads of this process, and for nothing that it starts."""
    os.environ["PREFECT_API_URL"] = api
    try:
        refresh_global_settings_context()
    finally:
        del os.environ["PREFECT_API_URL"]
