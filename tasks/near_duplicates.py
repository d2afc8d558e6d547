"""Images that show the same picture: pairs across groups, and whole families where the publisher gave no group.

A pair is a candidate for its fingerprints, and one for good where both pictures, laid on each other, agree
(:mod:`tasks.fingerprints`). Everything here is pure: positions in, positions out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from tasks.fingerprints.alignment import Alignment, place, refine, spectrum, turns
from tasks.fingerprints.polar import fingerprint
from tasks.fingerprints.search import nearest
from tasks.images import thumbnail_of

COSINE = 0.3
"""Of fingerprints, from which on a pair is looked at; of what is promised none was below 0.5 (crops: 0.52), of crops by
10 % some were at 0.36."""
TURN_AGREES = 0.3
"""Correlation after the turn, from which on a pair is laid on each other; planted copies begin at 0.29, those that were
not cropped at 0.57; a tenth of the strangers that are looked at end below."""
PLACE_AGREES = 0.9
"""Share of the similarity asked for that thumbnails must reach, for pictures to be compared. Copies, planted in chests,
begin at 0.81 on thumbnails, which is more than is asked for; two thirds of the strangers end below 0.65."""
PARTNERS = 4
"""Most candidates of one image. Every copy that was not cropped is among them; of 60 crops by 5 %, planted among 2,840
phantom chests, 8 were not, for so many strangers were nearer."""
STRANGERS = 24
"""Most candidates of one family, from any cosine on: few are left, and only relatives that look different."""
AT_ONCE = 1024
"""Pairs that are compared together: their pictures take 32 MiB."""
STANDS_FOR = 5
"""Members of a family that are compared with those of others, once it is found."""
ROUNDS = 6
"""Of joining families; lesions need three."""

Positions = npt.NDArray[np.int64]
Pair = tuple[int, int, Alignment]
PAIR_COLUMNS = ("first", "second", "similarity", "turned_degrees", "is_mirrored")


@dataclass(frozen=True)
class Pictures:
    """What n images are compared by."""

    fingerprints: npt.NDArray[np.int8]
    """(n, frames, length), see :mod:`tasks.fingerprints.polar`."""
    thumbnails: npt.NDArray[np.uint8]
    """(n, 64, 64)"""
    large: Callable[[Positions], npt.NDArray[np.uint8]]
    """Positions to pictures (k, 128, 128), read when they are needed."""

    def of(self, positions: Positions) -> Pictures:
        """Those of some of the images, in that order."""
        large = self.large
        return Pictures(self.fingerprints[positions], self.thumbnails[positions], lambda some: large(positions[some]))

    @staticmethod
    def made_of(large: npt.NDArray[np.uint8]) -> Pictures:
        """Of pictures (n, 128, 128) that are at hand."""
        small = np.stack([thumbnail_of(picture) for picture in large])
        prints = np.stack([fingerprint(thumbnail) for thumbnail in small])
        return Pictures(prints, small, lambda positions: np.asarray(large[positions], np.uint8))

    def __len__(self) -> int:
        return len(self.fingerprints)


def pairs(
    pictures: Pictures, groups: Positions, *, least: float, of: npt.NDArray[np.bool_] | None = None
) -> pd.DataFrame:
    """Pairs of two groups that show the same picture: ``first second`` (positions, the second lies on the first),
    ``similarity`` (``least`` to 1), ``turned_degrees`` (−180 to 180) and ``is_mirrored``; most similar first.

    ``of`` (n) are the images of which one must be in a pair; all by default.
    """
    candidates = nearest(pictures.fingerprints, groups, least=COSINE, most=PARTNERS)
    if of is not None:
        candidates = candidates[of[candidates[:, :2]].any(axis=1)]
    return _as_frame(agreeing(pictures, candidates, least))


def families(pictures: Pictures, *, least: float) -> tuple[Positions, pd.DataFrame]:
    """Images put together that show the same picture, directly or by way of others.

    Returns the family of each image, named by the position of its first member, and the pairs that tie them, as of
    :func:`pairs`. Of a family that is found, some members stand for all when families are joined: what is nearest to an
    image are its own kind, and its relatives of another contrast come after them.
    """
    ties = _Ties(len(pictures))
    standing = np.arange(len(pictures))
    least_cosine, most = COSINE, PARTNERS
    for _ in range(ROUNDS):
        before = len(ties.found)
        own = ties.families()
        candidates = nearest(pictures.fingerprints[standing], own[standing], least=least_cosine, most=most)
        ties.join(pictures, np.column_stack([standing[candidates[:, :2]], candidates[:, 2]]), least)
        if len(ties.found) == before:
            break
        standing = _standing(ties.families())
        least_cosine, most = -1.0, STRANGERS
    return _by_first_member(ties.families()), _as_frame(ties.found)


class _Ties:
    """The pairs that tie n images to families, as they are found."""

    def __init__(self, images: int) -> None:
        self.images = images
        self.found: list[Pair] = []

    def families(self) -> Positions:
        """Number of the family of each image."""
        ends = np.array([pair[:2] for pair in self.found], np.int64).reshape(-1, 2)
        graph = csr_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), (self.images, self.images))
        return np.asarray(connected_components(graph, directed=False)[1], np.int64)

    def join(self, pictures: Pictures, candidates: Positions, least: float) -> None:
        """Add what agrees; at a time no more pairs are compared than could tie anything if all agreed."""
        while len(candidates):
            own = self.families()
            candidates = candidates[own[candidates[:, 0]] != own[candidates[:, 1]]]
            is_tried = _forest(own[candidates[:, :2]], self.images)
            self.found += agreeing(pictures, candidates[is_tried], least)
            candidates = candidates[~is_tried]


def _forest(ends: Positions, families: int) -> npt.NDArray[np.bool_]:
    """Which of the edges, the best first, make a spanning forest: those that Kruskal's algorithm takes."""
    low, high = ends.min(axis=1), ends.max(axis=1)
    _, first = np.unique(low * families + high, return_index=True)
    weights = csr_array((first + 1.0, (low[first], high[first])), (families, families))
    taken = np.zeros(len(ends), bool)
    taken[minimum_spanning_tree(weights).data.astype(np.int64) - 1] = True
    return taken


