"""What others have published for the questions of our recipes: only figures that we hold certain, each with its source.

Figures at second hand, and those of splits that cannot be compared, are left out or said to be so; nothing is a goal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Published:
    """Figures of one publication for one dataset."""

    name: str
    """Short, for the head of a column."""
    source: str
    """What it is, where it stands, and how far it can be compared."""
    auroc: Mapping[str, float] = field(default_factory=dict)
    """Question to AUROC."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Question to its 95 % interval."""
    mean: float | None = None
    split: str = ""
    """Split of ours that is the same patients; empty where none is."""


@dataclass(frozen=True)
class Localised:
    """Shares of boxes that a publication's boxes hit: threshold to label to share."""

    name: str
    source: str
    iobb: Mapping[str, Mapping[str, float]]
    iou: Mapping[str, Mapping[str, float]]


_NIH = [
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
]
_WANG = (0.7003, 0.8100, 0.7585, 0.6614, 0.6933, 0.6687, 0.6580, 0.7993, 0.7032, 0.8052, 0.8330, 0.7859, 0.6835, 0.8717)
_BOXED = _NIH[:8]

PUBLISHED: Mapping[str, Published] = {
    "nih-chest-xray": Published(
        "Wang et al.",
        "Wang et al., ResNet-50, on the same official test list (arXiv 1705.02315v5, Table 17). Figures of 0.84 and "
        "more for these labels come from random splits and cannot be compared.",
        dict(zip(_NIH, _WANG, strict=True)),
        mean=0.745,
        split="test",
    ),
    "chexchonet": Published(
        "Bhave et al.",
        "Bhave et al., Eur Heart J 2024, doi 10.1093/eurheartj/ehad782, on the publisher’s own test patients, one film "
        "of a patient at a time. No AUPRC was published.",
        {"slvh": 0.79, "dlv": 0.80, "composite_slvh_dlv": 0.80},
        {"slvh": (0.76, 0.81), "dlv": (0.77, 0.84), "composite_slvh_dlv": (0.78, 0.83)},
    ),
    "behsof": Published(
        "external, published",
        "EfficientNet-B4 and ViT of the dataset’s authors, doi 10.1007/s00261-025-05309-9, on the patients of the "
        "other hospital; in five-fold cross-validation on the first one .83 (.78–.88) for steatosis and .86 (.81–.91) "
        "for fibrosis. Accuracies of 99 % elsewhere are those of splits by image (inferred).",
        {"steatosis_S2_or_more": 0.70, "fibrosis_F2_or_more": 0.88},
        {"steatosis_S2_or_more": (0.43, 0.93), "fibrosis_F2_or_more": (0.71, 1.00)},
        split="external",
    ),
}
"""Dataset to what was published of it."""

NONE_TRUSTED: Mapping[str, str] = {
    "mammography-density": "No published figure for the eight classes can be trusted: those up to 98 % measure "
    "pictures that were seen in training in another turn (inferred).",
}
"""Dataset to why there is nothing to compare with."""


def _table(rows: Mapping[str, tuple[float, ...]]) -> dict[str, dict[str, float]]:
    return {threshold: dict(zip(_BOXED, shares, strict=True)) for threshold, shares in rows.items()}


LOCALISED: Mapping[str, Localised] = {
    "nih-chest-xray": Localised(
        "Wang et al.",
        "Wang et al., arXiv 1705.02315v5: IoBB of Table 19, IoU of Table 7 (ChestX-ray8), on the same boxes.",
        iobb=_table(
            {
                "0.1": (0.6222, 1.0, 0.7974, 0.9106, 0.5882, 0.1519, 0.8583, 0.5204),
                "0.25": (0.3944, 0.9863, 0.6339, 0.7967, 0.4588, 0.0506, 0.7083, 0.3367),
                "0.5": (0.1944, 0.9452, 0.4183, 0.6504, 0.3058, 0.0, 0.4833, 0.2653),
                "0.75": (0.0889, 0.8151, 0.2287, 0.4390, 0.1647, 0.0, 0.2917, 0.1735),
                "0.9": (0.0722, 0.6507, 0.1373, 0.3577, 0.0941, 0.0, 0.2333, 0.1224),
            }
        ),
        iou=_table(
            {
                "0.1": (0.6888, 0.9383, 0.6601, 0.7073, 0.4, 0.1392, 0.6333, 0.3775),
                "0.3": (0.2444, 0.4589, 0.3006, 0.2764, 0.1529, 0.0379, 0.1666, 0.1326),
                "0.5": (0.05, 0.1780, 0.1111, 0.0650, 0.0117, 0.0126, 0.0333, 0.0306),
                "0.7": (0.0055, 0.0273, 0.0196, 0.0, 0.0, 0.0, 0.0083, 0.0204),
            }
        ),
    ),
}
"""Dataset to how well published boxes were hit."""


COMPLETE: Mapping[str, int] = {"nih-chest-xray": 25_596}
"""Dataset to the number of images of the split that the figures are of (facts of the release)."""
NEARLY = 0.99
"""Share of them that has to be there: some images are refused."""


def of(dataset: str, samples: int) -> tuple[Published | None, Localised | None]:
    """What may stand beside the numbers of a held-out split of so many samples: nothing where it is not the same."""
    if samples < NEARLY * COMPLETE.get(dataset, 0):
        return None, None
    return PUBLISHED.get(dataset), LOCALISED.get(dataset)
