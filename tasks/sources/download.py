"""One file over HTTP, resumed where it broke off, never put together from two versions."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx

from tasks.files import complaining_of_space, read_json, write_json
from tasks.sources.listing import RemoteFile
from tasks.sources.web import Passing, Unfetchable, Web, insist_on_no_page, shown
from tasks.storage import Location, open_whole

REMEDY = "The other files are kept; if it stays so tomorrow, the publisher's copy or list is damaged: tell them"
PIECE_BYTES = 256 * 1024


class OtherBytes(Unfetchable):
    """What the host served is not what its listing says: it changed meanwhile, or is damaged there."""


@dataclass(frozen=True)
class Downloaded:
    """What arrived."""

    size_bytes: int
    sha256: str
    md5: str
    etag: str


class Part:
    """A file on its way: its bytes so far, and beside them what they are bytes of."""

    def __init__(self, path: Path, file: RemoteFile) -> None:
        """``path`` is where the bytes gather; a part of another version that lies there is thrown away."""
        self.path = path
        self._about = path.with_name(path.name + ".json")
        self._wanted = {"url": file.url, "size_bytes": file.size_bytes, "digest": file.digest}
        known = self._known()
        if any(known.get(name) != value for name, value in self._wanted.items()):
            self.discard()

    def _known(self) -> dict[str, Any]:
        try:
            return dict(read_json(self._about))
        except (OSError, ValueError):
            return {}

    @property
    def size_bytes(self) -> int:
        """How much is there."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def validator(self) -> str:
        """What the bytes so far are of, as ``If-Range`` wants it: a strong ETag, or a time; or nothing."""
        return str(self._known().get("validator", ""))

    def begin(self, response: httpx.Response) -> None:
        """Start from zero with what this answer holds."""
        self.discard()
        write_json(self._about, {**self._wanted, "validator": validator_of(response)})

    def discard(self) -> None:
        """Throw away what is there."""
        self.path.unlink(missing_ok=True)
        self._about.unlink(missing_ok=True)

    def move_to(self, target: Path) -> None:
        """Give the finished file its name."""
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(self.path, target)  # noqa: PTH105 (one atomic step, named as such)
        self._about.unlink(missing_ok=True)


def validator_of(response: httpx.Response) -> str:
    """The strong ETag of an answer, else its ``Last-Modified`` (RFC 9110, 13.1.5: a weak ETag must not be used)."""
    etag = str(response.headers.get("ETag", ""))
    return etag if etag and not etag.startswith("W/") else str(response.headers.get("Last-Modified", ""))


