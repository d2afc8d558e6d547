"""The ``scanmill`` command: the same flows without a deployment. Only this and its neighbours print and exit."""

from __future__ import annotations

import json
import logging
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import SecretStr

from flows import (
    cli_doctor,
    cli_learning,
    cli_new_dataset,
    cli_quarantine,
    cli_release,
    cli_signing,
    cli_trace,
    summary,
)
from flows.command_line import (
    MILL,
    SET_UP,
    AsJson,
    LakeFolder,
    ShowProgress,
    errors_as_exit_codes,
    examples,
    importing,
    running_a_flow,
)
from flows.console import showing_progress
from tasks.schema import STORES, ScanmillError

if TYPE_CHECKING:
    from tasks.stages.plan import Request

# Before Prefect is imported: its own log lines and telemetry are not what a user of the command wants to see.
os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
os.environ.setdefault("DO_NOT_TRACK", "1")
# Prefect's own 20 are few on a busy machine.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")

app = typer.Typer(
    name="scanmill",
    help="Scans in, trustworthy shards out: raw medical-imaging releases to validated, training-ready stores.",
    epilog="New here? `scanmill doctor` says what is missing, `scanmill demo` makes a release and its report in a "
    "minute; then `scanmill datasets`, and `scanmill prepare DATASET --lake LAKE`. "
    "Exit codes: 0 done; 1 the data or a gate said no; 2 wrong use or unusable input.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _dataset_names(incomplete: str) -> list[str]:
    """For a shell that completes."""
    from tasks.datasets import catalogue

    return [name for name in catalogue() if name.startswith(incomplete)]


Name = Annotated[
    str,
    typer.Argument(
        metavar="DATASET", help="A dataset of the catalogue; see `scanmill datasets`.", autocompletion=_dataset_names
    ),
]
IN, OUT, GATES, WHERE = "What comes in", "What comes out", "Gates", "Where it runs"
"""Parts of the help page of ``prepare``."""
RAW_HELP = "Folder, zip or tar.gz of the raw release, or s3://bucket/prefix of one; read in place. Repeat for several."
Raw = Annotated[list[str], typer.Option("--raw", metavar="PLACE", help=RAW_HELP)]
RawOrFetched = Annotated[
    list[str] | None,
    typer.Option(
        "--raw",
        metavar="PLACE",
        rich_help_panel=IN,
        help=f"{RAW_HELP} [default: fetch it from where it is published]",
    ),
]
SourceUrl = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="SCANMILL_SOURCE_URL",
        rich_help_panel=IN,
        help="A mirror to fetch from, instead of the publisher's host.",
    ),
]
FileList = Annotated[
    str | None,
    typer.Option(
        "--files",
        metavar="FILE",
        rich_help_panel=IN,
        help="Fetch these https addresses: one per line, URL or SHA256 URL.",
    ),
]
LabelTable = Annotated[
    str | None,
    typer.Option(
        "--table",
        metavar="TABLE",
        rich_help_panel=IN,
        help="Label table to use where several are there: a form, or a file name.",
    ),
]
SplitFile = Annotated[
    str | None,
    typer.Option(
        "--splits",
        metavar="FILE",
        rich_help_panel=IN,
        help="CSV or Parquet of your own splits: split, and sample_id, image or patient_id.",
    ),
]
AllowMissing = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        metavar="SHARE",
        rich_help_panel=GATES,
        help="Share of metadata rows that may lack their image [default: 0.01].",
    ),
]
LEAST_SIZE = 16
"""Pixels of the longer side, below which no picture is one."""
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


for part in (cli_new_dataset, cli_release, cli_quarantine, cli_trace, cli_signing, cli_learning, cli_doctor):
    app.add_typer(part.app)


