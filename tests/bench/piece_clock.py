"""What pieces of work cost where they run: a Dask worker imports this and nothing else of the benchmarks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Clocked:
    """A piece of work that adds its CPU seconds to a log, on whatever worker it is called.

    Those of its own thread: what it leaves to threads of its own counts as orchestration, never the other way round.
    """

    def __init__(self, work: Callable[..., Any], log: str) -> None:
        self.__name__ = work.__name__
        self._work = work
        self._log = log

    def __call__(self, item: Any, **fixed: Any) -> Any:
        """Call it, and add one line: short enough that the system writes it in one go."""
        began = time.thread_time()
        try:
            return self._work(item, **fixed)
        finally:
            line = f"{time.thread_time() - began}\n".encode()
            log = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            os.write(log, line)
            os.close(log)


def logged_seconds(log: Path) -> float:
    """The sum of what all pieces have added."""
    return sum(map(float, log.read_text().split())) if log.exists() else 0.0
