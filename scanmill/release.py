"""A published release, opened: manifest and sample table are those that are vouched for, and its gates passed."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from scanmill.images import MOST_PIXELS
from scanmill.manifest import complaint, parsed
from scanmill.places import Place, place_of
from scanmill.refusal import ReleaseRefused

FORMAT_VERSION = 1
IDENTITY = ("format_version", "dataset", "dataset_version", "parameters", "code")
"""What a release is named after, beside its inputs (docs/lake.md)."""
NAME_DIGITS = 16
RELEASE = re.compile(r"[0-9a-f]+")
NAMED = 5
"""Problems that are named one by one."""
THREADS = 4
STORES = ("webdataset", "parquet")
TEXTS = ("sample_id", "split", "shard", "image_sha256")
LEAST = {"row": 0, "height": 1, "width": 1, "bit_depth": 1, "image_bytes": 0}
"""Columns of whole numbers that images are found by, with the least that each can be."""


@dataclass(frozen=True)
class Release:
    """A release that may be read. Made by :func:`open_release`."""

    place: Place
    manifest: Mapping[str, Any]
    manifest_sha256: str
    samples: pd.DataFrame
    """One row per sample, in reading order; the columns are those of docs/lake.md. Row numbers count from 0."""

    @property
    def dataset(self) -> str:
        """Its dataset's name."""
        return str(self.manifest["dataset"])

    @property
    def name(self) -> str:
        """Its id: 16 hex digits."""
        return str(self.manifest["release"])

    @property
    def splits(self) -> dict[str, int]:
        """Samples of each split, in reading order."""
        return {str(split): int(count) for split, count in self.samples["split"].value_counts(sort=False).items()}

    @property
    def stores(self) -> tuple[str, ...]:
        """Those that it has, of ``webdataset`` and ``parquet``."""
        held = {entry["store"] for entry in self.manifest["shards"]}
        return tuple(store for store in STORES if store in held)

    def rows_of(self, split: str | tuple[str, ...] | list[str]) -> npt.NDArray[np.int64]:
        """Row numbers of a split, or of several, in reading order. Raises :class:`ValueError` for an unknown one."""
        wanted = [split] if isinstance(split, str) else list(split)
        for name in wanted:
            if name not in self.splits:
                raise ValueError(f"{self.dataset}@{self.name} has no split '{name}'; it has {', '.join(self.splits)}")
        return np.flatnonzero(self.samples["split"].isin(wanted).to_numpy()).astype(np.int64)

    def shard_path(self, store: str, shard: str) -> str:
        """Path within the release of a shard by its name in the sample table. Raises :class:`ReleaseRefused`."""
        path = self._shard_paths.get((store, shard))
        if path is None:
            raise ReleaseRefused(f"{self.place}/samples.parquet: shard {shard} is not in the manifest's {store} shards")
        return path

    @cached_property
    def _shard_paths(self) -> dict[tuple[str, str], str]:
        paths = {}
        for entry in self.manifest["shards"]:
            number = str(entry["path"]).rpartition("/")[2].rpartition(".")[0].rpartition("-")[2]
            paths[str(entry["store"]), f"{entry['split']}/{number}"] = str(entry["path"])
        return paths

    def verify(self) -> None:
        """Read every byte of every file and shard. Raises :class:`ReleaseRefused` that lists what is wrong."""
        with ThreadPoolExecutor(THREADS) as pool:
            found = [said for said in pool.map(self._problem, _listed(self.manifest)) if said]
        if found:
            raise ReleaseRefused(_refusal(self.place, found))

    def _problem(self, entry: Mapping[str, Any]) -> str:
        try:
            content = (self.place / str(entry["path"])).read()
        except OSError as error:
            return f"{entry['path']}: cannot be read ({error})"
        if hashlib.sha256(content).hexdigest() != entry["sha256"]:
            return f"{entry['path']}: bytes were changed (sha256 differs)"
        return ""


