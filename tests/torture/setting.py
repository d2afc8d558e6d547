"""Where rounds take place: raw releases, a publisher's host, a Prefect server that can be stopped and started again."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.demo_release import write_nih_release
from tests.command import environment
from tests.fakes import behsof
from tests.fakes.servers.figshare import FakeFigshare
from tests.prefect_servers import Site
from tests.torture.nightly import Refresh
from tests.torture.rounds import Bench
from tests.torture.scenes import Prepare, Scene, Train

BEHSOF_ARTICLE = 26389069
NIH = "nih-chest-xray"
IMAGES, ARCHIVES = 80, 4
LIVERS = 120
SECRET = {"SCANMILL_BEHSOF_PASSWORD": "made-up password"}
NETWORK = f"""
dataset: {NIH}
kind: network
labels: [Infiltration]
splits: {{train: train, validation: validation}}
network: {{architecture: densenet-small, size: 32}}
training: {{epochs: 3, batch_size: 8, learning_rate: 1.0e-3, checkpoint_minutes: 1.0e-9}}
"""
"""A checkpoint after every step."""
STEPS = 18


def _chests(around: Setting) -> Scene:
    return Prepare("prepare", NIH, ["--raw", str(around.raw)], IMAGES)


def _livers(around: Setting) -> Scene:
    raw = around.folder / "raw-behsof"
    behsof.write(raw, images=LIVERS, defects=False)
    host = around.stack.enter_context(FakeFigshare())
    host.publish(BEHSOF_ARTICLE, {path.name: path.read_bytes() for path in raw.iterdir()})
    return Prepare("fetch and prepare", "behsof", ["--source-url", host.api], LIVERS)


def _more_chests(around: Setting) -> Scene:
    """As a refresh finds it: a release is there, and an archive more than that was made of."""
    smaller = around.folder / "raw-nih-smaller"
    shutil.copytree(around.raw, smaller)
    last = max((path for path in smaller.rglob("*.zip")), key=lambda path: path.name)
    last.unlink()
    options = ["--allow-missing", "0.5", "--allow-gate-failure"]
    before = Prepare("", NIH, ["--raw", str(smaller), *options], IMAGES)
    answer = before.again(around.folder / "before-append")
    return Prepare(
        "append",
        NIH,
        ["--raw", str(around.raw), *options],
        IMAGES,
        before=around.folder / "before-append" / "lake",
        images_before=int(answer["accounting"]["written"]),
    )


def _training(around: Setting) -> Scene:
    import torch

    torch.set_num_threads(1)  # as in the broken run: sums of floats are taken in one order
    place = around.folder / "before-train"
    _chests(around).again(place)
    recipe = around.folder / "tiny.yaml"
    recipe.write_text(NETWORK)
    return Train(recipe, place / "lake", STEPS)


SCENES: dict[str, Callable[[Setting], Scene]] = {
    "prepare": _chests,
    "fetch and prepare": _livers,
    "append": _more_chests,
    "train": _training,
    "refresh": lambda around: Refresh(NIH, around.raw, IMAGES, around.prefect.site),
}


@dataclass
class Prefect:
    """A server in a process of its own."""

    site: Site

    def insist(self) -> None:
        """Start it where it does not run."""
        if "server" not in self.site.processes:
            self.site.start_server()

    def stop(self) -> None:
        """Until somebody insists."""
        self.site.stop("server")


@dataclass
class Setting:
    """A folder, a Prefect server, and what else was opened."""

    folder: Path
    prefect: Prefect
    stack: contextlib.ExitStack

    @cached_property
    def raw(self) -> Path:
        """Chest films, a folder and some zips."""
        folder = self.folder / "raw-nih"
        write_nih_release(folder, images=IMAGES, archives=ARCHIVES, side=128, seed=3, with_defects=False)
        return folder

    def bench(self, name: str, library: Path, workers: int, *, is_warm: bool = False) -> Bench:
        """Rounds of one scene."""
        quiet = {"PREFECT_LOGGING_LEVEL": "CRITICAL", "OMP_NUM_THREADS": "1"}
        variables = {**environment(self.folder / "prefect", self.prefect.site.url), **SECRET, **quiet}
        bench = Bench(SCENES[name](self), self.folder, library, variables, workers, self.prefect, is_warm=is_warm)
        self.stack.callback(bench.close)
        return bench


@contextlib.contextmanager
def setting(folder: Path) -> Iterator[Setting]:
    """For the block; commands in this process use the same server."""
    os.environ |= SECRET
    site = Site(folder, f"sqlite+aiosqlite:///{folder / 'prefect.db'}")
    try:
        site.start_server()
        with contextlib.ExitStack() as stack, temporary_settings({PREFECT_API_URL: site.url}):
            yield Setting(folder, Prefect(site), stack)
    finally:
        for name in [*site.processes]:
            site.stop(name)
