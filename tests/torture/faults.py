"""A filesystem that fails at a chosen moment, and what a power cut takes: faults.c, compiled and told what to do."""

from __future__ import annotations

import errno
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("faults.c")
STATE = struct.Struct("5q")
"""Changes so far, number of the one at which it happened, who made it, the clock's jump, changes by workers."""


def compiled(folder: Path) -> Path:
    """The library to preload; a C compiler makes it."""
    library = folder / "faults.so"
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library


@dataclass(frozen=True)
class Fault:
    """What happens at the chosen call."""

    name: str
    kind: str
    """As faults.c knows it: a word, or the number of an errno, with a minus before it where it lasts."""
    exits: frozenset[int]
    """How the command may end: by a code, or minus a signal."""
    loses_power: bool = False
    """Whether what was not synced is lost."""
    acts: str = ""
    """What the harness does while all processes stand still; see :mod:`tests.torture.outside`."""
    has_small_disk: bool = False
    """Whether the lake lies on a disk of its own that is too small, and nothing else happens."""
    leaves_orphans: bool = False
    """Whether the next run begins while workers of the broken one may still be there."""


def lasting(name: str, code: int) -> Fault:
    """Every change fails from the chosen one on."""
    return Fault(name, str(-code), frozenset({2}))


KILLED, DONE, TOLD, INTERRUPTED = -9, 0, 2, 130
FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("kill the command", "head", frozenset({KILLED}), leaves_orphans=True),
        # A worker that is killed is replaced, and the run comes to its end.
        Fault("kill a worker", "worker", frozenset({DONE})),
        Fault("kill whoever writes", "kill", frozenset({KILLED, DONE}), leaves_orphans=True),
        Fault("kill the group", "group", frozenset({KILLED})),
        Fault("torn write", "torn", frozenset({KILLED})),
        Fault("power cut", "group", frozenset({KILLED}), loses_power=True),
        Fault("torn write + power cut", "torn", frozenset({KILLED}), loses_power=True),
        lasting("disk full", errno.ENOSPC),
        Fault("small disk", "", frozenset({2}), has_small_disk=True),
        lasting("quota exceeded", errno.EDQUOT),
        lasting("read-only", errno.EROFS),
        lasting("permission denied", errno.EACCES),
        lasting("broken disk", errno.EIO),
        Fault("one I/O error", str(errno.EIO), frozenset({DONE, TOLD})),
        Fault("out of memory", "memory", frozenset({DONE, TOLD})),
        Fault("SIGTERM", "terminate", frozenset({TOLD, 143, -15})),
        Fault("clock a day forward", "forward", frozenset({DONE})),
        Fault("clock a day back", "back", frozenset({DONE})),
        Fault("Ctrl-C twice", "pause", frozenset({INTERRUPTED}), acts="interrupt twice"),
        Fault("two at once", "pause", frozenset({DONE}), acts="run another"),
        Fault("lake moved", "pause", frozenset({DONE, TOLD}), acts="move the lake"),
        Fault("Prefect gone", "pause", frozenset({DONE, TOLD}), acts="stop Prefect"),
    )
}
KILLS = ("kill the command", "kill a worker", "kill whoever writes", "kill the group")
"""Those by ``kill -9`` alone."""


class Moment:
    """One fault at one call, for processes that are started with :attr:`variables`."""

    def __init__(self, library: Path, root: Path, folder: Path, fault: Fault | None = None, at: int = -1) -> None:
        """Of the calls below ``root``; ``folder`` keeps the count and, for a power cut, the log."""
        folder.mkdir(parents=True, exist_ok=True)
        self._root, self._state, self._log = root, folder / "state", folder / "log"
        self._state.write_bytes(bytes(STATE.size))
        self.variables = {
            "LD_PRELOAD": str(library),
            "FAULTS_STATE": str(self._state),
            "FAULTS_ROOT": str(root),
            "FAULTS_AT": str(at),
            "FAULTS_KIND": fault.kind if fault else "",
        }
        if fault and fault.loses_power:
            self._kept.mkdir()
            self.variables["FAULTS_LOG"] = str(self._log)

    @property
    def _kept(self) -> Path:
        return Path(f"{self._log}.kept")

    @property
    def calls(self) -> int:
        """That changed something, of all processes together."""
        return int(STATE.unpack(self._state.read_bytes())[0])

    @property
    def calls_of_workers(self) -> int:
        """Those that others than the command itself have made."""
        return int(STATE.unpack(self._state.read_bytes())[4])

    @property
    def has_fired(self) -> bool:
        """Whether the chosen call was made."""
        return bool(STATE.unpack(self._state.read_bytes())[1])

    def lose_power(self, rng: random.Random) -> list[str]:
        """Undo, or leave half done, what a disk may not have got to know of; returns what was done, in words.

        Bytes that were not synced become fewer, or none; a name that was given in a folder that was not synced may be
        gone, or be that of what was there before. (What filesystems may do, and do: Pillai et al., OSDI 2014.)
        """
        unsynced, names = _unsettled(self._log)
        done = []
        for name, new_name, aside in reversed(names):
            if rng.random() < 0.5 and Path(new_name).exists():
                _undo(name, Path(new_name), Path(aside) if aside else None)
                unsynced = {_moved(path, new_name, name) for path in unsynced} if name else unsynced
                done.append(f"{Path(new_name).relative_to(self._root)} is not {'renamed' if name else 'there'}")
        for path in sorted(unsynced):
            if Path(path).is_file():
                size = Path(path).stat().st_size
                os.truncate(path, rng.choice((0, size // 2)))
                done.append(f"{Path(path).relative_to(self._root)} is cut")
        return done


def _undo(name: str, new_name: Path, aside: Path | None) -> None:
    """Give a file its old name back; one that has none, as a folder that was made, goes."""
    if not name:
        shutil.rmtree(new_name) if new_name.is_dir() else new_name.unlink()
        return
    if Path(name).exists() or not Path(name).parent.is_dir():
        return
    new_name.rename(name)
    if aside is not None and aside.exists():
        shutil.move(aside, new_name)


def _unsettled(log: Path) -> tuple[set[str], list[tuple[str, str, str]]]:
    """Files whose last bytes were not synced; names whose folder was not: before (or none), now, what was replaced."""
    unsynced: set[str] = set()
    names: list[tuple[str, str, str]] = []
    for line in log.read_text("utf-8", "surrogateescape").splitlines():
        what, path, *others = line.split("\t")
        match what:
            case "C" | "W":
                unsynced.add(path)
            case "N":
                names.append(("", path, ""))
            case "S":
                unsynced.discard(path)
                names = [one for one in names if str(Path(one[1]).parent) != path]
            case "U":
                unsynced.discard(path)
                names = [one for one in names if one[1] != path]
            case "R":
                target, aside = others[0], others[1] if len(others) > 1 else ""
                unsynced = {_moved(one, path, target) for one in unsynced if one != target}
                # Whatever is settled of a name that was new, is so of the one that it has now.
                names = [(_moved(a, path, target), _moved(b, path, target), c) for a, b, c in names if b != path]
                names.append((path, target, aside))
    return unsynced, names


def _moved(path: str, old: str, new: str) -> str:
    """Where a path is once a file or a folder above it has another name."""
    return new + path[len(old) :] if path == old or path.startswith(f"{old}/") else path
