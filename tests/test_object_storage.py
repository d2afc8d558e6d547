"""Lake and raw on object storage: the same releases as on a disk, and the same promises when something breaks."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL
from upath import UPath

from tasks.files import sha256_file, write_bytes
from tasks.locks import lock
from tasks.object_storage import put
from tasks.schema import UnusableInput
from tasks.storage import Location, copy_down, is_remote, listed, location, remove_tree
from tasks.zip_directories import MOST_END_BYTES
from tests import planted_secrets
from tests.command import environment, scanmill, start
from tests.conftest import Prepare
from tests.fakes.servers import s3

NIH = "nih-chest-xray"
REFUSED = ("503 Slow Down", b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>")


@pytest.fixture(scope="module")
def storage() -> Iterator[s3.Storage]:
    """A server of this module's own; clients of this process and of its children find it in the environment."""
    with s3.in_environment() as running:
        yield running


@pytest.fixture
def bucket(storage: s3.Storage, request: pytest.FixtureRequest) -> Iterator[UPath]:
    """An empty bucket for one test."""
    place = location(f"s3://b{abs(hash(request.node.nodeid))}")
    assert is_remote(place)
    place.fs.call_s3("create_bucket", Bucket=place.path.strip("/"))
    storage.forget()
    yield place
    storage.before = lambda method, path: None
    remove_tree(place)


def uploaded(folder: Path, place: UPath) -> UPath:
    """A raw release, put on object storage."""
    for file in listed(folder):
        put(place / file.name, file.path.read_bytes())
    return place


def bytes_of(release: Location) -> dict[str, str]:
    """Name to SHA-256 of every file that has to be the same whenever and wherever a release is made."""
    volatile = ("quality/run.json", "quality/changes.html")
    names = {file.name: file.path for file in listed(release) if not file.name.startswith("quality/data_docs/")}
    return {name: sha256_file(path) for name, path in names.items() if name not in volatile}


def test_every_dataset_makes_the_same_release(
    dataset_name: str, fakes: Callable[[str], Path], release: Path, prepare: Prepare, bucket: UPath
) -> None:
    raw = uploaded(fakes(dataset_name), bucket / "raw")
    outcome = prepare(dataset_name, raw, bucket / "lake")
    assert outcome["release"] == release.name
    lake = bucket / "lake" / dataset_name
    assert bytes_of(lake / "releases" / release.name) == bytes_of(release)
    assert {file.name.split("/")[0] for file in listed(lake)} == {"latest.json", "releases", "chunks"}


def test_the_command_reads_zips_by_range_with_workers_and_knows_what_is_done(
    storage: s3.Storage, bucket: UPath, flawless_nih: Path, flawless_release: Path, tmp_path: Path
) -> None:
    raw, lake = uploaded(flawless_nih, bucket / "raw"), bucket / "lake"
    storage.forget()
    first = json_of("prepare", NIH, "--raw", raw, "--lake", lake, "--workers", "2")
    assert first["release"] == flawless_release.name
    for zipped in (file for file in listed(raw) if file.name.endswith(".zip")):
        read = storage.sent[str(zipped.path).removeprefix("s3:/")]
        most = zipped.size_bytes * 1.5 + MOST_END_BYTES
        assert zipped.size_bytes * 0.9 < read < most, "each byte is read about once, and the end twice"
    assert json_of("verify", lake / NIH)["ok"]
    storage.forget()
    again = json_of("prepare", NIH, "--raw", raw, "--lake", lake)
    assert (again["release"], again["is_new"]) == (first["release"], False)
    assert {method for method, _ in storage.requests} <= {"GET", "HEAD"}
    assert sum(storage.sent[path] for path in storage.sent if path.endswith(".zip")) < sum(
        file.size_bytes for file in listed(raw)
    )
    copy_down(lake, tmp_path)
    assert (tmp_path / NIH / "latest.json").is_file()
    assert list(planted_secrets.leaks(tmp_path, s3.SECRETS)) == []


