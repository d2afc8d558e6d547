"""Grad-CAM: which parts of an image spoke for an answer, as one map per image and output of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tasks.progress import Meter
from tasks.schema import ScanmillError

Method = Literal["gradcam", "gradcam++"]
Maps = npt.NDArray[np.float32]
"""(n, S, S), 0 cold to 1 hot."""

BATCH = 16
"""Images at once. What lies before the layer keeps no graph: 16 of 224 px need hardly more memory than inference."""
FLAT = 1e-6
"""A map whose spread is no larger a part of its highest value is flat: rounding would be all that is left of it."""


def maps(
    network: torch.nn.Module,
    images: npt.NDArray[Any],
    clinical: npt.NDArray[Any] | None,
    columns: Sequence[int] | Sequence[tuple[int, int]],
    *,
    method: Method = "gradcam",
    batch: int = BATCH,
    meter: Meter | None = None,
) -> Maps:
    """Maps of the outputs ``columns`` at the layer ``network.cam_layer``: float32 (n, S, S), each 0 to 1 by its range.

    ``images`` is (B, 1, S, S), uint8 or shares of white; ``clinical`` (B, C) where the network has ``inputs``, else
    None; ``columns`` one output per image, or pairs of (image, output), of which one image may have several. A map that
    is flat, because nothing in the image spoke for the output, is all zeros. The network's modes, gradients and hooks
    are afterwards as they were.

    Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391): the layer's channels, weighted by the mean gradient of the
    output, added up, what is negative cut off, enlarged bilinearly. Grad-CAM++ (Chattopadhay et al. 2018, arXiv
    1710.11063) weights by the gradient's second and third powers. ``monai.visualize.GradCAM`` 1.6.1 gives the same map
    of one image (a test compares them) but cannot be used here: it takes one output for a whole batch; its Grad-CAM++
    multiplies the scores of a batch along the wrong axis; its hooks and its ``inplace=False`` stay in the network, its
    ``zero_grad`` deletes gradients, and at ``features.norm5`` of a DenseNet it fails over an activation in place.

    Raises :class:`ScanmillError` where the layer does not exist or is no map, or the network gives NaN.
    """
    pairs = _pairs(columns, len(images))
    if not pairs:
        return np.zeros((0, *images.shape[-2:]), np.float32)
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        parts = []
        with torch.inference_mode(mode=False):
            for start in range(0, len(pairs), batch):
                part = pairs[start : start + batch]
                rows, wanted = [row for row, _ in part], [column for _, column in part]
                own = None if clinical is None else clinical[rows]
                parts.append(_of_batch(network, images[rows], own, wanted, method))
                if meter is not None:
                    meter.add(len(part))
    finally:
        for module, is_training in modes:
            module.training = is_training
    return np.concatenate(parts)


def cells(network: torch.nn.Module) -> tuple[int, int]:
    """Rows and columns of the grid that a map has before it is enlarged: its smoothness."""
    side = cast(int, network.size)
    inputs = cast(Sequence[str], network.inputs)
    clinical = np.zeros((1, len(inputs)), np.float32) if inputs else None
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        kept, _ = _forward(network, np.zeros((1, 1, side, side), np.uint8), clinical)
    finally:
        for module, is_training in modes:
            module.training = is_training
    return int(kept.shape[-2]), int(kept.shape[-1])


def _pairs(columns: Sequence[int] | Sequence[tuple[int, int]], images: int) -> list[tuple[int, int]]:
    if len(columns) and isinstance(columns[0], tuple):
        return [(int(row), int(column)) for row, column in cast(Sequence[tuple[int, int]], columns)]
    if len(columns) != images:
        raise ScanmillError(f"{len(columns)} columns for {images} images: give one per image, or (image, column) pairs")
    return [(row, int(column)) for row, column in enumerate(cast(Sequence[int], columns))]


def _of_batch(
    network: torch.nn.Module,
    images: npt.NDArray[Any],
    clinical: npt.NDArray[Any] | None,
    columns: Sequence[int],
    method: Method,
) -> Maps:
    kept, raw = _forward(network, images, clinical)
    with torch.enable_grad():
        scores = raw.float().gather(1, torch.tensor(columns, device=raw.device)[:, None])
        # Not backward(): it would add to the gradients of the parameters.
        gradient = torch.autograd.grad(scores.sum(), kept, allow_unused=True)[0] if scores.requires_grad else None
    channels = kept.detach().float()
    weights = _weights(channels, torch.zeros_like(channels) if gradient is None else gradient.float(), method)
    coarse = functional.relu((weights * channels).sum(dim=1, keepdim=True))
    if not bool(torch.isfinite(coarse).all()):
        raise ScanmillError(
            f"Grad-CAM at {network.cam_layer} is not finite: the network gives NaN or infinity, so it diverged; train "
            f"again with a lower learning rate"
        )
    low, high = coarse.amin(dim=(1, 2, 3)), coarse.amax(dim=(1, 2, 3))
    is_flat = (high - low) <= FLAT * high
    size = (images.shape[-2], images.shape[-1])
    fine = functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)[:, 0]
    low, high = fine.amin(dim=(1, 2), keepdim=True), fine.amax(dim=(1, 2), keepdim=True)
    shares = (fine - low) / torch.where(is_flat[:, None, None], 1.0, high - low)
    return cast(Maps, torch.where(is_flat[:, None, None], 0.0, shares).cpu().numpy().astype(np.float32))


def _weights(channels: torch.Tensor, gradient: torch.Tensor, method: Method) -> torch.Tensor:
    """(B, channels, 1, 1). The exponential of the score that Grad-CAM++ has is one factor per image: it cancels."""
    if method == "gradcam":
        return gradient.mean(dim=(2, 3), keepdim=True)
    squared = gradient**2
    below = 2 * squared + channels.sum(dim=(2, 3), keepdim=True) * gradient**3
    shares = torch.where(below != 0, squared / torch.where(below != 0, below, 1.0), 0.0)
    return (shares * functional.relu(gradient)).sum(dim=(2, 3), keepdim=True)


def _forward(
    network: torch.nn.Module, images: npt.NDArray[Any], clinical: npt.NDArray[Any] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the layer puts out, as a leaf, and the raw outputs that follow from it."""
    kept: list[torch.Tensor] = []

    def keep(_module: torch.nn.Module, _inputs: object, output: object) -> torch.Tensor:
        if not isinstance(output, torch.Tensor) or output.ndim != 4:
            raise ScanmillError(f"{network.cam_layer} gives no map of channels × height × width: name another layer")
        # From here on there is a graph, and no_grad below ends it; a clone goes on, so that an activation which works
        # in place does not write into what was kept.
        torch.set_grad_enabled(True)
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()

    try:
        layer = network.get_submodule(str(network.cam_layer))
    except AttributeError as error:
        raise ScanmillError(f"the network has no layer '{network.cam_layer}': {error}") from error
    device = next((parameter.device for parameter in network.parameters()), torch.device("cpu"))
    image = torch.from_numpy(np.ascontiguousarray(images)).to(device)
    image = image.float() / 255 if image.dtype == torch.uint8 else image.float()
    inputs = [image]
    if clinical is not None:
        inputs.append(torch.from_numpy(np.ascontiguousarray(clinical, dtype=np.float32)).to(device))
    handle = layer.register_forward_hook(keep)
    try:
        with torch.no_grad():
            raw = network(*inputs)
    finally:
        handle.remove()
    if not kept:
        raise ScanmillError(f"the layer '{network.cam_layer}' is not used by the network's forward pass")
    return kept[-1], raw
