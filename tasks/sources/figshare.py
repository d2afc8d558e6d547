"""figshare, public API v2 (figshare/user_documentation, docs/api and swagger.json): articles and their files.

Files are asked for through the API, which redirects to an address that is valid for about ten seconds; only the API's
own address is ever kept. The documentation asks for at most one request per second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import httpx

from tasks.schema import Remote
from tasks.sources.listing import Listing, RemoteFile
from tasks.sources.web import Manners, Passing, Unfetchable, Web

BASE = "https://api.figshare.com/v2"
MANNERS = Manners(seconds_between=1.0, at_once=2)
PAGE_SIZE = 1000
"""The largest that the API gives."""


def connect(base: str, manners: Manners = MANNERS) -> Web:
    """The API at ``base``."""

    def judge(response: httpx.Response) -> None:
        is_page = "text/html" in response.headers.get("Content-Type", "")
        if response.status_code == httpx.codes.FORBIDDEN and not is_page and not str(response.url).startswith(base):
            raise Passing("the short-lived address that figshare redirects to was not accepted (403)")
        if response.status_code == httpx.codes.NOT_FOUND:
            raise Unfetchable(
                f"{response.url.copy_with(query=None)}: figshare has no such article or file, or it is not public (404)"
            )

    return Web(base, manners, judge=judge)


def look(remote: Remote, web: Web, state: str) -> Listing | None:
    """The newest version of an article, or None where ``state`` (of an earlier listing) is still true.

    One request if nothing has changed. Raises :class:`Unfetchable` for an article without files to fetch.
    """
    url = f"{web.base}/articles/{remote.where}"
    try:
        return _look(url, web, state)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise Unfetchable(
            f"{url}: figshare's answer is not what its API describes ({type(error).__name__}: {error})"
        ) from error


def _look(url: str, web: Web, state: str) -> Listing | None:
    article = web.json(url)
    if _state(article) == state:
        return None
    while True:
        _insist_on_files(article, url)
        files = _files(web, url)
        before, article = article, web.json(url)
        if _state(article) == _state(before):  # or a new version came out while its files were listed
            return _listing(article, files, web)


def _state(article: Mapping[str, Any]) -> str:
    return f"{article['version']} {article['modified_date']}"


def _insist_on_files(article: Mapping[str, Any], url: str) -> None:
    reasons = {
        "is_embargoed": "is under embargo" + (f" until {d}" if (d := article.get("embargo_date")) else ""),
        "is_confidential": "is confidential",
        "is_metadata_record": "has a description only, no files",
        "download_disabled": "may not be downloaded: its owner has switched that off",
    }
    for name, words in reasons.items():
        if article.get(name):
            raise Unfetchable(f"{url}: the article {words}")


def _files(web: Web, url: str) -> list[Mapping[str, Any]]:
    """All pages of the file list; the API tells no total, so a short page is the last."""
    found: list[Mapping[str, Any]] = []
    for page in range(1, 5001):  # the API's own limit
        part = web.json(f"{url}/files", params={"page": page, "page_size": PAGE_SIZE})
        found += part
        if len(part) < PAGE_SIZE:
            break
    return found


def _listing(article: Mapping[str, Any], files: Sequence[Mapping[str, Any]], web: Web) -> Listing:
    held = [file for file in files if not file["is_link_only"]]
    if not held:
        raise Unfetchable(f"{web.base}/articles/{article['id']}: the article holds no file")
    return Listing(
        name=f"figshare article {article['id']}, version {article['version']}",
        version=str(article["version"]),
        files=tuple(_file(file, web) for file in held),
        state=_state(article),
        licence=str((article.get("license") or {}).get("name", "")),
        left_out=tuple(f"{f['name']}: only a link to {f['download_url']}" for f in files if f["is_link_only"]),
    )


def _file(file: Mapping[str, Any], web: Web) -> RemoteFile:
    return RemoteFile(
        path=str(file["name"]),
        url=f"{web.base}/file/download/{file['id']}",
        size_bytes=int(file["size"]),
        md5=str(file.get("computed_md5") or file.get("supplied_md5") or ""),
    )
