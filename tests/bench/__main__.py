"""The command line of the benchmarks: write the inputs, run the turns, print the tables, write JSON and a picture."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench import figures, plot, rows
from tests.bench.contest import Bench, Run, Settings, find_peers
from tests.bench.measure import adopt_orphans

QUICK = Settings(
    images=(80,),
    side=64,
    small_images=(120,),
    metadata_rows=500,
    loader_images=64,
    workers=(1,),
    repeats=1,
    has_first_start=False,
)
"""Proof that the benchmarks run; its figures are all start-up and say nothing."""
_GIVEN = (
    *("rows", "images", "side", "small_images", "metadata_rows", "rerun_images", "loader_images", "workers", "repeats"),
    *("contestants", "without", "mammography", "has_slow_peers_once"),
)


def main() -> None:
    """Run the benchmarks."""
    arguments = _parser().parse_args()
    given = {name: getattr(arguments, name) for name in _GIVEN if getattr(arguments, name) is not None}
    settings = replace(QUICK if arguments.quick else Settings(), **given)
    if wrong := rows.unknown(settings.rows):
        raise SystemExit(wrong)
    adopt_orphans()
    console = Console(width=None if sys.stdout.isatty() else 150)
    arguments.home.mkdir(parents=True, exist_ok=True)
    home = arguments.home.resolve()
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=home))
    try:
        bench = Bench(settings, home, scratch, find_peers(arguments.peers or ()), arguments.prefect_api_url)
        report = _measure(bench, console, arguments.out)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for table in figures.tables(report):
        console.print(table)
    console.print(f"written: {arguments.out} and {arguments.out.with_suffix('.png')}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="scanmill beside a bare loop and beside other tools",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=rows.describe(),
    )
    parser.add_argument("--rows", type=_words, help="some of the rows below, with commas [all]")
    parser.add_argument("--peers", action="append", metavar="PYTHON", help="with other tools; may be given repeatedly")
    parser.add_argument(
        "--contestants", type=_words, help="patterns of names, with commas, as the tables have them [*]"
    )
    parser.add_argument("--without", type=_words, help="the same, of those to leave out")
    parser.add_argument(
        "--slow-peers-once",
        dest="has_slow_peers_once",
        action="store_true",
        default=None,
        help="after the first turn only the fastest peer by the clock and by CPU time, with each kernel",
    )
    parser.add_argument("--images", type=_numbers, help="sizes of NIH-shaped releases, with commas [1121]")
    parser.add_argument("--side", type=int, help="width and height of their images in pixels [1024]")
    parser.add_argument("--small-images", type=_numbers, help="the same of other datasets, 120 at least [600]")
    parser.add_argument("--mammography", metavar="ZIP", help="the real dataset instead of a made-up one")
    parser.add_argument("--metadata-rows", type=int, help="of the rows metadata and report [112120]")
    parser.add_argument("--rerun-images", type=int, help="of 32 px, for the row rerun [those of --images]")
    parser.add_argument("--loader-images", type=int, help="of the row loader [4000]")
    parser.add_argument("--workers", type=_numbers, help="process counts, with commas [1,2]")
    parser.add_argument("--repeats", type=int, help="turns of every row [3]")
    parser.add_argument("--prefect-api-url", help="a running Prefect server; without it prepare starts its own")
    parser.add_argument("--quick", action="store_true", help="a smoke run; the figures mean nothing")
    parser.add_argument("--out", type=Path, default=Path("bench-results/bench.json"))
    parser.add_argument("--home", type=Path, default=Path("bench-results/inputs"), help="inputs, kept between runs")
    return parser


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _measure(bench: Bench, console: Console, out: Path) -> dict[str, Any]:
    """Run everything; the figures are written after every run, so that a long benchmark may be interrupted."""
    about = figures.machine()
    for peer in bench.peers:
        console.print(f"peer: {peer.name}: {', '.join(f'{name} {text}' for name, text in peer.packages.items())}")
    console.print(f"inputs that are not in {bench.home} yet are written first; that is not measured")
    first = rows.first_start(bench) if bench.settings.has_first_start else None
    settings = {**asdict(bench.settings), "has_own_prefect_server": bench.prefect_api_url is None}
    peers = [asdict(peer) for peer in bench.peers]
    out.parent.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    report: dict[str, Any] = {}
    for run in rows.turns(bench):
        runs.append(run)
        by = f", {run.workers} workers" if run.workers else ""
        remark = " OTHER PIXELS" if run.pixels == "differ" else ""
        console.print(
            f"  {run.turn + 1} {run.row} {run.units:,}{by}: {run.contestant}: {run.wall_seconds:.2f} s, "
            f"CPU {run.cpu_seconds:.2f} s{remark}"
        )
        report = figures.as_json(settings, about, peers, first, runs)
        out.write_text(json.dumps(report, indent=1) + "\n")
    plot.draw(report, out.with_suffix(".png"))
    return report


if __name__ == "__main__":
    main()
