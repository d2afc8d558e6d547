"""Where rounds take place: raw releases, a publisher's host, a Prefect server that can be stopped and started again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks.demo_release import write_nih_release
from tests.command import environment
from tests.fakes import behsof
from tests.fakes.servers.figshare import FakeFigshare
from tests.prefect_servers import Site
from tests.torture.rounds import Bench
from tests.torture.scenes import Prepare, Scene

BEHSOF_ARTICLE = 26389069
IMAGES = 120
SECRET = {"SCANMILL_BEHSOF_PASSWORD": "made-up password"}


def _chests(around: Setting) -> Scene:
    raw = around.folder / "raw-nih"
    write_nih_release(raw, images=IMAGES, archives=6, side=96, seed=3, with_defects=False)
    return Prepare("prepare", "nih-chest-xray", ["--raw", str(raw)], IMAGES)


def _livers(around: Setting) -> Scene:
    raw = around.folder / "raw-behsof"
    behsof.write(raw, images=IMAGES, defects=False)
    host = around.stack.enter_context(FakeFigshare())
    host.publish(BEHSOF_ARTICLE, {path.name: path.read_bytes() for path in raw.iterdir()})
    return Prepare("fetch and prepare", "behsof", ["--source-url", host.api], IMAGES)


SCENES: dict[str, Callable[[Setting], Scene]] = {"prepare": _chests, "fetch and prepare": _livers}


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

    def bench(self, name: str, library: Path, workers: int) -> Bench:
        """Rounds of one scene."""
        quiet = {"PREFECT_LOGGING_LEVEL": "CRITICAL"}
        variables = {**environment(self.folder / "prefect", self.prefect.site.url), **SECRET, **quiet}
        return Bench(SCENES[name](self), self.folder, library, variables, workers, self.prefect)


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
