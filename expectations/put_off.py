"""Imports of others that are put off until something of them is used, or that are left out.

Great Expectations imports altair and scipy.stats for expectations that no suite here has: a second of every command
that has a gate, and 60 MB. SQLAlchemy and boto3 are its options, for tables in databases and in S3; other packages
bring them, and it would import them for half a second and 26 MB.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class _StandIn(ModuleType):
    """What was imported in place of a module: loads it when it is first asked for a name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # ``inspect`` and others look at every module there is
            raise AttributeError(name)
        return getattr(import_module(self.__name__), name)


@contextmanager
def put_off(*names: str) -> Iterator[None]:
    """What is imported in this block imports stand-ins of these modules; nobody sees them afterwards."""
    stands_in = {name: _StandIn(name) for name in names if name not in sys.modules}
    sys.modules.update(stands_in)
    try:
        yield
    finally:
        for name in stands_in:
            del sys.modules[name]


@contextmanager
def left_out(*names: str) -> Iterator[None]:
    """What is imported in this block finds none of these modules installed, but for those that are loaded already."""
    hidden = [name for name in names if name not in sys.modules]
    nothing: Any = None  # what import takes for a module that is not there
    sys.modules.update(dict.fromkeys(hidden, nothing))
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
