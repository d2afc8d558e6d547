"""Samples and images of a release that may be learned from: read by :mod:`scanmill`, refused as data are here."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

import pandas as pd

import scanmill
from scanmill.images import Pixels as Image
from scanmill.images import decode
from scanmill.places import place_of
from scanmill.reading import images_in_order
from scanmill.release import from_manifest
from tasks.learning.admission import Release
from tasks.progress import Meter
from tasks.schema import DataRefused
from tasks.storage import is_remote

__all__ = ["Image", "decode", "images_of", "opened", "samples_of"]


@contextlib.contextmanager
def refusing() -> Iterator[None]:
    """Turn what :mod:`scanmill` refuses into :class:`DataRefused`."""
    try:
        yield
    except scanmill.ReleaseRefused as error:
        raise DataRefused(str(error)) from error


def opened(release: Release) -> scanmill.Release:
    """The release as training scripts have it. Raises :class:`DataRefused` where it is not what its manifest says."""
    folder = f"s3://{release.folder.path}" if is_remote(release.folder) else release.folder
    with refusing():
        return from_manifest(place_of(folder), release.manifest, release.manifest_sha256)


def samples_of(release: Release, splits: Collection[str]) -> pd.DataFrame:
    """The sample table of these splits, in reading order."""
    table = opened(release).samples
    return table[table["split"].isin(list(splits))].reset_index(drop=True)


def images_of(release: Release, splits: Collection[str]) -> Iterator[tuple[str, Image]]:
    """Sample id and grey pixels of every sample of these splits, in their own size and depth, in reading order.

    Raises :class:`DataRefused` where an image is not what the sample table says.
    """
    source = opened(release)
    rows = source.samples.index[source.samples["split"].isin(list(splits))].to_numpy()
    meter = Meter("read", len(rows), "images")
    with refusing():
        for row, pixels in meter.each(images_in_order(source, rows)):
            yield str(source.samples["sample_id"].iat[row]), pixels
