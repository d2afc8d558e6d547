"""Where the elements of a DICOM file lie (PS3.5, 7; PS3.10, 7.1), told without making anything of them.

pydicom makes an object of every element of every sequence as it reads, so that a few megabytes that mean harm take all
the memory there is. Here sequences are stepped over and counted; what is wanted of a file is then put before pydicom
alone.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

PREAMBLE_BYTES, MAGIC = 128, b"DICM"
LONG_LENGTH = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
"""Kinds of values whose length has four bytes where the kind is written (PS3.5, 7.1.2)."""
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
TRANSFER_SYNTAX = 0x00020010
PIXELS, FLOAT_PIXELS = 0x7FE00010, (0x7FE00008, 0x7FE00009)

IMPLICIT, EXPLICIT_BIG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
DEFLATED = "1.2.840.10008.1.2.1.99"

MOST_ELEMENTS = 10_000
"""Of a header, not counting what lies in sequences; a header has some hundred."""
MOST_STEPS = 1_000_000
"""Elements of sequences stepped over in one file, a second's work: ten thousand frames have a few hundred thousand."""
MOST_DEPTH = 32
"""Sequences within each other."""


class Cut(Exception):
    """The file goes on behind the bytes that are there, or should."""


class Broken(Exception):
    """What is there is no element, or more of them than a file has; ``args`` say which."""


class NoDicom(Exception):
    """No DICOM file at all."""


class Encoding(NamedTuple):
    """How elements are written."""

    is_implicit: bool
    """Without their kind of value."""
    order: str
    """Of bytes: ``<`` or ``>``."""


class Element(NamedTuple):
    """One element of a header, by where its bytes lie."""

    tag: int
    kind: str
    """Of its value (VR); empty where it is not written."""
    begin: int
    value: int
    length: int
    """As written, :data:`UNDEFINED` perhaps."""
    end: int
    """Behind its last byte; of pixels, where their value begins."""


@dataclass(frozen=True)
class Opened:
    """A DICOM file as far as its pixels."""

    syntax: str
    """UID of its transfer syntax."""
    encoding: Encoding
    body: bytes
    """The bytes that the elements lie in: the file, or what it inflates to."""
    elements: dict[int, Element]
    """By tag, in the order of the file; the first of its tag."""

    @property
    def pixels(self) -> Element | None:
        """The pixels of whole numbers, if there are any."""
        return self.elements.get(PIXELS)

    def cut_out(self, tags: Iterator[int]) -> bytes:
        """The elements of these tags as they stand, one after the other, in the order of tags."""
        wanted = (self.elements[tag] for tag in sorted(tags) if tag in self.elements)
        return b"".join(self.body[element.begin : element.end] for element in wanted)


def opened(data: bytes, *, most_inflated: int) -> Opened:
    """The elements of a file up to its pixels. ``most_inflated``: bytes that a deflated one may become.

    Raises :class:`NoDicom`, :class:`Broken`, and :class:`Cut` where the bytes end before the pixels do begin (a file
    without pixels ends with an element).
    """
    if data[PREAMBLE_BYTES : PREAMBLE_BYTES + len(MAGIC)] != MAGIC:
        raise NoDicom
    syntax, begin = _syntax(data)
    if syntax == DEFLATED:
        data, begin = _inflated(data, begin, most_inflated), 0
    encoding = _encoding(data, begin, syntax)
    found: dict[int, Element] = {}
    for element in _elements(data, begin, encoding):
        if element.tag >> 16 in (0x0000, 0x0002):
            raise Broken(f"a file header among its elements at byte {element.begin}")
        if len(found) >= MOST_ELEMENTS:
            raise Broken(f"more than {MOST_ELEMENTS:,} elements")
        found.setdefault(element.tag, element)
    return Opened(syntax, encoding, data, found)


