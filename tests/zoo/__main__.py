"""``python -m tests.zoo``: every animal put before ``scanmill prepare``; a table, bench-results/zoo.json, and exit 1
where anything is not as it was written down.

What lives in one release is prepared by one command, as a process of its own. What a release is refused for has a
child of this process each, that has imported everything already: its memory is its own all the same.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.command import COMMAND, ROOT, environment
from tests.zoo import dicoms, documents, keeper, loners, residents
from tests.zoo.animals import Loner, Resident
from tests.zoo.keeper import Seen

BOUND_MIB = 1024
"""Peak resident memory of the command, whatever it is given: the largest picture that is allowed takes 126 MiB."""
RESULTS = ROOT / "bench-results" / "zoo.json"
NIH = "nih-chest-xray"


class Cage:
    """A folder in which everything but the lake must stay as it is: the raw release, and files all around."""

    def __init__(self, folder: Path) -> None:
        """Empty but for files that a path upwards would meet."""
        self.folder, self.raw, self.lake = folder, folder / "in" / "raw", folder / "in" / "lake"
        for place in (folder, folder / "in"):
            place.mkdir(parents=True, exist_ok=True)
            (place / "sentinel.txt").write_text("nobody writes here")

    def outside(self) -> dict[str, str]:
        """All of it but the lake."""
        return {path: what for path, what in keeper.listing(self.folder).items() if not path.startswith("in/lake")}


def main() -> int:
    """Shows the zoo; 1 where anything differs."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo", description=__doc__)
    parser.add_argument("--no-giants", action="store_true", help="leave out the largest pictures, which take a minute")
    parser.add_argument("--keep", type=Path, help="folder for releases and lakes; default: a temporary one, removed")
    chosen = parser.parse_args()
    elsewhere = tempfile.gettempdir()
    os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="scanmill-zoo-tmp-")  # what is left in it shows as well
    tempfile.tempdir = None
    with contextlib.ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="scanmill-zoo-", dir=elsewhere)
        folder = chosen.keep or Path(stack.enter_context(made))
        seen = [
            *_films(folder / "films"),
            *([] if chosen.no_giants else _giants(folder / "giants")),
            *_documents(folder / "documents"),
            *_dicoms(folder / "dicoms"),
            *_loners(folder / "loners"),
        ]
    shutil.rmtree(os.environ["TMPDIR"])
    return _show(seen)


def _films(folder: Path) -> Iterator[Seen]:
    yield from _group(folder, "films", residents.RESIDENTS)


def _giants(folder: Path) -> Iterator[Seen]:
    yield from _group(folder, "giants", residents.GIANTS)


def _group(folder: Path, name: str, animals: list[Resident]) -> Iterator[Seen]:
    """Animals of one release, and what is to be said of the whole."""
    cage = Cage(folder)
    places = residents.write(cage.raw, animals)
    yield from _prepared(cage, name, NIH, lambda release: keeper.residents(release, places, animals))


def _documents(folder: Path) -> Iterator[Seen]:
    cage = Cage(folder)
    documents.write(cage.raw)
    yield from _prepared(cage, "documents", documents.DATASET, keeper.documents)


def _dicoms(folder: Path) -> Iterator[Seen]:
    os.environ["SCANMILL_DATASETS"] = str(dicoms.DATASETS)
    cage = Cage(folder)
    dicoms.write(cage.raw)
    yield from _prepared(cage, "dicoms", dicoms.DATASET, keeper.dicoms)
    del os.environ["SCANMILL_DATASETS"]


def _prepared(cage: Cage, run: str, dataset: str, judge: Callable[[Path], Iterator[Seen]]) -> Iterator[Seen]:
    before = cage.outside()
    home = cage.folder.parent / f"{run}-home"
    words = [dataset, "--raw", cage.raw, "--lake", cage.lake, "--workers", "0", "--allow-gate-failure"]
    code, text, seconds, peak = _command(["prepare", *map(str, words)], home)
    is_done = code == 0 and "Traceback" not in text
    yield Seen(f"{run}: the run", "exit code, no traceback", "exit 0", f"exit {code}", is_done, run, seconds, peak)
    if not is_done:
        sys.stderr.write(text)
        return
    release = keeper.release_in(cage.lake, dataset)
    yield from (replace(one, run=run) for one in judge(release))
    for name, expected, found in (
        ("what lies outside the lake", "as before", keeper.changed(before, cage.outside())),
        ("the accounting", "adds up", keeper.accounts(release)),
        ("pages, cards and Prefect's artifacts", "nothing that runs", keeper.pages_that_run(release, _artifacts(home))),
    ):
        yield Seen(f"{run}: {name}", "", expected, str(found) if found else expected, not found, run)
    code, listed, _, _ = _command(["quarantine", str(cage.lake / dataset), "--rows"], home)
    found = sorted(set(map(ascii, keeper.CONTROL.findall(listed))))
    is_right = code == 0 and not found
    yield Seen(
        f"{run}: `quarantine --rows`", "", "no control characters", str(found or "no control characters"), is_right, run
    )


def _command(arguments: list[str], home: Path) -> tuple[int, str, float, float]:
    """Exit code, all that was said, seconds and peak MiB of ``scanmill`` as a process of its own."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            env={**environment(home), "PREFECT_LOGGING_LEVEL": "CRITICAL"},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode("utf-8", "replace")
    return process.returncode, text, time.monotonic() - began, used.ru_maxrss / 1024


def _artifacts(home: Path) -> Mapping[str, str]:
    """What the run has shown in Prefect, which renders Markdown."""
    with contextlib.closing(sqlite3.connect(home / "prefect.db")) as database:
        rows = database.execute("select key, description, data from artifact where key is not null").fetchall()
    return {f"artifact {key}": f"{description}\n{data}" for key, description, data in rows}


def _loners(folder: Path) -> Iterator[Seen]:
    for animal in loners.LONERS:
        cage = Cage(folder / animal.name.replace(" ", "-"))
        animal.write(cage.raw)
        before = cage.outside()
        began = time.monotonic()
        text, code, peak = _in_a_child(animal, cage)
        seconds = time.monotonic() - began
        seen = keeper.said(text, code, animal.expected)
        if escaped := keeper.changed(before, cage.outside()):
            seen += f"; outside the lake: {escaped}"
        if left := [path for path in cage.lake.rglob("releases/*") if not path.name.startswith(".")]:
            seen += f"; in the lake: {left}"
        is_right = seen == str(animal.expected)
        yield Seen(animal.name, animal.what, str(animal.expected), seen, is_right, "alone", seconds, peak)


def _in_a_child(animal: Loner, cage: Cage) -> tuple[str, int, float]:
    """What is said, the exit code, and peak MiB.

    The command without Prefect around it: a server would take four seconds for each.
    """
    import flows.cli  # noqa: F401
    from tasks.stages import index, metadata  # noqa: F401

    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            os.environ.update(animal.environment)
            os._exit(_prepare(animal, cage))
        _, status, used = os.wait4(child, 0)
        said.seek(0)
        return said.read().decode("utf-8", "replace"), os.waitstatus_to_exitcode(status), used.ru_maxrss / 1024


def _prepare(animal: Loner, cage: Cage) -> int:
    import traceback

    import typer

    from flows.command_line import errors_as_exit_codes

    try:
        with errors_as_exit_codes(as_json=False):
            refuse(animal.dataset, cage.raw, cage.lake)
    except typer.Exit as end:
        sys.stderr.flush()
        return int(end.exit_code)
    except SystemExit as end:
        sys.stderr.flush()
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def refuse(dataset: str, raw: Path, lake: Path) -> None:
    """The stages of ``prepare`` that meet foreign bytes before the first image is read."""
    from tasks import credentials
    from tasks.datasets import find
    from tasks.stages.index import gather, index
    from tasks.stages.metadata import parse
    from tasks.stages.plan import request

    wanted = request(dataset, [str(raw)], str(lake))
    parse(index(wanted, gather(wanted, credentials.from_environment(find(dataset)))))


def _show(seen: list[Seen]) -> int:
    table = Table("animal", "expected", "seen", "s", "MiB", title=f"{len(seen)} outcomes")
    for one in seen:
        is_small = one.peak_mib is None or one.peak_mib < BOUND_MIB
        told = [one.seen if not one.is_right else "as expected", _number(one.seconds), _number(one.peak_mib)]
        table.add_row(one.name, one.expected, *told, style="" if one.is_right and is_small else "bold red")
    Console(width=150).print(table, markup=False)
    RESULTS.parent.mkdir(exist_ok=True)
    record = {"bound_mib": BOUND_MIB, "outcomes": [asdict(one) for one in seen]}
    RESULTS.write_text(json.dumps(record, indent=1, ensure_ascii=True) + "\n")
    wrong = [one for one in seen if not one.is_right or (one.peak_mib or 0) >= BOUND_MIB]
    peak = max(one.peak_mib or 0 for one in seen)
    summary = f"{len(seen)} outcomes, {len(wrong)} not as expected; peak {peak:.0f} MiB (bound {BOUND_MIB}); {RESULTS}"
    sys.stdout.write(f"{summary}\n")
    return 1 if wrong else 0


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