def json_of(*arguments: Any) -> dict[str, Any]:
    """What a command prints with ``--json``."""
    return dict(json.loads(scanmill(*arguments, "--json").stdout))


def test_killed_before_the_pointer_the_old_release_stays_and_nothing_is_lost(
    storage: s3.Storage,
    bucket: UPath,
    copy: Path,
    flawless_release: Path,
    prepare: Prepare,
    tmp_path: Path,
) -> None:
    """Twice: before the manifest makes the new release whole, and before the pointer names it."""
    lake = bucket / "lake"
    old = prepare(NIH, copy, lake)["release"]
    assert old == flawless_release.name
    (copy / "images_003.zip").unlink()
    options = ["prepare", NIH, "--raw", copy, "--lake", lake, "--workers", "0", "--allow-missing", "1"]
    running: list[subprocess.Popen[bytes]] = []
    for name in ("manifest.json", "latest.json"):

        def kill(method: str, path: str, last: str = f"/{name}") -> s3.Answer | None:
            if method == "PUT" and path.endswith(last) and running:
                running[-1].kill()
                return "500 Killed", b""
            return None

        running.clear()
        storage.before = kill
        running.append(start(options, environment(tmp_path, PREFECT_API_URL.value()), tmp_path / "output.txt"))
        running[0].wait(timeout=120)
        assert running[0].returncode == -signal.SIGKILL, name
        storage.before = lambda method, path: None
        assert json.loads((lake / NIH / "latest.json").read_bytes())["release"] == old, name
        assert json_of("verify", lake / NIH)["ok"], name
    new = json_of(*options)
    assert new["release"] != old
    assert json_of("verify", lake / NIH)["release"] == new["release"]
    releases = {file.name.split("/")[0] for file in listed(lake / NIH / "releases")}
    assert releases == {old, new["release"]}
    assert not list(listed(lake / NIH / ".work"))
    assert (tmp_path / "output.txt").is_file()
    assert list(planted_secrets.leaks(tmp_path, s3.SECRETS)) == []


def test_shards_of_an_earlier_release_are_copied_by_the_storage(
    storage: s3.Storage, bucket: UPath, copy: Path, prepare: Prepare
) -> None:
    lake = bucket / "lake"
    last = (copy / "images_003.zip").rename(copy.parent / "images_003.zip")
    first = prepare(NIH, copy, lake, allow_missing=1)
    last.rename(copy / last.name)
    storage.forget()
    second = prepare(NIH, copy, lake, allow_missing=1)
    assert second["linked"] > 0
    read = [path for path in storage.sent if f"/{first['release']}/webdataset" in path or "/parquet/" in path]
    assert not [path for path in read if first["release"] in path]
    assert json_of("verify", lake / NIH)["ok"]


def test_a_damaged_shard_is_named_and_made_anew(bucket: UPath, copy: Path, prepare: Prepare) -> None:
    lake = bucket / "lake"
    release = lake / NIH / "releases" / prepare(NIH, copy, lake)["release"]
    shard = next(file.path for file in listed(release / "parquet"))
    whole = shard.read_bytes()
    write_bytes(shard, whole[:-1] + b"\0")
    problems = json_of("verify", lake / NIH)["problems"]
    assert [problem.split(": ")[0] for problem in problems] == [str(shard).removeprefix(f"{release}/")]
    write_bytes(shard, whole[:-1])
    assert prepare(NIH, copy, lake)["is_new"]
    assert shard.read_bytes() == whole


def test_a_refused_release_leaves_its_report_and_no_release(bucket: UPath, copy: Path, prepare: Prepare) -> None:
    (copy / "images_003.zip").unlink()
    lake = bucket / "lake"
    refused = scanmill("prepare", NIH, "--raw", copy, "--lake", lake, "--workers", "0")
    assert refused.exit_code == 1
    page = refused.stderr.strip().rpartition("report: ")[2]
    assert page.startswith(f"{lake}/{NIH}/refused/")
    assert b"<html" in location(page).read_bytes()
    assert {file.name.split("/")[0] for file in listed(lake / NIH)} == {"chunks", "refused"}


