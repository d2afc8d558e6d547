"""figshare's API, its download host and the object store behind them, all on one address."""

from __future__ import annotations

import json
import mimetypes
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode

from tests.fakes.servers.http import Answer, Asked, Server, Stored

Json = dict[str, Any]
FIRST_FILE_ID = 48000001
_LICENSES = ("CC BY 4.0", "CC0", "MIT", "GPL", "GPL 2.0+", "GPL 3.0+", "Apache 2.0")
_PAGED = {"page": (1, 5000, 1), "page_size": (1, 1000, 10)}
_OFFSET = {"limit": (1, 1000, 10), "offset": (0, 5000, 0)}
"""Parameter to least, most and default; only one of the pairs in a request."""


class BadParameter(ValueError):
    """A query that the API answers with 422."""


@dataclass(frozen=True)
class _File:
    """A file as stored, and the digest that the API claims for it."""

    id: int
    name: str
    stored: Stored
    md5: str
    link: str = ""


@dataclass(frozen=True)
class _Version:
    """Ids, not files: a file that is swapped changes in all versions that hold it."""

    license: str
    published: str
    file_ids: tuple[int, ...]


@dataclass
class _Article:
    versions: list[_Version] = field(default_factory=list)
    is_embargoed: bool = False


@dataclass
class _Signed:
    """What a presigned address stands for."""

    file_id: int
    expires: str
    deadline: float
    is_used: bool = False


