"""One round: a run with one fault, what is visible after it, a rerun, and whether it made the same."""

from __future__ import annotations

import contextlib
import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.torture import outside
from tests.torture.faults import FAULTS, Fault, Moment
from tests.torture.scenes import Ended, Process, Scene, ended, kill_group, orphans_of, started, state_of
from tests.torture.small_disk import small_disk, used_bytes
from tests.torture.warm import Warm

DISKS = 10
"""Sizes of a small disk, from nearly nothing to nearly all that the run needs; the seed chooses."""


@dataclass
class Round:
    """What came of one fault at one moment."""

    scene: str
    fault: str
    seed: int
    at: int
    """Number of the change at which it happened."""
    code: int = 0
    said: str = ""
    """The last line on stderr, or the error in the answer."""
    has_fired: bool = False
    disk_bytes: int | None = None
    """Of a small disk."""
    state: dict[str, int | bool] = field(default_factory=dict)
    """What was there before the rerun, in numbers."""
    heard: list[str] = field(default_factory=list)
    """What others than the run have said."""
    lost: list[str] = field(default_factory=list)
    """What the power cut took."""
    problems: list[str] = field(default_factory=list)
    """Broken promises: none where all is well."""
    reused: float | None = None
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)

    @property
    def command(self) -> str:
        """What repeats it."""
        name = "--disk-bytes" if self.disk_bytes else "--at"
        options = f"--scenes {self.scene!r} --faults {self.fault!r} --rounds 1 --seed {self.seed}"
        return f"python -m tests.torture {options} {name} {self.disk_bytes or self.at}"


