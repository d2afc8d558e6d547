"""Tars, gzipped or not: read in place by one pass, and what is left of them when they are damaged."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tasks import steps
from tasks.archives import Archive, Member, MemberRefused, list_members, read_member
from tasks.chunks import plan_chunks
from tasks.datasets import find
from tasks.files import read_json, sha256_file
from tasks.raw_memory import remembering
from tasks.samples import index_members
from tasks.schema import ImageRules, Transform, UnusableInput
from tasks.sources.local import find_archives
from tasks.tarballs import listing
from tests.command import ROOT, said, scanmill
from tests.conftest import Prepare, released

NIH = "nih-chest-xray"
LAST = "images_003"


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    """A tar with a folder and these files, gzipped where the name says so."""
    with tarfile.open(path, "w:" if path.suffix == ".tar" else "w:gz") as archive:
        folder = tarfile.TarInfo("images")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def repack(folder: Path, *, shuffled: bool = False) -> None:
    """Turn every zip of a folder into a tar.gz."""
    for path in sorted(folder.glob("*.zip")):
        with zipfile.ZipFile(path) as opened:
            members = [(name, opened.read(name)) for name in opened.namelist()]
        if shuffled:
            random.Random(0).shuffle(members)
        write_tar(path.with_suffix(".tar.gz"), members)
        path.unlink()


def some_members(count: int = 5, size: int = 3000) -> list[tuple[str, bytes]]:
    """Files of random bytes in no order of names, with one too long for a plain header."""
    made = random.Random(1)
    names = [f"images/{number:08d}_000.png" for number in made.sample(range(20 * count), count - 1)]
    return [(name, made.randbytes(size)) for name in [*names, f"images/{'long' * 40}.png"]]


def only(path: Path) -> Archive:
    """The archive of one file."""
    (archive,) = find_archives([path])
    return archive


def readable(archive: Archive) -> dict[str, bytes]:
    """Every member that may be read, and its bytes."""
    return {m.name: read_member(archive, m.name, m.offset, m.crc32) for m in list_members(archive) if not m.problem}


def broken(archive: Archive) -> Member:
    """The one member that has a problem."""
    (member,) = [member for member in list_members(archive) if member.problem]
    return member


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Name of the archive of every pass that is made."""
    made: list[str] = []
    real = listing._pass

    def counted(path: Path, *arguments: Any, **settings: Any) -> Any:
        made.append(path.name)
        return real(path, *arguments, **settings)

    monkeypatch.setattr(listing, "_pass", counted)
    return made


def samples_of(release: Path) -> pd.DataFrame:
    """The sample table without what depends on the archive's name."""
    return pd.read_parquet(release / "samples.parquet").drop(columns=["archive", "tar_offset"])


@pytest.fixture
def raw(copy: Path) -> Path:
    """A raw release without defects as tar.gz, to be changed; of its zips the session's flawless release was made."""
    repack(copy)
    return copy


def test_a_release_of_tars_is_that_of_the_zips_and_every_tar_is_passed_over_once(
    prepare: Prepare, flawless_release: Path, raw: Path, tmp_path: Path, passes: list[str]
) -> None:
    table = next(raw.glob("Data_Entry*.csv"))
    write_tar(raw / "tables.TGZ", [(table.name, table.read_bytes())])
    table.unlink()
    release = released(prepare, raw, tmp_path / "lake")
    pd.testing.assert_frame_equal(samples_of(release), samples_of(flawless_release))
    names = [f"images_00{number}.tar.gz" for number in (1, 2, 3)]
    assert set(pd.read_parquet(release / "samples.parquet")["archive"]) == set(names)
    assert sorted(passes) == [*names, "tables.TGZ"]
    inputs = {entry["name"]: entry for entry in read_json(release / "manifest.json")["inputs"]}
    for name in names:
        assert (inputs[name]["bytes"], inputs[name]["sha256"]) == (
            (raw / name).stat().st_size,
            sha256_file(raw / name),
        )
    command = ("prepare", NIH, "--raw", raw, "--lake", tmp_path / "lake", "--workers", 0, "--json")
    assert json.loads(scanmill(*command).stdout)["is_new"] is False
    assert len(passes) == 4
    assert json.loads(scanmill(*command, "--rehash").stdout)["is_new"] is False
    assert len(passes) == 8
    before = sorted(tmp_path.rglob("*"))
    checked = json.loads(scanmill("check", NIH, "--raw", raw, "--json").stdout)
    assert (checked["ok"], checked["images"]) == (True, len(samples_of(flawless_release)))
    assert sorted(tmp_path.rglob("*")) == before


