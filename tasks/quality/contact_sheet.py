"""Small pictures for the report: some samples of every split, and some of what was refused.

The choice is spread evenly over the sample order, so the same release always shows the same pictures.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageChops, ImageFilter, ImageOps

from tasks.quality import statistics
from tasks.quality.facts import Images, Refused
from tasks.schema import Dataset

TILES = 24
TILE_PIXELS = 184
"""Longer side of a tile; shown at half to two thirds of it, so that it is crisp on dense screens."""
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


def of_samples(
    dataset: Dataset, samples: pd.DataFrame, images: Images, masks: Images | None = None
) -> dict[str, list[Tile]]:
    """Up to 24 tiles of every split that has samples with images; where there are masks, with their outlines."""
    if "image_sha256" not in samples or "sample_id" not in samples:
        return {}
    parts = {name: part for name, part in statistics.by_split(dataset, samples).items() if len(part)}
    chosen = {name: part.iloc[spread(len(part), TILES)] for name, part in parts.items()}
    ids = [str(sample) for part in chosen.values() for sample in part["sample_id"]]
    encoded = images(ids) if ids else {}
    outlines = masks(ids) if ids and masks is not None else {}
    return {
        name: [_sample_tile(dataset, row, encoded, outlines) for row in _records(part)] for name, part in chosen.items()
    }


def of_quarantine(quarantine: pd.DataFrame, refused: Refused) -> list[Tile]:
    """Up to 24 refused archive members, every reason in turn; metadata rows have no picture and are left out."""
    members = quarantine[quarantine["archive"].notna() & quarantine["member"].notna()]
    if members.empty:
        return []
    rows = _records(members.loc[_in_turn(members)])
    keys = [_key(row) for row in rows]
    originals = refused([key for key in keys if key is not None])
    return [
        Tile(
            name=str(row["member"]).rsplit("/", 1)[-1],
            words=str(row["reason"]),
            picture=thumbnail(originals.get(key) if key else None),
            location=f"{row['archive']}/{row['member']}",
        )
        for row, key in zip(rows, keys, strict=True)
    ]


def spread(length: int, count: int) -> list[int]:
    """At most ``count`` positions, evenly over ``range(length)``, first and last among them."""
    return sorted({int(p) for p in np.linspace(0, length - 1, min(length, count)).round()}) if length else []


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
        target = io.BytesIO()
        if mask:
            # Colour at half the resolution would blur a line of one or two pixels.
            _outlined(small, mask).save(target, "JPEG", quality=80, optimize=True, subsampling=0)
        else:
            small.save(target, "JPEG", quality=80, optimize=True)
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


def _sample_tile(
    dataset: Dataset, row: dict[str, Any], encoded: Mapping[str, bytes], masks: Mapping[str, bytes]
) -> Tile:
    """The tile of one written sample; its words are the labels it has."""
    values = {name: row.get(f"label.{name}") for name in dataset.labels}
    present = [name for name, value in values.items() if not pd.isna(value) and value == 1]
    is_labelled = any(not pd.isna(value) for value in values.values())
    words = ", ".join(present) or ("none of the labels" if is_labelled else "no label")
    sample = str(row["sample_id"])
    return Tile(name=sample, words=words, picture=thumbnail(encoded.get(sample), mask=masks.get(sample)))


def _in_turn(members: pd.DataFrame) -> list[Any]:
    """Index labels of up to 24 members: the first of every reason, then the second, and so on."""
    turn = pd.DataFrame({"reason": members["reason"].astype(str), "turn": 0}, index=members.index)
    turn["turn"] = turn.groupby("reason").cumcount()
    chosen = turn.sort_values(["turn", "reason"], kind="stable").head(TILES)
    return list(chosen.sort_values(["reason", "turn"], kind="stable").index)


def _key(row: dict[str, Any]) -> tuple[str, str, int] | None:
    """Where the bytes of a refused member lie; None where the offset is not known."""
    if pd.isna(row["offset"]):
        return None
    return str(row["archive"]), str(row["member"]), int(row["offset"])


def _records(part: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries with text keys."""
    return [{str(key): value for key, value in row.items()} for row in part.to_dict("records")]
