"""BEHSOF (figshare 26389069, version 4): liver ultrasound screens of 113 patients, with steatosis and fibrosis grades.

The publisher's oddities: the folder of a patient is named after the grades (``BEH01121``: Behbood, row 1, steatosis 1
by the expert, 2 by CAP, fibrosis 1), all images are called ``Image.jpg``, the zip is encrypted, headers have stray
spaces, and names and clocks are burned into the pictures. The three digits of the grades never get into a key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from tasks.demands import between, one_of
from tasks.readings import is_numeric, number, whole, yes_no
from tasks.schema import (
    MEMBERS,
    Count,
    Dataset,
    Datasheet,
    Field,
    ImageRules,
    Known,
    Lock,
    MemberRule,
    Parsed,
    PublishedCounts,
    Remote,
    Source,
    Table,
    TableRule,
    Terms,
)
from tasks.splits import deal_evenly, group_fraction

FOLDER = r"(?:TAL|BEH)\d{2}[0-3]{2}[0-4](?![0-9A-Za-z])"
"""Site, row, steatosis by expert, steatosis by CAP, fibrosis (facts/datasets.md, inferred from names and table)."""
PATIENT = r"(?:TAL|BEH)\d{2}"
SITES = {"BEH": "Behbood", "TAL": "Taleghani"}
"""Start of a patient's id to the hospital."""
GRADES = {"Steatosis stage": 5, "Fibroscan S": 6, "Fibroscan F": 7}
"""Column of the clinical table, and place of the same grade in a folder's name."""
STEATOSIS = {f"steatosis_S{stage}": f"steatosis stage {stage} of 3, by an expert on ultrasound" for stage in range(4)}
FIBROSIS = {f"fibrosis_F{stage}": f"fibrosis stage {stage} of 4, by transient elastography" for stage in range(5)}
READINGS: Mapping[str, tuple[str, str]] = {
    "height_cm": ("Height", "cm (inferred)"),
    "weight_kg": ("Weight", "kg (inferred)"),
    "bmi_kg_m2": ("BMI", "kg/m²"),
    "waist_cm": ("waist", "cm"),
    "fasting_glucose_mg_dl": ("Fasting Blood sugar", "mg/dL"),
    "alt_u_l": ("ALT (SGPT)", "U/L"),
    "ast_u_l": ("AST (SGOT)", "U/L"),
    "ggt_u_l": ("GGT", "U/L"),
    "bilirubin_total_mg_dl": ("Bilirubin total", "mg/dL"),
    "albumin_g_dl": ("Albumin", "g/dL (inferred)"),
    "hba1c_percent": ("HbA1c", "%"),
    "hdl_mg_dl": ("HDL", "mg/dL"),
    "ldl_mg_dl": ("LDL", "mg/dL"),
    "triglycerides_mg_dl": ("Triglyceride", "mg/dL"),
    "cholesterol_mg_dl": ("Cholestrol", "mg/dL"),
    "uric_acid_mg_dl": ("Uric Acid", "mg/dL"),
    "platelets_10_9_l": ("Platelets", "10⁹/L"),
}
"""Field, published column (spelled as published) and unit; units are those of public readers, the file gives none."""
COMPLETE_PATIENTS = 113
VALIDATION_SHARE = 0.2
"""Of Behbood's 95 patients; Taleghani's 18 are the external test."""
SALT = "behsof/validation/0"


def parse(tables: Mapping[str, Table]) -> Parsed:
    """One row per image, found by its folder, with what the clinical table says of its patient."""
    clinical = tables["clinical"].rows
    patients = _patients(clinical)
    images = _images(tables[MEMBERS].rows)
    found = images.merge(patients.drop_duplicates("patient_id"), on="patient_id", how="inner")
    rows = pd.concat([found, _unmatched(patients, images)], ignore_index=True)
    frame = rows[["image", "patient_id", "row"]].assign(table="clinical", group_id=rows["patient_id"])
    frame["split"] = rows["split"]
    own = clinical.loc[rows["row"]].reset_index(drop=True)
    frame = frame.join(_labels(own)).join(_measured(own))
    frame["check.grades"] = _disagreement(own, rows["folder"])
    frame["check.site"] = rows["patient_id"].str[:3]
    frame["meta.site"] = frame["check.site"].map(SITES)
    if "stages" not in tables:
        return Parsed(frame.assign(**{"check.stages": "yes"}))
    stages = tables["stages"].rows
    frame["check.stages"] = _stages_agree(rows["patient_id"], own, stages)
    return Parsed(frame, _attached(stages, images))


