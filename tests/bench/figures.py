"""From runs to figures: medians, ratios within a turn, headlines, the JSON and the tables."""

from __future__ import annotations

import os
import platform
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import psutil
from rich.table import Table

from tasks.code_version import conversion_version
from tests.bench.contest import Run, cpu_of, wall_of

_LIBRARIES = (
    "opencv-python-headless",
    "kornia-rs",
    "pillow",
    "numpy",
    "pandas",
    "pyarrow",
    "dask",
    "prefect",
    "great_expectations",
)

Key = tuple[str, int, int | None, str]
"""Row, units, workers, contestant."""
Spread = dict[str, float]
"""Minimum, median and maximum."""


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
    """One mapping per row, size, number of workers and contestant, in the order in which they first ran."""
    by_key: dict[Key, list[Run]] = defaultdict(list)
    for run in sorted(runs, key=_place_in(runs)):
        by_key[_key(run)].append(run)
    at_turn = {(_key(run), run.turn): run for run in runs}
    return [_row(same, at_turn) for same in by_key.values()]


def _key(run: Run) -> Key:
    return run.row, run.units, run.workers, run.contestant


def _place_in(runs: Sequence[Run]) -> Callable[[Run], tuple[int, int, int, int]]:
    """Rows as they came, then size and workers, then contestants as they came."""
    rows = list(dict.fromkeys(run.row for run in runs))
    contestants = list(dict.fromkeys(run.contestant for run in runs))
    return lambda run: (rows.index(run.row), run.units, run.workers or 0, contestants.index(run.contestant))


def _row(same: Sequence[Run], at_turn: Mapping[tuple[Key, int], Run]) -> dict[str, Any]:
    first = same[0]
    wall, cpu = spread(run.wall_seconds for run in same), spread(run.cpu_seconds for run in same)
    row: dict[str, Any] = {
        "row": first.row,
        "contestant": first.contestant,
        "kind": first.kind,
        "workers": first.workers,
        "units": first.units,
        "repeats": len(same),
        "wall_seconds": wall,
        "cpu_seconds": cpu,
        "units_per_second": first.units / wall["median"],
        "cpu_ms_per_unit": 1000 * cpu["median"] / first.units,
        **{name: _most(getattr(run, name) for run in same) for name in _LARGEST},
        "images_out": first.images_out,
        "pixels": "differ" if any(run.pixels == "differ" for run in same) else first.pixels,
    }
    beside = [(run, at_turn.get(((*_key(run)[:3], run.ours), run.turn))) for run in same if run.ours]
    pairs = [(run, ours) for run, ours in beside if ours is not None]
    if pairs:
        row |= {"ours": first.ours, "times_as_fast": ratios(pairs)}
    if first.stages:
        row["stage_seconds"] = _stage_medians([run.stages for run in same])
        row["stage_cpu_seconds"] = _stage_medians([run.stages_cpu for run in same])
    return row


_LARGEST = ("peak_rss_bytes", "largest_rss_bytes", "out_bytes")


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def spread(values: Iterable[float]) -> Spread:
    """Minimum, median and maximum."""
    found = list(values)
    return {"min": min(found), "median": median(found), "max": max(found)}


def ratios(pairs: Sequence[tuple[Run, Run]]) -> dict[str, Spread]:
    """How many times as fast the second is as the first, turn by turn: by the clock, and by CPU time."""
    return {
        "wall": spread(other.wall_seconds / ours.wall_seconds for other, ours in pairs),
        "cpu": spread(other.cpu_seconds / ours.cpu_seconds for other, ours in pairs),
    }


