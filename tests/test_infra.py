"""Image and compose file name only what exists, and agree. What of them runs without an engine: ``test_image.py``."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tasks.learning.radiomics.texture import INSTALL
from tests import containers
from tests.containers import COMPOSE, INFRA, OWN, ROOT, SERVICES

BIN = Path(sys.executable).parent
STAGES = containers.dockerfile()
FINAL = {"scanmill:0.1.0": "base", "scanmill-gpu:0.1.0": "gpu"}
"""Stage of the image behind each name."""

ENDING = {"bootstrap", "s3-bucket"}
"""Services that do their work and end."""


def is_command(name: str) -> bool:
    """Whether the environment of these tests, made with the same constraints, has the program."""
    return (BIN / name).is_file()


def test_services_are_those_of_the_design() -> None:
    workers = {"worker-cpu", "worker-gpu", "dask-scheduler", "dask-worker"}
    assert set(SERVICES) == {"postgres", "prefect-server", "s3", *workers, *ENDING}
    optional = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert optional == {"worker-gpu": ["gpu"], "s3": ["s3"], "s3-bucket": ["s3"]}


def test_compose_file_fulfils_the_specification() -> None:
    check = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(INFRA / "compose.yaml")]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", OWN)
def test_commands_exist_and_need_no_shell(name: str) -> None:
    command = SERVICES[name]["command"]
    assert isinstance(command, list)
    assert is_command(command[0])
    if command[:2] == ["python", "-c"]:
        ast.parse(command[2])


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ENDING))
def test_health_is_checked_without_a_shell(name: str) -> None:
    kind, program, *arguments = SERVICES[name]["healthcheck"]["test"]
    assert kind == "CMD"
    if name in OWN:
        assert is_command(program)
        ast.parse(arguments[1])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_dependencies_come_to_be_what_is_waited_for(name: str) -> None:
    for needed, condition in SERVICES[name].get("depends_on", {}).items():
        ends = needed in ENDING
        assert condition == {"condition": "service_completed_successfully" if ends else "service_healthy"}
        assert ends or "healthcheck" in SERVICES[needed]
        assert set(SERVICES[needed].get("profiles", ())) <= set(SERVICES[name].get("profiles", ()))


@pytest.mark.parametrize("name", OWN)
def test_services_build_the_image_they_name(name: str) -> None:
    build = SERVICES[name]["build"]
    assert (INFRA / build["context"] / build["dockerfile"]).samefile(INFRA / "Dockerfile")
    assert build["target"] == FINAL[SERVICES[name]["image"]]


@pytest.mark.parametrize("name", ["worker-cpu", "worker-gpu", "dask-worker"])
def test_raw_is_read_only_and_paths_agree(name: str) -> None:
    raw, lake = SERVICES[name]["volumes"]
    assert raw.endswith(":/data/raw:ro")
    assert lake.endswith(":/data/lake")


@pytest.mark.parametrize("name", ["worker-cpu", "worker-gpu", "dask-worker", "bootstrap"])
def test_lake_and_its_keys_reach_whoever_opens_it(name: str) -> None:
    assert COMPOSE["x-lake"].items() <= SERVICES[name]["environment"].items()
    keys = {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}
    assert COMPOSE["x-lake"].keys() >= keys | {"SCANMILL_LAKE"}


def test_named_volumes_are_declared() -> None:
    named = {volume.split(":")[0] for s in SERVICES.values() for volume in s.get("volumes", []) if volume[0].isalnum()}
    assert named == set(COMPOSE["volumes"])


def test_env_example_names_every_setting_and_holds_no_secret() -> None:
    example = containers.dotenv(INFRA / "env.example")
    compose = (INFRA / "compose.yaml").read_text()
    assert set(example) == {name for name, _, _ in containers.SETTING.findall(compose)}
    required = set(re.findall(r"\$\{(\w+):\?", compose))
    assert required == {"POSTGRES_PASSWORD", "PREFECT_AUTH", "SCANMILL_RAW_FOLDER", "SCANMILL_LAKE_FOLDER"}
    defaults = {name: text for name, kind, text in containers.SETTING.findall(compose) if kind == "-"}
    assert {name: example[name] for name in defaults} == defaults
    assert not any(example[name] for name in required)


def test_published_ports_stay_on_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_foreign_images_are_pinned() -> None:
    foreign = {service["image"] for name, service in SERVICES.items() if name not in OWN}
    assert foreign
    assert all(re.fullmatch(r"[\w/]+:\d[\w.-]*", image) for image in foreign)


def test_image_copies_what_exists_and_docker_sends_it(tmp_path: Path) -> None:
    containers.copy_as_docker(STAGES["base"], tmp_path)
    there = {path.name for path in tmp_path.iterdir()}
    assert there >= {"flows", "tasks", "expectations", "prefect.yaml", "infra", "constraints.txt"}
    assert not list(tmp_path.rglob("__pycache__"))


def test_secrets_and_data_are_not_sent_to_the_builder(tmp_path: Path) -> None:
    kept = {"tasks/schema.py", "flows/cli.py", "prefect.yaml", "infra/automations.yaml"}
    private = {"infra/.env", "infra/kubernetes/secrets.env", ".env", ".git/config", "lake/a", "tests/conftest.py"}
    for name in kept | private:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert containers.build_context(tmp_path) == kept


@pytest.mark.parametrize("name", sorted(FINAL.values()))
def test_image_is_pinned_unprivileged_and_starts_without_a_shell(name: str) -> None:
    stage = STAGES[name]
    assert stage.base == "python:${PYTHON}"
    assert "ARG PYTHON=3.11-slim-bookworm\n" in (INFRA / "Dockerfile").read_text()
    assert stage.all("USER") == ["1000:1000"]
    (command,) = stage.all("CMD")
    assert is_command(json.loads(command)[0])
    packages = [line.split()[0].removeprefix("--from=") for line in stage.all("COPY") if line.startswith("--from=")]
    (source,) = packages
    assert containers.variables(STAGES[source])["PIP_CONSTRAINT"] == "/app/constraints.txt"


def test_image_without_a_target_is_the_one_without_training() -> None:
    assert next(reversed(STAGES)) == "base"


def test_versions_of_image_and_package_agree() -> None:
    assert f'version = "{STAGES["runtime"].all("ARG")[0].partition("=")[2]}"' in (ROOT / "pyproject.toml").read_text()


def test_bucket_of_the_lake_is_made_once_and_left_alone_afterwards() -> None:
    from moto.server import ThreadedMotoServer

    storage = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    storage.start()
    try:
        host, port = storage.get_host_and_port()
        keys = {"AWS_ACCESS_KEY_ID": "made-up", "AWS_SECRET_ACCESS_KEY": "made-up", "PREFECT_AUTH": "a:b"}
        settings = keys | {"SCANMILL_LAKE": "s3://films/lake", "AWS_ENDPOINT_URL": f"http://{host}:{port}"}
        told = containers.interpolate(SERVICES["s3-bucket"]["environment"], settings)
        _, *arguments = SERVICES["s3-bucket"]["command"]
        for _ in range(2):
            subprocess.run([sys.executable, *arguments], env=os.environ | told, check=True)
        with urlopen(f"http://{host}:{port}/films?list-type=2") as answer:
            assert b"<Name>films</Name>" in answer.read()
    finally:
        storage.stop()


STEPS = (
    "pip install numpy wheel setuptools",
    f"pip install --no-build-isolation pyradiomics=={containers.pinned()['pyradiomics']}",
)
"""How PyRadiomics comes to be installed; there is no shorter way."""


@pytest.mark.parametrize("place", ["README.md", "docs/radiomics.md", "infra/Dockerfile", "Makefile"])
def test_pyradiomics_is_installed_by_the_same_two_steps_wherever_it_is(place: str) -> None:
    text = (ROOT / place).read_text().replace("$(PIP)", "pip install")
    assert 0 <= text.find(STEPS[0]) < text.find(STEPS[1])


def test_whoever_lacks_pyradiomics_is_told_the_two_steps() -> None:
    assert all(step in INSTALL for step in STEPS)


def test_the_compiler_stays_out_of_the_images() -> None:
    programs = {name for name, stage in STAGES.items() if any("gcc" in line for line in stage.all("RUN"))}
    assert programs == {"packages-gpu"}
    built_on = {name: stage.all("RUN") for name, stage in STAGES.items() if name in FINAL.values()}
    assert not any("apt-get" in line for lines in built_on.values() for line in lines)
    assert [line.split()[1:] for line in STAGES["gpu"].all("COPY") if "packages-gpu" in line] == [["/opt/venv"] * 2]


def test_all_that_pyradiomics_needs_is_pinned() -> None:
    needed = {"setuptools", "wheel", "numpy", "simpleitk", "pywavelets", "pykwalify", "six"}
    needed |= {"docopt", "ruamel.yaml", "python-dateutil"}  # what pykwalify needs
    assert needed <= containers.pinned().keys()


def make(venv: Path, target: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``make`` for a virtual environment that has all but PyRadiomics, and whose pip fails."""
    (venv / "bin").mkdir(parents=True)
    (venv / "bin/python").write_text("#!/bin/sh\necho 'error: no compiler' >&2\nexit 1\n")
    (venv / "bin/python").chmod(0o755)
    for stamp in (".run", ".dev", ".learn"):
        (venv / stamp).touch()
    told = {name: value for name, value in os.environ.items() if name not in {"CI", "SCANMILL_REQUIRE_ALL"}}
    line = ["make", "--silent", f"VENV={venv}", str(target)]
    return subprocess.run(line, env=told | variables, cwd=ROOT, capture_output=True, text=True, check=False)


def test_make_goes_on_without_pyradiomics_and_says_what_follows_but_not_in_ci(tmp_path: Path) -> None:
    laptop = make(tmp_path / "laptop", "setup")
    assert laptop.returncode == 0
    assert "error: no compiler" in laptop.stderr
    assert "apt-get install gcc" in laptop.stderr
    assert "tests of radiomics are skipped" in laptop.stderr
    assert not (tmp_path / "laptop/.radiomics").exists(), "the next time it is tried again"
    assert make(tmp_path / "ci", "setup", CI="true").returncode != 0
    assert make(tmp_path / "asked", "radiomics").returncode != 0
