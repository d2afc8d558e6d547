"""Osteoporotic vertebral fractures (Zhang et al., Front Endocrinol 2024): the supplement, and the method's own input.

The publisher released one Word file, no image and no patient table. Fetched from figshare it becomes a document
release.
Radiographs and masks are the user's own, in a contract of ours: ``images/<patient_id>_<vertebra>.png``,
``masks/<patient_id>_<vertebra>.png`` and one CSV with ``patient_id, vertebra, centre, set, class``.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tasks.demands import matching, one_of
from tasks.readings import number, whole, yes_no
from tasks.schema import (
    Appearance,
    Dataset,
    Datasheet,
    Field,
    ImageRules,
    MemberRule,
    Parsed,
    Remote,
    Source,
    Table,
    TableRule,
    Terms,
)

SETS = ("train", "internal", "external", "prospective")
"""As the abstract has them: 712, 178, 111 and 75 vertebrae."""
CLASSES = {f"class_{number}": f"class {number} of the three of the paper" for number in range(3)}
COLUMNS = ("patient_id", "vertebra", "centre", "set", "class")


def parse(tables: Mapping[str, Table]) -> Parsed:
    """One row per vertebra; sets are taken as they are given."""
    rows = tables["vertebrae"].rows.apply(lambda column: column.str.strip())
    frame = pd.DataFrame({"table": "vertebrae", "row": rows.index}, index=rows.index)
    frame["image"] = rows["patient_id"] + "_" + rows["vertebra"]
    frame["patient_id"] = rows["patient_id"].replace("", None)
    frame["group_id"] = frame["patient_id"]
    frame["split"] = rows["set"].str.lower().replace("", None)
    classes = whole(rows["class"])
    is_known = classes.isin(range(len(CLASSES)))
    for place, name in enumerate(CLASSES):
        frame[f"label.{name}"] = (classes == place).astype("Int8").where(is_known)
    if "age" in rows:
        frame["age_years"] = number(rows["age"])
    if "sex" in rows:
        frame["sex"] = rows["sex"].str.upper().replace("", None)
    for column in rows.columns:
        frame[f"meta.{column}"] = rows[column]
    frame["meta.level"] = rows["vertebra"].str.upper()
    frame["check.centre"] = _centre(rows)
    frame["check.class_known"] = yes_no(is_known.astype(bool))
    return Parsed(frame.reset_index(drop=True))


TERMS = Terms(
    redistribution=(
        "The supplement may be passed on with attribution (CC BY 4.0, inferred from the journal). A release of your "
        "own radiographs and masks is under whatever holds for them, and not under that licence: ask your institution "
        "before you pass on a shard."
    ),
    images_licence="your own",
    publisher="Frontiers",
    bibtex="""@article{zhang2024ovf,
  author = {Zhang and others},
  journal = {Frontiers in Endocrinology},
  volume = {15},
  pages = {1370838},
  year = {2024},
  doi = {10.3389/fendo.2024.1370838}
}""",
)
DATASHEET = Datasheet(
    motivation=(
        "Made to tell kinds of osteoporotic vertebral fractures apart with deep learning and radiomics (title).",
    ),
    composition=(
        "The paper has 1,076 vertebrae of 942 patients of three hospitals: 712 for training, 178 internal, 111 "
        "external, 75 prospective.",
        "The publisher released one Word file: neither an image nor a patient table.",
    ),
    labelling=("Three classes, 0, 1 and 2; who drew the masks is not known here.",),
    sensitive=("The supplement tells of no single patient (inferred); your own table and radiographs do.",),
    uses=(
        "Reading the tables of the supplement by machine.",
        "Repeating the method on radiographs, masks and a table of your own.",
    ),
    not_for=("Training on the published data: there are no images.",),
    biases=("Not known for the published patients; those of your own images are yours to describe.",),
    limitations=(
        "The description says that all four sets were divided at random; the external and the prospective one cannot "
        "have been (inferred).",
    ),
    maintenance=("A supplement of a paper of 2024; no further release is known.",),
)


def _centre(rows: pd.DataFrame) -> pd.Series:
    """What is wrong with the centre of a vertebra: ``missing``, ``also in training``, or empty."""
    sets = rows["set"].str.lower()
    trained = set(rows.loc[sets == "train", "centre"])
    words = pd.Series("", index=rows.index)
    words = words.mask((sets == "external") & rows["centre"].isin(trained), "also in training")
    return words.mask(rows["centre"] == "", "missing")


DATASET = Dataset(
    name="ovf-radiomics",
    version="1",
    title="Osteoporotic vertebral fractures, deep-learning radiomics",
    summary=(
        "The supplement of Zhang et al. 2024 (one Word file: tables, text, figures) as a document release; and, from "
        "your own radiographs with a mask of every vertebra, the input of its method."
    ),
    sources=(
        Source(
            "DataSheet_1_….docx",
            "https://doi.org/10.3389/fendo.2024.1370838",
            note="figshare article 25494829; images and masks are your own",
        ),
    ),
    remote=Remote("figshare", "25494829"),
    licence="cc-by-4.0",
    citation="Zhang et al. Front Endocrinol 2024;15:1370838, doi 10.3389/fendo.2024.1370838",
    homepage="https://doi.org/10.3389/fendo.2024.1370838",
    published="2024",
    members=(
        MemberRule("image", r"(?:^|/)images/(?P<key>[^/]+)\.(?i:png|jpe?g)$", "image"),
        MemberRule("mask", r"(?:^|/)masks/(?P<key>[^/]+)\.(?i:png)$", "mask"),
        MemberRule("table", r"(?i)\.csv$", "metadata-table"),
        MemberRule("document", r"(?i)\.docx$", "document"),
        MemberRule("ignored", r"(?i)(?:^|/)(?:README|LICENSE)[^/]*$|\.(?:pdf|txt|md)$", "document"),
    ),
    tables=(TableRule("vertebrae", COLUMNS),),
    parse=parse,
    labels=CLASSES,
    label_kind="exclusive",
    splits=SETS,
    labelled_splits=SETS,
    group="patient",
    has_masks=True,
    image=ImageRules(size=None, channels=(1,), min_side=16),
    appearance=Appearance(bit_depths=(8, 16)),
    fields={"level": Field("text", "vertebra in capitals, such as L1")},
    expectations=(
        one_of("unknown-label", "check.class_known", ["yes"], "The class is 0, 1 or 2.", severity="critical"),
        one_of(
            "centre",
            "check.centre",
            [""],
            "Every vertebra names its hospital, and no hospital of the external set is one of those trained on.",
            count_by="check.centre",
        ),
        matching(
            "vertebra", "meta.level", r"^(?:C[1-7]|T(?:[1-9]|1[0-2])|L[1-6]|S[1-5])$", "Vertebrae are named C1 to S5."
        ),
    ),
    terms=TERMS,
    datasheet=DATASHEET,
)