def download(file: RemoteFile, path: Path, web: Web, tick: Callable[[int], None] = lambda size: None) -> Downloaded:
    """Bring the whole file to ``path``, going on with what an earlier attempt left there.

    ``tick`` is told of bytes as they come, those that were there already included. Raises :class:`OtherBytes` where
    size or digest are not those listed (then nothing is left at ``path``), :class:`Unfetchable` otherwise.
    """
    part = Part(path, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    told = 0
    before = part.size_bytes

    def tell() -> None:
        nonlocal told
        tick(max(0, part.size_bytes - told))
        told = max(told, part.size_bytes)

    def has_moved() -> bool:
        nonlocal before  # the most there ever was: what is fetched anew after being thrown away is no gain
        moved, before = part.size_bytes > before, max(before, part.size_bytes)
        return moved

    tell()
    etag = web.patiently(lambda: _receive(file, part, web, tell), file.url, has_moved=has_moved)
    return _check(file, part, etag)


def _receive(file: RemoteFile, part: Part, web: Web, tell: Callable[[], None]) -> str:
    """One request, from where the part ends to the end of the file; gives the ETag, or the time where there is none."""
    offset = part.size_bytes
    if offset and file.size_bytes == offset:
        return part.validator  # all there, only not checked yet
    if offset and not (part.validator or file.sha256 or file.md5):
        part.discard()  # nothing could tell whether the rest belongs to it
        offset = 0
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    if offset and part.validator:
        headers["If-Range"] = part.validator
    with web.stream(file.url, headers) as response:
        if offset and _is_all(response, offset):
            return part.validator
        _judge(response, file, part, web, offset)
        if response.status_code != httpx.codes.PARTIAL_CONTENT:
            part.begin(response)
        with complaining_of_space(part.path.parent), part.path.open("ab") as stream:
            _copy(response, stream, web, tell)
        if not part.size_bytes and not _may_be_empty(file):
            raise Passing("the host sent an answer without content")
        return part.validator


def _copy(response: httpx.Response, stream: IO[bytes], web: Web, tell: Callable[[], None]) -> None:
    for piece in response.iter_raw():  # as they come: with a size it would gather, and lose what it has when cut
        web.insist_on_going_on()
        stream.write(piece)
        stream.flush()
        tell()
    os.fsync(stream.fileno())


def _is_all(response: httpx.Response, offset: int) -> bool:
    """Whether nothing was left to send: a file of unknown size had arrived whole before the process was killed."""
    is_beyond = response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE
    return is_beyond and response.headers.get("Content-Range", "") == f"bytes */{offset}"


def _may_be_empty(file: RemoteFile) -> bool:
    return file.size_bytes == 0 or file.digest in (
        hashlib.sha256().hexdigest(),
        hashlib.md5(usedforsecurity=False).hexdigest(),
    )


def _judge(response: httpx.Response, file: RemoteFile, part: Part, web: Web, offset: int) -> None:
    """Raise unless the body is the rest of the part, or the whole file."""
    if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        part.discard()
        raise Passing("what is there is longer than the host's file, so it is fetched anew")
    web.insist(response, file.url)
    if not file.path.lower().endswith((".html", ".htm")):
        insist_on_no_page(response, file.url)
    total = _total(response)
    if total == 0 and not _may_be_empty(file):
        raise Passing("the host sent an answer without content")
    if file.etag and file.etag not in (response.headers.get("ETag"), response.headers.get("Last-Modified")):
        part.discard()
        raise OtherBytes(
            f"{shown(file.url)}: {file.path} is another one there than when it was listed; pin its SHA-256"
        )
    if None not in (total, file.size_bytes) and total != file.size_bytes:
        part.discard()
        raise OtherBytes(f"{shown(file.url)}: {file.path} has {total} bytes there, {file.size_bytes} are listed")
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        is_same = part.validator in ("", validator_of(response))
        if _start(response) != offset or not is_same:
            part.discard()
            raise Passing("the host sent another part than was asked for, so it is fetched anew")


def _start(response: httpx.Response) -> int | None:
    match = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(match[1]) if match else None


def _total(response: httpx.Response) -> int | None:
    """Size of the whole file as the answer has it."""
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        match = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
        return int(match[1]) if match else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def measure(path: Location, etag: str = "") -> Downloaded:
    """Size and digests of a file, read piece by piece."""
    sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    with open_whole(path) as stream:
        while piece := stream.read(PIECE_BYTES):
            sha256.update(piece)
            md5.update(piece)
            size += len(piece)
    return Downloaded(size, sha256.hexdigest(), md5.hexdigest(), etag)


def disagreement(file: RemoteFile, got: Downloaded) -> str:
    """What of a file is not as it is listed, in words; empty where all agrees."""
    for name, listed, seen in (
        ("size", file.size_bytes, got.size_bytes),
        ("SHA-256", file.sha256 or None, got.sha256),
        ("MD5", file.md5 or None, got.md5),
    ):
        if listed not in (None, seen):
            return f"{name} {seen}, the host lists {listed}"
    return ""


def _check(file: RemoteFile, part: Part, etag: str) -> Downloaded:
    got = measure(part.path, file.etag or etag)
    if wrong := disagreement(file, got):
        part.discard()
        raise OtherBytes(f"{shown(file.url)}: {file.path} arrived with {wrong}. {REMEDY}")
    return got
