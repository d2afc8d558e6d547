"""flows/README.md, held against the flows, the deployments and every environment variable that the code reads."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from tasks.credentials import names, variable
from tasks.datasets import catalogue
from tasks.limits import Limits
from tasks.limits import variable as limit
from tests.operators_tables import FLOWS, ROOT
from tests.written_pages import COMMAND, PARTS, renewed

PAGE = "flows/README.md"
TEXT = (ROOT / PAGE).read_text("utf-8")
NAME = re.compile(r"(?<![A-Z_])(?:DASK_)?SCANMILL_[A-Z_]*[A-Z]\b")
READ_IN = ("flows", "tasks", "scanmill", "expectations", "infra", "prefect.yaml", "Makefile")


def variables_of_the_code() -> set[str]:
    """Every SCANMILL_* that is spelled out in code or deployment, and those that are put together."""
    places = [ROOT / name for name in READ_IN]
    paths = [path for place in places for path in ([place] if place.is_file() else place.rglob("*"))]
    read = [path for path in paths if path.suffix in (".py", ".yaml", ".example", "") and path.is_file()]
    spelled = {name for path in read for name in NAME.findall(path.read_text("utf-8", errors="ignore"))}
    secrets = {variable(name) for dataset in catalogue().values() for name in names(dataset)}
    return spelled | secrets | {limit(field.name) for field in fields(Limits)}


def rows(first: str) -> list[list[str]]:
    """Cells of the table whose head begins so."""
    _, _, below = TEXT.partition(f"\n| {first} |")
    return [line.strip("| ").split(" | ") for line in below.partition("\n\n")[0].splitlines()[2:]]


@pytest.mark.parametrize("name", [name for page, name in PARTS if page == PAGE])
def test_tables_are_those_of_the_code(name: str) -> None:
    assert renewed(PAGE, name) == TEXT, f"run `{COMMAND}` to write it anew"


def test_every_deployment_is_of_a_flow_that_is_listed() -> None:
    declared = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]
    assert {one["entrypoint"] for one in declared} == {f"flows.{name}.{name}" for name in FLOWS}


def test_every_environment_variable_is_listed_and_every_listed_one_is_read() -> None:
    listed = {name for row in rows("variable") for name in NAME.findall(row[0])}
    assert listed == variables_of_the_code()


def test_limits_are_listed_with_their_defaults() -> None:
    listed = {row[0].strip("`"): row[1] for row in rows("variable")}
    for field in fields(Limits):
        assert listed[limit(field.name)].replace(",", "") == str(field.default)


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", TEXT)
    assert len(links) > 10
    assert not [link for link in links if not Path(ROOT / "flows" / link).exists()]
