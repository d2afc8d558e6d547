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
class ProcessPeak:
    """The most memory that one process of the tree held, sampled."""

    command: tuple[str, ...]
    """Its command line, as last seen."""
    peak_rss_bytes: int


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
    processes: tuple[ProcessPeak, ...] = ()
    """The command itself first, then the others in the order in which they were seen."""

    @property
    def largest_rss_bytes(self) -> int:
        """Of the process that held most."""
        return max((process.peak_rss_bytes for process in self.processes), default=0)


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
    sampler.stop()
    _wait_for_orphans()
    if process.returncode != 0:
        ending = log.read_text(errors="replace")[-2000:]
        raise CommandFailed(f"{' '.join(command)}\nexit code {process.returncode}\n{output.decode()[-2000:]}\n{ending}")
    return Cost(wall, _children_cpu() - before, sampler.peak_bytes, output.decode(), sampler.processes())


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
    """Looks at the resident memory of a process and its descendants a few times a second."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = pid
        self.peak_bytes = 0
        """Of the sum over all processes."""
        self._peaks: dict[tuple[int, float], ProcessPeak] = {}
        self._is_over = threading.Event()

    def run(self) -> None:
        while not self._is_over.wait(_SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, sum(map(self._sample, _tree(self._root))))

    def stop(self) -> None:
        """End sampling."""
        self._is_over.set()
        self.join()

    def processes(self) -> tuple[ProcessPeak, ...]:
        """The peak of each process that was ever seen."""
        return tuple(self._peaks.values())

    def _sample(self, process: psutil.Process) -> int:
        """Resident bytes of one process now; 0 if it has ended."""
        try:
            with process.oneshot():
                resident = int(process.memory_info().rss)
                command = tuple(process.cmdline())
                # A number is given again after a process has ended, so its start belongs to the key.
                key = (process.pid, process.create_time())
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return 0
        before = self._peaks.get(key)
        peak = max(resident, before.peak_rss_bytes) if before else resident
        # Between fork and exec a child still shows its parent's command line, and one that is ending shows none.
        self._peaks[key] = ProcessPeak(command or (before.command if before else ()), peak)
        return resident


def _tree(pid: int) -> list[psutil.Process]:
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