def _patient_ids(cells: pd.Series) -> pd.Series:
    """``BEH01`` from a cell that holds the folder's name, be it in a Windows path or with spaces in it."""
    names = cells.str.replace(r"^.*[\\/]", "", regex=True).str.replace(r"\s", "", regex=True)
    return names.str.extract(rf"^({PATIENT})", expand=False)


def _patients(clinical: pd.DataFrame) -> pd.DataFrame:
    """One line per row of the clinical table: ``row patient_id split``."""
    patients = pd.DataFrame({"row": clinical.index, "patient_id": _patient_ids(clinical["Patient ID"]).to_numpy()})
    patients["split"] = _splits(patients["patient_id"], clinical["Steatosis stage"].str.strip().reset_index(drop=True))
    return patients


def _splits(patients: pd.Series, stages: pd.Series) -> pd.Series:
    """Taleghani is external; of Behbood a fifth of every stage validates, by hash of the patient.

    In a table of another length than the published one the hash alone decides, so that rows which come later move
    nobody.
    """
    is_behbood = patients.str.startswith("BEH").fillna(False).astype(bool)
    own = patients[is_behbood]
    if len(patients) == COMPLETE_PATIENTS:
        chosen = deal_evenly(own, stages[is_behbood], VALIDATION_SHARE, SALT)
    else:
        chosen = own.map(lambda patient: group_fraction(patient, SALT) < VALIDATION_SHARE)
    split = pd.Series("external", index=patients.index, dtype=object).where(patients.notna(), None)
    return split.mask(is_behbood, chosen.map({True: "validation", False: "train"}))


def _images(members: pd.DataFrame) -> pd.DataFrame:
    """One line per image member: ``image folder patient_id``."""
    folder = members["member"].str.extract(rf"(?:^|/)({FOLDER})", expand=False)
    return pd.DataFrame({"image": members["key"], "folder": folder, "patient_id": folder.str[:5]})


