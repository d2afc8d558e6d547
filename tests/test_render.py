"""The report in a real browser: it draws, and no request leaves the page."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="Chromium is not installed, so no page can be drawn"
)
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

BROWSERS_OWN = {
    "accounts.google.com",
    "android.clients.google.com",
    "clients2.google.com",
    "update.googleapis.com",
    "www.google.com",
}
"""Hosts that Chromium asks for reasons of its own, a blank page too; the test makes sure the page names none."""


def browse(page: Path, folder: Path, *options: str) -> str:
    """Open a page in headless Chromium; returns what it printed."""
    assert CHROMIUM is not None, "CI must have Chromium: .ci/run installs it"
    command = [CHROMIUM, *QUIET, f"--user-data-dir={folder / 'profile'}", *options, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


@pytest.mark.parametrize("name", ["index.html", "data_docs/index.html"])
def test_no_request_leaves_the_page(release: Path, tmp_path: Path, name: str) -> None:
    log = tmp_path / "net.json"
    page = browse(release / "quality" / name, tmp_path, f"--log-net-log={log}", "--dump-dom")
    assert "<h1" in page
    events = json.loads(log.read_text())["events"]
    asked = {urlsplit(str(event.get("params", {}).get("url", ""))) for event in events}
    assert {url.hostname for url in asked if url.scheme in ("http", "https", "ws", "wss")} <= BROWSERS_OWN
    assert not any(host in page for host in BROWSERS_OWN)


@pytest.mark.parametrize("width", [1400, 420])
def test_the_report_draws_at_desktop_and_phone_width(release: Path, tmp_path: Path, width: int) -> None:
    picture = tmp_path / "report.png"
    browse(release / "quality" / "index.html", tmp_path, f"--window-size={width},2400", f"--screenshot={picture}")
    pixels = np.asarray(Image.open(picture).convert("L"))
    # A blank page has one grey level; text, figures and contact sheets have nearly all.
    assert len(np.unique(pixels)) > 100
