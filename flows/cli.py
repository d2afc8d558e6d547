"""The ``scanmill`` command: the same flows without a deployment. Only this and its neighbours print and exit."""

from __future__ import annotations

import json
import logging
import os
import sys
import tempfile
import time
import webbrowser
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import SecretStr

from flows import cli_doctor, cli_learning, cli_quarantine, cli_signing, cli_trace, summary
from flows.command_line import (
    AsJson,
    LakeFolder,
    ShowProgress,
    errors_as_exit_codes,
    importing,
    running_a_flow,
)
from flows.console import showing_progress, size
from tasks.schema import STORES, ScanmillError

if TYPE_CHECKING:
    from tasks.stages.plan import Request
    from tasks.storage import Location

# Before Prefect is imported: its own log lines and telemetry are not what a user of the command wants to see.
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
# Prefect's own 20 are few on a busy machine.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

app = typer.Typer(
    name="scanmill",
    help="Scans in, trustworthy shards out: raw medical-imaging releases to validated, training-ready stores.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Name = Annotated[str, typer.Argument(metavar="DATASET", help="A dataset of the catalogue; see `scanmill datasets`.")]
Reference = Annotated[str, typer.Argument(metavar="LAKE/DATASET[@RELEASE]", help="A release; the latest without @.")]
RAW_HELP = "Folder, zip or tar.gz of the raw release, or s3://bucket/prefix of one; read in place. Repeat for several."
Raw = Annotated[list[str], typer.Option("--raw", metavar="PLACE", help=RAW_HELP)]
RawOrFetched = Annotated[
    list[str] | None,
    typer.Option("--raw", metavar="PLACE", help=f"{RAW_HELP} [default: fetch it from where it is published]"),
]
SourceUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL", envvar="SCANMILL_SOURCE_URL", help="A mirror to fetch from, instead of the publisher's host."
    ),
]
FileList = Annotated[
    str | None,
    typer.Option("--files", metavar="FILE", help="Fetch these https addresses: one per line, URL or SHA256 URL."),
]
LabelTable = Annotated[
    str | None, typer.Option("--table", help="Label table to use where several are there: a form, or a file name.")
]
SplitFile = Annotated[
    str | None,
    typer.Option(
        "--splits", metavar="FILE", help="CSV or Parquet of your own splits: split, and sample_id, image or patient_id."
    ),
]
AllowMissing = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of metadata rows that may lack their image [default: 0.01]."),
]
SHAPING = ("size", "encoding", "quality", "decode_check", "stores", "table", "splits", "allow_missing")
"""Options of ``prepare`` that make another release."""


def main() -> None:
    """Entry point of the console script."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    app()


def _print_version(wanted: bool) -> None:
    if wanted:
        from tasks.code_version import scanmill_version

        print(f"scanmill {scanmill_version()}")
        raise typer.Exit


app.add_typer(cli_learning.app)
app.add_typer(cli_quarantine.app)
app.add_typer(cli_signing.app)
app.add_typer(cli_doctor.app)
app.add_typer(cli_trace.app)


@app.callback()
def scanmill(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options that stand before a command."""


