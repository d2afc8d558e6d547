"""Secrets: user names and passwords, by name. They travel as :class:`pydantic.SecretStr`, which prints as asterisks.

A secret called ``behsof-password`` comes from the environment variable ``SCANMILL_BEHSOF_PASSWORD``, or from the
Prefect Secret block ``scanmill-behsof-password`` (see :mod:`flows.credentials`). It is never a parameter of a flow,
which Prefect stores, nor part of a digest, a manifest or a message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from pydantic import SecretStr

from tasks.schema import Dataset, UnusableInput

Credentials = Mapping[str, SecretStr]
"""Secrets by name; those that nobody set are not there."""


def variable(name: str) -> str:
    """The environment variable that holds a secret."""
    return f"SCANMILL_{name.upper().replace('-', '_')}"


def block(name: str) -> str:
    """The Prefect Secret block that holds a secret."""
    return f"scanmill-{name}"


def names(dataset: Dataset) -> tuple[str, ...]:
    """The secrets that a dataset may need: of its archives, and of the host it is fetched from."""
    own = [dataset.lock.secret] if dataset.lock else []
    if dataset.remote and dataset.remote.needs_account:
        own += [f"{dataset.remote.kind}-username", f"{dataset.remote.kind}-password"]
    return tuple(own)


def from_environment(dataset: Dataset) -> dict[str, SecretStr]:
    """Those of a dataset's secrets that the environment holds; an empty variable counts as not set."""
    return {name: SecretStr(value) for name in names(dataset) if (value := os.environ.get(variable(name)))}


def insist(name: str, found: Credentials, purpose: str, access: str) -> SecretStr:
    """The secret of that name, or :class:`UnusableInput` that says where to put it and how to come by it."""
    if name not in found:
        raise UnusableInput(
            f"{purpose}: set the environment variable {variable(name)}, or the Prefect Secret block {block(name)}. "
            f"{access}"
        )
    return found[name]
