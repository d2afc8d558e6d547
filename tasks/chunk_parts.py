"""A chunk that killed its workers, in parts: so that a poison image costs itself, and not its 255 neighbours.

A part is a chunk of fewer members, in a file ``<digest>-<first>-<end>.parquet`` beside the whole ones. What killed its
worker has no file: the next run finds the parts and tries what is missing once more, and when nothing is missing
any longer, the parts become the chunk's own file.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise

from tasks.chunks import Chunk, distrusting, is_done, write_rows
from tasks.files import read_table
from tasks.storage import Location, remove

PARTS = 16
"""A chunk is cut into so many, and each of them again: 256 members come down to one in two cuts. In halves it would be
eight, and each costs four dead workers."""
PART_NAME = re.compile(r"([0-9a-f]+)-(\d+)-(\d+)\.parquet")


def cut(chunk: Chunk) -> list[Chunk]:
    """Up to 16 parts of a chunk, or of a part; none of a single member."""
    first, end = chunk.part or (0, len(chunk.members))
    count = min(PARTS, end - first)
    if count < 2:
        return []
    ends = [first + (end - first) * number // count for number in range(count + 1)]
    return [_part(chunk, a, b) for a, b in pairwise(ends)]


def _part(chunk: Chunk, first: int, end: int) -> Chunk:
    """Members ``first`` up to ``end``, counted in the whole chunk."""
    own = slice(first - (chunk.part or (0, 0))[0], end - (chunk.part or (0, 0))[0])
    return replace(chunk, members=chunk.members[own], masks=chunk.masks[own], part=(first, end))


def found_parts(chunks: Iterable[Chunk], folder: Location, names: Iterable[str]) -> dict[str, list[Chunk]]:
    """The parts of any of these chunks, by digest, in order, none overlapping, among the files of ``folder``."""
    ranges: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for file in names:
        if name := PART_NAME.fullmatch(file):
            ranges[name[1]].append((int(name[2]), int(name[3])))
    found = {}
    for chunk in chunks:
        parts: list[Chunk] = []
        for first, end in sorted(ranges.get(chunk.digest, ()), key=lambda part: (part[0], -part[1])):
            begins_late_enough = first >= (parts[-1].part or (0, 0))[1] if parts else True
            part = _part(chunk, first, end)
            if begins_late_enough and first < end <= len(chunk.members) and is_done(part, folder):
                parts.append(part)
        if parts:
            found[chunk.digest] = parts
    return found


def missing_parts(chunk: Chunk, parts: Iterable[Chunk]) -> list[Chunk]:
    """What is not in these parts; the whole chunk when there are none."""
    spans = [part.part for part in parts if part.part]
    if not spans:
        return [chunk]
    ends = [0, *(end for _, end in spans)]
    firsts = [*(first for first, _ in spans), len(chunk.members)]
    return [_part(chunk, first, end) for first, end in zip(ends, firsts, strict=True) if first < end]


def join(chunk: Chunk, parts: Iterable[Chunk], folder: Location) -> None:
    """Write the whole chunk from its parts, which together hold every member, and remove them."""
    names = [part.file_name for part in parts]
    rows = []
    for name in names:
        with distrusting(folder / name):
            rows += read_table(folder / name).to_pylist()
    write_rows(chunk, rows, folder)
    for name in names:
        remove(folder / name)