@app.callback()
def scanmill(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    """Options that stand before a command."""


@app.command(
    rich_help_panel=MILL,
    epilog=examples(
        "`scanmill datasets`",
        "`scanmill datasets nih-chest-xray`",
        "`scanmill datasets --json`",
    ),
)
def datasets(
    dataset: Annotated[str | None, typer.Argument(metavar="DATASET", help="What is checked of this one.")] = None,
    as_json: AsJson = False,
) -> None:
    """The catalogue: samples, size, licence, where to get it. With a name: all that is checked of it, and known."""
    from tasks.datasets import catalogue, file_of, find, own_source
    from tasks.drafts.gaps import gaps

    with errors_as_exit_codes(as_json):
        if dataset is None:
            print(summary.catalogue_json(catalogue()) if as_json else summary.catalogue_text(catalogue()))
            return
        from flows.checks_text import checks_of, checks_text

        declared = find(dataset)
        missing = gaps(declared, file_of(dataset)) if own_source(dataset) else []  # a declaration of the user's own
        if as_json:
            print(json.dumps({"ok": True, "checks": checks_of(declared), "missing": missing}))
        else:
            print("\n".join([checks_text(declared), *(["", "not said yet:", *missing] if missing else [])]))


@app.command(
    rich_help_panel=MILL,
    epilog=examples(
        "`scanmill check nih-chest-xray --raw /data/nih`",
    ),
)
def check(
    dataset: Name,
    raw: Raw,
    table: LabelTable = None,
    splits: SplitFile = None,
    allow_missing: AllowMissing = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """Index, parse and the metadata gate only: is this raw release sound? Decodes no image, writes nothing."""
    with errors_as_exit_codes(as_json):
        with importing():
            from expectations.gates import judge
            from tasks.stages.metadata import check_metadata
            from tasks.stages.plan import request

        wanted = request(dataset, raw, "", table=table, splits=splits, allow_missing=allow_missing)
        with showing_progress(progress, as_json):
            counts, verdict = check_metadata(wanted, judge)
        if as_json:
            print(json.dumps({"ok": verdict.passed, **counts, "verdict": verdict.as_json()}, sort_keys=True))
        else:
            print(summary.check_text(counts, verdict))
        if not verdict.passed:
            raise typer.Exit(1)


@app.command(
    rich_help_panel=MILL,
    epilog=examples(
        "`scanmill fetch behsof --lake /data/lake`",
        "`SCANMILL_PHYSIONET_USERNAME=me SCANMILL_PHYSIONET_PASSWORD=… scanmill fetch chexchonet --lake /data/lake`",
    ),
)
def fetch(
    dataset: Name,
    lake: LakeFolder,
    source_url: SourceUrl = None,
    files: FileList = None,
    rehash: Annotated[
        bool, typer.Option("--rehash", metavar="", help="Read all that is here, and fetch anew what is damaged.")
    ] = False,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """Only the first step of prepare: bring the raw release from its publisher into the lake, or what is new of it.

    Stopped or cut off, the same command goes on where it was. Nothing new costs one request.
    """
    with errors_as_exit_codes(as_json):
        from tasks.files import complaining_of_space
        from tasks.lake import insist_on_lake
        from tasks.stages.fetch import fetch as bring
        from tasks.storage import location

        secrets = _secrets(dataset)
        insist_on_lake(lake)
        with showing_progress(progress, as_json), complaining_of_space(location(lake)):
            fetched = bring(dataset, lake, secrets, source_url=source_url, files=files, rehash=rehash)
        print(json.dumps({"ok": True, **asdict(fetched)}) if as_json else summary.fetched_text(fetched, dataset))


@app.command(
    rich_help_panel=MILL,
    epilog=examples(
        "`scanmill prepare nih-chest-xray --raw /data/nih --lake /data/lake`",
        "`scanmill prepare behsof --lake lake` (fetched from figshare)",
        "`scanmill prepare mammography-density --raw mammography_images.zip --lake lake --encoding jpeg --workers 2`",
    ),
)
def prepare(
    dataset: Name,
    lake: LakeFolder,
    raw: RawOrFetched = None,
    source_url: SourceUrl = None,
    files: FileList = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            "--size",
            metavar="PIXELS",
            rich_help_panel=OUT,
            help="Longer side, from 16 on, or native: the published files as they are [default: the dataset's own].",
        ),
    ] = None,
    encoding: Annotated[
        str, typer.Option(metavar="FORMAT", rich_help_panel=OUT, help="png (lossless) or jpeg.")
    ] = "png",
    quality: Annotated[
        int, typer.Option(min=1, max=100, metavar="N", rich_help_panel=OUT, help="JPEG quality, 1 to 100.")
    ] = 95,
    decode_check: Annotated[
        str,
        typer.Option(
            metavar="full|off",
            rich_help_panel=OUT,
            help="off with --size native: files are passed on undecoded, and all that takes pixels (damage, "
            "blank frames, near-duplicates, burned-in text, …) is not checked.",
        ),
    ] = "full",
    stores: Annotated[
        str, typer.Option(metavar="STORES", rich_help_panel=OUT, help="webdataset, parquet, or both with a comma.")
    ] = ",".join(STORES),
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            rich_help_panel=WHERE,
            help="Worker processes; 0: none, in this process [default: one per core].",
        ),
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            rich_help_panel=WHERE,
            help="A Dask scheduler of yours, such as tcp://host:8786 [default: that of SCANMILL_DASK].",
        ),
    ] = None,
    performance_report: Annotated[
        bool,
        typer.Option(
            "--performance-report",
            metavar="",
            rich_help_panel=WHERE,
            help="Keep Dask's performance reports as quality/dask-*.html. Needs bokeh; the pages load it from a CDN.",
        ),
    ] = False,
    table: LabelTable = None,
    splits: SplitFile = None,
    allow_missing: AllowMissing = None,
    allow_gate_failure: Annotated[
        bool,
        typer.Option(
            "--allow-gate-failure",
            metavar="",
            rich_help_panel=GATES,
            help="Publish although a gate failed; the report says so.",
        ),
    ] = False,
    rehash: Annotated[
        bool,
        typer.Option(
            "--rehash",
            metavar="",
            rich_help_panel=IN,
            help="Hash raw files anew instead of trusting size and time stamp.",
        ),
    ] = False,
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
    if int(text) < LEAST_SIZE:
        raise ScanmillError(f"--size {text} is too small to show anything: give {LEAST_SIZE} or more, such as 224")
    return int(text)


