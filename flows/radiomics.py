"""``radiomics``: features inside masks, a signature, classifiers, scores and the report, from a published release.

prefect deployment run 'radiomics/ovf-radiomics'      or      scanmill train ovf-radiomics --lake LAKE
"""

from __future__ import annotations

import time
from typing import Annotated, Any

from prefect import flow
from prefect.events import emit_event
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field

from flows.evaluate import scored_radiomics
from flows.learning_artifacts import evaluation_artifacts, shown_in_prefect
from flows.lineage_events import told_to_openlineage
from flows.parameters import LakePlace, Overrides, Promote, ReleaseId, RunName, described, insist_on_absolute
from flows.train import TRAINED
from tasks import steps
from tasks.clusters import insist_on_cluster
from tasks.learning import training
from tasks.learning.admission import find_release
from tasks.learning.evaluation import RESAMPLES, finished
from tasks.learning.recipe import load
from tasks.schema import UnusableInput
from tasks.storage import insist_on_reachable, location
from tasks.waves import cluster


@flow(name="radiomics", task_runner=ThreadPoolTaskRunner(max_workers=1), validate_parameters=True)  # type: ignore[arg-type]
@described
def radiomics(
    recipe: Annotated[
        str, Field(description="Name of a recipe of kind radiomics, or path of a YAML file", min_length=1)
    ],
    lake: LakePlace,
    release: ReleaseId = None,
    run: RunName = None,
    overrides: Overrides = (),
    resamples: Annotated[
        int, Field(description="How often patients are drawn anew for the 95 % intervals", ge=20, le=2000)
    ] = RESAMPLES,
    workers: Annotated[int | None, Field(description="Local Dask workers; 0 runs in process", ge=0)] = None,
    dask: Annotated[str | None, Field(description="Address of a Dask scheduler, tcp://host:port")] = None,
    promote: Promote = False,
) -> dict[str, Any]:
    """Measure, fit, score and report; returns ``run release dataset report headline is_new``. What is done is found.

    Raises :class:`tasks.schema.DataRefused` for a release that is not published, does not verify or failed a gate.
    """
    began = time.time()
    insist_on_absolute(lake)
    insist_on_reachable(location(lake))
    wanted = load(recipe, overrides)
    if wanted.kind != "radiomics":
        raise UnusableInput(f"{wanted.name} is a recipe of kind {wanted.kind}: run the flow `train`")
    with (
        shown_in_prefect(wanted.dataset) as show,
        told_to_openlineage(f"radiomics.{wanted.name}") as told,
        steps.in_time(),
    ):
        source = find_release(lake, wanted.dataset, release).name
        settings = list(overrides)
        trained = training.finished(recipe, lake, source, run, settings)
        if trained is None:
            insist_on_cluster(dask, with_report=False)
            with cluster(workers, dask) as address:
                steps.measure(recipe, lake, source, settings, address=address)
                trained = steps.fit(recipe, lake, source, run, settings, address=address, began=began)
        name = str(trained["run"])
        outcome = finished(name, lake, resamples) or scored_radiomics(name, lake, resamples)
        outcome = {**trained, **outcome, "is_new": trained["is_new"] or outcome["is_new"]}
        told.learning(lake, outcome)
        show(lambda: evaluation_artifacts(lake, outcome))
        if promote:
            outcome |= {"promotion": steps.promote(name, lake)}
    if trained["is_new"]:
        resource = {"prefect.resource.id": f"scanmill.run.{name}", "prefect.resource.name": name}
        emit_event(event=TRAINED, resource=resource, payload={**trained, "lake": lake})
    return outcome
