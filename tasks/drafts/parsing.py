"""The code of a draft's ``parse``, and the constants that it reads cells by."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.drafts import words
from tasks.drafts.columns import SAID, Guess, Numbers, numbers_of
from tasks.drafts.draft import Draft
from tasks.drafts.literals import assigned, comment, literal, text

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
LONG = 30
"""Letters of a column's name from which on it gets a name of its own in the code."""
NAME_LETTERS = 40
"""Of a target."""


class _Names:
    """How code names columns: as text, and long ones by a constant."""

    def __init__(self, draft: Draft) -> None:
        """Constants are called after what the column is."""
        roles = {guess.column: f"{role.upper()}_COLUMN" for role, guess in draft.columns.items() if guess.column}
        roles[draft.pairings[0].column] = "IMAGE_COLUMN"
        roles |= {column: f"LABEL_{number}" for number, column in enumerate(draft.labels.spellings, 1)}
        roles |= {column: f"TARGET_{number}" for number, column in enumerate(draft.targets, 1)}
        self._known = {column: name for column, name in roles.items() if column and len(column) > LONG}

    def __getitem__(self, column: str) -> str:
        return self._known.get(column) or text(column)

    def constants(self) -> Iterator[str]:
        for column, name in self._known.items():
            yield assigned(name, column)


def constants(draft: Draft) -> Iterator[str]:
    """Statements at the top of the module."""
    labels, columns = draft.labels, draft.columns
    sheets = draft.found.sheets
    if len(sheets) > 1:
        yield assigned("ROLES", tuple(sheet.rule.role for sheet in sheets))
        if len({sheet.rule.columns for sheet in sheets}) > 1:
            yield assigned("COLUMNS", tuple(draft.rows.columns))
        if draft.pairings[0].prefix:
            folders = {s.rule.role: p.prefix for s, p in zip(sheets, draft.pairings, strict=True)}
            yield comment("Guessed: where the images of each table lie, which is not in it.")
            yield assigned("FOLDERS", folders)
    if labels.names:
        why = "as you said" if labels.because == SAID else f"guessed {labels.because}"
        yield comment(f"From {', '.join(labels.columns)}: {why}.")
        yield assigned("LABELS", dict(labels.names))
    if len(labels.spellings) == 1 and not _is_plain(draft):
        (spellings,) = labels.spellings.values()
        yield comment("What the cells say, case and blanks aside, to the label it stands for.")
        yield assigned("SPELLINGS", dict(spellings))
    elif len(labels.spellings) > 1:
        yield comment("What the cells of each column say, case and blanks aside, to the label it stands for.")
        yield assigned("SPELLINGS", {column: dict(found) for column, found in labels.spellings.items()})
    if labels.flags:
        yield assigned("FLAGS", dict(labels.flags))
    if labels.answers:
        yield assigned("ANSWERS", dict(labels.answers))
    if columns["sex"].column:
        yield assigned("SEXES", dict(columns["sex"].values))
    if draft.is_dealt:
        yield assigned("SHARES", SHARES)
        yield comment("What groups are dealt by: another word deals them otherwise.")
        yield assigned("NAME", draft.name)
    else:
        yield assigned("SPLITS", dict(columns["split"].values))
    yield from _Names(draft).constants()


def body(draft: Draft) -> Iterator[str]:
    """Lines of ``parse`` between the frame and what it keeps."""
    columns, names = draft.columns, _Names(draft)
    yield comment(f"Guessed: {_pairing(draft)}.", 4)
    yield f'    frame["image"] = {_key_code(draft, names)}'
    if draft.unlabelled:
        yield comment("Guessed: a table without a label is for predicting; the rest is dealt.", 4)
        yield f'    frame["split"] = "predict" if role in {literal(draft.unlabelled, 4, 50)} else None'
    if patient := columns["patient"].column:
        yield _guessed(columns["patient"])
        yield f'    frame["patient_id"] = rows[{names[patient]}].replace("", None)'
        yield '    frame["group_id"] = frame["patient_id"]'
    if age := columns["age"].column:
        yield _guessed(columns["age"])
        yield f'    frame["age_years"] = number({_number_cells(names[age], columns["age"].numbers)})'
    if sex := columns["sex"].column:
        yield _guessed(columns["sex"])
        yield f'    frame["sex"] = folded(rows[{names[sex]}]).map(SEXES)'
    if view := columns["view"].column:
        yield _guessed(columns["view"])
        yield f'    frame["view"] = rows[{names[view]}].replace("", None)'
    if split := columns["split"].column:
        yield _guessed(columns["split"])
        yield f'    frame["split"] = folded(rows[{names[split]}]).map(SPLITS)'
    if draft.table_splits:
        yield _guessed(columns["split"])
        yield '    frame["split"] = SPLITS[role]'
    yield from _labels(draft, names)
    if draft.targets:
        yield comment("Guessed: numbers with a unit in the name.", 4)
    for column in draft.targets:
        way = numbers_of(draft.rows[column])
        assert way is not None, "a target is a column of numbers"
        cells = _number_cells(names[column], way)
        name = text(f"target.{target_name(column)}")
        if cells.count("."):
            yield f"    measured = {cells}"
            cells = "measured"
        yield f"    frame[{name}] = number({cells})"


