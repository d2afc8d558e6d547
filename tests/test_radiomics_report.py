"""The page of a radiomics run and its card: they say what the run's files say, and in words what these do not have."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.learning.radiomics import figures, report
from tasks.learning.runs import Run
from tests.browser import Browser, Scheme, needs_browser
from tests.made_up_radiomics import MadeUp, made_up
from tests.made_up_run import run_of
from tests.test_run_report import card, section, words

UNIT = {"unit": "grey levels²", "of": "texture: pairs of neighbouring pixels (GLCM)"}


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lake")


@pytest.fixture(scope="module")
def made() -> MadeUp:
    """Two arms, of which one has no weights."""
    return made_up()


@pytest.fixture(scope="module")
def whole(made: MadeUp, lake: Path) -> tuple[Run, str]:
    run = run_of(made.recipe, lake, "whole")
    return run, written(run, made)


@pytest.fixture(scope="module")
def awkward(lake: Path) -> tuple[Run, str]:
    """One arm, an empty set, a class that a set does not have, a classifier that was not fitted."""
    found = made_up(scale=0.15, resamples=20, is_awkward=True)
    run = run_of(found.recipe, lake, "awkward")
    return run, written(run, found)


def written(run: Run, found: MadeUp, **others: Any) -> str:
    """The page, after it was written from these files; ``others`` stand for one of them."""
    fields = [pa.field("sample_id", pa.string())]
    for name in sorted({one["feature"] for own in found.model["variants"] for one in own["selected"]}):
        fields.append(pa.field(name, pa.float64(), metadata=UNIT))
    schema = pa.schema(fields, metadata={"scanmill": json.dumps(found.features)})
    report.write(run, others.get("model", found.model), others.get("radiomics", found.radiomics), schema)
    return Path(str(run.report)).read_text("utf-8")


def row(part: str, name: str) -> str:
    """The first table row of that name, as text."""
    found = re.search(rf'<tr[^>]*><th scope="row"[^>]*>{name}.*?</tr>', part, re.S)
    assert found is not None, f"no row {name}"
    return words(found[0])


def test_the_headline_is_that_of_the_held_out_set_beside_its_control(made: MadeUp, whole: tuple[Run, str]) -> None:
    found = made.radiomics["primary"]["sets"]["external"]["macro_auroc"]
    seen = words(whole[1])
    assert f"Macro AUROC {found['value']:.3f} (95 % {found['low']:.3f} to {found['high']:.3f}) on external" in seen
    assert "Better than chance" in seen
    control = made.model["controls"]["shuffled"]
    assert f"gets {sum(control) / 5:.3f} ({min(control):.3f} to {max(control):.3f})" in seen
    assert '<div class="banner good">' in whole[1]


@pytest.mark.parametrize(
    ("score", "shuffled", "tone", "said"),
    [
        ((0.55, 0.45, 0.65), [0.5, 0.49], "warn", "Not told from chance"),
        ((0.60, 0.52, 0.68), [0.5, 0.53], "warn", "not told from its control"),
        ((0.40, 0.35, 0.45), [], "bad", "Worse than chance"),
        ((None, None, None), [0.5, None], "quiet", "No macro AUROC on external"),
        ((0.80, 0.75, 0.85), [0.58, 0.6], "good", "Trust no number here"),
    ],
)
def test_the_tone_is_that_of_the_interval(
    made: MadeUp, lake: Path, score: tuple[Any, ...], shuffled: list[float | None], tone: str, said: str
) -> None:
    radiomics, model = copy.deepcopy(made.radiomics), copy.deepcopy(made.model)
    radiomics["primary"]["sets"]["external"]["macro_auroc"] |= dict(zip(("value", "low", "high"), score, strict=True))
    model["controls"]["shuffled"] = shuffled
    page = written(run_of(made.recipe, lake, "tones"), made, radiomics=radiomics, model=model)
    assert f'<div class="banner {tone}">' in page
    assert said in words(page)


def test_an_arm_without_weights_is_marked_wherever_it_is_named(
    whole: tuple[Run, str], awkward: tuple[Run, str]
) -> None:
    seen = words(whole[1])
    assert "weights: none. The network of arm imagenet has random weights" in seen
    assert "weights: none. The network of arm radimagenet" not in seen
    assert "nothing here compares RadImageNet with ImageNet" in words(section(whole[1], "arms"))
    assert "weights: none" in row(section(whole[1], "signature"), r"fused \(imagenet\)")
    assert "weights: none" not in row(section(whole[1], "signature"), r"fused \(radimagenet\)")
    assert "**weights: none**" in card(whole[0])
    # Where the primary model itself sees such an arm, no number is good news.
    assert '<div class="banner warn">' in awkward[1]
    assert re.search(r"<strong><span class=\"mark\">weights: none</span> Macro AUROC", awkward[1])


def test_every_number_of_a_class_is_that_of_the_file(made: MadeUp, whole: tuple[Run, str]) -> None:
    own = made.radiomics["primary"]["sets"]["external"]["classes"]["class_1"]
    seen = row(section(whole[1], "scores"), "class 1")
    for metric in ("auroc", "auprc", "accuracy", "sensitivity", "specificity", "ppv", "npv", "f1"):
        assert f"{own[metric]['value']:.3f} {own[metric]['low']:.3f}–{own[metric]['high']:.3f}" in seen
    assert f"| class_1 | {own['positives']} | {own['auroc']['value']:.3f} |" in card(whole[0])


def test_every_model_stands_in_the_grid_of_every_set_and_the_best_is_marked(
    made: MadeUp, whole: tuple[Run, str]
) -> None:
    part = section(whole[1], "models")
    grids = re.findall(r'<table class="grid">.*?</table>', part, re.S)
    assert len(grids) == len(made.radiomics["sets"]) == 4
    for grid, name in zip(grids, ("external", "internal", "prospective", "train"), strict=True):
        values = [own["sets"][name]["macro_auroc"]["value"] for own in made.radiomics["models"]]
        assert sorted(re.findall(r"<b>([\d.]+)</b>", grid)) == sorted(f"{value:.3f}" for value in values)
        assert f"best</span><b>{max(values):.3f}</b>" in grid
        assert grid.count('<span class="tag">primary</span>') == 1
    assert "C 0.1 best of 6 tried" in row(part.partition("All 40 models")[2], "logistic regression")


def test_the_signature_stands_with_units_coefficients_and_how_often_it_was_chosen(
    made: MadeUp, whole: tuple[Run, str]
) -> None:
    primary = made.radiomics["primary"]["variant"]
    own = next(one for one in made.model["variants"] if one["name"] == primary)
    entry = next(one for one in own["selected"] if one["feature"].startswith("radiomics.log-sigma-1"))
    part = section(whole[1], "signature")
    seen = row(part, "Idm")
    assert "GLCM · LoG σ 1" in seen
    assert UNIT["unit"] in seen
    for value in entry["coefficients"]:
        assert f"{value:+.3f}".replace("-", "−") in seen
    assert f"{100 * entry['frequency']:.0f} %" in seen
    funnel = row(part, r"fused \(radimagenet\)")
    assert " ".join(f"{step['features']:,}" for step in own["steps"]) in funnel
    assert f"{own['alpha']:.3g}" in words(part)


def test_arms_are_compared_by_class_and_by_patient(made: MadeUp, whole: tuple[Run, str]) -> None:
    arms = made.radiomics["arms"]
    own = next(one for one in arms["rows"] if (one["set"], one["class"]) == ("external", "class_0"))
    by_class = section(whole[1], "arms").partition("By class: DeLong")
    seen = row(by_class[2], "class 0")
    for value in (own["first"], own["second"], abs(own["difference"])):
        assert f"{value:.3f}" in seen
    assert f"{own['p_by_patient']:.2f}" in seen
    mean = next(one for one in arms["macro"] if one["set"] == "external")
    assert f"{mean['bootstrap']['high']:+.3f}".replace("-", "−") in row(by_class[0], "external")


def test_published_numbers_stand_beside_ours_with_what_was_not_found(made: MadeUp, whole: tuple[Run, str]) -> None:
    part = section(whole[1], "published")
    seen = row(part, "class 2")
    assert "0.809" in seen
    assert f"{made.radiomics['primary']['sets']['train']['classes']['class_2']['auroc']['value']:.3f}" in seen
    for sentence in made.radiomics["published"]["not_found"]:
        assert sentence.replace("'", "’")[:40] in words(part).replace("'", "’")


def test_what_is_not_there_is_said_in_words(awkward: tuple[Run, str]) -> None:
    run, page = awkward
    assert "imagenet is the only arm: there is nothing to compare it with" in words(section(page, "arms"))
    assert "n/a: no sample of this set is of this class" in words(section(page, "scores"))
    assert "class 2 in prospective: no sample of this set is of this class" in words(page)
    assert "internal is not scored: no sample lies in this set" in words(page)
    assert "the solver did not converge in any fold" in words(section(page, "models"))
    assert "mean without class 2" in words(section(page, "models"))
    assert "One arm alone: nothing was compared." in card(run)
    assert "None" not in words(page)
    assert "nan" not in words(page).split()


def test_a_line_is_cut_where_it_leaves_the_frame() -> None:
    assert figures.above([(0.0, 1.0), (0.5, -1.0), (1.0, 1.0)]) == [
        [(0.0, 1.0), (0.25, 0.0)],
        [(0.75, 0.0), (1.0, 1.0)],
    ]
    assert figures.above([(0.0, -1.0), (1.0, -2.0)]) == []


def test_the_same_files_give_the_same_bytes_and_nothing_is_fetched(made: MadeUp, whole: tuple[Run, str]) -> None:
    run, page = whole
    before = card(run)
    assert written(run, made) == page
    assert card(run) == before
    assert "default-src 'none'" in page
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//|url\((?!#)", page)
    assert "Not a medical device" in words(page)
    assert "Not a medical device" in before


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    opened = Browser()
    yield opened
    opened.close()


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (400, "light")])
def test_axe_finds_no_fault_with_any_part(
    made: MadeUp, lake: Path, browser: Browser, width: int, scheme: Scheme
) -> None:
    # A few of each kind of row: axe looks at every cell.
    few = {**made.radiomics, "models": [one for one in made.radiomics["models"] if one["classifier"][0] in "lk"]}
    model = copy.deepcopy(made.model)
    for own in model["variants"]:
        own["selected"], own["frequencies"] = own["selected"][:3], own["frequencies"][10:24]
    run = run_of(made.recipe, lake, "few")
    written(run, made, radiomics=few, model=model)
    assert browser.visit(Path(str(run.report)), width, scheme, is_audited=True).faults == ()


@needs_browser
def test_the_page_asks_for_nothing_and_fits_the_window(
    whole: tuple[Run, str], awkward: tuple[Run, str], browser: Browser
) -> None:
    lost = "[...document.querySelectorAll('nav a')].filter(a => !document.querySelector(a.hash)).map(a => a.hash)"
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    for width, run in ((1280, whole[0]), (400, awkward[0])):
        place = Path(str(run.report))
        seen = browser.visit(place, width)
        assert (seen.requests, seen.complaints, seen.overhang) == ((place.as_uri(),), (), 0)
        assert browser.ask(place, lambda page: page.evaluate(lost)) == []
    # At 1280 pixels no table has to be scrolled.
    assert browser.ask(Path(str(whole[0].report)), lambda page: page.evaluate(wide), 1280) == 0
