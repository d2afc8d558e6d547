"""The fingerprint: which frequencies go round the picture, ring by ring. Where they begin is left out, so that a turned
or mirrored picture has the same one; and local contrast is evened out first, so that a brightened one has, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

SIDE = 64
"""Pixels of a thumbnail's side (``tasks.images.THUMBNAIL_SIDE``)."""
RINGS = 24
ANGLES = 128
FREQUENCIES = 12
"""Cycles per turn that are kept, 1 to 12; more of them find no more (measured on phantom chests and real lesions)."""
POOLED = 4
"""Neighbouring rings that are averaged: a crop by a twentieth shifts the outer rings by one and a half."""
LENGTH = FREQUENCIES * RINGS // POOLED
"""Numbers of one fingerprint."""
CROP = 0.05
"""Share of the side that a crop takes away, which is looked for."""
BLUR = 3.0
"""Pixels of a thumbnail over which contrast is evened out for the fingerprint."""
NOISE = 4.0
"""Variance in grey levels² below which nothing is amplified: JPEG and area averaging leave about one."""
CHANNELS = 4
"""Thumbnails that lie on each other as channels of one: OpenCV is as long about a place in one of them as in four, and
has the same numbers."""
AT_ONCE = 32
"""Thumbnails whose rings are held together: 4 MB."""
SCALE = 300.0
"""Of a unit vector's entries to int8; none of 72 has come near 0.4."""

Picture = npt.NDArray[np.uint8]
"""Grey levels, (height, width); or of several of one size, (height, width, pictures)."""
Floats = npt.NDArray[np.float32]

FRAMES: tuple[tuple[float, float, float], ...] = (
    (1.0, 0.0, 0.0),
    *((1 - CROP, x * CROP / 2, y * CROP / 2) for y in (-1, 0, 1) for x in (-1, 0, 1)),
)
"""The whole picture first, then what a crop by :data:`CROP` may have left of it: scale, and shift of the centre to the
right and down as shares of the side."""


def even_contrast(picture: Picture, blur: float) -> Floats:
    """The picture less its blurred self, over the local standard deviation; float32 of its shape, about −3 to 3.

    Local normalisation makes a picture comparable with its brightened and its locally equalised copy (CLAHE).
    """
    levels = picture.astype(np.float32)
    mean = cv2.GaussianBlur(levels, (0, 0), blur)
    variance = cv2.GaussianBlur(levels * levels, (0, 0), blur) - mean * mean
    return np.asarray((levels - mean) / np.sqrt(np.maximum(variance, 0) + NOISE), np.float32)


@cache
def _places() -> tuple[Floats, Floats]:
    """Where on a thumbnail the rings of all frames lie, one below another: x and y, (FRAMES × RINGS, ANGLES)."""
    turn = np.arange(ANGLES)[None] * 2 * np.pi / ANGLES
    ring = (np.arange(RINGS)[:, None] + 0.5) * (SIDE / 2 - 1) / RINGS
    centre = (SIDE - 1) / 2
    x = [centre + right * SIDE + ring * scale * np.cos(turn) for scale, right, _ in FRAMES]
    y = [centre + down * SIDE + ring * scale * np.sin(turn) for scale, _, down in FRAMES]
    return np.concatenate(x).astype(np.float32), np.concatenate(y).astype(np.float32)


@cache
def _weights() -> Floats:
    """Square root of each ring's share of the area, so that a pixel far out counts as much as one in the middle."""
    return np.asarray(np.sqrt(np.arange(RINGS) + 0.5), np.float32)[:, None]


def fingerprints(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    """Of thumbnails (n, SIDE, SIDE), of each on its own: int8 (n, len(FRAMES), LENGTH), the fingerprint of the whole
    first, then those of what crops may have left of it."""
    parts = [_fingerprints(thumbnails[begin : begin + AT_ONCE]) for begin in range(0, len(thumbnails), AT_ONCE)]
    return np.concatenate(parts) if parts else np.empty((0, len(FRAMES), LENGTH), np.int8)


def _fingerprints(thumbnails: npt.NDArray[np.uint8]) -> npt.NDArray[np.int8]:
    # Of each row: the mean, then real and imaginary part of one frequency after another.
    waves = cv2.dft(_rings(thumbnails).reshape(-1, ANGLES), flags=cv2.DFT_ROWS)[:, 1 : 2 * FREQUENCIES + 1]
    squares = np.square(waves)
    strength = np.sqrt(squares[:, ::2] + squares[:, 1::2])
    weighted = strength.reshape(-1, RINGS, FREQUENCIES) * _weights()
    pooled = np.sqrt(weighted.reshape(-1, RINGS // POOLED, POOLED, FREQUENCIES).mean(axis=2))
    flat = pooled.transpose(0, 2, 1).reshape(-1, LENGTH)
    flat -= flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    unit = np.divide(flat, norm, out=np.zeros_like(flat), where=norm > 0)
    whole = np.clip(np.rint(unit * SCALE), -127, 127).reshape(-1, len(FRAMES), LENGTH)
    return np.asarray(whole, np.int8)


def _rings(thumbnails: npt.NDArray[np.uint8]) -> Floats:
    """Of each thumbnail what lies at :func:`_places`."""
    rings = np.empty((len(thumbnails), len(FRAMES) * RINGS, ANGLES), np.float32)
    nothing, nowhere = np.zeros_like(thumbnails[0]), np.empty_like(rings[0])
    for begin in range(0, len(thumbnails), CHANNELS):
        few, places = list(thumbnails[begin : begin + CHANNELS]), list(rings[begin : begin + CHANNELS])
        missing = CHANNELS - len(few)
        together = even_contrast(cv2.merge(few + [nothing] * missing), BLUR)
        cv2.split(cv2.remap(together, *_places(), cv2.INTER_LINEAR), places + [nowhere] * missing)
    return rings


def fingerprints_of(thumbnails: Sequence[bytes]) -> list[bytes]:
    """The same from 64 × 64 bytes each to len(FRAMES) × LENGTH bytes, as chunks hold them."""
    pixels = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, SIDE, SIDE)
    return [found.tobytes() for found in fingerprints(pixels)]


def from_bytes(rows: Sequence[bytes]) -> npt.NDArray[np.int8]:
    """Fingerprints as chunks hold them to int8 (n, len(FRAMES), LENGTH)."""
    return np.frombuffer(b"".join(rows), np.int8).reshape(-1, len(FRAMES), LENGTH)
