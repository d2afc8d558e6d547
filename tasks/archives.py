"""Reading members of zips, tars and folders, in place and safely.

An archive is never unpacked. A member is named by archive, path and byte offset, so two members of one name stay two.
"""

from __future__ import annotations

import lzma
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import IO, Literal

from pydantic import SecretStr

from tasks import locked_zips, plain_zips, tarballs, zip_directories
from tasks.limits import Limits, current
from tasks.progress import ByteMeter
from tasks.schema import UnusableInput
from tasks.storage import (
    Listed,
    Location,
    Replaced,
    is_remote,
    listed,
    location,
    look,
    open_archive,
    open_whole,
    read_bytes,
    read_less_ahead,
)

LOOSE = "."
"""Name of the archive that holds the loose files of the raw folders."""

READ_TOGETHER = 32
"""Members of mean size that are read ahead of one: an eighth of a chunk, which is the most that is read in vain."""

UNPACKING = (zlib.error, lzma.LZMAError, EOFError, NotImplementedError, RuntimeError, KeyError, ValueError)
"""What the standard library raises for a zip's member that cannot be unpacked."""

CLASHES_TOLD = 3
"""Names that a refusal names."""

SCANS_AT_ONCE = 2
"""Tars that are scanned at the same time; a scan inflates twice, and a disk does not like many readers."""


FRAME = re.compile(r"#frame=([1-9][0-9]*)$")
"""What follows the name of a file of several frames, from 1, where an archive's members are frames."""


class MemberRefused(Exception):
    """One member cannot be read; ``args`` are the stable reason code and the detail."""


@dataclass(frozen=True)
class Archive:
    """One container of members: a zip, a tar (gzipped or not), or the loose files below the raw folders."""

    name: str
    """Path of the zip or tar relative to its raw folder, with forward slashes; ``.`` for loose files."""
    kind: Literal["zip", "tar", "folder"]
    paths: tuple[str, ...]
    """The zip or tar file; or the raw folders. Paths, or URLs of object storage."""
    version: str = field(default="", compare=False)
    """Of a zip or tar on object storage: what its members are read from must still be this one."""
    seek: str = ""
    """Where the seek points of a tar are kept, see :func:`tasks.tarballs.scan`; empty keeps none."""
    is_lockable: bool = False
    """Whether its dataset comes encrypted, so that an encrypted member is nothing to refuse."""
    password: SecretStr | None = field(default=None, repr=False, compare=False)
    """What opens encrypted members; needed only to read one."""
    has_frames: bool = False
    """Whether a member ``a#frame=2`` is the second frame of the file ``a``, as in datasets of DICOM files."""

    def file_of(self, member: str) -> str:
        """The file that a member is read from: its own, or of a frame the file of all."""
        return FRAME.sub("", member) if self.has_frames else member


@dataclass(frozen=True)
class Member:
    """One entry of an archive, not yet read."""

    archive: str
    name: str
    offset: int
    """Byte offset of the local header in a zip, of the header in an unpacked tar; 0 for a loose file."""
    size_bytes: int
    """Uncompressed size."""
    crc32: int
    """As the zip's directory claims, or as the scan of a tar found; 0 for a loose file."""
    problem: str = ""
    """Stable reason code why it must not be read, or empty."""
    detail: str = ""


def frame_of(member: str) -> int | None:
    """Number of the frame that a member is, from 1; None of one that is a file. For archives that have frames alone."""
    found = FRAME.search(member)
    return int(found[1]) if found else None


def loose_files(archive: Archive) -> Iterator[Listed]:
    """Every file of a folder archive that is no archive itself, under its member name."""
    for root in archive.paths:
        for file in listed(location(root)):
            if not is_archive_name(file.path.name):
                _insist_on_text(file)
                yield file


