"""Animals whose outcome is a row of the quarantine, or of the sample table."""

from __future__ import annotations

import stat
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.zoo import pictures, zips
from tests.zoo.animals import Accepted, Place, Quarantined, Resident
from tests.zoo.enclosures import TAR, ZIP, Enclosure
from tests.zoo.zips import MIB, Entry

LOOSE = "."
MARK = "<script>alert('zoo')</script>"
IMAGE_MARK = "<img src=x onerror=alert('zoo')>"
FORMULA = "=HYPERLINK(A1)"
NFC, NFD = "images/\u00e9/", "images/e\u0301/"
SECRET = "/etc/hostname"
BOMB = 64 * MIB

Make = Callable[[pictures.Pixels], bytes]
Plant = Callable[[Enclosure], Sequence[Place]]


def _image(make: Make) -> Plant:
    """A film whose file is this, made from pixels of its own."""
    return lambda here: [(ZIP, here.film(make(here.pixels())))]


def _entry(**lies: object) -> Plant:
    """A film whose entry in the zip's directory lies."""

    def plant(here: Enclosure) -> list[Place]:
        name = here.film()
        here.entries[-1] = replace(here.entries[-1], **lies)  # type: ignore[arg-type]
        return [(ZIP, name)]

    return plant


def _named(name: bytes, shown: str | None = None, **lies: object) -> Plant:
    """A member without a row, of this name, as ``shown``."""

    def plant(here: Enclosure) -> list[Place]:
        here.entries.append(Entry(name, f"zoo {len(here.entries)}".encode(), **lies))  # type: ignore[arg-type]
        return [(ZIP, name.decode() if shown is None else shown)]

    return plant


def _packed(unpacked_bytes: int, **lies: object) -> Plant:
    """A film that unpacks to so many zeros."""

    def plant(here: Enclosure) -> list[Place]:
        name = here.film()
        data = zips.deflated(unpacked_bytes)
        here.entries[-1] = Entry(name.encode(), data, method=zips.DEFLATED, **lies)  # type: ignore[arg-type]
        return [(ZIP, name)]

    return plant


def _overlapping(here: Enclosure) -> list[Place]:
    first = here.film()
    at = len(here.entries) - 1
    key = here.key()
    here.row(key)
    second = f"images/{key}.png"
    here.entries.append(replace(here.entries[at], name=second.encode(), at=at))
    return [(ZIP, first), (ZIP, second)]


def _twice(first: str, second: str, *, is_same: bool) -> Plant:
    """Two members for one film, by names that some systems take for one; both are to be set aside, or the second."""

    def plant(here: Enclosure) -> list[Place]:
        key = here.key()
        here.row(key)
        names = [first.format(key), second.format(key)]
        contents = [pictures.png(pictures.film(here.films)), pictures.png(here.pixels())]
        for name, content in zip(names, contents[:1] * 2 if is_same else contents, strict=True):
            here.entries.append(Entry(name.encode(), content, flags=zips.UTF_8))
        return [(ZIP, name) for name in (sorted(names)[1:] if is_same else names)]

    return plant


def _folder(name: bytes, shown: str, *, flags: int = 0) -> Plant:
    """A sound film in a folder of a name in some encoding."""

    def plant(here: Enclosure) -> list[Place]:
        key = here.key()
        here.row(key)
        data = pictures.png(pictures.film(here.films))
        here.entries.append(Entry(name + f"/{key}.png".encode(), data, flags=flags))
        return [(ZIP, f"{shown}/{key}.png")]

    return plant


def _tarred(name: str, **about: Any) -> Plant:
    return lambda here: [(TAR, here.tar(name, **about))]


def _tarred_film(here: Enclosure) -> list[Place]:
    key = here.key()
    here.row(key)
    return [(TAR, here.tar(f"images/{key}.png", pictures.png(pictures.film(here.films))))]


def _sparse(size_bytes: int) -> Plant:
    """A block of 512 bytes that claims to be mostly holes."""

    def plant(here: Enclosure) -> list[Place]:
        key = here.key()
        here.row(key)
        headers = {"GNU.sparse.map": "0,512", "GNU.sparse.size": str(size_bytes), "GNU.sparse.numblocks": "1"}
        return [(TAR, here.tar(f"images/{key}.png", bytes(512), pax_headers=headers))]

    return plant


def _linked(target: str) -> Plant:
    """A loose film that is a symbolic link."""

    def plant(here: Enclosure) -> list[Place]:
        key = here.key()
        here.row(key)
        here.loose.append((f"loose/{key}.png", lambda path: path.symlink_to(target)))
        return [(LOOSE, f"loose/{key}.png")]

    return plant


def _celled(**cells: str) -> Plant:
    """A sound film with other cells in its row."""
    return lambda here: [(ZIP, here.film(None, **cells))]


