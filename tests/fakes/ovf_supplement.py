"""A small made-up copy of the vertebral fracture supplement: a Word file of tables, text and one figure."""

from __future__ import annotations

import datetime
import io
import zipfile

import cv2
import docx
import numpy as np
from docx.document import Document
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml.ns import nsdecls, qn
from docx.oxml.parser import OxmlElement
from docx.shared import Cm, Pt
from docx.text.paragraph import Paragraph

NAME = "DataSheet_1_Deep learning radiomics.docx"
SETS = ("Train", "Internal", "External", "Prospective")
CLASSIFIERS = (
    "Logistic regression", "Support vector machine", "K-nearest neighbours", "Random forest",
    "Extra trees", "XGBoost", "LightGBM", "Multilayer perceptron",
)  # fmt: skip
FEATURES = (
    ("original_shape_Sphericity", "Radiomics", "-0.0412"),
    ("original_firstorder_Kurtosis", "Radiomics", "0.0178"),
    ("original_glcm_Idmn", "Radiomics", "0.0300"),
    ("wavelet_HL_glszm_ZoneEntropy", "Radiomics", "-0.1094"),
    ("wavelet_LH_firstorder_Mean", "Radiomics", "0.0056"),
    ("lbp_gldm_DependenceVariance", "Radiomics", "0.0620"),
    ("gradient_ngtdm_Contrast", "Radiomics", "-0.0083"),
    ("DL_feature_17", "Deep learning", "0.2140"),
    ("DL_feature_203", "Deep learning", "-0.1805"),
    ("DL_feature_514", "Deep learning", "0.0970"),
    ("DL_feature_1033", "Deep learning", "1.20 × 10|-3|"),
    ("DL_feature_1999", "Deep learning", "< 0.0010"),
)
"""Name, kind and coefficient; between bars what is raised."""

_DATE = datetime.datetime(2024, 3, 27)
_TIMESTAMP = (2024, 3, 27, 0, 0, 0)
_CONTENT_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"


def docx_bytes() -> bytes:
    """The whole file; the same bytes at every call."""
    document = docx.Document()
    _set_properties(document)
    document.add_heading("Supplementary Material", 0)
    _introduction(document)
    document.add_heading("Feature selection", 1)
    _features(document)
    document.add_heading("Classifiers", 1)
    _classifiers(document)
    document.add_heading("Groups of patients", 1)
    _groups(document)
    document.add_heading("Pipeline", 1)
    _figure(document)
    return _repacked(document)


def figure_png() -> bytes:
    """The figure's file: three steps in a row."""
    image = np.full((120, 420, 3), 255, np.uint8)
    for number in range(3):
        left = 20 + 140 * number
        cv2.rectangle(image, (left, 30), (left + 100, 90), (150, 90 + 40 * number, 60), 3)
        cv2.ellipse(image, (left + 50, 60), (30, 18 - 4 * number), 0, 0, 360, (90, 90, 90), -1)
    is_encoded, data = cv2.imencode(".png", image)
    assert is_encoded, "OpenCV encodes any uint8 image as PNG"
    return data.tobytes()


def auc(classifier: int, group: int) -> str:
    """A made-up area under the curve with its interval."""
    value = 0.97 - 0.013 * classifier - 0.031 * group
    return f"{value:.3f} ({value - 0.024:.3f}–{value + 0.019:.3f})"


def _set_properties(document: Document) -> None:
    properties = document.core_properties
    properties.created = properties.modified = _DATE
    properties.author, properties.title = "", "Word Document"


def _introduction(document: Document) -> None:
    paragraph = document.add_paragraph("Fractures of ")
    paragraph.add_run("942 made-up patients").bold = True
    paragraph.add_run(" were read; ")
    paragraph.add_run("P").italic = True
    paragraph.add_run(" < 0.05 was taken as significant, and R")
    paragraph.add_run("2").font.superscript = True
    paragraph.add_run(" is the share of variance.")
    _add_footnote(document, paragraph, "No patient of this file exists.")
    for text in ("Crop the vertebra", "Extract features from *_mask files", "Fuse both kinds"):
        document.add_paragraph(text, style="List Number")


