"""Gather and index: what the raw release holds, and therefore what the new release is called."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from tasks import credentials, locked_zips, shards
from tasks.archives import LOOSE, Archive, is_archive_name, list_all
from tasks.credentials import Credentials
from tasks.datasets import catalogue, find
from tasks.dicom.index import expanded, read_headers, summary
from tasks.files import digest, sweep, write_json
from tasks.lake import STAGING_PREFIX, WORK, Lake
from tasks.memory import giving_back
from tasks.raw_memory import HashMemory, hash_archives, remembering
from tasks.release.manifest import insist_on_gates, is_published, name_of, point_to
from tasks.samples import index_members, set_nested_copies_aside
from tasks.schema import STORES, Dataset, Lock, UnusableInput
from tasks.sources.local import find_archives
from tasks.split_file import split_file_input
from tasks.stages.plan import Plan, Request, identity_of, write_frame
from tasks.storage import Location, is_remote, location, look, remove, remove_tree
from tasks.table_choice import choose_tables, name_tables

DICOM_SUMMARY = "dicom.json"
"""What was in the headers of DICOM files, in counts: a file of the release."""
FOREIGN = (".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst", ".7z", ".rar")
"""Archives that are left as loose files."""


def gather(request: Request, secrets: Credentials, *, insist: bool = True) -> tuple[Archive, ...]:
    """The archives of a raw release, with what opens them; nothing is copied.

    Raises :class:`UnusableInput` for an encrypted archive whose password is missing or wrong. Without ``insist`` it is
    taken as it is: its members can be listed, not read.
    """
    archives = tuple(find_archives([location(path) for path in request.raw]))
    if not archives:
        raise UnusableInput(
            f"there is nothing in {', '.join(request.raw)}: --raw wants the publisher's archives and tables; "
            f"`scanmill datasets` says where to get them"
        )
    dataset = find(request.dataset)
    if dataset.dicom is not None:
        archives = tuple(replace(archive, has_frames=True) for archive in archives)
    lock = dataset.lock
    return archives if lock is None else tuple(_unlocked(archive, lock, secrets, insist=insist) for archive in archives)


def _unlocked(archive: Archive, lock: Lock, secrets: Credentials, *, insist: bool) -> Archive:
    if archive.kind != "zip":
        return archive
    path = location(archive.paths[0])
    try:
        is_locked = locked_zips.is_locked(path)
    except zipfile.BadZipFile as error:
        raise UnusableInput(f"{path} is not a readable zip ({error}): fetch it again") from error
    if not is_locked:
        return archive
    if insist:
        password = credentials.insist(lock.secret, secrets, f"{archive.name} is encrypted", lock.access)
        if not locked_zips.opens(path, password):
            raise UnusableInput(
                f"the password in {credentials.variable(lock.secret)} (or in the Prefect Secret block "
                f"{credentials.block(lock.secret)}) does not open {archive.name}. {lock.access}"
            )
    return replace(archive, is_lockable=True, password=secrets.get(lock.secret))


@giving_back
def index(request: Request, archives: tuple[Archive, ...], *, rehash: bool = False) -> Plan:
    """List and hash the input; unless its release is published already, write ``members.parquet``.

    To be called under the dataset's lock: it sweeps what killed runs left behind.
    """
    plan, members, record = _identify(request, archives, rehash=rehash)
    if not plan.is_published:
        _tidy(plan.lake, plan.release)
        if plan.dataset.dicom is not None:
            headers = read_headers(members, plan.archives, plan.dataset, record["identities"], plan.lake.chunks)
            members = expanded(members, headers, plan.archives)
            write_frame(plan.work / "headers.parquet", headers)
            write_json(plan.work / DICOM_SUMMARY, summary(headers, plan.dataset))
        write_frame(plan.work / "members.parquet", members)
        write_json(plan.work / "inputs.json", record)
    return plan


def published_release(request: Request, secrets: Credentials, *, allow_gate_failure: bool = False) -> str | None:
    """Id of the release that a request would make, if it is published already; makes sure the pointer names it.

    Raises :class:`tasks.schema.DataRefused` when one of its gates had failed and that is not allowed.
    """
    plan, _, _ = _identify(request, gather(request, secrets, insist=False), rehash=False)
    if plan.is_published:
        reuse_published(plan, allow_gate_failure=allow_gate_failure)
        return plan.release
    return None


def reuse_published(plan: Plan, *, allow_gate_failure: bool) -> None:
    """Point to a release that needs no making; see :func:`published_release`."""
    if not allow_gate_failure:
        insist_on_gates(plan.lake, plan.release)
    point_to(plan.lake, plan.release)
    remove_tree(plan.work)  # of a run that was killed with its last breath


def _identify(
    request: Request, archives: tuple[Archive, ...], *, rehash: bool
) -> tuple[Plan, pd.DataFrame, dict[str, Any]]:
    """The plan, its members (with ``sha256`` of loose files), and ``inputs`` and ``identities`` for inputs.json."""
    dataset = find(request.dataset)
    _keep_apart(request)
    archives = tuple(remembering(archive, request.place.chunks, is_trusted=not rehash) for archive in archives)
    members = classify(archives, dataset)
    is_documents = holds_documents_only(members)
    if not is_documents:
        insist_on_images(members, dataset, request)
    tables = () if is_documents else choose_tables(members, dataset, request.table)
    memory = HashMemory(request.place.hashes, is_trusted=not rehash)
    inputs, identities, hashes = _hash_inputs(archives, members, memory)
    members["sha256"] = [hashes.get(name) for name in members["member"]]
    if request.split_file is not None:
        inputs.append(split_file_input(location(request.split_file)))
    release = name_of(identity_of(request, tables, is_documents=is_documents), inputs)
    plan = Plan(request, archives, tables, release, is_published(request.place, release), is_documents)
    return plan, members, {"inputs": inputs, "identities": identities}


def insist_on_images(members: pd.DataFrame, dataset: Dataset, request: Request) -> None:
    """Raise :class:`UnusableInput` where no member is an image of this dataset."""
    if not (members["kind"] == "image").any():
        raise UnusableInput(
            f"no image of {dataset.name} among the {len(members)} members of {', '.join(request.raw)}; "
            f"expected paths like {next(r.pattern for r in dataset.members if r.kind == 'image')}"
            f"{_fitting(members)}{_hint(members)}"
        )


def _fitting(members: pd.DataFrame) -> str:
    """Another dataset whose images most of the members would be."""
    for name, declared in catalogue().items():
        patterns = [re.compile(rule.pattern) for rule in declared.members if rule.kind == "image"]
        fitting = sum(any(pattern.search(member) for pattern in patterns) for member in members["member"])
        if fitting > len(members) / 2:
            return f". It looks like {name}"
    return ""


def _hint(members: pd.DataFrame) -> str:
    """What to do about archives of other kinds, and about archives in archives: they are members like any other."""
    is_loose = members["archive"] == LOOSE
    inner = members.loc[~is_loose & members["member"].map(is_archive_name), ["archive", "member"]]
    foreign = members.loc[members["member"].str.lower().str.endswith(FOREIGN), "member"]
    hint = ""
    if not inner.empty:
        archive, member = inner.iloc[0]
        hint += f"; {archive} holds the archive {member}: unpack the outer one, and give the inner one as it is"
    if not foreign.empty:
        hint += f"; {foreign.iloc[0]} is an archive of a kind that is not read in place: repack it as .zip or .tar.gz"
    return hint


def _keep_apart(request: Request) -> None:
    """A lake below a raw folder would be read as raw data by the next run."""
    for raw in request.raw:
        if _is_below(location(request.lake), location(raw)):
            raise UnusableInput(f"the lake {request.lake} lies inside the raw path {raw}: choose a folder beside it")


def _is_below(place: Location, folder: Location) -> bool:
    if is_remote(place) or is_remote(folder):
        return f"{place}/".startswith(f"{folder}/")
    return place.resolve().is_relative_to(folder.resolve())


def classify(archives: Sequence[Archive], dataset: Dataset) -> pd.DataFrame:
    """All members of all archives, each with what it is (see :func:`tasks.samples.index_members`).

    Documents that lie beside images are left out: they would make a release of their own.
    """
    members = index_members(list_all(archives), dataset)
    if members["kind"].isin(["image", "mask"]).any():
        members.loc[members["kind"] == "document", "kind"] = "ignored"
    return name_tables(set_nested_copies_aside(members), archives, dataset)


def holds_documents_only(members: pd.DataFrame) -> bool:
    """Whether there are documents, and nothing else that a release is made of."""
    return set(members["kind"]) & {"document", "image", "mask", "table"} == {"document"}


def _hash_inputs(
    archives: Sequence[Archive], members: pd.DataFrame, memory: HashMemory
) -> tuple[list[dict[str, Any]], dict[str, str], dict[str, str]]:
    """Manifest inputs, archive name to identity, and loose file to sha256.

    Loose tables are inputs of their own; loose images stand together as one, or the manifest would list them all.
    """
    inputs: list[dict[str, Any]] = []
    identities: dict[str, str] = {}
    hashes: dict[str, str] = {}
    hashed = hash_archives(archives, memory)
    for archive in archives:
        identity, by_name = hashed[archive.name].identity, hashed[archive.name].by_member
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
            identity = digest(sorted((name, by_name[name]) for name in own["member"]))
        else:
            size = look(location(archive.paths[0])).size_bytes
        inputs.append({"name": archive.name, "bytes": size, "sha256": identity})
    return inputs, identities, hashes


def _tidy(lake: Lake, release: str) -> None:
    """Sweep half-written files, stages of other releases, and of this one all but its shards, which are found by name.

    What is left of a killed run could otherwise stand in for what this one has not made.
    """
    sweep(lake.home)
    staging, work = lake.staging(release), lake.work(release)
    # On object storage a damaged release is made anew in its place: without its manifest it is none from here on.
    remove(staging / "manifest.json")
    for place in (staging, work):
        for path in _inside(place):
            if path.name not in (WORK, *STORES, shards.MARKERS):
                remove_tree(path) if path.is_dir() else remove(path)
    for folder in _stages(lake):
        if folder not in (staging, work):
            remove_tree(folder)


def _stages(lake: Lake) -> list[Location]:
    """What runs of this release or others have left, unfinished."""
    folder = lake.home / "releases"
    if not is_remote(folder):
        return list(folder.glob(f"{STAGING_PREFIX}*"))
    published = lake.published()
    stages = [place for place in _inside(folder) if place.name not in published]
    return [*stages, *_inside(lake.home / WORK)]


def _inside(folder: Location) -> list[Location]:
    return list(folder.iterdir()) if folder.is_dir() else []
