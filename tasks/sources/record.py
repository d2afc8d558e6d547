"""What was fetched, when, from where: kept in ``raw/``, one line per event, so that a killed run loses nothing.

raw/fetched.jsonl      path, url, version, bytes, sha256, md5, etag and time of every file that arrived or went
raw/source.json        the last complete look at the source
raw/superseded/        files that the publisher has replaced or taken away, by hash: older releases refer to them
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import IO, Any

from tasks.files import read_json, sha256_file, write_json
from tasks.sources.download import Downloaded
from tasks.sources.listing import RemoteFile
from tasks.sources.web import shown


@dataclass(frozen=True)
class Record:
    """What is known of a raw folder."""

    raw: Path

    @property
    def journal(self) -> Path:
        """One line per file that arrived or went."""
        return self.raw / "fetched.jsonl"

    @property
    def last_look(self) -> Path:
        """What the source held when everything of it was here."""
        return self.raw / "source.json"

    def files(self) -> dict[str, dict[str, Any]]:
        """The last event of every path that is still here."""
        events = {str(event["path"]): event for event in self._events()}
        return {path: event for path, event in events.items() if event["event"] == "arrived"}

    def _events(self) -> Iterator[dict[str, Any]]:
        if not self.journal.exists():
            return
        for line in self.journal.read_text(encoding="utf-8").splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                continue  # the last line of a killed process; what it told of is looked at again

    def arrived(self, path: str, file: RemoteFile, got: Downloaded, version: str) -> None:
        """Note that a file is here; ``verified_by`` is what the host published of its bytes, null for nothing."""
        held = next((name for name in ("sha256", "md5", "etag") if getattr(file, name)), None)
        about = {"verified_by": held, "bytes": got.size_bytes, "sha256": got.sha256, "md5": got.md5, "etag": got.etag}
        self._note({"event": "arrived", "path": path, "url": shown(file.url), "version": version, **about})

    def went(self, path: str, before: Mapping[str, Any], version: str) -> None:
        """Note that the publisher has taken a file away."""
        self._note({"event": "went", "path": path, "version": version, "sha256": before["sha256"]})

    def _note(self, event: Mapping[str, Any]) -> None:
        line = json.dumps({**event, "time": datetime.now(UTC).isoformat(timespec="seconds")}, ensure_ascii=False)
        with _WRITING, self.journal.open("ab+") as stream:
            if stream.tell() and not _ends_a_line(stream):
                line = "\n" + line  # after what a full disk or a power cut left of the last one
            stream.write(f"{line}\n".encode())

    def look(self) -> dict[str, Any]:
        """The last complete look, or nothing."""
        return dict(read_json(self.last_look)) if self.last_look.exists() else {}

    def looked(self, **about: Any) -> None:
        """Note a complete look."""
        write_json(self.last_look, {**about, "time": datetime.now(UTC).isoformat(timespec="seconds")})

    def supersede(self, path: Path) -> None:
        """Put a file aside that is to be replaced, under the hash of what it holds: it may not be what is recorded."""
        target = self.raw / "superseded" / f"{sha256_file(path)[:16]}-{path.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)


def _ends_a_line(stream: IO[bytes]) -> bool:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1) == b"\n"


_WRITING = Lock()
