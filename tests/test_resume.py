"""What survives a kill, a full disk, a second caller and a dying worker: the same release, and nothing done twice."""

from __future__ import annotations

import errno
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.demo_release import write_nih_release
from tasks.waves import cluster, run_waves
from tests import deadly_work
from tests.command import COMMAND, ROOT, environment, said, scanmill, start
from tests.conftest import Prepare
from tests.release_files import files_of

NIH, IMAGES = "nih-chest-xray", 400
PATIENCE_SECONDS = 280

needs_namespaces = pytest.mark.skipif(
    not shutil.which("unshare")
    or subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode != 0,
    reason="needs unshare -rm to mount a small disk",
)


@pytest.fixture(scope="module")
def server(prefect_server: None) -> str:
    """Address of the session's Prefect server, for processes of their own."""
    from prefect.settings import PREFECT_API_URL

    return str(PREFECT_API_URL.value())


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release in eight archives, so that there are eight chunks to be interrupted between."""
    folder = tmp_path_factory.mktemp("resume") / "raw"
    write_nih_release(folder, images=IMAGES, archives=8, side=160, seed=3, with_defects=False)
    return folder


@pytest.fixture(scope="module")
def uninterrupted(raw: Path, prepare: Prepare, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The release that nobody disturbed."""
    lake = tmp_path_factory.mktemp("uninterrupted")
    return lake / NIH / "releases" / str(prepare(NIH, raw, lake)["release"])


def wait_for(process: subprocess.Popen[bytes], home: Path, pattern: str) -> None:
    """Return as soon as a file of that pattern is there; fail if the process ends before."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not any(home.glob(pattern)):
        assert process.poll() is None, f"ended with {process.returncode} before there was {pattern}"
        assert time.monotonic() < deadline, f"no {pattern} in {PATIENCE_SECONDS} s"
        time.sleep(0.002)


def kill(process: subprocess.Popen[bytes]) -> None:
    """``kill -9`` of the process and of everything that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


MOMENTS = {
    "the first chunk is written": "chunks/*.parquet",
    "the first shard is written": "releases/.staging-*/*/*/*.[tp]ar*",
    "the card is written": "releases/.staging-*/README.md",
}


def test_killed_again_and_again_it_keeps_what_is_finished_and_ends_in_the_same_release(
    raw: Path, uninterrupted: Path, server: str, tmp_path: Path
) -> None:
    """First as on a user's machine: Prefect's embedded server is killed with the rest."""
    home, log = tmp_path / "lake" / NIH, tmp_path / "log"
    arguments = ["prepare", NIH, "--raw", raw, "--lake", tmp_path / "lake", "--json"]
    kept: dict[Path, int] = {}
    for moment, pattern in MOMENTS.items():
        workers, own = (1, server) if kept else (2, None)
        process = start([*arguments, "--workers", workers], environment(tmp_path / "prefect", own), log)
        try:
            wait_for(process, home, pattern)
        finally:
            kill(process)
        assert not (home / "latest.json").exists(), moment
        assert not list(home.glob("releases/[!.]*")), moment
        assert {path: path.stat().st_mtime_ns for path in kept} == kept, moment
        kept = {path: path.stat().st_mtime_ns for path in home.glob("chunks/*.parquet")}
        (home / "chunks" / ".partial-left").write_bytes(b"half a chunk")
    answer = json.loads(scanmill(*arguments, "--workers", 0).stdout)
    assert answer["images_reused"] == len(kept) * IMAGES // 8 == IMAGES
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert not list(home.rglob(".partial-*"))
    assert [path.name for path in (home / "releases").iterdir()] == [uninterrupted.name]
    assert files_of(Path(answer["folder"])) == files_of(uninterrupted)


def test_control_c_on_a_terminal_stops_in_words_within_seconds(raw: Path, tmp_path: Path) -> None:
    arguments = ["prepare", NIH, "--raw", raw, "--lake", tmp_path / "lake", "--workers", 1]
    process = start(arguments, environment(tmp_path / "prefect"), tmp_path / "log")
    wait_for(process, tmp_path / "lake" / NIH, "chunks/*.parquet")
    os.killpg(process.pid, signal.SIGINT)
    try:
        assert process.wait(20) == 130
    finally:
        if process.poll() is None:
            kill(process)
    words = (tmp_path / "log").read_text()
    assert words.startswith("scanmill: stopped")
    assert "Traceback" not in words


