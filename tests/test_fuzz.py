"""Every parser of foreign bytes: what once did harm, and some hundred inputs more. ``python -m tests.fuzz`` goes on."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from scanmill.images import decode
from tests.command import ROOT
from tests.fuzz import seeds
from tests.fuzz.targets import TARGETS, outcome

EXECUTIONS = {
    "table": 5,
    "names": 8,
    "sample-table": 12,
    "manifest": 25,
    "docx": 15,
    "locked-zip": 30,
    "split-file": 30,
}
OTHERS = 100
CORPUS_BYTES = 200_000
MOST_MIB = 64
"""More than a picture of a few hundred bytes may take; those that are kept took gigabytes."""


@pytest.mark.parametrize("name", TARGETS)
def test_bytes_are_taken_or_refused_in_words(name: str) -> None:
    target, rng = TARGETS[name], random.Random(f"CI {name}")
    known = [*target.seeds(), *seeds.kept(name)]
    made = [target.mutate(rng, rng.choice(known), known, target.words) for _ in range(EXECUTIONS.get(name, OTHERS))]
    for data in (*known, *made):
        error = outcome(target, data)
        assert error is None, (name, data[:200], error)


def test_a_sound_input_is_taken() -> None:
    """Else all the others might be refused for what they share."""
    for name in ("zip", "tar", "table", "docx", "image", "manifest", "figshare", "physionet", "file-list"):
        TARGETS[name].run(TARGETS[name].seeds()[0])


def test_no_memory_is_asked_for_what_a_header_only_claims() -> None:
    png = seeds.pictures()[0]
    chunk = png[:33] + (2**31 - 1).to_bytes(4, "big") + png[37:]
    assert decode(png) is not None
    assert decode(png[:16] + (9000).to_bytes(4, "big") * 2 + png[24:]) is None, (
        "more than deflate can make of so few bytes"
    )
    assert decode(png[:16] + (90_000).to_bytes(4, "big") * 2 + png[24:]) is None
    assert decode(chunk) is None


def test_what_once_took_memory_takes_none() -> None:
    code = (
        "import resource, sys; from pathlib import Path; from scanmill.images import decode\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before = peak()\n"
        "for path in sys.argv[1:]: decode(Path(path).read_bytes())\n"
        "print(peak() - before)"
    )
    kept = sorted((seeds.CORPUS / "shard-image").iterdir())
    done = subprocess.run([sys.executable, "-c", code, *kept], cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout) < MOST_MIB


def test_the_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in Path(seeds.CORPUS).rglob("*") if path.is_file()) < CORPUS_BYTES
