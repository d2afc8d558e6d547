"""NIH ChestX-ray14 (Wang et al., CVPR 2017): every form of its archives and of its label table.

The publisher's oddities: bracketed headers hold unquoted commas, the boxes say ``Infiltrate`` for ``Infiltration``, the
box header has three empty columns, the split lists end without a newline, some films are RGBA, and the label table was
released several times, with other ages, labels and follow-up numbers each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from tasks.demands import between, matching, one_of
from tasks.readings import number, whole, yes_no
from tasks.schema import (
    Appearance,
    Count,
    Dataset,
    Datasheet,
    Field,
    ImageRules,
    Known,
    MemberRule,
    Parsed,
    PublishedCounts,
    Source,
    Table,
    TableForm,
    TableRule,
    Terms,
    UnusableInput,
)
from tasks.splits import group_fraction

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
IMAGE_NAME = r"(?i)^\d{8}_\d{3}\.png$"
FILM_PIXELS = 1024
"""Side of a complete copy's images; boxes are in these pixels (README_CHESTXRAY.pdf of the release)."""
BOX_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
ENTRY_COLUMNS = (
    "Image Index",
    "Finding Labels",
    "Follow-up #",
    "Patient ID",
    "Patient Age",
    "Patient Gender",
    "View Position",
)
BRACKETED = ("OriginalImage[Width", "Height]", "OriginalImagePixelSpacing[x", "y]")
PLAIN = ("OriginalImageWidth", "OriginalImageHeight", "OriginalImagePixelSpacing_x", "OriginalImagePixelSpacing_y")
ADJUDICATED = ("Fracture", "Pneumothorax", "Airspace opacity", "Nodule or mass", "Set Id")
FILM_WIDTHS, FILM_HEIGHTS, FILM_SPACINGS = (1143, 3827), (966, 4715), (0.115, 0.1988)
"""Of the original films: least and most pixels, and mm per pixel, equal in both directions (counted on the table of
2020)."""
UNITS_PER_YEAR = {"Y": 1.0, "": 1.0, "M": 12.0, "W": 365.25 / 7, "D": 365.25}
"""DICOM age strings (PS3.5, value representation AS); a bare number is in years."""

VALIDATION_SHARE = 0.13
"""Of the official train_val list: with it 70/10/20 of all films, the shares of Wang et al. (CVPR 2017, section 4)."""
VALIDATION_SALT = "nih-chest-xray/validation/0"
COMPLETE_ROWS = {"2020": 112120, "2017": 112120, "sample": 5606, "adjudicated": 4376}
"""Data rows of the published tables, by form."""
RARITY = (
    "Hernia",
    "Pneumonia",
    "Fibrosis",
    "Edema",
    "Emphysema",
    "Cardiomegaly",
    "Pleural_Thickening",
    "Consolidation",
    "Pneumothorax",
    "Mass",
    "Nodule",
    "Atelectasis",
    "Effusion",
    "Infiltration",
)
"""Findings, the rarest in the table of 2020 first. A patient's stratum is the rarest finding on any of its films."""
TEST_SALT = "nih-chest-xray/test"
TEST_SHARE = 0.2283
"""Where the official lists are not there: what they give to test, 25,596 of 112,120 films."""


