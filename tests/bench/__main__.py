"""The command line of the benchmarks: write the inputs, run the turns, print the tables, write the JSON."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench import figures, raw_releases
from tests.bench.measure import adopt_orphans
from tests.bench.rows import Bench, Run, turns

PUBLISHED_ROWS = 112_120
_GIVEN = ("images", "side", "metadata_rows", "workers", "repeats")


@dataclass(frozen=True)
class Settings:
    """How large and how often."""

    images: int = 1000
    side: int = 1024
    metadata_rows: int = PUBLISHED_ROWS
    workers: tuple[int, ...] = (1, 2)
    repeats: int = 3
    has_first_start: bool = True
    """Whether one run that no row counts goes before all others."""


QUICK = Settings(images=80, side=256, metadata_rows=2000, workers=(1,), repeats=1, has_first_start=False)
"""Proof that the benchmarks run; its figures are all start-up and say nothing."""


def main() -> None:
    """Run the benchmarks."""
    arguments = _parser().parse_args()
    chosen = QUICK if arguments.quick else Settings()
    given = {name: getattr(arguments, name) for name in _GIVEN if getattr(arguments, name) is not None}
    settings = Settings(**{**asdict(chosen), **given})
    adopt_orphans()
    console = Console(width=None if sys.stdout.isatty() else 120)
    arguments.home.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=arguments.home))
    try:
        report = _measure(settings, arguments.home, scratch, arguments.prefect_api_url, console)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    console.print(figures.table(report))
    console.print(figures.stages_table(report))
    if report["first_start_seconds"] is not None:
        console.print(f"the very first prepare on a machine: {report['first_start_seconds']:.1f} s")
    console.print(f"written: {arguments.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="scanmill beside a bare loop")
    parser.add_argument("--images", type=int, help="X-rays to convert, 80 at least [1000]")
    parser.add_argument("--side", type=int, help="their width and height in pixels [1024]")
    parser.add_argument("--metadata-rows", type=int, help="rows of the metadata benchmark [112120]")
    parser.add_argument("--workers", type=_numbers, help="process counts, with commas [1,2]")
    parser.add_argument("--repeats", type=int, help="turns of every row [3]")
    parser.add_argument("--prefect-api-url", help="a running Prefect server; without it prepare starts its own")
    parser.add_argument("--quick", action="store_true", help="a smoke run; the figures mean nothing")
    parser.add_argument("--out", type=Path, default=Path("bench-results/bench.json"))
    parser.add_argument("--home", type=Path, default=Path("bench-results/inputs"), help="inputs, kept between runs")
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _measure(settings: Settings, home: Path, scratch: Path, server: str | None, console: Console) -> dict[str, Any]:
    about = figures.machine()
    console.print(f"writing inputs to {home}, unless they are there")
    raw = raw_releases.images(home, settings.images, settings.side)
    metadata = raw_releases.metadata(home, settings.metadata_rows)
    raw_bytes = raw_releases.warm_page_cache(raw)
    bench = Bench(raw.resolve(), settings.images, metadata.resolve(), settings.metadata_rows, scratch.resolve(), server)
    first = bench.first_start().wall_seconds if settings.has_first_start else None
    runs: list[Run] = []
    for run in turns(bench, settings.workers, settings.repeats):
        runs.append(run)
        console.print(f"  {run.row}, {run.workers or 'no'} workers: {run.wall_seconds:.2f} s")
    return figures.as_json(
        {**asdict(settings), "raw_bytes": raw_bytes, "has_own_prefect_server": server is None}, about, first, runs
    )


if __name__ == "__main__":
    main()
