"""Datasets of one's own: found in a folder, drafted from a table and images; and what is said where that cannot be."""

from __future__ import annotations

import csv
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest

from tasks.datasets import VARIABLE, find, own_source
from tasks.drafts.draft import Answers, Draft, make, warnings
from tasks.drafts.found import look
from tasks.drafts.gaps import gaps
from tasks.drafts.shapes import name_shape
from tasks.drafts.writing import write_draft
from tasks.raw_again import lines_of
from tasks.release.manifest import identity
from tasks.schema import TableRule, UnusableInput
from tasks.tables import read_table, recognise
from tests import readme
from tests.command import said, scanmill
from tests.conftest import fake_of
from tests.readme import ROOT
from tests.test_contract import WORKED

GUIDE = ROOT / "docs" / "new-dataset.md"
FREE_TEXT = "fell from a ladder in Gmünd"
PERSON = "Xanthippe"

Row = Mapping[str, str]


@dataclass(frozen=True)
class Odd:
    """A release that nobody has declared, and what has to be guessed of it."""

    rows: Sequence[Row]
    files: Sequence[str]
    """Paths of the images."""
    labels: set[str]
    separator: str = ","
    encoding: str = "utf-8"
    kind: str = "multiple"
    group: str = "picture"
    splits: Sequence[str] = ("train", "validation", "test")
    channels: int = 1
    is_zip: bool = False
    roles: Mapping[str, str | None] = field(default_factory=dict)
    """Role to column."""
    said: str = ""
    """Part of a warning."""


