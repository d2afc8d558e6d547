"""Fitting as Lightning sees it: steps, validation, the learning rate; and checkpoints that are whole files.

Whatever is random in a step follows from the recipe's seed and the step's number alone, so that a training that was
killed and goes on from a checkpoint makes the steps that it would have made.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.plugins.io import CheckpointIO
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from tasks.files import write_bytes
from tasks.learning.augmentation import augment
from tasks.learning.losses import Loss
from tasks.learning.networks import Network, Scorer
from tasks.learning.recipe import Question, Recipe, Training
from tasks.learning.truths import Values
from tasks.progress import Meter
from tasks.storage import is_remote, location, read_bytes

WHITE = 255.0
"""Of the images that are learned from; deeper ones are put on it when they are read."""
logger = logging.getLogger("scanmill.training")
MONITORED: Mapping[str, tuple[str, str]] = {"loss": ("validation_loss", "min"), "auroc": ("validation_auroc", "max")}


def as_shares(images: Tensor) -> Tensor:
    """uint8 or uint16 pixels as float32 shares of white."""
    return images.float() / (WHITE if images.dtype == torch.uint8 else 65535.0)


class Learner(lightning.LightningModule):
    """One network, its loss, and what is known of every sample that it is shown."""

    known: Tensor
    clinical: Tensor | None
    loss_sum: Tensor

    def __init__(
        self, network: Network, loss: Loss, recipe: Recipe, truths: Mapping[str, Values], clinical: Tensor | None
    ) -> None:
        """``truths`` and ``clinical`` (samples, inputs) are indexed by the sample numbers that batches carry."""
        super().__init__()
        self.network, self.loss, self.recipe = network, loss, recipe
        self.scorer = Scorer(network, recipe)
        self.truths = truths
        self.register_buffer("known", loss.truths(truths), persistent=False)
        self.register_buffer("clinical", clinical, persistent=False)
        self.register_buffer("loss_sum", torch.zeros(2, dtype=torch.float64))
        self.history: list[dict[str, float]] = []
        """One row per finished epoch: what metrics.csv says."""
        self.seconds, self.images_seen = 0.0, 0
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None
        self._meter: Meter | None = None
        self._forward: Any = torch.compile(network) if self.options.compile else network

    @property
    def options(self) -> Training:
        """The recipe's section ``training``."""
        assert self.recipe.training is not None
        return self.recipe.training

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """As the recipe says; the learning rate is ours to move, at the end of epochs."""
        options, parameters = self.options, self.network.parameters()
        rate, decay = options.learning_rate, options.weight_decay
        if options.optimizer == "sgd":
            optimizer: torch.optim.Optimizer = torch.optim.SGD(parameters, rate, momentum=0.9, weight_decay=decay)
        else:
            kind = torch.optim.AdamW if options.optimizer == "adamw" else torch.optim.Adam
            optimizer = kind(parameters, rate, weight_decay=decay, fused=self.device.type == "cuda" or None)
        if options.schedule == "plateau":
            self._plateau = ReduceLROnPlateau(optimizer, factor=0.1, patience=options.plateau_patience)
            if self._plateau_state:
                self._plateau.load_state_dict(self._plateau_state)
        return optimizer

    def on_train_start(self) -> None:
        """What is left to do, if training does not stop early."""
        each, done = int(self.trainer.num_training_batches), self.trainer.fit_loop.epoch_loop.total_batch_idx + 1
        self._meter = Meter("train", max(each * self.options.epochs - done, 0), "batches")

    def on_train_epoch_start(self) -> None:
        """Count anew; a cosine's rate is that of the epoch."""
        feed: Any = self.trainer.train_dataloader
        feed.set_epoch(self.current_epoch)
        if self.options.schedule == "cosine":
            share = self.current_epoch / self.options.epochs
            self._set_rate(self.options.learning_rate * 0.5 * (1 + math.cos(math.pi * share)))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """From here on, chance is that of this step."""
        said = f"{self.recipe.seed}/{self.current_epoch}/{batch_idx}/{self.global_rank}".encode()
        torch.manual_seed(int.from_bytes(hashlib.sha256(said).digest()[:7], "big"))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of one batch: uint8 images (batch, 1, side, side), numbers of their samples (batch,)."""
        images, rows = batch
        shares = augment(as_shares(images), self.options.augmentation)
        if self.options.channels_last:
            shares = shares.to(memory_format=torch.channels_last)
        loss: Tensor = self.loss(self._forward(shares, self._clinical(rows)), self.known[rows])
        self.images_seen += len(rows) * self.trainer.world_size  # here, so that the checkpoint of this step knows
        value = loss.detach().double()  # a tensor of a number would be copied, and wait for the device
        self.loss_sum += len(rows) * torch.stack([value, torch.ones_like(value)])
        return loss

    def on_train_batch_end(self, outputs: Any, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Tell how far it is."""
        if self._meter is not None:
            self._meter.add(1)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Keep what the network says; it is judged when all is said."""
        images, rows = batch
        shares = as_shares(images)
        if self.options.channels_last:
            shares = shares.to(memory_format=torch.channels_last)
        self._seen.append((self._forward(shares, self._clinical(rows)).float(), rows))

    def on_validation_epoch_end(self) -> None:
        """Loss and macro AUROC of the whole validation split; the learning rate follows."""
        raw, rows = torch.cat([raw for raw, _ in self._seen]), torch.cat([rows for _, rows in self._seen])
        self._seen.clear()
        loss = float(self.loss(raw, self.known[rows]))
        answers = self.scorer.answers(raw, self._clinical(rows)).double().cpu().numpy()
        auroc = macro_auroc(self.recipe.questions(), answers, self.truths, rows.cpu().numpy())
        # Batch norms differ a little between devices; what is best, and the learning rate, must not.
        loss, auroc = self.trainer.strategy.broadcast((loss, auroc))
        for name, value in (("validation_loss", loss), ("validation_auroc", auroc)):
            self.log(name, value, prog_bar=False, rank_zero_only=False)
        total, count = self.loss_sum.tolist()
        self.loss_sum.zero_()
        self.history.append(
            {
                "epoch": self.current_epoch + 1,
                "train_loss": total / count if count else math.nan,
                "validation_loss": loss,
                "validation_auroc": auroc,
                "learning_rate": self.trainer.optimizers[0].param_groups[0]["lr"],
            }
        )
        logger.info(
            "epoch %d of at most %d: validation loss %.4f, macro AUROC %.3f",
            *(self.current_epoch + 1, self.options.epochs, loss, auroc),
        )
        if self._plateau is not None:
            self._plateau.step(loss)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What Lightning does not know of."""
        checkpoint["scanmill"] = {
            "history": self.history,
            "plateau": self._plateau.state_dict() if self._plateau else None,
            "images_seen": self.images_seen,
            "seconds": self.seconds,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse; the optimizer is made afterwards."""
        own = checkpoint["scanmill"]
        self.history, self.images_seen, self.seconds = own["history"], own["images_seen"], own["seconds"]
        self._plateau_state = own["plateau"]
        if self._plateau is not None and own["plateau"]:
            self._plateau.load_state_dict(own["plateau"])

    def _clinical(self, rows: Tensor) -> Tensor | None:
        return None if self.clinical is None else self.clinical[rows]

    def _set_rate(self, rate: float) -> None:
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate


def macro_auroc(questions: tuple[Question, ...], answers: Values, truths: Mapping[str, Values], rows: Any) -> float:
    """Mean over the labels and classes where it is defined, to watch a training by; 0.5 where none is."""
    found, place = [], 0
    for question in questions:
        width = len(question.of) if question.kind == "classes" else 1
        own, truth = answers[:, place : place + width], truths[question.name][rows]
        place += width
        if question.kind == "target":
            continue
        is_known = ~np.isnan(truth)
        for index in range(width):
            is_it = truth[is_known] == (index if question.kind == "classes" else 1)
            if is_it.any() and not is_it.all():
                found.append(float(roc_auc_score(is_it, own[is_known, index])))
    return float(np.mean(found)) if found else 0.5


class WholeFiles(CheckpointIO):
    """Checkpoints are written beside, then renamed; and copied to a lake on object storage, so that another machine can
    go on from there."""

    def __init__(self, copies: str | None = None) -> None:
        """``copies``: the folder of the lake, where it is not on a disk."""
        super().__init__()
        self._copies = copies

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Whole or not at all."""
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        write_bytes(Path(path), buffer.getvalue())
        if self._copies is not None:
            write_bytes(location(self._copies) / Path(path).name, buffer.getvalue())

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Never unpickles anything but tensors and plain values."""
        loaded: dict[str, Any] = torch.load(path, map_location=map_location or "cpu", weights_only=True)
        return loaded

    def remove_checkpoint(self, path: Any) -> None:
        """One file."""
        Path(path).unlink(missing_ok=True)


def bring_checkpoints(copies: str, folder: Path) -> None:
    """What :class:`WholeFiles` has copied, back to this machine, where there is nothing yet."""
    place = location(copies)
    for name in ("last.ckpt", "best.ckpt"):
        if is_remote(place) and (place / name).is_file() and not (folder / name).exists():
            write_bytes(folder / name, read_bytes(place / name))
