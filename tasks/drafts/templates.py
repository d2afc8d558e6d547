"""The templates that drafts are filled into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tasks.drafts.literals import text


def render(template: str, given: Mapping[str, Any]) -> str:
    """Fill one in; a name that is not given is an error."""
    environment = Environment(
        loader=PackageLoader("tasks.drafts", "."),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
        autoescape=False,
    )
    environment.filters["text"] = text
    return environment.get_template(template).render(given)
