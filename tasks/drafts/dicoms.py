"""DICOM files of which nothing is known: their headers as a table, in the place of one that a publisher wrote."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pandas as pd

from tasks.archives import Archive, Member, MemberRefused, read_head
from tasks.dicom import installed
from tasks.dicom.elements import Cut
from tasks.dicom.headers import HEADER_BYTES, Header, header_of
from tasks.dicom.identifying import kept
from tasks.drafts.looks import Looks
from tasks.drafts.sheets import Sheet
from tasks.limits import current
from tasks.schema import DICOM, HEADERS, TableRule

KEEPS = ("PatientID", "PatientSex", "PatientAge", "StudyInstanceUID", "SeriesInstanceUID")
"""Pseudonyms and facts of a person that a release may need, where the files have them."""
MOST = 1000
"""Headers that are read at most."""
HEADS = (2**16, 2**20, HEADER_BYTES)


def read(archives: Sequence[Archive], images: Sequence[Member]) -> tuple[Sheet, Looks]:
    """Headers of up to a thousand files, evenly over all: a sheet with their ``key`` and what they say, and how they
    look. Raises :class:`tasks.schema.UnusableInput` where the extra is not installed."""
    installed.insist_on_extra()
    by_name = {archive.name: archive for archive in archives}
    count = len(images)
    places = sorted({number * count // MOST for number in range(MOST)}) if count > MOST else range(count)
    headers = [_header(by_name[images[place].archive], images[place]) for place in places]
    sound = [header for header in headers if not header.problem]
    rows = pd.DataFrame([header.texts for header in sound], columns=list(kept(KEEPS)), dtype=str)
    rows.insert(0, "key", [header.uid for header in sound])
    rows.index = pd.RangeIndex(1, len(rows) + 1)
    rows = rows.loc[:, (rows != "").any()]
    refused = Counter(header.problem for header in headers if header.problem)
    return Sheet(HEADERS, TableRule(DICOM, tuple(rows.columns)), rows), _looks(rows, len(headers), dict(refused))


def _header(archive: Archive, member: Member) -> Header:
    for most in HEADS:
        try:
            head = read_head(archive, member.name, member.offset, min(most, max(member.size_bytes, 1)))
            return header_of(head, member.size_bytes, KEEPS, current())
        except MemberRefused as refusal:
            return Header(problem=refusal.args[0], detail=refusal.args[1])
        except Cut:
            continue
    return Header(problem="undecodable-image")


def _looks(rows: pd.DataFrame, looked: int, refused: dict[str, int]) -> Looks:
    """As headers tell it: no pixel is decoded."""
    sizes = Counter(zip(rows["Columns"].astype(int), rows["Rows"].astype(int), strict=True))
    is_colour = (rows["SamplesPerPixel"] == "3") | (rows["PhotometricInterpretation"] == "PALETTE COLOR")
    depths = tuple(sorted({16 if bits > 8 else 8 for bits in rows["BitsStored"].astype(int)}))
    channels = tuple(sorted({3 if colour else 1 for colour in is_colour}))
    return Looks(looked, dict(sizes), depths, channels, False, refused, {})
