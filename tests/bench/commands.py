"""The ``scanmill`` command as the benchmarks run it: a process of its own, with nothing of the user's settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.bench.measure import Cost, run

DATASET = "nih-chest-xray"
SCANMILL = (sys.executable, "-c", "from flows.cli import main; main()")


def run_scanmill(
    *arguments: str, scratch: Path, prefect_api_url: str | None = None, secrets: Mapping[str, str] | None = None
) -> Cost:
    """Run a command to its end with ``--json``; Prefect's database and the last stderr lie in ``scratch``.

    ``secrets`` are environment variables.
    """
    command = (*SCANMILL, *arguments, "--json")
    inherited = {**environment(scratch, prefect_api_url), **(secrets or {})}
    return run(command, environment=inherited, log=scratch / "stderr.txt")


def environment(scratch: Path, prefect_api_url: str | None) -> dict[str, str]:
    """One thread per process, and a Prefect of our own: no server or profile of the user's has a say."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)  # each start would compile scanmill anew
    if prefect_api_url is not None:
        inherited["PREFECT_API_URL"] = prefect_api_url
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {**inherited, **threads, "PREFECT_HOME": str(scratch / "prefect"), "GX_ANALYTICS_ENABLED": "false"}
