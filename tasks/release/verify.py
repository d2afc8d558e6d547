"""Is a release what its manifest says? Every checksum, the accounting, the pointer, and the splits themselves."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from scanmill.manifest import parsed
from tasks.accounting import members_of
from tasks.datasets import catalogue
from tasks.files import read_frame, read_json, sha256_file
from tasks.lake import Lake, latest_release
from tasks.progress import ByteMeter
from tasks.release import document_record, signature
from tasks.release.manifest import PAGE, count_splits, is_volatile, name_of
from tasks.release.signature import PublicKey
from tasks.schema import FORMAT_VERSION, Accounting, AccountingError, ScanmillError
from tasks.storage import Location, is_remote, read_bytes, size_of
from tasks.storage import listed as stored

THREADS = 4
TABLES = ("samples.parquet:", "documents.json:", "quarantine.parquet:", "quality/report.json:")
ODD = "is a link or no plain file, and was not read"
IDENTITY = ("format_version", "dataset", "dataset_version", "parameters", "code")
"""What a release is named after, beside its inputs."""


@dataclass(frozen=True)
class Verification:
    """What was checked, and everything that is wrong."""

    release: str
    files: int
    size_bytes: int
    samples: int
    problems: tuple[str, ...]
    documents: int | None = None
    """Of a document release, which has no samples."""
    unchecked: tuple[str, ...] = ()
    """Codes of the expectations that its gates left out."""
    signed: bool = False
    """Whether there is a signature; whose it is has been told only where keys were given."""


def verify(lake: Lake, release: str, keys: Sequence[PublicKey] = ()) -> Verification:
    """Read every byte of a release and compare, and the pointer if it names this release; with ``keys`` one of their
    holders must have signed it. Never raises for damage."""
    folder = lake.release(release)
    problems: list[str] = []
    if _is_pointed_to(lake, release):
        problems += _pointer_problems(lake, folder)
    there, odd = _there(folder)
    try:
        if "manifest.json" in odd:
            raise ValueError(ODD)
        manifest = parsed(read_bytes(folder / "manifest.json"))
    except (OSError, ValueError) as error:
        return Verification(release, 0, 0, 0, (*problems, f"manifest.json: cannot be read ({_said(error)})"))
    listed: list[dict[str, Any]] = [*manifest["shards"], *manifest["files"]]
    if keys and (unsigned := signature.problem(folder, keys)):
        problems.append(unsigned)
    problems += _header_problems(manifest, release)
    problems += _file_problems(folder, listed, odd)
    if not (folder / PAGE).is_file() and PAGE not in {entry["path"] for entry in listed}:
        problems.append(f"{PAGE}: is missing")  # no digest covers it, but nobody should be without
    problems += _extra_files(there, {str(entry["path"]) for entry in listed}, odd)
    if not any(problem.startswith(TABLES) for problem in problems):  # what is damaged need not be counted
        problems += _content_problems(folder, manifest, {problem.partition(": ")[0] for problem in problems})
    samples = sum(int(split["samples"]) for split in manifest["splits"].values())
    size_bytes = sum(int(entry["bytes"]) for entry in listed)
    unchecked = tuple(manifest.get("unchecked", ()))
    return Verification(
        release,
        len(listed),
        size_bytes,
        samples,
        tuple(problems),
        manifest.get("documents"),
        unchecked,
        size_of(folder / signature.NAME) is not None,
    )


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _is_pointed_to(lake: Lake, release: str) -> bool:
    try:
        return latest_release(lake) == release
    except ScanmillError:
        return False


def _pointer_problems(lake: Lake, folder: Location) -> Iterator[str]:
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
    about = {name: manifest.get(name) for name in IDENTITY}
    if name_of(about, manifest.get("inputs", [])) != release:
        yield "manifest.json: inputs, parameters or code are not those that the release is named after"
    try:
        Accounting.from_json(manifest["accounting"]).check()
    except (AccountingError, KeyError, TypeError, AttributeError, ValueError) as error:
        yield f"manifest.json: accounting: {_said(error)}"


def _there(folder: Location) -> tuple[set[str], set[str]]:
    """Names of the plain files of a release, and of whatever is neither file nor folder: a link may lead out of the
    release, and a pipe has no end."""
    if is_remote(folder):
        return {file.name for file in stored(folder)}, set()
    paths = [Path(below, name) for below, folders, names in os.walk(folder) for name in (*folders, *names)]
    modes = {path.relative_to(folder).as_posix(): path.lstat().st_mode for path in paths}
    plain = {name for name, mode in modes.items() if stat.S_ISREG(mode)}
    return plain, {name for name, mode in modes.items() if name not in plain and not stat.S_ISDIR(mode)}


def _is_within(name: str, odd: set[str]) -> bool:
    """Whether a file is one of these, or lies behind one."""
    parts = name.split("/")
    return bool(odd) and any("/".join(parts[: count + 1]) in odd for count in range(len(parts)))


def _file_problems(folder: Location, listed: list[dict[str, Any]], odd: set[str]) -> list[str]:
    meter = ByteMeter("verify", sum(int(entry["bytes"]) for entry in listed))
    with ThreadPoolExecutor(max_workers=THREADS) as pool:
        checked = pool.map(lambda entry: _file_problem(folder, entry, odd, meter.add), listed)
        return [problem for problem in checked if problem]


def _file_problem(folder: Location, entry: Mapping[str, Any], odd: set[str], tick: Callable[[int], None]) -> str:
    if _is_within(str(entry["path"]), odd):
        return f"{entry['path']}: {ODD}"
    path = folder / str(entry["path"])
    size = size_of(path)
    if size is None:
        return f"{entry['path']}: is missing"
    if size != entry["bytes"]:
        return f"{entry['path']}: has {size} bytes, {entry['bytes']} expected"
    if sha256_file(path, tick) != entry["sha256"]:
        return f"{entry['path']}: bytes were changed (sha256 differs)"
    return ""


def _extra_files(there: set[str], listed: set[str], odd: set[str]) -> Iterator[str]:
    for name in sorted(odd - listed):
        yield f"{name}: {ODD}"
    for name in sorted(there):
        if name not in listed and name not in ("manifest.json", signature.NAME) and not is_volatile(name):
            yield f"{name}: is not in the manifest"


def _content_problems(folder: Location, manifest: Mapping[str, Any], damaged: set[str]) -> list[str]:
    """The tables and the report against the manifest: counts, unique ids, no group in two splits, the gates' word."""
    is_documents = "documents" in manifest
    record = document_record.NAME if is_documents else "samples.parquet"
    try:
        if is_documents:
            own = list(document_record.problems(folder, manifest, damaged))
        else:
            own = list(_table_problems(read_frame(folder / record), manifest))
        quarantined = int(read_frame(folder / "quarantine.parquet", columns=["member"])["member"].count())
        report = read_json(folder / "quality" / "report.json")
        return [*own, *_quarantine_problems(quarantined, manifest), *_report_problems(report, manifest)]
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{record}, quarantine.parquet or quality/report.json: cannot be read ({_said(error)})"]


