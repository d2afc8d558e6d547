"""The manifest, the pointer and the swap: how a release comes into being, and what it is called."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from scanmill.manifest import parsed
from tasks.code_version import (
    DICOM_PACKAGES,
    DOCUMENT_PACKAGES,
    GROUPING_PACKAGES,
    PACKAGES,
    library_versions,
    release_version,
    scanmill_version,
)
from tasks.datasets import own_source
from tasks.files import digest, read_json, readable_json, sha256_file, sync_folder, write_bytes, write_json
from tasks.lake import WORK, Lake
from tasks.schema import FORMAT_VERSION, Accounting, DataRefused, Dataset, Verdict
from tasks.storage import Location, is_remote, listed, read_bytes, remove_tree

RELEASE_DIGITS = 16
SIGNATURE = "manifest.json.sig"
"""See :mod:`tasks.release.signature`."""
PAGE = "quality/index.html"
"""The report for people: it tells of the release before as well, so its bytes depend on which that was."""
VOLATILE = (
    PAGE,
    "quality/drift.json",
    "quality/run.json",
    "quality/changes.html",
    "quality/dask-convert.html",
    "quality/dask-assemble.html",
)


def is_volatile(name: str) -> bool:
    """Whether a file of a release tells when, how or after which other it was made; no digest covers such."""
    return name in VOLATILE or name.startswith("quality/data_docs/")


def name_of(about: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]]) -> str:
    """Release id: first 16 hex digits of the digest of an :func:`identity` and its inputs."""
    return digest([dict(about), list(inputs)])[:RELEASE_DIGITS]


def identity(dataset: Dataset, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters and code versions, as they stand in the manifest.

    The source of a declaration that lies outside scanmill is told apart: ``declaration``.
    """
    decoders = () if dataset.dicom is None else DICOM_PACKAGES
    versions = library_versions((*PACKAGES, *GROUPING_PACKAGES, *DOCUMENT_PACKAGES, *decoders))
    own = own_source(dataset.name)
    return {
        "format_version": FORMAT_VERSION,
        "dataset": dataset.name,
        "dataset_version": dataset.version,
        "parameters": dict(parameters),
        "code": {
            "scanmill": scanmill_version(),
            "source": release_version(),
            **({"declaration": own} if own else {}),
            **versions,
        },
    }


def manifest(
    staging: Location,
    release: str,
    about: Mapping[str, Any],
    inputs: Sequence[Mapping[str, Any]],
    splits: Mapping[str, Mapping[str, Any]],
    shards: Sequence[Mapping[str, Any]],
    accounting: Accounting,
    verdicts: Sequence[Verdict],
) -> dict[str, Any]:
    """The manifest of a staged release; holds no wall-clock, so equal releases have equal manifests.

    ``splits`` as :func:`count_splits` gives them. ``unchecked``, where there are any, are codes of expectations that
    the gates left out: a gate that passed says nothing of them.
    """
    unchecked = [code for verdict in verdicts for code in verdict.unchecked]
    return {
        **about,
        "release": release,
        "inputs": list(inputs),
        "splits": dict(splits),
        "shards": list(shards),
        "files": list_files(staging, {str(shard["path"]) for shard in shards}),
        "accounting": accounting.as_json(),
        "gates": {verdict.gate: verdict.passed for verdict in verdicts},
        **({"unchecked": unchecked} if unchecked else {}),
    }


def count_splits(samples: pd.DataFrame, dataset: Dataset) -> dict[str, dict[str, Any]]:
    """Split to ``samples``, ``shards`` (of each store), ``groups``, and per label ``present absent unknown``."""
    return {
        split: {
            "samples": len(part),
            "shards": int(part["shard"].nunique()),
            "groups": int(part["group_id"].nunique()),
            "labels": {name: _label_counts(part[f"label.{name}"]) for name in dataset.labels},
        }
        for split in dataset.splits
        if len(part := samples[samples["split"] == split])
    }


