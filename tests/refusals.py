"""Every reason for which something is refused, planted into made-up raw releases: reason code to how it comes about."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import docx
import numpy as np
from PIL import Image

from tests.fakes import behsof, damage, ovf_supplement
from tests.fakes.zip_encryption import encrypt_zip

ZIPPED, OTHER = "images_002.zip", "images_003.zip"
TABLE, BOXES = "Data_Entry_2017_v2020.csv", "BBox_List_2017.csv"
FORMULA = "=HYPERLINK(A1).exe"
"""A name that a spreadsheet would compute."""
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (64, 64), np.uint8)


def png(pixels: object) -> bytes:
    """As OpenCV writes it."""
    _, data = cv2.imencode(".png", np.asarray(pixels))
    return bytes(data.tobytes())


def jpeg_of_printers_colours() -> bytes:
    """Four colours, as a printer's."""
    sink = io.BytesIO()
    Image.fromarray(np.dstack([NOISE] * 4), "CMYK").save(sink, "JPEG")
    return sink.getvalue()


def with_broken_pixels() -> bytes:
    """A PNG whose pixels do not inflate, although every chunk has its checksum."""
    whole = png(NOISE)
    start = whole.index(b"IDAT")
    size = int.from_bytes(whole[start - 4 : start], "big")
    data = b"\x78\x9c" + b"\xff" * (size - 2)
    return whole[:start] + b"IDAT" + data + struct.pack(">I", zlib.crc32(b"IDAT" + data)) + whole[start + 8 + size :]


def of_absurd_size() -> bytes:
    """A PNG that claims 60,000 by 60,000 pixels."""
    head = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    whole = png(NOISE)
    return whole[:12] + head + struct.pack(">I", zlib.crc32(head)) + whole[33:]


CONTENTS: Mapping[str, bytes] = {
    "empty-file": b"",
    "not-an-image": b"<html><body>404 Not Found</body></html>\n",
    "truncated-image": png(NOISE)[:-900],
    "undecodable-image": with_broken_pixels(),
    "oversized-image": of_absurd_size(),
    "unsupported-mode": jpeg_of_printers_colours(),
    "bit-depth": png(NOISE.astype(np.uint16) * 257),  # where JPEGs are made
    "blank-frame": png(np.full((64, 64), 90, np.uint8)),
    "too-small": png(NOISE[:20, :20]),
    "unexpected-channels": png(RNG.integers(0, 256, (64, 64, 3), np.uint8)),
}
"""Reason to the bytes of a film that is refused for it."""


def plant_films(raw: Path) -> dict[str, str]:
    """Spoil the films of NIH's second and third archive, one each, and its tables; gives the film of each reason."""
    archive, other = raw / ZIPPED, raw / OTHER
    films = {
        path: [name for name in zipfile.ZipFile(path).namelist() if name.endswith(".png")] for path in (archive, other)
    }
    victims = dict(zip(CONTENTS, films[archive], strict=False))
    spoiled = {member: CONTENTS[reason] for reason, member in victims.items()}
    damage.change_members(archive, lambda name, content: spoiled.get(name, content))
    left = [name for name in films[other] if not name.endswith("_000.png")]
    by_archive: dict[str, Callable[[str], object]] = {
        "image-without-row": lambda member: damage.remove_row(table, Path(member).name),
        "row-without-image": lambda member: damage.remove_member(other, member),
        "unknown-label": lambda member: damage.unknown_label(table, Path(member).name),
        "duplicate-row": lambda member: _again(table, Path(member).name),
        "missing-group": lambda member: _without_patient(table, Path(member).name),
        "no-split": lambda member: _in_both_lists(raw, Path(member).name),
        "duplicate-member": lambda member: damage.duplicate_member(
            other, member, same_bytes=False, other=films[other][0]
        ),
        "unsafe-path": lambda member: damage.add_member(other, "../evil.png", member),
        "unexpected-member": lambda member: damage.add_member(other, FORMULA, member),
        # What comes from here on keeps the archive from being rewritten.
        "crc-mismatch": lambda member: damage.flip_member_byte(other, member),
        "encrypted-member": lambda member: damage.mark_encrypted(other, member),
        "unreadable-member": lambda member: _claim(other, member, 8, 10, "<H", 97),
        "oversized-member": lambda member: _claim(other, member, 22, 24, "<I", 600 * 2**20),
    }
    table = damage.TableFile(raw / TABLE)
    for (reason, plant), member in zip(by_archive.items(), left, strict=False):
        victims[reason] = member
        plant(member)
    assert set(by_archive) <= set(victims), "the release has too few films"
    return victims


