"""The commands about learning; :mod:`flows.cli` has the others."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flows.command_line import (
    MODELS,
    AsJson,
    LakeOfRun,
    LakeThere,
    ShowProgress,
    errors_as_exit_codes,
    examples,
    running_a_flow,
)
from flows.console import showing_progress
from tasks.files import write_bytes
from tasks.schema import ScanmillError

app = typer.Typer()


ARun = Annotated[
    str, typer.Argument(metavar="RUN", help="A finished run: LAKE/runs/RUN, or its name alone, with --lake.")
]


def _recipe_names(incomplete: str) -> list[str]:
    """For a shell that completes."""
    from tasks.learning.recipe import shipped

    return [name for name in shipped() if name.startswith(incomplete)]


@app.command(
    rich_help_panel=MODELS,
    epilog=examples(
        "`scanmill train nih-intensity-baseline --lake /data/lake`",
        "`scanmill train mammography-8class --lake /data/lake --set network.size=96 --set training.epochs=8`",
        "`scanmill train mine.yaml --lake s3://bucket/lake --release 1a2b3c4d5e6f7a8b --run first`",
        "`scanmill train ovf-radiomics --lake /data/lake --workers 2`",
    ),
)
def train(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE", help="Name of a recipe, or a YAML file of your own.", autocompletion=_recipe_names
        ),
    ],
    lake: LakeThere,
    release: Annotated[
        str | None, typer.Option(metavar="ID", help="The release to train from [default: the latest].")
    ] = None,
    run: Annotated[
        str | None, typer.Option(metavar="NAME", help="What to call the run [default: recipe and release].")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting of the recipe; repeat."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with a training that was stopped, or begin it anew.")
    ] = True,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Of radiomics: Dask workers; 0: none, in this process [default: one per core]."
        ),
    ] = None,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Of radiomics: scheduler address, such as tcp://host:8786.")
    ] = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """Train by a recipe from a published release that verifies and whose gates passed; anything else is refused.

    The same recipe, release and code find the finished run at once; a training that was killed goes on from its last
    checkpoint. A recipe for radiomics is measured, fitted, scored and reported in one go.
    """
    with errors_as_exit_codes(as_json):
        began = time.monotonic()
        settings = tuple(overrides or ())
        if _is_radiomics(recipe, settings, resume=resume, workers=workers, dask=dask):
            _radiomics(recipe, lake, release, run, settings, workers, dask, as_json, progress)
            return
        outcome = _trained_before(recipe, lake, release, run, settings, resume)
        if outcome is None:
            with showing_progress(progress, as_json), running_a_flow("train") as flow:
                outcome = dict(flow(recipe=recipe, lake=lake, release=release, run=run, overrides=settings))
        seconds = time.monotonic() - began
        if as_json:
            _print_json(outcome, seconds)
        else:
            from flows.learning_text import trained_text

            typer.echo(trained_text(outcome, lake, seconds))


def _is_radiomics(
    recipe: str, overrides: Sequence[str], *, resume: bool, workers: int | None, dask: str | None
) -> bool:
    """Raises :class:`ScanmillError` for options that belong to the other kinds of recipes."""
    from tasks.learning.recipe import load
    from tasks.schema import ScanmillError

    kind = load(recipe, overrides).kind
    if kind == "radiomics" and not resume:
        raise ScanmillError(f"--no-resume: {recipe} finds what it has done by digest; there is nothing to begin anew")
    if kind != "radiomics" and (workers is not None or dask is not None):
        raise ScanmillError(f"--workers and --dask are for recipes of kind radiomics, and {recipe} is of kind {kind}")
    return kind == "radiomics"


def _radiomics(
    recipe: str,
    lake: str,
    release: str | None,
    run: str | None,
    overrides: tuple[str, ...],
    workers: int | None,
    dask: str | None,
    as_json: bool,
    progress: bool | None,
) -> None:
    from tasks.learning.radiomics.pipeline import finished
    from tasks.learning.training import insist_on_packages
    from tasks.storage import insist_on_reachable, location

    began = time.monotonic()
    insist_on_packages("radiomics")
    insist_on_reachable(location(lake))
    outcome = finished(recipe, lake, release, run, overrides)
    if outcome is None:
        with showing_progress(progress, as_json), running_a_flow("radiomics") as flow:
            outcome = dict(
                flow(
                    recipe=recipe,
                    lake=lake,
                    release=release,
                    run=run,
                    overrides=overrides,
                    workers=workers,
                    dask=dask,
                )
            )
    seconds = time.monotonic() - began
    if as_json:
        _print_json(outcome, seconds)
    else:
        from flows.learning_text import radiomics_text

        typer.echo(radiomics_text(outcome, lake, seconds))


def _trained_before(
    recipe: str, lake: str, release: str | None, run: str | None, overrides: Sequence[str], resume: bool
) -> dict[str, Any] | None:
    """The finished run, or the refusal, without starting Prefect."""
    from tasks.learning.recipe import load
    from tasks.learning.training import finished, forget_unfinished, insist_on_packages
    from tasks.storage import insist_on_reachable, location

    insist_on_packages(load(recipe, overrides).kind)
    insist_on_reachable(location(lake))
    there = finished(recipe, lake, release, run, overrides)
    if there is None and not resume:
        forget_unfinished(recipe, lake, release, overrides)
    return there


@app.command(
    rich_help_panel=MODELS,
    epilog=examples(
        "`scanmill evaluate nih-intensity-baseline-1a2b3c4d5e6f7a8b --lake /data/lake`",
    ),
)
def evaluate(
    run: ARun,
    lake: LakeOfRun = None,
    resamples: Annotated[
        int, typer.Option(min=20, max=2000, metavar="N", help="Resamples of whole patients for the 95 % intervals.")
    ] = 1000,
    promote: Annotated[
        bool,
        typer.Option(
            "--promote", metavar="", help="Let runs/latest name this run, unless it is worse than the present one."
        ),
    ] = False,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """Predictions, scores with intervals and controls, explanations, ONNX, report and model card of a run."""
    with errors_as_exit_codes(as_json):
        began = time.monotonic()
        run, lake = _name_and_lake(run, lake)
        outcome = _evaluated_before(run, lake, resamples)
        if outcome is None or promote:
            with showing_progress(progress, as_json), running_a_flow("evaluate") as flow:
                outcome = dict(flow(run=run, lake=lake, resamples=resamples, promote=promote))
        seconds = time.monotonic() - began
        if as_json:
            _print_json(outcome, seconds)
        else:
            from flows.learning_text import evaluated_text

            typer.echo(evaluated_text(outcome, lake, seconds))
            if "promotion" in outcome:
                from tasks.learning.promotion import sentence

                typer.echo(f"latest:  {sentence(outcome['promotion'])}")


def _evaluated_before(run: str, lake: str, resamples: int) -> dict[str, Any] | None:
    """What is there already, or that there is no such run, without starting Prefect."""
    from tasks.learning.evaluation import finished
    from tasks.learning.runs import find_run
    from tasks.learning.training import insist_on_packages
    from tasks.storage import insist_on_reachable, location

    insist_on_reachable(location(lake))
    insist_on_packages(find_run(lake, run).recipe.kind)
    return finished(run, lake, resamples)


@app.command(
    rich_help_panel=MODELS,
    epilog=examples(
        "`scanmill compare OLD NEW --lake /data/lake`",
        "`scanmill compare nih-intensity-baseline-1a2b3c4d nih-14-label-1a2b3c4d --lake /data/lake --open`",
    ),
)
def compare(
    first: Annotated[str, typer.Argument(metavar="OLD", help="An evaluated run: LAKE/runs/RUN, or its name alone.")],
    second: Annotated[str, typer.Argument(metavar="NEW", help="Another of the same dataset and lake.")],
    lake: LakeOfRun = None,
    resamples: Annotated[
        int, typer.Option(min=20, max=10000, metavar="N", help="Resamples of whole patients for the 95 % intervals.")
    ] = 1000,
    open_it: Annotated[bool, typer.Option("--open", metavar="", help="Open the page in the browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """Is the second run better than the first? Paired bootstrap by patient, and DeLong, on what both were tested on."""
    with errors_as_exit_codes(as_json):
        began = time.monotonic()
        from tasks.learning import comparison, comparison_page
        from tasks.learning.runs import home

        (first, lake), (second, other) = [_name_and_lake(run, lake) for run in (first, second)]
        if other != lake:
            raise ScanmillError(f"{first} is a run of {lake}, {second} of {other}: only runs of one lake are compared")
        found = comparison.compare(lake, first, second, resamples)
        page = home(lake) / second / "report" / f"compared-with-{first}.html"
        comparison_page.write(page, found)
        if as_json:
            _print_json({**found, "report": str(page)}, time.monotonic() - began)
        else:
            from flows.comparison_text import comparison_text

            typer.echo(comparison_text(found))
            typer.echo(f"report:  {page}")
        if open_it:
            typer.launch(str(page))


@app.command(
    rich_help_panel=MODELS,
    epilog=examples(
        "`scanmill predict mammography-8class-… --lake /data/lake --split predict --out said.csv`",
        "`scanmill predict RUN --lake /data/lake --images new-films/ --out new.csv`",
    ),
)
def predict(
    run: ARun,
    lake: LakeOfRun = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The CSV to write.")] = Path("predictions.csv"),
    split: Annotated[
        str | None,
        typer.Option(metavar="SPLIT", help="Which samples [default: those without labels, or all]."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Images of yours instead: PNG and JPEG in it; of radiomics, in its images/ and masks/."
        ),
    ] = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """Image names and predicted labels with probabilities, as CSV: of a split, or of a folder of yours."""
    with errors_as_exit_codes(as_json):
        began = time.monotonic()
        from tasks.learning import predicting

        run, lake = _name_and_lake(run, lake)
        with showing_progress(progress, as_json):
            content, rows = predicting.of_folder(run, lake, images) if images else predicting.of_split(run, lake, split)
        write_bytes(out, content)
        seconds = time.monotonic() - began
        if as_json:
            _print_json({"run": run, "rows": rows, "file": str(out)}, seconds)
        else:
            typer.echo(f"predicted {rows:,} images in {seconds:.1f} s\nfile:    {out}")


def _name_and_lake(reference: str, lake: str | None) -> tuple[str, str]:
    """Of a run that is given as ``LAKE/runs/RUN``, as `report` and `trace` take it, or by its name alone."""
    place, is_whole, name = reference.rstrip("/").rpartition("/runs/")
    if is_whole:
        return name, place
    if not lake:
        raise ScanmillError(f"in which lake is the run {reference}? Write LAKE/runs/{reference}, or give --lake LAKE")
    return reference, lake


def _print_json(outcome: Mapping[str, Any], seconds: float) -> None:
    typer.echo(json.dumps({"ok": True, **outcome, "seconds": round(seconds, 1)}, sort_keys=True))
