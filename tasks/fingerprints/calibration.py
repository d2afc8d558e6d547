"""What a threshold is worth on the images of one dataset: copies are planted among them, and looked for.

The same steps as for the release itself, on some of its images: a guess of what X-rays look like is none the better for
being made by the authors of a threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tasks.fingerprints import copies
from tasks.fingerprints.agreement import Positions, Read
from tasks.fingerprints.copies import Change, Grey
from tasks.images import picture_of
from tasks.near_duplicates import Pictures, pairs


def _brightened(picture: Grey, rng: np.random.Generator) -> Grey:
    gamma, change = rng.choice([0.7, 1.4]), rng.choice([-20, 20])
    return copies.with_levels(picture, lambda grey: 255 * (grey / 255) ** gamma + change)


CHANGES: Mapping[str, Change] = {
    "turned by quarters": copies.by_quarters,
    "turned by any angle": lambda picture, rng: copies.turned(picture, rng.uniform(1, 359)),
    "mirrored": lambda picture, rng: copies.mirrored(picture, 1 if rng.random() < 0.5 else 0),
    "cropped by 5 %": lambda picture, rng: copies.cropped(picture, 0.05, rng),
    "brighter or darker": _brightened,
    "JPEG 70": lambda picture, _: copies.compressed(picture, 70),
    "scaled to 60 %": lambda picture, _: copies.scaled(picture, 0.6),
    "locally equalised": lambda picture, _: copies.locally_equalised(picture),
}
"""What may have been done to a copy."""


def calibrate(pool: Pictures, groups: Positions, images: Sequence[npt.NDArray[Any]], *, least: float) -> dict[str, Any]:
    """Plant copies of ``images``, which are the first of ``pool``, among all of it, and count which are found again.

    Two images of one of the ``groups`` are no false pair. Returns ``threshold``, ``images`` (of the pool), ``planted``,
    ``recall``, ``precision``, the lowest similarity of a copy that was found and the highest of an unrelated image,
    and for each kind of copy how many were found.
    """
    rng = np.random.default_rng(0)
    changed = [change(_grey8(image), rng) for image in images for change in CHANGES.values()]
    planted = Pictures.made_of(np.stack([picture_of(copy) for copy in changed]))
    together, origins = _with(pool, groups, planted)
    own = np.concatenate([groups, np.arange(len(planted)) + groups.max() + 1])  # else nobody would look at a copy's own
    # Pairs of two published images have been compared for the release itself: that takes most of the time.
    found = pairs(together, own, least=0.0, of=np.arange(len(together)) >= len(pool))
    ends = found[["first", "second"]].to_numpy()
    is_true = origins[ends[:, 0]] == origins[ends[:, 1]]
    is_found = (found["similarity"] >= least).to_numpy()
    again = {int(end) for pair in ends[is_true & is_found] for end in pair if end >= len(pool)}
    false = int((~is_true & is_found).sum())
    hits = found.loc[is_true & is_found, "similarity"]
    apart = found.loc[~is_true, "similarity"]
    kinds = {
        name: f"{sum(len(pool) + n * len(CHANGES) + k in again for n in range(len(images)))} of {len(images)}"
        for k, name in enumerate(CHANGES)
    }
    return {
        "threshold": least,
        "images": len(pool),
        "planted": len(planted),
        "recall": round(len(again) / len(planted), 4),
        "precision": round(len(again) / (len(again) + false), 4) if again else None,
        "lowest_similarity_of_copies_found": float(hits.min()) if len(hits) else None,
        "highest_similarity_of_unrelated_images": float(apart.max()) if len(apart) else None,
        **kinds,
    }


def _grey8(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return grey if grey.dtype == np.uint8 else cv2.convertScaleAbs(grey, alpha=255 / max(1, int(grey.max())))


def _with(pool: Pictures, groups: Positions, planted: Pictures) -> tuple[Pictures, Positions]:
    """The pool and the copies behind it; and to which group each belongs by origin."""

    def joined(first: Read, second: Read) -> Read:
        def read(positions: Positions) -> npt.NDArray[np.uint8]:
            is_copy = positions >= len(pool)
            copies = second(positions[is_copy] - len(pool))
            chosen = np.empty((len(positions), *copies.shape[1:]), np.uint8)
            chosen[is_copy] = copies
            if not is_copy.all():
                chosen[~is_copy] = first(positions[~is_copy])
            return chosen

        return read

    both = Pictures(
        np.concatenate([pool.fingerprints, planted.fingerprints]),
        joined(pool.thumbnails, planted.thumbnails),
        joined(pool.large, planted.large),
    )
    return both, np.concatenate([groups, np.repeat(groups[: len(planted) // len(CHANGES)], len(CHANGES))])
