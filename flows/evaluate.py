"""``evaluate``: predictions, scores and the report of a run.

prefect deployment run 'evaluate/run' -p run=RUN      or      scanmill evaluate RUN --lake LAKE
"""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.learning_artifacts import evaluation_artifacts, shown_in_prefect
from flows.lineage_events import told_to_openlineage
from flows.parameters import LakePlace, Promote, described, insist_on_absolute
from tasks import steps
from tasks.learning.evaluation import RESAMPLES, finished
from tasks.learning.runs import find_run
from tasks.storage import insist_on_reachable, location


@flow(name="evaluate", task_runner=ThreadPoolTaskRunner(max_workers=1), validate_parameters=True)  # type: ignore[arg-type]
@described
def evaluate(
    run: Annotated[str, Field(description="Name of a finished run of the lake", min_length=1)],
    lake: LakePlace,
    resamples: Annotated[
        int, Field(description="How often groups are drawn anew for the 95 % intervals", ge=20, le=2000)
    ] = RESAMPLES,
    promote: Promote = False,
) -> dict[str, Any]:
    """Evaluate a run; returns ``run release dataset report headline is_new``. Doing it again changes nothing.

    Raises :class:`tasks.schema.DataRefused` where run or release are damaged, or no longer belong together.
    """
    insist_on_absolute(lake)
    insist_on_reachable(location(lake))
    recipe = find_run(lake, run).recipe
    with (
        shown_in_prefect(recipe.dataset) as show,
        told_to_openlineage(f"evaluate.{recipe.name}") as told,
        steps.in_time(),
    ):
        nodes = scored_radiomics if recipe.kind == "radiomics" else _evaluated
        outcome = finished(run, lake, resamples) or nodes(run, lake, resamples)
        told.learning(lake, outcome)
        show(lambda: evaluation_artifacts(lake, outcome))
        if promote:
            outcome |= {"promotion": steps.promote(run, lake)}
    return outcome


def _evaluated(run: str, lake: str, resamples: int) -> dict[str, Any]:
    """Node by node; each finds what it has left in a run that was killed."""
    steps.predict(run, lake)
    steps.control_shuffled(run, lake)
    steps.control_intensity(run, lake)
    steps.explain(run, lake)
    steps.export(run, lake)
    steps.score(run, lake, resamples)
    outcome: dict[str, Any] = steps.report(run, lake, resamples)
    return outcome


def scored_radiomics(run: str, lake: str, resamples: int) -> dict[str, Any]:
    """The same of a run whose controls are part of its fit."""
    steps.score_radiomics(run, lake, resamples)
    outcome: dict[str, Any] = steps.report_radiomics(run, lake, resamples)
    return outcome
