"""``scanmill doctor``: what this machine has for a run, and what it lacks, before a run finds out."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.command_line import SET_UP, AsJson, errors_as_exit_codes, examples
from tasks.schema import ScanmillError

app = typer.Typer()

Status = Literal["ok", "note", "wrong"]

WORKER_MIB = 600
"""Most that one Dask worker takes (docs/development.md), and the driver up to ten thousand images."""
LEAST_FREE_MIB = 1024
PACKAGES = (
    "scanmill",
    "prefect",
    "dask",
    "great-expectations",
    "pyarrow",
    "pandas",
    "pillow",
    "opencv-python-headless",
)
EXTRAS = (
    (
        "learn",
        "torch",
        "networks",
        "make radiomics, or pip install -c constraints.txt 'scanmill[learn]'",
    ),
    ("radiomics", "radiomics", "features of vertebrae and their like", "make radiomics"),
    ("dicom", "pydicom", "raw releases of DICOM files", "pip install -c constraints.txt 'scanmill[dicom]'"),
    ("s3", "s3fs", "lakes and raw releases on S3", "pip install -c constraints.txt 'scanmill[s3]'"),
)
"""Name, module, what it is for, how to get it."""
ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class Finding:
    """One line of the answer."""

    what: str
    status: Status
    """``wrong``: a run would fail; ``note``: something is not there that not every run needs."""
    seen: str
    remedy: str = ""


@app.command(
    rich_help_panel=SET_UP,
    epilog=examples(
        "`scanmill doctor`",
        "`scanmill doctor --lake /data/lake --dask tcp://host:8786 --json`",
    ),
)
def doctor(
    lake: Annotated[
        str | None, typer.Option(metavar="PLACE", envvar="SCANMILL_LAKE", help="Look at this lake's disk, too.")
    ] = None,
    dask: Annotated[
        str | None, typer.Option(metavar="ADDRESS", envvar="SCANMILL_DASK", help="Scheduler, such as tcp://host:8786.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What is installed, how large the machine is, whether Prefect and Dask answer. Exit code 1 if a run would fail."""
    with errors_as_exit_codes(as_json):
        found = list(examine(lake, dask))
        is_well = all(finding.status != "wrong" for finding in found)
        typer.echo(json.dumps({"ok": is_well, "found": [asdict(one) for one in found]}) if as_json else _as_text(found))
        if not is_well:
            raise typer.Exit(1)


def examine(lake: str | None, dask: str | None) -> Iterator[Finding]:
    """Everything, in the order in which a run needs it."""
    yield _python()
    yield _packages()
    yield from _machine()
    yield _folder("scratch", Path(os.environ.get("SCANMILL_SCRATCH") or tempfile.gettempdir()))
    if lake is not None:
        yield _lake(lake)
    yield _prefect()
    yield _dask(dask)
    yield from (_extra(*extra) for extra in EXTRAS)
    yield _gpu()
    yield _weights()
    yield from _secrets()


def _python() -> Finding:
    seen = f"{sys.version.split()[0]} at {sys.executable}"
    return Finding("Python", "ok" if sys.version_info >= (3, 11) else "wrong", seen, "scanmill needs 3.11 or newer")


def _packages() -> Finding:
    versions = {name: _version(name) for name in PACKAGES}
    seen = ", ".join(f"{name} {version or 'missing'}" for name, version in versions.items())
    return Finding(
        "packages", "ok" if all(versions.values()) else "wrong", seen, "pip install -c constraints.txt scanmill"
    )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _machine() -> Iterator[Finding]:
    import psutil

    cores = os.cpu_count() or 1
    yield Finding("cores", "ok", f"{cores}: as many Dask workers, unless --workers says otherwise")
    free = psutil.virtual_memory().available // 2**20
    needed = (cores + 1) * WORKER_MIB
    remedy = f"{cores} workers and the driver may take {needed:,} MiB: give fewer --workers"
    yield Finding("memory", "ok" if free >= needed else "note", f"{free:,} MiB free", remedy)


def _lake(lake: str) -> Finding:
    from tasks.storage import insist_on_reachable, is_remote, location

    place = location(lake)
    if not is_remote(place):
        return _folder("lake", place)
    try:
        insist_on_reachable(place)
    except ScanmillError as error:
        return Finding("lake", "wrong", str(error), "see docs/object-storage.md")
    return Finding("lake", "ok", f"{lake} answers")


