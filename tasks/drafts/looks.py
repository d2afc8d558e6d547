"""What images look like, from a sample of them decoded as ``prepare`` will decode them."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass

import numpy as np

from tasks.archives import Member, MemberRefused
from tasks.decoding import ImageRefused, Pixels, decode
from tasks.drafts.found import Found
from tasks.limits import current
from tasks.masks import convert_mask
from tasks.schema import BLANK_CONTRAST

MOST = 200
"""Images that are decoded at most."""
SECONDS = 20.0
"""After which no further image is."""


@dataclass(frozen=True)
class Looks:
    """What was seen."""

    looked: int
    sizes: dict[tuple[int, int], int]
    """Width and height, to the number of images."""
    bit_depths: tuple[int, ...]
    channels: tuple[int, ...]
    """Once equal ones are one."""
    has_alpha: bool
    refused: dict[str, int]
    """Reason code, to the number of images that ``prepare`` would refuse for it."""
    masks_refused: dict[str, int]


def look_at(found: Found, masks: dict[str, Member], keys: dict[tuple[str, str], str]) -> Looks:
    """Decode up to 200 images, evenly over all, and the masks of these; ``masks`` and ``keys`` by key and place."""
    ends = time.monotonic() + SECONDS
    sizes: Counter[tuple[int, int]] = Counter()
    depths: set[int] = set()
    channels: set[int] = set()
    refused: Counter[str] = Counter()
    masks_refused: Counter[str] = Counter()
    looked, has_alpha = 0, False
    count = len(found.images)
    for place in sorted({number * count // MOST for number in range(MOST)}) if count > MOST else range(count):
        member = found.images[place]
        looked += 1
        try:
            pixels, is_see_through = _decoded(found.read(member))
        except (ImageRefused, MemberRefused) as refusal:
            refused[str(refusal.args[0])] += 1
            continue
        has_alpha |= is_see_through
        sizes[pixels.shape[1], pixels.shape[0]] += 1
        depths.add(pixels.dtype.itemsize * 8)
        channels.add(1 if pixels.ndim == 2 else 3)
        if pixels.std() < BLANK_CONTRAST * np.iinfo(pixels.dtype).max:
            refused["blank-frame"] += 1
        if mask := masks.get(keys[member.archive, member.name]):
            shape = pixels.shape[1], pixels.shape[0]
            try:
                convert_mask(found.read(mask), shape, shape, current())
            except (ImageRefused, MemberRefused) as refusal:
                masks_refused[str(refusal.args[0])] += 1
        if time.monotonic() > ends:
            break
    seen = dict(sizes), tuple(sorted(depths)), tuple(sorted(channels)), has_alpha
    return Looks(looked, *seen, dict(refused), dict(masks_refused))


def _decoded(data: bytes) -> tuple[Pixels, bool]:
    """Pixels, and whether an alpha channel that tells something had to go."""
    try:
        return decode(data, limits=current())[1], False
    except ImageRefused as refusal:
        if refusal.args[0] != "alpha-channel":
            raise
    return decode(data, drops_alpha=True, limits=current())[1], True
