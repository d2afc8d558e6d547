"""What PyRadiomics measures inside a mask: grey levels, shape and texture, of the image and of its filtered versions.

PyRadiomics is imported when something is first measured: its build takes two steps, so that it may be missing.
"""

from __future__ import annotations

import importlib.util
import logging
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.learning.radiomics.regions import Grey, Image, Inside, grey_of, surroundings
from tasks.learning.recipe import Radiomics
from tasks.schema import ScanmillError

CLASSES = ("firstorder", "shape2D", "glcm", "glrlm", "glszm", "gldm", "ngtdm")
"""102 features: 18 + 9 + 24 + 16 + 16 + 14 + 5; all but those of shape, 93, of every filtered image as well."""
LEAST_SLICES = 4
"""PyRadiomics filters by LoG only what has as many pixels along every axis (``imageoperations.getLoGImage``), and else
leaves the filter out with no more than a warning."""
REACH_SIGMAS = 10
"""How far around a mask an image is kept, in sigmas of the widest filter: what lies further off changes no feature by
more than 1e-7 of itself (measured on phantoms)."""
LEAST_REACH = 32
"""The same in pixels at least, for wavelets, whose longest filter has 76 taps and the usual ones 2 to 30."""
NAMED = 3
"""Features that a reason names one by one."""
INSTALL = (
    "radiomics needs PyRadiomics, whose build needs numpy installed before it: pip install numpy wheel setuptools, "
    "then pip install --no-build-isolation pyradiomics==3.0.1 (a C compiler must be there)"
)


class Unmeasurable(Exception):
    """Nothing can be measured in a mask; its text says why: a short code, a colon, and the detail."""


@dataclass(frozen=True)
class Settings:
    """What PyRadiomics is asked for, in its own words."""

    parameters: Mapping[str, Any]
    image_types: Mapping[str, Mapping[str, Any]]
    classes: tuple[str, ...] = CLASSES

    @property
    def slices(self) -> int:
        """How often an image of two dimensions is repeated for the LoG filter, which knows three (:func:`extract`)."""
        sigmas = self.image_types.get("LoG", {}).get("sigma", [])
        return max(LEAST_SLICES, math.ceil(max(sigmas)) + 1) if sigmas else 1

    @property
    def reach(self) -> int:
        """Pixels around the mask that filters may look at."""
        sigmas = self.image_types.get("LoG", {}).get("sigma", [])
        return max(LEAST_REACH, math.ceil(REACH_SIGMAS * max(sigmas, default=0)))

    def as_json(self) -> dict[str, Any]:
        """For digests and for the record."""
        return {
            "parameters": dict(self.parameters),
            "image_types": {name: dict(own) for name, own in self.image_types.items()},
            "classes": list(self.classes),
            "grey": "0 to 255 whatever the depth of the image: 16 bits are divided by 257",
            "spacing": "1 pixel",
            "reach": self.reach,
        }


def insist_on_pyradiomics() -> None:
    """Raise :class:`ScanmillError` with the two steps of its installation where PyRadiomics is missing."""
    if importlib.util.find_spec("radiomics") is None:
        raise ScanmillError(INSTALL)


def settings_of(options: Radiomics) -> Settings:
    """Those of a recipe: slices alone, a leading axis of one, and grey levels in bins of ``bin_width``."""
    image_types: dict[str, dict[str, Any]] = {"Original": {}}
    if options.log_sigmas:
        image_types["LoG"] = {"sigma": list(options.log_sigmas)}
    if options.wavelet:
        image_types["Wavelet"] = {"wavelet": options.wavelet}
    parameters = {"binWidth": options.bin_width, "force2D": True, "force2Ddimension": 0, "additionalInfo": False}
    return Settings(parameters, image_types)


