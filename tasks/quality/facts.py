"""What the report is told: the facts of one release as plain values, and the two ways to get at its pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from tasks.quality.drift import Shift
from tasks.schema import Accounting, Dataset, Verdict

Images = Callable[[Sequence[str]], Mapping[str, bytes]]
"""Sample ids to encoded PNG or JPEG bytes of the written samples, or to their masks."""
Refused = Callable[[Sequence[tuple[str, str, int]]], Mapping[tuple[str, str, int], bytes | None]]
"""(archive, member, offset) to the original bytes, which may be empty, undecodable or None."""


Read = Callable[[str], bytes]
"""Path below a release to the bytes of the file."""


@dataclass(frozen=True, kw_only=True)
class ReleaseFacts:
    """What the report of any release says, as plain values; no wall-clock time, so equal facts give equal bytes."""

    dataset: Dataset
    release: str
    """Release id in hexadecimal."""
    parameters: Mapping[str, Any]
    inputs: Sequence[Mapping[str, Any]]
    """One per archive or table: ``name``, ``bytes``, ``sha256``."""
    verdicts: Sequence[Verdict]
    """In the order of the gates; those that did not run because an earlier one failed are missing."""
    accounting: Accounting | None
    """None where the metadata gate failed before conversion."""
    quarantine: pd.DataFrame
    """Columns of :data:`tasks.schema.QUARANTINE`."""
    published: bool
    has_data_docs: bool
    """Whether ``data_docs/index.html`` (Great Expectations) lies beside the page."""
    code: Mapping[str, str] = field(default_factory=dict)
    """Name to version, or digest, of the code that made the release, as in the manifest."""


@dataclass(frozen=True, kw_only=True)
class ReportFacts(ReleaseFacts):
    """Those of a release of samples."""

    samples: pd.DataFrame
    """Columns of :func:`tasks.schema.sample_schema`; without image facts where no image was decoded."""
    histograms: Mapping[str, Sequence[int]]
    """Split to pixel counts in 64 bins over the full grey range."""
    findings: Mapping[str, Any]
    """Duplicates and leakage: name to ``{"value": int, "sentence": str}``."""
    holds: Mapping[str, Any] | None = None
    """What :func:`tasks.row_counts.count_rows` counted on the metadata tables."""
    headers: Mapping[str, Any] | None = None
    """``dicom.json``: what the headers of DICOM files held, in counts. None where images are of another kind."""
    drift: Sequence[Shift] = ()
    """Every labelled split beside the largest, see :func:`tasks.quality.drift.between_splits`; empty where no image was
    decoded, or there are not two labelled splits."""
    drift_before: Sequence[Shift] = ()
    """This release beside the one before it; history, so it stays out of ``report.json``."""
    release_before: str | None = None
    """Id of the newest release so far; None where there is none, or none of samples that can be read."""
    near_duplicates: pd.DataFrame | None = None
    """One row per pair of nearly equal images in two groups, worst first: ``sample_a``, ``sample_b``, ``split_a``,
    ``split_b``, ``similarity`` (0–1), ``turned_degrees``, ``is_mirrored``, ``labels_agree``, ``crosses_splits``
    (whether both splits are labelled, and two). None where nobody looked."""
    calibration: Mapping[str, Any] | None = None
    """How the threshold of near-duplicates was found: ``threshold``, ``recall`` and ``precision`` on planted pairs, and
    whatever else is a number or a sentence. None where nobody looked."""
    overlap: Sequence[Mapping[str, Any]] | None = None
    """Images shared with the newest releases of other datasets of the lake: ``dataset``, ``release``, ``pairs``,
    ``exact``, ``near``. It depends on the lake, so it stays out of ``report.json``. None where nobody looked."""


@dataclass(frozen=True, kw_only=True)
class DocumentFacts(ReleaseFacts):
    """Those of a document release."""

    documents: Sequence[Mapping[str, Any]]
    """As in ``documents.json``."""
