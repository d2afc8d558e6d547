"""A made-up raw release of phantom-dicom: its layout, and no row, name or pixel of anyone.

`make contract DATASET=phantom-dicom DATASETS=examples/datasets` runs the contract test on it, and
`python examples/datasets/fakes/phantom_dicom.py phantoms` writes one to try things on.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    DigitalMammographyXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from tasks.phantoms import breast

ROOT = "1.2.826.0.1.3680043.10.1611.7"
"""UIDs of images begin so; nobody's are among them."""
MAMMOGRAM = DigitalMammographyXRayImageStorageForPresentation
BITS = 12


def write(folder: Path, *, images: int = 120, seed: int = 0) -> None:
    """Two views of each phantom in a zip, a table beside it; every fourth film is MONOCHROME1, every fifth packed."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["image_id,finding"]
    with zipfile.ZipFile(folder / "studies.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("DICOMDIR"), b"a directory of the studies, which nobody needs")
        for number in range(images):
            uid = f"{ROOT}.{seed}.{number}"
            archive.writestr(zipfile.ZipInfo(f"studies/{number // 2:04d}/{uid}"), _film(number, uid, seed))
            lines.append(f"{uid},{('benign', 'malignant')[number // 2 % 2]}")
    (folder / "findings.csv").write_text("".join(f"{line}\n" for line in lines), "utf-8")


def _film(number: int, uid: str, seed: int) -> bytes:
    is_negative, is_packed, is_implicit = number % 4 == 0, number % 5 == 0, number % 3 == 0
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MAMMOGRAM
    meta.MediaStorageSOPInstanceUID = uid
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if is_implicit and not is_packed else ExplicitVRLittleEndian
    file = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    about = {
        "SOPClassUID": MAMMOGRAM,
        "SOPInstanceUID": uid,
        "StudyInstanceUID": f"{ROOT}.{seed}.9.{number // 2}",
        "PatientName": "Phantom^Made Up",
        "PatientID": f"PH{number // 2:04d}",
        "PatientSex": "F",
        "PatientAge": f"{40 + number // 2 % 35:03d}Y",
        "StudyDate": "20260101",
        "Modality": "MG",
        "Manufacturer": "Made Up",
        "ViewPosition": ("CC", "MLO")[number % 2],
        "ImagerPixelSpacing": [1.0, 1.0],
        "BurnedInAnnotation": "NO",
        "PhotometricInterpretation": "MONOCHROME1" if is_negative else "MONOCHROME2",
    }
    for keyword, value in about.items():
        setattr(file, keyword, value)
    levels = _levels(number, seed)
    shown = (2**BITS - 1) - levels if is_negative else levels
    file.set_pixel_data(shown, about["PhotometricInterpretation"], BITS, generate_instance_uid=False)
    if is_packed:
        file.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    sink = io.BytesIO()
    file.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


def _levels(number: int, seed: int) -> np.ndarray:
    """Of both views of a phantom other ones: a mass lies where it is drawn."""
    rng = np.random.default_rng([seed, number])
    film = breast(rng, 128, density=1 + number // 2 % 4, is_malignant=bool(number // 2 % 2))
    fine = rng.integers(0, 16, film.shape)
    return (film.astype(np.uint16) * 16 + fine).astype(np.uint16)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
