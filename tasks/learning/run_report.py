"""The report of a run, in the look of the data-quality report, and its model card: both say what metrics.json says.

Whatever else lies in the run's folder (learning curves, environment, explanations, exports) is told as well; what does
not is said not to be there. The same inputs give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from tasks import reasons
from tasks.datasets import find
from tasks.files import write_bytes
from tasks.learning import anchors, run_figures, run_inputs
from tasks.learning.headline import CONTROL, headline, leak_of, words
from tasks.learning.run_inputs import Inputs, Sides
from tasks.learning.runs import Run
from tasks.learning.whole_metrics import whole
from tasks.quality import wording
from tasks.quality.page import environment
from tasks.schema import Dataset

KINDS: Mapping[str, str] = {
    "intensity-baseline": "Linear models on the grey levels of each image (histogram, mean, spread, percentiles, "
    "entropy): no anatomy, no network. It is the floor that every deep model has to beat, by more than its interval.",
    "network": "A convolutional network with one head per question, trained end to end on the images of one release.",
}
SHUFFLED = (
    " Its labels were shuffled among groups before training: it is a control, and has to be at chance unless something "
    "leaks."
)
ARCHITECTURES: Mapping[str, str] = {
    "densenet121": "DenseNet-121",
    "efficientnet-b0": "EfficientNet-B0",
    "resnet50": "ResNet-50",
    "densenet-small": "a small DenseNet",
}
RULES: Mapping[str, str] = {
    "youden": "Youden (sensitivity + specificity at its largest)",
    "max_f1": "largest F1",
    "sensitivity_0.90": "sensitivity of at least .90",
}
PICTURE_BYTES = 2_000_000
"""Of all pictures on the page together, as data URIs; what is beyond is counted and left out."""
GALLERY: Mapping[str, str] = {
    "worst false positive": "Worst false positives",
    "worst false negative": "Worst false negatives",
    "confusion": "Confusions",
    "too high": "Said too high",
    "too low": "Said too low",
    "right": "Right, and sure of it",
}
SHIFT = 1.5
"""From which ratio of prevalences between two splits on a reader is warned."""
LARGE_SHIFT = 0.02
"""And from which difference on: a rare finding's ratio is chance."""
CONFUSION_EDGES = (0.0, 0.05, 0.1, 0.2, 0.4, 0.6)
"""Shares of a row above which a cell of the confusion matrix takes the next colour."""
CONFUSION_COLOURS = (0, 1, 2, 3, 4, 6, 7)
"""Of the heat map's eight: on the fifth, text of neither colour can be read well."""
EXPORTS: Mapping[str, str] = {"onnx": "ONNX", "onnx_fp16": "ONNX, half precision", "tensorrt": "TensorRT"}


@dataclass(frozen=True)
class Note:
    """One thing that a reader of the numbers has to know."""

    kind: str
    """leak, warned, known or terms."""
    text: str


def write(run: Run, metrics: Mapping[str, Any]) -> None:
    """Write ``report/index.html`` (one file, asks nothing of the network) and ``README.md``.

    Raises :class:`tasks.schema.DataRefused` where a file of the run's folder that is shown cannot be read.
    """
    told = tell(run, whole(metrics), run_inputs.read(run))
    for template, target in (("run_report.html.jinja", run.report), ("model_card.md.jinja", run.folder / "README.md")):
        text = templates(template).get_template(template).render(told)
        write_bytes(target, text.encode("utf-8", "backslashreplace"))


