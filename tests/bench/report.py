"""What the data-quality report costs at scale: seconds, bytes of the page, memory.

    python -m tests.bench.report --rows 11212,112120 --json FILE

For each number of rows, in a process of its own, a made-up sample table in the shape of NIH ChestX-ray14 (patients,
labels at their published frequency, boxes, image checks, near-duplicates, a quarantine, two gates, two comparisons for
drift) and pictures of made-up films become a page, as at the end of ``scanmill prepare``. Reading pictures from chunks
is not in it.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import psutil
from PIL import Image
from rich.console import Console
from rich.table import Table

from tasks.datasets import find
from tasks.phantoms import chest
from tasks.quality import drift
from tasks.quality.page import ReportFacts, build
from tasks.schema import QUARANTINE, Accounting, Dataset, Outcome, TableCount, Verdict

DATASET = "nih-chest-xray"
PAIRS, REFUSED, PICTURES = 2000, 400, 40
PREVALENCE = (0.103, 0.025, 0.042, 0.021, 0.119, 0.022, 0.015, 0.002, 0.177, 0.052, 0.056, 0.030, 0.013, 0.047)
"""Share of the 112,120 films with each finding as published, in the declared order."""
BOXED = 880
IMAGES_PER_PATIENT = 3.64


@dataclass(frozen=True)
class Cost:
    """One report."""

    rows: int
    table_bytes: int
    """Of the sample table in memory."""
    drift_seconds: float
    """Both comparisons, which the stage makes before it builds the page."""
    build_seconds: float
    build_cpu_seconds: float
    page_bytes: int
    json_bytes: int
    pictures: int
    peak_above_table_bytes: int
    """Largest resident set while it was built, less that before."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write JSON on request."""
    parser = argparse.ArgumentParser(description="What the data-quality report costs at scale.")
    parser.add_argument("--rows", default="11212,112120", help="numbers of samples, with commas between")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--keep", type=Path, help="keep the reports below this folder")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one is not None:
        print(json.dumps(asdict(measure(options.one, options.keep))))
        return 0
    costs = [_in_own_process(int(rows), options.keep) for rows in options.rows.split(",")]
    Console(width=110).print(_table(costs))
    if options.json:
        options.json.write_text(json.dumps([asdict(cost) for cost in costs], indent=2) + "\n")
    return 0


def _in_own_process(rows: int, keep: Path | None) -> Cost:
    command = [sys.executable, "-m", "tests.bench.report", "--one", str(rows)]
    command += ["--keep", str(keep / str(rows))] if keep else []
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Cost(**json.loads(done.stdout))


