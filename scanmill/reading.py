"""Images of a release one by one, in their own size and depth: for what looks at pixels as they are stored."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np

from scanmill.images import Files, Pixels, decode_piece
from scanmill.release import Release
from scanmill.stores import Images, Rows, index_of

AHEAD = 8
"""Images that are decoded before they are asked for."""
SHARDS = 2
"""In memory at once, where whole shards are read."""


def images_in_order(
    release: Release, rows: Rows, *, threads: int = 2, verify: bool = True, store: str | None = None
) -> Iterator[tuple[int, Pixels]]:
    """Row number and grey pixels (height, width; uint8 or uint16) of each row, in their order.

    Raises :class:`scanmill.ReleaseRefused` for a damaged image, naming shard and sample.
    """
    rows = np.asarray(rows, np.int64)
    store = store or release.stores[0]
    images = Images(release, store, index_of(release, store), rows, SHARDS, np.full(len(release.samples), verify))
    files = Files()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="scanmill")

    def one(row: int) -> Pixels:
        return decode_piece(images.pieces(np.array([row]))[0], files)

    waiting = iter(rows.tolist())
    pending: deque[tuple[int, Future[Pixels]]] = deque()
    try:
        pending.extend((row, pool.submit(one, row)) for row in islice(waiting, AHEAD))
        while pending:
            row, future = pending.popleft()
            pixels = future.result()
            images.done(np.array([row]))
            pending.extend((following, pool.submit(one, following)) for following in islice(waiting, 1))
            yield row, pixels
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        images.close()
        files.close()
