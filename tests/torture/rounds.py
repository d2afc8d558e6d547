"""One round: a run with one fault, what is visible after it, a rerun, and whether it made the same."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.torture import outside
from tests.torture.faults import FAULTS, Fault, Moment
from tests.torture.scenes import Ended, Scene, again, ended, started


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
    lost: list[str] = field(default_factory=list)
    """What the power cut took."""
    problems: list[str] = field(default_factory=list)
    """Broken promises: none where all is well."""
    reused: float | None = None
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """All fields."""
        return asdict(self)


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
    ) -> None:
        """Runs the command undisturbed once, to know what it makes and how many changes it takes."""
        self.scene, self._folder, self._library, self._variables = scene, folder, library, variables
        self._workers, self._prefect = workers, prefect
        place = self._place("undisturbed")
        moment = Moment(library, place / "lake", place / "moment")
        began = time.monotonic()
        process = started(scene, place, {**variables, **moment.variables}, workers)
        end = ended(process, place, began)
        if end.code != 0:
            raise AssertionError(f"undisturbed, {scene.name} ended with {end.code}: {end.output}{end.errors}")
        self.calls, self.seconds = moment.calls, end.seconds
        self._made = scene.made(place)
        problems = scene.visible_problems(place)
        if problems:
            raise AssertionError(f"undisturbed, {scene.name} made {problems}")

    def _place(self, name: str) -> Path:
        place = self._folder / self.scene.name.replace(" ", "-") / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        return place

    def run(self, name: str, seed: int) -> Round:
        """One round of a fault; the seed says at which change."""
        fault, rng = FAULTS[name], random.Random(f"{self.scene.name} {name} {seed}")
        found = Round(self.scene.name, name, seed, rng.randint(1, self.calls))
        place = self._place(f"{name}-{seed}".replace(" ", "-").replace("/", "-"))
        moment = Moment(self._library, place / "lake", place / "moment", fault, found.at)
        end, wrong = self._broken(fault, moment, place)
        self._prefect.insist()
        found.code, found.said, found.seconds = end.code, _last_words(end), end.seconds
        found.has_fired = moment.has_fired
        found.problems = [*wrong, *_bad_end(fault, end, has_fired=moment.has_fired)]
        if (place / "elsewhere").exists():
            _move_back(place)
        if fault.loses_power and moment.has_fired:
            found.lost = moment.lose_power(rng)
        found.problems += [f"visible: {problem}" for problem in self.scene.visible_problems(place)]
        try:
            found.reused = self.scene.reused(again(self.scene, place))
            found.problems += [f"in the end: {problem}" for problem in self.scene.visible_problems(place)]
            found.problems += _differences(self._made, self.scene.made(place))
        except Exception as error:
            found.problems.append(f"rerun: {type(error).__name__}: {error}"[-2000:])
        if not found.problems:
            shutil.rmtree(place)
        return found

    def _broken(self, fault: Fault, moment: Moment, place: Path) -> tuple[Ended, list[str]]:
        began = time.monotonic()
        process = started(self.scene, place, {**self._variables, **moment.variables}, self._workers)
        wrong = []
        if fault.acts:
            around = outside.Outside(self.scene, place, process, self._variables, self._prefect)
            wrong = outside.act(fault.acts, moment, around)
        return ended(process, place, began), wrong


def _move_back(place: Path) -> None:
    """A lake that was moved comes back; what was made in its old place in the meantime goes."""
    shutil.rmtree(place / "lake", ignore_errors=True)
    (place / "elsewhere").rename(place / "lake")


def _bad_end(fault: Fault, end: Ended, *, has_fired: bool) -> list[str]:
    """What a user must not see."""
    problems = []
    allowed = fault.exits if has_fired else {0}
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