class Bench:
    """Everything that rounds of one scene share."""

    def __init__(
        self,
        scene: Scene,
        folder: Path,
        library: Path,
        variables: Mapping[str, str],
        workers: int,
        prefect: outside.Prefect,
        *,
        is_warm: bool = False,
    ) -> None:
        """Runs the command undisturbed once, to know what it makes and how many changes it takes."""
        self.scene, self._folder, self._library, self._variables = scene, folder, library, variables
        self._workers, self._prefect = workers, prefect
        self._warm = Warm(library, variables) if is_warm else None
        place = self._place("undisturbed")
        scene.lay_out(place)
        before = used_bytes(place / "lake")
        moment = Moment(library, place / "lake", place / "moment")
        began = time.monotonic()
        with scene.beside(moment.variables):
            process = started(scene, place, {**variables, **moment.variables}, workers)
            end = ended(process, place, began)
        if end.code != 0:
            raise AssertionError(f"undisturbed, {scene.name} ended with {end.code}: {end.output}{end.errors}")
        self.calls, self.calls_of_workers, self.seconds = moment.calls, moment.calls_of_workers, end.seconds
        self._bytes = before, used_bytes(place / "lake")
        self._made = scene.made(place)
        problems = scene.visible_problems(place)
        if problems:
            raise AssertionError(f"undisturbed, {scene.name} made {problems}")

    def _place(self, name: str) -> Path:
        place = self._folder / self.scene.name.replace(" ", "-") / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        return place

    def close(self) -> None:
        """After the last round."""
        if self._warm is not None:
            self._warm.stop()

    def can_have(self, name: str) -> bool:
        """Whether the fault can come to this scene: there is no worker to be killed in each."""
        if self.scene.faults is not None and name not in self.scene.faults:
            return False
        return bool(self.calls_of_workers) or FAULTS[name].kind != "worker"

    def run(self, name: str, seed: int, at: int | None = None, disk_bytes: int | None = None) -> Round:
        """One round of a fault; the seed says at which change, and on how small a disk, unless ``at`` or it is told."""
        fault, rng = FAULTS[name], random.Random(f"{self.scene.name} {name} {seed}")
        calls = self.calls_of_workers if fault.kind == "worker" else self.calls
        chosen = 1 + int(rng.random() * calls)
        found = Round(self.scene.name, name, seed, at or chosen)
        place = self._place(f"{name}-{seed}".replace(" ", "-").replace("/", "-"))
        with contextlib.ExitStack() as stack:
            if fault.has_small_disk:
                before, after = self._bytes
                found.disk_bytes = disk_bytes or before + int((after - before) * (seed % DISKS + 0.5) / DISKS)
                disk = stack.enter_context(small_disk(place / "lake", found.disk_bytes))
            self.scene.lay_out(place)
            moment = Moment(self._library, place / "lake", place / "moment", fault, found.at)
            process = self._break(fault, moment, place, found)
            stack.callback(kill_group, process)
            if fault.has_small_disk:
                disk.grow()
            self._prefect.insist()
            self._go_on(fault, moment, place, found, rng)
            if fault.leaves_orphans:
                found.problems += [f"outlives it: {line}" for line in orphans_of(process)]
        if not found.problems:
            shutil.rmtree(place)
        return found

    def _break(self, fault: Fault, moment: Moment, place: Path, found: Round) -> Process:
        """The run with the fault, to its end."""
        with self.scene.beside(moment.variables):
            began = time.monotonic()
            process = started(self.scene, place, {**self._variables, **moment.variables}, self._workers, self._warm)
            around = outside.Outside(self.scene, place, process, self._variables, self._prefect)
            if fault.acts:
                found.problems += outside.act(fault.acts, moment, around)
            end = ended(process, place, began, leaves_orphans=fault.leaves_orphans)
        found.code, found.said, found.seconds, found.heard = end.code, _last_words(end), end.seconds, around.heard
        found.has_fired = moment.has_fired or (fault.has_small_disk and end.code != 0)
        found.problems += _bad_end(self.scene.exits or fault.exits, end, has_fired=found.has_fired)
        return process

    def _go_on(self, fault: Fault, moment: Moment, place: Path, found: Round, rng: random.Random) -> None:
        """What is visible, the rerun, and what that makes."""
        if (place / "elsewhere").exists():
            found.problems += [f"where it was moved from: {problem}" for problem in self.scene.visible_problems(place)]
            _move_back(place)
        if fault.loses_power and moment.has_fired:
            found.lost = moment.lose_power(rng)
        found.state = state_of(place / "lake")
        found.problems += [f"visible: {problem}" for problem in self.scene.visible_problems(place)]
        try:
            kept = self.scene.kept(place)
            found.reused = self.scene.reused(self.scene.again(place), kept)
            found.problems += [f"in the end: {problem}" for problem in self.scene.visible_problems(place)]
            found.problems += _differences(self._made, self.scene.made(place))
        except Exception as error:
            found.problems.append(f"rerun: {type(error).__name__}: {error}"[-2000:])


def _move_back(place: Path) -> None:
    """A lake that was moved comes back; what was made in its old place in the meantime goes."""
    shutil.rmtree(place / "lake", ignore_errors=True)
    (place / "elsewhere").rename(place / "lake")


def _bad_end(exits: frozenset[int], end: Ended, *, has_fired: bool) -> list[str]:
    """What a user must not see."""
    problems = []
    allowed = exits if has_fired else {0}
    if end.code not in allowed:
        problems.append(
            f"it ended with {end.code}, not with one of {sorted(allowed)}: {end.output[-300:]}{end.errors[-600:]}"
        )
    if "Traceback" in end.errors + end.output:
        problems.append(f"a traceback: {end.errors[-1500:]}")
    return problems


def _last_words(end: Ended) -> str:
    lines = (end.errors.strip() or end.output.strip()).splitlines()
    return lines[-1][:300] if lines else ""


def _differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    names = sorted(set(expected) | set(found))
    different = [name for name in names if expected.get(name) != found.get(name)]
    return [f"differs from the undisturbed run: {', '.join(different[:5])} ({len(different)})"] if different else []