def _insist_on_text(file: Listed) -> None:
    """Raise :class:`UnusableInput` for a name that is no UTF-8: no table could hold it."""
    try:
        file.name.encode()
    except UnicodeEncodeError as error:
        raise UnusableInput(f"the name of the file {str(file.path)!a} is no UTF-8: rename it") from error


def is_archive_name(name: str) -> bool:
    """Whether a file is taken for an archive; what a Macintosh leaves beside one (``._a.zip``) is not."""
    return (name.lower().endswith(".zip") or tarballs.is_tar_name(name)) and not name.startswith("._")


def list_all(archives: Sequence[Archive]) -> list[Member]:
    """The members of all archives in turn; tars that nothing is remembered of are scanned, two at once."""
    unknown = [location(a.paths[0]) for a in archives if a.kind == "tar" and not tarballs.is_remembered(a.seek)]
    meter = ByteMeter("index", sum(look(path).size_bytes for path in unknown))
    with ThreadPoolExecutor(max_workers=SCANS_AT_ONCE) as pool:
        listings = pool.map(lambda archive: list_members(archive, meter.add), archives)
        return [member for members in listings for member in members]


def list_members(archive: Archive, tick: tarballs.Tick = lambda size: None) -> list[Member]:
    """Every member that is not a directory, in the order of its name, with the reason where one is unsafe to read."""
    match archive.kind:
        case "zip":
            members = _zip_members(archive)
        case "tar":
            members = _tar_members(archive, tick)
        case "folder":
            members = _folder_members(archive)
    return _without_clashes(sorted(members, key=lambda member: (member.name, member.offset)))


def _without_clashes(members: list[Member]) -> list[Member]:
    """Names that are one file to systems that tell no case, or forms of Unicode, apart: of equal bytes the first stays.

    What is written under one of them would stand for the other there.
    """
    spelled: dict[str, list[Member]] = {}
    for member in members:
        spelled.setdefault(_folded(member.name), []).append(member)
    doubts = {
        folded: _doubt(twins) for folded, twins in spelled.items() if len(twins) > 1 and twins[0].name != twins[-1].name
    }
    return [_doubted(member, *doubts.get(_folded(member.name), ("", ""))) for member in members] if doubts else members


