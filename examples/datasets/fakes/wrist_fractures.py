"""A made-up raw release of wrist-fractures: its layout, and no row, name or pixel of anyone.

`make contract DATASET=wrist-fractures DATASETS=examples/datasets` runs the contract test on it, and
`python examples/datasets/fakes/wrist_fractures.py wrist` writes one to try things on.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import cv2
import numpy as np

from tasks.phantoms import chest

COLUMNS = ("Befund", "Seite", "Alter[J]", "Geschlecht", "Dislokation [mm]", "Datei", "Anmerkung für Ärzte")
# Of these columns a cell may say:
VALUES = {
    "Seite": ("links", "rechts"),
    "Geschlecht": ("m", "w"),
    "Befund": ("keine Fraktur", "Radiusfraktur", "Ulnafraktur"),
}


def write(folder: Path, *, images: int = 120, seed: int = 0) -> None:
    """Every tenth picture is there twice, so that there is something to keep together."""
    files: dict[str, bytes] = {}
    rows = []
    for number in range(images):
        name = f"IMG-{number:04d} (0)"
        rows.append(_row(number, name, seed))
        files[f"Aufnahmen/{name}.PNG"] = _picture(number, seed)
    folder.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    table = folder / "Befunde 2021.csv"
    with table.open("w", encoding="cp1252", newline="") as opened:
        writer = csv.DictWriter(opened, COLUMNS, delimiter=";", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def _row(number: int, name: str, seed: int) -> dict[str, str]:
    group = number - number % 10 // 9
    rng = np.random.default_rng([seed, group])
    row = {
        "Alter[J]": f"{rng.integers(20, 90)}",
        "Dislokation [mm]": f"{rng.uniform(1, 30):.1f}".replace(".", ","),
        "Datei": f"{name}.PNG",
        "Anmerkung für Ärzte": "made up",
    }
    row |= {column: str(rng.choice(said)) for column, said in VALUES.items()}
    return row


def _picture(number: int, seed: int) -> bytes:
    rng = np.random.default_rng([seed, number - number % 10 // 9])
    grey = chest(rng, 96, has_words=False).pixels[:96, :72]
    pixels = np.ascontiguousarray(grey)
    return cv2.imencode(".png", pixels)[1].tobytes()


if __name__ == "__main__":
    write(Path(sys.argv[1]), images=140)
