"""Ask DuckDB what a release refused, and why: quarantine.parquet has one row per refused archive member or table row.

It needs no scanmill: the lake is plain Parquet. docs/lake.md says what every column and reason means.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import duckdb

DEMO = "scanmill-demo/lake/nih-chest-xray"

BY_PLACE = """
    SELECT coalesce(archive, "table") AS place, stage, reason, count(*) AS refused
    FROM read_parquet($quarantine)
    GROUP BY ALL ORDER BY place, refused DESC, stage, reason
"""
SHARES = """
    WITH members AS (
        SELECT archive, false AS is_refused FROM read_parquet($samples)
        UNION ALL SELECT archive, true FROM read_parquet($quarantine) WHERE member IS NOT NULL
    )
    SELECT archive, count(*) FILTER (NOT is_refused) AS written, count(*) FILTER (is_refused) AS refused,
           round(100 * avg(is_refused::int), 1) AS percent
    FROM members GROUP BY archive ORDER BY percent DESC, archive
"""


def main() -> None:
    """Two queries, two tables."""
    example = "example: python examples/quarantine_with_duckdb.py /data/lake/nih-chest-xray"
    parser = argparse.ArgumentParser(description=__doc__, epilog=example)
    parser.add_argument("dataset", nargs="?", default=DEMO, type=Path, help="LAKE/DATASET [default: %(default)s]")
    dataset: Path = parser.parse_args().dataset
    try:
        latest = json.loads((dataset / "latest.json").read_text())
    except FileNotFoundError:
        sys.exit(f"{dataset} holds no release: run `make demo` first, or name a dataset of a lake of yours.")
    release = dataset / "releases" / latest["release"]
    tables = {name: str(release / f"{name}.parquet") for name in ("quarantine", "samples")}

    print(f"{release.name} refused, by archive or table, stage and reason:")
    duckdb.sql(BY_PLACE, params={"quarantine": tables["quarantine"]}).show(max_rows=100)
    print("Images of each archive, and the share of them that is refused:")
    duckdb.sql(SHARES, params=tables).show(max_rows=100)
    print(f"The bytes stay in the raw release; `scanmill quarantine {dataset} --extract refused` brings them back.")


if __name__ == "__main__":
    main()
