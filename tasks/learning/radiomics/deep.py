"""What a ResNet-50 sees around a mask: its 2,048 pooled features, by initial weights alone; nothing is learned here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from tasks.files import digest
from tasks.learning.networks import IMAGENET, RADIMAGENET, backbone_of
from tasks.learning.radiomics.regions import Image, Inside, box_of, grey_of, square
from tasks.learning.recipe import Arm
from tasks.learning.weights import load_backbone
from tasks.schema import UnusableInput

ARCHITECTURE = "resnet50"
INPUTS = {"imagenet": IMAGENET, "radimagenet": RADIMAGENET}
"""Mean and standard deviation of the three channels in their order, of 0–1."""
KEPT = 2
"""Networks that a process keeps, 94 MB each: the arms of a recipe."""


def network_of(arm: str, options: Arm, seed: int) -> nn.Module:
    """The network of an arm of a recipe, in evaluation mode; ``seed`` as :func:`seed_of` gives it.

    Raises :class:`UnusableInput` where the file of its weights is missing, is another one, or is of another network.
    """
    weights = options.weights
    if weights is not None and weights.layout == "scanmill":
        raise UnusableInput(
            f"radiomics.arms.{arm}.weights: layout scanmill is that of a run, whose network has grey levels of its own "
            f"and not those of {options.input}; use torchvision or radimagenet"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network, _ = backbone_of(ARCHITECTURE)
    if weights is not None:
        load_backbone(network, weights, f"radiomics.arms.{arm}.weights")
    return network.eval()


kept_network = lru_cache(KEPT)(network_of)


def seed_of(arm: str, seed: int) -> int:
    """Of random weights: another one for each arm and each seed of a recipe."""
    return int(digest([arm, seed])[:8], 16)


def measured(pixels: Image, inside: Inside, network: nn.Module, kind: str, margin: float, size: int) -> list[float]:
    """The pooled features; ``kind`` is that of the input, one of :data:`INPUTS`.

    One image at a time (as fast as eight on one core): what a network gives for one does not depend on others then.
    """
    grey = square(grey_of(pixels), box_of(inside), margin, size)
    with _one_thread(), torch.inference_mode():
        pooled = network(torch.from_numpy(as_input(grey, kind)))
    features: list[float] = pooled[0].double().tolist()
    return features


def as_input(grey: npt.NDArray[np.float32], kind: str) -> npt.NDArray[np.float32]:
    """(1, 3, height, width) of grey 0–255; channels show the same, so that only mean and spread tell their order."""
    mean, spread = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in INPUTS[kind])
    shares = np.repeat(grey[np.newaxis, np.newaxis] / np.float32(255), 3, axis=1)
    return np.asarray((shares - mean) / spread, np.float32)


@contextmanager
def _one_thread() -> Iterator[None]:
    """The same sums in the same order, whoever else computes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
