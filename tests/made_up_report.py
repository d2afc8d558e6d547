"""Facts of made-up releases, to build reports without a run: small ones, and one with something in every part."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from tasks.quality import drift
from tasks.quality.page import ReportFacts, build
from tasks.schema import QUARANTINE, Accounting, Dataset, Known, Outcome, Parsed, TableCount, Verdict

NASTY = "images/<script>alert('x')</script>.png"
HOMEPAGE = "https://example.org/dataset"


def dataset(**changes: Any) -> Dataset:
    """A declaration with two labels, three splits and text that a page must escape."""
    value = Dataset(
        name="made-up",
        version="1",
        title="Made-up <b>radiographs</b>",
        summary="Nobody’s chest.",
        sources=(),
        licence="CC0",
        citation="Nobody, 2024",
        homepage=HOMEPAGE,
        published="2024",
        members=(),
        tables=(),
        parse=lambda tables: Parsed(pd.DataFrame()),
        labels={"Mass": "a mass", "Cost_$_a_$": "no mathematics"},
        label_kind="multiple",
        splits=("train", "test", "predict"),
        labelled_splits=("train", "test"),
        group="patient",
        known=(Known("follow_up", 3, "Renumbered by the publisher.", "counted"),),
    )
    return dataclasses.replace(value, **changes)


def samples(count: int = 40) -> pd.DataFrame:
    """A sample table with the columns that every release has; 16 bits deep, ``predict`` without its first label."""
    numbers = np.arange(count)
    split = np.where(numbers % 4 == 0, "test", np.where(numbers % 4 == 1, "predict", "train"))
    is_labelled = split != "predict"
    return pd.DataFrame(
        {
            "sample_id": [f"s{n:04d}" for n in numbers],
            "patient_id": [f"p{n // 3}" for n in numbers],
            "group_id": [f"p{n // 3}" for n in numbers],
            "split": split,
            "age_years": np.where(numbers % 10 == 0, np.nan, 20.0 + numbers),
            "sex": pd.Series(["F", "M", None, "F"] * (count // 4), dtype="object"),
            "label.Mass": pd.array(np.where(numbers % 2 == 0, 1, 0), dtype="Int8"),
            "label.Cost_$_a_$": pd.array([1 if n % 8 == 0 else 0 for n in numbers], dtype="Int8"),
            "source_width": 1024 + numbers,
            "source_height": 1000,
            "width": 64,
            "height": 60,
            "bit_depth": 16,
            "image_bytes": 1000,
            "image_sha256": "0" * 64,
            "intensity_mean": 65535.0 / 2,
        }
    ).assign(**{"label.Mass": lambda frame: frame["label.Mass"].where(is_labelled)})


def checked(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with the columns of all image checks: one sample of each stands out, the last ones of the table."""
    last = frame["sample_id"].iloc[-1]
    is_last = frame["sample_id"] == last
    return frame.assign(
        intensity_mean=np.where(frame.index == 5, 100.0, np.where(frame.index == 6, 65000.0, 30000.0)),
        contrast=np.where(frame.index == 7, 0.02, 0.8),
        border_top=np.where(frame.index == 8, 300, 0),
        border_right=0,
        border_bottom=0,
        border_left=0,
        text_regions=np.where(frame.index == 9, 4, 0),
        looks_inverted=is_last,
        looks_turned_degrees=np.where(frame.index == 10, 90.0, 0.0),
    )


def pairs() -> pd.DataFrame:
    """Near-duplicates, worst first; the first sample is in two of them."""
    return pd.DataFrame(
        {
            "sample_a": ["s0000", "s0000", "s0003"],
            "sample_b": ["s0002", "s0006", "s0007"],
            "split_a": ["test", "test", "train"],
            "split_b": ["train", "train", "train"],
            "similarity": [0.9999, 0.999, 0.998],
            "turned_degrees": [90.0, 0.0, np.nan],
            "is_mirrored": [True, False, False],
            "labels_agree": [False, True, True],
            "crosses_splits": [True, True, False],
        }
    )


