"""The ``scanmill`` command as tests run it: in this process, or as a process of its own that can be killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner, Result

from flows.cli import app
from tests.prefect_database import put_database

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (str(Path(sys.executable).with_name("scanmill")),)


def scanmill(*arguments: object) -> Result:
    """Run the command in this process; flows use the session's Prefect server, if a test asked for one."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def said(result: Result) -> str:
    """What a user reads after a refusal: no result, no traceback, only words on stderr."""
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    return result.stderr


def environment(home: Path, server: str | None = None) -> dict[str, str]:
    """Variables for a process of its own; without ``server`` it starts an embedded one in ``home``."""
    own = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    own |= {"PREFECT_HOME": str(home), "PREFECT_PROFILES_PATH": str(home / "profiles.toml")}
    own["PYTHONPATH"] = str(ROOT)  # the sources that are tested, wherever an editable install points to
    if server is None:
        put_database(home / "prefect.db")
        return own | {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"}  # other tests have the cores as well
    return own | {"PREFECT_API_URL": server}


def start(arguments: list[object], variables: dict[str, str], output: Path) -> subprocess.Popen[bytes]:
    """Start the command as the head of a process group of its own, with stdout and stderr in ``output``."""
    with output.open("wb") as stream:
        return subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env=variables,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
