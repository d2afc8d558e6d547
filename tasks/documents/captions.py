"""Which paragraph captions which table or figure, and which are its notes, by where they stand and how they begin."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.documents.blocks import Block, Paragraph, Picture, Table, cells, plain

_KIND = r"(?:supplement(?:ary|al)|supporting|appendix|additional|extended data)"
_TABLE = re.compile(rf"(?:{_KIND}\s+|e-?)?tab(?:le\b|\.)", re.IGNORECASE)
_FIGURE = re.compile(rf"(?:{_KIND}\s+|e-?)?fig(?:ures?\b|s?\.)", re.IGNORECASE)
_NOTE = re.compile(r"(?:notes?|abbreviations?)\b|[*∗†‡§¶#]", re.IGNORECASE)

Pair = tuple[Paragraph | None, Paragraph | None]


@dataclass(frozen=True)
class Step:
    """One step of a walk in reading order; a table is entered and left, with its cells' blocks in between."""

    kind: Literal["paragraph", "enter", "leave"]
    block: Paragraph | Table
    position: int
    heading: str


def walk(body: Iterable[Sequence[Block]]) -> list[Step]:
    """Every paragraph and table under its position in the body and the nearest heading above it."""
    found: list[Step] = []
    heading = ""
    for position, blocks in enumerate(body):
        for kind, block in _within(blocks):
            if isinstance(block, Paragraph) and block.level:
                heading = _line(block) or heading
            found.append(Step(kind, block, position, heading))
    return found


def table_captions(steps: Sequence[Step]) -> dict[Table, Paragraph]:
    """Captions of those tables that have one."""
    tables = [(index, step.block) for index, step in enumerate(steps) if isinstance(step.block, Table)]
    tables = [(index, table) for index, table in tables if steps[index].kind == "enter"]
    ends = {step.block: index for index, step in enumerate(steps) if step.kind == "leave"}
    pairs = [
        (
            _checked(_neighbour(steps[:index][::-1]), _TABLE, _FIGURE),
            _checked(_neighbour(steps[ends[table] + 1 :]), _TABLE, _FIGURE),
        )
        for index, table in tables
    ]
    chosen = _assigned(pairs, favoured=0)
    return {table: caption for (_, table), caption in zip(tables, chosen, strict=True) if caption}


def figure_captions(steps: Sequence[Step]) -> dict[Picture, Paragraph]:
    """Captions of those pictures that have one; the panels of a figure, which share it, all have the same."""
    placed = [(index, step.block) for index, step in enumerate(steps) if pictures_of(step.block)]
    pairs = []
    for index, block in placed:
        own = _checked(block, _FIGURE, _TABLE) if isinstance(block, Paragraph) else None
        before, after = (
            _checked(_text_of(part), _FIGURE, _TABLE) for part in (steps[:index][::-1], steps[index + 1 :])
        )
        pairs.append((own, own) if own else (before, after))
    chosen = _assigned(pairs, favoured=1)
    return {
        picture: caption
        for (_, block), caption in zip(placed, chosen, strict=True)
        if caption
        for picture in pictures_of(block)
    }


def table_notes(steps: Sequence[Step], captions: dict[Table, Paragraph]) -> dict[Table, tuple[str, ...]]:
    """Paragraphs directly below a table, or below a caption that stands there, that begin like a note."""
    return {
        step.block: tuple(_notes(steps[index + 1 :], captions.get(step.block)))
        for index, step in enumerate(steps)
        if step.kind == "leave" and isinstance(step.block, Table)
    }


def pictures_of(block: Block) -> tuple[Picture, ...]:
    """Pictures that stand in a paragraph itself."""
    if not isinstance(block, Paragraph):
        return ()
    return tuple(inline for inline in block.inlines if isinstance(inline, Picture))


def caption_text(paragraph: Paragraph | None) -> str:
    """The caption on one line; empty without one."""
    return _line(paragraph) if paragraph is not None else ""


def _within(blocks: Iterable[Block]) -> Iterator[tuple[Literal["paragraph", "enter", "leave"], Paragraph | Table]]:
    for block in blocks:
        if isinstance(block, Paragraph):
            yield "paragraph", block
        elif isinstance(block, Table):
            yield "enter", block
            for cell in cells(block):
                yield from _within(cell.blocks)
            yield "leave", block
        else:
            yield from _within(block.blocks)


def _assigned(pairs: Sequence[Pair], favoured: Literal[0, 1]) -> list[Paragraph | None]:
    """One side for all, the one on which more captions were found; the other side for those left without.

    A caption between two tables could be either's: what the document does elsewhere tells whose it is.
    """
    counts = [sum(pair[side] is not None for pair in pairs) for side in (0, 1)]
    side = favoured if counts[0] == counts[1] else counts.index(max(counts))
    taken = {pair[side] for pair in pairs}
    return [pair[side] or (pair[1 - side] if pair[1 - side] not in taken else None) for pair in pairs]


def _neighbour(steps: Sequence[Step]) -> Paragraph | None:
    """The nearest paragraph that is not empty, with no other table and no picture before it."""
    for step in steps:
        if not isinstance(step.block, Paragraph) or pictures_of(step.block):
            return None
        if plain(step.block):
            return step.block
    return None


def _text_of(steps: Sequence[Step]) -> Paragraph | None:
    """The nearest paragraph with text; a picture without text is passed by, and so is the edge of a table."""
    return next((step.block for step in steps if isinstance(step.block, Paragraph) and plain(step.block)), None)


def _checked(paragraph: Paragraph | None, begins: re.Pattern[str], excluded: re.Pattern[str]) -> Paragraph | None:
    if paragraph is None or paragraph.level or paragraph.is_title:
        return None
    text = plain(paragraph)
    is_named = begins.match(text) is not None
    is_styled = paragraph.is_caption and excluded.match(text) is None
    return paragraph if text and (is_named or is_styled) else None


def _notes(steps: Sequence[Step], caption: Paragraph | None) -> Iterator[str]:
    for step in steps:
        text = plain(step.block) if isinstance(step.block, Paragraph) else ""
        if step.kind != "paragraph" or (step.block is not caption and text and not _NOTE.match(text)):
            return
        if text and step.block is not caption:
            yield text


def _line(paragraph: Paragraph) -> str:
    return " ".join(plain(paragraph).split())
