"""What every fake host shares: a server in a thread, a log of requests, planned failures, bytes by range and tag."""

from __future__ import annotations

import hashlib
import re
import socket
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime, parsedate_to_datetime
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

CHUNK = 64 * 1024
_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Request:
    """One request as it came and what it got. Headers that were not sent are empty."""

    method: str
    path: str
    """With its query, still quoted."""
    range: str
    if_range: str
    if_none_match: str
    authorization: str
    status: int
    seconds: float
    """Of arrival, on the monotonic clock."""
    body_bytes: int = 0
    """Sent so far: grows while a file is on its way."""


@dataclass(frozen=True)
class Failure:
    """An answer to give in place of the real one, to the next request whose path, query included, has ``path_part``."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    path_part: str = ""

    def at(self, path_part: str) -> Failure:
        """The same, for these paths alone."""
        return replace(self, path_part=path_part)


_HTML = {"Content-Type": "text/html; charset=utf-8"}
TOO_MANY = Failure(429, {"Retry-After": "1"})
UNAVAILABLE = Failure(503)
CHALLENGE = Failure(202, {"x-amzn-waf-action": "challenge"})
FORBIDDEN_HTML = Failure(403, _HTML, b"<html><body><h1>403 Forbidden</h1></body></html>\n")
HTML_PAGE = Failure(200, _HTML, b"<!DOCTYPE html><html><body>Please enable JavaScript.</body></html>\n")
EMPTY = Failure(200)


@dataclass(frozen=True)
class Asked:
    """A request on its way to the code that answers it."""

    method: str
    target: str
    headers: Message

    @property
    def path(self) -> str:
        """Unquoted, without the query."""
        return unquote(urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        """Parameters; of one given twice, the last."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def header(self, name: str) -> str:
        """Its text, empty if it was not sent."""
        return str(self.headers.get(name, ""))


@dataclass(frozen=True)
class Answer:
    """A whole response; the knobs for file responses act only on one that ``is_file``."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_file: bool = False


@dataclass(frozen=True)
class Stored:
    """Bytes as an object store holds them."""

    data: bytes
    modified: datetime

    @cached_property
    def md5(self) -> str:
        """Of the bytes that are served."""
        return hashlib.md5(self.data).hexdigest()

    @property
    def etag(self) -> str:
        """Strong: no two contents share it."""
        return f'"{self.md5}"'

    @property
    def last_modified(self) -> str:
        """As the header has it, whole seconds."""
        return format_datetime(self.modified, usegmt=True)


def object_answer(
    asked: Asked, stored: Stored, *, ignores_range: bool = False, wrong_range: bool = False, has_etag: bool = True
) -> Answer:
    """Answer a GET or HEAD with the object, a part of it, 304 or 416; If-None-Match comes before Range (RFC 9110)."""
    size, etag = len(stored.data), stored.etag if has_etag else ""
    headers = {"Last-Modified": stored.last_modified, "Content-Type": "application/octet-stream"}
    headers |= {"ETag": etag} if has_etag else {}
    headers |= {} if ignores_range else {"Accept-Ranges": "bytes"}
    if _is_unchanged(asked, stored, etag):
        return Answer(304, headers)
    span = None if ignores_range else _span(asked, stored, etag)
    if span is None:
        return Answer(200, headers, stored.data, is_file=True)
    first, last = span
    if first >= size:
        return Answer(416, {**headers, "Content-Range": f"bytes */{size}", "Content-Type": "application/xml"}, _RANGE)
    if wrong_range:
        first = first - 1 if first else 1
    headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    return Answer(206, headers, stored.data[first : last + 1], is_file=True)


_RANGE = b"<Error><Code>InvalidRange</Code><Message>The requested range is not satisfiable</Message></Error>"


def _is_unchanged(asked: Asked, stored: Stored, etag: str) -> bool:
    """Whether the asker has it already; a date counts only where no tag was named."""
    if tags := asked.header("If-None-Match"):
        named = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
        return "*" in named or etag in named
    since = asked.header("If-Modified-Since")
    with suppress(ValueError):
        return bool(since) and stored.modified <= parsedate_to_datetime(since)
    return False


def _span(asked: Asked, stored: Stored, etag: str) -> tuple[int, int] | None:
    """First and last byte asked for, the first perhaps beyond the end; None for the whole.

    Several ranges, and what cannot be parsed, are ignored, as the standard allows.
    """
    size = len(stored.data)
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", asked.header("Range"))
    condition = asked.header("If-Range")
    if not found or found[0] == "bytes=-" or (condition and condition not in {etag, stored.last_modified}):
        return None
    if not found[1]:
        return (max(0, size - int(found[2])) if int(found[2]) else size), size - 1
    first, last = int(found[1]), int(found[2] or size)
    return (first, min(last, size - 1)) if first <= last or first >= size else None


class Server(ABC):
    """A host on a free port of 127.0.0.1 for as long as the ``with`` block lasts; its end cuts every open connection.

    The knobs may be turned at any time and act from the next response on, ``delay`` from the next chunk on.
    """

    def __init__(self) -> None:
        self.cut_after: list[int] = []
        """Queue: the next file response that is longer breaks off after so many body bytes, the connection closed."""
        self.stall: list[float] = []
        """Queue: the next file response keeps silent for so many seconds between its headers and its first byte."""
        self.failures: list[Failure] = []
        """Queue: the first that matches a request answers it, and is gone."""
        self.ignores_range = False
        """Answer 200 and everything to a Range request, and do not offer ranges."""
        self.wrong_range = False
        """Answer a Range request with 206 from one byte earlier (from byte 1 if 0 was asked), and say so."""
        self.delay = 0.0
        """Seconds before each chunk of 64 KiB of a file response."""
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._log: dict[int, Request] = {}
        self._arrived = 0
        self._changes = 0
        self._listener: _Listener | None = None

    def __enter__(self) -> Self:
        self.closing.clear()
        self._listener = _Listener(self)
        threading.Thread(target=self._listener.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        if self._listener:
            self._listener.shutdown()
            self._listener.server_close()
            self._listener.cut_connections()
        self._listener = None

    @abstractmethod
    def answer(self, asked: Asked) -> Answer:
        """What the host says when nothing is wrong; called from many threads."""

    @property
    def url(self) -> str:
        """Scheme, address and port, no slash at the end; another one each time the server starts."""
        if not self._listener:
            raise RuntimeError(f"{type(self).__name__} has no address before its with block")
        return f"http://127.0.0.1:{self._listener.server_address[1]}"

    @property
    def requests(self) -> tuple[Request, ...]:
        """All so far by arrival, a copy. A response that a client has begun to read is in it."""
        with self._lock:
            return tuple(self._log.values())

    def forget_requests(self) -> None:
        """Start the log anew."""
        with self._lock:
            self._log.clear()

    def store(self, data: bytes) -> Stored:
        """Bytes dated an hour after those stored before, so that every change shows in Last-Modified."""
        with self._lock:
            self._changes += 1
            return Stored(data, _EPOCH + timedelta(hours=self._changes))

    def give(self, asked: Asked, stored: Stored, *, has_etag: bool = True) -> Answer:
        """Answer with an object, as the knobs want it."""
        return object_answer(
            asked, stored, ignores_range=self.ignores_range, wrong_range=self.wrong_range, has_etag=has_etag
        )

    def take_failure(self, asked: Asked) -> Answer | None:
        """The failure that is due for this request, taken off the queue."""
        with self._lock:
            for place, failure in enumerate(self.failures):
                if failure.path_part in asked.target:
                    del self.failures[place]
                    return Answer(failure.status, failure.headers, failure.body)
        return None

    def take_cut(self, length: int) -> int:
        """How many of a file response's bytes to send before the connection breaks, all if no cut is due."""
        with self._lock:
            return self.cut_after.pop(0) if self.cut_after and self.cut_after[0] < length else length

    def take_stall(self) -> float:
        """Seconds of silence that are due."""
        with self._lock:
            return self.stall.pop(0) if self.stall else 0.0

    def note(self, request: Request) -> int:
        """Log a request before its answer goes out; gives the number to count its bytes under."""
        with self._lock:
            self._arrived += 1
            self._log[self._arrived] = request
            return self._arrived

    def count(self, number: int, sent: int) -> None:
        """Add to the bytes sent of a request, if it is not forgotten."""
        with self._lock:
            if request := self._log.get(number):
                self._log[number] = replace(request, body_bytes=request.body_bytes + sent)


