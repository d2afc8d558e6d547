"""Whether the recipes learn what is there to be learned, and nothing where labels were dealt anew between patients.

    python -m tests.bench.planted_signal [--dataset nih|chexchonet|behsof|all] [--images N] [--epochs E] [--size S]
                                         [--keep FOLDER]

Raw releases of made-up patients with answers drawn into their films (:mod:`tests.bench.planted_releases`) go through
``scanmill prepare``; the shipped recipes, with a network and settings that a CPU can follow, are trained and evaluated
in full, and each once or more on labels that were dealt anew between patients. The first has to be well above chance;
the second has to hold 0.5, or something leaks. Beside them stand the light head on shuffled labels and grey levels
alone; for NIH, whether Grad-CAM points at what was drawn, beside random maps. Writes
``bench-results/planted_signal.json``; with ``--keep`` releases, runs and reports stay in FOLDER, and what is there is
not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from tasks.files import read_json
from tasks.learning.evaluation import evaluate
from tasks.learning.recipe import load
from tasks.learning.training import train
from tests.bench import figures, planted_releases
from tests.bench.commands import run_scanmill

NETWORK = (
    "network.architecture=densenet-small",
    "training.batch_size=32",
    "training.learning_rate=0.003",
    "training.schedule=cosine",
    "training.precision=fp32",
)
"""What every recipe gets on a CPU; the questions, splits, inputs, losses and units are the shipped ones."""


@dataclass(frozen=True)
class Planted:
    """A dataset with something to learn in it."""

    dataset: str
    write: Callable[[Path, int], None]
    images: int
    size: int
    """Of the network's image."""
    epochs: int
    shuffles: int
    """Dealings of shuffled labels that are learned: more where there are few patients, for one may well be unlucky."""
    recipes: tuple[str, ...]


PLANTED: Mapping[str, Planted] = {
    "behsof": Planted("behsof", planted_releases.write_behsof, 800, 96, 12, 4, ("behsof-steatosis", "behsof-fibrosis")),
    "nih": Planted("nih-chest-xray", planted_releases.write_nih, 1500, 96, 16, 1, ("nih-14-label",)),
    "chexchonet": Planted(
        "chexchonet", planted_releases.write_chexchonet, 1000, 64, 12, 1, ("chexchonet", "chexchonet-direct")
    ),
}


@dataclass(frozen=True)
class Row:
    """One question, or the mean over several, of one recipe: on what was held out."""

    dataset: str
    recipe: str
    of: str
    """What the macro AUROC is the mean over."""
    samples: int
    groups: int
    unit: str
    planted: Mapping[str, Any]
    """SCORE of metrics.json of the run on planted labels."""
    shuffles: Sequence[Mapping[str, Any]]
    """The same of every run that learned and was tested on shuffled labels."""

    @property
    def is_above_chance(self) -> bool:
        """Whether the interval lies above all that a light head made of shuffled labels."""
        control = self.planted.get("shuffled") or {"most": 0.5}
        return bool(self.planted["low"] is not None and self.planted["low"] > max(0.5, control["most"]))

    @property
    def shuffled(self) -> dict[str, float | None]:
        """Mean over the dealings, which know nothing of each other, and its interval; of one, the run's own."""
        if len(self.shuffles) == 1:
            return {key: self.shuffles[0][key] for key in ("value", "low", "high")}
        if any(score["low"] is None for score in self.shuffles):
            return {"value": None, "low": None, "high": None}
        mean = fmean(score["value"] for score in self.shuffles)
        half = sum((score["high"] - score["low"]) ** 2 for score in self.shuffles) ** 0.5 / 2 / len(self.shuffles)
        return {"value": mean, "low": mean - half, "high": mean + half}

    @property
    def holds_half(self) -> bool:
        """Whether 0.5 is within the interval of what was learned of shuffled labels."""
        low, high = self.shuffled["low"], self.shuffled["high"]
        return low is not None and high is not None and low <= 0.5 <= high


