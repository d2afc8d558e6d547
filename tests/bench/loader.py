"""Reading a release: images per second of :class:`scanmill.Loader`, checksums on and off, beside other loaders.

    python -m tests.bench.loader [--images 4000] [--repeats 5] [--peers PYTHON]

One input: grey PNG of 224 × 224 pixels of 8 bits, about 26 KB each, in a release of both stores. Every turn is a
process of its own with two workers; the second of two shuffled epochs counts, and turns are interleaved, so that a busy
machine slows all alike. Ratios are taken within a round, by the clock and by CPU time. ``--peers`` is the Python of an
environment that has webdataset, litdata, mosaicml-streaming, datasets, torch, opencv-python-headless and kornia-rs.
JSON goes to ``bench-results/loader.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from tests import tiny_releases
from tests.bench import figures, loader_peers

SIDE = 224
BATCH = 64
PHANTOMS = 48
SECONDS = 900

OURS: dict[str, dict[str, Any]] = {
    "scanmill, processes": {"processes": 2},
    "scanmill, processes, no checksums": {"processes": 2, "verify": False},
    "scanmill, threads": {"threads": 2},
    "scanmill, threads, no checksums": {"threads": 2, "verify": False},
    "scanmill, processes, parquet": {"processes": 2, "store": "parquet"},
}
PEERS = {
    "webdataset": ("webdataset", "cv2"),
    "litdata": ("litdata", "cv2"),
    "MDS": ("mds", "cv2"),
    "HF datasets": ("hf", "cv2"),
    "HF datasets, streaming": ("hf-streaming", "cv2"),
    "webdataset, our decoder": ("webdataset", "kornia"),
    "litdata, our decoder": ("litdata", "kornia"),
    "MDS, our decoder": ("mds", "kornia"),
}


def main() -> None:
    """Write the input, run the turns, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.loader", description="scanmill.Loader beside others")
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peers", help="Python of an environment with the other loaders")
    parser.add_argument("--out", type=Path, default=Path("bench-results/loader.json"))
    parser.add_argument("--home", type=Path, default=Path("bench-results/inputs"))
    parser.add_argument("--turn", nargs=2, metavar=("ROW", "RELEASE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.turn:
        print("RESULT", json.dumps(_turn(*given.turn)))
        return
    home = given.home.resolve()
    console = Console(width=None if sys.stdout.isatty() else 120)
    rounds: list[dict[str, Any]] = []
    given.out.parent.mkdir(parents=True, exist_ok=True)
    about = {"machine": figures.machine(), "images": given.images, "batch": BATCH, "workers": 2}
    for number in range(given.repeats):
        rounds.append(one_round(home, given.images, given.peers))
        console.print(f"  round {number + 1}: " + ", ".join(f"{k} {v['rate']:,.0f}/s" for k, v in rounds[-1].items()))
        given.out.write_text(json.dumps({**about, "rounds": rounds, "rows": _summary(rounds)}, indent=1) + "\n")
    console.print(_table(rounds))
    console.print(f"written: {given.out}")


def one_round(home: Path, images: int, peers: str | None) -> dict[str, Any]:
    """Every loader once, on an input that is kept in ``home``; ``peers`` is a Python that has the others."""
    release = _input(home, images)
    return _round(release, peers, _peers_input(release, peers) if peers else None)


def _input(home: Path, images: int) -> Path:
    """Phantoms turned, shifted and brightened, so that no two images are alike; kept between runs."""
    lake = home / f"loader-{images}"
    if not (lake / tiny_releases.DATASET / "latest.json").is_file():
        from tasks.phantoms import chest

        drawn = [
            chest(np.random.default_rng(seed), 1024, view="PA").pixels.astype(np.uint8) for seed in range(PHANTOMS)
        ]
        small = [cv2.resize(picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA) for picture in drawn]
        files = []
        for number in range(images):
            rng = np.random.default_rng([1, number])
            shifted = np.roll(small[number % PHANTOMS], rng.integers(-20, 20, 2), (0, 1))
            files.append(tiny_releases.png(np.minimum(shifted, 255 - 15) + np.uint8(rng.integers(0, 16))))
        tiny_releases.write_release(lake, {"train": files}, shard_samples=1000)
    (release,) = (lake / tiny_releases.DATASET / "releases").iterdir()
    return release


def _peers_input(release: Path, python: str) -> Path:
    folder = release.parent.parent.parent / "peers"
    if not folder.is_dir():
        subprocess.run([python, loader_peers.__file__, "write", release, folder], check=True, timeout=SECONDS)
    return folder


def _round(release: Path, python: str | None, peers: Path | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in OURS:
        found[row] = _run([sys.executable, "-m", "tests.bench.loader", "--turn", row, str(release)])
    if python and peers:
        for row, (tool, kernel) in PEERS.items():
            numbers = [str(BATCH), "2", "2"]
            found[row] = _run([python, loader_peers.__file__, "read", tool, kernel, str(peers), *numbers])
    seen = {(turn["images"], turn["grey"]) for turn in found.values()}
    if len(seen) != 1:
        raise SystemExit(
            f"not all read the same images: { {row: (t['images'], t['grey']) for row, t in found.items()} }"
        )
    return found


def _run(command: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=environment, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    turn: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return {
        **turn,
        "rate": turn["images"] / turn["seconds"][-1],
        "cpu_rate": turn["images"] / turn["cpu_seconds"][-1],
    }


def _turn(row: str, release: str) -> dict[str, Any]:
    """One row of ours, in this process."""
    import scanmill

    opened = scanmill.open_release(release)
    loader = scanmill.Loader(opened, batch_size=BATCH, shuffle=True, **OURS[row])
    return loader_peers.measure(_Images(loader), 2)


class _Images:
    """The images of every batch, as the others give them."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __iter__(self) -> Any:
        return (batch.images for batch in self._loader)


def _summary(rounds: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each row images per second, seconds to the first batch, and how many times as fast the first row is."""
    rows = {}
    for row in rounds[0]:
        rates = [found[row]["rate"] for found in rounds]
        ratios = [found[next(iter(OURS))]["rate"] / found[row]["rate"] for found in rounds]
        by_cpu = [found[next(iter(OURS))]["cpu_rate"] / found[row]["cpu_rate"] for found in rounds]
        rows[row] = {
            "images_per_second": [min(rates), median(rates), max(rates)],
            "ratio": [min(ratios), median(ratios), max(ratios)],
            "images_per_cpu_second": median(found[row]["cpu_rate"] for found in rounds),
            "cpu_ratio": [min(by_cpu), median(by_cpu), max(by_cpu)],
            "first_batch_seconds": median(found[row]["first_batch_seconds"] for found in rounds),
        }
    return rows


def _table(rounds: list[dict[str, Any]]) -> Table:
    table = Table(title="images/s and how many times as fast the first row is: least – median – most")
    for name in ("", "images/s", "ratio", "images/CPU s", "CPU ratio", "first batch, s"):
        table.add_column(name, justify="left" if not name else "right")
    for row, found in _summary(rounds).items():
        rates = " – ".join(f"{rate:,.0f}" for rate in found["images_per_second"])
        ratios = " – ".join(f"{ratio:.2f}" for ratio in found["ratio"])
        cpu, by_cpu = (
            f"{found['images_per_cpu_second']:,.0f}",
            " – ".join(f"{ratio:.2f}" for ratio in found["cpu_ratio"]),
        )
        table.add_row(row, rates, ratios, cpu, by_cpu, f"{found['first_batch_seconds']:.2f}")
    return table


if __name__ == "__main__":
    main()
