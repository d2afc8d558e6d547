"""What somebody else does to a run while all its processes stand still."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.torture.faults import Moment
from tests.torture.scenes import Process, Scene

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
    process: Process
    variables: Mapping[str, str]
    """Environment of the run, without the fault."""
    prefect: Prefect
    heard: list[str] = field(default_factory=list)
    """What others than the run have said."""


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


def _stands_still(moment: Moment, process: Process) -> bool:
    return moment.has_fired and Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def _interrupt_twice(outside: Outside) -> list[str]:
    os.killpg(outside.process.pid, signal.SIGINT)
    os.killpg(outside.process.pid, signal.SIGCONT)
    time.sleep(0.05)
    if outside.process.poll() is None:
        os.killpg(outside.process.pid, signal.SIGINT)
    return []


def _run_another(outside: Outside) -> list[str]:
    """The second one must refuse, in words; or may do it all, where the first has no lock, not yet or no more."""
    folder = outside.place / "other"
    folder.mkdir()
    is_locked = any(_is_locked(path) for path in (outside.place / "lake").rglob("*.lock"))
    line = outside.scene.line(outside.place, 0)
    second = subprocess.run(
        line, env=dict(outside.variables), capture_output=True, text=True, check=False, cwd=folder, timeout=120
    )
    said = second.stdout + second.stderr
    outside.heard.append(f"the second run ended with {second.returncode}: {said.strip()[-300:]}")
    if "Traceback" in said:
        return [f"the second run: {said[-1500:]}"]
    if second.returncode == 2 and "already running" in said:
        return []
    return [] if second.returncode == 0 and not is_locked else [outside.heard[-1]]


def _is_locked(path: Path) -> bool:
    with path.open() as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _move_the_lake(outside: Outside) -> list[str]:
    if (outside.place / "lake").exists():  # it is the first change to make it
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
