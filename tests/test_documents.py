"""A Word file taken apart: nothing lost, nothing added, and refused where it does not hold together."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import docx
import pyarrow.parquet as pq
import pytest
from docx.oxml.ns import nsdecls
from docx.oxml.parser import parse_xml

from tasks.documents.docx import Document, DocumentRefused, extract, parquet_bytes
from tests.fakes import ovf_supplement

_SHAPE = 'xmlns:v="urn:schemas-microsoft-com:vml"'
_CHOICE = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'


@pytest.fixture(scope="module")
def supplement() -> Document:
    return extract(ovf_supplement.docx_bytes())


def test_cells_are_as_written_and_merged_ones_stand_in_every_row(supplement: Document) -> None:
    features = supplement.tables[0].frame
    assert list(features.columns) == ["Feature", "Kind", "Coefficient"]
    expected = [(name, kind, coefficient.replace("|-3|", "⁻³")) for name, kind, coefficient in ovf_supplement.FEATURES]
    assert list(features.itertuples(index=False, name=None)) == expected


def test_a_header_of_two_rows_gives_joined_names(supplement: Document) -> None:
    classifiers = supplement.tables[1].frame
    groups = ("Centre A / Train", "Centre A / Internal", "Other centres / External", "Other centres / Prospective")
    assert list(classifiers.columns) == ["Classifier", *groups]
    assert list(classifiers["Classifier"]) == list(ovf_supplement.CLASSIFIERS)
    assert [list(classifiers[name]) for name in groups] == [
        [ovf_supplement.auc(row, column) for row in range(8)] for column in range(4)
    ]


def test_unnamed_columns_wide_cells_and_lines(supplement: Document) -> None:
    assert supplement.tables[2].frame.to_dict("list") == {
        "Set": ["All sets", "Train", "Internal"],
        "column_2": ["All sets", "class 0|1", "first line\nsecond line"],
        "n": ["All sets", "712", ""],
    }


def test_captions_headings_notes_and_positions(supplement: Document) -> None:
    said = [(t.number, t.caption[:22], t.heading, t.position, len(t.notes)) for t in supplement.tables]
    assert said == [
        (1, "Supplementary Table S1", "Feature selection", 7, 2),
        (2, "Supplementary Table S2", "Classifiers", 13, 1),
        (3, "", "Groups of patients", 17, 0),
    ]
    assert supplement.title == "Supplementary Material"


def test_the_figure_comes_out_byte_for_byte(supplement: Document) -> None:
    (figure,) = supplement.figures
    assert figure.data == ovf_supplement.figure_png()
    assert (figure.name, figure.media_type, figure.position) == ("figure-01.png", "image/png", 19)
    assert figure.caption == "Supplementary Figure S1. From radiograph to signature"


def test_the_markdown_holds_everything_in_order(supplement: Document) -> None:
    pieces = [
        "# Supplementary Material\n",
        "Fractures of **942 made-up patients** were read; *P* \\< 0.05",
        "R<sup>2</sup> is the share of variance.[^1]",
        "1. Crop the vertebra\n2. Extract features from \\*\\_mask files\n3. Fuse",
        "## Feature selection\n\nSupplementary Table S1.",
        '<a id="table-01"></a>[tables/table-01.parquet](tables/table-01.parquet), block 7\n\n| Feature | Kind |',
        "| DL\\_feature\\_1033 |  | 1.20 × 10<sup>-3</sup> |",
        "\\* Coefficients are made up.",
        "| Classifier | Centre A / Train |",
        "| All sets |  |  |\n| Train | class 0\\|1 | 712 |\n| Internal | first line<br>second line |  |",
        "](figures/figure-01.png)\n\nSupplementary Figure S1.",
        "[^1]: No patient of this file exists.\n",
    ]
    places = [supplement.markdown.find(piece) for piece in pieces]
    assert -1 not in places
    assert places == sorted(places)


def test_same_bytes_every_time(supplement: Document) -> None:
    data = ovf_supplement.docx_bytes()
    assert data == ovf_supplement.docx_bytes()
    again = extract(data)
    assert again.markdown == supplement.markdown
    assert [parquet_bytes(table) for table in again.tables] == [parquet_bytes(table) for table in supplement.tables]


def test_parquet_says_where_the_table_stood(supplement: Document) -> None:
    table = supplement.tables[0]
    stored = pq.read_table(io.BytesIO(parquet_bytes(table)))
    assert stored.to_pydict() == table.frame.to_dict("list")
    assert stored.schema.metadata == {
        b"caption": table.caption.encode(),
        b"heading": b"Feature selection",
        b"position": b"7",
        b"number": b"1",
        b"notes": "\n".join(table.notes).encode(),
    }


@pytest.mark.parametrize(
    ("body", "markdown"),
    [
        ("<w:p><w:ins><w:r><w:t>new</w:t></w:r></w:ins><w:del><w:r><w:delText>old</w:delText></w:r></w:del></w:p>",
         "new\n"),
        ("<w:p><w:pPr><w:rPr><w:del/></w:rPr></w:pPr><w:r><w:t>one </w:t></w:r></w:p><w:p><w:r><w:t>line</w:t></w:r>"
         "</w:p>", "one line\n"),
        ("<w:sdt><w:sdtContent><w:p><w:r><w:t>controlled</w:t></w:r></w:p></w:sdtContent></w:sdt>", "controlled\n"),
        ("<w:p><m:oMath><m:f><m:num><m:r><m:t>a</m:t></m:r></m:num><m:den><m:r><m:t>b</m:t></m:r></m:den></m:f>"
         "</m:oMath></w:p>", "(a)/(b)\n"),
        ("<w:p><w:r><mc:AlternateContent><mc:Fallback><w:pict><v:textbox><w:txbxContent><w:p><w:r><w:t>boxed</w:t>"
         "</w:r></w:p></w:txbxContent></v:textbox></w:pict></mc:Fallback></mc:AlternateContent></w:r></w:p>",
         "> boxed\n"),
        ('<w:p><w:r><w:t>3 </w:t><w:sym w:font="Symbol" w:char="F0B1"/><w:t> 1</w:t></w:r></w:p>', "3 ± 1\n"),
        ("<w:p><w:r><w:rPr><w:i/></w:rPr><w:t>P</w:t></w:r><w:r><w:t>value # 1. a</w:t></w:r></w:p>",
         "*P*value # 1. a\n"),
        ("<w:p><w:r><w:rPr><w:b/></w:rPr><w:t>P =</w:t></w:r><w:r><w:t>0.1</w:t></w:r></w:p>",
         "<strong>P =</strong>0.1\n"),
        ("<w:p><w:r><w:t># 1</w:t></w:r></w:p><w:p><w:r><w:t>1. a</w:t></w:r></w:p>", "\\# 1\n\n1\\. a\n"),
    ],
)  # fmt: skip
def test_what_word_wraps_or_withdraws(body: str, markdown: str) -> None:
    assert extract(_document(body)).markdown == markdown


def test_deleted_rows_are_gone_and_nested_tables_are_tables() -> None:
    nested = f"<w:tbl>{_row('c', 'd')}{_row('5', '6')}</w:tbl>"
    deleted = _row("x", "y").replace("<w:tr>", "<w:tr><w:trPr><w:del/></w:trPr>")
    inner = _row("3", "").replace("<w:p><w:r><w:t></w:t></w:r></w:p>", f"<w:p/>{nested}<w:p/>")
    found = extract(_document(f"<w:tbl>{_row('a', 'b')}{_row('1', '2')}{deleted}{inner}</w:tbl>"))
    outer, within = found.tables
    assert outer.frame.to_dict("list") == {"a": ["1", "3"], "b": ["2", ""]}
    assert within.frame.to_dict("list") == {"c": ["5"], "d": ["6"]}
    assert outer.position == within.position == 0
    assert "| 3 | [tables/table-02.parquet](#table-02) |" in found.markdown


def test_captions_below_are_told_from_captions_above() -> None:
    table = f"<w:tbl>{_row('a')}{_row('1')}</w:tbl>"
    first, second = (f"<w:p><w:r><w:t>Table {number}. Made up</w:t></w:r></w:p>" for number in (1, 2))
    below = extract(_document(table + first + table + second))
    above = extract(_document(first + table + second + table))
    without = extract(_document(table + second + table))
    assert [t.caption for t in below.tables] == ["Table 1. Made up", "Table 2. Made up"]
    assert [t.caption for t in above.tables] == ["Table 1. Made up", "Table 2. Made up"]
    assert [t.caption for t in without.tables] == ["", "Table 2. Made up"]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda data: b"<!doctype html><title>Sign in</title>", "not-a-document"),
        (lambda data: b"", "not-a-document"),
        (lambda data: data[: len(data) // 2], "not-a-document"),
        (lambda data: _with_member(data, "word/document.xml", None), "not-a-document"),
        (lambda data: _with_member(data, "word/document.xml", b"<w:document"), "undecodable-document"),
        (lambda data: _with_member(data, "[Content_Types].xml", None), "undecodable-document"),
        (lambda data: _with_member(data, "word/bomb.xml", b" " * (130 << 20)), "undecodable-document"),
        (lambda data: data.replace(ovf_supplement.figure_png()[:60], b"\0" * 60), "undecodable-document"),
        (lambda data: _document(f"<w:tbl>{_row('a')}</w:tbl>".replace("<w:tc>", _WIDE)), "undecodable-document"),
    ],
)
def test_refusals(damage: Callable[[bytes], bytes], reason: str) -> None:
    stored = _with_member(ovf_supplement.docx_bytes(), "word/media/image1.png", ovf_supplement.figure_png())
    with pytest.raises(DocumentRefused) as refused:
        extract(damage(stored))
    assert refused.value.args[0] == reason


_WIDE = '<w:tc><w:tcPr><w:gridSpan w:val="5000"/></w:tcPr>'


def _row(*texts: str) -> str:
    return f"<w:tr>{''.join(f'<w:tc><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:tc>' for text in texts)}</w:tr>"


def _document(body: str) -> bytes:
    document = docx.Document()
    for block in parse_xml(f"<w:body {nsdecls('w', 'm')} {_SHAPE} {_CHOICE}>{body}</w:body>"):
        document.element.body.insert_element_before(block, "w:sectPr")
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def _with_member(data: bytes, name: str, content: bytes | None) -> bytes:
    """The file with one member replaced, added or left out; members are stored, so that bytes can be found."""
    whole = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(whole, "w") as target:
        for member in source.namelist():
            if member != name:
                target.writestr(member, source.read(member))
        if content is not None:
            target.writestr(name, content)
    return whole.getvalue()
