"""Read a release by Hugging Face datasets, and see that its Parquet files hold the pixels of its tars.

It needs no scanmill: the release's README.md tells `load_dataset` which splits there are. What is loaded is copied into
Hugging Face's cache (HF_HOME); `streaming=True` reads it in place.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read at import: nobody is asked about files that are here

import datasets
import numpy as np

DEMO = "scanmill-demo/lake/nih-chest-xray"


def main() -> None:
    """Both stores of one split, side by side; then one batch of each."""
    example = "example: python examples/open_with_hugging_face.py /data/lake/nih-chest-xray --split train"
    parser = argparse.ArgumentParser(description=__doc__, epilog=example)
    parser.add_argument("dataset", nargs="?", default=DEMO, type=Path, help="LAKE/DATASET [default: %(default)s]")
    parser.add_argument("--split", default="test", help="[default: %(default)s]")
    options = parser.parse_args()
    try:
        release = options.dataset / "releases" / json.loads((options.dataset / "latest.json").read_text())["release"]
    except FileNotFoundError:
        sys.exit(f"{options.dataset} holds no release: run `make demo` first, or name a dataset of a lake of yours.")

    datasets.disable_progress_bars()
    parquet = datasets.load_dataset(str(release), split=options.split)
    tars = str(release / "webdataset" / options.split / "*.tar")
    webdataset = datasets.load_dataset("webdataset", data_files=tars, split="train")  # its name for all there is
    print(f"{len(parquet.column_names)} columns, {', '.join(parquet.column_names[:3])} … of {len(parquet)} rows")
    equal = 0
    for row, sample in zip(parquet, webdataset, strict=True):
        same = np.array_equal(np.asarray(row["image"]), np.asarray(sample["png"]))
        equal += row["sample_id"] == sample["__key__"] and same
    print(f"{options.split}: {equal} of {len(parquet)} images are the same pixels in Parquet and in the tars")
    for name, images in (
        ("Parquet", parquet.with_format("numpy")[:16]["image"]),
        ("the tars", webdataset.with_format("numpy")[:16]["png"]),
    ):
        print(f"a batch of {len(images)} out of {name}: {images[0].shape}, {images[0].dtype}")


if __name__ == "__main__":
    main()
