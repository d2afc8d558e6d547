"""The 106 masses of the real mammography archive, recovered from pixels alone, and what grouping by them changes.

    python -m tests.bench.lesions mammography_images.zip --json bench-results/lesions.json

First the groups: how many, how large, whether labels agree, between which thresholds they stay. Class counts are looked
at to check the groups; nothing was fitted to them. Then the gain: simple classifiers under the publisher's kind of
split (7:3 by image, stratified) and under the one by lesion, with the true labels and with labels dealt out anew to
lesions. Of a lesion's new label nothing can be seen in other lesions: what a model scores above chance then, it has
from a leak.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.console import Console
from rich.table import Table
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tasks import chunk_columns, leakage, near_duplicates
from tasks.datasets.mammography_density import CLASSES, DATASET, split
from tasks.decoding import decode
from tasks.fingerprints import alignment, search
from tasks.fingerprints.glance import glance
from tasks.fingerprints.polar import fingerprints_of
from tasks.images import convert
from tasks.schema import Transform

LABELS = [f"label.{name}" for name in CLASSES]
THRESHOLDS = (0.35, 0.40, 0.45, 0.50, 0.55, 0.60, 0.65)
STANDING = 5
"""Crops of each lesion that are held against those of others."""
SHUFFLES = 4
RESAMPLED = 200
SEED = 5
SOURCES = dict(zip(CLASSES, (12, 30, 4, 32, 13, 8, 6, 1), strict=True))
"""Masses of each class, training counts over 54 (facts/datasets.md, 5)."""

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]


def _converted(data: bytes) -> dict[str, Any]:
    found = convert(data, Transform(size=DATASET.image.size), DATASET.image)
    return {
        "fingerprint": fingerprints_of([found.thumbnail])[0],
        "thumbnail": found.thumbnail,
        "picture": found.picture,
        "histogram": found.histogram,
        "pixel_sha256": found.facts["pixel_sha256"],
    }


def samples_of(archive: Path) -> pd.DataFrame:
    """Every image of the archive, converted, with the label that the publisher gave it; split null or ``predict``."""
    with zipfile.ZipFile(archive) as opened:
        names = sorted(name for name in opened.namelist() if name.endswith(".jpg"))
        (listed,) = [name for name in opened.namelist() if name.endswith("Training_set.csv")]
        published = pd.read_csv(io.BytesIO(opened.read(listed))).set_index("filename")["label"]
        with ProcessPoolExecutor(os.cpu_count()) as processes:
            facts = pd.DataFrame(processes.map(_converted, map(opened.read, names), chunksize=100))
    is_labelled = pd.Series(names).str.contains("/train/")
    label = pd.Series(names).str.split("/").str[-1].map(published).where(is_labelled)
    rows = facts.assign(
        sample_id=names,
        archive=archive.name,
        member=names,
        row=range(len(names)),
        chunk="",
        chunk_row=range(len(names)),
        split=is_labelled.map({True: None, False: "predict"}),
        label=label,
        group_id=None,
    )
    for name in CLASSES:
        rows[f"label.{name}"] = (label == name).astype("Int8").where(is_labelled)
    return rows


def reader(samples: pd.DataFrame) -> chunk_columns.Read:
    """What these samples are compared by, by their place."""
    columns: tuple[chunk_columns.Column, ...] = ("fingerprint", "thumbnail", "picture")
    stored = {name: np.frombuffer(b"".join(samples[name]), np.uint8).reshape(len(samples), -1) for name in columns}
    return lambda places, column: stored[column][[row for _, row in places]]


def recovered(archive: Path) -> tuple[pd.DataFrame, Callable[[int], npt.NDArray[np.uint8]]]:
    """Images with the ``lesion`` that each shows, and the published pixels by ``row``."""
    samples = samples_of(archive)
    lesions, _ = leakage.group_by_picture(samples, reader(samples), DATASET)

    def pixels(row: int) -> npt.NDArray[np.uint8]:
        with zipfile.ZipFile(archive) as opened:
            return np.asarray(decode(opened.read(samples["member"].iloc[row]))[1], np.uint8)

    return samples.assign(lesion=lesions), pixels


def groups(samples: pd.DataFrame) -> dict[str, Any]:
    """What was recovered, and whether it can be right: samples have their ``lesion``."""
    labelled = samples[samples["label"].notna()]
    labels = labelled.groupby("lesion")["label"].nunique()
    classes = labelled.drop_duplicates("lesion")["label"].value_counts()
    sizes = samples["lesion"].value_counts()
    predicted = samples[samples["split"] == "predict"]
    return {
        "lesions": len(sizes),
        "sizes": {str(size): int(n) for size, n in sizes.value_counts().items()},
        "labelled_sizes": [int(labelled["lesion"].value_counts().agg(end)) for end in ("min", "max")],
        "with_one_label": int((labels == 1).sum()),
        "with_several_labels": int((labels > 1).sum()),
        "by_class": {name: int(classes.get(name, 0)) for name in CLASSES},
        "expected_by_class": SOURCES,
        "lesions_of_Density4Malignant": int(classes.get("Density4Malignant", 0)),
        "predict_images": len(predicted),
        "predict_images_of_a_labelled_lesion": int(predicted["lesion"].isin(labelled["lesion"]).sum()),
        "predict_images_identical_to_a_labelled_one": int(
            predicted["pixel_sha256"].isin(labelled["pixel_sha256"]).sum()
        ),
    }


def plateau(samples: pd.DataFrame) -> dict[str, int]:
    """Number of groups at each threshold."""
    first = leakage.different(samples)
    pictures = leakage.pictures_of(first, reader(samples))
    found = {}
    for threshold in THRESHOLDS:
        families, _ = near_duplicates.families(pictures, least=threshold)
        found[f"{threshold:.2f}"] = len(np.unique(families))
    return found


def margins(samples: pd.DataFrame, ties: pd.DataFrame) -> dict[str, Any]:
    """How alike the most alike crops of different lesions are, and how alike those that tie a lesion."""
    first = leakage.different(samples).reset_index(drop=True)
    standing = np.sort(
        np.concatenate([_spread(np.flatnonzero(first["lesion"] == one)) for one in first["lesion"].unique()])
    )
    some = first.iloc[standing]
    pictures = leakage.pictures_of(some, reader(samples))
    lesions = pd.factorize(some["lesion"])[0]
    pairs = search.nearest(pictures.fingerprints, lesions, least=-1.0, most=near_duplicates.PARTNERS)
    large = [alignment.Shown(picture) for picture in pictures.large(np.arange(len(pictures)))]
    small = [alignment.Shown(picture) for picture in pictures.thumbnails(np.arange(len(pictures)))]
    starts = glance(pictures.thumbnails, pairs).matrices
    apart = [_similarity(small, large, pair, start) for pair, start in zip(pairs.tolist(), starts, strict=True)]
    return {
        "pairs_of_different_lesions": len(apart),
        "highest_of_different_lesions": round(max(apart), 3),
        "ties": len(ties),
        "lowest_tie": float(ties["similarity"].min()),
        "threshold": DATASET.near_duplicate,
    }


def _spread(members: Numbers) -> Numbers:
    return members[np.linspace(0, len(members) - 1, STANDING).astype(np.int64)]


def _similarity(
    small: list[alignment.Shown], large: list[alignment.Shown], pair: list[int], start: npt.NDArray[np.float32]
) -> float:
    """Of one pair, laid on each other to the end, however badly it goes."""
    first, second, _ = pair
    rough = alignment.place(small[first], small[second], start, least=0.0)
    return alignment.refine(large[first], large[second], rough, times=2, least=DATASET.near_duplicate).similarity


@dataclass(frozen=True)
class Score:
    """What a classifier reaches on the images it was not trained on; intervals of 95 %, lesions drawn anew."""

    labels: str
    split: str
    model: str
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    balanced_accuracy_interval: tuple[float, float]
    auroc: float
    """Macro average over the classes that are there, each against all others."""
    auroc_interval: tuple[float, float]
    chance: float
    """Accuracy of always saying the class that is most frequent in training."""


def _models() -> Mapping[str, tuple[str, Callable[[], ClassifierMixin]]]:
    """Name to what it looks at and how it is made."""
    return {
        "nearest neighbours, 16 × 16 pixels": ("pixels", lambda: KNeighborsClassifier(3, weights="distance")),
        "logistic regression, 16 × 16 pixels": (
            "pixels",
            lambda: make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)),
        ),
        "random forest, histogram": ("histogram", lambda: RandomForestClassifier(200, random_state=SEED)),
    }


def features(samples: pd.DataFrame) -> dict[str, Floats]:
    """What models look at, one row per sample."""
    small = [
        cv2.resize(np.frombuffer(one, np.uint8).reshape(64, 64), (16, 16), interpolation=cv2.INTER_AREA).ravel()
        for one in samples["thumbnail"]
    ]
    counts = np.array(samples["histogram"].tolist(), np.float64)
    return {"pixels": np.array(small, np.float64), "histogram": counts / counts.sum(axis=1, keepdims=True)}


def gain(samples: pd.DataFrame) -> Iterator[Score]:
    """Every model under both splits, with true labels and with shuffled ones (the mean of several shuffles)."""
    labelled = samples[samples["label"].notna()].reset_index(drop=True)
    labelled = labelled.assign(group_id=labelled["lesion"])
    classes: Numbers = np.array([list(CLASSES).index(name) for name in labelled["label"]], np.int64)
    lesions: Numbers = np.asarray(pd.factorize(labelled["lesion"])[0], np.int64)
    rows = np.arange(len(labelled))
    _, held_out = train_test_split(rows, test_size=0.3, stratify=classes, random_state=SEED)
    is_tested = {
        "by image, 7:3": np.isin(rows, held_out),
        "by lesion": (split(labelled) == "validation").to_numpy(),
    }
    seen = features(labelled)
    truths: dict[str, list[Numbers]] = {
        "true": [classes],
        "shuffled by lesion": [_shuffled(classes, lesions, n) for n in range(SHUFFLES)],
    }
    for kind, several in truths.items():
        for name, tested in is_tested.items():
            for model, (what, make) in _models().items():
                scores = [_score(make(), seen[what], truth, lesions, tested) for truth in several]
                yield _mean(scores, kind, name, model)


def _shuffled(classes: Numbers, lesions: Numbers, number: int) -> Numbers:
    """Every lesion has the label of another one, so that class frequencies among lesions stay."""
    own = classes[np.unique(lesions, return_index=True)[1]]
    return np.random.default_rng((SEED, number)).permutation(own)[lesions]


def _score(
    model: ClassifierMixin, seen: Floats, truth: Numbers, lesions: Numbers, tested: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    model.fit(seen[~tested], truth[~tested])
    chances = np.zeros((int(tested.sum()), len(CLASSES)))
    chances[:, model.classes_] = model.predict_proba(seen[tested])
    own, groups = truth[tested], lesions[tested]
    whole = _measures(own, chances)
    rng = np.random.default_rng(SEED)
    members = [np.flatnonzero(groups == lesion) for lesion in np.unique(groups)]
    drawn = []
    for _ in range(RESAMPLED):
        rows = np.concatenate([members[n] for n in rng.integers(len(members), size=len(members))])
        drawn.append(_measures(own[rows], chances[rows]))
    most = np.bincount(truth[~tested]).argmax()
    return {"whole": whole, "ends": np.nanquantile(drawn, [0.025, 0.975], axis=0), "chance": (own == most).mean()}


def _measures(truth: Numbers, chances: Floats) -> list[float]:
    """Accuracy, balanced accuracy, macro AUROC over the classes that are there."""
    said = chances.argmax(axis=1)
    there = np.unique(truth)
    recalls = [(said[truth == n] == n).mean() for n in there]
    curves = [roc_auc_score(truth == n, chances[:, n]) for n in there] if len(there) > 1 else [np.nan]
    return [float((said == truth).mean()), float(np.mean(recalls)), float(np.mean(curves))]


def _mean(scores: list[dict[str, Any]], labels: str, split_name: str, model: str) -> Score:
    whole = np.mean([score["whole"] for score in scores], axis=0).round(3).tolist()
    low, high = np.mean([score["ends"] for score in scores], axis=0).round(3).tolist()
    chance = round(float(np.mean([score["chance"] for score in scores])), 3)
    ends = list(zip(low, high, strict=True))
    return Score(labels, split_name, model, whole[0], ends[0], whole[1], ends[1], whole[2], ends[2], chance)


def _show(found: dict[str, Any], scores: list[Score]) -> None:
    console = Console(width=150)
    table = Table("groups", "")
    for part in ("groups", "margins", "thresholds"):
        for name, value in found[part].items():
            table.add_row(name if part != "thresholds" else f"groups at {name}", str(value))
    console.print(table)
    table = Table("labels", "split", "model", "accuracy", "balanced accuracy", "macro AUROC", "chance")
    for score in scores:
        cells = [
            f"{value:.2f} ({low:.2f}–{high:.2f})"
            for value, (low, high) in (
                (score.accuracy, score.accuracy_interval),
                (score.balanced_accuracy, score.balanced_accuracy_interval),
                (score.auroc, score.auroc_interval),
            )
        ]
        table.add_row(score.labels, score.split, score.model, *cells, f"{score.chance:.2f}")
    console.print(table)


def main() -> None:
    """Recover the lesions, check them, measure what they change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    samples = samples_of(asked.archive)
    lesions, ties = leakage.group_by_picture(samples, reader(samples), DATASET)
    samples = samples.assign(lesion=lesions)
    scores = list(gain(samples))
    found = {"groups": groups(samples), "margins": margins(samples, ties), "thresholds": plateau(samples)}
    _show(found, scores)
    if asked.json:
        asked.json.write_text(json.dumps(found | {"scores": [asdict(score) for score in scores]}, indent=1) + "\n")


if __name__ == "__main__":
    main()
