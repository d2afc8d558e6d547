"""CheXchoNet 1.0.0 (Bhave et al., Eur Heart J 2024): chest X-rays paired with what an echocardiogram measured.

The publisher's oddities: ``cxr_path`` speaks of ``cxrs/`` where the folder is ``images/``, the time offset is the text
of a pandas Timedelta, pixel spacings are of the original film and not of the 224 px image, and echo values repeat over
a patient's films, so that rows are not independent.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tasks.demands import between, matching, one_of
from tasks.readings import flag, number, stem, whole, yes_no
from tasks.schema import (
    Appearance,
    Count,
    Dataset,
    Datasheet,
    Field,
    ImageRules,
    MemberRule,
    Parsed,
    PublishedCounts,
    Remote,
    Source,
    Table,
    TableRule,
    Terms,
)
from tasks.splits import group_fraction

COLUMNS = (
    "patient_id",
    "cxr_filename",
    "cxr_time_offset",
    "cxr_year",
    "cxr_path",
    "cxr_pixel_spacing_x",
    "cxr_pixel_spacing_y",
    "age",
    "sex",
    "ivsd",
    "lvpwd",
    "lvidd",
    "slvh",
    "dlv",
    "composite_slvh_dlv",
    "heart_transplant",
    "lung_transplant",
    "pacemaker_or_icd",
)
LABELS = {
    "slvh": "severe left ventricular hypertrophy: thick septum or posterior wall",
    "dlv": "dilated left ventricle",
    "composite_slvh_dlv": "either of the two",
}
TARGETS = {"ivsd": "cm", "lvpwd": "cm", "lvidd": "cm"}
"""Thickness of the septum and of the posterior wall, inner diameter of the left ventricle, all in diastole."""
WALL_CM = {"M": 1.5, "F": 1.4}
"""slvh above it (src/train/thresholds.py of sbhave77/CheXchoNet)."""
CAVITY_CM = {"M": 5.9, "F": 5.3}
"""dlv above it (ibid.); the lines of the publisher's notebook are others, and do not fit the labels."""
LARGE_CM = 9.0
"""No ventricle measures more; the table has 9.88 and 9.72 (facts of the release)."""
OLDEST = 89
"""Ages of 90 and above identify, and are not published."""
PROCEDURES = ("heart_transplant", "lung_transplant", "pacemaker_or_icd")
SHARES = {"train": 0.9, "validation": 0.05, "test": 0.05}
"""As the publisher's code splits, by patient; it fixes no seed, we do."""
SALT = "chexchonet/split/0"


def parse(tables: Mapping[str, Table]) -> Parsed:
    """One row per film; split by a hash of the patient, so that further rows move nobody."""
    rows = tables["films"].rows
    frame = pd.DataFrame({"table": "films", "row": rows.index}, index=rows.index)
    frame["image"] = stem(rows["cxr_filename"])
    frame["patient_id"] = rows["patient_id"].where(rows["patient_id"].str.fullmatch(r"[0-9a-f]{32}"))
    frame["group_id"] = frame["patient_id"]
    frame["age_years"] = number(rows["age"])
    frame["sex"] = rows["sex"].str.upper().replace("", None)
    frame["view"] = "PA"  # the project's page: posteroanterior films only
    frame["split"] = frame["patient_id"].map(_split, na_action="ignore")
    for name in LABELS:
        frame[f"label.{name}"] = flag(rows[name])
    for name in TARGETS:
        frame[f"target.{name}"] = number(rows[name])
    for column in rows.columns:
        frame[f"meta.{column}"] = rows[column]
    frame["meta.time_offset_days"] = _days(rows["cxr_time_offset"])
    frame["meta.year"] = whole(rows["cxr_year"])
    for axis in "xy":
        frame[f"meta.film_spacing_{axis}"] = number(rows[f"cxr_pixel_spacing_{axis}"])
    return Parsed(frame.join(_checks(frame)).reset_index(drop=True))


def _split(patient: str) -> str:
    fraction = group_fraction(patient, SALT)
    held_out = SHARES["validation"]
    return "validation" if fraction < held_out else "test" if fraction < held_out + SHARES["test"] else "train"


def _days(texts: pd.Series) -> pd.Series:
    """Days, with their fraction, of texts such as ``1200 days 08:30:15.250000``."""
    return pd.to_timedelta(texts, errors="coerce").dt.total_seconds() / 86400


