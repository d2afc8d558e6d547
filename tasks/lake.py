"""Where things lie in a lake: the one place that knows the paths of DESIGN.md §5."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tasks.files import read_json
from tasks.schema import DataRefused, ScanmillError, UnusableInput
from tasks.storage import Location, insist_on_reachable, is_remote, location

RELEASE_ID = re.compile(r"[0-9a-f]{16}")
STAGING_PREFIX = ".staging-"
WORK = ".work"
"""Tables that travel between stages, inside the staged release; gone before it is published."""


@dataclass(frozen=True)
class Lake:
    """The part of a lake that belongs to one dataset."""

    root: str
    dataset: str

    @property
    def home(self) -> Location:
        """``<lake>/<dataset>``; a leading ``~`` is the user's home."""
        return location(self.root) / self.dataset

    @property
    def raw(self) -> Location:
        """What was fetched from a remote source, with its record."""
        return self.home / "raw"

    @property
    def chunks(self) -> Location:
        """The conversion cache."""
        return self.home / "chunks"

    @property
    def hashes(self) -> Location:
        """What is remembered of raw files, beside the chunks and as safe to delete."""
        return self.chunks / "raw-hashes.json"

    @property
    def latest(self) -> Location:
        """The pointer to the newest release."""
        return self.home / "latest.json"

    @property
    def lock(self) -> Location:
        """Held while a release is being made."""
        return self.home / ".lock"

    def release(self, release: str) -> Location:
        """A published release."""
        return self.home / "releases" / release

    def staging(self, release: str) -> Location:
        """A release in the making; the dot keeps it out of listings.

        Object storage has no rename: there the files are written where they stay, and are a release only with the
        manifest, which is written last.
        """
        if is_remote(self.home):
            return self.release(release)
        return self.home / "releases" / f"{STAGING_PREFIX}{release}"

    def work(self, release: str) -> Location:
        """Tables between stages; on object storage never among what may become a release."""
        if is_remote(self.home):
            return self.home / WORK / release
        return self.staging(release) / WORK

    def refused(self, release: str) -> Location:
        """The report and quarantine of a release that a gate refused; holds no shards."""
        return self.home / "refused" / release

    def published(self) -> list[str]:
        """Ids of all published releases, sorted."""
        folder = self.home / "releases"
        if not folder.is_dir():
            return []
        return sorted(
            path.name for path in folder.iterdir() if (path / "manifest.json").is_file() and path.name[0] != "."
        )


def insist_on_lake(lake: str) -> None:
    """Raise :class:`UnusableInput`, in words, for what can be no lake: a file, a slip, storage out of reach."""
    place = location(lake)
    insist_on_reachable(place)
    if is_remote(place):
        return
    first = lake.partition("/")[0]
    if first.endswith(":"):
        raise UnusableInput(
            f"the lake {lake} would be a folder called {first!r}: did you mean s3://{lake[len(first) :].strip('/')}?"
        )
    if place.is_file():
        raise UnusableInput(f"the lake {lake} is a file: name a folder")


def locate(reference: str) -> tuple[Lake, str | None]:
    """Lake and release id (or None for the latest) of ``LAKE/DATASET[@RELEASE]``.

    Raises :class:`ScanmillError` when there is no such place.
    """
    place, _, release = reference.partition("@")
    home = location(place.rstrip("/") or "/")
    insist_on_reachable(home)
    if not home.is_dir():
        raise ScanmillError(f"{home} does not exist{_meant(home)}")
    if not ((home / "releases").is_dir() or (home / "refused").is_dir()):
        inside = _datasets_in(home)
        hint = f"; it holds {', '.join(inside)}" if inside else _meant(home)
        raise ScanmillError(f"{home} is no dataset of a lake (it has no releases){hint}")
    return Lake(str(home.parent), home.name), release or None


def locate_published(reference: str) -> tuple[Lake, str]:
    """The same with the id of the latest release, where none is named.

    Raises :class:`ScanmillError` for one that is named and not there.
    """
    lake, release = locate(reference)
    name = release or latest_release(lake)
    if release and not lake.release(name).is_dir():
        raise UnusableInput(not_published(lake, name))
    return lake, name


def not_published(lake: Lake, release: str) -> str:
    """Why there is no such release, and what there is instead."""
    report = lake.refused(release) / "quality" / "index.html"
    if release.isalnum() and report.is_file():
        return f"{lake.home}@{release} was refused by a gate and never published\nreport: {report}"
    return f"{lake.home} has no release {release}; published: {', '.join(lake.published()) or 'none'}"


def _datasets_in(lake: Location) -> list[str]:
    return sorted(path.parent.name for path in lake.glob("*/releases"))


def _meant(home: Location) -> str:
    """What to write instead of a place that is no dataset of a lake."""
    if home.parent.name == "releases":
        return f"; write {home.parent.parent}@{home.name}"
    if RELEASE_ID.fullmatch(home.name):
        return f"; that looks like the id of a release: write LAKE/DATASET@{home.name}"
    inside = _datasets_in(home.parent) if home.parent.is_dir() else []
    there = f"; {home.parent} holds {', '.join(inside)}" if inside else ""
    return f"{there}; expected LAKE/DATASET[@RELEASE], such as lake/nih-chest-xray"


def latest_release(lake: Lake) -> str:
    """Id of the release that ``latest.json`` points to.

    Raises :class:`ScanmillError` when there is none, and :class:`DataRefused` when the pointer is damaged.
    """
    if not lake.latest.is_file():
        raise ScanmillError(f"{lake.home} has no published release (no latest.json): run `scanmill prepare` first")
    try:
        release = str(read_json(lake.latest)["release"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataRefused(f"{lake.latest} is damaged: {error}") from error
    if not re.fullmatch(r"[0-9a-f]+", release):
        raise DataRefused(f"{lake.latest} is damaged: {release!r} is no release id")
    return release
