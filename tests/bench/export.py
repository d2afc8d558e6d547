"""What exports are worth: size, largest difference to torch, and images/s on the CPU, of three networks or of a run.

    python -m tests.bench.export [--run LAKE/runs/RUN] [--size 224] [--batch 8] [--seconds 4]

Without ``--run`` the networks are MONAI's with random weights, their batch norms settled on noise so that answers (8
logits) depend on the image: speed and size do not depend on weights; differences do, so give a run for its own. Each
rate is the best of three turns, which go round by round through torch, ONNX and fp16 ONNX, so that a neighbour on the
machine disturbs all alike. Writes bench-results/export.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.networks.nets import DenseNet121, EfficientNetBN, resnet50
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from tasks.learning import export
from tasks.learning.recipe import Question
from tests.bench.figures import machine

LOGITS = tuple(f"logit_{number}" for number in range(8))
THREADS = (1, 2)
TURNS = 3
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "DenseNet-121": lambda: DenseNet121(spatial_dims=2, in_channels=3, out_channels=8),
    "EfficientNet-B0": lambda: EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=2, num_classes=8),
    "ResNet-50": lambda: resnet50(
        spatial_dims=2, n_input_channels=3, num_classes=8, conv1_t_stride=2, bias_downsample=False
    ),
}


class EightLogits(nn.Module):
    """A backbone in the form of a scorer."""

    def __init__(self, backbone: nn.Module) -> None:
        """``backbone`` takes three channels and gives eight logits."""
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor, clinical: Tensor | None) -> Tensor:
        """(batch, 8) logits."""
        logits: Tensor = self.backbone((image.expand(-1, 3, -1, -1) - 0.5) / 0.25)
        return logits


def settled(backbone: nn.Module, size: int) -> nn.Module:
    """In the form of a scorer, with batch norms that have seen something: without, activations die out."""
    scorer = EightLogits(backbone)
    for part in scorer.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.momentum = None  # a plain mean over all that comes
    with torch.inference_mode():
        for _ in range(2):
            scorer.train()(torch.rand(8, 1, size, size), None)
    return scorer.eval()


def main() -> None:
    """Export, check, time, print a table and write the JSON."""
    given = _parser().parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="scanmill-bench-") as temporary:
        if given.run:
            rows = [_row(*_of_run(given.run), Path(temporary), given)]
        else:
            rows = []
            for name, make in NETWORKS.items():
                torch.manual_seed(0)
                scorer = settled(make(), given.size)
                said = {
                    "columns": LOGITS,
                    "questions": tuple(Question(one, "target", (one,)) for one in LOGITS),
                    "size": given.size,
                    "inputs": (),
                }
                rows.append(_row(name, scorer, said, Path(temporary, name), given))
                console.print(f"{name}: done")
    report = {
        "machine": machine(),
        "load_average": os.getloadavg()[0],
        "batch": given.batch,
        "seconds": given.seconds,
        "versions": rows[0]["versions"],
        "rows": rows,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(report, indent=1) + "\n")
    console.print(_table(rows))
    console.print(f"load average {report['load_average']:.1f}; written: {given.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.export", description="What exports are worth")
    parser.add_argument("--run", help="LAKE/runs/RUN of a network; its last export is not touched")
    parser.add_argument("--size", type=int, default=224, help="side of the image, where no run is given [224]")
    parser.add_argument("--batch", type=int, default=8, help="images at once [8]")
    parser.add_argument("--seconds", type=float, default=4.0, help="at least so long, per rate and turn [4]")
    parser.add_argument("--out", type=Path, default=Path("bench-results/export.json"))
    return parser


def _of_run(reference: str) -> tuple[str, nn.Module, dict[str, Any]]:
    from tasks.learning.network_run import load_scorer
    from tasks.learning.runs import find_run

    place = Path(reference)
    run = find_run(str(place.parent.parent), place.name)
    scorer = load_scorer(run)
    network = scorer.network
    said = {
        "columns": scorer.answer_columns,
        "questions": run.recipe.questions(),
        "size": network.size,
        "inputs": network.inputs,
    }
    return run.name, scorer, said


def _row(name: str, scorer: nn.Module, said: dict[str, Any], folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    began = time.perf_counter()
    content = export.write(scorer, folder, **said)
    seconds = time.perf_counter() - began
    random = np.random.default_rng(1)
    image = random.random((given.batch, 1, said["size"], said["size"]), dtype=np.float32)
    feeds = {"image": image}
    if said["inputs"]:
        feeds["clinical"] = np.full((given.batch, len(said["inputs"])), np.nan, np.float32)
    files = {key: (folder / content[key]["path"]).read_bytes() for key in ("onnx", "onnx_fp16")}
    rates: dict[str, dict[int, float]] = {"torch": {}, "onnx": {}, "onnx_fp16": {}}
    for threads in THREADS:
        ways = {"torch": _by_torch(scorer, feeds, threads)}
        ways |= {key: _by_onnxruntime(file, feeds, threads) for key, file in files.items()}
        for _ in range(TURNS):
            for way, once in ways.items():
                rate = _rate(once, given.batch, given.seconds)
                rates[way][threads] = round(max(rate, rates[way].get(threads, 0.0)), 1)
    return {
        "network": name,
        "size": said["size"],
        "export_seconds": round(seconds, 1),
        **{key: {part: content[key][part] for part in ("bytes", "max_difference", "checked_batches")} for key in files},
        "images_per_second": rates,
        "versions": content["versions"],
    }


def _by_torch(scorer: nn.Module, feeds: dict[str, Any], threads: int) -> Callable[[], object]:
    image, clinical = torch.from_numpy(feeds["image"]), feeds.get("clinical")
    values = None if clinical is None else torch.from_numpy(clinical)

    def once() -> object:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            return scorer(image, values)

    return once


def _by_onnxruntime(file: bytes, feeds: dict[str, Any], threads: int) -> Callable[[], object]:
    session = export.session_of(file, threads)
    return lambda: session.run(["answers"], feeds)


def _rate(once: Callable[[], object], batch: int, seconds: float) -> float:
    """Images/s, after one pass that does not count."""
    once()
    began, passes = time.perf_counter(), 0
    while (took := time.perf_counter() - began) < seconds:
        once()
        passes += 1
    return passes * batch / took


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="exports on the CPU")
    headings = ("network", "form", "MB", "largest difference", *(f"images/s, {n} thread(s)" for n in THREADS))
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("network", "form") else "right")
    for row in rows:
        for form in ("torch", "onnx", "onnx_fp16"):
            file = row.get(form)
            size, difference = (f"{file['bytes'] / 1e6:.1f}", f"{file['max_difference']}") if file else ("", "")
            rates = [f"{row['images_per_second'][form][threads]:.1f}" for threads in THREADS]
            table.add_row(row["network"], form, size, difference, *rates)
    return table


if __name__ == "__main__":
    main()
