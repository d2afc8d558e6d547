"""Initial weights: tensors of a local file, held to its SHA-256, under the names that our networks have."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tasks.learning.networks import RADIMAGENET, Network
from tasks.learning.recipe import Weights
from tasks.schema import UnusableInput

HEADS = re.compile(r"^(?:classifier|fc|_fc|class_layers\.out)\.")
"""Last layers of published classifiers; their classes are not ours."""
DENSE_LAYER = re.compile(r"(denselayer\d+)\.(norm1|norm2|conv1|conv2)\.")
OLD_DENSE_LAYER = re.compile(r"(denselayer\d+)\.(norm|conv)\.(1|2)\.")
"""As the published densenet121-a639ec97.pth spells them."""
RADIMAGENET_PARTS = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
"""Numbers of RadImageNet's ResNet50.pt to the names of ResNet (read in acl_pytorch_train.ipynb)."""
RADIMAGENET_NAME = re.compile(r"^backbone\.(\d+)\.")
B0_BLOCK = re.compile(r"^_blocks\.(\d+)\.(?=_)")
B0_STAGES = [stage for stage, blocks in enumerate((1, 2, 2, 3, 3, 4, 1)) for _ in range(blocks)]
"""Of each block of EfficientNet-B0: EfficientNet-PyTorch counts blocks alone, MONAI stages and blocks."""


def load_into(network: Network, weights: Weights) -> dict[str, Any]:
    """Put initial weights into the backbone; returns ``file sha256 layout tensors``, for the record.

    Raises :class:`UnusableInput` for a file that is missing, is another one, or has tensors of another network.
    """
    tensors = _read(weights, "network.weights")
    record = _put(tensors, network.backbone, weights)
    if weights.layout == "radimagenet":
        for buffer, values in ((network.grey_mean, RADIMAGENET[0]), (network.grey_sd, RADIMAGENET[1])):
            buffer.copy_(torch.tensor(values).view(1, 3, 1, 1))
    if weights.layout == "scanmill":  # what that run has measured, or was given itself
        network.grey_mean.copy_(tensors["grey_mean"])
        network.grey_sd.copy_(tensors["grey_sd"])
    return record


def load_backbone(backbone: nn.Module, weights: Weights, option: str) -> dict[str, Any]:
    """The same for a backbone alone; ``option`` is where a recipe has the weights, for messages."""
    return _put(_read(weights, option), backbone, weights)


def _put(tensors: Mapping[str, Tensor], backbone: nn.Module, weights: Weights) -> dict[str, Any]:
    path = _path_of(weights)
    named = LAYOUTS[weights.layout](tensors)
    kept = {name: tensor for name, tensor in named.items() if not HEADS.match(name)}
    own = backbone.state_dict()
    counters = {name for name in own if name.endswith("num_batches_tracked")}
    missing, unknown = sorted(set(own) - set(kept) - counters), sorted(set(kept) - set(own))
    other = [name for name in own if name in kept and own[name].shape != kept[name].shape]
    if missing or unknown or other:
        said = "; ".join(
            f"{what}: {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
            for what, names in (("missing", missing), ("unknown", unknown), ("of another shape", other))
            if names
        )
        raise UnusableInput(f"{path} does not fit the network as layout {weights.layout} ({said})")
    backbone.load_state_dict({**own, **kept})
    return {"file": path.name, "sha256": weights.sha256, "layout": weights.layout, "tensors": len(kept)}


def _path_of(weights: Weights) -> Path:
    return Path(os.path.expandvars(weights.path)).expanduser()


def _read(weights: Weights, option: str) -> dict[str, Tensor]:
    path = _path_of(weights)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UnusableInput(
            f"initial weights {path} cannot be read ({error.strerror}): put the file there, or do without with "
            f"--set {option}=null"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != weights.sha256:
        raise UnusableInput(f"initial weights {path} have sha256 {found}, and not {weights.sha256} as the recipe says")
    try:
        loaded = _unpacked(path, content)
    except Exception as error:  # torch, pickle, zipfile and safetensors each have errors of their own
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UnusableInput(
            f"initial weights {path} cannot be read as tensors alone, and nothing else is unpickled: {why}"
        ) from error
    inner = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(inner, Mapping) or not all(isinstance(value, Tensor) for value in inner.values()):
        raise UnusableInput(f"initial weights {path} hold no plain mapping of names to tensors")
    return dict(inner)


def _unpacked(path: Path, content: bytes) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load

        return load(content)
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _torchvision(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if any(name.startswith("features.0.0.") for name in tensors):
        raise UnusableInput(
            "these are torchvision's EfficientNet weights: same tensors, but other padding and batch-norm eps, so they "
            "would load and be wrong; use efficientnet-b0-355c32eb.pth of EfficientNet-PyTorch"
        )
    renamed = {OLD_DENSE_LAYER.sub(r"\1.\2\3.", name): tensor for name, tensor in tensors.items()}
    return {DENSE_LAYER.sub(r"\1.layers.\2.", name): tensor for name, tensor in renamed.items()}


def _radimagenet(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if any(name.endswith("conv1.bias") for name in tensors):
        raise UnusableInput(
            "these are RadImageNet's Keras weights, or made of them (they have a conv1.bias): another ResNet, with "
            "other strides; use ResNet50.pt, the PyTorch file"
        )
    return {
        RADIMAGENET_NAME.sub(lambda found: f"{RADIMAGENET_PARTS.get(found[1], found[0][:-1])}.", name): tensor
        for name, tensor in tensors.items()
    }


def _efficientnet_pytorch(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {B0_BLOCK.sub(_with_stage, name): tensor for name, tensor in tensors.items()}


def _with_stage(found: re.Match[str]) -> str:
    number = int(found[1])
    return f"_blocks.{B0_STAGES[number]}.{number}." if number < len(B0_STAGES) else found[0]


def _scanmill(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix("backbone."): tensor for name, tensor in tensors.items() if name.startswith("backbone.")}


LAYOUTS: Mapping[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {
    "torchvision": _torchvision,
    "efficientnet-pytorch": _efficientnet_pytorch,
    "radimagenet": _radimagenet,
    "scanmill": _scanmill,
}
