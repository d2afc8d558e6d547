"""The raw release that a release was made from, found again: where it lay, and whether it is still the same."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tasks.archives import LOOSE, Archive, Member, MemberRefused, list_members, read_member
from tasks.credentials import Credentials
from tasks.files import read_json
from tasks.lake import Lake
from tasks.raw_memory import HashMemory, hash_archives, remembering
from tasks.release.manifest import read_manifest
from tasks.schema import Dataset, TableRule, UnusableInput
from tasks.stages.index import gather
from tasks.stages.plan import request
from tasks.storage import Location, location

RUN = "quality/run.json"


@dataclass(frozen=True)
class Origin:
    """What a release remembers of its raw release."""

    places: tuple[str, ...]
    """Where it lay; empty where nobody noted it."""
    inputs: Mapping[str, Mapping[str, Any]]
    """Name to ``bytes`` and ``sha256``, of every archive and loose table."""
    tables: Mapping[str, Mapping[str, str]]
    """Role to ``name`` and ``form`` of the tables in use."""
    fetched: Mapping[str, Any] | None
    """What a look at the publisher had brought, where the raw release was fetched."""


def origin_of(folder: Location) -> Origin:
    """Of a published release, or of a refused one, by its folder."""
    run: dict[str, Any] = read_json(folder / RUN) if (folder / RUN).is_file() else {}
    manifest = read_manifest(folder) if (folder / "manifest.json").is_file() else None
    inputs = manifest["inputs"] if manifest else run.get("inputs", ())
    tables = manifest["parameters"].get("tables", {}) if manifest else run.get("tables", {})
    by_name = {entry["name"]: entry for entry in inputs}
    return Origin(tuple(run.get("raw", ())), by_name, tables, run.get("fetched"))


@dataclass
class RawAgain:
    """Archives of a raw release, opened once more."""

    archives: Mapping[str, Archive]
    inputs: Mapping[str, Mapping[str, Any]]
    places: tuple[str, ...]
    _memory: HashMemory
    _trusted: set[str] = field(default_factory=set)
    _listed: dict[str, dict[tuple[str, int], Member]] = field(default_factory=dict)
    _tables: dict[str, bytes] = field(default_factory=dict)

    def archive(self, name: str) -> Archive:
        """The archive of that name, after its size and SHA-256 were held against those of the release.

        Raises :class:`UnusableInput` where it is missing or another one. Loose files are held against their hashes one
        by one, where they are read.
        """
        archive = self.archives.get(name)
        if archive is None:
            there = ", ".join(sorted(self.archives)) or "nothing"
            raise UnusableInput(
                f"{name} is not in {', '.join(self.places)}, where there is {there}: say with --raw where it lies now"
            )
        if name not in self._trusted and archive.kind != "folder":
            found = hash_archives([archive], self._memory)[name].identity
            if name in self.inputs and found != self.inputs[name]["sha256"]:
                raise UnusableInput(
                    f"{archive.paths[0]} has changed since the release was made (sha256 {found[:16]}…, then "
                    f"{self.inputs[name]['sha256'][:16]}…): say with --raw where the one of then is"
                )
        self._trusted.add(name)
        return archive

    def members(self, name: str) -> Mapping[tuple[str, int], Member]:
        """Listing of an archive, by name and offset."""
        if name not in self._listed:
            self._listed[name] = {(m.name, m.offset): m for m in list_members(self.archive(name))}
        return self._listed[name]

    def member_named(self, name: str, member: str) -> Member | None:
        """The first member of that name, or the file of that frame; None where there is none."""
        member = self.archive(name).file_of(member)
        return next((found for (inside, _), found in self.members(name).items() if inside == member), None)

    def table(self, name: str) -> bytes:
        """Bytes of a metadata table by the name that release and quarantine have for it: ``archive/member``.

        Raises :class:`UnusableInput` where it is missing, or another one.
        """
        if name not in self._tables:
            self._tables[name] = self._read_table(name)
        return self._tables[name]

    def _read_table(self, name: str) -> bytes:
        for archive in self.archives.values():
            inside = name if archive.name == LOOSE else name.removeprefix(f"{archive.name}/")
            if archive.name != LOOSE and inside == name:
                continue
            found = self.member_named(archive.name, inside)
            if found is None:
                continue
            try:
                data = read_member(archive, found.name, found.offset, found.crc32)
            except MemberRefused as refusal:
                raise UnusableInput(f"the table {name} cannot be read: {': '.join(refusal.args)}") from refusal
            known = self.inputs.get(name)
            if known and hashlib.sha256(data).hexdigest() != known["sha256"]:
                raise UnusableInput(f"the table {name} has changed since the release was made")
            return data
        raise UnusableInput(f"the table {name} is not in {', '.join(self.places)}: say with --raw where it lies now")


def reopen(lake: Lake, origin: Origin, raw: Sequence[str], secrets: Credentials, *, insist: bool = True) -> RawAgain:
    """The raw release of an origin, where it lay or in ``raw``; archives are unlocked, nothing is copied.

    Raises :class:`UnusableInput` where it cannot be found, and for a password that is missing or wrong; without
    ``insist`` encrypted archives stay locked: their members can be placed, not read.
    """
    places = tuple(raw) or origin.places
    if not places:
        raise UnusableInput(
            f"the release does not say where its raw release lay (it has no raw in {RUN}): say so with --raw"
        )
    for place in () if raw else places:
        if not location(place).exists():
            raise UnusableInput(f"{place}, where the raw release lay, is not there: say with --raw where it lies now")
    found = gather(request(lake.dataset, places, lake.root), secrets, insist=insist)
    archives = [remembering(archive, lake.chunks, is_trusted=True) for archive in found]
    return RawAgain({a.name: a for a in archives}, origin.inputs, places, HashMemory(lake.hashes))


@dataclass(frozen=True)
class TableLines:
    """A metadata table as published, line by line."""

    header: str
    """Empty for a list, which has none."""
    rows: Mapping[int, str]
    """1-based number of the data row to its text, line end included; a quoted cell may hold line ends of its own."""


def lines_of(data: bytes, *, has_header: bool, separator: str = ",") -> TableLines:
    """The rows of a table with the numbers that :mod:`tasks.tables` gives them.

    What is no UTF-8 in them stands as surrogates, so that the bytes can be had back.
    """
    text = data.decode("utf-8-sig", "surrogateescape")
    if not has_header:
        return TableLines("", dict(enumerate(text.splitlines(keepends=True), 1)))
    physical = list(io.StringIO(text, newline=""))
    reader = csv.reader(physical, delimiter=separator)
    records, before = [], 0
    for _ in reader:
        records.append("".join(physical[before : reader.line_num]))
        before = reader.line_num
    return TableLines(records[0] if records else "", dict(enumerate(records[1:], 1)))


def has_header(dataset: Dataset, role: str) -> bool:
    """Whether a table of that role begins with the names of its columns."""
    return rule_of(dataset, role).has_header


def rule_of(dataset: Dataset, role: str) -> TableRule:
    """How a table of that role is written; as most are, where the dataset does not say."""
    return next((rule for rule in dataset.tables if rule.role == role), TableRule(role, ()))


def role_of(origin: Origin, table: str) -> str:
    """What a table is to its dataset; empty where the release does not say."""
    return next((role for role, used in origin.tables.items() if used["name"] == table), "")
