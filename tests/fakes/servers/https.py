"""A plain file host: no accounts, no digests, nothing but addresses. Speaks plain HTTP, as all fakes do."""

from __future__ import annotations

from collections.abc import Mapping

from tests.fakes.servers.http import Answer, Asked, Server


class FakeFiles(Server):
    """Serves each file at ``url/path``."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__()
        self.has_etag = True
        """Off: Last-Modified is the only validator, for If-Range too."""
        self._files = {path: self.store(data) for path, data in files.items()}

    def change(self, path: str, data: bytes) -> None:
        """Put other bytes there, or new ones, under a later date."""
        self._files[path] = self.store(data)

    def answer(self, asked: Asked) -> Answer:
        stored = self._files.get(asked.path.removeprefix("/"))
        if stored is None:
            return Answer(404, {"Content-Type": "text/html"}, b"<html><body><h1>404 Not Found</h1></body></html>\n")
        return self.give(asked, stored, has_etag=self.has_etag)
