"""What is remembered of raw files from run to run: their hashes, and the listings of tars. Caches, safe to delete."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tasks import tarballs
from tasks.archives import Archive, loose_files, scan
from tasks.files import digest, known_sha256, read_json, sha256_file, write_json
from tasks.storage import Listed, Location, is_remote, location, look, open_archive


class HashMemory:
    """SHA-256 of raw files, remembered by path, size, modification time and (zip) central directory.

    The file it keeps is a cache: deleting it costs one reading of the raw release.
    """

    def __init__(self, path: Location | None, *, is_trusted: bool = True) -> None:
        """``path`` None remembers nothing; ``is_trusted`` False hashes everything anew."""
        self._path = path
        self._known: dict[str, str] = {}
        if path is not None and path.exists() and is_trusted:
            self._known = read_json(path)
        self._used: dict[str, str] = {}
        self._sha256 = known_sha256 if is_trusted else sha256_file

    def hash_all(self, files: Iterable[Listed]) -> list[str]:
        """SHA-256 (hex) of every file, in their order; reads only those not remembered, several at once."""
        keys = [(_fingerprint(file), file.path) for file in files]
        unknown = {key: path for key, path in keys if key not in self._known}
        with ThreadPoolExecutor(max_workers=4) as pool:
            fresh = dict(zip(unknown, pool.map(self._sha256, unknown.values()), strict=True))
        hashes = [fresh.get(key) or self._known[key] for key, _ in keys]
        self._used |= dict(zip((key for key, _ in keys), hashes, strict=True))
        if fresh and self._path is not None:
            write_json(self._path, self._known | self._used)
        return hashes


def _fingerprint(file: Listed) -> str:
    path = file.path
    if is_remote(path):  # the version is one of the bytes
        return digest([str(path), file.size_bytes, file.version])
    parts = [str(path.resolve()), file.size_bytes, path.stat().st_mtime_ns]
    if path.suffix.lower() == ".zip":
        parts.append(_directory_digest(path))
    return digest(parts)


def _directory_digest(path: Location) -> str:
    """Digest of a zip's central directory: names, sizes, checksums and offsets, without reading the members."""
    with open_archive(path) as stream, zipfile.ZipFile(stream) as opened:
        lines = [f"{i.filename}\0{i.CRC}\0{i.file_size}\0{i.header_offset}" for i in opened.infolist()]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


def hash_members(archive: Archive, memory: HashMemory) -> tuple[str, dict[str, str]]:
    """Identity of an archive, and of each loose file.

    Returns the SHA-256 of the zip or tar file and no member hashes; or, for loose files, no identity, which they have
    one by one, and the SHA-256 of each file by member name.
    """
    if archive.kind == "zip":
        return memory.hash_all([look(location(archive.paths[0]))])[0], {}
    if archive.kind == "tar":
        return scan(archive).sha256, {}
    files = list(loose_files(archive))
    return "", dict(zip((file.name for file in files), memory.hash_all(files), strict=True))


def remembering(archive: Archive, folder: Location, *, is_trusted: bool) -> Archive:
    """The archive, a tar with the place in ``folder`` where what a scan finds is kept; not trusted, it is forgotten."""
    if archive.kind != "tar":
        return archive
    seek = str(folder / f"{_fingerprint(look(location(archive.paths[0])))}.seek")
    if not is_trusted:
        tarballs.forget(seek)
    return replace(archive, seek=seek)
