"""Python values as the text that ``ruff format`` leaves as it is."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

WIDTH = 120
"""Columns that a line may have; what is longer is taken apart, one part a line."""
STEP = 4


def text(value: str) -> str:
    """A string in double quotes, where that takes no backslash."""
    shown = repr(value)
    if shown.startswith("'") and '"' not in value:
        shown = '"' + shown[1:-1].replace("\\'", "'") + '"'
    return shown


def pattern(value: str) -> str:
    """A regular expression, raw where it can be."""
    return f'r"{value}"' if '"' not in value and not value.endswith("\\") and value.isprintable() else text(value)


def escaped(name: str) -> str:
    """A name as a regular expression, blanks and dashes as they are."""
    return re.escape(name).replace("\\ ", " ").replace("\\-", "-")


def literal(value: Any, indent: int, before: int = 0) -> str:
    """``value`` as it stands behind ``before`` characters on a line with this indent; one character is left for what
    follows it."""
    shown = _flat(value)
    if indent + before + len(shown) + 1 <= WIDTH or not isinstance(value, (Mapping, tuple, list)) or not value:
        return shown
    inner = indent + STEP
    pad, end = " " * inner, " " * indent
    if isinstance(value, Mapping):
        items = [f"{pad}{text(str(k))}: {literal(v, inner, len(text(str(k))) + 2)},\n" for k, v in value.items()]
        return "{\n" + "".join(items) + end + "}"
    opened, closed = ("(", ")") if isinstance(value, tuple) else ("[", "]")
    return f"{opened}\n" + "".join(f"{pad}{literal(v, inner)},\n" for v in value) + end + closed


def _flat(value: Any) -> str:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{text(str(k))}: {_flat(v)}" for k, v in value.items()) + "}"
    if isinstance(value, tuple):
        return "(" + ", ".join(map(_flat, value)) + ("," if len(value) == 1 else "") + ")"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flat, value)) + "]"
    return repr(value)


def assigned(name: str, value: Any) -> str:
    """``NAME = value``."""
    return f"{name} = {literal(value, 0, len(name) + 3)}"


def argument(name: str, value: Any, indent: int = STEP) -> str:
    """``    name=value,``."""
    return f"{' ' * indent}{name}={literal(value, indent, len(name) + 1)},"


def call(function: str, arguments: Iterable[str], indent: int, before: int = 0) -> str:
    """``function(…)`` of arguments that are code already."""
    given = list(arguments)
    flat = f"{function}({', '.join(given)})"
    if "\n" not in flat and indent + before + len(flat) + 1 <= WIDTH:
        return flat
    pad = " " * (indent + STEP)
    return f"{function}(\n" + "".join(f"{pad}{one},\n" for one in given) + " " * indent + ")"


def imported(module: str, names: Iterable[str]) -> str:
    """``from module import a, b``, sorted as ruff sorts."""
    ordered = sorted(set(names), key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    line = f"from {module} import {', '.join(ordered)}"
    return line if len(line) <= WIDTH else f"from {module} import (\n" + "".join(f"    {n},\n" for n in ordered) + ")"


def comment(said: str, indent: int = 0) -> str:
    """A comment of as many lines as it takes."""
    begin = f"{' ' * indent}# "
    return textwrap.fill(said, WIDTH, initial_indent=begin, subsequent_indent=begin, break_long_words=False)
