"""What a manifest must look like before anything is taken from it: nobody knows who has written it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

DIGEST = re.compile(r"[0-9a-f]{64}")
ODD_PATH = re.compile(r"[\\\0]|^[A-Za-z]:|(?:^|/)\.{0,2}(?:/|$)")
"""Backslashes, NULs, drives, and parts that are empty, ``.`` or ``..``: no path of a release has any."""
SHOWN = 80


def parsed(content: bytes) -> dict[str, Any]:
    """The manifest of these bytes. Raises :class:`ValueError`, which says what of it cannot be."""
    try:
        manifest = json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if said := complaint(manifest):
        raise ValueError(said)
    checked: dict[str, Any] = manifest
    return checked


def complaint(manifest: Any) -> str:
    """What of a manifest cannot be, in words; empty where all that is read of it is of its kind, and every path stays
    inside the release."""
    if not isinstance(manifest, Mapping):
        return f"a mapping is expected, not {_shown(manifest)}"
    for name, is_kind in PARTS.items():
        if name not in manifest:
            return f"it has no '{name}'"
        if not is_kind(manifest[name]):
            return f"'{name}' cannot be {_shown(manifest[name])}"
    for name, is_kind in OPTIONAL_PARTS.items():
        if name in manifest and not is_kind(manifest[name]):
            return f"'{name}' cannot be {_shown(manifest[name])}"
    seen: set[str] = set()
    for group, kinds in (("shards", {**FILE, **SHARD}), ("files", FILE)):
        for entry in manifest[group]:
            if said := _entry_complaint(entry, kinds):
                return f"an entry of '{group}' {said}"
            if entry["path"] in seen:
                return f"{_shown(entry['path'])} is listed twice"
            seen.add(entry["path"])
    return _unwritable(manifest)


def stays_inside(path: Any) -> bool:
    """Whether words are a path below a folder, on any system."""
    return isinstance(path, str) and not ODD_PATH.search(path) and _is_writable(path)


def _entry_complaint(entry: Any, kinds: Mapping[str, Callable[[Any], bool]]) -> str:
    if not isinstance(entry, Mapping):
        return f"cannot be {_shown(entry)}"
    for name, is_kind in kinds.items():
        if not is_kind(entry.get(name)):
            return f"has {name} {_shown(entry.get(name))}" if name in entry else f"has no {name}"
    return ""


def _unwritable(manifest: Mapping[str, Any]) -> str:
    """NaN, infinities and halves of characters can be read, but no digest can be taken of them."""
    try:
        json.dumps(manifest, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        return f"it holds what JSON does not: {error}"
    return ""


def _shown(value: Any) -> str:
    words = ascii(value)
    return words if len(words) <= SHOWN else f"{words[:SHOWN]}…"


def _is_writable(text: str) -> bool:
    try:
        return bool(text.encode())
    except UnicodeEncodeError:
        return False


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def _is_mapping(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _are_inputs(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(own, Mapping) and _is_text(own.get("name")) for own in value)


def _are_splits(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(split, Mapping) and _is_count(split.get("samples")) for split in value.values()
    )


def _are_gates(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(passed, bool) for passed in value.values())


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


PARTS: Mapping[str, Callable[[Any], bool]] = {
    "dataset": _is_text,
    "release": _is_text,
    "parameters": _is_mapping,
    "code": _is_mapping,
    "inputs": _are_inputs,
    "splits": _are_splits,
    "shards": _is_list,
    "files": _is_list,
    "gates": _are_gates,
}
OPTIONAL_PARTS: Mapping[str, Callable[[Any], bool]] = {
    "accounting": _is_mapping,
    "unchecked": _are_texts,
    "documents": _is_count,
}
FILE: Mapping[str, Callable[[Any], bool]] = {"path": stays_inside, "bytes": _is_count, "sha256": _is_digest}
SHARD: Mapping[str, Callable[[Any], bool]] = {"store": _is_text, "split": _is_text, "samples": _is_count}
