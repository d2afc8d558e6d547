"""The benchmarks run and write figures; what the figures say is not looked at."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.bench import kernels
from tests.bench.contest import Peer, Run
from tests.bench.conversion_peers import digests
from tests.bench.conversions import slower_peers
from tests.bench.figures import growth, headlines, summarise
from tests.bench.image_lists import Listed, is_sampled, key_of, pieces, read, read_list, write_list
from tests.bench.rows import ROWS, unknown

ROOT = Path(__file__).parent.parent


def run(contestant: str, wall: float, *, turn: int = 0, workers: int = 2, kind: str = "ours", ours: str = "") -> Run:
    return Run("conversion", contestant, kind, workers, 100, turn, wall, 2 * wall, 10, 5, ours)  # type: ignore[arg-type]


def test_ratio_is_taken_within_a_turn() -> None:
    # The machine is twice as slow in the second turn; the ratio stays what it is.
    runs = [
        run("floor", 1.0, kind="floor", ours="prepare"),
        run("prepare", 2.0),
        run("prepare", 4.0, turn=1),
        run("floor", 2.0, turn=1, kind="floor", ours="prepare"),
    ]
    rows = {row["contestant"]: row for row in summarise(runs)}
    assert rows["floor"]["times_as_fast"]["wall"] == {"min": 0.5, "median": 0.5, "max": 0.5}
    assert rows["prepare"]["wall_seconds"] == {"min": 2.0, "median": 3.0, "max": 4.0}
    assert rows["prepare"]["cpu_ms_per_unit"] == 60.0
    assert "times_as_fast" not in rows["prepare"]


def test_headlines_take_the_fastest_peer_of_each_turn_and_more_workers_beside_one() -> None:
    runs = []
    for turn, (slow, fast) in enumerate([("a", "b"), ("b", "a")]):
        runs += [run("prepare", 1.0, turn=turn), run("prepare", 1.8, turn=turn, workers=1)]
        for name, wall in ((slow, 3.0), (fast, 2.0), (f"{fast} (our kernel)", 1.5), (f"{fast}, work only", 0.1)):
            runs.append(run(name, wall, turn=turn, kind="peer", ours="prepare"))
    found = {one["against"]: one for one in headlines(runs)}
    assert found["fastest peer"]["wall"] == {"min": 2.0, "median": 2.0, "max": 2.0}
    assert found["fastest peer"]["who"] == ["a", "b"]
    assert found["fastest peer (our kernel)"]["wall"]["median"] == 1.5
    assert found["1 worker"]["wall"]["median"] == 1.8


def test_start_falls_out_of_what_each_image_more_costs() -> None:
    runs = [replace(run("prepare", 5 + 0.01 * images), units=images) for images in (100, 300)]
    (found,) = growth(summarise(runs))
    assert math.isclose(found["wall_ms_per_unit"], 10)
    assert math.isclose(found["cpu_seconds_of_start"], 10)
    assert growth(summarise(runs[:1])) == []


def test_only_the_fastest_peers_of_each_kernel_need_another_turn() -> None:
    peers = [
        Peer(tool, kernel, "python", {})
        for tool, kernel in (("a", "cv2"), ("b", "cv2"), ("c", "cv2"), ("a", "fastest"), ("b", "fastest"))
    ]
    runs = [run(peer.name, wall, kind="peer") for peer, wall in zip(peers, (3.0, 2.0, 2.5, 2.0, 3.0), strict=True)]
    runs[2] = replace(runs[2], cpu_seconds=1.0)  # slower by the clock, with less work
    assert slower_peers(peers, [*runs, run("prepare", 9.0)]) == {"a", "b (our kernel)"}


def test_other_pixels_of_one_turn_are_told() -> None:
    runs = [replace(run("prepare", 1.0), pixels="same"), replace(run("prepare", 1.0, turn=1), pixels="differ")]
    assert [row["pixels"] for row in summarise(runs)] == ["differ"]


def test_a_list_of_images_comes_back_and_is_read_out_of_zip_and_folder(tmp_path: Path) -> None:
    archive, loose = tmp_path / "a.zip", tmp_path / "b.c.png"
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("images/one.png", b"1")
    loose.write_bytes(b"2")
    images = [
        Listed(key_of("images/one.png"), "0", str(archive), "images/one.png", ""),
        Listed(key_of(loose.name), "1", "", loose.name, str(loose)),
    ]
    write_list(tmp_path / "list.csv", images)
    assert read_list(tmp_path / "list.csv") == images
    assert [read(image) for image in images] == [b"1", b"2"]
    assert [image.key for image in images] == ["images_one", "b_c"]
    assert list(pieces(images, 256)) == [images[:1], images[1:]]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_kernels_show_the_same_pixels(channels: int) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (300, 260), np.uint8)
    pixels = grey if channels == 1 else np.dstack([grey] * 3 + [np.full_like(grey, 255)] * (channels - 3))
    published = cv2.imencode(".png", pixels)[1].tobytes()
    stored = [kernels.convert(published, "png", kernel) for kernel in ("cv2", "fastest")]
    found = [kernels.pixel_digest(encoded) for encoded in stored]
    assert found[0] == found[1] != kernels.pixel_digest(published)
    assert kernels.convert(published, "native", "fastest") == published


def test_pixels_of_a_sample_are_compared_and_all_images_counted() -> None:
    encoded = cv2.imencode(".png", np.eye(9, dtype=np.uint8))[1].tobytes()
    keys = [f"image_{number}" for number in range(50)]
    found = digests(((key, encoded) for key in keys), 5)
    assert found["images"] == 50
    assert set(found["pixels"]) == {key for key in keys if is_sampled(key, 5)}
    assert 0 < len(found["pixels"]) < 50


def test_an_unknown_row_is_told_the_known_ones() -> None:
    assert unknown(("conversion", "verify")) == ""
    assert "speed" in unknown(("speed",))
    assert all(name in unknown(("speed",)) for name in ROWS)


def test_quick_bench_writes_its_figures(tmp_path: Path, prefect_server: None) -> None:
    from prefect.settings import PREFECT_API_URL

    out = tmp_path / "bench.json"
    command = [sys.executable, "-m", "tests.bench", "--quick", "--rows", "conversion,rerun,verify,metadata"]
    command += ["--home", str(tmp_path / "inputs"), "--out", str(out)]
    command += ["--prefect-api-url", str(PREFECT_API_URL.value())]
    ended = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=500, check=False)
    assert ended.returncode == 0, ended.stderr[-3000:]
    report = json.loads(out.read_text())
    assert [(row["row"], row["contestant"]) for row in report["rows"]] == [
        ("conversion", "floor"),
        ("conversion", "floor, work only"),
        ("conversion", "prepare"),
        ("conversion", "convert + assemble"),
        ("rerun", "rerun"),
        ("verify", "sha256"),
        ("verify", "sha256, work only"),
        ("verify", "verify"),
        ("verify", "verify, work only"),
        ("metadata", "check"),
    ]
    assert all(row["wall_seconds"]["min"] > 0 and math.isfinite(row["cpu_ms_per_unit"]) for row in report["rows"])
    assert all(row["times_as_fast"]["wall"]["min"] > 0 for row in report["rows"] if row["kind"] == "floor")
    assert {row["pixels"] for row in report["rows"] if row["row"] == "conversion"} == {"same"}
    assert {row["images_out"] for row in report["rows"] if row["contestant"] in ("floor", "prepare")} == {80}
    assert report["machine"]["usable_cores"] >= 1
    assert out.with_suffix(".png").stat().st_size > 0
    assert "convert + assemble" in ended.stdout
    assert not list((tmp_path / "inputs").glob("run-*")), "outputs of the runs are left behind"
