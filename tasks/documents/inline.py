"""One paragraph as one line of Markdown, with nothing in it that Markdown would eat or make up."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from tasks.documents.blocks import Inline, NoteMark, Paragraph, Picture, Text

_SPECIAL = re.compile(r"[\\`*_\[\]<>|~$]|&(?=#?\w+;)")
_NUMBERED = re.compile(r"^(\d+)([.)])(?=\s|$)")
_MARKERS = {(True, True): ("***", "strong", "em"), (True, False): ("**", "strong"), (False, True): ("*", "em")}
_QUOTED = {" ": "%20", "(": "%28", ")": "%29", "<": "%3C", ">": "%3E", "|": "%7C"}


@dataclass(frozen=True)
class _Piece:
    """Markdown of one look; what is no text has none, and stands as it is."""

    content: str
    bold: bool = False
    italic: bool = False
    link: str = ""

    @property
    def is_emphasised(self) -> bool:
        return self.bold or self.italic


def line(paragraph: Paragraph, picture: Callable[[Picture], str], *, is_heading: bool = False) -> str:
    """The paragraph without line ends; a heading is bold as it is."""
    pieces: list[_Piece] = []
    for look, group in groupby(paragraph.inlines, key=lambda inline: _look(inline, is_heading)):
        if look is None:
            pieces += [_Piece(_literal(inline, picture)) for inline in group]
        else:
            content = _with_heights([inline for inline in group if isinstance(inline, Text)])
            lead, text, trail = _edges(content)
            pieces += [_Piece(lead), _Piece(text, *look), _Piece(trail)]
    return re.sub(r"^(?:\s|<br>)+|(?:\s|<br>)+$", "", _written([piece for piece in pieces if piece.content]))


def guarded(text: str) -> str:
    """A line that starts no list and no heading by accident."""
    return _NUMBERED.sub(r"\1\\\2", re.sub(r"^([#+-])", r"\\\1", text))


def escaped(text: str) -> str:
    """Text that means itself, on one line."""
    return _SPECIAL.sub(r"\\\g<0>", text).replace("\n", "<br>").replace("\t", " ")


def _look(inline: Inline, is_heading: bool) -> tuple[bool, bool, str] | None:
    return (inline.bold and not is_heading, inline.italic, inline.link) if isinstance(inline, Text) else None


def _literal(inline: Inline, picture: Callable[[Picture], str]) -> str:
    if isinstance(inline, NoteMark):
        return f"[^{inline.label}]"
    return picture(inline) if isinstance(inline, Picture) else ""


def _with_heights(texts: Iterable[Text]) -> str:
    parts = []
    for vertical, group in groupby(texts, key=lambda text: text.vertical):
        content = escaped("".join(text.text for text in group))
        parts.append(f"<{vertical}>{content}</{vertical}>" if vertical and content.strip() else content)
    return "".join(parts)


def _edges(content: str) -> tuple[str, str, str]:
    """White space and line breaks at both ends apart from the rest: a marker beside a space is no marker."""
    match = re.fullmatch(r"((?:\s|<br>)*)(.*?)((?:\s|<br>)*)", content, re.DOTALL)
    return (match[1], match[2], match[3]) if match else ("", content, "")


def _written(pieces: Sequence[_Piece]) -> str:
    text = ""
    for number, piece in enumerate(pieces):
        following = pieces[number + 1] if number + 1 < len(pieces) else _Piece("")
        text += _emphasised(piece, text[-1:], "*" if following.is_emphasised else following.content[:1])
    return text


def _emphasised(piece: _Piece, before: str, after: str) -> str:
    """With asterisks where CommonMark sees them as markers, with tags elsewhere (``*p*`` but ``P<em>=</em>0``)."""
    content = piece.content
    if piece.is_emphasised:
        marker, *tags = _MARKERS[piece.bold, piece.italic]
        edges = ((content[0], "[" if piece.link else before), (content[-1], "]" if piece.link else after))
        if all(_is_flank(inner, outer) for inner, outer in edges):
            content = f"{marker}{content}{marker}"
        else:
            opening, closing = "".join(f"<{tag}>" for tag in tags), "".join(f"</{tag}>" for tag in reversed(tags))
            content = f"{opening}{content}{closing}"
    url = "".join(_QUOTED.get(character, character) for character in piece.link)
    return f"[{content}]({url})" if url else content


def _is_flank(inner: str, outer: str) -> bool:
    return outer != "*" and (not _is_punctuation(inner) or not outer or outer.isspace() or _is_punctuation(outer))


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"
