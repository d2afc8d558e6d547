"""Work that kills its own worker, for the tests of waves; a module of its own, so that workers import little."""

from __future__ import annotations

import os
from pathlib import Path


def work(item: str, folder: str) -> str:
    """Leave a file that says so; ``always`` dies every time, ``once`` the first time."""
    seen = Path(folder, f"{item}.seen")
    if item == "always" or (item == "once" and not seen.exists()):
        seen.touch()
        os._exit(1)
    if item == "wrong":
        message = "this item is wrong"
        raise ValueError(message)
    Path(folder, f"{item}.done").touch()
    return item
