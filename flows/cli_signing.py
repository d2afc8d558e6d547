"""``scanmill sign``: who vouches for a release."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from flows.command_line import LOOK, AsJson, ShowProgress, errors_as_exit_codes, examples
from flows.console import showing_progress
from tasks.schema import ScanmillError

app = typer.Typer()


@app.command(
    rich_help_panel=LOOK,
    epilog=examples(
        "`scanmill sign --new-key ~/.scanmill/alice.key`",
        "`scanmill sign lake/nih-chest-xray --key ~/.scanmill/alice.key`",
    ),
)
def sign(
    reference: Annotated[
        str | None, typer.Argument(metavar="LAKE/DATASET[@RELEASE]", help="A release; the latest without @.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Your private key (Ed25519, PEM); SCANMILL_KEY_PASSPHRASE opens it."),
    ] = None,
    new_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Make a key: FILE for you alone, FILE.pub for everybody.")
    ] = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """Vouch for a release that verifies: a signature of its manifest, beside it. `verify --key` asks for it."""
    with errors_as_exit_codes(as_json):
        from tasks.release.signature import make_key

        if (new_key is None) == (reference is None):
            raise ScanmillError("say what to sign (LAKE/DATASET and --key FILE), or make a key with --new-key FILE")
        if new_key is not None:
            told = {"key": str(new_key), "public_key": f"{new_key}.pub", "fingerprint": make_key(new_key)}
            words = f"{new_key} is yours alone; give {new_key}.pub to those who are to verify: {told['fingerprint']}"
        else:
            with showing_progress(progress, as_json):
                told = _sign(str(reference), key)
            words = f"{told['release']} is signed by {told['fingerprint']}: {told['signature']}"
        typer.echo(json.dumps({"ok": True, **told}) if as_json else words)


def _sign(reference: str, key: Path | None) -> dict[str, str]:
    from tasks.lake import latest_release, locate
    from tasks.release.signature import NAME, fingerprint, private_key
    from tasks.release.signature import sign as put
    from tasks.release.verify import verify

    if key is None:
        raise ScanmillError("--key FILE says who signs; make one with: scanmill sign --new-key FILE")
    lake, release = locate(reference)
    release = release or latest_release(lake)
    secret = private_key(key)
    problems = verify(lake, release).problems
    if problems:
        raise ScanmillError(f"{reference} does not verify, so nobody should vouch for it: {problems[0]}")
    folder = lake.release(release)
    put(folder, secret)
    return {"release": release, "fingerprint": fingerprint(secret.public_key()), "signature": str(folder / NAME)}
