"""Every reason for a refusal is demonstrated, told, and documented; and the refused bytes come back as they were."""

from __future__ import annotations

import ast
import csv
import hashlib
import json
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from expectations.suites import suite
from tasks.archives import MemberRefused
from tasks.datasets import catalogue
from tasks.quarantine import escape
from tasks.reasons import REASONS
from tasks.schema import DataRefused
from tests import raw_files, refusals
from tests.command import ROOT, said, scanmill
from tests.conftest import Prepare, write_fake
from tests.fakes import behsof, damage

NIH, BEHSOF, OVF = "nih-chest-xray", "behsof", "ovf-radiomics"
ELSEWHERE = {
    "worker-lost": "tests/test_dask.py",
    "near-duplicate-across-splits": "tests/test_near_duplicates.py",
}
"""What takes a cluster, or copies across the splits, to show."""
TOLD = re.compile(r"[a-z]+(?:-[a-z]+)+")


class Planted(NamedTuple):
    """A raw release with refusals planted, and the lake that its release is in."""

    dataset: str
    raw: Path
    lake: Path
    victims: Mapping[str, str]
    """Reason to a member that is refused for it."""

    @property
    def home(self) -> Path:
        return self.lake / self.dataset

    @property
    def quarantine(self) -> pd.DataFrame:
        (path,) = [*self.home.glob("releases/*/quarantine.parquet"), *self.home.glob("refused/*/quarantine.parquet")]
        return pd.read_parquet(path)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory, flawless_nih: Path, prepare: Prepare) -> Planted:
    """NIH's zips, with nearly everything wrong that can be; stored as JPEG, for the film that is too deep for one."""
    folder = tmp_path_factory.mktemp("films")
    raw = Path(shutil.copytree(flawless_nih, folder / "raw"))
    victims = refusals.plant_films(raw)
    with zipfile.ZipFile(raw / "images_001.zip") as opened:
        boxed, *_, bare = [name for name in opened.namelist() if name.endswith(".png")]
    refusals.plant_boxes(raw, Path(bare).name)
    prepare(NIH, raw, folder / "lake", allow_gate_failure=True, encoding="jpeg")
    return Planted(NIH, raw, folder / "lake", victims | {"box-beyond-image": bare, "": boxed})


@pytest.fixture(scope="module")
def tars(tmp_path_factory: pytest.TempPathFactory, flawless_nih: Path, prepare: Prepare) -> Planted:
    """The same without damage, in tars of which one is cut and one is damaged; the gate refuses it."""
    folder = tmp_path_factory.mktemp("tars")
    raw = Path(shutil.copytree(flawless_nih, folder / "raw"))
    cut, left = refusals.plant_tars(raw)
    with pytest.raises(DataRefused):
        prepare(NIH, raw, folder / "lake")
    return Planted(NIH, raw, folder / "lake", {"truncated-archive": cut, "left": str(left)})


@pytest.fixture(scope="module")
def screens(tmp_path_factory: pytest.TempPathFactory, prepare: Prepare) -> Planted:
    """BEHSOF in its encrypted zip."""
    folder = tmp_path_factory.mktemp("screens")
    victim = refusals.plant_screens(folder / "raw")
    prepare(BEHSOF, folder / "raw", folder / "lake", allow_gate_failure=True)
    return Planted(BEHSOF, folder / "raw", folder / "lake", {"no-scan-found": victim})


