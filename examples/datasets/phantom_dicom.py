"""Phantom mammograms, an invented release of DICOM files: how a dataset of DICOM files is declared (docs/dicom.md).

The publisher's oddities: files are named by their UID and lie in a folder for each study, some films are MONOCHROME1,
some are packed (RLE), and the table has neither patient nor age: these are in the headers.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tasks.demands import one_of
from tasks.readings import number, whole
from tasks.schema import (
    DICOM,
    Appearance,
    Dataset,
    Datasheet,
    Dicom,
    ImageRules,
    MemberRule,
    Parsed,
    Source,
    Table,
    TableRule,
    Terms,
)
from tasks.splits import split_by_group

LABELS = {"benign": "a round mass with a sharp rim", "malignant": "a mass with spicules"}
SHARES = {"train": 0.7, "test": 0.3}
KEPT = ("BitsStored", "ImagerPixelSpacing", "Manufacturer")
"""Of the headers, beside what becomes a column of its own."""


def parse(tables: Mapping[str, Table]) -> Parsed:
    """One sample per row of findings.csv, with what the header of its image says."""
    rows = tables["findings"].rows
    frame = pd.DataFrame({"table": "findings", "row": rows.index, "image": rows["image_id"]}, index=rows.index)
    # A row's image_id is the SOPInstanceUID, and so the key of its image. Were it a file name, the column "member" of
    # the table of headers would lead from one to the other.
    headers = tables[DICOM].rows.set_index("key").reindex(rows["image_id"]).set_axis(rows.index)
    frame["patient_id"] = frame["group_id"] = headers["PatientID"]
    frame["age_years"] = number(headers["PatientAge"].str.removesuffix("Y"))
    frame["sex"] = headers["PatientSex"].where(headers["PatientSex"].isin(["F", "M"]))
    frame["view"] = headers["ViewPosition"]
    for name in LABELS:
        frame[f"label.{name}"] = (rows["finding"] == name).astype("Int8").where(rows["finding"].isin(list(LABELS)))
    for column in rows.columns:
        frame[f"meta.{column}"] = rows[column]
    for keyword in KEPT:
        frame[f"meta.{keyword}"] = headers[keyword]
    frame["check.bits"] = whole(headers["BitsStored"]).astype("string")
    return Parsed(frame.reset_index(drop=True))


def split(samples: pd.DataFrame) -> pd.Series:
    """By a hash of the patient alone: images that come later move nobody."""
    everyone = pd.Series("all", index=samples.index)
    return split_by_group(samples["group_id"], everyone, SHARES, {"all": "phantom-dicom"})


DATASET = Dataset(
    name="phantom-dicom",
    version="1",
    title="Phantom mammograms",
    summary="An invented release of 120 mammograms of 60 phantoms as DICOM files; it shows how such are declared.",
    sources=(Source("studies.zip", "https://example.org/phantoms/2026", note="invented; its fake writes one like it"),),
    licence="CC0 1.0",
    citation="Invented for scanmill's documentation.",
    homepage="https://example.org/phantoms",
    published="2026",
    members=(
        MemberRule("ignored", r"(?:^|/)DICOMDIR$", "dicom-directory"),
        MemberRule("image", r"(?:^|/)studies/[^/]+/(?P<key>[^/]+)$", "image"),
        MemberRule("table", r"(?:^|/)findings\.csv$", "metadata-table", role="findings"),
    ),
    tables=(TableRule("findings", ("image_id", "finding")),),
    parse=parse,
    labels=LABELS,
    label_kind="exclusive",
    splits=("train", "test"),
    labelled_splits=("train", "test"),
    group="patient",
    split=split,
    near_duplicate=0.9,  # two phantoms of one density are more alike than two persons
    image=ImageRules(size=224),
    dicom=Dicom(keeps=("PatientID", "PatientSex", "PatientAge")),
    appearance=Appearance(bit_depths=(16,)),
    samples=120,
    expectations=(one_of("other-bits", "check.bits", ["12"], "Every film has grey levels of 12 bits."),),
    tolerance=0.02,
    terms=Terms(
        may_redistribute=True,
        redistribution="It is made up and nobody's: pass it on as you like (CC0 1.0).",
        publisher="scanmill",
    ),
    datasheet=Datasheet(
        motivation=("Invented, to show how a dataset of DICOM files is declared.",),
        composition=("120 drawn mammograms of 60 phantoms, two views each, each with one mass.",),
        labelling=("As drawn: round and sharp is benign, with spicules malignant.",),
        not_for=("Training anything for people: no breast looks like that.",),
    ),
)
