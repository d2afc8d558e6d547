"""What the parameters of several flows have in common: their words in forms, and what no run is started with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar, get_type_hints

from prefect.runtime import deployment
from pydantic import Field
from pydantic.fields import FieldInfo

from tasks.datasets import catalogue
from tasks.schema import UnusableInput

DatasetName = Annotated[
    str,
    Field(
        description="A dataset of the catalogue, see `scanmill datasets`", json_schema_extra={"enum": [*catalogue()]}
    ),
]
LakePlace = Annotated[
    str, Field(description="Where the lake is: an absolute folder, or s3://bucket/prefix", min_length=1)
]
RawPlaces = Annotated[
    list[Annotated[str, Field(min_length=1)]] | None,
    Field(description="Folders, zips or tars of the raw release, read in place; without, it is fetched"),
]
Overrides = Annotated[
    tuple[str, ...], Field(description="Settings of the recipe to replace, each KEY=VALUE, such as training.epochs=2")
]
ReleaseId = Annotated[str | None, Field(description="Id of the release; default: the dataset's latest")]
RunName = Annotated[str | None, Field(description="Name of the run; default: the recipe's name and the release's id")]
Promote = Annotated[
    bool, Field(description="Whether runs/latest moves to this run, unless it is worse than the one that it names")
]

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def described(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Put the descriptions of a flow's parameters where they reach the form; stands below ``@flow``.

    Prefect 3.8 overwrites the description of an ``Annotated`` field with that of a docstring's ``Args``, or with none.
    """
    hints = get_type_hints(function, include_extras=True)
    for name, hint in hints.items():
        for found in getattr(hint, "__metadata__", ()):
            if isinstance(found, FieldInfo) and found.description:
                known = found.json_schema_extra if isinstance(found.json_schema_extra, dict) else {}
                hints[name] = Annotated[hint, Field(json_schema_extra={**known, "description": found.description})]
    function.__annotations__ = hints
    return function


def insist_on_absolute(lake: str) -> None:
    """Raise :class:`UnusableInput` for a deployed run that is told a relative folder.

    A worker runs every flow in a temporary folder of its own: what is written there is gone when the run ends.
    """
    if deployment.id and "://" not in lake and not Path(lake).expanduser().is_absolute():
        raise UnusableInput(
            f"the lake {lake!r} is a relative folder, and relative to nothing on a worker: begin it with /"
        )
