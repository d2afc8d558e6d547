"""What a publisher's host holds: a version, its files, and where each is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tasks.sources.web import Unfetchable


@dataclass(frozen=True)
class RemoteFile:
    """One file of a source."""

    path: str
    """Below the source's folder, with forward slashes."""
    url: str
    """Asked for anew at every attempt; what it redirects to is never kept."""
    size_bytes: int | None = None
    md5: str = ""
    sha256: str = ""
    etag: str = ""
    """Of a file that nobody published a digest of."""

    @property
    def digest(self) -> str:
        """What tells its bytes from others: SHA-256, else MD5, else the host's ETag, else nothing."""
        return self.sha256 or self.md5 or self.etag


@dataclass(frozen=True)
class Listing:
    """All files of one version of a source."""

    name: str
    """For people: ``figshare article 26389069, version 4``."""
    version: str
    files: tuple[RemoteFile, ...]
    state: str
    """What to show the host next time to hear whether anything has changed."""
    licence: str = ""
    left_out: tuple[str, ...] = ()
    """Files that the host lists but does not hold, with the reason."""


def insist_on_safe_paths(files: Sequence[RemoteFile]) -> None:
    """Raise :class:`Unfetchable` for a path that would leave the folder, and for one that is there twice."""
    seen: set[str] = set()
    for file in files:
        path = PurePosixPath(file.path.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or not path.name or "\0" in file.path:
            raise Unfetchable(f"{file.url}: the host calls it {file.path!r}, which is no path inside a folder")
        if file.path in seen:
            raise Unfetchable(f"{file.url}: the host lists two files called {file.path!r}")
        seen.add(file.path)