def parse(tables: Mapping[str, Table]) -> Parsed:
    """One row per line of the label table, boxes attached by image, split by the official lists and by patient."""
    entries = tables["entries"].rows
    frame = pd.DataFrame({"table": "entries", "row": entries.index}, index=entries.index)
    frame["image"] = image_key(entries["Image Index"])
    frame["patient_id"] = entries["Patient ID"].str.zfill(8).where(entries["Patient ID"].str.fullmatch(r"\d{1,8}"))
    frame["group_id"] = frame["patient_id"]
    ages = _ages(entries["Patient Age"])
    frame["age_years"], frame["check.age_unit"] = ages["years"], ages["unit"]
    frame["sex"] = entries["Patient Gender"].str.upper().replace("", None)
    frame["view"] = entries["View Position"].str.upper().replace("", None)
    frame = frame.join(_labels(entries["Finding Labels"]))
    for column in entries.columns:
        frame[f"meta.{column}"] = entries[column]
    for name, values in _fields(entries).items():
        frame[f"meta.{name}"] = values
    frame["check.follow_up_agrees"] = _follow_up_agrees(entries)
    frame["check.patient_agrees"] = yes_no(frame["image"].str[:8] == frame["patient_id"])
    frame["check.labels_sorted"] = yes_no(_by_text(entries["Finding Labels"], _is_sorted))
    frame["check.follow_up_alone"] = _follow_up_alone(frame)
    frame["check.film"] = _film_doubts(frame)
    frame["check.box_labels"] = frame["check.box_side"] = frame["check.boxes_sound"] = None
    extras = _place(frame, tables)
    if "boxes" in tables:
        boxes = _boxes(tables["boxes"].rows)
        extras.append(boxes[["table", "row", "image", "problem", "detail"]])
        is_sound = (boxes["problem"] == "").groupby(boxes["image"]).all()
        frame["check.boxes_sound"] = yes_no(frame["image"].map(is_sound))
        _attach(frame, boxes[boxes["problem"] == ""])
    extra_rows = pd.concat(extras, ignore_index=True) if extras else Parsed(frame).extras
    return Parsed(frame.reset_index(drop=True), extra_rows)


def image_key(names: pd.Series) -> pd.Series:
    """Image keys of file names such as ``00000001_000.png``."""
    return names.str.strip().str.lower().str.removesuffix(".png")


def normalise(finding: str) -> str:
    """The vocabulary's spelling of a finding; unknown ones stay as they are."""
    return ALIASES.get(finding.strip(), finding.strip())


def _findings(text: str) -> frozenset[str]:
    return frozenset(map(normalise, text.split("|")))


def _is_sorted(text: str) -> bool:
    names = [normalise(name) for name in text.split("|")]
    return names == sorted(names)


def _labels(published: pd.Series) -> pd.DataFrame:
    """Fourteen columns ``label.<finding>``; all null where a row holds an unknown or contradictory label."""
    sets = {text: _findings(text) for text in published.unique()}
    known = {text for text, found in sets.items() if found == {NO_FINDING} or found <= set(FINDINGS)}
    is_known = published.isin(known)
    columns = {
        f"label.{name}": published.isin({text for text in known if name in sets[text]}).astype("Int8").where(is_known)
        for name in FINDINGS
    }
    return pd.DataFrame(columns)


def _ages(published: pd.Series) -> pd.DataFrame:
    """``years`` of texts such as ``58``, ``058Y`` and ``013M`` (null for what is no age), and their ``unit``."""
    different = pd.Series(published.unique(), dtype=str)
    parts = different.str.strip().str.upper().str.extract(r"^(?P<number>\d+)(?P<unit>[YMWD]?)$")
    per_year = parts["unit"].map(UNITS_PER_YEAR).astype("float64")  # where no text is an age, it is none
    unit = parts["unit"].replace({"": "Y"}).fillna("none")
    read = pd.DataFrame({"years": pd.to_numeric(parts["number"]) / per_year, "unit": unit}).set_axis(different)
    return read.loc[published].set_axis(published.index)


def _fields(entries: pd.DataFrame) -> dict[str, pd.Series]:
    """The typed readings that :data:`DATASET` declares."""
    width, height, x, y = PLAIN if PLAIN[0] in entries else BRACKETED
    return {
        "findings": _by_text(entries["Finding Labels"], lambda text: "|".join(sorted(_findings(text)))),
        "follow_up": whole(entries["Follow-up #"]),
        "film_width": whole(entries[width]),
        "film_height": whole(entries[height]),
        # Table B prints 0.14300000000000002 where the others have 0.143.
        "film_spacing_x": number(entries[x]).round(4),
        "film_spacing_y": number(entries[y]).round(4),
    }


