"""Great Expectations' Data Docs without the internet: its pages load scripts, fonts and a logo from public hosts."""

from __future__ import annotations

import re
import shutil
from html import escape
from pathlib import Path

REMOTE = re.compile(
    r'<script[^>]*\bsrc="https?://[^"]*"[^>]*>\s*</script>|<(?:link|img)[^>]*\b(?:href|src)="https?://[^"]*"[^>]*>',
    re.I,
)
REMOTE_STYLE = re.compile(r"url\(\s*['\"]?https?://[^)]*\)", re.I)
FOOTER = re.compile(r"<footer>.*?</footer>", re.I | re.S)
"""An invitation to a newsletter."""
LOST_ICON = re.compile(r'<link[^>]*rel="shortcut icon"[^>]*>', re.I)
"""Points at one of the pictures that are taken away."""
STYLE = (
    '<link rel="icon" href="data:,">'
    "<style>body{font:14px/1.5 system-ui,sans-serif;margin:2rem;color:#1c2733}table{border-collapse:collapse}"
    "td,th{border:1px solid #cbd5df;padding:4px 8px;text-align:left;overflow-wrap:anywhere}.collapse{display:block}"
    "a{color:#0b5cad}</style></head>"
)


def make_offline(site: Path) -> None:
    """Remove every remote script, style and picture of one gate's site, and 3 MB of pictures that no page shows."""
    shutil.rmtree(site / "static" / "images", ignore_errors=True)
    shutil.rmtree(site / "static" / "fonts", ignore_errors=True)
    for page in site.rglob("*.html"):
        text = REMOTE_STYLE.sub("none", REMOTE.sub("", FOOTER.sub("", page.read_text(encoding="utf-8"))))
        text = LOST_ICON.sub("", text)
        page.write_text(text.replace("</head>", STYLE, 1), encoding="utf-8")
    for sheet in site.rglob("*.css"):
        sheet.write_text(REMOTE_STYLE.sub("none", sheet.read_text(encoding="utf-8")), encoding="utf-8")


def write_index(docs: Path) -> None:
    """``index.html`` over the sites of all gates; needs no JavaScript, unlike the one it stands for."""
    rows = []
    for page in sorted(docs.glob("*/validations/**/*.html")):
        name = page.relative_to(docs).as_posix()
        gate, _, suite, _, when, _ = name.split("/")
        link = f'<a href="{escape(name)}">{escape(suite)}</a>'
        rows.append(f"<tr><td>{escape(gate)}</td><td>{link}</td><td>{escape(when)}</td></tr>")
    heads = "".join(f'<th scope="col">{name}</th>' for name in ("gate", "suite", "run"))
    (docs / "index.html").write_text(
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Great Expectations data docs</title>{STYLE}'
        f'<body><main><h1>Great Expectations data docs</h1><p><a href="../index.html">← report</a></p>'
        f"<table><tr>{heads}</tr>{''.join(rows)}</table></main></body></html>",
        encoding="utf-8",
    )
