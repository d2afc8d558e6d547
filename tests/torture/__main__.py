"""Break runs on purpose, again and again, and see that nothing is lost.

    make torture                                                      every fault, and a hundred kills
    python -m tests.torture --faults "SIGTERM,power cut" --rounds 9    nine rounds of each
    python -m tests.torture --scenes prepare --faults "disk full" --rounds 1 --seed 17 --at 409     one round once more

A round runs a command in an empty lake and breaks it at one change of the lake (an open, a write, a sync, a rename…),
which the seed chooses among all that the undisturbed run makes. Then: what is visible must be whole, the same command
must come to its end, and its release must be that of the undisturbed run, byte for byte. Exit code 1 when a promise was
broken.
"""

from __future__ import annotations

import argparse
import errno
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.torture.faults import FAULTS, KILLS, compiled
from tests.torture.rounds import Bench, Round
from tests.torture.setting import SCENES, setting
from tests.torture.small_disk import can_mount

ROUNDS = 5
"""Of each fault, unless told."""
KILLINGS = 100
"""Of ``kill -9`` in all where nothing else is told."""


def main() -> int:
    """Run all rounds, print the table, write the JSON."""
    arguments = _parser().parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    rounds: list[Round] = []
    try:
        with setting(folder.resolve()) as around:
            library = compiled(folder.resolve())
            for name in arguments.scenes:
                bench = around.bench(name, library, arguments.workers, is_warm=arguments.warm)
                made = f"{bench.calls:,} changes, {bench.calls_of_workers:,} of them by workers"
                console.print(f"{name}: {made}, in {bench.seconds:.0f} s, undisturbed")
                for one in _all_rounds(bench, arguments, console):
                    rounds.append(one)
                    arguments.out.write_text(json.dumps([one.as_json() for one in rounds], indent=1) + "\n")
    finally:
        if not arguments.keep and not any(one.problems for one in rounds):
            shutil.rmtree(folder, ignore_errors=True)
    console.print(table(rounds))
    if disks := [one for one in rounds if FAULTS[one.fault].kind == str(-errno.ENOSPC) or one.disk_bytes]:
        console.print(table_of_states(disks))
    console.print(*summary_of_kills(rounds), sep="\n")
    broken = [one for one in rounds if one.problems]
    if broken:
        console.print(f"{len(broken)} rounds broke a promise; what they left is in {folder}")
    console.print(f"written: {arguments.out}")
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=_names(SCENES), default=tuple(SCENES), help=f"of {', '.join(SCENES)}")
    parser.add_argument("--faults", type=_names(FAULTS), default=tuple(FAULTS), help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--rounds", type=int, help=f"of each fault [{ROUNDS}, of kills see --kills]")
    parser.add_argument("--kills", type=int, help=f"rounds of kill -9 in all, of all scenes and processes [{KILLINGS}]")
    parser.add_argument("--at", type=int, help="number of the change at which it happens, instead of the seed's")
    parser.add_argument("--disk-bytes", type=int, help="of a small disk, instead of the seed's")
    parser.add_argument("--seed", type=int, default=0, help="of the first round; each next one has one more [0]")
    parser.add_argument("--workers", type=int, default=2, help="local Dask workers of the broken run [2]")
    parser.add_argument("--warm", action="store_true", help="fork the broken runs from a process that has imported all")
    parser.add_argument("--keep", type=Path, help="a folder to work in, which stays")
    parser.add_argument("--out", type=Path, default=Path("bench-results/torture.json"))
    return parser


def _names(known: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    def parse(text: str) -> tuple[str, ...]:
        names = tuple(part.strip() for part in text.split(","))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(known)}")
        return names

    return parse


def _all_rounds(bench: Bench, arguments: argparse.Namespace, console: Console) -> Iterator[Round]:
    """A line for each, with what repeats it."""
    wanted = [
        (fault, seed)
        for fault in arguments.faults
        if bench.can_have(fault) and (not FAULTS[fault].has_small_disk or can_mount())
        for seed in range(arguments.seed, arguments.seed + rounds_of(fault, arguments))
    ]
    total, began = len(wanted), time.monotonic()
    for number, (fault, seed) in enumerate(wanted, start=1):
        one = bench.run(fault, seed, arguments.at, arguments.disk_bytes)
        left = (time.monotonic() - began) / number * (total - number)
        verdict = "[red]BROKEN[/red]" if one.problems else "same"
        reused = "" if one.reused is None else f", {one.reused:.0%} reused"
        where = f"on {one.disk_bytes:,} bytes" if one.disk_bytes else f"at change {one.at:,}"
        what = f"{fault} {where} (--seed {seed}): exit {one.code}, {verdict}{reused}"
        console.print(f"{number}/{total} · {what} · {one.seconds:.0f} s · {left:.0f} s left", highlight=False)
        for problem in one.problems:
            console.print(f"    {problem}", markup=False, highlight=False)
        if one.problems:
            console.print(f"    once more: {one.command}", markup=False, highlight=False)
        yield one


def rounds_of(fault: str, arguments: argparse.Namespace) -> int:
    """How many; of kills as many as make the number that is wanted in all."""
    if fault not in KILLS or (arguments.kills is None and arguments.rounds is not None):
        return int(ROUNDS if arguments.rounds is None else arguments.rounds)
    others = len(arguments.scenes) * sum(name in KILLS for name in arguments.faults)
    return -(-int(arguments.kills or KILLINGS) // others)


def summary_of_kills(rounds: Sequence[Round]) -> list[str]:
    """How many ended in the same release, and how much of the work of those that were cut short was not done again."""
    kills = [one for one in rounds if one.fault in KILLS]
    cut = [one.reused for one in kills if one.code != 0 and one.reused is not None]
    if not cut:
        return []
    same = sum(not one.problems for one in kills)
    share = f"median {statistics.median(cut):.0%}, least {min(cut):.0%}, most {max(cut):.0%}"
    return [
        f"kill -9: {len(kills)} rounds, {same} of them with the same result; {len(kills) - len(cut)} came to their "
        f"end although a worker was killed; of the work of the other {len(cut)} was reused: {share}"
    ]


def table_of_states(rounds: Sequence[Round]) -> Table:
    """What each full disk has left, and what was said."""
    drawn = Table(title="Full disks")
    columns = list(dict.fromkeys(name for one in rounds for name in one.state))
    for name in ("command", "fault", "at", "exit", *columns, "says"):
        drawn.add_column(name)
    for one in rounds:
        where = f"{one.disk_bytes / 1000:,.0f} kB" if one.disk_bytes else f"change {one.at:,}"
        numbers = [str(one.state.get(name, "")) for name in columns]
        drawn.add_row(one.scene, one.fault, where, str(one.code), *numbers, one.said)
    return drawn


def table(rounds: Sequence[Round]) -> Table:
    """One line per scene and fault."""
    drawn = Table(title="Runs that were broken on purpose, and the same command once more")
    for name in ("command", "fault", "rounds", "hit", "exit codes", "same release", "broken", "reused", "says"):
        drawn.add_column(name, justify="left" if name in ("command", "fault", "says") else "right")
    for scene, fault in dict.fromkeys((one.scene, one.fault) for one in rounds):
        some = [one for one in rounds if (one.scene, one.fault) == (scene, fault)]
        reused = [one.reused for one in some if one.reused is not None]
        codes = {code: sum(one.code == code for one in some) for code in sorted({one.code for one in some})}
        words = next((one.said for one in some if one.code not in (0, -9)), "")
        drawn.add_row(
            scene,
            fault,
            str(len(some)),
            str(sum(one.has_fired for one in some)),
            " ".join(f"{code}×{count}" for code, count in codes.items()),
            str(sum(not one.problems for one in some)),
            str(sum(bool(one.problems) for one in some)),
            f"{sum(reused) / len(reused):.0%}" if reused else "",
            words[:90],
        )
    return drawn


if __name__ == "__main__":
    sys.exit(main())
