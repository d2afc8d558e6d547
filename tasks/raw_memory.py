"""What is remembered of raw files from run to run: their hashes, and the listings of tars. Caches, safe to delete."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from tasks import tarballs, zip_directories
from tasks.archives import Archive, loose_files, scan
from tasks.files import digest, known_sha256, read_json, sha256_file, write_json
from tasks.progress import ByteMeter
from tasks.storage import Listed, Location, is_remote, location, look, open_archive

READ_AT_ONCE = 4
"""Files that are hashed at the same time."""


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

    def hash_all(self, files: Sequence[Listed]) -> list[str]:
        """SHA-256 (hex) of every file, in their order; reads only those not remembered, several at once."""
        keys = [_fingerprint(file) for file in files]
        unknown = {key: file for key, file in zip(keys, files, strict=True) if key not in self._known}
        meter = ByteMeter("index", sum(file.size_bytes for file in unknown.values()))
        with ThreadPoolExecutor(max_workers=READ_AT_ONCE) as pool:
            hashed = pool.map(lambda file: self._sha256(file.path, meter.add), unknown.values())
            fresh = dict(zip(unknown, hashed, strict=True))
        hashes = [fresh.get(key) or self._known[key] for key in keys]
        self._used |= dict(zip(keys, hashes, strict=True))
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
    with open_archive(path) as stream, zip_directories.opened(stream) as opened:
        lines = [f"{i.filename}\0{i.CRC}\0{i.file_size}\0{i.header_offset}" for i in opened.infolist()]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


@dataclass(frozen=True)
class Hashes:
    """What an archive and its files are known by; of one kind of archive either."""

    identity: str = ""
    """SHA-256 of a zip or tar."""
    by_member: Mapping[str, str] = field(default_factory=dict)
    """Of loose files, each one's."""


def hash_archives(archives: Sequence[Archive], memory: HashMemory) -> dict[str, Hashes]:
    """The hashes of archives by name; files that are not remembered are read several at once, with one progress."""
    files = {archive.name: _to_hash(archive) for archive in archives}
    every = memory.hash_all([file for some in files.values() for file in some])
    found = {}
    for archive in archives:
        own, every = every[: len(files[archive.name])], every[len(files[archive.name]) :]
        found[archive.name] = _hashes(archive, files[archive.name], own)
    return found


def _to_hash(archive: Archive) -> list[Listed]:
    """A tar has its hash from the scan."""
    match archive.kind:
        case "zip":
            return [look(location(archive.paths[0]))]
        case "folder":
            return list(loose_files(archive))
        case "tar":
            return []


def _hashes(archive: Archive, files: Sequence[Listed], sha256: Sequence[str]) -> Hashes:
    match archive.kind:
        case "zip":
            return Hashes(identity=sha256[0])
        case "folder":
            return Hashes(by_member=dict(zip((file.name for file in files), sha256, strict=True)))
        case "tar":
            return Hashes(identity=scan(archive).sha256)


def remembering(archive: Archive, folder: Location, *, is_trusted: bool) -> Archive:
    """The archive, a tar with the place in ``folder`` where what a scan finds is kept; not trusted, it is forgotten."""
    if archive.kind != "tar":
        return archive
    seek = str(folder / f"{_fingerprint(look(location(archive.paths[0])))}.seek")
    if not is_trusted:
        tarballs.forget(seek)
    return replace(archive, seek=seek)
