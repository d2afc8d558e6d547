"""A small release with all that verifying asks for, and the same as somebody else would have made it."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from tasks.files import readable_json
from tests import tiny_releases

SAMPLES = 3
FILES = ("samples.parquet", "quarantine.parquet", "quality/report.json")


def whole_release(lake: Path) -> Path:
    """Three images of 8 × 8 in two shards of each store; it verifies."""
    columns = {"archive": ["a.zip"] * SAMPLES, "member": [f"{number}.png" for number in range(SAMPLES)]}
    images = {"train": tiny_releases.textures(SAMPLES, 8, 8)}
    folder = tiny_releases.write_release(lake, images, shard_samples=2, columns=columns)
    accounting = {"members": 3, "written": 3, "quarantined": 0, "ignored": {}, "reasons": {}, "tables": []}
    verdicts: list[dict[str, Any]] = [{"gate": gate, "passed": True, "outcomes": []} for gate in ("metadata", "images")]
    (folder / "quality").mkdir()
    (folder / "quality" / "index.html").write_text("<title>report</title>")
    (folder / "quality" / "report.json").write_bytes(readable_json({"verdicts": verdicts, "accounting": accounting}))
    empty = {name: pd.Series([], dtype=str) for name in ("member", "sample_id", "reason")}
    pd.DataFrame(empty).to_parquet(folder / "quarantine.parquet")
    vouch(folder, accounting=accounting)
    return folder


def vouch(folder: Path, **changes: Any) -> None:
    """Write a manifest that fits the files as they are, with these changes, and a pointer to it: a stranger's word."""
    manifest = {**json.loads((folder / "manifest.json").read_bytes()), **changes}
    if "files" not in changes:
        manifest["files"] = [entry_of(folder, name) for name in FILES]
    if "shards" not in changes:
        manifest["shards"] = [{**shard, **entry_of(folder, shard["path"])} for shard in manifest["shards"]]
    (folder / "manifest.json").write_bytes(readable_json(manifest))
    tiny_releases.point_to(folder)


def entry_of(folder: Path, name: str) -> dict[str, Any]:
    """Path, bytes and hash as they are."""
    content = (folder / name).read_bytes()
    return {"path": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


class Opened:
    """Paths that this process opens, by Python's audit events; one hook, as none can be taken away."""

    paths: list[str] | None = None
    is_hooked = False


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if Opened.paths is not None and event == "open" and isinstance(arguments[0], (str, bytes)):
        Opened.paths.append(os.fsdecode(arguments[0]))


@contextmanager
def watching_opens() -> Iterator[Callable[[Path], list[str]]]:
    """Gives what has been opened below a folder, whatever way led there, since the block began."""
    if not Opened.is_hooked:
        sys.addaudithook(_note)
        Opened.is_hooked = True
    seen: list[str] = []
    Opened.paths = seen
    try:
        yield lambda folder: [path for path in list(seen) if _is_below(path, folder)]
    finally:
        Opened.paths = None


def _is_below(path: str, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(folder.resolve())
