"""One file per dataset: a frozen declaration and one parse function. A new dataset is one new file.

The catalogue finds them by walking this folder, and the folders of your own that ``SCANMILL_DATASETS`` names
(``/data/datasets:/home/me/more``); there is no list to forget. A file whose name starts with ``_`` is no dataset, but
may hold what several of a folder share: ``from tasks.datasets._shared import …``.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import pkgutil
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from tasks.schema import Dataset, ScanmillError, UnusableInput

VARIABLE = "SCANMILL_DATASETS"
HERE = Path(__path__[0])
DIGITS = 16
"""Of the digest of a declaration's source."""


@dataclass(frozen=True)
class Declared:
    """Every dataset that is known, and what of it came from outside this package."""

    datasets: dict[str, Dataset] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)
    """Of every dataset."""
    sources: dict[str, str] = field(default_factory=dict)
    """Digest of the source of each dataset that is the user's own."""

    def insist_on_free(self, path: Path) -> None:
        """Raise :class:`UnusableInput` for a file with the name of another: both would be one module."""
        for other in self.files.values():
            if other.stem == path.stem:
                raise UnusableInput(f"{path} has the file name of {other}: rename one of them")

    def add(self, path: Path, dataset: Dataset) -> None:
        """Raises :class:`UnusableInput` for the name of another dataset."""
        if dataset.name in self.files:
            raise UnusableInput(
                f"{path} declares the name '{dataset.name}', which {self.files[dataset.name]} has: rename one of them"
            )
        self.datasets[dataset.name], self.files[dataset.name] = dataset, path


def catalogue() -> Mapping[str, Dataset]:
    """Every declared dataset by name, sorted.

    Raises :class:`UnusableInput` for a folder of ``SCANMILL_DATASETS`` that is not there, and for a file in one that
    cannot be imported, declares no dataset, or has the name of another.
    """
    return _declared().datasets


def find(name: str) -> Dataset:
    """The dataset of that name; raises :class:`ScanmillError` with the known names."""
    if name not in catalogue():
        hint = "" if os.environ.get(VARIABLE) else f". A folder of your own is named by export {VARIABLE}=FOLDER"
        near = [known for known in catalogue() if name and name in known] or get_close_matches(name, catalogue(), 1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise ScanmillError(f"there is no dataset '{name}'{meant}; known: {', '.join(catalogue())}{hint}")
    return catalogue()[name]


def file_of(name: str) -> Path:
    """Where the dataset of that name is declared."""
    return _declared().files[name]


def own_source(name: str) -> str | None:
    """First 16 hex digits of a SHA-256 over the source of a dataset of the user's own, what it may share included: part
    of the identity of its releases. None for a built-in one, whose source is scanmill's."""
    return _declared().sources.get(name)


def forget() -> None:
    """Read anew what is declared, the next time that anybody asks: a file has been written."""
    _read.cache_clear()


def _declared() -> Declared:
    return _read(os.environ.get(VARIABLE, ""))


@cache
def _read(text: str) -> Declared:
    """What is declared here and in these folders; read once, so that a run ends with what it began with."""
    declared = Declared()
    for info in pkgutil.iter_modules([str(HERE)]):
        declared.add(HERE / f"{info.name}.py", importlib.import_module(f"{__name__}.{info.name}").DATASET)
    folders = [Path(part.strip()).expanduser() for part in text.split(os.pathsep) if part.strip()]
    for folder in folders:
        if not folder.is_dir():
            raise UnusableInput(f"{VARIABLE} names {folder}, which is no folder: make it, or correct the variable")
        _look_in(folder)
        for path in sorted(folder.glob("[!_.]*.py")):
            declared.insist_on_free(path)
            dataset = _own(path)
            declared.add(path, dataset)
            declared.sources[dataset.name] = _digest(path)
    return Declared(dict(sorted(declared.datasets.items())), declared.files, declared.sources)


def _look_in(folder: Path) -> None:
    """What files of this folder import of each other is found there, and not what another folder has of that name."""
    __path__[:] = [str(HERE), str(folder)]
    for name, module in list(sys.modules.items()):
        is_one = name.startswith(f"{__name__}.") and name.rpartition(".")[2].startswith("_")
        if is_one and module.__file__ and Path(module.__file__).parent != HERE:
            del sys.modules[name]


def _own(path: Path) -> Dataset:
    """The ``DATASET`` of a file outside this package, imported as if it lay in it."""
    name = f"{__name__}.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None, "the name of a Python file ends with .py"
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # frozen dataclasses look for it there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UnusableInput(f"{_place(path, error)}: {type(error).__name__}: {_cause(error)}") from error
    if not isinstance(dataset := getattr(module, "DATASET", None), Dataset):
        what = "no DATASET" if dataset is None else f"a DATASET that is a {type(dataset).__name__}"
        raise UnusableInput(
            f"{path} has {what}: declare DATASET = Dataset(…), or begin the file's name with _ if it is none"
        )
    return dataset


def _place(path: Path, error: Exception) -> str:
    """The file, and the line of it at which it went wrong."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}, line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
    return f"{path}, line {lines[-1]}" if lines else str(path)


def _cause(error: Exception) -> str:
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return " ".join(said.split())


def _digest(path: Path) -> str:
    content = hashlib.sha256()
    for file in (path, *sorted(path.parent.glob("_*.py"))):
        content.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return content.hexdigest()[:DIGITS]
