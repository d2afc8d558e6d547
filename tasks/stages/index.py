"""Fetch and index: what the raw release holds, and therefore what the new release is called."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.archives import Archive, HashMemory, hash_members, list_members
from tasks.datasets import find
from tasks.files import sweep, write_json
from tasks.lake import STAGING_PREFIX, Lake
from tasks.release.manifest import is_published, point_to, release_id
from tasks.samples import index_members
from tasks.schema import Dataset, UnusableInput
from tasks.sources.local import find_archives
from tasks.stages.plan import Plan, Request, write_frame


def fetch(raw: Sequence[str]) -> tuple[Archive, ...]:
    """The archives of a local raw release; nothing is copied."""
    archives = tuple(find_archives([Path(path) for path in raw]))
    if not archives:
        raise UnusableInput(f"there is nothing in {', '.join(raw)}")
    return archives


def index(request: Request, archives: tuple[Archive, ...], *, rehash: bool = False) -> Plan:
    """List and hash the input; unless its release is published already, write ``members.parquet``."""
    dataset = find(request.dataset)
    members = classify(archives, dataset)
    if not (members["kind"] == "image").any():
        raise UnusableInput(
            f"no image of {dataset.name} among the {len(members)} members of {', '.join(request.raw)}; "
            f"expected paths like {next(r.pattern for r in dataset.members if r.kind == 'image')}"
        )
    memory = HashMemory(request.place.hashes, is_trusted=not rehash)
    inputs, identities, hashes = _identify(archives, members, memory)
    release = release_id(dataset, inputs, request.transform, request.stores)
    plan = Plan(request, archives, release, is_published(request.place, release))
    if not plan.is_published:
        _tidy(plan.lake, release)
        members["sha256"] = [hashes.get(name) for name in members["member"]]
        write_frame(plan.work / "members.parquet", members)
        write_json(plan.work / "inputs.json", {"inputs": inputs, "identities": identities})
    return plan


def published_release(request: Request) -> str | None:
    """Id of the release that a request would make, if it is published already; makes sure the pointer names it."""
    plan = index(request, fetch(request.raw))
    if plan.is_published:
        point_to(plan.lake, plan.release)
        return plan.release
    return None


def classify(archives: Sequence[Archive], dataset: Dataset) -> pd.DataFrame:
    """All members of all archives, each with what it is (see :func:`tasks.samples.index_members`)."""
    return index_members([member for archive in archives for member in list_members(archive)], dataset)


def _identify(
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
    """Sweep half-written files, and stages of other releases that no run will ever finish."""
    sweep(lake.home)
    for folder in (lake.home / "releases").glob(f"{STAGING_PREFIX}*"):
        if folder != lake.staging(release):
            shutil.rmtree(folder)