def _by_text(texts: pd.Series, read: Callable[[str], Any]) -> pd.Series:
    """``read`` of every text, each different one read once: 112,120 rows hold 836."""
    return texts.map({text: read(text) for text in texts.unique()})


def _follow_up_agrees(entries: pd.DataFrame) -> pd.Series:
    """``yes`` where the follow-up number equals the suffix of the file name, as in the first release."""
    suffix = entries["Image Index"].str.extract(r"_(\d+)\.", expand=False)
    return yes_no(number(suffix) == number(entries["Follow-up #"]))


def _follow_up_alone(frame: pd.DataFrame) -> pd.Series:
    """``no`` where another film of the patient has the follow-up number; null where it cannot be read."""
    films = frame[["patient_id", "meta.follow_up", "image"]].drop_duplicates()
    numbers = ["patient_id", "meta.follow_up"]
    shared = films[films.duplicated(numbers, keep=False)]
    return yes_no(~frame["image"].isin(shared["image"])).where(
        frame["meta.follow_up"].notna() & frame["patient_id"].notna(), None
    )


def _film_doubts(frame: pd.DataFrame) -> pd.Series:
    """What of the original film lies outside the published ranges: ``size``, ``pixel spacing``, or empty."""
    width, height = frame["meta.film_width"], frame["meta.film_height"]
    is_of_size = width.between(*FILM_WIDTHS) & height.between(*FILM_HEIGHTS)
    x, y = frame["meta.film_spacing_x"], frame["meta.film_spacing_y"]
    is_spaced = x.between(*FILM_SPACINGS) & (x == y)
    words = pd.Series("", index=frame.index).mask(~is_spaced, "pixel spacing")
    return words.mask(~is_of_size.fillna(False).astype(bool), "size")


def _place(frame: pd.DataFrame, tables: Mapping[str, Table]) -> list[pd.DataFrame]:
    """Set ``split`` and ``meta.official_split``; returns the rows of the lists.

    Test is what the publisher lists as test; without lists it is dealt by a hash of the patient. Validation is carved
    out of the rest, see :func:`_is_validation`.
    """
    official, extras = _official_splits(frame, tables)
    frame["meta.official_split"] = official
    frame["check.official_split"] = yes_no(official.notna())
    if tables.keys().isdisjoint(LISTS) and official.isna().all():
        is_test = frame["patient_id"].map(_fractions(frame["patient_id"], TEST_SALT)) < TEST_SHARE
        official = is_test.map({True: "test", False: "train_val"})
    is_train_val = official == "train_val"
    is_complete = len(frame) == COMPLETE_ROWS.get(tables["entries"].form)
    carved = _is_validation(frame[is_train_val], is_complete=is_complete).map({True: "validation", False: "train"})
    frame["split"] = official.where(~is_train_val, carved)
    return extras


def _is_validation(rows: pd.DataFrame, *, is_complete: bool) -> pd.Series:
    """Whether each film of train_val goes to validation, by a hash of its patient.

    In a table that may grow the patients are those whose hash lies below 13 %, whatever else is in the table, so that
    rows which come later move nobody. A complete published table cannot grow: there all findings are spread evenly,
    and archives that come later move nobody either.
    """
    fractions = _fractions(rows["patient_id"], VALIDATION_SALT)
    if not is_complete:
        return rows["patient_id"].map(fractions) < VALIDATION_SHARE
    return rows["patient_id"].map(_evenly(rows, fractions)).astype(bool)


