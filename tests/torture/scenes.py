"""What is broken: commands as users type them, what they make undisturbed, and how that is compared."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil

from tasks.files import sha256_file
from tasks.lake import Lake
from tasks.release.verify import verify
from tasks.schema import ScanmillError
from tests.command import COMMAND, scanmill
from tests.release_files import files_of
from tests.torture.warm import Warm

PATIENCE_SECONDS = 300
ORPHANS_SECONDS = 10
"""In which workers must have noticed that their driver is gone."""


@dataclass(frozen=True)
class Ended:
    """A command that ran as a process of its own."""

    code: int
    """Minus the number of the signal that ended it."""
    output: str
    errors: str
    seconds: float


class Scene(ABC):
    """One command, into a place where nothing is but the lake of :attr:`before`, if there is one."""

    name: str
    before: Path | None = None
    """The lake that the command finds."""
    takes_workers = True
    faults: frozenset[str] | None = None
    """Those that can come to it; None for all."""
    exits: frozenset[int] | None = None
    """How it may end when it was broken, where that is not for the fault to say."""

    def beside(self, variables: Mapping[str, str]) -> AbstractContextManager[None]:
        """Have run, for a block, what has to run beside the command, with these variables."""
        return nullcontext()

    def line(self, place: Path, workers: int) -> list[str]:
        """The command as a user types it."""
        return [*COMMAND, *self.arguments(place), *(["--workers", str(workers)] if self.takes_workers else [])]

    def again(self, place: Path) -> Mapping[str, Any]:
        """Run the command once more, undisturbed, in this process; its answer. Raises where it does not end well."""
        result = scanmill(*self.line(place, 0)[len(COMMAND) :])
        if result.exit_code != 0:
            raise AssertionError(f"the rerun ended with {result.exit_code}: {result.stdout}{result.stderr}")
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer

    def lay_out(self, place: Path) -> None:
        """Make ``place`` ready."""
        if self.before is not None:
            shutil.copytree(self.before, place / "lake", dirs_exist_ok=True)

    @abstractmethod
    def arguments(self, place: Path) -> list[str]:
        """Of ``scanmill``; ``place`` is a folder of its own."""

    @abstractmethod
    def made(self, place: Path) -> Mapping[str, str]:
        """What is there in the end: SHA-256 by path, of all that is promised to be the same each time."""

    @abstractmethod
    def visible_problems(self, place: Path) -> list[str]:
        """What is wrong with what a reader would see now, after a crash or the end; empty where nothing is."""

    def kept(self, place: Path) -> float:
        """Share of the work that a rerun will find done, where the lake tells before it."""
        return 0.0

    def reused(self, answer: Mapping[str, Any], kept: float) -> float:
        """Share of the work that a rerun did not do again, from its answer or what was kept before it."""
        return kept


class Prepare(Scene):
    """``scanmill prepare``, from a folder or from a publisher's host."""

    def __init__(
        self,
        name: str,
        dataset: str,
        source: Sequence[str],
        images: int,
        *,
        before: Path | None = None,
        images_before: int = 0,
    ) -> None:
        """``images`` is how many the release will have, of which ``images_before`` have their chunks in ``before``."""
        self.name, self.dataset, self.before = name, dataset, before
        self._source, self._images, self._images_before = list(source), images, images_before

    def arguments(self, place: Path) -> list[str]:
        return ["prepare", self.dataset, *self._source, "--lake", str(place / "lake"), "--json"]

    def made(self, place: Path) -> Mapping[str, str]:
        found = {"latest.json": (place / "lake" / self.dataset / "latest.json").read_text()}
        for release in self._releases(place):
            found |= {f"{release.name}/{name}": sha256 for name, sha256 in files_of(release).items()}
        return found

    def _releases(self, place: Path) -> list[Path]:
        return sorted((place / "lake" / self.dataset).glob("releases/[!.]*"))

    def visible_problems(self, place: Path) -> list[str]:
        lake = Lake(str(place / "lake"), self.dataset)
        problems = [problem for release in self._releases(place) for problem in verify(lake, release.name).problems]
        if lake.latest.exists():
            named = json.loads(lake.latest.read_text())["release"]
            if named not in {release.name for release in self._releases(place)}:
                problems.append(f"latest.json names {named}, which is not there")
        elif self.before is not None:
            problems.append("latest.json is gone")
        return problems

    def reused(self, answer: Mapping[str, Any], kept: float) -> float:
        """Of what is new."""
        if not answer["is_new"]:
            return 1.0
        return (float(answer["images_reused"]) - self._images_before) / (self._images - self._images_before)


