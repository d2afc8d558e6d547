"""Blocks as GitHub's Markdown: the running text in order, tables and pictures in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from tasks.documents.blocks import Block, Box, Cell, Paragraph, Picture, Table, cells, paragraphs
from tasks.documents.frames import column_names, header_rows
from tasks.documents.inline import escaped, guarded, line


@dataclass(frozen=True)
class References:
    """What the Markdown points to."""

    tables: Mapping[Table, tuple[str, int]]
    """Path of the table's file and its position in the body."""
    pictures: Mapping[Picture, tuple[str, str]]
    """Path of the picture's file and its caption."""


def markdown(body: Iterable[Sequence[Block]], notes: Mapping[str, Sequence[Block]], references: References) -> str:
    """The whole document; foot- and endnotes at its end, text boxes as block quotes after their paragraph."""
    blocks = [block for group in body for block in group]
    has_title = any(isinstance(block, Paragraph) and block.is_title for block in blocks)
    writer = _Writer(references, top_level=2 if has_title else 1)
    contents = {label: Cell(tuple(content)) for label, content in notes.items()}
    sections = list(writer.sections(blocks))
    sections += [f"[^{label}]: {writer.cell(content)}" for label, content in contents.items()]
    sections += [section for content in contents.values() for section in writer.nested(content.blocks)]
    return "\n\n".join(sections) + "\n"


@dataclass(frozen=True)
class _Writer:
    references: References
    top_level: int
    """Level of the document's first headings: below the title, if there is one."""

    def sections(self, blocks: Iterable[Block]) -> Iterator[str]:
        """Parts that an empty line separates; a list is one part."""
        for is_list, group in groupby(blocks, key=_is_item):
            if is_list:
                yield "\n".join(self._items([block for block in group if isinstance(block, Paragraph)]))
            else:
                for block in group:
                    yield from self._section(block)

    def cell(self, cell: Cell) -> str:
        """A cell on one line; nested tables as links to where they stand below."""
        lines = []
        for block in cell.blocks:
            if isinstance(block, Table):
                path, _ = self.references.tables[block]
                lines.append(f"[{escaped(path)}](#{_anchor(path)})")
            else:
                lines += [line(paragraph, self._picture) for paragraph in paragraphs([block])]
        return "<br>".join(text for text in lines if text)

    def nested(self, blocks: Iterable[Block]) -> Iterator[str]:
        """The tables within a cell, each under its own anchor."""
        for block in blocks:
            if isinstance(block, Table):
                yield from self._table(block)
            elif isinstance(block, Box):
                yield from self.nested(block.blocks)

    def _section(self, block: Block) -> Iterator[str]:
        if isinstance(block, Table):
            yield from self._table(block)
        elif isinstance(block, Box):
            text = "\n\n".join(self.sections(block.blocks))
            if text:
                yield "\n".join(f"> {part}".rstrip() for part in text.split("\n"))
        else:
            is_heading = block.is_title or block.level > 0
            text = line(block, self._picture, is_heading=is_heading)
            if text:
                yield f"{self._hashes(block)} {text}" if is_heading else guarded(text)

    def _hashes(self, heading: Paragraph) -> str:
        return "#" * (1 if heading.is_title else min(heading.level - 1 + self.top_level, 6))

    def _items(self, items: Sequence[Paragraph]) -> Iterator[str]:
        depth = -1
        for paragraph in items:
            if paragraph.item is not None:
                depth = min(paragraph.item.depth, depth + 1)  # a child without parent would be read as code
                yield f"{'    ' * depth}{paragraph.item.marker} {guarded(line(paragraph, self._picture))}"

    def _table(self, table: Table) -> Iterator[str]:
        path, position = self.references.tables[table]
        yield f'<a id="{_anchor(path)}"></a>[{escaped(path)}]({path}), block {position}'
        columns = [escaped(column) for column in column_names(table)]
        if columns:
            rows = [columns, ["---"] * len(columns), *self._rows(table)]
            yield "\n".join(f"| {' | '.join(row)} |" for row in rows)
        header = table.rows[: header_rows(table)]
        unseen = [self._picture(picture) for cell in _distinct(header) for picture in _pictures(cell)]
        yield from unseen  # column names are plain text
        for cell in cells(table):
            yield from self.nested(cell.blocks)

    def _rows(self, table: Table) -> Iterator[list[str]]:
        """A merged cell's text stands in the first of its places, as on the page."""
        seen: set[Cell] = set()
        for row in table.rows[header_rows(table) :]:
            texts = []
            for cell in row:
                texts.append("" if cell is None or cell in seen else self.cell(cell))
                seen |= {cell} if cell is not None else set()
            yield texts

    def _picture(self, picture: Picture) -> str:
        path, caption = self.references.pictures[picture]
        return f"![{escaped(caption or picture.description)}]({path})"


def _is_item(block: Block) -> bool:
    return isinstance(block, Paragraph) and block.item is not None and not block.level and not block.is_title


def _distinct(rows: Iterable[Sequence[Cell | None]]) -> list[Cell]:
    return list(dict.fromkeys(cell for row in rows for cell in row if cell is not None))


def _pictures(cell: Cell) -> Iterator[Picture]:
    for paragraph in paragraphs(cell.blocks):
        yield from (inline for inline in paragraph.inlines if isinstance(inline, Picture))


def _anchor(path: str) -> str:
    """``table-01`` of ``tables/table-01.parquet``."""
    return path.rpartition("/")[2].partition(".")[0]
