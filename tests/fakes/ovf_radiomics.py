"""A small made-up folder of vertebrae as a user supplies it: crops of lateral spine films, masks, and one table.

The layout is a contract of ours; ``age`` and ``sex`` are columns that it does not ask for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from tasks.phantoms import vertebra

TABLE = "vertebrae.csv"
HEADER = "patient_id,vertebra,centre,set,class,age,sex"
SETS: Mapping[str, int] = {"train": 712, "internal": 178, "external": 111, "prospective": 75}
"""Vertebrae of the published study."""
CENTRES: Mapping[str, tuple[str, ...]] = {
    "train": ("A", "B"), "internal": ("A", "B"), "external": ("C",), "prospective": ("A",),
}  # fmt: skip
VERTEBRAE = ("T10", "T11", "T12", "L1", "L2", "L3", "L4", "L5")

_SMALLEST = 60
_SHARES = (0.40, 0.32, 0.28)

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PlantedDefects:
    """Where each defect is, by the file name without its extension; empty where written without."""

    mask_of_another_size: str = ""
    empty_mask: str = ""
    two_components: str = ""
    touches_border: str = ""
    without_mask: str = ""
    without_image: str = ""
    """Its row and its mask are there."""
    without_row: str = ""
    """Its image and its mask are there."""


@dataclass(frozen=True)
class Row:
    """One vertebra of the table."""

    patient: str
    vertebra: str
    centre: str
    split: str
    fracture_class: int
    age: int
    sex: str

    @property
    def name(self) -> str:
        """Of image and mask, without the extension."""
        return f"{self.patient}_{self.vertebra}"


def write(folder: Path, *, images: int = 300, defects: bool = True, seed: int = 0) -> PlantedDefects:
    """Write images, masks and the table of ``images`` rows; no patient is in two sets."""
    if images < _SMALLEST:
        message = f"images={images}: needs at least {_SMALLEST}"
        raise ValueError(message)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    rows = list(_rows(rng, images))
    for number, row in enumerate(rows):
        _draw(folder, np.random.default_rng([seed, number]), row.name, row.fracture_class)
    lines = [HEADER, *(_line(row) for row in rows)]
    (folder / TABLE).write_bytes("".join(f"{line}\n" for line in lines).encode())
    return _plant(folder, rng, rows, seed) if defects else PlantedDefects()


def _line(row: Row) -> str:
    return f"{row.name.replace('_', ',')},{row.centre},{row.split},{row.fracture_class},{row.age},{row.sex}"


def _rows(rng: np.random.Generator, images: int) -> Iterator[Row]:
    """Set by set, and within a set patient by patient."""
    ends = np.round(images * np.cumsum(list(SETS.values())) / sum(SETS.values())).astype(int).tolist()
    number = 0
    for split, start, end in zip(SETS, [0, *ends], ends, strict=False):
        classes = _dealt_classes(rng, end - start)
        while classes:
            number += 1
            count = min(len(classes), int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])))
            centre, age, sex = str(rng.choice(CENTRES[split])), int(rng.integers(50, 92)), "FFM"[rng.integers(3)]
            for level in sorted(rng.choice(len(VERTEBRAE), count, replace=False).tolist()):
                yield Row(f"P{number:04d}", VERTEBRAE[level], centre, split, classes.pop(), age, sex)


def _dealt_classes(rng: np.random.Generator, count: int) -> list[int]:
    """Each class's share of a set, shuffled."""
    ends = np.round(count * np.cumsum(_SHARES))
    classes: list[int] = rng.permutation(np.searchsorted(ends, np.arange(count), side="right")).tolist()
    return classes


def _draw(folder: Path, rng: np.random.Generator, name: str, fracture_class: int) -> None:
    drawn = vertebra(rng, fracture_class=fracture_class, side=int(rng.integers(96, 129)))
    _save(folder, "images", name, drawn.pixels)
    _save(folder, "masks", name, drawn.mask)


def _plant(folder: Path, rng: np.random.Generator, rows: Sequence[Row], seed: int) -> PlantedDefects:
    """Spoil six vertebrae, and add one that no row tells of."""
    chosen = rng.choice(len(rows), 6, replace=False)
    size, empty, island, border, no_mask, no_image = (rows[i].name for i in chosen)
    extra = f"P{int(rows[-1].patient[1:]) + 1:04d}_L1"
    planted = PlantedDefects(size, empty, island, border, no_mask, no_image, extra)
    _save(folder, "masks", planted.mask_of_another_size, _load(folder, planted.mask_of_another_size)[2:, 3:])
    _save(folder, "masks", planted.empty_mask, np.zeros_like(_load(folder, planted.empty_mask)))
    for name, spoil in ((planted.two_components, _with_island), (planted.touches_border, _with_bridge)):
        _save(folder, "masks", name, spoil(_load(folder, name)))
    (folder / "masks" / f"{planted.without_mask}.png").unlink()
    (folder / "images" / f"{planted.without_image}.png").unlink()
    _draw(folder, np.random.default_rng([seed, len(rows)]), extra, 0)
    return planted


def _with_island(mask: Grey) -> Grey:
    """A second patch in a corner, clear of the border and of the body."""
    island = mask.copy()
    island[3:9, 3:9] = 255
    return island


def _with_bridge(mask: Grey) -> Grey:
    """A strip from the body to the left border."""
    bridge = mask.copy()
    middle = mask.shape[0] // 2
    bridge[middle - 2 : middle + 3, : mask.shape[1] // 2] = 255
    return bridge


def _load(folder: Path, name: str) -> Grey:
    mask = cv2.imread(str(folder / "masks" / f"{name}.png"), cv2.IMREAD_GRAYSCALE)
    assert mask is not None, "written a moment ago"
    return mask.astype(np.uint8)


def _save(folder: Path, kind: str, name: str, pixels: Grey) -> None:
    is_encoded, data = cv2.imencode(".png", pixels)
    assert is_encoded, "OpenCV encodes any uint8 image as PNG"
    (folder / kind / f"{name}.png").write_bytes(data.tobytes())
