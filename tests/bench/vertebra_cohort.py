"""Made-up cohorts of vertebrae as large as the published study, with a known best way to tell the classes apart.

Every vertebra has two hidden numbers: ``texture``, how coarse the grain of the bone is, and ``shape``, how much height
was lost. Class means differ in one of them, in both or in neither; the spread is 1 and normal, so whoever sees these
numbers can do no better than the posterior below, and that is the planted AUC. All else (brightness, gain, size, tilt,
noise, surroundings) tells nothing of the class. Grey levels inside a mask are the same normal quantiles whatever the
texture, and the area does not depend on the shape: neither shows in what is measured without regard to neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtri, softmax
from scipy.stats import rankdata

from tasks.phantoms.drawing import Plane, Points, Stroke, clouds, draw, fill, grid, open_curve
from tests.fakes.ovf_radiomics import CENTRES, HEADER, SETS, TABLE
from tests.fakes.ovf_radiomics import VERTEBRAE as LEVELS

PATIENTS: Mapping[str, int] = {"train": 623, "internal": 156, "external": 97, "prospective": 66}
"""Of each set: 942 as published, shared out as the vertebrae are."""
CLASS_SHARES = (0.40, 0.32, 0.28)
LATENTS = ("texture", "shape")
SAME_PATIENT = 0.3
"""Correlation of a hidden number between two vertebrae of one patient, their classes aside."""
SIDES = (96, 128)
AREA = 2000.0
"""Of a vertebral body in pixels; the spread is that of AREA_SPREAD, lognormal."""
AREA_SPREAD = 0.08
BONE = 1.14
"""Width of the drawn bone to that of its mask: what filters see beyond the mask's border is bone as well."""
GRAIN = 15.0
"""Standard deviation of the bone's texture in grey levels."""
ROUGHNESS = (0.42, -0.04)
"""One minus the correlation of neighbouring pixels at texture 0, and its change with each unit of texture."""
ROUGHEST, SMOOTHEST = 0.60, 0.06
RATIO, LOSS = 0.78, 0.045
"""Height to width at shape 0, and the share of it that goes with each unit of shape."""
WEDGE = 0.025
"""Share of the front's height that goes besides."""
SCANNER = (1.15, 0.6)
"""Another machine: contrast around mid-grey times this, and a blur of so many pixels (sigma)."""

Grey = npt.NDArray[np.uint8]
Means = tuple[float, float, float]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Cohort:
    """What differs between the classes, and how the external hospital differs from the others."""

    texture: Means = (0.0, 0.0, 0.0)
    """Of the hidden number, by class."""
    shape: Means = (0.0, 0.0, 0.0)
    external: float = 1.0
    """Share of the distances between class means that is left in the external set."""
    has_scanner: bool = False
    """Whether the external set was made on a machine of other contrast and sharpness."""

    def means(self, split: str) -> Floats:
        """Class by hidden number, (3, 2)."""
        means = np.array([self.texture, self.shape]).T
        centre = means.mean(axis=0)
        return cast(Floats, centre + (means - centre) * (self.external if split == "external" else 1.0))

    def posterior(self, latents: Floats) -> Floats:
        """Probability of each class for who knows the training set's means: (n, 2) to (n, 3)."""
        distance = ((latents[:, None, :] - self.means("train")) ** 2).sum(axis=2)
        return cast(Floats, softmax(np.log(CLASS_SHARES) - distance / 2, axis=1))


COHORTS: Mapping[str, Cohort] = {
    "texture": Cohort(texture=(0.0, 2.0, 4.0)),
    "shape": Cohort(shape=(0.0, 2.0, 4.0)),
    "none": Cohort(),
    "both": Cohort(texture=(0.0, 2.4, 0.0), shape=(0.0, 0.0, 2.0), external=0.5),
    "scanner": Cohort(texture=(0.0, 2.4, 0.0), shape=(0.0, 0.0, 2.0), has_scanner=True),
}


def auc(positive: npt.NDArray[np.bool_], score: Floats) -> float:
    """Area under the ROC curve; ties, to nine digits, count half."""
    ranks = rankdata(np.round(score, 9))
    count = int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(score) - count)))


def expected(cohort: Cohort, split: str, draws: int = 300_000) -> tuple[float, ...]:
    """One-vs-rest AUC of each class, of the best there is, in vertebrae without number of that set."""
    rng = np.random.default_rng(0)
    classes = rng.choice(3, draws, p=CLASS_SHARES)
    said = cohort.posterior(cohort.means(split)[classes] + rng.standard_normal((draws, 2)))
    return tuple(auc(classes == number, said[:, number]) for number in range(3))


