"""What is looked at after a run: where everything went, what was said, what else on the disk has changed."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tests.zoo.animals import Accepted, Place, Quarantined, Refused, Resident
from tests.zoo.dicoms import DICOMS
from tests.zoo.documents import DOCUMENTS
from tests.zoo.residents import IMAGE_MARK, MARK

RAW_TEXT = re.compile(
    f"{re.escape(MARK)}|{re.escape(IMAGE_MARK)}|<[a-z]+ [^>]*on(?:load|error)=[\"']?alert\\('zoo'\\)", re.I
)
"""Of what was planted, as it would run in a browser."""
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f\u202e]|\x1b(?!\[[0-9;?]*[A-Za-z])|\x1b\[2J")
"""What must not reach a terminal; colours may."""
PAGES = (".html", ".md", ".svg")


@dataclass(frozen=True)
class Seen:
    """One line of the zoo's table."""

    name: str
    what: str
    expected: str
    seen: str
    is_right: bool
    run: str
    seconds: float | None = None
    peak_mib: float | None = None


def listing(folder: Path) -> dict[str, str]:
    """Every path below, with what it is: kind, size and hash of a file, target of a link."""
    return {path.relative_to(folder).as_posix(): _what(path) for path in sorted(folder.rglob("*"))}


def _what(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    if not path.is_file():
        return "folder" if path.is_dir() else "special"
    return f"file {path.stat().st_size} {hashlib.sha256(path.read_bytes()).hexdigest()}"


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Paths that have come, gone, or become other ones."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def release_in(lake: Path, dataset: str) -> Path:
    """The one that was published."""
    (folder,) = (path for path in (lake / dataset / "releases").iterdir() if not path.name.startswith("."))
    return folder


def residents(release: Path, places: Mapping[str, Sequence[Place]], animals: Iterable[Resident]) -> Iterator[Seen]:
    """What became of each, by the tables of the release."""
    quarantine = pd.read_parquet(release / "quarantine.parquet")
    samples = pd.read_parquet(release / "samples.parquet").set_index(["archive", "member"])
    refused = quarantine.groupby(["archive", "member"])["reason"].agg(set).to_dict()
    for animal in animals:
        told = [_fate(place, animal.expected, refused, samples) for place in places[animal.name]]
        is_right = all(fate == str(animal.expected) for fate in told)
        yield Seen(animal.name, animal.what, str(animal.expected), " / ".join(sorted(set(told))), is_right, "films")


def _fate(
    place: Place, expected: Quarantined | Accepted, refused: Mapping[Any, set[str]], samples: pd.DataFrame
) -> str:
    """In the words in which it was expected."""
    is_there = place in samples.index
    if reasons := refused.get(place):
        return "accepted and quarantined" if is_there else f"quarantined: {', '.join(sorted(reasons))}"
    if not is_there:
        return "lost"
    names = list(expected.values) if isinstance(expected, Accepted) else []
    return str(Accepted({name: samples.loc[place, name] for name in names}))


def documents(release: Path) -> Iterator[Seen]:
    """What became of each document."""
    quarantine = pd.read_parquet(release / "quarantine.parquet").set_index("member")["reason"].to_dict()
    taken = {record["member"] for record in json.loads((release / "documents.json").read_text())["documents"]}
    for animal in DOCUMENTS:
        fate = f"quarantined: {quarantine[animal.file]}" if animal.file in quarantine else "lost"
        fate = "accepted" if animal.file in taken else fate
        yield Seen(
            f"document: {animal.name}",
            animal.what,
            str(animal.expected),
            fate,
            fate == str(animal.expected),
            "documents",
        )


def dicoms(release: Path) -> Iterator[Seen]:
    """What became of each DICOM file."""
    quarantine = pd.read_parquet(release / "quarantine.parquet")
    samples = pd.read_parquet(release / "samples.parquet").set_index(["archive", "member"])
    refused = quarantine.groupby(["archive", "member"])["reason"].agg(set).to_dict()
    for animal in DICOMS:
        fate = _fate((".", animal.member), animal.expected, refused, samples)
        told = str(animal.expected)
        yield Seen(f"DICOM: {animal.name}", animal.what, told, fate, fate == told, "dicoms")


def said(text: str, code: int, expected: Refused) -> str:
    """In the words in which it was expected, or what was said."""
    lines = [line for line in text.splitlines() if line.strip()]
    if code != 2 or len(lines) != 1 or "Traceback" in text or CONTROL.search(text):
        return f"exit {code}: {' | '.join(lines[-3:])[:300]}"
    return str(expected) if expected.words in text else f"refused: {lines[0][:300]}"


def accounts(release: Path) -> str:
    """What does not add up; empty where all does."""
    sums = json.loads((release / "manifest.json").read_text())["accounting"]
    found, told = sums["members"], sums["written"] + sums["quarantined"] + sum(sums["ignored"].values())
    wrong = [] if found == told else [f"{found} members found, {told} accounted for"]
    for table in sums["tables"]:
        if table["found"] != table["written"] + table["quarantined"]:
            wrong.append(f"{table['table']}: {table}")
    return "; ".join(wrong)


def pages_that_run(folder: Path, others: Mapping[str, str] | None = None) -> list[str]:
    """Pages of a release, and other texts by their name, with something in them that a browser would run."""
    pages = [path for path in folder.rglob("*") if path.suffix in PAGES]
    texts = {str(path.relative_to(folder)): path.read_text("utf-8") for path in pages} | dict(others or {})
    # A backslash makes words of a tag in Markdown, and nowhere else.
    words = {name: text if name.endswith(".html") else text.replace("\\<", "") for name, text in texts.items()}
    return sorted(name for name, text in words.items() if RAW_TEXT.search(text))
