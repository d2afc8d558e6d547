"""``train``: from a published release, by a recipe, to a run.

prefect deployment run 'train/nih-intensity-baseline'      or      scanmill train nih-intensity-baseline --lake LAKE
"""

from __future__ import annotations

from typing import Annotated, Any

from prefect import flow
from prefect.events import emit_event
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.learning_artifacts import shown_in_prefect, training_artifacts
from flows.lineage_events import told_to_openlineage
from flows.parameters import LakePlace, Overrides, ReleaseId, RunName, described, insist_on_absolute
from tasks import steps
from tasks.learning.recipe import load
from tasks.storage import insist_on_reachable, location

TRAINED = "scanmill.run.trained"
"""Event: a new run is there, to be evaluated."""


@flow(name="train", task_runner=ThreadPoolTaskRunner(max_workers=1), validate_parameters=True)  # type: ignore[arg-type]
@described
def train(
    recipe: Annotated[
        str, Field(description="Name of a recipe, such as nih-intensity-baseline, or path of a YAML file", min_length=1)
    ],
    lake: LakePlace,
    release: ReleaseId = None,
    run: RunName = None,
    overrides: Overrides = (),
) -> dict[str, Any]:
    """Train once; returns ``run release dataset recipe is_new``. What is trained already is found, not trained again,
    and what was killed goes on from its last checkpoint.

    Raises :class:`tasks.schema.DataRefused` for a release that is not published, does not verify or failed a gate.
    """
    insist_on_absolute(lake)
    insist_on_reachable(location(lake))
    wanted = load(recipe, overrides)
    with shown_in_prefect(wanted.dataset) as show, told_to_openlineage(f"train.{wanted.name}") as told, steps.in_time():
        outcome: dict[str, Any] = steps.train(recipe, lake, release, run, list(overrides))
        told.learning(lake, outcome)
        show(lambda: training_artifacts(lake, outcome))
    if outcome["is_new"]:
        resource = {"prefect.resource.id": f"scanmill.run.{outcome['run']}", "prefect.resource.name": outcome["run"]}
        emit_event(event=TRAINED, resource=resource, payload={**outcome, "lake": lake})
    return outcome
