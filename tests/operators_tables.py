"""The tables of flows/README.md that are made from the code: flows and their deployments, parameters, stages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
FLOWS = ("prepare", "train", "evaluate", "radiomics", "refresh")
BOUNDS = (("minimum", "≥ {}"), ("exclusiveMinimum", "> {}"), ("maximum", "≤ {}"))


def flows() -> str:
    """Which deployments run a flow, and where."""
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]
    lines = ["| flow | deployments | work pool, queue | tags |", "|---|---|---|---|"]
    for name in FLOWS:
        own = [one for one in declared if one["entrypoint"] == f"flows.{name}.{name}"]
        titles = ", ".join(f"`{name}/{one['name']}`" for one in own)
        (place,) = {f"`{one['work_pool']['name']}`, `{one['work_pool']['work_queue_name']}`" for one in own}
        (tags,) = {", ".join(f"`{tag}`" for tag in one["tags"]) for one in own}
        lines.append(f"| [`{name}`]({name}.py) | {titles} | {place} | {tags} |")
    return "\n".join(lines)


def parameters() -> str:
    """Of every flow, as its form in Prefect's pages has them."""
    return "\n\n".join(f"**`{name}`**\n\n{_parameters(name)}" for name in FLOWS)


def _parameters(name: str) -> str:
    schema = getattr(import_module(f"flows.{name}"), name).parameters
    lines = ["| parameter | default | |", "|---|---|---|"]
    for key, declared in schema.properties.items():
        default = "**required**" if key in schema.required else _default(declared.get("default"))
        said = "; ".join([declared["description"], *_bounds(declared)])
        lines.append(f"| `{key}` | {default} | {said} |")
    return "\n".join(lines)


def _default(value: Any) -> str:
    """As it is written after ``-p``; nothing for what is left to the flow."""
    if value is None or value == []:
        return ""
    if isinstance(value, list):
        return f"`{','.join(value)}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _bounds(declared: Mapping[str, Any]) -> Iterator[str]:
    for form in (declared, *declared.get("anyOf", ())):
        yield from (text.format(form[key]) for key, text in BOUNDS if key in form)


def stages() -> str:
    """Which are tried again, and how long each may take; a stage is a task run of Prefect."""
    from prefect import Task

    from tasks import steps

    found: dict[tuple[int, float], list[str]] = {}
    for task in vars(steps).values():
        if isinstance(task, Task):
            assert task.timeout_seconds is not None
            found.setdefault((int(task.retries or 0), task.timeout_seconds), []).append(f"`{task.name}`")
    lines = ["| stages | retries | time limit |", "|---|---|---|"]
    for (retries, seconds), names in sorted(found.items(), reverse=True):
        limit = f"{seconds / 86400:g} days" if seconds >= 86400 else f"{seconds / 3600:g} hours"
        lines.append(f"| {', '.join(dict.fromkeys(names))} | {retries or 'none'} | {limit} |")
    return "\n".join(lines)
