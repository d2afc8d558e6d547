"""The manifest, the pointer and the swap: how a release comes into being, and what it is called."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.code_version import DOCUMENT_PACKAGES, PACKAGES, library_versions, release_version, scanmill_version
from tasks.files import digest, read_json, readable_json, sha256_file, sync_folder, write_bytes
from tasks.lake import WORK, Lake
from tasks.schema import FORMAT_VERSION, Accounting, DataRefused, Dataset, Verdict

RELEASE_DIGITS = 16


def is_volatile(name: str) -> bool:
    """Whether a file of a release tells when, how or after which other it was made; no digest covers such."""
    return name in ("quality/run.json", "quality/changes.html") or name.startswith("quality/data_docs/")


def name_of(about: Mapping[str, Any], inputs: Sequence[Mapping[str, Any]]) -> str:
    """Release id: first 16 hex digits of the digest of an :func:`identity` and its inputs."""
    return digest([dict(about), list(inputs)])[:RELEASE_DIGITS]


def identity(dataset: Dataset, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters and code versions, as they stand in the manifest."""
    versions = library_versions((*PACKAGES, *DOCUMENT_PACKAGES))
    return {
        "format_version": FORMAT_VERSION,
        "dataset": dataset.name,
        "dataset_version": dataset.version,
        "parameters": dict(parameters),
        "code": {"scanmill": scanmill_version(), "source": release_version(), **versions},
    }


def manifest(
    staging: Path,
    release: str,
    about: Mapping[str, Any],
    inputs: Sequence[Mapping[str, Any]],
    splits: Mapping[str, Mapping[str, Any]],
    shards: Sequence[Mapping[str, Any]],
    accounting: Accounting,
    verdicts: Sequence[Verdict],
) -> dict[str, Any]:
    """The manifest of a staged release; holds no wall-clock, so equal releases have equal manifests.

    ``splits`` as :func:`count_splits` gives them.
    """
    return {
        **about,
        "release": release,
        "inputs": list(inputs),
        "splits": dict(splits),
        "shards": list(shards),
        "files": list_files(staging, {str(shard["path"]) for shard in shards}),
        "accounting": accounting.as_json(),
        "gates": {verdict.gate: verdict.passed for verdict in verdicts},
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


def list_files(staging: Path, shards: set[str]) -> list[dict[str, Any]]:
    """Path, bytes and sha256 of every other file of a release, volatile ones and the manifest left out."""
    found = []
    for path in sorted(p for p in staging.rglob("*") if p.is_file()):
        name = path.relative_to(staging).as_posix()
        if name in shards or name == "manifest.json" or name.startswith(WORK + "/") or is_volatile(name):
            continue
        found.append({"path": name, "bytes": path.stat().st_size, "sha256": sha256_file(path)})
    return found


def publish(lake: Lake, release: str) -> Path:
    """Move the staged release, manifest and all, to its name, then swap the pointer. Returns the release folder."""
    staging = lake.staging(release)
    shutil.rmtree(lake.work(release), ignore_errors=True)
    target = lake.release(release)
    if target.exists():  # an earlier run died between the move and the swap, or a damaged release is made anew
        shutil.rmtree(target)
    for folder in [staging, *(p for p in staging.rglob("*") if p.is_dir())]:
        sync_folder(folder)
    os.rename(staging, target)  # noqa: PTH104 (one atomic step, named as such)
    sync_folder(target.parent)
    point_to(lake, release)
    shutil.rmtree(lake.refused(release), ignore_errors=True)
    return target


def point_to(lake: Lake, release: str) -> None:
    """Make ``latest.json`` name a release; does nothing when it does already."""
    data = (lake.release(release) / "manifest.json").read_bytes()
    pointer = readable_json({"release": release, "manifest_sha256": hashlib.sha256(data).hexdigest()})
    if not lake.latest.is_file() or lake.latest.read_bytes() != pointer:
        write_bytes(lake.latest, pointer)


def is_published(lake: Lake, release: str) -> bool:
    """Whether a release of that id is there, with a manifest that says so and every file of the size it names."""
    folder = lake.release(release)
    try:
        content = read_json(folder / "manifest.json")
        listed = [*content["shards"], *content["files"]]
        return content["release"] == release and all(
            (folder / entry["path"]).stat().st_size == entry["bytes"] for entry in listed
        )
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


def manifests(lake: Lake) -> list[tuple[Path, dict[str, Any]]]:
    """Folder and manifest of every published release of a dataset."""
    return [(lake.release(name), read_json(lake.release(name) / "manifest.json")) for name in lake.published()]
