"""Whether pictures that might be copies are: by a glance, then thumbnails laid on each other, then large pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import numpy.typing as npt

from tasks.fingerprints.alignment import Alignment, Shown, place, refine
from tasks.fingerprints.glance import glance
from tasks.fingerprints.polar import Picture

GLANCE_AGREES = 0.05
"""By how much the correlation at a glance must exceed the similarity asked for, for a pair to be laid on each other: it
is of coarser detail. Copies of what is promised begin at 0.79, planted in chests, and at 0.82, in livers; half of the
strangers that are looked at among chests end below 0.77, of deformed ones all."""
AT_ONCE = 1024
"""Pairs whose large pictures are read together: at most 32 MiB."""
TOGETHER = 64
"""Pairs of them for which what each picture is compared by is kept: 67 MB at most."""

Positions = npt.NDArray[np.int64]
Read = Callable[[Positions], npt.NDArray[np.uint8]]
"""Positions to pictures (k, side, side), read when they are needed."""
Pair = tuple[int, int, Alignment]
Compare = Callable[[Positions], list[Pair]]
"""Candidates, as of :func:`tasks.fingerprints.search.nearest`, to those of them that agree."""


def agreeing(thumbnails: Read, large: Read, candidates: Positions, least: float) -> list[Pair]:
    """Those candidates, as of :func:`tasks.fingerprints.search.nearest`, whose pictures agree; in their order.

    ``thumbnails`` are of 64 pixels, 4 KiB each and held all at once; ``large`` are of 128.
    """
    if not len(candidates):
        return []
    thumbnails = _held(thumbnails, candidates)
    seen = glance(thumbnails, candidates)
    likely = np.flatnonzero(seen.agreement >= least + GLANCE_AGREES)
    likely = likely[np.lexsort([candidates[likely, 1], candidates[likely, 0]])]  # so that neighbours are read together
    starts = dict(zip(likely.tolist(), seen.matrices[likely], strict=True))

    def rough(first: Shown, second: Shown, n: int) -> Alignment:
        return place(first, second, starts[n], least=least)

    placed = {n: a for n, a in _compared(thumbnails, candidates, likely, rough) if a.similarity >= least}

    def fine(first: Shown, second: Shown, n: int) -> Alignment:
        return refine(first, second, placed[n], times=2, least=least)

    refined = dict(_compared(large, candidates, np.array([*placed], np.int64), fine))
    ends = candidates[:, :2].tolist()
    return [(*ends[n], refined[n]) for n in sorted(refined) if refined[n].similarity >= least]


def _held(read: Read, candidates: Positions) -> Read:
    """The same pictures, of candidates alone, read once."""
    needed = np.unique(candidates[:, :2])
    pictures = read(needed)
    return lambda some: pictures[np.searchsorted(needed, some)]


def _compared(
    read: Read, candidates: Positions, some: Positions, compare: Callable[[Shown, Shown, int], Alignment]
) -> Iterator[tuple[int, Alignment]]:
    """What comes of comparing some of the candidates, whose pictures are read as they are needed."""
    for begin in range(0, len(some), AT_ONCE):
        part = some[begin : begin + AT_ONCE]
        needed = np.unique(candidates[part, :2])
        pictures: Mapping[int, Picture] = dict(zip(needed.tolist(), read(needed), strict=True))
        for at in range(0, len(part), TOGETHER):
            numbers = part[at : at + TOGETHER]
            shown = {n: Shown(pictures[n]) for n in np.unique(candidates[numbers, :2]).tolist()}
            for n, (first, second) in zip(numbers.tolist(), candidates[numbers, :2].tolist(), strict=True):
                yield n, compare(shown[first], shown[second], n)