def _evenly(rows: pd.DataFrame, fractions: pd.Series) -> pd.Series:
    """By patient, whether it goes to validation: stratum by stratum, the rarest finding first.

    Of each stratum the patients with the lowest fractions, as many as bring the finding to 13 % of its films, those
    that came with rarer findings counted. Last come patients without finding, as many as bring all films to 13 %.
    """
    shows = rows[[f"label.{name}" for name in RARITY]].eq(1).fillna(False).assign(none=True)
    films = shows.groupby(rows["patient_id"]).sum()
    stratum = (films > 0).idxmax(axis=1)
    is_validation = pd.Series(False, index=films.index)
    for name in films.columns:
        own = films.loc[fractions[films.index[stratum == name]].sort_values().index, name]
        wanted = VALIDATION_SHARE * films[name].sum() - films.loc[is_validation, name].sum()
        is_validation[own.index[own.cumsum() - own / 2 < wanted]] = True
    return is_validation


def _fractions(patients: pd.Series, salt: str) -> pd.Series:
    """By patient, a number in [0, 1) from its hash; each patient is hashed once."""
    return pd.Series({patient: group_fraction(str(patient), salt) for patient in patients.unique()}, dtype="float64")


LISTS = {"train_val_list": "train_val", "test_list": "test"}


def _official_splits(frame: pd.DataFrame, tables: Mapping[str, Table]) -> tuple[pd.Series, list[pd.DataFrame]]:
    """The publisher's split of every row, null where it has none; and the rows of the lists."""
    there = [role for role in LISTS if role in tables]
    if len(there) == 1:
        (missing,) = LISTS.keys() - set(there)
        raise UnusableInput(f"{tables[there[0]].name} is there but {missing}.txt is not: fetch it, or remove both")
    if not there and "meta.Set Id" in frame:
        # The adjudicated table brings its own two sets.
        return frame["meta.Set Id"].map({"val": "validation", "test": "test"}), []
    splits = pd.Series(None, index=frame.index, dtype=object)
    extras = []
    for role in there:
        listed = image_key(tables[role].rows["Image Index"])
        is_listed = frame["image"].isin(listed)
        # A film in both lists is in neither split: the gate then refuses it as having none.
        splits = splits.mask(is_listed, LISTS[role]).mask(is_listed & splits.notna(), None)
        extras.append(pd.DataFrame({"table": role, "row": listed.index, "image": listed}))
    return splits, extras


def _boxes(rows: pd.DataFrame) -> pd.DataFrame:
    """One line per published box: ``table row image``, what is wrong with it, and the ``box`` itself."""
    numbers = rows[list(BOX_COLUMNS[2:])].apply(number).set_axis(list("xywh"), axis=1)
    found = numbers.assign(table="boxes", row=rows.index, image=image_key(rows["Image Index"]), problem="", detail="")
    found["label"] = rows["Finding Label"].map(normalise)
    text = rows[list(BOX_COLUMNS[1:])].agg(",".join, axis=1)
    is_outside = (found[["x", "y"]] < 0).any(axis=1) | (found[["w", "h"]] <= 0).any(axis=1)
    is_outside |= (found["x"] + found["w"] > FILM_PIXELS) | (found["y"] + found["h"] > FILM_PIXELS)
    for reason, is_bad in {
        "box-outside-image": is_outside,
        "unknown-box-label": ~found["label"].isin(list(FINDINGS)),
        "unreadable-box": numbers.isna().any(axis=1),
    }.items():
        found.loc[is_bad, "problem"] = reason
        found.loc[is_bad, "detail"] = text[is_bad]
    return found


