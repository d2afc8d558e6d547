"""A Dask scheduler and its workers as processes, on loopback or each in a network namespace of its own: as hosts."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.command import ROOT

PATIENCE_SECONDS = 30


class Host:
    """One process group, wherever it runs."""

    def __init__(self, command: list[str], log: Path, sources: Path = ROOT) -> None:
        """Start it as the head of a session, importing scanmill from ``sources``."""
        environment = {**os.environ, "PYTHONPATH": f"{sources}{os.pathsep}{ROOT}"}
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                command, env=environment, cwd=log.parent, stdout=stream, stderr=stream, start_new_session=True
            )

    def kill(self) -> None:
        """``kill -9`` of everything on it."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


class Hosts:
    """A scheduler's address and what has been started for it."""

    def __init__(self, folder: Path, network: str | None = None) -> None:
        """``network`` is the name of a bridge (see :func:`network_of_hosts`); without, all is on loopback."""
        self._folder = folder
        self._network = network
        self._started: list[Host] = []
        self._workers = 0
        self._ip = "127.0.0.1" if network is None else f"10.77.{network.removeprefix('smill')}.2"
        self._port = _free_port() if network is None else 8786
        self.address = f"tcp://{self._ip}:{self._port}"
        self.scheduler_host: Host
        """The last that was started."""

    def scheduler(self) -> Host:
        """Start the scheduler, again at the same address if it was killed, and wait until it answers."""
        options = ["scheduler", "--host", self._ip, "--port", str(self._port), "--no-dashboard", "--no-jupyter"]
        host = self.scheduler_host = self._start(2, options, ROOT)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            with suppress(OSError), socket.create_connection((self._ip, self._port), timeout=1):
                return host
            assert time.monotonic() < deadline, (self._folder / "dask.log").read_text()
            time.sleep(0.05)

    def worker(self, sources: Path = ROOT) -> Host:
        """Start a worker with one thread, on a host of its own."""
        self._workers += 1
        options = ["worker", self.address, "--nthreads", "1", "--no-dashboard", "--death-timeout", "60"]
        return self._start(2 + self._workers, [*options, "--local-directory", str(self._folder)], sources)

    def _start(self, number: int, options: list[str], sources: Path) -> Host:
        if self._network is not None:
            _join(self._network, number)
        within = [] if self._network is None else ["ip", "netns", "exec", f"{self._network}-{number}"]
        command = [*within, sys.executable, "-m", "distributed.cli.dask_" + options[0], *options[1:]]
        host = Host(command, self._folder / "dask.log", sources)
        self._started.append(host)
        return host

    def close(self) -> None:
        """Kill all that is left."""
        for host in self._started:
            host.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def can_make_networks() -> bool:
    """Whether this process may make network namespaces and bridges."""
    if os.geteuid() != 0 or not shutil.which("ip"):
        return False
    try:
        with network_of_hosts() as network:
            _join(network, 2)
    except subprocess.CalledProcessError:
        return False
    return True


@contextmanager
def network_of_hosts() -> Iterator[str]:
    """A bridge with an address of its own, to which hosts are joined; all of it gone afterwards."""
    taken = {line.split(":")[1].strip() for line in _ip("-o", "link").splitlines()}
    number = random.choice([number for number in range(1, 255) if f"smill{number}" not in taken])
    name = f"smill{number}"
    _ip("link", "add", name, "type", "bridge")
    try:
        _ip("addr", "add", f"10.77.{number}.1/24", "dev", name)
        _ip("link", "set", name, "up")
        yield name
    finally:
        for space in _ip("netns", "list").split():
            if space.startswith(f"{name}-"):
                _ip("netns", "del", space)
        _ip("link", "del", name)


def _join(network: str, number: int) -> None:
    """Make a host of the network, with loopback and one interface, unless there is one of that number."""
    space, wire = f"{network}-{number}", f"{network.replace('smill', 'smv')}-{number}"
    if space in _ip("netns", "list").split():
        return
    _ip("netns", "add", space)
    _ip("link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", space)
    _ip("link", "set", wire, "master", network, "up")
    _ip("-n", space, "addr", "add", f"10.77.{network.removeprefix('smill')}.{number}/24", "dev", "eth0")
    for device in ("lo", "eth0"):
        _ip("-n", space, "link", "set", device, "up")


def _ip(*arguments: str) -> str:
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout
