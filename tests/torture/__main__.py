"""Break runs on purpose, again and again, and see that nothing is lost.

    make torture                                                      every fault, and a hundred kills
    python -m tests.torture --faults kill,"power cut" --rounds 20     twenty rounds of each
    python -m tests.torture --scenes prepare --faults kill --seed 17 --rounds 1 --keep /tmp/seen     one round once more

A round runs a command in an empty lake and breaks it at one change of the lake (an open, a write, a sync, a rename…),
which the seed chooses among all that the undisturbed run makes. Then: what is visible must be whole, the same command
must come to its end, and its release must be that of the undisturbed run, byte for byte. Exit code 1 when a promise was
broken.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.torture.faults import FAULTS, compiled
from tests.torture.rounds import Bench, Round
from tests.torture.setting import SCENES, setting

ROUNDS = 5
"""Of each fault, unless told."""


def main() -> int:
    """Run all rounds, print the table, write the JSON."""
    arguments = _parser().parse_args()
    console = Console(width=None if sys.stdout.isatty() else 160)
    folder = arguments.keep or Path(tempfile.mkdtemp(prefix="torture-"))
    folder.mkdir(parents=True, exist_ok=True)
    rounds: list[Round] = []
    try:
        with setting(folder.resolve()) as around:
            library = compiled(folder.resolve())
            for name in arguments.scenes:
                bench = around.bench(name, library, arguments.workers)
                console.print(f"{name}: {bench.calls:,} changes in {bench.seconds:.0f} s, undisturbed")
                rounds += _all_rounds(bench, arguments, console)
    finally:
        if not arguments.keep and not any(one.problems for one in rounds):
            shutil.rmtree(folder, ignore_errors=True)
    console.print(table(rounds))
    broken = [one for one in rounds if one.problems]
    if broken:
        console.print(f"{len(broken)} rounds broke a promise; what they left is in {folder}")
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps([one.as_json() for one in rounds], indent=1) + "\n")
    console.print(f"written: {arguments.out}")
    return 1 if broken else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=_names(SCENES), default=tuple(SCENES), help=f"of {', '.join(SCENES)}")
    parser.add_argument("--faults", type=_names(FAULTS), default=tuple(FAULTS), help=f"of {', '.join(FAULTS)}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"of each fault [{ROUNDS}]")
    parser.add_argument("--seed", type=int, default=0, help="of the first round; each next one has one more [0]")
    parser.add_argument("--workers", type=int, default=2, help="local Dask workers of the broken run [2]")
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


def _all_rounds(bench: Bench, arguments: argparse.Namespace, console: Console) -> list[Round]:
    """A line for each, with what repeats it."""
    found: list[Round] = []
    total, began = len(arguments.faults) * arguments.rounds, time.monotonic()
    for fault in arguments.faults:
        for seed in range(arguments.seed, arguments.seed + arguments.rounds):
            one = bench.run(fault, seed)
            found.append(one)
            left = (time.monotonic() - began) / len(found) * (total - len(found))
            verdict = "[red]BROKEN[/red]" if one.problems else "same"
            reused = "" if one.reused is None else f", {one.reused:.0%} reused"
            what = f"{fault} at change {one.at:,} (--seed {seed}): exit {one.code}, {verdict}{reused}"
            console.print(f"{len(found)}/{total} · {what} · {one.seconds:.0f} s · {left:.0f} s left", highlight=False)
            for problem in one.problems:
                console.print(f"    {problem}", markup=False, highlight=False)
    return found


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