def main() -> None:
    """Prepare, train, evaluate, print the tables, write the JSON."""
    given = _parser().parse_args()
    console = Console(width=None if sys.stdout.isatty() else 170)
    began = time.monotonic()
    chosen = PLANTED if given.dataset == "all" else {given.dataset: PLANTED[given.dataset]}
    rows: list[Row] = []
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="scanmill-planted-") as temporary:
        folder = (given.keep or Path(temporary)).resolve()
        for name, planted in chosen.items():
            lake = _prepared(name, planted, folder, given.images or planted.images, console)
            for recipe in planted.recipes:
                dealings = (None, *range(planted.shuffles))
                own = [_run(recipe, lake, planted, given, console, dealing) for dealing in dealings]
                runs += own
                rows += _rows(planted.dataset, recipe, *(run["metrics"] for run in own))
    report = {
        "machine": figures.machine(),
        "threads": torch.get_num_threads(),
        "seconds": round(time.monotonic() - began, 1),
        "rows": [_as_json(row) for row in rows],
        "runs": [{key: value for key, value in run.items() if key != "metrics"} for run in runs],
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(report, indent=1) + "\n")
    console.print(_table(rows))
    for run in runs:
        if run["localisation"] is not None and not run["recipe"]["shuffle_labels"]:
            console.print(_localisation_table(run["run"], run["localisation"]))
    console.print(f"{report['seconds']:.0f} s in all; written: {given.out}")
    if given.keep:
        console.print(f"reports: {given.keep}/lake/runs/*/report/index.html")


def _as_json(row: Row) -> dict[str, Any]:
    verdicts = {"is_above_chance": row.is_above_chance, "holds_half": row.holds_half}
    return {**asdict(row), "shuffled": row.shuffled, **verdicts}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.planted_signal", description="Whether recipes learn what is there, and nothing else"
    )
    parser.add_argument("--dataset", choices=(*PLANTED, "all"), default="all")
    sizes = ", ".join(f"{name} {planted.images}" for name, planted in PLANTED.items())
    epochs = ", ".join(f"{name} {planted.epochs}" for name, planted in PLANTED.items())
    parser.add_argument("--images", type=int, help=f"of every release [{sizes}]")
    parser.add_argument("--epochs", type=int, help=f"of every training [{epochs}]")
    sides = ", ".join(f"{name} {planted.size}" for name, planted in PLANTED.items())
    parser.add_argument("--size", type=int, help=f"side of the network's image, in pixels [{sides}]")
    parser.add_argument("--keep", type=Path, help="folder that keeps raw releases, lake and reports")
    parser.add_argument("--out", type=Path, default=Path("bench-results/planted_signal.json"))
    return parser


def _prepared(name: str, planted: Planted, folder: Path, images: int, console: Console) -> Path:
    """The lake, with the release in it; raw is written unless it is there."""
    raw, scratch, lake = folder / f"raw-{name}-{images}", folder / "scratch", folder / "lake"
    marker = raw.with_suffix(".written")
    scratch.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    if not marker.exists():
        raw.mkdir(parents=True)
        planted.write(raw, images)
        marker.touch()
    written = time.monotonic() - began
    places = ("--raw", str(raw), "--lake", str(lake))
    cost = run_scanmill("prepare", planted.dataset, *places, "--workers", "2", scratch=scratch)
    splits = {split: own["samples"] for split, own in json.loads(cost.output)["splits"].items()}
    console.print(f"{planted.dataset}: raw in {written:.0f} s, prepared in {cost.wall_seconds:.0f} s: {splits}")
    return lake


def _run(
    recipe: str, lake: Path, planted: Planted, given: argparse.Namespace, console: Console, dealing: int | None
) -> dict[str, Any]:
    """Train and evaluate once, on planted labels or a dealing of shuffled ones; name, metrics and what they cost."""
    epochs = given.epochs or planted.epochs
    name = f"{recipe}-planted" if dealing is None else f"{recipe}-shuffled" + (f"-{dealing}" if dealing else "")
    own = (
        f"name={name}",
        f"network.size={given.size or planted.size}",
        f"training.epochs={epochs}",
        f"training.patience={epochs}",
    )
    overrides = (*NETWORK, *own, f"shuffle_labels={str(dealing is not None).lower()}", f"seed={dealing or 0}")
    began, began_cpu = time.monotonic(), time.process_time()
    trained = train(recipe, str(lake), overrides=overrides)
    between, between_cpu = time.monotonic(), time.process_time()
    outcome = evaluate(trained["run"], str(lake))
    folder = lake / "runs" / trained["run"]
    seconds = {"train": round(between - began, 1), "evaluate": round(time.monotonic() - between, 1)}
    cpu = {"train": round(between_cpu - began_cpu, 1), "evaluate": round(time.process_time() - between_cpu, 1)}
    found = outcome["headline"]
    console.print(
        f"  {trained['run']}: {found['metric']} {_number(found)}, "
        f"{seconds['train']:.0f} s to train, {seconds['evaluate']:.0f} s to evaluate "
        f"({cpu['train']:.0f} and {cpu['evaluate']:.0f} s of CPU)"
    )
    explained = read_json(folder / "explanations" / "explanations.json")
    return {
        "run": trained["run"],
        "recipe": load(recipe, overrides).model_dump(mode="json"),
        "seconds": seconds,
        "cpu_seconds": cpu,
        "metrics": read_json(folder / "metrics.json"),
        "targets": _targets(read_json(folder / "metrics.json")),
        "environment": read_json(folder / "environment.json"),
        "localisation": explained["localisation"],
    }


