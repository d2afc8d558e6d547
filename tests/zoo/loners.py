"""Animals that a release is refused for as a whole, in one sentence that names the file."""

from __future__ import annotations

import atexit
import gzip
import os
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from tests.fakes import behsof
from tests.zoo import zips
from tests.zoo.animals import Loner, Refused
from tests.zoo.enclosures import TABLE, ZIP, Enclosure
from tests.zoo.zips import MIB, Entry

WRONG = {"SCANMILL_BEHSOF_PASSWORD": "not the password"}
LIMIT = "SCANMILL_MAX_"


def _sound(raw: Path) -> Enclosure:
    here = Enclosure()
    here.write(raw)
    return here


def _zip(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """A release whose zip is changed as a whole."""

    def write(raw: Path) -> None:
        _sound(raw)
        (raw / ZIP).write_bytes(change((raw / ZIP).read_bytes()))

    return write


def _table(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    """The same of its label table."""

    def write(raw: Path) -> None:
        _sound(raw)
        (raw / TABLE).write_bytes(change((raw / TABLE).read_bytes()))

    return write


def _beside(name: str, make: Callable[[Path], object]) -> Callable[[Path], object]:
    """A release with something else in its folder."""

    def write(raw: Path) -> None:
        _sound(raw)
        make(raw / name)

    return write


def _counting(claimed: int) -> Callable[[Path], object]:
    def write(raw: Path) -> None:
        here = _sound(raw)
        zips.written(raw / ZIP, here.entries, claimed=claimed)

    return write


def _of_millions(zipped: bytes) -> bytes:
    """A zip64 record that counts a million entries and one, each of 46 bytes, and says that they are there."""
    at = zipped.rindex(b"PK\5\6")
    count, size = 1_000_001, 46 * 1_000_001
    record = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, 0)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at, 1)
    end = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return zipped[:at] + record + locator + end


def _with_second_end(zipped: bytes) -> bytes:
    """All of it in front of an empty archive, whose end record is the last."""
    return zipped[:-2] + struct.pack("<H", 22) + b"PK\5\6" + bytes(18)


def _with_broken_extra(zipped: bytes) -> bytes:
    """An entry of the directory whose zip64 field says a size that it has not."""
    at = zipped.index(b"PK\1\2")
    name = int.from_bytes(zipped[at + 28 : at + 30], "little")
    head = bytearray(zipped[at : at + 46 + name])
    head[20:28] = b"\xff" * 8
    head[30:32] = struct.pack("<H", 4)
    grown = zipped[:at] + bytes(head) + struct.pack("<HH", 1, 0) + zipped[at + 46 + name :]
    end = grown.rindex(b"PK\5\6")
    size = int.from_bytes(grown[end + 12 : end + 16], "little") + 4
    return grown[: end + 12] + struct.pack("<I", size) + grown[end + 16 :]


def _bomb_in_gzip(path: Path) -> None:
    path.write_bytes(gzip.compress(bytes(256 * MIB), 6, mtime=0))