def measured(pixels: Image, inside: Inside, settings: Settings, wanted: Sequence[str]) -> list[float]:
    """The features that :func:`names` gives for these settings, in that order; spacing is one pixel.

    Raises :class:`Unmeasurable` where a feature is missing, or is not a finite number: then no feature of the sample is
    to be trusted, and a table with gaps is none that a signature could be looked for in.
    """
    try:
        found = extract(*surroundings(grey_of(pixels), inside, settings.reach), settings)
    except Exception as error:
        is_small = isinstance(error, ValueError) and str(error).startswith("mask ")  # a single pixel, or a line
        code = "mask-too-small" if is_small else f"measuring-failed: {type(error).__name__}"
        raise Unmeasurable(f"{code}: {error}") from error
    if missing := [name for name in wanted if name not in found]:
        height, width = pixels.shape
        raise Unmeasurable(f"features-missing: an image of {width}x{height} pixels has no {_few(missing)}")
    if wrong := [name for name in wanted if not math.isfinite(found[name])]:
        raise Unmeasurable(f"not-finite: {_few(wrong)}")
    return [found[name] for name in wanted]


def extract(
    pixels: npt.NDArray[Any], inside: Inside, settings: Settings, spacing: Sequence[float] = (1.0, 1.0, 1.0)
) -> dict[str, float]:
    """What PyRadiomics makes of (height, width) or (depth, height, width); ``spacing`` is along x, y, z.

    An image of two dimensions gets a leading axis. Where LoG is asked for it is repeated along that axis, and the mask
    is in one of the copies: nothing changes along it, so that the filter's three dimensions give what two would, to the
    last bit. Raises :class:`ValueError` for a mask that has too few pixels or dimensions.
    """
    sitk = _simple_itk()
    if pixels.ndim == 2:
        pixels, inside = _stacked(pixels, inside, settings.slices)
    image, mask = sitk.GetImageFromArray(pixels), sitk.GetImageFromArray(inside.astype(np.uint8))
    for volume in (image, mask):
        volume.SetSpacing([float(length) for length in spacing])
    with _quiet():
        found = _extractor(settings).execute(image, mask)
    return {str(name): float(value) for name, value in found.items() if not name.startswith("diagnostics_")}


def names(settings: Settings) -> tuple[str, ...]:
    """What features are called, as PyRadiomics spells them, in its order; as it gives them of a made-up disc."""
    side = 2 * settings.slices + 32
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    grey: Grey = np.random.default_rng(0).uniform(0, 255, (side, side))
    return tuple(extract(grey, x**2 + y**2 < (side / 3) ** 2, settings))


def _stacked(pixels: npt.NDArray[Any], inside: Inside, slices: int) -> tuple[npt.NDArray[Any], Inside]:
    marked = np.zeros((slices, *inside.shape), np.bool_)
    marked[slices // 2] = inside
    return np.repeat(pixels[np.newaxis], slices, axis=0), marked


def _extractor(settings: Settings) -> Any:
    from radiomics.featureextractor import RadiomicsFeatureExtractor

    _silence()
    extractor = RadiomicsFeatureExtractor(**settings.parameters)
    extractor.disableAllImageTypes()
    for image_type, own in settings.image_types.items():
        extractor.enableImageTypeByName(image_type, customArgs=dict(own))
    extractor.disableAllFeatures()
    for name in settings.classes:
        extractor.enableFeatureClassByName(name)
    return extractor


@cache
def _silence() -> None:
    """PyRadiomics writes to the terminal by itself, several lines a mask; what matters becomes a reason."""
    import radiomics

    radiomics.setVerbosity(logging.CRITICAL)
    radiomics.logger.setLevel(logging.CRITICAL)
    _simple_itk().ProcessObject.SetGlobalWarningDisplay(False)


def _simple_itk() -> Any:
    """Typed in part only."""
    import SimpleITK

    return SimpleITK


@contextmanager
def _quiet() -> Iterator[None]:
    """One thread, for the same sums in the same order on every machine; and no warning of what becomes a reason."""
    from threadpoolctl import threadpool_limits

    sitk = _simple_itk()
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        with threadpool_limits(limits=1), warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def _few(found: Sequence[str]) -> str:
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    return ", ".join(found[:NAMED]) + more
