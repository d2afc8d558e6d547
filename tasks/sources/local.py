"""A raw release that is on this machine already: found, never copied."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

from tasks import tarballs
from tasks.archives import LOOSE, Archive, is_archive_name, loose_files, walk
from tasks.schema import UnusableInput


def find_archives(raw: Sequence[Path]) -> list[Archive]:
    """The archives of a raw release: every zip and tar at or below the given paths, and all loose files together.

    Raises :class:`UnusableInput` for a path that does not exist, for a file that is no archive, and for two archives of
    one name.
    """
    found: dict[str, Path] = {}
    roots: list[str] = []
    for place in raw:
        if not place.exists():
            raise UnusableInput(f"raw path {place} does not exist")
        if place.is_file():
            _add(found, place.name, place)
            continue
        roots.append(str(place))
        for path in walk(place):
            if is_archive_name(path.name):
                _add(found, path.relative_to(place).as_posix(), path)
    archives = [
        Archive(name, "tar" if tarballs.is_tar_name(name) else "zip", (str(path),))
        for name, path in sorted(found.items())
    ]
    loose = Archive(LOOSE, "folder", tuple(roots))
    return [loose, *archives] if any(True for _ in loose_files(loose)) else archives


def _add(found: dict[str, Path], name: str, path: Path) -> None:
    if tarballs.is_tar_name(name):
        tarballs.insist_on_content(path)
    elif not zipfile.is_zipfile(path):
        hint = "fetch it again" if is_archive_name(name) else "give a folder, a .zip, a .tar.gz or a .tar"
        raise UnusableInput(f"{path} is not a readable zip (no central directory): {hint}")
    if name in found and not found[name].samefile(path):
        raise UnusableInput(f"two archives are called {name}: {found[name]} and {path}; give only one of them")
    found[name] = path
