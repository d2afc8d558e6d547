"""Reading tars and gzipped tars in place: one pass from end to end finds the members, seek points find them again.

The pass never holds more than a few pieces. What it found is remembered in two files beside each other, ``X.seek`` and
``X.members.json``; both are caches. This package says what is there and where a stream breaks; which members must
not be read for other reasons is for :mod:`tasks.archives` to say.
"""

from tasks.tarballs.entries import DAMAGES, Entry
from tasks.tarballs.listing import Listing, Tick, forget, insist_on_content, is_remembered, is_tar_name, scan
from tasks.tarballs.reading import Unreadable, data_range, head, read, salvage

__all__ = [
    "DAMAGES",
    "Entry",
    "Listing",
    "Tick",
    "Unreadable",
    "data_range",
    "forget",
    "head",
    "insist_on_content",
    "is_remembered",
    "is_tar_name",
    "read",
    "salvage",
    "scan",
]
