"""The fake of a draft: code that writes the layout of the raw release, with made-up rows and drawn pictures.

Of the data it holds names of columns, values of categories, and the form of file names; nothing that is one person's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from tasks.archives import LOOSE
from tasks.drafts import words
from tasks.drafts.draft import Draft
from tasks.drafts.found import ending, masked
from tasks.drafts.literals import assigned, literal, text
from tasks.drafts.shapes import FALLBACK, cell_code, escaped_braces, name_shape, values_of
from tasks.drafts.templates import render

if TYPE_CHECKING:
    from tasks.drafts.columns import Guess

SIDE = 96
"""Pixels of the longer side of a made-up picture; phantoms of more cost more."""


def fake_source(draft: Draft) -> str:
    """Python source of ``fakes/<name>.py``."""
    if draft.found.is_dicom:
        return render("dicom_fake.py.jinja", _of_dicom(draft))
    code = _Code(draft)
    parts = {"body": list(code.body()), "row": list(code.row()), "picture": list(code.picture())}
    more = list(code.more())
    given = {
        "name": draft.name,
        "imports": "\n".join(_imports("\n".join([*parts["body"], *parts["row"], *parts["picture"], *more]))),
        "constants": list(code.constants()),
        "about": "Every tenth picture is there twice, so that there is something to keep together."
        if draft.group == "picture"
        else "Two images of every patient.",
        "more": more,
    }
    return render("fake.py.jinja", {**given, **parts})


def _imports(code: str) -> Iterator[str]:
    yield "import csv"
    if "io." in code:
        yield "import io"
    if "zipfile." in code:
        yield "import zipfile"
    yield "from pathlib import Path"
    yield ""
    yield "import cv2"
    yield "import numpy as np"
    yield ""
    yield "from tasks.phantoms import chest"


class _Code:
    """Pieces of the module."""

    def __init__(self, draft: Draft) -> None:
        """Takes the draft apart into what the layout needs."""
        self.draft = draft
        self.image = draft.pairings[0].column
        labels = draft.labels
        special = {self.image, draft.columns["patient"].column, draft.columns["split"].column}
        special |= {draft.columns["age"].column, *labels.columns, *draft.targets}
        found = {c: values_of(draft.rows[c]) for c in draft.rows.columns if c not in special}
        sexes = draft.columns["sex"].column
        if sexes and not found.get(sexes):
            found[sexes] = tuple(sorted(set(draft.rows[sexes]) - {""}))
        self.values = {column: values for column, values in found.items() if values}
        for column, spellings in labels.spellings.items():
            if not labels.separator:
                self.values[column] = self._published(column, spellings)

    def _published(self, column: str, spellings: object) -> tuple[str, ...]:
        """One spelling of each label, the commonest."""
        counts = self.draft.rows[column].value_counts()
        by_label: dict[str, str] = {}
        for said in counts.index:
            label = self.draft.labels.spellings[column].get(words.folded(str(said)))
            if label:
                by_label.setdefault(label, str(said))
        return tuple(by_label.values())

    def constants(self) -> Iterator[str]:
        draft = self.draft
        for number, sheet in enumerate(draft.found.sheets):
            yield assigned(f"COLUMNS{number or ''}", sheet.rule.columns)
        if self.values:
            yield "# Of these columns a cell may say:"
            yield assigned("VALUES", self.values)
        if draft.labels.separator:
            ((column, spellings),) = draft.labels.spellings.items()
            parts = self._parts(column, dict(spellings))
            yield assigned("PARTS", parts)
        if draft.labels.flags:
            yield assigned("FLAGS", tuple(draft.labels.flags))
        if split := draft.columns["split"].column:
            yield assigned("SPLITS", self._splits(split))
        if len(draft.pairings) > 1 and draft.pairings[0].prefix:
            yield assigned("FOLDERS", tuple(pairing.prefix for pairing in draft.pairings))

    def _parts(self, column: str, spellings: dict[str, str]) -> tuple[str, ...]:
        separator = self.draft.labels.separator
        every = self.draft.rows[column].str.split(separator, regex=False).explode().str.strip()
        by_label: dict[str, str] = {}
        for said in every.value_counts().index:
            if label := spellings.get(words.folded(str(said)), ""):
                by_label.setdefault(label, str(said))
        return tuple(by_label.values())

    def _splits(self, column: str) -> tuple[str, ...]:
        guess: Guess = self.draft.columns["split"]
        by_split: dict[str, str] = {}
        for said in self.draft.rows[column].value_counts().index:
            if split := guess.values.get(words.folded(str(said))):
                by_split.setdefault(split, str(said))
        return tuple(by_split.values())

    def body(self) -> Iterator[str]:
        draft = self.draft
        places = sorted({member.archive for member in draft.found.images})
        is_zipped = places[0] != LOOSE
        shape = name_shape([PurePosixPath(m.name).stem for m in draft.found.images])
        shape = "IMAGE_{number:04d}" if (shape, draft.pairings[0].case) == (FALLBACK, "upper") else shape
        extension = "." + PurePosixPath(draft.found.images[0].name).name.rpartition(".")[2]
        self.extension = extension
        root = escaped_braces(draft.keys.root)
        prefixes = [pairing.prefix for pairing in draft.pairings]
        below = "" if draft.keys.is_flat else "part_{number % 2}/"
        if prefixes[0]:
            below = escaped_braces(prefixes[0]) if len(prefixes) == 1 else "{FOLDERS[part]}"
        sheets = draft.found.sheets
        is_one = len(sheets) == 1
        yield "    files: dict[str, bytes] = {}"
        yield (
            "    rows = []" if is_one else f"    rows: list[list[dict[str, str]]] = [[] for _ in range({len(sheets)})]"
        )
        yield "    for number in range(images):"
        yield f"        name = {_f(shape)}"
        if not is_one:
            yield f"        part = ({self._group()}) % {len(sheets)}"
        yield f"        rows{'' if is_one else '[part]'}.append(_row(number, name, seed))"
        yield f"        files[{_f(root + below + '{name}' + extension)}] = _picture(number, seed)"
        if draft.masks and draft.masks.are_used:
            mask = draft.found.masks[0]
            folder = str(PurePosixPath(mask.name).parent)
            stem = PurePosixPath(mask.name).stem
            tail = stem[len(masked(mask.name)) :] + "." + ending(mask.name)
            place = ("" if folder == "." else f"{escaped_braces(folder)}/") + "{name}" + tail
            yield f"        files[{_f(place)}] = _mask()"
        yield "    folder.mkdir(parents=True, exist_ok=True)"
        if is_zipped:
            yield f'    with zipfile.ZipFile(folder / {text(PurePosixPath(places[0]).name)}, "w") as archive:'
            yield "        for path, data in files.items():"
            yield "            archive.writestr(zipfile.ZipInfo(path), data)"
        else:
            yield "    for path, data in files.items():"
            yield "        (folder / path).parent.mkdir(parents=True, exist_ok=True)"
            yield "        (folder / path).write_bytes(data)"
        for number, sheet in enumerate(sheets):
            part = "rows" if is_one else f"rows[{number}]"
            columns = f"COLUMNS{number or ''}"
            if "/" in sheet.member:
                yield f"    (folder / {text(sheet.member)}).parent.mkdir(parents=True, exist_ok=True)"
            yield f"    table = folder / {text(sheet.member)}"
            yield f'    with table.open("w", encoding={text(sheet.rule.encoding)}, newline="") as opened:'
            given = f'{columns}, delimiter={text_of(sheet.rule.separator)}, extrasaction="ignore"'
            yield f"        writer = csv.DictWriter(opened, {given})"
            yield "        writer.writeheader()"
            yield f"        writer.writerows({part})"

    def row(self) -> Iterator[str]:
        cells = {c: code for c in self.draft.rows.columns if (code := self._cell(c)) is not None}
        more = list(self._labels())
        if self.values:
            more.insert(0, "    row |= {column: str(rng.choice(said)) for column, said in VALUES.items()}")
        every = " ".join([*cells.values(), *more])
        if "rng" in every or "group" in every:
            yield f"    group = {self._group()}"
        if "rng" in every:
            yield "    rng = np.random.default_rng([seed, group])"
        yield "    row = {" if more else "    return {"
        yield from (f"        {text(column)}: {code}," for column, code in cells.items())
        yield "    }"
        if more:
            yield from more
            yield "    return row"

    def _group(self) -> str:
        return "number - number % 10 // 9" if self.draft.group == "picture" else "number // 2"

    def _cell(self, column: str) -> str | None:
        """Code of the cell of a column; None for what is drawn otherwise."""
        draft = self.draft
        if column == self.image:
            return self._image_cell()
        if column == draft.columns["patient"].column:
            return 'f"P{group:04d}"'
        if column == draft.columns["split"].column:
            return "SPLITS[group % len(SPLITS)]"
        if column == (age := draft.columns["age"]).column:
            return f'f"{{rng.integers(20, 90)}}{age.numbers.suffix}"'
        if column in self.values or column in draft.labels.columns:
            return None
        return cell_code(draft.rows[column])

    def _image_cell(self) -> str:
        way, keys = self.draft.pairings[0], self.draft.keys
        name = "{name}" if not way.width else "{number}"
        if keys.is_path and not way.prefix:
            folders = "/".join(["raw"] * way.dropped)
            name = f"{folders}/part_{{number % 2}}/{name}" if folders else f"part_{{number % 2}}/{name}"
        elif way.has_folders:
            name = f"raw/{name}"
        shown = name + (self.extension if way.has_extension else "")
        return {"{name}": "name", "{number}": "str(number)"}.get(shown) or _f(shown)

    def _labels(self) -> Iterator[str]:
        labels = self.draft.labels
        if labels.separator:
            (column,) = labels.spellings
            yield "    said = rng.choice(PARTS, rng.integers(1, 3), replace=False)"
            yield f"    row[{text(column)}] = {text(labels.separator)}.join(map(str, said))"
        if not labels.flags:
            return
        yes, no = self._yes_and_no()
        if labels.kind == "exclusive":
            yield "    present = {str(rng.choice(FLAGS))}"
        else:
            yield "    present = {flag for flag in FLAGS if rng.random() < 0.4}"
        yield f"    row |= {{flag: {text(yes)} if flag in present else {text(no)} for flag in FLAGS}}"

    def _yes_and_no(self) -> tuple[str, str]:
        """The commonest cells of either kind."""
        cells = self.draft.rows[list(self.draft.labels.flags)].stack()
        said = [str(cell) for cell in cells.value_counts().index]
        yes = next(cell for cell in said if words.folded(cell) in words.YES)
        return yes, next(cell for cell in said if words.folded(cell) in words.NO)

    def picture(self) -> Iterator[str]:
        looks = self.draft.looks
        width, height = max(looks.sizes, key=lambda size: looks.sizes[size], default=(SIDE, SIDE))
        scale = SIDE / max(width, height)
        wide, high = max(16, round(width * scale)), max(16, round(height * scale))
        if self.draft.group == "picture":
            yield f"    rng = np.random.default_rng([seed, {self._group()}])"
        else:
            yield "    rng = np.random.default_rng([seed, number])"
        cut = f"[:{high}, :{wide}]" if (wide, high) != (SIDE, SIDE) else ""
        yield f"    grey = chest(rng, {SIDE}, has_words=False).pixels{cut}"
        shown = "grey"
        if looks.bit_depths == (16,):
            shown = "grey.astype(np.uint16) * 257"
        elif looks.channels == (3,):
            shown = "np.stack([grey, grey // 2, grey // 3], axis=-1)"
        if shown == "grey" and not cut:
            yield f'    return cv2.imencode("{self.extension.lower()}", grey)[1].tobytes()'
        else:
            yield f"    pixels = np.ascontiguousarray({shown})"
            yield f'    return cv2.imencode("{self.extension.lower()}", pixels)[1].tobytes()'

    def more(self) -> Iterator[str]:
        draft = self.draft
        if not (draft.masks and draft.masks.are_used):
            return
        looks = draft.looks
        width, height = max(looks.sizes, key=lambda size: looks.sizes[size], default=(SIDE, SIDE))
        scale = SIDE / max(width, height)
        wide, high = max(16, round(width * scale)), max(16, round(height * scale))
        yield "\n".join(
            [
                "def _mask() -> bytes:",
                f"    inside = np.zeros(({high}, {wide}), np.uint8)",
                f"    cv2.circle(inside, ({wide // 2}, {high // 2}), {min(wide, high) // 4}, (255,), -1)",
                '    return cv2.imencode(".png", inside)[1].tobytes()',
            ]
        )


SAME = ("Rows", "Columns", "BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel", "NumberOfFrames")
"""Elements that the made-up files have of their own pixels."""


def _of_dicom(draft: Draft) -> dict[str, object]:
    """What the template of DICOM files fills in."""
    rows, keys = draft.rows, draft.keys
    elements = {
        "PatientID": 'f"P{group:04d}"',
        "PatientAge": 'f"{rng.integers(20, 90):03d}Y"',
        "StudyInstanceUID": 'f"2.25.{5000 + group}"',
        "SeriesInstanceUID": 'f"2.25.{9000 + group}"',
    }
    fixed = (*elements, *SAME, "key", "PhotometricInterpretation")
    values = {column: values_of(rows[column]) for column in rows.columns if column not in fixed}
    if "PatientSex" in rows:
        values["PatientSex"] = ("F", "M")
    names = [PurePosixPath(member.name) for member in draft.found.images]
    place = escaped_braces(keys.root) + ("" if keys.is_flat else "part_{number % 2}/") + "{name}" + names[0].suffix
    return {
        "name": draft.name,
        "constants": [assigned("VALUES", {column: said for column, said in values.items() if said})],
        "unit": draft.group,
        "shape": _f(name_shape([name.stem if name.suffix else name.name for name in names])),
        "place": _f(place),
        "elements": [f"file.{keyword} = {code}" for keyword, code in elements.items() if keyword in rows],
        "picture_seed": "number" if draft.group == "patient" else "group",
        "side": SIDE,
    }


def _f(shape: str) -> str:
    """An f-string, or a string where nothing is filled in."""
    quoted = text(shape.replace('"', "_"))
    return f"f{quoted}" if "{" in shape else quoted


def text_of(separator: str) -> str:
    return '"\\t"' if separator == "\t" else literal(separator, 0)
