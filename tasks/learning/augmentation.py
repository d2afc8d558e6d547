"""What is done to a batch of training images, where they are: one resampling for all that moves, then grey levels."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from tasks.learning.recipe import Augmentation


def augment(images: Tensor, options: Augmentation) -> Tensor:
    """(batch, 1, side, side) in shares of white, changed at random; draws from torch's global random numbers.

    What comes in from outside is black; shares stay between 0 and 1.
    """
    moved = _moved(images, options)
    changed = moved
    count = (len(images), 1, 1, 1)
    if options.contrast:
        mean = changed.mean(dim=(1, 2, 3), keepdim=True)
        changed = mean + (changed - mean) * (1 + options.contrast * _either_way(count, images))
    if options.brightness:
        changed = changed + options.brightness * _either_way(count, images)
    if options.noise:
        changed = changed + options.noise * torch.randn_like(changed)
    return changed if changed is moved else changed.clamp(0, 1)


def _moved(images: Tensor, options: Augmentation) -> Tensor:
    count = len(images)
    if options.quarter_turns:
        turns = torch.randint(4, (count,), device=images.device)
        every_way = torch.stack([torch.rot90(images, turn, (2, 3)) for turn in range(4)])
        images = every_way[turns, torch.arange(count, device=images.device)]
    if options.flip_horizontal:
        images = torch.where(_coin(count, images), images.flip(3), images)
    if options.flip_vertical:
        images = torch.where(_coin(count, images), images.flip(2), images)
    if not (options.rotate_degrees or options.scale or options.shift):
        return images
    angle = math.radians(options.rotate_degrees) * _either_way((count,), images)
    size = 1 + options.scale * _either_way((count,), images)
    cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
    shift = 2 * options.shift * _either_way((count, 2), images)  # the grid's side is 2
    matrix = torch.stack(
        [torch.stack([cosine, -sine, shift[:, 0]], dim=1), torch.stack([sine, cosine, shift[:, 1]], dim=1)], dim=1
    )
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="zeros", align_corners=False)


def _either_way(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Evenly from -1 to 1."""
    return torch.rand(shape, device=like.device) * 2 - 1


def _coin(count: int, like: Tensor) -> Tensor:
    return (torch.rand(count, device=like.device) < 0.5).view(count, 1, 1, 1)
