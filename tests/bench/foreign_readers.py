"""What somebody sees of a release who has one foreign tool and has never heard of scanmill.

    python -I tests/bench/foreign_readers.py TOOL RELEASE

A script of its own: it imports the standard library and its one tool, so that it runs where nothing else is installed.
It prints one line of JSON: samples by split, how often each label is present by split (where the tool reads all rows),
or tables and rows of a document release; and ``notes``, what else it looked at.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

Seen = dict[str, Any]

RECORDS = 10
"""Records that are loaded of each record set of a Croissant description."""


def by_mlcroissant(release: Path) -> Seen:
    """``mlcroissant validate``, every hash, and ten records of each record set."""
    description = release / "croissant.json"
    command = [str(Path(sys.executable).parent / "mlcroissant"), "validate", "--jsonld", str(description)]
    validated = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (validated.stdout + validated.stderr).splitlines()
    import mlcroissant

    dataset = mlcroissant.Dataset(description)
    files = [file for file in json.loads(description.read_bytes())["distribution"] if "sha256" in file]
    wrong = [file["@id"] for file in files if _sha256(release / file["contentUrl"]) != file["sha256"]]
    loaded = {
        record_set.name: len(list(islice(dataset.records(record_set.id), RECORDS)))
        for record_set in dataset.metadata.record_sets
    }
    notes = {
        "validate": validated.returncode,
        "warnings": sum("warning" in line.lower() for line in said),
        "files": len(files),
        "wrong hashes": wrong,
        "records": loaded,
    }
    if "splits" not in loaded:
        return {"notes": notes} | _tables(release, lambda path: _croissant_rows(dataset, path))
    # Text that stands in the description comes as text, text from a file as bytes.
    splits = {str(row["splits/name"]): int(row["splits/samples"]) for row in dataset.records("splits")}
    return {"samples": {split: count for split, count in splits.items() if count}, "notes": notes}


def by_datasets(release: Path) -> Seen:
    """``load_dataset`` of the folder, nothing else said; the first image of each split is decoded."""
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(Path.cwd() / "cache")}
    import datasets

    datasets.disable_progress_bars()
    if (release / "documents.json").exists():
        names = datasets.get_dataset_config_names(str(release))
        rows = [len(datasets.load_dataset(str(release), name, split="train")) for name in names]
        return {"tables": len(rows), "rows": sum(rows)}
    splits = datasets.load_dataset(str(release))
    decoded = {split: list(rows[0]["image"].size) for split, rows in splits.items()}
    tables = {split: rows.remove_columns("image").to_pandas() for split, rows in splits.items()}
    return _of_frames(tables) | {"notes": {"first images": decoded}}


def by_duckdb(release: Path) -> Seen:
    """SQL over all Parquet shards at once."""
    import duckdb

    if (release / "documents.json").exists():
        return _tables(release, lambda path: len(duckdb.read_parquet(path).fetchall()))
    shards = str(release / "parquet" / "*" / "*.parquet")
    with duckdb.connect() as connection:
        described = connection.execute("DESCRIBE SELECT * FROM read_parquet(?)", [shards]).fetchall()
        labels = [name for name, *_ in described if name.startswith("label.")]
        sums = "".join(f', count(*) FILTER ("{name}" = 1)' for name in labels)
        query = f"SELECT split, count(*){sums} FROM read_parquet(?) GROUP BY split ORDER BY split"
        rows = connection.execute(query, [shards]).fetchall()
    return {
        "samples": {row[0]: row[1] for row in rows},
        "present": {row[0]: dict(zip(_names(labels), row[2:], strict=True)) for row in rows},
    }


def by_pandas(release: Path) -> Seen:
    """The sample table in one data frame."""
    import pandas as pd

    if (release / "documents.json").exists():
        return _tables(release, lambda path: len(pd.read_parquet(path)))
    samples = pd.read_parquet(release / "samples.parquet")
    return _of_frames({str(split): rows for split, rows in samples.groupby("split")})


def by_webdataset(release: Path) -> Seen:
    """Every sample of every tar, image and JSON."""
    import webdataset

    samples: Counter[str] = Counter()
    present: dict[str, Counter[str]] = {}
    image_bytes = 0
    shards = sorted(str(path) for path in (release / "webdataset").glob("*/*.tar"))
    for sample in webdataset.WebDataset(shards, shardshuffle=False).decode():
        split = Path(sample["__url__"]).parent.name
        samples[split] += 1
        image_bytes += len(sample["png"] if "png" in sample else sample["jpg"])
        found = present.setdefault(split, Counter())
        for name, value in sample["json"].items():
            if name.startswith("label."):
                found[name.removeprefix("label.")] += value == 1
    return {"samples": samples, "present": present, "notes": {"image bytes": image_bytes}}


READERS: Mapping[str, Callable[[Path], Seen]] = {
    "mlcroissant": by_mlcroissant,
    "datasets": by_datasets,
    "duckdb": by_duckdb,
    "pandas": by_pandas,
    "webdataset": by_webdataset,
}


def _of_frames(frames: Mapping[str, Any]) -> Seen:
    labels = {split: [name for name in rows if name.startswith("label.")] for split, rows in frames.items()}
    return {
        "samples": {split: len(rows) for split, rows in frames.items()},
        "present": {
            split: {name.removeprefix("label."): int((rows[name] == 1).sum()) for name in labels[split]}
            for split, rows in frames.items()
        },
    }


def _names(columns: Iterable[str]) -> list[str]:
    return [column.removeprefix("label.") for column in columns]


def _tables(release: Path, count: Callable[[str], int]) -> Seen:
    rows = [count(str(path)) for path in sorted(release.glob("documents/*/tables/*.parquet"))]
    return {"tables": len(rows), "rows": sum(rows)}


def _croissant_rows(dataset: Any, path: str) -> int:
    folder, number = Path(path).parent.parent.name, Path(path).stem.rpartition("-")[2]
    return len(list(dataset.records(f"{folder}-table-{number}")))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    tool, folder = sys.argv[1:]
    json.dump(READERS[tool](Path(folder)), sys.stdout)