def open_release(
    place: str | os.PathLike[str], *, manifest_sha256: str | None = None, allow_failed_gates: bool = False
) -> Release:
    """Open ``<lake>/<dataset>`` (its latest release), ``<lake>/<dataset>@<release>``, or a release's own folder.

    Each may be a path or a URL (``s3://…``). ``manifest_sha256`` pins the manifest, and by it every byte.

    Raises :class:`ReleaseRefused` where there is no such release; where the manifest cannot be read, is of another
    format, is not what the release is named after, or is not the one that ``latest.json`` or ``manifest_sha256``
    vouches for; where a gate failed, unless that is allowed; where a file is missing or of another size; where
    ``samples.parquet`` was changed; and for a release of documents. Images are checked when they are read.
    """
    folder, expected, wanted = _find(place)
    content = _read(folder / "manifest.json")
    sha256 = hashlib.sha256(content).hexdigest()
    for who, value in (("latest.json", expected), ("manifest_sha256=", manifest_sha256)):
        if value is not None and value != sha256:
            raise ReleaseRefused(f"{folder}/manifest.json is not the one that {who} vouches for (sha256 {sha256})")
    try:
        manifest = parsed(content)
        if wanted is not None and manifest["release"] != wanted:
            raise ReleaseRefused(f"{folder}/manifest.json is of release {manifest['release']}, not of {wanted}")
        return from_manifest(folder, manifest, sha256, allow_failed_gates=allow_failed_gates)
    except ValueError as error:
        raise ReleaseRefused(f"{folder}/manifest.json cannot be read: {error}") from error


def from_manifest(
    place: Place, manifest: Mapping[str, Any], manifest_sha256: str, *, allow_failed_gates: bool = False
) -> Release:
    """The release of a manifest that was read already; refuses as :func:`open_release` does."""
    if said := complaint(manifest):
        raise ReleaseRefused(f"{place}/manifest.json cannot be read: {said}")
    version = manifest.get("format_version")
    if version != FORMAT_VERSION:
        raise ReleaseRefused(
            f"{place}/manifest.json has format version {version}, this scanmill reads {FORMAT_VERSION}"
        )
    about = {name: manifest.get(name) for name in IDENTITY}
    if _name_of(about, manifest.get("inputs", [])) != manifest["release"]:
        raise ReleaseRefused(
            f"{place}/manifest.json: inputs, parameters or code are not those that release {manifest['release']} is "
            f"named after"
        )
    if "documents" in manifest:
        raise ReleaseRefused(f"{place} is a release of documents: there is no image in it")
    failed = [gate for gate, passed in manifest["gates"].items() if not passed]
    if failed and not allow_failed_gates:
        raise ReleaseRefused(
            f"{place} was published although the {' and '.join(failed)} gate failed: read {place}/quality/index.html, "
            f"and give allow_failed_gates=True to read it all the same"
        )
    sizes = place.sizes()
    listed = _listed(manifest)
    problems = [said for entry in listed if (said := _size_problem(entry, sizes.get(str(entry["path"]))))]
    if problems:
        raise ReleaseRefused(_refusal(place, problems))
    return Release(place, manifest, manifest_sha256, _samples(place, listed))


def _find(place: str | os.PathLike[str]) -> tuple[Place, str | None, str | None]:
    """Folder of the release, the hash that the pointer has of its manifest, and the id that was asked for."""
    words = os.fspath(place).rstrip("/")
    found = place_of(words)
    if _is_there(found / "manifest.json"):
        return found, _vouched(found.parent.parent, found.name), None
    home, _, release = words.rpartition("@")
    if home and "/" not in release and not _is_there(found / "latest.json"):
        at = place_of(home)
        folder = at / "releases" / release
        if not _is_there(folder / "manifest.json"):
            raise ReleaseRefused(f"{at} has no published release '{release}'")
        return folder, _vouched(at, release), release
    if not _is_there(found / "latest.json"):
        raise ReleaseRefused(
            f"{found} is no release: it has neither manifest.json nor latest.json. Give <lake>/<dataset>, "
            f"<lake>/<dataset>@<release> or the folder of a release"
        )
    pointer = _pointer(found)
    return found / "releases" / pointer[0], pointer[1], pointer[0]


def _is_there(place: Place) -> bool:
    return bool(place.storage.isfile(place.path)) if place.storage is not None else os.path.isfile(place.path)  # noqa: PTH113


