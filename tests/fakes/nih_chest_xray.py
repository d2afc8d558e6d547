"""A small made-up NIH ChestX-ray14 in any of its forms: three archives, a label table, boxes and official lists."""

from __future__ import annotations

import io
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tasks.demo_release import TABLE as TABLE
from tasks.demo_release import PlantedDefects, write_nih_release

BRACKETS = "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
COMMON = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
PLAIN = "OriginalImageWidth,OriginalImageHeight,OriginalImagePixelSpacing_x,OriginalImagePixelSpacing_y"
HEADERS = {
    "2017": f"{COMMON},{BRACKETS},",
    "2020": f"{COMMON},{BRACKETS}",
    "sample": f"{COMMON},{PLAIN}",
    "adjudicated": f"{COMMON},{BRACKETS},Fracture,Pneumothorax,Airspace opacity,Nodule or mass,Set Id",
}
"""Header lines as published (facts/datasets.md, 1)."""
NAMES = {
    "2017": "Data_Entry_2017.csv",
    "2020": TABLE,
    "sample": "sample_labels.csv",
    "adjudicated": "four_findings_expert_labels.csv",
}


def write(
    folder: Path, *, images: int = 320, defects: bool = True, oddities: bool | None = None, seed: int = 0
) -> PlantedDefects:
    """Write the release with films of 56 pixels; says where the defects are.

    ``oddities``, by default with the defects: follow-up numbers that the table of 2020 has changed, and findings that
    it lists out of order.
    """
    planted = write_nih_release(folder, images=images, archives=3, side=56, seed=seed, with_defects=defects)
    if not (defects if oddities is None else oddities):
        header, *rows = (folder / TABLE).read_text().splitlines()
        lines = [header, *(_in_order(row.split(",")) for row in rows)]
        (folder / TABLE).write_text("".join(f"{line}\n" for line in lines))
    return planted


def _in_order(cells: list[str]) -> str:
    """A row of the table of 2020 whose follow-up number is the suffix of the name, and whose findings are sorted."""
    image, labels, _, *others = cells
    return ",".join([image, "|".join(sorted(labels.split("|"))), str(int(image[9:12])), *others])


def retable(folder: Path, form: str, name: str | None = None) -> Path:
    """Put the label table into another published form, under the publisher's name or another; gives its path."""
    _, *rows = (folder / TABLE).read_text().splitlines()
    (folder / TABLE).unlink()
    path = folder / (name or NAMES[form])
    lines = [HEADERS[form], *(REWRITTEN[form](row.split(",")) for row in rows)]
    end = {"2017": "\r\n", "adjudicated": "\r\n"}.get(form, "\n")
    path.write_bytes((end.join(lines) + ("" if form == "adjudicated" else end)).encode())
    return path


def _of_2017(cells: list[str]) -> str:
    """Follow-up equals the suffix of the name, spacings are short; eleven cells under twelve headers."""
    image, labels, _, *others, x, y = cells
    return ",".join([image, labels, str(int(image[9:12])), *others, f"{float(x):g}", f"{float(y):g}"])


def _of_sample(cells: list[str]) -> str:
    """Ids padded, ages with their unit, an underscore in No_Finding."""
    image, labels, _, patient, age, *others, x, y = cells
    labels = labels.replace("No Finding", "No_Finding")
    own = [image, labels, image[9:12], f"{int(patient):08d}", f"{int(age):03d}Y"]
    return ",".join([*own, *others, f"{float(x):g}", f"{float(y):g}"])


def _adjudicated(cells: list[str]) -> str:
    """Four flags and a set at the end; the set is dealt by patient."""
    pneumothorax = "YES" if "Pneumothorax" in cells[1] else "NO"
    nodule = "YES" if "Nodule" in cells[1] or "Mass" in cells[1] else "NO"
    return ",".join([_of_2017(cells), "NO", pneumothorax, "NO", nodule, "val" if int(cells[3]) % 2 else "test"])


REWRITTEN: Mapping[str, Callable[[list[str]], str]] = {
    "2017": _of_2017,
    "2020": ",".join,
    "sample": _of_sample,
    "adjudicated": _adjudicated,
}


def respell(path: Path, *, newline: str, byte_order_mark: bool = False) -> None:
    """Give a text file other line ends, and a byte order mark."""
    text = path.read_text().replace("\r\n", "\n").replace("\n", newline)
    path.write_bytes((b"\xef\xbb\xbf" if byte_order_mark else b"") + text.encode())


def as_folders(folder: Path) -> None:
    """Kaggle's zips as a user extracts them: ``images_001/images/*.png``, loose."""
    for archive, members in _take_zips(folder).items():
        for name, data in members:
            path = folder / archive / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)


def as_one_zip(folder: Path) -> None:
    """Kaggle's own download: one zip with ``images_001/images/*.png`` and the tables."""
    zips = _take_zips(folder)
    files = sorted(path for path in folder.iterdir() if path.is_file())
    with zipfile.ZipFile(folder / "archive.zip", "w") as outer:
        for path in files:
            outer.write(path, path.name)
            path.unlink()
        for archive, members in zips.items():
            for name, data in members:
                outer.writestr(f"{archive}/{name}", data)


def as_tarballs(folder: Path) -> None:
    """NIH Box: ``images_001.tar.gz`` with ``images/*.png``."""
    for archive, members in _take_zips(folder).items():
        with tarfile.open(folder / f"{archive}.tar.gz", "w:gz", compresslevel=1) as tar:
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def as_sample(folder: Path, *, is_nested: bool, is_doubled: bool = False) -> None:
    """Kaggle's sample: ``sample.zip`` with ``sample/images`` (or ``sample/sample/images``, or both) and its table."""
    roots = ["sample/sample"] if is_nested else ["sample"]
    roots += ["sample/sample"] if is_doubled else []
    zips = _take_zips(folder)
    with zipfile.ZipFile(folder / "sample.zip", "w") as outer:
        for root in roots:
            for members in zips.values():
                for name, data in members:
                    outer.writestr(f"{root}/{name}", data)
            for path in folder.glob("*.csv"):
                outer.write(path, f"{root}/{path.name}")
    for path in folder.glob("*.csv"):
        path.unlink()


def as_folders_in_capitals(folder: Path) -> None:
    """Both at once."""
    as_folders(folder)
    upper_case(folder)


def upper_case(folder: Path) -> None:
    """Loose images with the extension in capitals, tables and lists in the other case seen."""
    for path in sorted(folder.rglob("*.png")):
        path.rename(path.with_suffix(".PNG"))
    for path in sorted(folder.glob("*_*.*")):
        path.rename(path.with_name(path.name.swapcase()))


def drop(folder: Path, *names: str) -> None:
    """Leave out files or folders."""
    for name in names:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _take_zips(folder: Path) -> dict[str, list[tuple[str, bytes]]]:
    """Archive name without its extension to its members; the zips are removed."""
    taken = {}
    for path in sorted(folder.glob("images_*.zip")):
        with zipfile.ZipFile(path) as opened:
            members = [(info.filename, opened.read(info)) for info in opened.infolist()]
        taken[path.stem] = [(name, data) for name, data in members if re.search(r"images/\d", name)]
        path.unlink()
    return taken
