"""A table of which nothing is known: encoding, separator and columns told from its text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import pandas as pd

from tasks.schema import TableRule, UnusableInput
from tasks.tables import header_of, read_table

Encoding = Literal["utf-8", "cp1252", "latin-1"]
Separator = Literal[",", ";", "\t", "|"]

WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0")
"""First bytes of .xlsx and .xls."""


@dataclass(frozen=True)
class Sheet:
    """One table as it was read."""

    member: str
    """Its path in the raw release."""
    rule: TableRule
    rows: pd.DataFrame
    """Every cell text, without blanks around it; the index is the number of the data row."""


def read_sheet(member: str, role: str, data: bytes) -> Sheet:
    """Read a table in whatever way gives it most columns.

    Raises :class:`UnusableInput` for what is no text, has no rows, or holds together with no separator.
    """
    if data.startswith(WORKBOOKS):
        raise UnusableInput(f"{member} is a workbook, no text: save it as CSV (UTF-8) first")
    ways = [TableRule(role, (), encoding=_encoding(data), separator=one) for one in get_args(Separator)]
    rule = max(ways, key=lambda way: len(header_of(way, data)))  # the first of those that give as many
    rows = read_table(rule, member, data).rows
    if rows.empty:
        raise UnusableInput(f"{member} has no row below its header: is it the right table?")
    if "" in rows:
        raise UnusableInput(f"{member} has a column without a name: give it one in the first line")
    return Sheet(member, replace(rule, columns=tuple(rows.columns)), rows.apply(lambda column: column.str.strip()))


def _encoding(data: bytes) -> Encoding:
    """UTF-8 where it is that; else Windows' own, which has no letter for five of its bytes; else Latin-1."""
    for encoding, codec in (("utf-8", "utf-8-sig"), ("cp1252", "cp1252")):
        try:
            data.decode(codec)
        except UnicodeDecodeError:
            continue
        return "utf-8" if encoding == "utf-8" else "cp1252"
    return "latin-1"
