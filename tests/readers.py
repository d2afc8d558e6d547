"""Five ways in which others open a release; each returns the same mapping, so that a test can hold them side by side.

Every reader takes the split from where its own users see it: a folder, a column, or the name ``datasets`` gives it.
"""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

IMAGE_EXTENSIONS = ("png", "jpg")


class Sample(NamedTuple):
    """What every reader must agree on."""

    image_sha256: str
    labels: dict[str, int | None]
    split: str


Samples = dict[str, Sample]


def by_webdataset(release: Path) -> Samples:
    """The tars, in shard order; the split is the folder of the tar."""
    import webdataset

    shards = sorted(str(path) for path in (release / "webdataset").glob("*/*.tar"))
    samples: Samples = {}
    for read in webdataset.WebDataset(shards, shardshuffle=False).decode():
        (image,) = (read[extension] for extension in IMAGE_EXTENSIONS if extension in read)
        samples[read["__key__"]] = _sample(image, read["json"], Path(read["__url__"]).parent.name)
    return samples


def by_pandas(release: Path) -> Samples:
    """One data frame per shard; the split is the column."""
    import pandas as pd

    shards = sorted((release / "parquet").glob("*/*.parquet"))
    rows = (row for shard in shards for row in pd.read_parquet(shard).to_dict("records"))
    return _from_rows(rows)


def by_duckdb(release: Path) -> Samples:
    """One query over all shards; the split is the folder in the file name."""
    import duckdb

    query = "SELECT *, filename.split('/')[-2] AS folder FROM read_parquet(?, filename = true)"
    with duckdb.connect() as connection:
        result = connection.execute(query, [str(release / "parquet" / "*" / "*.parquet")])
        columns = [column[0] for column in result.description]
        rows = [dict(zip(columns, values, strict=True)) for values in result.fetchall()]
    return _from_rows(rows, split="folder")


def by_pyarrow(release: Path) -> Samples:
    """One dataset over both levels of folders, batch by batch; the split is the column."""
    import pyarrow.dataset

    shards = pyarrow.dataset.dataset(release / "parquet", format="parquet")
    labels = [name for name in shards.schema.names if name.startswith("label.")]
    batches = shards.to_batches(columns=["sample_id", "image", "split", *labels], batch_size=16)
    return _from_rows(row for batch in batches for row in batch.to_pylist())


def by_hugging_face(release: Path) -> Samples:
    """``load_dataset`` of the folder, nothing else said; the split is the name it found."""
    samples: Samples = {}
    with tempfile.TemporaryDirectory() as cache:
        for split, rows in load_hugging_face(release, Path(cache)).items():
            undecoded = rows.cast_column("image", _hugging_face().Image(decode=False))
            samples |= _from_rows({**row, "split": split} for row in undecoded)
    return samples


def load_hugging_face(release: Path, cache: Path) -> Any:
    """The ``DatasetDict`` of a release folder, by its README alone."""
    return _hugging_face().load_dataset(str(release), cache_dir=str(cache))


def load_hugging_face_table(release: Path, name: str, cache: Path) -> Any:
    """Rows of one table of a document release."""
    return _hugging_face().load_dataset(str(release), name, cache_dir=str(cache), split="train")


READERS: Mapping[str, Callable[[Path], Samples]] = {
    "webdataset": by_webdataset,
    "pandas": by_pandas,
    "duckdb": by_duckdb,
    "pyarrow": by_pyarrow,
    "datasets": by_hugging_face,
}
"""Reader by the name of the package it needs."""


def declared(release: Path) -> Samples:
    """What ``samples.parquet`` says the readers must find."""
    import pyarrow.parquet as pq

    rows = pq.read_table(release / "samples.parquet").to_pylist()
    return {row["sample_id"]: Sample(row["image_sha256"], _labels(row), row["split"]) for row in rows}


def _hugging_face() -> Any:
    # Read once, at import: without them the hub is asked about a folder that is on this disk.
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    import datasets

    return datasets


def _from_rows(rows: Iterable[Mapping[Any, Any]], split: str = "split") -> Samples:
    return {row["sample_id"]: _sample(row["image"]["bytes"], row, row[split]) for row in rows}


def _sample(image: bytes, row: Mapping[Any, Any], split: str) -> Sample:
    return Sample(hashlib.sha256(image).hexdigest(), _labels(row), split)


def _labels(row: Mapping[Any, Any]) -> dict[str, int | None]:
    values = {name: value for name, value in row.items() if name.startswith("label.")}
    return {name: None if value is None or math.isnan(value) else int(value) for name, value in values.items()}
