"""``scanmill deploy``: what a Prefect server needs before flows can run on it. Doing it again changes nothing.

Work pools, their queues and limits; automations (``infra/automations.yaml``); deployments (``prefect.yaml``). The
environment is looked at first: Prefect would make an empty string of a variable that is not set, without a word.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.events.schemas.automations import Automation, AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL

from flows.credentials import secrets_for
from tasks.credentials import block, names, variable
from tasks.datasets import catalogue
from tasks.schema import ScanmillError

DEPLOYMENTS, AUTOMATIONS = "prefect.yaml", "infra/automations.yaml"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Pool:
    """A work pool as it is made where it is missing; one that is there stays as its owner wants it."""

    name: str
    queues: tuple[str, ...] = ()
    limit: int | None = None
    """How many runs at once; None is as many as come."""


POOLS = (Pool("cpu"), Pool("gpu", ("train",), 1))

VARIABLES = {
    "SCANMILL_LAKE": "where the lake is: an absolute folder that every worker sees, or s3://bucket/prefix",
    "SCANMILL_RAW": "the absolute folder of raw releases that cannot be fetched, one folder per dataset, named like it",
}


def deploy(*, pool_type: str = "process", by_event: bool = False, say: Say) -> None:
    """Make or renew pools, automations and deployments; ``by_event`` switches the triggers of train and evaluate on.

    Raises :class:`ScanmillError` before anything is made when the environment or the server is not as it must be.
    """
    folder = _folder()
    check_environment(os.environ)
    with _reach() as client:
        for pool in POOLS:
            _make_pool(client, pool, pool_type, say)
        for automation in yaml.safe_load((folder / AUTOMATIONS).read_text())["automations"]:
            _make_automation(client, AutomationCore.model_validate(automation), say)
        _deploy_all(folder, say)
        if by_event:
            _switch_on(client, _triggers(folder), say)
    for note in _missing_secrets():
        say(note)


def _folder() -> Path:
    """Where ``prefect.yaml`` is: here, else beside the code."""
    places = (Path.cwd(), Path(__file__).resolve().parent.parent)
    for folder in places:
        if (folder / DEPLOYMENTS).is_file() and (folder / AUTOMATIONS).is_file():
            return folder
    raise ScanmillError(f"there is no {DEPLOYMENTS} with {AUTOMATIONS} here: run this in a checkout of scanmill")


def check_environment(environment: os._Environ[str] | dict[str, str]) -> None:
    """Raise :class:`ScanmillError` that names every variable that is missing or of no use to a worker."""
    wrong = []
    for name, meaning in VARIABLES.items():
        value = environment.get(name, "")
        if not value.strip():
            wrong.append(f"{name} is not set: {meaning}")
        elif "://" not in value and not Path(value).is_absolute():
            wrong.append(f"{name} is {value!r}, which a worker would look for in a folder of its own: {meaning}")
    if wrong:
        raise ScanmillError(f"{'; '.join(wrong)}. As in: export SCANMILL_LAKE=/data/lake SCANMILL_RAW=/data/raw")


@contextmanager
def _reach() -> Iterator[SyncPrefectClient]:
    """A client of the server that is meant, which must be a real one and must answer."""
    url = PREFECT_API_URL.value()
    if not url:
        raise ScanmillError(
            "PREFECT_API_URL is not set: start a server with `prefect server start`, "
            "then `export PREFECT_API_URL=http://127.0.0.1:4200/api`"
        )
    with get_client(sync_client=True) as client:
        error = client.api_healthcheck()
        if error is not None:
            raise ScanmillError(f"no Prefect server answers at {url} ({error}): start it, or correct PREFECT_API_URL")
        try:
            yield client
        except httpx.HTTPStatusError as refusal:
            answer = refusal.response
            remedy = "; set PREFECT_API_AUTH_STRING to user:password" if answer.status_code == 401 else ""
            message = f"the Prefect server at {url} refused: {answer.status_code} {answer.text}{remedy}"
            raise ScanmillError(message) from refusal


def _make_pool(client: SyncPrefectClient, pool: Pool, pool_type: str, say: Say) -> None:
    try:
        found = client.read_work_pool(pool.name)
        say(f"work pool {pool.name}: there already, of type {found.type}")
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=pool.name, type=pool_type))
        if pool.limit is not None:
            client.update_work_pool(pool.name, WorkPoolUpdate(concurrency_limit=pool.limit))
        limit = "" if pool.limit is None else f", {pool.limit} run at a time"
        say(f"work pool {pool.name}: made, of type {pool_type}{limit}")
    for queue in pool.queues:
        try:
            client.read_work_queue_by_name(queue, work_pool_name=pool.name)
        except ObjectNotFound:
            client.create_work_queue(queue, work_pool_name=pool.name)


def _make_automation(client: SyncPrefectClient, wanted: AutomationCore, say: Say) -> None:
    known = _automations(client, {wanted.name})
    if known:
        client.update_automation(known[0].id, wanted)
    else:
        client.create_automation(wanted)
    say(f"automation {wanted.name}: {'renewed' if known else 'made'}")


def _automations(client: SyncPrefectClient, wanted: Iterable[str]) -> list[Automation]:
    """Automations of these names, as the server has them."""
    return [found for name in sorted(wanted) for found in client.read_automations_by_name(name)]


def _deploy_all(folder: Path, say: Say) -> None:
    """As a user would: ``prefect deploy --all``, in the folder of prefect.yaml."""
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ScanmillError(f"`prefect deploy --all` failed:\n{done.stdout}{done.stderr}".strip())
    declared = yaml.safe_load((folder / DEPLOYMENTS).read_text())["deployments"]
    for one in declared:
        active = [f": {plan['slug']}, {plan['cron']} UTC" for plan in one.get("schedules", ()) if plan["active"]]
        say(f"deployment {one['entrypoint'].rpartition('.')[2]}/{one['name']}{''.join(active)}")


def _triggers(folder: Path) -> set[str]:
    """Names of all triggers of the deployments."""
    declared = yaml.safe_load((folder / DEPLOYMENTS).read_text())["deployments"]
    return {trigger["name"] for one in declared for trigger in one.get("triggers", ())}


def _switch_on(client: SyncPrefectClient, wanted: set[str], say: Say) -> None:
    for found in _automations(client, wanted):
        kept = found.model_dump(exclude={"id", "owner_resource", "enabled"}, exclude_unset=True)
        client.update_automation(found.id, AutomationCore.model_validate({**kept, "enabled": True}))
        say(f"trigger {found.name}: on")


def _missing_secrets() -> list[str]:
    """What will stop a scheduled fetch: secrets that neither this environment nor a Secret block holds."""
    notes = []
    for dataset in catalogue().values():
        missing = [name for name in names(dataset) if name not in secrets_for(dataset.name)]
        notes += [
            f"note: prepare/{dataset.name} needs a secret: set {variable(name)} where its worker runs, "
            f"or make the Prefect Secret block {block(name)}"
            for name in missing
        ]
    return notes
