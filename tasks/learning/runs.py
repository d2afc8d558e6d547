"""Where runs lie in a lake, what they are called, and how one comes into being: whole, or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.code_version import library_versions, scanmill_version, source_digest
from tasks.files import digest, read_json, readable_json, sync_folder, write_bytes
from tasks.lake import STAGING_PREFIX
from tasks.learning.admission import Release
from tasks.learning.recipe import Recipe, parse
from tasks.locks import waiting_lock
from tasks.schema import DataRefused, ScanmillError
from tasks.storage import Location, is_remote, location, read_bytes, remove_tree

FORMAT_VERSION = 1
MARKER = "run.json"
"""Written last: a run that has it is whole."""
VOUCHED = (
    "recipe.yaml",
    "model.json",
    "model.safetensors",
    "metrics.csv",
    "environment.json",
    "features.parquet",
    "models.parquet",
)
"""Files that never change again; ``run.json`` holds their SHA-256."""
LATEST = "latest"
"""Folder beside the runs: which of them to use (:mod:`tasks.learning.promotion`)."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
TRAINED_BY: Mapping[str, tuple[str, ...]] = {
    "intensity-baseline": ("numpy", "opencv-python-headless", "scikit-learn"),
    "network": ("lightning", "monai", "numpy", "opencv-python-headless", "scikit-learn", "torch"),
    "radiomics": (
        "PyWavelets",
        "SimpleITK",
        "monai",
        "numpy",
        "opencv-python-headless",
        "pyradiomics",
        "scikit-learn",
        "scipy",
        "torch",
    ),
}
"""Libraries whose version can change a model."""
RADIOMICS_BY = (
    "classifiers",
    "deep",
    "feature_chunks",
    "feature_table",
    "fitting",
    "folds",
    "logistic",
    "pipeline",
    "regions",
    "selection",
    "signature",
    "texture",
    "variants",
)
MADE_BY: Mapping[str, tuple[str, ...]] = {
    "intensity-baseline": ("baseline", "dealing", "intensities", "reading", "recipe", "training", "truths"),
    "network": (
        "augmentation",
        "clinical",
        "dealing",
        "feeding",
        "learner",
        "losses",
        "network_training",
        "networks",
        "reading",
        "recipe",
        "truths",
        "weights",
    ),
    "radiomics": (
        "dealing",
        *(f"radiomics/{name}" for name in RADIOMICS_BY),
        "networks",
        "reading",
        "recipe",
        "truths",
        "weights",
    ),
}
"""Modules that make a model of a release; scores and reports are no part of it."""


@dataclass(frozen=True)
class Run:
    """A finished training."""

    name: str
    folder: Location
    about: Mapping[str, Any]
    """``run.json``."""
    recipe: Recipe

    @property
    def report(self) -> Location:
        """The page that ``evaluate`` writes."""
        return self.folder / "report" / "index.html"

    def read(self, path: str) -> bytes:
        """One of the files that ``run.json`` vouches for.

        Raises :class:`DataRefused` where it is not what was trained.
        """
        content = read_bytes(self.folder / path)
        if hashlib.sha256(content).hexdigest() != self.about["files"][path]:
            raise DataRefused(f"{self.folder / path}: bytes were changed (sha256 differs); train again")
        return content

    @property
    def is_evaluated(self) -> bool:
        """Whether ``evaluate`` has come to its end."""
        try:
            return bool(read_json(self.folder / "metrics.json")["evaluation"]) and self.report.is_file()
        except (OSError, ValueError, KeyError, TypeError):
            return False


def home(lake: str) -> Location:
    """``<lake>/runs``."""
    return location(lake) / "runs"


def identity(recipe: Recipe, release: Release) -> dict[str, Any]:
    """All that decides what a training gives; equal ones are the same run."""
    return {
        "format_version": FORMAT_VERSION,
        "dataset": recipe.dataset,
        "release": release.name,
        "manifest_sha256": release.manifest_sha256,
        "recipe": {"name": recipe.name, "kind": recipe.kind, "digest": recipe.digest},
        "seed": recipe.seed,
        "code": {
            "scanmill": scanmill_version(),
            "source": training_version(recipe.kind),
            **library_versions(TRAINED_BY[recipe.kind]),
        },
    }


def training_version(kind: str) -> str:
    """Identity of the code that makes a model of that kind."""
    return source_digest("scanmill/*.py", *(f"tasks/learning/{name}.py" for name in MADE_BY[kind]))


