"""A disk that is really too small: a tmpfs of a few megabytes, where this user may mount one (root may)."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PAGE_BYTES = 4096
ENOUGH = "1g"


@dataclass(frozen=True)
class SmallDisk:
    """Mounted at a folder."""

    folder: Path

    def grow(self) -> None:
        """As when somebody has made room."""
        subprocess.run(["mount", "-o", f"remount,size={ENOUGH}", str(self.folder)], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """For the block, with all that is in ``folder``, which must fit; what it holds in the end is left there."""
    folder.mkdir(parents=True, exist_ok=True)
    options = f"size={-(-size_bytes // PAGE_BYTES) * PAGE_BYTES}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=True, capture_output=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@cache
def can_mount() -> bool:
    """Whether this user may."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder), PAGE_BYTES):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False


def used_bytes(folder: Path) -> int:
    """What the files below a folder take on a disk, each of them once."""
    files = {(found := path.stat()).st_ino: found.st_blocks * 512 for path in folder.rglob("*") if path.is_file()}
    return sum(files.values())
