"""From python-docx to :mod:`tasks.documents.blocks`.

python-docx does not see text boxes and notes: those are read from the XML of its elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, cast

from docx.document import Document as WordDocument
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.oxml.ns import qn
from docx.oxml.table import CT_Tbl
from docx.oxml.text.paragraph import CT_P
from docx.parts.story import StoryPart
from docx.table import Table as WordTable
from docx.text.hyperlink import Hyperlink
from docx.text.paragraph import Paragraph as WordParagraph
from docx.text.run import Run

from tasks.documents import blocks, runs
from tasks.documents.blocks import Block, Cell, Inline, ListItem, NoteMark, Picture, Text
from tasks.documents.settled import settle

MOST_COLUMNS = 1024
"""Word allows 63; a document that asks for more than this is broken or hostile."""

_FALSE = ("0", "false", "off")


class Reader:
    """Reads one document; keeps the counts that Word keeps while it lays out: list numbers and note labels."""

    def __init__(self, document: WordDocument) -> None:
        self._document = document
        self._labels: dict[tuple[str, str], str] = {}
        self._counts: dict[str, dict[int, int]] = {}
        self._levels = _list_levels(document)

    def body(self) -> tuple[tuple[Block, ...], ...]:
        """One entry per block of the body: the paragraph or table, and after it the boxes anchored in it."""
        settle(self._document.element)
        return tuple(tuple(self._read(block)) for block in self._document.iter_inner_content())

    def notes(self) -> dict[str, tuple[Block, ...]]:
        """Label to text of the notes that :meth:`body` found a mark of, in that order; empty where Word has none."""
        found = {kind: self._note_elements(kind) for kind in ("footnote", "endnote")}
        return {
            label: tuple(self._blocks(*found[kind][number])) if number in found[kind] else ()
            for (kind, number), label in list(self._labels.items())
        }

    def _note_elements(self, kind: str) -> dict[str, tuple[Iterable[Any], Any]]:
        reltype = {"footnote": RELATIONSHIP_TYPE.FOOTNOTES, "endnote": RELATIONSHIP_TYPE.ENDNOTES}[kind]
        part = _related(self._document.part, reltype)
        if part is None:
            return {}
        story = StoryPart.load(part.partname, part.content_type, part.blob, part.package)
        for relation in part.rels.values():
            target = relation.target_ref if relation.is_external else relation.target_part
            story.load_rel(relation.reltype, target, relation.rId, relation.is_external)
        settle(story.element)
        return {note.get(qn("w:id"), ""): (note, story) for note in story.element.iter(qn(f"w:{kind}"))}

    def _blocks(self, elements: Iterable[Any], parent: Any) -> Iterator[Block]:
        for element in elements:
            if isinstance(element, CT_P):
                yield from self._read(WordParagraph(element, parent))
            elif isinstance(element, CT_Tbl):
                yield from self._read(WordTable(element, parent))

    def _read(self, block: WordParagraph | WordTable) -> Iterator[Block]:
        if isinstance(block, WordTable):
            yield self._table(block)
            return
        yield self._paragraph(block)
        for box in runs.boxes(block._p):
            yield blocks.Box(tuple(self._blocks(box, block)))

    def _paragraph(self, paragraph: WordParagraph) -> blocks.Paragraph:
        names = [str(style.name or "").lower() for style in _styles(paragraph)]
        inlines = tuple(self._inlines(paragraph))
        is_empty = not any(isinstance(inline, Picture) or blocks.plain_inline(inline) for inline in inlines)
        return blocks.Paragraph(
            inlines,
            level=_heading_level(paragraph),
            is_title="title" in names,
            is_caption="caption" in names,
            item=None if is_empty else self._list_item(paragraph),
        )

    def _inlines(self, paragraph: WordParagraph) -> Iterator[Inline]:
        for item in paragraph.iter_inner_content():
            if isinstance(item, Hyperlink):
                link = runs.address(item)
                for run in item.runs:
                    yield from self._run(run, link)
            else:
                yield from self._run(item, "")

    def _run(self, run: Run, link: str) -> Iterator[Inline]:
        if run.font.hidden:
            return
        is_bold, is_italic, vertical = runs.look(run)
        for child in run.element:
            name = str(child.tag).rpartition("}")[2]
            if name in ("footnoteReference", "endnoteReference"):
                yield NoteMark(self._label(name.removesuffix("Reference"), child.get(qn("w:id"), "")))
            elif name in ("drawing", "pict", "object"):
                yield from runs.pictures(child, run.part)
            else:
                text = runs.text(name, child)
                if text:
                    yield Text(text, is_bold, is_italic, vertical, link)

    def _label(self, kind: str, number: str) -> str:
        """Numbered in the order of the marks; endnotes have an ``e`` before theirs."""
        alike = sum(seen == kind for seen, _ in self._labels)
        return self._labels.setdefault((kind, number), f"{'e' if kind == 'endnote' else ''}{alike + 1}")

    def _list_item(self, paragraph: WordParagraph) -> ListItem | None:
        properties = _inherited(paragraph, "w:numPr")
        if properties is None:
            return None
        number, depth = (_value(properties.find(qn(f"w:{name}")), "0") for name in ("numId", "ilvl"))
        if number == "0":
            return None
        form, start, sequence = self._levels.get((number, depth), ("bullet", 1, number))
        counts = self._counts.setdefault(sequence, {})
        counts[int(depth)] = counts.get(int(depth), start - 1) + 1
        for deeper in [other for other in counts if other > int(depth)]:
            del counts[deeper]
        return ListItem(int(depth), "-" if form in ("bullet", "none") else f"{counts[int(depth)]}.")

    def _table(self, table: WordTable) -> blocks.Table:
        rows: list[list[Cell | None]] = []
        for row in table.rows:
            cells: list[Cell | None] = [None] * row.grid_cols_before
            for tc in row._tr.tc_lst:
                above = rows[-1][len(cells)] if rows and len(cells) < len(rows[-1]) else None
                is_continued = tc.vMerge == "continue" and above is not None
                cells += [above if is_continued else Cell(tuple(self._blocks(tc, table)))] * tc.grid_span
                if len(cells) > MOST_COLUMNS:
                    raise ValueError(f"a table row of more than {MOST_COLUMNS} columns")
            rows.append(cells)
        width = max(map(len, rows), default=0)
        marks = [_is_on(row._tr.find(f"{qn('w:trPr')}/{qn('w:tblHeader')}")) for row in table.rows]
        return blocks.Table(
            tuple(tuple(row + [None] * (width - len(row))) for row in rows),
            header_marks=marks.index(False) if False in marks else len(marks),
        )


def _styles(paragraph: WordParagraph) -> Iterator[Any]:
    """The paragraph's style and those that it is based on."""
    style: Any = paragraph.style
    seen: set[str] = set()
    while style is not None and style.style_id not in seen:
        seen.add(style.style_id)
        yield style
        style = style.base_style


