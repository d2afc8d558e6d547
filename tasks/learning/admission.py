"""The gate before learning: a published release that verifies and whose gates passed, or nothing is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scanmill.manifest import parsed
from tasks.lake import Lake, latest_release, not_published
from tasks.release.signature import trusted_keys
from tasks.release.verify import verify
from tasks.schema import DataRefused, UnusableInput
from tasks.storage import Location, read_bytes

NAMED = 5
"""Problems of a release that are named one by one."""


@dataclass(frozen=True)
class Release:
    """A release that may be learned from."""

    name: str
    folder: Location
    manifest: Mapping[str, Any]
    manifest_sha256: str


def find_release(lake: str, dataset: str, release: str | None) -> Release:
    """That release of a dataset, or its latest; with samples, and with gates that passed.

    Raises :class:`UnusableInput` where there is none of that name, and :class:`DataRefused` for any other.
    """
    place = Lake(lake, dataset)
    if release is None and not place.latest.is_file():
        raise UnusableInput(
            f"{place.home} has no published release: run `scanmill prepare {dataset} --lake {lake}` first"
        )
    name = release or latest_release(place)
    folder = place.release(name)
    if not name.isalnum() or not (folder / "manifest.json").is_file():
        told = not_published(place, name)
        if not name.isalnum():
            raise UnusableInput(f"{told}; --release takes its id alone")
        raise DataRefused(told) if place.refused(name).is_dir() else UnusableInput(told)
    content = read_bytes(folder / "manifest.json")
    try:
        manifest = parsed(content)
    except ValueError as error:
        raise DataRefused(f"{folder / 'manifest.json'} cannot be read: {error}") from error
    if manifest["dataset"] != dataset:  # or another release would be verified than the one that is read
        raise DataRefused(
            f"{folder / 'manifest.json'} is of dataset {manifest['dataset']!r}, in the folder of {dataset}"
        )
    failed = [gate for gate, passed in manifest["gates"].items() if not passed]
    if "documents" in manifest:
        raise DataRefused(f"{dataset}@{name} is a release of documents: there is no image in it to learn from")
    if failed:
        raise DataRefused(
            f"{dataset}@{name} was published although the {' and '.join(failed)} gate failed; nothing is trained from "
            f"it\nreport: {folder / 'quality' / 'index.html'}"
        )
    return Release(name, folder, manifest, hashlib.sha256(content).hexdigest())


def insist_on_whole(lake: str, release: Release) -> None:
    """Raise :class:`DataRefused` unless every byte of the release is what its manifest says, and it is signed as
    :data:`tasks.release.signature.TRUSTED` wants it."""
    problems = verify(Lake(lake, release.manifest["dataset"]), release.name, trusted_keys()).problems
    if problems:
        more = f"\n  and {len(problems) - NAMED:,} more" if len(problems) > NAMED else ""
        listed = "".join(f"\n  {problem}" for problem in problems[:NAMED])
        raise DataRefused(
            f"{release.manifest['dataset']}@{release.name} does not verify; nothing is trained from it:{listed}{more}"
        )
