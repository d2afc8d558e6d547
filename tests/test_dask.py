"""Dask anywhere: hosts that die, a scheduler that dies, images that kill; the same bytes, and nothing lost."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest

from tasks import clusters, steps, waves
from tasks.clusters import NoWorkers, SchedulerLost, insist_on_cluster
from tasks.pieces import OtherCode
from tasks.schema import DataRefused, UnusableInput
from tasks.stages import conversion
from tasks.waves import cluster, run_waves
from tests import deadly_work
from tests.command import ROOT, said, scanmill
from tests.conftest import Prepare
from tests.dask_hosts import Hosts, can_make_networks, network_of_hosts
from tests.release_files import files_of

NIH = "nih-chest-xray"
PATIENCE_SECONDS = 60


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """A scheduler on loopback; workers as the test likes."""
    (tmp_path / "dask").mkdir()
    started = Hosts(tmp_path / "dask")
    try:
        started.scheduler()
        yield started
    finally:
        started.close()


def when_there(files: Callable[[], bool], act: Callable[[], object]) -> threading.Thread:
    """Do something, in a thread of its own, as soon as a condition holds."""

    def watch() -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not files():
            if time.monotonic() > deadline:
                return
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_three_hosts_make_the_bytes_of_one_and_so_they_do_when_one_is_killed_in_mid_chunk(
    flawless_nih: Path, flawless_release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dask").mkdir()
    with network_of_hosts() if can_make_networks() else nullcontext() as network:
        three = Hosts(tmp_path / "dask", network)
        try:
            three.scheduler()
            for _ in range(3):
                three.worker()
            prepare = ["prepare", NIH, "--raw", flawless_nih, "--dask", three.address, "--json", "--lake"]
            answer = json.loads(scanmill(*prepare, tmp_path / "whole" / "lake").stdout)
            assert files_of(Path(answer["folder"])) == files_of(flawless_release)

            monkeypatch.setattr(conversion, "convert_chunk", deadly_work.convert_and_wait_to_be_killed)
            victim = tmp_path / "killed" / "victim"
            watcher = when_there(
                lambda: victim.is_file() and victim.read_text().endswith("\n"),
                lambda: os.killpg(os.getpgid(int(victim.read_text())), signal.SIGKILL),
            )
            (tmp_path / "killed").mkdir()
            answer = json.loads(scanmill(*prepare, tmp_path / "killed" / "lake").stdout)
            watcher.join()
            assert files_of(Path(answer["folder"])) == files_of(flawless_release)
            with pytest.raises(ProcessLookupError):
                os.kill(int(victim.read_text()), 0)
        finally:
            three.close()


def test_a_killed_scheduler_is_one_clear_error_and_nothing_is_done_twice(
    hosts: Hosts,
    flawless_nih: Path,
    flawless_release: Path,
    prefect_server: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed twice in mid-chunk: once for good, once to come back while the stage waits to be tried again."""
    monkeypatch.setattr(conversion, "convert_chunk", deadly_work.convert_and_wait_to_be_killed)
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 2)
    monkeypatch.setattr(steps, "convert", steps.convert.with_options(retries=2, retry_delay_seconds=2))
    arguments = ["prepare", NIH, "--raw", flawless_nih, "--dask", hosts.address, "--lake", tmp_path / "lake"]
    chunks = tmp_path / "lake" / NIH / "chunks"

    scheduler = hosts.scheduler_host
    for _ in range(2):
        hosts.worker()
    watcher = when_there(lambda: len(list(chunks.glob("*.parquet"))) == 2, scheduler.kill)
    result = scanmill(*arguments)
    watcher.join()
    assert result.exit_code == 2
    assert hosts.address in said(result)
    assert "the same command goes on" in result.stderr
    assert len(result.stderr.splitlines()) == 1

    kept = {path: path.stat().st_mtime_ns for path in chunks.glob("*.parquet")}
    (tmp_path / "victim").unlink()

    def kill_and_start_again() -> None:
        second.kill()
        hosts.scheduler()
        hosts.worker()

    second = hosts.scheduler()
    hosts.worker()
    watcher = when_there((tmp_path / "victim").is_file, kill_and_start_again)
    answer = json.loads(scanmill(*arguments, "--json").stdout)
    watcher.join()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert files_of(Path(answer["folder"])) == files_of(flawless_release)


def test_without_workers_it_waits_for_one_says_so_and_gives_up_in_words(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clusters, "WAIT_FOR_WORKERS_SECONDS", 3)
    with pytest.raises(NoWorkers, match=f"{hosts.address} has had no worker for .* the same command goes on"):
        run_waves(deadly_work.nap, [1], address=hosts.address, folder=str(tmp_path))
    assert [record.message for record in caplog.records if record.name == "scanmill.waves"] == [
        f"waiting up to 3 s for a Dask worker at {hosts.address}"
    ]
    monkeypatch.setattr(clusters, "WAIT_FOR_WORKERS_SECONDS", PATIENCE_SECONDS)
    watcher = threading.Timer(1, hosts.worker)
    watcher.start()
    assert run_waves(deadly_work.nap, [1], address=hosts.address, folder=str(tmp_path)) == []
    watcher.join()
    assert [path.name.split("-")[0] for path in tmp_path.glob("1-*")] == ["1"]


