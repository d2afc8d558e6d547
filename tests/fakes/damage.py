"""One damage at a time, planted into a raw release that a fake has written: in an archive, or in a metadata table.

``DAMAGES`` (mammography) and ``NIH_DAMAGES`` map the reason code that must come out to a function of the raw folder.
"""

from __future__ import annotations

import struct
import warnings
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from tests.fakes.mammography_density import ARCHIVE, ROOT

_LOCAL_FLAGS, _CENTRAL_FLAGS = 6, 8
_IS_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Member:
    """One archive member as it will be written."""

    name: str
    content: bytes
    compress_type: int = zipfile.ZIP_STORED


@dataclass(frozen=True)
class TableFile:
    """Where a comma-separated table lies: in a file, or in a member of the archive at ``path``."""

    path: Path
    member: str = ""

    def rows(self) -> list[list[str]]:
        """Cells of every line, the header first."""
        return [line.split(",") for line in self._text().splitlines()]

    def write(self, rows: list[list[str]]) -> None:
        """Put these rows in the table's place, with the line ends that it has."""
        newline = "\r\n" if "\r\n" in self._text() else "\n"
        content = "".join(",".join(cells) + newline for cells in rows).encode()
        if self.member:
            _replace_content(self.path, self.member, lambda _: content)
        else:
            self.path.write_bytes(content)

    def _text(self) -> str:
        if not self.member:
            return self.path.read_bytes().decode()
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(self.member).decode()


