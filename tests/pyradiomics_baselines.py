"""PyRadiomics' own test cases: its images, its masks, and the values that it publishes for them.

They lie in its source package, which is downloaded into pytest's cache and never into the repository.
"""

from __future__ import annotations

import ast
import csv
import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

PACKAGE = "pyradiomics==3.0.1"
SHA256 = "47c57f441d6cb7973fa3b2ea48d3948df78e3348e1c69e1e2ff19001601fc2f5"
"""Of pyradiomics-3.0.1.tar.gz on PyPI."""
CLASSES = ("firstorder", "glcm", "gldm", "glrlm", "glszm", "ngtdm", "shape", "shape2D")
INSISTS = bool(os.environ.get("CI") or os.environ.get("SCANMILL_REQUIRE_ALL"))
"""Whether what is missing fails a test instead of skipping it."""
needs_pyradiomics = pytest.mark.skipif(
    importlib.util.find_spec("radiomics") is None and not INSISTS,
    reason="PyRadiomics is not installed, so nothing can be measured: see docs/radiomics.md",
)


@dataclass(frozen=True)
class Volume:
    """One of the five: MR of two brains, of a breast, CT of two lungs."""

    pixels: npt.NDArray[Any]
    """(z, y, x)."""
    inside: npt.NDArray[np.bool_]
    spacing: tuple[float, float, float]
    """Along x, y, z, in mm."""

    def slice_of(self, z: int) -> Volume:
        """One slice, as a picture of two dimensions."""
        return Volume(self.pixels[z], self.inside[z], self.spacing)


@dataclass(frozen=True)
class Case:
    """What is measured of which volume, how, and what comes out."""

    name: str
    """Such as ``brain1_resegmentation``."""
    feature_class: str
    volume: str
    settings: dict[str, Any]
    box: tuple[int, ...]
    """Of the mask: x, y, z, and its size along them."""
    values: dict[str, float]


def source_package(folder: Path) -> Path:
    """The source package, downloaded into ``folder`` unless it is there; without a network the test is skipped."""
    path = folder / "pyradiomics-3.0.1.tar.gz"
    if not path.is_file():
        wanted = ["--no-deps", "--no-binary", ":all:", "--no-build-isolation", "-q", "-d", str(folder), PACKAGE]
        done = subprocess.run([sys.executable, "-m", "pip", "download", *wanted], capture_output=True, text=True)
        if done.returncode and not INSISTS:
            pytest.skip(f"PyRadiomics' published values cannot be downloaded: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
    assert hashlib.sha256(path.read_bytes()).hexdigest() == SHA256
    return path


def cases(package: Path) -> Iterator[Case]:
    """Every case of every class that has published values."""
    with tarfile.open(package) as opened:
        for feature_class in CLASSES:
            content = _read(opened, f"data/baseline/baseline_{feature_class}.csv").decode()
            yield from _of_class(feature_class, list(csv.reader(io.StringIO(content))))


def _of_class(feature_class: str, rows: list[list[str]]) -> Iterator[Case]:
    table = {row[0]: row[1:] for row in rows[1:]}
    for column, name in enumerate(rows[0][1:]):
        said = {key: values[column] for key, values in table.items() if values[column]}
        settings: dict[str, Any] = ast.literal_eval(said["diagnostics_Configuration_Settings"])
        if feature_class == "shape":
            settings["resegmentRange"] = None  # as in PyRadiomics' own tests: grey levels do not matter to it
        volume = said["diagnostics_Configuration_TestCase"].removesuffix("_2D")
        boxes = [said.get(f"diagnostics_Mask-{kind}_BoundingBox") for kind in ("corrected", "original")]
        values = {key: float(value) for key, value in said.items() if not key.startswith("diagnostics_")}
        yield Case(name, feature_class, volume, settings, ast.literal_eval(boxes[0] or boxes[1] or "()"), values)


def volume(package: Path, name: str) -> Volume:
    """One of the five volumes, with its mask."""
    import SimpleITK

    sitk: Any = SimpleITK
    found = []
    with tarfile.open(package) as opened:
        for kind in ("image", "label"):
            path = package.parent / f"{name}_{kind}.nrrd"
            path.write_bytes(_read(opened, f"data/{name}_{kind}.nrrd"))
            found.append(sitk.ReadImage(str(path)))
            path.unlink()
    image, label = found
    inside = sitk.GetArrayFromImage(label) == 1
    return Volume(sitk.GetArrayFromImage(image), inside, tuple(image.GetSpacing()))


def _read(opened: tarfile.TarFile, name: str) -> bytes:
    stream = opened.extractfile(f"pyradiomics-3.0.1/{name}")
    assert stream is not None
    return stream.read()
