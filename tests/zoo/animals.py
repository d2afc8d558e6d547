"""What an animal is, and what is to become of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from tests.zoo.enclosures import Enclosure

Place: TypeAlias = "tuple[str, str]"
"""Archive and member."""


@dataclass(frozen=True)
class Quarantined:
    """Set aside with a reason, the rest of the release is made."""

    reason: str

    def __str__(self) -> str:
        return f"quarantined: {self.reason}"


@dataclass(frozen=True)
class Accepted:
    """Published, with these values in the sample table."""

    values: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        told = ", ".join(f"{name} {str(value)[:40]!r}" for name, value in self.values.items())
        return f"accepted: {told}" if told else "accepted"


@dataclass(frozen=True)
class Ignored:
    """Counted, and read by nobody."""

    def __str__(self) -> str:
        return "ignored"


@dataclass(frozen=True)
class Refused:
    """The whole release, in words of which these are some; exit code 2, and nothing is published."""

    words: str

    def __str__(self) -> str:
        return f"refused: {self.words}"


@dataclass(frozen=True)
class Resident:
    """An animal that lives in a release with others."""

    name: str
    what: str
    expected: Quarantined | Accepted
    plant: Callable[[Enclosure], Sequence[Place]]
    """Puts it into the release; gives the members that are to have the expected outcome."""


@dataclass(frozen=True)
class Loner:
    """An animal that nothing else survives beside: the release is refused as a whole."""

    name: str
    what: str
    expected: Refused
    write: Callable[[Path], object]
    """Writes the raw release."""
    dataset: str = "nih-chest-xray"
    environment: Mapping[str, str] = field(default_factory=dict)
