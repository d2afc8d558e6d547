"""What stands within a run of Word's text: characters, symbols, pictures, text boxes; and how it looks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docx.oxml.ns import qn
from docx.text.hyperlink import Hyperlink
from docx.text.run import Run

from tasks.documents.blocks import Inline, Picture, Text, Vertical

_IMAGE_DATA = "{urn:schemas-microsoft-com:vml}imagedata"
_CHART = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_LINKED = ("http://", "https://", "mailto:", "ftp://")
# Adobe's Symbol encoding from 0x20 and from 0xA1: Word writes ± and β so when they were inserted as symbols.
_SYMBOLS = dict(
    enumerate(
        " !∀#∃%&∋()∗+,−./0123456789:;<=>?≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼", 0x20
    )
) | dict(
    enumerate("ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…⏐⎯↵ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓◊〈®©™∑", 0xA1)
)  # fmt: skip


def text(name: str, element: Any) -> str:
    """The characters of one child of a run; none for what shows none, such as field codes and deleted text."""
    if name == "t":
        return element.text or ""
    if name == "sym":
        return _symbol(element)
    if name == "ruby":
        return "".join(t.text or "" for base in element.iter(qn("w:rubyBase")) for t in base.iter(qn("w:t")))
    return {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}.get(name, "")


def _symbol(element: Any) -> str:
    code = int(element.get(qn("w:char"), "20"), 16)
    # Word moves symbol fonts to the private use area, from U+F000 on.
    return _SYMBOLS.get(code & 0xFF, chr(code)) if element.get(qn("w:font")) == "Symbol" else chr(code)


def look(run: Run) -> tuple[bool, bool, Vertical]:
    """Bold, italic, and raised or lowered; its own, else its character style's."""
    style: Any = run.style  # None in a document without default character style, whatever python-docx declares
    fonts = [run.font, style.font] if style is not None else [run.font]
    is_bold, is_italic, is_raised, is_lowered = (
        next((value for value in (getattr(font, name) for font in fonts) if value is not None), False)
        for name in ("bold", "italic", "superscript", "subscript")
    )
    return bool(is_bold), bool(is_italic), "sup" if is_raised else "sub" if is_lowered else ""


def pictures(drawing: Any, part: Any) -> Iterator[Inline]:
    """The embedded pictures of one drawing; what has no picture leaves a line that says so."""
    elements = list(_outside_boxes(drawing))
    described = (element.get("descr") or element.get("title") or "" for element in elements)
    description = next((text for text in described if text), "")
    found = False
    for element in elements:
        attribute = {qn("a:blip"): "r:embed", _IMAGE_DATA: "r:id"}.get(element.tag)
        if attribute is None:
            continue
        found = True
        source = part.related_parts.get(element.get(qn(attribute), ""))
        if source is None:
            linked = part.rels.get(element.get(qn("r:link"), ""))
            yield Text(f"[picture not embedded: {linked.target_ref if linked is not None else 'missing'}]", italic=True)
        else:
            yield Picture(source.blob, source.content_type, _extension(source.partname.ext), description)
    for element in elements if not found else []:
        reference = {f"{_CHART}chart": "r:id", qn("dgm:relIds"): "r:dm"}.get(element.tag)
        if reference is not None:
            source = part.related_parts.get(element.get(qn(reference), ""))
            yield Text(f"[drawing not extracted: {source.partname if source else 'missing'}]", italic=True)


def _outside_boxes(element: Any) -> Iterator[Any]:
    """The element and all below it, but nothing of a text box."""
    yield element
    for child in element:
        if child.tag != qn("w:txbxContent"):
            yield from _outside_boxes(child)


def _extension(name: str) -> str:
    """Of a picture's part: it becomes part of a file name, and whoever made the document chose it."""
    return re.sub(r"[^a-z0-9]", "", name.lower())[:8] or "bin"


def boxes(paragraph: Any) -> Iterator[Any]:
    """Outermost text boxes anchored in a paragraph."""
    for element in _outside_boxes(paragraph):
        yield from (child for child in element if child.tag == qn("w:txbxContent"))


def address(link: Hyperlink) -> str:
    """The web address; links into the document and to local files are left as text."""
    try:
        url = link.url
    except KeyError:  # the relation is missing: the text is still there
        return ""
    return url if url.lower().startswith(_LINKED) else ""
