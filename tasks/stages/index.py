"""Fetch and index: what the raw release holds, and therefore what the new release is called."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tasks import shards
from tasks.archives import Archive, HashMemory, hash_members, list_members
from tasks.datasets import find
from tasks.files import sweep, write_json
from tasks.lake import STAGING_PREFIX, Lake
from tasks.release.manifest import insist_on_gates, is_published, point_to, release_id
from tasks.samples import index_members
from tasks.schema import STORES, Dataset, UnusableInput
from tasks.sources.local import find_archives
from tasks.stages.plan import Plan, Request, write_frame


def fetch(raw: Sequence[str]) -> tuple[Archive, ...]:
    """The archives of a local raw release; nothing is copied."""
    archives = tuple(find_archives([Path(path) for path in raw]))
    if not archives:
        raise UnusableInput(f"there is nothing in {', '.join(raw)}")
    return archives


def index(request: Request, archives: tuple[Archive, ...], *, rehash: bool = False) -> Plan:
    """List and hash the input; unless its release is published already, write ``members.parquet``.

    To be called under the dataset's lock: it sweeps what killed runs left behind.
    """
    plan, members, record = _identify(request, archives, rehash=rehash)
    if not plan.is_published:
        _tidy(plan.lake, plan.release)
        write_frame(plan.work / "members.parquet", members)
        write_json(plan.work / "inputs.json", record)
    return plan


def published_release(request: Request, *, allow_gate_failure: bool = False) -> str | None:
    """Id of the release that a request would make, if it is published already; makes sure the pointer names it.

    Raises :class:`tasks.schema.DataRefused` when one of its gates had failed and that is not allowed.
    """
    plan, _, _ = _identify(request, fetch(request.raw), rehash=False)
    if plan.is_published:
        reuse_published(plan, allow_gate_failure=allow_gate_failure)
        return plan.release
    return None


def reuse_published(plan: Plan, *, allow_gate_failure: bool) -> None:
    """Point to a release that needs no making; see :func:`published_release`."""
    if not allow_gate_failure:
        insist_on_gates(plan.lake, plan.release)
    point_to(plan.lake, plan.release)


def _identify(
    request: Request, archives: tuple[Archive, ...], *, rehash: bool
) -> tuple[Plan, pd.DataFrame, dict[str, Any]]:
    """The plan, its members (with ``sha256`` of loose files), and ``inputs`` and ``identities`` for inputs.json."""
    dataset = find(request.dataset)
    _keep_apart(request)
    members = classify(archives, dataset)
    if not (members["kind"] == "image").any():
        raise UnusableInput(
            f"no image of {dataset.name} among the {len(members)} members of {', '.join(request.raw)}; "
            f"expected paths like {next(r.pattern for r in dataset.members if r.kind == 'image')}"
        )
    memory = HashMemory(request.place.hashes, is_trusted=not rehash)
    inputs, identities, hashes = _hash_inputs(archives, members, memory)
    members["sha256"] = [hashes.get(name) for name in members["member"]]
    release = release_id(dataset, inputs, request.transform, request.stores)
    plan = Plan(request, archives, release, is_published(request.place, release))
    return plan, members, {"inputs": inputs, "identities": identities}


def _keep_apart(request: Request) -> None:
    """A lake below a raw folder would be read as raw data by the next run."""
    for raw in request.raw:
        if Path(request.lake).resolve().is_relative_to(Path(raw).resolve()):
            raise UnusableInput(f"the lake {request.lake} lies inside the raw path {raw}: choose a folder beside it")


def classify(archives: Sequence[Archive], dataset: Dataset) -> pd.DataFrame:
    """All members of all archives, each with what it is (see :func:`tasks.samples.index_members`)."""
    return index_members([member for archive in archives for member in list_members(archive)], dataset)


def _hash_inputs(
    archives: Sequence[Archive], members: pd.DataFrame, memory: HashMemory
) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, str]]:
    """Manifest inputs, archive name to identity, and loose file to sha256.

    Loose tables are inputs of their own; loose images stand together as one, or the manifest would list them all.
    """
    inputs: list[dict[str, Any]] = []
    identities: dict[str, str] = {}
    hashes: dict[str, str] = {}
    for archive in archives:
        identity, by_name = hash_members(archive, memory)
        identities[archive.name] = identity
        hashes |= by_name
        own = members[members["archive"] == archive.name]
        if archive.kind == "folder":
            for row in own[own["kind"] == "table"].itertuples():
                inputs.append({"name": row.member, "bytes": row.size_bytes, "sha256": by_name[str(row.member)]})
            own = own[own["kind"] != "table"]
            if own.empty:
                continue
            size = int(own["size_bytes"].sum())
        else:
            size = Path(archive.paths[0]).stat().st_size
        inputs.append({"name": archive.name, "bytes": size, "sha256": identity})
    return inputs, identities, hashes


def _tidy(lake: Lake, release: str) -> None:
    """Sweep half-written files, stages of other releases, and of this one all but its shards, which are found by name.

    What is left of a killed run could otherwise stand in for what this one has not made.
    """
    sweep(lake.home)
    work = lake.work(release)
    for place in (lake.staging(release), work):
        for path in list(place.iterdir()) if place.is_dir() else []:
            if path != work and path.name not in (*STORES, shards.MARKERS):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    for folder in (lake.home / "releases").glob(f"{STAGING_PREFIX}*"):
        if folder != lake.staging(release):
            shutil.rmtree(folder)
