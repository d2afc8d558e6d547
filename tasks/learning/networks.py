"""The networks of recipes: a MONAI backbone, a small net for clinical inputs, one linear layer; and how they answer.

A network takes grey images and gives raw numbers, one per column; :class:`Scorer` makes answers of them. Normalisation
and the encoding of clinical inputs lie inside, so that whoever runs an exported network feeds it what a file holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.networks.nets import DenseNet, DenseNet121, EfficientNetBN, resnet50
from torch import Tensor, nn

from tasks.learning.recipe import Derived, Question, Recipe, network_options

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of red, green and blue, of 0–1 (the torchvision models' own)."""
RADIMAGENET = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""(x − 127.5) · 2 / 255, the same for blue, green and red (``BMEII-AI/RadImageNet``, acl_pytorch_train.ipynb)."""
CAM_LAYERS: Mapping[str, str] = {
    "densenet121": "backbone.features.denseblock4",
    "densenet-small": "backbone.features.denseblock3",
    "efficientnet-b0": "backbone._conv_head",
    "resnet50": "backbone.layer4",
}
"""The last layer with a place in the image (which ones Grad-CAM can hook was tried, for MONAI 1.6.1)."""
EFFICIENTNET_NORM = ("batch", {"eps": 1e-3, "momentum": 0.1})
"""eps as published. Their momentum of 0.01 is for hundreds of thousands of steps: after an epoch of 125 steps more than
a quarter of the running statistics would still be those of the beginning, and validation would see another network."""
LEAST_SPREAD = -7.0
"""Of a Gaussian answer's log standard deviation, in units of the target's own spread: exp(-7) is a thousandth."""


@dataclass(frozen=True)
class Column:
    """One raw number that a network gives."""

    name: str
    question: str
    kind: str
    """``label``, ``classes``, ``target`` or ``spread``."""


def columns_of(recipe: Recipe) -> tuple[Column, ...]:
    """What the network of a recipe gives, in order; derived labels have no column."""
    options = network_options(recipe)
    found = []
    for question in recipe.questions():
        if question.kind == "classes":
            found += [Column(f"{question.name}.{name}", question.name, "classes") for name in question.of]
        elif question.kind == "target":
            found.append(Column(question.name, question.name, "target"))
            if options.is_gaussian:
                found.append(Column(f"{question.name}.log_sd", question.name, "spread"))
        elif question.name not in options.derived:
            found.append(Column(question.name, question.name, "label"))
    return tuple(found)


def answer_columns_of(questions: Sequence[Question]) -> tuple[str, ...]:
    """What a :class:`Scorer` gives, in order: a probability per label and class, a value per target."""
    return tuple(
        name
        for question in questions
        for name in ([f"{question.name}.{c}" for c in question.of] if question.kind == "classes" else [question.name])
    )


class Network(nn.Module):
    """Grey images, and clinical values where the recipe has inputs, to raw numbers.

    Buffers hold what was measured on the training split: grey levels, clinical means, target means and spreads; all are
    saved with the weights.
    """

    grey_mean: Tensor
    grey_sd: Tensor
    clinical_mean: Tensor
    clinical_sd: Tensor
    target_mean: Tensor
    target_sd: Tensor

    def __init__(self, recipe: Recipe) -> None:
        """From scratch; draws from torch's random numbers."""
        super().__init__()
        options = network_options(recipe)
        self.layout = columns_of(recipe)
        self.columns = tuple(column.name for column in self.layout)
        self.inputs = options.inputs
        self.size = options.size
        self.cam_layer = CAM_LAYERS[options.architecture]
        self.backbone, width = backbone_of(options.architecture)
        self.dropout = nn.Dropout(options.dropout)
        encoded = 2 * len(self.inputs)
        self.clinical = (
            nn.Sequential(nn.Linear(encoded, 10), nn.ReLU(), nn.Linear(10, encoded)) if self.inputs else None
        )
        self.head = nn.Linear(width + encoded, len(self.columns))
        for name, values in (("grey_mean", IMAGENET[0]), ("grey_sd", IMAGENET[1])):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))
        self.register_buffer("clinical_mean", torch.zeros(len(self.inputs)))
        self.register_buffer("clinical_sd", torch.ones(len(self.inputs)))
        self.register_buffer("target_mean", torch.zeros(len(self.columns)))
        self.register_buffer("target_sd", torch.ones(len(self.columns)))

    def features(self, image: Tensor, clinical: Tensor | None = None) -> Tensor:
        """Of (batch, 1, size, size) in shares of white, (batch, features): what the last layer sees."""
        grey = (image.expand(-1, 3, -1, -1) - self.grey_mean) / self.grey_sd
        pooled: Tensor = self.backbone(grey)
        if self.clinical is None:
            return pooled
        if clinical is None:
            raise ValueError(f"this network needs the inputs {', '.join(self.inputs)}")
        return torch.cat([pooled, self.clinical(self._encoded(clinical))], dim=1)

    def forward(self, image: Tensor, clinical: Tensor | None = None) -> Tensor:
        """(batch, columns): logits; targets as z-scores of the training split, spreads as the log of such."""
        raw: Tensor = self.head(self.dropout(self.features(image, clinical)))
        return raw

    def _encoded(self, clinical: Tensor) -> Tensor:
        """Per input two numbers: female and male; or the z-score and whether it is missing."""
        parts = []
        for index, name in enumerate(self.inputs):
            value = clinical[:, index : index + 1]
            is_missing = torch.isnan(value)
            known = torch.where(is_missing, torch.zeros_like(value), value)
            present = 1.0 - is_missing.to(value.dtype)
            if name == "sex":
                parts += [(1.0 - known) * present, known * present]
            else:
                scaled = (known - self.clinical_mean[index]) / self.clinical_sd[index]
                parts += [scaled * present, 1.0 - present]
        return torch.cat(parts, dim=1)


