"""Object storage on loopback: moto's S3 API behind a counter of what is asked and sent.

Real requests of a real client; moto keeps the objects in this process. Conditional writes, multipart uploads, checksums
and byte ranges are as in Amazon S3.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from tests import planted_secrets

BUCKET = "bucket"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "made-up",
    "AWS_SECRET_ACCESS_KEY": planted_secrets.SECRETS["AWS_SECRET_ACCESS_KEY"],
    "AWS_SESSION_TOKEN": planted_secrets.SECRETS["AWS_SESSION_TOKEN"],
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
SECRETS = {name: ENVIRONMENT[name] for name in planted_secrets.SECRETS if name in ENVIRONMENT}
"""What must not be found in anything that a run leaves behind."""

Answer = tuple[str, bytes]
"""Status line and body."""


@dataclass
class Storage:
    """A running server, and what it has seen."""

    address: str = ""
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method, and path with its query, in order."""
    sent: dict[str, int] = field(default_factory=dict)
    """Bytes of bodies sent for GET requests, by path."""
    before: Callable[[str, str], Answer | None] = lambda method, path: None
    """Called with method and path before each request; an answer stands for the server's own."""

    @property
    def environment(self) -> dict[str, str]:
        """What a client's process needs."""
        return {**ENVIRONMENT, "AWS_ENDPOINT_URL": self.address}

    def forget(self) -> None:
        """Count from here."""
        self.requests.clear()
        self.sent.clear()


@contextmanager
def serve() -> Iterator[Storage]:
    """A server with an empty bucket, on a port of its own, for the block."""
    storage = Storage()
    application = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, _counting(application, storage), threaded=True, request_handler=_Silent)
    storage.address = f"http://127.0.0.1:{server.port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield storage
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def in_environment() -> Iterator[Storage]:
    """The same; clients of this process and of its children find it in the environment."""
    import s3fs

    with serve() as running, pytest.MonkeyPatch.context() as patch:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        yield running
    s3fs.S3FileSystem.clear_instance_cache()


class _Silent(WSGIRequestHandler):
    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: what was asked is in :attr:`Storage.requests`."""


def _counting(application: Any, storage: Storage) -> Any:
    def counted(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        query = environ.get("QUERY_STRING")
        storage.requests.append((method, f"{path}?{query}" if query else path))
        answer = storage.before(method, path)
        if answer is not None:
            status, body = answer
            start_response(status, [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))])
            return [body]
        sent: Iterable[bytes] = application(environ, start_response)
        body = b"".join(sent)
        if method == "GET":
            storage.sent[path] = storage.sent.get(path, 0) + len(body)
        return [body]

    return counted