def measure(rows: int, keep: Path | None = None) -> Cost:
    """Build one report; in a fresh process, or the peak is that of something else."""
    dataset, rng = find(DATASET), np.random.default_rng(7)
    samples, films = made_up_samples(dataset, rows, rng), made_up_films(rng)
    began = time.perf_counter()
    between = drift.between_splits(dataset, samples)
    before = drift.between_releases(dataset, samples.iloc[: int(rows * 0.97)], samples)
    drift_seconds = time.perf_counter() - began
    facts = _facts(dataset, samples, rng, between, before)
    asked: set[str] = set()

    def images(ids: Sequence[str]) -> dict[str, bytes]:
        asked.update(ids)
        return {name: films[int(name[:8]) % len(films)] for name in ids}

    resident = psutil.Process().memory_info().rss
    with tempfile.TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        began, cpu = time.perf_counter(), time.process_time()
        build(facts, folder, images=images, refused=lambda places: dict.fromkeys(places, films[0]))
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        page, plain = ((folder / name).stat().st_size for name in ("index.html", "report.json"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    size = int(samples.memory_usage(deep=True).sum())
    return Cost(rows, size, drift_seconds, seconds, cpu, page, plain, len(asked), max(peak - resident, 0))


def made_up_samples(dataset: Dataset, rows: int, rng: np.random.Generator) -> pd.DataFrame:
    """A sample table with the columns that the report looks at."""
    patients = np.sort(rng.integers(0, int(rows / IMAGES_PER_PATIENT), rows))
    numbers = np.arange(rows)
    labels = {
        f"label.{name}": pd.array((rng.random(rows) < share).astype(np.int8), dtype="Int8")
        for name, share in zip(dataset.labels, PREVALENCE, strict=True)
    }
    grey = rng.normal(127, 25, rows).clip(2, 250)
    names = list(dataset.labels)
    boxes = [
        [{"label": names[n % 8], "x": 40.0, "y": 50.0, "w": 60.0, "h": 70.0}] if n < BOXED else None for n in numbers
    ]
    return pd.DataFrame(
        {
            "sample_id": [f"{number:08d}_000" for number in numbers],
            "archive": "images_001.zip",
            "member": [f"images/{number:08d}_000.png" for number in numbers],
            "patient_id": [f"{patient:08d}" for patient in patients],
            "group_id": [f"{patient:08d}" for patient in patients],
            "age_years": rng.normal(47, 17, rows).clip(0, 95).round(),
            "sex": rng.choice(["F", "M"], rows, p=[0.44, 0.56]),
            "view": rng.choice(["PA", "AP"], rows, p=[0.6, 0.4]),
            "split": np.array(["train", "validation", "test"])[np.digitize(patients % 100, [70, 78])],
            **labels,
            "boxes": boxes,
            "boxes_scaled": boxes,
            "source_mode": "L",
            "source_width": 1024,
            "source_height": 1024,
            "width": 224,
            "height": 224,
            "channels": 1,
            "bit_depth": 8,
            "image_bytes": 27_000,
            "image_sha256": "0" * 64,
            "transform": "area 1024x1024 to 224x224; png",
            "intensity_mean": grey,
            "intensity_std": rng.normal(55, 8, rows).clip(1, 100),
            "contrast": rng.normal(0.8, 0.08, rows).clip(0, 1),
            **{f"border_{side}": _rare(rng, rows, 0.05, 120) for side in ("top", "right", "bottom", "left")},
            "text_regions": _rare(rng, rows, 0.01, 4),
            "looks_inverted": rng.random(rows) < 0.001,
            "looks_turned_degrees": np.where(rng.random(rows) < 0.001, 90, 0),
        }
    )


def _rare(rng: np.random.Generator, rows: int, share: float, most: int) -> npt.NDArray[np.int64]:
    return np.where(rng.random(rows) < share, rng.integers(1, most, rows), 0)


def made_up_films(rng: np.random.Generator) -> list[bytes]:
    """Films of 224 pixels as PNG."""
    films = []
    for _ in range(PICTURES):
        target = io.BytesIO()
        Image.fromarray(chest(rng, 224).pixels).save(target, "PNG")
        films.append(target.getvalue())
    return films


def _facts(
    dataset: Dataset,
    samples: pd.DataFrame,
    rng: np.random.Generator,
    between: Sequence[drift.Shift],
    before: Sequence[drift.Shift],
) -> ReportFacts:
    rows = len(samples)
    refused = [
        {"archive": "images_002.zip", "member": f"images/{n}.png", "offset": n, "stage": "convert", "reason": reason}
        for n in range(REFUSED)
        for reason in (("truncated-image", "blank-frame", "not-an-image", "unknown-label")[n % 4],)
    ]
    first, second = (samples.iloc[rng.integers(0, rows, PAIRS)].reset_index(drop=True) for _ in "ab")
    pairs = pd.DataFrame(
        {
            "sample_a": first["sample_id"],
            "sample_b": second["sample_id"],
            "split_a": first["split"],
            "split_b": second["split"],
            "similarity": np.linspace(1, 0.99, PAIRS),
            "turned_degrees": rng.choice([0.0, 5.0, 90.0], PAIRS),
            "is_mirrored": rng.random(PAIRS) < 0.2,
            "labels_agree": rng.random(PAIRS) < 0.8,
            "crosses_splits": (first["split"] != second["split"]).to_numpy(),
        }
    )
    outcomes = [
        Outcome("metadata", f"expectation-{n}", "Something holds of every row.", "error", 0.01, rows, n % 5, status)
        for n in range(60)
        for status in (("passed", "passed", "passed", "tolerated", "warned")[n % 5],)
    ]
    return ReportFacts(
        dataset=dataset,
        release="0123456789abcdef",
        parameters={"size": 224, "encoding": "png", "stores": ["parquet", "webdataset"]},
        inputs=[{"name": f"images_{n:03d}.zip", "bytes": 10**9, "sha256": "ab" * 32} for n in range(1, 13)],
        verdicts=[Verdict("metadata", tuple(outcomes[:40])), Verdict("images", tuple(outcomes[40:]))],
        accounting=Accounting(
            rows + REFUSED, rows, REFUSED, {}, (TableCount("Data_Entry_2017_v2020.csv", rows, rows, 0),), {}
        ),
        quarantine=pd.DataFrame(refused, columns=[field.name for field in QUARANTINE]),
        published=True,
        has_data_docs=True,
        samples=samples,
        histograms={split: [int(n) for n in rng.integers(1, 10**6, 64)] for split in ("train", "validation", "test")},
        findings={"repeats": {"value": 3, "sentence": "samples that repeat an earlier picture exactly"}},
        near_duplicates=pairs,
        drift=between,
        drift_before=before,
    )


def _table(costs: Sequence[Cost]) -> Table:
    table = Table(title="The data-quality report of a made-up NIH ChestX-ray14")
    for name in ("rows", "table", "drift", "build", "build, CPU", "page", "json", "pictures", "peak above table"):
        table.add_column(name, justify="right")
    for cost in costs:
        table.add_row(
            f"{cost.rows:,}",
            f"{cost.table_bytes / 1e6:.0f} MB",
            f"{cost.drift_seconds:.1f} s",
            f"{cost.build_seconds:.1f} s",
            f"{cost.build_cpu_seconds:.1f} s",
            f"{cost.page_bytes / 1e6:.2f} MB",
            f"{cost.json_bytes / 1e3:.0f} kB",
            f"{cost.pictures:,}",
            f"{cost.peak_above_table_bytes / 1e6:.0f} MB",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