def _ragged(here: Enclosure) -> list[Place]:
    name = here.film()
    here.rows[-1] = here.rows[-1].split(",")[0]
    return [(ZIP, name)]


SHOWN = {"source_mode": "L", "source_width": 64, "source_height": 64}

IMAGES: list[tuple[str, str, Quarantined | Accepted, Make]] = [
    ("giant dimensions", "PNG, 60,000 x 60,000 in its header", Quarantined("oversized-image"),
     lambda p: pictures.header(60_000, 60_000) + pictures.png(p)[33:]),
    ("one of 81 MP in colour", "sound PNG of 9,000 x 9,000 RGBA: 325 kB, 309 MiB decoded",
     Quarantined("oversized-image"), lambda p: pictures.black(9000, 9000, pictures.RGBA)),
    ("one of 150 MP", "sound grey PNG of 12,300 x 12,300: Pillow only warns", Quarantined("oversized-image"),
     lambda p: pictures.black(12_300, 12_300, pictures.GREY)),
    ("giant JPEG", "65,500 x 65,500 in its frame", Quarantined("oversized-image"),
     lambda p: pictures.giant_jpeg(65_500)),
    ("profile bomb", "iCCP of 64 MiB in 300 kB", Quarantined("undecodable-image"),
     lambda p: pictures.with_profile(p, BOMB)),
    ("text bomb", "zTXt of 64 MiB", Quarantined("undecodable-image"), lambda p: pictures.with_text(p, BOMB)),
    ("text bombs behind", "the same behind the pixels", Quarantined("undecodable-image"),
     lambda p: pictures.with_text(p, 200 * MIB, is_behind=True)),
    ("many texts", "100 zTXt of 1 MiB each", Quarantined("undecodable-image"),
     lambda p: pictures.with_text(p, MIB - 1, 100)),
    ("many chunks", "100,000 tIME chunks", Accepted(SHOWN), lambda p: pictures.of_many_chunks(p, 100_000)),
    ("animation", "APNG of two frames", Quarantined("unsupported-mode"), lambda p: pictures.animated(p, 255 - p)),
    ("deep grey", "16-bit PNG", Accepted({"source_mode": "I;16", "bit_depth": 16}),
     lambda p: pictures.png(p.astype(np.uint16) * 256 + p.T)),
    ("deep colour", "16-bit RGB, which Pillow narrows without a word", Quarantined("unsupported-mode"),
     lambda p: pictures.png(np.dstack([p.astype(np.uint16) * 257] * 3))),
    ("interlaced", "Adam7", Accepted({**SHOWN, "transform": "png"}), pictures.interlaced),
    ("palette with alpha", "half of its levels see-through; this dataset drops alpha",
     Accepted({"source_mode": "P", "transform": "palette to rgb; alpha dropped; equal channels to grey; png"}),
     pictures.palette_with_alpha),
    ("printer's colours", "CMYK JPEG", Quarantined("unsupported-mode"), pictures.cmyk),
    ("progressive", "progressive JPEG of ten scans or fewer", Accepted({**SHOWN, "transform": "png"}),
     lambda p: pictures.jpeg(p, progressive=True)),
    ("scan bomb", "progressive JPEG of 1,000 scans", Quarantined("undecodable-image"),
     lambda p: pictures.of_many_scans(p, 1000)),
    ("turned", "JPEG, Exif orientation 6", Accepted({"source_width": 48, "source_height": 64,
     "transform": "exif orientation 6; png"}), lambda p: pictures.turned(p[:48])),
    ("broken Exif", "its first directory lies behind its end", Accepted(SHOWN), pictures.with_broken_exif),
    ("PNG and zip in one", "a whole zip behind the end of a PNG", Accepted({**SHOWN, "transform": "png"}),
     lambda p: pictures.png(p, behind=b"PK\3\4" + bytes(26) + b"PK\5\6" + bytes(18))),
    ("PNG with a page in it", "HTML in a text chunk", Accepted({**SHOWN, "transform": "png"}),
     lambda p: pictures.png(p, before=pictures.chunk(b"tEXt", b"Comment\0" + MARK.encode()))),
    ("script as picture", "GIF89a that is JavaScript", Quarantined("not-an-image"),
     lambda p: b"GIF89a/*" + p.tobytes()[:50] + b"*/=1;alert('zoo')"),
    ("drawing with a script", "SVG called .png", Quarantined("not-an-image"),
     lambda p: f"<svg onload=\"alert('zoo')\">{MARK}</svg>".encode()),
    ("TIFF", "called .png", Quarantined("not-an-image"), lambda p: pictures.saved(p, "TIFF")),
    ("WebP", "called .png", Quarantined("not-an-image"), lambda p: pictures.saved(p, "WEBP")),
    ("DICOM", "called .png", Quarantined("not-an-image"), pictures.dicom),
    ("nothing", "no byte", Quarantined("empty-file"), lambda p: b""),
    ("start of a PNG", "its signature alone", Quarantined("not-an-image"), lambda p: pictures.SIGNATURE),
    ("no width", "0 x 64 in its header", Quarantined("not-an-image"),
     lambda p: pictures.header(0, 64) + pictures.png(p)[33:]),
    ("wrong checksum", "of the chunk of its pixels", Quarantined("undecodable-image"), pictures.with_bad_crc),
    ("wrong Adler-32", "of the packed pixels alone; chunk checksums are right, so no pixel is another",
     Accepted({**SHOWN, "transform": "png"}), pictures.with_bad_adler),
    ("too few rows", "its header promises twice as many", Quarantined("truncated-image"), pictures.with_too_few_rows),
    ("cut PNG", "half of it", Quarantined("truncated-image"), lambda p: pictures.png(p)[:-600]),
    ("JPEG with a hole", "half of its data gone, the end put back: grey from there on, and no checksum to tell by",
     Accepted(SHOWN), lambda p: pictures.jpeg(p)[:-600] + b"\xff\xd9"),
    ("cut JPEG", "half of it", Quarantined("truncated-image"), lambda p: pictures.jpeg(p)[:-600]),
]  # fmt: skip