def _checks(frame: pd.DataFrame) -> pd.DataFrame:
    """What the gate looks at: labels against each other and against the measurements."""
    slvh, dlv, composite = (frame[f"label.{name}"] for name in LABELS)
    wall = frame[["target.ivsd", "target.lvpwd"]].max(axis=1) > frame["sex"].map(WALL_CM)
    cavity = frame["target.lvidd"] > frame["sex"].map(CAVITY_CM)
    measured = frame[[f"target.{name}" for name in TARGETS]].set_axis(list(TARGETS), axis=1)
    # A film without a readable label or patient is refused for that alone.
    is_judged = frame[[f"label.{name}" for name in LABELS]].notna().all(axis=1)
    own = frame["patient_id"] == frame["image"].str[:32]
    return pd.DataFrame(
        {
            "check.labels_known": yes_no(is_judged),
            "check.composite": yes_no(composite == (slvh | dlv)).where(is_judged, None),
            "check.slvh_threshold": yes_no(wall == (slvh == 1)).where(is_judged, None),
            "check.dlv_threshold": yes_no(cavity == (dlv == 1)).where(is_judged, None),
            "check.patient_agrees": yes_no(own),
            "check.zero": _first(measured.eq(0)),
            "check.large": _first(measured.gt(LARGE_CM)),
            "check.missing": _first(measured.isna()),
            "check.time_offset": yes_no(frame["meta.time_offset_days"].notna()),
            "check.procedures": _first(~frame[[f"meta.{name}" for name in PROCEDURES]].isin(["0", "1"])),
        }
    )


def _first(flags: pd.DataFrame) -> pd.Series:
    """Name of the first column that holds, row by row, or empty."""
    return flags.idxmax(axis=1).where(flags.any(axis=1), "")


TERMS = Terms(
    may_redistribute=False,
    redistribution=(
        "Access is personal: everyone who uses it has signed PhysioNet's data use agreement. No image, no row and "
        "nothing made of the pixels may be passed on, shards and this release included; figures over many patients may "
        "be shown."
    ),
    licence_url="https://physionet.org/content/chexchonet/view-license/1.0.0/",
    duo={"0000026": "user specific restriction", "0000042": "general research use"},
    publisher="PhysioNet",
    bibtex="""@misc{chexchonet,
  author = {Bhave and others},
  title = {{CheXchoNet}, version 1.0.0},
  publisher = {PhysioNet},
  year = {2024},
  doi = {10.13026/kp08-ws25},
  note = {described in Eur Heart J 2024, doi 10.1093/eurheartj/ehad782}
}""",
)
DATASHEET = Datasheet(
    motivation=("Made to find changes of the left ventricle on plain chest X-rays (Bhave et al. 2024).",),
    composition=(
        "A complete copy has 71,589 films of 24,689 patients, 37,289 of women and 34,300 of men.",
        "Hypertrophy is labelled on 6,191 films, dilation on 4,343, one or the other on 9,861.",
        "Transplanted hearts are on 7,126 films, transplanted lungs on 9,176, a pacemaker or defibrillator on 5,069.",
    ),
    collection=(
        "Posteroanterior films of patients who had an echocardiogram within 12 months; each film has the largest "
        "measurement of that window (the project's page).",
        "The data hold the years 2012 to 2018; the project's page says 2013 to 2018.",
    ),
    preprocessing=(
        "The publisher's code shrinks every film to 224 x 224 pixels without keeping its shape, equalises its contrast "
        "by neighbourhood, stretches it to 0-255 and stores it as JPEG of quality 100.",
    ),
    labelling=(
        "Labels follow from the echocardiogram alone: hypertrophy where a wall is thicker than 1.5 cm (men) or 1.4 cm "
        "(women), dilation where the ventricle is wider than 5.9 cm (men) or 5.3 cm (women).",
        "Whether a measurement of exactly the limit counts is not known.",
    ),
    sensitive=(
        "Age (truncated below 90), sex, year, transplants and devices; patients have random numbers, dates are days "
        "from a first one.",
    ),
    uses=("Research on finding hypertrophy and dilation from plain films.",),
    not_for=(
        "Measuring lengths: the published pixel spacing is of the original film, and the shape was not kept.",
        "Any attempt to tell who a patient is (the agreement forbids it; recalled).",
    ),
    biases=(
        "Only patients who were sent to an echocardiogram are in it, so disease is more frequent than among all who "
        "get a chest X-ray (inferred).",
        "Devices and the traces of a transplantation can be seen on the film and can stand for the label (inferred).",
    ),
    limitations=(
        "Measurements repeat over a patient's films: films are not independent.",
        "Contrast is equalised already; inverted films are possible (inferred).",
        "Measurements of 0 and above 9 cm are in the table; a 0 may stand for a missing one (inferred).",
    ),
    maintenance=("Version 1.0.0 of 2024-03-20; PhysioNet keeps versions apart.",),
)

