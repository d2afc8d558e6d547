"""scanmill's own stages, timed one by one in one process on a warm cluster: no Prefect, no start-up.

    python -m tests.bench.stages prepare DATASET --raw RAW --lake LAKE --workers 2 [--size native] [--encoding jpeg]
    python -m tests.bench.stages verify DATASET --lake LAKE

Prints one line of JSON: seconds of every stage, and wall clock and CPU of the work that the floor does too. That is
convert and assemble; the second gate runs between them and counts as a stage of its own.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable
from typing import TypeVar

from expectations.gates import judge
from tasks.credentials import from_environment
from tasks.datasets import find
from tasks.lake import latest_release, locate
from tasks.release.verify import verify
from tasks.schema import STORES
from tasks.stages import assembly, conversion, metadata, publication, samples_gate
from tasks.stages import index as indexing
from tasks.stages.plan import request
from tasks.waves import cluster
from tests.bench.measure import tree_cpu_seconds

Result = TypeVar("Result")


class _Clock:
    """Wall clock and CPU of the process tree, by stage."""

    def __init__(self) -> None:
        self.wall_seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    def time(self, stage: str, work: Callable[[], Result]) -> Result:
        """Call ``work`` and note what it cost."""
        began, used = time.perf_counter(), tree_cpu_seconds()
        result = work()
        self.wall_seconds[stage] = time.perf_counter() - began
        self.cpu_seconds[stage] = tree_cpu_seconds() - used
        return result


def main() -> None:
    """Run ``prepare`` without Prefect, or ``verify``, and print what each stage cost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["prepare", "verify"])
    parser.add_argument("dataset")
    parser.add_argument("--raw")
    parser.add_argument("--lake", required=True)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--size", help="pixels, or native")
    parser.add_argument("--encoding", default="png", choices=["png", "jpeg"])
    parser.add_argument("--decode-check", default="full", choices=["full", "off"])
    parser.add_argument("--stores", type=lambda text: tuple(text.split(",")), default=STORES)
    given = parser.parse_args()
    clock = _verify(given.lake, given.dataset) if given.what == "verify" else _prepare(given)
    work = ("verify",) if given.what == "verify" else ("convert", "assemble")
    cost = {
        "wall_seconds": sum(clock.wall_seconds[stage] for stage in work),
        "cpu_seconds": sum(clock.cpu_seconds[stage] for stage in work),
    }
    print(json.dumps({"work": cost, "stages": clock.wall_seconds, "stages_cpu": clock.cpu_seconds}))


def _prepare(given: argparse.Namespace) -> _Clock:
    clock = _Clock()
    size = None if given.size is None else int(given.size.replace("native", "0"))
    wanted = request(
        given.dataset,
        [given.raw],
        given.lake,
        size=size,
        encoding=given.encoding,
        decode_check=given.decode_check,
        stores=given.stores,
    )
    secrets = from_environment(find(given.dataset))
    plan = clock.time("index", lambda: indexing.index(wanted, indexing.gather(wanted, secrets)))
    clock.time("parse", lambda: metadata.parse(plan))
    clock.time("validate-metadata", lambda: metadata.validate_metadata(plan, judge))
    with cluster(given.workers, None) as address:
        wake(address)
        clock.time("convert", lambda: conversion.convert(plan, address=address))
        clock.time("validate-images", lambda: samples_gate.validate_images(plan, judge, address=address))
        clock.time("assemble", lambda: assembly.assemble(plan, address=address))
    clock.time("describe", lambda: publication.describe(plan, is_published=True))
    clock.time("publish", lambda: publication.publish(plan, {}, None))
    return clock


def _verify(lake: str, dataset: str) -> _Clock:
    clock = _Clock()
    place, _ = locate(f"{lake}/{dataset}")
    found = clock.time("verify", lambda: verify(place, latest_release(place)))
    if found.problems:
        raise SystemExit("\n".join(found.problems))
    return clock


def wake(address: str | None) -> None:
    """Have every worker import what it will need, as the floor's processes have before its clock starts."""
    if address is None:
        return
    from distributed import Client

    with Client(address, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        for name in ("tasks.chunks", "tasks.shards"):  # by name: a function of ours would take this module along
            client.run(importlib.import_module, name)


if __name__ == "__main__":
    main()