def truncate_image(archive: Path, member: str) -> None:
    """Cut the file off after three fifths."""
    _replace_content(archive, member, lambda content: content[: len(content) * 3 // 5])


def empty_image(archive: Path, member: str) -> None:
    """Leave no byte of the file."""
    _replace_content(archive, member, lambda _: b"")


def text_as_image(archive: Path, member: str) -> None:
    """Put a web server's error page where the image was."""
    _replace_content(archive, member, lambda _: b"<html><body>404 Not Found</body></html>\n")


def duplicate_member(archive: Path, member: str, *, same_bytes: bool, other: str = "") -> None:
    """Add a second member of the same name, with the same bytes or with those of the member ``other``."""
    members = _members(archive)
    first, second = _find(members, member), _find(members, member if same_bytes else other)
    _write_members(archive, [*members, replace(second, name=first.name)])


def add_member(archive: Path, member: str, copied_from: str) -> None:
    """Add a member with the bytes of another one, under a name that no table lists (or an unsafe one)."""
    members = _members(archive)
    _write_members(archive, [*members, replace(_find(members, copied_from), name=member)])


def remove_member(archive: Path, member: str) -> None:
    """Leave a member out: an image that a row refers to, or a table."""
    members = _members(archive)
    members.remove(_find(members, member))
    _write_members(archive, members)


def remove_members(archive: Path, names: Collection[str]) -> None:
    """Leave out several members, or all of a kind."""
    _write_members(archive, [member for member in _members(archive) if member.name not in names])


def change_members(archive: Path, change: Callable[[str, bytes], bytes]) -> None:
    """Give every member the bytes that ``change`` makes of its name and its bytes."""
    _write_members(archive, [replace(m, content=change(m.name, m.content)) for m in _members(archive)])


def content_of(archive: Path, member: str) -> bytes:
    """Bytes of a member."""
    return _find(_members(archive), member).content


def flip_member_byte(archive: Path, member: str) -> None:
    """Turn one bit in the middle of the data, so that the checksum in the directory no longer fits."""
    # Stored first: damage to a deflated stream may stop the decompressor before the checksum is reached.
    _write_members(
        archive, [replace(m, compress_type=zipfile.ZIP_STORED) if m.name == member else m for m in _members(archive)]
    )
    with zipfile.ZipFile(archive) as opened:
        info = opened.getinfo(member)
    data = bytearray(archive.read_bytes())
    name_bytes, extra_bytes = struct.unpack_from("<HH", data, info.header_offset + 26)
    data[info.header_offset + 30 + name_bytes + extra_bytes + info.file_size // 2] ^= 0x10
    archive.write_bytes(data)


def mark_encrypted(archive: Path, member: str) -> None:
    """Set the flag that says a password is needed, in the local header and in the directory."""
    with zipfile.ZipFile(archive) as opened:
        info, place = opened.getinfo(member), opened.start_dir
        names = [entry.orig_filename for entry in opened.infolist()]
    data = bytearray(archive.read_bytes())
    data[info.header_offset + _LOCAL_FLAGS] |= _IS_ENCRYPTED
    for name in names:
        if name == member:
            data[place + _CENTRAL_FLAGS] |= _IS_ENCRYPTED
        place += 46 + sum(struct.unpack_from("<HHH", data, place + 28))
    archive.write_bytes(data)


def corrupt_zip(archive: Path) -> None:
    """Cut the file off inside its central directory, as a broken download does."""
    with zipfile.ZipFile(archive) as opened:
        cut = opened.start_dir + 20
    archive.write_bytes(archive.read_bytes()[:cut])


def remove_row(table: TableFile, image: str) -> None:
    """Leave out the row of an image."""
    rows = table.rows()
    rows.remove(_row_of(rows, image))
    table.write(rows)


def add_row(table: TableFile, image: str) -> None:
    """Add a row for an image that is not there, otherwise like the last one."""
    rows = table.rows()
    table.write([*rows, [image, *rows[-1][1:]]])


def unknown_label(table: TableFile, image: str, label: str = "Fracture") -> None:
    """Give an image a label that the vocabulary does not have; labels are in the second column."""
    rows = table.rows()
    _row_of(rows, image)[1] = label
    table.write(rows)


def drop_column(table: TableFile, column: str) -> None:
    """Leave out a column, header and cells."""
    rows = table.rows()
    index = rows[0].index(column)
    table.write([cells[:index] + cells[index + 1 :] for cells in rows])


def rename_column(table: TableFile, column: str, new: str) -> None:
    """Change one name in the header."""
    header, *rows = table.rows()
    table.write([[new if name == column else name for name in header], *rows])


def patient_in_two_splits(folder: Path) -> str:
    """Move one film of a patient with several from NIH's train_val list to the test list; gives its name."""
    train_val, test = folder / "train_val_list.txt", folder / "test_list.txt"
    names = train_val.read_text().split("\n")
    moved = next(b for a, b in pairwise(names) if a[:8] == b[:8])
    train_val.write_text("\n".join(name for name in names if name != moved))
    test.write_text("\n".join(sorted([*test.read_text().split("\n"), moved])))
    return moved


def _members(archive: Path) -> list[Member]:
    with zipfile.ZipFile(archive) as opened:
        return [Member(info.filename, opened.read(info), info.compress_type) for info in opened.infolist()]


def _write_members(archive: Path, members: list[Member]) -> None:
    with zipfile.ZipFile(archive, "w") as opened, warnings.catch_warnings():
        # A name that is there twice is one of the damages.
        warnings.simplefilter("ignore", UserWarning)
        for member in members:
            info = zipfile.ZipInfo(member.name, (2021, 5, 12, 0, 0, 0))
            info.compress_type = member.compress_type
            info.create_system, info.external_attr = 3, 0o644 << 16
            opened.writestr(info, member.content)


def _find(members: list[Member], name: str) -> Member:
    return next(member for member in members if member.name == name)


def _replace_content(archive: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    members = _members(archive)
    _find(members, name)
    _write_members(archive, [replace(m, content=change(m.content)) if m.name == name else m for m in members])


def _row_of(rows: list[list[str]], image: str) -> list[str]:
    return next(cells for cells in rows if cells[0] == image)


def _in_mammography(image: str) -> Callable[[Callable[[Path, str], object]], Callable[[Path], None]]:
    """Bind damages to one training image of the mammography fake."""

    def bound(damage: Callable[[Path, str], object]) -> Callable[[Path], None]:
        def plant(folder: Path) -> None:
            damage(folder / ARCHIVE, f"{ROOT}/train/{image}")

        return plant

    return bound


def _in_nih(damage: Callable[[Path, str], object]) -> Callable[[Path], None]:
    """Bind a damage to the last image of the NIH fake's second archive."""

    def plant(folder: Path) -> None:
        archive = folder / "images_002.zip"
        damage(archive, _members(archive)[-1].name)

    return plant


def _training_table(archive: Path) -> TableFile:
    return TableFile(archive, f"{ROOT}/Training_set.csv")


def _nih_table(archive: Path) -> TableFile:
    return TableFile(archive.with_name("Data_Entry_2017_v2020.csv"))


def _by_reason(
    bound: Callable[[Callable[[Path, str], object]], Callable[[Path], None]], table: Callable[[Path], TableFile]
) -> Mapping[str, Callable[[Path], None]]:
    return {
        "truncated-image": bound(truncate_image),
        "empty-file": bound(empty_image),
        "not-an-image": bound(text_as_image),
        "duplicate-member": bound(lambda archive, member: duplicate_member(archive, member, same_bytes=True)),
        "image-without-row": bound(lambda archive, member: remove_row(table(archive), Path(member).name)),
        "row-without-image": bound(remove_member),
        "unknown-label": bound(lambda archive, member: unknown_label(table(archive), Path(member).name)),
        "unsafe-path": bound(lambda archive, member: add_member(archive, f"../evil{Path(member).suffix}", member)),
        "crc-mismatch": bound(flip_member_byte),
        "encrypted-member": bound(mark_encrypted),
    }


def damages(image: str) -> Mapping[str, Callable[[Path], None]]:
    """Reason code to a function that plants the damage at a training image of ``fakes.mammography_density``.

    Several may be planted into one archive, in this order: what comes last keeps the archive from being rewritten.
    """
    return _by_reason(_in_mammography(image), _training_table)


DAMAGES = damages("Image_7.jpg")
"""The same, for one image."""

NIH_DAMAGES = _by_reason(_in_nih, _nih_table)
"""The same for a raw folder of ``fakes.nih_chest_xray``."""
