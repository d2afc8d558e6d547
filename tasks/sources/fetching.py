"""Fetch a raw release into the lake: look, compare with what is here, bring what is missing, verify, record.

``fetch(source, raw)`` may be called at any time and by several processes: they take turns, a broken download goes on
where it stopped, and a source that has not changed costs one request.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tasks.credentials import Credentials
from tasks.files import sha256_file
from tasks.locks import Held
from tasks.progress import Meter
from tasks.sources import raw_folder
from tasks.sources.download import OtherBytes, Part, download
from tasks.sources.fetched import Fetched
from tasks.sources.listing import Listing, RemoteFile, insist_on_safe_paths
from tasks.sources.raw_folder import RawFolder
from tasks.sources.record import Record
from tasks.sources.remote_release import RemoteRelease
from tasks.sources.web import Web
from tasks.storage import Location

Known = dict[str, dict[str, Any]]
"""The journal's last event of every file of a source that is here, by path below the source's folder."""


def nothing_new(wanted: RemoteRelease, raw: Location, secrets: Credentials) -> Fetched | None:
    """The fetched release if it is here whole and the source has not changed since, else None; fetches nothing."""
    record = Record(raw)
    last = record.look()
    state = _known_state(wanted, last, _own_files(wanted, record), raw_folder.at(raw, wanted.folder))
    if not state:
        return None
    with wanted.connect(secrets) as (web, look):
        if look(state) is not None:
            return None
        return _unchanged(wanted, raw, last, web)


def fetch(wanted: RemoteRelease, raw: Location, secrets: Credentials, *, rehash: bool = False) -> Fetched:
    """Bring the newest version of a source to ``raw``; ``rehash`` reads every file that is here, to find damage.

    Raises :class:`tasks.sources.web.Unfetchable` for what the host refuses, :class:`tasks.schema.UnusableInput` for a
    disk that is too small. What arrived before that stays, verified and recorded.
    """
    record, folder = Record(raw), raw_folder.at(raw, wanted.folder)  # raises before a folder is made
    with folder.alone() as held, record.kept(), wanted.connect(secrets) as (web, look):
        last, known = record.look(), _own_files(wanted, record)
        listing = look("" if rehash else _known_state(wanted, last, known, folder))
        if listing is None:
            return _unchanged(wanted, raw, last, web)
        errand = _Errand(wanted, record, folder, held, web, rehash)
        try:
            _bring(errand, listing, known)
        except OtherBytes:
            # Perhaps the publisher changed the file after it was listed; if the list still says the same, it is wrong.
            again = look("")
            if again is None or again.files == listing.files:
                raise
            listing = again
            _bring(errand, listing, _own_files(wanted, record))
        kind, where = wanted.remote.kind, wanted.remote.where
        about = {"kind": kind, "where": where, "base": wanted.base, "licence": listing.licence}
        held.insist()
        record.looked(
            **about, name=listing.name, version=listing.version, state=listing.state, files=len(listing.files)
        )
        folder.tidy()
        return _outcome(errand, listing, known.keys())


@dataclass(frozen=True)
class _Errand:
    """What all steps of one fetch share."""

    wanted: RemoteRelease
    record: Record
    folder: RawFolder
    held: Held
    web: Web
    rehash: bool
    brought: dict[str, int] = field(default_factory=dict)
    """Bytes of what arrived, by path below the source's folder."""

    def place(self, path: str) -> str:
        """Of a file of the source, below ``raw/``."""
        return f"{self.wanted.folder}/{path}"


def _known_state(wanted: RemoteRelease, last: Mapping[str, Any], known: Known, folder: RawFolder) -> str:
    """State of the last complete look at this very source, if all that it found is still here."""
    is_same = [last.get(name) for name in ("kind", "where", "base")] == [
        wanted.remote.kind,
        wanted.remote.where,
        wanted.base,
    ]
    is_whole = is_same and all(folder.size_of(f"{wanted.folder}/{path}") == known[path]["bytes"] for path in known)
    return str(last["state"]) if is_whole else ""


def _own_files(wanted: RemoteRelease, record: Record) -> Known:
    """What the journal holds of this source, by path below its folder."""
    prefix = wanted.folder + "/"
    return {path.removeprefix(prefix): event for path, event in record.files().items() if path.startswith(prefix)}


