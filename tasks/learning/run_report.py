"""The report of a run, in the look of the data-quality report, and its model card: both say what metrics.json says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jinja2

from tasks.datasets import find
from tasks.files import write_bytes
from tasks.learning.headline import headline, is_leaky, words
from tasks.learning.runs import Run
from tasks.quality.page import environment
from tasks.quality.plots import heat_step
from tasks.schema import Dataset

KINDS: Mapping[str, str] = {
    "intensity-baseline": "Linear models on the grey levels of each image (histogram, mean, spread, percentiles, "
    "entropy): no anatomy, no network. It is the floor that every deep model has to beat, by more than its interval.",
}


def write(run: Run, metrics: Mapping[str, Any]) -> None:
    """Write ``report/index.html`` (one file, asks nothing of the network) and ``README.md``."""
    found = headline(metrics)
    dataset = find(run.recipe.dataset)
    shared = {
        "run": run,
        "recipe": run.recipe,
        "about": KINDS[run.recipe.kind],
        "dataset": dataset,
        "identity": run.about["identity"],
        "metrics": metrics,
        "splits": _in_order(metrics),
        "found": found,
        "words": words(found, is_leaky=is_leaky(run.recipe)),
        "caveats": list(_caveats(run, dataset, metrics)),
    }
    for template, target in (("run_report.html.jinja", run.report), ("model_card.md.jinja", run.folder / "README.md")):
        text = _templates(template).get_template(template).render(shared)
        write_bytes(target, text.encode("utf-8", "backslashreplace"))


def _in_order(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Splits by what they say of new patients: the one held out first, the one fitted on last."""
    last = metrics["fitted_on"]
    names = sorted(metrics["splits"], key=lambda name: (name == last, name != metrics["held_out"]))
    return {name: metrics["splits"][name] for name in names}


def _caveats(run: Run, dataset: Dataset, metrics: Mapping[str, Any]) -> Iterator[str]:
    """What a reader of the numbers has to know."""
    splits = run.recipe.splits
    if splits.test is None:
        yield (
            f"There is no labelled test split: {metrics['held_out']} is all there is to score, and whoever chooses "
            f"between models by it flatters the winner."
        )
    if is_leaky(run.recipe):
        yield (
            "No patient is published. Splits keep together what shows one picture, also turned, mirrored or "
            "recontrasted, and nothing more: two pictures of one patient can lie in two splits, and a model is then "
            "tested on patients that it has seen. Shuffled labels do not show this leak: pictures are shuffled apart."
        )
    yield from (f"Known of the data: {known.statement}" for known in dataset.known)
    for name, reason in metrics["not_fitted"].items():
        yield f"{name} could not be fitted: {reason}."
    if metrics["not_converged"]:
        yield f"Not converged, so not quite what was asked for: {', '.join(metrics['not_converged'])}."
    if run.recipe.options.class_weight:
        yield "Classes were weighted as equally common: probabilities are no frequencies, and Brier scores suffer."


def _templates(name: str) -> jinja2.Environment:
    """Those of this folder and of the data-quality report, whose style sheet and words they share."""
    templates = environment()
    own = jinja2.FileSystemLoader(Path(__file__).parent)
    templates.loader = jinja2.ChoiceLoader([own, templates.loader] if templates.loader else [own])
    templates.autoescape = name.endswith(".html.jinja")
    templates.globals.update(heat_step=heat_step, sum_of=sum)
    templates.filters["score"] = lambda value: "–" if value is None else f"{value:.3f}"
    return templates
