"""A Word table as a frame of text: which rows are its header, what its columns are called, what merged cells hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise

import pandas as pd

from tasks.documents.blocks import Cell, Table, paragraphs, plain


def frame(table: Table) -> pd.DataFrame:
    """Every cell as text. A merged cell's text stands in each row and column that it covers.

    So each row and each column is complete when read alone. What was merged is seen in the Markdown, where the text
    stands once.
    """
    rows = [[cell_text(cell) for cell in row] for row in table.rows[header_rows(table) :]]
    return pd.DataFrame(rows, columns=column_names(table), dtype=str)


def header_rows(table: Table) -> int:
    """The rows that repeat on every page, else the first one; none where that would leave no rows.

    Publishers seldom mark the second row of a header. It belongs to it where the first row has one cell over several
    columns beside one that reaches down.
    """
    if len(table.rows) < 2:
        return 0
    marked = table.header_marks if 0 < table.header_marks < len(table.rows) else 1
    first = table.rows[0]
    is_grouped = len(set(first)) > 1 and any(left is right for left, right in pairwise(first) if left is not None)
    reach = max((_reach(table, column) for column in range(len(first))), default=1) if is_grouped else 1
    return max(marked, reach if reach < len(table.rows) else 1)


def column_names(table: Table) -> list[str]:
    """Header cells from top to bottom joined with `` / ``; ``column_2`` where empty, ``name_2`` where repeated."""
    header = table.rows[: header_rows(table)]
    width = len(table.rows[0]) if table.rows else 0
    joined = [" / ".join(_distinct_texts(row[column] for row in header)) for column in range(width)]
    return _unique([name or f"column_{number}" for number, name in enumerate(joined, 1)])


def cell_text(cell: Cell | None) -> str:
    """A line per paragraph; nested tables are left out, they are tables of their own."""
    if cell is None:
        return ""
    return "\n".join(text for text in (plain(paragraph) for paragraph in paragraphs(cell.blocks)) if text)


def _reach(table: Table, column: int) -> int:
    cell = table.rows[0][column]
    return next(
        (row for row, cells in enumerate(table.rows) if cells[column] is not cell or cell is None), len(table.rows)
    )


def _distinct_texts(cells: Iterable[Cell | None]) -> list[str]:
    distinct = {id(cell): " ".join(cell_text(cell).split()) for cell in cells}
    return [text for text in distinct.values() if text]


def _unique(names: Sequence[str]) -> list[str]:
    found: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in found or (number > 1 and candidate in names):
            number += 1
            candidate = f"{name}_{number}"
        found.append(candidate)
    return found
