"""What Zhang et al. 2024 publish of this pipeline, what could not be found of it, and a model of ours beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

ABSTRACT = "abstract of Zhang et al., Front Endocrinol 2024;15:1370838, doi 10.3389/fendo.2024.1370838"
CLASSES: Mapping[str, Mapping[str, float]] = {
    "class_0": {"auroc": 0.969, "accuracy": 0.863},
    "class_1": {"auroc": 0.945, "accuracy": 0.875},
    "class_2": {"auroc": 0.809, "accuracy": 0.692},
}
"""Of the RadImageNet arm, each class against the others."""
PAPER: Mapping[str, Any] = {
    "title": "Exploring deep learning radiomics for classifying osteoporotic vertebral fractures in X-ray images",
    "citation": "Zhang et al., Front Endocrinol 2024;15:1370838",
    "doi": "10.3389/fendo.2024.1370838",
    "source": ABSTRACT,
    "arm": "RadImageNet",
    "classes": CLASSES,
    "patients": 942,
    "samples": 1076,
    "sets": {"train": 712, "internal": 178, "external": 111, "prospective": 75},
    "hospitals": 3,
    "features": [17, 12],
    "classifiers": 8,
    "best_classifier": "logistic-regression",
    "comparison": "macro AUC of the RadImageNet arm above that of the ImageNet arm in all four sets, DeLong P < .05",
    "not_found": [
        "which of the four sets the AUCs and accuracies of the classes are of",
        "the AUCs and accuracies of each set, and those of the ImageNet arm",
        "the names of the other seven of the eight classifiers",
        "which arm has the 17 features and which the 12, and which they are",
        "how DeLong's test, which is of one binary AUC, was carried over to a macro AUC",
        "images and a table of patients: none is public",
    ],
}
"""Figures of the abstract; classes are of the Assessment System of Thoracolumbar Osteoporotic Fracture."""


def beside(primary: Mapping[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """What the paper says (:data:`PAPER`), and ``rows`` in its layout: a class, its AUC and its accuracy.

    Each row has ``class``, ``published`` (``auroc`` and ``accuracy``; null for a class that is not the paper's) and
    ``sets``: set to ``auroc`` and ``accuracy`` of ``primary`` as radiomics.json has it.
    """
    rows = [
        {
            "class": name,
            "published": dict(CLASSES[name]) if name in CLASSES else None,
            "sets": {
                of: {key: own["classes"][name][key] for key in ("auroc", "accuracy")}
                for of, own in primary["sets"].items()
            },
        }
        for name in classes
    ]
    model = {key: primary[key] for key in ("variant", "classifier")}
    return {**PAPER, "classes": {name: dict(own) for name, own in CLASSES.items()}, "model": model, "rows": rows}
