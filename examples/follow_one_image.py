"""Follow one training row back to the publisher's bytes, by lineage.parquet, and see that they are the ones.

`scanmill trace LAKE/DATASET SAMPLE --verify` does this for zips, tars, locked zips and object storage, and converts the
image once more; here it is by hand, for a zip on a disk, to show that nothing but the lake's own tables is needed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import zipfile
from pathlib import Path

import pandas as pd

DEMO = "scanmill-demo/lake/nih-chest-xray"


def main() -> None:
    """From the row to the shard, to the archive, to the bytes, to the table they were labelled by."""
    example = (
        "example: python examples/follow_one_image.py /data/lake/nih-chest-xray --raw /data/nih --sample 00000003_002"
    )
    parser = argparse.ArgumentParser(description=__doc__, epilog=example)
    parser.add_argument("dataset", nargs="?", default=DEMO, type=Path, help="LAKE/DATASET [default: %(default)s]")
    parser.add_argument("--raw", default="scanmill-demo/raw", type=Path, help="its raw release [default: %(default)s]")
    parser.add_argument("--sample", help="a sample_id [default: the first of the test split]")
    options = parser.parse_args()
    try:
        release = options.dataset / "releases" / json.loads((options.dataset / "latest.json").read_text())["release"]
    except FileNotFoundError:
        sys.exit(f"{options.dataset} holds no release: run `make demo` first, or name a dataset of a lake of yours.")
    samples = pd.read_parquet(release / "samples.parquet").set_index("sample_id")
    lineage = pd.read_parquet(release / "lineage.parquet").set_index("sample_id")
    name = options.sample or samples.index[samples["split"] == "test"][0]
    if name not in samples.index:
        sys.exit(f"{release.name} has no sample {name}: its ids are like {samples.index[0]}.")
    sample, origin = samples.loc[name], lineage.loc[name]

    print(f"{name} is row {sample['row']} of shard {sample['shard']}, {sample['width']} × {sample['height']} pixels")
    print(f"  made by     {sample['transform']}")
    print(f"  cached in   chunks/{origin['chunk']}.parquet, until that is deleted")
    print(f"  found in    {sample['archive']}, byte {origin['offset']:,}: {sample['member']}")
    for row in origin["rows"]:
        print(f"  stands in   {row['table']}, row {row['row']}")
    path = options.raw / sample["archive"]
    if not zipfile.is_zipfile(path):
        sys.exit(f"{path} is no zip that is there: use `scanmill trace {options.dataset} {name} --verify`.")
    with zipfile.ZipFile(path) as archive:
        (entry,) = (found for found in archive.infolist() if found.header_offset == origin["offset"])
        published = archive.read(entry)
    same = hashlib.sha256(published).hexdigest() == sample["source_sha256"]
    print(f"  published   {len(published):,} bytes, {'the same' if same else 'NOT THE SAME'} as were milled (SHA-256)")


if __name__ == "__main__":
    main()
