"""The short version of ``make torture``: one lake that is broken again and again, and ends as if nothing had been.

python -m tests.torture --help        the long one
"""

from __future__ import annotations

import os
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL

from tasks.demo_release import write_nih_release
from tests.command import environment
from tests.torture.faults import FAULTS, Moment, compiled
from tests.torture.outside import Outside, act
from tests.torture.scenes import Ended, Prepare, Scene, ended, started, state_of

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None and not os.environ.get("CI"), reason="no C compiler, so nothing can be made to fail"
)
IMAGES = 80
TURNS = (
    # fault, number of the change at which it comes, workers, exit code
    ("torn write + power cut", 90, 0, -9),
    ("disk full", 130, 0, 2),
    ("Ctrl-C twice", 300, 1, 130),
)
"""Each a bit later than the one before it, in what that has left."""


class NoServer:
    """That of the session, which others need: it is not stopped here."""

    def insist(self) -> None:
        """It runs."""

    def stop(self) -> None:
        """Never asked."""
        raise NotImplementedError


@dataclass
class Broken:
    """What all turns share."""

    scene: Scene
    place: Path
    library: Path
    variables: dict[str, str]

    def turn(self, name: str, at: int, workers: int) -> tuple[Ended, list[str]]:
        """The command with a fault; how it ended, and what the power cut took."""
        fault, moment_folder = FAULTS[name], self.place / name.replace(" ", "-")
        moment = Moment(self.library, self.place / "lake", moment_folder, fault, at)
        began = time.monotonic()
        process = started(self.scene, self.place, {**self.variables, **moment.variables}, workers)
        if fault.acts:
            assert act(fault.acts, moment, Outside(self.scene, self.place, process, self.variables, NoServer())) == []
        end = ended(process, self.place, began)
        assert moment.has_fired, f"{name}: the run made {moment.calls} changes only: {end}"
        return end, moment.lose_power(random.Random(at)) if fault.loses_power else []


@pytest.fixture(scope="module")
def broken(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Broken:
    folder = tmp_path_factory.mktemp("torture")
    raw, place = folder / "raw", folder / "place"
    place.mkdir()
    write_nih_release(raw, images=IMAGES, archives=4, side=128, seed=3, with_defects=False)
    scene = Prepare("prepare", "nih-chest-xray", ["--raw", str(raw)], IMAGES)
    variables = environment(folder / "prefect", str(PREFECT_API_URL.value()))
    return Broken(scene, place, compiled(folder), {**variables, "OMP_NUM_THREADS": "1"})


def test_broken_again_and_again_it_ends_in_the_same_release(broken: Broken, tmp_path: Path) -> None:
    scene, lake = broken.scene, broken.place / "lake"
    for name, at, workers, code in TURNS:
        end, lost = broken.turn(name, at, workers)
        assert end.code == code, (name, end)
        assert "Traceback" not in end.output + end.errors, (name, end)
        assert scene.visible_problems(broken.place) == [], name
        assert state_of(lake)["pointers"] == 0, f"{name}: it was to come before the end"
        if code == 2:
            assert f"no space left on the disk that holds {lake}" in end.output
        if code == 130:
            assert end.errors.count("\n") == 1, end.errors
            assert "scanmill: stopped" in end.errors
        if name.endswith("power cut"):
            assert lost, "the power cut took nothing: it comes at a moment at which all is safe"
    answer = scene.again(broken.place)
    assert scene.reused(answer, 0.0) == 1.0, "all chunks are from runs that were broken"
    assert scene.visible_problems(broken.place) == []
    scene.again(tmp_path)
    assert scene.made(broken.place) == scene.made(tmp_path)
    left = state_of(lake)
    assert (left["half-written files"], left["staged releases"], left["releases"]) == (0, 0, 1)
