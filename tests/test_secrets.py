"""Secrets stay where they were given; what a whole run leaves behind is searched in test_fetched_releases.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.datasets import find
from tasks.schema import UnusableInput
from tasks.sources.remote_release import RemoteRelease, read_file_list
from tests import planted_secrets
from tests.command import scanmill

TOKEN = "sv=2024&sig=Tm90QVJlYWxLZXk"

LISTS = {
    "a query": f"https://host.example/?{TOKEN}",
    "a third word": f"one two https://host.example/a.zip?{TOKEN}",
    "another scheme": f"ftp://host.example/a.zip?{TOKEN}",
    "user and password": "https://somebody:Tm90QVJlYWxLZXk@host.example/a.zip",
    "no address": f"https://[host.example/a.zip?{TOKEN}",
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_list_of_addresses_that_is_refused_shows_no_key(kind: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(LISTS[kind])
    with pytest.raises(UnusableInput) as refused:
        read_file_list(tmp_path / "list.txt")
    assert "line 1" in str(refused.value)
    assert "Tm90QVJlYWxLZXk" not in str(refused.value)


@pytest.mark.parametrize("address", ["https://me:Tm90QVJlYWxLZXk@mirror.example", f"https://mirror.example?{TOKEN}"])
def test_a_mirror_with_a_key_in_its_address_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match="password or a key") as refused:
        RemoteRelease(find("behsof"), address)
    assert "Tm90QVJlYWxLZXk" not in str(refused.value)
    result = scanmill("fetch", "behsof", "--lake", tmp_path, "--source-url", address)
    assert result.exit_code == 2
    assert "Tm90QVJlYWxLZXk" not in result.output
    assert list(planted_secrets.leaks(tmp_path, {"token": "Tm90QVJlYWxLZXk"})) == []


def test_every_form_of_a_secret_is_told_from_other_text() -> None:
    secret = planted_secrets.SECRETS["SCANMILL_PHYSIONET_PASSWORD"]
    found = planted_secrets.forms(secret)
    assert len(found) == 10
    assert all(len(said) > 12 for said in found.values())


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_files_are_as_private_as_the_user_wants_them(mask: int, mode: int, tmp_path: Path) -> None:
    code = f"import os; os.umask({mask}); from pathlib import Path; from tasks.files import write_bytes; "
    code += f"write_bytes(Path({str(tmp_path / 'a')!r}), b'')"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.getcwd()})  # noqa: PTH109
    assert (tmp_path / "a").stat().st_mode & 0o777 == mode


def test_nothing_is_told_to_anybody() -> None:
    """The switches of Prefect and of what respects DO_NOT_TRACK are off before either is imported."""
    names = ("PREFECT_SERVER_ANALYTICS_ENABLED", "DO_NOT_TRACK")
    variables = {name: value for name, value in os.environ.items() if name not in names}
    code = f"import os, sys, flows.cli; print('prefect' in sys.modules, *map(os.environ.get, {names}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=variables)
    assert done.stdout.split() == ["False", "false", "1"]
