"""One pass over a tar lists and hashes it; what it found is remembered."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass

from tasks.code_version import source_digest
from tasks.files import read_json, write_bytes, write_json
from tasks.schema import UnusableInput
from tasks.storage import Location, location, look
from tasks.tarballs.entries import Entry, list_entries
from tasks.tarballs.seek_points import SeekPoints
from tasks.tarballs.streams import GZIP_MAGIC, Source, Stream, blocks, inflated, is_gzip

SUFFIXES = (".tar", ".tar.gz", ".tgz")
"""Names by which a tar is found, in any case; whether it is gzipped is told by its first bytes."""

Tick = Callable[[int], None]
"""Called with the number of file bytes just read."""


@dataclass(frozen=True)
class Listing:
    """What one pass over an archive found."""

    sha256: str
    """Of the file as published."""
    entries: tuple[Entry, ...]
    """In the order in which they lie in the archive."""


def is_tar_name(name: str) -> bool:
    """Whether a file name says tar."""
    return name.lower().endswith(SUFFIXES)


def insist_on_content(path: Location) -> None:
    """Raise :class:`UnusableInput` for a file that is empty or starts neither as gzip nor as tar."""
    with path.open("rb") as stream:
        start = stream.read(tarfile.BLOCKSIZE)
    if start.startswith(GZIP_MAGIC):
        return
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "backslashreplace")
    except tarfile.HeaderError as error:
        what = "is empty" if not start else "is neither a gzip file nor a tar"
        raise UnusableInput(f"{path} {what}: fetch it again") from error


def is_remembered(seek: str) -> bool:
    """Whether :func:`scan` can do without a pass."""
    return _recall(seek) is not None


def forget(seek: str) -> None:
    """Make the next :func:`scan` do a pass."""
    for path in (_listing_path(seek), location(seek)):
        path.unlink(missing_ok=True)


def scan(path: Location, seek: str, *, limit_bytes: int, tick: Tick = lambda size: None) -> Listing:
    """List and hash a tar, remembered or by one pass over the file; of files above ``limit_bytes`` no CRC is taken.

    ``seek`` is the path of the seek points, and tells where the listing is kept; empty keeps nothing.
    Raises :class:`UnusableInput` for a file that is no tar.
    """
    listing = _recall(seek)
    if listing is None:
        listing, points = _pass(path, limit_bytes, tick, has_points=bool(seek))
        if seek and points:
            write_bytes(location(seek), points)
        if seek:
            entries = [list(astuple(entry)) for entry in listing.entries]
            write_json(_listing_path(seek), {"code": _code(), "sha256": listing.sha256, "entries": entries})
    return listing


def _listing_path(seek: str) -> Location:
    return location(seek).with_suffix(".members.json")


def _code() -> str:
    """Another way of listing must not be served what an earlier one remembered."""
    return source_digest("tasks/tarballs/*.py")


def _recall(seek: str) -> Listing | None:
    if not seek:
        return None
    try:
        kept = read_json(_listing_path(seek))
        if kept["code"] == _code():
            return Listing(kept["sha256"], tuple(Entry(*fields) for fields in kept["entries"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _pass(path: Location, limit_bytes: int, tick: Tick, *, has_points: bool) -> tuple[Listing, bytes]:
    """Read the file once: listing, hash and exported seek points (none of a damaged or a plain tar)."""
    content = hashlib.sha256()
    is_packed = is_gzip(path)
    points = SeekPoints(look(path).size_bytes) if is_packed and has_points else None

    def watched() -> Iterator[bytes]:
        for block in blocks(path):
            content.update(block)
            if points is not None:
                points.feed(block)
            tick(len(block))
            yield block

    read = watched()
    source = Source()
    try:
        stream = Stream(lambda: inflated(read, source) if is_packed else read)
        entries = list_entries(path, stream, source, limit_bytes)
        for _ in read:  # behind a break, or behind the last gzip stream: for the hash alone
            pass
    finally:
        exported = points.finish() if points is not None else b""
    # Seek points end at the break, and the library cannot read between the last one and it: do without.
    is_damaged = any(entry.problem for entry in entries)
    return Listing(content.hexdigest(), tuple(entries)), b"" if is_damaged else exported
