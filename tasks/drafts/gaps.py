"""What a declaration still lacks, said in words."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tasks.schema import Dataset, Datasheet, Terms

SAID = {
    "summary": "what it is, in a sentence",
    "licence": "as on the page it comes from",
    "citation": "how to cite it",
    "homepage": "the page it comes from",
    "published": "the year, or the date",
}
"""Texts that every declaration has, and what they are."""


def gaps(dataset: Dataset, file: Path) -> list[str]:
    """Each thing that is missing, with the file to write it in; nothing where the declaration is whole."""
    missing = list(_missing(dataset))
    told = {what.split(" ", 1)[0] for what in missing}
    lines = file.read_text("utf-8").splitlines()
    return [f"{what}: TODO in {file}" for what in missing] + [
        f"TODO in {file}, line {number}: {line.strip().removeprefix('# TODO: ')}"
        for number, line in enumerate(lines, 1)
        if "TODO" in line and not any(f"{word}=" in f"{line}\n{lines[number]}" for word in told)
    ]


def _missing(dataset: Dataset) -> Iterator[str]:
    for field, what in SAID.items():
        if not getattr(dataset, field):
            yield f"{field} is empty ({what})"
    if dataset.homepage and not dataset.homepage.startswith("https://"):
        yield f"homepage is {dataset.homepage!r}, which is no https address"
    if not dataset.sources:
        yield "sources is empty: name at least one file and where it can be had"
    for source in dataset.sources:
        if not (source.name and source.url.startswith("https://")):
            yield f"sources has {source.name!r} with the url {source.url!r}, which is no https address"
    if dataset.sources and not any(s.size_bytes or s.sha256 or s.md5 or s.note for s in dataset.sources):
        yield "sources does not say how many bytes, which hash, or in a note what it is"
    if strange := set(dataset.labelled_splits) - set(dataset.splits):
        yield f"labelled_splits names {', '.join(sorted(strange))}, which splits does not"
    if dataset.terms == Terms():
        yield "terms says nothing of what may be passed on, and of whose it is"
    if dataset.datasheet == Datasheet():
        yield "datasheet is empty: what it was made for, how it was labelled, what it is not for"
    for known in dataset.known:
        if not (known.rows > 0 and known.statement and known.source):
            yield f"known {known.code}: rows, statement and source belong together"
