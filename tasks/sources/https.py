"""Plain files over https, each pinned by its digest where somebody wrote one down, else told apart by its ETag."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tasks.schema import Source
from tasks.sources.listing import Listing, RemoteFile
from tasks.sources.web import Manners, Unfetchable, Web, shown

MANNERS = Manners(at_once=4)


def connect(manners: Manners = MANNERS) -> Web:
    """Any host."""
    return Web("", manners)


def look(sources: Sequence[Source], base: str | None, web: Web, state: str) -> Listing | None:
    """The files, or None where ``state`` (of an earlier listing) is still true; ``base`` replaces scheme and host.

    One request for every file that is not pinned; none for those that are: their bytes cannot change.
    """
    files = tuple(_file(source, base, web) for source in sources)
    now = json.dumps([[file.path, file.digest] for file in files])
    if now == state:
        return None
    return Listing(name=f"{len(files)} files over https", version="", files=files, state=now)


def _file(source: Source, base: str | None, web: Web) -> RemoteFile:
    url = source.url if base is None else f"{base.rstrip('/')}/{source.url.split('://', 1)[-1].partition('/')[2]}"
    if source.sha256 or source.md5:
        return RemoteFile(source.name, url, source.size_bytes, source.md5 or "", source.sha256 or "")
    answer = web.head(url)
    length = answer.headers.get("Content-Length", "")
    etag = answer.headers.get("ETag") or answer.headers.get("Last-Modified", "")
    if not etag:
        raise Unfetchable(
            f"{shown(url)}: the host tells neither ETag nor time, so no change could be noticed: pin its SHA-256"
        )
    return RemoteFile(source.name, url, int(length) if length.isdecimal() else None, etag=etag)
