"""Find the salts of ``tasks/datasets/mammography_density.py`` again, from a published release.

    python tests/bench/choose_salts.py lake/mammography-density/releases/RELEASE/samples.parquet

For each class: the first number whose hash deals as near to 70 % of the class's images to train as whole groups allow.
Only class and group sizes are looked at.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from tasks.datasets.mammography_density import CLASSES
from tasks.splits import group_fraction

SHARE = 0.7
CANDIDATES = 20_000


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


def main(samples: Path) -> None:
    """Print one line per class."""
    table = pd.read_parquet(samples)
    for name in CLASSES:
        groups = table.loc[table[f"label.{name}"] == 1, "group_id"]
        salt, dealt = choose(groups, name)
        print(f'"{name}": "{salt}",  # {dealt} of {len(groups)} images to train, {dealt / len(groups):.4f}')


if __name__ == "__main__":
    main(Path(sys.argv[1]))
