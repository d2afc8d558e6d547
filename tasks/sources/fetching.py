"""Fetch a raw release into the lake: look, compare with what is here, bring what is missing, verify, record.

``fetch(source, raw)`` may be called at any time and by several processes: they take turns, a broken download goes on
where it stopped, and a source that has not changed costs one request.
"""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

from tasks.credentials import Credentials
from tasks.files import sha256_file, waiting_lock
from tasks.progress import Meter
from tasks.schema import UnusableInput
from tasks.sources.download import Downloaded, OtherBytes, Part, disagreement, download, measure
from tasks.sources.fetched import Fetched
from tasks.sources.listing import Listing, RemoteFile, insist_on_safe_paths
from tasks.sources.record import Record
from tasks.sources.remote_release import RemoteRelease
from tasks.sources.web import Web

DOWNLOADS = ".downloads"
"""Where files gather below ``raw/`` until they are whole."""
SPARE_BYTES = 64 * 2**20
"""Left free on the disk beside what is to be fetched."""

Known = dict[str, dict[str, Any]]
"""The journal's last event of every file of a source that is here, by path below the source's folder."""


def nothing_new(wanted: RemoteRelease, raw: Path, secrets: Credentials) -> Fetched | None:
    """The fetched release if it is here whole and the source has not changed since, else None; fetches nothing."""
    record = Record(raw)
    state = _known_state(wanted, record, _own_files(wanted, record))
    if not state:
        return None
    with wanted.connect(secrets) as (web, look):
        if look(state) is not None:
            return None
        return _unchanged(wanted, record, web)


def fetch(wanted: RemoteRelease, raw: Path, secrets: Credentials, *, rehash: bool = False) -> Fetched:
    """Bring the newest version of a source to ``raw``; ``rehash`` reads every file that is here, to find damage.

    Raises :class:`tasks.sources.web.Unfetchable` for what the host refuses, :class:`UnusableInput` for a disk that is
    too small. What arrived before that stays, verified and recorded.
    """
    record = Record(raw)
    _ = wanted.remote  # raises before a folder is made
    raw.mkdir(parents=True, exist_ok=True)
    brought: set[str] = set()
    with waiting_lock(raw / ".lock"), wanted.connect(secrets) as (web, look):
        known = _own_files(wanted, record)
        listing = look("" if rehash else _known_state(wanted, record, known))
        if listing is None:
            return _unchanged(wanted, record, web)
        try:
            _bring(wanted, listing, record, known, web, brought, rehash=rehash)
        except OtherBytes:
            # Perhaps the publisher changed the file after it was listed; if the list still says the same, it is wrong.
            again = look("")
            if again is None or again.files == listing.files:
                raise
            listing = again
            _bring(wanted, listing, record, _own_files(wanted, record), web, brought, rehash=rehash)
        kind, where = wanted.remote.kind, wanted.remote.where
        about = {"kind": kind, "where": where, "base": wanted.base, "licence": listing.licence}
        record.looked(
            **about, name=listing.name, version=listing.version, state=listing.state, files=len(listing.files)
        )
        shutil.rmtree(raw / DOWNLOADS, ignore_errors=True)
        return _outcome(wanted, listing, raw, known.keys(), brought, web)


def _known_state(wanted: RemoteRelease, record: Record, known: Known) -> str:
    """State of the last complete look at this very source, if all that it found is still here."""
    last = record.look()
    is_same = [last.get(name) for name in ("kind", "where", "base")] == [
        wanted.remote.kind,
        wanted.remote.where,
        wanted.base,
    ]
    return str(last["state"]) if is_same and not _missing(wanted, record, known) else ""


def _missing(wanted: RemoteRelease, record: Record, known: Known) -> list[str]:
    """Recorded files that are no longer here, or of another size."""
    folder = record.raw / wanted.folder
    return [path for path, event in known.items() if _size(folder / path) != event["bytes"]]


def _own_files(wanted: RemoteRelease, record: Record) -> Known:
    """What the journal holds of this source, by path below its folder."""
    prefix = wanted.folder + "/"
    return {path.removeprefix(prefix): event for path, event in record.files().items() if path.startswith(prefix)}


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _unchanged(wanted: RemoteRelease, record: Record, web: Web) -> Fetched:
    last = record.look()
    folder = str(record.raw / wanted.folder)
    return Fetched(folder, last["name"], last["version"], unchanged=last["files"], requests=web.requests)


