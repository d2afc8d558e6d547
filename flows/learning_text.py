"""What ``train`` and ``evaluate`` say on a terminal, from what lies in the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from flows.console import counts_text
from tasks.files import read_json
from tasks.learning.headline import leak_of, words
from tasks.learning.runs import Run, find_run

SHOWN = 20
"""Labels or classes of a split that get a line; the report has all."""


def trained_text(outcome: Mapping[str, Any], lake: str, seconds: float) -> str:
    """What a person reads after ``train``."""
    run = find_run(lake, outcome["run"])
    source = f"{outcome['dataset']}@{outcome['release']}"
    if not outcome["is_new"]:
        return f"nothing to do: run {run.name} is trained from {source} ({seconds:.1f} s)\nrun:     {run.folder}"
    metrics = read_json(run.folder / "metrics.json")
    lines = [
        f"trained {run.name} from {source} in {seconds:.1f} s",
        *([f"  network    {_network(run)}"] if run.recipe.kind == "network" else [_samples(metrics)]),
        f"  questions  {len(run.recipe.questions())}",
        *(f"  not fitted {name}: {reason}" for name, reason in metrics["not_fitted"].items()),
        f"run:     {run.folder}",
        f"next:    scanmill evaluate {run.name} --lake {lake}",
    ]
    return "\n".join(lines)


def _samples(metrics: Mapping[str, Any]) -> str:
    return f"  samples    {counts_text({split: own['samples'] for split, own in metrics['splits'].items()})}"


def _network(run: Run) -> str:
    """What was trained, for how long, and on what."""
    told = read_json(run.folder / "environment.json")
    rate = f", {told['images_per_second']:.0f} images/s" if told["images_per_second"] else ""
    weights = told["initial_weights"]["file"] if told["initial_weights"] else "none"
    return (
        f"{told['architecture']}, initial weights {weights}; {told['epochs_run']} epochs ({told['stopped']}), the best "
        f"is {told['best_epoch']}; {told['device']}{rate}"
    )


def evaluated_text(outcome: Mapping[str, Any], lake: str, seconds: float) -> str:
    """What a person reads after ``evaluate``."""
    run = find_run(lake, outcome["run"])
    metrics = read_json(run.folder / "metrics.json")
    said = words(outcome["headline"], leak=leak_of(run.recipe), is_network=run.recipe.kind == "network")
    began = (
        f"evaluated {run.name} in {seconds:.1f} s" if outcome["is_new"] else f"nothing to do: {run.name} is evaluated"
    )
    lines = [began, f"  {said['title']}", f"  {said['line']}", *_lines(metrics), f"report:  {run.report}"]
    return "\n".join(lines)


def radiomics_text(outcome: Mapping[str, Any], lake: str, seconds: float) -> str:
    """What a person reads after radiomics: the signature, the model that was chosen, and how it did on every set."""
    run = find_run(lake, outcome["run"])
    model, told = read_json(run.folder / "model.json"), read_json(run.folder / "radiomics.json")
    primary = told["primary"]
    signature = next(own for own in model["variants"] if own["name"] == primary["variant"])
    said = words(outcome["headline"], leak=leak_of(run.recipe))
    source = f"{outcome['dataset']}@{outcome['release']}"
    began = (
        f"{run.name} from {source} in {seconds:.1f} s" if outcome["is_new"] else f"nothing to do: {run.name} is done"
    )
    lines = [
        began,
        f"  {said['title']}",
        f"  {said['line']}",
        f"  signature   {primary['variant']}: {len(signature['selected'])} of {signature['steps'][0]['features']:,} "
        f"features",
        f"  classifier  {primary['classifier']}, the best of {len(told['models'])} models by cross-validation",
        *(f"  {name:<11} {_macro(own)}" for name, own in primary["sets"].items()),
        *(f"  weights: none: {arm} is a random network" for arm in _without_weights(run)),
        f"report:  {run.report}",
    ]
    return "\n".join(lines)


def _macro(scored: Mapping[str, Any]) -> str:
    auroc, accuracy = scored["macro_auroc"], scored["accuracy"]
    if auroc["value"] is None:
        return f"not scored: {auroc.get('reason', '')}"
    interval = f" ({auroc['low']:.3f} to {auroc['high']:.3f})" if auroc["low"] is not None else ""
    return f"macro AUROC {auroc['value']:.3f}{interval}, accuracy {accuracy['value']:.3f}"


def _without_weights(run: Run) -> list[str]:
    options = run.recipe.radiomics
    return [name for name, arm in options.arms.items() if arm.weights is None] if options else []


def _lines(metrics: Mapping[str, Any]) -> Iterator[str]:
    """A line per answer in the split that was held out."""
    scored = metrics["splits"].get(metrics["held_out"], {"labels": {}, "classes": {}, "targets": {}})
    answers = [(name, own, "auroc") for name, own in scored["labels"].items()]
    answers += [(n, own, "auroc") for found in scored["classes"].values() for n, own in found["classes"].items()]
    answers += [(name, own, "r2") for name, own in scored["targets"].items()]
    for name, own, metric in answers[:SHOWN]:
        yield f"  {name:<24} {_answer(own, metric)}"
    if len(answers) > SHOWN:
        yield f"  and {len(answers) - SHOWN} more in the report"


def _answer(own: Mapping[str, Any], metric: str) -> str:
    found = own[metric]
    if found["value"] is None:
        return f"not scored: {own['reason']}"
    interval = f" ({found['low']:.3f} to {found['high']:.3f})" if found["low"] is not None else ""
    shuffled = f", shuffled {found['shuffled']['mean']:.3f}" if found["shuffled"] else ""
    count = f", {own['positives']:,} of {own['samples']:,}" if "positives" in own else f", {own['samples']:,} samples"
    return f"{'AUROC' if metric == 'auroc' else 'R²'} {found['value']:.3f}{interval}{shuffled}{count}"
