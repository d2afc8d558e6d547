"""Metadata tables as published text: every cell a string, every row numbered, every complaint with its place."""

from __future__ import annotations

import csv
import io

import pandas as pd

from tasks.schema import Table, TableRule, UnusableInput


def read_table(rule: TableRule, name: str, data: bytes) -> Table:
    """A CSV (header in its first line) or a plain list of one value per line.

    Accepts a byte order mark, CRLF and LF, a missing final newline, trailing empty cells and blank lines. Raises
    :class:`UnusableInput` for text that is not UTF-8, a missing column, and a row with more cells than the header.
    """
    text = _decode(name, data)
    rows = _split_list(rule, text) if not rule.has_header else _split_csv(name, text)
    missing = [column for column in rule.columns if column not in rows.columns]
    if missing:
        raise UnusableInput(
            f"{name} has no column {_quoted(missing)}; it has {_quoted(list(rows.columns))}. Was it renamed, or is "
            f"this another release of the table?"
        )
    return Table(rule.role, name, rows)


def _decode(name: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnusableInput(f"{name} is not UTF-8 text: byte {data[error.start]:#04x} at {error.start}") from error


def _split_list(rule: TableRule, text: str) -> pd.DataFrame:
    lines = [line.strip() for line in text.splitlines()]
    numbered = {number: line for number, line in enumerate(lines, 1) if line}
    return pd.DataFrame({rule.columns[0]: list(numbered.values())}, index=list(numbered), dtype=str)


def _split_csv(name: str, text: str) -> pd.DataFrame:
    reader = csv.reader(io.StringIO(text, newline=""))
    header = [cell.strip() for cell in next(reader, [])]
    while header and not header[-1]:
        header.pop()  # publishers leave trailing commas in headers
    numbers, rows = [], []
    for number, cells in enumerate(reader, 1):
        if not any(cells):
            continue
        if any(cells[len(header) :]):
            raise UnusableInput(f"{name}, data row {number}: {len(cells)} cells under {len(header)} columns: {cells}")
        numbers.append(number)
        rows.append([*cells[: len(header)], *[""] * (len(header) - len(cells))])
    return pd.DataFrame(rows, index=numbers, columns=header, dtype=str)


def _quoted(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names) or "none"
