"""Where a release lies: a folder of this machine, or a URL of object storage that fsspec opens. Read only."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG
from typing import Any

CONNECTION = {"connect_timeout": 10, "read_timeout": 60, "retries": {"mode": "standard", "max_attempts": 5}}
"""botocore's settings; credentials, region and endpoint come from the AWS_* variables or ~/.aws."""


@dataclass(frozen=True)
class Place:
    """A file or a folder."""

    path: str
    """Of this machine, or a key as its file system takes it."""
    storage: Any = None
    """An fsspec file system; None for this machine."""

    def __str__(self) -> str:
        return self.path if self.storage is None else str(self.storage.unstrip_protocol(self.path))

    def __truediv__(self, name: str) -> Place:
        return Place(f"{self.path.rstrip('/')}/{name}", self.storage)

    @property
    def name(self) -> str:
        """Last part."""
        return self.path.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Place:
        """The folder that it is in."""
        return Place(self.path.rstrip("/").rpartition("/")[0], self.storage)

    def read(self) -> bytes:
        """A whole file, in one request. Raises :class:`OSError`."""
        if self.storage is None:
            return Path(self.path).read_bytes()
        data: bytes = self.storage.cat_file(self.path)
        return data

    def read_range(self, offset: int, length: int) -> bytes:
        """Bytes of a file; fewer where it ends before. Raises :class:`OSError`."""
        if self.storage is None:
            with Path(self.path).open("rb") as stream:
                stream.seek(offset)
                return stream.read(length)
        data: bytes = self.storage.cat_file(self.path, start=offset, end=offset + length)
        return data

    def sizes(self) -> dict[str, int]:
        """Bytes of every file below this folder, by relative path. Links are left out: they may lead anywhere."""
        if self.storage is None:
            root = Path(self.path)
            found = (Path(below, name) for below, _, names in os.walk(root) for name in names)
            looked = ((path, path.lstat()) for path in found)
            return {
                path.relative_to(root).as_posix(): status.st_size for path, status in looked if S_ISREG(status.st_mode)
            }
        prefix = self.path.rstrip("/") + "/"
        listed = self.storage.find(prefix, detail=True)
        return {key.removeprefix(prefix): int(info["size"]) for key, info in listed.items() if key.startswith(prefix)}


def place_of(text: str | os.PathLike[str]) -> Place:
    """The place that words name: a path (``~`` is the home) or a URL such as ``s3://bucket/prefix``.

    Raises :class:`ImportError` where fsspec, or what it needs for that kind of URL, is not installed.
    """
    words = os.fspath(text)
    scheme, separator, rest = words.partition("://")
    if not separator:
        return Place(str(Path(words).expanduser().absolute()))
    if scheme == "file":
        return Place(rest)
    import fsspec

    options = {"config_kwargs": CONNECTION} if scheme in ("s3", "s3a") else {}
    storage, path = fsspec.core.url_to_fs(words, use_listings_cache=False, **options)
    return Place(str(path), storage)