class Scorer(nn.Module):
    """Images to answers: what predicts, and what is exported."""

    def __init__(self, network: Network, recipe: Recipe) -> None:
        """``network`` is used as it is, not copied."""
        super().__init__()
        self.network = network
        self.questions = recipe.questions()
        self.answer_columns = answer_columns_of(self.questions)
        self.derived = network_options(recipe).derived

    def forward(self, image: Tensor, clinical: Tensor | None = None) -> Tensor:
        """(batch, answers): probabilities of labels and classes, values of targets in their units."""
        return self.answers(self.network(image, clinical), clinical)

    def answers(self, raw: Tensor, clinical: Tensor | None = None) -> Tensor:
        """The same of what the network gave."""
        given: dict[str, Tensor] = {}
        places = {name: index for index, name in enumerate(self.network.columns)}
        for question in self.questions:
            if question.kind == "classes":
                own = torch.stack([raw[:, places[f"{question.name}.{name}"]] for name in question.of], dim=1)
                given[question.name] = torch.softmax(own, dim=1)
            elif question.kind == "target":
                index = places[question.name]
                value = raw[:, index] * self.network.target_sd[index] + self.network.target_mean[index]
                given[question.name] = value.unsqueeze(1)
            elif question.name in places:
                given[question.name] = torch.sigmoid(raw[:, places[question.name]]).unsqueeze(1)
        for name, derived in self.derived.items():
            given[name] = self._derived(derived, given, raw, clinical).unsqueeze(1)
        return torch.cat([given[question.name] for question in self.questions], dim=1)

    def _derived(self, derived: Derived, given: Mapping[str, Tensor], raw: Tensor, clinical: Tensor | None) -> Tensor:
        """One minus the chance that none of its conditions holds, taken as independent (sbhave77/CheXchoNet)."""
        absent = torch.ones_like(raw[:, 0])
        for target, thresholds in derived.above.items():
            absent = absent * (1.0 - self._mass_above(target, thresholds, given[target][:, 0], raw, clinical))
        for label in derived.any_of:
            absent = absent * (1.0 - given[label][:, 0])
        return 1.0 - absent

    def _mass_above(
        self, target: str, thresholds: Mapping[Any, float], mean: Tensor, raw: Tensor, clinical: Tensor | None
    ) -> Tensor:
        """Of the Gaussian answer, what lies above the threshold of the patient's sex; both averaged where unknown."""
        index = self.network.columns.index(f"{target}.log_sd")
        scale = torch.exp(raw[:, index].clamp(min=LEAST_SPREAD)) * self.network.target_sd[index]
        above = {sex: 0.5 * (1.0 - torch.erf((value - mean) / (scale * 2**0.5))) for sex, value in thresholds.items()}
        if clinical is None or "sex" not in self.network.inputs:
            return torch.stack(list(above.values())).mean(dim=0)
        sex = clinical[:, self.network.inputs.index("sex")]
        share = torch.where(torch.isnan(sex), torch.full_like(sex, 0.5), sex)
        female, male = above.get("F", above.get("M")), above.get("M", above.get("F"))
        assert female is not None
        assert male is not None
        return female * (1.0 - share) + male * share


def backbone_of(architecture: str) -> tuple[nn.Module, int]:
    """Three channels in, pooled features out, and how many."""
    net: Any
    if architecture in ("densenet121", "densenet-small"):
        if architecture == "densenet121":
            net = DenseNet121(spatial_dims=2, in_channels=3, out_channels=1)
        else:
            net = DenseNet(2, 3, 1, init_features=16, growth_rate=12, block_config=(3, 3, 3))
        width = int(net.class_layers.out.in_features)
        net.class_layers.out = nn.Identity()
        return net, width
    if architecture == "efficientnet-b0":
        net = EfficientNetBN(
            "efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=3, num_classes=1, norm=EFFICIENTNET_NORM
        )
        width = int(net._fc.in_features)
        net._fc = nn.Identity()
        return net, width
    net = resnet50(
        spatial_dims=2, n_input_channels=3, num_classes=1, conv1_t_stride=2, bias_downsample=False, feed_forward=False
    )
    return net, 2048


def parameters_of(network: nn.Module) -> int:
    """How many numbers are learned."""
    return sum(parameter.numel() for parameter in network.parameters())
