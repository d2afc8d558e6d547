"""From a recipe for a network and a verified release to the files of a run; killed at any moment, it goes on.

What is unfinished lies in ``runs/.training-<digest>/`` (its copy, where the lake is on object storage): the newest
checkpoint, the best one, and metrics.csv. The same training, started again, goes on from there.
"""

from __future__ import annotations

import csv
import io
import logging
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pandas as pd
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint
from safetensors.torch import save
from torch import Tensor

from tasks.code_version import library_versions
from tasks.files import make_folder, read_json, readable_json, sweep, write_bytes, write_json
from tasks.learning import truths
from tasks.learning.admission import Release, find_release
from tasks.learning.clinical import clinical_of
from tasks.learning.dealing import dealt
from tasks.learning.feeding import Feed, feed_of
from tasks.learning.learner import MONITORED, Learner, WholeFiles, bring_checkpoints
from tasks.learning.losses import Loss
from tasks.learning.networks import Network, parameters_of
from tasks.learning.recipe import Recipe, network_options, parse, training_of
from tasks.learning.truths import Values
from tasks.learning.weights import load_into
from tasks.locks import lock
from tasks.schema import DataRefused, ScanmillError
from tasks.storage import Location, is_remote, location, remove_tree

PACKAGES = ("torch", "monai", "lightning", "numpy", "opencv-python-headless", "scikit-learn")
JOB = "job.json"
REFUSAL = "refusal.json"
SCRATCH = "SCANMILL_SCRATCH"
PATHS = ("best_model_path", "kth_best_model_path")
"""In the state of Lightning's ModelCheckpoint."""
logger = logging.getLogger("scanmill.training")
for chatty in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(chatty).setLevel(logging.ERROR)  # tips, and what devices there are not


@dataclass(frozen=True)
class Job:
    """One training."""

    recipe: Recipe
    lake: str
    release: Release
    folder: Location
    """Where what is unfinished lies in the lake."""


def fit(job: Job) -> dict[str, bytes]:
    """Train to the end; returns the files of the run by path. Goes on from a checkpoint where there is one.

    Raises :class:`DataRefused` where there is nothing to learn, :class:`UnusableInput` where another process is at it.
    """
    make_folder(job.folder)
    with lock(job.folder / ".lock", purpose=f"this training of {job.recipe.name}"):
        work = _work_folder(job)
        _prepare(job, work)
        if training_of(job.recipe).devices > 1 and "LOCAL_RANK" not in os.environ:
            _fit_distributed(job, work)
        else:
            _fit(job, work)
        return {path.name: path.read_bytes() for path in sorted((work / "made").iterdir())}


def begin_anew(job: Job) -> None:
    """Remove what is unfinished. Raises :class:`UnusableInput` where another process is at it."""
    make_folder(job.folder)
    with lock(job.folder / ".lock", purpose=f"this training of {job.recipe.name}"):
        forget(job)


def forget(job: Job) -> None:
    """Remove what was unfinished, once the run is published."""
    if is_remote(job.folder):
        remove_tree(_work_folder(job))
    remove_tree(job.folder)


def _work_folder(job: Job) -> Path:
    """On this machine: a checkpoint is written there first."""
    if isinstance(job.folder, Path):
        return job.folder
    scratch = Path(os.environ.get(SCRATCH) or tempfile.gettempdir())
    return scratch / f"scanmill{job.folder.name}"


def _fit(job: Job, work: Path) -> None:
    """All of it in this process, as one of several where torchrun started them."""
    recipe, options = job.recipe, training_of(job.recipe)
    samples = dealt(job.release, recipe)
    true = truths.of(samples, recipe)
    is_train = (samples["split"] == recipe.splits.train).to_numpy()
    _insist_on_something_to_learn(job, is_train, true)
    lightning.seed_everything(recipe.seed, verbose=False)
    known = clinical_of(samples, network_options(recipe).inputs)
    clinical = None if known is None else torch.from_numpy(known)
    network = Network(recipe)
    weights = network_options(recipe).weights
    record = load_into(network, weights) if weights else None
    _measure(network, recipe, is_train, true, clinical)
    loss = Loss(
        network, recipe.questions(), {n: v[is_train] for n, v in true.items()}, is_balanced=bool(options.class_weight)
    )
    learner = Learner(network, loss, recipe, true, clinical)
    if options.channels_last:
        learner.to(memory_format=torch.channels_last)
    validation = _validation_rows(recipe, samples, true)
    trainer = _trainer(recipe, work, str(job.folder) if is_remote(job.folder) else None)
    device = trainer.strategy.root_device
    train_feed = feed_of(job.release, samples, np.flatnonzero(is_train), recipe, device)
    validation_feed = feed_of(job.release, samples, validation, recipe, device, is_training=False)
    if record is None:
        _set_grey_levels(network, train_feed)
    last = work / "last.ckpt"
    if last.exists():
        logger.info("going on from %s", last)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty")
        warnings.filterwarnings("ignore", message="The dirpath has changed")  # _Best minds what it would forget
        warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
        trainer.fit(learner, train_feed, validation_feed, ckpt_path=str(last) if last.exists() else None)
    if trainer.is_global_zero:
        _write_made(work, job, learner, trainer, record, train_feed)


