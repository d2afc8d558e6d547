"""Reading raw archives in place: what identifies them, and the odd ways in which publishers pack them."""

from __future__ import annotations

import json
import os
import random
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tasks.archives import MemberRefused, list_members, read_head, read_member
from tasks.files import sha256_file
from tasks.member_places import place_of, salvage
from tasks.raw_memory import HashMemory, hash_archives
from tasks.schema import UnusableInput
from tasks.sources.local import find_archives
from tests.command import said, scanmill
from tests.conftest import Prepare
from tests.fakes import damage
from tests.fakes.mammography_density import ARCHIVE, ROOT

MAMMOGRAPHY, NIH = "mammography-density", "nih-chest-xray"


def write_zip(path: Path, members: list[tuple[str, bytes]]) -> Path:
    """A stored zip with these members, in this order; a name may come twice."""
    with zipfile.ZipFile(path, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


def at_the_same_time(path: Path, change: Callable[[], object]) -> None:
    """Change a file so that its size and its modification time stay what they were."""
    before = path.stat()
    change()
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_other_content_of_the_same_size_and_time_is_noticed_by_the_zip_directory(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", [("one.png", b"first")])
    (archive,) = find_archives([path])
    memory = tmp_path / "memory.json"
    before = hash_archives([archive], HashMemory(memory))[archive.name].identity
    at_the_same_time(path, lambda: write_zip(path, [("one.png", b"other")]))
    after = hash_archives([archive], HashMemory(memory))[archive.name].identity
    assert before != after == sha256_file(path)


def test_a_remembered_hash_is_used_until_told_to_distrust_it(
    prepare: Prepare, fakes: Callable[[str], Path], lakes: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(fakes(MAMMOGRAPHY), tmp_path / "raw")
    shutil.copytree(lakes(MAMMOGRAPHY) / MAMMOGRAPHY, tmp_path / "lake" / MAMMOGRAPHY)
    path = tmp_path / "raw" / ARCHIVE
    places = ("--raw", tmp_path / "raw", "--lake", tmp_path / "lake")
    command = ("prepare", MAMMOGRAPHY, *places, "--workers", 0, "--json")
    assert json.loads(scanmill(*command).stdout)["is_new"] is False
    # Inside a member, of which the directory holds nothing but the checksum that it should have.
    at_the_same_time(path, lambda: damage.flip_member_byte(path, f"{ROOT}/train/Image_7.jpg"))
    assert json.loads(scanmill(*command).stdout)["is_new"] is False
    answer = json.loads(scanmill(*command, "--rehash").stdout)
    assert answer["is_new"] is True
    assert answer["accounting"]["reasons"] == {"crc-mismatch": 1}
    manifest = json.loads((Path(answer["folder"]) / "manifest.json").read_bytes())
    assert [entry["sha256"] for entry in manifest["inputs"]] == [sha256_file(path)]


def test_a_folder_is_read_like_the_zip_it_came_from(
    prepare: Prepare, fakes: Callable[[str], Path], lakes: Callable[[str], Path], tmp_path: Path
) -> None:
    with zipfile.ZipFile(fakes(MAMMOGRAPHY) / ARCHIVE) as archive:
        archive.extractall(tmp_path / "raw")
    outcome = prepare(MAMMOGRAPHY, tmp_path / "raw", tmp_path / "lake")
    from_folder = tmp_path / "lake" / MAMMOGRAPHY / "releases" / outcome["release"]
    (from_zip,) = (lakes(MAMMOGRAPHY) / MAMMOGRAPHY / "releases").iterdir()
    assert from_folder.name != from_zip.name
    # The archive's name is in every JSON of a tar, and shifts what follows.
    loose, zipped = (pd.read_parquet(folder / "samples.parquet") for folder in (from_folder, from_zip))
    own = ["archive", "tar_offset"]
    pd.testing.assert_frame_equal(loose.drop(columns=own), zipped.drop(columns=own))
    assert set(loose["archive"]) == {"."}
    accountings = [
        json.loads((folder / "manifest.json").read_bytes())["accounting"] for folder in (from_folder, from_zip)
    ]
    for counted in accountings:
        counted["tables"] = [{**table, "table": Path(table["table"]).name} for table in counted["tables"]]
    assert accountings[0] == accountings[1]


def test_two_members_of_one_name_are_read_by_their_offsets(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", [("x.png", b"first"), ("y.png", b"other"), ("x.png", b"second")])
    (archive,) = find_archives([path])
    members = list_members(archive)
    assert [member.name for member in members] == ["x.png", "x.png", "y.png"]
    assert [read_member(archive, member.name, member.offset) for member in members] == [b"first", b"second", b"other"]


def test_a_zip_that_was_replaced_is_read_anew_even_at_the_same_time(tmp_path: Path) -> None:
    # A process that lives long, such as a Dask worker, keeps zips open.
    path = write_zip(tmp_path / "a.zip", [("x.png", b"first")])
    (archive,) = find_archives([path])
    assert read_member(archive, "x.png", 0) == b"first"
    better = write_zip(tmp_path / "better", [("x.png", b"other")])
    at_the_same_time(path, lambda: better.replace(path))
    assert read_member(archive, "x.png", 0) == b"other"


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_the_head_of_a_damaged_member_is_refused_like_the_whole(method: int, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.dcm", random.Random(3).randbytes(300_000))
    content = bytearray(path.read_bytes())
    content[40:60] = bytes(20)
    path.write_bytes(content)
    (found,) = find_archives([path])
    reads: tuple[Callable[[], bytes], ...] = (
        lambda: read_head(found, "x.dcm", 0, 2**16),
        lambda: read_member(found, "x.dcm", 0),
    )
    for read in reads:
        with pytest.raises(MemberRefused) as refused:
            read()
        assert refused.value.args[0] == "unreadable-member"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_a_damaged_member_still_holds_is_salvaged(method: int, tmp_path: Path) -> None:
    path, data = tmp_path / "a.zip", b"".join(b"%05d" % number for number in range(20_000))
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.png", data)
    (found,) = find_archives([path])
    place = place_of(found, "x.png", 0)
    content = bytearray(path.read_bytes())
    middle = place.data_offset + place.data_bytes // 2
    content[middle : middle + 40] = b"\xff" * 40
    path.write_bytes(content)
    (found,) = find_archives([path])
    with pytest.raises(MemberRefused):
        read_member(found, "x.png", 0)
    saved = salvage(found, "x.png", 0)
    assert saved[:30_000] == data[:30_000]
    assert saved != data
    with pytest.raises(MemberRefused, match=r"no member y\.png begins at byte 0"):
        salvage(found, "y.png", 0)


def test_windows_separators_are_separators(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", [("set\\train\\one.png", b"1"), ("set\\..\\..\\evil.png", b"2")])
    (archive,) = find_archives([path])
    evil, one = list_members(archive)
    assert (one.name, one.problem) == ("set/train/one.png", "")
    assert read_member(archive, one.name, one.offset) == b"1"
    assert (evil.name, evil.problem) == ("set/../../evil.png", "unsafe-path")


@pytest.mark.parametrize("name", ["/etc/passwd", "../up.png", "a/../../up.png", "C:\\..\\up.png"])
def test_paths_that_leave_the_archive_are_not_read(name: str, tmp_path: Path) -> None:
    (archive,) = find_archives([write_zip(tmp_path / "a.zip", [(name, b"1")])])
    (member,) = list_members(archive)
    assert member.problem == "unsafe-path"
    assert name in member.detail.replace("\\\\", "\\")


def test_what_claims_to_unpack_to_an_absurd_size_is_not_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(5_000_000))
        archive.writestr("film.png", os.urandom(1000) * 10)
    (found,) = find_archives([tmp_path / "a.zip"])
    assert {member.name: member.problem for member in list_members(found)} == {
        "bomb.png": "oversized-member",
        "film.png": "",
    }


def test_a_symbolic_link_in_a_zip_is_not_followed(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("link.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    (found,) = find_archives([tmp_path / "a.zip"])
    assert [member.problem for member in list_members(found)] == ["unsafe-path"]


def test_what_a_macintosh_leaves_behind_is_counted_as_junk(fakes: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(fakes(NIH), tmp_path / "raw")
    junk = ["__MACOSX/images/._00000001_000.png", "images/.DS_Store", "images/Thumbs.db", "images/._00000001_000.png"]
    write_zip(tmp_path / "raw" / "images_009.zip", [(name, b"junk") for name in junk])
    before = json.loads(scanmill("check", NIH, "--raw", fakes(NIH), "--json").stdout)
    after = json.loads(scanmill("check", NIH, "--raw", tmp_path / "raw", "--json").stdout)
    assert (after["members"], after["images"]) == (before["members"] + len(junk), before["images"])
    assert after["entries"] == before["entries"]


def test_archives_may_be_given_one_by_one_and_lie_in_folders(fakes: Callable[[str], Path], tmp_path: Path) -> None:
    whole = json.loads(scanmill("check", NIH, "--raw", fakes(NIH), "--json").stdout)
    (tmp_path / "tables").mkdir()
    for path in fakes(NIH).iterdir():
        if path.suffix != ".zip":
            shutil.copy(path, tmp_path / "tables")
    zips = [argument for path in fakes(NIH).glob("*.zip") for argument in ("--raw", path)]
    assert json.loads(scanmill("check", NIH, *zips, "--raw", tmp_path / "tables", "--json").stdout) == whole


def test_two_archives_of_one_name_are_refused(fakes: Callable[[str], Path], tmp_path: Path) -> None:
    write_zip(tmp_path / ARCHIVE, [("a.png", b"1")])
    result = scanmill("check", MAMMOGRAPHY, "--raw", fakes(MAMMOGRAPHY), "--raw", tmp_path)
    assert result.exit_code == 2
    assert str(tmp_path / ARCHIVE) in said(result)
    with pytest.raises(UnusableInput, match="two archives"):
        find_archives([fakes(MAMMOGRAPHY), tmp_path])
