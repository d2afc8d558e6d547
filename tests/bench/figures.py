"""From runs to figures: medians, ratios to the floor within a turn, the JSON and the table."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import psutil
from rich.table import Table

from tasks.code_version import conversion_version
from tests.bench.rows import Run

_LIBRARIES = ("opencv-python-headless", "pillow", "numpy", "pandas", "pyarrow", "dask", "prefect", "great_expectations")

Key = tuple[str, int | None]


def machine() -> dict[str, Any]:
    """What the figures depend on beside the code."""
    zlib_lines = [line.strip() for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("ZLib")]
    return {
        "cores": os.cpu_count(),
        "usable_cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "opencv_zlib": zlib_lines[0] if zlib_lines else "",
        "conversion_code": conversion_version(),
        "load_before": os.getloadavg()[0],
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def summarise(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """One mapping per row and number of workers, in the order in which they first ran."""
    by_key: dict[Key, list[Run]] = defaultdict(list)
    for run in runs:
        by_key[run.row, run.workers].append(run)
    return [_row(same, by_key) for _, same in sorted(by_key.items(), key=_order)]


def _order(item: tuple[Key, list[Run]]) -> tuple[int, int]:
    rows = ("floor", "prepare", "floor, work only", "convert + assemble", "rerun", "verify", "check")
    (row, workers), _ = item
    return rows.index(row), workers or 0


def _row(same: Sequence[Run], by_key: Mapping[Key, Sequence[Run]]) -> dict[str, Any]:
    walls = [run.wall_seconds for run in same]
    cpu = median(run.cpu_seconds for run in same)
    memory = [run.peak_rss_bytes for run in same if run.peak_rss_bytes is not None]
    first = same[0]
    row = {
        "row": first.row,
        "workers": first.workers,
        "units": first.units,
        "repeats": len(same),
        "wall_seconds": {"median": median(walls), "min": min(walls), "max": max(walls)},
        "cpu_seconds": cpu,
        "peak_rss_bytes": max(memory) if memory else None,
        "units_per_second": first.units / median(walls),
        "cpu_ms_per_unit": 1000 * cpu / first.units,
    }
    if first.floor is not None:
        row |= _ratios(same, by_key[first.floor, first.workers])
    if first.stages:
        row["stage_seconds"] = _stage_medians([run.stages for run in same])
        row["stage_cpu_seconds"] = _stage_medians([run.stages_cpu for run in same])
    return row


def _ratios(ours: Sequence[Run], floors: Sequence[Run]) -> dict[str, float]:
    """Share of the floor's speed, 1.0 being as fast: the median over turns of floor time / our time."""
    turns = list(zip(ours, floors, strict=True))
    return {
        "speed_of_floor": median(floor.wall_seconds / our.wall_seconds for our, floor in turns),
        "cpu_speed_of_floor": median(floor.cpu_seconds / our.cpu_seconds for our, floor in turns),
    }


def _stage_medians(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {stage: median(stages[stage] for stages in found) for stage in found[0]}


def table(report: Mapping[str, Any]) -> Table:
    """The rows for a terminal."""
    about = report["machine"]
    settings = report["settings"]
    drawn = Table(
        title=f"{settings['images']:,} grey PNGs of {settings['side']} px to 224 px, {settings['repeats']} repeats, "
        f"{about['usable_cores']} cores, warm page cache",
        caption="Speed of floor: 1.00 is as fast as the bare loop in the same turn; wall, and per CPU second.",
    )
    for name in ("", "workers", "wall s", "min–max", "CPU s", "peak MB", "per s", "CPU ms each", "speed of floor"):
        drawn.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for row in report["rows"]:
        drawn.add_row(*_cells(row))
    return drawn


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    wall = row["wall_seconds"]
    memory = row["peak_rss_bytes"]
    ratio = f"{row['speed_of_floor']:.2f} · {row['cpu_speed_of_floor']:.2f}" if "speed_of_floor" in row else ""
    return (
        row["row"] if row["row"] != "check" else f"check {row['units']:,} rows",
        str(row["workers"] or ""),
        f"{wall['median']:.2f}",
        f"{wall['min']:.2f}–{wall['max']:.2f}",
        f"{row['cpu_seconds']:.2f}",
        f"{memory / 1e6:,.0f}" if memory else "",
        f"{row['units_per_second']:,.0f}",
        f"{row['cpu_ms_per_unit']:.2f}",
        ratio,
    )


def stages_table(report: Mapping[str, Any]) -> Table:
    """Where the time of ``prepare`` goes, stage by stage, without start-up."""
    rows = [row for row in report["rows"] if "stage_seconds" in row]
    drawn = Table(title="scanmill's stages in process: wall s (CPU s)")
    drawn.add_column("stage")
    for row in rows:
        drawn.add_column(f"{row['workers']} workers", justify="right")
    for stage in rows[0]["stage_seconds"]:
        drawn.add_row(stage, *(f"{r['stage_seconds'][stage]:.2f} ({r['stage_cpu_seconds'][stage]:.2f})" for r in rows))
    return drawn


def as_json(
    settings: Mapping[str, Any], about: Mapping[str, Any], first: float | None, runs: Sequence[Run]
) -> dict[str, Any]:
    """Everything, single runs included."""
    return {
        "settings": dict(settings),
        "machine": dict(about),
        "first_start_seconds": first,
        "rows": summarise(runs),
        "runs": [asdict(run) for run in runs],
    }
