"""Formats that are read or written here for speed hold what the standard library says, damage included."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tasks import plain_zips
from tasks.archives import Archive, MemberRefused, list_members, read_member
from tasks.schema import UnusableInput
from tasks.shard_tars import pieces, planned

RNG = np.random.default_rng(3)


class Pipe(io.RawIOBase):
    """Cannot be wound back, so that a zip that is written to it puts sizes behind its members."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self.written += data
        return len(data)


def zip_of(*, compression: int, is_streamed: bool = False) -> bytes:
    """Three members: noise, text that shrinks, and nothing, one of them with a name beyond ASCII."""
    target = Pipe() if is_streamed else io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        archive.writestr("images/noise.png", RNG.bytes(900))
        archive.writestr("images/Röntgen.png", b"shrinks " * 300)
        archive.writestr("images/nothing.png", b"")
    return bytes(target.written) if isinstance(target, Pipe) else target.getvalue()


ZIPS = {
    "stored": zip_of(compression=zipfile.ZIP_STORED),
    "deflated": zip_of(compression=zipfile.ZIP_DEFLATED),
    "streamed": zip_of(compression=zipfile.ZIP_DEFLATED, is_streamed=True),
    "by bzip2": zip_of(compression=zipfile.ZIP_BZIP2),
}


def outcome(path: Path) -> list[tuple[str, bytes | str]]:
    """Every member's bytes or reason; nothing of what is no zip any more."""
    archive = Archive("a.zip", "zip", (str(path),))
    found: list[tuple[str, bytes | str]] = []
    try:
        members = list_members(archive)
    except UnusableInput:
        return found
    for member in members:
        try:
            found.append((member.name, member.problem or read_member(archive, member.name, member.offset)))
        except MemberRefused as refusal:
            found.append((member.name, refusal.args[0]))
    return found


@pytest.mark.parametrize("name", ZIPS)
def test_a_zip_is_read_as_zipfile_reads_it_damage_included(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ZIPS[name]
    quickly = []
    for number in range(121):
        data = bytearray(whole)
        if number:
            data[RNG.integers(len(data))] ^= 1 << int(RNG.integers(8))
        path = tmp_path / f"{number}.zip"
        path.write_bytes(data)
        quickly.append(outcome(path))
    monkeypatch.setattr(plain_zips, "read", lambda descriptor, info: None)
    assert quickly == [outcome(tmp_path / f"{number}.zip") for number in range(121)]
    assert all(isinstance(content, bytes) for _, content in quickly[0])
    assert any("crc-mismatch" in dict(found).values() for found in quickly)


@pytest.mark.parametrize("stem", ["00000001_000", "x" * 120, "Röntgen"])
def test_a_shards_tar_is_the_one_that_tarfile_writes(stem: str) -> None:
    names = [f"{stem}{number}" for number in range(7)]
    images, masks = ([RNG.bytes(int(size)) for size in RNG.integers(0, 3000, 7)] for _ in range(2))
    records = [RNG.bytes(int(size)) for size in RNG.integers(1, 1200, 7)]
    entries = planned(names, ("png", "mask.png"), [[len(file) for file in files] for files in (images, masks)], records)
    expected = io.BytesIO()
    with tarfile.open(fileobj=expected, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, *files in zip(names, images, masks, records, strict=True):
            for ending, content in zip(("png", "mask.png", "json"), files, strict=True):
                entry = tarfile.TarInfo(f"{name}.{ending}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    written = b"".join(pieces(entries, [images, masks]))
    assert written == expected.getvalue()
    for own, image in zip(entries, images, strict=True):
        assert written[own.files[0].offset :][: len(image)] == image
