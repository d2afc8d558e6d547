"""The page of a radiomics run, in the look of the other reports, and its model card: both say what its files say.

Numbers come from ``model.json`` and ``radiomics.json``, how features were measured from the schema of
``features.parquet``. The same files give the same bytes.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
from markupsafe import Markup

from tasks.datasets import find
from tasks.files import read_frame, write_bytes
from tasks.learning import run_inputs, run_report
from tasks.learning.radiomics import figures
from tasks.learning.radiomics.variants import RADIOMICS_PREFIX
from tasks.learning.recipe import radiomics_of
from tasks.learning.run_inputs import Inputs
from tasks.learning.run_report import Note
from tasks.learning.runs import Run
from tasks.quality import wording
from tasks.schema import Dataset

PAGE, CARD = "radiomics_report.html.jinja", "radiomics_card.md.jinja"
CLASSIFIERS: Mapping[str, str] = {
    "logistic-regression": "logistic regression",
    "svm": "calibrated SVM",
    "knn": "nearest neighbours",
    "random-forest": "random forest",
    "extra-trees": "extra trees",
    "gradient-boosting": "gradient boosting",
    "gaussian-nb": "Gaussian naive Bayes",
    "mlp": "multilayer perceptron",
}
PRETRAINING: Mapping[str, str] = {"radimagenet": "RadImageNet", "imagenet": "ImageNet"}
STEPS: Mapping[str, str] = {
    "measured": "measured",
    "constant": "not constant",
    "correlated": "not correlated",
    "univariate": "univariate test",
    "components": "with PCA",
    "lasso": "LASSO",
}
FAMILIES: Mapping[str, str] = {
    "firstorder": "first order",
    "shape": "shape",
    "shape2D": "shape",
    "glcm": "GLCM",
    "glrlm": "GLRLM",
    "glszm": "GLSZM",
    "gldm": "GLDM",
    "ngtdm": "NGTDM",
}
METRICS: Mapping[str, str] = {
    "accuracy": "Accuracy",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "f1": "F1",
}
"""Of a whole model; all but accuracy are means over the classes."""
HEAT_EDGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
"""AUROCs above which a cell takes the next colour; what is no better than chance has the first."""
HEAT_KEY: Sequence[tuple[str, int]] = tuple(
    zip(
        ("to 0.5", *(f"{low:g}–{high:g}" for low, high in itertools.pairwise(HEAT_EDGES)), f"above {HEAT_EDGES[-1]:g}"),
        run_report.CONFUSION_COLOURS,
        strict=True,
    )
)
FREQUENT = 0.5
"""Share of bootstraps from which on a feature is called stable."""
SUSPICIOUS = 0.55
"""Mean AUROC with shuffled labels from which on, if no shuffle is below chance, something is said to leak."""
OPEN_ROWS = 12
"""Features of the signature that are shown before the others are folded away."""


@dataclass(frozen=True)
class Feature:
    """The name of a feature, taken apart for a reader."""

    name: str
    """Of the feature itself: ``Contrast``, or the number of a unit of the network."""
    family: str
    """``GLCM``, or ``deep`` and the arm."""
    image: str
    """On what it was measured: ``original``, ``LoG σ 1``, ``wavelet LH``; of deep features nothing."""
    unit: str
    of: str

    @property
    def short(self) -> str:
        """On one line."""
        return " · ".join(part for part in (self.name, self.family, self.image) if part)


@dataclass(frozen=True)
class Measured:
    """How features were measured, as ``features.parquet`` says."""

    engine: str
    settings: Mapping[str, Any]
    arms: Mapping[str, Mapping[str, Any]]
    units: Mapping[str, Mapping[str, str]]
    """Feature to ``unit`` and ``of``."""

    @property
    def random_arms(self) -> list[str]:
        """Arms whose network has no weights but random ones."""
        return [name for name, arm in self.arms.items() if not arm.get("weights")]


HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
"""Where a line may break within a name such as DependenceNonUniformityNormalized."""


def write(run: Run, model: Mapping[str, Any], radiomics: Mapping[str, Any], features_about: pa.Schema) -> None:
    """Write ``report/index.html`` (one file, asks nothing of the network) and ``README.md``.

    ``model`` and ``radiomics`` are the run's JSON files, ``features_about`` is the schema of its ``features.parquet``.
    """
    told = tell(run, model, radiomics, features_about)
    for template, target in ((PAGE, run.report), (CARD, run.folder / "README.md")):
        text = _templates(template).get_template(template).render(told)
        write_bytes(target, text.encode("utf-8", "backslashreplace"))


def tell(run: Run, model: Mapping[str, Any], radiomics: Mapping[str, Any], features_about: pa.Schema) -> dict[str, Any]:
    """All that page and card say, by the names that their templates use."""
    dataset = find(run.recipe.dataset)
    measured = measured_by(features_about)
    primary, held_out = radiomics["primary"], radiomics["held_out"]
    order = _in_order(radiomics)
    sets = {own["name"]: own for own in radiomics["sets"]}
    scored = {name: primary["sets"][name] for name in order if name in primary["sets"]}
    variants = {own["name"]: own for own in model["variants"]}
    own = variants[primary["variant"]]
    shuffled = [value for value in model["controls"]["shuffled"] if value is not None]
    verdict = _verdict(radiomics, shuffled, measured)
    inputs = run_inputs.read(run)
    reasons = _reasons(run)
    titles = {name: _title(sets[name], radiomics) for name in order}
    ranking = _ranking(radiomics, model)
    return {
        "run": run,
        "recipe": run.recipe,
        "dataset": dataset,
        "identity": run.about["identity"],
        "model": model,
        "radiomics": radiomics,
        "measured": measured,
        "sets": {name: sets[name] for name in order},
        "titles": titles,
        "held_out": held_out,
        "scored": scored,
        "primary": primary,
        "classes": list(radiomics["classes"]),
        "verdict": verdict,
        "notes": [*_leaks(shuffled, inputs), *_notes(run, dataset, model, radiomics, measured, reasons)],
        "tiles": list(_tiles(radiomics, own, order)),
        "reasons": reasons,
        "variants": variants,
        "own": own,
        "signature": _signature(own, measured),
        "open_rows": OPEN_ROWS,
        "bootstraps": radiomics_of(run.recipe).bootstraps,
        **_stability(own, measured),
        "tops": _largest(own),
        "funnel": _funnel(model["variants"]),
        "settings": list(_settings(measured.settings)),
        "lasso": figures.lasso(own["path"], own["alpha"], _path_words(own, run)),
        "set_rows": _set_rows(scored, shuffled),
        "sides": inputs.sides,
        "manifest": inputs.manifest,
        "grids": _grids(radiomics, order),
        "ranking": ranking,
        "by_set": {name: sorted(ranking, key=_least_first(name)) for name in order},
        "curves": figures.curves(scored, titles),
        "reliability": figures.reliability(scored, titles),
        "decisions": figures.decisions(scored, titles),
        "arms": radiomics["arms"],
        "arm_figure": figures.arms(radiomics["arms"], order) if radiomics["arms"] else None,
        "fused_sizes": [len(one["selected"]) for one in model["variants"] if one["source"] == "fused"],
        "class_legend": [
            (_plain(name), f"--series-{n % figures.SERIES}") for n, name in enumerate(radiomics["classes"])
        ],
        "shuffled": shuffled,
        "not_shuffled": len(model["controls"]["shuffled"]) - len(shuffled),
        "metric_names": METRICS,
        "steps": STEPS,
        "heat_key": HEAT_KEY,
    }


def measured_by(schema: pa.Schema) -> Measured:
    """What the schema of ``features.parquet`` says, of all features and of each."""
    said = json.loads((schema.metadata or {}).get(b"scanmill", b"{}"))
    units = {
        field.name: {key: field.metadata.get(key.encode(), b"").decode() for key in ("unit", "of")}
        for field in schema
        if field.metadata
    }
    return Measured(said.get("engine", ""), said.get("settings", {}), said.get("arms", {}), units)


def _funnel(variants: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the steps in their order; a variant need not have all: radiomics alone has no components."""
    fullest_first = sorted(variants, key=lambda own: -len(own["steps"]))
    return list(dict.fromkeys(step["step"] for own in fullest_first for step in own["steps"]))