class FakeFigshare(Server):
    """Articles with versions under ``api``; every download is redirected twice, to an address that soon expires."""

    def __init__(self) -> None:
        super().__init__()
        self.url_seconds = 10.0
        """How long a presigned address made from now on is valid; a download that has begun may finish."""
        self.single_use = False
        """Refuse a presigned address once it has been read from."""
        self.without_computed_md5 = False
        """Leave ``computed_md5`` empty; the digest is in ``supplied_md5``, which is otherwise empty."""
        self.without_md5 = False
        """Leave both empty."""
        self._articles: dict[int, _Article] = {}
        self._files: dict[int, _File] = {}
        self._signed: dict[str, _Signed] = {}

    @property
    def api(self) -> str:
        """Base of the API's addresses."""
        return f"{self.url}/v2"

    def publish(self, article_id: int, files: Mapping[str, bytes], *, license: str = "CC BY 4.0") -> int:
        """Publish the next version, with these files alone; gives its number.

        A file of the same name and bytes keeps its id. Links of the version before are not taken along.
        """
        article = self._articles.setdefault(article_id, _Article())
        before = {file.name: file for file in self._newest(article_id)} if article.versions else {}
        ids = tuple(self._kept_or_added(before.get(name), name, data) for name, data in files.items())
        article.versions.append(_Version(license, self.store(b"").modified.strftime("%Y-%m-%dT%H:%M:%SZ"), ids))
        return len(article.versions)

    def embargo(self, article_id: int) -> None:
        """Close all versions: no ``files`` key, an empty file list, and 404 for each file."""
        self._articles[article_id].is_embargoed = True

    def link(self, article_id: int, name: str, url: str) -> None:
        """Add a file that lies elsewhere to the newest version, without a new one."""
        versions = self._articles[article_id].versions
        file_id = self._add(_File(0, name, self.store(b""), "", url))
        versions[-1] = replace(versions[-1], file_ids=(*versions[-1].file_ids, file_id))

    def swap(self, article_id: int, name: str, data: bytes) -> None:
        """Replace a file of the newest version under its id, no new version: other bytes, size, digest and tag."""
        file, stored = self._named(article_id, name), self.store(data)
        self._files[file.id] = replace(file, stored=stored, md5=stored.md5)

    def corrupt(self, article_id: int, name: str) -> None:
        """Serve a file of the newest version with its last byte changed, which the API does not know."""
        file = self._named(article_id, name)
        data = file.stored.data
        self._files[file.id] = replace(file, stored=self.store(data[:-1] + bytes([data[-1] ^ 0xFF])))

    def answer(self, asked: Asked) -> Answer:
        for pattern, respond in self._routes().items():
            if found := re.fullmatch(pattern, asked.path):
                try:
                    return respond(asked, *map(int, found.groups()))
                except KeyError:
                    return _error(404, "EntityNotFound", "Entity not found")
                except BadParameter as error:
                    return _error(422, "InvalidParameters", str(error))
        return _error(404, "NotFound", "Unknown address")

    def _routes(self) -> Mapping[str, Callable[..., Answer]]:
        return {
            r"/v2/articles/(\d+)": lambda _, article: _json(self._body(article)),
            r"/v2/articles/(\d+)/versions": lambda _, article: _json(self._versions(article)),
            r"/v2/articles/(\d+)/versions/(\d+)": lambda _, article, number: _json(self._body(article, number)),
            r"/v2/articles/(\d+)/files": lambda asked, article: _json(self._page(asked, article)),
            r"/v2/articles/(\d+)/files/(\d+)": lambda _, article, file: _json(self._one(article, file)),
            r"/v2/file/download/(\d+)": self._to_download_host,
            r"/ndownloader/files/(\d+)": self._to_object,
            r"/s3/(\d+)": self._object,
        }

    def _kept_or_added(self, before: _File | None, name: str, data: bytes) -> int:
        stored = self.store(data)
        if before and not before.link and before.md5 == stored.md5:
            return before.id
        return self._add(_File(0, name, stored, stored.md5))

    def _add(self, file: _File) -> int:
        file_id = FIRST_FILE_ID + len(self._files)
        self._files[file_id] = replace(file, id=file_id)
        return file_id

    def _newest(self, article_id: int) -> list[_File]:
        return [self._files[file_id] for file_id in self._articles[article_id].versions[-1].file_ids]

    def _named(self, article_id: int, name: str) -> _File:
        return {file.name: file for file in self._newest(article_id) if not file.link}[name]

    def _versions(self, article_id: int) -> list[Json]:
        numbers = range(1, len(self._articles[article_id].versions) + 1)
        return [{"version": n, "url": f"{self.api}/articles/{article_id}/versions/{n}"} for n in numbers]

    def _body(self, article_id: int, number: int | None = None) -> Json:
        """The article at a version, the newest if none is named."""
        article = self._articles[article_id]
        number = len(article.versions) if number is None else number
        if not 1 <= number <= len(article.versions):
            raise KeyError(number)
        version = article.versions[number - 1]
        files = [self._files[file_id] for file_id in version.file_ids]
        body = self._about(article_id, number, version.license)
        body |= _dates(article.versions[0].published, version.published)
        body |= {"size": sum(len(file.stored.data) for file in files), "is_embargoed": article.is_embargoed}
        body["has_linked_file"] = any(file.link for file in files)
        return body if article.is_embargoed else body | {"files": [self._described(file) for file in files]}

    def _about(self, article_id: int, number: int, license: str) -> Json:
        value = _LICENSES.index(license) + 1 if license in _LICENSES else 99
        return {
            "id": article_id,
            "title": f"Invented data {article_id}",
            "doi": f"10.6084/m9.figshare.{article_id}.v{number}",
            "version": number,
            "status": "public",
            "license": {"value": value, "name": license, "url": f"https://license.invalid/{value}"},
            "authors": [{"id": 97657, "full_name": "A. Nonymous", "is_active": True, "url_name": "A", "orcid_id": ""}],
            "is_confidential": False,
            "is_metadata_record": False,
            "download_disabled": False,
            "defined_type_name": "dataset",
            "url_public_api": f"{self.api}/articles/{article_id}",
            "url_public_html": f"{self.url}/articles/dataset/_/{article_id}",
            "resource_doi": None,
            "embargo_date": None,
            "key_of_next_year": {"unheard": ["of"]},
        }

    def _described(self, file: _File) -> Json:
        md5 = "" if self.without_md5 else file.md5
        return {
            "id": file.id,
            "name": file.name,
            "size": len(file.stored.data),
            "is_link_only": bool(file.link),
            "download_url": file.link or f"{self.url}/ndownloader/files/{file.id}",
            "supplied_md5": md5 if self.without_computed_md5 else "",
            "computed_md5": "" if self.without_computed_md5 else md5,
            "mimetype": mimetypes.guess_type(file.name)[0] or "application/octet-stream",
        }

    def _page(self, asked: Asked, article_id: int) -> list[Json]:
        """A page of the newest version's files; one beyond the last is empty."""
        first, count = _window(asked.query)
        files = [] if self._articles[article_id].is_embargoed else self._newest(article_id)
        return [self._described(file) for file in files[first : first + count]]

    def _one(self, article_id: int, file_id: int) -> Json:
        if self._articles[article_id].is_embargoed:
            raise KeyError(file_id)
        return self._described({file.id: file for file in self._newest(article_id)}[file_id])

    def _public(self, file_id: int) -> _File:
        """A file of any version that may be downloaded."""
        file = self._files[file_id]
        homes = [a for a in self._articles.values() if any(file_id in version.file_ids for version in a.versions)]
        if file.link or all(article.is_embargoed for article in homes):
            raise KeyError(file_id)
        return file

    def _to_download_host(self, asked: Asked, file_id: int) -> Answer:
        return _redirect(f"{self.url}/ndownloader/files/{self._public(file_id).id}")

    def _to_object(self, asked: Asked, file_id: int) -> Answer:
        token, expires = secrets.token_hex(16), str(int(time.time() + self.url_seconds))
        self._signed[token] = _Signed(self._public(file_id).id, expires, time.monotonic() + self.url_seconds)
        return _redirect(f"{self.url}/s3/{file_id}?{urlencode({'token': token, 'expires': expires})}")

    def _object(self, asked: Asked, file_id: int) -> Answer:
        signed = self._signed.get(asked.query.get("token", ""))
        if not signed or (signed.file_id, signed.expires) != (file_id, asked.query.get("expires")):
            return _denied("SignatureDoesNotMatch", "The request signature does not match")
        if time.monotonic() >= signed.deadline or (self.single_use and signed.is_used):
            return _denied("AccessDenied", "Request has expired")
        signed.is_used |= asked.method == "GET"
        return self.give(asked, self._files[file_id].stored)


