"""The report in a real browser: it asks nothing of the network, fits the window, and can be read by everyone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Page

from tasks.learning import comparison_page
from tests import made_up_run
from tests.browser import Browser, Scheme, needs_browser
from tests.made_up_report import whole, write

pytestmark = needs_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests of this module."""
    opened = Browser()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a made-up release that has something in every part."""
    folder = tmp_path_factory.mktemp("full")
    write(whole(), folder)
    return folder / "index.html"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Pages of made-up runs that have something in every part, and of two runs side by side."""
    lake = tmp_path_factory.mktemp("runs")
    made = {
        "findings": (made_up_run.NIH, made_up_run.nih_metrics()),
        "classes": (made_up_run.MAMMOGRAPHY, made_up_run.mammography_metrics("certain")),
        "targets": (made_up_run.CHEXCHONET, made_up_run.chexchonet_metrics()),
    }
    pages = {}
    for name, (recipe, metrics) in made.items():
        run = made_up_run.run_of(recipe, lake, name)
        made_up_run.write(run, metrics)
        pages[name] = Path(str(run.report))
    comparison_page.write(lake / "comparison.html", made_up_run.comparison())
    return {**pages, "comparison": lake / "comparison.html"}


@pytest.mark.parametrize(
    ("name", "width", "scheme"),
    [
        ("findings", 1400, "light"),
        ("findings", 390, "dark"),
        ("classes", 1400, "light"),
        ("classes", 390, "dark"),
        ("targets", 390, "light"),
        ("comparison", 1400, "dark"),
        ("comparison", 390, "light"),
    ],
)
def test_the_page_of_a_run_asks_for_nothing_fits_the_window_and_axe_finds_no_fault(
    runs: dict[str, Path], browser: Browser, name: str, width: int, scheme: Scheme
) -> None:
    seen = browser.visit(runs[name], width, scheme, is_audited=True)
    assert (seen.requests, seen.complaints, seen.overhang, seen.faults) == ((runs[name].as_uri(),), (), 0, ())


def test_every_entry_of_a_runs_contents_leads_somewhere(runs: dict[str, Path], browser: Browser) -> None:
    lost = "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash)).map(a => a.hash)"
    count = "document.querySelectorAll('nav a').length"
    for page in runs.values():
        found = browser.ask(page, lambda page: (page.evaluate(lost), page.evaluate(count)))
        assert found[0] == []
        assert found[1] >= 5


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_no_request_leaves_the_report_no_error_and_no_sideways_scrolling(
    release: Path, browser: Browser, width: int, scheme: Scheme
) -> None:
    for name in ("index.html", "changes.html"):
        page = release / "quality" / name
        seen = browser.visit(page, width, scheme)
        assert (seen.requests, seen.complaints, seen.overhang) == ((page.as_uri(),), (), 0)
        assert release.name in seen.text


def test_no_request_leaves_great_expectations_data_docs(release: Path, browser: Browser) -> None:
    docs = release / "quality" / "data_docs"
    for page in [docs / "index.html", *sorted(docs.glob("*/validations/**/*.html"))] if docs.exists() else []:
        seen = browser.visit(page, 1400)
        assert not [url for url in seen.requests if not url.startswith(release.as_uri())]
        assert seen.complaints == ()
        assert seen.text


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
def test_axe_finds_no_fault_with_any_part_of_the_report(
    full: Path, browser: Browser, width: int, scheme: Scheme
) -> None:
    seen = browser.visit(full, width, scheme, is_audited=True)
    assert (seen.faults, seen.overhang) == ((), 0)


def test_a_dark_scheme_makes_a_dark_page(full: Path, browser: Browser) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    schemes: tuple[Scheme, ...] = ("light", "dark")
    light, dark = (browser.ask(full, lambda page: _rgb(page.evaluate(ground)), scheme=scheme) for scheme in schemes)
    assert np.mean(light) > 230
    assert np.mean(dark) < 30


def _rgb(colour: str) -> list[int]:
    return [int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(",")]


def test_the_first_tab_leads_past_the_contents(full: Path, browser: Browser) -> None:
    def tabbed(page: Page) -> list[Any]:
        page.keyboard.press("Tab")
        first = page.evaluate(
            "[document.activeElement.textContent, document.activeElement.getBoundingClientRect().top]"
        )
        page.keyboard.press("Enter")
        return [*first, page.evaluate("location.hash")]

    words, top, place = browser.ask(full, tabbed)
    assert (words, place) == ("Skip to the report", "#content")
    assert top >= 0


def test_paper_is_light_and_shows_what_is_folded(full: Path, browser: Browser) -> None:
    def printed(page: Page) -> tuple[Any, ...]:
        folded = page.locator(".gate details table").first
        on_screen = folded.is_visible()
        page.emulate_media(media="print")
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return on_screen, folded.is_visible(), ground, page.locator("nav").is_visible()

    assert browser.ask(full, printed, scheme="dark") == (False, True, "rgb(255, 255, 255)", False)


def test_pictures_and_figures_are_drawn(release: Path, browser: Browser) -> None:
    # A blank page has one grey level; text and colours have many.
    assert len(np.unique(browser.drawn(release / "quality" / "index.html", 1400))) > 50
    count = "[...document.images].filter(image => image.naturalWidth === 0).length"
    assert browser.ask(release / "quality" / "index.html", lambda page: page.evaluate(count)) == 0