def _settings(given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and value of every setting of the engine, in words."""
    for name, value in given.items():
        if isinstance(value, Mapping):
            inner = [f"{key} ({told})" if (told := _told(own)) else key for key, own in value.items()]
            yield _plain(name), ", ".join(inner)
        else:
            yield _plain(name), _told(value)


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_told(own)}" for key, own in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def feature(name: str, measured: Measured) -> Feature:
    """``radiomics.log-sigma-1-0-mm-3D_glcm_Contrast`` → Contrast, GLCM, LoG σ 1; ``deep.a.0042`` → unit 42 of a."""
    about = measured.units.get(name, {})
    unit, of = about.get("unit", ""), about.get("of", "")
    if name.startswith(RADIOMICS_PREFIX):
        image, _, rest = name.removeprefix(RADIOMICS_PREFIX).partition("_")
        family, _, own = rest.partition("_")
        return Feature(own or name, FAMILIES.get(family, family), _image(image), unit, of)
    kind, _, rest = name.partition(".")
    arm, _, number = rest.rpartition(".")
    word = f"unit {int(number)}" if number.isdigit() else number.replace("pc", "component ")
    return Feature(word or name, f"{kind} {arm}".strip(), "", unit, of)


def _image(name: str) -> str:
    if name.startswith("log-sigma-"):
        sigma = name.removeprefix("log-sigma-").removesuffix("-3D").removesuffix("-mm").replace("-", ".")
        return f"LoG σ {float(sigma):g}" if sigma.replace(".", "", 1).isdigit() else name
    return name.replace("wavelet-", "wavelet ")


def variant_words(name: str) -> str:
    """``fused@imagenet`` → ``fused (imagenet)``; ``radiomics`` → ``radiomics alone``."""
    source, _, arm = name.partition("@")
    return f"{source} ({arm})" if arm else f"{source} alone"


def classifier_words(name: str) -> str:
    """A classifier as a reader calls it."""
    return CLASSIFIERS.get(name, _plain(name))


def _in_order(radiomics: Mapping[str, Any]) -> list[str]:
    """Sets by what they say of new patients: the one held out first, training last."""
    names = [own["name"] for own in radiomics["sets"]]
    return sorted(names, key=lambda name: (name == radiomics["train"], name != radiomics["held_out"]))


def _title(own: Mapping[str, Any], radiomics: Mapping[str, Any]) -> str:
    role = " · headline" if own["name"] == radiomics["held_out"] else ""
    return f"{own['name']}{' · cross-validated' if own['is_cross_validated'] else role}"


def _verdict(radiomics: Mapping[str, Any], shuffled: Sequence[float], measured: Measured) -> dict[str, str]:
    """The headline as ``title``, ``line`` and ``tone``: no better than its interval and its control."""
    primary, held_out = radiomics["primary"], radiomics["held_out"]
    found = primary["sets"].get(held_out, {}).get("macro_auroc") or {"value": None, "low": None, "high": None}
    chosen = (
        f"{_capital(classifier_words(primary['classifier']))} on {variant_words(primary['variant'])}, chosen by "
        f"cross-validation on {radiomics['train']} among {len(radiomics['models'])}."
    )
    if found["value"] is None:
        why = found.get("reason") or "no class has vertebrae on both sides"
        return {"title": f"No macro AUROC on {held_out}", "line": f"{chosen} {_capital(why)}.", "tone": "quiet"}
    title = f"Macro AUROC {run_report.score(found['value'])}"
    if found["low"] is None:
        title += f" on {held_out}"
        return {"title": title, "line": f"{chosen} Too few patients for an interval.", "tone": "quiet"}
    title += f" (95\u00a0% {run_report.score(found['low'])} to {run_report.score(found['high'])}) on {held_out}"
    told, tone = _against_chance(found, shuffled, radiomics["train"])
    if tone == "good" and primary_arm(radiomics) in measured.random_arms:
        tone = "warn"
    return {"title": title, "line": f"{chosen} {told}", "tone": tone}


def _against_chance(found: Mapping[str, Any], shuffled: Sequence[float], train: str) -> tuple[str, str]:
    """Whether the interval is above chance and above the control, in words, and the tone of that."""
    control = ""
    if shuffled:
        mean = sum(shuffled) / len(shuffled)
        control = (
            f" With labels shuffled among patients, selection and all done again, cross-validation on {train} gets "
            f"{mean:.3f} ({min(shuffled):.3f} to {max(shuffled):.3f})."
        )
    if found["high"] < 0.5:
        return f"Worse than chance, 0.5: look for a mix-up of labels or sets.{control}", "bad"
    if found["low"] <= 0.5:
        return f"Not told from chance: the interval holds 0.5.{control}", "warn"
    if shuffled and found["low"] <= max(shuffled):
        return f"Above 0.5, but not told from its control.{control}", "warn"
    return f"Better than chance.{control}", "good"


def primary_arm(radiomics: Mapping[str, Any]) -> str:
    """Whose deep features the primary model saw; nothing of radiomics alone."""
    return _arm_of(str(radiomics["primary"]["variant"]))


def _leaks(shuffled: Sequence[float], inputs: Inputs) -> Iterator[Note]:
    """What would make every number too good."""
    if shuffled and min(shuffled) > 0.5 and sum(shuffled) / len(shuffled) > SUSPICIOUS:
        yield Note(
            "leak",
            f"With shuffled labels cross-validation still gets {min(shuffled):.3f} to {max(shuffled):.3f}: something "
            "tells the answer. Trust no number here before that is found.",
        )
    if inputs.sides is not None and inputs.sides.shared:
        yield Note("leak", f"{inputs.sides.shared:,} of {inputs.sides.groups:,} patients lie in more than one set.")


def _notes(
    run: Run,
    dataset: Dataset,
    model: Mapping[str, Any],
    radiomics: Mapping[str, Any],
    measured: Measured,
    reasons: Mapping[str, int],
) -> Iterator[Note]:
    """What a reader of the numbers has to know, most serious first."""
    for name in measured.random_arms:
        of = PRETRAINING.get(str(measured.arms[name].get("input")), name)
        yield Note(
            "warned",
            f"weights: none. The network of arm {name} has random weights, the same ones every time: what it gets says "
            f"nothing of {of}{', and neither does its difference to the other arm' if len(measured.arms) > 1 else ''}.",
        )
    for place, why in _undefined(radiomics):
        yield Note("warned", f"{place}: {why}.")
    empty = [variant_words(own["name"]) for own in model["variants"] if not own["selected"]]
    if empty:
        yield Note("warned", f"The LASSO chose no feature of {', '.join(empty)}: their classifiers know nothing.")
    for own in model["variants"]:
        if own.get("reason"):
            yield Note("known", f"{_capital(variant_words(own['name']))}: {own['reason']}.")
        for failed in own["classifiers"]:
            if failed["reason"]:
                what = f"{classifier_words(failed['name'])} on {variant_words(own['name'])}"
                yield Note("warned", f"{_capital(what)} could not be fitted: {failed['reason']}.")
    yield from _not_scored(radiomics, reasons)
    yield Note(
        "known",
        f"Figures of {radiomics['train']} are cross-validated by patient, with selection and tuning inside the folds. "
        f"The model was chosen by the best of {len(radiomics['models'])} of them, so its own flatters a little.",
    )
    several = [own for own in radiomics["sets"] if own["samples"] > own["patients"]]
    if several:
        yield Note(
            "known",
            "Some patients have several vertebrae: intervals are of patients drawn anew, and DeLong over rows is too "
            "sure of itself; the p by patient is not.",
        )
    yield Note("known", f"One fit, seed {run.recipe.seed}: intervals are of other patients, not of other trainings.")
    yield from (Note("leak" if k.is_leak else "known", f"Known of the data: {k.statement}") for k in dataset.known)


def _not_scored(radiomics: Mapping[str, Any], reasons: Mapping[str, int]) -> Iterator[Note]:
    """Vertebrae and sets that are in no number."""
    lost = sum(own["without_features"] for own in radiomics["sets"])
    if lost:
        why = "; ".join(f"{text} ({count:,})" for text, count in reasons.items())
        told = f"{lost:,} of {sum(own['samples'] for own in radiomics['sets']):,} vertebrae could not be measured"
        yield Note("warned", f"{told}, and are in no number{f': {why}' if why else ''}.")
    unknown = sum(own["without_class"] for own in radiomics["sets"])
    if unknown:
        yield Note("known", f"Measured, but of unknown class and so in no number: {unknown:,}.")
    for own in radiomics["sets"]:
        if own["reason"]:
            yield Note("warned", f"{own['name']} is not scored: {own['reason']}.")


def _undefined(radiomics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(class and set, why) of every AUROC of the primary model that is not defined."""
    for name, own in radiomics["primary"]["sets"].items():
        for key, part in own["classes"].items() if not own["reason"] else ():
            if part["auroc"]["value"] is None:
                yield f"{_plain(key)} in {name}", undefined_words(part)


def undefined_words(part: Mapping[str, Any]) -> str:
    """Why a class has no AUROC."""
    return part.get("reason") or part["auroc"].get("reason") or "not defined"


def _reasons(run: Run) -> dict[str, int]:
    """Why samples have no features, and how many each, the commonest first; empty where the table is not there."""
    try:
        frame = read_frame(run.folder / "features.parquet", ["reason"])
    except (FileNotFoundError, NotADirectoryError):
        return {}
    counted = Counter(str(reason) for reason in frame["reason"] if reason)
    return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))