def _dates(first: str, last: str) -> Json:
    timeline = {"firstOnline": first, "posted": last, "revision": last}
    return {"created_date": last, "published_date": last, "modified_date": last, "timeline": timeline}


def _window(query: Mapping[str, str]) -> tuple[int, int]:
    """Offset and length of the page asked for."""
    if query.keys() & _PAGED.keys() and query.keys() & _OFFSET.keys():
        raise BadParameter("page and page_size cannot be mixed with limit and offset")
    if query.keys() & _OFFSET.keys():
        count, first = (_number(query, name, *bounds) for name, bounds in _OFFSET.items())
        return first, count
    page, size = (_number(query, name, *bounds) for name, bounds in _PAGED.items())
    return (page - 1) * size, size


def _number(query: Mapping[str, str], name: str, least: int, most: int, default: int) -> int:
    text = query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise BadParameter(f"{name} must be from {least} to {most}, not {text!r}")
    return int(text)


def _json(value: Json | Sequence[Json], status: int = 200) -> Answer:
    return Answer(status, {"Content-Type": "application/json; charset=UTF-8"}, json.dumps(value).encode())


def _error(status: int, code: str, message: str) -> Answer:
    return _json({"message": message, "code": code, "data": {}}, status)


def _redirect(url: str) -> Answer:
    return Answer(302, {"Location": url})


def _denied(code: str, message: str) -> Answer:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return Answer(403, {"Content-Type": "application/xml"}, body.encode())
