"""The expectations of a gate: those common to all datasets, and the dataset's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from expectations.declaring import Expectation
from expectations.documents import documents
from expectations.images import images
from expectations.metadata import metadata
from tasks.schema import Dataset, GateName

COMMON: Mapping[GateName, Callable[[Dataset], list[Expectation]]] = {
    "metadata": metadata,
    "images": images,
    "documents": lambda _: documents(),
}


def suite(dataset: Dataset, gate: GateName) -> list[Expectation]:
    """Common and dataset-specific expectations of one gate, in the order in which reasons take precedence."""
    common = COMMON[gate](dataset)
    own = [_copied(e) for e in dataset.expectations if e["meta"]["gate"] == gate]
    return [*common, *own]


def _copied(expectation: Any) -> Expectation:
    return {**expectation, "kwargs": dict(expectation["kwargs"]), "meta": dict(expectation["meta"])}
