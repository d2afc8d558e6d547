"""All guesses about a raw release put together, with what was counted, and what cannot be guessed said in words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import pandas as pd

from tasks.drafts import columns as roles
from tasks.drafts import dicoms, words
from tasks.drafts.columns import NONE, ROLES, Guess, Role, guess_columns, units_of
from tasks.drafts.found import IMAGES, MASK_ENDING, MASK_FOLDER, Found, ending, masked
from tasks.drafts.labels import Kind, Labels, guess_labels
from tasks.drafts.literals import escaped
from tasks.drafts.looks import Looks, look_at
from tasks.drafts.pairing import Keys, Match, Pairing, agreed, dicom_keys, keys_of, match, pair
from tasks.drafts.sheets import Sheet
from tasks.drafts.words import folded
from tasks.schema import UnusableInput

TOLERANCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
NAME = re.compile(r"^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$")


@dataclass(frozen=True)
class Answers:
    """What a user says instead of a guess; None, or nothing, where nothing is said."""

    image: str | None = None
    roles: Mapping[str, str | None] = field(default_factory=dict)
    """Role to column, or ``none``."""
    labels: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    kind: Kind | None = None


@dataclass(frozen=True)
class Masks:
    """Masks that lie beside the images."""

    pattern: str
    are_used: bool
    because: str


@dataclass(frozen=True)
class Draft:
    """What is to be written."""

    name: str
    found: Found
    keys: Keys
    pairings: tuple[Pairing, ...]
    match: Match
    columns: Mapping[Role, Guess]
    labels: Labels
    targets: Mapping[str, str]
    """Column to unit."""
    looks: Looks
    masks: Masks | None
    rows: pd.DataFrame
    """Of all tables, one below the other."""

    @property
    def module(self) -> str:
        """Name of the files, without ``.py``."""
        return self.name.replace("-", "_")

    @property
    def is_dealt(self) -> bool:
        """Whether no split is published."""
        return not self.columns["split"].values

    @property
    def table_splits(self) -> Mapping[str, str]:
        """Role of every table to the split that it is, where their names say so."""
        published = self.columns["split"]
        return {} if published.column else published.values

    @property
    def group(self) -> str:
        return "picture" if self.columns["patient"].column is None else "patient"

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """Roles of the tables without a label, where others have some and no split is published."""
        return unlabelled(self.found.sheets, self.labels) if self.is_dealt else ()

    @property
    def splits(self) -> tuple[str, ...]:
        """Published ones, or those that are dealt."""
        if self.is_dealt:
            return ("train", "validation", "test", *(["predict"] if self.unlabelled else []))
        order = list(words.SPLITS)
        published = self.columns["split"].values.values()
        return tuple(sorted(set(published), key=lambda s: (order.index(s) if s in order else 9, s)))

    @property
    def labelled_splits(self) -> tuple[str, ...]:
        """Those of which any row has a label."""
        published = self.columns["split"]
        if published.column is None or not self.labels.columns:
            return tuple(split for split in self.splits if split != "predict")
        said = (self.rows[self.labels.columns] != "").any(axis=1)
        seen = set(self.rows.loc[said, published.column].map(folded).map(published.values).dropna())
        return tuple(split for split in self.splits if split in seen)

    @property
    def shares(self) -> dict[str, float]:
        """What will go to quarantine, in words, to its share of what the gate counts."""
        match, looks = self.match, self.looks
        entries = match.rows + len(match.images_without_row)
        unusable = sum(looks.refused.values())
        counted = [
            (len(match.images_without_row), entries, f"{{}} of {match.images} images have no row"),
            (len(match.rows_without_image), entries, f"{{}} of {match.rows} rows have no image"),
            (match.repeated, entries, "{} rows name an image that an earlier row names"),
            (self._rows_without("patient"), entries, "{} rows have no patient"),
            (self._rows_without("split"), entries, "{} rows are in no split"),
            (
                unusable,
                looks.looked - unusable,
                f"{{}} of {looks.looked} images cannot be used: {', '.join(looks.refused)}",
            ),
        ]
        return {sentence.format(count): count / max(of, 1) for count, of, sentence in counted if count}

    def _rows_without(self, role: Role) -> int:
        guess = self.columns[role]
        if guess.column is None:
            return 0
        cells = self.rows[guess.column].map(folded)
        return int((~cells.isin(list(guess.values)) if guess.values else cells == "").sum())

    @property
    def tolerance(self) -> float:
        """The least of some round shares that lets what was counted pass."""
        worst = max(self.shares.values(), default=0.0)
        return next(share for share in TOLERANCES if worst <= share or share == TOLERANCES[-1])


def insist_on_name(name: str) -> None:
    """Raise :class:`UnusableInput` for what cannot be the name of a dataset and of a Python file."""
    if not NAME.match(name):
        raise UnusableInput(
            f"{name!r} is no name for a dataset: small letters, digits and single dashes, such as wrist-fractures"
        )


def make(name: str, found: Found, answers: Answers) -> Draft:
    """Guess all that is not answered.

    Raises :class:`UnusableInput` where there is no table, no column names the images, or an answer names no column.
    """
    if found.is_dicom:
        return _of_headers(name, found, answers)
    if not found.sheets:
        tables = [path for path in found.rest if ending(path) in ("csv", "tsv", "txt")]
        there = f"; there are {', '.join(tables[:3])}" if tables else ""
        raise UnusableInput(f"name the table that says what the images show with --from TABLE.csv{there}")
    keys = keys_of(found.images)
    pairings = agreed(found.sheets, [pair(sheet, keys, answers.image) for sheet in found.sheets])
    found = replace(found, sheets=_aligned(found.sheets))
    rows = pd.concat([sheet.rows for sheet in found.sheets], ignore_index=True).fillna("")
    _insist_on_columns(rows, answers)
    image = pairings[0].column
    columns = guess_columns(rows, image, answers.roles)
    free = [c for c in rows.columns if c not in {image, *(guess.column for guess in columns.values())}]
    targets = _targets(rows, free, answers)
    no_label = (*words.SIDE, *words.SEX, *words.SPLIT)
    free = [c for c in free if c not in targets and not words.is_called(c, no_label)]
    labels = guess_labels(rows, free, answers.labels, answers.kind)
    by_key = {masked(member.name): member for member in found.masks}
    looks = look_at(found, {} if keys.is_path else by_key, keys.by_member)
    fit = match(found.sheets, pairings, keys)
    if columns["split"].column is None and answers.roles.get("split") is None:
        columns["split"] = _split_by_table(rows, found.sheets, labels, columns)
    return Draft(name, found, keys, pairings, fit, columns, labels, targets, looks, _masks(found, keys, looks), rows)


def unlabelled(sheets: tuple[Sheet, ...], labels: Labels) -> tuple[str, ...]:
    """Roles of the tables without a label."""
    if not labels.columns:
        return ()
    return tuple(s.rule.role for s in sheets if not (s.rows[labels.columns] != "").any(axis=None))


def _split_by_table(
    rows: pd.DataFrame, sheets: tuple[Sheet, ...], labels: Labels, columns: Mapping[Role, Guess]
) -> Guess:
    """The guess that every table is a split, where the labelled ones are named like two or more; else the one so far.

    ``rows`` are those of the tables, one below the other.
    """
    bare = unlabelled(sheets, labels)
    found = {s.rule.role: "predict" if s.rule.role in bare else words.split_of(s.rule.role) for s in sheets}
    named = {role: split for role, split in found.items() if split}
    if len(named) < len(sheets) or len(set(named.values()) - {"predict"}) < 2:
        return columns["split"]
    told = ", ".join(f"{sheet.member} is {named[sheet.rule.role]}" for sheet in sheets)
    guess = Guess(None, f"each table is a split, by its name: {told}", values=named)
    patient = columns["patient"].column
    if patient is None:
        return guess
    by_row = pd.Series([named[sheet.rule.role] for sheet in sheets for _ in sheet.rows.index], index=rows.index)
    return roles.unless_crossed(guess, rows[patient], by_row, "the tables put")


def _of_headers(name: str, found: Found, answers: Answers) -> Draft:
    """The same of DICOM files, whose headers are the table."""
    if found.sheets:
        raise UnusableInput(
            "a table beside DICOM files is not drafted: leave --from out, and join the table to the headers in parse "
            "(docs/new-dataset.md)"
        )
    sheet, looks = dicoms.read(found.archives, found.images)
    if sheet.rows.empty:
        raise UnusableInput(f"none of {looks.looked} DICOM files can be used: {', '.join(looks.refused)}")
    keys = dicom_keys(found.images)
    _insist_on_columns(sheet.rows, answers)
    columns = guess_columns(sheet.rows, "key", answers.roles)
    labels = guess_labels(sheet.rows, [], answers.labels, answers.kind)
    found = replace(found, sheets=(sheet,))
    fit = Match(len(found.images), len(found.images), (), (), 0)
    return Draft(name, found, keys, (Pairing("key", False, False),), fit, columns, labels, {}, looks, None, sheet.rows)


def _aligned(sheets: tuple[Sheet, ...]) -> tuple[Sheet, ...]:
    """Every table with the columns of all."""
    every = list(dict.fromkeys(column for sheet in sheets for column in sheet.rows.columns))
    return tuple(replace(sheet, rows=sheet.rows.reindex(columns=every, fill_value="")) for sheet in sheets)


def _insist_on_columns(rows: pd.DataFrame, answers: Answers) -> None:
    said = {f"--{role}": column for role, column in answers.roles.items()}
    said |= {f"--target #{number}": column for number, column in enumerate(answers.targets, 1)}
    for option, column in said.items():
        if column is not None and column.casefold() != NONE and column not in rows:
            columns = ", ".join(map(repr, rows.columns))
            raise UnusableInput(f"{option.split(' ')[0]} {column!r}: there is no such column; there are {columns}")


def _targets(rows: pd.DataFrame, free: list[str], answers: Answers) -> dict[str, str]:
    if not answers.targets:
        return units_of(rows, [c for c in free if c not in answers.labels])
    if [target.casefold() for target in answers.targets] == [NONE]:
        return {}
    for column in answers.targets:
        if roles.numbers_of(rows[column]) is None:
            raise UnusableInput(f"--target {column!r}: its cells are no numbers")
    return {column: words.unit_of(column) or "unit not said" for column in answers.targets}


def _masks(found: Found, keys: Keys, looks: Looks) -> Masks | None:
    if not found.masks:
        return None
    folders = Counter(part for m in found.masks for part in PurePosixPath(m.name).parts[:-1] if MASK_FOLDER.match(part))
    endings = "|".join(sorted({ending(m.name) for m in found.masks}))
    folder, count = folders.most_common(1)[0] if folders else ("", 0)
    begin = rf"(?:^|/){escaped(folder)}/(?:.*/)?" if count == len(found.masks) else "(?:^|/)"
    optional = "?" if count == len(found.masks) else ""
    pattern = rf"{begin}(?P<key>[^/]+?)(?i:{MASK_ENDING[3:-1]}){optional}\.(?i:{endings})$"
    named = {masked(member.name) for member in found.masks}
    missing = sum(key not in named for key in keys.by_member.values())
    refused = sum(looks.masks_refused.values())
    because = "every image has one"
    if keys.is_path:
        because = "file names repeat, so that it cannot be told whose they are"
    elif missing > len(keys.by_member) * TOLERANCES[0]:
        because = f"{missing} images have none"
    elif refused > looks.looked * TOLERANCES[0]:
        because = f"{refused} of {looks.looked} would be refused ({', '.join(looks.masks_refused)})"
    return Masks(pattern, because == "every image has one", because)


def others(found: Found) -> Iterator[tuple[str, str, int]]:
    """Pattern, reason and number of members that are nothing of a dataset."""
    by_ending = Counter(ending(path) for path in found.rest)
    groups = {"other-image": IMAGES, "other-table": ("csv", "tsv", "xlsx", "xls", "json")}
    named = {name for endings in groups.values() for name in endings}
    groups["document"] = tuple(sorted(set(by_ending) - named - {""}))
    for reason, endings in groups.items():
        there = [name for name in endings if by_ending[name]]
        if there:
            either = "|".join(map(re.escape, there))
            shown = either if len(there) == 1 else f"(?:{either})"
            yield rf"(?i)\.{shown}$", reason, sum(by_ending[name] for name in there)
    if by_ending[""]:
        yield r"(?:^|/)[^/.]+$", "document", by_ending[""]


def findings(draft: Draft) -> list[tuple[str, str, str]]:
    """What was guessed: of what, what, and why; for people."""
    found = [("image", repr(draft.pairings[0].column), _pairing_told(draft))]
    for role in ROLES:
        guess = draft.columns[role]
        found.append((role, repr(guess.column) if guess.column else "–", guess.because))
    labels = draft.labels
    named = f"{', '.join(map(repr, labels.columns))}: {', '.join(labels.names)}" if labels.names else "–"
    found.append(("labels", named, f"{labels.because}{f'; {labels.kind}' if labels.names else ''}"))
    targets = ", ".join(f"{column!r} in {unit}" for column, unit in draft.targets.items())
    found.append(("targets", targets or "–", "numbers with a unit in the name" if targets else "no such numbers"))
    looks = draft.looks
    depths = "/".join(map(str, looks.bit_depths)) or "?"
    pixels = f"{_sizes(looks)}, {depths} bits, {'/'.join(map(str, looks.channels)) or '?'} channel(s)"
    found.append(("pixels", pixels, f"{looks.looked} of {draft.match.images} images looked at"))
    if draft.masks:
        found.append(("masks", "used" if draft.masks.are_used else "–", draft.masks.because))
    return found


def warnings(draft: Draft) -> list[str]:
    """What a user has to know of the guesses."""
    said = list(draft.shares)
    if said:
        said[-1] += f"; tolerated up to {draft.tolerance:.0%} for now, the rest goes to quarantine"
    if draft.group == "picture":
        said.append(
            "no column names the patient: what shows one picture stays together, but two pictures of one patient may "
            "come into two splits, and scores then promise too much. Is there a list? Give it with --patient COLUMN"
        )
    if not draft.columns["patient"].is_sure and draft.columns["patient"].column:
        said.append(f"is {draft.columns['patient'].column!r} the patient? {draft.columns['patient'].because}")
    said += [draft.columns[r].because for r in ("sex", "split") if not draft.columns[r].is_sure]
    folders = _split_folders(draft.found)
    if draft.is_dealt and len(set(folders.values())) > 1:
        said.append(
            f"images lie in folders called {', '.join(folders)}: if these are the publisher's splits, "
            "let parse say so; they are dealt anew for now"
        )
    if draft.labels.others:
        said.append(f"could be labels as well (--label): {', '.join(map(repr, draft.labels.others))}")
    return said


def _split_folders(found: Found) -> dict[str, str]:
    """Names of folders of images that tell a split, to that split."""
    names = sorted({part for member in found.images for part in PurePosixPath(member.name).parts[:-1]})
    return {name: split for name in names if (split := words.split_of(name))}


def _pairing_told(draft: Draft) -> str:
    if draft.found.is_dicom:
        return f"{draft.match.images} DICOM files, by their SOPInstanceUID"
    named = draft.match.images - len(draft.match.images_without_row)
    by = "path" if draft.keys.is_path else "file name"
    return f"names {named} of {draft.match.images} images by {by}, in {draft.match.rows} rows"


def _sizes(looks: Looks) -> str:
    if not looks.sizes:
        return "?"
    if len(looks.sizes) == 1:
        return "{} × {}".format(*next(iter(looks.sizes)))
    widths, heights = zip(*looks.sizes, strict=True)
    return f"{min(widths)}–{max(widths)} × {min(heights)}–{max(heights)}"
