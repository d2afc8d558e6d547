"""One piece of a stage, on a Dask worker: the same code as the driver's, and its log records brought home.

Records come back with the piece instead of by Dask's events: these reach every client of a scheduler, and a scheduler
may be shared.
"""

from __future__ import annotations

import contextlib
import logging
import platform
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from tasks.code_version import library_versions, release_version
from tasks.schema import ScanmillError

MOST_RECORDS = 100
"""Of one piece; a piece with more to say only says how many more."""

Records = list[dict[str, Any]]
"""Attributes of log records, all of them plain values."""


class OtherCode(ScanmillError):
    """A worker has other code or other libraries than the driver, so that its bytes would not be the promised ones."""


@cache
def code_here() -> dict[str, str]:
    """What must be equal wherever a release is made: the digests of chunks and releases stand for it."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"scanmill (sources)": release_version(), "python": python, **library_versions()}


def differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> str:
    """``numpy 2.5.1 instead of 2.5.2``, for all that differs; empty when nothing does."""
    names = [name for name in {**ours, **theirs} if theirs.get(name) != ours.get(name)]
    return ", ".join(f"{name} {theirs.get(name, 'missing')} instead of {ours.get(name, 'none')}" for name in names)


def run_piece(item: Any, *, work: Callable[..., Any], code: Mapping[str, str], fixed: Mapping[str, Any]) -> Records:
    """``work(item, **fixed)``; returns what it logged to loggers of scanmill.

    Raises :class:`OtherCode` without working where the code is another: a worker may have joined at any time.
    """
    if found := differences(code_here(), code):
        raise OtherCode(f"the Dask worker {_worker()} has {found}: install the same everywhere")
    with _collecting() as collector:
        work(item, **fixed)
    return collector.records


def replay(records: Records) -> None:
    """Hand a worker's records to the loggers of this process that have the same names."""
    for attributes in records:
        record = logging.makeLogRecord(attributes)
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)


class _Collector(logging.Handler):
    """Keeps what one thread logs, in a form that can be sent."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: Records = []
        self._thread = threading.get_ident()
        self._left_out = 0

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread != self._thread:  # of another piece, on a worker with several threads
            return
        if len(self.records) < MOST_RECORDS:
            self.records.append(_as_plain(record))
        else:
            self._left_out += 1
            text = f"{self._left_out} more records of this piece are left out"
            self.records[MOST_RECORDS:] = [{**_as_plain(record), "msg": text}]


def _as_plain(record: logging.LogRecord) -> dict[str, Any]:
    """Without arguments, exceptions and whatever else may not travel; ``worker`` says where it was logged."""
    kept = (
        *("name", "levelno", "levelname", "created", "msecs", "process", "thread", "threadName"),
        *("pathname", "filename", "module", "lineno", "funcName"),
    )
    text = record.getMessage()
    if record.exc_info and record.exc_info[1]:
        text += f": {record.exc_info[1]!r}"
    return {**{name: getattr(record, name) for name in kept}, "msg": text, "worker": _worker()}


@contextlib.contextmanager
def _collecting() -> Iterator[_Collector]:
    logger = logging.getLogger("scanmill")
    if logger.getEffectiveLevel() > logging.INFO:
        logger.setLevel(logging.INFO)
    collector = _Collector()
    logger.addHandler(collector)
    try:
        yield collector
    finally:
        logger.removeHandler(collector)


def _worker() -> str:
    from distributed import get_worker

    return str(get_worker().address)
