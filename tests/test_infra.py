"""The container files name only what exists. No engine is needed, and none is tested: see ``infra/README.md``."""

from __future__ import annotations

import ast
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OWN = sorted(name for name, service in SERVICES.items() if "build" in service)
DOCKERFILE = (ROOT / "infra/Dockerfile").read_text().replace("\\\n", " ").splitlines()
SETTING = re.compile(r"\$\{(\w+)")


def instructions(name: str) -> list[str]:
    """Arguments of every Dockerfile instruction of one name."""
    return [line.removeprefix(name).strip() for line in DOCKERFILE if line.startswith(f"{name} ")]


def is_command(name: str) -> bool:
    """Whether the environment of these tests, made with the same constraints, has the program."""
    return (Path(sys.executable).parent / name).is_file()


def test_services_are_those_of_the_design() -> None:
    assert set(SERVICES) == {"postgres", "prefect-server", "worker-cpu", "dask-scheduler", "dask-worker"}


@pytest.mark.parametrize("name", OWN)
def test_commands_exist_and_need_no_shell(name: str) -> None:
    command = SERVICES[name]["command"]
    assert isinstance(command, list)
    assert is_command(command[0])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_health_is_checked_without_a_shell(name: str) -> None:
    kind, program, *arguments = SERVICES[name]["healthcheck"]["test"]
    assert kind == "CMD"
    if name in OWN:
        assert is_command(program)
        ast.parse(arguments[1])


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_dependencies_are_services_with_a_health_check(name: str) -> None:
    for needed, condition in SERVICES[name].get("depends_on", {}).items():
        assert condition == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[needed]


@pytest.mark.parametrize("name", OWN)
def test_build_context_holds_the_dockerfile(name: str) -> None:
    build = SERVICES[name]["build"]
    assert (ROOT / "infra" / build["context"] / build["dockerfile"]).samefile(ROOT / "infra/Dockerfile")


@pytest.mark.parametrize("name", ["worker-cpu", "dask-worker"])
def test_raw_is_read_only_and_paths_agree(name: str) -> None:
    raw, lake = SERVICES[name]["volumes"]
    assert raw.endswith(":/data/raw:ro")
    assert lake.endswith(":/data/lake")


def test_named_volumes_are_declared() -> None:
    named = {volume.split(":")[0] for s in SERVICES.values() for volume in s.get("volumes", []) if volume[0].isalnum()}
    assert named == set(COMPOSE["volumes"])


def test_env_example_names_every_setting_and_holds_no_secret() -> None:
    lines = (ROOT / "infra/env.example").read_text().splitlines()
    example = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    compose = (ROOT / "infra/compose.yaml").read_text()
    assert set(example) == set(SETTING.findall(compose))
    required = set(re.findall(r"\$\{(\w+):\?", compose))
    assert {name for name, value in example.items() if not value} == required
    assert {"POSTGRES_PASSWORD", "PREFECT_AUTH"} <= required


def test_published_ports_stay_on_this_machine() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_image_copies_what_exists_and_docker_sends_it() -> None:
    copied = {source for line in instructions("COPY") for source in line.split()[:-1]}
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == sent
    assert [source for source in sorted(copied) if not (ROOT / source).exists()] == []


def test_image_is_pinned_unprivileged_and_starts_without_a_shell() -> None:
    assert instructions("FROM") == ["python:3.11-slim"]
    assert any("-c constraints.txt" in line for line in instructions("RUN"))
    assert instructions("USER") == ["scanmill"]
    (command,) = instructions("CMD")
    assert is_command(json.loads(command)[0])
