"""Which column of a table names the images, and what of their paths it names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Literal

import pandas as pd

from tasks.archives import Member
from tasks.drafts.found import IMAGES, NAMED, ending
from tasks.drafts.literals import escaped
from tasks.drafts.sheets import Sheet
from tasks.schema import UnusableInput

LEAST_SHARE = 0.5
"""Of rows or of images that a column has to name; below that it is none of file names."""
MOST_FOLDERS = 50
"""That are tried as the place of all images of a table."""
EXTENSION = rf"(?i)\.(?:{'|'.join(IMAGES)})$"

Case = Literal["", "lower", "upper"]


@dataclass(frozen=True)
class Keys:
    """What of an image's path names it: its file name, or its path below ``root``, without the extension."""

    root: str
    """Deepest folder that all images lie in, with a slash at its end; empty where there is none."""
    is_path: bool
    """False where no two images have the same file name."""
    is_flat: bool
    """Whether all images lie in ``root`` itself."""
    by_member: dict[tuple[str, str], str]

    @property
    def pattern(self) -> str:
        """Regular expression of the images, with its group ``key``."""
        last = PurePosixPath(self.root).name
        begin = rf"(?:^|/){escaped(last)}/" if last else "(?:^|/)"
        below = "" if self.is_flat or self.is_path else "(?:.*/)?"
        key = r"(?P<key>.+)" if self.is_path else r"(?P<key>[^/]+)"
        endings = sorted({ending(name) for _, name in self.by_member})
        if "" in endings:  # DICOM files, which need none
            return rf"{begin}{below}(?P<key>[^/]+)$"
        return rf"{begin}{below}{key}\.(?i:{'|'.join(endings)})$"


@dataclass(frozen=True)
class Pairing:
    """How the rows of one table name images."""

    column: str
    has_extension: bool
    """Whether any cell ends as an image file does."""
    has_folders: bool
    """Whether any cell is a path whose folders do not count."""
    dropped: int = 0
    """Folders at the beginning of a cell that images do not lie in, where keys are paths."""
    case: Case = ""
    width: int = 0
    """Digits that a number is filled up to with zeros; 0 for none."""
    prefix: str = ""
    """The folder that all images of this table lie in, with a slash, where keys are paths and cells are not."""

    def keys(self, rows: pd.DataFrame) -> pd.Series:
        """The key of the image that each row names; what the written ``parse`` does."""
        cells = rows[self.column].str.strip().str.replace("\\", "/", regex=False)
        if self.has_folders:
            cells = cells.str.rsplit("/", n=1).str[-1]
        if self.dropped:
            cells = cells.str.split("/", n=self.dropped).str[-1]
        if self.has_extension:
            cells = cells.str.replace(EXTENSION, "", regex=True)
        if self.case:
            cells = cells.str.lower() if self.case == "lower" else cells.str.upper()
        return self.prefix + (cells.str.zfill(self.width) if self.width else cells)


@dataclass(frozen=True)
class Match:
    """How well rows and images fit."""

    rows: int
    images: int
    rows_without_image: tuple[str, ...]
    images_without_row: tuple[str, ...]
    repeated: int
    """Rows that name an image which an earlier row names."""


def keys_of(images: Sequence[Member]) -> Keys:
    """Keys of images by archive and member: file names where no two are the same, else paths."""
    paths = [PurePosixPath(member.name) for member in images]
    folders = [path.parent.parts for path in paths]
    common: list[str] = []
    for level in zip(*folders, strict=False):
        if len(set(level)) > 1:
            break
        common.append(level[0])
    root = "".join(f"{part}/" for part in common)
    is_path = len({path.stem for path in paths}) < len(paths)
    keys = [str(path.with_suffix(""))[len(root) :] if is_path else path.stem for path in paths]
    is_flat = all(len(folder) == len(common) for folder in folders)
    places = [(member.archive, member.name) for member in images]
    return Keys(root, is_path, is_flat, dict(zip(places, keys, strict=True)))


def dicom_keys(images: Sequence[Member]) -> Keys:
    """Keys of DICOM files: their UIDs count, and names tell only which members they are."""
    plain = keys_of(images)
    return replace(plain, is_path=False)


