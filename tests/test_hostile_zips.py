"""Zips whose directory lies: hidden members, shared bytes, sizes that are not kept; none of it is read."""

from __future__ import annotations

import resource
import stat
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.archives import MemberRefused, list_members, read_member
from tasks.schema import UnusableInput
from tasks.sources.local import find_archives

DATA = b"fifty bytes of a picture that is none, more or less"
MIB = 2**20
BOMB_BYTES = 1024 * MIB
UNIX, MACINTOSH = 3, 19


@dataclass
class Entry:
    """One entry, as written in the local header and in the directory; sizes and checksum may lie."""

    name: bytes = b"a.png"
    data: bytes = DATA
    size_bytes: int = len(DATA)
    method: int = 0
    mode: int = 0
    system: int = UNIX
    extra: bytes = b""


def written(path: Path, entries: Sequence[Entry], *, at_one_place: bool = False, claimed: int | None = None) -> Path:
    """A zip byte by byte (APPNOTE 4.3.7, 4.3.12, 4.3.16)."""
    body, directory = bytearray(), bytearray()
    for entry in entries:
        offset = 0 if at_one_place else len(body)
        numbers = (20, 0, entry.method, 0, 33, zlib.crc32(DATA), len(entry.data), entry.size_bytes, len(entry.name))
        if not body or not at_one_place:
            body += struct.pack("<4sHHHHHIIIHH", b"PK\3\4", *numbers, 0) + entry.name + entry.data
        attributes = (0, 0, 0, 0, entry.mode << 16, offset)
        directory += (
            struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 20 | entry.system << 8, *numbers, *attributes) + entry.name
        )
    count = len(entries) if claimed is None else claimed
    path.parent.mkdir(parents=True, exist_ok=True)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, count, count, len(directory), len(body), 0)
    path.write_bytes(bytes(body) + bytes(directory) + end)
    return path


def deflated(size_bytes: int) -> bytes:
    """Zeros, packed a thousand to one."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join([*(packer.compress(bytes(MIB)) for _ in range(size_bytes // MIB)), packer.flush()])


REFUSED = {
    "a path upwards": (Entry(b"../a.png"), "unsafe-path", "leaves the archive"),
    "an absolute path": (Entry(b"/a.png"), "unsafe-path", "leaves the archive"),
    "a path upwards of Windows": (Entry(b"..\\a.png"), "unsafe-path", "leaves the archive"),
    "a drive of Windows": (Entry(b"C:\\a.png"), "unsafe-path", "leaves the archive"),
    "a link": (Entry(mode=stat.S_IFLNK | 0o777), "unsafe-path", "symbolic link"),
    "a link from another system": (
        Entry(mode=stat.S_IFLNK | 0o777, system=MACINTOSH),
        "unsafe-path",
        "symbolic link",
    ),
    "a device": (Entry(mode=stat.S_IFCHR | 0o666), "unsafe-path", "no file"),
    "a pipe": (Entry(mode=stat.S_IFIFO | 0o666), "unsafe-path", "no file"),
    "no name": (Entry(b""), "unsafe-path", "no name"),
    "a name with a NUL": (Entry(b"a\0.png"), "unsafe-path", "NUL"),
    "a claim of a GiB": (Entry(data=deflated(MIB), size_bytes=BOMB_BYTES, method=8), "oversized-member", "claim"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_directory_says_already_is_refused_unread(name: str, tmp_path: Path) -> None:
    entry, reason, words = REFUSED[name]
    (archive,) = find_archives([written(tmp_path / "a.zip", [entry, Entry(b"b.png")])])
    by_problem = {member.problem: member for member in list_members(archive)}
    assert set(by_problem) == {"", reason}
    assert words in by_problem[reason].detail
    assert read_member(archive, "b.png", by_problem[""].offset) == DATA


UNREADABLE = {
    "more than it claims": Entry(data=deflated(BOMB_BYTES), method=8),
    "less than it claims": Entry(size_bytes=5000),
    "less than it claims, deflated": Entry(data=zlib.compress(DATA)[2:-4], size_bytes=5000, method=8),
    "a method that nobody knows": Entry(method=99),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_does_not_keep_its_size_is_refused_in_little_memory(name: str, tmp_path: Path) -> None:
    (archive,) = find_archives([written(tmp_path / "a.zip", [UNREADABLE[name]])])
    (member,) = list_members(archive)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(MemberRefused) as refused:
        read_member(archive, member.name, member.offset)
    assert refused.value.args[0] in ("unreadable-member", "crc-mismatch")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # kB


def test_members_that_share_their_bytes_are_all_refused(tmp_path: Path) -> None:
    """As in Fifield's bomb (WOOT 2019): what is read once is counted a thousand times."""
    entries = [Entry(f"{number}.png".encode()) for number in range(1000)]
    (archive,) = find_archives([written(tmp_path / "a.zip", entries, at_one_place=True)])
    members = list_members(archive)
    assert len(members) == 1000
    assert {(member.problem, member.detail) for member in members} == {
        ("unreadable-member", "its bytes are those of another member, too")
    }


def behind_a_second_end(content: bytes) -> bytes:
    """All of it in front of an empty archive, whose end record is the last."""
    return content[:-2] + struct.pack("<H", 22) + b"PK\5\6" + bytes(18)


HIDDEN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "an end record in the comment": (
        lambda path: _changed(written(path, [Entry()]), behind_a_second_end),
        "several end records",
    ),
    "fewer entries than are counted": (lambda path: written(path, [Entry()], claimed=3), "counts 3 entries"),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_an_archive_that_may_hide_members_is_not_read(name: str, tmp_path: Path) -> None:
    write, words = HIDDEN[name]
    (archive,) = find_archives([write(tmp_path / "a.zip")])
    with pytest.raises(UnusableInput, match=words):
        list_members(archive)


def _changed(path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path