def _standing(families: Positions) -> Positions:
    """Some members of every family, evenly from all."""
    order = np.argsort(families, kind="stable")
    begins = np.searchsorted(families[order], np.unique(families))
    sizes = np.diff([*begins, len(order)])
    return np.unique([order[begins + sizes * n // STANDS_FOR] for n in range(STANDS_FOR)])


def _by_first_member(families: Positions) -> Positions:
    _, first, numbers = np.unique(families, return_index=True, return_inverse=True)
    return np.asarray(first[numbers], np.int64)


def agreeing(pictures: Pictures, candidates: Positions, least: float) -> list[Pair]:
    """Those candidates, as of :func:`tasks.fingerprints.search.nearest`, whose pictures agree; in their order."""
    parts = (candidates[begin : begin + AT_ONCE] for begin in range(0, len(candidates), AT_ONCE))
    return [pair for part in parts for pair in _agreeing(pictures, part, least)]


def _agreeing(pictures: Pictures, candidates: Positions, least: float) -> list[Pair]:
    firsts, seconds, frames = candidates.T
    small = pictures.thumbnails
    agreed, turn = turns(_spectra(small, firsts, frames), _spectra(small, seconds, np.zeros_like(frames)))

    def rough(n: int) -> Alignment:
        return place(small[firsts[n]], small[seconds[n]], int(frames[n]), int(turn[n]))

    with ThreadPoolExecutor(os.cpu_count()) as threads:  # OpenCV does without Python's lock
        likely = np.flatnonzero(agreed >= TURN_AGREES)
        placed = dict(zip(likely.tolist(), threads.map(rough, likely.tolist()), strict=True))
        placed = {n: alignment for n, alignment in placed.items() if alignment.similarity >= PLACE_AGREES * least}
        needed = np.unique(np.concatenate([firsts[list(placed)], seconds[list(placed)]])) if placed else firsts[:0]
        large = dict(zip(needed.tolist(), pictures.large(needed), strict=True)) if len(needed) else {}

        def fine(n: int) -> Alignment:
            return refine(large[int(firsts[n])], large[int(seconds[n])], placed[n], times=2, least=least)

        refined = zip(placed, threads.map(fine, placed), strict=True)
        return [(int(firsts[n]), int(seconds[n]), found) for n, found in refined if found.similarity >= least]


def _spectra(small: npt.NDArray[np.uint8], positions: Positions, frames: Positions) -> npt.NDArray[np.complex64]:
    """One for each position and frame; each is made once."""
    wanted, numbers = np.unique(np.column_stack([positions, frames]), axis=0, return_inverse=True)
    return np.stack([spectrum(small[n], int(frame)) for n, frame in wanted])[numbers.ravel()]


def _as_frame(found: list[Pair]) -> pd.DataFrame:
    rows = [
        # Rounded: what another machine's arithmetic makes of it must not change a byte of a release.
        (first, second, round(a.similarity, 3), round(a.turned_degrees, 1) + 0.0, a.is_mirrored)
        for first, second, a in found
    ]
    frame = pd.DataFrame(rows, columns=list(PAIR_COLUMNS)).astype({"first": "int64", "second": "int64"})
    return frame.sort_values(["similarity", "first", "second"], ascending=[False, True, True], ignore_index=True)