def _stage_medians(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {stage: median(stages[stage] for stages in found) for stage in found[0]}


# Headlines


def headlines(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """What the targets speak of: the whole command beside the fastest peer of its turn, and two workers beside one."""
    by_turn: dict[tuple[str, int, int | None, int], list[Run]] = defaultdict(list)
    for run in runs:
        by_turn[run.row, run.units, run.workers, run.turn].append(run)
    return [*_fastest_peers(by_turn), *_more_workers(by_turn)]


def _fastest_peers(by_turn: Mapping[tuple[str, int, int | None, int], Sequence[Run]]) -> Iterator[dict[str, Any]]:
    groups: dict[tuple[str, int, int | None, str], list[tuple[dict[str, Run], Run]]] = defaultdict(list)
    for (row, units, workers, _), runs in by_turn.items():
        names = {run.contestant: run for run in runs}
        classes: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            if run.kind == "peer" and run.ours in names:
                marks = [mark for mark in (" (our kernel)", ", work only") if mark in run.contestant]
                classes["".join(["fastest peer", *marks])].append(run)
        for against, some in classes.items():
            best = {"wall": min(some, key=wall_of), "cpu": min(some, key=cpu_of)}
            groups[row, units, workers, against].append((best, names[some[0].ours]))
    for (row, units, workers, against), found in groups.items():
        yield {
            "row": row,
            "units": units,
            "workers": workers,
            "against": against,
            "who": sorted(
                {best["cpu"].contestant for best, _ in found} | {best["wall"].contestant for best, _ in found}
            ),
            "wall": spread(best["wall"].wall_seconds / ours.wall_seconds for best, ours in found),
            "cpu": spread(best["cpu"].cpu_seconds / ours.cpu_seconds for best, ours in found),
        }


def _more_workers(by_turn: Mapping[tuple[str, int, int | None, int], Sequence[Run]]) -> Iterator[dict[str, Any]]:
    """Of scanmill's own runs: how many times as fast with more processes as with one."""
    groups: dict[tuple[str, int, int, str], list[tuple[Run, Run]]] = defaultdict(list)
    for (row, units, workers, turn), runs in by_turn.items():
        alone = {run.contestant: run for run in by_turn.get((row, units, 1, turn), ())}
        if workers is not None and workers > 1:
            for run in runs:
                if run.kind != "peer" and run.contestant in alone:
                    groups[row, units, workers, run.contestant].append((alone[run.contestant], run))
    for (row, units, workers, contestant), pairs in groups.items():
        yield {
            "row": row,
            "units": units,
            "workers": workers,
            "against": "1 worker",
            "who": [contestant],
            **ratios(pairs),
        }


def growth(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What each image more has cost, from the smallest size to the largest: start-up falls out of it."""
    by_contestant: dict[tuple[str, int | None, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        by_contestant[row["row"], row["workers"], row["contestant"]].append(row)
    found = []
    for (name, workers, contestant), same in by_contestant.items():
        small, large = same[0], same[-1]
        more = large["units"] - small["units"]
        if more > 0:
            seconds = {
                kind: large[f"{kind}_seconds"]["median"] - small[f"{kind}_seconds"]["median"]
                for kind in ("wall", "cpu")
            }
            found.append(
                {
                    "row": name,
                    "workers": workers,
                    "contestant": contestant,
                    "from_units": small["units"],
                    "to_units": large["units"],
                    **{f"{kind}_ms_per_unit": 1000 * spent / more for kind, spent in seconds.items()},
                    "cpu_seconds_of_start": small["cpu_seconds"]["median"] - seconds["cpu"] / more * small["units"],
                }
            )
    return found


# Tables


def tables(report: Mapping[str, Any]) -> Iterator[Table]:
    """For a terminal: one per row of the benchmark, then headlines and stages."""
    for name in dict.fromkeys(row["row"] for row in report["rows"]):
        yield _table(name, [row for row in report["rows"] if row["row"] == name])
    if report["headlines"]:
        yield _headlines_table(report["headlines"])
    if report["growth"]:
        yield _growth_table(report["growth"])
    if any("stage_seconds" in row for row in report["rows"]):
        yield _stages_table([row for row in report["rows"] if "stage_seconds" in row])


def _table(name: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    drawn = Table(
        title=name,
        caption="x: how many times as fast scanmill is, least – median – most. MB: all processes, the largest.",
    )
    for column in ("", "units", "workers", "wall s", "CPU s", "CPU ms each", "x wall", "x CPU", "MB", "out MB", ""):
        drawn.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for row in rows:
        drawn.add_row(*_cells(row))
    return drawn


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    beside = row.get("times_as_fast", {})
    memory = [f"{row[name] / 1e6:,.0f}" for name in ("peak_rss_bytes", "largest_rss_bytes") if row[name]]
    lost = row["images_out"] is not None and row["images_out"] != row["units"]
    remarks = [f"{row['images_out']:,} out"] if lost else []
    remarks += ["other pixels"] if row["pixels"] == "differ" else []
    return (
        row["contestant"],
        f"{row['units']:,}",
        str(row["workers"] or ""),
        f"{row['wall_seconds']['median']:.2f}",
        f"{row['cpu_seconds']['median']:.2f}",
        f"{row['cpu_ms_per_unit']:.2f}",
        _dashed(beside["wall"]) if beside else "",
        _dashed(beside["cpu"]) if beside else "",
        " · ".join(memory),
        f"{row['out_bytes'] / 1e6:,.0f}" if row["out_bytes"] else "",
        ", ".join(remarks),
    )


def _dashed(found: Spread) -> str:
    return "–".join(f"{found[name]:.2f}" for name in ("min", "median", "max"))


def _headlines_table(found: Sequence[Mapping[str, Any]]) -> Table:
    drawn = Table(title="how many times as fast, least – median – most of the turns")
    for column in ("row", "units", "workers", "than", "wall", "CPU", "which"):
        drawn.add_column(column, justify="right" if column in ("units", "workers") else "left", no_wrap=True)
    for one in found:
        units, workers = f"{one['units']:,}", str(one["workers"] or "")
        ratio = (_dashed(one["wall"]), _dashed(one["cpu"]))
        drawn.add_row(one["row"], units, workers, one["against"], *ratio, ", ".join(one["who"]))
    return drawn


def _growth_table(found: Sequence[Mapping[str, Any]]) -> Table:
    drawn = Table(title="what each image more costs, and what is left for starting (a straight line through medians)")
    for column in ("row", "", "workers", "from", "to", "wall ms", "CPU ms", "start, CPU s"):
        drawn.add_column(column, justify="left" if column in ("row", "") else "right", no_wrap=True)
    for one in found:
        sizes = (f"{one['from_units']:,}", f"{one['to_units']:,}")
        costs = (
            f"{one['wall_ms_per_unit']:.2f}",
            f"{one['cpu_ms_per_unit']:.2f}",
            f"{one['cpu_seconds_of_start']:.1f}",
        )
        drawn.add_row(one["row"], one["contestant"], str(one["workers"] or ""), *sizes, *costs)
    return drawn


def _stages_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Where the time of ``prepare`` goes, stage by stage, without start-up."""
    drawn = Table(title="scanmill's stages in process: wall s (CPU s)")
    stages = list(dict.fromkeys(stage for row in rows for stage in row["stage_seconds"]))
    for column in ("", *stages):
        drawn.add_column(column, justify="right" if column else "left")
    for row in rows:
        wall, cpu = row["stage_seconds"], row["stage_cpu_seconds"]
        cells = [f"{wall[stage]:.2f} ({cpu[stage]:.2f})" if stage in wall else "" for stage in stages]
        drawn.add_row(f"{row['row']} {row['units']:,}, {row['workers'] or 'no'} workers", *cells)
    return drawn


def as_json(
    settings: Mapping[str, Any],
    about: Mapping[str, Any],
    peers: Sequence[Mapping[str, Any]],
    first: float | None,
    runs: Sequence[Run],
) -> dict[str, Any]:
    """Everything, single runs included."""
    rows = summarise(runs)
    return {
        "settings": dict(settings),
        "machine": dict(about),
        "peers": list(peers),
        "first_start_seconds": first,
        "headlines": headlines(runs),
        "growth": growth(rows),
        "rows": rows,
        "runs": [asdict(run) for run in runs],
    }
