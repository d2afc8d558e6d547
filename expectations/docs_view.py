"""Great Expectations' pages with the data as words: it puts cells of its tables into them as they are, tags and all."""

from __future__ import annotations

from html import escape
from typing import Any

from great_expectations.render.view import DefaultJinjaPageView
from jinja2 import pass_context


class WordsView(DefaultJinjaPageView):
    """Named in the configuration of a site, see :func:`expectations.gates.judge`."""

    @pass_context
    def render_content_block(
        self,
        jinja_context: Any,
        content_block: Any,
        index: Any = None,
        content_block_id: Any = None,
        render_to_markdown: bool = False,
    ) -> Any:
        """The block as HTML; text, alone or in a list, is escaped, which the library leaves out."""
        words = _as_words(content_block)
        return super().render_content_block(jinja_context, words, index, content_block_id, render_to_markdown)


def _as_words(block: Any) -> Any:
    if isinstance(block, list):
        return [_as_words(part) for part in block]
    return escape(block, quote=False) if isinstance(block, str) else block
