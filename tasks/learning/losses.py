"""What a network is fitted by: one loss per question over the samples whose answer is known, and their mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tasks.learning.networks import LEAST_SPREAD, Network
from tasks.learning.recipe import Question
from tasks.learning.truths import Values

TINY = 1e-12
"""Keeps nothing divided by nothing from being no number."""
MOST_WEIGHT = 100.0
"""Of a rare answer, however rare it is: one image must not throw a network over."""


class Loss(nn.Module):
    """Cross entropy of labels and classes; of targets in z-scores, squared error or Gaussian negative log-likelihood.

    Buffers hold the balancing weights that were counted on the training split.
    """

    target_mean: Tensor
    target_sd: Tensor

    def __init__(
        self, network: Network, questions: tuple[Question, ...], train: Mapping[str, Values], *, is_balanced: bool
    ) -> None:
        """``train`` holds the truths of the training split alone."""
        super().__init__()
        self.questions = tuple(q for q in questions if any(c.question == q.name for c in network.layout))
        self.network_columns = network.columns
        self.register_buffer("target_mean", network.target_mean.clone())
        self.register_buffer("target_sd", network.target_sd.clone())
        for index, question in enumerate(self.questions):
            weights = _balance(question, train[question.name]) if is_balanced else None
            self.register_buffer(f"weight_{index}", weights)

    def forward(self, raw: Tensor, truth: Tensor) -> Tensor:
        """Of (batch, columns) and (batch, questions of the recipe that are learned), one number.

        Zero, with a gradient, where nothing is known of any sample.
        """
        # Nothing here asks what is known: on a GPU every such question would wait for all that was begun.
        pairs = [self._of(question, index, raw, truth[:, index]) for index, question in enumerate(self.questions)]
        losses = torch.stack([total / weight.clamp(min=TINY) for total, weight in pairs])
        is_asked = torch.stack([(weight > 0).to(losses.dtype) for _, weight in pairs])
        return (losses * is_asked).sum() / is_asked.sum().clamp(min=1.0)

    def truths(self, of: Mapping[str, Values]) -> Tensor:
        """Float32 (samples, learned questions), NaN where unknown: what :meth:`forward` is given rows of."""
        columns = [of[question.name] for question in self.questions]
        return torch.from_numpy(np.stack(columns, axis=1).astype(np.float32))

    def _of(self, question: Question, index: int, raw: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the losses of known answers, and the sum of their weights."""
        is_known = (~torch.isnan(truth)).to(raw.dtype)
        known = torch.nan_to_num(truth)
        weight = cast("Tensor | None", getattr(self, f"weight_{index}"))
        if question.kind == "classes":
            places = [self.network_columns.index(f"{question.name}.{name}") for name in question.of]
            each = functional.cross_entropy(raw[:, places], known.long(), weight=weight, reduction="none")
            counted = is_known if weight is None else is_known * weight[known.long()]
            return (each * is_known).sum(), counted.sum()
        place = self.network_columns.index(question.name)
        if question.kind == "label":
            each = functional.binary_cross_entropy_with_logits(
                raw[:, place], known, pos_weight=weight, reduction="none"
            )
        else:
            each = self._of_target(question, place, raw, known)
        return (each * is_known).sum(), is_known.sum()

    def _of_target(self, question: Question, place: int, raw: Tensor, known: Tensor) -> Tensor:
        error = raw[:, place] - (known - self.target_mean[place]) / self.target_sd[place]
        if f"{question.name}.log_sd" not in self.network_columns:
            return error**2
        log_sd = raw[:, self.network_columns.index(f"{question.name}.log_sd")].clamp(min=LEAST_SPREAD)
        return 0.5 * (error / torch.exp(log_sd)) ** 2 + log_sd


def _balance(question: Question, truth: Values) -> Tensor | None:
    """Weights that make every answer count as much as the others; none for targets."""
    known = truth[~np.isnan(truth)]
    if question.kind == "target" or not len(known):
        return None
    counts = np.bincount(known.astype(int), minlength=len(question.of) if question.kind == "classes" else 2)
    if question.kind == "label":
        return torch.tensor(min(counts[0] / max(counts[1], 1), MOST_WEIGHT), dtype=torch.float32)
    seen = np.count_nonzero(counts)
    weights = np.where(counts > 0, len(known) / (seen * np.maximum(counts, 1)), 0.0)  # scikit-learn's "balanced"
    return torch.from_numpy(np.minimum(weights, MOST_WEIGHT).astype(np.float32))