def _table_problems(samples: pd.DataFrame, manifest: Mapping[str, Any]) -> Iterator[str]:
    counted = manifest["accounting"]
    written = members_of(samples)
    if written != counted["written"]:
        yield f"samples.parquet: {len(samples)} rows of {written} members, {counted['written']} members were written"
    for sample_id in samples.loc[samples["sample_id"].duplicated(), "sample_id"].head(1):
        yield f"samples.parquet: sample id {sample_id} is there twice"
    per_store: dict[str, int] = {}
    for shard in manifest["shards"]:
        per_store[shard["store"]] = per_store.get(shard["store"], 0) + shard["samples"]
    for store, count in per_store.items():
        if count != len(samples):
            yield f"{store}: shards hold {count} samples, not {len(samples)}"
    dataset = catalogue().get(manifest["dataset"])
    if dataset is not None:
        if count_splits(samples, dataset) != manifest["splits"]:
            yield "manifest.json: the counts of its splits are not those of samples.parquet"
        labelled = samples[samples["split"].isin(dataset.labelled_splits)]
        crossing = labelled.drop_duplicates(["group_id", "split"])["group_id"].value_counts()
        for group, count in crossing[crossing > 1].items():
            yield f"samples.parquet: group {group} is in {count} labelled splits"


def _quarantine_problems(quarantined: int, manifest: Mapping[str, Any]) -> Iterator[str]:
    expected = manifest["accounting"]["quarantined"]
    if quarantined != expected:
        yield f"quarantine.parquet: {quarantined} members, {expected} were quarantined"


def _report_problems(report: Mapping[str, Any], manifest: Mapping[str, Any]) -> Iterator[str]:
    if {verdict["gate"]: verdict["passed"] for verdict in report["verdicts"]} != manifest["gates"]:
        yield "manifest.json: what it says of the gates is not what quality/report.json says"
    left_out = [o["code"] for v in report["verdicts"] for o in v["outcomes"] if o["status"] == "unchecked"]
    if left_out != manifest.get("unchecked", []):
        yield "manifest.json: what it says was not checked is not what quality/report.json says"
    if report["accounting"] != manifest["accounting"]:
        yield "manifest.json: its accounting is not that of quality/report.json"
