"""``scanmill verify``, ``diff`` and ``report``: what a published release is worth, without making anything."""

from __future__ import annotations

import json
import sys
import tempfile
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows import summary
from flows.command_line import LOOK, AsJson, ShowProgress, errors_as_exit_codes, examples
from flows.console import showing_progress, size
from tasks.schema import UnusableInput

if TYPE_CHECKING:
    from tasks.storage import Location

app = typer.Typer()
Reference = Annotated[str, typer.Argument(metavar="LAKE/DATASET[@RELEASE]", help="A release; the latest without @.")]


@app.command(
    rich_help_panel=LOOK,
    epilog=examples(
        "`scanmill verify lake/nih-chest-xray`",
        "`scanmill verify lake/nih-chest-xray --key alice.key.pub`",
    ),
)
def verify(
    reference: Reference,
    keys: Annotated[
        list[str] | None,
        typer.Option(
            "--key", metavar="FILE", help="A public key: its holder must have signed. Repeat: one of several."
        ),
    ] = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """Every checksum, the accounting, the pointer, and with --key the signature; exit 1 names what is wrong."""
    with errors_as_exit_codes(as_json):
        from tasks.lake import locate_published
        from tasks.release.signature import public_key
        from tasks.release.verify import verify as verify_release

        lake, release = locate_published(reference)
        wanted = [public_key(key) for key in keys or ()]
        with showing_progress(progress, as_json):
            found = verify_release(lake, release, wanted)
        if as_json:
            print(json.dumps({"ok": not found.problems, **found.__dict__}, sort_keys=True))
        elif found.problems:
            sys.stderr.write("".join(f"{reference}: {problem}\n" for problem in found.problems))
        else:
            print(
                f"{lake.home}@{found.release} is whole: {found.files} files, {size(found.size_bytes)}, "
                f"{summary.verified_text(found)}"
            )
        if found.problems:
            raise typer.Exit(1)


@app.command(
    rich_help_panel=LOOK,
    epilog=examples(
        "`scanmill diff lake/nih-chest-xray@1a2b3c4d5e6f7a8b lake/nih-chest-xray`",
    ),
)
def diff(
    before: Reference,
    after: Reference,
    as_list: Annotated[
        bool, typer.Option("--list", metavar="", help="One line per sample: kind, id, detail, with tabs.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Samples added, removed, changed and moved between two releases; exit 1 when one changed its split."""
    with errors_as_exit_codes(as_json):
        from flows import diff_text
        from tasks.lake import latest_release, locate
        from tasks.release.diff import compare

        places = [locate(reference) for reference in (before, after)]
        first, second = [(lake, release or latest_release(lake)) for lake, release in places]
        found = compare(first, second)
        if as_json:
            print(diff_text.as_json(found))
        elif as_list:
            for line in diff_text.as_list(found):
                print(line)
        else:
            print(diff_text.as_text(found))
        if found.moved:
            raise typer.Exit(1)


@app.command(
    rich_help_panel=LOOK,
    epilog=examples(
        "`scanmill report lake/nih-chest-xray --open`",
    ),
)
def report(
    reference: Reference,
    open_it: Annotated[bool, typer.Option("--open", metavar="", help="Open it in the browser.")] = False,
    as_json: AsJson = False,
) -> None:
    """The path of the data-quality report, of a refused release too, with @RELEASE; or of a run, as LAKE/runs/RUN."""
    with errors_as_exit_codes(as_json):
        from tasks.learning.runs import report_at

        page = report_at(reference) or _report_of_release(reference)
        print(json.dumps({"ok": True, "report": str(page)}) if as_json else page)
        if open_it:
            webbrowser.open(_on_this_machine(page).resolve().as_uri())


def _report_of_release(reference: str) -> Location:
    from tasks.lake import latest_release, locate, not_published

    lake, release = locate(reference)
    release = release or latest_release(lake)
    pages = [folder / "quality" / "index.html" for folder in (lake.release(release), lake.refused(release))]
    page = next((page for page in pages if page.is_file()), None)
    if page is None:
        raise UnusableInput(not_published(lake, release))
    return page


def _on_this_machine(page: Location) -> Path:
    """The page itself, or a copy of its folder from object storage, which a browser cannot read."""
    from tasks.storage import copy_down, is_remote

    if not is_remote(page):
        return page
    folder = Path(tempfile.mkdtemp(prefix="scanmill-report-"))
    copy_down(page.parent, folder)
    return folder / page.name
