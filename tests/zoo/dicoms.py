"""DICOM files that are meant to do harm; the release of all of them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.encaps import encapsulate

from tests import dicom_files
from tests.dicom_files import dicom, picture, uid
from tests.zoo.animals import Accepted, Quarantined
from tests.zoo.residents import FORMULA, MARK

DATASET = "made-up-dicom"
DATASETS = Path(dicom_files.__file__).with_name("dicom_datasets")
"""What ``SCANMILL_DATASETS`` has to name for it."""
KILLER = Path(dicom_files.__file__).parent / "fuzz" / "corpus" / "dicom" / "lossless-ends-its-process"


@dataclass(frozen=True)
class DicomAnimal:
    """One DICOM file, or what is called one."""

    name: str
    what: str
    expected: Quarantined | Accepted
    make: Callable[[int], bytes]
    """Of the number that its UID is to end with."""

    @property
    def member(self) -> str:
        """Its path in the raw folder."""
        return f"images/{self.name.replace(' ', '-')}"


def _with(**elements: Any) -> Callable[[int], bytes]:
    return lambda number: dicom(number, picture(number), **elements)


def _rle_bomb(number: int) -> bytes:
    """One frame of 96 x 88 pixels, each segment of which unpacks to 512 MiB."""
    run = b"\x81\0" * (2**22)
    frame = struct.pack("<16I", 2, 64, 64 + len(run), *[0] * 13) + run + run
    whole = dicom(number, picture(number), syntax="rle")
    at = whole.rindex(b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff") + 12
    return whole[:at] + encapsulate([frame], has_bot=False) + b"\xfe\xff\xdd\xe0\0\0\0\0"


def _of_many_tiles(number: int) -> bytes:
    """A JPEG 2000 that says that each of its tiles has one pixel."""
    whole = dicom(number, picture(number), syntax="jpeg-2000")
    at = whole.index(b"\xff\x4f\xff\x51") + 24
    return whole[:at] + struct.pack(">II", 1, 1) + whole[at + 8 :]


def _polyglot(number: int) -> bytes:
    """A sound file whose preamble is the beginning of a PNG."""
    return b"\x89PNG\r\n\x1a\n" + dicom(number, picture(number))[8:]


DICOMS = [
    DicomAnimal("sound", "for comparison", Accepted(), lambda n: dicom(n, picture(n))),
    DicomAnimal("script as patient", "HTML as PatientID", Accepted({"patient_id": MARK}), _with(PatientID=MARK)),
    DicomAnimal("formula", "as manufacturer", Accepted({"meta.Manufacturer": FORMULA}), _with(Manufacturer=FORMULA)),
    DicomAnimal("terminal", "escapes as manufacturer", Accepted(), _with(Manufacturer="\x1b[2J\x07Made Up")),
    DicomAnimal("PNG too", "its preamble begins like a PNG", Accepted(), _polyglot),
    DicomAnimal("UID with a path", "../../etc/passwd", Quarantined("undecodable-image"),
                _with(SOPInstanceUID="../../etc/passwd")),
    DicomAnimal("no UID", "nothing to call it by", Quarantined("undecodable-image"), _with(SOPInstanceUID=None)),
    DicomAnimal("deep", "a hundred thousand sequences within each other", Quarantined("undecodable-image"),
                lambda n: dicom_files.nested(100_000)),
    DicomAnimal("many elements", "three million in one sequence", Quarantined("undecodable-image"),
                lambda n: dicom_files.with_many_elements(3_000_000)),
    DicomAnimal("deflated zeros", "1 MiB that inflates to 1 GiB", Quarantined("undecodable-image"),
                lambda n: dicom_files.deflated_zeros(2**30)),
    DicomAnimal("giant", "60,000 x 60,000 pixels", Quarantined("oversized-image"), _with(Rows=60_000, Columns=60_000)),
    DicomAnimal("giant inside", "a JPEG of 60,000 x 60,000 in it", Quarantined("undecodable-image"),
                lambda n: dicom_files.other_size(dicom(n, picture(n), syntax="jpeg-lossless"))),
    DicomAnimal("frames of nothing", "900,000 frames in one", Quarantined("truncated-image"),
                _with(NumberOfFrames=900_000)),
    DicomAnimal("RLE bomb", "16 MiB that unpack to 1 GiB", Quarantined("undecodable-image"), _rle_bomb),
    DicomAnimal("many tiles", "a JPEG 2000 of 8,448 tiles", Quarantined("undecodable-image"), _of_many_tiles),
    DicomAnimal("killer", "ends the process of its decoder", Quarantined("undecodable-image"),
                lambda n: KILLER.read_bytes()),
]  # fmt: skip


def write(raw: Path) -> None:
    """The release: each beside sound ones, so that both splits have some."""
    (raw / "images").mkdir(parents=True)
    for number, animal in enumerate(DICOMS, 100):
        (raw / animal.member).write_bytes(animal.make(number))
    for number in range(200, 220):
        (raw / "images" / uid(number)).write_bytes(dicom(number, picture(number)))
