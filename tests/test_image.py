"""What the image would hold, installed in an environment of its own; what compose would start, started as processes.

Package steps, copied files, environment, commands and health checks are read out of ``infra/``, not repeated here.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import containers
from tests.containers import INFRA, SERVICES
from tests.prefect_servers import free_port, needs_postgres, postgresql

pytestmark = pytest.mark.timeout(
    600
)  # the packages of the whole image are installed: a minute, or five on a busy machine
STAGES = containers.dockerfile()
SETTINGS = containers.dotenv(INFRA / "env.example") | {
    "POSTGRES_PASSWORD": "a password, with: @ny/character?",
    "PREFECT_AUTH": "admin:made-up",
    "SCANMILL_RAW_FOLDER": "/raw",
    "SCANMILL_LAKE_FOLDER": "/lake",
}


@dataclass
class Image:
    """The target ``base``, laid out in a folder: ``/app``, ``/opt/venv`` and ``/tmp`` are in there."""

    root: Path

    def place(self, text: str) -> str:
        """A path or a command of the image as it is here."""
        return re.sub(r"(?<![\w.])/(?=(app|opt/venv|tmp|var/lib/prefect)\b)", f"{self.root}/", text)

    def environment(self, stage: str = "base") -> dict[str, str]:
        """What a process in the image sees, and nothing of this one."""
        told = {name: self.place(value) for name, value in containers.variables(STAGES[stage]).items()}
        return told | {"PATH": told["PATH"].replace("$PATH", os.defpath)}

    def run(self, *command: str, **more: str) -> str:
        """Run a program of the image to its end."""
        line = [self.found(command[0]), *command[1:]]
        told = self.environment() | more
        done = subprocess.run(line, env=told, cwd=self.root / "app", capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
        return done.stdout

    def found(self, program: str) -> str:
        """A program of the image, never one of this environment."""
        path = self.root / "opt/venv/bin" / program
        assert path.is_file(), f"{program} is not in the image"
        return str(path)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The RUN steps of the stage ``packages`` run as they stand, and the files of ``base`` copied."""
    built = Image(tmp_path_factory.mktemp("image"))
    app, packages = built.root / "app", STAGES["packages"]
    for folder in (app, built.root / "tmp", built.root / "var/lib/prefect"):
        folder.mkdir(parents=True)
    # Ours reach the same index; bytecode is made when it is needed, which saves half a minute.
    ours = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "REQUESTS_", "HTTP"))}
    python = str(Path(sys.base_prefix) / "bin/python3")
    for kind, line in packages.instructions:
        if kind == "COPY":
            containers.copy_as_docker(containers.Stage("", "", [(kind, line)]), app)
        elif kind == "RUN":
            step = built.place(line).replace("python -m venv", f"{python} -m venv")
            told = (
                ours
                | built.environment("packages")
                | {"HOME": str(built.root / "tmp"), "PIP_NO_COMPILE": "no", "PIP_QUIET": "1"}
            )
            subprocess.run(step, shell=True, check=True, env=told, cwd=app, timeout=500)
    containers.copy_as_docker(STAGES["base"], app)
    return built


def test_installed_image_has_the_commands(image: Image) -> None:
    assert image.run("scanmill", "--version").startswith("scanmill ")
    assert "--folder" in image.run("scanmill", "demo", "--help")
    assert image.run("prefect", "--version").strip()
    versions = "import dask, distributed; assert dask.__version__ == distributed.__version__"
    image.run("python", "-c", f"import prefect.server.api.server, s3fs, bokeh, flows.prepare; {versions}")


def test_image_finds_its_own_code_and_all_of_it(image: Image) -> None:
    listed = image.run("scanmill", "datasets", "--json")
    assert "nih-chest-xray" in listed
    where = image.run("python", "-c", "import tasks; print(tasks.__file__)").strip()
    assert where == str(image.root / "app/tasks/__init__.py")


@dataclass
class Composed:
    """The services of the compose file as processes on this machine, at free ports."""

    image: Image
    database: str
    ports: dict[str, str]

    def here(self, value: object) -> list[str]:
        """Words of a command or values, with the addresses and folders of this machine."""
        words = containers.interpolate(value, SETTINGS)
        names = "|".join(name for name in SERVICES)
        return [self._ports(re.sub(rf"(?<=//)({names})(?=:)", "localhost", self.image.place(word))) for word in words]

    def _ports(self, word: str) -> str:
        return re.sub(r"\b(?:{})\b".format("|".join(self.ports)), lambda found: self.ports[found[0]], word)

    def environment(self, name: str) -> dict[str, str]:
        """The image's variables and the service's."""
        told = SERVICES[name].get("environment", {})
        own = dict(zip(told, self.here([*told.values()]), strict=True))
        if name == "prefect-server":
            address = urlsplit(self.database)
            own |= {
                "PREFECT_SERVER_DATABASE_HOST": str(address.hostname),
                "PREFECT_SERVER_DATABASE_PORT": str(address.port),
            }
        return self.image.environment() | own

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start a service by its own command."""
        program, *arguments = self.here(SERVICES[name]["command"])
        with (self.image.root / f"{name}.log").open("wb") as log:
            return subprocess.Popen(
                [self.image.found(program), *arguments],
                env=self.environment(name),
                cwd=self.image.root / "app",
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def is_healthy(self, name: str) -> bool:
        """Its own health check, once."""
        _, program, *arguments = self.here(SERVICES[name]["healthcheck"]["test"])
        line = [self.image.found(program), *arguments]
        return subprocess.run(line, env=self.environment(name), capture_output=True, check=False).returncode == 0

    def wait_for(self, name: str, process: subprocess.Popen[bytes], seconds: float = 180) -> None:
        """Return when the service is healthy."""
        deadline = time.monotonic() + seconds
        while not self.is_healthy(name):
            log = (self.image.root / f"{name}.log").read_text()[-3000:]
            assert process.poll() is None, f"{name} ended\n{log}"
            assert time.monotonic() < deadline, f"{name} is not healthy\n{log}"
            time.sleep(0.3)


@pytest.fixture
def composed(image: Image) -> Iterator[Composed]:
    """Services to be started, beside a PostgreSQL of the test's own."""
    with postgresql() as database:
        known = ["4200", "8080", "8786", "8787", "8788"]
        yield Composed(image, database, {port: str(free_port()) for port in known})


@needs_postgres
def test_services_start_become_healthy_and_stop_when_told(composed: Composed) -> None:
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in ("prefect-server", "dask-scheduler", "dask-worker"):
            running[name] = composed.start(name)
        for name in [*running]:
            composed.wait_for(name, running[name])
        bootstrap = composed.start("bootstrap")
        assert bootstrap.wait(240) == 0, (composed.image.root / "bootstrap.log").read_text()[-3000:]
        for name in ("worker-cpu", "worker-gpu"):
            composed.ports["8080"] = str(free_port())  # a container has the port to itself
            running[name] = composed.start(name)
            composed.wait_for(name, running[name])
        pools = composed.image.run("prefect", "work-pool", "ls", **composed.environment("worker-cpu"))
        assert "cpu" in pools
        assert "gpu" in pools
    finally:
        ended = {}
        for name, process in reversed(running.items()):  # as compose does: what depends on others goes first
            process.send_signal(signal.SIGTERM)
            ended[name] = process.wait(60)
    assert all(code in {0, -signal.SIGTERM} for code in ended.values()), ended
