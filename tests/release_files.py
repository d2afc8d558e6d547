"""What tests read of a release: its samples, its verdicts, and the bytes of every file that tells no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.files import sha256_file

PAGES = ("quality/index.html", "quality/drift.json")
"""They tell of the release before as well."""
VOLATILE = ("quality/data_docs/", "quality/run.json", "quality/changes.html", "quality/dask-", *PAGES)


def files_of(folder: Path) -> dict[str, str]:
    """SHA-256 by path of every file whose bytes are promised."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: sha256_file(path) for name, path in paths.items() if not name.startswith(VOLATILE)}


def samples_of(release: Path) -> pd.DataFrame:
    """The sample table by sample id, sorted."""
    return pd.read_parquet(release / "samples.parquet").set_index("sample_id").sort_index()


def outcomes_of(release: Path) -> dict[str, Any]:
    """What each expectation found, by its code, as the report has it."""
    report = json.loads((release / "quality" / "report.json").read_bytes())
    return {outcome["code"]: outcome for verdict in report["verdicts"] for outcome in verdict["outcomes"]}
