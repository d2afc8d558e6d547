"""In which order samples come, and which of them to which rank: pure functions, the same on any machine.

The order does not come from numpy's generators, whose streams may differ between versions, but from SplitMix64
(Steele, Lea and Flood, OOPSLA 2014; the constants are theirs): a run may be resumed after numpy was updated.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def shuffled(count: int, seed: int, epoch: int) -> Positions:
    """A permutation of ``0 … count - 1``."""
    return np.argsort(_keys(count, seed, epoch, 0), kind="stable").astype(np.int64)


def shuffled_by_shard(shards: npt.NDArray[np.int64], window: int, seed: int, epoch: int) -> Positions:
    """A permutation in which only the samples of ``window`` shards are mixed with each other, and the shards as well.

    ``shards`` is the number of each sample's shard; any numbers.
    """
    names, code = np.unique(shards, return_inverse=True)
    turn = np.empty(len(names), np.int64)
    turn[np.argsort(_keys(len(names), seed, epoch, 1), kind="stable")] = np.arange(len(names))
    return np.lexsort((_keys(len(shards), seed, epoch, 0), turn[code] // window)).astype(np.int64)


def spans(
    count: int, start: int, batch_size: int, rank: int, ranks: int, *, drop_last: bool
) -> Iterator[tuple[int, int]]:
    """First and end, in an order of ``count`` samples, of each batch of one rank.

    In every round each rank gets the next ``batch_size`` samples. What is left for the last round is shared out evenly,
    or dropped; where it is fewer samples than ranks, the last ranks have no batch in it.
    """
    whole = batch_size * ranks
    for first in range(start, count, whole):
        dealt = min(whole, count - first)
        if dealt < whole and drop_last:
            return
        each, more = divmod(dealt, ranks)
        begin = first + rank * each + min(rank, more)
        end = begin + each + (rank < more)
        if end > begin:
            yield begin, end


def had(first: int, count: int, start: int, batch_size: int, ranks: int) -> int:
    """Samples that all ranks together have had after the round that position ``first`` is in."""
    whole = batch_size * ranks
    return min(count, start + ((first - start) // whole + 1) * whole)


def count_batches(count: int, batch_size: int, rank: int, ranks: int, *, drop_last: bool) -> int:
    """Batches that :func:`spans` gives from the beginning."""
    rounds, left = divmod(count, batch_size * ranks)
    return rounds + (not drop_last and left > rank)


def _keys(count: int, seed: int, epoch: int, purpose: int) -> npt.NDArray[np.uint64]:
    stream = np.zeros(1, np.uint64)
    for word in (seed, epoch, purpose):
        stream = _mixed(stream ^ np.uint64(word & 0xFFFF_FFFF_FFFF_FFFF))
    return _mixed(_mixed(np.arange(count, dtype=np.uint64)) ^ stream)


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    values = values + _GOLDEN
    values = (values ^ (values >> np.uint64(30))) * _FIRST
    values = (values ^ (values >> np.uint64(27))) * _SECOND
    return values ^ (values >> np.uint64(31))
