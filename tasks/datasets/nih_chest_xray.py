"""NIH ChestX-ray14 (Wang et al., CVPR 2017), in its Kaggle form with label table B (``Data_Entry_2017_v2020.csv``).

The publisher's oddities: bracketed headers hold unquoted commas, the boxes say ``Infiltrate`` for ``Infiltration``, the
box header has three empty columns, the split lists end without a newline, and some films are RGBA.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from tasks.schema import Dataset, ImageRules, Known, MemberRule, Parsed, Source, Table, TableRule

FINDINGS = {
    "Atelectasis": "collapse of part of the lung",
    "Cardiomegaly": "enlarged heart",
    "Consolidation": "airspace filled with fluid or cells",
    "Edema": "fluid in the lung",
    "Effusion": "fluid around the lung",
    "Emphysema": "destroyed, over-inflated airspace",
    "Fibrosis": "scarring",
    "Hernia": "abdominal content in the chest",
    "Infiltration": "hazy density, cause open",
    "Mass": "focal density above 3 cm",
    "Nodule": "focal density up to 3 cm",
    "Pleural_Thickening": "thickened lining of the lung",
    "Pneumonia": "infection of the lung",
    "Pneumothorax": "air around the lung",
}
NO_FINDING = "No Finding"
ALIASES = {
    "No_Finding": NO_FINDING,
    "No findings": NO_FINDING,
    "Infiltrate": "Infiltration",
    "Pleural_thickening": "Pleural_Thickening",
    "Pleural Thickening": "Pleural_Thickening",
}
IMAGE_NAME = r"^\d{8}_\d{3}\.png$"
BOX_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
ENTRY_COLUMNS = (
    "Image Index",
    "Finding Labels",
    "Follow-up #",
    "Patient ID",
    "Patient Age",
    "Patient Gender",
    "View Position",
    "OriginalImage[Width",
    "Height]",
    "OriginalImagePixelSpacing[x",
    "y]",
)


def parse(tables: Mapping[str, Table]) -> Parsed:
    """One row per line of the label table, boxes attached by image, split by the official lists."""
    entries = tables["entries"].rows
    frame = pd.DataFrame({"table": "entries", "row": entries.index}, index=entries.index)
    frame["image"] = image_key(entries["Image Index"])
    frame["patient_id"] = entries["Patient ID"].str.zfill(8).where(entries["Patient ID"].str.fullmatch(r"\d{1,8}"))
    frame["group_id"] = frame["patient_id"]
    frame["age_years"] = pd.to_numeric(entries["Patient Age"].str.removesuffix("Y"), errors="coerce")
    frame["sex"] = entries["Patient Gender"].replace("", None)
    frame["view"] = entries["View Position"].replace("", None)
    frame = frame.join(_labels(entries["Finding Labels"]))
    for column in entries.columns:
        frame[f"meta.{column}"] = entries[column]
    frame["check.follow_up_agrees"] = _follow_up_agrees(entries)
    extras = []
    frame["split"] = None
    for role, split_name in (("train_val_list", "train_val"), ("test_list", "test")):
        listed = image_key(tables[role].rows["Image Index"])
        is_listed = frame["image"].isin(listed)
        # A film in both lists is in neither split: the gate then refuses it as having none.
        frame["split"] = frame["split"].mask(is_listed, split_name).mask(is_listed & frame["split"].notna(), None)
        extras.append(pd.DataFrame({"table": role, "row": listed.index, "image": listed}))
    if "boxes" in tables:
        boxes = tables["boxes"].rows
        frame["boxes"] = frame["image"].map(_boxes(boxes))
        extras.append(pd.DataFrame({"table": "boxes", "row": boxes.index, "image": image_key(boxes["Image Index"])}))
    return Parsed(frame.reset_index(drop=True), pd.concat(extras, ignore_index=True))


def image_key(names: pd.Series) -> pd.Series:
    """Image keys of file names such as ``00000001_000.png``."""
    return names.str.strip().str.lower().str.removesuffix(".png")


def normalise(finding: str) -> str:
    """The vocabulary's spelling of a finding; unknown ones stay as they are."""
    return ALIASES.get(finding.strip(), finding.strip())


def _labels(published: pd.Series) -> pd.DataFrame:
    """Fourteen columns ``label.<finding>``; all null where a row holds an unknown or contradictory label."""
    sets = {text: frozenset(map(normalise, text.split("|"))) for text in published.unique()}
    known = {text for text, found in sets.items() if found == {NO_FINDING} or found <= set(FINDINGS)}
    is_known = published.isin(known)
    columns = {
        f"label.{name}": published.isin({text for text in known if name in sets[text]}).astype("Int8").where(is_known)
        for name in FINDINGS
    }
    return pd.DataFrame(columns)


def _follow_up_agrees(entries: pd.DataFrame) -> pd.Series:
    """``yes`` where the follow-up number equals the suffix of the file name, as in the first release."""
    suffix = entries["Image Index"].str.extract(r"_(\d+)\.", expand=False)
    agrees = pd.to_numeric(suffix, errors="coerce") == pd.to_numeric(entries["Follow-up #"], errors="coerce")
    return pd.Series(np.where(agrees, "yes", "no"), index=entries.index)


def _boxes(rows: pd.DataFrame) -> dict[str, list[dict[str, object]]]:
    """Image key to its boxes, in published order; pixels of the 1024 px film."""
    found: dict[str, list[dict[str, object]]] = {}
    keys = image_key(rows["Image Index"])
    for key, (_, label, *corners) in zip(keys, rows[list(BOX_COLUMNS)].itertuples(index=False, name=None), strict=True):
        x, y, w, h = (float(value) if value else float("nan") for value in corners)
        found.setdefault(key, []).append({"label": normalise(label), "x": x, "y": y, "w": w, "h": h})
    return found


