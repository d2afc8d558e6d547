"""Great Expectations' own pages at the size of NIH ChestX-ray14: how long, how large, and whether they need a network.

    python -m tests.bench.data_docs [--rows 112120] [--out bench-results/data-docs.json]

112,120 rows, 24,106 of which fail one expectation as published. The gate is judged twice, without pages and with them.
Nothing is decoded. Prints one line of JSON; exit code 1 where a page asks for anything of another host, or where a
limit is passed: 5 MB of pages, 10 s for them beside judging.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from expectations.gates import judge
from tasks import checks
from tasks.stages import index as indexing
from tasks.stages import metadata
from tasks.stages.plan import read_entries, request
from tests.bench import raw_releases
from tests.bench.commands import DATASET
from tests.bench.published_counts import ROWS

MOST_BYTES = 5_000_000
MOST_SECONDS = 10.0
"""What the pages may add to judging."""
FETCHED = re.compile(
    r"(?:<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=|url\(|@import\s)\s*[\"']?(?:https?:)?//[^\"')\s>]+", re.I
)
"""What a browser would ask another host for when it shows a page; a link that one may click is none."""


def main() -> int:
    """Measure; 1 where a limit is passed."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.data_docs")
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--home", type=Path, default=Path("bench-results/inputs"), help="inputs, kept between runs")
    parser.add_argument("--out", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    figures = measure(raw_releases.metadata(arguments.home, arguments.rows))
    text = json.dumps(figures)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(f"{text}\n")
    print(text)
    is_small = figures["bytes"] <= MOST_BYTES and figures["pages_seconds"] <= MOST_SECONDS
    return 0 if is_small and not figures["fetched"] else 1


def measure(raw: Path) -> dict[str, Any]:
    """``rows``; ``failing`` rows of all expectations; ``judge_seconds`` without and ``pages_seconds`` beside it with
    pages; ``files`` and ``bytes`` of them; ``fetched``: what they would load from elsewhere."""
    with tempfile.TemporaryDirectory(prefix="scanmill-docs-") as scratch:
        wanted = request(DATASET, [str(raw)], f"{scratch}/lake")
        plan = indexing.index(wanted, indexing.gather(wanted, {}))
        metadata.parse(plan)
        entries = checks.with_metadata_checks(read_entries(plan.work / "entries.parquet"), plan.dataset)
        docs = Path(scratch) / "docs"
        began = time.perf_counter()
        judge(entries, plan.dataset, "metadata", None)
        middle = time.perf_counter()
        verdict, _, _ = judge(entries, plan.dataset, "metadata", docs)
        ended = time.perf_counter()
        files = [path for path in docs.rglob("*") if path.is_file()]
        return {
            "rows": len(entries),
            "failing": sum(outcome.failed for outcome in verdict.outcomes),
            "judge_seconds": round(middle - began, 2),
            "pages_seconds": round((ended - middle) - (middle - began), 2),
            "files": len(files),
            "bytes": sum(path.stat().st_size for path in files),
            "fetched": sorted(set(fetched(files))),
        }


def fetched(files: list[Path]) -> list[str]:
    """What the pages and styles among these files would load from another host."""
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files if path.suffix in (".html", ".css")]
    return [match[0] for text in texts for match in FETCHED.finditer(text)]


if __name__ == "__main__":
    sys.exit(main())
