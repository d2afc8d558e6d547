"""Train a small network on one finding, in plain PyTorch: three epochs, and the AUROC of the test split after each.

Images come verified, letterboxed and shuffled from `scanmill.Loader`; all else is torch. `scanmill train` is what gives
a result that stands: with intervals by patient, controls, checkpoints and a report.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn import functional

import scanmill

DEMO = "scanmill-demo/lake/nih-chest-xray"


def network() -> nn.Module:
    """Three halvings by convolution, 8 × 8 places that keep where things are, one logit."""
    layers: list[nn.Module] = [nn.BatchNorm2d(1)]  # which learns the mean and the spread of grey levels
    for before, after in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(8), nn.Flatten(), nn.Linear(64 * 8 * 8, 1))


def labelled(loader: scanmill.Loader, label: str, device: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """One epoch: images from 0 to 1, and labels, 1 present and 0 absent; those that are unknown are left out."""
    for batch in loader:
        truth = torch.from_numpy(batch.columns[label]).to(device)
        known = ~truth.isnan()
        yield torch.from_numpy(batch.images).to(device)[known].float().div_(255), truth[known]


def main() -> None:
    """Train, score, print."""
    example = "example: python examples/train_three_epochs.py /data/lake/nih-chest-xray --label label.Mass --size 224"
    parser = argparse.ArgumentParser(description=__doc__, epilog=example)
    parser.add_argument("release", nargs="?", default=DEMO, help="LAKE/DATASET[@RELEASE] [default: %(default)s]")
    parser.add_argument("--label", default="label.Effusion", help="a label column of it [default: %(default)s]")
    parser.add_argument("--size", type=int, default=64, help="side in pixels [default: %(default)s]")
    options = parser.parse_args()
    try:
        release = scanmill.open_release(options.release)
    except scanmill.ReleaseRefused as refusal:
        sys.exit(f"{refusal}. Or run `make demo`, which makes {DEMO}.")

    torch.manual_seed(0)
    torch.set_num_threads(max(1, (os.cpu_count() or 1) - 2))  # the loader decodes meanwhile, by two threads
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = network().to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    wanted = {"size": options.size, "batch_size": 8, "columns": [options.label]}
    training = scanmill.Loader(release, split="train", shuffle=True, drop_last=True, **wanted)
    testing = scanmill.Loader(release, split="test", **wanted)
    print(f"{release.dataset}@{release.name}: {release.splits}, {options.label}, on {device}")
    for epoch in range(3):
        losses = []
        model.train()
        for images, truth in labelled(training, options.label, device):
            loss = functional.binary_cross_entropy_with_logits(model(images)[:, 0], truth)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        model.eval()
        with torch.inference_mode():
            scored = [(truth, model(images)[:, 0]) for images, truth in labelled(testing, options.label, device)]
        present, logits = (torch.cat(parts).cpu().numpy() for parts in zip(*scored, strict=True))
        auroc = roc_auc_score(present, logits)
        print(f"epoch {epoch + 1}: loss {sum(losses) / len(losses):.3f}, test AUROC {auroc:.2f} of {len(logits)} films")


if __name__ == "__main__":
    main()
