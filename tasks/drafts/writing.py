"""A draft as two Python files: the declaration, and a fake that writes the same layout without a word of the data."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from tasks.drafts.declaring import declared, title
from tasks.drafts.draft import Draft
from tasks.drafts.fakes import fake_source
from tasks.drafts.literals import imported, text
from tasks.drafts.parsing import body, constants
from tasks.drafts.templates import render
from tasks.files import write_bytes
from tasks.schema import UnusableInput


def write_draft(draft: Draft, folder: Path, *, force: bool = False) -> tuple[Path, Path]:
    """Write ``<folder>/<name>.py`` and ``<folder>/fakes/<name>.py``, dashes of the name as ``_``.

    Raises :class:`UnusableInput` where one is there and ``force`` does not allow to overwrite it.
    """
    paths = folder / f"{draft.module}.py", folder / "fakes" / f"{draft.module}.py"
    for path in paths:
        if path.exists() and not force:
            raise UnusableInput(f"{path} is there already: choose another name, or overwrite it with --force")
    sources = declaration_source(draft, folder), fake_source(draft)
    for path, source in zip(paths, sources, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, source.encode())
    return paths


def declaration_source(draft: Draft, folder: Path) -> str:
    """Python source of the declaration, as it will lie in ``folder``."""
    lines = [line for block in body(draft) for line in block.splitlines()]
    arguments = [line for block in declared(draft, folder) for line in block.splitlines()]
    sheets = draft.found.sheets
    is_dicom = draft.found.is_dicom
    tables = " and ".join(re.sub(r"[^\w .,()/-]", "_", sheet.member) for sheet in sheets)  # for docstrings
    given = {
        "title": title(draft.name),
        "name": draft.name,
        "tables": "DICOM headers" if is_dicom else tables,
        "unit": "image of the DICOM files" if is_dicom else f"row of {tables}",
        "role": "DICOM" if is_dicom else text(sheets[0].rule.role),
        "not_meta": ("archive", "member", "key") if is_dicom else (),
        "roles": [sheet.rule.role for sheet in sheets],
        "same_columns": len({sheet.rule.columns for sheet in sheets}) == 1,
        "is_dealt": draft.is_dealt,
        "constants": list(constants(draft)),
        "body": lines,
        "declared": arguments,
    }
    given["imports"] = "\n".join(_imports("\n".join([*lines, *arguments]), draft))
    return render("declaration.py.jinja", given)


def _imports(code: str, draft: Draft) -> Iterator[str]:
    def used(names: tuple[str, ...]) -> list[str]:
        return [name for name in names if f"{name}(" in code]

    if "one_of(" in code:
        yield imported("tasks.demands", ["one_of"])
    if readings := used(("flag", "folded", "number", "stem", "yes_no")):
        yield imported("tasks.readings", readings)
    declaring = used(("Appearance", "ImageRules", "MemberRule", "Source", "TableRule"))
    role = ["DICOM", "Dicom"] if draft.found.is_dicom else []
    yield imported("tasks.schema", [*role, "Dataset", "Parsed", "Table", *declaring])
    if draft.is_dealt:
        yield imported("tasks.splits", ["split_by_group"])


def raw_options(draft: Draft) -> str:
    """``--raw PLACE`` for the commands that come next."""
    return " ".join(f"--raw {shlex.quote(place)}" for place in draft.found.raw)


def lines_of(paths: tuple[Path, ...]) -> dict[str, int]:
    """Lines of each file, for people."""
    return {str(path): len(path.read_text("utf-8").splitlines()) for path in paths}
