"""How fast a recipe trains on a GPU: through our feeds, and on one batch that lies there already.

    python -m tests.bench.gpu (--lake LAKE | --images 12000) --recipe nih-14-label [--way bf16,channels-last]…
                              [--steps 200] [--set KEY=VALUE]… [--cpu]

Three rows, for fp32 and bf16, channels last and not, compiled and not (or for each ``--way`` alone): *memory* and
*stream* are the recipe's training (augmentation, loss, optimizer, Lightning and all) with the images in the device's
memory, and read from the shards; *fixed batch* is the same network, loss and optimizer alone, on one batch that is
never changed: the ceiling. Rates are of the steps after the first few, which warm up and compile; no validation, no
checkpoints. A rate through a feed includes what the start of an epoch costs, so give a release of some ten thousand
images; ``--images`` makes one up. What each feed gives while nobody trains comes first. Nothing is written but
``bench-results/gpu.json`` (after every row), and that release beside it. Without a GPU it says so and exits with 2;
``--cpu`` proves that the command works.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import logging
import os
import platform
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from tasks.learning import truths
from tasks.learning.admission import Release, find_release
from tasks.learning.clinical import clinical_of
from tasks.learning.dealing import dealt
from tasks.learning.feeding import Feed, feed_of
from tasks.learning.learner import Learner, as_shares
from tasks.learning.losses import Loss
from tasks.learning.networks import Network
from tasks.learning.recipe import Recipe, load, network_options, training_of
from tests.bench.gpu_release import made_up

FEEDS = ("memory", "stream")
CEILING = "fixed batch"
PRECISIONS = ("fp32", "bf16")
WARM_UP = 20
CPU_STEPS, CPU_WARM_UP = 3, 1


@dataclass(frozen=True)
class Way:
    """How it is computed."""

    precision: str
    is_channels_last: bool
    is_compiled: bool

    @classmethod
    def parse(cls, text: str) -> Way:
        """``bf16``, ``bf16,channels-last``, ``fp32,channels-last,compiled``. Raises :class:`ValueError`."""
        precision, *more = text.split(",")
        if precision not in PRECISIONS or not {*more} <= {"channels-last", "compiled"}:
            raise ValueError(text)
        return cls(precision, "channels-last" in more, "compiled" in more)


@dataclass(frozen=True)
class Measured:
    """One row."""

    way: Way
    source: str
    """``memory``, ``stream`` or ``fixed batch``."""
    images_per_second: float
    images: int
    seconds: float
    peak_bytes: int
    """Of the device's memory, the images in it included; 0 on a CPU."""


