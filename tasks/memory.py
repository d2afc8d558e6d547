"""Memory that was freed and that libraries keep for later, given back to the system.

glibc keeps freed blocks of up to 32 MB, and Arrow what it has held; from stage to stage that lets a process grow to the
sum of what they needed.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import pyarrow as pa

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def give_back() -> None:
    """To be called where much has just been freed; it takes some milliseconds."""
    pa.default_memory_pool().release_unused()
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def giving_back(stage: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """The stage, and after it :func:`give_back`."""

    @functools.wraps(stage)
    def run(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        try:
            return stage(*args, **kwargs)
        finally:
            give_back()

    return run