def _folded(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()


def _doubt(twins: Sequence[Member]) -> tuple[str, str]:
    """The name among them that is kept, or none, and what is said of the others."""
    is_same = len({(twin.size_bytes, twin.crc32) for twin in twins}) == 1 and twins[0].crc32 != 0
    names = sorted({twin.name for twin in twins})
    told = " and ".join([*names[:CLASHES_TOLD], *(["…"] if len(names) > CLASHES_TOLD else [])])
    verdict = "the same bytes, the first is kept" if is_same else "the bytes differ, so none can be trusted"
    detail = f"{told} are one file where case or forms of Unicode are not told apart ({verdict})"
    return (names[0] if is_same else ""), detail


def _doubted(member: Member, kept: str, detail: str) -> Member:
    is_clear = not detail or member.name == kept or member.problem
    return member if is_clear else replace(member, problem="duplicate-member", detail=detail)


def _zip_members(archive: Archive) -> list[Member]:
    try:
        with open_archive(location(archive.paths[0])) as stream:
            infos = zip_directories.entries(stream)
    except zipfile.BadZipFile as error:
        raise UnusableInput(f"{archive.paths[0]} is not a readable zip ({error}): fetch it again") from error
    limits = current()
    members = []
    for info, problem, detail in zip_directories.problems(infos):
        if not info.filename.endswith("/"):
            if not problem:
                problem, detail = _problem(info, archive, limits)
            name = info.filename.replace("\\", "/")
            members.append(Member(archive.name, name, info.header_offset, info.file_size, info.CRC, problem, detail))
    return members


def _problem(info: zipfile.ZipInfo, archive: Archive, limits: Limits) -> tuple[str, str]:
    """Reason code and detail for a sound entry that must not be read here, or two empty strings."""
    if locked_zips.is_encrypted(info) and not archive.is_lockable:
        return "encrypted-member", "the member is encrypted and this dataset declares no password"
    if info.file_size > limits.member_bytes or info.file_size > limits.ratio * max(info.compress_size, 1024):
        return "oversized-member", f"{info.compress_size} bytes claim to unpack to {info.file_size}"
    return "", ""


def _tar_members(archive: Archive, tick: tarballs.Tick) -> list[Member]:
    listing = scan(archive, tick)
    limit_bytes = current().member_bytes
    return [
        Member(archive.name, entry.name, entry.offset, entry.size_bytes, entry.crc32, *_tar_problem(entry, limit_bytes))
        for entry in listing.entries
    ]


def scan(archive: Archive, tick: tarballs.Tick = lambda size: None) -> tarballs.Listing:
    return tarballs.scan(location(archive.paths[0]), archive.seek, limit_bytes=current().member_bytes, tick=tick)


def _tar_problem(entry: tarballs.Entry, limit_bytes: int) -> tuple[str, str]:
    """Reason code and detail for a tar entry that must not be read, or two empty strings."""
    if entry.problem:
        return entry.problem, entry.detail
    if zip_directories.leaves(entry.name):
        return "unsafe-path", f"the path {entry.name!r} leaves the archive"
    if entry.kind in ("link", "special"):
        return "unsafe-path", {"link": "the member is a link", "special": "the member is no file"}[entry.kind]
    if entry.size_bytes > limit_bytes:
        return "oversized-member", f"the member unpacks to {entry.size_bytes} bytes"
    if entry.kind == "sparse":
        return "unreadable-member", "the member is a sparse file, which can claim holes of any size"
    return "", ""


def _folder_members(archive: Archive) -> list[Member]:
    seen: dict[str, Listed] = {}
    for file in loose_files(archive):
        before = seen.setdefault(file.name, file)
        if not is_same_file(before, file):
            raise UnusableInput(
                f"{file.name} is in two raw folders: {before.path} and {file.path}; give only one of them"
            )
    return [Member(archive.name, file.name, 0, file.size_bytes, 0) for file in seen.values()]


def is_same_file(first: Listed, second: Listed) -> bool:
    """Whether two paths lead to one file."""
    if is_remote(first.path) or is_remote(second.path):
        return str(first.path) == str(second.path)
    return first.path.samefile(second.path)


@lru_cache(maxsize=2)
def _opened(path: str, version: str) -> tuple[zipfile.ZipFile, dict[int, zipfile.ZipInfo], int | None]:
    """One open zip per process: parsing the directory of 10,000 members costs 50 ms. A replaced file is another.

    With the descriptor of a file of this machine.
    """
    place = location(path)
    stream = open_archive(place, version)
    opened = zip_directories.opened(stream, is_listed=True)
    infos = {info.header_offset: info for info in opened.infolist()}
    mean_bytes = sum(info.compress_size for info in infos.values()) // max(len(infos), 1)
    read_less_ahead(stream, mean_bytes * READ_TOGETHER)
    return opened, infos, None if is_remote(place) else stream.fileno()


@lru_cache(maxsize=16)
def _place(path: str) -> Location:
    """Taking a path apart costs as much as a third of reading a small member."""
    return location(path)


@lru_cache(maxsize=2)
def _stream(path: str, version: str) -> IO[bytes]:
    return open_archive(location(path), version)


def read_member(archive: Archive, name: str, offset: int, crc32: int = 0) -> bytes:
    """The bytes of one member; a zip knows its CRC, that of a tar's member is checked where ``crc32`` gives it.

    Raises :class:`MemberRefused` with ``crc-mismatch``, ``unreadable-member`` or ``encrypted-member``, and
    :class:`tasks.storage.Replaced` for an archive on object storage that is another one by now.
    """
    return read_file(archive, archive.file_of(name), offset, crc32)


def read_file(archive: Archive, name: str, offset: int, crc32: int = 0) -> bytes:
    """The same of a file by the name that it has in the archive, whatever that looks like."""
    if archive.kind == "folder":
        return _of_loose(archive, name, read_bytes)
    try:
        return _read(archive, name, offset, crc32)
    except OSError as error:
        if archive.version and look(path := location(archive.paths[0])).version != archive.version:
            raise Replaced(path) from error
        raise


def read_head(archive: Archive, name: str, offset: int, most_bytes: int) -> bytes:
    """The first bytes of a file of an archive, by its name there; no checksum is looked at but those of few bytes.

    Raises :class:`MemberRefused` as :func:`read_member` does.
    """
    if archive.kind == "tar":
        try:
            return tarballs.head(archive.paths[0], archive.seek, name, offset, most_bytes, version=archive.version)
        except tarballs.Unreadable as error:
            raise MemberRefused(*error.args) from error
    if archive.kind == "folder":
        return _of_loose(archive, name, lambda path: _head(path, most_bytes))
    opened, infos, _ = _opened(archive.paths[0], archive.version or look(_place(archive.paths[0])).version)
    info = infos.get(offset)
    if info is None or locked_zips.is_encrypted(info) or info.file_size <= most_bytes:
        return read_file(archive, name, offset)[:most_bytes]
    with _damage_refused(info), opened.open(info) as stream:
        return stream.read(most_bytes)


def _head(path: Location, most_bytes: int) -> bytes:
    with open_whole(path) as stream:
        return stream.read(most_bytes)


def _read(archive: Archive, name: str, offset: int, crc32: int) -> bytes:
    path = archive.paths[0]
    if archive.kind == "tar":
        most = current().member_bytes
        try:
            return tarballs.read(
                path, archive.seek, name, offset, crc32=crc32, limit_bytes=most, version=archive.version
            )
        except tarballs.Unreadable as error:
            raise MemberRefused(*error.args) from error
    version = archive.version or look(_place(path)).version
    opened, infos, descriptor = _opened(path, version)
    info = infos.get(offset)
    if info is None:
        raise MemberRefused("unreadable-member", f"{path} has no member at byte {offset:,} any more")
    with _damage_refused(info):
        if locked_zips.is_encrypted(info) and archive.password is not None:
            return locked_zips.read(opened, _stream(path, version), info, archive.password)
        if descriptor is not None and (data := plain_zips.read(descriptor, info)) is not None:
            return data
        with opened.open(info) as stream:
            data = stream.read(info.file_size + 1)  # not all that it may unpack to
        if len(data) != info.file_size:
            raise zipfile.BadZipFile(f"it unpacks to {len(data)} bytes, {info.file_size} were promised")
        return data


@contextmanager
def _damage_refused(info: zipfile.ZipInfo) -> Iterator[None]:
    """What a zip's damaged member raises, as :class:`MemberRefused`; errors of disks stay what they are."""
    try:
        yield
    except locked_zips.Locked as error:
        raise MemberRefused("encrypted-member", str(error)) from error
    except zipfile.BadZipFile as error:
        reason = "crc-mismatch" if "CRC" in str(error) else "unreadable-member"
        raise MemberRefused(reason, str(error)) from error
    except UNPACKING as error:
        raise MemberRefused("unreadable-member", f"{type(error).__name__}: {error}") from error
    except OSError as error:
        if info.compress_type != zipfile.ZIP_BZIP2 or error.errno is not None:
            raise
        raise MemberRefused("unreadable-member", f"bzip2: {error}") from error  # damage, not the disk


def _of_loose(archive: Archive, name: str, read: Callable[[Location], bytes]) -> bytes:
    """What is read of a file in whichever raw folder has it."""
    for root in archive.paths:
        try:
            return read(location(root) / name)
        except FileNotFoundError:
            continue
    raise MemberRefused("unreadable-member", f"{name} has gone from {', '.join(archive.paths)}")
