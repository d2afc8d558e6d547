"""PhysioNet's file server: one version of one project, with its list of digests and, if restricted, Basic auth."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import quote

from tests.fakes.servers.http import Answer, Asked, Server, Stored

DIGESTS = "SHA256SUMS.txt"


class FakePhysioNet(Server):
    """Serves ``url/files/slug/version/path``; open to everyone without a user.

    The list of digests is made on request, so a change of a file is in it. It is no file response: ``cut_after``,
    ``stall`` and ``delay`` are kept for the files after it.
    """

    def __init__(
        self,
        slug: str,
        version: str,
        files: Mapping[str, bytes],
        *,
        user: str | None = None,
        password: str | None = None,
    ) -> None:
        super().__init__()
        self.root = f"/files/{slug}/{version}/"
        """Path of the project, a slash at both ends."""
        self.entitled = True
        """Off: the right user and password get 403 too, as before the data use agreement is signed."""
        self._account = None if user is None else f"{user}:{password or ''}"
        self._wrong: set[str] = set()
        self._files = {path: self.store(data) for path, data in files.items()}

    def wrong_digest(self, path: str) -> None:
        """List a digest that the file does not have."""
        self._wrong.add(self._there(path))

    def change(self, path: str, data: bytes) -> None:
        """Put other bytes there, or new ones, and their digest into the list."""
        self._files[path] = self.store(data)

    def answer(self, asked: Asked) -> Answer:
        if refusal := self._refusal(asked):
            return refusal
        if not asked.path.startswith(self.root):
            return _page(404, "Page not found")
        path = asked.path.removeprefix(self.root)
        if path == DIGESTS:
            return replace(self.give(asked, self._digests()), is_file=False)
        if path in self._files:
            return self.give(asked, self._files[path])
        return self._index(path)

    def _there(self, path: str) -> str:
        """The path, if a file is there: a slip of a test's pen must not pass for an undamaged release."""
        if path not in self._files:
            raise KeyError(path)
        return path

    def _refusal(self, asked: Asked) -> Answer | None:
        if self._account is None:
            return None
        scheme, _, credentials = asked.header("Authorization").partition(" ")
        if scheme.lower() != "basic":
            return _page(401, "Authorization required", {"WWW-Authenticate": 'Basic realm="PhysioNet"'})
        is_right = credentials.strip() == base64.b64encode(self._account.encode()).decode()
        return None if is_right and self.entitled else _page(403, "Forbidden")

    def _digests(self) -> Stored:
        lines = [f"{self._digest(path)} {path}\n" for path in sorted(self._files)]
        return Stored("".join(lines).encode(), max(stored.modified for stored in self._files.values()))

    def _digest(self, path: str) -> str:
        data = self._files[path].data
        return hashlib.sha256(data + b"\n" if path in self._wrong else data).hexdigest()

    def _index(self, folder: str) -> Answer:
        """Of a folder named with its slash: what lies in it, one level deep, as links."""
        below = [path.removeprefix(folder) for path in [*self._files, DIGESTS] if path.startswith(folder)]
        if not below or (folder and not folder.endswith("/")):
            return _page(404, "Page not found")
        names = sorted({first + slash for first, slash, _ in (path.partition("/") for path in below)})
        links = "".join(f'<a href="{quote(name)}">{html.escape(name)}</a>\n' for name in ["../", *names])
        return _page(200, f"Index of {self.root}{folder}", body=f"<pre>{links}</pre>")


def _page(status: int, title: str, headers: Mapping[str, str] | None = None, body: str = "") -> Answer:
    text = (
        f"<html><head><title>{html.escape(title)}</title></head><body><h1>{html.escape(title)}</h1>{body}</body></html>"
    )
    return Answer(status, {"Content-Type": "text/html; charset=utf-8", **(headers or {})}, text.encode())
