"""Zip archives locked with a password, which the standard library can open (the old cipher) but not write."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyzipper

Words = npt.NDArray[np.uint32]
Encryption = Literal["legacy", "aes"]

_ENCRYPTED = 0x1
_VERSION = 20
_UNIX = 3
_TIME, _DATE = 0, (2024 - 1980) << 9 | 3 << 5 | 1
_TIMESTAMP = (2024, 3, 1, 0, 0, 0)
_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s4B4H3I5H2I")
_END = struct.Struct("<4s4H2IH")


def encrypt_zip(path: Path, members: Mapping[str, bytes], password: str, encryption: Encryption = "legacy") -> None:
    """Write every member, deflated and locked: by PKWARE's old cipher, or by WinZip's AES-256.

    The old cipher's twelve leading bytes come from the member's name, so that the same arguments give the same bytes;
    the salt of AES is random.
    """
    WRITERS[encryption](path, members, password.encode())


def _write_aes(path: Path, members: Mapping[str, bytes], password: bytes) -> None:
    with pyzipper.AESZipFile(path, "w", compression=pyzipper.ZIP_DEFLATED, encryption=pyzipper.WZ_AES) as archive:
        archive.setpassword(password)
        archive.setencryption(pyzipper.WZ_AES, nbits=256)
        for name, content in members.items():
            info = archive.zipinfo_cls(name, _TIMESTAMP)
            info.create_system, info.external_attr = _UNIX, 0o644 << 16
            archive.writestr(info, content, pyzipper.ZIP_DEFLATED)


def _write_legacy(path: Path, members: Mapping[str, bytes], password: bytes) -> None:
    checks = [zlib.crc32(content) for content in members.values()]
    heads = [
        hashlib.sha256(name.encode()).digest()[:11] + bytes([c >> 24]) for name, c in zip(members, checks, strict=True)
    ]
    plain = [head + _deflated(content) for head, content in zip(heads, members.values(), strict=True)]
    directory = bytearray()
    with path.open("wb") as archive:
        for (name, content), check, body in zip(members.items(), checks, _locked(plain, password), strict=True):
            label, offset = name.encode(), archive.tell()
            form = (_ENCRYPTED, zlib.DEFLATED, _TIME, _DATE, check, len(body), len(content), len(label), 0)
            archive.write(_LOCAL.pack(b"PK\x03\x04", _VERSION, *form) + label + body)
            place = (0, 0, 0, 0o100644 << 16, offset)
            directory += _CENTRAL.pack(b"PK\x01\x02", _VERSION, _UNIX, _VERSION, 0, *form, *place) + label
        counts = (0, 0, len(members), len(members), len(directory), archive.tell(), 0)
        archive.write(directory + _END.pack(b"PK\x05\x06", *counts))


def _deflated(content: bytes) -> bytes:
    """A raw deflate stream, as zip members are."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


def _crc_steps() -> Words:
    """The 256 steps of CRC-32 without the inversions that :func:`zlib.crc32` adds."""
    ones = 0xFFFFFFFF
    return np.array([zlib.crc32(bytes([byte]), ones) ^ ones for byte in range(256)], np.uint32)


def _locked(contents: Sequence[bytes], password: bytes) -> Iterator[bytes]:
    """APPNOTE 6.1: three keys that every byte of the password, then of the content, stirs.

    All members at once, byte by byte, because one after the other is slow in Python.
    """
    longest = max(map(len, contents), default=0)
    padded = b"".join(content.ljust(longest, b"\0") for content in contents)
    columns = np.frombuffer(padded, np.uint8).reshape(len(contents), longest).T.astype(np.uint32)
    masks = np.empty((longest, len(contents)), np.uint8)
    steps = _crc_steps()
    keys = tuple(np.full(len(contents), start, np.uint32) for start in (0x12345678, 0x23456789, 0x34567890))
    for byte in password:
        keys = _stirred(keys, np.uint32(byte), steps)
    for place, column in enumerate(columns):
        word = keys[2] | 2
        masks[place] = word * (word ^ 1) >> 8 & 0xFF
        keys = _stirred(keys, column, steps)
    for content, mask in zip(contents, masks.T, strict=True):
        yield (np.frombuffer(content, np.uint8) ^ mask[: len(content)]).tobytes()


def _stirred(keys: tuple[Words, ...], byte: Words | np.uint32, steps: Words) -> tuple[Words, Words, Words]:
    a, b, c = keys
    a = a >> 8 ^ steps[(a ^ byte) & 0xFF]
    b = (b + (a & 0xFF)) * 134775813 + 1
    return a, b, c >> 8 ^ steps[(c ^ b >> 24) & 0xFF]


WRITERS: Mapping[Encryption, Callable[[Path, Mapping[str, bytes], bytes], None]] = {
    "legacy": _write_legacy,
    "aes": _write_aes,
}