MEMBERS: list[tuple[str, str, Quarantined | Accepted, Plant]] = [
    ("path upwards", "../a.png", Quarantined("unsafe-path"), _named(b"../zoo-escaped.png")),
    ("deep path upwards", "images/../../a.png", Quarantined("unsafe-path"), _named(b"images/../../zoo-escaped.png")),
    ("absolute path", "/tmp/a.png", Quarantined("unsafe-path"), _named(b"/tmp/zoo-escaped.png")),
    ("path upwards of Windows", "..\\a.png", Quarantined("unsafe-path"),
     _named(b"..\\zoo-windows.png", "../zoo-windows.png")),
    ("drive", "C:\\a.png", Quarantined("unsafe-path"), _named(b"C:\\zoo.png", "C:/zoo.png")),
    ("link", "symbolic link in a zip", Quarantined("unsafe-path"), _entry(mode=stat.S_IFLNK | 0o777)),
    ("device", "character device in a zip", Quarantined("unsafe-path"), _entry(mode=stat.S_IFCHR | 0o666)),
    ("pipe", "named pipe in a zip", Quarantined("unsafe-path"), _entry(mode=stat.S_IFIFO | 0o666)),
    ("no name", "a member without one", Quarantined("unsafe-path"), _named(b"")),
    ("name with a NUL", "a\\0.exe", Quarantined("unsafe-path"), _named(b"zoo\0.exe", "zoo")),
    ("ratio bomb", "1 MB that claims to unpack to 1 GiB", Quarantined("oversized-member"),
     _packed(MIB, size_bytes=1024 * MIB)),
    ("quiet bomb", "unpacks to 128 MiB and claims 50 bytes", Quarantined("crc-mismatch"),
     _packed(128 * MIB, size_bytes=50)),
    ("zip in a zip", "a bomb of another level: never opened", Quarantined("unexpected-member"),
     _named(b"images/inner.zip")),
    ("shared bytes", "two entries of one place", Quarantined("unreadable-member"), _overlapping),
    ("wrong CRC", "in directory and header", Quarantined("crc-mismatch"), _entry(crc32=1)),
    ("encrypted", "where no password is declared", Quarantined("encrypted-member"), _entry(flags=zips.ENCRYPTED)),
    ("unknown method", "packed by method 99", Quarantined("unreadable-member"), _entry(method=99)),
    ("stored longer than it is", "claims 5,000 bytes more", Quarantined("unreadable-member"), _entry(size_bytes=9999)),
    ("two names", "the local header says another", Quarantined("unreadable-member"),
     _entry(local_name=b"images/99999999_000.png")),
    ("zip64", "sizes in a zip64 field", Accepted(SHOWN), _entry(is_zip64=True)),
    ("name twice", "other bytes the second time", Quarantined("duplicate-member"),
     _twice("images/{}.png", "images/{}.png", is_same=False)),
    ("case clash", "a.png and a.PNG, other bytes", Quarantined("duplicate-member"),
     _twice("images/{}.png", "images/{}.PNG", is_same=False)),
    ("case clash of copies", "IMAGES/a.png and images/a.png, the same bytes", Quarantined("duplicate-member"),
     _twice("IMAGES/{}.png", "images/{}.png", is_same=True)),
    ("Unicode clash", "one name in NFC and NFD", Quarantined("duplicate-member"),
     _twice(NFC + "{}.png", NFD + "{}.png", is_same=False)),
    ("false UTF-8", "a folder's name claims UTF-8 and is Latin-1", Accepted(SHOWN),
     _folder(b"r\xf6ntgen", "r\u00f7ntgen", flags=zips.UTF_8)),
    ("old name", "a folder's name in Shift JIS, unflagged: read as code page 437", Accepted(SHOWN),
     _folder(b"\x83\x8c", "\u00e2\u00ee")),
    ("name that writes on terminals", "ANSI codes and a right-to-left mark", Quarantined("unexpected-member"),
     _named("\x1b[2J\u202eexe.gnp.exe".encode(), flags=zips.UTF_8)),
    ("name that is a page", "HTML with a script", Quarantined("unexpected-member"),
     _named(f"{IMAGE_MARK}.exe".encode())),
    ("name that is a formula", "=HYPERLINK(...)", Quarantined("unexpected-member"), _named(b"=HYPERLINK(A1).exe")),
    ("long name", "65,000 bytes", Quarantined("unexpected-member"), _named(b"n" * 65_000)),
    ("name of a device", "CON.exe", Quarantined("unexpected-member"), _named(b"CON.exe")),
    ("sound film of a tar", "for comparison", Accepted(SHOWN), _tarred_film),
    ("tar: path upwards", "../a.png", Quarantined("unsafe-path"), _tarred("../zoo-escaped.png")),
    ("tar: absolute path", "/tmp/a.png", Quarantined("unsafe-path"), _tarred("/tmp/zoo-escaped.png")),
    ("tar: symbolic link", "to /etc/passwd", Quarantined("unsafe-path"),
     _tarred("images/link.png", type=tarfile.SYMTYPE, linkname="/etc/passwd")),
    ("tar: hard link", "to /etc/passwd", Quarantined("unsafe-path"),
     _tarred("images/hard.png", type=tarfile.LNKTYPE, linkname="/etc/passwd")),
    ("tar: device", "character device", Quarantined("unsafe-path"), _tarred("images/dev.png", type=tarfile.CHRTYPE)),
    ("tar: sparse", "512 bytes and holes of 200 MiB", Quarantined("unreadable-member"), _sparse(200 * MIB)),
    ("tar: very sparse", "512 bytes and holes of 8 TiB", Quarantined("oversized-member"), _sparse(2**43)),
    ("loose link", "to a file elsewhere: read, as users link their raw data", Quarantined("not-an-image"),
     _linked(SECRET)),
    ("cell that is a formula", "=HYPERLINK(A1) as a view", Accepted({"meta.View Position": FORMULA}),
     _celled(view=FORMULA)),
    ("cell that is a page", "script as a view", Accepted({"meta.View Position": MARK}), _celled(view=MARK)),
    ("label that is a page", "an image tag as finding", Quarantined("unknown-label"), _celled(labels=IMAGE_MARK)),
    ("long cell", "100,000 letters as a view", Accepted({"meta.View Position": "x" * 100_000}),
     _celled(view="x" * 100_000)),
    ("short row", "one cell of eleven", Quarantined("missing-group"), _ragged),
]  # fmt: skip

