"""One run of one contestant, and what all runs of a benchmark share: sizes, folders, who takes part."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from tasks.waves import MALLOC
from tests.bench.commands import environment, run_scanmill
from tests.bench.conversion_peers import TOOLS
from tests.bench.measure import Cost, run

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED_ROWS = 112_120
PEER_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "LITDATA_DISABLE_VERSION_CHECK": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}
"""Nobody looks for news on the network; threads are held to one for all contestants alike."""
Kind = Literal["ours", "floor", "peer"]
Verdict = Literal["", "same", "differ"]
Pixels = dict[str, str]
"""Digest of what a sampled image shows, by its key."""


@dataclass(frozen=True)
class Settings:
    """How large, how often, and which part."""

    rows: tuple[str, ...] = ()
    images: tuple[int, ...] = (1121,)
    """Of the rows that read NIH-shaped releases."""
    side: int = 1024
    small_images: tuple[int, ...] = (600,)
    """Of the rows that read other datasets."""
    metadata_rows: int = PUBLISHED_ROWS
    rerun_images: int | None = None
    """Of few pixels; None: the rerun is of the release that ``images`` makes."""
    loader_images: int = 4000
    workers: tuple[int, ...] = (1, 2)
    repeats: int = 3
    has_first_start: bool = True
    """Whether one run that no row counts goes before all others."""
    contestants: tuple[str, ...] = ("*",)
    """Patterns of names; scanmill and the floor always have to be named too."""
    without: tuple[str, ...] = ()
    mammography: str | None = None
    """A zip of the real dataset."""
    has_slow_peers_once: bool = False
    """Whether a peer that was not the fastest of its kind in the first turn, by no clock, sits the others out."""


@dataclass(frozen=True)
class Run:
    """One contestant in one turn."""

    row: str
    contestant: str
    kind: Kind
    workers: int | None
    units: int
    """Images, or rows of a table."""
    turn: int
    wall_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int | None = None
    """Of all its processes together; pages that several share count once in each."""
    largest_rss_bytes: int | None = None
    """Of its largest process."""
    ours: str = ""
    """The contestant of scanmill's that this one is held against, in the same turn."""
    images_out: int | None = None
    pixels: Verdict = ""
    """Whether the sampled images have the pixels that the first contestant wrote."""
    out_bytes: int | None = None
    stages: dict[str, float] = field(default_factory=dict)
    """Wall seconds of each stage, where they were timed one by one."""
    stages_cpu: dict[str, float] = field(default_factory=dict)


def wall_of(run: Run) -> float:
    """Seconds by the clock."""
    return run.wall_seconds


def cpu_of(run: Run) -> float:
    """Seconds of all its processes."""
    return run.cpu_seconds


class OutputsDiffer(Exception):
    """Floor and scanmill did not do the same work, so comparing their times would mean nothing."""


@dataclass(frozen=True)
class Turn:
    """Which one of all."""

    number: int
    images: int
    workers: int


@dataclass(frozen=True)
class Peer:
    """A tool of somebody else's, with one of the kernels, and the Python that can import it."""

    tool: str
    kernel: str
    python: str
    packages: Mapping[str, str]

    @property
    def reads_files_alone(self) -> bool:
        """Whether the members of a zip have to be unpacked for it."""
        return TOOLS[self.tool].has_own_kernel

    @property
    def name(self) -> str:
        """As it stands in tables."""
        return self.tool if self.kernel == "cv2" else f"{self.tool} (our kernel)"


@dataclass(frozen=True)
class Bench:
    """Where the inputs lie, where outputs may go, and who takes part."""

    settings: Settings
    home: Path
    scratch: Path
    peers: tuple[Peer, ...] = ()
    prefect_api_url: str | None = None
    """A server that is running already; None lets every ``prepare`` start its embedded one."""
    pixels: dict[tuple[str, int], Pixels] = field(default_factory=dict)
    """By row and images, what the first contestant wrote."""
    slower: dict[tuple[str, int, int], set[str]] = field(default_factory=dict)
    """By row, images and workers, the peers that sit out."""

    @property
    def out(self) -> Path:
        """Where one contestant writes; emptied after each."""
        return self.scratch / "out"

    def kept(self, raw: Path) -> Path:
        """A lake that holds the release of ``raw``, for rows that only look at it."""
        return self.scratch / f"kept-{raw.name}"

    def keep(self, raw: Path) -> None:
        """Keep what was just prepared, unless there is such a lake already."""
        if not self.kept(raw).exists():
            self.out.rename(self.kept(raw))

    def takes_part(self, contestant: str) -> bool:
        """Whether it was asked for."""
        wanted = any(fnmatch(contestant, pattern) for pattern in self.settings.contestants)
        return wanted and not any(fnmatch(contestant, pattern) for pattern in self.settings.without)

    def scanmill(self, *arguments: str, secrets: Mapping[str, str] | None = None) -> Cost:
        """The command, as a user runs it."""
        return run_scanmill(
            *arguments, scratch=self.scratch, prefect_api_url=self.prefect_api_url, secrets=secrets or {}
        )

    def module(self, name: str, *arguments: str, secrets: Mapping[str, str] | None = None) -> Cost:
        """One of ours, in a process of its own."""
        return self._command((sys.executable, "-m", name, *arguments), secrets or {})

    def loop(self, *arguments: str) -> Cost:
        """A floor, with the memory settings that scanmill's workers have: page faults are not what is compared."""
        return self._command((sys.executable, "-m", "tests.bench.floor", *arguments), MALLOC)

    def peer(self, python: str, *arguments: str) -> Cost:
        """A tool in its own environment, with the same settings."""
        own = {"HF_HOME": self.scratch / "hf", "DATA_OPTIMIZER_CACHE_FOLDER": self.scratch / "litdata"}
        command = (python, "-m", "tests.bench.conversion_peers", *arguments)
        return self._command(command, {**MALLOC, **PEER_ENVIRONMENT, **own})

    def empty(self) -> None:
        """Remove what a contestant wrote."""
        shutil.rmtree(self.out, ignore_errors=True)

    def _command(self, command: Sequence[str], own: Mapping[str, object]) -> Cost:
        inherited = environment(self.scratch, self.prefect_api_url)
        inherited |= {"PYTHONPATH": str(ROOT)} | {name: str(value) for name, value in own.items()}
        return run(command, environment=inherited, log=self.scratch / "stderr.txt")


def answer(cost: Cost) -> dict[str, Any]:
    """The JSON in the last line of what a command printed."""
    last = cost.output.strip().rpartition("\n")[2]
    found: dict[str, Any] = json.loads(last.removeprefix("RESULT "))
    return found


def find_peers(pythons: Sequence[str]) -> tuple[Peer, ...]:
    """Every tool once with its documentation's kernel and, where ours can be put in, once with ours.

    Of several environments that have a tool, the first.
    """
    found: dict[tuple[str, str], Peer] = {}
    for python in pythons:
        command = [python, "-m", "tests.bench.conversion_peers", "versions"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"--peers {python}: it needs opencv-python-headless and numpy\n{done.stderr[-500:]}")
        tools = json.loads(done.stdout.strip().rpartition("\n")[2].removeprefix("RESULT "))
        for tool, packages in tools.items():
            is_ours_possible = not TOOLS[tool].has_own_kernel and packages["kornia_rs"] != "none"
            kernels = ["cv2", "fastest"] if is_ours_possible else ["cv2"]
            for kernel in kernels:
                found.setdefault((tool, kernel), Peer(tool, kernel, python, packages))
    return tuple(sorted(found.values(), key=lambda peer: (peer.kernel, peer.tool)))