def _unmatched(patients: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Rows of patients without an image, and second rows of a patient, each as an image key that will be refused."""
    first = images.drop_duplicates("patient_id").set_index("patient_id")["image"]
    is_again = patients["patient_id"].duplicated() & patients["patient_id"].isin(first.index)
    rows = patients[is_again | ~patients["patient_id"].isin(first.index)]
    nowhere = rows["patient_id"].fillna("unreadable id") + "/no image of row " + rows["row"].astype(str)
    return rows.assign(image=rows["patient_id"].map(first).fillna(nowhere), folder=None)


def _labels(clinical: pd.DataFrame) -> pd.DataFrame:
    """Nine labels, ``sex`` and ``age_years``; all labels null where a grade cannot be read."""
    steatosis, fibrosis = whole(clinical["Steatosis stage"]), whole(clinical["Fibroscan F"])
    is_known = (steatosis.isin(range(4)) & fibrosis.isin(range(5))).astype(bool)
    grades = {f"label.{name}": steatosis == stage for stage, name in enumerate(STEATOSIS)}
    grades |= {f"label.{name}": fibrosis == stage for stage, name in enumerate(FIBROSIS)}
    labels = pd.DataFrame({name: values.astype("Int8").where(is_known) for name, values in grades.items()})
    labels["check.labels_known"] = yes_no(is_known)
    labels["sex"] = clinical["sex"].str.strip().str.upper().replace("", None)
    labels["age_years"] = number(clinical["Age"])
    return labels


def _measured(clinical: pd.DataFrame) -> pd.DataFrame:
    """Targets, the published columns, and their typed readings."""
    cap = number(clinical["CAP score"])
    columns = {
        "target.cap": cap.where(cap > 0),
        "target.stiffness": number(clinical["E score"]),
        "check.cap": yes_no(cap > 0),
    }
    named = {column for column, _ in READINGS.values()} | {*CLINICAL}
    for column in clinical.columns:
        is_plain = column not in named and is_numeric(clinical[column])
        columns[f"meta.{column}"] = number(clinical[column]) if is_plain else clinical[column]
    for field, (column, _) in READINGS.items():
        columns[f"meta.{field}"] = number(clinical[column])
    columns["meta.cap_steatosis"] = whole(clinical["Fibroscan S"])
    return pd.DataFrame(columns)


def _disagreement(clinical: pd.DataFrame, folders: pd.Series) -> pd.Series:
    """First column of the table whose grade is not that of the folder's name, or empty."""
    words = pd.Series("", index=clinical.index)
    for column, place in reversed(GRADES.items()):
        differs = folders.notna() & (folders.str[place] != clinical[column].str.strip())
        words = words.mask(differs, column)
    return words


def _attached(stages: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """Rows of the list of stages, each with every image of its patient; one of nobody stays alone."""
    listed = pd.DataFrame({"row": stages.index, "patient_id": _patient_ids(stages["Patient ID"]).to_numpy()})
    extras = listed.merge(images[["patient_id", "image"]], on="patient_id", how="left")
    extras["image"] = extras["image"].fillna(extras["patient_id"].fillna("unreadable id") + "/no image")
    return extras.assign(table="stages")[["table", "row", "image"]]


def _stages_agree(patients: pd.Series, clinical: pd.DataFrame, stages: pd.DataFrame) -> pd.Series:
    """``no`` where the list of stages gives a patient another grade than the clinical table does."""
    listed = stages.assign(patient_id=_patient_ids(stages["Patient ID"])).drop_duplicates("patient_id")
    listed = listed.set_index("patient_id")
    agrees = pd.Series(True, index=patients.index)
    for column in ("Steatosis stage", "Fibroscan F"):
        other = patients.map(listed[column].str.strip())
        agrees &= other.isna() | (other == clinical[column].str.strip())
    return yes_no(agrees)


def _patients_by_stage(label: str, numbers: Sequence[int]) -> list[Count]:
    """The numbers of doi 10.1007/s00261-025-05309-9."""
    stages = enumerate(numbers)
    return [Count(f"patients of {label}{stage}", n, {f"label.{label}{stage}": 1}, of="patients") for stage, n in stages]


CLINICAL = ("Patient ID", "Steatosis stage", "Fibroscan S", "Fibroscan F", "CAP score", "E score", "sex", "Age")

TERMS = Terms(
    may_redistribute=True,
    redistribution=(
        "CC BY 4.0 lets the shards of this release be passed on with attribution. Look at the pictures first: "
        "everything outside the scan is black in them, writing inside the scan is not. Do not pass on the raw screens, "
        "which show names and dates, nor the password of the zip, which the authors give out themselves."
    ),
    publisher="figshare",
    bibtex="""@misc{behsof,
  title = {{BEHSOF}, version 4},
  publisher = {figshare},
  year = {2024},
  doi = {10.6084/m9.figshare.26389069},
  note = {described in doi 10.1007/s00261-025-05309-9}
}""",
)
DATASHEET = Datasheet(
    motivation=("Made to grade fatty liver and fibrosis from ultrasound (inferred from its labels).",),
    composition=(
        "A complete copy has about 1,513 screens of 113 patients: 1,328 of 95 patients of Behbood, 185 of 18 of "
        "Taleghani (the paper).",
        "Steatosis of stage 0, 1, 2, 3: 12, 57, 36, 8 patients. Fibrosis of stage 0, 1, 2: 24, 78, 11.",
        "The clinical table has 62 columns.",
    ),
    collection=(
        "Screens of the scanner as the examiner saw them, with writing, clock and rulers; which scanners, and how "
        "patients were chosen, is not known here.",
    ),
    preprocessing=("None by the publisher is known.",),
    labelling=(
        "Steatosis by an expert who looked at the ultrasound, and by controlled attenuation (CAP) of a transient "
        "elastography; fibrosis by the same elastography.",
        "A grade is of the patient, not of the screen: a screen need not show it (inferred).",
    ),
    sensitive=(
        "Age, sex, body size and blood values; names and dates are burned into the published screens.",
        "The publisher names patients' folders after their grades; scanmill keeps the grades out of every id.",
        "Folders of Taleghani are named after date and time of the examination; paths and ids still have them.",
    ),
    uses=("Methods of grading steatosis, developed on one hospital and tested on the other.",),
    not_for=(
        "Grading advanced fibrosis: no patient has stage 3 or 4.",
        "Telling how common steatosis is: 101 of the 113 patients have it.",
    ),
    biases=("Two hospitals, 113 patients; 12 without steatosis.",),
    limitations=(
        "Screens of one patient are near copies of each other (inferred): count patients, not screens.",
        "Grades in folder names and in the table can disagree; the table's are used.",
    ),
    maintenance=("Version 4 on figshare; whether more is planned is not known.",),
)

DATASET = Dataset(
    name="behsof",
    version="1",
    title="BEHSOF liver ultrasound",
    summary=(
        "About 1,513 ultrasound screens of 113 patients of two hospitals, with steatosis stages by an expert and by "
        "CAP, fibrosis stages by elastography, and 56 clinical and blood values."
    ),
    sources=(
        Source(
            "image_Data.zip, Demo_data.csv, BEHSOF_images.csv",
            "https://doi.org/10.6084/m9.figshare.26389069",
            note="figshare article 26389069; the zip is encrypted",
        ),
    ),
    remote=Remote("figshare", "26389069"),
    lock=Lock(
        "behsof-password",
        access="The authors give the password out: see https://doi.org/10.6084/m9.figshare.26389069",
    ),
    licence="cc-by-4.0",
    citation="BEHSOF. figshare, doi 10.6084/m9.figshare.26389069; described in doi 10.1007/s00261-025-05309-9",
    homepage="https://doi.org/10.6084/m9.figshare.26389069",
    published="2024",
    members=(
        MemberRule(
            "image",
            rf"(?:^|/)(?P<key>{FOLDER}.*)\.(?i:jpe?g|png)$",
            "image",
            conceals=rf"({PATIENT})[0-3]{{2}}[0-4](?![0-9A-Za-z])",
        ),
        MemberRule("table", r"(?i)(?:^|/)Demo_data\.csv$", "metadata-table", role="clinical"),
        MemberRule("table", r"(?i)(?:^|/)BEHSOF_images\.csv$", "metadata-table", role="stages"),
        MemberRule("ignored", r"(?i)(?:^|/)(?:README|LICENSE)[^/]*$|\.(?:pdf|docx|txt|md)$", "document"),
    ),
    tables=(
        TableRule("clinical", (*CLINICAL, *(column for column, _ in READINGS.values()))),
        TableRule("stages", ("Patient ID", "Steatosis stage", "Fibroscan F"), is_required=False),
    ),
    parse=parse,
    labels={**STEATOSIS, **FIBROSIS},
    label_kind="multiple",
    targets={"cap": "dB/m", "stiffness": "kPa"},
    splits=("train", "validation", "external"),
    labelled_splits=("train", "validation", "external"),
    group="patient",
    carved=("train", "validation"),
    known=(
        Known(
            "site-drift",
            1,
            "The external test patients are of another hospital, Taleghani, than all others.",
            "by definition of the split: 95 patients of Behbood, 18 of Taleghani, doi 10.1007/s00261-025-05309-9",
        ),
    ),
    image=ImageRules(size=224, channels=(1,), min_side=32, to_grey=True, hides_outside_scan=True),
    samples=1513,
    samples_slack=150,
    has_number_columns=True,
    fields={
        **{name: Field("float", f"{column}, {unit}") for name, (column, unit) in READINGS.items()},
        "cap_steatosis": Field("int", "steatosis stage 0 to 3 by controlled attenuation (Fibroscan S)"),
        "site": Field("text", "hospital, from the first letters of the patient's id"),
    },
    site="site",
    counts=(
        PublishedCounts(
            "patient-counts",
            "Each hospital has as many patients as published, and each steatosis and fibrosis stage too.",
            Count("rows of the clinical table", COMPLETE_PATIENTS),
            (
                Count("patients of Behbood", 95, {"check.site": "BEH"}, of="patients"),
                Count("patients of Taleghani", 18, {"check.site": "TAL"}, of="patients"),
                *_patients_by_stage("steatosis_S", (12, 57, 36, 8)),
                *_patients_by_stage("fibrosis_F", (24, 78, 11)),
            ),
        ),
        PublishedCounts(
            "image-counts",
            "Each hospital has about as many images as the paper says: 1,328 and 185, give or take a tenth.",
            Count("images", 1513, of="images", slack=150),
            (
                Count("images of Behbood", 1328, {"check.site": "BEH"}, of="images", slack=133),
                Count("images of Taleghani", 185, {"check.site": "TAL"}, of="images", slack=19),
            ),
        ),
    ),
    expectations=(
        one_of(
            "unknown-label",
            "check.labels_known",
            ["yes"],
            "Steatosis is of stage 0 to 3, fibrosis of stage 0 to 4.",
            severity="critical",
        ),
        one_of(
            "grade-mismatch",
            "check.grades",
            [""],
            "The grades in a folder's name are those of the table; where they are not, the table's are used.",
            count_by="check.grades",
        ),
        one_of("stages-mismatch", "check.stages", ["yes"], "Both tables give a patient the same stages."),
        one_of("cap-missing", "check.cap", ["yes"], "Every patient has a CAP score; a negative one is set to unknown."),
        between(
            "cap-range",
            "target.cap",
            "CAP lies between 100 and 400 dB/m, the range of the device.",
            least=100,
            most=400,
        ),
        between(
            "stiffness-range",
            "target.stiffness",
            "Stiffness lies between 1.5 and 75 kPa, the range of the device.",
            least=1.5,
            most=75,
        ),
    ),
    terms=TERMS,
    datasheet=DATASHEET,
)