LARGE: list[tuple[str, str, Quarantined | Accepted, Make]] = [
    ("largest allowed", "grey PNG of 11,500 x 11,500: 126 MiB decoded", Accepted({"source_width": 11_500}),
     lambda p: pictures.largest(11_500)),
    ("mammogram", "16-bit PNG of 5,928 x 4,728: 53 MiB decoded", Accepted({"source_width": 4728, "bit_depth": 16}),
     lambda p: pictures.png(np.tile(pictures.film(5, 1024).astype(np.uint16) * 200, (6, 5))[:5928, :4728])),
]  # fmt: skip


RESIDENTS = [
    *(Resident(name, what, expected, _image(make)) for name, what, expected, make in IMAGES),
    *(Resident(name, what, expected, plant) for name, what, expected, plant in MEMBERS),
]
GIANTS = [Resident(name, what, expected, _image(make)) for name, what, expected, make in LARGE]
"""Sound ones that need all the memory that there may be: too slow for CI."""


SLOW = {
    "one of 81 MP in colour",
    "one of 150 MP",
    "profile bomb",
    "text bomb",
    "many texts",
    "many chunks",
    "quiet bomb",
}
"""Those that take long to make; text bombs of one kind are left to CI."""
QUICK = [resident for resident in RESIDENTS if resident.name not in SLOW]


def write(raw: Path, residents: Sequence[Resident]) -> dict[str, Sequence[Place]]:
    """One release of all of them; gives their members by name."""
    here = Enclosure()
    places = {resident.name: resident.plant(here) for resident in residents}
    raw.mkdir(parents=True)
    here.write(raw)
    return places