def plant_boxes(raw: Path, film: str) -> None:
    """Add boxes that cannot be, of a film that has none else; ``film`` is the name of its file."""
    with (raw / BOXES).open("a") as stream:
        stream.write(f"{film},Mass,a,5,3,4\n{film},Mass,5,5,-3,4\n{film},Fracture,1,1,2,2\n")
        stream.write(f"{film},Mass,900,900,50,50\n99999999_000.png,Mass,1,1,2,2\n")


def _again(table: damage.TableFile, image: str) -> None:
    rows = table.rows()
    table.write([*rows, next(row for row in rows if row[0] == image)])


def _without_patient(table: damage.TableFile, image: str) -> None:
    header, *rows = table.rows()
    next(row for row in rows if row[0] == image)[header.index("Patient ID")] = ""
    table.write([header, *rows])


def _in_both_lists(raw: Path, image: str) -> None:
    for name in ("train_val_list.txt", "test_list.txt"):
        names = (raw / name).read_text().split("\n")
        (raw / name).write_text("\n".join(sorted({*names, image})))


def _claim(archive: Path, member: str, local: int, central: int, form: str, value: int) -> None:
    """Write a number into both headers of a member, at these offsets of each (APPNOTE 4.3.7, 4.3.12)."""
    with zipfile.ZipFile(archive) as opened:
        place, infos = opened.start_dir, opened.infolist()
    data = bytearray(archive.read_bytes())
    for info in infos:
        if info.filename == member:
            struct.pack_into(form, data, info.header_offset + local, value)
            struct.pack_into(form, data, place + central, value)
        place += 46 + sum(struct.unpack_from("<HHH", data, place + 28))
    archive.write_bytes(data)


def plant_tars(raw: Path) -> tuple[str, int]:
    """Make gzipped tars of NIH's first two archives: one that ends within a member, one that is damaged in another.

    Gives the name of the member that is cut, and how many of its bytes are left.
    """
    first, second = (tarred(raw / f"images_00{number}.zip") for number in (1, 2))
    with tarfile.open(first) as opened:
        half = opened.getmembers()[-3]
    left = half.size // 2
    unpacked = gzip.decompress(first.read_bytes())[: half.offset_data + left]
    packer = zlib.compressobj(0, zlib.DEFLATED, 31)
    first.write_bytes(packer.compress(unpacked) + packer.flush(zlib.Z_FULL_FLUSH))
    data = bytearray(second.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    second.write_bytes(data)
    return half.name, left


def tarred(path: Path) -> Path:
    """Make a gzipped tar of a zip, in its place."""
    target = path.with_suffix(".tar.gz")
    with zipfile.ZipFile(path) as source, tarfile.open(target, "w:gz") as tar:
        for name in source.namelist():
            info = tarfile.TarInfo(name)
            info.size = source.getinfo(name).file_size
            tar.addfile(info, source.open(name))
    path.unlink()
    return target


def plant_screens(raw: Path) -> str:
    """BEHSOF, encrypted, with one screen that shows no scan; gives its member."""
    behsof.write(raw, images=120, password=None)
    archive = raw / behsof.ARCHIVE
    screen = np.zeros((300, 400, 3), np.uint8)
    cv2.putText(screen, "NO PROBE", (20, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2)
    with zipfile.ZipFile(archive) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    victim = next(name for name in members if name.endswith("Image1.jpg"))
    members[victim] = bytes(cv2.imencode(".jpg", screen)[1].tobytes())
    archive.unlink()
    encrypt_zip(archive, members, behsof.PASSWORD, "legacy")
    return victim


def see_through(image: Path) -> None:
    """Give a picture an alpha channel that is not opaque all over."""
    with Image.open(image) as opened:
        grey = np.asarray(opened.convert("L"))
    image.write_bytes(png(np.dstack([grey, grey, grey, grey])))


def write_documents(raw: Path) -> None:
    """A Word file that is sound, a page that is none, one that is empty, and one whose text is no XML."""
    raw.mkdir(parents=True)
    whole = ovf_supplement.docx_bytes()
    (raw / ovf_supplement.NAME).write_bytes(whole)
    (raw / "page.docx").write_bytes(b"<!doctype html><title>Sign in</title>")
    sink = io.BytesIO()
    docx.Document().save(sink)
    (raw / "empty.docx").write_bytes(sink.getvalue())
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as source, zipfile.ZipFile(sink, "w") as target:
        for name in source.namelist():
            target.writestr(name, b"<w:document" if name == "word/document.xml" else source.read(name))
    (raw / "broken.docx").write_bytes(sink.getvalue())
