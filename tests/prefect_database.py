"""An empty database of Prefect's server: its tables are made once a run of the tests, and copied for every server."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

_RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID", str(os.getpid()))
_READY = Path(tempfile.gettempdir(), f"scanmill-prefect-{_RUN}.db")
"""The same for all processes that share the test files."""
_MIGRATE = """
import asyncio
from prefect.server.database import provide_database_interface
asyncio.run(provide_database_interface().create_db())
"""


def put_database(place: Path) -> None:
    """Put an empty SQLite database where a server will look for its own, unless there is one.

    A new server makes its tables by a hundred migrations, which take more CPU than all else that it does to come up.
    """
    if place.exists():
        return
    with _READY.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _READY.exists():
            _make()
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_READY, place)


def _make() -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "prefect.db")
        variables = {**os.environ, "PREFECT_HOME": folder}
        variables["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = f"sqlite+aiosqlite:///{made}"
        subprocess.run([sys.executable, "-c", _MIGRATE], env=variables, check=True, timeout=240)
        opened = sqlite3.connect(made)
        opened.execute("VACUUM INTO ?", (str(_READY),))  # with what still lies in the journal beside it
        opened.close()
    for left in (_READY, _READY.with_suffix(".lock")):
        atexit.register(left.unlink, missing_ok=True)
