"""Zips whose directory lies: hidden members, shared bytes, sizes that are not kept; none of it is read."""

from __future__ import annotations

import resource
import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.archives import MemberRefused, list_members, read_member
from tasks.schema import UnusableInput
from tasks.sources.local import find_archives
from tests.zoo.zips import MACINTOSH, MIB, Entry, deflated, written

DATA = b"fifty bytes of a picture that is none, more or less"
BOMB_BYTES = 1024 * MIB


def entry(name: bytes = b"a.png", data: bytes = DATA, **lies: Any) -> Entry:
    """One that is sound but for what is said of it."""
    return Entry(name, data, **{"crc32": zlib.crc32(DATA), "size_bytes": len(DATA)} | lies)


REFUSED = {
    "a path upwards": (entry(b"../a.png"), "unsafe-path", "leaves the archive"),
    "an absolute path": (entry(b"/a.png"), "unsafe-path", "leaves the archive"),
    "a path upwards of Windows": (entry(b"..\\a.png"), "unsafe-path", "leaves the archive"),
    "a drive of Windows": (entry(b"C:\\a.png"), "unsafe-path", "leaves the archive"),
    "a link": (entry(mode=stat.S_IFLNK | 0o777), "unsafe-path", "symbolic link"),
    "a link from another system": (
        entry(mode=stat.S_IFLNK | 0o777, system=MACINTOSH),
        "unsafe-path",
        "symbolic link",
    ),
    "a device": (entry(mode=stat.S_IFCHR | 0o666), "unsafe-path", "no file"),
    "a pipe": (entry(mode=stat.S_IFIFO | 0o666), "unsafe-path", "no file"),
    "no name": (entry(b""), "unsafe-path", "no name"),
    "a name with a NUL": (entry(b"a\0.png"), "unsafe-path", "NUL"),
    "a claim of a GiB": (entry(data=deflated(MIB), size_bytes=BOMB_BYTES, method=8), "oversized-member", "claim"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_the_directory_says_already_is_refused_unread(name: str, tmp_path: Path) -> None:
    lying, reason, words = REFUSED[name]
    (archive,) = find_archives([written(tmp_path / "a.zip", [lying, entry(b"b.png")])])
    by_problem = {member.problem: member for member in list_members(archive)}
    assert set(by_problem) == {"", reason}
    assert words in by_problem[reason].detail
    assert read_member(archive, "b.png", by_problem[""].offset) == DATA


UNREADABLE = {
    "more than it claims": entry(data=deflated(BOMB_BYTES), method=8),
    "less than it claims": entry(size_bytes=5000),
    "less than it claims, deflated": entry(data=zlib.compress(DATA)[2:-4], size_bytes=5000, method=8),
    "a method that nobody knows": entry(method=99),
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
    entries = [entry(f"{number}.png".encode(), at=0 if number else None) for number in range(1000)]
    (archive,) = find_archives([written(tmp_path / "a.zip", entries)])
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
        lambda path: _changed(written(path, [entry()]), behind_a_second_end),
        "several end records",
    ),
    "fewer entries than are counted": (lambda path: written(path, [entry()], claimed=3), "counts 3 entries"),
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
