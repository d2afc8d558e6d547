"""Fixtures: a real Prefect server for flow runs, fakes in the publishers' layouts, one published release of each."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import pytest
from jinja2 import BytecodeCache, Environment
from jinja2.bccache import Bucket

os.environ |= {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "OMP_NUM_THREADS": "1",  # several test processes share the cores, and torch would take them all in each
    "SCANMILL_BEHSOF_PASSWORD": "made-up password",
}

from tasks.datasets import HERE, catalogue, file_of
from tests.prefect_database import put_database

Prepare = Callable[..., dict[str, Any]]


LONGEST = (
    "test_deployments",
    "test_image",
    "test_object_storage",
    "test_resume",
    "test_nih_forms",
    "test_contract",
    "test_fetched_releases",
    "test_dask",
    "test_radiomics",
    "test_network_training",
    "test_damage",
    "test_suites",
    "test_quarantine",
    "test_tarballs",
)
"""Files that take minutes; they go first, so that processes that share the files end at about the same time."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The order within a file stays as it is."""
    rank = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONGEST)))


class CompiledOnce(BytecodeCache):
    """Templates compiled in this process: Great Expectations compiles its own for every page, a second a release."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], CodeType | None] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._known.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._known[bucket.key, bucket.checksum] = bucket.code


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """Every Jinja environment of this process shares what is compiled; the pages stay the same."""
    shared, make = CompiledOnce(), Environment.__init__

    def remembering(environment: Environment, *arguments: Any, **options: Any) -> None:
        make(environment, *arguments, **options)
        environment.bytecode_cache = environment.bytecode_cache or shared

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Environment, "__init__", remembering)
        yield


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A started Prefect server of this session's own; the heartbeat thread is off, it costs a second a run."""
    from prefect.settings import (
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_HOME,
        PREFECT_LOGGING_TO_API_ENABLED,
        temporary_settings,
    )
    from prefect.testing.utilities import prefect_test_harness

    settings = {
        PREFECT_HOME: tmp_path_factory.mktemp("prefect"),
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        PREFECT_LOGGING_TO_API_ENABLED: False,
    }
    place = tmp_path_factory.mktemp("prefect-database")
    put_database(place / "prefect-test.db")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prefect.testing.utilities.mkdtemp", lambda: str(place))  # where the harness has its database
        with temporary_settings(settings), prefect_test_harness(server_startup_timeout=120):
            yield


@pytest.fixture(scope="session")
def prepare(prefect_server: None) -> Prepare:
    """The ``prepare`` flow on the session's server, in process unless ``workers`` says otherwise."""
    from flows.prepare import prepare as flow

    def run(dataset: str, raw: Path, lake: Path, **parameters: Any) -> dict[str, Any]:
        return dict(flow(dataset=dataset, raw=[str(raw)], lake=str(lake), **{"workers": 0, **parameters}))

    return run


_FAKES = tempfile.TemporaryDirectory(prefix="scanmill-fakes-")
_written: dict[tuple[Any, ...], tuple[Path, Any]] = {}


def write_fake(dataset: str, folder: Path, **parameters: Any) -> Any:
    """The publisher's raw layout of one dataset, made up, to be changed; a dataset without a fake fails here.

    Films are made up once a process, and copied from then on: it takes seconds, and dozens of tests want the same.
    """
    key = (dataset, *sorted(parameters.items()))
    if key not in _written:
        kept = Path(_FAKES.name, str(len(_written)))
        _written[key] = kept, fake_of(dataset).write(kept, **parameters)
    kept, planted = _written[key]
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    return deepcopy(planted)


def fake_of(dataset: str) -> ModuleType:
    """The module that writes a dataset's raw layout; of one that lies outside the package, ``fakes/`` beside it."""
    declared = file_of(dataset)
    if declared.parent == HERE:
        return importlib.import_module(f"tests.fakes.{dataset.replace('-', '_')}")
    path = declared.parent / "fakes" / declared.name
    if not path.is_file():
        pytest.fail(f"{dataset} has no fake: write {path} with a function write(folder)", pytrace=False)
    spec = importlib.util.spec_from_file_location(f"fake_{declared.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def released(prepare: Prepare, raw: Path, lake: Path, **parameters: Any) -> Path:
    """Folder of the release that a raw NIH folder makes."""
    return lake / "nih-chest-xray" / "releases" / str(prepare("nih-chest-xray", raw, lake, **parameters)["release"])


def published_in(lake: Path, dataset: str) -> Path:
    """Folder of the latest release of a dataset in a lake."""
    from tasks.lake import Lake, latest_release

    place = Lake(str(lake), dataset)
    return Path(str(place.release(latest_release(place))))


BUILT_IN = [name for name in catalogue() if file_of(name).parent == HERE]


@pytest.fixture(scope="session", params=BUILT_IN)
def dataset_name(request: pytest.FixtureRequest) -> str:
    """Every built-in dataset in turn."""
    return str(request.param)


@pytest.fixture(scope="session")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Dataset name to a raw folder with the publisher's defects, written once; do not change it."""
    written: dict[str, Path] = {}

    def fake(dataset: str) -> Path:
        if dataset not in written:
            written[dataset] = tmp_path_factory.mktemp(f"raw-{dataset}") / "raw"
            write_fake(dataset, written[dataset])
        return written[dataset]

    return fake


@pytest.fixture(scope="session")
def lakes(
    tmp_path_factory: pytest.TempPathFactory, fakes: Callable[[str], Path], prepare: Prepare
) -> Callable[[str], Path]:
    """Dataset name to a lake that holds its release, published once from the fake; do not change it."""
    published: dict[str, Path] = {}

    def lake(dataset: str) -> Path:
        if dataset not in published:
            published[dataset] = tmp_path_factory.mktemp(f"lake-{dataset}")
            prepare(dataset, fakes(dataset), published[dataset])
        return published[dataset]

    return lake


@pytest.fixture(scope="session")
def flawless_nih(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw NIH release of 100 films in three archives, table of 2020, without defects but with what is odd of that
    table; do not change it."""
    folder = tmp_path_factory.mktemp("flawless") / "raw"
    write_fake("nih-chest-xray", folder, images=100, defects=False, oddities=True)
    return folder


@pytest.fixture(scope="session")
def flawless_release(flawless_nih: Path, prepare: Prepare, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the release made from it; do not change it."""
    return released(prepare, flawless_nih, tmp_path_factory.mktemp("flawless-lake"))


@pytest.fixture
def copy(flawless_nih: Path, tmp_path: Path) -> Path:
    """A copy of the raw release, to be changed."""
    return Path(shutil.copytree(flawless_nih, tmp_path / "raw"))


@pytest.fixture(scope="session")
def release(dataset_name: str, lakes: Callable[[str], Path]) -> Path:
    """Folder of the published release of the dataset in turn."""
    return published_in(lakes(dataset_name), dataset_name)
