"""The raw folder of a lake, as fetching fills it: on a disk of this machine, or on object storage.

Knows no source. What differs is where a file gathers until it is whole and verified, how it gets its name then, and
what it costs to ask what is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import heapq
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Protocol

from tasks.files import known_sha256, name_again, sha256_file
from tasks.locks import Held, waiting_lock
from tasks.object_storage import abort_uploads, complaining_of_storage, put_file, stored_sha256
from tasks.schema import UnusableInput
from tasks.sources.download import Downloaded, Part, disagreement, measure
from tasks.sources.listing import RemoteFile
from tasks.storage import Listed, Location, is_remote, listed, remove

if TYPE_CHECKING:
    from upath import UPath

DOWNLOADS = ".downloads"
"""Where files gather below ``raw/`` of a disk until they are whole."""
SUPERSEDED = "superseded"
SCRATCH = "SCANMILL_SCRATCH"
"""Environment variable: where files gather that are on their way to object storage."""
SPARE_BYTES = 64 * 2**20
"""Left free on the disk beside what is to be fetched."""


class RawFolder(Protocol):
    """Files by their path below it, with forward slashes."""

    @property
    def place(self) -> Location:
        """The folder."""

    def alone(self) -> contextlib.AbstractContextManager[Held]:
        """Hold the folder for as long as the block runs; wait while somebody else does."""

    def size_of(self, path: str) -> int | None:
        """Bytes of a file; None where there is none."""

    def part_of(self, file: RemoteFile) -> Path:
        """Where the bytes of a file gather, on this machine; what a killed run left there is found again."""

    def adopted(self, file: RemoteFile, path: str) -> Downloaded | None:
        """A file that is there already without being recorded, if it has the listed digest."""

    def keep(self, part: Part, path: str, got: Downloaded) -> None:
        """Give a verified file its name; what had that name is put aside."""

    def put_aside(self, path: str) -> None:
        """Take a file out of the release, under the hash of what it holds: it may not be what is recorded."""

    def insist_on_space(self, wanting: Sequence[RemoteFile], at_once: int) -> None:
        """Raise :class:`UnusableInput` where the disk is too small for files that come, so many at the same time."""

    def tidy(self) -> None:
        """Remove what gathered, once all is kept."""


def at(place: Location, source: str) -> RawFolder:
    """The raw folder at a place, for the files of a source, which are in a folder of their own below it."""
    return OnStorage(place, source) if is_remote(place) else OnDisk(place)


@dataclass(frozen=True)
class OnDisk:
    """Files gather beside where they stay, and get their name by a rename."""

    place: Path

    @contextlib.contextmanager
    def alone(self) -> Iterator[Held]:
        """See :class:`RawFolder`, as for all below."""
        self.place.mkdir(parents=True, exist_ok=True)
        with waiting_lock(self.place / ".lock") as held:
            yield held

    def size_of(self, path: str) -> int | None:
        try:
            return (self.place / path).stat().st_size
        except OSError:
            return None

    def part_of(self, file: RemoteFile) -> Path:
        return self.place / DOWNLOADS / _part_name(file)

    def adopted(self, file: RemoteFile, path: str) -> Downloaded | None:
        return _verified(file, self.place / path) if _may_be(file, self.size_of(path)) else None

    def keep(self, part: Part, path: str, got: Downloaded) -> None:
        if (self.place / path).exists():
            self.put_aside(path)
        part.move_to(self.place / path)

    def put_aside(self, path: str) -> None:
        source = self.place / path
        target = self.place / SUPERSEDED / _aside_name(path, sha256_file(source))
        target.parent.mkdir(parents=True, exist_ok=True)
        source.replace(target)

    def insist_on_space(self, wanting: Sequence[RemoteFile], at_once: int) -> None:
        known = [file for file in wanting if file.size_bytes]
        there = sum(_size(self.part_of(file)) for file in known)
        free = shutil.disk_usage(self.place).free
        if (needed := sum(file.size_bytes or 0 for file in known) - there) + SPARE_BYTES > free:
            raise UnusableInput(
                f"{needed / 1e9:.1f} GB are to be fetched, the disk that holds {self.place} has {free / 1e9:.1f} GB "
                f"free: make room, or choose another --lake"
            )

    def tidy(self) -> None:
        shutil.rmtree(self.place / DOWNLOADS, ignore_errors=True)


@dataclass(frozen=True)
class OnStorage:
    """Files gather on this machine, are verified here, and become objects by one request.

    What is there of the source is told by one listing, made when first asked for, and kept up by what is done here.
    """

    place: UPath
    source: str

    @contextlib.contextmanager
    def alone(self) -> Iterator[Held]:
        # The lock of this machine beside that of the storage: a process that slept through its lease may still write
        # into the part that its successor goes on with.
        with waiting_lock(self.place / ".lock") as held, waiting_lock(self._scratch / ".lock"):
            abort_uploads(self.place)
            try:
                yield held
            finally:
                if next(self._scratch.glob("*.part"), None) is None:
                    self.tidy()

    @cached_property
    def _found(self) -> dict[str, Listed]:
        return {f"{self.source}/{file.name}": file for file in listed(self.place / self.source)}

    @cached_property
    def _scratch(self) -> Path:
        """The same folder for every run that fetches to this place from this machine."""
        home = Path(os.environ.get(SCRATCH) or Path(tempfile.gettempdir(), f"scanmill-{os.getuid()}")).absolute()
        here = hashlib.sha256(f"{self.place.fs.s3.meta.endpoint_url} {self.place}".encode()).hexdigest()
        folder = home / f"fetch-{here[:16]}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # what is fetched may be restricted
        if folder.stat().st_uid != os.getuid():
            raise UnusableInput(f"{folder} belongs to somebody else: set {SCRATCH} to a folder of yours")
        return folder

    def _at(self, path: str) -> UPath:
        return self.place / _key(path)

    def size_of(self, path: str) -> int | None:
        found = self._found.get(_key(path))
        return found.size_bytes if found else None

    def part_of(self, file: RemoteFile) -> Path:
        return self._scratch / _part_name(file)

    def adopted(self, file: RemoteFile, path: str) -> Downloaded | None:
        size = self.size_of(path)
        if size is None or not _may_be(file, size):
            return None
        told = self._told(file, path, size)
        if told is None:
            return _verified(file, self._at(path))
        return None if disagreement(file, told) else told

    def _told(self, file: RemoteFile, path: str, size: int) -> Downloaded | None:
        """What storage tells of an object without its being read; None where that is not enough to judge it."""
        sha256 = stored_sha256(self._at(path))
        etag = self._found[_key(path)].version.strip('"')
        # An ETag is the MD5 of what came in one request, but not where storage encrypts, nor everywhere: one that
        # agrees proves the bytes, one that does not proves nothing.
        if sha256 is None or (file.md5 and etag != file.md5):
            return None
        return Downloaded(size, sha256, file.md5, file.etag)

    def keep(self, part: Part, path: str, got: Downloaded) -> None:
        with _complaining(self._at(path)):
            if _key(path) in self._found:
                self._copy_aside(path)  # never without a file of that name: the new object takes its place at once
            put_file(self._at(path), part.path, got.sha256)
        self._found[_key(path)] = Listed(_key(path), self._at(path), got.size_bytes, "")
        part.discard()

    def put_aside(self, path: str) -> None:
        with _complaining(self._at(path)):
            self._copy_aside(path)
            remove(self._at(path))
        del self._found[_key(path)]

    def _copy_aside(self, path: str) -> None:
        source = self._at(path)
        name_again(source, self.place / SUPERSEDED / _aside_name(path, known_sha256(source)))

    def insist_on_space(self, wanting: Sequence[RemoteFile], at_once: int) -> None:
        # Each leaves this machine as soon as it is whole: there is never more here than is fetched at the same time.
        free = shutil.disk_usage(self._scratch).free
        missing = (file.size_bytes - _size(self.part_of(file)) for file in wanting if file.size_bytes)
        if (needed := sum(heapq.nlargest(at_once, missing))) + SPARE_BYTES > free:
            raise UnusableInput(
                f"up to {needed / 1e9:.1f} GB gather at once on their way to {self.place}, the disk that holds "
                f"{self._scratch} has {free / 1e9:.1f} GB free: make room, or set {SCRATCH} to a folder elsewhere"
            )

    def tidy(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)


@contextlib.contextmanager
def _complaining(target: UPath) -> Iterator[None]:
    """Turn what storage refuses into one clear error that names the object and the way on."""
    try:
        with complaining_of_storage(target):
            yield
    except OSError as error:
        raise UnusableInput(
            f"{target} cannot be changed ({error.strerror or error}); what has come of it is kept on this machine, the "
            f"same command goes on from there"
        ) from error


def _key(path: str) -> str:
    """As a disk would have it: an object may as well be called ``a//b`` or ``./a``."""
    return PurePosixPath(path).as_posix()


def _part_name(file: RemoteFile) -> str:
    return f"{hashlib.sha256(file.path.encode()).hexdigest()[:16]}.part"


def _aside_name(path: str, sha256: str) -> str:
    return f"{sha256[:16]}-{PurePosixPath(path).name}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _may_be(file: RemoteFile, size: int | None) -> bool:
    """Whether a file of this size can be told to be the one that is listed."""
    return bool(file.sha256 or file.md5) and size is not None and file.size_bytes in (None, size)


def _verified(file: RemoteFile, place: Location) -> Downloaded | None:
    found = measure(place)
    return None if disagreement(file, found) else found
