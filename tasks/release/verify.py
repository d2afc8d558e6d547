"""Is a release what its manifest says? Every checksum, the accounting, the pointer, and the splits themselves."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.datasets import catalogue
from tasks.files import read_json, sha256_file
from tasks.lake import Lake
from tasks.progress import Meter
from tasks.release.manifest import VOLATILE
from tasks.schema import FORMAT_VERSION, Accounting, AccountingError

THREADS = 4


@dataclass(frozen=True)
class Verification:
    """What was checked, and everything that is wrong."""

    release: str
    files: int
    size_bytes: int
    samples: int
    problems: tuple[str, ...]


def verify(lake: Lake, release: str, *, is_latest: bool) -> Verification:
    """Read every byte of a release and compare; ``is_latest`` checks the pointer as well. Never raises for damage."""
    folder = lake.release(release)
    problems: list[str] = []
    if is_latest:
        problems += _pointer_problems(lake, folder)
    try:
        manifest: dict[str, Any] = read_json(folder / "manifest.json")
        listed = [*manifest["shards"], *manifest["files"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Verification(release, 0, 0, 0, (*problems, f"manifest.json: cannot be read ({_said(error)})"))
    problems += _header_problems(manifest, release)
    problems += _file_problems(folder, listed)
    problems += _extra_files(folder, {str(entry["path"]) for entry in listed})
    problems += _content_problems(folder, manifest)
    samples = sum(int(split["samples"]) for split in manifest["splits"].values())
    return Verification(release, len(listed), sum(int(e["bytes"]) for e in listed), samples, tuple(problems))


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _pointer_problems(lake: Lake, folder: Path) -> Iterator[str]:
    try:
        expected = read_json(lake.latest)["manifest_sha256"]
        if hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest() != expected:
            yield "manifest.json: is not the one that latest.json vouches for (sha256 differs)"
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield f"latest.json: cannot be checked ({_said(error)})"


def _header_problems(manifest: Mapping[str, Any], release: str) -> Iterator[str]:
    if manifest.get("format_version") != FORMAT_VERSION:
        yield f"manifest.json: format version {manifest.get('format_version')}, this scanmill reads {FORMAT_VERSION}"
    if manifest.get("release") != release:
        yield f"manifest.json: is of release {manifest.get('release')}, in the folder of {release}"
    try:
        Accounting.from_json(manifest["accounting"]).check()
    except (AccountingError, KeyError, TypeError) as error:
        yield f"manifest.json: accounting: {_said(error)}"


def _file_problems(folder: Path, listed: list[dict[str, Any]]) -> list[str]:
    meter = Meter("verify", sum(int(entry["bytes"]) for entry in listed) // 2**20, "MiB")
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        checked = pool.map(lambda entry: _file_problem(folder, entry, meter.add), listed)
        return [problem for problem in checked if problem]


def _file_problem(folder: Path, entry: Mapping[str, Any], tick: Callable[[int], None]) -> str:
    path = folder / str(entry["path"])
    tick(int(entry["bytes"]) // 2**20)
    if not path.is_file():
        return f"{entry['path']}: is missing"
    size = path.stat().st_size
    if size != entry["bytes"]:
        return f"{entry['path']}: has {size} bytes, {entry['bytes']} expected"
    if sha256_file(path) != entry["sha256"]:
        return f"{entry['path']}: bytes were changed (sha256 differs)"
    return ""


def _extra_files(folder: Path, listed: set[str]) -> Iterator[str]:
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in listed and name != "manifest.json" and not name.startswith(VOLATILE):
            yield f"{name}: is not in the manifest"


def _content_problems(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """The tables against the manifest: as many samples as the shards hold, unique, and no group in two splits."""
    try:
        samples = pq.read_table(folder / "samples.parquet", columns=["sample_id", "split", "group_id", "shard"])
        quarantined = pq.read_table(folder / "quarantine.parquet", columns=["member"])
    except (OSError, pa.ArrowException, KeyError) as error:
        return [f"samples.parquet or quarantine.parquet: cannot be read ({_said(error)})"]
    problems = []
    written = manifest["accounting"]["written"]
    if samples.num_rows != written:
        problems.append(f"samples.parquet: {samples.num_rows} rows, {written} samples were written")
    refused = quarantined.num_rows - quarantined["member"].null_count
    if refused != manifest["accounting"]["quarantined"]:
        problems.append(
            f"quarantine.parquet: {refused} members, {manifest['accounting']['quarantined']} were quarantined"
        )
    frame = samples.to_pandas()
    if frame["sample_id"].duplicated().any():
        problems.append(
            f"samples.parquet: sample id {frame.loc[frame['sample_id'].duplicated(), 'sample_id'].iloc[0]} twice"
        )
    per_store: dict[str, int] = {}
    for shard in manifest["shards"]:
        per_store[shard["store"]] = per_store.get(shard["store"], 0) + shard["samples"]
    problems += [f"{store}: shards hold {n} samples, not {written}" for store, n in per_store.items() if n != written]
    dataset = catalogue().get(manifest["dataset"])
    labelled = frame[frame["split"].isin(dataset.labelled_splits)] if dataset else frame
    crossing = labelled.drop_duplicates(["group_id", "split"])["group_id"].value_counts()
    problems += [f"samples.parquet: group {group} is in {n} labelled splits" for group, n in crossing.items() if n > 1]
    return problems
