"""What came of a look at a source: a plain value, for messages, pages and JSON."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fetched:
    """What a look at the source, and what came of it."""

    folder: str
    """Raw folder of the release, to be prepared like any local one."""
    source: str
    """For people: which source, which version."""
    version: str
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    unchanged: int = 0
    requests: int = 0
    size_bytes: int = 0
    """Of what was fetched."""

    @property
    def is_new(self) -> bool:
        """Whether anything of the source was not here before."""
        return bool(self.added or self.changed or self.removed)

    def __str__(self) -> str:
        """One line for people."""
        if not self.is_new:
            return f"{self.source}: nothing new"
        parts = {"new": self.added, "changed": self.changed, "taken away": self.removed}
        told = [f"{len(paths):,} {word}" for word, paths in parts.items() if paths]
        return f"{self.source}: {', '.join(told)}, {self.unchanged:,} as before"
