"""Word's XML as its reader sees it: changes accepted, wrappers opened, equations spelled out.

python-docx looks at direct children alone, so that a paragraph in a content control or a run in an insertion is lost
to it. After :func:`settle` it sees them all.
"""

from __future__ import annotations

from typing import Any

from docx.oxml.ns import qn
from docx.oxml.parser import OxmlElement

_MC = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_WRAPPERS = [qn(f"w:{name}") for name in ("ins", "moveTo", "smartTag", "customXml", "fldSimple", "dir", "bdo")]
_WITHDRAWN = [qn(f"w:{name}") for name in ("del", "moveFrom")]
_SCRIPTS = {"sSup": ("sup",), "sSub": ("sub",), "sSubSup": ("sub", "sup")}
_SIGNS = {"sup": "^", "sub": "_"}


def settle(root: Any) -> None:
    """Change the tree in place; harmless when done twice."""
    for choice in list(root.iter(f"{_MC}AlternateContent")):
        _open(choice, _seen_branch(choice))
    for control in list(root.iter(qn("w:sdt"))):
        _open(control, control.find(qn("w:sdtContent")))
    _drop_deleted_rows(root)
    _join_paragraphs(root)
    for element in list(root.iter(*_WITHDRAWN)):
        _remove(element)
    for element in list(root.iter(*_WRAPPERS)):
        _open(element, element)
    for element in list(root.iter(qn("m:oMathPara"))):
        _open(element, element)
    for element in list(root.iter(qn("m:oMath"))):
        run = OxmlElement("w:r")
        run.add_t(_linear(element))
        _open(element, [run])


def _open(element: Any, content: Any) -> None:
    """Put ``content``'s children, or nothing, in the place of ``element``."""
    for child in list(content) if content is not None else []:
        element.addprevious(child)
    _remove(element)


def _remove(element: Any) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)


def _seen_branch(choice: Any) -> Any:
    """Word's own branch; the fallback where only that has a picture (charts of newer kinds)."""
    branches = [branch for branch in choice if branch.tag in (f"{_MC}Choice", f"{_MC}Fallback")]
    content = (qn("a:blip"), qn("w:txbxContent"), qn("w:t"), "{urn:schemas-microsoft-com:vml}imagedata")
    with_content = (branch for branch in branches if next(branch.iter(*content), None) is not None)
    return next(with_content, branches[0] if branches else None)


def _drop_deleted_rows(root: Any) -> None:
    for row in [row for row in root.iter(qn("w:tr")) if row.find(f"{qn('w:trPr')}/{qn('w:del')}") is not None]:
        _remove(row)
    for table in [table for table in root.iter(qn("w:tbl")) if table.find(qn("w:tr")) is None]:
        _remove(table)


def _join_paragraphs(root: Any) -> None:
    """A deleted paragraph mark joins its paragraph to the next one."""
    mark = f"{qn('w:pPr')}/{qn('w:rPr')}/{qn('w:del')}"
    for paragraph in [p for p in root.iter(qn("w:p")) if p.find(mark) is not None]:
        following = paragraph.getnext()
        if following is None or following.tag != qn("w:p"):
            continue
        place = 0 if following.find(qn("w:pPr")) is None else 1
        content = [child for child in paragraph if child.tag != qn("w:pPr")]
        for offset, child in enumerate(content):
            following.insert(place + offset, child)
        _remove(paragraph)


def _linear(element: Any) -> str:
    """An equation on one line: ``(a)/(b)``, ``x^(2)``, ``√(x)``; other structure is left to the order of its text."""
    name = str(element.tag).rpartition("}")[2]
    if name == "t":
        return element.text or ""
    if name == "f":
        return f"({_part(element, 'num')})/({_part(element, 'den')})"
    if name in _SCRIPTS:
        scripts = "".join(f"{_SIGNS[part]}({_part(element, part)})" for part in _SCRIPTS[name])
        return _part(element, "e") + scripts
    if name == "rad":
        return f"{_part(element, 'deg')}√({_part(element, 'e')})"
    if name == "d":
        inside = ", ".join(_linear(child) for child in element if child.tag == qn("m:e"))
        return f"{_property(element, 'dPr', 'begChr', '(')}{inside}{_property(element, 'dPr', 'endChr', ')')}"
    if name == "nary":
        limits = "".join(f"{_SIGNS[part]}({_part(element, part)})" for part in ("sub", "sup") if _part(element, part))
        return f"{_property(element, 'naryPr', 'chr', '∫')}{limits} {_part(element, 'e')}"
    return "".join(_linear(child) for child in element)


def _part(element: Any, name: str) -> str:
    found = element.find(qn(f"m:{name}"))
    return "" if found is None else _linear(found)


def _property(element: Any, properties: str, name: str, default: str) -> str:
    found = element.find(f"{qn(f'm:{properties}')}/{qn(f'm:{name}')}")
    return default if found is None else str(found.get(qn("m:val"), default))