DATASET = Dataset(
    name="nih-chest-xray",
    version="1",
    title="NIH ChestX-ray14",
    summary=(
        "112,120 frontal chest X-rays of 30,805 patients, 14 findings mined from reports, official patient-wise split, "
        "984 boxes on 880 films of the test side."
    ),
    sources=(
        Source("images_0NN.zip (12)", "https://www.kaggle.com/datasets/nih-chest-xrays/data", note="42 GB"),
        Source(
            "Data_Entry_2017_v2020.csv",
            "https://nihcc.app.box.com/v/ChestXray-NIHCC",
            9003499,
            md5="27d223bb367648f1fd40e28dd42a0af3",
        ),
        Source(
            "BBox_List_2017.csv",
            "https://nihcc.app.box.com/v/ChestXray-NIHCC",
            92416,
            md5="c288912caf65ab8b6c7aff6717d11005",
        ),
        Source(
            "train_val_list.txt",
            "https://nihcc.app.box.com/v/ChestXray-NIHCC",
            1470907,
            md5="067e3a84206964892e6300e4a4c0a205",
        ),
        Source(
            "test_list.txt",
            "https://nihcc.app.box.com/v/ChestXray-NIHCC",
            435131,
            md5="adeeabf20ea2a8eb66ced87b78434400",
        ),
    ),
    licence="cc0-1.0",
    citation=(
        "Wang X, Peng Y, Lu L, Lu Z, Bagheri M, Summers RM. ChestX-ray8: Hospital-scale Chest X-ray Database and "
        "Benchmarks on Weakly-Supervised Classification and Localization of Common Thorax Diseases. CVPR 2017. "
        "arXiv 1705.02315"
    ),
    homepage="https://nihcc.app.box.com/v/ChestXray-NIHCC",
    published="2017",
    members=(
        MemberRule("image", r"(?:^|/)(?P<key>\d{8}_\d{3})\.(?:png|PNG)$", "image"),
        MemberRule("table", r"(?:^|/)Data_Entry_2017(?:_v2020)?\.csv$", "metadata-table", role="entries"),
        MemberRule("table", r"(?i)(?:^|/)BBox_List_2017\.csv$", "metadata-table", role="boxes"),
        MemberRule("table", r"(?:^|/)train_val_list(?:_NIH)?\.txt$", "split-list", role="train_val_list"),
        MemberRule("table", r"(?:^|/)test_list(?:_NIH)?\.txt$", "split-list", role="test_list"),
        MemberRule("ignored", r"(?i)\.pdf$|(?:^|/)(?:README|LOG|FAQ|ARXIV)[^/]*\.(?:txt|pdf)$", "document"),
    ),
    tables=(
        TableRule("entries", ENTRY_COLUMNS),
        TableRule("boxes", BOX_COLUMNS, is_required=False),
        TableRule("train_val_list", ("Image Index",), has_header=False),
        TableRule("test_list", ("Image Index",), has_header=False),
    ),
    parse=parse,
    labels=FINDINGS,
    label_kind="multiple",
    splits=("train_val", "test"),
    labelled_splits=("train_val", "test"),
    group="patient",
    image=ImageRules(size=224, channels=(1,), min_side=32),
    samples=112120,
    has_boxes=True,
    expectations=(
        {
            "type": "expect_labels_in_vocabulary",
            "kwargs": {
                "column": "meta.Finding Labels",
                "vocabulary": [*FINDINGS, *ALIASES],
                "alone": [NO_FINDING, "No_Finding", "No findings"],
                "separator": "|",
            },
            "severity": "critical",
            "meta": {
                "code": "unknown-label",
                "gate": "metadata",
                "sentence": "Every finding is one of the 14 published ones, and No Finding stands alone.",
            },
        },
        {
            "type": "expect_column_values_to_match_regex",
            "kwargs": {"column": "meta.Image Index", "regex": IMAGE_NAME},
            "severity": "warning",
            "meta": {
                "code": "image-name",
                "gate": "metadata",
                "sentence": "File names are eight digits of the patient, three of the film.",
            },
        },
        {
            "type": "expect_column_values_to_be_in_set",
            "kwargs": {"column": "view", "value_set": ["PA", "AP"]},
            "severity": "warning",
            "meta": {"code": "view", "gate": "metadata", "sentence": "The view is PA or AP."},
        },
        {
            "type": "expect_column_values_to_be_in_set",
            "kwargs": {"column": "check.follow_up_agrees", "value_set": ["yes"]},
            "severity": "warning",
            "meta": {
                "code": "follow-up-renumbered",
                "gate": "metadata",
                "sentence": "The follow-up number equals the suffix of the file name.",
            },
        },
        {
            "type": "expect_column_values_to_be_between",
            "kwargs": {"column": "intensity_mean", "min_value": 50, "max_value": 195},
            "severity": "warning",
            "meta": {
                "code": "very-dark-or-bright",
                "gate": "images",
                "sentence": "The mean grey level is that of a film (50–195 of 255), not near-black or near-white.",
            },
        },
    ),
    known=(
        Known(
            "follow-up-renumbered",
            24106,
            "The 2020 table renumbered follow-ups; 24,106 no longer equal the file name's suffix.",
            "counted on Data_Entry_2017_v2020.csv",
        ),
        Known(
            "very-dark-or-bright",
            113,
            "A public clean-up of the full set dropped 61 films with a mean below 50 and 52 above 195.",
            "public clean-up list, see docs/datasets",
        ),
    ),
)