def _zip_of_zeros(path: Path) -> None:
    """A table of 140 MiB, the same rows over and over, in a zip of half a MiB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("Data_Entry_2017.csv", "w") as sink:
        sink.write((path.parent / TABLE).read_bytes())
        more = b"".join(_lines((path.parent / TABLE).read_bytes())[1:]) * 400
        for _ in range(140 * MIB // len(more)):
            sink.write(more)
    (path.parent / TABLE).unlink()


@cache
def _livers() -> Path:
    """An encrypted release, written once a process."""
    folder = Path(tempfile.mkdtemp(prefix="scanmill-zoo-livers-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    behsof.write(folder, images=120, defects=False)
    return folder


def _liver(change: Callable[[bytes], bytes] = bytes) -> Callable[[Path], object]:
    def write(raw: Path) -> None:
        shutil.copytree(_livers(), raw)
        (raw / behsof.ARCHIVE).write_bytes(change((raw / behsof.ARCHIVE).read_bytes()))

    return write


def _clashing_tables(raw: Path) -> None:
    here = _sound(raw)
    table = (raw / TABLE).read_bytes()
    (raw / TABLE).unlink()
    again = [Entry(TABLE.encode(), table), Entry(TABLE.upper().encode(), table.replace(b"PA", b"AP"))]
    zips.written(raw / ZIP, [*here.entries, *again])


def _lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def _ending(data: bytes, more: bytes) -> bytes:
    """The table with more at the end of its last line."""
    return data.rstrip(b"\n") + more + b"\n"


def _widened(data: bytes, names: bytes) -> bytes:
    """More columns in the header, and as many empty cells."""
    head, *rest = _lines(data)
    return head.rstrip(b"\n") + names + b"\n" + b"".join(rest)


LONERS = [
    Loner("cut directory", "a zip that ends within its central directory", Refused("is not a readable zip"),
          _zip(lambda data: data[: data.index(b"PK\1\2") + 20])),
    Loner("damaged directory", "an entry's signature overwritten", Refused("is not a readable zip"),
          _zip(lambda data: data.replace(b"PK\1\2", b"XX\1\2", 1))),
    Loner("second end record", "one in the comment of the other hides all members", Refused("several end records"),
          _zip(_with_second_end)),
    Loner("hidden members", "the end record counts 3", Refused("counts 3 entries"), _counting(3)),
    Loner("a million members", "a zip64 record that counts 1,000,001", Refused(f"{LIMIT}MEMBERS"), _zip(_of_millions)),
    Loner("broken zip64 field", "a size that is nowhere", Refused("is not a readable zip"), _zip(_with_broken_extra)),
    Loner("page for a zip", "a sign-in page called .zip", Refused("no central directory"),
          _zip(lambda data: b"<html>Sign in</html>" * 50)),
    Loner("page for a tar", "the same called .tar.gz", Refused("is neither a gzip file nor a tar"),
          _beside("a.tar.gz", lambda path: path.write_bytes(b"<html>Sign in</html>" * 50))),
    Loner("gzip bomb", "256 MiB of zeros called .tar.gz", Refused("is no tar"), _beside("a.tar.gz", _bomb_in_gzip)),
    Loner("pipe", "a named pipe in the raw folder: reading it never ends", Refused("neither file nor folder"),
          _beside("00000900_000.png", os.mkfifo)),
    Loner("endless link", "a film that is a link to /dev/zero", Refused("neither file nor folder"),
          _beside("00000900_000.png", lambda path: path.symlink_to("/dev/zero"))),
    Loner("link to nowhere", "a film that is a link to nothing", Refused("No such file or directory"),
          _beside("00000900_000.png", lambda path: path.symlink_to("nowhere.png"))),
    Loner("link to itself", "a film that is a link to itself", Refused("Too many levels of symbolic links"),
          _beside("00000900_000.png", lambda path: path.symlink_to(path.name))),
    Loner("linked folder", "films in a folder that is a link to one elsewhere", Refused("is a link to a folder"),
          _beside("films", lambda path: path.symlink_to("/etc"))),
    Loner("two tables by case", "of one name but for capitals, with other rows", Refused("one file where case"),
          _clashing_tables),
    Loner("table bomb", "140 MiB of rows in a zip of half a MiB", Refused(f"{LIMIT}TABLE_MIB"),
          _beside("tables.zip", _zip_of_zeros)),
    Loner("Latin-1", "a table in another encoding", Refused("is not UTF-8 text"),
          _table(lambda data: data.replace(b"No Finding", b"Kein R\xf6ntgenbefund", 1))),
    Loner("UTF-16", "a table as Excel's Unicode text", Refused("save it as UTF-8"),
          _table(lambda data: data.decode().encode("utf-16"))),
    Loner("NULs", "in a cell", Refused("has a NUL in line 2"), _table(lambda data: data.replace(b"PA", b"P\0A", 1))),
    Loner("10 MB cell", "in the last row", Refused(f"{LIMIT}TABLE_CELL"),
          _table(lambda data: _ending(data, b"x" * 10_000_000))),
    Loner("open quote", "that nothing closes: the rest would be one cell", Refused("unexpected end of data"),
          _table(lambda data: data.replace(b"PA", b'"PA', 1))),
    Loner("long row", "more cells than the header", Refused("cells under"),
          _table(lambda data: _ending(data, b",surplus,cells"))),
    Loner("column twice", "Patient Age, with other ages", Refused("more than one column 'Patient Age'"),
          _table(lambda data: _widened(data, b",Patient Age"))),
    Loner("column under two names", "Patient Sex and Patient Gender", Refused("more than one column 'Patient Gender'"),
          _table(lambda data: _widened(data, b",Patient Sex"))),
    Loner("a million columns", "all of other names", Refused(f"{LIMIT}TABLE_COLUMNS"),
          _table(lambda data: _widened(data, b"".join(b",c%d" % n for n in range(1_000_000))))),
    Loner("empty table", "no byte", Refused("is missing"), _table(lambda data: b"")),
    Loner("wrong password", "of an encrypted zip", Refused("does not open"), _liver(), "behsof", WRONG),
    Loner("no password", "of an encrypted zip", Refused("is encrypted"), _liver(), "behsof",
          {"SCANMILL_BEHSOF_PASSWORD": ""}),
    Loner("damaged locked zip", "an encrypted zip with a damaged directory", Refused("is not a readable zip"),
          _liver(lambda data: data.replace(b"PK\1\2", b"XX\1\2", 1)), "behsof", WRONG),
    Loner("a limit that is none", f"{LIMIT}IMAGE_MIB=lots", Refused("must be a whole number above zero"), _sound,
          environment={f"{LIMIT}IMAGE_MIB": "lots"}),
]  # fmt: skip

SLOW = {"gzip bomb", "table bomb", "wrong password", "no password", "damaged locked zip"}
"""Those that take long to make."""
QUICK = [loner for loner in LONERS if loner.name not in SLOW]
