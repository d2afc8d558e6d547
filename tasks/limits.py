"""How much a raw release may ask of this machine: bounds that no honest one comes near, each a setting.

A setting is an environment variable, ``SCANMILL_MAX_`` and the field's name in capitals, a whole number above zero.
One that is not the default is a parameter of the release, as it decides what is refused. What is decided while images
are decoded goes with the work to the workers, so that all of them judge alike.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields

from tasks.schema import UnusableInput

PREFIX = "SCANMILL_MAX_"
MIB = 2**20


@dataclass(frozen=True)
class Limits:
    """The most that is read; what has more is refused or quarantined, unread."""

    members: int = 1_000_000
    """Entries of one zip; each takes about a kilobyte of memory. The largest dataset has 112,120 images."""
    member_mib: int = 256
    """Of one archive member, unpacked (MiB)."""
    ratio: int = 1000
    """Unpacked to packed size of a zip's member from 1 MiB on. Deflate cannot exceed about 1032 (zlib's technical
    notes); medical images stay below 100."""
    image_mib: int = 128
    """Of one image, decoded: width x height x channels x bytes per channel (MiB). A mammogram of 5928 x 4728 pixels of
    16 bits takes 54; while it is looked at it is there about four times."""
    jpeg_scans: int = 100
    """Of a JPEG, each a pass over the whole picture; progressive ones have about ten."""
    table_mib: int = 128
    """Of one metadata table; in memory it takes about ten times as much."""
    table_columns: int = 10_000
    table_cell: int = 131_072
    """Characters of one cell."""

    @property
    def member_bytes(self) -> int:
        """Of one archive member, unpacked."""
        return self.member_mib * MIB

    @property
    def image_bytes(self) -> int:
        """Of one image, decoded."""
        return self.image_mib * MIB

    @property
    def table_bytes(self) -> int:
        """Of one metadata table."""
        return self.table_mib * MIB

    def as_parameters(self) -> dict[str, int]:
        """Those that differ from the default: parameters of the release."""
        return {name: value for name, value in asdict(self).items() if value != getattr(DEFAULT, name)}


DEFAULT = Limits()


def variable(field: str) -> str:
    """The setting of one of them."""
    return PREFIX + field.upper()


_SETTINGS = {field.name: variable(field.name) for field in fields(Limits)}


def current() -> Limits:
    """As set in the environment. Raises :class:`UnusableInput` for a setting that is no whole number above zero."""
    told = {name: text for name, setting in _SETTINGS.items() if (text := os.environ.get(setting))}
    return Limits(**{name: _number(name, text) for name, text in told.items()}) if told else DEFAULT


def _number(field: str, text: str) -> int:
    if not text.strip().isdecimal() or int(text) == 0:
        raise UnusableInput(f"{variable(field)} is {text!r}: it must be a whole number above zero")
    return int(text)
