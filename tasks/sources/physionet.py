"""PhysioNet: a project's files below ``files/<project>/<version>/``, with their digests in ``SHA256SUMS.txt``."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote

import httpx

from tasks.schema import Remote, UnusableInput
from tasks.sources.listing import Listing, RemoteFile
from tasks.sources.web import Manners, Unfetchable, Web

BASE = "https://physionet.org"
MANNERS = Manners(at_once=4)
LOOPBACK = ("localhost", "127.0.0.1", "::1")
SUMS = "SHA256SUMS.txt"
LINE = re.compile(r"^([0-9a-f]{64})\s+\*?(?:\./)?(\S.*)$")


def connect(base: str, remote: Remote, account: tuple[str, str] | None, manners: Manners = MANNERS) -> Web:
    """PhysioNet, or a mirror of it at ``base``, with the user's account where the project wants one.

    Raises :class:`UnusableInput` rather than send a password over a line that anybody can read.
    """
    address = httpx.URL(base)
    if account and address.scheme != "https" and address.host not in LOOPBACK:
        raise UnusableInput(f"{base} is not https: your PhysioNet password would travel in the open")

    def judge(response: httpx.Response) -> None:
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise Unfetchable(
                f"{response.url}: PhysioNet does not know this user name and password (401). {remote.access}"
            )
        if response.status_code == httpx.codes.FORBIDDEN:
            raise Unfetchable(f"{response.url}: this account has no access to {remote.where} (403). {remote.access}")

    return Web(base, manners, auth=account, judge=judge)


def look(remote: Remote, web: Web, state: str) -> Listing | None:
    """The files of a project's version, or None where ``state`` (of an earlier listing) is still true.

    One request: the digest list, conditional on its ETag or time. Raises :class:`Unfetchable` for a list that is none.
    """
    folder = f"{web.base}/files/{remote.where}"
    validator = state.partition(" ")[2]
    header = "If-None-Match" if validator.startswith(('"', "W/")) else "If-Modified-Since"
    answer = web.get(f"{folder}/{SUMS}", headers={header: validator} if validator else {})
    if answer.status_code == httpx.codes.NOT_MODIFIED:
        return None
    digest = hashlib.sha256(answer.content).hexdigest()
    if digest == state.partition(" ")[0]:
        return None
    validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified", "")
    listed = [_file(line, folder) for line in answer.text.splitlines() if line.strip()]
    own = RemoteFile(SUMS, f"{folder}/{SUMS}", len(answer.content), sha256=digest)
    return Listing(
        name=f"PhysioNet project {remote.where.replace('/', ', version ')}",
        version=remote.where.rpartition("/")[2],
        files=(*(file for file in listed if file.path != SUMS), own),
        state=f"{digest} {validator}",
    )


def _file(line: str, folder: str) -> RemoteFile:
    match = LINE.match(line)
    if match is None:
        raise Unfetchable(f"{folder}/{SUMS} has a line that is no digest and path: {line[:80]!r}")
    return RemoteFile(match[2], f"{folder}/{quote(match[2])}", sha256=match[1])