def test_without_its_seek_points_an_unsorted_tar_gives_the_same(
    flawless_release: Path, copy: Path, prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repack(copy, shuffled=True)
    real = steps.convert

    def convert(plan: Any, **settings: Any) -> Any:
        gone = [
            path.unlink() for path in plan.lake.chunks.iterdir() if path.suffix == ".seek" or "members" in path.name
        ]
        assert len(gone) == 6
        return real(plan, **settings)

    monkeypatch.setattr(steps, "convert", convert)
    pd.testing.assert_frame_equal(samples_of(released(prepare, copy, tmp_path / "lake")), samples_of(flawless_release))


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar"])
def test_members_are_read_by_their_offsets_in_any_order(name: str, tmp_path: Path) -> None:
    members = some_members(12, 2_000_000)
    archive = remembering(only(write_tar(tmp_path / name, members)), tmp_path / "kept", is_trusted=True)
    assert readable(archive) == dict(members)
    assert Path(archive.seek).is_file() == name.endswith(".gz")
    (first, *_, last) = list_members(archive)
    for member in (last, first, last):
        assert read_member(archive, member.name, member.offset, member.crc32) == dict(members)[member.name]
    with pytest.raises(MemberRefused, match="crc-mismatch"):
        read_member(archive, first.name, first.offset, first.crc32 + 1)
    with pytest.raises(MemberRefused, match="unreadable-member"):
        read_member(archive, first.name, last.offset)


def test_chunks_of_a_tar_follow_it_from_start_to_end_and_name_no_path(tmp_path: Path) -> None:
    archive = only(write_tar(tmp_path / "a.tar.gz", some_members(400, 10)))
    members = list_members(archive)

    def planned(archive: Archive) -> Any:
        return plan_chunks(archive, members, "1" * 64, {}, Transform(224), ImageRules())

    offsets = [member.offset for chunk in planned(archive) for member in chunk.members]
    assert offsets == sorted(offsets)
    elsewhere = remembering(archive, tmp_path / "kept", is_trusted=True)
    assert [chunk.digest for chunk in planned(elsewhere)] == [chunk.digest for chunk in planned(archive)]


CUTS = {"images_001": "padding", "images_002": "trailer", "images_003": "member"}
"""Where each of three tars is cut off."""


def test_truncated_tars_keep_what_lies_before_the_cut(
    prepare: Prepare, flawless_release: Path, raw: Path, tmp_path: Path
) -> None:
    kept: dict[str, list[Member]] = {}
    last: dict[str, Member] = {}
    for archive, place in CUTS.items():
        path = raw / f"{archive}.tar.gz"
        whole = sorted(list_members(only(path)), key=lambda member: member.offset)
        half = last[path.name] = whole[-1]
        kept[path.name] = whole if place == "trailer" else whole[:-1]
        if place == "trailer":
            path.write_bytes(path.read_bytes()[:-5])
        else:
            # Films are incompressible: one block of stored bytes, which can be cut anywhere.
            unpacked = gzip.decompress(path.read_bytes())
            cut_gzip(path, unpacked, half.offset + 512 + half.size_bytes // 2 if place == "member" else half.offset)
    release = released(prepare, raw, tmp_path / "lake", allow_gate_failure=True)
    samples = pd.read_parquet(release / "samples.parquet")
    quarantine = pd.read_parquet(release / "quarantine.parquet")
    told = quarantine[quarantine["reason"] == "truncated-archive"].set_index("archive")
    assert set(told.index) == set(kept)
    for name, members in kept.items():
        films = {member.name for member in members if re.fullmatch(r"images/\d+_\d+\.png", member.name)}
        assert set(samples.loc[samples["archive"] == name, "member"]) == films
        is_half = CUTS[name.removesuffix(".tar.gz")] == "member"
        member, detail = (str(told.loc[name, column]) for column in ("member", "detail"))
        assert member.startswith(last[name].name if is_half else "(after byte ")
        assert "of the unpacked stream" in detail
        assert "fetch it again" in detail
    # The accounting has met, or there would be no release; nothing but the films after the cuts is missing.
    assert len(samples_of(flawless_release)) - len(samples) == 2


def cut_gzip(path: Path, unpacked: bytes, cut: int) -> None:
    """Leave a gzip file that ends after ``cut`` unpacked bytes, in the middle of its stream."""
    packer = zlib.compressobj(0, zlib.DEFLATED, 31)
    path.write_bytes(packer.compress(unpacked[:cut]) + packer.flush(zlib.Z_FULL_FLUSH))


def test_every_cut_leaves_all_members_before_it_and_says_where_it_is(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar.gz", some_members(4, 1500))
    whole = path.read_bytes()
    with tarfile.open(path) as opened:
        ends = [info.offset_data + info.size for info in opened if info.isfile()]
    for cut in [*range(600, len(whole), 157), *range(len(whole) - 9, len(whole))]:
        path.write_bytes(whole[:cut])
        unpacked = len(zlib.decompressobj(31).decompress(whole[:cut]))
        if unpacked < 1024:
            continue
        member = broken(only(path))
        assert member.problem == "truncated-archive"
        place = re.search(r"byte (\d+) of the file, byte (\d+) of the unpacked stream", member.detail)
        assert place is not None
        assert int(place[1]) == cut
        assert unpacked - 2048 < int(place[2]) <= unpacked
        assert len(readable(only(path))) == sum(end <= unpacked for end in ends), cut


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tar"])
def test_a_damaged_header_ends_the_listing(name: str, tmp_path: Path) -> None:
    path = write_tar(tmp_path / "plain.tar", some_members())
    third = sorted(list_members(only(path)), key=lambda m: m.offset)[2]
    data = bytearray(path.read_bytes())
    data[third.offset + 1] ^= 0x10
    path.unlink()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert len(readable(only(path))) == 2
    assert (broken(only(path)).name, broken(only(path)).problem) == (f"(after byte {third.offset})", "corrupt-archive")


def test_a_flipped_byte_in_the_stream_costs_what_follows_and_says_where(tmp_path: Path) -> None:
    members = [(f"{number}.csv", b"".join(b"%d,%d\n" % (number, i * i) for i in range(9000))) for number in range(6)]
    path = write_tar(tmp_path / "a.tar.gz", members)
    whole = path.read_bytes()
    where = next(place for place in range(len(whole) * 2 // 3, len(whole)) if stops_inflation(flipped(whole, place)))
    path.write_bytes(flipped(whole, where))
    member = broken(only(path))
    assert member.problem == "corrupt-archive"
    assert where <= int(member.detail.split("byte ")[1].split()[0]) < where + 20_000
    kept = readable(only(path))
    assert kept.items() <= dict(members).items()
    assert 2 <= len(kept) < 5


def flipped(data: bytes, place: int) -> bytes:
    """The data with one bit turned."""
    return data[:place] + bytes([data[place] ^ 0x08]) + data[place + 1 :]


def stops_inflation(data: bytes) -> bool:
    """Whether the damage is one that inflation itself notices, before the checksum at the end."""
    try:
        zlib.decompressobj(31).decompress(data)
    except zlib.error as error:
        return "incorrect" not in str(error)
    return False


def test_a_wrong_checksum_of_the_whole_is_told_and_costs_no_member(tmp_path: Path) -> None:
    members = some_members()
    path = write_tar(tmp_path / "a.tar.gz", members)
    data = bytearray(path.read_bytes())
    data[-6] ^= 1
    path.write_bytes(data)
    assert readable(only(path)) == dict(members)
    assert broken(only(path)).problem == "crc-mismatch"


def test_tars_and_gzip_streams_behind_each_other_are_all_read(tmp_path: Path) -> None:
    members = some_members()
    parts = [write_tar(tmp_path / f"{number}.tar.gz", members[number::2]).read_bytes() for number in (0, 1)]
    path = tmp_path / "all.tar.gz"
    path.write_bytes(b"".join(parts))
    archive = remembering(only(path), tmp_path / "kept", is_trusted=True)
    assert readable(archive) == dict(members)


def test_only_files_inside_the_archive_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
        kinds = {"fine.png": tarfile.REGTYPE, "soft.png": tarfile.SYMTYPE, "hard.png": tarfile.LNKTYPE}
        for name, kind in {
            **kinds,
            "pipe.png": tarfile.FIFOTYPE,
            "../up.png": tarfile.REGTYPE,
            "/etc/x.png": b"0",
        }.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd" if kind in (tarfile.SYMTYPE, tarfile.LNKTYPE) else ""
            archive.addfile(info)
    problems = {member.name: member.problem for member in list_members(only(path))}
    assert problems.pop("fine.png") == ""
    assert len(problems) == 5
    assert set(problems.values()) == {"unsafe-path"}


def test_a_cut_in_a_member_that_would_be_ignored_is_not_ignored(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [("00000001_000.png", b"1"), ("README.txt", bytes(4000))])
    path.write_bytes(path.read_bytes()[:4000])
    index = index_members(list_members(only(path)), find(NIH))
    assert dict(zip(index["member"], index["kind"], strict=True)) == {
        "00000001_000.png": "image",
        "README.txt": "unexpected",
    }


def test_an_absurd_size_is_not_read(tmp_path: Path) -> None:
    # A sparse file: one block that claims to be 8 TB of mostly nothing.
    info = tarfile.TarInfo("bomb.png")
    info.pax_headers = {"GNU.sparse.map": "0,512", "GNU.sparse.size": str(2**43), "GNU.sparse.numblocks": "1"}
    info.size = 512
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(bytes(512)))
    assert broken(only(tmp_path / "a.tar")).problem == "oversized-member"


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>404 Not Found</html>" * 40, b"\x1f\x8b" + bytes(600), gzip.compress(b"text", mtime=0)],
    ids=["empty", "web page", "broken gzip", "gzipped text"],
)
def test_what_is_no_tar_is_unusable(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "images_001.tar.gz"
    path.write_bytes(content)
    with pytest.raises(UnusableInput, match=f"{path}.*fetch it again"):
        list_members(only(path))


def test_archives_that_are_not_read_in_place_are_named(raw: Path) -> None:
    for path in raw.glob("*.tar.gz"):
        path.unlink()
    (raw / "images.tar.xz").write_bytes(b"1")
    with zipfile.ZipFile(raw / "kaggle.zip", "w") as outer:
        outer.writestr("images_001.zip", b"1")
    words = said(scanmill("prepare", NIH, "--raw", raw, "--lake", raw.parent / "lake", "--workers", 0))
    assert "images.tar.xz is an archive of a kind that is not read in place: repack it" in words
    assert "kaggle.zip holds the archive images_001.zip: unpack the outer one" in words


def test_the_pass_is_held_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "big.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for number in range(500):
            info = tarfile.TarInfo(f"images/{number:08d}_000.png")
            info.size = 400_000
            archive.addfile(info, io.BytesIO(os.urandom(info.size)))
    code = (
        "import resource, sys; from pathlib import Path; from tasks import tarballs\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "listing = tarballs.scan(Path(sys.argv[1]), sys.argv[2], limit_bytes=2**29)\n"
        "print(len(listing.entries), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    command = [sys.executable, "-c", code, str(path), str(tmp_path / "big.seek")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120)
    members, grown_kib = map(int, done.stdout.split())
    assert members == 500
    assert grown_kib < 60 * 1024