def _vouched(home: Place, release: str) -> str | None:
    """What ``latest.json`` says of this release; nothing where it names another one, or there is none."""
    if not _is_there(home / "latest.json"):
        return None
    named, sha256 = _pointer(home)
    return sha256 if named == release else None


def _pointer(home: Place) -> tuple[str, str]:
    try:
        pointer = json.loads((home / "latest.json").read())
        release, sha256 = str(pointer["release"]), str(pointer["manifest_sha256"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ReleaseRefused(f"{home}/latest.json cannot be read: {type(error).__name__}: {error}") from error
    if not RELEASE.fullmatch(release):
        raise ReleaseRefused(f"{home}/latest.json cannot be read: {release!r} is no release id")
    return release, sha256


def _read(place: Place) -> bytes:
    try:
        return place.read()
    except FileNotFoundError as error:
        raise ReleaseRefused(f"{place} is missing") from error


def _name_of(about: Mapping[str, Any], inputs: Any) -> str:
    """Release id: first digits of the SHA-256 of the canonical JSON of identity and inputs."""
    plain = json.dumps([about, inputs], sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(plain.encode()).hexdigest()[:NAME_DIGITS]


def _listed(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*manifest["shards"], *manifest["files"]]


def _size_problem(entry: Mapping[str, Any], size: int | None) -> str:
    if size is None:
        return f"{entry['path']}: is missing, or a link"
    return "" if size == entry["bytes"] else f"{entry['path']}: has {size:,} bytes, {entry['bytes']:,} expected"


def _refusal(place: Place, problems: list[str]) -> str:
    more = f"\n  and {len(problems) - NAMED:,} more" if len(problems) > NAMED else ""
    return f"{place} does not verify:" + "".join(f"\n  {problem}" for problem in problems[:NAMED]) + more


def _samples(place: Place, listed: list[Mapping[str, Any]]) -> pd.DataFrame:
    entry = next((entry for entry in listed if entry["path"] == "samples.parquet"), None)
    if entry is None:
        raise ReleaseRefused(f"{place}/manifest.json lists no samples.parquet")
    content = _read(place / "samples.parquet")
    if hashlib.sha256(content).hexdigest() != entry["sha256"]:
        raise ReleaseRefused(f"{place}/samples.parquet: bytes were changed (sha256 differs)")
    try:
        samples = pd.read_parquet(io.BytesIO(content))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        raise ReleaseRefused(f"{place}/samples.parquet cannot be read: {error}") from error
    largest_tar = max((int(entry["bytes"]) for entry in listed if entry.get("store") == "webdataset"), default=None)
    try:
        said = _column_problem(samples, largest_tar)
    except UnicodeDecodeError as error:
        said = f"it holds text that is none: {error}"
    if said:
        raise ReleaseRefused(f"{place}/samples.parquet is no sample table: {said}")
    return samples


def _column_problem(samples: pd.DataFrame, largest_tar: int | None) -> str:
    """What of the columns that images are found by cannot be; ``largest_tar`` is the bytes of the largest tar, None
    where there is none."""
    for name in (*TEXTS, *LEAST):
        if name not in samples:
            return f"it has no column '{name}'"
        values = samples[name]
        is_kind = pd.api.types.is_string_dtype if name in TEXTS else pd.api.types.is_integer_dtype
        if not is_kind(values) or None in values.tolist() or values.isna().any():
            return (
                f"column '{name}' has {'cells that are no text' if name in TEXTS else 'cells that are no whole number'}"
            )
        if name in LEAST and (values < LEAST[name]).any():
            return f"column '{name}' has {values.min()}, {LEAST[name]} is the least"
    if (samples["height"].astype(float) * samples["width"] > MOST_PIXELS).any():
        return f"an image has more than {MOST_PIXELS:,} pixels"
    offset = samples.get("tar_offset")
    if offset is not None and not pd.api.types.is_numeric_dtype(offset):
        return "column 'tar_offset' has cells that are no whole number"
    ends = samples["image_bytes"].astype(float) + (0 if offset is None else offset)
    if largest_tar is not None and (ends > largest_tar).any():
        return "an image ends behind the end of every shard"
    return ""
