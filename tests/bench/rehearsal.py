"""A dress rehearsal: the real command on a raw release with the published counts, or a share of it.

    python -m tests.bench.rehearsal --images 3364,11212 --workers 1,2 --home DIR

Shows what a run on the whole of NIH ChestX-ray14 will cost: whether the cost per image and the memory of each process
stay as they are while the release grows (3,364 and 11,212 images are 3 and 10 %). With ``--metadata`` the tables of all
112,120 films are checked instead, and no image is decoded.

Raw releases are kept in ``--home`` and used again; lakes are removed unless ``--keep`` is given.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console
from rich.table import Table

from tasks.demo_release import TABLE
from tests.bench import figures, raw_releases
from tests.bench.commands import DATASET, run_scanmill
from tests.bench.measure import Cost, ProcessPeak, adopt_orphans
from tests.bench.published_counts import ROWS, SIDE

_WARM_UP_IMAGES, _WARM_UP_SIDE = 500, 64
_CACHED_SHARE = 0.5
"""A release larger than this share of the memory is read from the disk, whatever was read before."""

_WORKER = "Dask worker"
# What gives a process away on its command line; the first that fits counts.
_ROLES = (
    ("prefect.server", "Prefect server"),
    ("uvicorn", "Prefect server"),
    ("resource_tracker", "resource tracker"),
    ("spawn_main", _WORKER),
    ("forkserver", _WORKER),  # what workers are forked from shows the same command line
    ("nanny", "Dask nanny"),
)


@dataclass(frozen=True)
class Rehearsal:
    """One ``prepare`` into an empty lake, and one ``verify`` of what it made."""

    images: int
    workers: int
    raw_bytes: int
    is_cache_warm: bool
    """Whether all of the raw release can have been in the page cache."""
    wall_seconds: float
    cpu_seconds: float
    """Of the whole process tree."""
    peak_rss_bytes: int
    """Of the whole process tree; pages that several processes share count once in each."""
    peak_rss_of_process: dict[str, int]
    """By role: the main command (Dask's scheduler and nannies live in it), Prefect's server, each Dask worker."""
    samples: int
    reasons: dict[str, int]
    """Refused members and rows by reason; empty if all is well."""
    verify_wall_seconds: float
    verify_cpu_seconds: float
    verify_peak_rss_bytes: int
    chunks_bytes: int
    release_bytes: int

    @property
    def images_per_second(self) -> float:
        """Start-up, gates, report and publication included."""
        return self.images / self.wall_seconds

    @property
    def cpu_ms_per_image(self) -> float:
        """Of the whole process tree."""
        return 1000 * self.cpu_seconds / self.images

    @property
    def source_mb_per_second(self) -> float:
        """Megabytes (10^6) of raw release."""
        return self.raw_bytes / self.wall_seconds / 1e6

    def as_json(self) -> dict[str, Any]:
        """All fields and the rates."""
        rates = ("images_per_second", "cpu_ms_per_image", "source_mb_per_second")
        return {**asdict(self), **{name: getattr(self, name) for name in rates}}


def main() -> None:
    """Rehearse, print the tables, write the JSON."""
    arguments = _parser().parse_args()
    adopt_orphans()
    arguments.home.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="rehearsal-", dir=arguments.home)).resolve()
    console = Console(width=None if sys.stdout.isatty() else 150)
    report: dict[str, Any] = {"machine": figures.machine()}
    try:
        if arguments.metadata:
            report["metadata"] = _check_metadata(arguments.home.resolve(), scratch)
            console.print(metadata_table(report["metadata"]))
        else:
            runs = []
            for run in _rehearse(arguments, scratch):
                runs.append(run)
                console.print(f"  {run.images:,} images, {run.workers} workers: {run.wall_seconds:.1f} s")
            report["runs"] = [run.as_json() for run in runs]
            report["growth"] = growth(runs)
            console.print(cost_table(runs))
            console.print(memory_table(runs))
            if report["growth"]:
                console.print(growth_table(report["growth"]))
    finally:
        if arguments.keep:
            console.print(f"kept: {scratch}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    _merge(arguments.out, report)
    console.print(f"written: {arguments.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.rehearsal", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=_numbers, default=(3364,), help=f"sizes, with commas, 60 to {ROWS} [3364]")
    parser.add_argument("--workers", type=_numbers, default=(1, 2), help="process counts, with commas [1,2]")
    parser.add_argument("--side", type=int, default=SIDE, help=f"width and height of the images in pixels [{SIDE}]")
    parser.add_argument("--home", type=Path, default=Path("bench-results/inputs"), help="raw releases and scratch")
    parser.add_argument("--raw", type=Path, help="a raw release that is there already, instead of --images")
    parser.add_argument("--keep", action="store_true", help="do not remove the lakes")
    parser.add_argument("--metadata", action="store_true", help=f"scanmill check of {ROWS:,} rows instead")
    parser.add_argument("--out", type=Path, default=Path("bench-results/rehearsal.json"))
    return parser


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(","))


def _rehearse(arguments: argparse.Namespace, scratch: Path) -> Iterator[Rehearsal]:
    home = arguments.home.resolve()
    _warm_up(home, scratch)
    if arguments.raw is not None:
        raws = [arguments.raw.resolve()]
    else:
        raws = [raw_releases.many_images(home, images, arguments.side) for images in arguments.images]
    for raw in raws:
        for workers in arguments.workers:
            lake = scratch / f"lake-{raw.name}-{workers}"
            yield rehearse(raw, lake, scratch, workers)
            if not arguments.keep:
                shutil.rmtree(lake)


def _warm_up(home: Path, scratch: Path) -> None:
    """One run that does not count: Prefect makes its database, Python its byte code."""
    raw = raw_releases.many_images(home, _WARM_UP_IMAGES, _WARM_UP_SIDE)
    lake = scratch / "warm-up"
    run_scanmill("prepare", DATASET, "--raw", str(raw), "--lake", str(lake), scratch=scratch)
    shutil.rmtree(lake)


def rehearse(raw: Path, lake: Path, scratch: Path, workers: int) -> Rehearsal:
    """One run of ``prepare`` and one of ``verify``, each a process of its own."""
    images = _rows(raw)
    raw_bytes = raw_releases.size_bytes(raw)
    is_cache_warm = raw_bytes < _CACHED_SHARE * psutil.virtual_memory().total
    if is_cache_warm:
        raw_releases.warm_page_cache(raw)
    place = ("--raw", str(raw), "--lake", str(lake))
    cost = run_scanmill("prepare", DATASET, *place, "--workers", str(workers), scratch=scratch)
    made = json.loads(cost.output)
    verified = run_scanmill("verify", str(lake / DATASET), scratch=scratch)
    return Rehearsal(
        images=images,
        workers=workers,
        raw_bytes=raw_bytes,
        is_cache_warm=is_cache_warm,
        wall_seconds=cost.wall_seconds,
        cpu_seconds=cost.cpu_seconds,
        peak_rss_bytes=cost.peak_rss_bytes,
        peak_rss_of_process=by_role(cost.processes),
        samples=sum(split["samples"] for split in made["splits"].values()),
        reasons=dict(made["accounting"]["reasons"]),
        verify_wall_seconds=verified.wall_seconds,
        verify_cpu_seconds=verified.cpu_seconds,
        verify_peak_rss_bytes=verified.peak_rss_bytes,
        chunks_bytes=raw_releases.size_bytes(lake / DATASET / "chunks"),
        release_bytes=raw_releases.size_bytes(Path(made["folder"])),
    )


def _rows(raw: Path) -> int:
    with (raw / TABLE).open("rb") as lines:
        return sum(1 for _ in lines) - 1


def by_role(processes: Sequence[ProcessPeak]) -> dict[str, int]:
    """Peak resident bytes by role; workers, and others that are there twice, are numbered as they appeared."""
    roles = ["main command", *(_role(process.command) for process in processes[1:])]
    seen: Counter[str] = Counter()
    found = {}
    for role, process in zip(roles, processes, strict=True):
        seen[role] += 1
        is_numbered = role == _WORKER or roles.count(role) > 1
        found[f"{role} {seen[role]}" if is_numbered else role] = process.peak_rss_bytes
    return found


def _role(command: Sequence[str]) -> str:
    line = " ".join(command)
    return next((role for sign, role in _ROLES if sign in line), line[:60] or "ended at once")


def _check_metadata(home: Path, scratch: Path) -> dict[str, Any]:
    """``scanmill check`` of the published number of rows, start-up included."""
    raw = raw_releases.metadata(home, ROWS)
    cost: Cost = run_scanmill("check", DATASET, "--raw", str(raw), scratch=scratch)
    found = json.loads(cost.output)
    return {
        "rows": found["rows"],
        "images": found["images"],
        "is_passed": found["ok"],
        "wall_seconds": cost.wall_seconds,
        "cpu_seconds": cost.cpu_seconds,
        "peak_rss_bytes": cost.peak_rss_bytes,
        "peak_rss_of_process": by_role(cost.processes),
    }


def _merge(out: Path, report: Mapping[str, Any]) -> None:
    """Write the report; what the other mode has written there stays."""
    out.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(out.read_text()) if out.exists() else {}
    out.write_text(json.dumps({**before, **report}, indent=1) + "\n")


def growth(runs: Sequence[Rehearsal]) -> list[dict[str, Any]]:
    """What each image more has cost, from one size to the next at the same workers: start-up falls out of it."""
    by_workers: dict[int, list[Rehearsal]] = {}
    for run in sorted(runs, key=lambda run: run.images):
        by_workers.setdefault(run.workers, []).append(run)
    return [
        {
            "workers": workers,
            "from_images": smaller.images,
            "to_images": larger.images,
            "wall_ms_per_image": 1000 * (larger.wall_seconds - smaller.wall_seconds) / (larger.images - smaller.images),
            "cpu_ms_per_image": 1000 * (larger.cpu_seconds - smaller.cpu_seconds) / (larger.images - smaller.images),
            "peak_rss_bytes": larger.peak_rss_bytes - smaller.peak_rss_bytes,
        }
        for workers, same in by_workers.items()
        for smaller, larger in pairwise(same)
        if larger.images > smaller.images
    ]


def growth_table(grown: Sequence[Mapping[str, Any]]) -> Table:
    """:func:`growth` for a terminal."""
    drawn = Table(title="What each further image costs, start-up left out")
    for name in ("workers", "from images", "to images", "wall ms each", "CPU ms each", "more MB at the peak"):
        drawn.add_column(name, justify="right")
    for row in grown:
        drawn.add_row(
            str(row["workers"]),
            f"{row['from_images']:,}",
            f"{row['to_images']:,}",
            f"{row['wall_ms_per_image']:.2f}",
            f"{row['cpu_ms_per_image']:.2f}",
            f"{row['peak_rss_bytes'] / 1e6:+,.0f}",
        )
    return drawn


def cost_table(runs: Sequence[Rehearsal]) -> Table:
    """What each run cost and left, for a terminal."""
    drawn = Table(
        title="scanmill prepare into an empty lake, then verify",
        caption="CPU is that of the whole process tree, start-up, gates and report included; MB and GB are decimal.",
    )
    names = ("images", "workers", "raw GB", "cache", "wall s", "images/s", "source MB/s", "CPU s", "CPU ms each")
    for name in (*names, "verify s", "chunks MB", "release MB", "refused"):
        drawn.add_column(name, justify="right")
    for run in runs:
        drawn.add_row(
            f"{run.images:,}",
            str(run.workers),
            f"{run.raw_bytes / 1e9:.2f}",
            "warm" if run.is_cache_warm else "cold",
            f"{run.wall_seconds:.1f}",
            f"{run.images_per_second:.0f}",
            f"{run.source_mb_per_second:.0f}",
            f"{run.cpu_seconds:.1f}",
            f"{run.cpu_ms_per_image:.2f}",
            f"{run.verify_wall_seconds:.1f}",
            f"{run.chunks_bytes / 1e6:,.0f}",
            f"{run.release_bytes / 1e6:,.0f}",
            str(sum(run.reasons.values())),
        )
    return drawn


def memory_table(runs: Sequence[Rehearsal]) -> Table:
    """The most memory that each process held, one column per run."""
    drawn = Table(
        title="Peak resident memory of each process, MB",
        caption="Sampled five times a second; pages that processes share count in each of them.",
    )
    drawn.add_column("process")
    for run in runs:
        drawn.add_column(f"{run.images:,} images\n{run.workers} workers", justify="right")
    for role in sorted({role for run in runs for role in run.peak_rss_of_process}):
        peaks = [run.peak_rss_of_process.get(role) for run in runs]
        drawn.add_row(role, *("" if peak is None else f"{peak / 1e6:,.0f}" for peak in peaks))
    drawn.add_row("all at once", *(f"{run.peak_rss_bytes / 1e6:,.0f}" for run in runs))
    drawn.add_row("verify", *(f"{run.verify_peak_rss_bytes / 1e6:,.0f}" for run in runs))
    return drawn


def metadata_table(found: Mapping[str, Any]) -> Table:
    """What the check of the tables cost."""
    drawn = Table(title="scanmill check, start-up included")
    for name in ("rows", "images", "wall s", "CPU s", "peak MB"):
        drawn.add_column(name, justify="right")
    drawn.add_row(
        f"{found['rows']:,}",
        f"{found['images']:,}",
        f"{found['wall_seconds']:.1f}",
        f"{found['cpu_seconds']:.1f}",
        f"{found['peak_rss_bytes'] / 1e6:,.0f}",
    )
    return drawn


if __name__ == "__main__":
    main()
