"""Great Expectations' Data Docs without the internet: its pages load scripts, fonts and a logo from public hosts."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

REMOTE = re.compile(
    r'<script[^>]*\bsrc="https?://[^"]*"[^>]*>\s*</script>|<(?:link|img)[^>]*\b(?:href|src)="https?://[^"]*"[^>]*>',
    re.I,
)
REMOTE_STYLE = re.compile(r"url\(\s*['\"]?https?://[^)]*\)", re.I)
STYLE = (
    "<style>body{font:14px/1.5 system-ui,sans-serif;margin:2rem;color:#1c2733}table{border-collapse:collapse}"
    "td,th{border:1px solid #cbd5df;padding:4px 8px;text-align:left}.collapse{display:block}"
    "a{color:#0b5cad}</style></head>"
)


def make_offline(docs: Path) -> None:
    """Remove every remote script, style and picture, and write an index that needs no JavaScript."""
    for page in docs.rglob("*.html"):
        text, found = REMOTE.subn("", page.read_text(encoding="utf-8"))
        text = REMOTE_STYLE.sub("none", text)
        if found:
            page.write_text(text.replace("</head>", STYLE, 1), encoding="utf-8")
    rows = []
    for page in sorted((docs / "validations").rglob("*.html")):
        suite, _, when, _ = page.relative_to(docs / "validations").parts
        link = escape(page.relative_to(docs).as_posix())
        rows.append(f'<tr><td><a href="{link}">{escape(suite)}</a></td><td>{escape(when)}</td></tr>')
    (docs / "index.html").write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Great Expectations data docs</title>{STYLE}'
        f"<body><h1>Great Expectations data docs</h1><p><a href='../index.html'>← report</a></p>"
        f"<table><tr><th>suite</th><th>run</th></tr>{''.join(rows)}</table></body></html>",
        encoding="utf-8",
    )