def test_a_run_that_died_before_the_pointer_swap_is_completed_by_the_next(
    raw: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted.parent.parent, tmp_path / NIH)
    pointer = (tmp_path / NIH / "latest.json").read_bytes()
    (tmp_path / NIH / "latest.json").unlink()
    arguments = ("prepare", NIH, "--raw", raw, "--lake", tmp_path, "--workers", 0, "--json")
    assert json.loads(scanmill(*arguments).stdout)["is_new"] is False
    assert (tmp_path / NIH / "latest.json").read_bytes() == pointer


def one_bit(data: bytearray) -> None:
    """In the compressed pixels of an image: it can still be read."""
    data[data.index(b"IDAT") + 100] ^= 1


def a_stretch(data: bytearray, begin: int) -> None:
    """64 bytes, every bit of them."""
    data[begin : begin + 64] = bytes(value ^ 0xFF for value in data[begin : begin + 64])


DAMAGES: dict[str, Callable[[bytearray], None]] = {
    "one bit of an image": one_bit,
    "an image": lambda data: a_stretch(data, data.index(b"IDAT") + 100),
    "its beginning": lambda data: a_stretch(data, len(data) // 100),
}


def test_a_chunk_that_was_damaged_on_disk_is_named_removed_and_made_anew(
    raw: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted.parent.parent / "chunks", tmp_path / NIH / "chunks")
    arguments = ("prepare", NIH, "--raw", raw, "--lake", tmp_path, "--workers", 0)
    for what, damage in DAMAGES.items():
        chunk = max((tmp_path / NIH / "chunks").glob("*.parquet"), key=lambda path: path.stat().st_size)
        data = bytearray(chunk.read_bytes())
        damage(data)
        chunk.write_bytes(data)
        ended = scanmill(*arguments)
        assert ended.exit_code == 2, what
        assert f"{chunk.name} was damaged" in said(ended), what
        assert not chunk.exists(), what
    answer = json.loads(scanmill(*arguments, "--json").stdout)
    assert answer["images_reused"] == IMAGES * 7 // 8, "the others were made anew before"
    assert files_of(Path(answer["folder"])) == files_of(uninterrupted)


def test_a_second_run_does_nothing_and_starts_no_prefect(raw: Path, uninterrupted: Path, tmp_path: Path) -> None:
    home = uninterrupted.parent.parent
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.name != "raw-hashes.json"}
    code = (
        "import sys; from flows.cli import app\n"
        "try: app()\n"
        "finally: print(sorted({'prefect', 'great_expectations', 'distributed'} & set(sys.modules)), file=sys.stderr)"
    )
    arguments = ["prepare", NIH, "--raw", str(raw), "--lake", str(home.parent), "--json"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    answer = json.loads(done.stdout)
    assert (answer["is_new"], answer["folder"]) == (False, str(uninterrupted))
    assert done.stderr.splitlines()[-1] == "[]"
    after = {path: path.stat().st_mtime_ns for path in home.rglob("*") if path.name != "raw-hashes.json"}
    assert after == before


def test_of_two_at_once_the_second_is_refused_and_the_first_is_not_disturbed(
    raw: Path, uninterrupted: Path, server: str, tmp_path: Path
) -> None:
    shutil.copytree(uninterrupted.parent, tmp_path / "lake" / NIH / "releases")
    home = tmp_path / "lake" / NIH
    shutil.copy(uninterrupted.parent.parent / "latest.json", home)
    places = ["--raw", raw, "--lake", tmp_path / "lake", "--workers", 1, "--json"]
    first = start(["prepare", NIH, "--size", 64, *places], environment(tmp_path / "prefect", server), tmp_path / "log")
    try:
        wait_for(first, home, "chunks/*.parquet")
        os.killpg(first.pid, signal.SIGSTOP)
        (home / "chunks" / ".partial-in-flight").write_bytes(b"the first one is writing this")
        staged = set(home.glob("releases/.staging-*/.work/*"))
        assert staged
        second = scanmill("prepare", NIH, "--size", 96, *places[:-1])
        assert second.exit_code == 2
        assert "already running" in said(second)
        assert f"process {first.pid}" in second.stderr
        assert set(home.glob("releases/.staging-*/.work/*")) == staged
        assert (home / "chunks" / ".partial-in-flight").exists()
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    assert first.wait(PATIENCE_SECONDS) == 0, (tmp_path / "log").read_text()
    assert json.loads((tmp_path / "log").read_text().splitlines()[-1])["is_new"] is True


def test_a_worker_that_dies_is_replaced_and_only_the_deadly_piece_is_lost(tmp_path: Path) -> None:
    items = ["a", "once", "b", "always", "c", "d", "e"]
    ticked: list[str] = []
    with cluster(2, None) as address:
        lost = run_waves(deadly_work.work, items, address=address, tick=ticked.append, folder=str(tmp_path))
        assert [item for item, _ in lost] == ["always"]
        assert "killed its worker 4 times" in lost[0][1]
        assert sorted(ticked) == ["a", "b", "c", "d", "e", "once"]
        assert {path.stem for path in tmp_path.glob("*.done")} == set(ticked)
        with pytest.raises(ValueError, match="this item is wrong"):
            run_waves(deadly_work.work, ["f", "wrong"], address=address, folder=str(tmp_path))


SMALL_DISK = """
mount -t tmpfs -o size=2500k none "$DISK" || exit 99
{command} 0 >docs.out 2>docs.err; echo $? >docs.code
mount -o remount,size=6000k "$DISK"
{command} 1 >chunks.out 2>chunks.err; echo $? >chunks.code
ls -A "$DISK"/lake/*/ "$DISK"/lake/*/releases >chunks.listing
mount -o remount,size=100m "$DISK"
{command} 0 --json >enough.out 2>enough.err; echo $? >enough.code
cp -r "$DISK"/lake/*/releases releases
"""
"""The same command three times: room for some tables, for some chunks, and for everything."""


@needs_namespaces
def test_a_full_disk_is_one_clear_error_and_the_same_command_completes_once_there_is_room(
    raw: Path, uninterrupted: Path, server: str, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "result").mkdir()
    lake = tmp_path / "disk" / "lake"
    command = shlex.join([*COMMAND, "prepare", NIH, "--raw", str(raw), "--lake", str(lake), "--workers"])
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", SMALL_DISK.format(command=command)],
        cwd=tmp_path / "result",
        env=environment(tmp_path / "prefect", server) | {"DISK": str(tmp_path / "disk")},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    if done.returncode == 99:
        pytest.skip(f"no small disk can be mounted here: {done.stderr}")
    told = {path.name: path.read_text() for path in (tmp_path / "result").glob("*.*")}
    assert (told["chunks.code"], told["chunks.out"]) == ("2\n", "")
    assert "latest.json" not in told["chunks.listing"]
    assert uninterrupted.name not in told["chunks.listing"].split()
    assert told["enough.code"] == "0\n", told["enough.err"]
    assert 0 < json.loads(told["enough.out"])["images_reused"] <= IMAGES
    assert files_of(tmp_path / "result" / "releases" / uninterrupted.name) == files_of(uninterrupted)
    assert told["docs.code"] == "2\n"
    assert "no space left" in told["docs.err"].lower()
    lines = {moment: told[f"{moment}.err"].splitlines() for moment in ("docs", "chunks")}
    assert {moment: len(found) for moment, found in lines.items()} == {"docs": 1, "chunks": 1}
    assert [moment for moment in lines if f"no space left on the disk that holds {lake}" not in lines[moment][0]] == []


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    """A real failing write: the kernel's size limit for files of one process."""
    (tmp_path / "table").write_bytes(b"before")
    code = (
        "import resource, signal, sys; from pathlib import Path; from tasks.files import write_bytes\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_bytes(Path(sys.argv[1]), bytes(5000))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "table"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"[Errno {errno.EFBIG}]" in done.stderr
    assert (tmp_path / "table").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["table"]


def test_a_lake_that_may_not_be_written_is_one_clear_error(raw: Path, prepare: Prepare) -> None:
    lake = Path("/sys/scanmill-lake")  # not even root can make a folder there
    result = scanmill("prepare", NIH, "--raw", raw, "--lake", lake, "--workers", 0)
    assert result.exit_code == 2
    assert str(lake) in said(result)
    assert "Traceback" not in result.output
