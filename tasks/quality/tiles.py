"""One small picture of the report: bytes of any kind in, a data URI or nothing out."""

from __future__ import annotations

import base64
import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

TILE_PIXELS = 184
"""Longer side of a tile; shown at half to two thirds of it, so that it is crisp on dense screens."""
QUALITIES = (80, 60, 40)
"""Of JPEG, tried one after the other until a tile is small enough."""
BYTES_PER_PIXEL = 0.3
"""Of the longer side squared: a tile of 184 has at most 10 kB unless it is noise, so that 300 of them fit in 5 MB.
Films and scans have 4 to 7 kB at the first quality."""
LARGEST_PIXELS = 60_000_000
"""What is larger is not decoded for a tile: the report must not need more memory than the conversion did."""
OUTLINE = (255, 190, 0)
"""An amber that no film has, bright enough on black and on white."""
# Named one by one: Pillow would otherwise try every format it knows, some of which call other programs.
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")


@dataclass(frozen=True)
class Tile:
    """One picture with its words; ``picture`` is a data URI, or None where nothing could be decoded."""

    name: str
    words: str
    picture: str | None
    location: str = ""


def thumbnail(encoded: bytes | None, longer_side: int = TILE_PIXELS, mask: bytes | None = None) -> str | None:
    """A JPEG data URI of at most so many pixels a side; None where the bytes are no picture that can be shown.

    The outline of a ``mask`` of the same size is drawn into it.
    """
    if not encoded:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(encoded), formats=FORMATS) as picture:
                if picture.width * picture.height > LARGEST_PIXELS:
                    return None
                small = _eight_bit(picture)
        small.thumbnail((longer_side, longer_side), Image.Resampling.BOX, reducing_gap=None)
        # Colour at half the resolution would blur a line of one or two pixels.
        options = {"subsampling": 0} if mask else {}
        shown = _outlined(small, mask) if mask else small
        for quality in QUALITIES:
            target = io.BytesIO()
            shown.save(target, "JPEG", quality=quality, optimize=True, **options)
            if target.tell() <= BYTES_PER_PIXEL * longer_side**2:
                break
    except Exception:  # bytes that were refused may be damaged in any way, and Pillow raises anything for them
        return None
    return "data:image/jpeg;base64," + base64.b64encode(target.getvalue()).decode()


def _outlined(small: Image.Image, mask: bytes) -> Image.Image:
    """The picture in colour, with a line along the edge of the mask: one pixel inside it, and one outside on a large
    picture."""
    with Image.open(io.BytesIO(mask), formats=("PNG",)) as opened:
        inside = opened.convert("L").resize(small.size, Image.Resampling.NEAREST)
    # A frame of nothing, so that a mask that the border cuts has an edge there too.
    framed = ImageOps.expand(inside, border=1, fill=0)
    outer = framed.filter(ImageFilter.MaxFilter(3)) if max(small.size) >= TILE_PIXELS / 2 else framed
    edge = ImageChops.difference(outer, framed.filter(ImageFilter.MinFilter(3)))
    drawn = small.convert("RGB")
    drawn.paste(OUTLINE, mask=ImageOps.crop(edge, border=1))
    return drawn


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Grey or RGB in 8 bits; deeper pixels are stretched from their 0.5 to 99.5 percent point, for display only."""
    if picture.mode.startswith(("I", "F")):
        grey = np.asarray(picture, dtype=np.float64)
        low, high = np.percentile(grey, [0.5, 99.5])
        scaled = np.clip((grey - low) / max(high - low, 1.0), 0.0, 1.0) * 255
        return Image.fromarray(scaled.round().astype(np.uint8))
    return picture.convert("L" if picture.mode in {"1", "L", "LA", "La"} else "RGB")