def _attach(frame: pd.DataFrame, boxes: pd.DataFrame) -> None:
    """Set ``boxes`` and ``check.box_labels``: whether a film's boxes are all of findings that it is labelled with."""
    by_image: dict[str, list[dict[str, Any]]] = {}
    for image, *values in boxes[["image", "label", "x", "y", "w", "h"]].itertuples(index=False, name=None):
        by_image.setdefault(image, []).append(dict(zip(("label", "x", "y", "w", "h"), values, strict=True)))
    frame["boxes"] = frame["image"].map(by_image)
    boxed = frame.loc[frame["boxes"].notna(), ["boxes", "meta.findings"]]
    agrees = [
        {box["label"] for box in found} <= set(text.split("|"))
        for found, text in boxed.itertuples(index=False, name=None)
    ]
    frame["check.box_labels"] = yes_no(pd.Series(agrees, index=boxed.index, dtype=object))
    official = frame.loc[boxed.index, "meta.official_split"]
    frame["check.box_side"] = yes_no((official == "test").astype(object).where(official.notna(), None))


TRAIN_VAL_COUNTS = {
    "Atelectasis": 8280, "Cardiomegaly": 1707, "Consolidation": 2852, "Edema": 1378, "Effusion": 8659,
    "Emphysema": 1423, "Fibrosis": 1251, "Hernia": 141, "Infiltration": 13782, "Mass": 4034, "Nodule": 4708,
    "Pleural_Thickening": 2242, "Pneumonia": 876, "Pneumothorax": 2637,
}  # fmt: skip
TEST_COUNTS = {
    "Atelectasis": 3279, "Cardiomegaly": 1069, "Consolidation": 1815, "Edema": 925, "Effusion": 4658,
    "Emphysema": 1093, "Fibrosis": 435, "Hernia": 86, "Infiltration": 6112, "Mass": 1748, "Nodule": 1623,
    "Pleural_Thickening": 1143, "Pneumonia": 555, "Pneumothorax": 2665,
}  # fmt: skip
BOX_COUNTS = {
    "Atelectasis": 180, "Cardiomegaly": 146, "Effusion": 153, "Infiltration": 123, "Mass": 85, "Nodule": 79,
    "Pneumonia": 120, "Pneumothorax": 98,
}  # fmt: skip
"""Films per finding in the official lists, and boxes: counted on the table of 2020 and on BBox_List_2017.csv. The
paper's own table differs."""


def _counts_of(split: str, findings: Mapping[str, int], no_finding: int, films: int, patients: int) -> list[Count]:
    official = {"meta.official_split": split}
    found = [Count(f"{name} in {split}", n, {f"label.{name}": 1, **official}) for name, n in findings.items()]
    return [
        *found,
        Count(f"{NO_FINDING} in {split}", no_finding, {"meta.findings": NO_FINDING, **official}),
        Count(f"films in {split}", films, official),
        Count(f"patients in {split}", patients, official, of="patients"),
    ]


WHOLE = Count("films", COMPLETE_ROWS["2020"])
COUNTS = (
    PublishedCounts(
        "patient-counts",
        "Patients, women and men, views and films per patient are as many as in the published table.",
        WHOLE,
        (
            Count("patients", 30805, of="patients"),
            Count("patients with one film", 17503, of="single patients"),
            Count("films of the patient with the most", 184, of="largest patient"),
            Count("films of men", 63340, {"sex": "M"}),
            Count("films of women", 48780, {"sex": "F"}),
            Count("PA films", 67310, {"view": "PA"}),
            Count("AP films", 44810, {"view": "AP"}),
            Count("films at an age of 0", 14, {"age_years": 0.0}),
        ),
        forms=("2020",),
    ),
    PublishedCounts(
        "label-counts",
        "Every finding is on as many films of each of the official lists as in the published table.",
        WHOLE,
        (
            *_counts_of("train_val", TRAIN_VAL_COUNTS, 50500, 86524, 28008),
            *_counts_of("test", TEST_COUNTS, 9861, 25596, 2797),
        ),
        forms=("2020",),
    ),
    PublishedCounts(
        "box-counts",
        "There are as many boxes of every finding as published, 984 in all.",
        WHOLE,
        tuple(Count(f"boxes of {name}", n, {"label": name}, of="boxes") for name, n in BOX_COUNTS.items()),
        forms=("2020",),
    ),
)