def _syntax(data: bytes) -> tuple[str, int]:
    """UID of the transfer syntax, and where the file's own header ends: it is explicit and little-endian always."""
    at, syntax, encoding = PREAMBLE_BYTES + len(MAGIC), "", Encoding(is_implicit=False, order="<")
    while data[at : at + 2] == b"\2\0":
        tag, _, value, length = _head(data, at, encoding)
        at = value + length
        if length == UNDEFINED or at > len(data):
            raise Cut
        if tag == TRANSFER_SYNTAX:
            syntax = data[value:at].rstrip(b"\0 ").decode("ascii", "replace")
    if len(data) < at + 2:
        raise Cut
    if not syntax:
        raise Broken("its header names no transfer syntax")
    return syntax, at


def _inflated(data: bytes, begin: int, most: int) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data[begin:], most)
    except zlib.error as error:
        raise Broken(f"it cannot be inflated: {error}") from error


def _encoding(data: bytes, begin: int, syntax: str) -> Encoding:
    """As the first element shows: there are files that say one thing and do the other."""
    shows_kind = data[begin + 4 : begin + 6].isalpha() and data[begin + 4 : begin + 6].isupper()
    return Encoding(is_implicit=not shows_kind, order=">" if syntax == EXPLICIT_BIG else "<")


def _head(data: bytes, at: int, encoding: Encoding) -> tuple[int, str, int, int]:
    """Tag, kind, where the value begins, and its length. Raises :class:`Cut` and :class:`Broken`."""
    order = encoding.order
    try:
        group, number = struct.unpack_from(f"{order}HH", data, at)
        if encoding.is_implicit or group == 0xFFFE:
            return group << 16 | number, "", at + 8, struct.unpack_from(f"{order}I", data, at + 4)[0]
        kind = data[at + 4 : at + 6]
        if kind in LONG_LENGTH:
            return group << 16 | number, kind.decode(), at + 12, struct.unpack_from(f"{order}I", data, at + 8)[0]
        length = struct.unpack_from(f"{order}H", data, at + 6)[0]
    except struct.error as error:
        raise Cut from error
    if not (kind.isalpha() and kind.isupper()):
        raise Broken(f"no element at byte {at}")
    return group << 16 | number, kind.decode(), at + 8, length


def _elements(data: bytes, at: int, encoding: Encoding) -> Iterator[Element]:
    steps = 0
    while at < len(data):
        tag, kind, value, length = _head(data, at, encoding)
        if tag == PIXELS or tag in FLOAT_PIXELS:
            yield Element(tag, kind, at, value, length, value)
            return
        if length == UNDEFINED:
            inside = Encoding(is_implicit=True, order="<") if kind == "UN" else encoding
            end, steps = _behind_sequence(data, value, inside, steps)
        else:
            end = value + length
        if end > len(data):
            raise Cut
        yield Element(tag, kind, at, value, length, end)
        at = end


def _behind_sequence(data: bytes, at: int, encoding: Encoding, steps: int) -> tuple[int, int]:
    """Where a sequence of undefined length ends, and how many steps were taken by then."""
    levels = [(True, encoding)]  # whether a sequence, or an item of one
    while levels:
        steps += 1
        if steps > MOST_STEPS:
            raise Broken(f"more than {MOST_STEPS:,} elements in its sequences")
        if len(levels) > 2 * MOST_DEPTH:
            raise Broken(f"sequences within each other, more than {MOST_DEPTH} deep")
        is_sequence, encoding = levels[-1]
        tag, kind, at, length = _head(data, at, encoding)
        if tag == (SEQUENCE_END if is_sequence else ITEM_END):
            levels.pop()
        elif is_sequence and tag != ITEM:
            raise Broken(f"no item at byte {at}")
        elif length == UNDEFINED:
            levels.append((not is_sequence, Encoding(is_implicit=True, order="<") if kind == "UN" else encoding))
        else:
            at += length
        if at > len(data):
            raise Cut
    return at, steps
