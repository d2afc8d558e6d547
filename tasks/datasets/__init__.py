"""One file per dataset: a frozen declaration and one parse function. A new dataset is one new file.

The catalogue finds them by walking this folder; there is no list to forget.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from tasks.schema import Dataset, ScanmillError


@cache
def catalogue() -> dict[str, Dataset]:
    """Every declared dataset by name, sorted."""
    modules = [importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__)]
    found: list[Dataset] = [module.DATASET for module in modules]
    return {dataset.name: dataset for dataset in sorted(found, key=lambda d: d.name)}


def find(name: str) -> Dataset:
    """The dataset of that name; raises :class:`ScanmillError` with the known names."""
    if name not in catalogue():
        raise ScanmillError(f"there is no dataset '{name}'; known: {', '.join(catalogue())}")
    return catalogue()[name]
