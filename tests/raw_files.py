"""What lies in a raw folder, read without scanmill: members of zips, locked ones too, and loose files."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tests.fakes.behsof import PASSWORD

LOOSE = "."


def names_of(raw: Path) -> list[tuple[str, str]]:
    """Archive and member of every file, as scanmill names them; a name that a zip holds twice is there twice."""
    found = []
    for path in sorted(path for path in raw.rglob("*") if path.is_file()):
        name = path.relative_to(raw).as_posix()
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                found += [(name, member) for member in archive.namelist() if not member.endswith("/")]
        else:
            found.append((LOOSE, name))
    return found


def read(raw: Path, archive: str, member: str) -> bytes:
    """The published bytes of one of them."""
    if archive == LOOSE:
        return (raw / member).read_bytes()
    with zipfile.ZipFile(raw / archive) as opened:
        return opened.read(member, pwd=PASSWORD.encode())
