"""A raw release that is one Word file: from the folder to a verified document release, or refused with a report."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import docx
import pandas as pd
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator

from tasks.documents.docx import extract, parquet_bytes
from tasks.files import readable_json
from tasks.lake import Lake
from tasks.release.verify import Verification, verify
from tests.command import said, scanmill
from tests.conftest import Prepare
from tests.fakes import ovf_supplement
from tests.release_files import files_of, outcomes_of

OVF = "ovf-radiomics"
FOLDER = "documents/DataSheet_1_Deep-learning-radiomics"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A raw folder with the supplement alone; do not change it."""
    folder = tmp_path_factory.mktemp("raw-documents")
    (folder / ovf_supplement.NAME).write_bytes(ovf_supplement.docx_bytes())
    return folder


@pytest.fixture(scope="module")
def lake(raw: Path, prepare: Prepare, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that holds its release; do not change it."""
    folder = tmp_path_factory.mktemp("lake-documents")
    assert prepare(OVF, raw, folder)["is_new"]
    return folder


@pytest.fixture(scope="module")
def release(lake: Path) -> Path:
    """Folder of that release."""
    return release_in(lake)


def release_in(lake: Path) -> Path:
    place = Lake(str(lake), OVF)
    (name,) = place.published()
    return lake / OVF / "releases" / name


def verified(lake: Path) -> Verification:
    return verify(Lake(str(lake), OVF), release_in(lake).name)


def documents_of(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "documents.json").read_bytes())["documents"])


def test_the_release_is_whole(lake: Path) -> None:
    found = verified(lake)
    assert (found.problems, found.documents, found.samples) == ((), 1, 0)
    assert "1 document; checksums" in scanmill("verify", lake / OVF).stdout


def test_the_manifest_counts_documents_and_no_samples(release: Path) -> None:
    manifest = json.loads((release / "manifest.json").read_bytes())
    assert (manifest["documents"], manifest["splits"], manifest["shards"]) == (1, {}, [])
    assert manifest["gates"] == {"documents": True}
    assert manifest["accounting"]["members"] == manifest["accounting"]["written"] == 1


def test_files_are_what_the_extraction_gives(release: Path) -> None:
    expected = extract(ovf_supplement.docx_bytes())
    assert (release / FOLDER / "text.md").read_text() == expected.markdown
    assert [(release / FOLDER / figure.path).read_bytes() for figure in expected.figures] == [
        figure.data for figure in expected.figures
    ]
    for table in expected.tables:
        assert (release / FOLDER / table.path).read_bytes() == parquet_bytes(table)
        pd.testing.assert_frame_equal(pd.read_parquet(release / FOLDER / table.path), table.frame)


def test_the_record_says_where_everything_stood(release: Path) -> None:
    (document,) = documents_of(release)
    expected = extract(ovf_supplement.docx_bytes())
    assert (document["archive"], document["member"], document["title"]) == (
        ".", ovf_supplement.NAME, "Supplementary Material",
    )  # fmt: skip
    assert document["bytes"] == len(ovf_supplement.docx_bytes())
    assert [(t["number"], t["caption"], t["position"], t["rows"], t["columns"]) for t in document["tables"]] == [
        (t.number, t.caption, t.position, len(t.frame), list(t.frame.columns)) for t in expected.tables
    ]
    assert [t["path"] for t in document["tables"]] == [f"{FOLDER}/tables/table-0{n}.parquet" for n in (1, 2, 3)]
    assert [f["path"] for f in document["figures"]] == [f"{FOLDER}/figures/figure-01.png"]


def test_the_same_document_makes_the_same_bytes(raw: Path, release: Path, prepare: Prepare, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(raw, tmp_path / "elsewhere"))
    prepare(OVF, elsewhere, tmp_path / "lake")
    assert files_of(release_in(tmp_path / "lake")) == files_of(release)


def test_a_rerun_has_nothing_to_do(raw: Path, lake: Path, prepare: Prepare) -> None:
    assert not prepare(OVF, raw, lake)["is_new"]
    again = scanmill("prepare", OVF, "--raw", raw, "--lake", lake)
    assert "nothing to do" in again.stdout


def test_prepare_says_what_the_release_holds(raw: Path, prefect_server: None, tmp_path: Path) -> None:
    found = scanmill("prepare", OVF, "--raw", raw, "--lake", tmp_path / "lake", "--no-progress").stdout
    for line in (
        "documents  1",
        "tables     3",
        "figures    1",
        "documents gate: passed",
        "warned     table-without-caption",
    ):
        assert line in found
    assert "labels" not in found
    result = json.loads(scanmill("prepare", OVF, "--raw", raw, "--lake", tmp_path / "lake", "--json").stdout)
    assert (result["documents"], result["tables"], result["figures"]) == (1, 3, 1)


def test_the_report_shows_every_table_and_asks_nothing_of_the_network(release: Path) -> None:
    page = (release / "quality" / "index.html").read_text()
    report = json.loads((release / "quality" / "report.json").read_bytes())
    for table in documents_of(release)[0]["tables"]:
        assert (table["caption"] or "Table 3") in page
    assert page.count("data:image/png;base64,") == 1
    assert all(address.startswith("data:") for address in _attributes(page, "src"))
    assert {"dataset", "release", "parameters", "inputs", "verdicts", "accounting"} < set(report)
    assert report["documents"] == documents_of(release)
    schema = json.loads(resources.files("tasks.quality").joinpath("report.schema.json").read_text("utf-8"))
    Draft202012Validator(schema).validate(report)
    assert outcomes_of(release)["table-without-caption"]["observed"] == f"{ovf_supplement.NAME}: 1"


def _attributes(page: str, name: str) -> list[str]:
    return [part.partition('"')[0] for part in page.split(f'{name}="')[1:]]


def test_every_table_opens_by_its_name_with_others(release: Path, tmp_path: Path) -> None:
    mlcroissant = pytest.importorskip("mlcroissant")
    described = mlcroissant.Dataset(release / "croissant.json")
    assert not described.metadata.ctx.issues.errors
    assert not described.metadata.ctx.issues.warnings
    for table in documents_of(release)[0]["tables"]:
        name = f"{Path(FOLDER).name}-table-{table['number']:02d}"
        records = list(described.records(name))
        assert len(records) == table["rows"]
        expected = pd.read_parquet(release / table["path"]).iloc[0].to_list()
        assert [value.decode() for value in records[0].values()] == expected
        assert f"config_name: {name}" in (release / "README.md").read_text()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda folder: _flip(folder / FOLDER / "tables/table-02.parquet"), "table-02.parquet: bytes were changed"),
        (lambda folder: (folder / FOLDER / "text.md").unlink(), "text.md: is missing"),
        (lambda folder: _reword(folder, "caption", "another"), "table-01.parquet: its caption is 'Supplementary"),
        (lambda folder: _reword(folder, "rows", 99), "table-01.parquet: its rows or columns are not those"),
        (lambda folder: _reword(folder, "path", "documents/x.parquet"), "x.parquet: is in documents.json alone"),
    ],
)  # fmt: skip
def test_damage_is_named(lake: Path, tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    copy = Path(shutil.copytree(lake, tmp_path / "lake"))
    damage(release_in(copy))
    assert [problem for problem in verified(copy).problems if words in problem], verified(copy).problems


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _reword(folder: Path, key: str, value: object) -> None:
    """Change what ``documents.json`` says of the first table, and let the manifest vouch for it."""
    documents = documents_of(folder)
    documents[0]["tables"][0][key] = value
    manifest = json.loads((folder / "manifest.json").read_bytes())
    data = readable_json({"documents": documents})
    (folder / "documents.json").write_bytes(data)
    manifest["files"] = [
        {**entry, "bytes": len(data), "sha256": _sha256(data)} if entry["path"] == "documents.json" else entry
        for entry in manifest["files"]
    ]
    (folder / "manifest.json").write_bytes(readable_json(manifest))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_page_called_docx_is_refused_with_a_report(prefect_server: None, raw: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(raw, tmp_path / "raw"))
    (folder / "second.docx").write_bytes(b"<!doctype html><title>Sign in</title>")
    result = scanmill("prepare", OVF, "--raw", folder, "--lake", tmp_path / "lake", "--no-progress")
    words = said(result)
    assert result.exit_code == 1
    assert "document-readable: 1 of 2" in words
    assert "second.docx: not-a-document" in words
    (refused,) = (tmp_path / "lake" / OVF / "refused").iterdir()
    assert str(refused / "quality" / "index.html") in words
    assert "not-a-document" in (refused / "quality" / "index.html").read_text()
    (row,) = pq.read_table(refused / "quarantine.parquet").to_pylist()
    assert (row["member"], row["stage"], row["reason"]) == ("second.docx", "extract", "not-a-document")
    assert not Lake(str(tmp_path / "lake"), OVF).published()
    assert not (tmp_path / "lake" / OVF / "latest.json").exists()


def test_what_is_allowed_to_fail_is_published_without_the_refused(raw: Path, prepare: Prepare, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(raw, tmp_path / "raw"))
    (folder / "empty.docx").write_bytes(_saved(docx.Document()))
    prepare(OVF, folder, tmp_path / "lake", allow_gate_failure=True)
    published = release_in(tmp_path / "lake")
    assert [document["member"] for document in documents_of(published)] == [ovf_supplement.NAME]
    assert pd.read_parquet(published / "quarantine.parquet")["reason"].to_list() == ["empty-document"]
    assert verified(tmp_path / "lake").problems == ()
    assert "although a check failed" in (published / "README.md").read_text()


def test_junk_is_ignored_and_the_unexpected_quarantined(raw: Path, prepare: Prepare, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(raw, tmp_path / "raw"))
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder / "notes.exe").write_bytes(b"MZ")
    prepare(OVF, folder, tmp_path / "lake")
    published = release_in(tmp_path / "lake")
    counted = json.loads((published / "manifest.json").read_bytes())["accounting"]
    assert (counted["members"], counted["written"], counted["quarantined"]) == (3, 1, 1)
    assert (counted["ignored"], counted["reasons"]) == ({"junk": 1}, {"unexpected-member": 1})
    outcome = outcomes_of(published)["unexpected-member"]
    assert (outcome["status"], outcome["failed"], outcome["observed"]) == ("warned", 1, "notes.exe")
    assert outcomes_of(published)["document-readable"]["checked"] == 1
    assert verified(tmp_path / "lake").problems == ()


def test_documents_of_one_name_stay_apart(prepare: Prepare, tmp_path: Path) -> None:
    data, other = ovf_supplement.docx_bytes(), docx.Document()
    other.add_paragraph("No table here.")
    with zipfile.ZipFile(_folder(tmp_path / "raw") / "all.zip", "w") as archive:
        for name, content in {"a/Übersicht.docx": data, "b/übersicht.docx": _saved(other), "c/a.docx": data}.items():
            archive.writestr(name, content)
    prepare(OVF, tmp_path / "raw", tmp_path / "lake")
    published = release_in(tmp_path / "lake")
    folders = {document["member"]: document["folder"] for document in documents_of(published)}
    assert folders == {
        "a/Übersicht.docx": "documents/bersicht",
        "b/übersicht.docx": "documents/bersicht-2",
        "c/a.docx": "documents/a",
    }
    outcomes = outcomes_of(published)
    assert outcomes["no-table"]["observed"] == "b/übersicht.docx: 0"
    assert outcomes["repeated-document"]["observed"] == "c/a.docx"
    assert verified(tmp_path / "lake").problems == ()


def test_what_an_author_writes_harms_no_page(prepare: Prepare, tmp_path: Path) -> None:
    hostile, document = "Table 1. <script>alert('x')</script> | {{ 7 * 7 }} `a` \u202e", docx.Document()
    document.add_heading(hostile, 0)
    document.add_paragraph(hostile)
    table = document.add_table(60, 2)
    for row in range(60):
        table.cell(row, 0).text, table.cell(row, 1).text = f"{hostile} # {row}", "label.x/y?"
    (_folder(tmp_path / "raw") / "<b>.docx").write_bytes(_saved(document))
    prepare(OVF, tmp_path / "raw", tmp_path / "lake")
    published = release_in(tmp_path / "lake")
    page, card = ((published / name).read_text() for name in ("quality/index.html", "README.md"))
    assert "<script" not in page + card.split("---\n", 2)[2].replace("\\", "")
    assert "and 9 more rows in the Parquet file" in page
    assert documents_of(published)[0]["folder"] == "documents/b"
    assert verified(tmp_path / "lake").problems == ()
    mlcroissant = pytest.importorskip("mlcroissant")
    described = mlcroissant.Dataset(published / "croissant.json")
    assert not described.metadata.ctx.issues.errors
    assert len(list(described.records("b-table-01"))) == 59


def test_hugging_face_finds_each_table(release: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    from tests.readers import load_hugging_face_table

    rows = load_hugging_face_table(release, "DataSheet_1_Deep-learning-radiomics-table-02", tmp_path)
    assert [row["Classifier"] for row in rows] == list(ovf_supplement.CLASSIFIERS)


def test_a_document_release_cannot_be_compared_sample_by_sample(lake: Path) -> None:
    result = scanmill("diff", lake / OVF, lake / OVF)
    assert result.exit_code == 2
    assert "is a document release: it has no samples to compare" in said(result)


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _saved(document: Any) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()
