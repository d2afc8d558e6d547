"""The nearest fingerprints of every fingerprint, in less than quadratic time: an inverted file (Jégou et al., IEEE
TPAMI 2011, doi 10.1109/TPAMI.2010.57), by faiss.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from tasks.fingerprints.polar import LENGTH, Floats

WHOLE = 20_000
"""Up to so many fingerprints every one is compared with every other, which is exact and no slower than cells."""
CELL = 160
"""Fingerprints to a cell of the inverted file, on average."""
PROBED = 24
"""Cells that are looked through for one fingerprint."""
NEAREST = 32
"""Neighbours that are asked for, once for the whole picture and once for what crops have in common, before those of its
own group are left out. Of 120 crops by 5 %, planted among 2,840 phantom chests, 4 are not among them; 5 have three
strangers that are nearer anyway."""
SHRINKAGE = 0.3
"""Of their mean variance that is added to every direction of fingerprints, so that noise is not taken for a difference;
and more where fewer pictures than numbers are there to tell directions by (``2 * LENGTH / count``)."""
HELD = 4
"""Times the partners that are asked for, which are held of every image until all have been looked for: that a picture
is what a crop has left of another is seen from the other one only, whose own best partners may be others."""
GRID = 2.0**-11
"""Step of a unit vector's entries. Products of two such numbers, and all sums of them that arise, are whole multiples
of 2⁻²² below 2, which float32 holds exactly: a cosine is the same in whatever order a library adds, on any number of
threads, and with it who is nearest among equals."""
MATRIX_GRID = 2.0**-16
"""The same for the whitening, in doubles; its eigenvectors differ from machine to machine in the 14th digit."""
BATCH = 512
faiss.omp_set_num_threads(1)  # threads of such short searches use half of their time to wait for each other

NEIGHBOUR = np.dtype([("cosine", "f4"), ("first", "i4"), ("second", "i4"), ("frame", "i1")])


def nearest(
    fingerprints: npt.NDArray[np.int8], groups: npt.NDArray[np.int64], *, least: float, most: int, whole: int = WHOLE
) -> npt.NDArray[np.int64]:
    """Pairs that may be copies of each other: (n, 3) of first, second and the frame of the first, most similar first.

    ``fingerprints`` (n, len(FRAMES), LENGTH) as :func:`tasks.fingerprints.polar.fingerprints` gives them; two images of
    one of the ``groups`` are no pair. Of every image the ``most`` most similar are kept, from a cosine of ``least`` on,
    after :class:`Whitening`. Up to ``whole`` images every one is compared with every other.
    """
    if len(fingerprints) < 2:
        return np.empty((0, 3), np.int64)
    return _best(_found(fingerprints, groups, least, HELD * most, whole), len(fingerprints), most)


def _found(
    fingerprints: npt.NDArray[np.int8], groups: npt.NDArray[np.int64], least: float, most: int, whole: int
) -> npt.NDArray[np.void]:
    """The best partners of every image, :data:`NEIGHBOUR`."""
    whitened = Whitening(fingerprints[:, 0])
    pictures = np.concatenate([whitened(fingerprints[part, 0]) for part in _parts(len(fingerprints))])
    index = _index(pictures, whole)
    found = [
        _neighbours(index, pictures, whitened(fingerprints[part]), groups, part.start, least, most)
        for part in _parts(len(fingerprints))
    ]
    return np.concatenate(found)


def _parts(count: int) -> list[slice]:
    return [slice(begin, begin + BATCH) for begin in range(0, count, BATCH)]


class Whitening:
    """Makes unit vectors of fingerprints, such that their cosine tells one picture from another.

    The mean of all is taken away, and in every direction they are divided by how much pictures differ there: what all
    X-rays have in common tells nothing, and what most of them differ in tells little. Copies keep nearly the same
    cosine, strangers come out lower (nearest stranger of a phantom chest: 0.79 to 0.66). No number depends on how many
    threads have a part in it.
    """

    def __init__(self, pictures: npt.NDArray[np.int8]) -> None:
        count = len(pictures)
        sums, products = np.zeros(LENGTH), np.zeros((LENGTH, LENGTH))  # of whole numbers: exact in any order
        for part in _parts(count):
            some = pictures[part].astype(np.float64)
            sums += some.sum(axis=0)
            products += some.T @ some
        mean = sums / count
        variances, directions = np.linalg.eigh(products / count - np.outer(mean, mean))
        added = (SHRINKAGE + 2 * LENGTH / count) * variances.mean() + np.finfo(np.float32).tiny
        matrix = (directions / np.sqrt(np.maximum(variances, 0) + added)) @ directions.T
        self._matrix = np.rint(matrix / np.abs(matrix).max() / MATRIX_GRID) * MATRIX_GRID
        self._origin = (mean[:, None] * self._matrix).sum(axis=0)

    def __call__(self, fingerprints: npt.NDArray[np.int8]) -> Floats:
        """(…, LENGTH) to unit vectors of that shape, on a grid; a picture without any structure stays 0."""
        apart = fingerprints.astype(np.float64) @ self._matrix - self._origin
        norm = np.sqrt(np.square(apart).sum(axis=-1, keepdims=True))
        has_structure = fingerprints.any(axis=-1, keepdims=True) & (norm > 0)
        unit = np.divide(apart, norm, out=np.zeros_like(apart), where=has_structure)
        return on_grid(unit)


def on_grid(vectors: npt.NDArray[Any]) -> Floats:
    """Entries of vectors no longer than 1 to the nearest multiple of :data:`GRID`."""
    return np.asarray(np.rint(vectors / GRID) * GRID, np.float32)


def _index(vectors: Floats, whole: int) -> Any:
    index: Any = faiss.IndexFlatIP(LENGTH)
    if len(vectors) > whole:
        # Cells around fingerprints drawn evenly from all: no training, so nothing depends on threads or rounding.
        cells = max(1, len(vectors) // CELL)
        coarse = faiss.IndexFlatIP(LENGTH)
        coarse.add(vectors[np.linspace(0, len(vectors) - 1, cells).astype(np.int64)])
        index = faiss.IndexIVFFlat(coarse, LENGTH, cells, faiss.METRIC_INNER_PRODUCT)
        index.nprobe = PROBED
    index.add(vectors)
    return index


def _neighbours(
    index: faiss.Index,
    pictures: Floats,
    frames: Floats,
    groups: npt.NDArray[np.int64],
    begin: int,
    least: float,
    most: int,
) -> npt.NDArray[np.void]:
    """The best partners of the images from ``begin`` on, whose ``frames`` these are, :data:`NEIGHBOUR`.

    Frames of one image are much alike, so their mean stands for all crops in the search, and only what is found is
    compared with each of them.
    """
    crops = frames[:, 1:].mean(axis=1)
    crops = on_grid(crops / np.maximum(np.linalg.norm(crops, axis=1, keepdims=True), np.finfo(np.float32).tiny))
    asked = min(NEAREST, len(pictures))
    seconds = np.concatenate(
        [index.search(np.ascontiguousarray(queries), asked)[1] for queries in (frames[:, 0], crops)], axis=1
    )
    seconds.sort(axis=1)
    firsts = np.arange(begin, begin + len(frames))[:, None]
    is_pair = (seconds >= 0) & (groups[firsts] != groups[seconds])
    is_pair[:, 1:] &= seconds[:, 1:] != seconds[:, :-1]
    cosines = frames @ pictures[seconds].transpose(0, 2, 1)
    frame, cosine = cosines.argmax(axis=1), cosines.max(axis=1)
    is_pair &= cosine >= least
    order = np.argsort(np.where(is_pair, -cosine, 2), axis=1, kind="stable")[:, :most]
    kept = np.take_along_axis(is_pair, order, axis=1)
    found = np.empty(int(kept.sum()), NEIGHBOUR)
    found["first"] = np.broadcast_to(firsts, order.shape)[kept]
    for name, values in (("cosine", cosine), ("second", seconds), ("frame", frame)):
        found[name] = np.take_along_axis(values, order, axis=1)[kept]
    return found


def _best(found: npt.NDArray[np.void], images: int, most: int) -> npt.NDArray[np.int64]:
    """Of every two images the frame that fits best; of every image the ``most`` best partners."""
    found = found[np.lexsort([found["frame"], found["second"], found["first"], -found["cosine"]])]
    low, high = np.minimum(found["first"], found["second"]), np.maximum(found["first"], found["second"])
    _, is_first = np.unique(low.astype(np.int64) * images + high, return_index=True)
    found = found[np.sort(is_first)]
    ends, rank = np.concatenate([found["first"], found["second"]]), np.tile(np.arange(len(found)), 2)
    by_image = np.lexsort([rank, ends])
    image = ends[by_image]
    place = np.arange(len(image)) - np.searchsorted(image, image)
    found = found[np.unique(rank[by_image[place < most]])]
    return np.column_stack([found[name] for name in ("first", "second", "frame")]).astype(np.int64)
