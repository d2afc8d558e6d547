"""Parts of our Markdown that are made from the code: ``python -m tests.written_pages`` writes them anew.

Such a part stands between ``<!-- NAME: … -->`` and ``<!-- end of NAME -->``; all around it is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tests import import_arrows, operators_tables

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "python -m tests.written_pages"

PARTS: Mapping[tuple[str, str], Callable[[], str]] = {
    ("docs/development.md", "import arrows"): import_arrows.diagram,
    ("flows/README.md", "flows"): operators_tables.flows,
    ("flows/README.md", "parameters"): operators_tables.parameters,
    ("flows/README.md", "stages"): operators_tables.stages,
}
"""By page and name."""


def renewed(page: str, name: str) -> str:
    """The page's text with that part made anew. Raises :class:`ValueError` where the page has no place for it."""
    text = (ROOT / page).read_text("utf-8")
    pattern = re.compile(rf"(<!-- {name}: [^>]*-->\n).*?(<!-- end of {name} -->)", flags=re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise ValueError(f"{page} needs one place for the part '{name}': <!-- {name}: … --> and <!-- end of {name} -->")
    made = PARTS[page, name]()
    return pattern.sub(lambda found: f"{found[1]}\n{made}\n\n{found[2]}", text)


if __name__ == "__main__":
    for page, name in PARTS:
        (ROOT / page).write_text(renewed(page, name), "utf-8")
