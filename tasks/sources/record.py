"""What was fetched, when, from where: kept in ``raw/``, one line per event.

raw/fetched.jsonl      path, url, version, bytes, sha256, md5, etag and time of every file that arrived or went
raw/source.json        the last complete look at the source
raw/superseded/        files that the publisher has replaced or taken away, by hash: older releases refer to them
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tasks.files import read_json, write_json
from tasks.sources.download import Downloaded
from tasks.sources.journal import journal
from tasks.sources.listing import RemoteFile
from tasks.sources.web import shown
from tasks.storage import Location


class Record:
    """What is known of a raw folder."""

    def __init__(self, raw: Location) -> None:
        """Nothing is read until it is asked for."""
        self._journal = journal(raw / "fetched.jsonl")
        self._last_look = raw / "source.json"

    def files(self) -> dict[str, dict[str, Any]]:
        """The last event of every path that is still here."""
        events = {str(event["path"]): event for event in self._events()}
        return {path: event for path, event in events.items() if event["event"] == "arrived"}

    def _events(self) -> Iterator[dict[str, Any]]:
        for line in self._journal.lines():
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
        self._journal.add(json.dumps({**event, "time": _now()}, ensure_ascii=False))

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever ends the block, what was noted in it is kept."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(Exception):  # perhaps of the same trouble; the first is the one to tell
                self._journal.save()
            raise
        self._journal.save()

    def look(self) -> dict[str, Any]:
        """What the source held when everything of it was here; or nothing."""
        try:
            return dict(read_json(self._last_look))
        except FileNotFoundError:
            return {}

    def looked(self, **about: Any) -> None:
        """Note a complete look."""
        self._journal.save()  # first: whoever reads that all is here must find it all
        write_json(self._last_look, {**about, "time": _now()})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
