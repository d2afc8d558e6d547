"""What images are compared by, as it lies in chunks: fingerprints, thumbnails and pictures of chosen rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.chunks import distrusting
from tasks.storage import Location, open_table

Positions = npt.NDArray[np.int64]
Place = tuple[str, int]
"""Chunk file and row in it."""
Column = Literal["fingerprint", "thumbnail", "picture"]
Read = Callable[[Sequence[Place], Column], npt.NDArray[np.uint8]]
"""Places in chunks and a column of theirs to its bytes, (n, length)."""


def reader(chunks: Location) -> Read:
    """How what images are compared by comes out of the chunks."""

    def read(places: Sequence[Place], column: Column) -> npt.NDArray[np.uint8]:
        order = sorted(range(len(places)), key=places.__getitem__)  # so that every chunk is read once
        found = np.empty((0, 0), np.uint8)
        for name, own in groupby(order, key=lambda n: places[n][0]):
            numbers = list(own)
            stored = _in_chunk(chunks / name, [places[n][1] for n in numbers], column)
            if not len(found):
                found = np.empty((len(places), stored.shape[1]), np.uint8)
            found[numbers] = stored
        return found

    return read


def _in_chunk(path: Location, rows: Sequence[int], column: Column) -> npt.NDArray[np.uint8]:
    """What these rows hold in that column, all of one length, (n, length); row groups without any are not read."""
    with distrusting(path), open_table(path) as stream:
        opened = pq.ParquetFile(stream, page_checksum_verification=True)
        sizes = np.array([opened.metadata.row_group(n).num_rows for n in range(opened.num_row_groups)])
        begins = np.cumsum(sizes) - sizes
        groups, own = np.unique(np.searchsorted(begins, rows, side="right") - 1, return_inverse=True)
        values = opened.read_row_groups(groups.tolist(), columns=[column])[column]
    skipped = begins[groups] - (np.cumsum(sizes[groups]) - sizes[groups])
    taken = values.take(pa.array(np.asarray(rows) - skipped[own])).combine_chunks()
    ends = np.frombuffer(taken.buffers()[1], np.int32)[taken.offset : taken.offset + len(taken) + 1]
    return np.frombuffer(taken.buffers()[2], np.uint8)[ends[0] : ends[-1]].reshape(len(rows), -1)


def squares(
    samples: pd.DataFrame, read: Read, column: Column
) -> Callable[[npt.NDArray[np.int64]], npt.NDArray[np.uint8]]:
    """How positions among samples become thumbnails or pictures, (n, side, side)."""
    chunks, rows = samples["chunk"].to_numpy(), samples["chunk_row"].to_numpy()

    def at(positions: Positions) -> npt.NDArray[np.uint8]:
        found = read(list(zip(chunks[positions], rows[positions].tolist(), strict=True)), column)
        side = math.isqrt(found.shape[1])
        return found.reshape(len(positions), side, side)

    return at
