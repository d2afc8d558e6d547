"""Mammography density × malignancy: the DPhi "Data Sprint 31" zip, 8 classes, 7,632 augmented crops of 106 masses.

The publisher's oddities: train and test share base names, the test side has no labels, ``sample_submission.csv`` is a
placeholder that looks like labels, and almost half of the test files are byte copies of training files.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tasks.demands import one_of
from tasks.readings import stem
from tasks.schema import Dataset, ImageRules, Known, MemberRule, Parsed, Source, Table, TableRule
from tasks.splits import split_by_group

CLASSES = {
    f"Density{density}{finding}": f"BI-RADS-like density {density} of 4, {finding.lower()} mass"
    for density in (1, 2, 3, 4)
    for finding in ("Benign", "Malignant")
}
OBSERVED = "counted on the complete zip: 7,632 files, SHA-256 of the decoded pixels"

# For each class the first number whose hash deals as near to 70 % of the class's published images to train as whole
# groups allow: 4,007 of 5,724 in all. Only class and group sizes were looked at; tests/bench/choose_salts.py has it.
SALTS = {
    "Density1Benign": "Density1Benign/49",
    "Density1Malignant": "Density1Malignant/12",
    "Density2Benign": "Density2Benign/29",
    "Density2Malignant": "Density2Malignant/1",
    "Density3Benign": "Density3Benign/183",
    "Density3Malignant": "Density3Malignant/19",
    "Density4Benign": "Density4Benign/5",
    "Density4Malignant": "Density4Malignant/9",
}


def parse(tables: Mapping[str, Table]) -> Parsed:
    """Labelled rows from the training table, split left to :func:`split`; unlabelled rows to ``predict``."""
    parts = []
    for role, split_name in (("train", None), ("test", "predict")):
        rows = tables[role].rows
        part = pd.DataFrame({"table": role, "row": rows.index, "split": split_name}, index=rows.index)
        part["image"] = role + "/" + stem(rows["filename"])
        for column in rows.columns:
            part[f"meta.{column}"] = rows[column]
        parts.append(part)
    frame = pd.concat(parts, ignore_index=True)
    # The Mendeley deposit this was built from sometimes says "Malign".
    published = frame["meta.label"].str.replace(r"Malign$", "Malignant", regex=True)
    for name in CLASSES:
        frame[f"label.{name}"] = (published == name).astype("Int8").where(published.isin(list(CLASSES)))
    return Parsed(frame)


def split(samples: pd.DataFrame) -> pd.Series:
    """70 % train, 30 % validation, by identical pixels within each class; stable when rows are added."""
    labels = samples[[f"label.{name}" for name in CLASSES]].set_axis(list(CLASSES), axis=1)
    strata = labels.idxmax(axis=1)
    return split_by_group(samples["group_id"], strata, {"train": 0.7, "validation": 0.3}, SALTS)


DATASET = Dataset(
    name="mammography-density",
    version="1",
    title="Mammography density and malignancy, 8 classes",
    summary=(
        "224 px crops around 106 breast masses of INbreast, each in 72 rotated, flipped and contrast-changed variants; "
        "classes are breast density (1–4) by benign or malignant. No patient or lesion id is published."
    ),
    sources=(
        Source(
            name="mammography_images.zip",
            url="https://dphi.tech/challenges/data-sprint-31-breast-cancer-detection",
            note="DPhi Data Sprint 31; built from doi 10.17632/ywsbh3ndr8",
            size_bytes=58442092,
        ),
    ),
    licence="other",
    citation=(
        "Lin T-Y, Huang M-L. Dataset of breast mammography images with masses. Data in Brief 2020. "
        "doi 10.17632/ywsbh3ndr8"
    ),
    homepage="https://doi.org/10.17632/ywsbh3ndr8",
    published="2020",
    members=(
        MemberRule("image", r"(?:^|/)(?P<key>(?:train|test)/[^/]+)\.(?:jpe?g|png)$", "image"),
        MemberRule("table", r"(?:^|/)Training_set\.csv$", "metadata-table", role="train"),
        MemberRule("table", r"(?:^|/)Testing_set\.csv$", "metadata-table", role="test"),
        MemberRule("ignored", r"(?:^|/)sample_submission\.csv$", "placeholder-labels"),
    ),
    tables=(TableRule("train", ("filename", "label")), TableRule("test", ("filename",))),
    parse=parse,
    labels=CLASSES,
    label_kind="exclusive",
    splits=("train", "validation", "predict"),
    labelled_splits=("train", "validation"),
    group="pixels",
    split=split,
    image=ImageRules(size=224, channels=(1,), min_side=32),
    samples=7632,
    expectations=(
        one_of(
            "unknown-label",
            "meta.label",
            [*CLASSES, *(f"Density{d}Malign" for d in (1, 2, 3, 4))],
            "Every published label is one of the eight density-by-finding classes.",
            severity="critical",
        ),
    ),
    known=(
        Known("repeated-pixels", 2544, "The publisher's augmentation wrote 2,544 images twice.", OBSERVED),
        Known(
            "predict-copies-labelled",
            941,
            "941 of the 1,908 unlabelled test images are identical to a labelled training image, so scores on the "
            "publisher's test set are inflated.",
            OBSERVED,
        ),
    ),
)
