"""What the report says of images that look alike: what its check is worth, and what else in the lake has them."""

from __future__ import annotations

import io
import json
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tasks.fingerprints.calibration import CHANGES
from tests.conftest import Prepare, write_fake

COPIED = 5


def report_of(release: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((release / "quality" / "report.json").read_bytes())
    return value


def test_the_check_is_measured_on_the_images_of_every_release(release: Path) -> None:
    measured = report_of(release)["calibration"]
    assert measured["planted"] == 12 * len(CHANGES)
    assert measured["recall"] >= 0.7  # phantoms of 56 px lose their detail to JPEG; of 224 px nearly all are found
    assert measured["precision"] == 1.0
    assert (measured["highest_similarity_of_unrelated_images"] or 0) < measured["threshold"]
    assert {measured[kind] for kind in ("mirrored", "cropped by 5 %", "turned by quarters")} == {"12 of 12"}


@pytest.fixture(scope="module")
def shared(
    flawless_release: Path, flawless_nih: Path, prepare: Prepare, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A CheXchoNet release beside that of NIH, five of whose films it has as well, mirrored and compressed anew."""
    folder = tmp_path_factory.mktemp("shared")
    shutil.copytree(flawless_release.parents[2], folder / "lake", symlinks=True)
    write_fake("chexchonet", folder / "raw", images=60, defects=False)
    films = []
    for path in sorted(flawless_nih.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            films += [archive.read(name) for name in archive.namelist() if re.fullmatch(r".*/\d+_\d+\.png", name)]
    for film, target in zip(films[:COPIED], sorted((folder / "raw").rglob("*.jpg"))[:COPIED], strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(film)).convert("L"))[:, ::-1]
        cv2.imwrite(str(target), cv2.resize(pixels, (224, 224)), [cv2.IMWRITE_JPEG_QUALITY, 90])
    for digests in (folder / "raw").rglob("SHA256SUMS.txt"):
        digests.unlink()
    made = prepare("chexchonet", folder / "raw", folder / "lake")
    return folder / "lake" / "chexchonet" / "releases" / str(made["release"])


def test_what_another_dataset_of_the_lake_has_as_well_is_counted(shared: Path) -> None:
    page = (shared / "quality" / "index.html").read_text()
    row = page[page.index("Other datasets of the lake") :].split("<tbody>")[1].split("</tbody>")[0]
    assert "nih-chest-xray" in row
    assert [cell.split("</td>")[0] for cell in row.split('<td class="n">')[2:]] == ["0", str(COPIED)]
    assert "overlap" not in report_of(shared)  # it is of the lake, not of the release