def odd(name: str, count: int = 36) -> Odd:
    """One of the releases below."""
    numbers = range(count)
    match name:
        case "one-hot":
            rows = [
                {
                    "Path": f"/mnt/{PERSON}/{n:05d}.png",
                    "PatientID": f"{PERSON}{n // 2}",
                    "Age": f"{30 + n:03d}Y",
                    "Sex": ("Male", "Female")[n // 2 % 2],
                    "Effusion": str(int(n % 3 == 0)),
                    "Pneumonia": str(int(n % 4 == 0)),
                    "Split": ("train", "VAL", "test")[n // 2 % 3],
                }
                for n in numbers
            ]
            roles = {"patient": "PatientID", "age": "Age", "sex": "Sex", "split": "Split"}
            return Odd(
                rows, [f"images/{n:05d}.png" for n in numbers], {"effusion", "pneumonia"}, group="patient", roles=roles
            )
        case "lists in a zip":
            parts = ("Edema|Mass", "Mass", "No Finding", "edema", "Mass|Nodule", "Nodule")
            rows = [{"id": f"img_{n}", "findings": parts[n % 6], "size_mm": f"{n / 7:.2f}"} for n in numbers]
            files = [f"pics/img_{n}.jpg" for n in numbers]
            return Odd(rows, files, {"edema", "mass", "nodule"}, "\t", channels=3, is_zip=True)
        case "numbers without zeros":
            rows = [
                {
                    "Nummer": str(n),
                    "Grad": str(n % 3),
                    "Patientennummer": f"A{n // 2}",
                    "Länge [cm]": f"{150 + n % 30},5",
                }
                for n in numbers
            ]
            files = [f"Bilder/{n:04d}.png" for n in numbers]
            roles = {"patient": "Patientennummer"}
            grades = {"grad_0", "grad_1", "grad_2"}
            return Odd(rows, files, grades, ";", "latin-1", "exclusive", "patient", roles=roles)
        case "no patient, another language":
            rows = [
                {
                    "Datei": f"IMG-{n:04d} (2).PNG",
                    "Befund": ("Bruch ", "kein  Bruch", "BRUCH")[n % 3],
                    "Notiz": f"{FREE_TEXT} {n}",
                }
                for n in numbers
            ]
            files = [f"Aufnahmen/IMG-{n:04d} (2).PNG" for n in numbers]
            return Odd(
                rows, files, {"bruch", "kein_bruch"}, ";", "cp1252", "exclusive", said="no column names the patient"
            )
        case "patients who cross the split":
            rows = [
                {"file": f"{n}.png", "subject": f"s{n // 2}", "set": ("train", "test")[n % 2], "label": "ab"[n % 2]}
                for n in numbers
            ]
            crossed: dict[str, str | None] = {"patient": "subject", "split": None}
            files = [f"x/{n}.png" for n in numbers]
            return Odd(
                rows, files, {"a", "b"}, kind="exclusive", group="patient", roles=crossed, said="puts 18 patients"
            )
        case "yes and no, coded sex":
            rows = [
                {
                    "datei": f"F{n}",
                    "bösartig": ("ja", "nein")[n % 2],
                    "fall": f"F{n // 2}",
                    "geschlecht": str(1 + n // 2 % 2),
                }
                for n in numbers
            ]
            roles = {"patient": "fall", "sex": "geschlecht"}
            files = [f"a/{n % 2}/F{n}.png" for n in numbers]
            return Odd(rows, files, {"boesartig"}, group="patient", roles=roles, said="ISO 5218")
    raise AssertionError(name)


NAMES = (
    "one-hot",
    "lists in a zip",
    "numbers without zeros",
    "no patient, another language",
    "patients who cross the split",
    "yes and no, coded sex",
)


def put(folder: Path, release: Odd) -> tuple[Path, Path]:
    """Write it; returns its table, and where its images are."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    shape = (24, 20) if release.channels == 1 else (24, 20, 3)
    ending = "." + release.files[0].rpartition(".")[2].lower()
    pictures = {
        name: cv2.imencode(ending, rng.integers(0, 255, shape, np.uint8))[1].tobytes() for name in release.files
    }
    if release.is_zip:
        with zipfile.ZipFile(folder / "images.zip", "w") as archive:
            for name, data in pictures.items():
                archive.writestr(name, data)
    else:
        for name, data in pictures.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
    table = folder / "table of findings.csv"
    with table.open("w", encoding=release.encoding, newline="") as opened:
        writer = csv.DictWriter(opened, list(release.rows[0]), delimiter=release.separator)
        writer.writeheader()
        writer.writerows(release.rows)
    return table, folder / ("images.zip" if release.is_zip else release.files[0].split("/", 1)[0])


def drafted(folder: Path, release: Odd, answers: Answers | None = None) -> Draft:
    table, images = put(folder, release)
    return make("odd-one", look(images, [str(table)]), answers or Answers())


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of datasets of one's own, named by the variable."""
    folder = tmp_path / "datasets"
    folder.mkdir()
    monkeypatch.setenv(VARIABLE, str(folder))
    return folder


# ---- drafts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_an_odd_table_means_is_guessed_and_written_and_sound_at_once(name: str, own: Path, tmp_path: Path) -> None:
    release = odd(name)
    draft = drafted(tmp_path / "raw", release)
    assert set(draft.labels.names) == release.labels
    assert (draft.labels.kind, draft.group) == (release.kind, release.group)
    assert set(draft.splits) == set(release.splits)
    assert draft.looks.channels == (release.channels,)
    assert {role: draft.columns[role].column for role in release.roles} == release.roles  # type: ignore[index]
    assert not draft.match.images_without_row
    assert not draft.match.rows_without_image
    assert release.said in " ".join(warnings(draft))
    paths = write_draft(draft, own)
    done = subprocess.run(
        [Path(sys.executable).with_name("ruff"), "format", "--diff", "--config", ROOT / "pyproject.toml", *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    for raw, images in ((tmp_path / "raw", len(release.files)), (tmp_path / "fake", 12)):
        answer = sound(raw, images)
        failed = {o["code"]: o["failed"] for o in answer["verdict"]["outcomes"] if o["failed"]}
        assert set(failed) <= {"complete-copy"}


def sound(raw: Path, images: int) -> dict[str, Any]:
    """What `check` says of a release that has been drafted, or of its fake, which is made for it; it passes."""
    if raw.name == "fake":
        fake_of("odd-one").write(raw, images=images)
    answer: dict[str, Any] = json.loads(scanmill("check", "odd-one", "--raw", raw, "--json").stdout)
    assert answer["ok"], answer
    assert answer["images"] == images
    return answer


def put_tables(folder: Path, tables: Mapping[str, Sequence[Row]]) -> list[str]:
    """Tables of these names, with an image and a mask for every row."""
    rng = np.random.default_rng(4)
    for name in (row["file"] for rows in tables.values() for row in rows):
        for kind, pixels in (("images", rng.integers(0, 255, (24, 20), np.uint8)), ("masks", np.eye(24, 20, 3) * 255)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(folder / kind / name), pixels)
    for name, rows in tables.items():
        pd.DataFrame(rows).to_csv(folder / name, index=False)
    return [str(folder / name) for name in tables]


def cases(numbers: range, people: int = 0) -> list[Row]:
    """Rows, each two of one patient; ``people`` is where their numbers begin."""
    return [
        {
            "file": f"{n:03d}.png",
            "patient": f"p{people + n // 2}",
            "finding": ("cyst", "mass")[n % 2],
            "bone [mg/cm3]": str(100 + n),
            "score": str(n / 4),
        }
        for n in numbers
    ]


def test_tables_called_train_and_test_are_the_splits(own: Path, tmp_path: Path) -> None:
    tables = put_tables(
        tmp_path / "raw", {"train_labels.csv": cases(range(40)), "labels-TEST.csv": cases(range(40, 60))}
    )
    draft = make("odd-one", look(tmp_path / "raw", tables), Answers(targets=("score",)))
    assert draft.table_splits == {"train_labels": "train", "labels_test": "test"}
    assert draft.targets == {"score": "unit not said"}
    assert draft.masks is not None
    assert draft.masks.are_used, draft.masks.because
    write_draft(draft, own)
    for raw, images in ((tmp_path / "raw", 60), (tmp_path / "fake", 24)):
        answer = sound(raw, images)
        assert {name: part["rows"] for name, part in answer["holds"]["splits"].items()} == {
            "train": 40 if images == 60 else 12,
            "test": 20 if images == 60 else 12,
        }


def test_tables_are_no_splits_where_patients_cross_them_or_one_has_no_label(tmp_path: Path) -> None:
    both = {"train.csv": cases(range(40)), "test.csv": cases(range(40, 60), people=-20)}
    crossed = make("odd-one", look(tmp_path / "a", put_tables(tmp_path / "a", both)), Answers())
    assert (crossed.table_splits, crossed.is_dealt) == ({}, True)
    assert "the tables put 10 patients into two splits" in " ".join(warnings(crossed))
    (tmp_path / "a" / "images").rename(tmp_path / "a" / "training")
    (tmp_path / "a" / "training" / "val").mkdir()
    (tmp_path / "a" / "training" / "000.png").rename(tmp_path / "a" / "training" / "val" / "000.png")
    foldered = make("odd-one", look(tmp_path / "a", [str(tmp_path / "a" / "train.csv")]), Answers())
    assert "images lie in folders called training, val:" in " ".join(warnings(foldered))
    bare: dict[str, list[Row]] = {
        "train.csv": cases(range(40)),
        "test.csv": [{**row, "finding": ""} for row in cases(range(40, 60))],
    }
    unlabelled = make("odd-one", look(tmp_path / "b", put_tables(tmp_path / "b", bare)), Answers())
    assert unlabelled.splits == ("train", "validation", "test", "predict")


def test_dicom_files_need_no_table_and_leave_no_name(own: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    from tests.dicom_files import SECRETS, dicom, picture

    (tmp_path / "raw").mkdir()
    for number in range(24):
        (tmp_path / "raw" / f"IM{number:05d}").write_bytes(dicom(number, picture(number, side=32)))
    result = scanmill("new-dataset", "odd-one", tmp_path / "raw", "--folder", own, "--json")
    answer = json.loads(result.stdout)
    guessed = {what: one["taken"] for what, one in answer["guesses"].items()}
    assert guessed["patient"] == "'PatientID'"
    assert (guessed["age"], guessed["sex"], guessed["view"]) == ("'PatientAge'", "'PatientSex'", "'ViewPosition'")
    written = "".join(Path(path).read_text("utf-8") for path in answer["files"])
    assert not [secret for secret in (*SECRETS, "P003") if secret in written]
    fake_of("odd-one").write(tmp_path / "fake", images=12)
    for raw, count in ((tmp_path / "raw", 24), (tmp_path / "fake", 12)):
        checked = json.loads(scanmill("check", "odd-one", "--raw", raw, "--json").stdout)
        assert (checked["ok"], checked["images"]) == (True, count)
    table, _ = put(tmp_path / "other", odd("one-hot", 6))
    assert "join the table" in said(
        scanmill("new-dataset", "odd-two", tmp_path / "raw", "--from", table, "--folder", own)
    )


@pytest.mark.parametrize("name", ["one-hot", "no patient, another language"])
def test_nothing_of_a_patient_is_written(name: str, tmp_path: Path) -> None:
    release = odd(name)
    paths = write_draft(drafted(tmp_path / "raw", release), tmp_path / "datasets")
    written = "".join(path.read_text("utf-8") for path in paths)
    assert PERSON not in written
    assert FREE_TEXT not in written
    kept = {"Path", "PatientID", "Notiz"} & set(release.rows[0])
    assert all(column in written for column in kept)
    assert not [row[column] for row in release.rows for column in kept if row[column] in written]


@pytest.mark.parametrize(
    ("stems", "expected"),
    [
        ([f"IMG-{n:04d} (2)" for n in range(9)], "IMG-{number:04d} (2)"),
        ([f"Meier{n % 3}_{n:03d}" for n in range(9)], "Meier0_{number:03d}"),
        (["anna_1", "berta_2", "carla_3"], "xxxx_{number}"),
        (["a1b2", "77-x", "q", "c9"], "image_{number:04d}"),
    ],
)
def test_the_form_of_names_has_no_name_in_it(stems: list[str], expected: str) -> None:
    assert name_shape(stems) == expected


def test_answers_overrule_guesses(tmp_path: Path) -> None:
    roles = {"patient": "none", "split": "none"}
    answers = Answers(roles=roles, labels=("Effusion",), targets=("Pneumonia",), kind="exclusive")
    draft = drafted(tmp_path, odd("one-hot"), answers)
    assert draft.group == "picture"
    assert draft.columns["split"].column is None
    assert (list(draft.labels.names), draft.labels.kind) == (["effusion"], "exclusive")
    assert draft.targets == {"Pneumonia": "unit not said"}


def test_on_a_terminal_what_cannot_be_settled_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import cli_new_dataset

    table, images = put(tmp_path, odd("no patient, another language"))
    asked = []

    def answer(question: str, default: str) -> str:
        asked.append(question)
        return "Notiz" if "patient" in question else default

    monkeypatch.setattr("typer.prompt", answer)
    draft = cli_new_dataset._asked("odd-one", look(images, [str(table)]), Answers())
    assert len(asked) == 1
    assert draft.columns["patient"].column == "Notiz"


def test_what_does_not_fit_is_counted_and_tolerated_but_no_more(own: Path, tmp_path: Path) -> None:
    release = odd("no patient, another language")
    table, images = put(tmp_path / "raw", release)
    (images / "IMG-0001 (2).PNG").rename(images / "IMG-7777 (2).PNG")
    (images / "IMG-0002 (2).PNG").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    answer = json.loads(scanmill("new-dataset", "odd-one", images, "--from", table, "--folder", own, "--json").stdout)
    assert (answer["images_without_row"], answer["rows_without_image"], answer["tolerance"]) == (1, 1, 0.05)
    assert "1 of 36 images cannot be used" in " ".join(answer["warnings"])
    assert find("odd-one").tolerance == 0.05
    assert scanmill("check", "odd-one", "--raw", tmp_path / "raw").exit_code == 0


def test_a_draft_says_what_it_lacks(own: Path, tmp_path: Path) -> None:
    path, _ = write_draft(drafted(tmp_path / "raw", odd("one-hot")), own)
    missing = gaps(find("odd-one"), path)
    for what in ("licence", "citation", "homepage", "summary", "terms", "datasheet", "sources"):
        assert [line for line in missing if line.startswith(f"{what} ") and f"TODO in {path}" in line], what
    assert json.loads(scanmill("datasets", "odd-one", "--json").stdout)["missing"] == missing


def no_image_column(folder: Path) -> list[object]:
    table, images = put(folder, Odd([{"who": "a", "what": "b"}] * 9, [f"x/{n}.png" for n in range(9)], set()))
    return ["odd-one", images, "--from", table]


def empty_folder(folder: Path) -> list[object]:
    (folder / "images").mkdir(parents=True)
    return ["odd-one", folder / "images"]


def without_table(folder: Path) -> list[object]:
    _, images = put(folder, odd("one-hot", 6))
    return ["odd-one", images]


def unreadable_table(folder: Path) -> list[object]:
    table, images = put(folder, odd("one-hot", 6))
    table.write_text('a,b\n1,2,3\n"')
    return ["odd-one", images, "--from", table]


def workbook(folder: Path) -> list[object]:
    table, images = put(folder, odd("one-hot", 6))
    table.write_bytes(b"PK\x03\x04...")
    return ["odd-one", images, "--from", table]


def wrong_column(folder: Path) -> list[object]:
    table, images = put(folder, odd("one-hot", 6))
    return ["odd-one", images, "--from", table, "--patient", "nobody"]


def there_already(folder: Path) -> list[object]:
    table, images = put(folder, odd("one-hot", 6))
    (folder / "datasets").mkdir()
    (folder / "datasets" / "odd_one.py").write_text("")
    return ["odd-one", images, "--from", table]


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (no_image_column, "no column of table of findings.csv names the images, which are called 0, 1, 2, …"),
        (empty_folder, "nothing"),
        (without_table, "--from TABLE.csv"),
        (unreadable_table, "data row 1: 3 cells under 2 columns"),
        (workbook, "is a workbook"),
        (wrong_column, "--patient 'nobody': there is no such column; there are 'Path'"),
        (there_already, "--force"),
        (lambda folder: ["nih-chest-xray", folder], "there is a dataset nih-chest-xray already"),
        (lambda folder: ["Wrist Fractures", folder], "is no name for a dataset"),
        (lambda folder: ["odd-one", folder / "gone"], "is not there"),
    ],
)
def test_what_cannot_be_drafted_is_refused_in_words(plant: Any, expected: str, tmp_path: Path) -> None:
    arguments = plant(tmp_path)
    result = scanmill("new-dataset", *arguments, "--folder", tmp_path / "datasets")
    assert result.exit_code == 2
    assert expected in said(result) or expected == "nothing"
    assert not list((tmp_path / "datasets").glob("fakes/*"))


# ---- the story ------------------------------------------------------------------------------------------------------


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder; variables that are set there are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD", str(tmp_path))
    monkeypatch.setenv(VARIABLE, "")
    return tmp_path


def type_line(line: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Do what a line of a page says; returns what it prints."""
    words = shlex.split(os.path.expandvars(line))
    if words[0] == "export":
        name, _, value = words[1].partition("=")
        monkeypatch.setenv(name, value)
        return ""
    if words[0] == "python":
        monkeypatch.setattr(sys, "argv", words[1:])
        runpy.run_path(str(ROOT / words[1]), run_name="__main__")
        return ""
    if words[:2] == ["make", "contract"]:  # the contract test runs over the worked example: tests/test_contract.py
        assert words[2].removeprefix("DATASET=") in WORKED
        assert re.search(
            r"^contract:.*\n.*\n.*tests/test_contract.py -k '\[\$\(DATASET\)\]'", (ROOT / "Makefile").read_text(), re.M
        )
        return ""
    assert words[0] == "scanmill", line
    more = ["--workers", "0"] if words[1] == "prepare" else []
    result = scanmill(*words[1:], *more)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_guide_does_what_it_says(typed: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: None) -> None:
    printed = {" ".join(line.split()[:2]): type_line(line, monkeypatch) for line in readme.lines_of(GUIDE)}
    for line in readme.lines_of(GUIDE):
        if line.startswith(("scanmill check", "scanmill prepare")):
            assert line in printed["scanmill new-dataset"]
    text = GUIDE.read_text("utf-8")
    shown = [line.strip() for line in text.split("      image")[1].split("| guessed")[0].splitlines()[1:]]
    assert all(
        " ".join(line.split()) in " ".join(printed["scanmill new-dataset"].split()) for line in shown if line != "…"
    )
    assert "141 archive members = 140 written" in printed["scanmill prepare"]
    release = Path(printed["scanmill report"].strip()).parent.parent
    samples = pd.read_parquet(release / "samples.parquet")
    assert len(samples) == 140
    assert samples[[f"label.{n}" for n in ("keine_fraktur", "radiusfraktur", "ulnafraktur")]].sum(axis=1).eq(1).all()
    manifest = json.loads((release / "manifest.json").read_bytes())
    assert manifest["code"]["declaration"] == own_source("wrist-fractures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "datasets")
        path = typed / "datasets" / "wrist_fractures.py"
        assert gaps(find("wrist-fractures"), path)


def test_the_readme_drafts_what_lies_in_the_working_folder(typed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, _ = put(typed, odd("one-hot"))
    table.rename("wrists.csv")
    lines = [
        line for line in readme.lines_of(ROOT / "README.md") if re.match(r"scanmill (new-dataset|check) wrists", line)
    ]
    assert len(lines) == 2
    type_line(lines[0], monkeypatch)
    monkeypatch.setenv(VARIABLE, str(typed / "datasets"))
    assert "metadata gate: passed" in type_line(lines[1], monkeypatch)


# ---- folders of one's own -------------------------------------------------------------------------------------------


DECLARED = """
from tasks.datasets._shared import LICENCE
from tasks.schema import Dataset

DATASET = Dataset(
    name="{name}", version="1", title="", summary="", sources=(), licence=LICENCE, citation="", homepage="",
    published="", members=(), tables=(), parse=lambda tables: tables, labels={{}}, label_kind="multiple", splits=(),
    labelled_splits=(), group="picture",
)
"""


def test_a_declaration_outside_is_found_and_its_source_is_part_of_the_identity(own: Path, tmp_path: Path) -> None:
    def read(licence: str, name: str = "knees") -> tuple[str, str]:
        folder = tmp_path / f"{licence}-{name}"
        folder.mkdir()
        (folder / "_shared.py").write_text(f"LICENCE = {licence!r}")
        (folder / "mine.py").write_text(DECLARED.format(name=name))
        (own / "theirs.py").write_text(DECLARED.format(name="hips"))
        (own / "_shared.py").write_text("LICENCE = 'ours'")
        os.environ[VARIABLE] = f"{folder}{os.pathsep}{own}"
        assert find("hips").licence == "ours"
        declared = identity(find(name), {})["code"]["declaration"]
        assert declared == own_source(name)
        return find(name).licence, declared

    first, second = read("CC0"), read("MIT")
    assert (first[0], second[0]) == ("CC0", "MIT")
    assert first[1] != second[1]
    assert "declaration" not in identity(find("nih-chest-xray"), {})["code"]


@pytest.mark.parametrize(
    ("name", "source", "expected"),
    [
        ("broken", "import pandas\n\nx = 1 +\n", r"broken\.py, line 3: SyntaxError: "),
        ("broken", "\n\nDATASET = nowhere\n", r"broken\.py, line 3: NameError: name 'nowhere' is not defined$"),
        ("broken", "import no_such_package\n", r"broken\.py, line 1: ModuleNotFoundError: .*no_such_package"),
        ("empty", "x = 1\n", r"empty\.py has no DATASET: declare DATASET = Dataset\(…\), or begin"),
        ("strange", "DATASET = 7\n", r"strange\.py has a DATASET that is a int"),
        ("behsof", "", r"behsof\.py has the file name of .*tasks/datasets/behsof\.py: rename one of them"),
        ("other", DECLARED.format(name="behsof"), r"other\.py declares the name 'behsof', which .*behsof\.py has"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_line(name: str, source: str, expected: str, own: Path) -> None:
    (own / "_shared.py").write_text("LICENCE = ''")
    (own / f"{name}.py").write_text(source)
    result = scanmill("datasets")
    assert result.exit_code == 2
    (line,) = said(result).splitlines()
    assert re.search(expected, line), line


def test_a_folder_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    assert f"{tmp_path / 'gone'}, which is no folder" in said(scanmill("datasets"))
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(Exception, match="export SCANMILL_DATASETS=FOLDER"):
        find("wrist-fractures")


def test_names_that_python_would_stumble_over_are_drafted_all_the_same(own: Path, tmp_path: Path) -> None:
    odd_column, folder = 'a "quoted" {brace} \\ back\nline', "f{o}o 'x'"
    rows = [{odd_column: f"{n}", 'label "x"': "ab"[n % 2] * 2} for n in range(24)]
    release = Odd(rows, [f"{folder}/{n}.png" for n in range(24)], {"aa", "bb"})
    table, images = put(tmp_path / "raw", release)
    table = table.rename(table.with_name('t"""a\\b.csv'))
    assert scanmill("new-dataset", "odd-one", images, "--from", table, "--folder", own, "--yes").exit_code == 0
    fake_of("odd-one").write(tmp_path / "fake", images=12)
    for raw in (tmp_path / "raw", tmp_path / "fake"):
        assert scanmill("check", "odd-one", "--raw", raw).exit_code == 0


def test_a_table_is_read_as_it_is_declared_and_its_lines_are_found_again() -> None:
    rule = TableRule("t", ("größe", "b"), encoding="cp1252", separator=";")
    data = 'größe;b\r\n"1\r\n2";ä\r\n3;4\r\n'.encode("cp1252")
    table = read_table(rule, "t.csv", data)
    assert table.rows.to_dict("list") == {"größe": ["1\r\n2", "3"], "b": ["ä", "4"]}
    assert recognise([TableRule("other", ("größe", "b")), rule], data) == rule
    lines = lines_of(data, has_header=True, separator=";")
    assert lines.rows[2] == "3;4\r\n"
    assert lines.rows[1].encode("utf-8", "surrogateescape") == '"1\r\n2";ä\r\n'.encode("cp1252")
    with pytest.raises(UnusableInput, match="not cp1252 text: byte 0x81 at 2; save it as cp1252"):
        read_table(rule, "t.csv", b"a\n\x81")


def test_an_unknown_encoding_is_told(tmp_path: Path) -> None:
    table, images = put(tmp_path, odd("one-hot", 6))
    table.write_text(table.read_text(), encoding="utf-16")
    with pytest.raises(UnusableInput, match="UTF-16"):
        look(images, [str(table)])
