"""Whole files only: write beside, fsync, rename; read back by hash. Every file of the lake goes through here."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasks.schema import UnusableInput

TEMPORARY_PREFIX = ".partial-"
"""Names that start so are unfinished: never read, swept away by the next run."""


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no insignificant space: the form that digests are taken of."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def readable_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys, indented, with a final newline: the form that people open."""
    return (json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a plain value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_bytes(path: Path, data: bytes) -> None:
    """Make ``path`` a whole file with these bytes, or leave it as it was.

    Raises :class:`UnusableInput` when the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with complaining_of_space(path.parent):
        descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o644)
            os.replace(name, path)  # noqa: PTH105 (Path.replace takes no plain string source)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def write_json(path: Path, value: Any) -> None:
    """:func:`write_bytes` of :func:`readable_json`."""
    write_bytes(path, readable_json(value))


def read_json(path: Path) -> Any:
    """The plain value in a JSON file."""
    return json.loads(path.read_bytes())


def sync_folder(folder: Path) -> None:
    """Make renames within a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Path) -> int:
    """Remove what a killed run left half-written below ``folder``; returns how many files."""
    leftovers = [path for path in folder.rglob(f"{TEMPORARY_PREFIX}*") if path.is_file()]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


@contextlib.contextmanager
def complaining_of_space(folder: Path) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into one clear error that names the place."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UnusableInput(
                f"no space left on the disk that holds {folder}: free some and run the same command again; "
                f"finished chunks are kept"
            ) from error
        raise


@contextlib.contextmanager
def lock(path: Path, *, purpose: str) -> Iterator[None]:
    """Hold an exclusive lock for as long as the block runs; the kernel lets go of it if the process dies.

    Raises :class:`UnusableInput` at once when another process holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            stream.seek(0)
            holder = stream.read().strip() or "another process"
            raise UnusableInput(f"{purpose} is already running ({holder}): wait for it, or stop it") from error
        stream.truncate(0)
        stream.write(f"process {os.getpid()}")
        stream.flush()
        yield


@contextlib.contextmanager
def waiting_lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock for as long as the block runs; wait while another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
