"""What lies in a raw release of which nothing is declared: images, masks, tables, and the rest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tasks.archives import LOOSE, Archive, Member, MemberRefused, list_all, read_head, read_member
from tasks.drafts.sheets import Sheet, read_sheet
from tasks.samples import JUNK
from tasks.schema import UnusableInput
from tasks.sources.local import find_archives
from tasks.storage import location

IMAGES = ("png", "jpg", "jpeg")
DICOMS = ("dcm", "dicom", "ima")
MASK_FOLDER = re.compile(r"(?i)^(?:masks?|seg(?:mentation)?s?|ground.?truths?|masken?|masques?)$")
MASK_ENDING = r"(?:[_-](?:mask|seg|segmentation|gt))"
PREAMBLE_BYTES = 132
NAMED = 3
"""Things that a message names."""


@dataclass(frozen=True)
class Found:
    """What there is."""

    raw: tuple[str, ...]
    """Places for ``--raw``."""
    archives: tuple[Archive, ...]
    images: tuple[Member, ...]
    """In the order of their paths."""
    masks: tuple[Member, ...]
    sheets: tuple[Sheet, ...]
    rest: tuple[str, ...]
    """Paths of all other members, junk left out."""
    is_dicom: bool = False

    def holds(self, place: Path) -> bool:
        """Whether a place lies in the raw release, so that what is written there becomes a part of it."""
        return any(place.resolve().is_relative_to(Path(raw).resolve()) for raw in self.raw)

    def read(self, member: Member) -> bytes:
        """Raises :class:`tasks.archives.MemberRefused` where it cannot be read."""
        archive = next(one for one in self.archives if one.name == member.archive)
        return read_member(archive, member.name, member.offset)


def look(images: Path, tables: Sequence[str]) -> Found:
    """List what is there, and read the tables.

    ``images`` is a folder, or a zip or tar; ``tables`` are files, or members of it. Raises :class:`UnusableInput` for
    what is not there, and where there are no images.
    """
    raw = _raw(images, [Path(table) for table in tables if Path(table).is_file()])
    archives = tuple(find_archives([location(str(place)) for place in raw]))
    junk = re.compile(JUNK.pattern)
    members = [member for member in list_all(archives) if not member.problem and not junk.search(member.name)]
    inside = [member for member in members if _is_below(member, images, raw[0])]
    pictures = [member for member in inside if ending(member.name) in IMAGES]
    by_name = {archive.name: archive for archive in archives}
    dicoms = [member for member in inside if ending(member.name) in DICOMS]
    if not pictures and not dicoms:  # many releases give their files no ending
        unnamed = [member for member in inside if PurePosixPath(member.name).name != "DICOMDIR"]
        dicoms = [member for member in unnamed if begins_as_dicom(by_name[member.archive], member)]
    is_dicom = len(dicoms) > len(pictures)
    if not pictures and not dicoms:
        raise UnusableInput(
            f"there is no image in {images}: {_endings(members)}. Read are {', '.join(IMAGES)} and DICOM (dcm); others "
            f"can be turned into PNG, which loses nothing"
        )
    sheets = _sheets(tables, members, archives, raw)
    shown, masks = (dicoms, []) if is_dicom else _masks_apart(pictures)
    known = {(m.archive, m.name) for m in (*shown, *masks)} | {(LOOSE, sheet.member) for sheet in sheets}
    known |= {(m.archive, m.name) for m in members if m.name in {sheet.member for sheet in sheets}}
    rest = tuple(member.name for member in members if (member.archive, member.name) not in known)
    return Found(tuple(map(str, raw)), archives, tuple(shown), tuple(masks), sheets, rest, is_dicom)


def begins_as_dicom(archive: Archive, member: Member) -> bool:
    """Whether a file begins as DICOM files do, whatever it is called (PS3.10, 7.1)."""
    try:
        return read_head(archive, member.name, member.offset, PREAMBLE_BYTES)[-4:] == b"DICM"
    except MemberRefused:
        return False


def ending(name: str) -> str:
    """What follows the last dot of a path, in small letters; empty where nothing does."""
    return PurePosixPath(name).suffix.lower().removeprefix(".")


def _raw(images: Path, tables: Sequence[Path]) -> list[Path]:
    """The folder that holds images and tables where they lie side by side; else the images, and the tables' folders."""
    if not images.exists():
        raise UnusableInput(f"{images} is not there: name the folder, zip or tar.gz that holds the images")
    places = [images]
    for table in tables:
        parent = table.resolve().parent
        if images.is_dir() and parent.is_relative_to(images.resolve()):
            continue
        if parent == images.resolve().parent:
            places[0] = table.parent
        elif parent not in [place.resolve() for place in places]:
            places.append(table.parent)
    return places


def _is_below(member: Member, images: Path, raw: Path) -> bool:
    """Whether a member is one of the images' place; other places hold tables."""
    if images.is_file():
        return member.archive == images.name
    file = member.name if member.archive == LOOSE else member.archive
    return (images / file).is_file() if raw == images else file.startswith(f"{images.name}/")


def _endings(members: Sequence[Member]) -> str:
    counts = Counter(ending(member.name) or "no ending" for member in members)
    told = ", ".join(f"{count} {name}" for name, count in counts.most_common(NAMED))
    return f"it has {told}" if told else "it is empty"


def _masks_apart(pictures: Sequence[Member]) -> tuple[list[Member], list[Member]]:
    """Images, and those that lie in a folder of masks, or are called one, and have the name of an image."""
    is_mask = [_is_mask(member.name) for member in pictures]
    names = {PurePosixPath(m.name).stem for m, is_one in zip(pictures, is_mask, strict=True) if not is_one}
    images: list[Member] = []
    masks: list[Member] = []
    for member, is_one in zip(pictures, is_mask, strict=True):
        (masks if is_one and masked(member.name) in names else images).append(member)
    return images, masks


def _is_mask(name: str) -> bool:
    path = PurePosixPath(name)
    return any(MASK_FOLDER.match(part) for part in path.parts[:-1]) or masked(name) != path.stem


def masked(name: str) -> str:
    """Stem of the image that a mask of this path is of."""
    return re.sub(rf"(?i){MASK_ENDING}$", "", PurePosixPath(name).stem)


def _sheets(
    tables: Sequence[str], members: Sequence[Member], archives: Sequence[Archive], raw: Sequence[Path]
) -> tuple[Sheet, ...]:
    by_name = {archive.name: archive for archive in archives}
    sheets: list[Sheet] = []
    for table in tables:
        path = Path(table)
        found = [m for m in members if (m.archive != LOOSE or not path.is_file()) and _ends(m.name, table)]
        if path.is_file():
            root = next(place for place in raw if path.resolve().is_relative_to(place.resolve()))
            member, data = path.resolve().relative_to(root.resolve()).as_posix(), path.read_bytes()
        elif found:
            member, data = found[0].name, read_member(by_name[found[0].archive], found[0].name, found[0].offset)
        else:
            raise UnusableInput(f"{table} is not there: name a CSV file, or one in the archive")
        sheets.append(read_sheet(member, _role(member, sheets), data))
    return tuple(sheets)


def _ends(name: str, table: str) -> bool:
    return f"/{name}".endswith(f"/{table.removeprefix('./')}")


def _role(member: str, others: Sequence[Sheet]) -> str:
    """A word for the table that no other has."""
    word = re.sub(r"\W+", "_", PurePosixPath(member).stem.lower()).strip("_") or "table"
    taken = {sheet.rule.role for sheet in others}
    return word if word not in taken else f"{word}_{len(others) + 1}"
