"""What two releases must have in common to be the same: the bytes of every file that tells no time."""

from __future__ import annotations

from pathlib import Path

from tasks.files import sha256_file

VOLATILE = ("quality/data_docs/", "quality/run.json")


def files_of(folder: Path) -> dict[str, str]:
    """SHA-256 by path of every file whose bytes are promised."""
    paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: sha256_file(path) for name, path in paths.items() if not name.startswith(VOLATILE)}