def test_a_worker_with_other_code_does_no_piece_whenever_it_joins(hosts: Hosts, tmp_path: Path) -> None:
    for name in ("tasks", "expectations"):
        shutil.copytree(ROOT / name, tmp_path / "other" / name, ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "other" / "tasks" / "images.py").open("a") as stream:
        stream.write("# another version\n")
    watcher = threading.Timer(1, hosts.worker, [tmp_path / "other"])
    watcher.start()
    with pytest.raises(OtherCode, match=r"the Dask worker tcp://.* has scanmill \(sources\) .* instead of"):
        run_waves(deadly_work.nap, [1, 2], address=hosts.address, folder=str(tmp_path))
    watcher.join()
    assert not list(tmp_path.glob("[12]-*"))
    with pytest.raises(UnusableInput, match=r"the Dask worker tcp://.* has scanmill \(sources\) .* instead of"):
        insist_on_cluster(hosts.address, with_report=False)


def test_an_adaptive_cluster_grows_from_nothing_and_its_new_workers_are_used(tmp_path: Path) -> None:
    from distributed import LocalCluster

    with LocalCluster(  # type: ignore[no-untyped-call]
        n_workers=0, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50
    ) as local:
        local.adapt(minimum=0, maximum=3, interval="250ms")
        items = range(40)
        assert run_waves(deadly_work.nap, items, address=local.scheduler_address, folder=str(tmp_path)) == []
    done = [path.name.split("-") for path in tmp_path.iterdir()]
    assert sorted(int(item) for item, _ in done) == list(items)
    assert len({process for _, process in done}) > 1


def test_an_image_that_kills_its_worker_costs_itself_alone_and_gets_another_chance_in_the_next_run(
    flawless_nih: Path, flawless_release: Path, prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two in one archive; as one of a hundred may be missing, the gate says no."""
    monkeypatch.setattr(waves, "DEATHS", 1)
    ids = pd.read_parquet(flawless_release / "samples.parquet", columns=["archive", "member"]).sort_values("member")
    guilty = sorted(ids[ids["archive"] == ids["archive"].iloc[0]]["member"].iloc[[3, -2]])
    (tmp_path / "deadly").write_text("\n".join(guilty))
    with monkeypatch.context() as patched:
        patched.setattr(conversion, "convert_chunk", deadly_work.convert_or_die)
        with pytest.raises(DataRefused):
            prepare(NIH, flawless_nih, tmp_path / "lake", workers=2)
    home = tmp_path / "lake" / NIH
    lost = pd.read_parquet(next((home / "refused").glob("*/quarantine.parquet")))
    lost = lost[lost["reason"] == "worker-lost"]
    assert sorted(lost["member"]) == guilty
    assert set(lost["detail"]) == {"killed its worker 1 times, alone as well"}

    answer = prepare(NIH, flawless_nih, tmp_path / "lake", workers=0)
    assert answer["reused"] == answer["images"] - len(guilty)
    assert files_of(home / "releases" / answer["release"]) == files_of(flawless_release)
    assert chunk_files(home) == chunk_files(flawless_release.parent.parent)


def chunk_files(home: Path) -> dict[str, bytes]:
    """The bytes of every chunk, by name."""
    return {path.name: path.read_bytes() for path in home.glob("chunks/*.parquet")}


def test_where_half_of_a_piece_is_deadly_the_other_half_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waves, "DEATHS", 1)
    items = [("a", "b"), ("c", "D", "E", "f")]
    with cluster(2, None) as address:
        lost = run_waves(
            deadly_work.die_of,
            items,
            address=address,
            cut=lambda names: [names[:2], names[2:]] if len(names) > 2 else [(n,) for n in names if len(names) > 1],
            folder=str(tmp_path),
        )
    assert lost == [
        (("D",), "killed its worker 1 times, alone as well"),
        (("E",), "killed its worker 1 times, alone as well"),
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "f"]


def test_what_a_worker_logs_reaches_the_same_logger_here(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "scanmill.convert")
    with cluster(1, None) as address:
        run_waves(deadly_work.speak, ["images_001.zip"], address=address)
    [record] = [record for record in caplog.records if record.process != os.getpid()]
    assert (record.name, record.levelname, record.message) == ("scanmill.convert", "INFO", "images_001.zip is odd")
    assert vars(record)["worker"].startswith("tcp://127.0.0.1:")


def test_performance_reports_are_kept_with_the_run_and_are_no_part_of_the_release(
    flawless_nih: Path, flawless_release: Path, prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["prepare", NIH, "--raw", flawless_nih, "--lake", tmp_path, "--performance-report", "--workers"]
    refused = scanmill(*arguments, 0)
    assert (refused.exit_code, "--workers 0 works without Dask" in said(refused)) == (2, True)
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "bokeh", None)
        refused = scanmill(*arguments, 1)
        assert (refused.exit_code, "needs bokeh" in said(refused)) == (2, True)
    assert not (tmp_path / NIH).exists()
    folder = Path(json.loads(scanmill(*arguments, 1, "--json").stdout)["folder"])
    for stage in ("convert", "assemble"):
        assert "bokeh" in (folder / "quality" / f"dask-{stage}.html").read_text().lower()
    assert files_of(folder) == files_of(flawless_release)
    assert scanmill("verify", tmp_path / NIH).exit_code == 0


def test_an_address_where_no_scheduler_is_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "CONNECT_SECONDS", 1)
    with pytest.raises(UnusableInput, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9 "):
        insist_on_cluster("tcp://127.0.0.1:9", with_report=False)
    with pytest.raises(SchedulerLost, match="the same command goes on"):
        run_waves(deadly_work.nap, [1], address="tcp://127.0.0.1:9", folder=str(tmp_path))
