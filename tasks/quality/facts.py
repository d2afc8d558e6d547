"""What the report is told: the facts of one release as plain values, and the two ways to get at its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from tasks.schema import Accounting, Dataset, Verdict

Images = Callable[[Sequence[str]], Mapping[str, bytes]]
"""Sample ids to encoded PNG or JPEG bytes of the written samples."""
Refused = Callable[[Sequence[tuple[str, str, int]]], Mapping[tuple[str, str, int], bytes | None]]
"""(archive, member, offset) to the original bytes, which may be empty, undecodable or None."""


@dataclass(frozen=True)
class ReportFacts:
    """Everything the report says, as plain values; no wall-clock time, so the same facts give the same bytes."""

    dataset: Dataset
    release: str
    """Release id in hexadecimal."""
    parameters: Mapping[str, Any]
    inputs: Sequence[Mapping[str, Any]]
    """One per archive or table: ``name``, ``bytes``, ``sha256``."""
    verdicts: Sequence[Verdict]
    """Metadata gate, then images gate; the second is missing where the first failed."""
    accounting: Accounting | None
    """None where the metadata gate failed before conversion."""
    samples: pd.DataFrame
    """Columns of :func:`tasks.schema.sample_schema`; without image facts where no image was decoded."""
    quarantine: pd.DataFrame
    """Columns of :data:`tasks.schema.QUARANTINE`."""
    histograms: Mapping[str, Sequence[int]]
    """Split to pixel counts in 64 bins over the full grey range."""
    findings: Mapping[str, Any]
    """Duplicates and leakage: name to ``{"value": int, "sentence": str}``."""
    published: bool
    has_data_docs: bool
    """Whether ``data_docs/index.html`` (Great Expectations) lies beside the page."""
    holds: Mapping[str, Any] | None = None
    """What :func:`tasks.row_counts.count_rows` counted on the metadata tables."""