CLEAN_UP = "a public clean-up of the full set that dropped them, see docs/datasets.md"

TERMS = Terms(
    may_redistribute=True,
    redistribution=(
        "Use is unrestricted with citation of Wang et al. 2017, and the copy on Kaggle is marked CC0 (recalled): "
        "images and shards may be passed on. Name the NIH Clinical Center as their source, with a link (recalled)."
    ),
    duo={"0000004": "no restriction"},
    creators=("Wang X", "Peng Y", "Lu L", "Lu Z", "Bagheri M", "Summers RM"),
    publisher="NIH Clinical Center",
    bibtex="""@inproceedings{wang2017chestxray8,
  author = {Wang, X. and Peng, Y. and Lu, L. and Lu, Z. and Bagheri, M. and Summers, R. M.},
  title = {{ChestX-ray8}: Hospital-scale Chest X-ray Database and Benchmarks on Weakly-Supervised Classification and
           Localization of Common Thorax Diseases},
  booktitle = {CVPR},
  year = {2017},
  eprint = {1705.02315},
  archivePrefix = {arXiv}
}""",
)
DATASHEET = Datasheet(
    motivation=(
        "Made to train and to compare weakly supervised classification and localisation of common diseases of the "
        "chest (title of Wang et al. 2017).",
    ),
    composition=(
        "A complete copy has 112,120 frontal films of 30,805 patients: 67,310 PA and 44,810 AP, 63,340 of men and "
        "48,780 of women (table of 2020).",
        "One patient has 184 films; 17,503 have one.",
        "60,361 films are labelled No Finding; the rarest finding, Hernia, is on 227.",
        "984 boxes lie on 880 films, all of the official test list.",
    ),
    collection=(
        "Films of one hospital, the NIH Clinical Center in the United States (generally known); how patients were "
        "chosen is not known here.",
    ),
    preprocessing=(
        "The films were reduced to PNG of 1024 x 1024 pixels and 8 bits; sizes and pixel spacings in the table are of "
        "the original films.",
    ),
    labelling=(
        "Findings were mined from radiology reports by a program; nobody read the films for them (generally known).",
        "Boxes of eight findings were drawn by hand (generally known).",
        "For 4,376 films Google published labels by experts in 2019; they are another label table.",
    ),
    sensitive=(
        "Age, sex and a running patient number of the publisher's; no name, date or place.",
        "The publisher removed identifying text from the films (recalled); nobody has checked every film.",
    ),
    uses=("Training classifiers of 14 findings and scoring them on the official test patients.",),
    not_for=(
        "Diagnosis, or telling how common a disease is: a finding that no report mentions is labelled absent.",
        "Scoring a model against what a radiologist sees, unless the expert labels are used.",
    ),
    biases=(
        "One hospital of referred patients: findings are more frequent, and other, than elsewhere (inferred).",
        "AP films are mostly taken at the bedside of sicker patients, so the view can stand for the disease (generally "
        "known).",
        "Films after treatment show it, such as the drain beside a pneumothorax (generally known).",
    ),
    limitations=(
        "Labels differ between the published tables: 10 of 5,606 films of the sample have others in 2020.",
        "Ages differ between the published tables, in 24 % of the sample's rows.",
        "Films that are rotated, lateral or inverted are among them (recalled).",
    ),
    maintenance=("The label table was last reissued in 2020; no later release is known.",),
)

