"""Commands that are forks of one process which has imported everything: half the time of a round goes into imports.

    python -m tests.torture.warm LIBRARY        the other side: a command per line on stdin, its number back

What dies is a process of its own all the same, at the head of a group of its own, and its workers are started anew.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

IMPORTED = (
    "flows.cli",
    "flows.prepare",
    "tasks.stages.publication",
    "tasks.waves",
    "tasks.sources.figshare",
    "distributed",
    "matplotlib.figure",
)
LOOK_SECONDS = 0.02


class Warm:
    """The process that is forked from; it begins to import at once."""

    def __init__(self, library: Path, variables: Mapping[str, str]) -> None:
        """``variables`` are those of all commands, but for what the fault needs."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.warm", str(library)],
            env={**variables, "LD_PRELOAD": str(library)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, line: Sequence[str], variables: Mapping[str, str], place: Path) -> Command:
        """A command (without the name of its program); what it says goes to ``place``."""
        told = {"line": list(line), "variables": dict(variables), "place": str(place)}
        return Command(self, int(self.ask(told)), line)

    def ask(self, told: Mapping[str, Any]) -> Any:
        """One line there, one line back."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(told) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def stop(self) -> None:
        """After its last command."""
        self._process.kill()
        self._process.communicate()


class Command:
    """What the harness asks of a process that is not its own child: as of :class:`subprocess.Popen`."""

    def __init__(self, warm: Warm, pid: int, line: Sequence[str]) -> None:
        self.pid, self.args, self.returncode = pid, list(line), None
        self._warm = warm

    returncode: int | None

    def poll(self) -> int | None:
        """Its exit code, once it has one."""
        if self.returncode is None:
            self.returncode = self._warm.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The same, at its end. Raises :class:`subprocess.TimeoutExpired`."""
        deadline = time.monotonic() + (timeout or float("inf"))
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(LOOK_SECONDS)
        return code


def main(library: str) -> None:
    """Import, then fork for every line until there is none."""
    for name in IMPORTED:
        import_module(name)
    gc.freeze()
    assert threading.active_count() == 1, threading.enumerate()
    for text in sys.stdin:
        told = json.loads(text)
        if "poll" in told:
            pid, status = os.waitpid(told["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        elif (answer := os.fork()) == 0:
            _be_the_command(library, told)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _be_the_command(library: str, told: Mapping[str, Any]) -> NoReturn:
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ.update(told["variables"])
        for number, name in ((1, "out"), (2, "err")):
            descriptor = os.open(Path(told["place"], name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(descriptor, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        ctypes.CDLL(library).faults_begin()
        sys.argv = ["scanmill", *told["line"]]
        from flows.cli import main as command

        command()
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
