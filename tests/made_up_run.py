"""Made-up runs, with something in every part of their page: findings, classes, targets; a network or a baseline.

Numbers come from invented answers, so that scores, curves and bins belong together; intervals are rules of thumb.
"""

from __future__ import annotations

import base64
import copy
import functools
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageDraw
from sklearn import metrics as sk

from tasks.datasets import find
from tasks.files import readable_json
from tasks.learning import anchors, run_report
from tasks.learning.recipe import Recipe, parse
from tasks.learning.runs import Run

Values = npt.NDArray[np.float64]
NASTY = "<script>alert('x')</script>"
NIH = """
dataset: nih-chest-xray
kind: network
labels: all
splits: {train: train, validation: validation, test: test}
network: {architecture: densenet121, size: 224}
training: {epochs: 12, batch_size: 64, optimizer: adamw, learning_rate: 1.0e-4}
"""
MAMMOGRAPHY = """
dataset: mammography-density
kind: network
classes: {density_and_finding: all}
splits: {train: train, validation: validation}
network: {architecture: efficientnet-b0, size: 224}
training: {epochs: 20, batch_size: 32, class_weight: balanced}
"""
CHEXCHONET = """
dataset: chexchonet
kind: network
labels: all
targets: all
zero_is_unknown: true
splits: {train: train, validation: validation, test: test}
network: {architecture: densenet121, size: 224, inputs: [age_years, sex]}
training: {epochs: 2, batch_size: 32, learning_rate: 5.0e-4}
evaluation: {is_one_per_group_shown: true}
"""
BASELINE = """
dataset: nih-chest-xray
kind: intensity-baseline
labels: all
splits: {train: train, validation: validation, test: test}
options: {thumbnail: 8}
"""
PREVALENCE = (0.128, 0.042, 0.071, 0.036, 0.182, 0.043, 0.017, 0.0034, 0.239, 0.068, 0.063, 0.044, 0.022, 0.104)
"""Of the official test list, in the order of the dataset's declaration."""


