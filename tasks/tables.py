"""Metadata tables as published text: every cell a string, every row numbered, every complaint with its place."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator, Sequence

import pandas as pd

from tasks.limits import Limits, current, variable
from tasks.schema import Table, TableForm, TableRule, UnusableInput

CELLS_TOLD = 20
"""Of a row that a refusal shows."""
NAMES_TOLD = 60
"""Columns that a refusal names."""
HEADER_BYTES = 64 * 1024
"""Of a table's first line, which are looked at to tell what table it is; csv takes cells of twice as much."""


def read_table(rule: TableRule, name: str, data: bytes) -> Table:
    """A CSV (header in its first line) or a plain list of one value per line.

    Accepts a byte order mark, CRLF and LF, a missing final newline, trailing empty cells and blank lines. Raises
    :class:`UnusableInput` for text that is not of the rule's encoding or has NULs in it, a missing column or one that
    is there twice, a row with more cells than the header, a quote that nothing closes, and for more bytes, columns, or
    characters in a cell than :mod:`tasks.limits` allows.
    """
    limits = current()
    if len(data) > limits.table_bytes:
        raise UnusableInput(
            f"{name} has {len(data)} bytes; the most is {limits.table_mib} MiB ({variable('table_mib')})"
        )
    text = _decode(rule, name, data)
    rows = _split_list(rule, text) if not rule.has_header else _split_csv(rule, name, text, limits)
    rows = rows.rename(columns=dict(rule.aliases))
    if again := sorted(column for column, count in Counter(rows.columns).items() if count > 1):
        raise UnusableInput(f"{name} has more than one column {quoted(again)}: which one counts? Leave one of them")
    missing = [column for column in rule.columns if column not in rows.columns]
    if missing:
        raise UnusableInput(
            f"{name} has no column {quoted(missing)}; it has {quoted(list(rows.columns))}. Was it renamed, or is "
            f"this another release of the table?"
        )
    form = form_of(rule, header_of(rule, data)) if rule.forms else None
    return Table(rule.role, name, rows, form.name if form else "")


def header_of(rule: TableRule, data: bytes) -> list[str]:
    """Cells of the first line, as the rule reads it, stripped, empty ones at the end included; of no use for what is no
    text."""
    first = data[:HEADER_BYTES].decode(_codec(rule), "replace").splitlines()[:1]
    try:
        return [cell.strip() for cell in next(csv.reader(first, delimiter=rule.separator), [])]
    except csv.Error:  # a cell beyond the limit
        return []


def recognise(rules: Sequence[TableRule], data: bytes) -> TableRule | None:
    """The rule of the table that begins like this, or None."""
    return next((rule for rule in rules if rule.has_header and _has_columns(rule, header_of(rule, data))), None)


def form_of(rule: TableRule, header: Sequence[str]) -> TableForm | None:
    """The form of ``rule`` that this header has; of several that fit, the one that asks for most."""
    names = _names(rule, header)
    trailing = len(header) - len(names)
    fitting = [
        form
        for form in rule.forms
        if set(form.columns) <= set(names) and form.trailing_cells in (None, min(trailing, 1))
    ]
    return max(fitting, key=lambda form: len(form.columns), default=None)


def why_not(rules: Sequence[TableRule], name: str, data: bytes) -> str:
    """What a table lacks to be the one it resembles most."""
    headers = {rule.role: header_of(rule, data) for rule in rules if rule.has_header}
    if any("\0" in cell for header in headers.values() for cell in header):
        return f"{name} is no UTF-8 text (UTF-16?): save it as UTF-8"
    missing = {
        rule.role: [column for column in rule.columns if column not in _names(rule, headers[rule.role])]
        for rule in rules
        if rule.has_header
    }
    role, columns = min(missing.items(), key=lambda item: len(item[1]))
    has = quoted([cell for cell in headers[role] if cell])
    return f"{name} is not the {role} table: it has no column {quoted(columns)}; it has {has}. Was it renamed?"


def _has_columns(rule: TableRule, header: Sequence[str]) -> bool:
    return set(rule.columns) <= set(_names(rule, header)) and (not rule.forms or form_of(rule, header) is not None)


def _names(rule: TableRule, header: Sequence[str]) -> list[str]:
    """Column names of a header under the publisher's own spelling; empty cells at its end left out."""
    names = [rule.aliases.get(cell, cell) for cell in header]
    while names and not names[-1]:
        names.pop()
    return names


def _codec(rule: TableRule) -> str:
    """Python's name of the rule's encoding, a byte order mark left out."""
    return "utf-8-sig" if rule.encoding == "utf-8" else rule.encoding


def _decode(rule: TableRule, name: str, data: bytes) -> str:
    try:
        text = data.decode(_codec(rule))
    except UnicodeDecodeError as error:
        called = "UTF-8" if rule.encoding == "utf-8" else rule.encoding
        raise UnusableInput(
            f"{name} is not {called} text: byte {data[error.start]:#04x} at {error.start}; save it as {called}"
        ) from error
    if (at := text.find("\0")) >= 0:
        raise UnusableInput(
            f"{name} has a NUL in line {text.count(chr(10), 0, at) + 1}: is it UTF-16? Save it as UTF-8"
        )
    return text


def _split_list(rule: TableRule, text: str) -> pd.DataFrame:
    lines = [line.strip() for line in text.splitlines()]
    numbered = {number: line for number, line in enumerate(lines, 1) if line}
    return pd.DataFrame({rule.columns[0]: list(numbered.values())}, index=list(numbered), dtype=str)


def _split_csv(rule: TableRule, name: str, text: str, limits: Limits) -> pd.DataFrame:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=rule.separator, strict=True)
    csv.field_size_limit(limits.table_cell)
    try:
        return _frame(name, reader, limits)
    except csv.Error as error:
        setting = f" ({variable('table_cell')})" if "field limit" in str(error) else ""
        raise UnusableInput(f"{name}, line {reader.line_num}: {error}{setting}") from error


def _frame(name: str, reader: Iterator[list[str]], limits: Limits) -> pd.DataFrame:
    header = [cell.strip() for cell in next(reader, [])]
    while header and not header[-1]:
        header.pop()  # publishers leave trailing commas in headers
    if len(header) > limits.table_columns:
        raise UnusableInput(
            f"{name} has {len(header)} columns; the most is {limits.table_columns} ({variable('table_columns')})"
        )
    numbers, rows = [], []
    for number, cells in enumerate(reader, 1):
        if not any(cells):
            continue
        if any(cells[len(header) :]):
            told = ", ".join(map(repr, cells[:CELLS_TOLD])) + (", …" if len(cells) > CELLS_TOLD else "")
            raise UnusableInput(f"{name}, data row {number}: {len(cells)} cells under {len(header)} columns: {told}")
        numbers.append(number)
        rows.append([*cells[: len(header)], *[""] * (len(header) - len(cells))])
    return pd.DataFrame(rows, index=numbers, columns=header, dtype=str)


def quoted(names: Sequence[str]) -> str:
    """Names for an error text, the first of many."""
    told = [f"'{name}'" for name in names[:NAMES_TOLD]] + (["…"] if len(names) > NAMES_TOLD else [])
    return ", ".join(told) or "none"