def test_a_storage_that_is_busy_is_asked_again(
    storage: s3.Storage, bucket: UPath, copy: Path, prepare: Prepare, flawless_release: Path
) -> None:
    asked: dict[tuple[str, str], int] = {}

    def busy(method: str, path: str) -> s3.Answer | None:
        asked[method, path] = asked.get((method, path), 0) + 1
        return REFUSED if method == "PUT" and asked[method, path] == 1 and len(asked) % 3 == 0 else None

    storage.before = busy
    assert prepare(NIH, copy, bucket / "lake")["release"] == flawless_release.name
    storage.before = lambda method, path: None
    assert json_of("verify", bucket / "lake" / NIH)["ok"]


def test_an_archive_replaced_during_the_run_is_noticed(
    storage: s3.Storage, bucket: UPath, copy: Path, prepare: Prepare
) -> None:
    raw = uploaded(copy, bucket / "raw")
    other = (copy / "images_002.zip").read_bytes()
    replaced = threading.Event()

    def replace(method: str, path: str) -> None:
        if method == "PUT" and "/chunks/" in path and path.endswith(".parquet") and not replaced.is_set():
            replaced.set()
            raw.fs.call_s3("put_object", Bucket=raw.path.split("/")[0], Key="raw/images_003.zip", Body=other)

    storage.before = replace
    with pytest.raises(UnusableInput, match=r"images_003.zip changed in raw while the release was made"):
        prepare(NIH, raw, bucket / "lake")
    assert replaced.is_set()
    assert not (bucket / "lake" / NIH / "latest.json").exists()


def test_one_run_of_a_dataset_at_a_time_and_a_dead_ones_lease_ends(
    bucket: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = bucket / "lake" / NIH / ".lock"
    with lock(place, purpose="a prepare") as held:
        held.insist()
        with (
            pytest.raises(UnusableInput, match=r"a prepare is already running \(process \d+ on .*\)"),
            lock(place, purpose="a prepare"),
        ):
            pass
    assert not place.exists()
    put(place, json.dumps({"token": "x", "host": "another-host", "process": 1}).encode())
    with pytest.raises(UnusableInput, match="on another-host"), lock(place, purpose="a prepare"):
        pass
    monkeypatch.setattr("tasks.locks.LEASE_SECONDS", 1)
    time.sleep(2.1)  # the storage tells whole seconds
    with lock(place, purpose="a prepare") as held:
        held.insist()


def test_a_lease_is_renewed_and_a_lost_one_publishes_nothing(bucket: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.locks.RENEWAL_SECONDS", 0.2)
    place = bucket / ".lock"
    with lock(place, purpose="a prepare") as held:
        before = place.fs.info(place.path)["LastModified"]
        time.sleep(1.5)
        assert place.fs.info(place.path)["LastModified"] > before
        held.insist()
        put(place, b'{"token": "of another run"}')
        time.sleep(1)
        with pytest.raises(UnusableInput, match="may be another run's by now"):
            held.insist()
    assert place.read_bytes() == b'{"token": "of another run"}'


def test_what_cannot_be_used_is_said_in_one_line(bucket: UPath, copy: Path) -> None:
    cases = {
        "gs://bucket/lake": "give a path, or s3://bucket/prefix",
        "s3://no-such-bucket/lake": "there is no bucket no-such-bucket",
    }
    for lake, said in cases.items():
        ended = scanmill("prepare", NIH, "--raw", copy, "--lake", lake)
        assert ended.exit_code == 2
        assert said in ended.stderr
        assert ended.stderr.count("\n") == 1
