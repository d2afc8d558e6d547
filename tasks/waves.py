"""Many small pieces of work on Dask, in bounded waves: the one driver of every long stage.

Prefect sees the stage, never the pieces (facts: a Prefect task costs 35–90 ms through its Dask runner). Workers get a
plain function and a frozen value, and give back what they logged.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tasks.clusters import KEPT, NoWorkers, SchedulerLost, connected, reporting, seconds_for_workers, silence_dask
from tasks.forked_workers import forked_workers
from tasks.pieces import code_here, replay, run_piece
from tasks.schema import UnusableInput
from tasks.storage import Location

if TYPE_CHECKING:
    from distributed import Client

logger = logging.getLogger("scanmill.waves")

Item = TypeVar("Item")

WIDTH_PER_THREAD = 2
"""Pieces in flight per worker thread; 97 % of ideal time at 50 ms a piece, and few suspects when a worker dies."""
LEAST_WIDTH = 12
"""Pieces in flight however few threads there are: an adaptive cluster grows by what is waiting. Those that no thread is
about to take wait at the scheduler, where no dying worker makes suspects of them."""

MALLOC = {"MALLOC_TRIM_THRESHOLD_": 256 * 2**20, "MALLOC_MMAP_THRESHOLD_": 64 * 2**20}
"""Dask's own trim threshold of 64 kB makes glibc map every image buffer afresh: 10.0 → 12.8 ms per 1024 px image."""

ATTEMPTS = 3
"""How often a piece that fails with an ``OSError`` is tried."""
DEATHS = 4
"""How many workers a piece may kill before it is put aside, and again once it is alone: Dask's own default, so that a
scheduler of someone else's does the same (its setting ``distributed.scheduler.allowed-failures`` is one less)."""
MOST_GIVEN_UP = 64
"""Pieces given up in one stage before nothing is cut any more: then it is the workers that are wrong, not the data."""

LOOK_SECONDS = 2.0
"""How often the cluster is looked at while pieces run."""
SILENT_SECONDS = 5.0
"""Without workers for no longer than this, as while one is being replaced, nothing is said."""


@contextlib.contextmanager
def cluster(workers: int | None, address: str | None, *, is_profiled: bool = False) -> Iterator[str | None]:
    """A scheduler address for the block: the one given, a local cluster of ``workers`` processes, or None for 0.

    None workers means one per core. ``is_profiled`` has Dask look a hundred times a second at what each does.
    """
    if address is not None or workers == 0:
        yield address
        return
    from dask import config
    from distributed import LocalCluster

    environment = {**config.get("distributed.nanny.pre-spawn-environ"), **MALLOC}
    settings = {
        "distributed.nanny.pre-spawn-environ": environment,
        "distributed.scheduler.allowed-failures": DEATHS - 1,
        # Dask would dismiss a worker for good that is just being replaced 15 s after an earlier death of it.
        "distributed.deploy.lost-worker-timeout": "1 week",
        # Two workers that only wait use 0.14 CPU s a second as Dask comes, and 0.02 so.
        "distributed.worker.profile.enabled": is_profiled,
        "distributed.admin.tick.interval": "1s",
    }
    silence_dask()
    with (
        forked_workers(environment) as forked,
        config.set({**settings, **forked}),
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=workers or os.cpu_count() or 1,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        ) as local,
    ):
        yield str(local.scheduler_address)


def run_waves(
    work: Callable[..., Any],
    items: Sequence[Item],
    *,
    address: str | None,
    tick: Callable[[Item], None] = lambda item: None,
    cut: Callable[[Item], Sequence[Item]] = lambda item: (),
    page: Location | None = None,
    **fixed: Any,
) -> list[tuple[Item, str]]:
    """Call ``work(item, **fixed)`` for every item, in process when ``address`` is None, and ``tick(item)`` after each.

    On a cluster an item that kills its worker every time, even alone, is ``cut`` into smaller ones, until only the
    guilty are left; returned are those that could not be cut, each with what it did. An ``OSError`` of ``work`` (a
    network disk's hiccup) is tried again; any other exception ends the run and is raised here. So does the loss of the
    scheduler, or of all workers: :class:`tasks.clusters.SchedulerLost`, :class:`tasks.clusters.NoWorkers`. Dask's
    performance report is kept as ``page``.
    """
    if not items:
        return []
    if address is None:
        for item in items:
            work(item, **fixed)
            tick(item)
        return []
    with connected(address) as client:
        waves = _Waves(client, address, work, fixed, tick)
        with waves.losing_the_scheduler(), reporting(client, page):
            return waves.run(items, cut)


