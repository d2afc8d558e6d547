"""A raw release that is on this machine already: found, never copied."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from tasks.archives import LOOSE, Archive, loose_files, walk
from tasks.schema import UnusableInput


def find_archives(raw: Sequence[Path]) -> list[Archive]:
    """The archives of a raw release: every zip at or below the given paths, and all loose files together.

    Raises :class:`UnusableInput` for a path that does not exist and for two zips of one name.
    """
    zips: dict[str, Path] = {}
    roots: list[str] = []
    for place in raw:
        if not place.exists():
            raise UnusableInput(f"raw path {place} does not exist")
        if place.is_file():
            _add_zip(zips, place.name, place)
            continue
        roots.append(str(place))
        for path in walk(place):
            if path.suffix.lower() == ".zip":
                _add_zip(zips, path.relative_to(place).as_posix(), path)
    archives = [Archive(name, "zip", (str(path),)) for name, path in sorted(zips.items())]
    loose = Archive(LOOSE, "folder", tuple(roots))
    return [loose, *archives] if any(True for _ in loose_files(loose)) else archives


def _add_zip(zips: dict[str, Path], name: str, path: Path) -> None:
    if not zipfile.is_zipfile(path):
        raise UnusableInput(f"{path} is not a readable zip (no central directory): fetch it again")
    if name in zips and not zips[name].samefile(path):
        raise UnusableInput(f"two archives are called {name}: {zips[name]} and {path}; give only one of them")
    zips[name] = path
