"""Places of a lake or of a raw release: paths of this machine, and URLs of object storage (S3).

Both are asked alike (``/``, ``open("rb")``, ``read_bytes``, ``exists``, ``iterdir``). What differs is here: object
storage has no folders, no rename and no lock, and every question to it costs a round trip, so that a listing, which
tells sizes and versions too, stands for many questions. What only S3 can do is in :mod:`tasks.object_storage`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple, TypeAlias

from typing_extensions import TypeIs

from tasks import object_storage
from tasks.schema import UnusableInput

if TYPE_CHECKING:
    from upath import UPath

Location: TypeAlias = "Path | UPath"
"""Of a file or a folder, here or on object storage."""

BLOCK_BYTES = 4 * 2**20
"""Read ahead of members of an archive on object storage: few requests, and little read in vain where members lie in
order."""
LEAST_BLOCK_BYTES = 256 * 2**10
HASH_BLOCK_BYTES = 16 * 2**20
"""The same where a whole file is read from end to end."""


class Listed(NamedTuple):
    """A file as a listing shows it."""

    name: str
    """Path relative to the folder that was listed, with forward slashes."""
    path: Location
    size_bytes: int
    version: str
    """Another one when the file is replaced."""


class Replaced(UnusableInput):
    """A raw file is no longer the one that was listed."""

    def __init__(self, path: Location) -> None:
        """``path`` for the message."""
        super().__init__(
            f"{path} changed in raw while the release was made: run the same command again, and leave raw alone "
            f"meanwhile"
        )


def location(place: str | Location) -> Location:
    """The place that a user's words name; a leading ``~`` is the user's home.

    Raises :class:`UnusableInput` for a URL of another kind than ``s3://bucket/prefix``, and where s3fs is missing.
    """
    if not isinstance(place, str):
        return place
    scheme, separator, rest = place.partition("://")
    if not separator:
        return Path(place).expanduser()
    if scheme == "file":
        return Path(rest)
    if scheme != "s3" or not rest.strip("/"):
        raise UnusableInput(f"{place} is no place that scanmill can use: give a path, or s3://bucket/prefix")
    return object_storage.at(place)


def is_remote(place: Location) -> TypeIs[UPath]:
    """Whether the place is on object storage."""
    return not isinstance(place, Path)


def insist_on_reachable(place: Location) -> None:
    """Raise :class:`UnusableInput`, in words, where object storage cannot be used: address, bucket, credentials."""
    if is_remote(place):
        object_storage.insist_on_bucket(place)


def listed(folder: Location) -> Iterator[Listed]:
    """Every file below a folder, in the order of its path; nothing where there is no such folder.

    Raises :class:`UnusableInput` for a folder that is a link: it may lead anywhere, even back, and must not be missed.
    """
    if is_remote(folder):
        yield from _listed_objects(folder)
        return
    for below, folders, names in os.walk(folder):
        folders.sort()
        for name in folders:
            if Path(below, name).is_symlink():
                raise UnusableInput(
                    f"{Path(below, name)} is a link to a folder, and is not followed: put the folder itself there, or "
                    f"remove the link and name the folder beside this one (--raw {folder} --raw …)"
                )
        for name in sorted(names):
            path = Path(below, name)
            yield Listed(path.relative_to(folder).as_posix(), path, *_of_file(path))


def _listed_objects(folder: UPath) -> Iterator[Listed]:
    prefix = folder.path.rstrip("/") + "/"
    found = {key: info for key, info in folder.fs.find(prefix, detail=True).items() if key.startswith(prefix)}
    # In the order of a walk through folders, which is not that of the keys: "a-b/x" comes before "a/x" there.
    for key in sorted(found, key=lambda key: _walked(key.removeprefix(prefix))):
        name = key.removeprefix(prefix)
        if found[key]["type"] == "file" and name and not name.endswith("/"):
            yield Listed(name, folder / name, int(found[key]["size"]), _version(found[key]))


def _walked(name: str) -> tuple[tuple[bool, str], ...]:
    """Sorts as a walk does: the files of a folder by name, then its folders."""
    *folders, last = name.split("/")
    return (*((True, part) for part in folders), (False, last))


def look(path: Location) -> Listed:
    """One file. Raises :class:`FileNotFoundError` where there is none."""
    if is_remote(path):
        info = path.fs.info(path.path)
        return Listed(path.name, path, int(info["size"]), _version(info))
    return Listed(path.name, path, *_of_file(path))


def _of_file(path: Path) -> tuple[int, str]:
    try:
        status = path.stat()
    except OSError:
        if not path.is_symlink():
            raise
        status = path.lstat()  # a link to nowhere, or to itself, is listed, and fails where it is read
    if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
        raise UnusableInput(f"{path} is neither file nor folder, and reading it may never end: remove it")
    return status.st_size, f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"


def _version(info: dict[str, Any]) -> str:
    return str(info.get("ETag") or info.get("LastModified"))


def read_bytes(path: Location) -> bytes:
    """A whole file; of object storage in one request."""
    if is_remote(path):
        data: bytes = path.fs.cat_file(path.path)
        return data
    return path.read_bytes()


def size_of(path: Location) -> int | None:
    """Bytes of a file; None where there is none."""
    try:
        return look(path).size_bytes
    except (OSError, UnusableInput):  # nothing, or no file
        return None


def open_archive(path: Location, version: str = "") -> IO[bytes]:
    """A file to be read here and there; from object storage by byte range, and never another version of it.

    Raises :class:`Replaced` where there is another version than the one that is asked for.
    """
    if not is_remote(path):
        return path.open("rb")
    opened: Any = _opened_object(path, BLOCK_BYTES, "readahead")
    if version and _version(opened.details) != version:
        raise Replaced(path)
    stream: IO[bytes] = opened
    return stream


def read_less_ahead(stream: IO[bytes], most_bytes: int) -> None:
    """Have a file of object storage read no more in vain than a part of what is wanted of it in one go."""
    cache = getattr(stream, "cache", None)
    if cache is not None:
        cache.blocksize = max(LEAST_BLOCK_BYTES, min(BLOCK_BYTES, most_bytes))


def open_table(path: Location) -> IO[bytes]:
    """A Parquet file, whose reader knows which bytes it wants."""
    return _opened_object(path, BLOCK_BYTES, "none") if is_remote(path) else path.open("rb")


def open_whole(path: Location) -> IO[bytes]:
    """A file to be read from end to end."""
    return _opened_object(path, HASH_BLOCK_BYTES, "readahead") if is_remote(path) else path.open("rb")


def _opened_object(path: UPath, block_bytes: int, cache: str) -> Any:
    return path.fs.open(path.path, "rb", block_size=block_bytes, cache_type=cache)


def remove(path: Location) -> None:
    """One file; nothing where there is none.

    On object storage by its very name: ``UPath.unlink`` takes ``?``, ``*`` and ``[`` in a name for patterns.
    """
    if is_remote(path):
        path.fs.rm_file(path.path)
    else:
        path.unlink(missing_ok=True)


def remove_tree(folder: Location) -> None:
    """A folder with all below it; nothing where there is none."""
    if is_remote(folder):
        object_storage.delete([path for file in listed(folder) if is_remote(path := file.path)])
    else:
        shutil.rmtree(folder, ignore_errors=True)


def move(source: Location, target: Location) -> None:
    """A file or a folder to another name; on object storage copied there, then removed."""
    if is_remote(source) and is_remote(target):
        inside = {file.name: path for file in listed(source) if is_remote(path := file.path)}
        for name, path in inside.items():
            copy_object(path, target / name)
        if not inside:
            copy_object(source, target)
        object_storage.delete(list(inside.values()) or [source])
    elif not is_remote(source) and not is_remote(target):
        source.rename(target)


def copy_object(source: UPath, target: UPath) -> None:
    """An object under a second name: a copy that the storage makes by itself."""
    source.fs.cp_file(source.path, target.path)


def copy_down(source: Location, folder: Path) -> None:
    """All files below a folder, to another one on this machine."""
    for file in listed(source):
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(read_bytes(file.path))


@contextlib.contextmanager
def as_local_folder(folder: Location) -> Iterator[Path]:
    """The folder for those who write with their own tools: itself, or a copy here that goes back after the block."""
    if not is_remote(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="scanmill-") as temporary:
        copy_down(folder, Path(temporary))
        before = {file.name: hashlib.sha256(file.path.read_bytes()).hexdigest() for file in listed(Path(temporary))}
        yield Path(temporary)
        for made in listed(Path(temporary)):
            if before.get(made.name) != hashlib.sha256(made.path.read_bytes()).hexdigest():
                object_storage.put(folder / made.name, made.path.read_bytes())
