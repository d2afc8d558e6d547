"""Many small pieces of work on Dask, in bounded waves: the one driver of every long stage.

Prefect sees the stage, never the pieces (facts: a Prefect task costs 35–90 ms through its Dask runner). Workers get a
plain function and a frozen value, and give back a few counts.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from tasks.schema import UnusableInput

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")
Result = TypeVar("Result")

WIDTH_PER_THREAD = 2
"""Pieces in flight per worker thread; 97 % of ideal time at 50 ms a piece, and few suspects when a worker dies."""

MALLOC = {"MALLOC_TRIM_THRESHOLD_": 256 * 2**20, "MALLOC_MMAP_THRESHOLD_": 64 * 2**20}
"""Dask's own trim threshold of 64 kB makes glibc map every image buffer afresh: 10.0 → 12.8 ms per 1024 px image."""

ATTEMPTS = 3
"""How often a piece that fails with an ``OSError`` is tried."""
CONNECT_SECONDS = 10
"""How long a given scheduler may take to answer."""


@contextlib.contextmanager
def cluster(workers: int | None, address: str | None) -> Iterator[str | None]:
    """A scheduler address for the block: the one given, a local cluster of ``workers`` processes, or None for 0.

    None workers means one per core.
    """
    if address is not None or workers == 0:
        if address is not None:
            _reach(address)
        yield address
        return
    from dask import config
    from distributed import LocalCluster

    # Dask would print the traceback of every failed piece; the error itself is raised here, once.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    environment = {**config.get("distributed.nanny.pre-spawn-environ"), **MALLOC}
    with (
        config.set({"distributed.nanny.pre-spawn-environ": environment}),
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


def _reach(address: str) -> None:
    from distributed import Client

    try:
        Client(address, set_as_default=False, timeout=CONNECT_SECONDS).close()  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise UnusableInput(f"no Dask scheduler answers at {address} ({error})") from error


def run_waves(
    work: Callable[..., Result],
    items: Sequence[Item],
    *,
    address: str | None,
    tick: Callable[[Item], None] = lambda item: None,
    **fixed: Any,
) -> dict[int, str]:
    """Call ``work(item, **fixed)`` for every item, in process when ``address`` is None, and ``tick(item)`` after each.

    Returns the items whose worker died every time, even alone: position to description. On a cluster an ``OSError`` of
    ``work`` (a network disk's hiccup) is tried again; any other exception ends the run and is raised here.
    """
    if not items:
        return {}
    if address is None:
        for item in items:
            work(item, **fixed)
            tick(item)
        return {}
    from distributed import Client

    with Client(address, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        return _Waves(client, work, items, tick, fixed).run()


class _Waves:
    """The state of one stage on one client."""

    def __init__(
        self,
        client: Client,
        work: Callable[..., Any],
        items: Sequence[Any],
        tick: Callable[[Any], None],
        fixed: dict[str, Any],
    ) -> None:
        self._client = client
        self._work = work
        self._items = items
        self._tick = tick
        self._fixed = fixed
        self._lost: dict[int, str] = {}
        self._attempts: Counter[int] = Counter()

    def run(self) -> dict[int, str]:
        threads = sum(self._client.nthreads().values()) or 1  # type: ignore[no-untyped-call]
        self._wave(range(len(self._items)), threads * WIDTH_PER_THREAD)
        # Dask blames every piece queued on a dying worker. Alone, only the guilty one kills its worker again.
        suspects = list(self._lost)
        self._lost.clear()
        for position in suspects:
            self._wave([position], 1)
        return self._lost

    def _wave(self, positions: Iterable[int], width: int) -> None:
        from distributed import KilledWorker, as_completed

        todo = iter(positions)
        running: dict[str, int] = {}
        completed = as_completed(self._submit(todo, width, running), loop=self._client.loop, raise_errors=False)  # type: ignore[no-untyped-call]
        for future in completed:
            position = running.pop(future.key)
            error = future.exception() if future.status == "error" else None
            future.release()
            following: Iterator[int] = todo
            if error is None:
                self._tick(self._items[position])
            elif isinstance(error, KilledWorker):
                self._lost[position] = f"the worker died {error.allowed_failures + 1} times"
            elif isinstance(error, OSError) and self._attempts[position] < ATTEMPTS:
                following = iter([position])
            else:
                raise error
            completed.update(self._submit(following, 1, running))  # type: ignore[no-untyped-call]

    def _submit(self, todo: Iterator[int], count: int, running: dict[str, int]) -> list[Any]:
        positions = list(islice(todo, count))
        self._attempts.update(positions)
        items = [self._items[position] for position in positions]
        futures: list[Any] = self._client.map(self._work, items, pure=False, **self._fixed)
        running.update(zip((future.key for future in futures), positions, strict=True))
        return futures
