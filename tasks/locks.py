"""One run of a dataset at a time: a file lock on this machine, a lease on object storage.

The kernel lets go of a file lock when its process dies. Nobody does that for an object, so a lease is renewed while its
holder lives and ends by itself when it does not. Both writes are conditional (``If-None-Match``, ``If-Match``), which
Amazon S3 has done since 2024, and MinIO; ages are told by the clock of the storage, never by ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tasks.schema import UnusableInput
from tasks.storage import Location, is_remote, read_bytes, remove

if TYPE_CHECKING:
    from upath import UPath

LEASE_SECONDS = 60
"""How long after its last renewal a lease is its holder's; a run that was killed holds up the next one for so long."""
RENEWAL_SECONDS = 15
WAIT_SECONDS = 2.0
"""Between two looks at a lock that is waited for."""


class Held(Protocol):
    """A lock that is ours, or was."""

    def insist(self) -> None:
        """Raise :class:`UnusableInput` where it may be another's by now."""


class Taken(Exception):
    """Somebody else has it; the text says who."""


@contextlib.contextmanager
def lock(path: Location, *, purpose: str) -> Iterator[Held]:
    """Hold an exclusive lock for as long as the block runs.

    Raises :class:`UnusableInput` at once when another process holds it.
    """
    try:
        with _leased(path) if is_remote(path) else _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB) as held:
            yield held
    except Taken as taken:
        ends = f"; the lock of a run that died ends by itself within {LEASE_SECONDS} s" if is_remote(path) else ""
        raise UnusableInput(f"{purpose} is already running ({taken}): wait for it, or stop it{ends}") from taken


@contextlib.contextmanager
def waiting_lock(path: Location) -> Iterator[Held]:
    """Hold an exclusive lock for as long as the block runs; wait while another process holds it."""
    if not is_remote(path):
        with _locked(path, fcntl.LOCK_EX) as held:
            yield held
        return
    with contextlib.ExitStack() as stack:
        while True:
            try:
                held = stack.enter_context(_leased(path))
                break
            except Taken:
                time.sleep(WAIT_SECONDS)
        yield held


class _Kernel:
    def insist(self) -> None:
        """It is ours until we let go."""


@contextlib.contextmanager
def _locked(path: Path, operation: int) -> Iterator[Held]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, operation)
        except BlockingIOError as error:
            stream.seek(0)
            raise Taken(stream.read().strip() or "another process") from error
        stream.truncate(0)
        stream.write(f"process {os.getpid()}")
        stream.flush()
        yield _Kernel()


@contextlib.contextmanager
def _leased(path: UPath) -> Iterator[Held]:
    lease = _Lease(path)
    lease.take()
    renewing = threading.Thread(target=lease.renew, name=f"lease of {path}", daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        lease.ending.set()
        renewing.join()
        lease.let_go()


@dataclass
class _Lease:
    """An object that says who holds it; whoever changes it names the version that is to be changed."""

    path: UPath
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    ending: threading.Event = field(default_factory=threading.Event)
    etag: str = ""
    renewed: float = 0.0
    is_lost: bool = False

    def take(self) -> None:
        """Raises :class:`Taken`."""
        try:
            self._write(IfNoneMatch="*")
        except OSError:
            if not self.path.exists():
                raise
            self._take_over()
        if self._read()[0].get("token") != self.token:  # a storage that knows no conditions has let two in
            raise Taken("another process, at the same moment")

    def _take_over(self) -> None:
        holder, etag, age = self._read()
        if age < LEASE_SECONDS and not _is_dead(holder):
            raise Taken(f"process {holder.get('process')} on {holder.get('host')}, heard of {age:.0f} s ago")
        try:
            self._write(IfMatch=etag)
        except OSError as error:
            raise Taken("another process, since a moment") from error

    def renew(self) -> None:
        """Until the end; a storage that does not answer for a while is asked again."""
        while not self.ending.wait(RENEWAL_SECONDS):
            try:
                self._write(IfMatch=self.etag)
            except Exception:  # whatever it is, the lease runs out: insist() tells
                with contextlib.suppress(Exception):
                    holder, etag, _ = self._read()
                    if holder.get("token") == self.token:  # it was written, and the answer got lost
                        self.etag = etag
                    else:
                        self.is_lost = True

    def insist(self) -> None:
        """See :class:`Held`."""
        if self.is_lost or time.monotonic() - self.renewed > LEASE_SECONDS:
            raise UnusableInput(
                f"the lock {self.path} could not be renewed for {LEASE_SECONDS} s and may be another run's by now; "
                f"nothing was published: run the same command again, it goes on from there"
            )

    def let_go(self) -> None:
        """Remove it if it is still ours; trouble is left to the lease's end."""
        with contextlib.suppress(Exception):
            if self._read()[0].get("token") == self.token:
                remove(self.path)

    def _write(self, **condition: str) -> None:
        holder = {"token": self.token, "host": socket.gethostname(), "process": os.getpid()}
        asked = time.monotonic()
        answer = self._call("put_object", Body=json.dumps(holder).encode(), **condition)
        self.etag, self.renewed = answer["ETag"], asked

    def _read(self) -> tuple[dict[str, Any], str, float]:
        """Holder, version, and seconds since it was written."""
        try:
            answer = self._call("get_object")
        except FileNotFoundError as error:
            raise Taken("another process, a moment ago") from error
        now = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
        try:
            holder = dict(json.loads(read_bytes(self.path)))
        except ValueError:
            holder = {}
        return holder, answer["ETag"], (now - answer["LastModified"]).total_seconds()

    def _call(self, name: str, **parameters: Any) -> Any:
        bucket, _, key = self.path.path.partition("/")
        return self.path.fs.call_s3(name, Bucket=bucket, Key=key, **parameters)


def _is_dead(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    import psutil

    return holder.get("host") == socket.gethostname() and not psutil.pid_exists(int(holder.get("process") or 0))