def remembered(make: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The same function, which makes its numbers once and hands out copies."""
    made = functools.cache(make)

    @functools.wraps(make)
    def copied(*arguments: Any) -> dict[str, Any]:
        return copy.deepcopy(made(*arguments))

    return copied


def score(value: float | None, width: float = 0.01, **others: Any) -> dict[str, Any]:
    """A value with an interval of that half width."""
    low, high = (None, None) if value is None else (max(0.0, value - width), min(1.0, value + width))
    return {"value": value, "low": low, "high": high, "shuffled": None, "intensity": None, "chance": None, **others}


def span(mean: float, width: float = 0.02) -> dict[str, float]:
    """What shuffled labels got."""
    return {"mean": mean, "least": mean - width, "most": mean + width}


def label(truth: Values, answer: Values, chosen_on: str, reason: str = "") -> dict[str, Any]:
    """LABEL of metrics.json for answers (probabilities) of one label; a finding that all or none have is not scored."""
    samples, positives = len(truth), int(truth.sum())
    about = {"samples": samples, "positives": positives, "prevalence": positives / samples}
    if positives in (0, samples):
        nothing = {name: score(None) for name in ("auroc", "auprc", "brier", "ece")}
        reason = reason or "no sample of this split has it"
        return {**about, "reason": reason, **nothing, "calibrated": {"reason": reason}, "reliability": []}
    width = 0.5 / np.sqrt(positives)
    area = float(sk.roc_auc_score(truth, answer))
    precision, recall, _ = sk.precision_recall_curve(truth, answer)
    false, true, thresholds = sk.roc_curve(truth, answer)
    calmer = answer**1.25
    best = float(thresholds[int(np.argmax(true - false))])
    return {
        **about,
        "reason": "",
        "auroc": score(area, width, shuffled=span(0.501, width), intensity=0.5 + 0.45 * (area - 0.5), chance=0.5),
        "auprc": score(
            float(sk.average_precision_score(truth, answer)),
            width,
            shuffled=span(positives / samples, width / 4),
            intensity=1.4 * positives / samples,
            chance=positives / samples,
        ),
        "brier": score(float(np.mean((answer - truth) ** 2)), 0.004),
        "ece": score(float(abs(answer.mean() - truth.mean())), 0.006),
        "calibrated": {
            "method": "platt",
            "slope": 0.91,
            "intercept": -0.2,
            "fitted_on": "validation",
            "brier": score(float(np.mean((calmer - truth) ** 2)), 0.004),
            "ece": score(float(abs(calmer.mean() - truth.mean())), 0.004),
        },
        "reliability": bins(truth, answer, calmer),
        "curves": {
            "roc": thinned(np.column_stack([false, true])),
            "pr": thinned(np.column_stack([recall, precision])),
        },
        "operating": [
            operating(rule, best * factor, truth, answer, chosen_on)
            for rule, factor in (("youden", 1.0), ("max_f1", 1.4), ("sensitivity_0.90", 0.6))
        ],
    }


def bins(truth: Values, answer: Values, calibrated: Values) -> list[dict[str, Any]]:
    """Ten equal-width bins, empty ones left out."""
    number = np.minimum((answer * 10).astype(int), 9)
    return [
        {
            "low": n / 10,
            "high": (n + 1) / 10,
            "samples": int((number == n).sum()),
            "predicted": float(answer[number == n].mean()),
            "observed": float(truth[number == n].mean()),
            "calibrated_predicted": float(calibrated[number == n].mean()),
        }
        for n in range(10)
        if (number == n).any()
    ]


def thinned(points: Values) -> list[list[float]]:
    """At most sixty of the points of a curve."""
    chosen = np.unique(np.linspace(0, len(points) - 1, 60).round().astype(int))
    return [[float(x), float(y)] for x, y in points[chosen]]


def operating(rule: str, threshold: float, truth: Values, answer: Values, chosen_on: str) -> dict[str, Any]:
    """An operating point."""
    said, real = answer >= threshold, truth == 1
    hit = int((said & real).sum())
    rates = {
        "sensitivity": hit / max(real.sum(), 1),
        "specificity": (~said & ~real).sum() / max((~real).sum(), 1),
        "ppv": hit / max(said.sum(), 1),
        "npv": (~said & ~real).sum() / max((~said).sum(), 1),
        "f1": 2 * hit / max(said.sum() + real.sum(), 1),
    }
    scores = {name: score(float(rate), 0.02) for name, rate in rates.items()}
    return {"rule": rule, "threshold": float(threshold), "chosen_on": chosen_on, **scores}


def mean(labels: Mapping[str, Any], name: str, reason: str = "no sample of this split has it") -> dict[str, Any]:
    """The macro of one metric."""
    defined = [own[name] for own in labels.values() if own[name]["value"] is not None]
    undefined = {label: reason for label, own in labels.items() if own[name]["value"] is None}
    value = float(np.mean([own["value"] for own in defined])) if defined else None
    grey = float(np.mean([own["intensity"] for own in defined])) if defined else None
    chance = float(np.mean([own["chance"] for own in defined])) if defined else None
    shuffled = span(float(np.mean([own["shuffled"]["mean"] for own in defined]))) if defined else None
    own = score(value, 0.008, shuffled=shuffled, intensity=grey, chance=chance)
    return {**own, "labels": len(defined), "undefined": undefined}


def findings(
    names: Sequence[str], prevalence: Sequence[float], samples: int, seed: int, chosen_on: str
) -> dict[str, Any]:
    """LABEL of every name, of invented answers; better for some than for others."""
    rng = np.random.default_rng(seed)
    found = {}
    for index, (name, share) in enumerate(zip(names, prevalence, strict=True)):
        truth = (rng.random(samples) < share).astype(np.float64)
        logit = (
            np.log(share / (1 - share)) + (0.9 + 0.12 * (index % 7)) * (truth - share) * 1.3 + rng.normal(0, 1, samples)
        )
        found[name] = label(truth, 1 / (1 + np.exp(-logit)), chosen_on)
    return found


def subgroups(names: Sequence[str]) -> list[dict[str, Any]]:
    """Sexes, ages and views; one of them too small for most labels."""
    rng = np.random.default_rng(5)
    found = []
    for by, value, samples in (
        ("sex", "F", 10_714),
        ("sex", "M", 14_882),
        ("age", "< 40", 7_912),
        ("age", "40–59", 11_006),
        ("age", "60–79", 6_411),
        ("age", "≥ 80", 267),
        ("view", "AP", 14_102),
        ("view", "PA", 11_494),
    ):
        auroc, positives = {}, {}
        for name in names:
            positives[name] = int(samples * rng.uniform(0.005, 0.2))
            has = positives[name] >= 10
            value_of = float(0.74 + 0.15 * rng.random())
            auroc[name] = (
                score(value_of, 1 / np.sqrt(positives[name] + 1))
                if has
                else {"value": None, "reason": f"n too small: {positives[name]} positives"}
            )
        macro = (
            score(float(0.86 + 0.015 * rng.normal()), 2 / np.sqrt(samples))
            if samples > 300 or len(names) > 1
            else score(None)
        )
        found.append(
            {"by": by, "value": value, "samples": samples, "positives": positives, "auroc": auroc, "macro": macro}
        )
    return found


def split_of(samples: int, groups: int, resamples: int, **parts: Any) -> dict[str, Any]:
    """One split of metrics.json."""
    nothing: dict[str, Any] = {
        "macro": {},
        "labels": {},
        "classes": {},
        "targets": {},
        "subgroups": [],
        "one_per_group": None,
    }
    return {"samples": samples, "groups": groups, "resamples": resamples, "unit": "sample", **nothing, **parts}


@remembered
def nih_metrics() -> dict[str, Any]:
    """Fourteen findings, a validation side where they are rarer, a label that nobody of validation has."""
    names = list(find("nih-chest-xray").labels)
    splits = {}
    for number, (split, samples, groups, factor) in enumerate(
        (("train", 4000, 1200, 0.6), ("validation", 1500, 420, 0.6), ("test", 25_596, 700, 1.0))
    ):
        prevalence = [share * factor for share in PREVALENCE]
        if split == "validation":
            prevalence[names.index("Hernia")] = 1e-9
        labels = findings(names, prevalence, samples, number, "validation")
        if split == "test":
            labels["Hernia"]["operating"], labels["Hernia"]["operating_reason"] = [], "validation has no positive"
            labels["Hernia"]["calibrated"] = {"reason": "validation has no positive"}
        own = {"labels": labels, "macro": {name: mean(labels, name) for name in ("auroc", "auprc")}}
        parts = subgroups(names) if split == "test" else []
        splits[split] = split_of(samples, groups, 0 if split == "train" else 1000, subgroups=parts, **own)
    return whole(splits, "test", "none")


@remembered
def mammography_metrics(leak: str = "possible") -> dict[str, Any]:
    """Eight classes, one of which (Density4Malignant) train alone has."""
    names = list(find("mammography-density").labels)
    shares = np.array([0.13, 0.21, 0.14, 0.2, 0.11, 0.1, 0.1, 0.01])
    splits = {}
    for number, (split, samples, groups) in enumerate((("train", 1200, 74), ("validation", 480, 32))):
        rng = np.random.default_rng(number)
        here = shares if split == "train" else np.where(np.arange(8) == 7, 0, shares)
        truth = rng.choice(8, samples, p=here / here.sum())
        logits = rng.normal(0, 1, (samples, 8)) + 1.6 * (np.arange(8) == truth[:, None])
        answer = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        said = answer.argmax(axis=1)
        labels = {name: label((truth == n).astype(float), answer[:, n], split) for n, name in enumerate(names)}
        counted = sk.confusion_matrix(truth, said, labels=range(8))
        for n, own in enumerate(labels.values()):
            size = int(counted[n].sum())
            recall = float(counted[n, n] / size) if size else None
            own |= {
                "recall": recall,
                "recall_low": recall and max(0, recall - 0.1),
                "recall_high": recall and min(1, recall + 0.1),
            }
        right = (said == truth).astype(float)
        confidence = answer.max(axis=1)
        balanced = float(np.mean([own["recall"] for own in labels.values() if own["recall"] is not None]))
        classes = {
            "samples": samples,
            "reason": "",
            "accuracy": score(float(right.mean()), 0.06, intensity=0.21),
            "balanced_accuracy": score(balanced, 0.06, shuffled=span(0.125), intensity=0.19, chance=0.125),
            "auroc": mean(labels, "auroc"),
            "confusion": counted.tolist(),
            "ece": score(0.11, 0.02),
            "calibrated": {
                "method": "temperature",
                "temperature": 1.4,
                "fitted_on": "validation",
                "ece": score(0.03, 0.01),
                "brier": score(0.6, 0.02),
            },
            "reliability": bins(right, confidence, confidence**1.2),
            "classes": labels,
        }
        splits[split] = split_of(samples, groups, 1000 * number, classes={"density_and_finding": classes})
    return whole(splits, "validation", leak)


@remembered
def chexchonet_metrics() -> dict[str, Any]:
    """Three labels and three measurements, scored by patient and for one film of each at a time."""
    dataset = find("chexchonet")
    splits = {}
    for number, (split, samples, groups) in enumerate(
        (("train", 3000, 900), ("validation", 900, 300), ("test", 1600, 520))
    ):
        labels = findings(list(dataset.labels), (0.087, 0.061, 0.138), samples, 20 + number, "validation")
        rng = np.random.default_rng(number)
        targets = {}
        for name, centre in zip(dataset.targets, (1.1, 1.05, 4.7), strict=True):
            truth = rng.normal(centre, 0.18 * centre, 300)
            said = centre + 0.45 * (truth - centre) + rng.normal(0, 0.09 * centre, 300)
            targets[name] = {
                "samples": samples - 12,
                "mae_of_the_mean": float(np.abs(truth - truth.mean()).mean()),
                "reason": "",
                "r2": score(float(sk.r2_score(truth, said)), 0.03, shuffled=span(-0.02), intensity=0.08),
                "mae": score(float(np.abs(truth - said).mean()), 0.01, intensity=0.17 * centre),
                "scatter": np.column_stack([truth, said]).tolist(),
            }
        once = {
            name: {
                "mean": own["auroc"]["value"],
                "low": own["auroc"]["value"] - 0.02,
                "high": own["auroc"]["value"] + 0.02,
            }
            for name, own in labels.items()
        }
        splits[split] = split_of(
            samples,
            groups,
            0 if split == "train" else 1000,
            labels=labels,
            macro={name: mean(labels, name) for name in ("auroc", "auprc")},
            targets=targets,
            subgroups=subgroups(list(labels)) if split == "test" else [],
            one_per_group={"draws": 20, "labels": once} if split == "test" else None,
        )
    return whole(splits, "test", "none")


def whole(splits: Mapping[str, Any], held_out: str, leak: str) -> dict[str, Any]:
    """metrics.json of these splits."""
    return {
        "format_version": 2,
        "fitted_on": "train",
        "held_out": held_out,
        "leak": leak,
        "not_fitted": {},
        "not_converged": [],
        "evaluation": {"source": "0123abcd", "resamples": 1000},
        "resamples": 1000,
        "splits": splits,
    }


def environment() -> dict[str, Any]:
    """environment.json of a network."""
    return {
        "architecture": "densenet121",
        "parameters": 6_968_206,
        "initial_weights": {"file": "densenet121-a639ec97.pth", "sha256": "a639ec97" * 8, "layout": "torchvision"},
        "input": {"size": 224, "channels": 1, "normalisation": "grey to RGB, mean .485/.456/.406, sd .229/.224/.225"},
        "precision": "bf16",
        "device": "cuda",
        "hardware": "NVIDIA H100 80GB HBM3",
        "torch": "2.13.0",
        "packages": {"monai": "1.6.1", "lightning": "2.6.6", "numpy": "2.4.6"},
        "threads": 16,
        "epochs_run": 9,
        "best_epoch": 6,
        "stopped": "no better validation loss for 3 epochs",
        "seconds": 4021.0,
        "images_per_second": 2110.0,
        "samples_seen": 701_400,
    }


def curves(epochs: int = 9) -> str:
    """metrics.csv, with a line that has no learning rate."""
    rows = ["epoch,train_loss,validation_loss,validation_auroc,learning_rate"]
    for epoch in range(1, epochs + 1):
        loss = 0.14 + 0.12 / epoch
        rate = "" if epoch == 2 else 1e-4 if epoch < 7 else 1e-5
        rows.append(
            f"{epoch},{loss:.4f},{loss + 0.006 + 0.0012 * max(0, epoch - 6):.4f},{0.82 - 0.12 / epoch:.4f},{rate}"
        )
    return "\n".join(rows) + "\n"


def picture(number: int, width: int = 160, height: int = 160) -> str:
    """A JPEG as data URI: a grey shape with a box."""
    rng = np.random.default_rng(number)
    grey = (90 + 60 * np.hypot(*np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height)))).astype(np.uint8)
    image = Image.fromarray(255 - grey).convert("RGB")
    x, y = rng.integers(10, 80, 2)
    ImageDraw.Draw(image).rectangle((int(x), int(y), int(x) + 50, int(y) + 40), outline=(255, 190, 0), width=2)
    target = io.BytesIO()
    image.save(target, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(target.getvalue()).decode()


def explanations(names: Sequence[str], *, has_boxes: bool) -> dict[str, Any]:
    """explanations.json."""
    kinds = ("worst false positive", "worst false negative", "right") if has_boxes else ("confusion", "right")
    gallery = [
        {
            "sample_id": f"0000{number:04d}_000" if number else NASTY,
            "split": "test",
            "question": names[number % len(names)],
            "truth": ("absent", "present", "present")[number % 3] if has_boxes else names[number % len(names)],
            "said": ("present", "absent", "present")[number % 3] if has_boxes else names[(number * 3) % len(names)],
            "probability": round(0.97 - 0.02 * number, 3),
            "kind": kinds[number % len(kinds)],
            "image": picture(number),
        }
        for number in range(24)
    ]
    maps = [
        {"question": names[n % len(names)], "truth": "present", "probability": 0.91, "image": picture(n, 320)}
        for n in range(9)
    ]
    return {"localisation": localisation() if has_boxes else None, "gallery": gallery, "maps": maps}


def localisation() -> dict[str, Any]:
    """The eight labels with boxes."""
    rng = np.random.default_rng(3)
    labels: dict[str, Any] = {}
    for name in anchors.LOCALISED["nih-chest-xray"].iou["0.1"]:
        share = float(rng.uniform(0.2, 0.8))
        iou = {f"{t:g}": share * (1 - t) ** 2 for t in (0.1, 0.3, 0.5, 0.7)}
        iobb = {f"{t:g}": share * (1.1 - t) for t in (0.1, 0.25, 0.5, 0.75, 0.9)}
        random = {
            "iou": {k: v / 3 for k, v in iou.items()},
            "iobb": {k: v / 3 for k, v in iobb.items()},
            "pointing": 0.21,
        }
        labels[name] = {
            "boxes": int(rng.integers(79, 180)),
            "iou": iou,
            "iobb": iobb,
            "pointing": share,
            "pointing_low": share - 0.08,
            "pointing_high": share + 0.08,
            "false_positives_per_image": {"iobb_0.1": 0.42},
            "random": random,
        }
    mean_of = {key: dict.fromkeys(labels["Mass"][key], 0.4) for key in ("iou", "iobb")}
    return {"labels": labels, "mean": {**mean_of, "pointing": 0.5, "random": {**mean_of, "pointing": 0.22}}}


def export() -> dict[str, Any]:
    """export.json where there is no trtexec."""
    return {
        "onnx": {"path": "export/model.onnx", "bytes": 28_600_000, "max_difference": 9.5e-7, "batch": 7},
        "onnx_fp16": {"path": "export/model_fp16.onnx", "bytes": 14_800_000, "max_difference": 2.6e-4, "batch": 7},
        "tensorrt": {"engine": None, "reason": "trtexec is not on the PATH"},
    }


def manifest(dataset: str) -> dict[str, Any]:
    """As much of a release's manifest as a page tells."""
    return {
        "parameters": {"size": 224, "encoding": "png", "stores": ["parquet"]},
        "splits": {
            "train": {"samples": 4000},
            "validation": {"samples": 1500},
            "test": {"samples": 6000},
            "predict": {"samples": 40},
        },
        "accounting": {
            "members": 11_560,
            "written": 11_540,
            "quarantined": 12,
            "ignored": {"junk": 8},
            "tables": [{"table": "entries", "found": 11_545, "written": 11_540, "quarantined": 5}],
            "reasons": {"undecodable-image": 12, "image_missing": 5},
        },
    }


def run_of(recipe: str | Recipe, lake: Path, name: str) -> Run:
    """A run of a recipe's text, without a file but its folder."""
    made = recipe if isinstance(recipe, Recipe) else parse(recipe.encode(), name=name, where=name)
    identity = {
        "dataset": made.dataset,
        "release": "0123456789abcdef",
        "manifest_sha256": "ab" * 32,
        "code": {"scanmill": "0.1.0", "source": "cd" * 8},
    }
    folder = lake / "runs" / name
    folder.mkdir(parents=True, exist_ok=True)
    return Run(name, folder, {"identity": identity, "digest": "ef" * 32, "files": {}}, made)


def predictions(run: Run, metrics: Mapping[str, Any], shared: int = 0) -> pd.DataFrame:
    """Group and split of every sample, and true classes; ``shared`` groups lie in two splits."""
    frames = []
    for split, scored in metrics["splits"].items():
        numbers = np.arange(scored["samples"])
        groups = np.array([f"{split}-{n % scored['groups']}" for n in numbers], dtype=object)
        groups[:shared] = [f"both-{n}" for n in range(shared)]
        frame = pd.DataFrame({"group_id": groups, "split": split})
        for question, own in scored["classes"].items():
            truth = np.repeat(list(own["classes"]), [part["positives"] for part in own["classes"].values()])
            frame[f"truth.{question}"] = truth
            # The rare class shows one lesion.
            frame.loc[frame[f"truth.{question}"] == "Density4Malignant", "group_id"] = "the-only-one"
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)


