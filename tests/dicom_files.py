"""DICOM files with made-up pixels and people: of every transfer syntax and kind of pixels that is read; odd ones."""

from __future__ import annotations

import io
import tempfile
import warnings
import zlib
from pathlib import Path
from typing import Any

import gdcm  # type: ignore[import-untyped]
import numpy as np
import numpy.typing as npt
from pydicom import config
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from tasks.phantoms import breast

Pixels = npt.NDArray[Any]

NAME = "Mustermann^Erika"
"""Of a person that does not exist, planted in every file: no release may hold it."""
SECRETS = (
    NAME,
    "Mustermann",
    "19610402",
    "Heidestrasse 17",
    "ACC-4711",
    "Klinikum Nirgendwo",
    "Sorge^Otto",
    "SN-90210",
)
ROOT = "1.2.826.0.1.3680043.10.1611"
WRITTEN = {
    "implicit": ImplicitVRLittleEndian,
    "explicit": ExplicitVRLittleEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "big": ExplicitVRBigEndian,
}
"""Transfer syntaxes that pydicom writes."""
PACKED = {
    "jpeg": gdcm.TransferSyntax.JPEGBaselineProcess1,
    "jpeg-lossless": gdcm.TransferSyntax.JPEGLosslessProcess14_1,
    "jpeg-ls": gdcm.TransferSyntax.JPEGLSLossless,
    "jpeg-2000": gdcm.TransferSyntax.JPEG2000Lossless,
    "rle": gdcm.TransferSyntax.RLELossless,
}
"""Those that GDCM packs."""


def uid(number: int) -> str:
    """Of an image."""
    return f"{ROOT}.{number}"


def picture(seed: int, bits: int = 12, side: int = 96) -> Pixels:
    """A made-up breast in so many bits, uint8 or uint16."""
    drawn = breast(np.random.default_rng(seed), side, density=1 + seed % 4, is_malignant=bool(seed % 2))
    grey = np.asarray(drawn, np.float64)[:side, : side - 8]
    scaled = np.rint(grey / max(grey.max(), 1) * (2**bits - 1))
    return np.asarray(scaled, np.uint8 if bits <= 8 else np.uint16)


def dicom(number: int, pixels: Pixels | None, *, bits: int = 12, syntax: str = "explicit", **elements: Any) -> bytes:
    """A file of the made-up person with these pixels: (rows, columns), of several frames (frames, rows, columns), in
    colour (rows, columns, 3). ``elements``: by keyword, instead of what is usual; None leaves one out."""
    if syntax in PACKED:
        return packed(dicom(number, pixels, bits=bits, **elements), syntax)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = UID(uid(number))
    meta.TransferSyntaxUID = WRITTEN[syntax]
    form: dict[str, Any] = {"is_implicit_VR": syntax == "implicit", "is_little_endian": syntax != "big"}
    file = FileDataset("", {}, file_meta=meta, preamble=bytes(128), **form)
    usual = {**_person(number), **_exam(number), **({} if pixels is None else _shape(pixels, bits))}
    with warnings.catch_warnings():  # of values that are none of their kind
        warnings.simplefilter("ignore")
        for keyword, value in {**usual, **elements}.items():
            if value is not None and keyword != "PixelData":
                setattr(file, keyword, value)
    if pixels is not None:
        data = pixels.astype(pixels.dtype.newbyteorder(">" if syntax == "big" else "<")).tobytes()
        file.PixelData = elements.get("PixelData", data + bytes(len(data) % 2))
        file["PixelData"].VR = "OW" if pixels.itemsize == 2 else "OB"
    file.private_block(0x0011, "MADE UP", create=True).add_new(1, "LO", NAME)
    return written(file)


def written(file: FileDataset) -> bytes:
    """As bytes."""
    sink = io.BytesIO()
    with config.disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        file.save_as(sink, enforce_file_format=True)
    return sink.getvalue()