class _Stopwatch(lightning.Callback):
    """Images and seconds of all steps after the first few."""

    def __init__(self, warm_up: int) -> None:
        self._left = warm_up
        self.images, self._began, self.seconds = 0, 0.0, 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Starts at the end of the last step that does not count, so that fetching the next batch does."""
        self._left -= 1
        if self._left < 0:
            self.images += len(batch[1])
        elif self._left == 0:
            _wait(pl_module.device)
            self._began = time.perf_counter()

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """The last step is over when the device has done it."""
        _wait(pl_module.device)
        self.seconds = time.perf_counter() - self._began


class _Material:
    """What all rows have in common: samples, truths, and one feed of each kind, read once."""

    def __init__(self, recipe: Recipe, release: Release, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        samples = dealt(release, recipe)
        self.is_train = (samples["split"] == recipe.splits.train).to_numpy()
        self.truths = truths.of(samples, recipe)
        known = clinical_of(samples, network_options(recipe).inputs)
        self.clinical = None if known is None else torch.from_numpy(known)
        rows = np.flatnonzero(self.is_train)
        self.feeds: dict[str, Feed] = {}
        began = time.perf_counter()
        for kind in FEEDS:
            self.feeds[kind] = feed_of(release, samples, rows, _with(recipe, reading=kind), device)
            if kind == "memory":
                _wait(device)
                self.loading = {"images": len(rows), "seconds": round(time.perf_counter() - began, 1)}

    def learner(self, way: Way) -> Learner:
        """A fresh network, where it is trained."""
        torch.manual_seed(self.recipe.seed)
        recipe = _with(self.recipe, channels_last=way.is_channels_last, compile=way.is_compiled)
        network = Network(recipe)
        is_balanced = bool(training_of(recipe).class_weight)
        known = {name: values[self.is_train] for name, values in self.truths.items()}
        loss = Loss(network, recipe.questions(), known, is_balanced=is_balanced)
        learner = Learner(network, loss, recipe, self.truths, self.clinical)
        if way.is_channels_last:
            learner.to(memory_format=torch.channels_last)
        return learner


def main() -> int:
    """Measure, print the table, write the JSON; 2 without a GPU."""
    given = _parser().parse_args()
    if not (torch.cuda.is_available() or given.cpu):
        print("there is no GPU that torch can use here; with --cpu the command is tried on the CPU", file=sys.stderr)
        return 2
    device = torch.device("cpu" if given.cpu else "cuda")
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # it says for every row what it runs on
    console = Console(width=None if sys.stdout.isatty() else 140)
    warm_up = CPU_WARM_UP if given.cpu else WARM_UP
    steps = (CPU_STEPS if given.cpu else given.steps) + warm_up
    recipe = load(given.recipe, given.overrides)
    lake = given.lake or made_up(given.out.parent.resolve() / "inputs", recipe, given.images)
    release = find_release(str(lake.resolve()), recipe.dataset, given.release)
    material = _Material(recipe, release, device)
    console.print(f"{material.loading['images']:,} images read into memory in {material.loading['seconds']} s")
    report: dict[str, Any] = {
        **_about(recipe, release, device),
        "batches_per_epoch": len(material.feeds["memory"]),
        "steps": {"counted": steps - warm_up, "before": warm_up},
        "loading": material.loading,
        "feeds_alone": {},
        "rows": [],
    }
    for kind, feed in material.feeds.items():
        report["feeds_alone"][kind] = rate = _alone(feed, device)
        console.print(f"  {kind} alone, nobody training: {rate:,.0f} images/s")
    rows: list[Measured] = []
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for way in given.ways or _ways(is_compiling=not given.cpu):
        for source in (CEILING, *FEEDS):
            rows.append(_measured(material, way, source, steps, warm_up))
            console.print(f"  {_said(way)}, {source}: {rows[-1].images_per_second:,.1f} images/s")
            report["rows"].append(asdict(rows[-1]))
            given.out.write_text(json.dumps(report, indent=1) + "\n")
    console.print(_table(rows))
    console.print(f"{report['device']}; written: {given.out}")
    return 0


def _about(recipe: Recipe, release: Release, device: torch.device) -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU: the figures mean nothing",
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "libraries": {"torch": torch.__version__, "lightning": lightning.__version__, "numpy": np.__version__},
        "torch": {"cuda": torch.version.cuda, "threads": torch.get_num_threads()},
        "recipe": recipe.model_dump(mode="json"),
        "release": release.name,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description="How fast a recipe trains on a GPU")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--lake", type=Path, help="with a release of the recipe's dataset")
    source.add_argument("--images", type=int, help="so many made-up ones instead")
    parser.add_argument("--recipe", default="nih-14-label", help="of a network [nih-14-label]")
    parser.add_argument("--release", help="its id [the latest]")
    parser.add_argument(
        "--way",
        dest="ways",
        action="append",
        type=Way.parse,
        help="how to compute: fp32 or bf16, then ,channels-last and ,compiled; repeat [all eight]",
    )
    parser.add_argument("--steps", type=int, default=200, help=f"that count, after {WARM_UP} that do not [200]")
    parser.add_argument("--set", dest="overrides", action="append", default=[], help="KEY=VALUE of the recipe; repeat")
    parser.add_argument("--cpu", action="store_true", help="a few steps on the CPU, nothing compiled; no figures")
    parser.add_argument("--out", type=Path, default=Path("bench-results/gpu.json"))
    return parser


def _ways(*, is_compiling: bool) -> list[Way]:
    compiled = (False, True) if is_compiling else (False,)
    return [Way(*way) for way in itertools.product(PRECISIONS, (False, True), compiled)]


def _with(recipe: Recipe, **changes: Any) -> Recipe:
    """The same with other settings of its section ``training``, on one device."""
    options = training_of(recipe).model_copy(update={"devices": 1, **changes})
    return recipe.model_copy(update={"training": options})


def _alone(feed: Feed, device: torch.device) -> float:
    """Images per second of an epoch that nobody learns from; the one before it starts processes and fills caches."""
    for _ in range(2):
        feed.load_state_dict({"epoch": 0, "done": 0})  # type: ignore[attr-defined]
        began = time.perf_counter()
        count = sum(len(rows) for _, rows in feed)
        _wait(device)
    return round(count / (time.perf_counter() - began), 1)


def _measured(material: _Material, way: Way, source: str, steps: int, warm_up: int) -> Measured:
    """One row; nothing of the one before is left on the device."""
    gc.collect()
    if material.device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(material.device)
    learner = material.learner(way)
    if source == CEILING:
        images, seconds = _on_one_batch(material, learner, way, steps, warm_up)
    else:
        images, seconds = _through(material.feeds[source], learner, way, material.device, steps, warm_up)
    is_gpu = material.device.type == "cuda"
    peak = int(torch.cuda.max_memory_allocated(material.device)) if is_gpu else 0
    return Measured(way, source, round(images / seconds, 1), images, round(seconds, 3), peak)


def _through(
    feed: Feed, learner: Learner, way: Way, device: torch.device, steps: int, warm_up: int
) -> tuple[int, float]:
    """Images and seconds of the recipe's own training loop."""
    options, stopwatch = learner.options, _Stopwatch(warm_up * learner.options.accumulate)
    feed.load_state_dict({"epoch": 0, "done": 0})  # type: ignore[attr-defined]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's: what else there could be
        trainer = lightning.Trainer(
            accelerator="gpu" if device.type == "cuda" else "cpu",
            devices=1,
            max_steps=steps,
            max_epochs=-1,
            limit_val_batches=0,
            precision="bf16-mixed" if way.precision == "bf16" else "32-true",
            accumulate_grad_batches=options.accumulate,
            gradient_clip_val=options.clip_norm,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            benchmark=True,
            callbacks=[stopwatch],
        )
        trainer.fit(learner, feed)
    return stopwatch.images, stopwatch.seconds


