"""What code made this: part of every digest, so that other code is another chunk and another release."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import metadata
from pathlib import Path

PACKAGES = ("deflate", "kornia-rs", "numpy", "opencv-python-headless", "pandas", "pillow", "pyarrow")
"""The libraries whose version can change a stored byte."""
GROUPING_PACKAGES = ("faiss-cpu", "scipy")
"""Those that can change which images a release takes for the same picture, and no chunk."""
DOCUMENT_PACKAGES = ("lxml", "python-docx")
"""Those that can change one of a document release, and no chunk."""
DICOM_PACKAGES = ("pydicom", "python-gdcm")
"""Those that can change a pixel, or a text of a header, of a dataset of DICOM files, and nothing of others."""


@cache
def scanmill_version() -> str:
    """Installed version of scanmill."""
    return metadata.version("scanmill")


def library_versions(packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Version of each package."""
    return {name: _version(name) for name in packages}


@cache
def _version(package: str) -> str:
    return metadata.version(package)


@cache
def source_digest(*patterns: str, without: str = "") -> str:
    """First 16 hex digits of the SHA-256 over the source files that match, relative to the folder of ``tasks``.

    Files that match ``without`` are left out.
    """
    root = Path(__file__).resolve().parent.parent
    content = hashlib.sha256()
    left_out = set(root.glob(without)) if without else set()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)} - left_out):
        content.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return content.hexdigest()[:16]


def conversion_version() -> str:
    """Identity of the code that turns a member into a chunk row."""
    images = ("decoding", "encoding", "images", "reduction", "masks", "scan_sector", "image_checks", "burned_in_text")
    reading = ("archives", "tarballs/*", "locked_zips", "plain_zips", "zip_directories", "limits")
    modules = (*reading, *images, "pass_through", "fingerprints/polar", "chunks", "schema")
    return source_digest(*(f"tasks/{name}.py" for name in modules))


def release_version() -> str:
    """Identity of all code that shapes a release; a change to what is learned from releases makes no new ones."""
    patterns = ("tasks/**/*.py", "tasks/**/*.jinja", "tasks/**/*.css", "expectations/**/*.py")
    return source_digest(*patterns, without="tasks/learning/**/*")
