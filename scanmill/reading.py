"""Images of a release one by one, with their masks where wanted, in their own size and depth, as they are stored."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from scanmill.images import Files, Pixels, decode_piece
from scanmill.refusal import ReleaseRefused
from scanmill.release import Release
from scanmill.stores import Column, Images, Rows, index_of

AHEAD = 8
"""Images that are decoded before they are asked for."""
SHARDS = 2
"""In memory at once, where whole shards are read."""

Mask: TypeAlias = "npt.NDArray[np.bool_]"
"""(height, width), of its image; True inside."""
Value = TypeVar("Value")
Decode: TypeAlias = "Callable[[Column], Pixels]"


def images_in_order(
    release: Release, rows: Rows, *, threads: int = 2, verify: bool = True, store: str | None = None
) -> Iterator[tuple[int, Pixels]]:
    """Row number and grey pixels (height, width; uint8 or uint16) of each row, in their order.

    Raises :class:`scanmill.ReleaseRefused` for a damaged image, naming shard and sample.
    """
    return _in_order(release, rows, ("image",), lambda row, decode: decode("image"), threads, verify, store)


def pairs_in_order(
    release: Release, rows: Rows, *, threads: int = 2, verify: bool = True, store: str | None = None
) -> Iterator[tuple[int, tuple[Pixels, Mask]]]:
    """Row number, and grey pixels with their mask, of each row, in their order.

    Raises :class:`scanmill.ReleaseRefused` for a release without masks, and as :func:`images_in_order` does.
    """

    def pair(row: int, decode: Decode) -> tuple[Pixels, Mask]:
        pixels, inside = decode("image"), decode("mask") != 0
        if inside.shape != pixels.shape:
            sample = release.samples["sample_id"].iat[row]
            sizes = " and ".join(f"{shape[1]} × {shape[0]}" for shape in (pixels.shape, inside.shape))
            raise ReleaseRefused(f"{release.place}: image and mask of sample {sample} differ in size: {sizes}")
        return pixels, inside

    return _in_order(release, rows, ("image", "mask"), pair, threads, verify, store)


def _in_order(
    release: Release,
    rows: Rows,
    columns: tuple[Column, ...],
    decoded: Callable[[int, Decode], Value],
    threads: int,
    verify: bool,
    store: str | None,
) -> Iterator[tuple[int, Value]]:
    """Row number, and what ``decoded`` makes of it on a thread, with what decodes one column of that row."""
    rows = np.asarray(rows, np.int64)
    store = store or release.stores[0]
    index = index_of(release, store, columns)
    images = Images(release, store, index, rows, SHARDS, np.full(len(release.samples), verify))
    files = Files()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="scanmill")

    def one(row: int) -> Value:
        def decode(column: Column) -> Pixels:
            return decode_piece(images.pieces(np.array([row]), column)[0], files)

        return decoded(row, decode)

    waiting = iter(rows.tolist())
    pending: deque[tuple[int, Future[Value]]] = deque()
    try:
        pending.extend((row, pool.submit(one, row)) for row in islice(waiting, AHEAD))
        while pending:
            row, future = pending.popleft()
            value = future.result()
            images.done(np.array([row]))
            pending.extend((following, pool.submit(one, following)) for following in islice(waiting, 1))
            yield row, value
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        images.close()
        files.close()
