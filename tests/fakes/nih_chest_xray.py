"""A small made-up NIH ChestX-ray14: three archives, the table of 2020, boxes and the official lists."""

from __future__ import annotations

from pathlib import Path

from tasks.demo_release import PlantedDefects, write_nih_release


def write(folder: Path, *, images: int = 320, defects: bool = True, seed: int = 0) -> PlantedDefects:
    """Write the release with films of 56 pixels; says where the defects are."""
    return write_nih_release(folder, images=images, archives=3, side=56, seed=seed, with_defects=defects)
