"""Prefect's embedded server for one command, in a process of its own.

Prefect would import the whole server into the process of the flow too, only to learn how to start it elsewhere: three
seconds of CPU and 80 MB that nothing uses. And where it can, the server is forked from the command: half of what it
imports, the command has imported by then. The other half it imports while the command goes on with its own.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from typing import NoReturn

import httpx
import psutil
from prefect.context import refresh_global_settings_context
from prefect.settings import get_current_settings

from flows.command_line import importing
from flows.console import without_drawing
from tasks.schema import ScanmillError

TRIES = 3
"""Another program can take a port between the moment that it was free and that in which the server asks for it."""
PAUSE_SECONDS = 0.1
STOP_SECONDS = 5

APP = "prefect.server.api.server:create_app"
OWN = {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
"""As in Prefect's own SubprocessASGIServer."""
SIGNAL_WHEN_PARENT_ENDS = 1
"""``PR_SET_PDEATHSIG`` of Linux."""


class EmbeddedServer:
    """A server that starts meanwhile, and that Prefect talks to once it was waited for."""

    def __init__(self) -> None:
        """Begin to start it."""
        self._start()

    def wait(self) -> None:
        """Have Prefect talk to it until this process ends.

        Raises :class:`ScanmillError` when none comes up in the time that Prefect's own setting gives it.
        """
        allowed = get_current_settings().server.ephemeral.startup_timeout_seconds
        for tries_left in reversed(range(TRIES)):
            if self._answers(time.monotonic() + allowed):
                _point_prefect_to(self._api)
                return
            _stop(self._process)
            if tries_left:
                self._start()
        raise ScanmillError(
            f"Prefect's embedded server did not come up within {allowed} s: the machine is busy: try again, or give it "
            f"longer with PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS"
        )

    def _start(self) -> None:
        port = _free_port()
        self._api = f"http://127.0.0.1:{port}/api"
        self._process = _forked(port) or _launched(port)
        atexit.register(_stop, self._process)  # after the flow's last events are told, which Prefect does at exit too

    def _answers(self, deadline: float) -> bool:
        """Whether the API does so, before the server has ended or the time is over."""
        with httpx.Client(trust_env=False) as client:  # no proxy of the user's stands between
            while not _has_ended(self._process) and time.monotonic() < deadline:
                with suppress(httpx.TransportError):
                    if client.get(f"{self._api}/health").is_success:
                        return True
                time.sleep(PAUSE_SECONDS)
        return False


def is_wanted() -> bool:
    """Whether Prefect has no other server, and may have this."""
    settings = get_current_settings()
    return not settings.api.url and settings.server.ephemeral.enabled


def _forked(port: int) -> psutil.Process | None:
    """None where it is not safe: another thread may hold a lock, which nobody would open in the new process."""
    with importing():
        import jinja2  # noqa: F401 (this and the last are what the server and the gates import)
        import prefect.main  # noqa: F401
        import sqlalchemy.orm  # noqa: F401
    with without_drawing():
        if sys.platform != "linux" or threading.active_count() > 1:
            return None
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            _be_the_server(port, parent)
        return psutil.Process(child)


def _be_the_server(port: int, parent: int) -> NoReturn:
    """Never returns, and leaves without what the command has registered for its own end."""
    code = 1
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        # Not even a command that is killed leaves its server behind.
        ctypes.CDLL(None).prctl(SIGNAL_WHEN_PARENT_ENDS, signal.SIGTERM)
        if os.getppid() == parent:
            os.environ.update(OWN)
            refresh_global_settings_context()
            with importing():
                import prefect.server.api.server  # noqa: F401
                import uvicorn
            uvicorn.run(APP, factory=True, host="127.0.0.1", port=port, log_level="error", lifespan="on")
            code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _launched(port: int) -> psutil.Process:
    place = ["--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "uvicorn", "--factory", APP, "--log-level", "error", "--lifespan", "on", *place]
    return psutil.Popen(command, env={**os.environ, **OWN})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _has_ended(server: psutil.Process) -> bool:
    with suppress(psutil.TimeoutExpired):
        server.wait(0)
        return True
    return False


def _stop(server: psutil.Process) -> None:
    with suppress(psutil.NoSuchProcess):
        server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except psutil.TimeoutExpired:
        server.kill()
        server.wait()


def _point_prefect_to(api: str) -> None:
    """For all threads of this process, and for nothing that it starts."""
    os.environ["PREFECT_API_URL"] = api
    try:
        refresh_global_settings_context()
    finally:
        del os.environ["PREFECT_API_URL"]
