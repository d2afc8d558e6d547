"""Every defect that a dataset's declaration speaks of, planted into a clean made-up release of it, many at once.

``SPOIL`` maps a dataset to a function of its raw folder, as ``write(folder, defects=False)`` of its fake has left it.
It gives, for each gate and code of an expectation that must speak then, its status and how many rows fail. No two
defects meet in one row, unless that is said. How spoilt pictures look is held by tests/test_image_checks.py.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd

from tasks.demo_release import BOXES, TABLE
from tasks.schema import GateName, Status
from tests.fakes import behsof, chexchonet, damage, mammography_density, ovf_radiomics
from tests.fakes.damage import TableFile

Expected = dict[tuple[GateName, str], tuple[Status, int]]
Picture = npt.NDArray[np.uint8]
Change = Callable[[bytes], bytes]

TRAIN_VAL, TEST = "train_val_list.txt", "test_list.txt"


def _read(file: TableFile) -> pd.DataFrame:
    """Cells as text, column names without blanks around them; rows from 0."""
    header, *rows = file.rows()
    return pd.DataFrame(rows, columns=[name.strip() for name in header], dtype=object)


def _write(file: TableFile, table: pd.DataFrame) -> None:
    file.write([list(table.columns), *table.to_numpy().tolist()])


def _redrawn(change: Callable[[Picture], Picture], extension: str = ".png") -> Change:
    """The same file with other pixels."""

    def redraw(content: bytes) -> bytes:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
        assert pixels is not None, "a sound picture is to be spoilt"
        return _encoded(change(pixels.astype(np.uint8)), extension)

    return redraw


def _encoded(pixels: Picture, extension: str) -> bytes:
    is_encoded, data = cv2.imencode(extension, pixels)
    assert is_encoded, "OpenCV encodes any uint8 image"
    return data.tobytes()


def _half(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _coloured(pixels: Picture) -> Picture:
    grey = pixels if pixels.ndim == 2 else pixels[..., 0]
    return np.stack([grey, 255 - grey, grey], axis=-1)


def _small(pixels: Picture) -> Picture:
    return np.ascontiguousarray(pixels[:12, :12])


def _change_zip(archive: Path, changes: Mapping[str, Change], without: str = "") -> None:
    """Change members by the last part of their path, and leave one out."""

    def change(name: str, content: bytes) -> bytes:
        base = Path(name).name
        return changes[base](content) if base in changes else content

    damage.change_members(archive, change)
    with zipfile.ZipFile(archive) as opened:
        dropped = [name for name in opened.namelist() if Path(name).name == without]
    if dropped:
        damage.remove_members(archive, dropped)


def spoil_nih(folder: Path) -> Expected:
    """Defects of the label table, the lists, the boxes and the films."""
    file = TableFile(folder / TABLE)
    table, boxes = _read(file), [line.split(",") for line in (folder / BOXES).read_text().splitlines()]
    lists = {name: (folder / name).read_text().split("\n") for name in (TRAIN_VAL, TEST)}
    boxed = list(dict.fromkeys(cells[0] for cells in boxes[1:]))
    is_training = table["Image Index"].isin(lists[TRAIN_VAL])
    is_alone = ~table["Patient ID"].duplicated(keep=False)
    free = iter(table.index[is_training & is_alone])
    several = [own.index for _, own in table[is_training & ~is_alone].groupby("Patient ID")]
    name_of = table["Image Index"].to_dict()
    changes: dict[str, Change] = {}

    table.loc[next(free), "Finding Labels"] = "Fracture"
    table.loc[next(free), "Finding Labels"] = "Mass|Effusion"
    table.loc[next(free), "Image Index"] += " "
    table.loc[next(free), "Patient ID"] = "29999"
    table.loc[next(free), "Patient ID"] = "unknown"  # the name then is no patient's either
    table.loc[next(free), "View Position"] = "LL"
    table.loc[next(free), "Patient Age"] = "411"
    table.loc[next(free), "Patient Age"] = "033D"
    table.loc[next(free), "Patient Gender"] = "X"
    table.loc[next(free), "Follow-up #"] = "200"  # and so renumbered
    table.loc[next(free), "Height]"] = "100"
    table.loc[next(free), "y]"] = "0.1201"
    table.loc[several[0][1], "Follow-up #"] = table.loc[several[0][0], "Follow-up #"]  # renumbered as well
    table.loc[several[1][0], "Patient Gender"] = {"F": "M", "M": "F"}[table.loc[several[1][0], "Patient Gender"]]
    moved, unlisted, absent, without_row, twice = name_of[several[2][0]], *(name_of[next(free)] for _ in range(4))
    lists[TEST].append(moved)
    for name in (moved, unlisted):
        lists[TRAIN_VAL].remove(name)

    found = {name: next(cells for cells in boxes if cells[0] == name) for name in boxed[:3]}
    found[boxed[0]][2] = "500.0"  # beyond a film of 56 pixels, within one of 1024
    found[boxed[1]][4] = "-5.0"
    own = table.set_index("Image Index")["Finding Labels"]
    found[boxed[2]][1] = next(name for name in ("Mass", "Nodule", "Pneumonia") if name not in own[boxed[2]])
    drawn = next(row for row in free if table.loc[row, "Finding Labels"] == "No Finding")
    table.loc[drawn, "Finding Labels"] = "Mass"
    boxes.append([name_of[drawn], "Mass", "1.0", "1.0", "5.0", "5.0"])

    for change in (_half, _redrawn(np.zeros_like), _redrawn(_coloured), _redrawn(_small)):
        changes[name_of[next(free)]] = change
    first = next(free)
    again = next(row for row in table.index if name_of[row] in lists[TEST] and name_of[row] not in [moved, *boxed])
    table.loc[[first, again], "Finding Labels"] = ["Hernia", "Fibrosis"]
    picture = _encoded(np.random.default_rng(7).integers(0, 255, (56, 56), np.uint8), ".png")
    changes[name_of[first]] = changes[name_of[again]] = lambda _: picture

    table = pd.concat([table, table[table["Image Index"] == twice]], ignore_index=True)
    _write(file, table[table["Image Index"] != without_row])
    (folder / BOXES).write_text("".join(",".join(cells) + "\n" for cells in boxes))
    for name, names in lists.items():
        (folder / name).write_text("\n".join(names))
    for archive in folder.glob("images_*.zip"):
        _change_zip(archive, changes, absent)
    return {
        ("metadata", "unknown-label"): ("tolerated", 1),
        ("metadata", "labels-unsorted"): ("known", 1),
        ("metadata", "image-name"): ("warned", 1),
        ("metadata", "patient-of-name"): ("warned", 2),
        ("metadata", "missing-group"): ("tolerated", 1),
        ("metadata", "view"): ("warned", 1),
        ("metadata", "implausible-age"): ("warned", 1),
        ("metadata", "age-unit"): ("warned", 1),
        ("metadata", "sex"): ("warned", 1),
        ("metadata", "sex-differs"): ("warned", len(several[1])),
        ("metadata", "follow-up-range"): ("warned", 1),
        ("metadata", "follow-up-renumbered"): ("known", 2),
        ("metadata", "follow-up-repeated"): ("warned", 2),
        ("metadata", "original-film"): ("warned", 2),
        ("metadata", "no-split"): ("tolerated", 1),
        ("metadata", "no-official-split"): ("warned", 1),
        ("metadata", "duplicate-row"): ("tolerated", 1),
        ("metadata", "image-without-row"): ("tolerated", 1),
        ("metadata", "row-without-image"): ("tolerated", 1),
        ("metadata", "group-crosses-splits"): ("failed", len(several[2])),
        ("metadata", "boxes-refused"): ("failed", 1),
        ("metadata", "box-labels"): ("warned", 1),
        ("metadata", "boxed-in-training"): ("warned", 1),
        ("images", "box-beyond-image"): ("failed", 1),
        ("images", "decodable"): ("tolerated", 1),
        ("images", "blank-frame"): ("tolerated", 1),
        ("images", "unexpected-channels"): ("tolerated", 1),
        ("images", "too-small"): ("tolerated", 1),
        ("images", "group-crosses-splits"): ("failed", len(several[2])),
        ("images", "not-grey"): ("known", 1),
        ("images", "pixels-cross-splits"): ("failed", 2),
        ("images", "conflicting-labels"): ("warned", 2),
        ("images", "repeated-pixels"): ("warned", 1),
    }


def spoil_chexchonet(folder: Path) -> Expected:
    """Defects of the table and of the films."""
    root = folder / chexchonet.PLACE
    file = TableFile(root / chexchonet.TABLE)
    table = _read(file)
    is_alone = ~table["patient_id"].duplicated(keep=False)
    is_sound = table["composite_slvh_dlv"] == "0"
    free = iter(table.index[is_alone & is_sound])
    is_clear = is_sound & (table["lvidd"].astype(float) < 5)  # of the threshold for either sex
    several = [own.index for _, own in table[~is_alone & is_clear].groupby("patient_id")]
    name_of = table["cxr_filename"].to_dict()

    table.loc[next(free), "slvh"] = "2"
    table.loc[next(free), "composite_slvh_dlv"] = "1"
    table.loc[next(free), ["slvh", "composite_slvh_dlv"]] = "1"
    table.loc[next(free), ["dlv", "composite_slvh_dlv"]] = "1"
    table.loc[next(free), "lvpwd"] = "0.0"
    table.loc[next(free), ["ivsd", "slvh", "composite_slvh_dlv"]] = ["9.5", "1", "1"]
    table.loc[next(free), "lvidd"] = ""
    table.loc[next(free), "cxr_filename"] += " "
    table.loc[next(free), "patient_id"] = "f" * 32
    table.loc[next(free), "patient_id"] = "17"  # the name then is no patient's either, and nobody can be dealt out
    table.loc[next(free), "cxr_time_offset"] = "later"
    table.loc[next(free), "pacemaker_or_icd"] = "yes"
    table.loc[next(free), "cxr_year"] = "2021"
    table.loc[next(free), "age"] = "94"
    table.loc[next(free), "age"] = "300"  # above 89 as well
    table.loc[several[0][0], "sex"] = {"F": "M", "M": "F"}[table.loc[several[0][0], "sex"]]
    _write(file, table)
    _change_file(root / "images" / name_of[several[1][0]], _half)
    return {
        ("metadata", "unknown-label"): ("tolerated", 1),
        ("metadata", "composite-label"): ("tolerated", 1),
        ("metadata", "slvh-threshold"): ("warned", 1),
        ("metadata", "dlv-threshold"): ("warned", 1),
        ("metadata", "zero-measurement"): ("warned", 1),
        ("metadata", "large-measurement"): ("warned", 1),
        ("metadata", "missing-measurement"): ("warned", 1),
        ("metadata", "image-name"): ("warned", 1),
        ("metadata", "patient-of-name"): ("warned", 2),
        ("metadata", "missing-group"): ("tolerated", 1),
        ("metadata", "time-offset"): ("warned", 1),
        ("metadata", "unknown-procedure"): ("warned", 1),
        ("metadata", "year"): ("warned", 1),
        ("metadata", "age-above-89"): ("warned", 2),
        ("metadata", "implausible-age"): ("warned", 1),
        ("metadata", "sex-differs"): ("warned", len(several[0])),
        ("metadata", "no-split"): ("tolerated", 1),
        ("images", "decodable"): ("tolerated", 1),
    }


def _change_file(path: Path, change: Change) -> None:
    path.write_bytes(change(path.read_bytes()))


def spoil_behsof(folder: Path) -> Expected:
    """Defects of the clinical table, the list of stages and the archive."""
    file, listed = TableFile(folder / behsof.TABLE), TableFile(folder / behsof.IMAGE_TABLE)
    table, stages = _read(file), _read(listed)
    archive = folder / behsof.ARCHIVE
    with zipfile.ZipFile(archive) as opened:
        counts = pd.Series([next(part for part in name.split("/")[1:]) for name in opened.namelist()]).value_counts()
    images = table["Patient ID"].map(counts)
    is_free = table["Patient ID"].str.startswith("BEH") & (images == 1)
    free = iter(table.index[is_free])

    stageless, other, unlisted = next(free), next(free), next(free)
    table.loc[stageless, "Fibroscan F"] = (
        "7"  # nor is that the grade of the folder or of the list, nor a stage to count
    )
    table.loc[other, "Fibroscan S"] = str((int(table.loc[other, "Fibroscan S"]) + 1) % 4)
    table.loc[next(free), "CAP score"] = "-1"
    table.loc[next(free), "CAP score"] = ""
    table.loc[next(free), "CAP score"] = "90"
    table.loc[next(free), "E score"] = "99"
    table.loc[next(free), "Age"] = "150"
    table.loc[next(free), "sex"] = "?"
    stages.loc[stages["Patient ID"] == table.loc[unlisted, "Patient ID"], "Fibroscan F"] = "4"
    absent, renamed = (str(table.loc[next(free), "Patient ID"]) for _ in range(2))
    _write(file, table)
    _write(listed, stages)
    members = {name: _content(archive, name) for name in _names(archive)}
    own = [name for name in members if f"/{absent}/" in name]
    damage.remove_members(archive, own)
    (misnamed,) = [name for name in members if f"/{renamed}/" in name]
    damage.add_member(archive, misnamed.replace(renamed, "BEH99999"), misnamed)
    return {
        ("metadata", "unknown-label"): ("tolerated", 1),
        ("metadata", "grade-mismatch"): ("warned", 2),
        ("metadata", "stages-mismatch"): ("warned", 2),
        ("metadata", "cap-missing"): ("warned", 2),
        ("metadata", "cap-range"): ("warned", 1),
        ("metadata", "stiffness-range"): ("warned", 1),
        ("metadata", "implausible-age"): ("warned", 1),
        ("metadata", "sex"): ("warned", 1),
        ("metadata", "row-without-image"): ("tolerated", 1),
        ("metadata", "unexpected-member"): ("tolerated", 1),
        ("metadata", "patient-counts"): ("warned", 2),
    }


def _names(archive: Path) -> list[str]:
    with zipfile.ZipFile(archive) as opened:
        return opened.namelist()


def _content(archive: Path, name: str) -> bytes:
    return damage.content_of(archive, name)


def spoil_ovf(folder: Path) -> Expected:
    """Defects of the table, the images and the masks."""
    file = TableFile(folder / ovf_radiomics.TABLE)
    table = _read(file)
    is_alone = ~table["patient_id"].duplicated(keep=False)
    free = iter(table.index[is_alone & (table["set"] == "train")])
    several = [own.index for _, own in table[~is_alone & (table["set"] == "train")].groupby("patient_id")]
    external = table.index[is_alone & (table["set"] == "external")]
    name_of = (table["patient_id"] + "_" + table["vertebra"]).to_dict()

    table.loc[next(free), "class"] = "3"
    table.loc[next(free), "centre"] = ""
    table.loc[external[0], "centre"] = "A"
    table.loc[next(free), "set"] = "pilot"
    table.loc[next(free), "age"] = "200"
    table.loc[next(free), "sex"] = "X"
    misnamed, nameless, twice, rowless, maskless, imageless = (next(free) for _ in range(6))
    table.loc[misnamed, "vertebra"] = "X1"
    table.loc[nameless, "patient_id"] = ""
    for row in (misnamed, nameless):
        for kind in ("images", "masks"):
            name = f"{table.loc[row, 'patient_id']}_{table.loc[row, 'vertebra']}.png"
            (folder / kind / f"{name_of[row]}.png").rename(folder / kind / name)
    table.loc[several[0][0], "set"] = "internal"
    table.loc[several[1][0], "sex"] = {"F": "M", "M": "F"}[table.loc[several[1][0], "sex"]]
    (folder / "masks" / f"{name_of[maskless]}.png").unlink()
    (folder / "images" / f"{name_of[imageless]}.png").unlink()
    spoilt: tuple[Change, ...] = (
        lambda _: b"no mask",
        _redrawn(lambda mask: np.ascontiguousarray(mask[2:])),
        _redrawn(np.zeros_like),
        _redrawn(_with_island),
        _redrawn(_with_bridge),
    )
    for change in spoilt:
        _change_file(folder / "masks" / f"{name_of[next(free)]}.png", change)
    _write(file, pd.concat([table.drop(index=rowless), table.loc[[twice]]]))
    one: tuple[Status, int] = ("tolerated", 1)
    refused = ("unknown-label", "no-split", "missing-group", "duplicate-row", "image-without-row", "row-without-image")
    masks = ("image-without-mask", "mask-without-image")
    drawn = ("mask-undecodable", "mask-size", "mask-empty", "mask-parts")
    return {
        **{("metadata", code): one for code in (*refused, *masks)},
        **{("images", code): one for code in drawn},
        ("images", "mask-at-border"): ("warned", 1),
        ("metadata", "centre"): ("warned", 2),
        ("metadata", "vertebra"): ("warned", 1),
        ("metadata", "implausible-age"): ("warned", 1),
        ("metadata", "sex"): ("warned", 1),
        ("metadata", "sex-differs"): ("warned", len(several[1])),
        ("metadata", "group-crosses-splits"): ("failed", len(several[0])),
        ("images", "group-crosses-splits"): ("failed", len(several[0])),
    }


def _with_island(mask: Picture) -> Picture:
    mask[2:6, 2:6] = 255
    return mask


def _with_bridge(mask: Picture) -> Picture:
    middle = mask.shape[0] // 2
    mask[middle - 1 : middle + 2, : mask.shape[1] // 2] = 255
    return mask


def spoil_mammography(folder: Path) -> Expected:
    """Defects of the tables and the images."""
    archive, root = folder / mammography_density.ARCHIVE, mammography_density.ROOT
    file = TableFile(archive, f"{root}/Training_set.csv")
    table = _read(file)
    free = iter(table.index)
    of_one_class = table.index[table["label"] == table["label"].mode()[0]][-2:]
    member = {row: f"{root}/train/{name}" for row, name in table["filename"].items()}

    table.loc[next(free), "label"] = "Density5Benign"
    absent, rowless, twice = (next(free) for _ in range(3))
    changes: dict[str, Change] = {
        member[next(free)]: change
        for change in (
            _half,
            _redrawn(np.zeros_like, ".jpg"),
            _redrawn(_coloured, ".jpg"),
            _redrawn(lambda pixels: np.ascontiguousarray(pixels[:20]), ".jpg"),
        )
    }
    copied = _content(archive, member[of_one_class[0]])
    for name in (member[of_one_class[1]], f"{root}/test/Image_1.jpg"):
        changes[name] = lambda _: copied
    _write(file, pd.concat([table.drop(index=rowless), table.loc[[twice]]]))
    damage.change_members(archive, lambda name, content: changes[name](content) if name in changes else content)
    damage.remove_member(archive, member[absent])
    one: tuple[Status, int] = ("tolerated", 1)
    refused = ("unknown-label", "duplicate-row", "image-without-row", "row-without-image")
    drawn = ("decodable", "blank-frame", "unexpected-channels", "too-small")
    return {
        **{("metadata", code): one for code in refused},
        **{("images", code): one for code in drawn},
        ("images", "repeated-pixels"): ("known", 2),
        ("images", "predict-copies-labelled"): ("known", 1),
    }


SPOIL: Mapping[str, Callable[[Path], Expected]] = {
    "behsof": spoil_behsof,
    "chexchonet": spoil_chexchonet,
    "mammography-density": spoil_mammography,
    "nih-chest-xray": spoil_nih,
    "ovf-radiomics": spoil_ovf,
}
