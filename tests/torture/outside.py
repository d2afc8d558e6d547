"""What somebody else does to a run while all its processes stand still."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.torture.faults import Moment
from tests.torture.scenes import Scene

LOOK_SECONDS = 0.01


class Prefect(Protocol):
    """The server of all runs."""

    def insist(self) -> None:
        """Have it run."""

    def stop(self) -> None:
        """Have it gone."""


@dataclass
class Outside:
    """A run that stands still, and what is around it."""

    scene: Scene
    place: Path
    process: subprocess.Popen[bytes]
    variables: Mapping[str, str]
    """Environment of the run, without the fault."""
    prefect: Prefect


def act(name: str, moment: Moment, outside: Outside) -> list[str]:
    """Wait until the run stands still, do it, and let the run go on; what was wrong with what was seen, in words."""
    while outside.process.poll() is None and not _stands_still(moment, outside.process):
        time.sleep(LOOK_SECONDS)
    if outside.process.poll() is not None:
        return []
    problems = ACTS[name](outside)
    if outside.process.poll() is None:
        os.killpg(outside.process.pid, signal.SIGCONT)
    return problems


def _stands_still(moment: Moment, process: subprocess.Popen[bytes]) -> bool:
    return moment.has_fired and Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _interrupt_twice(outside: Outside) -> list[str]:
    os.killpg(outside.process.pid, signal.SIGINT)
    os.killpg(outside.process.pid, signal.SIGCONT)
    time.sleep(0.05)
    if outside.process.poll() is None:
        os.killpg(outside.process.pid, signal.SIGINT)
    return []


def _run_another(outside: Outside) -> list[str]:
    """The second one must refuse, in words; unless the first has not begun, or is about to end."""
    folder = outside.place / "other"
    folder.mkdir()
    second = subprocess.run(
        outside.process.args, env=dict(outside.variables), capture_output=True, text=True, check=False, cwd=folder
    )
    if second.returncode == 2 and "already running" in second.stdout + second.stderr:
        return []
    return [f"the second run ended with {second.returncode}: {second.stdout[-300:]}{second.stderr[-300:]}"]


def _move_the_lake(outside: Outside) -> list[str]:
    (outside.place / "lake").rename(outside.place / "elsewhere")
    return []


def _stop_prefect(outside: Outside) -> list[str]:
    outside.prefect.stop()
    return []


ACTS: Mapping[str, Callable[[Outside], list[str]]] = {
    "interrupt twice": _interrupt_twice,
    "run another": _run_another,
    "move the lake": _move_the_lake,
    "stop Prefect": _stop_prefect,
}
