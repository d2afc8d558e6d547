"""Images that show the same picture: pairs across groups, and whole families where the publisher gave no group.

A pair is a candidate for its fingerprints, and one for good where both pictures, laid on each other, agree
(:mod:`tasks.fingerprints`). Everything here is pure: positions in, positions out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from tasks.fingerprints.agreement import Compare, Pair, Positions, Read, agreeing
from tasks.fingerprints.polar import fingerprints
from tasks.fingerprints.search import nearest
from tasks.images import thumbnail_of

COSINE = 0.3
"""Of fingerprints, from which on a pair is looked at; of what is promised none was below 0.46 (crops; not cropped:
0.56), of crops by 10 % some were at 0.22."""
PARTNERS = 3
"""Most candidates of one image. Every copy that was not cropped is among them; of 120 crops by 5 %, planted among 2,840
phantom chests, 10 were not, for so many strangers were nearer."""
STRANGERS = 24
"""Most candidates of one family, from any cosine on: few are left, and only relatives that look different."""
STANDS_FOR = 5
"""Members of a family that are compared with those of others, once it is found."""
ROUNDS = 6
"""Of joining families; lesions need three."""

PAIR_COLUMNS = ("first", "second", "similarity", "turned_degrees", "is_mirrored")


@dataclass(frozen=True)
class Pictures:
    """What n images are compared by."""

    fingerprints: npt.NDArray[np.int8]
    """(n, frames, length), see :mod:`tasks.fingerprints.polar`."""
    thumbnails: Read
    """Of 64 pixels."""
    large: Read
    """Of 128."""

    def of(self, positions: Positions) -> Pictures:
        """Those of some of the images, in that order."""
        return Pictures(
            self.fingerprints[positions],
            lambda some: self.thumbnails(positions[some]),
            lambda some: self.large(positions[some]),
        )

    @staticmethod
    def made_of(large: npt.NDArray[np.uint8]) -> Pictures:
        """Of pictures (n, 128, 128) that are at hand."""
        small = np.stack([thumbnail_of(picture) for picture in large])
        prints = fingerprints(small)
        return Pictures(prints, small.__getitem__, large.__getitem__)

    def agreeing(self, candidates: Positions, least: float) -> list[Pair]:
        """As :func:`tasks.fingerprints.agreement.agreeing`."""
        return agreeing(self.thumbnails, self.large, candidates, least)

    def __len__(self) -> int:
        return len(self.fingerprints)


def pairs(
    pictures: Pictures,
    groups: Positions,
    *,
    least: float,
    of: npt.NDArray[np.bool_] | None = None,
    compare: Compare | None = None,
) -> pd.DataFrame:
    """Pairs of two groups that show the same picture: ``first second`` (positions, the second lies on the first),
    ``similarity`` (``least`` to 1), ``turned_degrees`` (−180 to 180) and ``is_mirrored``; most similar first.

    ``of`` (n) are the images of which one must be in a pair; all by default. ``compare`` does elsewhere what
    :meth:`Pictures.agreeing` does here.
    """
    candidates = nearest(pictures.fingerprints, groups, least=COSINE, most=PARTNERS)
    if of is not None:
        candidates = candidates[of[candidates[:, :2]].any(axis=1)]
    return _as_frame(compare(candidates) if compare else pictures.agreeing(candidates, least))


def families(pictures: Pictures, *, least: float, compare: Compare | None = None) -> tuple[Positions, pd.DataFrame]:
    """Images put together that show the same picture, directly or by way of others.

    Returns the family of each image, named by the position of its first member, and the pairs that tie them, as of
    :func:`pairs`. Of a family that is found, some members stand for all when families are joined: what is nearest to an
    image are its own kind, and its relatives of another contrast come after them. ``compare`` does
    elsewhere what :meth:`Pictures.agreeing` does here.
    """
    tried = compare or (lambda candidates: pictures.agreeing(candidates, least))
    ties = _Ties(len(pictures))
    standing = np.arange(len(pictures))
    least_cosine, most = COSINE, PARTNERS
    for _ in range(ROUNDS):
        before = len(ties.found)
        own = ties.families()
        candidates = nearest(pictures.fingerprints[standing], own[standing], least=least_cosine, most=most)
        ties.join(np.column_stack([standing[candidates[:, :2]], candidates[:, 2]]), tried)
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

    def join(self, candidates: Positions, compare: Compare) -> None:
        """Add what agrees; at a time no more pairs are compared than could tie anything if all agreed."""
        while len(candidates):
            own = self.families()
            candidates = candidates[own[candidates[:, 0]] != own[candidates[:, 1]]]
            is_tried = _forest(own[candidates[:, :2]], self.images)
            self.found += compare(candidates[is_tried])
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


def _as_frame(found: list[Pair]) -> pd.DataFrame:
    rows = [
        # Rounded: what another machine's arithmetic makes of it must not change a byte of a release.
        (first, second, round(a.similarity, 3), round(a.turned_degrees, 1) + 0.0, a.is_mirrored)
        for first, second, a in found
    ]
    frame = pd.DataFrame(rows, columns=list(PAIR_COLUMNS)).astype({"first": "int64", "second": "int64"})
    return frame.sort_values(["similarity", "first", "second"], ascending=[False, True, True], ignore_index=True)
