"""Whole files only: write beside, fsync, rename; read back by hash. Every file of the lake goes through here.

An object of object storage is whole as it is: it appears with its last byte.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tasks.object_storage import put, stored_sha256
from tasks.schema import UnusableInput
from tasks.storage import Location, copy_object, is_remote, open_table, open_whole, read_bytes

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

TEMPORARY_PREFIX = ".partial-"
"""Names that start so are unfinished: never read, swept away by the next run."""
HASH_BYTES = 2**18
"""Read at once to be hashed: as much as stays in a core's cache (``hashlib.file_digest`` takes as much)."""


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys and no insignificant space: the form that digests are taken of."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def readable_json(value: Any) -> bytes:
    """UTF-8 JSON with sorted keys, indented, with a final newline: the form that people open."""
    return (json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


def digest(value: Any) -> str:
    """SHA-256 (hex) of the canonical JSON of a plain value."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def sha256_file(path: Location, tick: Callable[[int], None] = lambda size_bytes: None) -> str:
    """SHA-256 (hex) of a file's bytes, all of them read; ``tick`` is told of every block."""
    taken = hashlib.sha256()
    block = memoryview(bytearray(HASH_BYTES))
    with open_whole(path) as stream:
        while size_bytes := stream.readinto(block):  # type: ignore[attr-defined]
            taken.update(block[:size_bytes])
            tick(size_bytes)
    return taken.hexdigest()


def known_sha256(path: Location, tick: Callable[[int], None] = lambda size_bytes: None) -> str:
    """The same of a file that nobody suspects: object storage is asked for the hash it took; what has none is read."""
    return (stored_sha256(path) if is_remote(path) else None) or sha256_file(path, tick)


def write_bytes(path: Location, data: bytes) -> None:
    """Make ``path`` a whole file with these bytes, or leave it as it was.

    Raises :class:`UnusableInput` when the disk is full.
    """
    if is_remote(path):
        put(path, data)
        return
    with _whole_file(path) as stream:
        stream.write(data)


class Hashing:
    """A file to be written in pieces, each of which is hashed on its way."""

    closed = False

    def __init__(self, stream: IO[bytes]) -> None:
        """``stream`` gets the pieces."""
        self._stream = stream
        self._taken = hashlib.sha256()
        self.size_bytes = 0

    def write(self, piece: bytes) -> int:
        """One piece, after the others."""
        self._taken.update(piece)
        self._stream.write(piece)
        self.size_bytes += len(piece)
        return len(piece)

    def tell(self) -> int:
        """Where the next piece goes; pyarrow asks."""
        return self.size_bytes

    def flush(self) -> None:
        """Nothing, before the end; pyarrow asks."""

    @property
    def sha256(self) -> str:
        """Of what was written, hex."""
        return self._taken.hexdigest()


@contextlib.contextmanager
def writing(path: Location) -> Iterator[Hashing]:
    """What :func:`write_bytes` does, of bytes that are never all in memory: a whole file after the block, or none."""
    if is_remote(path):
        buffer = io.BytesIO()
        yield Hashing(buffer)
        put(path, buffer.getvalue())
        return
    with _whole_file(path) as stream:
        yield Hashing(stream)


@contextlib.contextmanager
def _whole_file(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with complaining_of_space(path.parent):
        descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).chmod(0o666 & ~_umask())  # mkstemp's own is for its maker alone
            os.replace(name, path)  # noqa: PTH105 (Path.replace takes no plain string source)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    sync_folder(path.parent)


def name_again(source: Location, target: Location) -> None:
    """A file of the lake under a second name, in place of what had it: a hard link, or a whole copy where there can be
    none."""
    if is_remote(source) and is_remote(target):
        copy_object(source, target)
    elif not is_remote(source) and not is_remote(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without hard links
            with source.open("rb") as stream, _whole_file(target) as copy:
                shutil.copyfileobj(stream, copy, HASH_BYTES)


@cache
def _umask() -> int:
    """What the user keeps from others. To be told it one has to set it, so that it is asked for once."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def write_json(path: Location, value: Any) -> None:
    """:func:`write_bytes` of :func:`readable_json`."""
    write_bytes(path, readable_json(value))


def read_json(path: Location) -> Any:
    """The plain value in a JSON file."""
    return json.loads(read_bytes(path))


def parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file, equal for equal tables."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(None), sink)
    return bytes(sink.getvalue())


def read_table(path: Location, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file, or some columns of it."""
    import pyarrow.parquet as pq

    with open_table(path) as stream:
        chosen = None if columns is None else list(columns)
        return pq.read_table(stream, columns=chosen, page_checksum_verification=True)


def read_frame(path: Location, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The same, for pandas."""
    import pandas as pd

    with open_table(path) as stream:
        return pd.read_parquet(stream, columns=None if columns is None else list(columns))


def read_schema(path: Location) -> pa.Schema:
    """The schema of a Parquet file, with what its writer has noted there."""
    import pyarrow.parquet as pq

    with open_table(path) as stream:
        return pq.read_schema(stream)


def make_folder(folder: Location) -> None:
    """A folder, where there is such a thing: object storage has none."""
    if not is_remote(folder):
        folder.mkdir(parents=True, exist_ok=True)


def sync_folder(folder: Location) -> None:
    """Make renames within a folder survive a power cut."""
    if is_remote(folder):
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep(folder: Location) -> int:
    """Remove what a killed run left half-written below ``folder``; returns how many files."""
    if is_remote(folder):
        return 0  # an object is whole
    leftovers = [path for path in folder.rglob(f"{TEMPORARY_PREFIX}*") if path.is_file()]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


@contextlib.contextmanager
def complaining_of_space(folder: Location) -> Iterator[None]:
    """Turn "no space left" and "quota exceeded" into one clear error, and have every other one name the place."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UnusableInput(
                f"no space left on the disk that holds {folder}: free some and run the same command again; "
                f"finished chunks are kept"
            ) from error
        if error.errno is not None and error.filename is None:  # of a write, the system does not say where
            error.filename = str(folder)
        raise