def quarantine(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A quarantine of these rows."""
    return pd.DataFrame(list(rows), columns=[field.name for field in QUARANTINE])


REFUSED = (
    {
        "archive": "a.zip",
        "member": NASTY,
        "offset": 0,
        "stage": "convert",
        "reason": "undecodable-image",
        "detail": "<i>broken",
    },
    {
        "archive": "a.zip",
        "member": "blank.png",
        "offset": 9,
        "table": "labels",
        "row": 4,
        "stage": "images",
        "reason": "blank-frame",
    },
    {"table": "labels", "row": 5, "stage": "metadata", "reason": "image_missing"},
)


def outcome(code: str, status: Any = "passed", failed: int = 0, **others: Any) -> Outcome:
    """What one expectation of the metadata gate found in 40 rows."""
    return Outcome("metadata", code, f"What {code} says.", "error", 0.01, 40, failed, status, **others)


def facts(**changes: Any) -> ReportFacts:
    """A small published release with a known defect, and something refused."""
    metadata = (outcome("ids"), outcome("follow_up", "known", 3, known_rows=3, observed="<img src=x>"))
    value = ReportFacts(
        dataset=dataset(),
        release="0123abcd",
        parameters={"size": 64, "encoding": "png", "stores": ["parquet", "webdataset"], "quality": float("nan")},
        inputs=[{"name": "a\udcff.zip", "bytes": 12, "sha256": "ab" * 32}],
        verdicts=[Verdict("metadata", metadata), Verdict("images", (outcome("decodable", "tolerated", 1),))],
        accounting=Accounting(45, 40, 2, {"junk": 3}, (TableCount("labels", 42, 40, 2),), {}),
        samples=samples(),
        quarantine=quarantine(REFUSED),
        histograms={"train": [5] * 64, "test": [900] + [1] * 63},
        findings={"repeats": {"value": 2, "sentence": "samples that repeat a picture"}},
        published=True,
        has_data_docs=True,
    )
    return dataclasses.replace(value, **changes)


HEADERS: Mapping[str, Any] = {
    "files": 380,
    "files_not_read": 2,
    "frames": 400,
    "window": [40.0, 400.0],
    "transfer_syntaxes": {"Explicit VR Little Endian": 300, "JPEG Lossless (Process 14, SV1)": 80},
    "photometric_interpretations": {"MONOCHROME1": 20, "MONOCHROME2": 359, "<i>RGB</i>": 1},
    "bits_stored": {"12": 379, "8": 1},
    "burned_in_annotation": {"no": 370, "not said": 10},
    "kept": {"PatientID": 380, "PatientAge": 371, "RescaleSlope": 0},
    "dropped": {"PatientName": 380, "<b>Keyword</b>": 1},
    "files_with_private_elements": 41,
}
"""As ``dicom.json``."""


def whole(**changes: Any) -> ReportFacts:
    """A release with something to show in every part of the report."""
    frame = checked(samples(400)).assign(intensity_std=9000.0)
    frame["intensity_mean"] += np.where(frame["split"] == "test", 15000, 0) + np.arange(400)
    of = changes.get("dataset", dataset())
    measured = {
        "samples": frame,
        "near_duplicates": pairs(),
        "calibration": {"threshold": 0.999, "recall": 0.98, "precision": 0.99, "how": "<b>planted</b> pairs"},
        "overlap": [{"dataset": "another", "release": "beef", "pairs": 3, "exact": 1, "near": 2}],
        "drift": drift.between_splits(of, frame),
        "drift_before": drift.between_releases(of, frame.iloc[::2], frame),
        "code": {"scanmill": "0.1.0"},
        "headers": HEADERS,
    }
    return facts(**{**measured, **changes})


def png(array: npt.NDArray[Any]) -> bytes:
    """An image as PNG."""
    target = io.BytesIO()
    Image.fromarray(array).save(target, "PNG")
    return target.getvalue()


GREY_16 = png(np.linspace(0, 4095, 64 * 60).reshape(60, 64).astype(np.uint16))


def write(value: ReportFacts, folder: Path) -> tuple[str, dict[str, Any]]:
    """Build the report of these facts, with one picture for all samples: the page and ``report.json``."""
    refused = {("a.zip", NASTY, 0): b"\x89PNG\r\n\x1a\nbroken", ("a.zip", "blank.png", 9): GREY_16}
    build(
        value,
        folder,
        images=lambda ids: dict.fromkeys(ids, GREY_16),
        refused=lambda places: {place: refused.get(place) for place in places},
    )
    return (folder / "index.html").read_text("utf-8"), json.loads((folder / "report.json").read_text("utf-8"))
