"""Fetching into a lake on object storage: as whole, as resumable and as cheap as into one on a disk."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from upath import UPath

from tasks import object_storage
from tasks.files import sha256_file
from tasks.object_storage import put, stored_sha256
from tasks.schema import UnusableInput
from tasks.sources.fetching import fetch, nothing_new
from tasks.sources.remote_release import read_file_list
from tasks.sources.web import Unfetchable
from tasks.storage import Location, is_remote, listed, location, remove
from tests.command import ROOT, scanmill
from tests.fakes import behsof
from tests.fakes.servers.figshare import FakeFigshare
from tests.fakes.servers.s3 import BUCKET, Storage, serve
from tests.remote_releases import ARTICLE, QUICK, bytes_sent, on_figshare, paths, some_bytes

FOLDER = f"figshare/{ARTICLE}"
DATA = some_bytes(400_000)
ODD = {"50% #1?.csv": b"odd", "50% #1x.csv": b"even", "[a].csv": b"bracket"}
"""Names that mean something else to those who match patterns."""


def on_storage(place: str) -> UPath:
    """A folder in the bucket."""
    found = location(f"s3://{BUCKET}/{place}")
    assert is_remote(found)
    return found


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    import s3fs

    with pytest.MonkeyPatch.context() as patch, serve() as running:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        patch.setenv("SCANMILL_SCRATCH", str(tmp_path_factory.mktemp("scratch")))
        s3fs.S3FileSystem.clear_instance_cache()
        on_storage("").fs.call_s3("create_bucket", Bucket=BUCKET)
        yield running
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def storage(server: Storage) -> Iterator[Storage]:
    server.forget()
    yield server
    server.before = lambda method, path: None


@pytest.fixture
def raw(storage: Storage, tmp_path: Path) -> UPath:
    """A raw folder of this test's own; the space in it is meant."""
    return on_storage(f"lakes of {tmp_path.name}/raw")


@pytest.fixture
def figshare() -> Iterator[FakeFigshare]:
    with FakeFigshare() as server:
        server.publish(ARTICLE, {"a.bin": DATA, "b.bin": b"b"})
        yield server


def held(folder: Location) -> dict[str, bytes]:
    return {file.name: file.path.read_bytes() for file in listed(folder)}


def journal(raw: UPath) -> list[dict[str, object]]:
    """All events, by path."""
    events = [json.loads(line) for line in (raw / "fetched.jsonl").read_bytes().splitlines()]
    return sorted(events, key=lambda event: str(event["path"]))


def scratch() -> list[Path]:
    """Whatever is left where files gather."""
    return [path for path in Path(os.environ["SCANMILL_SCRATCH"]).rglob("*") if path.is_file()]


def asked(storage: Storage, method: str, part: str = "") -> list[str]:
    return [path for verb, path in storage.requests if verb == method and part in path]


def uploads() -> list[object]:
    """In parts, begun and neither completed nor given up; they are paid for."""
    answer = on_storage("").fs.call_s3("list_multipart_uploads", Bucket=BUCKET)
    return list(answer.get("Uploads") or [])


# Whole, and once


def test_what_arrives_is_verified_recorded_and_looked_at_cheaply(
    figshare: FakeFigshare, storage: Storage, raw: UPath
) -> None:
    wanted = on_figshare(figshare)
    assert nothing_new(wanted, raw, {}) is None
    assert figshare.requests == ()
    first = fetch(wanted, raw, {})
    assert first.folder == f"{raw}/{FOLDER}"
    assert (first.added, first.size_bytes) == (("a.bin", "b.bin"), len(DATA) + 1)
    assert held(raw / FOLDER) == {"a.bin": DATA, "b.bin": b"b"}
    assert [(event["path"], event["bytes"], event["verified_by"]) for event in journal(raw)] == [
        (f"{FOLDER}/a.bin", len(DATA), "md5"),
        (f"{FOLDER}/b.bin", 1, "md5"),
    ]
    digest = hashlib.sha256(DATA).hexdigest()
    assert journal(raw)[0]["sha256"] == digest == stored_sha256(raw / FOLDER / "a.bin")
    assert len(asked(storage, "PUT", "a.bin")) == 1
    assert scratch() == []

    figshare.forget_requests()
    storage.forget()
    again = nothing_new(wanted, raw, {})
    assert again is not None
    assert (again.is_new, again.folder, again.unchanged) == (False, first.folder, 2)
    assert len(figshare.requests) == 1
    assert [method for method, _ in storage.requests] == ["HEAD", "GET"] * 2 + ["GET"]  # both records, one listing
    storage.forget()
    assert not fetch(wanted, raw, {}).is_new
    assert not asked(storage, "PUT", ".bin")
    assert not asked(storage, "PUT", "fetched.jsonl")
    assert scratch() == []


