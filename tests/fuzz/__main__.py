# ruff: noqa: T201
"""``python -m tests.fuzz``: the loop, and what is told of it."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import hashlib
import mmap
import os
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

MOST_SECONDS = 5.0
"""Of CPU for one input."""
MOST_BYTES = 512 * 2**20
"""More memory than before, for one input."""
POOL = 400
"""Inputs that mutation goes on from, beside the seeds."""
LAST_BYTES = 1 << 20


class TookTooLong(Exception):
    """An input that did not end within :data:`MOST_SECONDS`."""


class TookTooMuch(Exception):
    """An input that took more than :data:`MOST_BYTES`."""


def main() -> int:
    """One process for each target: what kills one is told, and the others go on."""
    wanted = _arguments()
    if wanted.alone:
        return _alone(wanted)
    names = wanted.targets.split(",") if wanted.targets else _names()
    if wanted.replay:
        return _replayed(names[0], Path(wanted.replay))
    wanted.out.mkdir(parents=True, exist_ok=True)
    print(f"seed {wanted.seed}, {wanted.seconds} s a target, engine {wanted.engine}; failing inputs go to {wanted.out}")
    print(f"{'target':14} {'executions':>10} {'per s':>7} {'crashes':>20}", flush=True)
    return max(_in_a_process(name, wanted) for name in names)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--targets", help="names, with commas; all without it")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=("plain", "atheris"), default="plain", help="atheris is led by coverage")
    parser.add_argument("--out", type=Path, default=Path("fuzz-failures"))
    parser.add_argument("--replay", metavar="FILE", help="run one input of one target, with its traceback")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _names() -> list[str]:
    from tests.fuzz.targets import TARGETS

    return list(TARGETS)


def _in_a_process(name: str, wanted: argparse.Namespace) -> int:
    options = ["--targets", name, "--seconds", str(wanted.seconds), "--seed", str(wanted.seed)]
    options += ["--engine", wanted.engine, "--out", str(wanted.out)]
    command = [sys.executable, "-m", "tests.fuzz", "--alone", *options]
    try:
        status = subprocess.run(command, check=False, timeout=wanted.seconds + 120).returncode
    except subprocess.TimeoutExpired:
        status = -signal.SIGKILL
    if status not in (0, 1):  # the process is gone; its last input is not
        last = _last(wanted.out, name)
        kept = wanted.out / f"{name}-killed"
        kept.write_bytes(last)
        print(
            f"{name:14} ended with status {status}: python -m tests.fuzz --targets {name} --replay {kept}", flush=True
        )
    return int(status != 0)


def _last(out: Path, name: str) -> bytes:
    held = (out / f".{name}-last").read_bytes()
    return held[8 : 8 + int.from_bytes(held[:8], "big")]


def _replayed(name: str, path: Path) -> int:
    from tests.fuzz.targets import TARGETS, outcome

    begin = time.process_time()
    error = outcome(TARGETS[name], path.read_bytes())
    if error is not None:
        traceback.print_exception(error)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{time.process_time() - begin:.2f} CPU s, {peak:.0f} MiB")
    return int(error is not None)


class Fuzzing:
    """One target under way: inputs in, crashes told once by where they happen."""

    def __init__(self, name: str, out: Path) -> None:
        """Imports the target."""
        from tests.fuzz import seeds
        from tests.fuzz.targets import TARGETS

        self.name, self.out, self.target = name, out, TARGETS[name]
        self.seeds = [*self.target.seeds(), *seeds.kept(name)]
        self.executions = 0
        self.crashes: Counter[str] = Counter()
        with (out / f".{name}-last").open("wb+") as stream:
            stream.truncate(LAST_BYTES)
            self._last = mmap.mmap(stream.fileno(), LAST_BYTES)
        signal.signal(signal.SIGPROF, _stop)
        faulthandler.enable()
        self._peak = 0

    def one(self, data: bytes) -> None:
        """Run one input; what it raises and should not is kept."""
        from tests.fuzz.targets import outcome

        self._last[: 8 + len(data[: LAST_BYTES - 8])] = len(data).to_bytes(8, "big") + data[: LAST_BYTES - 8]
        before = self._peak or _peak_bytes()
        signal.setitimer(signal.ITIMER_PROF, MOST_SECONDS)
        try:
            error = outcome(self.target, data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        self.executions += 1
        self._peak = _peak_bytes()
        if error is None and self.executions > 1 and self._peak - before > MOST_BYTES:
            error = TookTooMuch(f"{(self._peak - before) / 2**20:.0f} MiB more than before")
        if error is not None:
            self._keep(data, error)

    def _keep(self, data: bytes, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "/tests/fuzz/" not in frame.filename]
        place = (
            f"{type(error).__name__} at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else type(error).__name__
        )
        self.crashes[place] += 1
        if self.crashes[place] == 1:
            path = self.out / f"{self.name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"
            path.write_bytes(data)
            print(f"{self.name}: {place}: {str(error)[:160]!r}")
            print(f"  python -m tests.fuzz --targets {self.name} --replay {path}", flush=True)
            sys.stdout.flush()

    def told(self, seconds: float) -> str:
        """One line of the table."""
        rate = self.executions / max(seconds, 1e-9)
        told = f"{sum(self.crashes.values()):,} at {len(self.crashes)} places"
        return f"{self.name:14} {self.executions:10,} {rate:7,.0f} {told:>20}"


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _stop(number: int, frame: FrameType | None) -> None:
    raise TookTooLong(f"more than {MOST_SECONDS} CPU s")


def _alone(wanted: argparse.Namespace) -> int:
    if wanted.engine == "atheris":
        return _led_by_coverage(wanted)
    fuzzing = Fuzzing(wanted.targets, wanted.out)
    rng = random.Random(f"{wanted.seed} {wanted.targets}")
    begin = time.monotonic()
    pool = list(fuzzing.seeds)
    for data in fuzzing.seeds:
        fuzzing.one(data)
    while time.monotonic() - begin < wanted.seconds:
        fresh = rng.choice(fuzzing.seeds) if rng.random() < 0.6 else rng.choice(pool)
        data = fuzzing.target.mutate(rng, fresh, fuzzing.seeds, fuzzing.target.words)
        fuzzing.one(data)
        if len(pool) < POOL:
            pool.append(data)
        elif rng.random() < 0.05:
            pool[rng.randrange(POOL)] = data
    print(fuzzing.told(time.monotonic() - begin), flush=True)
    return int(bool(fuzzing.crashes))


def _led_by_coverage(wanted: argparse.Namespace) -> int:
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with atheris.instrument_imports(include=["tasks", "scanmill", "zipfile", "tarfile", "docx"]):
        fuzzing = Fuzzing(wanted.targets, wanted.out)
    corpus = wanted.out / f"corpus-{wanted.targets}"
    corpus.mkdir(exist_ok=True)
    for data in fuzzing.seeds:
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    begin = time.monotonic()

    def one(data: bytes) -> None:
        fuzzing.one(data)
        if time.monotonic() - begin > wanted.seconds:
            print(fuzzing.told(time.monotonic() - begin), flush=True)
            os._exit(int(bool(fuzzing.crashes)))

    def custom(data: bytes, most: int, seed: int) -> Any:
        return fuzzing.target.mutate(random.Random(seed), data, fuzzing.seeds, fuzzing.target.words)[:most]

    options = [f"-seed={wanted.seed + 1}", "-max_len=65536", "-verbosity=0", "-handle_segv=0"]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=custom)
    with contextlib.suppress(SystemExit):
        atheris.Fuzz()
    return int(bool(fuzzing.crashes))


if __name__ == "__main__":
    sys.exit(main())
