"""A made-up release for ``tests.bench.gpu``: images that take as long to read as real ones, and labels drawn by lot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tasks.datasets import find
from tasks.learning.recipe import Recipe, network_options
from tasks.phantoms import chest
from tests import tiny_releases

PHANTOMS = 48
DRAWN = 1024
"""Pixels of a phantom's side before it is made as small as the recipe's images, as films are."""
SHIFT, LIGHTER = 20, 16
"""Pixels and grey levels that a phantom is moved and brightened by at most, so that no two images are alike."""
PRESENT = 1 / 9
SHARD = 1000


def made_up(home: Path, recipe: Recipe, images: int) -> Path:
    """The lake with a release of the recipe's dataset: that many grey PNG in each of its splits for training and
    validation. Kept between runs."""
    dataset, side = find(recipe.dataset), network_options(recipe).size
    lake = home / f"gpu-{dataset.name}-{side}-{images}"
    if not (lake / dataset.name / "latest.json").is_file():
        files = list(_films(side, images))
        splits = {recipe.splits.train: files}
        if recipe.splits.validation:
            splits[recipe.splits.validation] = files[: max(1, images // 10)]
        count = sum(map(len, splits.values()))
        columns = _answers(recipe, count)
        tiny_releases.write_release(
            lake, splits, shard_samples=SHARD, stores=("webdataset",), dataset=dataset.name, columns=columns
        )
    return lake


def _films(side: int, images: int) -> Iterator[bytes]:
    drawn = [chest(np.random.default_rng(seed), DRAWN, view="PA").pixels.astype(np.uint8) for seed in range(PHANTOMS)]
    small = [cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA) for picture in drawn]
    for number in range(images):
        rng = np.random.default_rng([1, number])
        moved = np.roll(small[number % PHANTOMS], rng.integers(-SHIFT, SHIFT, 2), (0, 1))
        yield tiny_releases.png(np.minimum(moved, 255 - LIGHTER) + np.uint8(rng.integers(0, LIGHTER)))


def _answers(recipe: Recipe, count: int) -> dict[str, Any]:
    """Labels, targets and clinical values of all samples; of classes that exclude each other, exactly one."""
    dataset, rng = find(recipe.dataset), np.random.default_rng(2)
    labels = {name: (rng.random(count) < PRESENT).astype(np.int8) for name in dataset.labels}
    for question in recipe.questions():
        if question.kind == "classes":
            one = rng.integers(0, len(question.of), count)
            labels |= {name: (one == number).astype(np.int8) for number, name in enumerate(question.of)}
    targets = {f"target.{name}": rng.uniform(1, 2, count) for name in dataset.targets}
    clinical = {name: rng.uniform(1, 2, count) for name in network_options(recipe).inputs if name.startswith("meta.")}
    return {**{f"label.{name}": values for name, values in labels.items()}, **targets, **clinical}