@pytest.fixture(scope="module")
def vertebrae(tmp_path_factory: pytest.TempPathFactory, prepare: Prepare) -> Planted:
    """Loose images with masks; one mask is no image, and one image is transparent in places."""
    folder = tmp_path_factory.mktemp("vertebrae")
    planted = write_fake(OVF, folder / "raw", images=60)
    sound = (path for path in sorted((folder / "raw" / "masks").iterdir()) if path.stem not in repr(planted))
    unreadable, other = next(sound), next(sound)
    unreadable.write_bytes(b"no mask")
    refusals.see_through(folder / "raw" / "images" / other.name)
    prepare(OVF, folder / "raw", folder / "lake", allow_gate_failure=True)
    return Planted(OVF, folder / "raw", folder / "lake", {"mask-undecodable": f"images/{unreadable.name}"})


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory, prepare: Prepare) -> Planted:
    """Word files, three of four of no use."""
    folder = tmp_path_factory.mktemp("documents")
    refusals.write_documents(folder / "raw")
    prepare(OVF, folder / "raw", folder / "lake", allow_gate_failure=True)
    return Planted(OVF, folder / "raw", folder / "lake", {"not-a-document": "page.docx"})


def test_every_reason_is_demonstrated_documented_and_one_that_the_code_gives(
    films: Planted,
    tars: Planted,
    screens: Planted,
    vertebrae: Planted,
    documents: Planted,
    lakes: Callable[[str], Path],
) -> None:
    planted = [films, tars, screens, vertebrae, documents]
    seen = {reason for one in planted for reason in one.quarantine["reason"]}
    (path,) = (lakes("chexchonet") / "chexchonet").glob("releases/*/quarantine.parquet")
    seen |= set(pd.read_parquet(path)["reason"])
    for reason, place in ELSEWHERE.items():
        assert f'"{reason}"' in (ROOT / place).read_text()
    assert seen | set(ELSEWHERE) == set(REASONS)
    assert documented() == set(REASONS)
    assert raised() | gates() <= set(REASONS)
    assert set(REASONS) <= mentioned()


def documented() -> set[str]:
    """The codes of the table in docs/lake.md."""
    text = (ROOT / "docs" / "lake.md").read_text().partition("| reason | |")[2].partition("\n\n")[0]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {code for cell in cells for code in re.findall(r"`([a-z-]+)`", cell)}


def raised() -> set[str]:
    """Codes that are raised as such: ``MemberRefused("crc-mismatch", …)`` and the like."""
    names = {MemberRefused.__name__, "ImageRefused", "DocumentRefused", "Unreadable"}
    found: set[str] = set()
    for path in (ROOT / "tasks").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names and node.args:
                first = node.args[0]
                found |= {str(first.value)} if isinstance(first, ast.Constant) else set()
    return found


def gates() -> set[str]:
    """Codes of expectations whose failing rows go to quarantine; ``decodable`` gives each the reason it has."""
    expectations = [
        expectation
        for dataset in catalogue().values()
        for gate in ("metadata", "images")
        for expectation in suite(dataset, gate)
    ]
    return {
        e["meta"]["code"]
        for e in expectations
        if e["severity"] == "critical" and e["meta"].get("action", "quarantine") == "quarantine"
    } - {"decodable"}


def mentioned() -> set[str]:
    """All words of that form in the code that refuses, the list of them left out."""
    paths = [*(ROOT / "tasks").rglob("*.py"), *(ROOT / "expectations").rglob("*.py")]
    nodes = [n for path in paths if path.name != "reasons.py" for n in ast.walk(ast.parse(path.read_bytes()))]
    return {
        n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str) and TOLD.fullmatch(n.value)
    }


def test_each_film_is_refused_for_what_was_planted_in_it(films: Planted) -> None:
    rows = films.quarantine
    for reason in (*refusals.CONTENTS, "crc-mismatch", "encrypted-member", "unreadable-member", "oversized-member"):
        assert set(rows.loc[rows["member"] == films.victims[reason], "reason"]) == {reason}


# ---- the list -------------------------------------------------------------------------------------------------------


def test_the_list_tells_reasons_and_names_nothing_until_asked(films: Planted) -> None:
    text = scanmill("quarantine", films.home).stdout
    rows = films.quarantine
    for reason, count in rows["reason"].value_counts().items():
        assert re.search(rf"^ +{count}  {reason} +{re.escape(REASONS[str(reason)])}$", text, re.M)
    names = [Path(str(member)).name for member in rows["member"].dropna()]
    assert not [name for name in names if name in text]
    shown = scanmill("quarantine", films.home, "--reason", "crc-mismatch", "--rows").stdout
    assert f"{refusals.OTHER}/{films.victims['crc-mismatch']}" in shown
    assert "CRC" in shown
    assert films.victims["oversized-member"] not in shown


