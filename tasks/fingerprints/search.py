"""The nearest fingerprints of every fingerprint, in less than quadratic time: an inverted file (Jégou et al., IEEE
TPAMI 2011, doi 10.1109/TPAMI.2010.57), by faiss.
"""

from __future__ import annotations

from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from tasks.fingerprints.polar import FRAMES, LENGTH, Floats

WHOLE = 20_000
"""Up to so many fingerprints every one is compared with every other, which is exact and takes seconds."""
CELL = 160
"""Fingerprints to a cell of the inverted file, on average."""
PROBED = 24
"""Cells that are looked through for one fingerprint. Among 112,120 they miss a quarter of all nearest neighbours, which
are strangers; of 300 planted copies 272 are found, and 270 among 11,212, where each is compared with all others."""
NEAREST = 32
"""Neighbours that are asked for, of one frame of one image, before those of its own group are left out."""
BATCH = 8192
NEIGHBOUR = np.dtype([("cosine", "f4"), ("first", "i4"), ("second", "i4"), ("frame", "i1")])
"""Small, for there are 36 million of them among 112,120 images."""


def nearest(
    fingerprints: npt.NDArray[np.int8], groups: npt.NDArray[np.int64], *, least: float, most: int, whole: int = WHOLE
) -> npt.NDArray[np.int64]:
    """Pairs that may be copies of each other: (n, 3) of first, second and the frame of the first, most similar first.

    ``fingerprints`` (n, len(FRAMES), LENGTH) as :func:`tasks.fingerprints.polar.fingerprint` gives them; two images of
    one of the ``groups`` are no pair. Of every image the ``most`` most similar are kept, from a cosine of ``least`` on,
    after the mean of all is taken away: what all X-rays have in common tells nothing. Up to ``whole`` images every one
    is compared with every other.
    """
    if len(fingerprints) < 2:
        return np.empty((0, 3), np.int64)
    unit = centred(fingerprints)
    index = _index(np.ascontiguousarray(unit[:, 0]), whole)
    found = [_of_frame(index, unit, groups, frame, least) for frame in range(len(FRAMES))]
    return _best(np.concatenate(found), len(fingerprints), most)


def centred(fingerprints: npt.NDArray[np.int8]) -> Floats:
    """Unit vectors, the mean of all whole pictures taken away; a picture without any structure stays 0."""
    floats = fingerprints.astype(np.float32)
    has_structure = fingerprints.any(axis=2, keepdims=True)
    floats -= floats[:, 0].mean(axis=0, dtype=np.float64).astype(np.float32)
    norm = np.linalg.norm(floats, axis=2, keepdims=True)
    unit = np.divide(floats, norm, out=np.zeros_like(floats), where=has_structure & (norm > 0))
    return np.asarray(unit, np.float32)


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


def _of_frame(
    index: faiss.Index, centred: Floats, groups: npt.NDArray[np.int64], frame: int, least: float
) -> npt.NDArray[np.void]:
    """Neighbours of that frame of every image, :data:`NEIGHBOUR`."""
    parts = []
    for begin in range(0, len(centred), BATCH):
        queries = np.ascontiguousarray(centred[begin : begin + BATCH, frame])
        cosines, seconds = index.search(queries, min(NEAREST, len(centred)))
        firsts = np.repeat(np.arange(begin, begin + len(queries)), cosines.shape[1])
        cosine, second = cosines.ravel(), seconds.ravel()
        is_pair = (second >= 0) & (cosine >= least)
        is_pair[is_pair] = groups[firsts[is_pair]] != groups[second[is_pair]]
        part = np.empty(int(is_pair.sum()), NEIGHBOUR)
        part["cosine"], part["first"], part["second"] = cosine[is_pair], firsts[is_pair], second[is_pair]
        part["frame"] = frame
        parts.append(part)
    return np.concatenate(parts)


def _best(found: npt.NDArray[np.void], images: int, most: int) -> npt.NDArray[np.int64]:
    """Of every two images the frame that fits best; of every image the ``most`` best partners."""
    found = found[np.lexsort([found["frame"], found["second"], found["first"], -found["cosine"]])]
    low, high = np.minimum(found["first"], found["second"]), np.maximum(found["first"], found["second"])
    _, is_first = np.unique(low.astype(np.int64) * images + high, return_index=True)
    found = found[np.sort(is_first)]
    kept = np.zeros(len(found), bool)
    for side in ("first", "second"):
        by_image = np.argsort(found[side], kind="stable")
        image = found[side][by_image]
        place = np.arange(len(image)) - np.searchsorted(image, image)
        kept[by_image[place < most]] = True
    return np.column_stack([found[name][kept] for name in ("first", "second", "frame")]).astype(np.int64)