class _Waves(Generic[Item]):
    """The state of one stage on one client."""

    def __init__(
        self,
        client: Client,
        address: str,
        work: Callable[..., Any],
        fixed: dict[str, Any],
        tick: Callable[[Item], None],
    ) -> None:
        self._client = client
        self._address = address
        self._name = work.__name__
        self._piece: dict[str, Any] = {"work": work, "code": code_here(), "fixed": fixed}
        self._tick = tick
        self._running: dict[str, tuple[Item, int]] = {}
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._looked = 0.0
        self._threads = 0
        self._patience = seconds_for_workers()
        self._without_workers: float | None = None
        self._has_warned = False

    @contextlib.contextmanager
    def losing_the_scheduler(self) -> Iterator[None]:
        """Dask's own words for a broken connection, in ours."""
        from distributed.comm import CommClosedError

        try:
            yield
        except CommClosedError as error:
            raise self._scheduler_lost(error) from error

    def run(self, items: Sequence[Item], cut: Callable[[Item], Sequence[Item]]) -> list[tuple[Item, str]]:
        """All items; see :func:`run_waves`."""
        # Dask blames every piece queued on a dying worker. Alone, only the guilty one kills its worker again.
        suspects = deque(self._wave(items))
        given_up: list[tuple[Item, str]] = []
        while suspects:
            item, _ = suspects.popleft()
            for guilty, deaths in self._wave([item], is_alone=True):
                smaller = cut(guilty) if len(given_up) < MOST_GIVEN_UP else ()
                if smaller:
                    logger.warning("%s killed %d workers, alone: it is cut into %d", guilty, deaths, len(smaller))
                    suspects.extendleft((part, deaths) for part in reversed(smaller))
                else:
                    logger.warning("%s killed %d workers, alone: it is given up", guilty, deaths)
                    given_up.append((guilty, f"killed its worker {deaths} times, alone as well"))
        return given_up

    def _wave(self, items: Sequence[Item], *, is_alone: bool = False) -> list[tuple[Item, int]]:
        """Run items, many at a time unless alone; returns those whose workers died, and how often."""
        todo = deque((item, 1) for item in items)
        suspects: list[tuple[Item, int]] = []
        while todo or self._running:
            self._look()
            self._submit(todo, 1 if is_alone else max(LEAST_WIDTH, self._threads * WIDTH_PER_THREAD))
            try:
                future = self._ended.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                continue
            self._settle(future, todo, suspects)
        return suspects

    def _submit(self, todo: deque[tuple[Item, int]], width: int) -> None:
        count = min(len(todo), width - len(self._running))
        if count <= 0:
            return
        pieces = [todo.popleft() for _ in range(count)]
        items = [item for item, _ in pieces]
        futures: list[Any] = self._client.map(run_piece, items, pure=False, key=self._name, **self._piece)
        self._running.update(zip((future.key for future in futures), pieces, strict=True))
        for future in futures:
            future.add_done_callback(self._ended.put)

    def _settle(self, future: Any, todo: deque[tuple[Item, int]], suspects: list[tuple[Item, int]]) -> None:
        from distributed import KilledWorker

        if future.status == "cancelled":
            raise self._scheduler_lost("its connection broke")
        error = future.exception() if future.status == "error" else None
        if error is None and not self._bring_home(future):
            return
        self._without_workers = None  # one was there just now
        item, attempt = self._running.pop(future.key)
        future.release()
        if error is None:
            self._tick(item)
        elif isinstance(error, KilledWorker):
            suspects.append((item, error.allowed_failures + 1))
        elif isinstance(error, OSError) and attempt < ATTEMPTS:
            todo.appendleft((item, attempt + 1))
        elif isinstance(error, ImportError):
            raise UnusableInput(f"a Dask worker has no usable scanmill ({error}): install it there") from error
        else:
            raise error

    def _bring_home(self, future: Any) -> bool:
        """Hand on what the piece logged; False, and asked again, when its worker died with it."""
        try:
            records = future.result(timeout=LOOK_SECONDS)
        except CancelledError as error:
            raise self._scheduler_lost("its connection broke") from error
        except Exception as error:
            if future.status == "finished" and not isinstance(error, TimeoutError):
                raise
            future.add_done_callback(self._ended.put)
            return False
        replay(records)
        return True

    def _look(self) -> None:
        """Follow workers that join and leave.

        Raises :class:`SchedulerLost` and :class:`NoWorkers`.
        """
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        try:
            self._threads = sum(self._client.nthreads().values())  # type: ignore[no-untyped-call]
        except OSError as error:
            raise self._scheduler_lost(error) from error
        if self._threads:
            self._without_workers = None
            return
        self._without_workers = self._without_workers or now
        waited = now - self._without_workers
        if waited > self._patience:
            raise NoWorkers(
                f"the Dask scheduler at {self._address} has had no worker for {waited:.0f} s: start some; {KEPT}"
            )
        if waited >= min(SILENT_SECONDS, self._patience / 2) and not self._has_warned:
            logger.warning("waiting up to %.0f s for a Dask worker at %s", self._patience, self._address)
            self._has_warned = True

    def _scheduler_lost(self, why: object) -> SchedulerLost:
        return SchedulerLost(f"the Dask scheduler at {self._address} no longer answers ({why}): start it again; {KEPT}")
