"""Raw releases in NIH's layout that hold many animals: every one has a film, a member or a row of its own."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.zoo import pictures
from tests.zoo.zips import Entry, written

TABLE = "Data_Entry_2017_v2020.csv"
HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ZIP, TAR = "images_001.zip", "images_002.tar"
SOUND = 30
"""Films that nothing is wrong with."""


@dataclass
class Enclosure:
    """A raw release in the making."""

    entries: list[Entry] = field(default_factory=list)
    tarred: list[tuple[tarfile.TarInfo, bytes]] = field(default_factory=list)
    loose: list[tuple[str, Callable[[Path], object]]] = field(default_factory=list)
    """Path below the raw folder, and what makes the file there."""
    rows: list[str] = field(default_factory=list)
    films: int = 0

    def key(self) -> str:
        """Of a film that is not there yet; every one has a patient of its own."""
        self.films += 1
        return f"{self.films:08d}_000"

    def row(self, key: str, **cells: str) -> None:
        """A line of the label table; ``cells`` are written instead of what is usual."""
        usual = {
            "image": f"{key}.png",
            "labels": "No Finding",
            "follow_up": "0",
            "patient": str(int(key[:8])),
            "age": str(30 + self.films % 40),
            "sex": "FM"[self.films % 2],
            "view": "PA",
            "film": "2500,2048,0.168,0.168",
        }
        self.rows.append(",".join((usual | cells).values()))

    def film(self, data: bytes | None = None, **cells: str) -> str:
        """A film of the zip with its row; gives its member."""
        key = self.key()
        self.row(key, **cells)
        return self.member(key, pictures.png(pictures.film(self.films)) if data is None else data)

    def member(self, key: str, data: bytes) -> str:
        """The same without a row."""
        name = f"images/{key}.png"
        self.entries.append(Entry(name.encode(), data))
        return name

    def pixels(self) -> pictures.Pixels:
        """Of a film that no other film shows."""
        return pictures.film(1000 + self.films)

    def tar(self, name: str, data: bytes = b"", **about: Any) -> str:
        """An entry of the tar; ``about`` are attributes of its header."""
        info = tarfile.TarInfo(name)
        info.size = len(data)
        for attribute, value in about.items():
            setattr(info, attribute, value)
        self.tarred.append((info, data))
        return name

    def write(self, raw: Path) -> None:
        """The release, with sound films beside the others."""
        for _ in range(SOUND):
            self.film()
        written(raw / ZIP, self.entries)
        if self.tarred:
            with tarfile.open(raw / TAR, "w", format=tarfile.PAX_FORMAT) as archive:
                for info, data in self.tarred:
                    archive.addfile(info, io.BytesIO(data))
        for name, make in self.loose:
            (raw / name).parent.mkdir(parents=True, exist_ok=True)
            make(raw / name)
        lines = [HEADER, *self.rows]
        (raw / TABLE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