def test_json_counts_like_the_quarantine(films: Planted) -> None:
    answer = json.loads(scanmill("quarantine", films.home, "--json").stdout)
    rows = films.quarantine
    assert {group["reason"]: group["count"] for group in answer["reasons"]} == dict(rows["reason"].value_counts())
    assert (answer["refused"], answer["published"]) == (len(rows), True)
    assert "rows" not in answer
    limited = json.loads(scanmill("quarantine", films.home, "--json", "--rows", "--limit", 3).stdout)
    assert len(limited["rows"]) == 3
    some = json.loads(scanmill("quarantine", films.home, "--json", "--rows", "--stage", "convert").stdout)
    assert {row["stage"] for row in some["rows"]} == {"convert"}
    assert some["refused"] == (rows["stage"] == "convert").sum()


def test_a_refused_release_is_found_without_its_id_and_with_it(tars: Planted) -> None:
    (refused,) = (tars.home / "refused").iterdir()
    for reference in (tars.home, f"{tars.home}@{refused.name}"):
        text = scanmill("quarantine", reference).stdout
        assert f"{NIH}@{refused.name} was not published, a gate refused it" in text
        assert "gate-failed" in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--reason", "out-of-focus"), ["'out-of-focus'", "crc-mismatch"]),
        (("--stage", "lunch"), ["'lunch'", "validate-metadata"]),
        (("--extract", "FILE"), ["is no folder"]),
        (("--extract", "out", "--raw", "nowhere"), ["nowhere", "does not exist"]),
    ],
)
def test_wrong_use_is_one_line(arguments: tuple[str, ...], expected: list[str], films: Planted, tmp_path: Path) -> None:
    (tmp_path / "FILE").write_text("")
    told = [str(tmp_path / word) if word in ("FILE", "out", "nowhere") else word for word in arguments]
    result = scanmill("quarantine", films.home, *told)
    words = said(result)
    assert result.exit_code == 2
    assert len(words.splitlines()) == 1
    assert not [word for word in expected if word not in words], words
    assert not (tmp_path / "out").exists()


# ---- the bytes ------------------------------------------------------------------------------------------------------