@app.command(epilog="Examples: `scanmill datasets` · `scanmill datasets nih-chest-xray` · `scanmill datasets --json`")
def datasets(
    dataset: Annotated[str | None, typer.Argument(metavar="[DATASET]", help="What is checked of this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """The catalogue: samples, size, licence, where to get it. With a name: all that is checked of it, and known."""
    from tasks.datasets import catalogue, find

    with errors_as_exit_codes(as_json):
        if dataset is None:
            print(summary.catalogue_json(catalogue()) if as_json else summary.catalogue_text(catalogue()))
            return
        from flows.checks_text import checks_of, checks_text

        declared = find(dataset)
        print(json.dumps({"ok": True, "checks": checks_of(declared)}) if as_json else checks_text(declared))


@app.command(epilog="Example: `scanmill check nih-chest-xray --raw /data/nih`")
def check(
    dataset: Name,
    raw: Raw,
    table: LabelTable = None,
    splits: SplitFile = None,
    allow_missing: AllowMissing = None,
    as_json: AsJson = False,
) -> None:
    """Index, parse and the metadata gate only: is this raw release sound? Decodes no image, writes nothing."""
    with errors_as_exit_codes(as_json):
        with importing():
            from expectations.gates import judge
            from tasks.stages.metadata import check_metadata
            from tasks.stages.plan import request

        wanted = request(dataset, raw, "", table=table, splits=splits, allow_missing=allow_missing)
        counts, verdict = check_metadata(wanted, judge)
        if as_json:
            print(json.dumps({"ok": verdict.passed, **counts, "verdict": verdict.as_json()}, sort_keys=True))
        else:
            print(summary.check_text(counts, verdict))
        if not verdict.passed:
            raise typer.Exit(1)


@app.command(
    epilog="Examples: `scanmill fetch behsof --lake /data/lake` · "
    "`SCANMILL_PHYSIONET_USERNAME=me SCANMILL_PHYSIONET_PASSWORD=… scanmill fetch chexchonet --lake /data/lake`"
)
def fetch(
    dataset: Name,
    lake: LakeFolder,
    source_url: SourceUrl = None,
    files: FileList = None,
    rehash: Annotated[bool, typer.Option(help="Read all that is here, and fetch anew what is damaged.")] = False,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """Only the first step of prepare: bring the raw release from its publisher into the lake, or what is new of it.

    Stopped or cut off, the same command goes on where it was. Nothing new costs one request.
    """
    with errors_as_exit_codes(as_json):
        from tasks.files import complaining_of_space
        from tasks.stages.fetch import fetch as bring
        from tasks.storage import insist_on_reachable, location

        secrets = _secrets(dataset)
        insist_on_reachable(location(lake))
        with showing_progress(False if as_json else progress), complaining_of_space(location(lake)):
            fetched = bring(dataset, lake, secrets, source_url=source_url, files=files, rehash=rehash)
        print(json.dumps({"ok": True, **asdict(fetched)}) if as_json else summary.fetched_text(fetched, dataset))


@app.command(
    epilog="Examples: `scanmill prepare nih-chest-xray --raw /data/nih --lake /data/lake` · "
    "`scanmill prepare behsof --lake lake` (fetched from figshare) · "
    "`scanmill prepare mammography-density --raw mammography_images.zip --lake lake --encoding jpeg --workers 2`"
)
def prepare(
    dataset: Name,
    lake: LakeFolder,
    raw: RawOrFetched = None,
    source_url: SourceUrl = None,
    files: FileList = None,
    image_size: Annotated[
        str | None, typer.Option("--size", help="Longer side in pixels, or native: the published files as they are.")
    ] = None,
    encoding: Annotated[str, typer.Option(help="png (lossless) or jpeg.")] = "png",
    quality: Annotated[int, typer.Option(min=1, max=100, help="JPEG quality.")] = 95,
    decode_check: Annotated[
        str,
        typer.Option(
            help="full, or off with --size native: files are passed on undecoded, and all that takes pixels (damage, "
            "blank frames, near-duplicates, burned-in text, …) is not checked."
        ),
    ] = "full",
    stores: Annotated[str, typer.Option(help="webdataset, parquet, or both with a comma.")] = ",".join(STORES),
    workers: Annotated[
        int | None, typer.Option(min=0, help="Worker processes [default: one per core]; 0: none.")
    ] = None,
    dask: Annotated[str | None, typer.Option(help="Scheduler address, such as tcp://host:8786.")] = None,
    performance_report: Annotated[
        bool,
        typer.Option(
            "--performance-report",
            help="Keep Dask's performance reports as quality/dask-*.html. Needs bokeh; the pages load it from a CDN.",
        ),
    ] = False,
    table: LabelTable = None,
    splits: SplitFile = None,
    allow_missing: AllowMissing = None,
    allow_gate_failure: Annotated[
        bool, typer.Option(help="Publish although a gate failed; the report says so.")
    ] = False,
    rehash: Annotated[bool, typer.Option(help="Hash raw files anew instead of trusting size and time stamp.")] = False,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """From raw archives to a published, verified release with its data-quality report.

    Run it again at any time: what is done is not done twice, not after a crash either.
    """
    with errors_as_exit_codes(as_json):
        options = {
            "size": _size(image_size),
            "encoding": _one_of(encoding, ("png", "jpeg"), "--encoding"),
            "quality": quality,
            "decode_check": _one_of(decode_check, ("full", "off"), "--decode-check"),
            "stores": [_one_of(store.strip(), STORES, "--stores") for store in stores.split(",")],
            "workers": workers,
            "dask": dask,
            "performance_report": performance_report,
            "table": table,
            "splits": splits,
            "allow_missing": allow_missing,
            "allow_gate_failure": allow_gate_failure,
            "rehash": rehash,
            "source_url": source_url,
            "files": files,
        }
        _prepare(dataset, raw or [], lake, options, as_json, progress)


def _size(text: str | None) -> int | None:
    """0 for ``native``, None for the dataset's own."""
    if text is None or text == "native":
        return None if text is None else 0
    if not text.isdecimal():
        raise ScanmillError(f"--size {text!r} is no size; give the longer side in pixels, such as 224, or native")
    return int(text)


def _one_of(value: str, known: tuple[str, ...], option: str) -> str:
    if value not in known:
        raise ScanmillError(f"{option} {value!r} is not known; choose from {', '.join(known)}")
    return value


def _prepare(
    dataset: str, raw: list[str], lake: str, options: dict[str, Any], as_json: bool, progress: bool | None
) -> None:
    began = time.monotonic()
    with showing_progress(False if as_json else progress):
        _look_before(dataset, raw, lake, options)
        outcome = _unchanged(dataset, raw, lake, options) or _run_flow(dataset, raw, lake, options)
    outcome |= {"dataset": dataset, "lake": lake, "seconds": round(time.monotonic() - began, 1)}
    print(json.dumps(summary.release_json(outcome), sort_keys=True) if as_json else summary.release_text(outcome))


def _secrets(dataset: str) -> dict[str, SecretStr]:
    """Those of the environment; with a Prefect server at hand, those of its Secret blocks too."""
    from tasks.credentials import from_environment
    from tasks.datasets import find

    if os.environ.get("PREFECT_API_URL"):
        from flows.credentials import secrets_for

        return secrets_for(dataset)
    return from_environment(find(dataset))


def _wanted(dataset: str, raw: list[str], lake: str, options: dict[str, Any]) -> Request:
    from tasks.stages.plan import request

    return request(dataset, raw, lake, **{name: options[name] for name in SHAPING if name in options})


def _look_before(dataset: str, raw: list[str], lake: str, options: dict[str, Any]) -> None:
    """Say at once, not after Prefect has started, what cannot be: nothing to fetch from, a wrong password, no bokeh."""
    from tasks.clusters import insist_on_bokeh
    from tasks.credentials import from_environment
    from tasks.datasets import find
    from tasks.stages.fetch import insist_on_source
    from tasks.stages.index import gather
    from tasks.storage import insist_on_reachable, location

    wanted = _wanted(dataset, raw, lake, options)
    insist_on_reachable(location(lake))
    if options.get("performance_report"):
        insist_on_bokeh(options["workers"], options["dask"])
    if not raw:
        insist_on_source(dataset, files=options["files"])
        return
    lock = find(dataset).lock
    secrets = from_environment(find(dataset))
    if lock and lock.secret in secrets:  # a password in a Secret block only Prefect can read
        gather(wanted, secrets)


def _unchanged(dataset: str, raw: list[str], lake: str, options: dict[str, Any]) -> dict[str, Any] | None:
    """The published release that this request would make again; found without starting Prefect, in a second or two."""
    from tasks.credentials import names
    from tasks.datasets import find
    from tasks.lake import Lake
    from tasks.stages.fetch import nothing_new
    from tasks.stages.index import published_release

    if options.get("rehash") or not Lake(lake, dataset).latest.is_file():
        return None
    secrets = _secrets(dataset)
    fetched = None
    if not raw:
        if set(names(find(dataset))) - set(secrets):
            return None  # Secret blocks without a server at hand are read by the flow
        fetched = nothing_new(dataset, lake, secrets, source_url=options["source_url"], files=options["files"])
        if fetched is None:
            return None
    where = [fetched.folder] if fetched else raw
    wanted = _wanted(dataset, where, lake, options)
    release = published_release(wanted, secrets, allow_gate_failure=options.get("allow_gate_failure", False))
    return {"release": release, "is_new": False, "fetched": fetched and asdict(fetched)} if release else None


def _run_flow(dataset: str, raw: list[str], lake: str, options: dict[str, Any]) -> dict[str, Any]:
    with running_a_flow("prepare") as flow:
        return dict(flow(dataset=dataset, raw=raw or None, lake=lake, **options))


@app.command(
    epilog="Examples: `scanmill verify lake/nih-chest-xray` · `scanmill verify lake/nih-chest-xray --key alice.key.pub`"
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
        from tasks.lake import latest_release, locate
        from tasks.release.signature import public_key
        from tasks.release.verify import verify as verify_release

        lake, release = locate(reference)
        wanted = [public_key(key) for key in keys or ()]
        with showing_progress(False if as_json else progress):
            found = verify_release(lake, release or latest_release(lake), wanted)
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


@app.command(epilog="Example: `scanmill diff lake/nih-chest-xray@1a2b3c4d5e6f7a8b lake/nih-chest-xray`")
def diff(
    before: Reference,
    after: Reference,
    as_list: Annotated[bool, typer.Option("--list", help="One line per sample: kind, id, detail, with tabs.")] = False,
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


@app.command(epilog="Example: `scanmill report lake/nih-chest-xray --open`")
def report(
    reference: Reference,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
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
    from tasks.lake import latest_release, locate

    lake, release = locate(reference)
    release = release or latest_release(lake)
    pages = [folder / "quality" / "index.html" for folder in (lake.release(release), lake.refused(release))]
    page = next((page for page in pages if page.is_file()), None)
    if page is None:
        raise ScanmillError(f"{lake.home} has no report of release {release}; published: {', '.join(lake.published())}")
    return page


def _on_this_machine(page: Location) -> Path:
    """The page itself, or a copy of its folder from object storage, which a browser cannot read."""
    from tasks.storage import copy_down, is_remote

    if not is_remote(page):
        return page
    folder = Path(tempfile.mkdtemp(prefix="scanmill-report-"))
    copy_down(page.parent, folder)
    return folder / page.name


@app.command(epilog="Example: `scanmill deploy --by-event`, with PREFECT_API_URL, SCANMILL_LAKE and SCANMILL_RAW set")
def deploy(
    pool_type: Annotated[str, typer.Option(help="Type of work pools that are not there yet.")] = "process",
    by_event: Annotated[
        bool, typer.Option("--by-event", help="A published release starts training by itself, and that evaluation.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Set a Prefect server up: work pools, automations, and the deployments of prefect.yaml. Run it again at any time.

    The server is PREFECT_API_URL. SCANMILL_LAKE and SCANMILL_RAW say where lake and raw releases are.
    """
    with errors_as_exit_codes(as_json):
        from flows.deployment import deploy as make

        done: list[str] = []
        make(pool_type=pool_type, by_event=by_event, say=done.append if as_json else print)
        if as_json:
            print(json.dumps({"ok": True, "done": done}))


@app.command(epilog="Example: `scanmill demo --folder /tmp/demo`")
def demo(
    folder: Annotated[Path, typer.Option(help="Where raw release and lake are made.")] = Path("scanmill-demo"),
    images: Annotated[
        int, typer.Option(min=320, help="How many made-up X-rays; with fewer, one planted defect is over 1 %.")
    ] = 360,
    workers: Annotated[int | None, typer.Option(min=0, help="Worker processes [default: one per core].")] = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """A made-up NIH-shaped release with planted defects, from raw archives to report, in about a minute."""
    with errors_as_exit_codes(as_json):
        from flows.demo import make_raw

        raw = make_raw(folder / "raw", images)
        if not as_json:
            print(f"made {raw}: {images} drawn X-rays in zips, with defects planted; no patient is in it\n")
        _prepare("nih-chest-xray", [str(raw)], str(folder / "lake"), {"workers": workers}, as_json, progress)