DATASET = Dataset(
    name="chexchonet",
    version="1",
    title="CheXchoNet",
    summary=(
        "71,589 posteroanterior chest X-rays of 24,689 patients, each paired with an echocardiogram within a year: "
        "wall thickness, ventricular diameter, and labels for severe hypertrophy and dilation of the left ventricle."
    ),
    sources=(
        Source(
            "physionet.org/files/chexchonet/1.0.0/",
            "https://physionet.org/content/chexchonet/1.0.0/",
            note="71,589 JPEGs and metadata.csv, about 1 GB (inferred); restricted access",
        ),
    ),
    remote=Remote(
        "physionet",
        "chexchonet/1.0.0",
        needs_account=True,
        access=(
            "Access is restricted: sign in at https://physionet.org/content/chexchonet/1.0.0/, complete the training "
            "it asks for and sign its data use agreement"
        ),
    ),
    is_restricted=True,
    licence="PhysioNet Restricted Health Data License 1.5.0",
    citation=(
        "Bhave et al. Eur Heart J 2024, doi 10.1093/eurheartj/ehad782. CheXchoNet 1.0.0, PhysioNet 2024, "
        "doi 10.13026/kp08-ws25"
    ),
    homepage="https://physionet.org/content/chexchonet/1.0.0/",
    published="2024-03-20",
    members=(
        MemberRule("image", r"(?:^|/)(?:images|cxrs)/(?P<key>[^/]+)\.(?i:jpe?g)$", "image"),
        MemberRule("table", r"(?i)(?:^|/)metadata\.csv$", "metadata-table", role="films"),
        MemberRule("ignored", r"(?i)(?:^|/)(?:LICENSE|SHA256SUMS|README|RECORDS)[^/]*$", "document"),
    ),
    tables=(TableRule("films", COLUMNS),),
    parse=parse,
    labels=LABELS,
    label_kind="multiple",
    targets=TARGETS,
    splits=("train", "validation", "test"),
    labelled_splits=("train", "validation", "test"),
    group="patient",
    image=ImageRules(size=224, channels=(1,), min_side=32),
    appearance=Appearance(
        sizes=((224, 224),),
        mean_grey=(50 / 255, 195 / 255),  # as of NIH's films; these are equalised, so that none should come near
        is_oriented=True,
        fills_frame=True,
    ),
    samples=71589,
    fields={
        "time_offset_days": Field("float", "days from the patient's own first date to the film"),
        "year": Field("int", "year of the film"),
        "film_spacing_x": Field(
            "float", "horizontal pixel spacing of the original film in mm, not of the 224 px image"
        ),
        "film_spacing_y": Field("float", "vertical pixel spacing of the original film in mm, not of the 224 px image"),
    },
    counts=(
        PublishedCounts(
            "patient-counts",
            "Patients, women and men are as many as in the published table.",
            Count("films", 71589),
            (
                Count("patients", 24689, of="patients"),
                Count("films of women", 37289, {"sex": "F"}),
                Count("films of men", 34300, {"sex": "M"}),
            ),
        ),
        PublishedCounts(
            "label-counts",
            "Labels, transplants and devices are as many as in the published table.",
            Count("films", 71589),
            (
                Count("hypertrophy", 6191, {"label.slvh": 1}),
                Count("dilation", 4343, {"label.dlv": 1}),
                Count("either", 9861, {"label.composite_slvh_dlv": 1}),
                Count("both", 673, {"label.slvh": 1, "label.dlv": 1}),
                Count("heart transplants", 7126, {"meta.heart_transplant": "1"}),
                Count("lung transplants", 9176, {"meta.lung_transplant": "1"}),
                Count("pacemakers or defibrillators", 5069, {"meta.pacemaker_or_icd": "1"}),
            ),
        ),
    ),
    expectations=(
        one_of("unknown-label", "check.labels_known", ["yes"], "Every label is 0 or 1.", severity="critical"),
        one_of(
            "composite-label",
            "check.composite",
            ["yes"],
            "The composite label is that of hypertrophy or dilation.",
            severity="critical",
        ),
        one_of(
            "slvh-threshold",
            "check.slvh_threshold",
            ["yes"],
            "Hypertrophy is labelled where a wall is thicker than 1.5 cm (men) or 1.4 cm (women), and nowhere else.",
            count_by="sex",
        ),
        one_of(
            "dlv-threshold",
            "check.dlv_threshold",
            ["yes"],
            "Dilation is labelled where the ventricle is wider than 5.9 cm (men) or 5.3 cm (women), and nowhere else.",
            count_by="sex",
        ),
        one_of(
            "zero-measurement",
            "check.zero",
            [""],
            "No measurement is 0 cm; one may stand for a missing value, and is kept.",
            count_by="check.zero",
        ),
        one_of(
            "large-measurement",
            "check.large",
            [""],
            "No measurement is above 9 cm; those that are, are kept.",
            count_by="check.large",
        ),
        one_of(
            "missing-measurement", "check.missing", [""], "Every measurement can be read.", count_by="check.missing"
        ),
        matching(
            "image-name",
            "meta.cxr_filename",
            r"^[0-9a-f]{32}_[0-9a-f]{8}\.jpg$",
            "File names are 32 hex digits of the patient, eight of the film.",
        ),
        one_of(
            "patient-of-name", "check.patient_agrees", ["yes"], "The first 32 digits of a file name are its patient."
        ),
        one_of("time-offset", "check.time_offset", ["yes"], "The time of every film can be read."),
        one_of(
            "unknown-procedure",
            "check.procedures",
            [""],
            "Transplants and devices are marked 0 or 1.",
            count_by="check.procedures",
        ),
        between(
            "age-above-89", "age_years", f"No age is above {OLDEST} years; higher ones identify a person.", most=OLDEST
        ),
        between("year", "meta.year", "Films are of the years 2012 to 2018.", least=2012, most=2018),
    ),
    terms=TERMS,
    datasheet=DATASHEET,
)
