"""What each feature is measured in, and of what: for the table's columns and for whoever reads them."""

from __future__ import annotations

from collections.abc import Mapping

NONE = "none"
GREY, GREY_SQUARED = "grey levels", "grey levels²"
"""Of 0–255; filtered images have the same."""
PIXELS, AREA = "px", "px²"

OF_CLASS: Mapping[str, str] = {
    "firstorder": GREY,
    "shape2D": PIXELS,
    "glcm": NONE,
    "glrlm": NONE,
    "glszm": NONE,
    "gldm": NONE,
    "ngtdm": NONE,
}
"""Unless :data:`OF_FEATURE` says otherwise. Textures count bins of grey levels, not grey levels."""
OF_FEATURE: Mapping[tuple[str, str], str] = {
    ("firstorder", "Energy"): GREY_SQUARED,
    ("firstorder", "TotalEnergy"): GREY_SQUARED,
    ("firstorder", "Variance"): GREY_SQUARED,
    ("firstorder", "Entropy"): "bits",
    ("firstorder", "Uniformity"): NONE,
    ("firstorder", "Skewness"): NONE,
    ("firstorder", "Kurtosis"): NONE,
    ("shape2D", "MeshSurface"): AREA,
    ("shape2D", "PixelSurface"): AREA,
    ("shape2D", "PerimeterSurfaceRatio"): "1/px",
    ("shape2D", "Sphericity"): NONE,
    ("shape2D", "Elongation"): NONE,
}
"""TotalEnergy is energy times the size of a pixel, which is 1 here."""
CLASS_WORDS: Mapping[str, str] = {
    "firstorder": "grey levels",
    "shape2D": "shape of the mask",
    "glcm": "texture: pairs of neighbouring pixels (GLCM)",
    "glrlm": "texture: runs of one grey level (GLRLM)",
    "glszm": "texture: zones of one grey level (GLSZM)",
    "gldm": "texture: pixels that depend on their neighbours (GLDM)",
    "ngtdm": "texture: differences from the neighbourhood (NGTDM)",
}
BAND_WORDS = {"L": "low", "H": "high"}


def unit_of(name: str) -> str:
    """Of a feature as PyRadiomics spells it: ``original_glcm_Contrast``. Raises :class:`KeyError` for another class."""
    _, feature_class, feature = name.split("_")
    return OF_FEATURE.get((feature_class, feature), OF_CLASS[feature_class])


def words_of(name: str) -> str:
    """What it tells of, and of which image."""
    image, feature_class, _ = name.split("_")
    what = CLASS_WORDS[feature_class]
    return what if feature_class == "shape2D" else f"{what}, of the {_image_words(image)}"


def _image_words(image: str) -> str:
    if image.startswith("log-sigma-"):
        sigma = image.removeprefix("log-sigma-").removesuffix("-mm-3D").replace("-", ".")
        return f"image filtered by a Laplacian of Gaussian, sigma {sigma} px"
    if image.startswith("wavelet-"):
        rows, columns = (BAND_WORDS[band] for band in image.removeprefix("wavelet-"))
        return f"wavelet image of {rows} frequencies down and {columns} across"
    return "image"
