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
from tasks.schema import Dataset, Field, ImageRules, MemberRule, Parsed, Remote, Source, Table, TableRule
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
        }
    )


def _first(flags: pd.DataFrame) -> pd.Series:
    """Name of the first column that holds, row by row, or empty."""
    return flags.idxmax(axis=1).where(flags.any(axis=1), "")


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
    samples=71589,
    fields={
        "time_offset_days": Field("float", "days from the patient's own first date to the film"),
        "year": Field("int", "year of the film"),
        "film_spacing_x": Field(
            "float", "horizontal pixel spacing of the original film in mm, not of the 224 px image"
        ),
        "film_spacing_y": Field("float", "vertical pixel spacing of the original film in mm, not of the 224 px image"),
    },
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
        between("year", "meta.year", "Films are of the years 2012 to 2018.", least=2012, most=2018),
        between("published-size", "source_width", "Images are 224 pixels wide.", least=224, most=224, gate="images"),
    ),
)
