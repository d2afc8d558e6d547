"""Secrets for a flow run: from the environment, else from Prefect Secret blocks. Parameters would be stored."""

from __future__ import annotations

from prefect.blocks.system import Secret
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from tasks.credentials import block, from_environment, names
from tasks.datasets import find


def secrets_for(dataset: str) -> dict[str, SecretStr]:
    """What a dataset needs of passwords, as far as anybody has set it."""
    declared = find(dataset)
    found = from_environment(declared)
    blocks = {name: _from_block(name) for name in names(declared) if name not in found}
    return found | {name: value for name, value in blocks.items() if value is not None}


def _from_block(name: str) -> SecretStr | None:
    try:
        loaded = Secret.load(block(name))
    except (ValueError, ObjectNotFound):  # what Prefect says of a block that is not there
        return None
    return SecretStr(str(loaded.get()))  # type: ignore[union-attr]
