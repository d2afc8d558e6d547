"""Progress of a long stage, as log records: whoever shows them (a terminal, Prefect, nobody) decides how."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

Item = TypeVar("Item")

logger = logging.getLogger("scanmill.progress")

INTERVAL_SECONDS = 0.2
"""At most one record per interval and stage; a listener that wants fewer drops some."""


@dataclass(frozen=True)
class Progress:
    """How far a stage is; attached to a log record as ``progress``."""

    stage: str
    done: int
    total: int
    unit: str
    seconds: float
    """Since the stage began."""

    @property
    def rate(self) -> float:
        """Units per second so far."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float:
        """Expected, from the rate so far."""
        return (self.total - self.done) / self.rate if self.rate > 0 else 0.0

    def __str__(self) -> str:
        """One line for people."""
        text = f"{self.stage} {self.done:,}/{self.total:,} {self.unit}"
        if self.done < self.total:
            return f"{text} · {self.rate:,.0f}/s · {self.seconds_left:.0f} s left"
        return f"{text} · {self.rate:,.0f}/s · {self.seconds:.1f} s"


class Meter:
    """Counts units of one stage and reports now and then."""

    def __init__(self, stage: str, total: int, unit: str) -> None:
        """``total`` units are expected; nothing is reported when it is 0."""
        self._stage = stage
        self._total = total
        self._unit = unit
        self._done = 0
        self._began = time.monotonic()
        self._reported = 0.0

    def add(self, units: int) -> None:
        """Count units as done."""
        self._done += units
        now = time.monotonic()
        if self._done >= self._total or now - self._reported >= INTERVAL_SECONDS:
            self._reported = now
            progress = Progress(self._stage, self._done, self._total, self._unit, now - self._began)
            logger.info("%s", progress, extra={"progress": progress})

    def each(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items one by one; each is counted once the next is asked for."""
        for item in items:
            yield item
            self.add(1)


class ByteMeter:
    """Counts bytes of one stage, of several threads, and reports them in MiB."""

    def __init__(self, stage: str, total_bytes: int) -> None:
        """``total_bytes`` are expected; of less than a MiB nothing is reported."""
        self._meter = Meter(stage, total_bytes // 2**20, "MiB")
        self._counting = threading.Lock()
        self._done = 0

    def add(self, size_bytes: int) -> None:
        """Count bytes as done."""
        with self._counting:
            before, self._done = self._done, self._done + size_bytes
            if whole := self._done // 2**20 - before // 2**20:
                self._meter.add(whole)