def _label_counts(values: pd.Series) -> dict[str, int]:
    counts = {"present": int((values == 1).sum()), "absent": int((values == 0).sum())}
    return {**counts, "unknown": len(values) - sum(counts.values())}


def list_files(staging: Location, shards: set[str]) -> list[dict[str, Any]]:
    """Path, bytes and sha256 of every other file of a release, volatile ones and the manifest left out."""
    found = []
    for file in sorted(listed(staging), key=lambda file: file.name):
        name = file.name
        if name in shards or name == "manifest.json" or name.startswith(WORK + "/") or is_volatile(name):
            continue
        found.append({"path": name, "bytes": file.size_bytes, "sha256": sha256_file(file.path)})
    return found


def publish(lake: Lake, release: str, content: Mapping[str, Any]) -> Location:
    """Make the staged release one, with its manifest, then swap the pointer. Returns the release folder."""
    staging, target = lake.staging(release), lake.release(release)
    if is_remote(staging) or is_remote(target):
        write_json(target / "manifest.json", content)  # with it, what lies there is a release
        point_to(lake, release)
        remove_tree(lake.work(release))
    else:
        write_json(staging / "manifest.json", content)
        remove_tree(lake.work(release))
        _rename(staging, target)
        point_to(lake, release)
    remove_tree(lake.refused(release))
    return target


def _rename(staging: Path, target: Path) -> None:
    if target.exists():  # an earlier run died between the move and the swap, or a damaged release is made anew
        _keep_signature(target, staging)
        shutil.rmtree(target)
    for folder in [staging, *(p for p in staging.rglob("*") if p.is_dir())]:
        sync_folder(folder)
    os.rename(staging, target)  # noqa: PTH104 (one atomic step, named as such)
    sync_folder(target.parent)


def _keep_signature(before: Path, after: Path) -> None:
    """The same release has the same manifest, so that who vouched for it still does; should it be another one after
    all, `verify --key` says so."""
    signature = before / SIGNATURE
    if signature.is_file() and not signature.is_symlink():
        write_bytes(after / SIGNATURE, signature.read_bytes())


def point_to(lake: Lake, release: str) -> None:
    """Make ``latest.json`` name a release; does nothing when it does already."""
    data = read_bytes(lake.release(release) / "manifest.json")
    pointer = readable_json({"release": release, "manifest_sha256": hashlib.sha256(data).hexdigest()})
    if not lake.latest.is_file() or read_bytes(lake.latest) != pointer:
        write_bytes(lake.latest, pointer)


def read_manifest(folder: Location) -> dict[str, Any]:
    """The manifest of a release, of whomever it is. Raises :class:`DataRefused` where it cannot be one."""
    path = folder / "manifest.json"
    try:
        return parsed(read_bytes(path))
    except ValueError as error:
        raise DataRefused(f"{path} cannot be read: {error}") from error


def is_published(lake: Lake, release: str) -> bool:
    """Whether a release of that id is there, with a manifest that says so and every file of the size it names."""
    folder = lake.release(release)
    try:
        content = read_json(folder / "manifest.json")
        sizes = {file.name: file.size_bytes for file in listed(folder)}
        named = [*content["shards"], *content["files"]]
        is_whole = PAGE in sizes and all(sizes.get(entry["path"]) == entry["bytes"] for entry in named)
        return is_whole and bool(content["release"] == release)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def insist_on_gates(lake: Lake, release: str) -> None:
    """Raise :class:`tasks.schema.DataRefused` for a release that was published although a gate had failed."""
    failed = [
        gate for gate, passed in read_json(lake.release(release) / "manifest.json")["gates"].items() if not passed
    ]
    if failed:
        raise DataRefused(
            f"release {release} holds this already, but it was published with --allow-gate-failure: the "
            f"{' and '.join(failed)} gate failed\nreport: {lake.release(release) / 'quality' / 'index.html'}"
        )


def manifests(lake: Lake) -> list[tuple[Location, dict[str, Any]]]:
    """Folder and manifest of every published release of a dataset."""
    return [(lake.release(name), read_json(lake.release(name) / "manifest.json")) for name in lake.published()]
