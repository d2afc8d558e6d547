"""``scanmill doctor`` finds what a run would fail of, says what to do about it, and shows no secret."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import LocalCluster

from tests.command import scanmill


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port of this machine at which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def examined(*arguments: object) -> tuple[int, dict[str, dict[str, Any]]]:
    result = scanmill("doctor", "--json", *arguments)
    (line,) = result.stdout.splitlines()
    found = {one["what"]: one for one in json.loads(line)["found"]}
    assert json.loads(line)["ok"] is (result.exit_code == 0)
    return result.exit_code, found


def test_a_sound_machine_is_sound_and_its_secrets_stay_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setenv("SCANMILL_BEHSOF_PASSWORD", "open sesame")
    code, found = examined("--lake", tmp_path / "later" / "lake")
    assert code == 0, found
    assert found["SCANMILL_BEHSOF_PASSWORD"]["seen"] == "set: of behsof"
    assert "it will be made" in found["lake"]["seen"]
    assert not (tmp_path / "later").exists()
    assert "open sesame" not in scanmill("doctor").output


def test_what_does_not_answer_or_cannot_be_written_is_wrong_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nobody: int
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{nobody}/api")
    monkeypatch.setattr("tasks.clusters.CONNECT_SECONDS", 0.5)
    code, found = examined("--lake", "/proc/lake", "--dask", f"tcp://127.0.0.1:{nobody}")
    assert code == 1
    wrong = {what for what, one in found.items() if one["status"] == "wrong"}
    assert wrong == {"Prefect", "Dask", "lake"}
    assert all(found[what]["remedy"] for what in wrong)
    assert "→ prefect server start" in scanmill("doctor").stdout


def test_workers_of_a_scheduler_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as local:  # type: ignore[no-untyped-call]
        code, found = examined("--dask", local.scheduler_address)
    assert (code, found["Dask"]["seen"]) == (0, f"{local.scheduler_address} answers, 1 worker")
