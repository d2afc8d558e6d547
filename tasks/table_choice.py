"""Which members of a raw release are its metadata tables, told by their headers, and which one of several is used.

A copy of a table (the same bytes again) is ignored; so is another release of it, unless ``--table`` asks for that one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from tasks.archives import LOOSE, Archive, MemberRefused, read_member
from tasks.schema import Dataset, TableRule, UnusableInput
from tasks.tables import form_of, header_of, recognise, why_not

NOT_CHOSEN = "table-not-chosen"
COPY = "table-copy"


@dataclass(frozen=True)
class ChosenTable:
    """One metadata table that the release is made from."""

    role: str
    archive: str
    member: str
    offset: int
    form: str
    """Name of its form, or empty."""

    @property
    def name(self) -> str:
        """``archive/member``, or the path of a loose file."""
        return self.member if self.archive == LOOSE else f"{self.archive}/{self.member}"


def name_tables(index: pd.DataFrame, archives: Sequence[Archive], dataset: Dataset) -> pd.DataFrame:
    """The index with ``role`` and ``form`` of every table, and what is no table of this dataset as ``unexpected``."""
    found = index.assign(form="", content="")
    by_name = {archive.name: archive for archive in archives}
    rules = {rule.role: rule for rule in dataset.tables}
    for row in index[(index["kind"] == "table") & (index["problem"] == "")].itertuples():
        position = row.Index
        try:
            data = read_member(by_name[str(row.archive)], str(row.member), int(row.offset))  # type: ignore[arg-type]
        except MemberRefused as refusal:
            found.loc[position, ["problem", "detail"]] = list(refusal.args)
            continue
        rule = rules[str(row.role)] if row.role else recognise(dataset.tables, data)
        if rule is None:
            detail = why_not(dataset.tables, str(row.member), data)
            found.loc[position, ["kind", "reason", "detail"]] = ["unexpected", "unexpected-member", detail]
            continue
        form = form_of(rule, header_of(rule, data)) if rule.forms else None
        content = hashlib.sha256(data).hexdigest()
        found.loc[position, ["role", "form", "content"]] = [rule.role, form.name if form else "", content]
    is_nameless = (found["kind"] == "table") & (found["role"] == "")
    found.loc[is_nameless, "kind"] = "unexpected"  # could not be read, so nobody knows what it is
    return found


def as_json(tables: Sequence[ChosenTable]) -> dict[str, dict[str, str]]:
    """Role to name and form, as they stand in the manifest."""
    return {table.role: {"name": table.name, "form": table.form} for table in tables}


def choose_tables(index: pd.DataFrame, dataset: Dataset, wanted: str | None) -> tuple[ChosenTable, ...]:
    """One table of each role; the others of its role become ``ignored`` in ``index``.

    ``wanted`` is a form, or the end of a path. Raises :class:`UnusableInput` for a required table that is missing or
    unreadable, for a ``wanted`` that is not there, and where neither form nor ``wanted`` decides between two.
    """
    chosen: list[ChosenTable] = []
    taken = False
    for rule in dataset.tables:
        found = index[(index["kind"] == "table") & (index["role"] == rule.role)]
        if found.empty:
            _complain_of_missing(index, rule, dataset)
            continue
        for row in found[found["problem"] != ""].itertuples():
            raise UnusableInput(f"the {rule.role} table {row.archive}/{row.member} cannot be read: {row.detail}")
        copies = found["content"].duplicated()
        index.loc[found.index[copies], ["kind", "reason"]] = ["ignored", COPY]
        candidates = [_chosen(row) for row in found[~copies].to_dict("records")]
        pick, is_wanted = _pick(rule, candidates, wanted)
        taken = taken or is_wanted
        is_other = [candidate != pick for candidate in candidates]
        index.loc[found.index[~copies][is_other], ["kind", "reason"]] = ["ignored", NOT_CHOSEN]
        chosen.append(pick)
    if wanted is not None and not taken:
        there = index.loc[index["form"] != ""]
        options = ", ".join(f"{row.form} ({row.member})" for row in there.itertuples())
        raise UnusableInput(f"--table {wanted}: there is no such table; found: {options or 'none with several forms'}")
    return tuple(chosen)


def _chosen(row: Mapping[Hashable, object]) -> ChosenTable:
    return ChosenTable(
        str(row["role"]), str(row["archive"]), str(row["member"]), int(str(row["offset"])), str(row["form"])
    )


def _pick(rule: TableRule, candidates: list[ChosenTable], wanted: str | None) -> tuple[ChosenTable, bool]:
    """The table asked for, else the one whose form comes first; and whether it was asked for."""
    asked = [c for c in candidates if wanted is not None and (c.form == wanted or c.name.endswith(wanted))]
    order = {form.name: place for place, form in enumerate(rule.forms)}
    first = min(order.get(c.form, 0) for c in candidates)
    best = asked or [c for c in candidates if order.get(c.form, 0) == first]
    if len(best) > 1:
        places = ", ".join(c.name for c in best)
        remedy = "name one with --table" if rule.forms else "leave only one of them"
        raise UnusableInput(f"{len(best)} tables could be the {rule.role} table: {places}; {remedy}")
    return best[0], bool(asked)


def _complain_of_missing(index: pd.DataFrame, rule: TableRule, dataset: Dataset) -> None:
    """Raise for a required table, telling what was taken for it and was not."""
    if not rule.is_required:
        return
    rejected = index.loc[(index["kind"] == "unexpected") & (index["detail"] != ""), "detail"]
    pattern = next((m.pattern for m in dataset.members if m.role == rule.role), "")
    looked_for = f"no member matches {pattern}" if pattern else "no table has its header"
    hint = "; ".join(rejected.head(3)) or "Is the raw path right?"
    raise UnusableInput(f"the {rule.role} table of {dataset.name} is missing: {looked_for}. {hint}")
