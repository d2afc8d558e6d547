"""A raw release that is where it can be read already, on this machine or on object storage: found, never copied."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from typing import Literal

from tasks import tarballs
from tasks.archives import LOOSE, Archive, is_archive_name, is_same_file, loose_files
from tasks.schema import UnusableInput
from tasks.storage import Listed, Location, insist_on_reachable, is_remote, listed, look, open_archive


def find_archives(raw: Sequence[Location]) -> list[Archive]:
    """The archives of a raw release: every zip and tar at or below the given paths, and all loose files together.

    Raises :class:`UnusableInput` for a path that does not exist, for a file that is no archive, and for two archives of
    one name.
    """
    found: dict[str, Listed] = {}
    roots: list[str] = []
    for place in raw:
        insist_on_reachable(place)
        if not place.exists():
            raise UnusableInput(
                f"raw path {place} does not exist: --raw wants the folder, zip or tar of the raw release"
            )
        if place.is_file():
            _add(found, look(place))
            continue
        roots.append(str(place))
        for file in listed(place):
            if is_archive_name(file.path.name):
                _add(found, file)
    archives = [_archive(file) for _, file in sorted(found.items())]
    loose = Archive(LOOSE, "folder", tuple(roots))
    return [loose, *archives] if any(True for _ in loose_files(loose)) else archives


def _archive(file: Listed) -> Archive:
    kind: Literal["zip", "tar"] = "tar" if tarballs.is_tar_name(file.name) else "zip"
    return Archive(file.name, kind, (str(file.path),), version=file.version if is_remote(file.path) else "")


def _add(found: dict[str, Listed], file: Listed) -> None:
    name, path = file.name, file.path
    if tarballs.is_tar_name(name):
        tarballs.insist_on_content(path)
    elif not _is_zip(path):
        hint = "fetch it again" if is_archive_name(name) else "give a folder, a .zip, a .tar.gz or a .tar"
        raise UnusableInput(f"{path} is not a readable zip (no central directory): {hint}")
    before = found.setdefault(name, file)
    if not is_same_file(before, file):
        raise UnusableInput(f"two archives are called {name}: {before.path} and {path}; give only one of them")


def _is_zip(path: Location) -> bool:
    with open_archive(path) as stream:
        return zipfile.is_zipfile(stream)
