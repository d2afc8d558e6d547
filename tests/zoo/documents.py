"""Word documents that are meant to do harm; the release of all of them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import docx

from tests.zoo.animals import Accepted, Quarantined
from tests.zoo.residents import MARK
from tests.zoo.zips import MIB

MAIN = "word/document.xml"
DATASET = "ovf-radiomics"
LAUGHS = b"".join(b'<!ENTITY l%d "%s">' % (n, (b"&l%d;" % (n - 1)) * 10 if n else b"lol") for n in range(10))
ELSEWHERE = b'<!ENTITY l9 SYSTEM "file:///etc/passwd">'


@dataclass(frozen=True)
class DocumentAnimal:
    """One Word file."""

    name: str
    what: str
    expected: Quarantined | Accepted
    make: Callable[[], bytes]

    @property
    def file(self) -> str:
        """Its name in the raw folder."""
        return f"{self.name.replace(' ', '-')}.docx"


def _sound(text: str = "A table of features.") -> bytes:
    document = docx.Document()
    document.add_heading("Supplement", 1)
    document.add_paragraph(text)
    table = document.add_table(2, 2)
    for number, cell in enumerate(cell for row in table.rows for cell in row.cells):
        cell.text = f"{text} {number}"
    sink = io.BytesIO()
    document.save(sink)
    return sink.getvalue()


def _changed(change: Callable[[bytes], bytes], more: bytes = b"") -> bytes:
    """The main part changed; ``more`` behind it."""
    sink = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_sound())) as source, zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            data = source.read(name)
            target.writestr(name, change(data) + more if name == MAIN else data)
    return sink.getvalue()


def _with_entities(declared: bytes) -> bytes:
    return _changed(
        lambda data: data.replace(b"<w:document", b"<!DOCTYPE x [" + declared + b"]><w:document", 1).replace(
            b"A table of features.", b"A &l9; table.", 1
        )
    )


DOCUMENTS = [
    DocumentAnimal("sound", "for comparison", Accepted(), _sound),
    DocumentAnimal("script", "HTML in text and cells", Accepted(), lambda: _sound(MARK)),
    DocumentAnimal("billion laughs", "entities in entities", Quarantined("undecodable-document"),
                   lambda: _with_entities(LAUGHS)),
    DocumentAnimal("file as entity", "file:///etc/passwd: not read", Accepted(), lambda: _with_entities(ELSEWHERE)),
    DocumentAnimal("XML bomb", "130 MiB of spaces in its text", Quarantined("undecodable-document"),
                   lambda: _changed(bytes, b" " * (130 * MIB))),
    DocumentAnimal("no document", "a page called .docx", Quarantined("not-a-document"),
                   lambda: b"<html>Sign in</html>"),
]  # fmt: skip


def write(raw: Path) -> None:
    """The release."""
    raw.mkdir(parents=True)
    for animal in DOCUMENTS:
        (raw / animal.file).write_bytes(animal.make())
