"""Published files passed on without a look at their pixels: what ``--decode-check off`` leaves of conversion.

A file that is wholly plain, grey, and in the wanted format is stored as it was published, whatever its pixels are: its
header tells all that is known of it. Whatever else there is may have to be changed (colour may be grey in three equal
channels), or be damaged, and is decoded as ever; so every stored byte is what it is with the check on, but for a file
whose header is sound and whose pixels are not.
"""

from __future__ import annotations

import hashlib
from typing import Any

from tasks.decoding import Header, plain_header
from tasks.images import KEPT, convert
from tasks.limits import DEFAULT, Limits
from tasks.schema import HEADER_COLUMNS, Dataset, Encoding, ImageRules, Transform

BIT_DEPTHS = {"L": 8, "I;16": 16}
"""Of one grey channel, by Pillow's mode."""
JPEG_END = b"\xff\xd9"
"""Last bytes of one that is whole (ITU-T T.81, B.1.1.3); what has more behind them is decoded."""


def why_not(dataset: Dataset, transform: Transform) -> str:
    """What of this dataset cannot be made without looking at pixels, and the remedy; empty where all can."""
    if dataset.dicom is not None:
        return f"images of {dataset.name} are DICOM files, which are stored as PNGs of their pixels: leave it out"
    if transform.size is not None:
        return f"images of {transform.size} pixels are made from pixels: add --size native, or leave it out"
    if dataset.image.to_grey or dataset.image.hides_outside_scan:
        return f"images of {dataset.name} are cleaned before they are stored, which takes their pixels: leave it out"
    if dataset.group == "picture":
        return f"{dataset.name} is split by what its images show, which takes their pixels: leave it out"
    return ""


def pass_through(
    data: bytes, transform: Transform, rules: ImageRules, limits: Limits = DEFAULT
) -> tuple[dict[str, Any], bytes | None]:
    """What the header tells of one image (:data:`tasks.schema.HEADER_COLUMNS`), and its encoded bytes; None for those
    of a file that is stored as it is.

    Raises :class:`tasks.decoding.ImageRefused` as :func:`tasks.images.convert` does.
    """
    header = plain_header(data, limits)
    if header is not None and _stays(data, header, transform.encoding):
        return _told(data, header), None
    converted = convert(data, transform, rules, limits)
    facts = {name: converted.facts[name] for name in HEADER_COLUMNS}
    return facts, None if converted.is_original else converted.encoded


def _stays(data: bytes, header: Header, wanted: Encoding) -> bool:
    is_whole = header.encoding == "png" or data.endswith(JPEG_END)  # a plain PNG is one to its last chunk
    return header.encoding == wanted and header.mode in BIT_DEPTHS and is_whole


def _told(data: bytes, header: Header) -> dict[str, Any]:
    sha256 = hashlib.sha256(data).hexdigest()
    return {
        "source_bytes": len(data),
        "source_sha256": sha256,
        "source_mode": header.mode,
        "source_width": header.width,
        "source_height": header.height,
        "width": header.width,
        "height": header.height,
        "channels": 1,
        "bit_depth": BIT_DEPTHS[header.mode],
        "image_bytes": len(data),
        "image_sha256": sha256,
        "transform": KEPT,
    }
