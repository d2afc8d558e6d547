"""What is broken: commands as users type them, what they make undisturbed, and how that is compared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.lake import Lake
from tasks.release.verify import verify
from tests.command import COMMAND, scanmill

PATIENCE_SECONDS = 300


@dataclass(frozen=True)
class Ended:
    """A command that ran as a process of its own."""

    code: int
    """Minus the number of the signal that ended it."""
    output: str
    errors: str
    seconds: float


class Scene(ABC):
    """One command, into a place that is empty before it."""

    name: str

    @abstractmethod
    def arguments(self, place: Path) -> list[str]:
        """Of ``scanmill``; ``place`` is a folder of its own."""

    @abstractmethod
    def made(self, place: Path) -> Mapping[str, str]:
        """What is there in the end: SHA-256 by path, of all that is promised to be the same each time."""

    @abstractmethod
    def visible_problems(self, place: Path) -> list[str]:
        """What is wrong with what a reader would see now, after a crash or the end; empty where nothing is."""

    def reused(self, answer: Mapping[str, Any]) -> float | None:
        """Share of the work that a rerun did not do again, from its answer."""
        return None


class Prepare(Scene):
    """``scanmill prepare``, from a folder or from a publisher's host."""

    def __init__(self, name: str, dataset: str, source: list[str], images: int) -> None:
        self.name, self.dataset, self._source, self._images = name, dataset, source, images

    def arguments(self, place: Path) -> list[str]:
        return ["prepare", self.dataset, *self._source, "--lake", str(place / "lake"), "--json"]

    def made(self, place: Path) -> Mapping[str, str]:
        from tests.release_files import files_of

        home = place / "lake" / self.dataset
        return {"latest.json": (home / "latest.json").read_text(), **files_of(*self._releases(place))}

    def _releases(self, place: Path) -> list[Path]:
        return sorted((place / "lake" / self.dataset).glob("releases/[!.]*"))

    def visible_problems(self, place: Path) -> list[str]:
        lake = Lake(str(place / "lake"), self.dataset)
        problems = [problem for release in self._releases(place) for problem in verify(lake, release.name).problems]
        if lake.latest.exists():
            named = json.loads(lake.latest.read_text())["release"]
            if named not in {release.name for release in self._releases(place)}:
                problems.append(f"latest.json names {named}, which is not there")
        return problems

    def reused(self, answer: Mapping[str, Any]) -> float | None:
        return 1.0 if not answer["is_new"] else float(answer["images_reused"]) / self._images


def started(scene: Scene, place: Path, variables: Mapping[str, str], workers: int) -> subprocess.Popen[bytes]:
    """The command, at the head of a process group of its own; what it says goes to ``place``."""
    with (place / "out").open("wb") as out, (place / "err").open("wb") as err:
        return subprocess.Popen(
            [*COMMAND, *scene.arguments(place), "--workers", str(workers)],
            env=dict(variables),
            stdout=out,
            stderr=err,
            start_new_session=True,
        )


def ended(process: subprocess.Popen[bytes], place: Path, began: float) -> Ended:
    """The command at its end; what has outlived it is killed."""
    try:
        code = process.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        code = -signal.SIGALRM
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    said = [(place / name).read_text("utf-8", "replace") for name in ("out", "err")]
    return Ended(code, said[0], said[1], time.monotonic() - began)


def again(scene: Scene, place: Path) -> Mapping[str, Any]:
    """Run the command once more, undisturbed, in this process; its answer. Raises where it does not end well."""
    result = scanmill(*scene.arguments(place), "--workers", 0)
    if result.exit_code != 0:
        raise AssertionError(f"the rerun ended with {result.exit_code}: {result.stdout}{result.stderr}")
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer
