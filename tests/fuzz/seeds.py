"""What mutation starts from: small, made up, one of each kind that a publisher or a stranger may send."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import docx
import numpy as np
from PIL import Image

from tests import dicom_files
from tests.fakes.zip_encryption import encrypt_zip

PACKED = ("jpeg-lossless", "jpeg-ls", "jpeg-2000", "rle")
PASSWORD = "made-up"
STYLES = (
    b'<w:styles xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">'
    b'<w:style w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/></w:style>'
    b'<w:style w:type="paragraph" w:styleId="Heading1"><w:name w:val="heading 1"/></w:style>'
    b'<w:style w:type="paragraph" w:styleId="ListNumber"><w:name w:val="List Number"/></w:style></w:styles>'
)
STUBS = {
    "word/styles.xml": STYLES,
    "word/theme/theme1.xml": b"<a/>",
    "docProps/thumbnail.jpeg": b"",
    "word/stylesWithEffects.xml": b"<a/>",
}
"""Parts of a Word file that are large, made small."""
CORPUS = Path(__file__).with_name("corpus")


def kept(target: str) -> list[bytes]:
    """Inputs that once did harm, and text seeds."""
    return [path.read_bytes() for path in sorted((CORPUS / target).glob("*"))]


def zips() -> list[bytes]:
    """Stored, deflated, bzip2 and LZMA members, folders, a comment, Zip64, streamed, nothing at all."""
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("images/00000001_000.png", b"not a picture " * 9)
            archive.writestr("Data_Entry_2017.csv", "a,b\n1,2\n")
            archive.writestr("größe/ü.txt", "text")
            archive.comment = b"comment"
        made.append(buffer.getvalue())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.mkdir("folder")
        with archive.open("folder/large.bin", "w", force_zip64=True) as member:
            member.write(b"x" * 100)
    return [*made, buffer.getvalue(), b"PK\x05\x06" + bytes(18)]


def locked_zips(folder: Path) -> list[bytes]:
    """Encrypted by each method."""
    made = []
    for kind in ("legacy", "aes"):
        path = folder / f"{kind}.zip"
        encrypt_zip(path, {"a.jpg": b"secret " * 20, "b.jpg": b""}, PASSWORD, kind)
        made.append(path.read_bytes())
    return made


def tars() -> list[bytes]:
    """ustar, GNU with long names, pax, links and a device; plain and gzipped."""
    made = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
            for name in (
                "images/00000001_000.png",
                "a/" * 40 + ("" if form == tarfile.USTAR_FORMAT else "ü" * 90) + "b",
            ):
                info = tarfile.TarInfo(name[-90:] if form == tarfile.USTAR_FORMAT else name)
                info.size = 700
                archive.addfile(info, io.BytesIO(b"y" * 700))
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE):
                info = tarfile.TarInfo(f"odd-{kind!r}")
                info.type, info.linkname = kind, "/etc/passwd"
                if kind != tarfile.GNUTYPE_SPARSE or form == tarfile.GNU_FORMAT:
                    archive.addfile(info)
        made.append(buffer.getvalue())
    return [*made, *(gzip.compress(tar, 1, mtime=0) for tar in made)]


def pictures() -> list[bytes]:
    """PNG of every depth and kind, JPEG of several, and formats that no dataset has."""
    grey = (np.arange(20 * 24) % 251).astype(np.uint8).reshape(20, 24)
    plain = Image.fromarray(grey)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    colour = Image.fromarray(np.dstack([grey, grey[::-1], grey]))
    clear = Image.fromarray(np.dstack([grey, grey, grey, grey]))
    made = []
    for image, form, options in (
        (plain, "PNG", {}),
        (deep, "PNG", {}),
        (colour, "PNG", {}),
        (clear, "PNG", {}),
        (plain.convert("P"), "PNG", {"transparency": 3}),
        (plain.convert("1"), "PNG", {}),
        (plain.convert("LA"), "PNG", {}),
        (colour, "PNG", {"save_all": True, "append_images": [colour.rotate(90)]}),
        (plain, "JPEG", {}),
        (colour, "JPEG", {"progressive": True}),
        (colour.convert("CMYK"), "JPEG", {}),
        (plain, "TIFF", {}),
        (plain, "GIF", {}),
        (plain, "BMP", {}),
        (colour, "WEBP", {}),
    ):
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        made.append(buffer.getvalue())
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    colour.save(buffer, "JPEG", exif=exif)
    text = _chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(10_000)))
    return [*made, buffer.getvalue(), made[0][:33] + text + made[0][33:]]


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def dicoms() -> list[bytes]:
    """DICOM files of every transfer syntax that is read, of few pixels; frames, colours, a palette, a window."""
    grey = (np.arange(20 * 24) % 251).astype(np.uint16).reshape(20, 24) * 16
    few = (grey >> 4).astype(np.uint8)
    colour = np.dstack([few, few[::-1], few])
    window: dict[str, Any] = {"RescaleSlope": 2, "RescaleIntercept": -100, "WindowCenter": 900, "WindowWidth": 1000}
    made = [dicom_files.dicom(n, grey, syntax=syntax) for n, syntax in enumerate((*dicom_files.WRITTEN, *PACKED), 1)]
    return [
        *made,
        dicom_files.dicom(20, few, bits=8, syntax="jpeg"),
        dicom_files.dicom(21, colour, bits=8, syntax="jpeg"),
        dicom_files.dicom(22, np.stack([grey, grey[::-1]]), syntax="rle"),
        dicom_files.dicom(23, np.stack([grey, grey[::-1]]), **window),
        dicom_files.dicom(24, grey.astype(np.int16) - 1024, bits=16, PhotometricInterpretation="MONOCHROME1"),
        dicom_files.palette(25, few),
    ]


def documents() -> list[bytes]:
    """Word files: the parts stored, so that a changed byte is a changed letter."""
    document = docx.Document()
    document.add_heading("Supplement", 1)
    document.add_paragraph("Table 1. Patients", style="List Number")
    table = document.add_table(3, 3)
    for number, cell in enumerate(table._cells):
        cell.text = str(number)
    table.cell(0, 0).merge(table.cell(0, 1))
    table.cell(1, 2).add_table(1, 2)
    document.add_picture(io.BytesIO(pictures()[0]))
    buffer = io.BytesIO()
    document.save(buffer)
    stored = io.BytesIO()
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(stored, "w") as target:
        for name in source.namelist():
            target.writestr(name, STUBS.get(name, source.read(name)))
    return [stored.getvalue(), buffer.getvalue()]


def articles() -> list[bytes]:
    """What figshare answers: an article and the page of its files."""
    article = {"id": 26389069, "version": 4, "modified_date": "2024-09-01T00:00:00Z", "license": {"name": "CC BY 4.0"}}
    flags = {"is_embargoed": False, "is_confidential": False, "is_metadata_record": False, "download_disabled": False}
    file = {
        "id": 1,
        "name": "a.zip",
        "size": 12,
        "is_link_only": False,
        "download_url": "https://figshare.example/1",
        "computed_md5": "0" * 32,
        "supplied_md5": "0" * 32,
    }
    link = {**file, "name": "b", "is_link_only": True}
    return [json.dumps({"article": {**article, **flags}, "files": [file, link]}).encode()]


def sums() -> list[bytes]:
    """PhysioNet's digest list."""
    return [("a" * 64 + " metadata.csv\n" + "b" * 64 + " *images/x y.png\n" + "c" * 64 + "  ./README.md\n").encode()]


def file_lists() -> list[bytes]:
    """A user's own list of addresses."""
    return [("https://host.example/a%20b.zip  # one\n\n" + "a" * 64 + " https://host.example/c.csv\n").encode()]