def _insist_on_something_to_learn(job: Job, is_train: Any, true: Mapping[str, Values]) -> None:
    name = f"{job.recipe.dataset}@{job.release.name}"
    if not is_train.any():
        raise DataRefused(f"{name} has no sample in split {job.recipe.splits.train}")
    if not any((~np.isnan(values[is_train])).any() for values in true.values()):
        raise DataRefused(f"there is nothing to learn in the training split of {name}: no answer is known")


def _validation_rows(recipe: Recipe, samples: pd.DataFrame, true: Mapping[str, Values]) -> Any:
    if recipe.splits.validation is None:
        raise ScanmillError(
            f"recipe {recipe.name}: a network needs a validation split, by which the best epoch is chosen"
        )
    rows = np.flatnonzero(samples["split"] == recipe.splits.validation)
    if not any((~np.isnan(values[rows])).any() for values in true.values()):
        raise DataRefused(f"no answer is known in split {recipe.splits.validation}, by which the best epoch is chosen")
    return rows


def _measure(
    network: Network, recipe: Recipe, is_train: Any, true: Mapping[str, Values], clinical: Tensor | None
) -> None:
    """Means and spreads of the training split into the network's buffers.

    Raises :class:`DataRefused` for a clinical input that holds nothing.
    """
    for place, column in enumerate(network.layout):
        if column.kind in ("target", "spread"):
            known = true[column.question][is_train]
            known = known[~np.isnan(known)]
            network.target_mean[place] = float(known.mean()) if len(known) else 0.0
            network.target_sd[place] = max(float(known.std()), 1e-6) if len(known) else 1.0
    if clinical is not None:
        own = clinical[torch.from_numpy(np.flatnonzero(is_train))].double()
        for place, name in enumerate(network.inputs):
            known_inputs = own[~torch.isnan(own[:, place]), place]
            if not len(known_inputs):
                raise DataRefused(f"{name} is known of no sample of the training split: take it out of network.inputs")
            if name != "sex":
                network.clinical_mean[place] = float(known_inputs.mean())
                network.clinical_sd[place] = max(float(known_inputs.std(unbiased=False)), 1e-6)


def _set_grey_levels(network: Network, feed: Feed) -> None:
    """From scratch, grey is normalised by what the training images are like."""
    mean, spread = feed.grey_levels()
    network.grey_mean.fill_(mean)
    network.grey_sd.fill_(max(spread, 1e-3))


def _prepare(job: Job, work: Path) -> None:
    """The work folder, without what is half-written, and with what another machine has left of this training."""
    work.mkdir(parents=True, exist_ok=True)
    sweep(work)
    if is_remote(job.folder):
        bring_checkpoints(str(job.folder), work)


class _Clock(Callback):
    """Seconds of fitting, those before a kill included."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self._before, self._began = pl_module.seconds, time.monotonic()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        pl_module.seconds = self._before + time.monotonic() - self._began


class _Stopping(EarlyStopping):
    """A training that had stopped, and was killed before its run was published, is not taken up again."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        if self.stopped_epoch or self.wait_count >= self.patience:
            trainer.should_stop = True


class _Best(ModelCheckpoint):
    """Knows how good the best one was wherever the work folder lies by now; Lightning forgets it in another folder."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        folder = Path(str(self.dirpath))
        paths = {name: str(folder / Path(state_dict[name]).name) for name in PATHS if state_dict.get(name)}
        scores = {str(folder / Path(path).name): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **paths, "best_k_models": scores, "dirpath": self.dirpath})


class _WithinEpochs(ModelCheckpoint):
    """Checkpoints where Lightning can go on from: not between steps whose gradients are summed, which it forgets, and
    not after an epoch's last step, where it would leave out the validation."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        done = batch_idx + 1
        if done % trainer.accumulate_grad_batches == 0 and done < trainer.num_training_batches:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


