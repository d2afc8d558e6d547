"""DICOM files alone: everything that is known of them is in their headers."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tasks.readings import number
from tasks.schema import DICOM, Dataset, Dicom, ImageRules, MemberRule, Parsed, Source, Table
from tasks.splits import split_by_group


def parse(tables: Mapping[str, Table]) -> Parsed:
    """A row per image or frame; what the label is stands in the view."""
    headers = tables[DICOM].rows
    rows = pd.DataFrame({"table": DICOM, "row": headers.index, "image": headers["key"]})
    rows["patient_id"] = rows["group_id"] = headers["PatientID"].to_numpy()
    rows["age_years"] = number(headers["PatientAge"].str.removesuffix("Y")).to_numpy()
    rows["sex"] = headers["PatientSex"].where(headers["PatientSex"].isin(["F", "M"])).to_numpy()
    rows["view"] = headers["ViewPosition"].to_numpy()
    rows["label.oblique"] = (headers["ViewPosition"] == "MLO").astype("Int8").to_numpy()
    for keyword in ("BitsStored", "RescaleIntercept", "ImagerPixelSpacing", "SeriesInstanceUID", "Manufacturer"):
        rows[f"meta.{keyword}"] = headers[keyword].to_numpy()
    return Parsed(rows)


def split(samples: pd.DataFrame) -> pd.Series:
    """By patient."""
    one = pd.Series("all", index=samples.index)
    return split_by_group(samples["group_id"], one, {"train": 0.7, "test": 0.3}, {"all": "made up"})


DATASET = Dataset(
    name="made-up-dicom",
    version="1",
    title="Made-up DICOM files",
    summary="Breasts that nobody has.",
    sources=(Source("a.zip", "https://example.org/a.zip", note="made up"),),
    licence="CC0-1.0",
    citation="none",
    homepage="https://example.org",
    published="2026",
    members=(
        MemberRule("ignored", r"(?:^|/)DICOMDIR$", "dicom-directory"),
        MemberRule("image", r"(?:^|/)images/(?P<key>[^/]+)$", "image"),
    ),
    tables=(),
    parse=parse,
    labels={"oblique": "taken from the side"},
    label_kind="multiple",
    splits=("train", "test"),
    labelled_splits=("train", "test"),
    group="patient",
    split=split,
    near_duplicate=1.0,
    image=ImageRules(size=None, channels=(1, 3)),
    dicom=Dicom(keeps=("PatientID", "PatientSex", "PatientAge", "SeriesInstanceUID")),
    tolerance=0.9,
)