@pytest.mark.parametrize("harm", ["deleted", "shortened", "damaged"])
def test_what_is_harmed_there_is_fetched_again(figshare: FakeFigshare, raw: UPath, harm: str) -> None:
    fetch(on_figshare(figshare), raw, {})
    path = raw / FOLDER / "b.bin"
    remove(path)
    if harm != "deleted":
        put(path, b"" if harm == "shortened" else b"?")
    assert (nothing_new(on_figshare(figshare), raw, {}) is None) == (harm != "damaged")
    assert fetch(on_figshare(figshare), raw, {}, rehash=harm == "damaged").changed == ("b.bin",)
    assert path.read_bytes() == b"b"


def test_a_new_version_costs_what_is_new_and_keeps_what_was(
    figshare: FakeFigshare, storage: Storage, raw: UPath
) -> None:
    many = {f"{n}.csv": b"%d" % n for n in range(40)}
    figshare.publish(ARTICLE, {**ODD, **many})
    fetch(on_figshare(figshare), raw, {})
    assert held(raw / FOLDER) == {**ODD, **many}
    # Of 43 files the journal was written now and then, not for each.
    assert len(asked(storage, "PUT", "fetched.jsonl")) <= 3
    assert len(journal(raw)) == 43
    new = {**ODD, **many, "3.csv": b"new"}
    del new["50% #1?.csv"]
    figshare.publish(ARTICLE, new)
    storage.forget()
    figshare.forget_requests()
    fetched = fetch(on_figshare(figshare), raw, {})
    assert not asked(storage, "GET", ".csv")  # put aside by a copy that storage makes, under a hash that it keeps
    assert (fetched.added, fetched.changed, fetched.removed) == ((), ("3.csv",), ("50% #1?.csv",))
    assert held(raw / FOLDER) == new
    aside = {
        hashlib.sha256(data).hexdigest()[:16] + name: data
        for name, data in (("-3.csv", b"3"), ("-50% #1?.csv", b"odd"))
    }
    assert held(raw / "superseded") == aside
    assert len(paths(figshare, "/file/download/")) == 1


# Broken off

SCRIPT = """
import sys
from tasks.sources.fetching import fetch
from tasks.storage import location
from tests.remote_releases import ARTICLE, on_figshare
fetch(on_figshare(type("Host", (), {"api": sys.argv[1]})), location(sys.argv[2]), {})
"""


def test_a_killed_process_loses_nothing_and_leaves_nothing_half_there(figshare: FakeFigshare, raw: UPath) -> None:
    big = some_bytes(3_000_000)
    figshare.publish(ARTICLE, {"a.bin": b"a", "z.bin": big})
    figshare.delay = 0.15
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, figshare.api, str(raw)], cwd=ROOT, stderr=subprocess.PIPE)
    while bytes_sent(figshare, "/s3/") < 3 * 65536:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert [file.name for file in listed(raw / FOLDER)] == ["a.bin"]
    figshare.delay = 0.0
    fetched = fetch(on_figshare(figshare), raw, {})
    assert (fetched.added, fetched.unchanged) == (("z.bin",), 1)
    assert sha256_file(raw / FOLDER / "z.bin") == hashlib.sha256(big).hexdigest()
    assert [event["path"] for event in journal(raw)] == [f"{FOLDER}/a.bin", f"{FOLDER}/z.bin"]
    assert bytes_sent(figshare, "/s3/") <= len(big) + 1 + 2 * 65536  # but for a piece that was on its way, once
    assert scratch() == []
    assert uploads() == []


@pytest.mark.parametrize(("is_silent", "downloads"), [(False, 0), (True, 2)])
def test_what_arrived_without_being_noted_is_known_by_its_digest(
    figshare: FakeFigshare, storage: Storage, raw: UPath, is_silent: bool, downloads: int
) -> None:
    fetch(on_figshare(figshare), raw, {})
    remove(raw / "fetched.jsonl")
    remove(raw / "source.json")
    figshare.forget_requests()
    storage.forget()
    figshare.without_md5 = is_silent  # then nothing tells whether it is the publisher's
    assert fetch(on_figshare(figshare), raw, {}).added == ("a.bin", "b.bin")
    assert len(paths(figshare, "/file/download/")) == downloads
    assert not asked(storage, "GET", ".bin")
    assert next(event["sha256"] for event in journal(raw)) == hashlib.sha256(DATA).hexdigest()


def test_what_another_tool_put_there_is_read_and_kept(figshare: FakeFigshare, storage: Storage, raw: UPath) -> None:
    place = {"Bucket": BUCKET, "Key": (raw / FOLDER / "a.bin").path.partition("/")[2]}
    raw.fs.call_s3("put_object", **place, Body=DATA)
    put(raw / FOLDER / "b.bin", b"?")
    fetch(on_figshare(figshare), raw, {})
    assert len(paths(figshare, "/file/download/")) == 1
    assert held(raw / FOLDER) == {"a.bin": DATA, "b.bin": b"b"}
    assert [*held(raw / "superseded").values()] == [b"?"]


