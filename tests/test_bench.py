"""The benchmarks run and write figures; what the figures say is not looked at."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

from tests.bench.figures import summarise
from tests.bench.rows import Run

ROOT = Path(__file__).parent.parent


def run(row: str, wall: float, floor: str | None = None) -> Run:
    return Run(row, 2, 100, wall_seconds=wall, cpu_seconds=2 * wall, peak_rss_bytes=10, floor=floor)


def test_ratio_is_taken_within_a_turn() -> None:
    # The machine is twice as slow in the second turn; the ratio stays what it is.
    runs = [run("floor", 1.0), run("prepare", 2.0, "floor"), run("prepare", 4.0, "floor"), run("floor", 2.0)]
    rows = {row["row"]: row for row in summarise(runs)}
    assert rows["prepare"]["speed_of_floor"] == 0.5
    assert rows["prepare"]["wall_seconds"] == {"median": 3.0, "min": 2.0, "max": 4.0}
    assert rows["prepare"]["cpu_ms_per_unit"] == 60.0
    assert "speed_of_floor" not in rows["floor"]


def test_quick_bench_writes_its_figures(tmp_path: Path, prefect_server: None) -> None:
    from prefect.settings import PREFECT_API_URL

    out = tmp_path / "bench.json"
    command = [sys.executable, "-m", "tests.bench", "--quick", "--side", "64", "--metadata-rows", "500"]
    command += [
        "--home",
        str(tmp_path / "inputs"),
        "--out",
        str(out),
        "--prefect-api-url",
        str(PREFECT_API_URL.value()),
    ]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    report = json.loads(out.read_text())
    names = ["floor", "prepare", "floor, work only", "convert + assemble", "rerun", "verify", "check"]
    assert [row["row"] for row in report["rows"]] == names
    assert all(row["wall_seconds"]["min"] > 0 and math.isfinite(row["cpu_ms_per_unit"]) for row in report["rows"])
    assert all(row["speed_of_floor"] > 0 for row in report["rows"] if row["row"] in ("prepare", "convert + assemble"))
    assert report["machine"]["usable_cores"] >= 1
    assert "floor" in ended.stdout
    assert not list((tmp_path / "inputs").glob("run-*")), "outputs of the runs are left behind"
