"""What a signature is looked for among: radiomics alone, an arm's deep features alone, or both together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tasks.learning.recipe import Radiomics

Source = Literal["radiomics", "deep", "fused"]
RADIOMICS_PREFIX = "radiomics."
"""Of feature names: ``radiomics.original_glcm_Contrast``, as PyRadiomics spells them."""


def deep_prefix(arm: str) -> str:
    """Of feature names: ``deep.imagenet.0042``."""
    return f"deep.{arm}."


@dataclass(frozen=True)
class Variant:
    """One set of features among which a signature is looked for."""

    source: Source
    arm: str | None = None
    """Whose deep features; None for radiomics alone."""

    @property
    def name(self) -> str:
        """``radiomics``, ``deep@imagenet``, ``fused@imagenet``."""
        return f"{self.source}@{self.arm}" if self.arm else self.source

    def columns(self, names: Sequence[str]) -> list[str]:
        """Those of the features that belong to it, in their order."""
        prefixes = [] if self.source == "deep" else [RADIOMICS_PREFIX]
        if self.arm:
            prefixes.append(deep_prefix(self.arm))
        return [name for name in names if name.startswith(tuple(prefixes))]


def answer_columns(variant: str, classifier: str, classes: Sequence[str]) -> list[str]:
    """Of ``models.parquet``: where the probabilities of one model lie."""
    return [f"{variant}.{classifier}.{name}" for name in classes]


def variants_of(options: Radiomics) -> tuple[Variant, ...]:
    """Radiomics first, then each arm's features alone and fused."""
    of_arms = [Variant(source, arm) for arm in options.arms for source in ("deep", "fused")]
    return (Variant("radiomics"), *of_arms)
