"""Read a release by WebDataset, and see that its tars hold the pixels of its Parquet files.

It needs no scanmill: a sample of a tar is `<sample_id>.png` and `<sample_id>.json`, and the JSON is the sample's row.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.dataset
import webdataset
from PIL import Image

DEMO = "scanmill-demo/lake/nih-chest-xray"


def main() -> None:
    """Both stores of one split, side by side; then one batch."""
    example = "example: python examples/open_with_webdataset.py /data/lake/nih-chest-xray --split train"
    parser = argparse.ArgumentParser(description=__doc__, epilog=example)
    parser.add_argument("dataset", nargs="?", default=DEMO, type=Path, help="LAKE/DATASET [default: %(default)s]")
    parser.add_argument("--split", default="test", help="[default: %(default)s]")
    options = parser.parse_args()
    try:
        release = options.dataset / "releases" / json.loads((options.dataset / "latest.json").read_text())["release"]
    except FileNotFoundError:
        sys.exit(f"{options.dataset} holds no release: run `make demo` first, or name a dataset of a lake of yours.")
    tars = sorted(map(str, (release / "webdataset" / options.split).glob("*.tar")))
    tables = sorted((release / "parquet" / options.split).glob("*.parquet"))
    if not tars or not tables:
        sys.exit(f"{release} has no split {options.split} in both stores (--stores of `scanmill prepare`).")

    # "l8" is grey, uint8; for colour "rgb8".
    samples = webdataset.WebDataset(tars, shardshuffle=False).decode("l8").rename(image="png;jpg", row="json")
    rows = pyarrow.dataset.dataset(tables).to_table(columns=["sample_id", "image"]).to_pylist()
    equal = 0
    for sample, row in zip(samples, rows, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
        equal += sample["__key__"] == row["sample_id"] and np.array_equal(sample["image"], pixels)
    print(f"{options.split}: {equal} of {len(rows)} images are the same pixels in {len(tars)} tars and Parquet")

    batches = samples.to_tuple("image", "row").batched(16, collation_fn=lambda batch: tuple(zip(*batch, strict=True)))
    images, records = next(iter(batches))
    first = ", ".join(row["sample_id"] for row in records[:3])
    print(f"a batch of {len(images)}: {images[0].shape}, {images[0].dtype}, {first}, …")


if __name__ == "__main__":
    main()
