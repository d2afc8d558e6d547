"""Mammography density × malignancy: the DPhi "Data Sprint 31" zip, 8 classes, 7,632 augmented crops of 106 masses.

The publisher's oddities: train and test share base names, the test side has no labels, ``sample_submission.csv`` is a
placeholder that looks like labels, and almost half of the test files are byte copies of training files.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tasks.demands import one_of
from tasks.readings import stem
from tasks.schema import (
    Appearance,
    Count,
    Dataset,
    Datasheet,
    ImageRules,
    Known,
    MemberRule,
    Parsed,
    PublishedCounts,
    Source,
    Table,
    TableRule,
    Terms,
)
from tasks.splits import split_by_group

CLASSES = {
    f"Density{density}{finding}": f"BI-RADS-like density {density} of 4, {finding.lower()} mass"
    for density in (1, 2, 3, 4)
    for finding in ("Benign", "Malignant")
}
SAME_LESION = 0.45
"""Similarity from which on two crops show one lesion. Measured on the complete set, class counts left aside: of 3,355
pairs of different lesions that are nearest to each other none is above 0.31; no pair that ties a lesion together is
below 0.73; and every threshold from 0.35 to 0.65 gives the same 106 groups (tests/bench/lesions.py)."""
OBSERVED = "counted on the complete zip: 7,632 files, SHA-256 of the decoded pixels"
RECOVERED = "recovered from the pixels of the complete zip: 106 masses of 72 images each (tests/bench/lesions.py)"

# For each class the first number whose hash deals as near to 70 % of the class's published images to train as whole
# lesions allow: 4,030 of 5,724 in all. Only class and group sizes were looked at; tests/bench/choose_salts.py has it.
SALTS = {
    "Density1Benign": "Density1Benign/419",
    "Density1Malignant": "Density1Malignant/18",
    "Density2Benign": "Density2Benign/0",
    "Density2Malignant": "Density2Malignant/6937",
    "Density3Benign": "Density3Benign/74",
    "Density3Malignant": "Density3Malignant/103",
    "Density4Benign": "Density4Benign/30",
    "Density4Malignant": "Density4Malignant/0",
}


CLASS_COUNTS = {
    "Density1Benign": 648, "Density1Malignant": 1620, "Density2Benign": 216, "Density2Malignant": 1728,
    "Density3Benign": 702, "Density3Malignant": 432, "Density4Benign": 324, "Density4Malignant": 54,
}  # fmt: skip
"""Labelled images by class: counted on Training_set.csv, each a multiple of 54, three quarters of a lesion's 72."""


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
    """70 % train, 30 % validation, by lesion within each class; stable when rows are added."""
    labels = samples[[f"label.{name}" for name in CLASSES]].set_axis(list(CLASSES), axis=1)
    strata = labels.idxmax(axis=1)
    return split_by_group(samples["group_id"], strata, {"train": 0.7, "validation": 0.3}, SALTS)


TERMS = Terms(
    may_redistribute=False,
    redistribution=(
        "The deposit that it was built from is CC BY 4.0 (recalled), but this copy of it carries no licence, and the "
        "mammograms are from INbreast, which has terms of its own (recalled). Keep the images and every shard to "
        "yourself; figures over many images may be shown."
    ),
    licence_url="https://doi.org/10.17632/ywsbh3ndr8",
    creators=("Lin T-Y", "Huang M-L"),
    publisher="DPhi",
    bibtex="""@article{lin2020masses,
  author = {Lin, T.-Y. and Huang, M.-L.},
  title = {Dataset of breast mammography images with masses},
  journal = {Data in Brief},
  year = {2020},
  note = {data: doi 10.17632/ywsbh3ndr8}
}""",
)
DATASHEET = Datasheet(
    motivation=("Made for a contest in breast cancer detection, DPhi's Data Sprint 31.",),
    composition=(
        "5,724 labelled and 1,908 unlabelled images: 106 masses of INbreast, each in 72 variants.",
        "Of the labelled ones 3,834 (67 %) show a malignant mass; Density4Malignant is one single mass (54 images).",
        "5,088 of the 7,632 images are different ones, the others repeat them.",
    ),
    collection=(
        "Lin and Huang cut masses out of mammograms and published them as a deposit; the contest took its "
        "INbreast part.",
    ),
    preprocessing=(
        "Each mass was rotated, flipped and changed in contrast into 72 variants, shrunk to 224 x 224 pixels and "
        "stored as colour JPEG with three equal channels.",
        "Numbers of patient, mass and variant were lost when the images were renamed.",
    ),
    labelling=("Breast density 1 to 4, and benign or malignant; by whom and how is not known here.",),
    sensitive=("No age, name or date; a mammogram is of a patient all the same.",),
    uses=("Trying out methods, and showing what leaks between splits do to a score.",),
    not_for=(
        "Telling how well a model would do in screening: masses are cut out, and two thirds are malignant.",
        "Comparing with scores on the contest's own test images: almost half of them are copies of training images.",
    ),
    biases=("106 masses from one collection; malignant ones are far more frequent than in any screening (inferred).",),
    limitations=(
        "All variants of one mass look alike: the number of independent cases is 106, not 7,632.",
        "Class Density4Malignant cannot be learned and tested honestly: it is one mass.",
    ),
    maintenance=("None: the contest is over.",),
)

DATASET = Dataset(
    name="mammography-density",
    version="2",
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
    licence="unclear",
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
    group="picture",
    near_duplicate=SAME_LESION,
    split=split,
    image=ImageRules(size=224, channels=(1,), min_side=32),
    appearance=Appearance(sizes=((224, 224),)),  # crops before black, turned and mirrored by the publisher
    samples=7632,
    counts=(
        PublishedCounts(
            "label-counts",
            "Every class has as many labelled images as published, 5,724 in all; 1,908 have no label.",
            Count("images", 7632),
            (
                *(Count(name, number, {f"label.{name}": 1}) for name, number in CLASS_COUNTS.items()),
                Count("images without label", 1908, {"split": "predict"}),
            ),
        ),
    ),
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
            is_leak=True,
        ),
        Known(
            "predict-shows-labelled",
            1908,
            "Every one of the 1,908 unlabelled test images shows a mass that a labelled training image shows as well, "
            "turned, mirrored or in another contrast.",
            RECOVERED,
            is_leak=True,
        ),
    ),
    terms=TERMS,
    datasheet=DATASHEET,
)
