"""Log records of scanmill reach the flow run in Prefect, those that come from Dask workers too.

Prefect's own way is ``PREFECT_LOGGING_EXTRA_LOGGERS=scanmill`` in the environment of every run. It loses what other
machines send, for such records arrive in a thread that knows of no run.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import time
from collections.abc import Iterator
from uuid import UUID

from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.handlers import APILogHandler

from flows.noticeboard import Noticeboard
from tasks import progress

OURS = logging.getLogger("scanmill")
LINE_SECONDS = 60.0
"""A stage's progress is logged this often, and at its end."""


class RunLogs(APILogHandler):
    """Sends records to the run they belong to: the stage's or the flow's, and those of workers to the flow's."""

    def __init__(self, flow_run_id: UUID) -> None:
        """To be made inside the flow run."""
        super().__init__(logging.INFO)
        self._flow_run_id = flow_run_id
        self._flow = contextvars.copy_context()
        self._said: dict[str, float] = {}
        self.setFormatter(_Worded())

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record of this run; Prefect's client keeps it until the server takes it."""
        now: progress.Progress | None = getattr(record, "progress", None)
        if now is not None and not self._is_due(now):
            return
        context = TaskRunContext.get() or FlowRunContext.get()
        if context is None:
            self._flow.copy().run(super().emit, record)
        elif _run_of(context) == self._flow_run_id:
            super().emit(record)

    def _is_due(self, now: progress.Progress) -> bool:
        moment = time.monotonic()
        since = moment - self._said.setdefault(now.stage, moment)
        if now.done < now.total and since < LINE_SECONDS:
            return False
        self._said[now.stage] = moment
        return True


def _run_of(context: TaskRunContext | FlowRunContext) -> UUID | None:
    if isinstance(context, TaskRunContext):
        return context.task_run.flow_run_id
    return context.flow_run.id if context.flow_run else None


class _Worded(logging.Formatter):
    """The message, and from which Dask worker it came."""

    def format(self, record: logging.LogRecord) -> str:
        """As ``worker tcp://host:port: message`` where a worker logged it."""
        text = super().format(record)
        worker = str(getattr(record, "worker", ""))
        return text if worker in text else f"worker {worker}: {text}"


class _Onward(logging.Handler):
    """Hands a record to whoever would have had it before; a run's records are finer than a terminal wants."""

    def __init__(self, level: int) -> None:
        """``level`` is the one that counted for the logger before."""
        super().__init__()
        self._level = level

    def emit(self, record: logging.LogRecord) -> None:
        """Hand over."""
        if OURS.parent and record.levelno >= self._level_of(record.name):
            OURS.parent.callHandlers(record)

    def _level_of(self, name: str) -> int:
        logger = logging.getLogger(name)
        while logger is not OURS and logger.parent:
            if logger.level:
                return logger.level
            logger = logger.parent
        return self._level


class _Steps(logging.Handler):
    """Moves progress artifacts."""

    def __init__(self, board: Noticeboard) -> None:
        """``board`` shows them."""
        super().__init__()
        self._board = board

    def emit(self, record: logging.LogRecord) -> None:
        """Note how far the record's stage is."""
        now: progress.Progress | None = getattr(record, "progress", None)
        if now is not None:
            self._board.move(now)


@contextlib.contextmanager
def noticeboard_of_run(dataset: str) -> Iterator[Noticeboard | None]:
    """The noticeboard of the flow run that the block is in, whose logs and progress reach it; None outside of one."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        yield None
        return
    board = Noticeboard(dataset, context.flow_run.id)
    with _reaching_prefect(board, context.flow_run.id):
        try:
            yield board
        finally:
            board.close()


@contextlib.contextmanager
def _reaching_prefect(board: Noticeboard, flow_run_id: UUID) -> Iterator[None]:
    """For the block, records of scanmill's loggers reach the flow run, and terminals see what they saw before.

    One flow run at a time in a process, as Prefect's workers and the command line have it.
    """
    logs = RunLogs(flow_run_id)
    steps, onward = _Steps(board), _Onward(OURS.getEffectiveLevel())
    rivals = [handler for handler in OURS.handlers if isinstance(handler, APILogHandler)]
    places = [(OURS, logs), (OURS, onward), (progress.logger, steps)]
    if not progress.logger.propagate:  # the command line draws it
        places.append((progress.logger, logs))
    before = OURS.level, OURS.propagate
    try:
        OURS.setLevel(min(OURS.level or logging.INFO, logging.INFO))
        OURS.propagate = False
        for rival in rivals:  # of Prefect's own making, where a user has asked for it: each record once
            OURS.removeHandler(rival)
        for logger, handler in places:
            logger.addHandler(handler)
        yield
    finally:
        for logger, handler in places:
            logger.removeHandler(handler)
        for rival in rivals:
            OURS.addHandler(rival)
        OURS.setLevel(before[0])
        OURS.propagate = before[1]
