"""What Docker, Compose and kustomize make of the files in ``infra/``, as far as tests without an engine need it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonpatch
import yaml
from docker.utils.build import exclude_paths  # type: ignore[import-untyped]  # .dockerignore as Docker reads it

ROOT = Path(__file__).parent.parent
INFRA = ROOT / "infra"

Manifest = dict[str, Any]


@dataclass
class Stage:
    """One stage of a Dockerfile: its base, and its instructions in order."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        """Arguments of every instruction of one kind."""
        return [arguments for kind, arguments in self.instructions if kind == instruction]


def dockerfile() -> dict[str, Stage]:
    """Stages of the image by name, in order; a stage that builds on another has that one's instructions first."""
    lines = [line for line in (INFRA / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    stages: dict[str, Stage] = {}
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        kind, _, arguments = line.strip().partition(" ")
        if kind == "FROM":
            base, _, name = arguments.partition(" AS ")
            above = stages.get(base)
            stages[name] = Stage(name, above.base if above else base, [*above.instructions] if above else [])
        elif kind and stages:
            stages[next(reversed(stages))].instructions.append((kind, " ".join(arguments.split())))
    return stages


def pinned() -> dict[str, str]:
    """Version of each package in the constraints, by its name in small letters."""
    lines = [line.split()[0] for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line]
    return {name.lower(): version for name, version in (line.split("==") for line in lines)}


def copied(stage: Stage) -> list[tuple[list[str], str]]:
    """Sources and target of every COPY from the build context."""
    words = [line.split() for line in stage.all("COPY") if not line.startswith("--from=")]
    return [(sources, target) for *sources, target in words]


def variables(stage: Stage) -> dict[str, str]:
    """What ENV sets; a later instruction wins."""
    return dict(pair.split("=", 1) for line in stage.all("ENV") for pair in shlex.split(line))


def build_context(root: Path) -> set[str]:
    """The files below ``root`` that Docker would send to the builder."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    sent: set[str] = {str(path) for path in exclude_paths(str(root), patterns)}
    return {path for path in sent if (root / path).is_file()}


def copy_as_docker(stage: Stage, app: Path) -> None:
    """Fill ``app`` with what the stage copies from the build context, and with nothing else."""
    sent = build_context(ROOT)
    for sources, target in copied(stage):
        for source in sources:
            files = [name for name in sent if name == source or name.startswith(f"{source}/")]
            assert files, f"COPY {source}: Docker is sent nothing of that name"
            for name in files:
                place = app / target / (Path(name).name if name == source else Path(name).relative_to(source))
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, place)


COMPOSE: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
OWN = sorted(name for name, service in SERVICES.items() if "build" in service)

SETTING = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def interpolate(value: Any, settings: dict[str, str]) -> Any:
    """``${NAME}``, ``${NAME:-default}`` and ``${NAME:?why}`` filled in, as Compose does it."""
    if isinstance(value, dict):
        return {key: interpolate(item, settings) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolate(item, settings) for item in value]
    if not isinstance(value, str):
        return value

    def filled(found: re.Match[str]) -> str:
        name, kind, text = found.groups()
        if settings.get(name):
            return settings[name]
        assert kind != "?", f"{name} is not set: {text}"
        return text if kind == "-" else ""

    return SETTING.sub(filled, value)


def dotenv(path: Path) -> dict[str, str]:
    """The lines ``NAME=value`` of a file of settings."""
    lines = path.read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


OVERLAYS = sorted(path.parent.name for path in INFRA.glob("kubernetes/overlays/*/kustomization.yaml"))


def overlay(name: str) -> list[Manifest]:
    """The manifests of one overlay; ``tests/test_kubernetes.py`` compares them with those of ``kubectl kustomize``."""
    return _build(INFRA / "kubernetes/overlays" / name, [])


def _build(folder: Path, found: list[Manifest]) -> list[Manifest]:
    wanted = yaml.safe_load((folder / "kustomization.yaml").read_text())
    known = {"apiVersion", "kind", "namespace", "resources", "components", "patches"}
    assert wanted.keys() <= known, f"{folder}: teach tests/containers.py {wanted.keys() - known}"
    for name in wanted.get("resources", ()):
        path = folder / name
        found = _build(path, found) if path.is_dir() else [*found, *yaml.safe_load_all(path.read_text())]
    for name in wanted.get("components", ()):
        found = _build(folder / name, found)
    for patch in wanted.get("patches", ()):
        changed = [n for n, manifest in enumerate(found) if _is_meant(manifest, patch["target"])]
        assert changed, f"{folder}: a patch of {patch['target']} changes nothing"
        operations = jsonpatch.JsonPatch(yaml.safe_load(patch["patch"]))
        found = [operations.apply(manifest) if n in changed else manifest for n, manifest in enumerate(found)]
    if "namespace" in wanted:
        for manifest in found:
            if manifest["kind"] != "Namespace":
                manifest["metadata"]["namespace"] = wanted["namespace"]
    return found


def _is_meant(manifest: Manifest, target: dict[str, str]) -> bool:
    labels = manifest["metadata"].get("labels", {})
    wanted = dict(pair.split("=") for pair in target.get("labelSelector", "").split(",") if pair)
    return bool(
        manifest["kind"] == target["kind"]
        and manifest["metadata"]["name"] == target.get("name", manifest["metadata"]["name"])
        and wanted.items() <= labels.items()
    )


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name and pod template of every workload."""
    for manifest in manifests:
        template = manifest.get("spec", {}).get("template")
        if template is not None:
            yield manifest["metadata"]["name"], template


def canonical(manifests: list[Manifest]) -> list[str]:
    """Manifests in an order of their own, to compare two sets of them."""
    return sorted(json.dumps(manifest, sort_keys=True) for manifest in manifests)
