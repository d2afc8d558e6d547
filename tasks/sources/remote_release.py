"""Which raw release, from which host: the dataset's own source, a mirror of it, or the user's list of addresses."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from urllib.parse import unquote, urlsplit

from tasks import credentials
from tasks.credentials import Credentials
from tasks.object_storage import complaining_of_storage
from tasks.schema import Dataset, Remote, Source, UnusableInput
from tasks.sources import figshare, https, physionet
from tasks.sources.listing import Listing
from tasks.sources.web import Manners, Web
from tasks.storage import Location


@dataclass(frozen=True)
class RemoteRelease:
    """One raw release as a user wants it fetched."""

    dataset: Dataset
    base: str | None = None
    """Address of a mirror, instead of the publisher's own."""
    files: tuple[Source, ...] = ()
    """Files of the user's own list, instead of the publisher's."""
    manners: Manners | None = None

    def __post_init__(self) -> None:
        """Raises :class:`UnusableInput` for a mirror with a secret in its address: Prefect keeps what it is given."""
        if self.base and ("@" in self.base or "?" in self.base):
            raise UnusableInput("the mirror's address (--source-url) has a password or a key in it; use one without")

    @property
    def remote(self) -> Remote:
        """Where it comes from; raises :class:`UnusableInput` for a dataset that only a person can fetch."""
        if self.files:
            return Remote("https", "")
        if self.dataset.remote is None:
            places = dict.fromkeys(source.url for source in self.dataset.sources)
            raise UnusableInput(
                f"{self.dataset.name} cannot be fetched by machine: get it at {' or '.join(places)} and give its "
                f"folder with --raw to `scanmill prepare`, or a list of https addresses with --files"
            )
        return self.dataset.remote

    @property
    def folder(self) -> str:
        """Where its files lie below ``raw/``; a recursive download from PhysioNet would put them there as well."""
        where = {"figshare": f"figshare/{self.remote.where}", "https": "https"}
        return where.get(self.remote.kind, f"physionet.org/files/{self.remote.where}")

    @contextmanager
    def connect(self, secrets: Credentials) -> Iterator[tuple[Web, Callable[[str], Listing | None]]]:
        """The host, and a way to look at it: the state of an earlier listing in, a listing or None out."""
        remote = self.remote
        if remote.kind == "figshare":
            web = figshare.connect((self.base or figshare.BASE).rstrip("/"), self.manners or figshare.MANNERS)
            look: Callable[[str], Listing | None] = partial(figshare.look, remote, web)
        elif remote.kind == "physionet":
            account = _account(self.dataset, remote, secrets)
            web = physionet.connect(
                (self.base or physionet.BASE).rstrip("/"), remote, account, self.manners or physionet.MANNERS
            )
            look = partial(physionet.look, remote, web)
        else:
            web = https.connect(self.manners or https.MANNERS)
            look = partial(https.look, self.files or self.dataset.sources, self.base, web)
        try:
            yield web, look
        finally:
            web.close()


def _account(dataset: Dataset, remote: Remote, secrets: Credentials) -> tuple[str, str] | None:
    if not remote.needs_account:
        return None
    purpose = f"{dataset.name} is on {remote.kind} and needs an account there"
    name, password = (
        credentials.insist(f"{remote.kind}-{part}", secrets, purpose, remote.access)
        for part in ("username", "password")
    )
    return name.get_secret_value(), password.get_secret_value()


def read_file_list(path: Location) -> tuple[Source, ...]:
    """The user's own list: one file per line, ``URL`` or ``SHA256 URL``; ``#`` begins a comment."""
    try:
        with complaining_of_storage(path):
            text = path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "No such file" if isinstance(error, FileNotFoundError) else error
        raise UnusableInput(f"--files {path} cannot be read: {reason}") from error
    lines = [line.partition("#")[0].split() for line in text.splitlines()]
    found = []
    for number, words in enumerate(lines, 1):
        if not words:
            continue
        *digest, url = words
        is_pinned = len(digest) == 1 and re.fullmatch(r"[0-9a-fA-F]{64}", digest[0]) is not None
        try:
            parts = urlsplit(url)
        except ValueError as error:
            raise UnusableInput(f"{path}, line {number}: that is no address: {error}") from error
        name = unquote(parts.path).rpartition("/")[2]
        if "@" in parts.netloc:
            raise UnusableInput(f"{path}, line {number}: an address with a password in it; use one without")
        if not url.startswith(("https://", "http://")) or not name or not (is_pinned or not digest):
            raise UnusableInput(
                f"{path}, line {number}: expected URL, or SHA256 and URL, not {url.partition('?')[0]!r}"
            )
        found.append(Source(name, url, sha256=digest[0].lower() if digest else None))
    if not found:
        raise UnusableInput(f"--files {path} lists no address")
    return tuple(found)
