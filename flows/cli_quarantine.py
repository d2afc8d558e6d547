"""``scanmill quarantine``: what was refused and why, and the bytes of it; :mod:`flows.cli` has the other commands."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.command_line import LOOK, AsJson, RawNow, ShowProgress, errors_as_exit_codes, examples, printable
from flows.console import showing_progress, size

if TYPE_CHECKING:
    import pandas as pd

    from tasks.quarantine import Extracted, Refusals

app = typer.Typer()

SHOWN = 20


@app.command(
    rich_help_panel=LOOK,
    epilog=examples(
        "`scanmill quarantine lake/nih-chest-xray`",
        "`scanmill quarantine lake/nih-chest-xray --reason crc-mismatch --rows`",
        "`scanmill quarantine lake/nih-chest-xray@1a2b3c4d5e6f7a8b --extract refused --raw /mnt/nih`",
    ),
)
def quarantine(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="LAKE/DATASET[@RELEASE]", help="A release, refused ones too; without @ the latest published."
        ),
    ],
    reason: Annotated[str | None, typer.Option(metavar="CODE", help="Only what was refused for this reason.")] = None,
    stage: Annotated[str | None, typer.Option(metavar="STAGE", help="Only what was refused at this stage.")] = None,
    rows: Annotated[
        bool, typer.Option("--rows", metavar="", help="One line for each, with names: where it is, and what was found.")
    ] = False,
    limit: Annotated[int, typer.Option(metavar="N", min=0, help="Lines of --rows; 0: all of them.")] = SHOWN,
    extract: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Bring the bytes back out of the raw release, into DIR/REASON/ARCHIVE/MEMBER."
        ),
    ] = None,
    raw: RawNow = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """What a release refused and why, by reason; with --rows one by one; with --extract the original bytes.

    Names of single images, patients and labels are shown with --rows only, whatever the dataset's terms are.
    """
    with errors_as_exit_codes(as_json):
        from tasks.lake import locate
        from tasks.quarantine import chosen, find

        lake, release = locate(reference)
        found = find(lake, release)
        picked = chosen(found, reason, stage)
        done = None
        if extract is not None:
            with showing_progress(progress, as_json):
                done = _extracted(found, picked, extract, raw or [])
        shown = limit if rows and limit else len(picked) if rows else 0
        if as_json:
            typer.echo(_json(found, picked, shown, done))
        else:
            typer.echo("\n".join(_text(found, picked, shown, rows=rows, is_part=bool(reason or stage))))
            if done is not None and extract is not None:
                typer.echo("\n".join(_extracted_text(done, extract)))
        if done and any(one.is_trouble for one in done):
            raise typer.Exit(1)


def _extracted(found: Refusals, picked: pd.DataFrame, into: Path, raw: Sequence[str]) -> list[Extracted]:
    from tasks import datasets
    from tasks.credentials import from_environment
    from tasks.files import complaining_of_space
    from tasks.quarantine import extract, insist_on_folder
    from tasks.raw_again import origin_of, reopen

    insist_on_folder(into)
    dataset = datasets.find(found.lake.dataset)
    origin = origin_of(found.folder)
    again = reopen(found.lake, origin, raw, from_environment(dataset))
    with complaining_of_space(into):
        return extract(picked, again, origin, dataset, into)


def _json(found: Refusals, picked: pd.DataFrame, shown: int, done: Sequence[Extracted] | None) -> str:
    from tasks.quarantine import groups, lines

    told: dict[str, Any] = {
        "ok": not any(one.is_trouble for one in done or ()),
        "dataset": found.lake.dataset,
        "release": found.release,
        "published": found.is_published,
        "also_refused": list(found.others),
        "refused": len(picked),
        "reasons": groups(picked),
    }
    if shown:
        told["rows"] = list(islice(lines(picked), shown))
    if done is not None:
        told["extracted"] = {came: sum(one.came == came for one in done) for came in ("whole", "in part", "no")}
    return json.dumps(told, sort_keys=True)


def _text(found: Refusals, picked: pd.DataFrame, shown: int, *, rows: bool, is_part: bool) -> Iterator[str]:
    from tasks.quarantine import groups, lines

    name = f"{found.lake.dataset}@{found.release}"
    if found.is_published:
        yield f"{name}: {len(picked):,} refused" + (f" of {len(found.rows):,}" if is_part else "")
    else:
        yield f"{name} was not published, a gate refused it; {len(picked):,} lines in its quarantine"
    for group in groups(picked):
        yield f"  {group['count']:>7,}  {group['reason']:<20}  {group['sentence']}"
    if rows and len(picked):
        yield ""
        yield from (f"  {_line(line)}" for line in islice(lines(picked), shown))
        if shown < len(picked):
            yield f"  … and {len(picked) - shown:,} more: --limit 0"
    elif len(picked):
        yield "which ones: --rows; their bytes: --extract DIR"
    if found.others:
        yield f"also refused by a gate: {', '.join(f'{found.lake.dataset}@{other}' for other in found.others)}"


def _line(line: dict[str, Any]) -> str:
    from tasks.archives import LOOSE

    places = []
    if line["member"] is not None:
        places.append(line["member"] if line["archive"] == LOOSE else f"{line['archive']}/{line['member']}")
    if line["table"] is not None:
        places.append(line["table"] if line["row"] is None else f"{line['table']} row {line['row']}")
    return printable(f"{line['reason']}  {', '.join(places)}: {line['detail'] or 'no detail'}")


def _extracted_text(done: Sequence[Extracted], into: Path) -> Iterator[str]:
    members = [one for one in done if one.member]
    came = [one for one in done if one.came != "no"]
    whole = sum(one.came == "whole" for one in members)
    partly = sum(one.came == "in part" for one in members)
    lines_back = sum(one.came == "whole" for one in done if one.table)
    yield (
        f"extracted into {into}: {whole:,} members whole, {partly:,} in part, {lines_back:,} metadata rows "
        f"({size(sum(one.bytes or 0 for one in came))}); {len(done) - len(came):,} could not be brought back"
    )
    notes = sorted({one.note for one in done if one.is_trouble})
    yield from (f"  {sum(one.note == note for one in done):,} × {note}" for note in notes)
    yield f"one by one: {into / 'extracted.csv'}"
