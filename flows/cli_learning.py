"""The commands about learning; :mod:`flows.cli` has the others."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from flows.command_line import AsJson, LakeFolder, ShowProgress, errors_as_exit_codes, running_a_flow
from flows.console import showing_progress

app = typer.Typer()


@app.command(
    epilog="Examples: `scanmill train nih-intensity-baseline --lake /data/lake` · "
    "`scanmill train mine.yaml --lake s3://bucket/lake --release 1a2b3c4d5e6f7a8b --run first`"
)
def train(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name of a recipe, or a YAML file of your own.")],
    lake: LakeFolder,
    release: Annotated[
        str | None, typer.Option(metavar="ID", help="The release to train from [default: the latest].")
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to call the run [default: recipe and release].")
    ] = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """Train by a recipe from a published release that verifies and whose gates passed; anything else is refused.

    The same recipe, release and code find the finished run at once.
    """
    with errors_as_exit_codes(as_json):
        began = time.monotonic()
        outcome = _trained_before(recipe, lake, release, run)
        if outcome is None:
            from flows.train import train as flow

            with showing_progress(False if as_json else progress), running_a_flow():
                outcome = dict(flow(recipe=recipe, lake=lake, release=release, run=run))
        seconds = time.monotonic() - began
        if as_json:
            _print_json(outcome, seconds)
        else:
            from flows.learning_text import trained_text

            typer.echo(trained_text(outcome, lake, seconds))


def _trained_before(recipe: str, lake: str, release: str | None, run: str | None) -> dict[str, Any] | None:
    """The finished run, or the refusal, without starting Prefect."""
    from tasks.learning.training import finished, insist_on_packages
    from tasks.storage import insist_on_reachable, location

    insist_on_packages()
    insist_on_reachable(location(lake))
    return finished(recipe, lake, release, run)


@app.command(epilog="Example: `scanmill evaluate nih-intensity-baseline-1a2b3c4d5e6f7a8b --lake /data/lake`")
def evaluate(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name of a finished run of the lake.")],
    lake: LakeFolder,
    resamples: Annotated[
        int, typer.Option(min=20, max=2000, help="Resamples of whole patients for the 95 % intervals.")
    ] = 200,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """Predictions, scores with intervals and a label-shuffled control, report and model card of a run."""
    with errors_as_exit_codes(as_json):
        began = time.monotonic()
        outcome = _evaluated_before(run, lake, resamples)
        if outcome is None:
            from flows.evaluate import evaluate as flow

            with showing_progress(False if as_json else progress), running_a_flow():
                outcome = dict(flow(run=run, lake=lake, resamples=resamples))
        seconds = time.monotonic() - began
        if as_json:
            _print_json(outcome, seconds)
        else:
            from flows.learning_text import evaluated_text

            typer.echo(evaluated_text(outcome, lake, seconds))


def _evaluated_before(run: str, lake: str, resamples: int) -> dict[str, Any] | None:
    """What is there already, or that there is no such run, without starting Prefect."""
    from tasks.learning.evaluation import finished
    from tasks.learning.training import insist_on_packages
    from tasks.storage import insist_on_reachable, location

    insist_on_packages()
    insist_on_reachable(location(lake))
    return finished(run, lake, resamples)


def _print_json(outcome: Mapping[str, Any], seconds: float) -> None:
    typer.echo(json.dumps({"ok": True, **outcome, "seconds": round(seconds, 1)}, sort_keys=True))