class Train(Scene):
    """``scanmill train``, of a network that writes a checkpoint after every step."""

    name = "train"
    takes_workers = False

    def __init__(self, recipe: Path, before: Path, steps: int) -> None:
        """``steps`` in all, of all epochs."""
        self.before, self._recipe, self._steps = before, recipe, steps

    def arguments(self, place: Path) -> list[str]:
        return ["train", str(self._recipe), "--lake", str(place / "lake"), "--json"]

    def made(self, place: Path) -> Mapping[str, str]:
        """Weights and losses, and that nothing unfinished is left."""
        found = {path.name: "" for path in (place / "lake" / "runs").iterdir()}
        for marker in (place / "lake" / "runs").glob("[!.]*/run.json"):
            found |= {name: sha256_file(marker.parent / name) for name in ("model.safetensors", "metrics.csv")}
            seen = json.loads((marker.parent / "environment.json").read_text())["samples_seen"]
            found["samples seen"] = str(seen)
        return found

    def visible_problems(self, place: Path) -> list[str]:
        from tasks.learning.runs import find_run

        problems = []
        for folder in (place / "lake" / "runs").glob("[!.]*"):
            try:
                find_run(str(place / "lake"), folder.name)
            except ScanmillError as error:
                problems.append(str(error))
        return problems

    def kept(self, place: Path) -> float:
        import torch

        if [*(place / "lake" / "runs").glob("[!.]*/run.json")]:
            return 1.0
        checkpoints = [*(place / "lake" / "runs").glob(".training-*/last.ckpt")]
        steps = max((int(torch.load(path, weights_only=True)["global_step"]) for path in checkpoints), default=0)
        return steps / self._steps


def state_of(lake: Path) -> dict[str, int | bool]:
    """What a broken run has left, in numbers."""
    return {
        "chunks": len([*lake.glob("*/chunks/[!.]*.parquet")]),
        "half-written files": len([*lake.rglob(".partial-*")]),
        "staged releases": len([*lake.glob("*/releases/.staging-*")]),
        "releases": len([*lake.glob("*/releases/[!.]*")]),
        "pointers": len([*lake.glob("*/latest.json")]),
        "runs": len([*lake.glob("runs/[!.]*/run.json")]),
    }


class Process(Protocol):
    """What is asked of a command that runs."""

    pid: int

    @property
    def args(self) -> Any:
        """Its words."""

    def poll(self) -> int | None:
        """Exit code, if it has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Exit code, at its end."""


def started(scene: Scene, place: Path, variables: Mapping[str, str], workers: int, warm: Warm | None = None) -> Process:
    """The command, at the head of a process group of its own; what it says goes to ``place``."""
    line = scene.line(place, workers)
    if warm is not None and line[: len(COMMAND)] == [*COMMAND]:
        return warm.start(line[len(COMMAND) :], variables, place)
    with (place / "out").open("wb") as out, (place / "err").open("wb") as err:
        return subprocess.Popen(line, env=dict(variables), stdout=out, stderr=err, start_new_session=True)


def ended(process: Process, place: Path, began: float, *, leaves_orphans: bool = False) -> Ended:
    """The command at its end; what has outlived it is killed, unless it is to stay."""
    try:
        code = process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        code = -signal.SIGALRM
        leaves_orphans = False
    if not leaves_orphans:
        kill_group(process)
    said = [(place / name).read_text("utf-8", "replace") for name in ("out", "err")]
    return Ended(code, said[0], said[1], time.monotonic() - began)


def kill_group(process: Process) -> None:
    """The command and all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def orphans_of(process: Process) -> list[str]:
    """Processes that the command has started and that outlive it, after a while in which they may notice."""
    deadline = time.monotonic() + ORPHANS_SECONDS
    while found := [other.info["cmdline"] for other in _group(process.pid)]:
        if time.monotonic() > deadline:
            return [" ".join(line)[:80] for line in found]
        time.sleep(0.1)
    return []


def _group(number: int) -> Iterator[psutil.Process]:
    for other in psutil.process_iter(["pid", "status", "cmdline"]):
        with suppress(OSError):
            if other.info["status"] != psutil.STATUS_ZOMBIE and os.getpgid(other.info["pid"]) == number:
                yield other
