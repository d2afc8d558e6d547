"""One input made into another: bytes without regard to what they mean, and JSON with regard to its shape."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Sequence
from typing import Any

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MOST_BYTES = 1 << 16
ODD_VALUES: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**400,
    0.5,
    float("nan"),
    float("inf"),
    "",
    "0",
    "\0",
    "..",
    "../../../etc/passwd",
    "/etc/passwd",
    "C:\\x",
    "a" * 5000,
    "é\u202e𝔘",
    "\ud800",
    [],
    [None],
    [[]],
    {},
    {"": None},
    {"path": "x"},
    ["x"] * 50,
)


def mutated(rng: random.Random, data: bytes, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A few changes: bits, numbers, cuts, repeats, words of the format, and pieces of other inputs."""
    made = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        _change(rng, made, others, words)
    return bytes(made[:MOST_BYTES])


def _change(rng: random.Random, made: bytearray, others: Sequence[bytes], words: Sequence[bytes]) -> None:
    at = rng.randrange(len(made) + 1)
    length = min(rng.choice((1, 2, 4, 8, 64, 1024)), len(made) - at)
    match rng.randrange(8):
        case 0 if at < len(made):
            made[at] ^= 1 << rng.randrange(8)
        case 1:
            size = rng.choice((1, 2, 4, 8))
            value = rng.choice(INTERESTING) % (1 << 8 * size)
            made[at : at + size] = value.to_bytes(size, rng.choice(("little", "big")))
        case 2:
            del made[at : at + length]
        case 3:
            made[at:at] = made[at : at + length] * rng.choice((1, 2, 16))
        case 4 if words:
            word = rng.choice(words)
            made[at : at + rng.choice((0, len(word)))] = word
        case 5:
            other = rng.choice(others)
            begin = rng.randrange(len(other) + 1)
            made[at : at + length] = other[begin : begin + rng.choice((1, 8, 64, 1024))]
        case 6:
            del made[at:]
        case _:
            made[at : at + length] = rng.randbytes(length or 1)


def mutated_json(rng: random.Random, data: bytes, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """Odd values in place of some; now and then bytes without regard to the shape."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return mutated(rng, data, others, words)
    if rng.random() < 0.1:
        return mutated(rng, data, others, words)
    for _ in range(rng.choice((1, 1, 2, 3))):
        value = _odd(rng, value)
    return json.dumps(value).encode()[:MOST_BYTES]


def _odd(rng: random.Random, value: Any) -> Any:
    """The value with one place in it replaced, dropped or doubled."""
    places = list(_places(value))
    if not places:
        return copy.deepcopy(rng.choice(ODD_VALUES))
    holder, key = rng.choice(places)
    match rng.randrange(4):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        case 2:
            other, there = rng.choice(places)
            if there in other if isinstance(other, dict) else there < len(other):
                holder[key] = copy.deepcopy(other[there])
        case _:
            holder[key] = copy.deepcopy(rng.choice(ODD_VALUES))
    return value


def _places(value: Any) -> Any:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in list(keys):
        yield value, key
        yield from _places(value[key])
