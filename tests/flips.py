"""What damage of a release is found: every byte changed, every file cut, taken away, exchanged, and files added.

    python -m tests.flips [FOLDER OF A RELEASE] [--stride 1]

Without a folder a release of three images is made. A change of one file is looked for in that file alone, as verifying
does it; a change of the manifest, which says what the others must be, by verifying all. What no digest covers (see
``tasks.release.manifest.is_volatile``) is counted apart: only its links and its absence are found.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tasks.lake import Lake
from tasks.release.manifest import is_volatile
from tasks.release.signature import NAME, PublicKey
from tasks.release.verify import _file_problem, verify
from tests.strangers import whole_release

Tally = Counter[tuple[str, bool]]


def damages(folder: Path, stride: int, keys: tuple[PublicKey, ...] = ()) -> Tally:
    """Kind of damage, and whether it was found, to how often; ``stride`` leaves out all but every n-th place."""
    tally: Tally = Counter()
    for kind, is_found in itertools.chain(
        _in_files(folder, stride), _of_manifest(folder, stride, keys), _of_whole_files(folder, keys)
    ):
        tally[kind, is_found] += 1
    return tally


def _entries(folder: Path) -> dict[str, dict[str, object]]:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    return {entry["path"]: entry for entry in [*manifest["shards"], *manifest["files"]]}


def _in_files(folder: Path, stride: int) -> Iterator[tuple[str, bool]]:
    for name, entry in _entries(folder).items():
        path = folder / name
        whole = path.read_bytes()
        for kind, changed in _changes(whole, stride):
            path.write_bytes(changed)
            yield f"{kind} in a file", bool(_file_problem(folder, entry, set(), lambda size: None))
        path.write_bytes(whole)


def _changes(whole: bytes, stride: int) -> Iterator[tuple[str, bytes]]:
    for at in range(0, len(whole), stride):
        yield "flip", whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :]
    for at in range(0, len(whole), stride):
        yield "truncation", whole[:at]
    yield "appended byte", whole + b"\0"


def _is_found(folder: Path, keys: tuple[PublicKey, ...]) -> bool:
    home = folder.parent.parent
    return bool(verify(Lake(str(home.parent), home.name), folder.name, keys).problems)


def _of_manifest(folder: Path, stride: int, keys: tuple[PublicKey, ...]) -> Iterator[tuple[str, bool]]:
    vouched, signed = folder.parent.parent / "latest.json", folder / NAME
    for path in [folder / "manifest.json", vouched, *([signed] if keys else [])]:
        if not path.exists():
            continue
        whole = path.read_bytes()
        for kind, changed in _changes(whole, stride):
            path.write_bytes(changed)
            yield f"{kind} in {path.name}", _is_found(folder, keys) or _no_release(folder)
        path.write_bytes(whole)


def _no_release(folder: Path) -> bool:
    """Whether the pointer, as it is now, leads to this release no more: then the command finds none, and says so."""
    try:
        return bool(json.loads((folder.parent.parent / "latest.json").read_bytes())["release"] != folder.name)
    except (ValueError, KeyError, TypeError):
        return True


def _of_whole_files(folder: Path, keys: tuple[PublicKey, ...]) -> Iterator[tuple[str, bool]]:
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    own = [name for name in names if not is_volatile(name) and name != NAME]
    for name in own:
        with_bytes = (folder / name).read_bytes()
        (folder / name).unlink()
        yield "deleted file", _is_found(folder, keys)
        (folder / name).write_bytes(with_bytes)
    for place in sorted({folder, *(path for path in folder.rglob("*") if path.is_dir())}):
        if is_volatile(f"{place.relative_to(folder).as_posix()}/x"):
            continue
        (place / "added.bin").write_bytes(b"")
        yield "added file", _is_found(folder, keys)
        (place / "added.bin").unlink()
    for first, second in itertools.combinations(own, 2):
        before = [(folder / name).read_bytes() for name in (first, second)]
        if before[0] == before[1]:
            continue
        for name, content in ((first, before[1]), (second, before[0])):
            (folder / name).write_bytes(content)
        yield "two files exchanged", _is_found(folder, keys)
        for name, content in ((first, before[0]), (second, before[1])):
            (folder / name).write_bytes(content)


def table(tally: Tally) -> Iterator[str]:
    """Lines for people."""
    yield f"{'damage':34} {'tried':>9} {'found':>9}"
    for kind in dict.fromkeys(kind for kind, _ in tally):
        found = tally[kind, True]
        yield f"{kind:34} {found + tally[kind, False]:9,} {found:9,}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.flips", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="of a release; a copy of it is damaged")
    parser.add_argument("--stride", type=int, default=1)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if wanted.folder is None:
            folder = whole_release(Path(scratch))
        else:
            home = wanted.folder.parent.parent
            folder = Path(scratch) / home.name / "releases" / wanted.folder.name
            shutil.copytree(wanted.folder, folder)
            shutil.copy(home / "latest.json", folder.parent.parent)
        print("\n".join(table(damages(folder, wanted.stride))))  # noqa: T201


if __name__ == "__main__":
    main()