def _targets(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """R² and mean absolute error of every target, on what was held out."""
    found = metrics["splits"][metrics["held_out"]]["targets"]
    return {name: {key: own[key] for key in ("r2", "mae", "mae_of_the_mean")} for name, own in found.items()}


def _rows(dataset: str, recipe: str, *metrics: Mapping[str, Any]) -> list[Row]:
    """The macro AUROC of the labels, and that of each question of classes; metrics of the planted labels first."""
    own, *others = (found["splits"][found["held_out"]] for found in metrics)
    scores = []
    if own["labels"]:
        count = own["macro"]["auroc"]["labels"]
        of = f"{count} labels" if count > 1 else next(iter(own["labels"]))
        scores.append((of, own["macro"]["auroc"], [other["macro"]["auroc"] for other in others]))
    for name, scored in own["classes"].items():
        shuffled = [other["classes"][name]["auroc"] for other in others]
        scores.append((f"{scored['auroc']['labels']} classes", scored["auroc"], shuffled))
    counts = (own["samples"], own["groups"], own["unit"])
    return [Row(dataset, recipe, of, *counts, planted, shuffled) for of, planted, shuffled in scores]


def _table(rows: Sequence[Row]) -> Table:
    table = Table(
        title="macro AUROC on the test split (95 % CI by patient)",
        caption="control: a light head on the network's features, fitted to and scored on shuffled labels; "
        "grey: a linear model of grey levels alone; of 4: the mean of four dealings, intervals taken as independent; "
        "one interval in twenty misses 0.5 by chance",
    )
    headings = ("dataset", "recipe", "of", "images / patients", "planted labels", "control", "grey", "shuffled labels")
    for heading in (*headings, ""):
        table.add_column(heading, justify="left" if heading in ("dataset", "recipe", "of", "") else "right")
    for row in rows:
        control = row.planted.get("shuffled")
        verdict = [] if row.is_above_chance else ["NOT ABOVE CHANCE"]
        verdict += [] if row.holds_half else ["NOT 0.5"]
        table.add_row(
            row.dataset,
            row.recipe,
            row.of,
            f"{row.samples:,} / {row.groups:,}",
            _number(row.planted),
            f"{control['mean']:.3f} ({control['least']:.3f}–{control['most']:.3f})" if control else "–",
            f"{row.planted['intensity']:.3f}" if row.planted.get("intensity") is not None else "–",
            _number(row.shuffled) + (f" of {len(row.shuffles)}" if len(row.shuffles) > 1 else ""),
            ", ".join(verdict) or "as it must be",
        )
    return table


def _number(score: Mapping[str, Any]) -> str:
    if score["value"] is None:
        return "undefined"
    if score["low"] is None:
        return f"{score['value']:.3f}"
    return f"{score['value']:.3f} ({score['low']:.3f}–{score['high']:.3f})"


def _localisation_table(run: str, found: Mapping[str, Any]) -> Table:
    """The pointing game and the share of boxes with IoU above 0.3, of the network and of random maps."""
    table = Table(title=f"Grad-CAM and what was drawn, {run}", caption="more: network minus random maps, 95 % CI")
    for heading in ("label", "boxes", "pointing", "random", "more", "IoU > 0.3", "random maps"):
        table.add_column(heading, justify="left" if heading == "label" else "right")
    for name, own in [*found["labels"].items(), ("mean", found["mean"])]:
        more = own["above_random"]
        table.add_row(
            name,
            f"{own['boxes']:,}",
            f"{own['pointing']:.2f} ({own['pointing_low']:.2f}–{own['pointing_high']:.2f})",
            f"{own['random']['pointing']:.2f}",
            _number(more),
            f"{own['iou']['0.3']:.2f}",
            f"{own['random']['iou']['0.3']:.2f}",
        )
    return table


if __name__ == "__main__":
    main()
