"""How a terminal shows progress and results: bars on stderr, results on stdout, silence in a pipe unless asked."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tasks import progress as stage_progress

LINE_SECONDS = 5.0
"""Without a terminal, ``--progress`` prints a line this often."""

_drawn: Progress | None = None
"""The bars of this process, where there are any."""


class Rate(ProgressColumn):
    """Units per second, and the unit."""

    def render(self, task: Task) -> Text:
        """Rate of the stage as the stage itself measured it; nothing before it has begun."""
        unit = task.fields["unit"]
        return Text(f"{task.fields['rate']:,.0f} {unit}/s" if unit else "Prefect and Dask", style="cyan")


class Bars(logging.Handler):
    """One bar per stage."""

    def __init__(self, bars: Progress) -> None:
        """Draw on ``bars``; until the first stage reports, say that something is starting."""
        super().__init__()
        self._bars = bars
        self._waiting: TaskID | None = bars.add_task("starting", total=None, rate=0.0, unit="")
        self._tasks: dict[str, TaskID] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Move the bar of the record's stage."""
        now: stage_progress.Progress = record.progress  # type: ignore[attr-defined]
        if self._waiting is not None:
            self._bars.remove_task(self._waiting)
            self._waiting = None
        if now.stage not in self._tasks:
            self._tasks[now.stage] = self._bars.add_task(now.stage, total=now.total, rate=0.0, unit=now.unit)
        self._bars.update(self._tasks[now.stage], completed=now.done, rate=now.rate)


class Lines(logging.Handler):
    """A line now and then, for logs."""

    def __init__(self) -> None:
        """Nothing printed yet."""
        super().__init__()
        self._printed = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        """Print the first after a pause, and the last of every stage."""
        now: stage_progress.Progress = record.progress  # type: ignore[attr-defined]
        if now.done >= now.total or time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = time.monotonic()
            sys.stderr.write(f"{now}\n")
            sys.stderr.flush()


@contextmanager
def showing_progress(wanted: bool | None, as_json: bool = False) -> Iterator[None]:
    """Show progress for the block: bars on a terminal, lines elsewhere if asked, nothing otherwise, or beside JSON."""
    console = Console(stderr=True)
    listener = stage_progress.logger
    listener.setLevel(logging.INFO)
    listener.propagate = False
    if as_json or wanted is False or (wanted is None and not console.is_terminal):
        yield
        return
    if not console.is_terminal:
        with _listening(listener, Lines()):
            yield
        return
    global _drawn
    columns = (TextColumn("{task.description:>10}"), BarColumn(), MofNCompleteColumn(), Rate(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars, _listening(listener, Bars(bars)):
        _drawn = bars
        try:
            yield
        finally:
            _drawn = None


@contextmanager
def without_drawing() -> Iterator[None]:
    """For a block that no thread may disturb: bars are taken away before it and drawn again after it."""
    bars = _drawn
    if bars is None:
        yield
        return
    bars.live.transient = True
    bars.stop()
    try:
        yield
    finally:
        bars.live.transient = False
        bars.start()


@contextmanager
def _listening(listener: logging.Logger, handler: logging.Handler) -> Iterator[None]:
    listener.addHandler(handler)
    try:
        yield
    finally:
        listener.removeHandler(handler)


def size(count: float) -> str:
    """Bytes for people: 58 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def counts_text(counts: Mapping[str, int]) -> str:
    """``train 6,760 · test 2,250``."""
    return " · ".join(f"{name} {count:,}" for name, count in counts.items())
