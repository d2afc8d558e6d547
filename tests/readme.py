"""The commands of a Markdown page, for tests that type what it tells a stranger to type."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"


def lines_of(page: Path) -> list[str]:
    """Every line of the ``sh`` blocks of a page, in order, without its comment; continued ones joined."""
    blocks = re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    lines = [line.strip().removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in (re.sub(r"\s+#( .*)?$", "", line) for line in lines) if line and not line.startswith("#")]


def invocations(page: Path, *commands: str) -> list[list[str]]:
    """Words of every call of scanmill, the word ``scanmill`` left out; those of some commands, where any are named."""
    calls = [shlex.split(line)[1:] for line in lines_of(page) if line.startswith("scanmill ")]
    return [words for words in calls if not commands or words[0] in commands]
