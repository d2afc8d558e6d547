"""What a packed frame says of itself, held against the header before a decoder asks for memory.

The header may tell of 64 pixels and the JPEG in it of 60,000 x 60,000; and a decoder that runs out of bytes may paint
the rest grey and say nothing.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from tasks.decoding import ImageRefused, refuse_many_scans
from tasks.dicom.headers import RLE, Shape
from tasks.limits import Limits

FRAMES_OF_JPEG = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7))
"""Markers of a frame's header: ITU-T T.81, table B.1, and JPEG-LS (T.87, C.1.1)."""
ALONE = frozenset((0x01, *range(0xD0, 0xD9)))
"""Markers without a length."""
J2K_START = b"\xff\x4f\xff\x51"
"""Start of a JPEG 2000 codestream, and its size segment (ITU-T T.800, A.4 and A.5)."""
J2K_BOXES_BYTES = 2**16
"""What may stand before it in a file of its own form (JP2), a colour profile for one; DICOM allows none."""
J2K_TILES = 4096
"""Of one image, each with tables of its own; scanners write one, or some hundred."""
END = b"\xff\xd9"
"""Of all of them."""
PADDING_BYTES = 1024
"""Behind the end of a frame; one or two are usual."""
RLE_RUN = 64
"""Bytes that a byte may become at most: PackBits makes 128 of two."""


class Claimed(NamedTuple):
    """What a codestream says of its picture."""

    columns: int
    rows: int
    samples: int
    bits: int


def insist_on_frame(frame: bytes, shape: Shape, syntax: str, limits: Limits) -> None:
    """Raise :class:`ImageRefused` for a packed frame that is another picture than its header says, or breaks off."""
    if not frame.strip(b"\0"):
        raise ImageRefused("truncated-image", "the frame has no bytes")
    if syntax == RLE:
        _insist_on_rle(frame, shape, limits)
        return
    try:
        claimed = _jpeg(frame) if frame.startswith(b"\xff\xd8") else _j2k(frame)
    except (struct.error, IndexError, ValueError):
        claimed = None
    if claimed is None:
        raise ImageRefused("undecodable-image", "the frame is no JPEG of the kind that its header names")
    is_as_told = claimed[:3] == (shape.columns, shape.rows, shape.samples) and claimed.bits <= shape.allocated
    if not is_as_told:
        raise ImageRefused(
            "undecodable-image",
            f"the JPEG in it has {claimed.columns} x {claimed.rows} pixels of {claimed.samples} x {claimed.bits} bits, "
            f"its header says {shape.columns} x {shape.rows} of {shape.samples} x {shape.stored}",
        )
    if frame.rfind(END, -PADDING_BYTES) < 0:
        raise ImageRefused("truncated-image", "the JPEG in it has no end")
    if frame.startswith(b"\xff\xd8"):
        refuse_many_scans(frame, limits)


def _jpeg(frame: bytes) -> Claimed | None:
    at = 2
    while frame[:2] == b"\xff\xd8" and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF or marker in ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker in FRAMES_OF_JPEG:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, at + 4)
            return Claimed(columns, rows, samples, bits)
        at += 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def _j2k(frame: bytes) -> Claimed | None:
    at = frame.index(J2K_START, 0, J2K_BOXES_BYTES) + 8
    right, bottom, left, top, tile_width, tile_height = struct.unpack_from(">6I", frame, at)
    samples, bits = struct.unpack_from(">HB", frame, at + 32)
    columns, rows = right - left, bottom - top
    if not tile_width or not tile_height or -(-columns // tile_width) * -(-rows // tile_height) > J2K_TILES:
        return None
    return Claimed(columns, rows, samples, (bits & 0x7F) + 1)


def _insist_on_rle(frame: bytes, shape: Shape, limits: Limits) -> None:
    """Whether it unpacks to what the header says (PS3.5, annex G): pydicom unpacks all there is first, then complains.

    Frames that cannot become too much whatever is in them are left to it.
    """
    planes = shape.samples * max(shape.allocated // 8, 1)
    count, *begins = struct.unpack_from("<16I", frame) if len(frame) >= 64 else (0,)
    if count != planes:
        raise ImageRefused("undecodable-image", f"the frame has {count} RLE segments, its header asks for {planes}")
    if len(frame) * RLE_RUN <= 2 * limits.image_bytes:
        return
    plane = shape.rows * shape.columns
    ends = [*begins[1:count], len(frame)]
    for begin, end in zip(begins[:count], ends, strict=True):
        if not 64 <= begin <= end <= len(frame) or _rle_bytes(frame, begin, end, 2 * plane + 2) > 2 * plane + 1:
            raise ImageRefused("undecodable-image", f"an RLE segment does not unpack to {plane} bytes")


def _rle_bytes(frame: bytes, at: int, end: int, most: int) -> int:
    """Bytes that a segment unpacks to, counted no further than ``most``."""
    found = 0
    while at < end and found < most:
        control = frame[at]
        if control < 128:
            found += control + 1
            at += control + 2
        else:
            found += 257 - control if control > 128 else 0
            at += 2 if control > 128 else 1
    return found
