"""The arguments of a draft's ``Dataset``: members, tables, pixels, and what no machine can know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.drafts.dicoms import KEEPS
from tasks.drafts.draft import Draft, others
from tasks.drafts.literals import WIDTH, argument, call, comment, escaped, literal, pattern, text
from tasks.drafts.parsing import target_name

TODO = "TODO"


def title(name: str) -> str:
    """``wrist-fractures`` to ``Wrist fractures``."""
    return name.replace("-", " ").capitalize()


def declared(draft: Draft, folder: Path) -> Iterator[str]:
    """Arguments of ``Dataset``."""
    yield argument("name", draft.name)
    yield argument("version", "1")
    yield argument("title", title(draft.name))
    for field, what in (("summary", "one sentence: what, of whom, how many"),):
        yield f'    {field}="",  # {TODO}: {what}'
    where = call("Source", [text(Path(draft.found.raw[0]).name), '""', 'note=""'], 4, 9)
    yield f"    # {TODO}: file, https address, and bytes, hash or a note of where it can be had"
    yield f"    sources=({where},),"
    yield f'    licence="",  # {TODO}: as on the page it comes from, such as CC BY 4.0'
    yield f'    citation="",  # {TODO}'
    yield f'    homepage="",  # {TODO}: https://…'
    yield f'    published="",  # {TODO}: year'
    yield "    members=("
    for rule in _members(draft, folder):
        yield f"        {rule},"
    yield "    ),"
    if draft.found.is_dicom:
        yield "    tables=(),"
    else:
        yield from _tables(draft)
    yield "    parse=parse,"
    yield "    labels=LABELS," if draft.labels.names else "    labels={},"
    yield argument("label_kind", draft.labels.kind)
    yield argument("splits", draft.splits)
    yield argument("labelled_splits", draft.labelled_splits)
    if draft.group == "picture":
        yield comment(f"Guessed: {draft.columns['patient'].because}. {TODO}: is there a list of patients?", 4)
    yield argument("group", draft.group)
    if draft.is_dealt:
        yield "    split=split,"
    yield from _pixels(draft)
    if draft.found.is_dicom:
        keeps = tuple(keyword for keyword in KEEPS if keyword in draft.rows)
        yield "    # What may leave a header beyond the technical elements; window: docs/dicom.md."
        yield f"    dicom={call('Dicom', ([f'keeps={literal(keeps, 8, 12)}'] if keeps else []), 4, 6)},"
    if not draft.shares and not (draft.found.is_dicom and "NumberOfFrames" in draft.rows):
        yield argument("samples", draft.match.rows)
    if draft.targets:
        yield argument("targets", {target_name(column): unit for column, unit in draft.targets.items()})
    if site := draft.columns["site"].column:
        yield argument("site", site)
    if draft.masks and draft.masks.are_used:
        yield "    has_masks=True,"
    if len(draft.labels.spellings) == 1:
        sentence = "Every label is one of those that are declared."
        code = [text("unknown-label"), text("check.label"), '["yes"]', text(sentence)]
        yield f"    expectations=({call('one_of', code, 4, 16)},),"
    yield f"    # {TODO}: terms=Terms(…), what may be passed on; datasheet=Datasheet(…), what it is: tasks/schema.py"
    if draft.tolerance > 0.01:
        yield comment(f"{TODO}: lower it to 0.01 once the release is whole. {'; '.join(draft.shares)}.", 4)
        yield argument("tolerance", draft.tolerance)


def _members(draft: Draft, folder: Path) -> Iterator[str]:
    if draft.found.holds(folder):  # or this very file would be a member that no rule knows
        yield _rule("ignored", rf"(?:^|/){escaped(folder.resolve().name)}/(?:.*/)?[^/]+\.pyc?$", "document")
    if draft.masks:
        kind = "mask" if draft.masks.are_used else "ignored"
        yield _rule(kind, draft.masks.pattern, "mask")
    if draft.found.is_dicom:
        yield _rule("ignored", r"(?:^|/)DICOMDIR$", "dicom-directory")
    yield _rule("image", draft.keys.pattern, "image")
    for sheet in () if draft.found.is_dicom else draft.found.sheets:
        name = Path(sheet.member).name
        yield _rule("table", rf"(?:^|/){escaped(name)}$", "metadata-table", role=sheet.rule.role)
    for found, reason, _ in others(draft.found):
        yield _rule("ignored", found, reason)


def _rule(kind: str, found: str, reason: str, role: str = "") -> str:
    arguments = [text(kind), pattern(found), text(reason), *([f"role={text(role)}"] if role else [])]
    return call("MemberRule", arguments, 8)


def _tables(draft: Draft) -> Iterator[str]:
    rules = list(_table_rules(draft))
    flat = f"    tables=({', '.join(rules)}{',' if len(rules) == 1 else ''}),"
    if "\n" not in flat and len(flat) <= WIDTH:
        yield flat
    else:
        yield "    tables=("
        yield from (f"        {rule}," for rule in rules)
        yield "    ),"


def _table_rules(draft: Draft) -> Iterator[str]:
    for sheet in draft.found.sheets:
        rule = sheet.rule
        columns = argument("columns", rule.columns, 12).strip()
        arguments = [text(rule.role), columns.removesuffix(",")]
        if rule.encoding != "utf-8":
            arguments.append(f"encoding={text(rule.encoding)}")
        if rule.separator != ",":
            arguments.append(f"separator={text(rule.separator)}")
        yield call("TableRule", arguments, 8)


def _pixels(draft: Draft) -> Iterator[str]:
    looks = draft.looks
    yield comment(f"Seen in {looks.looked} of {len(draft.found.images)} files.", 4)
    rules = [f"channels={_tuple(looks.channels or (1,))}", *(["drops_alpha=True"] if looks.has_alpha else [])]
    if rules != ["channels=(1,)"]:
        yield f"    image={call('ImageRules', rules, 4, 6)},"
    appearance: Mapping[str, Any] = {
        **({"bit_depths": looks.bit_depths} if looks.bit_depths not in ((), (8,)) else {}),
        **({"sizes": tuple(looks.sizes)} if len(looks.sizes) == 1 else {}),
    }
    if appearance:
        yield f"    appearance={call('Appearance', [f'{k}={_tuple(v)}' for k, v in appearance.items()], 4, 11)},"


def _tuple(values: Any) -> str:
    return "(" + ", ".join(map(str, values)) + ("," if len(values) == 1 else "") + ")"