def _guessed(guess: Guess) -> str:
    return comment("As you said." if guess.because == SAID else f"Guessed: {guess.because}.", 4)


def _pairing(draft: Draft) -> str:
    if draft.found.is_dicom:
        return "images are called by their SOPInstanceUID"
    match = draft.match
    named = match.images - len(match.images_without_row)
    return f"names {named} of {match.images} images, by {'path' if draft.keys.is_path else 'file name'}"


def _key_code(draft: Draft, names: _Names) -> str:
    if draft.found.is_dicom:
        return 'rows["key"]'
    way = draft.pairings[0]
    cells = draft.rows[way.column]
    code = f"rows[{names[way.column]}].str.strip()"
    if cells.str.contains("\\", regex=False).any():
        code += '.str.replace("\\\\", "/")'
    if way.has_folders:
        code += '.str.rsplit("/", n=1).str[-1]'
    if way.dropped:
        code += f'.str.split("/", n={way.dropped}).str[-1]'
    if way.case:
        code += f".str.{way.case}()"
    if way.width:
        code += f".str.zfill({way.width})"
    if way.has_extension:
        code = f"stem({code.removesuffix('.str.strip()')})"
    if not way.prefix:
        return code
    return f"{text(way.prefix) if len(draft.pairings) == 1 else 'FOLDERS[role]'} + {code}"


def _number_cells(column: str, way: Numbers) -> str:
    cells = f"rows[{column}]"
    if way.suffix:
        cells += f".str.removesuffix({text(way.suffix)})"
    if way.has_comma:
        cells += '.str.replace(",", ".")'
    return cells


def _labels(draft: Draft, names: _Names) -> Iterator[str]:
    labels = draft.labels
    if labels.separator:
        (column,) = labels.spellings
        yield f"    cells = rows[{names[column]}].str.strip()"
        yield f"    parts = cells.str.split({text(labels.separator)}, regex=False).explode()"
        yield "    found = folded(parts).map(SPELLINGS)"
        yield "    for name in LABELS:"
        yield '        has_it = (found == name).groupby(level=0, sort=False).any().astype("Int8")'
        yield '        frame[f"label.{name}"] = has_it.where(cells != "")'
        yield "    is_known = found.notna().groupby(level=0, sort=False).all()"
        yield '    frame["check.label"] = yes_no(is_known | (cells == ""))'
    elif len(labels.spellings) == 1:
        (column,) = labels.spellings
        yield f"    cells = folded(rows[{names[column]}])"
        known = "cells.where(cells.isin(list(LABELS)))" if _is_plain(draft) else "cells.map(SPELLINGS)"
        yield f"    found = {known}"
        yield "    for name in LABELS:"
        yield '        frame[f"label.{name}"] = (found == name).astype("Int8").where(found.notna())'
        yield '    frame["check.label"] = yes_no(found.notna() | (cells == ""))'
    elif labels.spellings:
        yield "    for column, spellings in SPELLINGS.items():"
        yield "        found = folded(rows[column]).map(spellings)"
        yield "        for name in dict.fromkeys(spellings.values()):"
        yield '            is_it = (found == name).astype("Int8")'
        yield '            frame[f"label.{name}"] = is_it.where(found.notna())'
    if labels.flags:
        yield "    for column, name in FLAGS.items():"
        if labels.answers:
            yield '        frame[f"label.{name}"] = folded(rows[column]).map(ANSWERS).astype("Int8")'
        else:
            yield '        frame[f"label.{name}"] = flag(rows[column])'


def _is_plain(draft: Draft) -> bool:
    """Whether the cells of the one column of labels are the labels' names."""
    return draft.labels.speak_for_themselves and not draft.labels.separator and len(draft.labels.spellings) == 1


def target_name(column: str) -> str:
    """Of the column of a measurement."""
    return words.slug(column)[:NAME_LETTERS] or "target"
