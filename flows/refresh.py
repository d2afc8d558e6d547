"""``refresh``: prepare; where that made a release that is not trained on yet, train on it, evaluate, and promote.

prefect deployment run 'refresh/nightly' --watch

Every step is a deployment of its own, on its own work pool, seen as a child of this run. What came of a step is read
from the lake, never from Prefect: both sides see the lake, it outlives the server's database, and after a crash it says
what is still missing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, cast
from uuid import UUID

import httpx
from prefect import Flow, State, flow, runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Cancelling, Completed, Failed
from pydantic import Field

from flows.parameters import DatasetName, LakePlace, Overrides, described, insist_on_absolute
from tasks.files import read_json
from tasks.lake import Lake, latest_release
from tasks.learning.promotion import is_promotable, promotion_of, sentence
from tasks.learning.recipe import Recipe, load
from tasks.learning.runs import MARKER, Run, find_run, home
from tasks.schema import DataRefused, ScanmillError, UnusableInput

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

POLL_SECONDS = 2.0

Hours = Annotated[float, Field(gt=0, description="Hours until this step is cancelled, its wait for a worker included")]


class StepEnded(ScanmillError):
    """A child run that did not complete; the text is what this run says of it."""


def cancel_children(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """A run that is cancelled or has crashed takes its children along: Prefect does not do it reliably."""
    ours = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[flow_run.id]))
    with get_client(sync_client=True) as client:
        for child in client.read_flow_runs(flow_run_filter=ours):
            if child.state is None or not child.state.is_final():
                _cancel(client, child.id, f"its parent {flow_run.name} is {state.name}")


@flow(
    name="refresh",
    validate_parameters=True,
    on_cancellation=[cancel_children],
    on_crashed=[cancel_children],
)
@described
def refresh(
    dataset: DatasetName,
    lake: LakePlace,
    recipe: Annotated[str, Field(description="What to train, such as nih-intensity-baseline", min_length=1)],
    raw: Annotated[
        list[str] | None, Field(description="The raw release, if not the one that the preparing deployment is told")
    ] = None,
    prepare: Annotated[str | None, Field(description="Deployment that prepares; default: `prepare/DATASET`")] = None,
    train: Annotated[
        str | None, Field(description="Deployment that trains; default: `train/RECIPE`, or `radiomics/RECIPE`")
    ] = None,
    evaluate: Annotated[str, Field(description="Deployment that evaluates", min_length=1)] = "evaluate/run",
    prepare_hours: Hours = 24,
    train_hours: Hours = 48,
    evaluate_hours: Hours = 6,
    overrides: Overrides = (),
) -> State[Any]:
    """Prepare a dataset; where that made a release that is not trained on yet, train on it and evaluate.

    ``runs/latest`` moves to the new run, unless that is worse than the one before: then this run has failed.
    """
    insist_on_absolute(lake)
    wanted = load(recipe, overrides)
    if wanted.dataset != dataset:
        raise UnusableInput(f"the recipe {recipe} is for {wanted.dataset}, and not for {dataset}")
    try:
        release = _prepared(prepare or f"prepare/{dataset}", prepare_hours, dataset, lake, raw)
    except StepEnded as error:
        return Failed(message=f"{error}; train and evaluate were not started")
    name = f"{dataset}@{release}"
    run = find_training(lake, wanted, release)
    if run is not None and run.is_evaluated and (promotion_of(run) or not is_promotable(run.recipe)):
        return Completed(message=f"nothing new: {name} is trained on and evaluated, as {run.name}")
    try:
        if run is None:
            key = f"{wanted.name}-{release}"
            settings = {"overrides": list(overrides)} if overrides else {}
            wish = {"recipe": recipe, "lake": lake, "release": release, **settings}
            follow(train or f"{_flow_of(wanted)}/{recipe}", train_hours, key, **wish)
            run = find_training(lake, wanted, release)
        if run is None:
            return Failed(message=f"{name} is published, and {recipe} completed, but {home(lake)} has no such run")
        follow(evaluate, evaluate_hours, run.name, run=run.name, lake=lake, promote=is_promotable(run.recipe))
    except StepEnded as error:
        return Failed(message=f"{name} is published, but {error}")
    return _ended(f"{name} is trained on and evaluated, as {run.name}", promotion_of(run))


def _flow_of(recipe: Recipe) -> str:
    return "radiomics" if recipe.kind == "radiomics" else "train"


def _ended(done: str, promotion: dict[str, Any] | None) -> State[Any]:
    """The regression gate: where the new run is worse, the old one stays the latest, and somebody has to look."""
    if promotion is None:
        return Completed(message=done)
    said = f"{done}; {sentence(promotion)}"
    return Completed(message=said) if promotion["is_promoted"] else Failed(message=said)


def find_training(lake: str, recipe: Recipe, release: str) -> Run | None:
    """The newest whole run of this recipe, as it is today, on a release.

    Whatever code has trained it: an upgrade of scanmill alone is no reason to train again at night.
    """
    found = []
    for marker in home(lake).glob(f"{recipe.name}-{release}*/{MARKER}"):
        try:
            found.append(find_run(lake, marker.parent.name))
        except DataRefused as error:
            get_run_logger().warning("%s", error)
    same = [run for run in found if run.recipe.digest == recipe.digest]
    return max(same, key=lambda run: float(read_json(run.folder / MARKER)["clock"]["began"]), default=None)


def _prepared(deployment: str, hours: float, dataset: str, lake: str, raw: list[str] | None) -> str:
    """The release that a completed prepare has left the dataset with: the pointer names what it made or found again."""
    follow(deployment, hours, f"prepare-{dataset}", dataset=dataset, lake=lake, **({"raw": raw} if raw else {}))
    place = Lake(lake, dataset)
    release = latest_release(place)
    gates = read_json(place.release(release) / "manifest.json")["gates"]
    failed = [gate for gate, passed in gates.items() if not passed]
    if failed:
        raise StepEnded(f"{dataset}@{release} was published although its {' and '.join(failed)} gate failed")
    return release


def follow(deployment: str, hours: float, key: str, **parameters: Any) -> None:
    """Run a deployment as a child of this flow run and wait for its end; a server that is gone is waited for.

    Raises :class:`StepEnded` unless it completed; one that takes longer than ``hours`` is cancelled.
    """
    deadline = time.monotonic() + timedelta(hours=hours).total_seconds()
    # Of this attempt alone: Prefect would answer with the failed run of last night.
    key = f"{key}-{runtime.flow_run.id}-{runtime.flow_run.run_count}"
    try:
        child = _patiently(
            lambda: cast("FlowRun", run_deployment(deployment, parameters=parameters, timeout=0, idempotency_key=key)),
            deadline,
        )
    except ObjectNotFound as error:
        raise StepEnded(f"there is no deployment {deployment}: run `scanmill deploy`") from error
    get_run_logger().info("started %s as %s", deployment, child.name)
    with get_client(sync_client=True) as client:
        state = child.state
        while not (state and state.is_final()) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
            state = _patiently(lambda: client.read_flow_run(child.id), deadline).state
        if state is None or not state.is_final():
            _cancel(client, child.id, f"not done after {hours:g} hours")
            waiting = "; does a worker serve its pool?" if state is None or state.is_scheduled() else ""
            is_now = "not started" if state is None else state.name
            raise StepEnded(f"{deployment} was cancelled: after {hours:g} hours it was still {is_now}{waiting}")
    if not state.is_completed():
        raise StepEnded(f"{deployment} {str(state.name).lower()}: {in_one_line(state.message)}")


def _patiently(ask: Callable[[], FlowRun], deadline: float) -> FlowRun:
    """What Prefect's server answers; while it is gone, ask again until the deadline."""
    while True:
        try:
            return ask()
        except httpx.TransportError as error:
            if time.monotonic() > deadline:
                raise
            get_run_logger().warning("Prefect's server does not answer (%s); asking again", error)
            time.sleep(POLL_SECONDS)


def _cancel(client: SyncPrefectClient, run_id: UUID, why: str) -> None:
    client.set_flow_run_state(run_id, Cancelling(message=f"Cancelled: {why}"))


def in_one_line(message: str | None) -> str:
    """What a state's message says first: without Prefect's preamble, the type of the error and what follows in detail.

    A gate says what failed in its first line, and the worst of it in its second.
    """
    text = (message or "no reason was given").removeprefix("Flow run encountered an exception: ")
    kind, colon, rest = text.partition(": ")
    lines = [line.strip() for line in (rest if colon and kind.isidentifier() else text).splitlines() if line.strip()]
    return ": ".join(lines[:2]).rstrip(".")
