"""What lies in a tar: its entries in order, with their place, size and CRC, and where and how it breaks."""

from __future__ import annotations

import contextlib
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from tasks.schema import UnusableInput
from tasks.storage import Location
from tasks.tarballs.streams import PIECE_BYTES, Source, Stream

DAMAGES = ("truncated-archive", "corrupt-archive", "crc-mismatch")
"""Problems that stand for the archive, not for the one member that carries them."""
BAD_HEADER = (tarfile.TarError, ValueError, LookupError, OverflowError, RecursionError)
"""What tarfile raises for headers that are none."""


@dataclass(frozen=True)
class Entry:
    """One entry of a tar, directories left out; or the place where the archive breaks."""

    name: str
    offset: int
    """Byte offset of its first header block in the unpacked stream."""
    size_bytes: int
    crc32: int
    """Of its bytes as they are; 0 where they were not all read."""
    kind: Literal["file", "sparse", "link", "special"]
    """A sparse file claims holes of any size: they are not read."""
    problem: str = ""
    """One of :data:`DAMAGES`, or empty."""
    detail: str = ""


def open_tar(stream: Any) -> tarfile.TarFile:
    """A tar whose ``next`` member is the one at the stream's position.

    A name that is no UTF-8 keeps its bytes as ``\\xff``.
    """
    return tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="backslashreplace")


def list_entries(path: Location, stream: Stream, source: Source, limit_bytes: int) -> list[Entry]:
    entries: list[Entry] = []
    info: tarfile.TarInfo | None = None
    with contextlib.suppress(*BAD_HEADER):
        tar = open_tar(stream)
        info = tar.next()
    if info is None:
        raise UnusableInput(f"{path} is no tar, or breaks off in its first header: fetch it again")
    while info is not None:
        crc32 = _crc32(tar, info, limit_bytes) if _kind(info) == "file" else 0
        # Only a sparse file is stored in fewer bytes than its size; there the end of its last block must do.
        data_end = info.offset_data + (info.size if info.isfile() and not info.issparse() else 0)
        if info.issparse() or not info.isfile():
            data_end = tar.offset
        is_cut = stream.seek(data_end) < data_end
        problem, detail = _break(source, stream.tell()) if is_cut else ("", "")
        if not info.isdir():
            size = max(info.size, 0)
            entries.append(
                Entry(name_of(info), info.offset, size, 0 if is_cut else crc32, _kind(info), problem, detail)
            )
        if is_cut:
            return entries
        info, end = _next(tar, stream, source, info)
    return [*entries, end] if end is not None else entries


def name_of(info: tarfile.TarInfo) -> str:
    # Only a pax header can hold a NUL, and only a damaged or a malicious one does.
    return info.name.replace("\0", "\\x00")


def _kind(info: tarfile.TarInfo) -> Literal["file", "sparse", "link", "special"]:
    if info.issparse():
        return "sparse"
    return "file" if info.isfile() else "link" if info.issym() or info.islnk() else "special"


def _crc32(tar: tarfile.TarFile, info: tarfile.TarInfo, limit_bytes: int) -> int:
    if not 0 <= info.size <= limit_bytes:
        return 0
    crc32 = 0
    for piece in data_of(tar, info):
        crc32 = zlib.crc32(piece, crc32)
    return crc32


def data_of(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Iterator[bytes]:
    """The bytes of a file in pieces; fewer than its size where the stream breaks."""
    opened = tar.extractfile(info)
    with contextlib.suppress(tarfile.ReadError):
        while opened is not None and (piece := opened.read(PIECE_BYTES)):
            yield piece


def _next(
    tar: tarfile.TarFile, stream: Stream, source: Source, previous: tarfile.TarInfo
) -> tuple[tarfile.TarInfo | None, Entry | None]:
    """The header after ``previous``; or None, and an entry that says how the archive breaks if it does."""
    if tar.offset <= previous.offset:
        return None, _after(stream.tell(), "corrupt-archive", f"{previous.name} claims {previous.size} bytes")
    stream.seek(tar.offset)
    has_end = False
    while True:
        start = stream.tell()
        block = stream.peek(tarfile.BLOCKSIZE)
        if len(block) < tarfile.BLOCKSIZE:
            break
        if not any(block):
            has_end = True  # tars that were put behind each other go on after it
            stream.seek(start + tarfile.BLOCKSIZE)
            continue
        try:
            return tarfile.TarInfo.fromtarfile(tar), None
        except BAD_HEADER as error:
            if source.reason or not stream.read(1):
                break
            detail = f"the archive is damaged at {_place(source, start)}, where no header is ({error}): fetch it again"
            return None, _after(start, "corrupt-archive", detail)
    if has_end and source.reason == "crc-mismatch":
        detail = (
            f"the checksum of the whole archive does not fit its content ({source.message}); "
            f"what each image itself says was checked: fetch it again"
        )
        return None, _after(start, source.reason, detail)
    return None, None if has_end and not source.reason else _after(start, *_break(source, start))


def _break(source: Source, position: int) -> tuple[str, str]:
    """Problem and detail of a stream that ends at ``position`` (unpacked) and should not."""
    place = _place(source, position)
    if source.reason in ("", "truncated-archive"):
        return (
            "truncated-archive",
            f"the archive breaks off at {place}; nothing of what follows is there: fetch it again",
        )
    return "corrupt-archive", f"the archive is damaged at {place} ({source.message}): fetch it again"


def _place(source: Source, position: int) -> str:
    """Where that is; the first number is where a break is, and within a piece or two of another damage."""
    unpacked = f"byte {position} of the unpacked stream"
    return f"byte {source.consumed} of the file, {unpacked}" if source.consumed else unpacked


def _after(position: int, problem: str, detail: str) -> Entry:
    return Entry(f"(after byte {position})", position, 0, 0, "special", problem, detail)