def reached(cohort: Cohort, rows: pd.DataFrame) -> tuple[float, ...]:
    """The same in these very vertebrae: what luck of the draw adds or takes is in both this and what is measured."""
    said = cohort.posterior(rows[list(LATENTS)].to_numpy())
    return tuple(auc((rows["class"] == number).to_numpy(), said[:, number]) for number in range(3))


def vertebrae(cohort: Cohort, patients: int = sum(PATIENTS.values()), seed: int = 0) -> pd.DataFrame:
    """One row per vertebra, set by set: the columns of the table, the hidden numbers, ``brightness``; no pixels."""
    rng = np.random.default_rng([seed, 1])
    ends = np.round(patients * np.cumsum(list(PATIENTS.values())) / sum(PATIENTS.values())).astype(int)
    parts, first = [], 1
    for split, end in zip(PATIENTS, ends.tolist(), strict=True):
        count = end - first + 1
        parts.append(_set_of(rng, cohort, split, first, count, round(count * SETS[split] / PATIENTS[split])))
        first = end + 1
    return pd.concat(parts, ignore_index=True)


def write(folder: Path, cohort: Cohort, rows: pd.DataFrame, seed: int = 0) -> None:
    """Images, masks and the table as a user supplies them; the hidden numbers are not among them."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(len(rows)):
        pixels, mask = drawn(cohort, rows.iloc[number], np.random.default_rng([seed, 2, number]))
        _save(folder, "images", rows.iloc[number], pixels)
        _save(folder, "masks", rows.iloc[number], mask)
    table = rows[HEADER.split(",")].to_csv(index=False, lineterminator="\n")
    (folder / TABLE).write_bytes(table.encode())


def repaint(folder: Path, cohort: Cohort, rows: pd.DataFrame, number: int, seed: int) -> None:
    """Put another picture of the same vertebra, by another seed, in place of one that is there, and its mask."""
    pixels, mask = drawn(cohort, rows.iloc[number], np.random.default_rng([seed, 2, number]))
    _save(folder, "images", rows.iloc[number], pixels)
    _save(folder, "masks", rows.iloc[number], mask)


def _set_of(
    rng: np.random.Generator, cohort: Cohort, split: str, first: int, patients: int, count: int
) -> pd.DataFrame:
    """Vertebrae of one set; who has more than one is left to chance."""
    each = 1 + np.bincount(rng.integers(0, patients, count - patients), minlength=patients)
    of = np.repeat(np.arange(patients), each)
    classes = rng.permutation(np.searchsorted(np.round(count * np.cumsum(CLASS_SHARES)), np.arange(count), "right"))
    levels = np.concatenate([np.sort(rng.choice(len(LEVELS), size, replace=False)) for size in each])
    shared, own = np.sqrt(SAME_PATIENT), np.sqrt(1 - SAME_PATIENT)
    # Texture, shape and brightness.
    hidden = shared * rng.standard_normal((patients, 3))[of] + own * rng.standard_normal((count, 3))
    hidden[:, :2] += cohort.means(split)[classes]
    by_patient = {
        "centre": rng.choice(CENTRES[split], patients),
        "age": rng.integers(50, 92, patients),
        "sex": rng.choice(["F", "F", "M"], patients),
    }
    return pd.DataFrame(
        {
            "patient_id": [f"P{first + number:04d}" for number in of],
            "vertebra": [LEVELS[level] for level in levels],
            "set": split,
            "class": classes,
            **{name: values[of] for name, values in by_patient.items()},
            **dict(zip((*LATENTS, "brightness"), hidden.T, strict=True)),
        }
    )


def drawn(cohort: Cohort, row: pd.Series, rng: np.random.Generator) -> tuple[Grey, Grey]:
    """A crop around one vertebral body and its mask (0 or 255), both grey uint8 of one size."""
    side = int(rng.integers(SIDES[0], SIDES[1] + 1))
    area = AREA * np.exp(AREA_SPREAD * rng.standard_normal())
    outline = _outline(rng, float(row["shape"]), area) / side
    inside = fill(side, [outline], 0.0) >= 0.5
    bone = _wider(outline, BONE)
    film = _surroundings(rng, bone, side)
    strength = GRAIN * rng.uniform(0.92, 1.08)
    grain = 140 + 6 * row["brightness"] + strength * _texture(rng, inside, float(row["texture"]))
    film += (grain - film) * np.maximum(fill(side, [bone], 0.006), inside)
    film += rng.uniform(1.0, 2.0) * rng.standard_normal((side, side))
    if cohort.has_scanner and row["set"] == "external":
        film = cast(Plane, cv2.GaussianBlur(128 + SCANNER[0] * (film - 128), (0, 0), SCANNER[1]))
    return np.clip(np.round(film), 0, 255).astype(np.uint8), np.where(inside, 255, 0).astype(np.uint8)


def _wider(outline: Points, by: float) -> Points:
    middle = outline.mean(axis=0)
    return cast(Points, (outline - middle) * by + middle)


def _outline(rng: np.random.Generator, shape: float, area: float) -> Points:
    """In pixels, around a place near the crop's middle, of exactly that area: hollow plates, the front lower."""
    height = RATIO * np.exp(-LOSS * shape)
    front = -1 + 2 * np.clip(WEDGE * (shape + 3), 0, 0.6)
    middle = (front - 1) / 2
    upper = open_curve([(-1.0, front), (-0.5, middle / 2 + front / 2 + 0.06), (0.0, middle + 0.10), (1.0, -1.0)])
    lower = open_curve([(1.0, 1.0), (0.5, 0.92), (0.0, 0.90), (-0.5, 0.92), (-1.0, 1.0)])
    points = np.vstack([upper, [(0.94, 0.0)], lower, [(-0.94, (1 + front) / 2)]]) * [1.0, height]
    points -= points.mean(axis=0)
    points *= np.sqrt(area / cv2.contourArea(points.astype(np.float32)))
    tilt = rng.normal(0, 0.09)
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    middle_of_crop = sum(SIDES) / 4
    return cast(Points, points @ turn + middle_of_crop + rng.uniform(-2, 2, 2))