DATASET = Dataset(
    name="nih-chest-xray",
    version="2",
    title="NIH ChestX-ray14",
    summary=(
        "112,120 frontal chest X-rays of 30,805 patients, 14 findings mined from reports, official test patients, "
        "984 boxes on 880 films of the test side."
    ),
    sources=(
        Source("images_0NN.zip (12)", "https://www.kaggle.com/datasets/nih-chest-xrays/data", note="42 GB"),
        Source(
            "images_0NN.tar.gz (12)", "https://nihcc.app.box.com/v/ChestXray-NIHCC", note="42 GB, instead of the zips"
        ),
        Source(
            "sample.zip",
            "https://www.kaggle.com/datasets/nih-chest-xrays/sample",
            note="5,606 films, sample_labels.csv",
        ),
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
        MemberRule("image", r"(?:^|/)(?P<key>\d{8}_\d{3})\.(?i:png)$", "image"),
        MemberRule("table", r"(?i)(?:^|/)train_val_list(?:_NIH)?\.txt$", "split-list", role="train_val_list"),
        MemberRule("table", r"(?i)(?:^|/)test_list(?:_NIH)?\.txt$", "split-list", role="test_list"),
        MemberRule("table", r"(?i)\.csv$", "metadata-table"),
        MemberRule("ignored", r"(?i)\.pdf$|(?:^|/)(?:README|LOG|FAQ|ARXIV)[^/]*\.(?:txt|pdf|md)$", "document"),
    ),
    tables=(
        TableRule(
            "entries",
            ENTRY_COLUMNS,
            forms=(
                TableForm("2020", BRACKETED, trailing_cells=0, rows=COMPLETE_ROWS["2020"]),
                TableForm("2017", BRACKETED, trailing_cells=1, rows=COMPLETE_ROWS["2017"]),
                TableForm("sample", PLAIN, rows=COMPLETE_ROWS["sample"]),
                TableForm("adjudicated", (*BRACKETED, *ADJUDICATED), rows=COMPLETE_ROWS["adjudicated"]),
            ),
            aliases={"Patient Sex": "Patient Gender"},
        ),
        TableRule("boxes", BOX_COLUMNS, is_required=False),
        TableRule("train_val_list", ("Image Index",), has_header=False, is_required=False),
        TableRule("test_list", ("Image Index",), has_header=False, is_required=False),
    ),
    parse=parse,
    labels=FINDINGS,
    label_kind="multiple",
    splits=("train", "validation", "test"),
    labelled_splits=("train", "validation", "test"),
    group="patient",
    carved=("train", "validation"),
    image=ImageRules(size=224, channels=(1,), min_side=32, drops_alpha=True),
    appearance=Appearance(
        sizes=((FILM_PIXELS, FILM_PIXELS),),
        mean_grey=(50 / 255, 195 / 255),  # where that clean-up drew its lines
        is_oriented=True,
        fills_frame=True,
    ),
    samples=112120,
    has_boxes=True,
    fields={
        "findings": Field("text", "normalised findings in alphabetical order, joined by |"),
        "follow_up": Field("int", "number of the examination, 0 and up within a patient; renumbered in 2020"),
        "film_width": Field("int", "width of the original film in pixels, before the publisher reduced it to 1024"),
        "film_height": Field("int", "height of the original film in pixels"),
        "film_spacing_x": Field("float", "horizontal pixel spacing of the original film in mm"),
        "film_spacing_y": Field("float", "vertical pixel spacing of the original film in mm"),
        "official_split": Field("text", "publisher's list that names the film: train_val or test"),
    },
    parts=(
        ("images_001", "00001335_006"),
        ("images_002", "00003923_013"),
        ("images_003", "00006585_006"),
        ("images_004", "00009232_003"),
        ("images_005", "00011558_007"),
        ("images_006", "00013774_025"),
        ("images_007", "00016051_009"),
        ("images_008", "00018387_034"),
        ("images_009", "00020945_049"),
        ("images_010", "00024717_000"),
        ("images_011", "00028173_002"),
        ("images_012", "00030805_000"),
    ),
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
        matching(
            "image-name",
            "meta.Image Index",
            IMAGE_NAME,
            "File names are eight digits of the patient, three of the film.",
        ),
        one_of(
            "patient-of-name", "check.patient_agrees", ["yes"], "The first eight digits of a file name are its patient."
        ),
        one_of("view", "view", ["PA", "AP"], "The view is PA or AP."),
        one_of(
            "follow-up-renumbered",
            "check.follow_up_agrees",
            ["yes"],
            "The follow-up number equals the suffix of the file name.",
        ),
        one_of(
            "follow-up-repeated",
            "check.follow_up_alone",
            ["yes"],
            "No two films of a patient have the same follow-up number.",
        ),
        between("follow-up-range", "meta.follow_up", "Follow-up numbers lie between 0 and 183.", least=0, most=183),
        one_of(
            "original-film",
            "check.film",
            [""],
            "Size and pixel spacing of the original film lie in the published ranges, the spacing equal both ways.",
            count_by="check.film",
        ),
        one_of("labels-unsorted", "check.labels_sorted", ["yes"], "Findings are listed in alphabetical order."),
        one_of(
            "age-unit",
            "check.age_unit",
            ["Y", "M"],
            "Ages are in years or months; others are set to unknown, the published text is kept.",
            action="null",
            empties="age_years",
        ),
        one_of(
            "no-official-split",
            "check.official_split",
            ["yes"],
            "The publisher's lists say which films are for testing; without them test is dealt by patient.",
        ),
        one_of(
            "boxes-refused",
            "check.boxes_sound",
            ["yes"],
            "Every published box of a film can be read, has an area and lies on the film.",
            severity="critical",
            action="note",
            tolerance=0.01,
        ),
        one_of(
            "box-labels", "check.box_labels", ["yes"], "A film's boxes are of findings that the film is labelled with."
        ),
        one_of(
            "boxed-in-training",
            "check.box_side",
            ["yes"],
            "Every film with boxes is on the publisher's test list, so that no model is trained on one.",
        ),
        one_of("not-grey", "source_mode", ["L"], "Films are stored as grey; others were converted.", gate="images"),
    ),
    counts=COUNTS,
    known=(
        Known(
            "follow-up-renumbered",
            24106,
            "The 2020 table renumbered follow-ups; 24,106 no longer equal the file name's suffix.",
            "counted on Data_Entry_2017_v2020.csv",
            forms=("2020",),
        ),
        Known(
            "labels-unsorted",
            51,
            "51 rows of the 2020 table list their findings out of order.",
            "counted on Data_Entry_2017_v2020.csv",
            forms=("2020",),
        ),
        Known(
            "implausible-age",
            16,
            "16 rows of the 2017 table have ages above 120 years, up to 414.",
            "recalled by several users of Data_Entry_2017.csv; 411 and 412 were seen",
            forms=("2017",),
        ),
        Known(
            "implausible-age",
            1,
            "One row of the sample table has an age of 411 years (72 in the table of 2020).",
            "counted on sample_labels.csv",
            forms=("sample",),
        ),
        Known(
            "age-unit",
            1,
            "One row of the sample table gives an age in days where years were meant (33 in the table of 2020).",
            "counted on sample_labels.csv",
            forms=("sample",),
        ),
        Known(
            "not-grey",
            519,
            "519 films are RGBA with equal channels.",
            "recalled for the full set; 21 of 1,000 in one resized subset",
        ),
        Known(
            "label-drift",
            2,
            "The official test films show pneumothorax and effusion more often than the others: 10.4 % for 3.0 %, and "
            "18.2 % for 10.0 %.",
            "counted on Data_Entry_2017_v2020.csv by the publisher's lists",
        ),
        Known(
            "group-drift",
            1,
            "The official test patients have 9.2 films each on average, the others 3.1.",
            "counted on Data_Entry_2017_v2020.csv by the publisher's lists",
        ),
        Known("near-black", 61, "61 films have a mean grey below 50.", CLEAN_UP),
        Known("near-white", 52, "52 films have a mean grey above 195.", CLEAN_UP),
    ),
    terms=TERMS,
    datasheet=DATASHEET,
)
