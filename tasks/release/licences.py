"""What machines call a licence: its SPDX identifier, and where its text stands."""

from __future__ import annotations

import re
from dataclasses import replace

from tasks.schema import Dataset


def spdx(licence: str) -> str | None:
    """SPDX identifier of a Creative Commons licence as people write it (``CC BY 4.0``); None for any other text."""
    name = re.sub(r"[\s-]+", "-", licence.strip()).upper()
    return name if re.fullmatch(r"CC(0|-BY(-(NC|SA|ND))*)-\d\.\d", name) else None


def licence_url(licence: str) -> str | None:
    """Where the text of the licence stands, if its name says so without doubt."""
    identifier = spdx(licence)
    return identifier and f"https://spdx.org/licenses/{identifier}.html"


def of_images(dataset: Dataset) -> Dataset:
    """The declaration as it holds for a release of images: with the licence that those are under."""
    return replace(dataset, licence=dataset.terms.images_licence or dataset.licence)
