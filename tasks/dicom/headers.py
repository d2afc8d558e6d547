"""What the header of one DICOM file says, and whether its pixels can become an image: told before any is decoded."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tasks.decoding import ImageRefused
from tasks.dicom import elements, installed
from tasks.dicom.elements import Broken, Cut, NoDicom, Opened
from tasks.dicom.identifying import kept
from tasks.limits import Limits, variable

HEADER_BYTES = 32 * 2**20
"""Most that is read of a file before its pixels; ten thousand frames described one by one take a third of it."""
UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")
ITEM_BYTES = 8
"""Of the head of a packed frame: each has one at least."""
INFLATION = 1032
"""Bytes that deflate can make of one, at most (zlib's technical notes)."""
UID_LETTERS = 64
"""Most of a UID (PS3.5, 9.1)."""
SOP_INSTANCE = 0x00080018
PRIVATE = "(private)"
"""What stands for all private elements; who made them can tell where an image is from."""

GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
COLOUR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
"""Photometric interpretations of one sample and of three that are read (PS3.3, C.7.6.3.1.2)."""
NATIVE = {
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2.1.99": "Deflated Explicit VR Little Endian",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian",
}
EXTENDED_JPEG = "1.2.840.10008.1.2.4.51"
RLE = "1.2.840.10008.1.2.5"
PACKED = {
    "1.2.840.10008.1.2.4.50": "JPEG Baseline (Process 1)",
    EXTENDED_JPEG: "JPEG Extended (Process 2 and 4)",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless (Process 14)",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless (Process 14, SV1)",
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS Near-Lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 Lossless",
    "1.2.840.10008.1.2.4.91": "JPEG 2000",
    RLE: "RLE Lossless",
}
"""Transfer syntaxes that are read: pixels as they are, and packed ones (PS3.6, table A-1)."""


@dataclass(frozen=True)
class Shape:
    """What the pixels of a file are, as its header says."""

    rows: int
    columns: int
    samples: int
    """Of a pixel, 1 or 3."""
    allocated: int
    """Bits of a sample as it lies in the file: 1, 8 or 16."""
    stored: int
    """Of these, bits that are used."""
    is_signed: bool
    photometric: str
    frames: int

    @property
    def frame_bits(self) -> int:
        """Of one frame, unpacked."""
        return self.rows * self.columns * self.samples * self.allocated


@dataclass(frozen=True)
class Header:
    """What is known of one file."""

    uid: str = ""
    """SOPInstanceUID; empty where it has none that is one."""
    frames: int = 1
    syntax: str = ""
    """Name of the transfer syntax; ``other`` for one that is not read."""
    photometric: str = ""
    """``other`` for one that is not read."""
    bits: int = 0
    """Stored, of a sample."""
    texts: tuple[str, ...] = ()
    """Of the kept keywords, in their order; empty for what is not there."""
    dropped: tuple[str, ...] = ()
    """Keywords of all else that is in it, each once; :data:`PRIVATE` for private ones."""
    problem: str = ""
    """Reason code why it is no image that can be used, or empty."""
    detail: str = ""


def header_of(head: bytes, size_bytes: int, keeps: Sequence[str], limits: Limits) -> Header:
    """What the first bytes of a file say, of which it has ``size_bytes``.

    Raises :class:`tasks.dicom.elements.Cut` where these are too few to tell, and the file has more.
    """
    if not size_bytes:
        return Header(problem="empty-file", detail="the file has no bytes")
    is_whole = len(head) >= size_bytes
    try:
        file = elements.opened(head, most_inflated=HEADER_BYTES)
        if not file.pixels and not is_whole and not set(elements.FLOAT_PIXELS) & set(file.elements):
            raise Cut
    except NoDicom:
        return Header(problem="not-an-image", detail=f"{size_bytes} bytes that are no DICOM file")
    except Broken as error:
        return Header(problem="undecodable-image", detail=f"its header is damaged: {error}")
    except Cut:
        if is_whole:
            return Header(problem="truncated-image", detail=f"it ends in its header, after {size_bytes} bytes")
        if len(head) >= HEADER_BYTES:
            return Header(problem="undecodable-image", detail=f"its header has more than {HEADER_BYTES >> 20} MiB")
        raise
    header = _told(file, keeps, limits)
    if header.problem:
        return header
    try:
        shape = shape_of(file, limits)
        _insist_on_room(file, shape, size_bytes)
    except ImageRefused as refusal:
        return replace(header, problem=refusal.args[0], detail=refusal.args[1])
    return replace(header, frames=shape.frames)


def _told(file: Opened, keeps: Sequence[str], limits: Limits) -> Header:
    """Texts and names: nothing of the pixels."""
    from pydicom.datadict import keyword_for_tag, tag_for_keyword

    wanted = kept(keeps)
    tags = [tag_for_keyword(keyword) for keyword in wanted]
    known = {*tags, elements.PIXELS, *elements.FLOAT_PIXELS, SOP_INSTANCE}
    header = Header(
        syntax=NATIVE.get(file.syntax, PACKED.get(file.syntax, "other")),
        dropped=tuple(sorted({_name(tag, keyword_for_tag(tag)) for tag in file.elements if tag not in known})),
    )
    try:
        found = dataset_of(file, [0x00080005, SOP_INSTANCE, 0x00280004, 0x00280101, *(tag for tag in tags if tag)])
        texts = tuple(_text(found, keyword) for keyword in wanted)
        uid, photometric = _text(found, "SOPInstanceUID"), _text(found, "PhotometricInterpretation")
        bits = _number(found, "BitsStored", 0)
    except ImageRefused as refusal:
        return replace(header, problem=refusal.args[0], detail=refusal.args[1])
    kind = photometric if photometric in (*GREY, *COLOUR) else "other"
    header = replace(header, texts=texts, photometric=kind, bits=bits)
    if len(uid) > UID_LETTERS or not UID.fullmatch(uid):
        return replace(header, problem="undecodable-image", detail="it has no SOPInstanceUID to be called by")
    if too_long := [k for k, text in zip(wanted, texts, strict=True) if len(text) > limits.table_cell]:
        detail = f"{too_long[0]} has more than {limits.table_cell} letters ({variable('table_cell')})"
        return replace(header, uid=uid, problem="undecodable-image", detail=detail)
    return replace(header, uid=uid)


def _name(tag: int, keyword: str) -> str:
    """What a dropped element is called: by the standard alone."""
    if tag >> 16 & 1:
        return PRIVATE
    return keyword or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def dataset_of(file: Opened, tags: Sequence[int]) -> Any:
    """These elements of a file as pydicom has them, a :class:`pydicom.Dataset`; nothing else of it is read.

    Raises :class:`ImageRefused`.
    """
    from pydicom.filereader import read_dataset

    installed.quiet()
    data = file.cut_out(iter(set(tags)))
    encoding = file.encoding
    try:
        return read_dataset(io.BytesIO(data), encoding.is_implicit, encoding.order == "<", bytelength=len(data))
    except MemoryError:
        raise
    except Exception as error:  # of a damaged file it raises whatever comes
        raise ImageRefused("undecodable-image", f"its header is damaged: {type(error).__name__}") from error


def _value(dataset: Any, keyword: str) -> Any:
    try:
        return dataset.get(keyword)
    except MemoryError:
        raise
    except Exception as error:
        raise ImageRefused("undecodable-image", f"its header has no readable {keyword}") from error


def _text(dataset: Any, keyword: str) -> str:
    """As written, several values with the backslash between them that the file has."""
    value = _value(dataset, keyword)
    if value is None or isinstance(value, bytes):
        return ""
    several = value if not isinstance(value, str) and isinstance(value, Sequence) else [value]
    try:
        text = "\\".join(str(one) for one in several)
    except Exception as error:
        raise ImageRefused("undecodable-image", f"its header has no readable {keyword}") from error
    return text.strip("\0 ").encode("utf-8", "replace").decode("utf-8")


def _number(dataset: Any, keyword: str, missing: int) -> int:
    value = _value(dataset, keyword)
    if value is None or value == "":
        return missing
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise ImageRefused("undecodable-image", f"its header says no number as {keyword}") from error


def shape_of(file: Opened, limits: Limits) -> Shape:
    """What the header says of the pixels. Raises :class:`ImageRefused` for pixels that are not read."""
    _insist_on_pixels(file)
    group = [tag for tag in file.elements if tag >> 16 == 0x0028 and tag & 0xFFFF < 0x0104]
    found = dataset_of(file, [0x00080005, *group])
    shape = Shape(
        rows=_number(found, "Rows", 0),
        columns=_number(found, "Columns", 0),
        samples=_number(found, "SamplesPerPixel", 1),
        allocated=_number(found, "BitsAllocated", 0),
        stored=_number(found, "BitsStored", _number(found, "BitsAllocated", 0)),
        is_signed=_number(found, "PixelRepresentation", 0) == 1,
        photometric=_text(found, "PhotometricInterpretation"),
        frames=_number(found, "NumberOfFrames", 1) or 1,
    )
    _insist_on_kind(shape, file.syntax)
    _insist_on_size(shape, limits)
    return shape


def _insist_on_pixels(file: Opened) -> None:
    if file.pixels is not None:
        if file.syntax not in NATIVE and file.syntax not in PACKED:
            raise ImageRefused("unsupported-mode", f"pixels of transfer syntax {_uid_name(file.syntax)} are not read")
        return
    if set(elements.FLOAT_PIXELS) & set(file.elements):
        raise ImageRefused("unsupported-mode", "its pixels are floating-point numbers, which no PNG holds")
    uid = _text(dataset_of(file, [0x00080016]), "SOPClassUID")
    raise ImageRefused("not-an-image", f"a DICOM file without pixels ({_uid_name(uid)})")


def _uid_name(uid: str) -> str:
    """As the standard calls it; nothing of one that it does not know, which may hold any text."""
    from pydicom import uid as uids

    name = uids.UID(uid).name
    return "that the standard does not know" if name == uid else name


def _insist_on_kind(shape: Shape, syntax: str) -> None:
    if min(shape.rows, shape.columns) < 1 or shape.frames < 1 or not 1 <= shape.stored <= shape.allocated:
        raise ImageRefused(
            "undecodable-image",
            f"its header tells of {shape.columns} x {shape.rows} pixels of {shape.stored} in {shape.allocated} bits, "
            f"{shape.frames} frames",
        )
    known = GREY if shape.samples == 1 else COLOUR if shape.samples == 3 else ()
    if shape.photometric not in known:
        raise ImageRefused("unsupported-mode", f"{shape.samples} samples a pixel of a kind that is not read")
    if shape.allocated not in (1, 8, 16):
        raise ImageRefused("unsupported-mode", f"{shape.allocated} bits a sample, which no PNG holds")
    if shape.samples == 3 and shape.allocated != 8:
        raise ImageRefused("unsupported-mode", f"colour of {shape.allocated} bits a sample")
    if syntax == EXTENDED_JPEG and shape.stored != 8:
        raise ImageRefused("unsupported-mode", f"JPEG Extended of {shape.stored} bits: the decoder reads 8 alone")


def _insist_on_size(shape: Shape, limits: Limits) -> None:
    if math.ceil(shape.frame_bits / 8) > limits.image_bytes:
        raise ImageRefused(
            "oversized-image",
            f"{shape.columns} x {shape.rows} pixels of {shape.samples} x {shape.allocated} bits would take "
            f"{shape.frame_bits / 8 / 2**20:,.0f} MiB; the most is {limits.image_mib} ({variable('image_mib')})",
        )
    if shape.frames > limits.members:
        raise ImageRefused(
            "oversized-image", f"{shape.frames} frames; the most is {limits.members} ({variable('members')})"
        )


def _insist_on_room(file: Opened, shape: Shape, size_bytes: int) -> None:
    """Whether as many frames as are told of can be there: each becomes a member of its own."""
    pixels = file.pixels
    assert pixels is not None
    is_packed = pixels.length == elements.UNDEFINED
    if is_packed != (file.syntax in PACKED):
        raise ImageRefused("undecodable-image", "its pixels are packed, or not, other than its transfer syntax says")
    if file.syntax == elements.DEFLATED:
        room = min(pixels.length, size_bytes * INFLATION)
    else:
        room = max(size_bytes - pixels.value, 0)
        room = room // ITEM_BYTES if is_packed else min(room, pixels.length)
    needed = shape.frames if is_packed else native_bytes(shape)
    if room < needed:
        said = f"{shape.frames} frames" if shape.frames > 1 else "a frame"
        raise ImageRefused(
            "truncated-image",
            f"{said} of {shape.columns} x {shape.rows} pixels cannot be in the bytes that are there for its pixels",
        )


def native_bytes(shape: Shape) -> int:
    """Of all frames as they lie unpacked in a file; of YBR_FULL_422 two pixels share their colour."""
    bits = shape.frame_bits * shape.frames
    return math.ceil((bits * 2 // 3 if shape.photometric == "YBR_FULL_422" else bits) / 8)