def tell(run: Run, metrics: Mapping[str, Any], inputs: Inputs) -> dict[str, Any]:
    """All that page and card say, by the names that their templates use."""
    recipe, dataset = run.recipe, find(run.recipe.dataset)
    leak = metrics["leak"] or leak_of(recipe)
    splits = _in_order(metrics)
    held_out = metrics["splits"].get(metrics["held_out"])
    found = headline(metrics)
    published, localised = anchors.of(dataset.name, (held_out or {}).get("samples", 0))
    pictures = _pictures(inputs.explanations, dataset)
    best = (inputs.environment or {}).get("best_epoch")
    return {
        "run": run,
        "recipe": recipe,
        "about": KINDS.get(recipe.kind, recipe.kind) + (SHUFFLED if recipe.shuffle_labels else ""),
        "architecture": _architecture(run, inputs),
        "dataset": dataset,
        "identity": run.about["identity"],
        "metrics": metrics,
        "splits": splits,
        "scored": held_out,
        "found": found,
        "leak": leak,
        "verdict": _verdict(found, held_out, leak, is_network=recipe.kind == "network"),
        "control": CONTROL[recipe.kind == "network"],
        "notes": list(_notes(run, dataset, metrics, inputs, leak)),
        "tiles": list(_tiles(metrics, dataset, inputs, run)),
        "inputs": inputs,
        "environment": inputs.environment,
        "flow": _flow(inputs.manifest, metrics, dataset),
        "balance": _balance(metrics),
        "recalls": {
            split: {
                question: {name: _why_no_recall(name, own, split, metrics, question, inputs.sides) for name in own}
                for question, own in ((q, c["classes"]) for q, c in scored["classes"].items())
            }
            for split, scored in splits.items()
        },
        "learning": run_figures.learning_curves(inputs.epochs, best),
        "curves": run_figures.curves(_all_labels(held_out)),
        "reliability": run_figures.reliability(_calibrated_questions(held_out)),
        "calibration": _calibrated_questions(held_out),
        "operating": _operating(_all_labels(held_out)),
        "subgroup_figure": _subgroup_figure(held_out, dataset),
        "target_figures": _target_figures(held_out, dataset),
        "published": published,
        "none_trusted": anchors.NONE_TRUSTED.get(dataset.name, ""),
        "localisation": inputs.explanations.get("localisation"),
        "localised": localised,
        "pictures": pictures,
        "exports": _exports(inputs.export),
        "rules": RULES,
        "noun": _noun(dataset),
    }


def _noun(dataset: Dataset) -> str:
    """What a group is: what must not lie on two sides."""
    return "patient" if dataset.group == "patient" else "lesion"