def _features(document: Document) -> None:
    document.add_paragraph(
        "Supplementary Table S1. Selected features of the fused signature and their LASSO coefficients"
    )
    table = document.add_table(1 + len(FEATURES), 3, style="Table Grid")
    for column, name in enumerate(("Feature", "Kind", "Coefficient")):
        table.cell(0, column).text = name
    for row, (name, kind, coefficient) in enumerate(FEATURES, 1):
        table.cell(row, 0).text = name
        _write_raised(table.cell(row, 2).paragraphs[0], coefficient)
        is_first = row == 1 or FEATURES[row - 2][1] != kind
        if is_first:
            last = max(number for number, feature in enumerate(FEATURES, 1) if feature[1] == kind)
            table.cell(row, 1).merge(table.cell(last, 1)).text = kind
    document.add_paragraph("Abbreviations: LASSO, least absolute shrinkage and selection operator.")
    document.add_paragraph("* Coefficients are made up.")
    document.add_paragraph("The signature is the sum of these terms.")


def _classifiers(document: Document) -> None:
    document.add_paragraph("Supplementary Table S2. AUC (95% CI) of eight classifiers", style="Caption")
    table = document.add_table(2 + len(CLASSIFIERS), 1 + len(SETS), style="Table Grid")
    table.cell(0, 0).merge(table.cell(1, 0)).text = "Classifier"
    table.cell(0, 1).merge(table.cell(0, 2)).text = "Centre A"
    table.cell(0, 3).merge(table.cell(0, 4)).text = "Other centres"
    for column, name in enumerate(SETS, 1):
        table.cell(1, column).text = name
    for row, classifier in enumerate(CLASSIFIERS):
        table.cell(2 + row, 0).text = classifier
        for column in range(len(SETS)):
            table.cell(2 + row, 1 + column).text = auc(row, column)
    document.add_paragraph("Note: intervals by bootstrap.")


def _groups(document: Document) -> None:
    document.add_paragraph("What follows has no caption.")
    table = document.add_table(4, 3, style="Table Grid")
    rows = (("Set", "", "n"), ("All sets", "All sets", "All sets"), ("Train", "class 0|1", "712"), ("Internal", "", ""))
    for row, texts in enumerate(rows):
        for column, text in enumerate(texts):
            table.cell(row, column).text = text
    table.cell(1, 0).merge(table.cell(1, 2)).text = "All sets"
    table.cell(3, 1).text = "first line\nsecond line"


def _figure(document: Document) -> None:
    document.add_paragraph().add_run().add_picture(io.BytesIO(figure_png()), width=Cm(10))
    document.add_paragraph("Supplementary Figure S1. From radiograph to signature", style="Caption")


def _write_raised(paragraph: Paragraph, text: str) -> None:
    for number, part in enumerate(text.split("|")):
        paragraph.add_run(part).font.superscript = True if number % 2 else None


def _add_footnote(document: Document, paragraph: Paragraph, text: str) -> None:
    """python-docx cannot write footnotes; a part with this one alone is enough."""
    xml = f"""<w:footnotes {nsdecls("w")}>
        <w:footnote w:type="separator" w:id="0"><w:p><w:r><w:separator/></w:r></w:p></w:footnote>
        <w:footnote w:id="1"><w:p><w:r><w:rPr><w:vertAlign w:val="superscript"/></w:rPr><w:footnoteRef/></w:r>
        <w:r><w:t xml:space="preserve"> {text}</w:t></w:r></w:p></w:footnote></w:footnotes>"""
    name = PackURI("/word/footnotes.xml")
    document.part.relate_to(Part(name, _CONTENT_TYPE, xml.encode()), RELATIONSHIP_TYPE.FOOTNOTES)
    run = paragraph.add_run()
    run.font.superscript, run.font.size = True, Pt(10)
    reference = OxmlElement("w:footnoteReference")
    reference.set(qn("w:id"), "1")
    run.element.append(reference)


def _repacked(document: Document) -> bytes:
    """python-docx stamps members with the time of saving."""
    saved, whole = io.BytesIO(), io.BytesIO()
    document.save(saved)
    with zipfile.ZipFile(saved) as source, zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as target:
        for name in sorted(source.namelist(), key=lambda name: (name != "[Content_Types].xml", name)):
            info = zipfile.ZipInfo(name, _TIMESTAMP)
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            target.writestr(info, source.read(name))
    return whole.getvalue()
