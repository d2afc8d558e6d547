"""What is remembered of raw files from run to run: their hashes, and the listings of tars. Caches, safe to delete."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from tasks import tarballs
from tasks.archives import Archive, loose_files, scan
from tasks.files import digest, read_json, sha256_file, write_json


class HashMemory:
    """SHA-256 of raw files, remembered by path, size, modification time and (zip) central directory.

    The file it keeps is a cache: deleting it costs one reading of the raw release.
    """

    def __init__(self, path: Path | None, *, is_trusted: bool = True) -> None:
        """``path`` None remembers nothing; ``is_trusted`` False hashes everything anew."""
        self._path = path
        self._known: dict[str, str] = {}
        if path is not None and path.exists() and is_trusted:
            self._known = read_json(path)
        self._used: dict[str, str] = {}

    def hash_all(self, paths: Iterable[Path]) -> dict[Path, str]:
        """SHA-256 (hex) of every file; reads only those not remembered, several at once."""
        keys = {path: _fingerprint(path) for path in paths}
        unknown = [path for path, key in keys.items() if key not in self._known]
        with ThreadPoolExecutor(max_workers=4) as pool:
            fresh = dict(zip(unknown, pool.map(sha256_file, unknown), strict=True))
        hashes = {path: fresh.get(path) or self._known[key] for path, key in keys.items()}
        self._used |= {keys[path]: value for path, value in hashes.items()}
        if fresh and self._path is not None:
            write_json(self._path, self._known | self._used)
        return hashes


def _fingerprint(path: Path) -> str:
    status = path.stat()
    parts = [str(path.resolve()), status.st_size, status.st_mtime_ns]
    if path.suffix.lower() == ".zip":
        parts.append(_directory_digest(path))
    return digest(parts)


def _directory_digest(path: Path) -> str:
    """Digest of a zip's central directory: names, sizes, checksums and offsets, without reading the members."""
    with zipfile.ZipFile(path) as opened:
        lines = [f"{i.filename}\0{i.CRC}\0{i.file_size}\0{i.header_offset}" for i in opened.infolist()]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def hash_members(archive: Archive, memory: HashMemory) -> tuple[str, dict[str, str]]:
    """Identity of an archive, and of each loose file.

    Returns the SHA-256 of the zip or tar file and no member hashes; or, for loose files, no identity, which they have
    one by one, and the SHA-256 of each file by member name.
    """
    if archive.kind == "zip":
        path = Path(archive.paths[0])
        return memory.hash_all([path])[path], {}
    if archive.kind == "tar":
        return scan(archive).sha256, {}
    files = dict(loose_files(archive))
    hashes = memory.hash_all(files.values())
    return "", {name: hashes[path] for name, path in files.items()}


def remembering(archive: Archive, folder: Path, *, is_trusted: bool) -> Archive:
    """The archive, a tar with the place in ``folder`` where what a scan finds is kept; not trusted, it is forgotten."""
    if archive.kind != "tar":
        return archive
    seek = str(folder / f"{_fingerprint(Path(archive.paths[0]))}.seek")
    if not is_trusted:
        tarballs.forget(seek)
    return replace(archive, seek=seek)