def _tiles(
    radiomics: Mapping[str, Any], own: Mapping[str, Any], order: Sequence[str]
) -> Iterator[tuple[str, str, str]]:
    """(number, what it counts, note)."""
    for name in order:
        found = next(part for part in radiomics["sets"] if part["name"] == name)
        yield wording.count(found["samples"]), name, f"vertebrae of {wording.plural(found['patients'], 'patient')}"
    measured = own["steps"][0]["features"] if own["steps"] else None
    yield wording.count(len(own["selected"])), "in the signature", f"of {wording.count(measured)} features"
    models = len(radiomics["models"])
    yield wording.count(models), "models", f"{wording.count(radiomics['resamples'])} resamples of patients"


def _signature(own: Mapping[str, Any], measured: Measured) -> list[dict[str, Any]]:
    return [{**entry, "words": feature(entry["feature"], measured)} for entry in own["selected"]]


def _stability(own: Mapping[str, Any], measured: Measured) -> dict[str, Any]:
    """How often each feature was chosen, the commonest first, and how many of the signature were chosen often."""
    shown = [
        {**entry, "words": feature(entry["feature"], measured)} for entry in own["frequencies"] if entry["frequency"]
    ]
    often = [entry for entry in shown if entry["frequency"] >= FREQUENT]
    return {
        "frequencies": shown,
        "stable": sum(entry["frequency"] >= FREQUENT for entry in own["selected"]),
        "missed": sum(not entry["is_selected"] for entry in often),
    }


