"""The arrows of DESIGN.md §3, read from the sources: flows → tasks → schema, and heavy libraries behind their rims."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.import_arrows import MODULES, ROOT, SOURCES, THEMES, arrows, crossings, is_in, reached, themes_of
from tests.written_pages import COMMAND, renewed

DECLARING = ("tasks.schema", "tasks.splits", "tasks.readings", "tasks.demands")
"""All that the declaration of a dataset is written with."""
LEARNING = (
    "torch",
    "sklearn",
    "threadpoolctl",
    "monai",
    "lightning",
    "torchmetrics",
    "safetensors",
    "onnx",
    "onnxruntime",
)
"""What comes with the extra ``learn`` alone."""
WORKER_MODULES = ("tasks.chunks", "tasks.shards", "tasks.pieces")
"""What Dask workers import to convert and to assemble."""


def importers(*packages: str) -> set[str]:
    """Our modules that import any of the packages."""
    return {name for name, found in MODULES.items() if any(is_in(module, *packages) for module in found)}


def test_tasks_know_neither_flows_nor_expectations() -> None:
    assert not [name for name in importers("flows", "expectations") if is_in(name, "tasks")]


def test_expectations_know_of_the_tasks_only_the_schema() -> None:
    assert not [name for name in importers("flows") if is_in(name, "expectations")]
    own = {name: found for name, found in MODULES.items() if is_in(name, "expectations")}
    assert own
    for name, found in own.items():
        assert not [m for m in found if is_in(m, "tasks") and not is_in(m, "tasks.schema")], name


def test_what_training_scripts_import_knows_nothing_else_of_ours() -> None:
    own = {name: found for name, found in MODULES.items() if is_in(name, "scanmill")}
    assert "scanmill.loader" in own
    for name, found in own.items():
        assert not [m for m in found if is_in(m, *SOURCES) and not is_in(m, "scanmill")], name


def test_only_what_learns_reads_by_the_loader() -> None:
    others = [
        name
        for name in importers("scanmill")
        if not is_in(name, "scanmill", "tasks.learning", "tasks.release", "flows")
    ]
    assert not others


def test_opening_a_release_needs_no_torch_and_decoding_no_tables() -> None:
    code = "import sys, scanmill\nscanmill.Loader, scanmill.open_release\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"scanmill.loader", "pandas"} <= set(loaded.split())
    assert not {"torch", "tasks", "flows", "s3fs", "fsspec"} & set(loaded.split())
    code = "import sys, scanmill.decoding_process\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "scanmill.images" in loaded.split()
    assert not {"torch", "pandas", "pyarrow"} & set(loaded.split())


def test_the_schema_imports_nothing_of_ours() -> None:
    assert not [module for module in MODULES["tasks.schema"] if is_in(module, *SOURCES)]


@pytest.mark.parametrize(
    ("library", "home"),
    [
        ("prefect", ("tasks.steps", "flows")),
        ("great_expectations", ("expectations",)),
        ("torch", ("tasks.learning", "scanmill.resident")),
        ("sklearn", ("tasks.learning",)),
        ("webdataset", ("tasks.learning",)),
    ],
)
def test_a_heavy_library_stays_behind_its_rim(library: str, home: tuple[str, ...]) -> None:
    assert not [name for name in importers(library) if not is_in(name, *home)]


def test_prefect_and_great_expectations_are_in_use_where_they_belong() -> None:
    assert "tasks.steps" in importers("prefect")
    assert "expectations.gates" in importers("great_expectations")


def test_only_flows_import_the_seam() -> None:
    assert not [name for name in importers("tasks.steps") if not is_in(name, "flows")]


def test_a_dataset_is_a_declaration_and_needs_no_machinery() -> None:
    own = {name: found for name, found in MODULES.items() if name.startswith("tasks.datasets.")}
    assert own
    for name, found in own.items():
        ours = [module for module in found if is_in(module, *SOURCES)]
        assert not [module for module in ours if not is_in(module, *DECLARING)], name


def test_every_module_has_one_place_in_the_diagram() -> None:
    placed = {module: themes_of(module) for module in MODULES if module != "tasks"}
    wrong = {module: themes for module, themes in placed.items() if len(themes) != 1}
    assert not wrong, "say in THEMES of tests/import_arrows.py where these belong"
    used = {theme for themes in placed.values() for theme in themes}
    assert used == set(THEMES), "THEMES of tests/import_arrows.py has nodes without modules"


def test_arrows_run_in_no_circle() -> None:
    found = arrows()
    back = {(one, other) for one, others in found.items() for other in others if one in reached(other, found)}
    assert not [by for one, other, by in crossings() if (one, other) in back]


def test_the_diagram_in_the_documentation_is_that_of_the_code() -> None:
    page = "docs/development.md"
    assert renewed(page, "import arrows") == (ROOT / page).read_text("utf-8"), f"run `{COMMAND}` to write it anew"


def test_dask_workers_import_neither_prefect_nor_great_expectations_nor_torch() -> None:
    code = f"import sys, {', '.join(WORKER_MODULES)}\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {"tasks.chunks", "tasks.shards", "pyarrow"} <= set(loaded.split())
    assert not {"prefect", "great_expectations", "torch", "matplotlib", "fastapi"} & set(loaded.split())


def test_listing_datasets_imports_nothing_heavy() -> None:
    code = "import sys, flows.cli, tasks.datasets\ntasks.datasets.catalogue()\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "tasks.datasets.nih_chest_xray" in loaded.split()
    assert not {"prefect", "great_expectations", "torch", "distributed", "matplotlib"} & set(loaded.split())


def test_what_prepares_is_imported_without_the_packages_of_learning() -> None:
    """As in the image that has no torch: the stages of learning are in ``tasks.steps`` as well."""
    code = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {LEARNING!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
import flows.evaluate, flows.prepare, flows.radiomics, flows.refresh, flows.train
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_modules_are_named_after_things() -> None:
    vague = re.compile(r"(?:^|_)(?:utils?|helpers?|managers?|common2|base2?|misc)(?:_|$)")
    assert not [name for name in MODULES if vague.search(name.rpartition(".")[2])]


@pytest.mark.parametrize("folder", ["flows", "tasks", "expectations", "scanmill", "tests", "infra"])
def test_every_folder_of_the_design_has_something_in_it(folder: str) -> None:
    assert [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def test_the_top_level_holds_only_what_the_design_names() -> None:
    shown = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")}
    extra = shown - {
        "flows",
        "tasks",
        "expectations",
        "scanmill",
        "tests",
        "infra",
        "docs",
        "examples",
        "scanmill.egg-info",
    }
    assert not [name for name in extra if list((ROOT / name).rglob("*.py"))]