def write(run: Run, metrics: Mapping[str, Any], *, shared: int = 0, is_full: bool = True) -> str:
    """Write page and card of a made-up run; ``is_full`` puts everything beside them that a page can tell of."""
    predictions(run, metrics, shared).to_parquet(Path(str(run.folder)) / "predictions.parquet")
    if is_full:
        dataset = find(run.recipe.dataset)
        names = list(dataset.labels)
        put(run, "environment.json", environment())
        put(run, "explanations/explanations.json", explanations(names, has_boxes=dataset.has_boxes))
        put(run, "export/export.json", export())
        (Path(str(run.folder)) / "metrics.csv").write_text(curves())
        release = Path(str(run.folder)).parent.parent / dataset.name / "releases" / run.about["identity"]["release"]
        release.mkdir(parents=True, exist_ok=True)
        (release / "manifest.json").write_text(json.dumps(manifest(dataset.name)))
    run_report.write(run, metrics)
    return Path(str(run.report)).read_text("utf-8")


def put(run: Run, path: str, value: Any) -> None:
    """A JSON file of the run's folder."""
    target = Path(str(run.folder)) / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(readable_json(value))


def comparison() -> dict[str, Any]:
    """What comparing two runs of fourteen findings and a target gives; one finding is not defined."""
    rng = np.random.default_rng(9)
    labels: dict[str, Any] = {}
    for index, name in enumerate(find("nih-chest-xray").labels):
        if name == "Hernia":
            nothing = dict.fromkeys(("a", "b", "difference", "low", "high", "p"))
            empty = {"samples": 900, "positives": 0, "reason": "no sample has it"}
            labels[name] = {**empty, "auroc": nothing, "delong": None, "clustered": None}
            continue
        first = 0.74 + 0.01 * index
        moved = float(rng.normal(0.012, 0.01))
        p = float(min(1.0, 0.2 * rng.random()))
        tested = {"error": 0.005, "z": moved / 0.005, "p": p, "holm": min(1.0, 13 * p)}
        labels[name] = {
            "samples": 900,
            "positives": 40 + index,
            "reason": "",
            "auroc": difference(first, moved, 0.012),
            "delong": tested,
            "clustered": {**tested, "p": 0.00001 if index == 0 else p},
        }
    clustered = {"error": 0.004, "z": 3.0, "p": 0.0027}
    undefined = {"Hernia": "no sample has it"}
    macro = {"metric": "macro AUROC", "of": "13 labels", "labels": 13, "undefined": undefined, "clustered": clustered}
    return {
        "format_version": 1,
        "dataset": "nih-chest-xray",
        "a": {"run": "baseline", "release": "0123456789abcdef", "split": "test", "samples": 900},
        "b": {"run": NASTY, "release": "0123456789abcdef", "split": "test", "samples": 900},
        "samples": 900,
        "groups": 300,
        "unit": "sample",
        "resamples": 1000,
        "notes": ["of two releases, 0123 and 4567, whose held-out samples are the same"],
        "only_a": [],
        "only_b": ["fluid"],
        "labels": labels,
        "classes": {},
        "targets": {
            "cap": {"samples": 300, "reason": "", "r2": difference(0.2, 0.11, 0.05), "mae": difference(30.0, -3.1, 1.2)}
        },
        "macro": {**macro, **difference(0.79, 0.012, 0.008)},
        "verdict": "better",
    }


def difference(first: float, moved: float, width: float) -> dict[str, float]:
    """DIFFERENCE of a comparison."""
    return {"a": first, "b": first + moved, "difference": moved, "low": moved - width, "high": moved + width, "p": 0.02}
