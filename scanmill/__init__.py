"""What a training script needs to read a release of scanmill; nothing of how releases are made.

    import scanmill

    release = scanmill.open_release("/data/lake/nih-chest-xray")
    for batch in scanmill.Loader(release, split="train", size=224, shuffle=True):
        ...

Names are loaded when they are first asked for: only :class:`Resident` needs torch, and decoding processes no tables.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scanmill.loader import Batch, Loader
    from scanmill.refusal import ReleaseRefused
    from scanmill.release import Release, open_release
    from scanmill.resident import Resident

__all__ = ["Batch", "Loader", "Release", "ReleaseRefused", "Resident", "open_release"]

_HOMES = {
    "Batch": "loader",
    "Loader": "loader",
    "Release": "release",
    "ReleaseRefused": "refusal",
    "Resident": "resident",
    "open_release": "release",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'scanmill' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(import_module(f"scanmill.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
