"""Wrist fractures, an invented release: drafted by `scanmill new-dataset` from its table and folder, completed by hand.

How it came to be, command by command, is told in docs/new-dataset.md. The publisher's oddities: column names in German,
a semicolon table in Windows-1252 with decimal commas, file names with blanks and brackets, and no patient anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from tasks.demands import between, one_of
from tasks.readings import folded, number, stem, yes_no
from tasks.schema import Appearance, Dataset, Datasheet, MemberRule, Parsed, Source, Table, TableRule, Terms
from tasks.splits import split_by_group

LABELS = {"keine_fraktur": "no fracture", "radiusfraktur": "fracture of the radius", "ulnafraktur": "of the ulna"}
# What the cells say, case and blanks aside, to the label it stands for.
SPELLINGS = {"keine fraktur": "keine_fraktur", "radiusfraktur": "radiusfraktur", "ulnafraktur": "ulnafraktur"}
SEXES = {"m": "M", "w": "F"}
SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
# What groups are dealt by: another word deals them otherwise.
NAME = "wrist-fractures"


def parse(tables: Mapping[str, Table]) -> Parsed:
    """One sample per row of Befunde 2021.csv."""
    rows = tables["befunde_2021"].rows
    frame = pd.DataFrame({"table": "befunde_2021", "row": rows.index}, index=rows.index)
    frame["image"] = stem(rows["Datei"])
    frame["age_years"] = number(rows["Alter[J]"])
    frame["sex"] = folded(rows["Geschlecht"]).map(SEXES)
    cells = folded(rows["Befund"])
    found = cells.map(SPELLINGS)
    for name in LABELS:
        frame[f"label.{name}"] = (found == name).astype("Int8").where(found.notna())
    frame["check.label"] = yes_no(found.notna() | (cells == ""))
    measured = rows["Dislokation [mm]"].str.replace(",", ".")
    frame["target.dislokation_mm"] = number(measured)
    for column in rows.columns:
        frame[f"meta.{column}"] = rows[column]
    return Parsed(frame.reset_index(drop=True))


def split(samples: pd.DataFrame) -> pd.Series:
    """Dealt by a hash of the group: rows that come later move nobody."""
    everyone = pd.Series("all", index=samples.index)
    return split_by_group(samples["group_id"], everyone, SHARES, {"all": NAME})


DATASET = Dataset(
    name="wrist-fractures",
    version="1",
    title="Wrist fractures",
    summary="An invented release of 140 wrist radiographs with one finding each; it shows how to add a dataset.",
    sources=(Source("wrist", "https://example.org/handgelenk/2021", note="invented; its fake writes one like it"),),
    licence="CC0 1.0",
    citation="Invented for scanmill's documentation.",
    homepage="https://example.org/handgelenk",
    published="2021",
    members=(
        MemberRule("image", r"(?:^|/)Aufnahmen/(?P<key>[^/]+)\.(?i:png)$", "image"),
        MemberRule("table", r"(?:^|/)Befunde 2021\.csv$", "metadata-table", role="befunde_2021"),
        MemberRule("ignored", r"(?i)\.txt$", "document"),
    ),
    tables=(
        TableRule(
            "befunde_2021",
            columns=("Befund", "Seite", "Alter[J]", "Geschlecht", "Dislokation [mm]", "Datei", "Anmerkung für Ärzte"),
            encoding="cp1252",
            separator=";",
        ),
    ),
    parse=parse,
    labels=LABELS,
    label_kind="exclusive",
    splits=("train", "validation", "test"),
    labelled_splits=("train", "validation", "test"),
    group="picture",  # no patient is published: what shows one picture stays together, and the datasheet says so
    split=split,
    appearance=Appearance(sizes=((90, 120),)),
    samples=140,
    targets={"dislokation_mm": "mm"},
    expectations=(
        one_of(
            "unknown-label",
            "check.label",
            ["yes"],
            "Every finding is one of the three that are published.",
            severity="critical",
        ),
        between("dislocation", "target.dislokation_mm", "Dislocations lie between 0 and 40 mm.", least=0, most=40),
    ),
    terms=Terms(
        may_redistribute=True,
        redistribution="It is made up and nobody's: pass it on as you like (CC0 1.0).",
        publisher="scanmill",
    ),
    datasheet=Datasheet(
        motivation=("Invented, to show how a dataset of one's own is added.",),
        composition=("140 drawn pictures with a finding, a side, an age, a sex and a dislocation in mm each.",),
        labelling=("Drawn by chance: a picture does not show its finding.",),
        not_for=("Training anything: there is nothing to learn.",),
        limitations=("No patient is published, so that two pictures of one patient may lie in two splits.",),
    ),
)
