"""What one command costs: wall clock, CPU of its whole process tree, and the most memory that tree held."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_SAMPLE_SECONDS = 0.2
_ORPHANS_SECONDS = 15.0
"""How long a process that outlives its command may go on; the embedded Prefect server needs a moment."""
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


@dataclass(frozen=True)
class Cost:
    """One run of one command."""

    wall_seconds: float
    cpu_seconds: float
    """User and system time of the command and of every process it started."""
    peak_rss_bytes: int
    """Largest sum over all processes, sampled; pages that several processes share count once in each."""
    output: str
    """What it printed on stdout."""


class CommandFailed(Exception):
    """A measured command ended with an error, so its time means nothing."""


def adopt_orphans() -> None:
    """Become the parent of what a command leaves behind, so that its CPU time is counted too (Linux)."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def run(command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> Cost:
    """Run a command to its end; wall time is that of the command itself, CPU that of all it started.

    Raises :class:`CommandFailed` with the end of its stderr, which goes to ``log``.
    """
    before = _children_cpu()
    with log.open("wb") as errors:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=dict(environment))
        sampler = _MemorySampler(process.pid)
        sampler.start()
        output, _ = process.communicate()
        wall = time.perf_counter() - began
    peak = sampler.stop()
    _wait_for_orphans()
    if process.returncode != 0:
        ending = log.read_text(errors="replace")[-2000:]
        raise CommandFailed(f"{' '.join(command)}\nexit code {process.returncode}\n{output.decode()[-2000:]}\n{ending}")
    return Cost(wall, _children_cpu() - before, peak, output.decode())


def tree_cpu_seconds() -> float:
    """User and system time so far of this process and its living children, pool and cluster workers among them."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return float(sum(used.user + used.system for used in times))


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _wait_for_orphans() -> None:
    """Wait for adopted processes, for only then does the kernel add their time; end those that stay."""
    deadline = time.monotonic() + _ORPHANS_SECONDS
    while _has_children_left():
        if time.monotonic() > deadline:
            _end_orphans()
        time.sleep(0.05)


def _has_children_left() -> bool:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _end_orphans() -> None:
    for orphan in psutil.Process().children():
        sys.stderr.write(f"bench: ending process {orphan.pid}, which outlived its command: {orphan.name()}\n")
        orphan.send_signal(signal.SIGKILL)


class _MemorySampler(threading.Thread):
    """Adds up the resident memory of a process and its descendants, a few times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = pid
        self._peak = 0
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.wait(_SAMPLE_SECONDS):
            self._peak = max(self._peak, self._resident())

    def stop(self) -> int:
        """End sampling; returns the peak in bytes."""
        self._is_over.set()
        self.join()
        return self._peak

    def _resident(self) -> int:
        try:
            root = psutil.Process(self._root)
            return sum(map(_resident_bytes, (root, *root.children(recursive=True))))
        except psutil.NoSuchProcess:
            return 0


def _resident_bytes(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