def test_notes_are_kept_when_a_later_file_fails(figshare: FakeFigshare, raw: UPath) -> None:
    figshare.publish(ARTICLE, {f"{n}.bin": b"%d" % n for n in range(6)})
    figshare.corrupt(ARTICLE, "5.bin")
    with pytest.raises(Unfetchable, match=r"5\.bin arrived with MD5"):
        fetch(on_figshare(figshare), raw, {})
    assert len(journal(raw)) == 5


def test_storage_that_asks_for_patience_gets_it_and_the_whole_file(
    figshare: FakeFigshare, storage: Storage, raw: UPath
) -> None:
    slow = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
    left = {"PUT": 2, "GET": 1, "HEAD": 1}

    def sometimes(method: str, path: str) -> tuple[str, bytes] | None:
        if left.get(method) and ".lock" not in path:
            left[method] -= 1
            return "503 Slow Down", slow if method != "HEAD" else b""
        return None

    storage.before = sometimes
    fetch(on_figshare(figshare), raw, {})
    assert left == {"PUT": 0, "GET": 0, "HEAD": 0}
    assert held(raw / FOLDER) == {"a.bin": DATA, "b.bin": b"b"}


# Large, and little room


def test_a_file_beyond_one_request_is_put_in_parts_which_never_stay_behind(
    figshare: FakeFigshare, storage: Storage, raw: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_storage, "SINGLE_PUT_BYTES", 6_000_000)
    monkeypatch.setattr(object_storage, "PART_BYTES", 5 * 2**20)
    big = some_bytes(11_000_000)
    figshare.publish(ARTICLE, {"z.bin": big})
    storage.before = lambda method, path: ("403 Forbidden", b"") if method == "PUT" and "z.bin" in path else None
    with pytest.raises(UnusableInput, match=r"z\.bin cannot be changed.*same command"):
        fetch(on_figshare(figshare), raw, {})
    assert uploads() == []
    storage.before = lambda method, path: None
    # What a killed process left is given up by the next run.
    key = (raw / FOLDER / "z.bin").path.partition("/")[2]
    raw.fs.call_s3("create_multipart_upload", Bucket=BUCKET, Key=key)
    storage.forget()
    fetch(on_figshare(figshare), raw, {})
    assert len(asked(storage, "PUT", "z.bin")) == 3
    assert sha256_file(raw / FOLDER / "z.bin") == hashlib.sha256(big).hexdigest()
    assert uploads() == []
    assert bytes_sent(figshare, "/s3/") == len(big)  # the one that was refused by storage was still here


def test_room_is_needed_for_what_gathers_at_once_only(
    figshare: FakeFigshare, raw: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    figshare.publish(ARTICLE, {f"{n}.bin": some_bytes(100_000 + n) for n in range(6)})
    needed = 2 * 100_000 + 4 + 5
    wanted = on_figshare(figshare, replace(QUICK, at_once=2))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * 2**20 + needed - 1))
    with pytest.raises(UnusableInput, match=r"gather at once.*SCANMILL_SCRATCH"):
        fetch(wanted, raw, {})
    assert paths(figshare, "/file/download/") == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * 2**20 + needed))
    assert len(fetch(wanted, raw, {}).added) == 6


def test_a_list_of_addresses_may_be_there_too(raw: UPath) -> None:
    lines = raw / "files.txt"
    put(lines, b"https://host.example/a.zip\r\n")
    assert [source.name for source in read_file_list(lines)] == ["a.zip"]
    with pytest.raises(UnusableInput, match=r"none\.txt cannot be read: No such file"):
        read_file_list(raw / "none.txt")


# The whole line


@pytest.mark.usefixtures("prefect_server")
def test_livers_from_figshare_to_a_verified_release_on_storage(
    storage: Storage, tmp_path: Path, figshare: FakeFigshare
) -> None:
    behsof.write(tmp_path / "behsof", images=115, defects=False)
    figshare.publish(26389069, {path.name: path.read_bytes() for path in (tmp_path / "behsof").iterdir()})
    lake = f"s3://{BUCKET}/whole"
    command = ["behsof", "--lake", lake, "--source-url", figshare.api]
    result = scanmill("prepare", *command, "--workers", 0, "--json")
    assert result.exit_code == 0, result.stderr + result.stdout
    assert json.loads(result.stdout)["fetched"]["folder"] == f"{lake}/behsof/raw/figshare/26389069"
    verified = scanmill("verify", f"{lake}/behsof")
    assert verified.exit_code == 0, verified.stderr
    assert "115 samples" in verified.stdout
    figshare.forget_requests()
    again = scanmill("prepare", *command, "--workers", 0, "--json")
    assert json.loads(again.stdout)["is_new"] is False
    assert len(figshare.requests) == 1
    assert uploads() == []