def _unchanged(wanted: RemoteRelease, raw: Location, last: Mapping[str, Any], web: Web) -> Fetched:
    return Fetched(
        str(raw / wanted.folder), last["name"], last["version"], unchanged=last["files"], requests=web.requests
    )


def _bring(errand: _Errand, listing: Listing, known: Known) -> None:
    """Everything listed that is not here; what is no longer listed is put aside."""
    insist_on_safe_paths(listing.files)
    wanting = [file for file in listing.files if not _is_here(errand, file, listing.version, known.get(file.path))]
    errand.folder.insist_on_space(wanting, errand.web.manners.at_once)
    _bring_all(errand, listing, wanting)
    for path in sorted(known.keys() - {file.path for file in listing.files}):
        errand.held.insist()
        if errand.folder.size_of(errand.place(path)) is not None:
            errand.folder.put_aside(errand.place(path))
        errand.record.went(errand.place(path), known[path], listing.version)


def _outcome(errand: _Errand, listing: Listing, known: Set[str]) -> Fetched:
    """For people; ``known`` is what was here before."""
    listed, brought = {file.path for file in listing.files}, errand.brought
    return Fetched(
        folder=str(errand.folder.place / errand.wanted.folder),
        source=listing.name,
        version=listing.version,
        added=tuple(sorted(listed - known)),
        changed=tuple(sorted(brought.keys() & listed & known)),
        removed=tuple(sorted(known - listed)),
        left_out=listing.left_out,
        unchanged=len(listed - brought.keys()),
        requests=errand.web.requests,
        size_bytes=sum(brought[path] for path in brought.keys() & listed),
    )


def _is_here(errand: _Errand, file: RemoteFile, version: str, known: Mapping[str, Any] | None) -> bool:
    place = errand.place(file.path)
    if known is None or errand.folder.size_of(place) != known["bytes"]:
        return False
    # Of a file without any digest nothing but its version can tell whether it changed.
    is_same = file.digest in (known["sha256"], known["md5"], known["etag"]) if file.digest else False
    if not (is_same or (not file.digest and known["version"] == version)):
        return False
    return not errand.rehash or sha256_file(errand.folder.place / place) == known["sha256"]


def _bring_all(errand: _Errand, listing: Listing, wanting: Sequence[RemoteFile]) -> None:
    """Fetch several at once; one that fails does not stop those on their way, then the first failure is raised."""
    counter = _Counter(wanting)

    def bring(file: RemoteFile) -> None:
        place, part = errand.place(file.path), errand.folder.part_of(file)
        got = errand.folder.adopted(file, place)
        if got is None:
            got = download(file, part, errand.web, counter.came)
            errand.held.insist()
            errand.folder.keep(Part(part, file), place, got)
        errand.record.arrived(place, file, got, listing.version)
        errand.brought[file.path] = got.size_bytes
        counter.finished()

    failures = _do_all([partial(bring, file) for file in wanting], errand.web)
    if failures:
        raise failures[0]


def _do_all(downloads: Sequence[Callable[[], None]], web: Web) -> list[BaseException]:
    """What went wrong, in their order; after trouble that the others would meet too, the rest is not begun."""
    pool = ThreadPoolExecutor(max_workers=web.manners.at_once)
    try:
        waiting = [pool.submit(work) for work in downloads]
        for future in as_completed(waiting):
            if not isinstance(future.exception(), OtherBytes | None):
                break
        pool.shutdown(cancel_futures=True)
    except BaseException:
        web.stop()  # or an interrupted user would wait for all that is on its way
        pool.shutdown(cancel_futures=True)
        raise
    return [error for future in waiting if not future.cancelled() and (error := future.exception())]


class _Counter:
    """Progress in kB where all sizes are known, else in files."""

    def __init__(self, wanting: Sequence[RemoteFile]) -> None:
        self._counts_bytes = all(file.size_bytes is not None for file in wanting)
        total = sum(file.size_bytes or 0 for file in wanting) // 1000 if self._counts_bytes else len(wanting)
        self._meter = Meter("fetch", total, "kB" if self._counts_bytes else "files")
        self._bytes = 0
        self._turn = threading.Lock()

    def came(self, size: int) -> None:
        """So many bytes more."""
        if self._counts_bytes:
            with self._turn:
                before, self._bytes = self._bytes, self._bytes + size
                self._meter.add(self._bytes // 1000 - before // 1000)

    def finished(self) -> None:
        """One file more."""
        if not self._counts_bytes:
            with self._turn:
                self._meter.add(1)