def _folder(what: str, folder: Path) -> Finding:
    """Whether files can be written where the folder is or would be made, and how much room there is."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.is_dir())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        return Finding(what, "wrong", f"{there}: {error.strerror}", "let this user write there, or name another place")
    free = shutil.disk_usage(there).free // 2**20
    seen = f"{folder}: {free:,} MiB free{'' if there == folder else ' (it will be made)'}"
    return Finding(what, "ok" if free >= LEAST_FREE_MIB else "note", seen, "a release is about as large as its images")


def _prefect() -> Finding:
    import httpx

    api = os.environ.get("PREFECT_API_URL")
    if not api:
        return Finding("Prefect", "ok", "every command starts a server of its own (PREFECT_API_URL is not set)")
    try:
        answer = httpx.get(f"{api}/health", timeout=ANSWER_SECONDS)
        is_there = answer.is_success
        seen = f"{api} answers" if is_there else f"{api} answers {answer.status_code}"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        is_there, seen = False, f"{api}: {error}"
    return Finding("Prefect", "ok" if is_there else "wrong", seen, "prefect server start, or unset PREFECT_API_URL")


def _dask(address: str | None) -> Finding:
    if address is None:
        return Finding("Dask", "ok", "every command starts workers of its own (no --dask, no SCANMILL_DASK)")
    from tasks.clusters import connected

    try:
        with connected(address) as client:
            workers = len(client.scheduler_info(n_workers=-1)["workers"])
    except ScanmillError as error:
        return Finding("Dask", "wrong", str(error), "dask scheduler; dask worker ADDRESS, with this scanmill installed")
    status: Status = "ok" if workers else "note"
    return Finding(
        "Dask", status, f"{address} answers, {workers} worker{'' if workers == 1 else 's'}", f"dask worker {address}"
    )


def _extra(name: str, module: str, purpose: str, remedy: str) -> Finding:
    is_there = importlib.util.find_spec(module) is not None
    seen = f"{'installed' if is_there else 'not installed'}, for {purpose}"
    return Finding(f"[{name}]", "ok" if is_there else "note", seen, remedy)


def _gpu() -> Finding:
    remedy = "only training is faster with one"
    try:
        from tasks.learning.devices import gpu_name
    except ImportError:
        return Finding("GPU", "note", "not looked for: torch is not installed", remedy)
    name = gpu_name()
    return Finding("GPU", "ok" if name else "note", name or "none that torch can use", remedy)


def _weights() -> Finding:
    """Files of initial weights where torchvision and others put them; recipes may name others."""
    home = Path(os.environ.get("TORCH_HOME") or Path.home() / ".cache" / "torch") / "hub" / "checkpoints"
    names = sorted(file.name for file in home.glob("*.pth"))
    remedy = "nothing is downloaded: without a file of yours in the recipe training is from scratch (docs/training.md)"
    return Finding("weights", "ok" if names else "note", f"{home}: {', '.join(names) or 'none'}", remedy)


def _secrets() -> Iterator[Finding]:
    """Whether they are set, and nothing of what they are."""
    from tasks.credentials import block, names, variable
    from tasks.datasets import catalogue

    users: dict[str, list[str]] = {}
    for dataset, found in catalogue().items():
        for name in names(found):
            users.setdefault(name, []).append(dataset)
    for name, datasets in users.items():
        is_set = bool(os.environ.get(variable(name)))
        seen = f"{'set' if is_set else 'not set'}: of {', '.join(datasets)}"
        yield Finding(variable(name), "ok" if is_set else "note", seen, f"or the Prefect Secret block {block(name)}")


def _as_text(found: Sequence[Finding]) -> str:
    width = max(len(finding.what) for finding in found)
    paint: dict[Status, Callable[[str], str]] = {
        "ok": lambda text: typer.style(text, fg="green"),
        "note": lambda text: typer.style(text, fg="yellow"),
        "wrong": lambda text: typer.style(text, fg="red", bold=True),
    }
    lines = []
    for one in found:
        lines.append(f"{paint[one.status](one.status.ljust(5))}  {one.what.ljust(width)}  {one.seen}")
        if one.status != "ok":
            lines.append(f"       {' ' * width}  → {one.remedy}")
    return "\n".join(lines)
