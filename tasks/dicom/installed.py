"""The extra ``dicom``: pydicom, and GDCM as its decoder of compressed pixels. Nothing else imports them at its top."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Mapping
from functools import cache

from tasks.code_version import DICOM_PACKAGES, library_versions, source_digest
from tasks.schema import UnusableInput

MODULES = {"pydicom": "pydicom", "gdcm": "python-gdcm"}
REMEDY = "pip install 'scanmill[dicom]'"


@cache
def versions() -> Mapping[str, str]:
    """Of the libraries and of the code that turn DICOM files into pixels and texts.

    Raises :class:`UnusableInput` where the extra is missing.
    """
    insist_on_extra()
    return {**library_versions(DICOM_PACKAGES), "scanmill (dicom)": source_digest("tasks/dicom/*.py")}


def insist_on_extra() -> None:
    """Raise :class:`UnusableInput` with the remedy where pydicom or its decoder is not installed."""
    missing = [package for module, package in MODULES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise UnusableInput(f"DICOM files cannot be read without {' and '.join(missing)}: {REMEDY}")


def insist_on_same(wanted: Mapping[str, str]) -> None:
    """Raise :class:`UnusableInput` on a worker whose libraries are others than the driver's: its pixels might be."""
    here = versions()
    other = [f"{name} {here.get(name, 'none')} instead of {version}" for name, version in wanted.items()]
    if dict(here) != dict(wanted):
        raise UnusableInput(f"a Dask worker has {', '.join(other)}: install the same everywhere")


@cache
def quiet() -> None:
    """Keep what libraries say of odd files from terminals; what matters becomes a reason in the quarantine.

    pydicom checks no value against its kind while it reads: what is odd there is not what is asked for here.
    """
    from pydicom import config

    warnings.filterwarnings("ignore", module=r"pydicom\b")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    config.settings.reading_validation_mode = config.IGNORE