def _in_order(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Splits by what they say of new patients: the one held out first, the one fitted on last."""
    last = metrics["fitted_on"]
    names = sorted(metrics["splits"], key=lambda name: (name == last, name != metrics["held_out"]))
    return {name: metrics["splits"][name] for name in names}


def _architecture(run: Run, inputs: Inputs) -> str:
    network = run.recipe.network
    name = (inputs.environment or {}).get("architecture") or (network.architecture if network else "")
    return ARCHITECTURES.get(str(name), str(name)) or "logistic and ridge regression on grey levels"


def _verdict(
    found: Mapping[str, Any], held_out: Mapping[str, Any] | None, leak: str, *, is_network: bool
) -> dict[str, str]:
    """The headline as ``title``, ``line`` and ``tone``; where the split leaks, no number is good news."""
    said = words(found, leak="none", is_network=is_network)
    told = {key: text.replace("95 %", "95\u00a0%") for key, text in said.items()}
    grey = _grey(held_out)
    if grey is not None and found["value"] is not None and found["low"] is not None:
        beats = found["low"] > grey
        told["line"] += f" Grey levels alone get {grey:.3f}: {'it is above that' if beats else 'not told from that'}."
        if not beats and told["tone"] == "good":
            told["tone"] = "warn"
    if leak == "certain":
        told["tone"] = "bad"
        told["line"] += " The split leaks, so this number says nothing of new patients."
    elif leak == "possible":
        told["tone"] = "warn" if told["tone"] == "good" else told["tone"]
        told["line"] += " Splits may share patients, so new patients can be expected to score lower."
    return told


def _grey(held_out: Mapping[str, Any] | None) -> float | None:
    """What the intensity baseline gets in the place of the headline."""
    if held_out is None:
        return None
    if held_out["labels"]:
        found = held_out["macro"]["auroc"] or {}
    elif held_out["classes"]:
        found = next(iter(held_out["classes"].values()))["auroc"]
    else:
        found = next(iter(held_out["targets"].values()))["r2"] if held_out["targets"] else {}
    value: float | None = found.get("intensity")
    return value


def _tiles(metrics: Mapping[str, Any], dataset: Dataset, inputs: Inputs, run: Run) -> Iterator[tuple[str, str, str]]:
    """(number, what it counts, note), at most six."""
    noun = _noun(dataset)
    for split, scored in _in_order(metrics).items():
        fitted = ", fitted on these" if split == metrics["fitted_on"] else ""
        yield wording.count(scored["samples"]), split, f"{wording.plural(scored['groups'], noun)}{fitted}"
    missing = len(metrics["not_fitted"])
    asked = len(run.recipe.questions())
    yield wording.count(asked), "question" if asked == 1 else "questions", f"{missing} not fitted" if missing else ""
    environment = inputs.environment
    if environment and environment["parameters"]:
        yield _short_count(environment["parameters"]), "parameters", _architecture(run, inputs)
    if environment and environment["seconds"]:
        rounds = environment["epochs_run"]
        yield duration(environment["seconds"]), "of training", f"{rounds} epochs" if rounds else ""
    else:
        most = max((scored["resamples"] for scored in metrics["splits"].values()), default=0)
        yield wording.count(most), "resamples", f"of whole {noun}s, for 95 % intervals"


def _short_count(number: float) -> str:
    return f"{number / 1e6:.3g} M" if number >= 1e6 else wording.count(number)


def duration(seconds: float) -> str:
    """4000 → ``67 min``: in seconds below two minutes, in hours from two hours on."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _notes(run: Run, dataset: Dataset, metrics: Mapping[str, Any], inputs: Inputs, leak: str) -> Iterator[Note]:
    """What a reader of the numbers has to know, most serious first."""
    splits, noun = run.recipe.splits, _noun(dataset)
    if leak == "certain":
        yield Note(
            "leak",
            f"LEAKY: {splits.train} and {metrics['held_out']} were dealt image by image, as publishers of such splits "
            f"do. Pictures of one {noun} lie on both sides: the model is tested on what it has seen, and memory passes "
            "for skill.",
        )
    if inputs.sides is not None and inputs.sides.shared:
        yield Note(
            "leak",
            f"{inputs.sides.shared:,} of {wording.plural(inputs.sides.groups, noun)} lie in more than one split.",
        )
    if leak == "possible":
        yield Note(
            "leak",
            "No patient is published. Splits keep together what shows one picture, also turned, mirrored or "
            "recontrasted, and nothing more: two pictures of one patient can lie in two splits, and a model is then "
            "tested on patients that it has seen. Shuffled labels do not show this leak: pictures are shuffled apart.",
        )
    if splits.test is None and leak != "certain":
        yield Note(
            "warned",
            f"There is no labelled test split: {metrics['held_out']} is all there is to score, and whoever chooses "
            f"between models by it flatters the winner.",
        )
    if run.recipe.shuffle_labels:
        yield Note("warned", "Labels were shuffled before training: this run is a control, no model to use.")
    yield from (Note("warned", f"{name} could not be fitted: {why}.") for name, why in metrics["not_fitted"].items())
    if metrics["not_converged"]:
        names = ", ".join(metrics["not_converged"])
        yield Note("warned", f"Not converged, so not quite what was asked for: {names}.")
    yield from _one_sided(metrics, inputs)
    below = _not_above_grey(metrics["splits"].get(metrics["held_out"]))
    if below:
        yield Note("warned", f"Not above what grey levels alone get: {', '.join(below)}.")
    shifted = _shifted(metrics, splits.validation)
    if shifted:
        yield Note(
            "warned",
            f"How common a finding is differs between {splits.validation} and {metrics['held_out']} ({shifted}): "
            "thresholds and calibration, which come from the one, do not hold as they are on the other.",
        )
    options = run.recipe.training or run.recipe.options
    if options.class_weight:
        yield Note(
            "warned", "Classes were weighted as equally common: probabilities are no frequencies before calibration."
        )
    if metrics["splits"].get(metrics["held_out"], {}).get("samples"):
        yield Note(
            "known", f"One training, seed {run.recipe.seed}: intervals are of other patients, not other trainings."
        )
    yield from (Note("leak", f"Known of the data: {known.statement}") for known in dataset.known if known.is_leak)
    yield from (Note("known", f"Known of the data: {known.statement}") for known in dataset.known if not known.is_leak)
    if dataset.is_restricted:
        yield Note(
            "terms", "The terms of the dataset forbid showing single rows: no picture, no name, no example here."
        )


def _one_sided(metrics: Mapping[str, Any], inputs: Inputs) -> Iterator[Note]:
    """Classes that cannot be judged, because one side has none."""
    split = metrics["held_out"]
    for question, own in (metrics["splits"].get(split) or {"classes": {}})["classes"].items():
        for name in own["classes"]:
            why = _why_no_recall(name, own["classes"], split, metrics, question, inputs.sides)
            if why:
                yield Note("warned", f"{name.replace('_', ' ')}: recall {why}.")


def _why_no_recall(
    name: str, classes: Mapping[str, Any], split: str, metrics: Mapping[str, Any], question: str, sides: Sides | None
) -> str:
    """``n/a: …`` where a class is missing in this split, or in the one that was fitted on; else nothing."""
    counts = {
        other: scored["classes"][question]["classes"][name]["positives"]
        for other, scored in metrics["splits"].items()
        if question in scored["classes"]
    }
    here, fitted = counts.get(split, 0), counts.get(metrics["fitted_on"], 0)
    if here and fitted:
        return ""
    if not any(counts.values()):
        return "n/a: no split has a sample of it"
    elsewhere = " and ".join(other for other, samples in counts.items() if samples)
    groups = None if sides is None else sides.of_classes.get(question, {}).get(name)
    alone = groups is not None and sum(groups.values()) == 1
    if not here:
        return f"n/a: its only lesion is in {elsewhere}" if alone else f"n/a: all of it is in {elsewhere}"
    return (
        f"n/a: its only lesion is in {elsewhere}, none to learn from"
        if alone
        else f"n/a: {metrics['fitted_on']} has none"
    )


def _not_above_grey(scored: Mapping[str, Any] | None) -> list[str]:
    """Labels and classes whose AUROC is no higher than that of the intensity baseline."""
    found = {name: own["auroc"] for name, own in _all_labels(scored).items()}
    return [
        name.replace("_", " ")
        for name, own in found.items()
        if own["value"] is not None and own["intensity"] is not None and own["value"] <= own["intensity"]
    ]


def _shifted(metrics: Mapping[str, Any], validation: str | None) -> str:
    """Labels whose prevalence differs most between validation and the split held out; nothing where none does."""
    held_out = metrics["held_out"]
    if validation is None or validation == held_out or not {validation, held_out} <= set(metrics["splits"]):
        return ""
    before, after = (_all_labels(metrics["splits"][name]) for name in (validation, held_out))
    found = []
    for name in before.keys() & after.keys():
        one, two = before[name]["prevalence"], after[name]["prevalence"]
        if one and two and max(one / two, two / one) >= SHIFT and abs(one - two) >= LARGE_SHIFT:
            found.append((-max(one / two, two / one), f"{name.replace('_', ' ')} {one:.1%} and {two:.1%}"))
    return ", ".join(text for _, text in sorted(found)[:3]).replace("%", " %")


def _flow(manifest: Mapping[str, Any] | None, metrics: Mapping[str, Any], dataset: Dataset) -> list[dict[str, Any]]:
    """What became of everything that was found, step by step: ``number what detail is_less``."""
    if manifest is None or not manifest.get("accounting"):
        return []
    accounting = manifest["accounting"]
    ignored = sum(accounting["ignored"].values())
    why = sorted(accounting["reasons"].items(), key=lambda item: (-item[1], item[0]))
    said = [
        f"{code} {rows:,} ({reasons.REASONS[code].rstrip('.')})" if code in reasons.REASONS else f"{code} {rows:,}"
        for code, rows in why
    ]
    written = sum(split["samples"] for split in manifest["splits"].values())
    used = set(metrics["splits"])
    unused = {name: split["samples"] for name, split in manifest["splits"].items() if name not in used}
    tables = sum(table["quarantined"] for table in accounting["tables"])
    steps = [
        (accounting["members"], "archive members found", "", False),
        (ignored, "hold no data, by rule of the dataset", "", True),
        (accounting["quarantined"], "images refused", "; ".join(said), True),
        (tables, "metadata rows refused", "the same reasons" if tables and said else "", True),
        (written, "samples in the release", "with image and mask" if dataset.has_masks else "", False),
        (sum(unused.values()), "in splits that this recipe does not use", ", ".join(unused), True),
        *(
            (scored["samples"], f"scored in {name}", _part_in(name, metrics), False)
            for name, scored in metrics["splits"].items()
        ),
    ]
    return [
        {"number": number, "what": what, "detail": detail, "is_less": is_less}
        for number, what, detail, is_less in steps
        if number or not is_less
    ]


def _part_in(split: str, metrics: Mapping[str, Any]) -> str:
    if split == metrics["fitted_on"]:
        return "fitted on"
    return "held out" if split == metrics["held_out"] else "chose the epoch, thresholds and calibration"


def _balance(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per label and class: name, question, and per split positives and samples."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for split, scored in metrics["splits"].items():
        for name, own in scored["labels"].items():
            rows.setdefault(("", name), {})[split] = own
        for question, classes in scored["classes"].items():
            for name, own in classes["classes"].items():
                rows.setdefault((question, name), {})[split] = own
    return [{"question": question, "name": name, "splits": found} for (question, name), found in rows.items()]


def _all_labels(scored: Mapping[str, Any] | None) -> dict[str, Any]:
    """Labels, and the classes one against the rest, of one split."""
    if scored is None:
        return {}
    classes = {name: own for question in scored["classes"].values() for name, own in question["classes"].items()}
    return {**scored["labels"], **classes}


def _calibrated_questions(scored: Mapping[str, Any] | None) -> dict[str, Any]:
    """Questions with a calibration error or bins: every label; of classes, the one that is said."""
    if scored is None:
        return {}
    found = {**scored["labels"], **scored["classes"]}
    return {name: own for name, own in found.items() if own["reliability"] or own["ece"]["value"] is not None}


def _operating(labels: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Rule to label to its operating point."""
    found: dict[str, dict[str, Any]] = {}
    for rule in RULES:
        of_rule = {name: point for name, own in labels.items() for point in own["operating"] if point["rule"] == rule}
        if of_rule:
            found[rule] = of_rule
    return found


def _subgroup_figure(scored: Mapping[str, Any] | None, dataset: Dataset) -> Any:
    if scored is None or not scored["subgroups"]:
        return None
    macro = scored["macro"]["auroc"]
    if macro is None and scored["classes"]:
        macro = next(iter(scored["classes"].values()))["auroc"]
    unit = f"{_noun(dataset)}s" if scored["unit"] == "group" else "images"
    return run_figures.subgroups(scored["subgroups"], macro or {}, unit)


def _target_figures(scored: Mapping[str, Any] | None, dataset: Dataset) -> list[Any]:
    if scored is None:
        return []
    return run_figures.targets(scored["targets"], dataset.targets, is_restricted=dataset.is_restricted)


def _pictures(explanations: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """Maps and galleries by kind, until the page is full; nothing where terms forbid pictures."""
    if dataset.is_restricted:
        return {"maps": [], "galleries": {}, "left_out": 0}
    left, left_out = PICTURE_BYTES, 0
    kept: dict[str, list[dict[str, Any]]] = {"maps": [], "gallery": []}
    # In turn, so that the one does not crowd out the other.
    ordered = _in_turn(explanations.get("maps") or [], explanations.get("gallery") or [])
    for place, entry in ordered:
        picture = str(entry.get("image") or "")
        if not picture.startswith("data:image/"):
            continue
        if len(picture) > left:
            left_out += 1
            continue
        left -= len(picture)
        kept[place].append({**_ENTRY, **entry})
    galleries = {
        title: [entry for entry in kept["gallery"] if entry["kind"] == kind] for kind, title in GALLERY.items()
    }
    return {
        "maps": kept["maps"],
        "galleries": {title: entries for title, entries in galleries.items() if entries},
        "left_out": left_out,
    }


_ENTRY: Mapping[str, Any] = dict.fromkeys(("sample_id", "split", "question", "truth", "said", "probability", "kind"))


def _in_turn(maps: Sequence[dict[str, Any]], gallery: Sequence[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number in range(max(len(maps), len(gallery))):
        if number < len(maps):
            yield "maps", maps[number]
        if number < len(gallery):
            yield "gallery", gallery[number]


def _exports(export: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per file of another form: ``name path bytes max_difference batches reason``."""
    blank = {**dict.fromkeys(("path", "bytes", "max_difference")), "reason": ""}
    rows = [
        {**blank, **entry, "name": title, "path": entry.get("path") or entry.get("engine"), "batches": _batches(entry)}
        for key, title in EXPORTS.items()
        if isinstance(entry := export.get(key), Mapping)
    ]
    return [{**row, "reason": row["reason"] or ""} for row in rows]


def _batches(entry: Mapping[str, Any]) -> str:
    """The batch sizes at which a file's answers were held to torch's."""
    batches = entry.get("checked_batches") or [entry.get("batch")]
    return ", ".join(str(batch) for batch in batches if batch is not None)


def templates(name: str) -> jinja2.Environment:
    """Those of this folder and of the data-quality report, whose style sheet and words they share."""
    here = Path(__file__).parent
    found = environment()
    own = jinja2.FileSystemLoader(here)
    found.loader = jinja2.ChoiceLoader([own, found.loader] if found.loader else [own])
    found.autoescape = name.endswith(".html.jinja")
    own_style = Markup((here / "run_page.css").read_text(encoding="utf-8"))
    found.globals.update(heat_step=_heat_step, own_style=own_style)
    found.filters.update(
        score=score,
        few=lambda value: "–" if value is None else f"{value:.3g}",
        duration=duration,
        plain=lambda name: str(name).replace("_", " "),
    )
    return found


def _heat_step(share: float) -> int:
    return CONFUSION_COLOURS[sum(share > edge for edge in CONFUSION_EDGES)]


def score(value: float | None) -> str:
    """To three decimals, with a real minus; a dash for None."""
    return "–" if value is None else f"{round(value, 3) + 0.0:.3f}".replace("-", "−")