class _Listener(ThreadingHTTPServer):
    """Knows its open connections, so that a stopped server does not go on answering over kept-alive ones."""

    def __init__(self, owner: Server) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.owner = owner
        self.connections: set[socket.socket] = set()

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def cut_connections(self) -> None:
        """End them under whatever is being sent."""
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are what the tests are about; anything else is a fault of the fake, and is printed."""
        if not self.owner.closing.is_set() and not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body are two writes; Nagle's wait between them would cost 40 ms a response.
    disable_nagle_algorithm = True
    server: _Listener

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the log is ``Server.requests``."""

    def do_GET(self) -> None:
        seconds, owner = time.monotonic(), self.server.owner
        asked = Asked(self.command, self.path, self.headers)
        answer = owner.take_failure(asked) or owner.answer(asked)
        number = owner.note(
            Request(
                method=asked.method,
                path=asked.target,
                range=asked.header("Range"),
                if_range=asked.header("If-Range"),
                if_none_match=asked.header("If-None-Match"),
                authorization=asked.header("Authorization"),
                status=answer.status,
                seconds=seconds,
            )
        )
        self._send_head(answer)
        if self.command == "GET":
            self._send_body(answer, number)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send_head(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.status != 304:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()

    def _send_body(self, answer: Answer, number: int) -> None:
        owner, body = self.server.owner, memoryview(answer.body)
        if answer.is_file:
            body = body[: owner.take_cut(len(body))]
            owner.closing.wait(owner.take_stall())
        for start in range(0, len(body), CHUNK):
            if answer.is_file and owner.closing.wait(owner.delay):
                break
            self._send_chunk(body[start : start + CHUNK], number)
        self.close_connection |= len(body) < len(answer.body)

    def _send_chunk(self, chunk: memoryview, number: int) -> None:
        """Count first: whoever has received a byte finds it counted."""
        self.server.owner.count(number, len(chunk))
        try:
            self.wfile.write(chunk)
        except ConnectionError:
            self.server.owner.count(number, -len(chunk))
            raise
