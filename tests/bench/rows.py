"""The rows of the benchmark: what each compares. ``python -m tests.bench --rows NAME,NAME`` chooses among them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from tests.bench import conversions, loader, raw_releases
from tests.bench.commands import DATASET
from tests.bench.contest import Bench, OutputsDiffer, Run, Settings, Turn, answer
from tests.bench.conversions import run_of, turn_of, work_of

RERUN_SIDE = 32
"""Pixels, the least that the dataset takes: a rerun looks at none of them."""
Scale = Literal["images", "small images", "workers"]


@dataclass(frozen=True)
class Row:
    """One comparison."""

    what: str
    run: Callable[[Bench, Turn], Iterator[Run]]
    scales: tuple[Scale, ...] = ()
    """What it is repeated for: each size, each number of workers."""


def turns(bench: Bench) -> Iterator[Run]:
    """All runs, repeat by repeat; within a repeat row by row, so that contestants of one row run near each other."""
    settings = bench.settings
    for repeat in range(settings.repeats):
        for name in settings.rows or tuple(ROWS):
            row = ROWS[name]
            for images in _sizes(row, settings):
                for workers in settings.workers if "workers" in row.scales else settings.workers[-1:]:
                    yield from row.run(bench, Turn(repeat, images, workers))


def _sizes(row: Row, settings: Settings) -> tuple[int, ...]:
    if "small images" in row.scales:
        return settings.small_images
    return settings.images if "images" in row.scales else settings.images[-1:]


def first_start(bench: Bench) -> float:
    """Seconds of one run that no row counts: Prefect makes its database, Python its byte code."""
    raw = raw_releases.many_images(bench.home, 120, 64)
    cost = bench.scanmill("prepare", DATASET, "--raw", str(raw), "--lake", str(bench.out))
    bench.empty()
    return cost.wall_seconds


def _films(form: str, row: str, bench: Bench, turn: Turn) -> Iterator[Run]:
    return turn_of(bench, conversions.films(bench, turn, row, form), turn)


def _jpeg_input(bench: Bench, turn: Turn) -> Iterator[Run]:
    return turn_of(bench, conversions.jpeg_films(bench, turn, "jpeg-input"), turn)


def _mammography(bench: Bench, turn: Turn) -> Iterator[Run]:
    if bench.settings.mammography and turn.images != bench.settings.small_images[0]:
        return iter(())  # the real dataset has one size
    return turn_of(bench, conversions.mammograms(bench, turn, "mammography"), turn)


def _ultrasound(bench: Bench, turn: Turn) -> Iterator[Run]:
    return turn_of(bench, conversions.ultrasound(bench, turn, "ultrasound"), turn)


def _kept(bench: Bench, images: int, side: int, workers: int) -> tuple[Path, Path]:
    """Raw release, and a lake in which its release is made already; for the rows that only look at it."""
    raw = raw_releases.many_images(bench.home, images, side)
    lake = bench.kept(raw)
    if not lake.exists():
        bench.scanmill("prepare", DATASET, "--raw", str(raw), "--lake", str(lake), "--workers", str(workers))
    return raw, lake


def _rerun(bench: Bench, turn: Turn) -> Iterator[Run]:
    settings = bench.settings
    is_own = settings.rerun_images is not None
    images, side = (settings.rerun_images or 0, RERUN_SIDE) if is_own else (turn.images, settings.side)
    raw, lake = _kept(bench, images, side, turn.workers)
    cost = bench.scanmill("prepare", DATASET, "--raw", str(raw), "--lake", str(lake))
    if json.loads(cost.output)["is_new"]:
        raise OutputsDiffer("rerun should find the release, but made one")
    yield run_of("rerun", "rerun", "ours", cost, turn, images, by_workers=False)


def _append(bench: Bench, turn: Turn) -> Iterator[Run]:
    """The first release of all films, and the second one after 1 % more have come."""
    folder = raw_releases.growing(bench.home, turn.images, bench.settings.side)
    raw, lake = bench.scratch / "growing", bench.out
    shutil.copytree(folder / "before", raw, copy_function=_linked)
    place = (DATASET, "--raw", str(raw), "--lake", str(lake), "--workers", str(turn.workers))
    first = run_of("append", "first release", "floor", bench.scanmill("prepare", *place), turn, turn.images)
    for path in sorted((folder / "news").iterdir()):
        shutil.copyfile(path, raw / path.name)
    cost = bench.scanmill("prepare", *place)
    if json.loads(cost.output)["images_reused"] < turn.images // 2:
        raise OutputsDiffer(f"append should convert the new films alone: {cost.output[:500]}")
    second = run_of("append", "append 1 %", "ours", cost, turn, turn.images)
    yield replace(first, ours="append 1 %")
    yield second
    shutil.rmtree(raw)
    bench.empty()


def _linked(source: str, target: str) -> None:
    """Zips by link, for they are large and nobody writes into them; tables are replaced later."""
    if source.endswith(".zip"):
        Path(target).hardlink_to(source)
    else:
        shutil.copyfile(source, target)


def _verify(bench: Bench, turn: Turn) -> Iterator[Run]:
    _, lake = _kept(bench, turn.images, bench.settings.side, turn.workers)
    (release,) = (lake / DATASET / "releases").iterdir()
    raw_releases.warm_page_cache(release)
    megabytes = raw_releases.size_bytes(release) // 10**6 or 1
    sides: list[Callable[[], Iterator[Run]]] = [
        partial(_sha256, bench, turn, release, megabytes),
        partial(_verify_alone, bench, turn, lake, megabytes),
    ]
    for side in sides if turn.number % 2 == 0 else sides[::-1]:
        yield from side()


def _sha256(bench: Bench, turn: Turn, release: Path, megabytes: int) -> Iterator[Run]:
    cost = bench.loop("hash", "--list", str(release), "--out", str(bench.out), "--workers", "1")
    whole = run_of("verify", "sha256", "floor", cost, turn, megabytes, ours="verify", by_workers=False)
    bench.empty()
    yield whole
    yield work_of(whole, cost, ours="verify, work only")


def _verify_alone(bench: Bench, turn: Turn, lake: Path, megabytes: int) -> Iterator[Run]:
    cost = bench.scanmill("verify", str(lake / DATASET))
    yield run_of("verify", "verify", "ours", cost, turn, megabytes, by_workers=False)
    cost = bench.module("tests.bench.stages", "verify", DATASET, "--lake", str(lake))
    yield work_of(run_of("verify", "verify", "ours", cost, turn, megabytes, by_workers=False), cost)


def _metadata(bench: Bench, turn: Turn) -> Iterator[Run]:
    rows = bench.settings.metadata_rows
    raw = raw_releases.metadata(bench.home, rows)
    cost = bench.scanmill("check", DATASET, "--raw", str(raw))
    found = json.loads(cost.output)
    if found["rows"] < rows or found["images"] != rows:
        raise OutputsDiffer(f"check saw {found['rows']} rows and {found['images']} images of {rows}")
    yield run_of("metadata", "check", "ours", cost, turn, rows, by_workers=False)


def _loader(bench: Bench, turn: Turn) -> Iterator[Run]:
    """Seconds of the second shuffled epoch; the processes exist by then."""
    python = next((peer.python for peer in bench.peers if not peer.reads_files_alone), None)
    found = loader.one_round(bench.home, bench.settings.loader_images, python)
    first = next(iter(loader.OURS))
    for name, turned in found.items():
        yield Run(
            "loader",
            name,
            "ours" if name in loader.OURS else "peer",
            2,
            turned["images"],
            turn.number,
            turned["seconds"][-1],
            turned["cpu_seconds"][-1],
            ours="" if name == first else first,
        )


def _report(bench: Bench, turn: Turn) -> Iterator[Run]:
    rows = bench.settings.metadata_rows
    cost = bench.module("tests.bench.report", "--one", str(rows))
    whole = run_of("report", "tables, drift and page", "ours", cost, turn, rows, by_workers=False)
    found = answer(cost)
    yield whole
    yield replace(
        whole,
        contestant="page alone",
        wall_seconds=found["build_seconds"],
        cpu_seconds=found["build_cpu_seconds"],
        peak_rss_bytes=None,
        largest_rss_bytes=None,
    )


ROWS: dict[str, Row] = {
    "conversion": Row(
        "grey PNGs of 1024 px in twelve zips to PNG of 224 px; everything on",
        partial(_films, "png", "conversion"),
        ("images", "workers"),
    ),
    "jpeg-output": Row(
        "the same to JPEG of 224 px and quality 95", partial(_films, "jpeg", "jpeg-output"), ("images", "workers")
    ),
    "native": Row(
        "the same as published: beside copying, decoding alone, and the programs unzip and tar",
        partial(_films, "native", "native"),
        ("images", "workers"),
    ),
    "jpeg-input": Row("loose grey JPEGs of 224 px (CheXchoNet) to PNG", _jpeg_input, ("small images", "workers")),
    "mammography": Row(
        "JPEGs of 224 px in three equal channels, in a zip, to grey PNG", _mammography, ("small images", "workers")
    ),
    "ultrasound": Row(
        "coloured JPEG screens in a locked zip to grey PNG; scanmill also blackens what is not scan, peers get the "
        "screens unlocked and unpacked",
        _ultrasound,
        ("small images", "workers"),
    ),
    "rerun": Row("prepare again, nothing changed", _rerun, ("images",)),
    "append": Row("prepare again with 1 % more films in another zip, beside the first time", _append, ("images",)),
    "verify": Row("scanmill verify beside SHA-256 of the same files; per megabyte", _verify, ("images",)),
    "metadata": Row("scanmill check of tables and members as many as published", _metadata),
    "loader": Row("a shuffled epoch of 224 px PNGs, 2 workers", _loader),
    "report": Row("the report page of as many rows as published", _report),
}


def unknown(names: tuple[str, ...]) -> str:
    """What to say of names that no row has; empty if all do."""
    wrong = [name for name in names if name not in ROWS]
    return f"no row {', '.join(wrong)}; known are {', '.join(ROWS)}" if wrong else ""


def describe() -> str:
    """Names and meanings, for ``--help``."""
    width = max(map(len, ROWS))
    return "rows:\n" + "\n".join(f"  {name:<{width}}  {row.what}" for name, row in ROWS.items())
