"""Fetch: the raw release from where its publisher keeps it, into the lake."""

from __future__ import annotations

from tasks.credentials import Credentials
from tasks.datasets import find
from tasks.lake import Lake
from tasks.sources import fetching
from tasks.sources.fetched import Fetched
from tasks.sources.remote_release import RemoteRelease, read_file_list
from tasks.storage import location


def fetch(
    dataset: str,
    lake: str,
    secrets: Credentials,
    *,
    source_url: str | None = None,
    files: str | None = None,
    rehash: bool = False,
) -> Fetched:
    """Bring what is missing or has changed; see :func:`tasks.sources.fetching.fetch`.

    ``source_url`` is a mirror; ``files`` a list of addresses to fetch instead of what the dataset declares.
    """
    return fetching.fetch(_wanted(dataset, source_url, files), Lake(lake, dataset).raw, secrets, rehash=rehash)


def nothing_new(
    dataset: str, lake: str, secrets: Credentials, *, source_url: str | None = None, files: str | None = None
) -> Fetched | None:
    """The raw release if it is here and its source has not changed since, else None; fetches nothing."""
    return fetching.nothing_new(_wanted(dataset, source_url, files), Lake(lake, dataset).raw, secrets)


def insist_on_source(dataset: str, *, files: str | None) -> None:
    """Raise :class:`tasks.schema.UnusableInput` for a dataset that cannot be fetched, and for a list that is none."""
    _ = _wanted(dataset, None, files).remote


def _wanted(dataset: str, source_url: str | None, files: str | None) -> RemoteRelease:
    listed = read_file_list(location(files)) if files else ()
    return RemoteRelease(find(dataset), source_url, listed)