def _inherited(paragraph: WordParagraph, tag: str) -> Any:
    """A paragraph property: its own, else that of the nearest style that has it."""
    owners = [paragraph._p, *(style.element for style in _styles(paragraph))]
    found = (owner.find(f"{qn('w:pPr')}/{qn(tag)}") for owner in owners)
    return next((element for element in found if element is not None), None)


def _heading_level(paragraph: WordParagraph) -> int:
    for style in _styles(paragraph):
        name, _, number = str(style.name or "").lower().rpartition(" ")
        if name == "heading" and number in tuple("123456789"):
            return int(number)
    outline = int(_value(_inherited(paragraph, "w:outlineLvl"), "9"))
    return outline + 1 if 0 <= outline < 9 else 0


def _list_levels(document: WordDocument) -> dict[tuple[str, str], tuple[str, int, str]]:
    """Number format, first number and sequence of every level of every list; lists of one kind count on together."""
    part = _related(document.part, RELATIONSHIP_TYPE.NUMBERING)
    if part is None:
        return {}
    kinds = {kind.get(qn("w:abstractNumId")): kind for kind in part.element.iter(qn("w:abstractNum"))}
    found = {}
    for number in part.element.iter(qn("w:num")):
        kind = kinds.get(_value(number.find(qn("w:abstractNumId")), ""))
        if kind is None:
            continue
        own = number.get(qn("w:numId"), "")
        overrides = {level.get(qn("w:ilvl")): level for level in number.iter(qn("w:lvlOverride"))}
        for level in kind.iter(qn("w:lvl")):
            depth = level.get(qn("w:ilvl"), "")
            override = overrides.get(depth)
            restart = override.find(qn("w:startOverride")) if override is not None else None
            start = _value(level.find(qn("w:start")), "1") if restart is None else _value(restart, "1")
            sequence = f"list {own}" if overrides else f"kind {kind.get(qn('w:abstractNumId'))}"
            found[own, depth] = (_value(level.find(qn("w:numFmt")), "decimal"), int(start), sequence)
    return found


def _related(part: Any, reltype: str) -> Any:
    return next((rel.target_part for rel in part.rels.values() if rel.reltype == reltype and not rel.is_external), None)


def _value(element: Any, default: str) -> str:
    return default if element is None else cast(str, element.get(qn("w:val"), default))


def _is_on(element: Any) -> bool:
    return element is not None and _value(element, "true") not in _FALSE
