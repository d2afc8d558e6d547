"""Many made-up chest films that are nobody's copy, as small as the search for near-duplicates sees them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from tasks.fingerprints.polar import FRAMES, LENGTH, fingerprints
from tasks.images import PICTURE_SIDE, THUMBNAIL_SIDE
from tasks.phantoms import chest
from tasks.phantoms.findings import PAINTERS

Grey = npt.NDArray[np.uint8]
BASES = 2000
AT_ONCE = 500
MOVED = 5.0
"""Standard deviation of what deforms a picture, in pixels of 128."""
GRID = 6
"""Points of it a side; in between it is smooth."""
_BASES: list[npt.NDArray[np.uint8]] = []
"""Of a worker process: what it deforms."""
SHAPES = {
    "fingerprints": (np.int8, (len(FRAMES), LENGTH)),
    "thumbnails": (np.uint8, (THUMBNAIL_SIDE, THUMBNAIL_SIDE)),
    "pictures": (np.uint8, (PICTURE_SIDE, PICTURE_SIDE)),
}
"""File to the shape of one film's part in it."""


def film(seed: Sequence[int], side: int) -> Grey:
    """A chest of a patient of its own: half have no finding, the others one or two; a third lie (AP)."""
    rng = np.random.default_rng(seed)
    count = int(rng.choice([0, 1, 2], p=[0.5, 0.3, 0.2]))
    findings = frozenset(rng.choice(sorted(PAINTERS), count, replace=False).tolist())
    return chest(rng, side, findings, "AP" if rng.random() < 1 / 3 else "PA").pixels


def _bases(seed: int, begin: int, end: int) -> list[Grey]:
    return [film((seed, number), PICTURE_SIDE) for number in range(begin, end)]


def deformed(picture: Grey, rng: np.random.Generator) -> Grey:
    """The same patient with another anatomy: every part is moved by about 5 pixels of 128, neighbours alike."""
    side = picture.shape[0]
    moves = [cv2.resize(rng.normal(0, MOVED, (GRID, GRID)), (side, side), interpolation=cv2.INTER_CUBIC) for _ in "xy"]
    y, x = np.mgrid[:side, :side]
    right, down = ((place + move).astype(np.float32) for place, move in zip((x, y), moves, strict=True))
    return np.asarray(cv2.remap(picture, right, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT), np.uint8)


def _keep(bases: npt.NDArray[np.uint8]) -> None:
    _BASES.append(bases)


def _part(seed: int, begin: int, end: int) -> list[bytes]:
    """Bytes for each of the files."""
    (bases,) = _BASES
    pictures = [deformed(bases[n % len(bases)], np.random.default_rng((seed, n, 1))) for n in range(begin, end)]
    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    thumbnails = [np.asarray(cv2.resize(p, side, interpolation=cv2.INTER_AREA), np.uint8) for p in pictures]
    prints = list(fingerprints(np.stack(thumbnails)))
    return [b"".join(array.tobytes() for array in arrays) for arrays in (prints, thumbnails, pictures)]


def write(folder: Path, count: int, seed: int) -> None:
    """Write fingerprints, thumbnails and pictures of ``count`` films, one file each; where so many are, they stay.

    :data:`BASES` phantoms, drawn at 128 pixels at once, each deformed again and again: a phantom for each would take
    a quarter of an hour, and no film of the same base lies on another better than on a stranger's (``highest``).
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "pictures"
    if written.exists() and written.stat().st_size >= count * PICTURE_SIDE**2:
        return
    cuts = [*range(0, BASES, AT_ONCE), BASES]
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        drawn = processes.map(_bases, [seed] * (len(cuts) - 1), cuts[:-1], cuts[1:])
        bases = np.stack([picture for part in drawn for picture in part])
    cuts = [*range(0, count, AT_ONCE), count]
    with ExitStack() as opened, ProcessPoolExecutor(os.cpu_count(), initializer=_keep, initargs=(bases,)) as processes:
        files = [opened.enter_context((folder / name).open("wb")) for name in SHAPES]
        for parts in processes.map(_part, [seed] * (len(cuts) - 1), cuts[:-1], cuts[1:]):
            for file, part in zip(files, parts, strict=True):
                file.write(part)


def read(folder: Path, name: str, count: int) -> npt.NDArray[np.generic]:
    """The first ``count`` of one of the files, in memory."""
    kind, shape = SHAPES[name]
    return np.fromfile(folder / name, kind, count * int(np.prod(shape))).reshape(count, *shape)