def _surroundings(rng: np.random.Generator, body: Points, side: int) -> Plane:
    """Soft tissue, arches behind, the bodies above and below and the rim of this one, in grey levels."""
    x, _ = grid(side)
    gas = np.clip(0.5 - x, 0, 1) * np.clip(clouds(rng, side, 3, octaves=2), 0, 2)
    film = rng.uniform(95, 115) + 30 * np.exp(-(((x - 0.62) / 0.34) ** 2)) + 6 * clouds(rng, side, 6, octaves=2)
    film -= 45 * gas
    middle, height = body.mean(axis=0), float(np.ptp(body[:, 1]))
    gap = rng.uniform(0.06, 0.10)
    # The neighbours are sound, whatever became of this one.
    others = [_outline(rng, -3.0, AREA) / side for _ in range(2)]
    others = [other - other.mean(axis=0) + middle for other in others]
    others[0] += [rng.normal(0, 0.03), body[:, 1].min() - gap - others[0][:, 1].max()]
    others[1] += [rng.normal(0, 0.03), body[:, 1].max() + gap - others[1][:, 1].min()]
    film += rng.uniform(20, 35) * fill(side, [*others, body], 0.006)
    rims = [Stroke(np.vstack([other, other[:1]]), 0.013) for other in (*others, _wider(body, 1.04))]
    film += 30 * draw(side, rims, 0.005)
    arches = [
        Stroke(middle + np.array([(0.2, at), (0.33, at + rng.normal(0, 0.03)), (0.5, at + 0.12)]), 0.09, 0.7)
        for at in (-0.08 - height - gap, -0.08, -0.08 + height + gap)
    ]
    return cast(Plane, film + rng.uniform(20, 35) * draw(side, arches, 0.01) * (1 - fill(side, [body], 0.01)))


def _texture(rng: np.random.Generator, inside: npt.NDArray[np.bool_], texture: float) -> Floats:
    """A plane of which each pixel of the mask has a normal quantile, so arranged that neighbours agree as asked for.

    White noise is blurred and its values replaced by quantiles of their ranks in the mask; bisection finds the blur.
    """
    target = float(np.clip(ROUGHNESS[0] + ROUGHNESS[1] * texture, SMOOTHEST, ROUGHEST))
    noise = rng.standard_normal(inside.shape)
    count = int(inside.sum())
    quantiles = ndtri((np.arange(count) + 0.5) / count)
    low, high = 0.3, 5.0
    plane = noise
    for _ in range(12):
        sigma = (low + high) / 2
        blurred = cv2.GaussianBlur(noise, (0, 0), sigma)
        plane = np.interp(blurred, np.sort(blurred[inside]), quantiles)
        low, high = (sigma, high) if _roughness(np.where(inside, plane, np.nan)) > target else (low, sigma)
    return plane


def _roughness(plane: Floats) -> float:
    """One minus the correlation of neighbours that both lie in the mask, mean of four directions; NaN is outside."""
    pairs = ((plane[1:], plane[:-1]), (plane[:, 1:], plane[:, :-1]))
    diagonal = ((plane[1:, 1:], plane[:-1, :-1]), (plane[1:, :-1], plane[:-1, 1:]))
    return float(np.mean([np.nanmean((one - other) ** 2) / 2 for one, other in (*pairs, *diagonal)]))


def _save(folder: Path, kind: str, row: pd.Series, pixels: Grey) -> None:
    is_encoded, data = cv2.imencode(".png", pixels)
    assert is_encoded, "OpenCV encodes any uint8 image as PNG"
    (folder / kind / f"{row['patient_id']}_{row['vertebra']}.png").write_bytes(data.tobytes())
