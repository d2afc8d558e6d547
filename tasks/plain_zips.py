"""Members of zips on this machine that are stored or deflated, read in one go: in a third of the time of ``zipfile``,
which inflates by zlib, in pieces, and takes their CRC as it goes.

Whatever is not as it should be is left to ``zipfile``, which says what is wrong with it.
"""

from __future__ import annotations

import os
import zipfile

import deflate

HEADER_BYTES = 30
"""Of a local file header, without name and extra field (APPNOTE 4.3.7)."""
SIGNATURE = b"PK\x03\x04"
PLAIN_FLAGS = 0x80E
"""General purpose flags of an entry that is read here: how it was deflated, sizes that stand behind it, UTF-8
(APPNOTE 4.4.4)."""
UTF_8 = 0x800


def read(descriptor: int, info: zipfile.ZipInfo) -> bytes | None:
    """The bytes of a member, with the size and the CRC that the directory says; None where that cannot be told here."""
    if info.flag_bits & ~PLAIN_FLAGS or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return None
    if not info.file_size:  # libdeflate would not look at what unpacks to nothing
        return None
    begin = _begin(descriptor, info)
    if begin is None:
        return None
    packed = os.pread(descriptor, info.compress_size, begin)
    data = packed if info.compress_type == zipfile.ZIP_STORED else _inflated(packed, info.file_size)
    return data if data is not None and len(data) == info.file_size and deflate.crc32(data) == info.CRC else None


def _begin(descriptor: int, info: zipfile.ZipInfo) -> int | None:
    """Where the bytes begin, behind a header that agrees with the directory."""
    header = os.pread(descriptor, HEADER_BYTES + 2 * len(info.orig_filename), info.header_offset)
    name_length, extra_length = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    name = header[HEADER_BYTES : HEADER_BYTES + name_length]
    expected = info.orig_filename.encode("utf-8" if info.flag_bits & UTF_8 else "cp437", "replace")
    begin = info.header_offset + HEADER_BYTES + name_length + extra_length
    ends_at = getattr(info, "_end_offset", None)  # of Python 3.11.8 and later: where the next entry begins
    is_sound = header.startswith(SIGNATURE) and name == expected and header[6:8] == info.flag_bits.to_bytes(2, "little")
    return begin if is_sound and (ends_at is None or begin + info.compress_size <= ends_at) else None


def _inflated(packed: bytes, size: int) -> bytes | None:
    try:
        return bytes(deflate.deflate_decompress(packed, size))
    except deflate.DeflateError:
        return None
