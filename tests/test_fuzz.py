"""Every parser of foreign bytes: what once did harm, and some hundred inputs more. ``python -m tests.fuzz`` goes on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from scanmill.images import decode
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


def test_the_corpus_stays_small() -> None:
    assert sum(path.stat().st_size for path in Path(seeds.CORPUS).rglob("*") if path.is_file()) < CORPUS_BYTES