def _largest(own: Mapping[str, Any]) -> float:
    """Of all coefficients, without their sign: where the bars of the page end."""
    found = [abs(value) for entry in own["selected"] for value in entry["coefficients"]]
    return max(found, default=0.0) or 1.0


def _path_words(own: Mapping[str, Any], run: Run) -> str:
    folds = radiomics_of(run.recipe).folds
    why = own.get("reason") or "the largest within one standard error of the least error"
    chosen = f" Dashed: the chosen α, {own['alpha']:.3g} ({why})." if own["alpha"] is not None else ""
    return (
        f"{_capital(variant_words(own['name']))}: squared error over {folds} folds by patient ± standard error.{chosen}"
    )


def _set_rows(scored: Mapping[str, Any], shuffled: Sequence[float]) -> list[tuple[str, dict[str, Any]]]:
    """(set, macro AUROC of the primary model beside the control) as the bars of the other reports want them."""
    span = {"mean": sum(shuffled) / len(shuffled), "least": min(shuffled), "most": max(shuffled)} if shuffled else None
    return [
        (name, {"reason": "", **own["macro_auroc"], "shuffled": span, "intensity": None})
        for name, own in scored.items()
    ]


def _grids(radiomics: Mapping[str, Any], order: Sequence[str]) -> list[dict[str, Any]]:
    """Per set a grid of macro AUROCs, classifiers × variants; the best of each is marked."""
    variants = list(dict.fromkeys(own["variant"] for own in radiomics["models"]))
    classifiers = list(dict.fromkeys(own["classifier"] for own in radiomics["models"]))
    cells = {(own["variant"], own["classifier"]): own for own in radiomics["models"]}
    best = _best(radiomics, order)
    return [
        {
            "set": name,
            "variants": variants,
            "arms": [(arm, len(list(own))) for arm, own in itertools.groupby(variants, _arm_of)],
            "rows": [
                {
                    "classifier": classifier,
                    "cells": [_cell(cells.get((variant, classifier)), name, best[name]) for variant in variants],
                }
                for classifier in classifiers
            ],
        }
        for name in order
    ]


