"""Where in its archive a member's bytes lie, and what is left of them where they cannot be read as they should."""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache

from tasks import locked_zips, tarballs, zip_directories
from tasks.archives import Archive, MemberRefused
from tasks.limits import current
from tasks.storage import location, look, open_archive

LOCAL_HEADER_BYTES = 30
"""Fixed part of a zip's local header; the lengths of name and extra field stand in its last four (APPNOTE 4.3.7)."""
METHODS = {0: "stored", 8: "deflate", 9: "deflate64", 12: "bzip2", 14: "lzma", 93: "zstd", 99: "aes"}
"""Compression methods of zips (APPNOTE 4.4.5)."""
PIECE_BYTES = 2**20


@dataclass(frozen=True)
class Place:
    """Byte ranges of one member."""

    header_offset: int
    """Of the local header of a zip's member, or of the header in an unpacked tar."""
    data_offset: int
    data_bytes: int
    """As stored: compressed in a zip, and encrypted perhaps."""
    method: str
    """How they are stored; ``tar`` is as they are, in the unpacked stream."""
    crc32: int | None
    """As the zip's directory claims; None in a tar, which has none."""
    is_encrypted: bool = False


def place_of(archive: Archive, name: str, offset: int) -> Place:
    """The byte ranges of a member of a zip or tar.

    Raises :class:`MemberRefused` where no member of that name begins there.
    """
    path, name = archive.paths[0], archive.file_of(name)
    if archive.kind == "tar":
        return Place(offset, *_tar_range(archive, name, offset), "tar", None)
    info = _info(archive, name, offset)
    with open_archive(location(path), archive.version) as stream:
        stream.seek(offset)
        head = stream.read(LOCAL_HEADER_BYTES)
    if len(head) < LOCAL_HEADER_BYTES:
        raise MemberRefused("unreadable-member", f"there is no local header at byte {offset}")
    begins = offset + LOCAL_HEADER_BYTES + sum(struct.unpack("<HH", head[-4:]))
    method = METHODS.get(info.compress_type, f"method {info.compress_type}")
    return Place(offset, begins, info.compress_size, method, info.CRC, locked_zips.is_encrypted(info))


def _tar_range(archive: Archive, name: str, offset: int) -> tuple[int, int]:
    try:
        return tarballs.data_range(
            archive.paths[0], archive.seek, name, offset, limit_bytes=current().member_bytes, version=archive.version
        )
    except tarballs.Unreadable as error:
        raise MemberRefused(*error.args) from error


def _info(archive: Archive, name: str, offset: int) -> zipfile.ZipInfo:
    path = archive.paths[0]
    info = _directory(path, archive.version or look(location(path)).version).get(offset)
    if info is None or info.filename.replace("\\", "/") != name:
        raise MemberRefused("unreadable-member", f"no member {name} begins at byte {offset}: the archive has changed")
    return info


@lru_cache(maxsize=2)
def _directory(path: str, version: str) -> dict[int, zipfile.ZipInfo]:
    with open_archive(location(path)) as stream, zip_directories.opened(stream) as opened:
        return {info.header_offset: info for info in opened.infolist()}


def salvage(archive: Archive, name: str, offset: int) -> bytes:
    """What is there of a member that breaks off, or whose checksum does not fit: unpacked as far as it goes.

    Raises :class:`MemberRefused` for what is encrypted, or packed in a way that is not known.
    """
    if archive.kind == "tar":
        return _salvage_tar(archive, archive.file_of(name), offset)
    place = place_of(archive, name, offset)
    if place.is_encrypted:
        raise MemberRefused("encrypted-member", "what is encrypted cannot be unpacked in part")
    if place.method not in ("stored", "deflate"):
        raise MemberRefused("unreadable-member", f"the method of packing is not known ({place.method})")
    with open_archive(location(archive.paths[0]), archive.version) as stream:
        stream.seek(place.data_offset)
        packed = stream.read(min(place.data_bytes, current().member_bytes))
    return packed if place.method == "stored" else _inflated(packed)


def _salvage_tar(archive: Archive, name: str, offset: int) -> bytes:
    try:
        return tarballs.salvage(
            archive.paths[0], name, offset, limit_bytes=current().member_bytes, version=archive.version
        )
    except tarballs.Unreadable as error:
        raise MemberRefused(*error.args) from error


def _inflated(packed: bytes) -> bytes:
    """As far as the deflated bytes make sense, and no more than a member may have."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    found = bytearray()
    for start in range(0, len(packed), PIECE_BYTES):
        try:
            found += inflater.decompress(packed[start : start + PIECE_BYTES], current().member_bytes - len(found))
        except zlib.error:
            return bytes(found)
        if inflater.eof or len(found) >= current().member_bytes:
            break
    return bytes(found)