def _bring(
    wanted: RemoteRelease,
    listing: Listing,
    record: Record,
    known: Known,
    web: Web,
    brought: set[str],
    *,
    rehash: bool,
) -> None:
    """Everything listed that is not here, each path noted in ``brought``; what is no longer listed is put aside."""
    insist_on_safe_paths(listing.files)
    folder = record.raw / wanted.folder
    here = {
        file.path
        for file in listing.files
        if _is_here(file, listing.version, folder, known.get(file.path), rehash=rehash)
    }
    wanting = [file for file in listing.files if file.path not in here]
    _insist_on_space(wanting, record.raw)
    _bring_all(wanting, wanted.folder, listing, record, web, brought)
    for path in sorted(known.keys() - {file.path for file in listing.files}):
        if (folder / path).exists():
            record.supersede(folder / path)
        record.went(f"{wanted.folder}/{path}", known[path], listing.version)


def _outcome(
    wanted: RemoteRelease, listing: Listing, raw: Path, known: Set[str], brought: Set[str], web: Web
) -> Fetched:
    """For people; ``known`` is what was here before."""
    listed = {file.path for file in listing.files}
    folder = raw / wanted.folder
    return Fetched(
        folder=str(folder),
        source=listing.name,
        version=listing.version,
        added=tuple(sorted(listed - known)),
        changed=tuple(sorted(brought & listed & known)),
        removed=tuple(sorted(known - listed)),
        left_out=listing.left_out,
        unchanged=len(listed - brought),
        requests=web.requests,
        size_bytes=sum((folder / path).stat().st_size for path in brought & listed),
    )


def _is_here(file: RemoteFile, version: str, folder: Path, known: Mapping[str, Any] | None, *, rehash: bool) -> bool:
    path = folder / file.path
    if known is None or _size(path) != known["bytes"]:
        return False
    # Of a file without any digest nothing but its version can tell whether it changed.
    is_same = file.digest in (known["sha256"], known["md5"], known["etag"]) if file.digest else False
    if not (is_same or (not file.digest and known["version"] == version)):
        return False
    return not rehash or sha256_file(path) == known["sha256"]


def _insist_on_space(wanting: Sequence[RemoteFile], raw: Path) -> None:
    needed = sum(file.size_bytes or 0 for file in wanting)
    needed -= sum(_size(_part_of(file, raw)) or 0 for file in wanting if file.size_bytes)
    free = shutil.disk_usage(raw).free
    if needed + SPARE_BYTES > free:
        raise UnusableInput(
            f"{needed / 1e9:.1f} GB are to be fetched, the disk that holds {raw} has {free / 1e9:.1f} GB free: "
            f"make room, or choose another --lake"
        )


def _bring_all(
    wanting: Sequence[RemoteFile],
    folder: str,
    listing: Listing,
    record: Record,
    web: Web,
    brought: set[str],
) -> None:
    """Fetch several at once; one that fails does not stop those on their way, then the first failure is raised."""
    counter = _Counter(wanting)

    def bring(file: RemoteFile) -> None:
        target = record.raw / folder / file.path
        part = _part_of(file, record.raw)
        got = _adopted(file, target) or download(file, part, web, counter.came)
        if part.exists():
            if target.exists():
                record.supersede(target)
            Part(part, file).move_to(target)
        record.arrived(f"{folder}/{file.path}", file, got, listing.version)
        brought.add(file.path)
        counter.finished()

    failures = _do_all([partial(bring, file) for file in wanting], web)
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


def _part_of(file: RemoteFile, raw: Path) -> Path:
    return raw / DOWNLOADS / f"{hashlib.sha256(file.path.encode()).hexdigest()[:16]}.part"


def _adopted(file: RemoteFile, target: Path) -> Downloaded | None:
    """A file that somebody has put there already, if it has the listed digest."""
    if not (file.sha256 or file.md5) or _size(target) is None or file.size_bytes not in (None, _size(target)):
        return None
    found = measure(target)
    return None if disagreement(file, found) else found


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