def _arm_of(variant: str) -> str:
    return variant.partition("@")[2]


def _cell(own: Mapping[str, Any] | None, name: str, best: float | None) -> dict[str, Any]:
    found = own["sets"].get(name, {}).get("macro_auroc") if own else None
    score = found or {"value": None, "low": None, "high": None}
    is_best = best is not None and score["value"] == best
    return {"score": score, "is_primary": bool(own and own["is_primary"]), "is_best": is_best}


def _best(radiomics: Mapping[str, Any], order: Sequence[str]) -> dict[str, float | None]:
    """Set to the highest macro AUROC that any model has in it."""
    found = {
        name: [
            own["sets"][name]["macro_auroc"]["value"]
            for own in radiomics["models"]
            if name in own["sets"] and own["sets"][name]["macro_auroc"]["value"] is not None
        ]
        for name in order
    }
    return {name: max(values, default=None) for name, values in found.items()}


def _ranking(radiomics: Mapping[str, Any], model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every model with what cross-validation said of it, the best of that first: by this the primary was chosen."""
    fitted = {(own["name"], part["name"]): part for own in model["variants"] for part in own["classifiers"]}
    rows = [{**own, "fitted": fitted.get((own["variant"], own["classifier"]), {})} for own in radiomics["models"]]
    return sorted(rows, key=lambda row: (not row["is_primary"], -_or_less(row["fitted"].get("auroc"))))


def _least_first(name: str) -> Callable[[Mapping[str, Any]], float]:
    """Orders models by their macro AUROC in a set, the highest first."""
    return lambda row: -_or_less(row["sets"][name]["macro_auroc"]["value"])


def _or_less(value: float | None) -> float:
    return -math.inf if value is None else value


def _heat(value: float | None) -> int:
    """Which of the page's colours an AUROC takes; the sixth is left out, text of neither colour is read well on it."""
    colours = run_report.CONFUSION_COLOURS
    return colours[sum(value > edge for edge in HEAT_EDGES)] if value is not None else 0


def _log_share(part: int, whole: int) -> float:
    """Length of a bar on a logarithmic axis, as a share of the longest; nothing for nothing."""
    return math.log1p(part) / math.log1p(whole) if whole else 0.0


def _plain(name: str) -> str:
    return str(name).replace("_", " ")


def _capital(text: str) -> str:
    """The same with a capital first and nothing else changed."""
    return text[:1].upper() + text[1:]


def _templates(name: str) -> jinja2.Environment:
    """Those of this folder, of the other reports of runs and of the data-quality report."""
    here = Path(__file__).parent
    found = run_report.templates(name)
    own = jinja2.FileSystemLoader(here)
    found.loader = jinja2.ChoiceLoader([own, found.loader] if found.loader else [own])
    style = Markup((here / "radiomics_page.css").read_text(encoding="utf-8"))
    found.globals.update(
        radiomics_style=style,
        heat_of=_heat,
        log_share=_log_share,
        pretraining=lambda given, arm: PRETRAINING.get(given, arm),
        undefined_words=undefined_words,
    )
    found.filters.update(
        breakable=lambda name: Markup("<wbr>").join(HUMP.split(name)),
        variant=variant_words,
        classifier=classifier_words,
        few=lambda value: "–" if value is None else f"{value:.3g}".replace("-", "−"),
        two=lambda value: "–" if value is None else f"{value:.2f}".replace("-", "−"),
        p=_p,
        signed=lambda value: "–" if value is None else f"{round(value, 3) + 0.0:+.3f}".replace("-", "−"),
    )
    return found


def _p(value: float | None) -> str:
    """A probability of chance, as short as it can be told."""
    if value is None:
        return "–"
    return "< .0001" if value < 0.0001 else f"{value:.4f}" if value < 0.1 else f"{value:.2f}"
