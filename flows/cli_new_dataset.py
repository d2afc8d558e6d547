"""``scanmill new-dataset``: a first draft of a dataset of your own; :mod:`flows.cli` has the other commands."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.command_line import MILL, AsJson, errors_as_exit_codes, examples, importing, printable
from tasks.schema import UnusableInput

if TYPE_CHECKING:
    from tasks.drafts.draft import Answers, Draft
    from tasks.drafts.found import Found

app = typer.Typer()

Column = Annotated[str | None, typer.Option(metavar="COLUMN|none", help="That column, or none [default: guessed].")]


@app.command(
    rich_help_panel=MILL,
    epilog=examples(
        "`scanmill new-dataset wrist-fractures --from befunde.csv Aufnahmen`",
        "`scanmill new-dataset my-chests --from labels.csv images.zip --patient none --label Finding --yes`",
        "`scanmill new-dataset my-scans dicom-folder`",
    ),
)
def new_dataset(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it, such as wrist-fractures.")],
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Folder, zip or tar.gz of its images.")],
    tables: Annotated[
        list[str] | None,
        typer.Option(
            "--from", metavar="TABLE", help="CSV that says what the images show. Repeat for several; DICOM needs none."
        ),
    ] = None,
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Where the draft is written.")] = Path("datasets"),
    image: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column that names the images [default: guessed].")
    ] = None,
    patient: Column = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="A column of labels [default: guessed]. Repeat.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN|none", help="A measurement [default: numbers with a unit in the name]. Repeat."),
    ] = None,
    split: Column = None,
    age: Column = None,
    sex: Column = None,
    view: Column = None,
    site: Column = None,
    is_exclusive: Annotated[
        bool | None,
        typer.Option("--exclusive/--multiple", help="Exactly one label per image, or any number [default: guessed]."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Ask nothing: take the guesses.")] = False,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Overwrite an earlier draft.")] = False,
    as_json: AsJson = False,
) -> None:
    """A first draft of a dataset of your own, guessed from a table and a folder of images: one declaration, one fake.

    The draft can be checked and prepared at once; what no machine can know is marked TODO. On a terminal a few
    questions are asked. Nothing of a patient is written: no id, no free text, no pixel.
    """
    with errors_as_exit_codes(as_json):
        with importing():
            from tasks.datasets import forget
            from tasks.drafts.draft import Answers, insist_on_name
            from tasks.drafts.found import look
            from tasks.drafts.writing import lines_of, write_draft

        insist_on_name(name)
        _insist_on_free_name(name, folder)
        roles = {"patient": patient, "split": split, "age": age, "sex": sex, "view": view, "site": site}
        kind = None if is_exclusive is None else "exclusive" if is_exclusive else "multiple"
        answers = Answers(image, roles, tuple(label or ()), tuple(target or ()), kind)  # type: ignore[arg-type]
        found = look(images, tables or [])
        is_asking = not yes and not as_json and sys.stdin.isatty() and sys.stdout.isatty()
        draft = _asked(name, found, answers) if is_asking else _made(name, found, answers)
        written = lines_of(write_draft(draft, folder, force=force))
        forget()
        typer.echo(json.dumps(_as_json(draft, written, folder)) if as_json else _as_text(draft, written, folder))


def _insist_on_free_name(name: str, folder: Path) -> None:
    """Raise for the name of another dataset; the draft itself may be there, for ``--force`` to overwrite."""
    from tasks.datasets import catalogue, file_of

    if name in catalogue() and file_of(name).resolve().parent != folder.resolve():
        raise UnusableInput(f"there is a dataset {name} already, in {file_of(name)}: choose another name")


def _made(name: str, found: Found, answers: Answers) -> Draft:
    from tasks.drafts.draft import make

    return make(name, found, answers)


def _asked(name: str, found: Found, answers: Answers) -> Draft:
    """The guesses, after the few questions that they leave open."""
    draft = _made(name, found, answers)
    columns = list(draft.rows.columns)
    typer.echo(printable(f"columns: {', '.join(columns)}"))
    for role, question in (("patient", "Which column is the patient?"), ("sex", "Which column is the sex?")):
        guess = draft.columns[role]  # type: ignore[index]
        if not guess.is_sure and answers.roles.get(role) is None:
            said = _ask(f"{question} ({guess.because})", guess.column or "none", [*columns, "none"])
            answers = replace(answers, roles={**answers.roles, role: said})
    if not draft.labels.is_sure and not answers.labels:
        default = ", ".join(draft.labels.columns) or "none"
        said = _ask("Which columns are labels? Several with commas", default, None)
        if said != default:
            answers = replace(answers, labels=tuple(part.strip() for part in said.split(",")))
    return _made(name, found, answers)


def _ask(question: str, default: str, allowed: Sequence[str] | None) -> str:
    while True:
        said = str(typer.prompt(printable(question), default=default)).strip()
        if allowed is None or said in allowed:
            return said
        typer.echo(f"there is no {said}; there are {', '.join(allowed)}")


def _next(draft: Draft, folder: Path) -> list[str]:
    from tasks.drafts.writing import raw_options

    raw = raw_options(draft)
    lake = "lake" if not draft.found.holds(Path("lake")) else "../lake"  # a lake in its own raw release is refused
    return [
        f"export SCANMILL_DATASETS={shlex.quote(str(folder.resolve()))}",
        f"scanmill check {draft.name} {raw}",
        f"scanmill prepare {draft.name} {raw} --lake {lake}",
    ]


def _as_json(draft: Draft, written: dict[str, int], folder: Path) -> dict[str, Any]:
    from tasks.drafts.draft import findings, warnings

    match = draft.match
    return {
        "ok": True,
        "name": draft.name,
        "files": written,
        "guesses": {what: {"taken": taken, "because": because} for what, taken, because in findings(draft)},
        "labels": dict(draft.labels.names),
        "label_kind": draft.labels.kind,
        "splits": list(draft.splits),
        "group": draft.group,
        "images": match.images,
        "rows": match.rows,
        "images_without_row": len(match.images_without_row),
        "rows_without_image": len(match.rows_without_image),
        "tolerance": draft.tolerance,
        "warnings": warnings(draft),
        "next": _next(draft, folder),
    }


def _as_text(draft: Draft, written: dict[str, int], folder: Path) -> str:
    from tasks.drafts.draft import findings, warnings

    found = findings(draft)
    width = max(len(what) for what, _, _ in found)
    lines = [f"  {what.ljust(width)}  {taken}\n  {' ' * width}    {because}" for what, taken, because in found]
    lines += [f"note: {warning}" for warning in warnings(draft)]
    lines += ["", *(f"wrote {path}, {count} lines" for path, count in written.items())]
    lines += ["", "Next, and then the lines with TODO:", *(f"  {command}" for command in _next(draft, folder))]
    return printable("\n".join(lines))
