"""A real browser for tests: Debian's Chromium, driven by Playwright in a thread of its own, plain values out.

Playwright's synchronous interface keeps an event loop running in its thread, and Prefect will not start beside one.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="Chromium is not installed, so no page can be drawn"
)
SETTLED_MS = 50
"""After loading, for what a page does on its own account."""
Scheme = Literal["light", "dark"]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Visit:
    """What happened when a page was opened."""

    requests: tuple[str, ...]
    """Every URL that was asked for, the page's own first; ``data:`` left out."""
    complaints: tuple[str, ...]
    """Errors and warnings on the console, and scripts that failed."""
    overhang: int
    """Pixels by which the page is wider than the window."""
    text: str
    """What can be read on it."""
    faults: tuple[str, ...]
    """What axe says against it, all folded parts opened; empty where it was not asked."""


class Browser:
    """One browser; pages are opened one after the other, offline, each in a profile of its own."""

    def __init__(self) -> None:
        assert CHROMIUM is not None, "CI must have Chromium: .ci/run installs it"
        self._thread = ThreadPoolExecutor(1)
        self._in_thread(self._start)

    def _start(self) -> None:
        self._driver = sync_playwright().start()
        options = ["--no-sandbox", "--disable-gpu"]
        self._browser = self._driver.chromium.launch(executable_path=CHROMIUM, args=options)

    def close(self) -> None:
        """End the browser and its driver."""
        self._in_thread(self._browser.close)
        self._in_thread(self._driver.stop)
        self._thread.shutdown()

    def visit(self, place: Path, width: int, scheme: Scheme = "light", *, is_audited: bool = False) -> Visit:
        """Open a page in a window of this width."""
        return self._in_thread(lambda: self._visit(place, width, scheme, is_audited))

    def ask(self, place: Path, question: Callable[[Page], Value], width: int = 1400, scheme: Scheme = "light") -> Value:
        """Open a page and ask something of it; the answer must be a plain value."""

        def asked() -> Value:
            with self._browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
            ) as context:
                page = context.new_page()
                page.goto(place.as_uri())
                return question(page)

        return self._in_thread(asked)

    def drawn(self, place: Path, width: int) -> npt.NDArray[np.uint8]:
        """The top of a page as pixels: (900, width, 3)."""
        png = self.ask(place, lambda page: page.screenshot(), width)
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    def _visit(self, place: Path, width: int, scheme: Scheme, is_audited: bool) -> Visit:
        window: Any = {"width": width, "height": 900}
        requests: list[str] = []
        complaints: list[str] = []
        with self._browser.new_context(viewport=window, color_scheme=scheme, offline=True) as context:
            page = context.new_page()
            page.on("request", lambda request: requests.append(request.url))
            page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(place.as_uri())
            page.wait_for_timeout(SETTLED_MS)
            overhang = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            text = page.evaluate("document.body.innerText")
            return Visit(
                tuple(url for url in requests if not url.startswith("data:")),
                tuple(complaints),
                int(overhang),
                str(text),
                _faults(page) if is_audited else (),
            )

    def _in_thread(self, work: Callable[[], Value]) -> Value:
        return self._thread.submit(work).result(timeout=120)


def _faults(page: Page) -> tuple[str, ...]:
    """One line per element that breaks a rule of axe."""
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    broken = Axe().run(page).response["violations"]
    return tuple(
        f"{rule['id']}: {rule['help']}: {node['html'][:200]} {node['any'][0]['message'] if node['any'] else ''}"
        for rule in broken
        for node in rule["nodes"]
    )