def extracted(planted: Planted, into: Path, *arguments: object) -> list[dict[str, str]]:
    """What the list of an extraction says, once the command has ended well."""
    result = scanmill("quarantine", planted.home, "--extract", into, *arguments)
    assert result.exit_code == 0, result.stderr
    with (into / "extracted.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_refused_films_come_back_byte_for_byte_or_as_far_as_they_go(films: Planted, tmp_path: Path) -> None:
    lines = extracted(films, tmp_path / "out")
    assert len(lines) == films.quarantine["member"].notna().sum() + films.quarantine["table"].notna().sum()
    members = {(line["reason"], line["member"], line["offset"]): line for line in lines if line["member"]}
    outcomes = {reason: {line["came"] for key, line in members.items() if key[0] == reason} for reason, *_ in members}
    partly, not_at_all = {"crc-mismatch"}, {"encrypted-member", "oversized-member", "unreadable-member"}
    assert {reason for reason, came in outcomes.items() if came == {"in part"}} == partly
    assert {reason for reason, came in outcomes.items() if came == {"no"}} == not_at_all
    assert {came for reason, came in ((r, *c) for r, c in outcomes.items() if r not in partly | not_at_all)} == {
        "whole"
    }
    (formula,) = (line for line in lines if line["reason"] == "unexpected-member")
    assert formula["member"] == f"'{refusals.FORMULA}"
    known = films.quarantine.dropna(subset=["member", "source_sha256"])
    for row in known.to_dict("records"):
        line = members[row["reason"], row["member"], str(int(row["offset"]))]
        data = (tmp_path / "out" / line["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == line["sha256"] == row["source_sha256"]
    assert len(known) >= len(refusals.CONTENTS)
    flipped = members["crc-mismatch", films.victims["crc-mismatch"], *_offset(films, "crc-mismatch")]
    data = (tmp_path / "out" / flipped["path"]).read_bytes()
    with zipfile.ZipFile(films.raw / refusals.OTHER) as opened:
        info = next(i for i in opened.infolist() if i.filename == films.victims["crc-mismatch"])
    stored = (films.raw / refusals.OTHER).read_bytes()
    assert len(data) == info.file_size
    assert data in stored


def _offset(planted: Planted, reason: str) -> tuple[str]:
    rows = planted.quarantine
    return (str(int(rows.loc[rows["reason"] == reason, "offset"].iloc[0])),)


def test_no_file_leaves_the_folder_and_two_members_of_one_name_stay_two(films: Planted, tmp_path: Path) -> None:
    lines = extracted(films, tmp_path / "deep" / "out")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() and "out" not in path.parts] == []
    (unsafe,) = (line for line in lines if line["reason"] == "unsafe-path")
    assert unsafe["path"] == f"unsafe-path/{refusals.OTHER}/%2E%2E/evil.png"
    twins = [line["path"] for line in lines if line["reason"] == "duplicate-member" and line["member"]]
    assert len(set(twins)) == len(twins) == 2
    with zipfile.ZipFile(films.raw / refusals.OTHER) as opened:
        infos = [info for info in opened.infolist() if info.filename == films.victims["duplicate-member"]]
        expected = sorted(opened.read(info) for info in infos)
    assert sorted((tmp_path / "deep" / "out" / twin).read_bytes() for twin in twins) == expected


def test_refused_rows_come_back_as_published_under_their_header(films: Planted, tmp_path: Path) -> None:
    extracted(films, tmp_path / "out", "--reason", "unknown-label")
    table = (films.raw / refusals.TABLE).read_text().splitlines(keepends=True)
    (row,) = films.quarantine.loc[films.quarantine["reason"] == "unknown-label", "row"]
    found = (tmp_path / "out" / "unknown-label" / f"rows-of-{refusals.TABLE}").read_text()
    assert found == table[0] + table[int(row)]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"unknown-label", "extracted.csv"}


def test_a_second_extraction_changes_nothing_and_none_overwrites_other_bytes(films: Planted, tmp_path: Path) -> None:
    lines = extracted(films, tmp_path / "out", "--reason", "blank-frame")
    (line,) = (line for line in lines if line["member"])
    assert extracted(films, tmp_path / "out", "--reason", "blank-frame") == lines
    (tmp_path / "out" / line["path"]).write_bytes(b"a note of mine")
    result = scanmill("quarantine", films.home, "--reason", "blank-frame", "--extract", tmp_path / "out")
    assert result.exit_code == 1
    assert "not overwritten" in result.stdout
    assert (tmp_path / "out" / line["path"]).read_bytes() == b"a note of mine"


def test_a_raw_release_that_went_elsewhere_is_named_and_a_changed_one_refused(films: Planted, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(films.raw, tmp_path / "moved"))
    lake = Path(shutil.copytree(films.lake, tmp_path / "lake"))
    (run,) = lake.glob("*/releases/*/quality/run.json")
    run.write_text(json.dumps({**json.loads(run.read_text()), "raw": [str(tmp_path / "gone")]}))
    there = films._replace(lake=lake)
    lost = scanmill("quarantine", there.home, "--extract", tmp_path / "out")
    assert lost.exit_code == 2
    assert "gone, where the raw release lay, is not there: say with --raw" in said(lost)
    assert extracted(there, tmp_path / "out", "--raw", moved) == extracted(films, tmp_path / "as-before")
    damage.add_member(moved / refusals.ZIPPED, "images/more.png", films.victims["blank-frame"])
    changed = scanmill("quarantine", there.home, "--raw", moved, "--extract", tmp_path / "other")
    assert changed.exit_code == 2
    assert f"{refusals.ZIPPED} has changed since the release was made" in said(changed)
    assert not (tmp_path / "other").exists()


def test_members_of_an_encrypted_zip_come_back_open(screens: Planted, tmp_path: Path) -> None:
    lines = extracted(screens, tmp_path / "out")
    members = [line for line in lines if line["member"]]
    assert {"no-scan-found", "truncated-image"} <= {line["reason"] for line in members}
    for line in members:
        assert line["came"] == "whole"
        expected = raw_files.read(screens.raw, behsof.ARCHIVE, line["member"])
        assert (tmp_path / "out" / line["path"]).read_bytes() == expected


def test_what_is_left_of_a_member_that_a_tar_breaks_off_in_comes_back(tars: Planted, tmp_path: Path) -> None:
    lines = extracted(tars, tmp_path / "out")
    cut = next(line for line in lines if line["member"] == tars.victims["truncated-archive"])
    assert (cut["reason"], cut["came"], cut["bytes"]) == ("truncated-archive", "in part", tars.victims["left"])
    assert cut["note"].startswith(f"{tars.victims['left']} of ")
    whole = [line for line in lines if line["reason"] == "gate-failed" and line["archive"].endswith(".tar.gz")]
    assert {line["came"] for line in whole} == {"whole"}
    with tarfile.open(tars.raw / "images_002.tar.gz") as opened:
        some = next(line for line in whole if line["archive"] == "images_002.tar.gz")
        stream = opened.extractfile(some["member"])
        assert stream is not None
        assert (tmp_path / "out" / some["path"]).read_bytes() == stream.read()


def test_loose_files_come_back_unless_they_changed(vertebrae: Planted, tmp_path: Path) -> None:
    raw = Path(shutil.copytree(vertebrae.raw, tmp_path / "raw"))
    lines = [line for line in extracted(vertebrae, tmp_path / "out", "--raw", raw) if line["member"]]
    for line in lines:
        assert line["path"] == f"{line['reason']}/loose/{line['member']}"
        assert (tmp_path / "out" / line["path"]).read_bytes() == (raw / line["member"]).read_bytes()
    (raw / vertebrae.victims["mask-undecodable"]).write_bytes(b"other")
    again = scanmill("quarantine", vertebrae.home, "--raw", raw, "--extract", tmp_path / "again")
    assert again.exit_code == 1
    assert "1 × its bytes are others than the release saw" in again.stdout
    assert not (tmp_path / "again/mask-undecodable/loose" / vertebrae.victims["mask-undecodable"]).exists()


def test_refused_documents_come_back(documents: Planted, tmp_path: Path) -> None:
    for line in extracted(documents, tmp_path / "out"):
        assert (tmp_path / "out" / line["path"]).read_bytes() == (documents.raw / line["member"]).read_bytes()


@pytest.mark.parametrize(
    "part",
    ["..", ".", "", "a:b", "con.png", "NUL", "a\\b", "a\0b", "50%.png", "end.", "end ", "x" * 300, "\udcff", "*?"],
)
def test_no_part_of_a_name_is_special_to_any_file_system(part: str) -> None:
    safe = escape(part)
    assert safe not in ("", ".", "..")
    assert not re.search(r'[\\/:*?"<>|\x00-\x1f]', safe)
    assert len(safe.encode()) <= 200
    assert safe[-1] not in ". "
    assert safe.partition(".")[0].lower() not in ("con", "nul")


def test_different_names_stay_different() -> None:
    names: list[Any] = ["a/b", "a%2Fb", "..", "%2E%2E", "a:", "a%3A", "x" * 300, "x" * 301, "Größe", "con", "%63on"]
    assert len({escape(name) for name in names}) == len(names)
