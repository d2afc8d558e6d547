"""The raw release of ``scanmill demo``: drawn, not photographed, with the publisher's layout and planted defects."""

from __future__ import annotations

from pathlib import Path

from tasks.demo_release import write_nih_release
from tasks.files import read_json, write_json


def make_raw(folder: Path, images: int) -> Path:
    """Write the raw release unless a demo of the same size is there already; returns its folder."""
    marker = folder.with_name(f"{folder.name}.json")
    if not (marker.exists() and read_json(marker) == {"images": images}):
        write_nih_release(folder, images=images)
        write_json(marker, {"images": images})
    return folder
