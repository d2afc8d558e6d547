"""Find the salts of the declared splits again, from published metadata.

    python -m tests.bench.choose_salts mammography lake/mammography-density/releases/RELEASE/samples.parquet
    python -m tests.bench.choose_salts nih Data_Entry_2017_v2020.csv train_val_list.txt

Mammography: for each class the first number whose hash deals as near to 70 % of the class's images to train as whole
groups allow. NIH: the numbers whose hash spreads all 14 findings of the train_val list most evenly, best last. Only
group sizes and labels are looked at.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from tasks.datasets import nih_chest_xray
from tasks.datasets.mammography_density import CLASSES
from tasks.splits import group_fraction
from tasks.tables import read_table

SHARE = 0.7
CANDIDATES = 20_000
NIH_CANDIDATES = 500


def choose(groups: pd.Series, name: str) -> tuple[str, int]:
    """Salt and number of training images for one class; ``groups`` is the group of each image."""
    sizes = groups.value_counts()
    target = round(SHARE * len(groups))
    best = ("", 0)
    for number in range(CANDIDATES):
        salt = f"{name}/{number}"
        dealt = int(sizes[[group_fraction(group, salt) < SHARE for group in sizes.index]].sum())
        if abs(dealt - target) < abs(best[1] - target):
            best = (salt, dealt)
        if dealt == target:
            break
    return best


def unevenness(counts: pd.DataFrame, salt: str) -> pd.Series:
    """Relative deviation of each finding's share in validation from the intended one; ``counts``: patient × finding."""
    dealt = counts[[group_fraction(patient, salt) < nih_chest_xray.VALIDATION_SHARE for patient in counts.index]]
    return (dealt.sum() / counts.sum() / nih_chest_xray.VALIDATION_SHARE - 1).abs()


def nih(table: Path, train_val: Path) -> None:
    """Print a line for every salt that is better than all before: its worst finding, and by how much."""
    rules = {rule.role: rule for rule in nih_chest_xray.DATASET.tables}
    entries = read_table(rules["entries"], table.name, table.read_bytes())
    listed = read_table(rules["train_val_list"], train_val.name, train_val.read_bytes()).rows["Image Index"]
    rows = nih_chest_xray.parse({"entries": entries}).rows
    rows = rows[rows["image"].isin(nih_chest_xray.image_key(listed))].assign(films=1)
    labels = [f"label.{name}" for name in nih_chest_xray.FINDINGS]
    counts = rows.groupby("patient_id")[["films", *labels]].sum()
    best = float("inf")
    for number in range(NIH_CANDIDATES):
        salt = f"nih-chest-xray/validation/{number}"
        found = unevenness(counts, salt)
        if found.max() < best:
            best = float(found.max())
            print(f'"{salt}"  # worst: {found.idxmax()}, off by {best:.1%} of its share')


def mammography(samples: Path) -> None:
    """Print one line per class."""
    table = pd.read_parquet(samples)
    for name in CLASSES:
        groups = table.loc[table[f"label.{name}"] == 1, "group_id"]
        salt, dealt = choose(groups, name)
        print(f'"{name}": "{salt}",  # {dealt} of {len(groups)} images to train, {dealt / len(groups):.4f}')


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    paths = [Path(argument) for argument in arguments]
    if command == "mammography":
        mammography(paths[0])
    else:
        nih(paths[0], paths[1])
