"""The rows: what is run, in which order, and what is compared with what.

* ``floor``: :mod:`tests.bench.floor` as a command, processes and imports included;
* ``prepare``: ``scanmill prepare``, everything on: Python, Prefect's embedded server, both gates, report, publication;
* ``floor, work only`` and ``convert + assemble``: the same work with processes started and imports done, on both sides;
* ``rerun``: ``scanmill prepare`` again, nothing changed;
* ``verify``: ``scanmill verify`` of the release, which reads every byte of it;
* ``check``: ``scanmill check`` of the metadata of a release as large as the published one, start-up included.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from tests.bench.commands import DATASET, environment, run_scanmill
from tests.bench.floor import image_digest
from tests.bench.measure import Cost, run


@dataclass(frozen=True)
class Run:
    """One row in one turn."""

    row: str
    workers: int | None
    units: int
    """Images, or metadata rows."""
    wall_seconds: float
    cpu_seconds: float
    peak_rss_bytes: int | None
    floor: str | None = None
    """The row that this one is compared with, in the same turn."""
    stages: dict[str, float] = field(default_factory=dict)
    """Wall seconds of each stage, where they were timed one by one."""
    stages_cpu: dict[str, float] = field(default_factory=dict)


class OutputsDiffer(Exception):
    """Floor and scanmill did not write the same images, so comparing their times would mean nothing."""


@dataclass(frozen=True)
class Bench:
    """Where the inputs lie and where outputs may go."""

    raw: Path
    images: int
    metadata_raw: Path
    metadata_rows: int
    scratch: Path
    prefect_api_url: str | None = None
    """A server that is running already; None lets every ``prepare`` start its embedded one."""

    def first_start(self) -> Cost:
        """One run that no row counts: Prefect makes its database, Python its byte code."""
        cost = self._scanmill("prepare", DATASET, "--raw", str(self.raw), "--lake", str(self.scratch / "first"))
        shutil.rmtree(self.scratch / "first")
        return cost

    def turn(self, workers: int, *, is_floor_first: bool) -> list[Run]:
        """Every row of conversion once; outputs are removed afterwards."""
        sides = [self._floor, self._scanmill_rows, self._stages]
        runs, digests = [], set()
        for side in sides if is_floor_first else sides[::-1]:
            found, images = side(workers)
            runs += found
            digests.add(images)
            shutil.rmtree(self.scratch / "out")
        if len(digests) != 1:
            raise OutputsDiffer(f"floor and scanmill wrote different images at {workers} workers: {digests}")
        return runs

    def check(self) -> Run:
        """The metadata row."""
        cost = self._scanmill("check", DATASET, "--raw", str(self.metadata_raw))
        found = json.loads(cost.output)
        if found["rows"] < self.metadata_rows or found["images"] != self.metadata_rows:
            raise OutputsDiffer(f"check saw {found['rows']} rows and {found['images']} images of {self.metadata_rows}")
        return Run("check", None, self.metadata_rows, cost.wall_seconds, cost.cpu_seconds, cost.peak_rss_bytes)

    def _floor(self, workers: int) -> tuple[list[Run], str]:
        where = ("--raw", str(self.raw), "--out", str(self.scratch / "out"), "--workers", str(workers))
        cost = self._run((sys.executable, "-m", "tests.bench.floor", *where))
        found = json.loads(cost.output)
        whole = Run("floor", workers, self.images, cost.wall_seconds, cost.cpu_seconds, cost.peak_rss_bytes)
        return [whole, Run("floor, work only", workers, self.images, **found["work"], peak_rss_bytes=None)], str(
            found["image_digest"]
        )

    def _scanmill_rows(self, workers: int) -> tuple[list[Run], str]:
        lake = self.scratch / "out"
        place = (DATASET, "--raw", str(self.raw), "--lake", str(lake), "--workers", str(workers))
        runs = []
        for row, is_new in (("prepare", True), ("rerun", False)):
            cost = self._scanmill("prepare", *place)
            if json.loads(cost.output)["is_new"] is not is_new:
                raise OutputsDiffer(f"{row} should {'make' if is_new else 'find'} a release: {cost.output[:500]}")
            floor = "floor" if is_new else None
            runs.append(self._row(row, workers, cost, floor))
        runs.append(self._row("verify", workers, self._scanmill("verify", str(lake / DATASET))))
        return runs, _lake_images(lake)

    def _stages(self, workers: int) -> tuple[list[Run], str]:
        lake = self.scratch / "out"
        where = ("--raw", str(self.raw), "--lake", str(lake), "--workers", str(workers))
        found = json.loads(self._run((sys.executable, "-m", "tests.bench.stages", *where)).output)
        work = Run(
            "convert + assemble",
            workers,
            self.images,
            **found["work"],
            peak_rss_bytes=None,
            floor="floor, work only",
            stages=found["stages"],
            stages_cpu=found["stages_cpu"],
        )
        return [work], _lake_images(lake)

    def _row(self, row: str, workers: int, cost: Cost, floor: str | None = None) -> Run:
        return Run(row, workers, self.images, cost.wall_seconds, cost.cpu_seconds, cost.peak_rss_bytes, floor)

    def _scanmill(self, *arguments: str) -> Cost:
        return run_scanmill(*arguments, scratch=self.scratch, prefect_api_url=self.prefect_api_url)

    def _run(self, command: tuple[str, ...]) -> Cost:
        return run(
            command, environment=environment(self.scratch, self.prefect_api_url), log=self.scratch / "stderr.txt"
        )


def turns(bench: Bench, workers: tuple[int, ...], repeats: int) -> Iterator[Run]:
    """All runs, repeat by repeat; who goes first alternates, so that no side always has the cooler processor."""
    for repeat in range(repeats):
        for count in workers:
            yield from bench.turn(count, is_floor_first=repeat % 2 == 0)
        yield bench.check()


def _lake_images(lake: Path) -> str:
    (samples,) = lake.glob(f"{DATASET}/releases/*/samples.parquet")
    hashes: list[Any] = pd.read_parquet(samples, columns=["image_sha256"])["image_sha256"].to_list()
    return image_digest(hashes)