def _on_one_batch(material: _Material, learner: Learner, way: Way, steps: int, warm_up: int) -> tuple[int, float]:
    """Images and seconds of network, loss and optimizer alone."""
    device = material.device
    learner.to(device)
    images, rows = next(iter(material.feeds["memory"]))
    shares, known = as_shares(images), learner.get_buffer("known")[rows]
    if way.is_channels_last:
        shares = shares.to(memory_format=torch.channels_last)
    clinical = None if material.clinical is None else material.clinical.to(device)[rows]
    network: Any = torch.compile(learner.network) if way.is_compiled else learner.network
    learner.train()
    optimizer, counted, began = learner.configure_optimizers(), 0, 0.0
    torch.backends.cudnn.benchmark = True
    for step in range(steps):
        if step == warm_up:
            _wait(device)
            began = time.perf_counter()
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=way.precision == "bf16"):
            loss = learner.loss(network(shares, clinical), known)
        loss.backward()
        optimizer.step()
        counted += len(rows) if step >= warm_up else 0
    _wait(device)
    return counted, time.perf_counter() - began


def _wait(device: torch.device) -> None:
    """Until the device has done what it was told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _said(way: Way) -> str:
    parts = [way.precision, "channels last" if way.is_channels_last else "channels first"]
    return ", ".join([*parts, "compiled" if way.is_compiled else "not compiled"])


def _table(rows: Sequence[Measured]) -> Table:
    table = Table(title="images/s of training; in brackets the share of the ceiling", caption="peak: GB of the device")
    for heading in ("", CEILING, *FEEDS, "peak"):
        table.add_column(heading, justify="left" if not heading else "right")
    for way in dict.fromkeys(row.way for row in rows):
        own = {row.source: row for row in rows if row.way == way}
        ceiling = own[CEILING].images_per_second
        through = [f"{own[f].images_per_second:,.1f} ({own[f].images_per_second / ceiling:.2f})" for f in FEEDS]
        peak = max(row.peak_bytes for row in own.values()) / 1e9
        table.add_row(_said(way), f"{ceiling:,.1f}", *through, f"{peak:.1f}" if peak else "–")
    return table


if __name__ == "__main__":
    sys.exit(main())