def choose_name(lake: str, about: Mapping[str, Any], wanted: str | None) -> tuple[str, Run | None]:
    """Name of the run with that identity, and the run itself where it is there already.

    ``<recipe>-<release>``; where another recipe or other code has that name, with a digest behind it. Raises
    :class:`ScanmillError` where the name that a user wants belongs to another training.
    """
    own = digest(about)
    if wanted is not None:
        found = _there(lake, wanted)
        if found is not None and found.about["digest"] != own:
            raise ScanmillError(
                f"{found.folder} is another training: {_difference(found.about, about)}; give another --run, or none"
            )
        return wanted, found
    plain = f"{about['recipe']['name']}-{about['release']}"
    for name in (plain, f"{plain}-{own[:8]}"):
        found = _there(lake, name)
        if found is None or found.about["digest"] == own:
            return name, found
    raise ScanmillError(f"{home(lake) / name} is there and is another training: give a name with --run")


def _there(lake: str, name: str) -> Run | None:
    if not NAME.fullmatch(name) or len(name) > 120 or name == LATEST:
        raise ScanmillError(f"'{name}' is no name of a run: letters, digits, '.', '_' and '-', and not {LATEST}")
    return find_run(lake, name) if (home(lake) / name / MARKER).is_file() else None


def _difference(there: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """In which of its parts a run differs from what is wanted."""
    parts = [name.replace("_", " ") for name in wanted if there.get("identity", {}).get(name) != wanted[name]]
    return f"its {' and '.join(parts) or 'digest'} differ"


def find_run(lake: str, name: str) -> Run:
    """The finished run of that name.

    Raises :class:`ScanmillError` where there is none, and :class:`DataRefused` for one that is damaged.
    """
    folder = home(lake) / name
    if not NAME.fullmatch(name) or not (folder / MARKER).is_file():
        raise ScanmillError(f"{home(lake)} has no run '{name}'; it has {_there_are(lake)}")
    try:
        about = read_json(folder / MARKER)
        if about["digest"] != digest(about["identity"]):
            raise ValueError("its digest is not that of what it says it is")
        recipe = parse(read_bytes(folder / "recipe.yaml"), name=name, where=str(folder / "recipe.yaml"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataRefused(f"{folder} is damaged: {error}") from error
    return Run(name, folder, about, recipe)


def report_at(reference: str) -> Location | None:
    """The report of the run ``LAKE/runs/RUN``; None where the reference is of another form.

    Raises :class:`ScanmillError` where there is no such run, or none that is evaluated.
    """
    place = location(reference.rstrip("/") or "/")
    if place.parent.name != "runs":
        return None
    run = find_run(str(place.parent.parent), place.name)
    if not run.is_evaluated:
        raise ScanmillError(
            f"{place} is not evaluated: run `scanmill evaluate {run.name} --lake {place.parent.parent}`"
        )
    return run.report


def _there_are(lake: str) -> str:
    return ", ".join(_names(lake)) or f"none yet: `scanmill train RECIPE --lake {lake}` makes one"


def _names(lake: str) -> list[str]:
    """Of all finished runs, sorted."""
    try:
        there: list[Location] = [*home(lake).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(path.name for path in there if NAME.fullmatch(path.name) and (path / MARKER).is_file())


def publish(
    lake: str, name: str, files: Mapping[str, bytes], about: Mapping[str, Any], clock: Mapping[str, Any]
) -> Run:
    """Make ``runs/<name>/`` of these files, ``run.json`` added; a folder of that name is there whole or not at all.

    Object storage has no rename: there the files lie in their place, and the marker that vouches for them comes last.
    """
    vouched = {path: hashlib.sha256(files[path]).hexdigest() for path in VOUCHED if path in files}
    marker = readable_json(
        {"run": name, "digest": digest(about), "identity": dict(about), "files": vouched, "clock": dict(clock)}
    )
    target = home(lake) / name
    with _staging(target) as staged:
        for path, content in {**files, MARKER: marker}.items():
            write_bytes(staged / path, content)
        if isinstance(staged, Path) and isinstance(target, Path):
            _swap(staged, target)
    return find_run(lake, name)


@contextlib.contextmanager
def _staging(target: Location) -> Iterator[Location]:
    """Where the files of a run wait for its last; gone after the block, with what killed publications have left.

    One publication at a time: what waits while the lock is free is nobody's.
    """
    if is_remote(target):
        yield target
        return
    with waiting_lock(target.with_name(".lock")):
        for left in target.parent.glob(f"{STAGING_PREFIX}*"):
            remove_tree(left)
        staged = target.with_name(f"{STAGING_PREFIX}{target.name}")
        try:
            yield staged
        finally:
            remove_tree(staged)


def _swap(staged: Path, target: Path) -> None:
    """Rename; a whole run that came in meanwhile stays, what is left of a damaged one goes."""
    if (target / MARKER).is_file():
        return
    remove_tree(target)
    try:
        staged.rename(target)
    except OSError:  # the same training, at the same moment, by another process
        if not (target / MARKER).is_file():
            raise
    sync_folder(target.parent)
