"""Releases on the fake hosts, as ``fetch`` wants them told, and what the tests of fetching look at afterwards."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from tasks.datasets import find
from tasks.schema import Remote, Source
from tasks.sources.remote_release import RemoteRelease
from tasks.sources.web import Manners
from tests.fakes.servers.figshare import FakeFigshare
from tests.fakes.servers.http import Server
from tests.fakes.servers.https import FakeFiles
from tests.fakes.servers.physionet import FakePhysioNet

ARTICLE = 26389069
PROJECT, VERSION = "chexchonet", "1.0.0"
USER, PASSWORD = "reader", "p:ss wörd"
SECRETS = {"physionet-username": SecretStr(USER), "physionet-password": SecretStr(PASSWORD)}
ACCESS = "Sign the data use agreement first."
QUICK = Manners(first_wait_seconds=0.01, attempts=4)
DATASET = find("nih-chest-xray")


def some_bytes(size: int, seed: int = 0) -> bytes:
    """The same for the same seed."""
    return random.Random(seed).randbytes(size)


def on_figshare(server: FakeFigshare, manners: Manners = QUICK) -> RemoteRelease:
    """The article, at its newest version."""
    return RemoteRelease(replace(DATASET, remote=Remote("figshare", str(ARTICLE))), server.api, manners=manners)


def on_physionet(server: FakePhysioNet, manners: Manners = QUICK) -> RemoteRelease:
    """The project, which wants an account."""
    remote = Remote("physionet", f"{PROJECT}/{VERSION}", needs_account=True, access=ACCESS)
    return RemoteRelease(replace(DATASET, remote=remote), server.url, manners=manners)


def on_plain_host(server: FakeFiles, *pinned: bytes, name: str = "a.bin") -> RemoteRelease:
    """One file of the user's own list, pinned to some bytes or not at all."""
    sha256 = hashlib.sha256(pinned[0]).hexdigest() if pinned else None
    return RemoteRelease(DATASET, files=(Source(name, f"{server.url}/{name}", sha256=sha256),), manners=QUICK)


def held(folder: str | Path) -> dict[str, bytes]:
    """Every file below a folder, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()
    }


def journal(raw: Path) -> list[dict[str, Any]]:
    """All events; a line that is no JSON fails."""
    return [json.loads(line) for line in (raw / "fetched.jsonl").read_text().splitlines()]


def paths(server: Server, *parts: str) -> list[str]:
    """Of the requests whose path has one of these parts, without queries; all if none is given."""
    asked = (request.path.partition("?")[0] for request in server.requests)
    return [path for path in asked if not parts or any(part in path for part in parts)]


def bytes_sent(server: Server, part: str) -> int:
    """In answer to requests for these paths."""
    return sum(request.body_bytes for request in server.requests if part in request.path)


def chain(error: BaseException | None) -> Iterable[BaseException]:
    """An exception with all that led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