def pair(sheet: Sheet, keys: Keys, wanted: str | None) -> Pairing:
    """The column that names most images; ``wanted`` is the user's own choice.

    Raises :class:`UnusableInput` where that column is not there, or none names at least half of rows or images.
    """
    if wanted is not None and wanted not in sheet.rows:
        there = ", ".join(map(repr, sheet.rows.columns))
        raise UnusableInput(f"--image {wanted!r}: {sheet.member} has no such column; it has {there}")
    columns = [wanted] if wanted is not None else list(sheet.rows.columns)
    known = set(keys.by_member.values())
    found = [(_share(p.keys(sheet.rows), known), p) for c in columns for p in _ways(c, sheet.rows[c], keys)]
    share, best = max(found, key=lambda pair: pair[0])
    if share < LEAST_SHARE:
        raise UnusableInput(_complaint(sheet, best.column, share, keys, is_own=wanted is not None))
    return best


def agreed(sheets: Sequence[Sheet], found: Sequence[Pairing]) -> tuple[Pairing, ...]:
    """One way for all tables, each with its own folder.

    Raises :class:`UnusableInput` where the column is another in another table: one ``parse`` reads them all.
    """
    if len({pairing.column for pairing in found}) > 1:
        told = "; ".join(f"{s.member} by {p.column!r}" for s, p in zip(sheets, found, strict=True))
        raise UnusableInput(
            f"the tables name images by different columns ({told}): draft from one, add the other by hand"
        )
    way = replace(
        found[0],
        has_extension=any(pairing.has_extension for pairing in found),
        has_folders=any(pairing.has_folders for pairing in found),
    )
    return tuple(replace(way, prefix=pairing.prefix) for pairing in found)


def match(sheets: Sequence[Sheet], pairings: Sequence[Pairing], keys: Keys) -> Match:
    """What is left over on either side."""
    named = pd.concat([p.keys(s.rows) for s, p in zip(sheets, pairings, strict=True)], ignore_index=True)
    known = set(keys.by_member.values())
    return Match(
        len(named),
        len(known),
        tuple(named[~named.isin(known)]),
        tuple(sorted(known - set(named))),
        int(named[named.isin(known)].duplicated().sum()),
    )


def _share(named: pd.Series, known: set[str]) -> float:
    """Of the images that are named, or of the rows that name one: the larger, where only a part of either is there."""
    hits = set(named) & known
    return max(len(hits) / len(known), len(hits) / max(named.nunique(), 1))


def _ways(column: str, cells: pd.Series, keys: Keys) -> list[Pairing]:
    """How the cells of a column may be meant: as they are; in the case of the files; filled up with zeros."""
    paths = cells.str.replace("\\", "/", regex=False)
    has_extension = bool(paths.str.contains(EXTENSION, regex=True).any())
    has_folders = bool(paths.str.contains("/", regex=False).any())
    names = set(keys.by_member.values())
    dropped = range(_depth(paths) if keys.is_path and has_folders else 1)
    plain = [Pairing(column, has_extension, has_folders and not keys.is_path, count) for count in dropped]
    ways = list(plain)
    if keys.is_path and not has_folders:
        prefixes = sorted({name[: name.rfind("/") + 1] for name in names})
        ways += [Pairing(column, has_extension, False, prefix=prefix) for prefix in prefixes[:MOST_FOLDERS]]
    for case in ("lower", "upper"):
        if all(name == getattr(name, case)() for name in names):
            ways += [Pairing(p.column, p.has_extension, p.has_folders, p.dropped, case) for p in plain]
    widths = {len(name) for name in names}
    if all(name.isdecimal() for name in names) and len(widths) == 1:
        ways += [Pairing(p.column, p.has_extension, p.has_folders, width=widths.copy().pop()) for p in plain[:1]]
    return ways


def _depth(paths: pd.Series) -> int:
    """Folders that most cells have."""
    return int(Counter(paths.str.count("/")).most_common(1)[0][0]) + 1


def _complaint(sheet: Sheet, column: str, share: float, keys: Keys, *, is_own: bool) -> str:
    names = sorted(keys.by_member.values())
    told = ", ".join(names[:NAMED]) + (", …" if len(names) > NAMED else "")
    if keys.is_path:
        twins = Counter(PurePosixPath(name).name for name in names).most_common(1)[0][0]
        told += f" (paths, for {twins} is in several folders)"
    cells = ", ".join(map(repr, sheet.rows[column].drop_duplicates().head(NAMED)))
    if is_own:
        return f"--image {column!r} names only {share:.0%} of the images; they are called {told}, its cells say {cells}"
    return (
        f"no column of {sheet.member} names the images, which are called {told}; nearest is {column!r} with "
        f"{share:.0%}. Its columns are {', '.join(map(repr, sheet.rows.columns))}: give the one that does with --image"
    )