def _trainer(recipe: Recipe, work: Path, copies: str | None) -> Any:
    options = training_of(recipe)
    monitored, mode = MONITORED[options.monitor]
    shared: dict[str, Any] = {"dirpath": str(work), "enable_version_counter": False, "auto_insert_metric_name": False}
    interval = timedelta(minutes=options.checkpoint_minutes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lightning.Trainer(
            default_root_dir=str(work),
            accelerator="auto",
            devices=options.devices if options.devices > 1 else 1,
            num_nodes=1,
            max_epochs=options.epochs,
            precision="bf16-mixed" if _precision(options.precision) == "bf16" else "32-true",
            accumulate_grad_batches=options.accumulate,
            gradient_clip_val=options.clip_norm,
            num_sanity_val_steps=0,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            benchmark=True,
            plugins=[WholeFiles(copies)],
            callbacks=[
                _Clock(),
                _Stopping(monitored, mode=mode, patience=options.patience),
                _Best(**shared, filename="best", monitor=monitored, mode=mode, save_weights_only=True),
                ModelCheckpoint(**shared, filename="last", save_on_train_epoch_end=True),
                _WithinEpochs(**shared, filename="last", train_time_interval=interval),
            ],
        )


def _precision(wanted: str) -> str:
    return wanted if torch.cuda.is_available() else "fp32"


def _fit_distributed(job: Job, work: Path) -> None:
    """Every device a process of its own, started by torchrun; this one waits, and when it dies they do."""
    (work / REFUSAL).unlink(missing_ok=True)
    write_json(
        work / JOB,
        {
            "recipe": job.recipe.as_yaml().decode(),
            "lake": job.lake,
            "release": job.release.name,
            "folder": str(job.folder),
        },
    )
    devices = str(training_of(job.recipe).devices)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", devices]
    command += ["-m", "tasks.learning.network_training", str(work)]
    # The open end of their standard input is how they know that this process lives.
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as running:
        said = running.stderr.read() if running.stderr else ""
        status = running.wait()
    if (work / REFUSAL).exists():
        refusal = read_json(work / REFUSAL)
        raise (DataRefused if refusal["is_of_data"] else ScanmillError)(refusal["text"])
    if status:
        raise ScanmillError(f"distributed training on {devices} devices failed: {said.strip()[-1500:]}")


def main(folder: str) -> None:
    """One process of a distributed training; the job was written there by the process that waits for it."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    said = read_json(Path(folder) / JOB)
    recipe = parse(said["recipe"].encode(), name="distributed", where=str(Path(folder) / JOB))
    release = find_release(said["lake"], recipe.dataset, said["release"])
    try:
        _fit(Job(recipe, said["lake"], release, location(said["folder"])), Path(folder))
    except ScanmillError as error:
        write_json(Path(folder) / REFUSAL, {"text": str(error), "is_of_data": isinstance(error, DataRefused)})
        raise


def _end_with_parent() -> None:
    while os.read(0, 1):  # not through sys.stdin, whose lock a daemon thread may not hold at the end
        pass
    os._exit(1)


def _write_made(
    work: Path,
    job: Job,
    learner: Learner,
    trainer: Any,
    record: Mapping[str, Any] | None,
    feed: Feed,
) -> None:
    """The files of the run, from the best epoch."""
    best: dict[str, Any] = torch.load(work / "best.ckpt", map_location="cpu", weights_only=True)
    learner.load_state_dict(best["state_dict"])
    monitored, mode = MONITORED[training_of(job.recipe).monitor]
    rows = learner.history
    chosen = (min if mode == "min" else max)(rows, key=lambda row: row[monitored])
    environment = {
        **_environment(job.recipe, learner, trainer, record, feed),
        "epochs_run": len(rows),
        "best_epoch": int(chosen["epoch"]),
        "stopped": "no better for too long" if len(rows) < training_of(job.recipe).epochs else "all epochs are done",
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in learner.network.state_dict().items()}
    made = work / "made"
    for name, content in {
        "recipe.yaml": job.recipe.as_yaml(),
        "model.safetensors": save(tensors),
        "metrics.csv": _as_csv(rows),
        "environment.json": readable_json(environment),
    }.items():
        write_bytes(made / name, content)


def _environment(
    recipe: Recipe, learner: Learner, trainer: Any, record: Mapping[str, Any] | None, feed: Feed
) -> dict[str, Any]:
    options, network = training_of(recipe), learner.network
    device = trainer.strategy.root_device
    hardware = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    )
    grey = ", ".join(f"{value:.4f}" for value in network.grey_mean.flatten().tolist())
    spread = ", ".join(f"{value:.4f}" for value in network.grey_sd.flatten().tolist())
    return {
        "architecture": network_options(recipe).architecture,
        "parameters": parameters_of(network),
        "initial_weights": dict(record) if record else None,
        "input": {
            "size": network.size,
            "channels": 1,
            "normalisation": f"shares of white, one channel as three, minus ({grey}), divided by ({spread})",
        },
        "precision": _precision(options.precision),
        "device": device.type,
        "devices": trainer.world_size,
        "hardware": hardware,
        "threads": torch.get_num_threads(),
        "reading": feed.kind,
        "packages": library_versions(PACKAGES),
        "seconds": round(learner.seconds, 1),
        "samples_seen": learner.images_seen,
        "images_per_second": round(learner.images_seen / learner.seconds, 1) if learner.seconds else None,
    }


def _as_csv(rows: Sequence[Mapping[str, float]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, ["epoch", "train_loss", "validation_loss", "validation_auroc", "learning_rate"])
    writer.writeheader()
    writer.writerows([{name: repr(value) for name, value in row.items()} for row in rows])
    return buffer.getvalue().encode()


if __name__ == "__main__":
    main(sys.argv[1])
