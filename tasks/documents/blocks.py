"""What a document holds once Word's XML is left behind: paragraphs, tables and boxes, in reading order.

Blocks compare by identity: two cells with equal text are two cells, one merged cell is the same cell in several places.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Vertical = Literal["", "sup", "sub"]

_PLAIN = "0123456789+-−=()aehijklmnoprstuvx"
_LOWERED = str.maketrans(_PLAIN, "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ")
_RAISED = str.maketrans(_PLAIN + "bcdfgwyz", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ᵃᵉʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛˣᵇᶜᵈᶠᵍʷʸᶻ")


@dataclass(frozen=True)
class Text:
    """Characters of one look; tabs and line breaks are characters."""

    text: str
    bold: bool = False
    italic: bool = False
    vertical: Vertical = ""
    link: str = ""


@dataclass(frozen=True, eq=False)
class Picture:
    """One placed picture; the same file placed twice is two pictures."""

    data: bytes
    media_type: str
    extension: str
    description: str


@dataclass(frozen=True)
class NoteMark:
    """Where a foot- or endnote is referred to."""

    label: str


Inline = Text | Picture | NoteMark


@dataclass(frozen=True)
class ListItem:
    """Place of a paragraph in a list: depth from 0, and ``-`` or its number."""

    depth: int
    marker: str


@dataclass(frozen=True, eq=False)
class Paragraph:
    """Level 0 is running text, 1 to 9 a heading; a title has no level."""

    inlines: tuple[Inline, ...]
    level: int = 0
    is_title: bool = False
    is_caption: bool = False
    item: ListItem | None = None


@dataclass(frozen=True, eq=False)
class Cell:
    """What one cell holds, nested tables and boxes included."""

    blocks: tuple[Block, ...]


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of equal length; a merged cell stands in every place that it covers, None where a row has no cell."""

    rows: tuple[tuple[Cell | None, ...], ...]
    header_marks: int
    """Leading rows that repeat at the top of each page."""


@dataclass(frozen=True, eq=False)
class Box:
    """A text box; it follows the paragraph that it is anchored in."""

    blocks: tuple[Block, ...]


Block = Paragraph | Table | Box


def cells(table: Table) -> Iterator[Cell]:
    """Every cell once, row by row."""
    distinct = {id(cell): cell for row in table.rows for cell in row if cell is not None}
    yield from distinct.values()


def paragraphs(blocks: Iterable[Block]) -> Iterator[Paragraph]:
    """The paragraphs of a cell or box, those of its boxes included, those of nested tables not."""
    for block in blocks:
        if isinstance(block, Paragraph):
            yield block
        elif isinstance(block, Box):
            yield from paragraphs(block.blocks)


def plain(paragraph: Paragraph) -> str:
    """The text with single spaces, a line per line; raised and lowered characters as Unicode has them."""
    return normalised("".join(plain_inline(inline) for inline in paragraph.inlines))


def normalised(text: str) -> str:
    """Runs of white space as one space, empty lines left out."""
    return "\n".join(line for line in (" ".join(line.split()) for line in text.split("\n")) if line)


def plain_inline(inline: Inline) -> str:
    """A run with a character that Unicode cannot raise or lower stays as it is: no half-raised words."""
    if isinstance(inline, Picture):
        return ""
    if isinstance(inline, NoteMark):
        return inline.label.translate(_RAISED)
    table = {"sup": _RAISED, "sub": _LOWERED}.get(inline.vertical)
    if table is None or not all(ord(character) in table for character in inline.text.strip()):
        return inline.text
    return inline.text.translate(table)