def _person(number: int) -> dict[str, Any]:
    return {
        "PatientName": NAME,
        "PatientBirthDate": "19610402",
        "PatientAddress": "Heidestrasse 17",
        "PatientID": f"P{number // 2:03d}",
        "PatientSex": "FM"[number // 2 % 2],
        "PatientAge": f"{40 + number // 2 % 30:03d}Y",
    }


def _exam(number: int) -> dict[str, Any]:
    return {
        "SOPClassUID": ComputedRadiographyImageStorage,
        "SOPInstanceUID": uid(number),
        "StudyInstanceUID": f"{ROOT}.9.{number}",
        "SeriesInstanceUID": f"{ROOT}.8.{number}",
        "StudyDate": "20200229",
        "StudyTime": "121314",
        "AccessionNumber": "ACC-4711",
        "InstitutionName": "Klinikum Nirgendwo",
        "ReferringPhysicianName": "Sorge^Otto",
        "DeviceSerialNumber": "SN-90210",
        "StudyDescription": "MAMMOGRAPHIE Mustermann",
        "Manufacturer": "Made Up",
        "Modality": "MG",
        "ViewPosition": ("CC", "MLO")[number % 2],
        "BodyPartExamined": "BREAST",
        "ImagerPixelSpacing": [0.1, 0.1],
        "BurnedInAnnotation": "NO",
        "OtherPatientIDsSequence": [item(PatientID="Mustermann", TypeOfPatientID="TEXT")],
    }


def item(**elements: Any) -> Dataset:
    """Of a sequence."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def _shape(pixels: Pixels, bits: int) -> dict[str, Any]:
    is_colour = pixels.ndim == 3 and pixels.shape[2] == 3
    rows, columns = pixels.shape[:2] if is_colour else pixels.shape[-2:]
    return {
        "Rows": rows,
        "Columns": columns,
        "SamplesPerPixel": 3 if is_colour else 1,
        "PhotometricInterpretation": "RGB" if is_colour else "MONOCHROME2",
        "PlanarConfiguration": 0 if is_colour else None,
        "NumberOfFrames": pixels.shape[0] if pixels.ndim == 3 and not is_colour else None,
        "BitsAllocated": 8 * pixels.itemsize,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(np.issubdtype(pixels.dtype, np.signedinteger)),
    }


def packed(data: bytes, syntax: str) -> bytes:
    """The same file with its pixels packed."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "a.dcm"), Path(folder, "b.dcm")
        source.write_bytes(data)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(source))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(PACKED[syntax]))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(target))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        return target.read_bytes()


def palette(number: int, indices: Pixels, *, syntax: str = "explicit") -> bytes:
    """Indices of 8 bits into a palette of 256 colours, whose 16 bits say the same twice."""
    ramp = np.arange(256)
    tables = {"Red": ramp, "Green": 255 - ramp, "Blue": ramp // 2}
    about: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, table in tables.items():
        about[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        about[f"{colour}PaletteColorLookupTableData"] = (
            (table * 257).astype(">u2" if syntax == "big" else "<u2").tobytes()
        )
    return dicom(number, indices, bits=8, syntax=syntax, **about)


def claiming(data: bytes, tag: tuple[int, int], length: int) -> bytes:
    """An explicit little-endian file in which an element with a long length says another one."""
    at = data.index(bytes((tag[0] & 255, tag[0] >> 8, tag[1] & 255, tag[1] >> 8)), 132)
    return data[: at + 8] + length.to_bytes(4, "little") + data[at + 12 :]


def nested(depth: int) -> bytes:
    """A header that begins with sequences within each other, none of which says how long it is."""
    whole = dicom(9_999, None)
    at = whole.index(b"\x08\x00\x05\x00") if b"\x08\x00\x05\x00" in whole else whole.index(b"\x08\x00\x16\x00")
    level = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return whole[:at] + level * depth


def other_size(data: bytes) -> bytes:
    """A packed file whose JPEG tells of 60,000 rows and columns."""
    at = data.index(b"\xff\xc3\0\x0b")  # lossless frame, one component
    return data[: at + 5] + (60_000).to_bytes(2, "big") * 2 + data[at + 9 :]


def without_end(data: bytes, frame: int) -> bytes:
    """A packed file of several JPEGs, one of which (from 0) has lost its end."""
    ends = [at for at in range(data.rindex(b"\xe0\x7f\x10\x00"), len(data)) if data[at : at + 2] == b"\xff\xd9"]
    return data[: ends[frame]] + bytes(2) + data[ends[frame] + 2 :]


def with_many_elements(count: int) -> bytes:
    """A header that begins with a sequence of so many empty elements."""
    whole = dicom(9_998, None)
    at = whole.index(b"\x08\x00\x16\x00", 132)
    begin = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return whole[:at] + begin + b"\x08\x00\x60\x00CS\0\0" * count


def deflated_zeros(size_bytes: int) -> bytes:
    """A deflated file whose elements inflate to so many zeros."""
    whole = dicom(9_997, picture(1), syntax="deflated")
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = bytes(2**20)
    parts = [packer.compress(zeros) for _ in range(size_bytes // len(zeros))]
    end = whole.index(b"1.2.840.10008.1.2.1.99") + len("1.2.840.10008.1.2.1.99")
    meta = whole[: end + end % 2]
    return meta + b"".join([*parts, packer.flush()])
