"""Lines that are added one by one, so that a killed run loses nothing, or seconds.

A disk has each at once. Nothing can be added to an object, and to write it anew for every line would cost the square of
their number: there they gather, and the whole is written every few seconds and at the end.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING, Protocol

from tasks.files import write_bytes
from tasks.storage import Location, is_remote, read_bytes

if TYPE_CHECKING:
    from upath import UPath

SAVE_SECONDS = 5.0
"""Between two writings of an object, at least."""
SAVE_SHARE = 0.05
"""Of the time, at most, goes into writing it: 70,000 files make an object of 30 MB."""


class Journal(Protocol):
    """Text lines in the order in which they were added."""

    def lines(self) -> list[str]:
        """All so far."""

    def add(self, line: str) -> None:
        """One more; from any thread."""

    def save(self) -> None:
        """Have all of them on disk or storage when this returns."""


def journal(path: Location) -> Journal:
    """The journal at a place, empty where there is none."""
    return InObject(path) if is_remote(path) else InFile(path)


@dataclass(frozen=True)
class InFile:
    """Every line is written as it comes."""

    path: Path

    def lines(self) -> list[str]:
        """See :class:`Journal`, as for all below."""
        return _split(self.path.read_bytes()) if self.path.exists() else []

    def add(self, line: str) -> None:
        with _WRITING, self.path.open("ab+") as stream:
            if stream.tell() and not _ends_a_line(stream):
                line = "\n" + line  # after what a full disk or a power cut left of the last one
            stream.write(f"{line}\n".encode())

    def save(self) -> None:
        """Nothing is kept back."""


@dataclass
class InObject:
    """Lines gather here; whose process is killed loses those of the last seconds."""

    path: UPath
    _lines: list[str] | None = None
    _unsaved: int = 0
    _next_save: float = 0.0
    _turn: Lock = field(default_factory=Lock)

    def lines(self) -> list[str]:
        with self._turn:
            return list(self._read())

    def add(self, line: str) -> None:
        with self._turn:
            self._read().append(line)
            self._unsaved += 1
            if time.monotonic() >= self._next_save:
                self._save()

    def save(self) -> None:
        with self._turn:
            if self._unsaved:
                self._save()

    def _read(self) -> list[str]:
        if self._lines is None:
            try:
                self._lines = _split(read_bytes(self.path))
            except FileNotFoundError:
                self._lines = []
        return self._lines

    def _save(self) -> None:
        began = time.monotonic()
        write_bytes(self.path, "".join(f"{line}\n" for line in self._read()).encode())
        self._unsaved = 0
        ended = time.monotonic()
        self._next_save = ended + max(SAVE_SECONDS, (ended - began) / SAVE_SHARE)


def _split(data: bytes) -> list[str]:
    """Not by ``splitlines``: a publisher's file name may hold other line ends, which JSON does not escape."""
    return [line for line in data.decode().split("\n") if line]


def _ends_a_line(stream: IO[bytes]) -> bool:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"


_WRITING = Lock()
