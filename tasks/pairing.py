"""Which mask belongs to which image: by key, one to one, and what is left over on either side."""

from __future__ import annotations

import pandas as pd

MASK_PLACE = {
    "archive": "mask_archive",
    "member": "mask_member",
    "offset": "mask_offset",
    "source_bytes": "mask_source_bytes",
}
"""Columns of a member, to those by which an entry names its mask."""

NAMES = {"size_bytes": "source_bytes", "problem": "image_problem", "detail": "problem_detail"}
"""Columns of an index, to those of an entry."""


def mark_duplicates(members: pd.DataFrame, key: str, twins: pd.DataFrame) -> None:
    """Set ``image_problem`` and ``problem_detail`` of members of one key: of equal bytes the first stays unmarked."""
    is_same = twins["crc32"].nunique() == 1 and twins["source_bytes"].nunique() == 1 and (twins["crc32"] != 0).all()
    places = ", ".join(f"{t.archive}/{t.member} at {t.offset}" for t in twins.itertuples())
    marked = twins.index[1:] if is_same else twins.index
    verdict = "the same bytes, the first is kept" if is_same else "the bytes differ, so none can be trusted"
    members.loc[marked, "image_problem"] = "duplicate-member"
    members.loc[marked, "problem_detail"] = f"{key} is there {len(twins)} times ({verdict}): {places}"


def usable_masks(index: pd.DataFrame) -> pd.DataFrame:
    """``key`` and :data:`MASK_PLACE` of every mask that can go with an image; no key twice."""
    masks = _masks(index)
    return masks.loc[masks["image_problem"] == "", ["key", *MASK_PLACE]].rename(columns=MASK_PLACE)


def with_masks(images: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """Images as :func:`tasks.samples.join` sees them, the primary ones with their masks; then the masks left over.

    A primary image without mask, and a mask without primary image, carry that as their problem. A mask left over is
    an entry of its own, like a duplicate.
    """
    masks = _masks(index)
    primary = images[images["is_primary"]].merge(usable_masks(index), on="key", how="left")
    problems = dict(zip(masks["key"], masks["image_problem"], strict=True))
    is_bare = primary["mask_member"].isna() & (primary["image_problem"] == "")
    details = [_bareness(str(key), problems.get(key, "")) for key in primary.loc[is_bare, "key"]]
    primary.loc[is_bare, "image_problem"] = "image-without-mask"
    primary.loc[is_bare, "problem_detail"] = details
    is_free = masks["image_problem"] == ""
    is_left = is_free & ~masks["key"].isin(primary["key"])
    masks.loc[is_left, "image_problem"] = "mask-without-image"
    masks.loc[is_left, "problem_detail"] = "no image is called " + masks.loc[is_left, "key"]
    left_over = masks[is_left | ~is_free].assign(is_primary=False)[list(images.columns)]
    return pd.concat([primary, images[~images["is_primary"]], left_over], ignore_index=True)


def _masks(index: pd.DataFrame) -> pd.DataFrame:
    """Mask members; duplicates carry their problem, as duplicate images do."""
    masks = index[index["kind"] == "mask"].rename(columns=NAMES)
    for key, twins in masks[masks["key"].duplicated(keep=False)].groupby("key"):
        mark_duplicates(masks, str(key), twins)
    return masks


def _bareness(key: str, problem: str) -> str:
    return f"its mask cannot be used: {problem}" if problem else f"no mask is called {key}"