def _one_of(value: str, known: tuple[str, ...], option: str) -> str:
    if value not in known:
        raise ScanmillError(f"{option} {value!r} is not known; choose from {', '.join(known)}")
    return value


def _prepare(
    dataset: str, raw: list[str], lake: str, options: dict[str, Any], as_json: bool, progress: bool | None
) -> None:
    began = time.monotonic()
    with showing_progress(progress, as_json):
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
    from tasks.lake import insist_on_lake
    from tasks.stages.fetch import insist_on_source
    from tasks.stages.index import gather

    wanted = _wanted(dataset, raw, lake, options)
    insist_on_lake(lake)
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
    rich_help_panel=SET_UP,
    epilog=examples(
        "`scanmill deploy --by-event`, with PREFECT_API_URL, SCANMILL_LAKE and SCANMILL_RAW set",
    ),
)
def deploy(
    pool_type: Annotated[
        str, typer.Option(metavar="TYPE", help="Type of work pools that are not there yet.")
    ] = "process",
    by_event: Annotated[
        bool,
        typer.Option(
            "--by-event", metavar="", help="A published release starts training by itself, and that evaluation."
        ),
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


@app.command(
    rich_help_panel=SET_UP,
    epilog=examples(
        "`scanmill demo --folder /tmp/demo`",
        "`scanmill demo --films 2000 --workers 4`",
    ),
)
def demo(
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Where raw release and lake are made.")] = Path(
        "scanmill-demo"
    ),
    films: Annotated[
        int,
        typer.Option(min=320, metavar="N", help="How many made-up X-rays; with fewer, one planted defect is over 1 %."),
    ] = 360,
    workers: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Worker processes; 0: none, in this process [default: one per core]."),
    ] = None,
    as_json: AsJson = False,
    progress: ShowProgress = None,
) -> None:
    """A made-up NIH-shaped release with planted defects, from raw archives to report, in about a minute."""
    with errors_as_exit_codes(as_json):
        from flows.demo import make_raw

        raw = make_raw(folder / "raw", films)
        if not as_json:
            print(f"made {raw}: {films} drawn X-rays in zips, with defects planted; no patient is in it\n")
        lake = folder / "lake"
        _prepare("nih-chest-xray", [str(raw)], str(lake), {"workers": workers}, as_json, progress)
        if not as_json:
            print(
                f"\nnext:    scanmill report {lake}/nih-chest-xray --open\n"
                f"         scanmill quarantine {lake}/nih-chest-xray --extract {folder}/refused\n"
                f"         scanmill datasets"
            )
