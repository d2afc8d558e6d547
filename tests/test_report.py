"""The data-quality report: what it answers, counts and shows; that it is harmless, whole and always the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator

from tasks.quality import contact_sheet, extremes, notes, plots, statistics, tiles, wording
from tasks.quality.contact_sheet import NO_LABEL, NONE_OF_THEM
from tasks.quality.page import ReportFacts
from tasks.schema import Outcome, Verdict
from tests.made_up_report import (
    GREY_16,
    HOMEPAGE,
    REFUSED,
    checked,
    dataset,
    facts,
    outcome,
    pairs,
    png,
    quarantine,
    samples,
    whole,
    write,
)

SCHEMA = json.loads((Path(statistics.__file__).parent / "report.schema.json").read_bytes())


def section(page: str, name: str) -> str:
    """One section of the page."""
    (found,) = re.findall(rf'<section id="{name}">.*?</section>', page, flags=re.DOTALL)
    return str(found)


Written = tuple[str, dict[str, Any]]
"""The page, and ``report.json``."""


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Of a small release."""
    return write(facts(), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """Of one that has something in every part."""
    return write(whole(), tmp_path_factory.mktemp("full"))


def images_gate(*outcomes: Outcome) -> list[Verdict]:
    return [Verdict("metadata", (outcome("ids"),)), Verdict("images", outcomes)]


def test_same_facts_same_bytes(full: Written, tmp_path: Path) -> None:
    assert write(whole(), tmp_path) == full


def test_what_comes_from_data_is_escaped(full: Written) -> None:
    page, _ = full
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "<b>radiographs" not in page
    assert "<b>planted" not in page
    assert "<b>Keyword" not in page
    assert "<i>RGB" not in page
    assert "<i>broken" not in page
    assert "&lt;script&gt;" in page


def test_nothing_leaves_the_page(full: Written, tmp_path: Path) -> None:
    page, _ = full
    references = re.findall(r"""(?:src|href|action|data)\s*=\s*["']([^"']*)""", page)
    assert {r for r in references if not r.startswith(("#", "data:"))} == {
        HOMEPAGE,
        "changes.html",
        "data_docs/index.html",
        "report.json",
    }
    assert {r[1:] for r in references if r.startswith("#")} <= set(re.findall(r'id="([a-z0-9]+)"', page))
    assert not re.findall(r"@import|@font-face|url\((?!#)", page)
    assert "default-src 'none'" in page
    scheming, _ = write(facts(dataset=dataset(homepage="javascript:alert(1)")), tmp_path)
    assert 'href="javascript' not in scheming


def test_the_verdict_comes_first_and_how_to_load_it_last(full: Written) -> None:
    page, _ = full
    found = re.findall(r'<(?:section|header) id="([a-z]+)"', page)
    assert found == [
        "summary",
        "accounting",
        "gates",
        "labels",
        "people",
        "images",
        "dicom",
        "worst",
        "sheets",
        "leakage",
        "drift",
        "provenance",
        "open",
    ]


LEAK = outcome("predict-copies-labelled", "warned", 4)


@pytest.mark.parametrize(
    ("changes", "title", "tone"),
    [
        ({}, "Yes", "good"),
        ({"verdicts": images_gate(LEAK)}, "Yes, with care: splits leak", "warn"),
        ({"near_duplicates": pairs()}, "Yes, with care: splits leak", "warn"),
        ({"near_duplicates": pairs()[2:]}, "Yes", "good"),
        ({"verdicts": images_gate(outcome("decodable", "failed", 9))}, "At your own risk", "warn"),
        ({"verdicts": images_gate(outcome("decodable", "failed", 9)), "published": False}, "No", "bad"),
    ],
    ids=["sound", "declared leak", "near-duplicates across splits", "within a split", "overruled", "refused"],
)
def test_the_page_answers_whether_it_may_be_used(changes: dict[str, Any], title: str, tone: str) -> None:
    value = facts(**changes)
    answer = notes.answer(value, notes.of_release(value))
    assert (answer["title"], answer["tone"]) == (title, tone)


def test_what_blocks_is_told_before_what_leaks_and_that_before_what_is_known(tmp_path: Path) -> None:
    known = outcome("follow_up", "known", 3, known_rows=3)
    failed = outcome("decodable", "failed", 9, observed="<b>these")
    value = whole(verdicts=images_gate(known, LEAK, failed))
    found = notes.of_release(value)
    assert [note.kind for note in found[:3]] == ["blocks", "leak", "leak"]
    assert [note.kind for note in found] == sorted((note.kind for note in found), key=notes.KINDS.index)
    assert found[0].text == "Expected: What decodable says. Not so: 9 of 40 (22.5 %), 1 % tolerated."
    assert "Renumbered by the publisher. Here: 3 of 40 (7.50 %)." in [note.text for note in found]
    page, _ = write(value, tmp_path)
    assert page.index("What blocks") < page.index("What to know")
    assert "&lt;b&gt;these" in page


def test_the_sums_stand_on_the_page(plain: Written) -> None:
    page, report = plain
    assert "✓ the sum meets" in page
    assert "Both gates passed, 1 known defect, 1 tolerated" in page
    assert "Renumbered by the publisher." in page
    assert report["accounting"]["members"] == 45
    assert report["quarantine"] == {"blank-frame": 1, "image_missing": 1, "undecodable-image": 1}
    assert report["parameters"]["quality"] is None
    assert [verdict["passed"] for verdict in report["verdicts"]] == [True, True]


def test_a_reason_is_told_in_words_and_by_its_code(plain: Written) -> None:
    kept = section(plain[0], "accounting")
    assert "An image of one grey level all over." in kept
    assert "<code>blank-frame</code>" in kept
    assert "a left-over of an operating system" in kept


def stopped() -> ReportFacts:
    verdict = Verdict("metadata", (outcome("known_labels", "failed", 20, observed="Covid"),))
    metadata = samples().drop(columns=["image_sha256", "bit_depth", "intensity_mean", "width", "source_width"])
    return facts(verdicts=[verdict], published=False, accounting=None, samples=metadata, histograms={}, findings={})


def test_a_refusal_says_why(tmp_path: Path) -> None:
    page, report = write(stopped(), tmp_path)
    assert "Not published: the metadata gate failed" in page
    assert "Seen: Covid" in page
    assert "not run" in page
    assert "Load this release" not in page
    assert report["statistics"]["mean_intensity"] is None


@pytest.mark.parametrize("columns", [[], list(samples().columns)], ids=["no columns", "no rows"])
def test_no_samples_and_no_quarantine(tmp_path: Path, columns: list[str]) -> None:
    empty = facts(samples=samples().head(0)[columns], quarantine=quarantine(()), histograms={}, findings={})
    page, report = write(empty, tmp_path)
    assert "Nothing was refused." in page
    assert report["statistics"]["samples"] == 0


def test_exclusive_labels_have_no_heat_map(tmp_path: Path) -> None:
    page, report = write(facts(dataset=dataset(label_kind="exclusive", group="picture")), tmp_path)
    assert "Classes per split" in page
    assert report["statistics"]["cooccurrence"] is None


def test_labels_are_counted_per_split() -> None:
    described = statistics.describe(dataset(), samples(), {})
    assert described["labels"]["train"]["counts"]["Mass"] == {"present": 10, "absent": 10, "unknown": 0}
    assert described["labels"]["predict"]["counts"]["Mass"] == {"present": 0, "absent": 0, "unknown": 10}
    assert described["cooccurrence"] == [[20, 5], [5, 5]]
    assert described["mean_intensity"]["train"]["median"] == pytest.approx(0.5)
    ages = described["age_years"]["splits"]["train"]
    assert (ages["known"], ages["missing"]) == (18, 2)
    assert sum(cell[2] for cell in described["published_sizes"]["cells"]) == 40


# ---- pictures -------------------------------------------------------------------------------------------------------


def test_the_worst_sample_of_each_image_check_is_shown_first() -> None:
    found = {of.check.name: of.tiles for of in extremes.of_samples(checked(samples()), lambda ids: {})}
    first = {name: (tiles_of[0].name, tiles_of[0].words) for name, tiles_of in found.items()}
    assert first == {
        "darkest": ("s0005", "0.15 % · predict"),
        "brightest": ("s0006", "99.2 % · train"),
        "contrast": ("s0007", "2.00 % · train"),
        "border": ("s0008", "30.0 % · test"),
        "text": ("s0009", "4 lines · predict"),
        "inverted": ("s0039", "flagged · train"),
        "turned": ("s0010", "90° · train"),
    }
    # Where nought is fine, nothing but what was found is shown; elsewhere those that come nearest.
    assert {name: len(tiles_of) for name, tiles_of in found.items() if len(tiles_of) < extremes.SHOWN} == dict.fromkeys(
        ("border", "text", "inverted", "turned"), 1
    )


def test_what_was_not_measured_is_said_and_not_shown_as_fine(plain: Written) -> None:
    page, report = plain
    assert set(report["statistics"]["image_checks"]) == {"darkest", "brightest"}
    assert "Not measured in this release: lowest contrast" in section(page, "worst")
    assert section(page, "leakage").count("Not measured in this release") == 2
    assert section(page, "drift").count("Not compared") == 2
    assert report["near_duplicates"] is None


def test_every_class_of_every_split_is_on_the_contact_sheet() -> None:
    frame = samples(400)
    found = contact_sheet.of_samples(dataset(), frame, lambda ids: {})
    assert [sheet.name for sheet in found] == ["Mass", "Cost_$_a_$", NONE_OF_THEM]
    by_name = frame.set_index("sample_id")
    for sheet in found[:2]:
        assert [part.split for part in sheet.parts] == ["train", "test", "predict"]
        for part in sheet.parts:
            of = by_name[(by_name["split"] == part.split) & (by_name[f"label.{sheet.name}"] == 1)]
            assert part.samples == len(of)
            assert {tile.name for tile in part.tiles} <= set(of.index)
            assert len(part.tiles) == min(len(of), contact_sheet.TILES)
    shown = [tile.name for sheet in found for part in sheet.parts for tile in part.tiles]
    assert len(shown) == len(set(shown))
    unlabelled = frame.assign(**{"label.Mass": None, "label.Cost_$_a_$": None})
    (alone,) = contact_sheet.of_samples(dataset(), unlabelled, lambda ids: {})
    assert alone.name == NO_LABEL


def test_near_duplicates_stand_side_by_side_and_no_sample_twice(full: Written) -> None:
    page, report = full
    leakage = section(page, "leakage")
    assert re.findall(r'<span class="name">(s\d+) · (\w+)</span>', leakage) == [
        ("s0000", "test"),
        ("s0002", "train"),
        ("s0003", "train"),
        ("s0007", "train"),
    ]
    assert "similarity 0.9999, mirrored, turned by 90°; in two splits; labels differ" in leakage
    assert report["near_duplicates"] == {
        "pairs": 3,
        "samples": 5,
        "across_labelled_splits": 2,
        "with_different_labels": 1,
        "turned_or_mirrored": 1,
    }


def test_of_a_restricted_dataset_only_sums_are_shown(tmp_path: Path) -> None:
    page, report = write(whole(dataset=dataset(is_restricted=True)), tmp_path)
    assert "data:image/" not in page
    ids = {str(name) for name in whole().samples["sample_id"]}
    text = page + json.dumps(report)
    assert not ids & set(re.findall(r"s\d{4}", text))
    assert "blank.png" not in text
    assert "Brightest" in section(page, "worst")


def test_a_shift_between_splits_and_since_the_release_before_is_drawn(full: Written, tmp_path: Path) -> None:
    page, report = full
    grey = next(s for s in report["drift"] if s["feature"].startswith("mean grey"))
    assert grey["magnitude"] == "large"
    part = section(page, "drift")
    assert part.count('<svg class="plot"') == 2
    assert "mean grey (share of its range) · test" in part
    assert "Since the release before" in part
    # What depends on the history of the lake is not in the report that the manifest vouches for.
    assert report["drift"] == write(whole(drift_before=(), overlap=None), tmp_path)[1]["drift"]
    assert "beef" not in json.dumps(report)


def test_contact_sheet_is_spread_and_survives_damage() -> None:
    assert contact_sheet.spread(100, 5) == [0, 25, 50, 74, 99]
    assert contact_sheet.spread(3, 24) == [0, 1, 2]
    assert contact_sheet.spread(0, 24) == []
    assert tiles.thumbnail(b"") is None
    assert tiles.thumbnail(GREY_16[:200]) is None
    assert str(tiles.thumbnail(GREY_16)).startswith("data:image/jpeg;base64,")
    found = contact_sheet.of_quarantine(quarantine(REFUSED), lambda places: dict.fromkeys(places))
    assert [(tile.words, tile.picture) for tile in found] == [("blank-frame", None), ("undecodable-image", None)]


def test_a_tile_of_noise_stays_small() -> None:
    noise = png(np.random.default_rng(0).integers(0, 256, (600, 600), dtype=np.uint8))
    whole_size = tiles.thumbnail(noise)
    assert whole_size is not None
    assert len(whole_size) < 20_000


def test_figures_take_their_colours_from_the_page() -> None:
    figure = plots.bars(["#010101", "$x$"], [1, 2], "<x>", 'say "so"')
    assert not re.findall(r"(?:fill|stroke): #", figure)
    assert "$x$" in figure
    assert 'aria-label="say &quot;so&quot;"' in figure


# ---- for machines ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "made",
    [stopped, lambda: facts(samples=samples().head(0)), lambda: facts(samples=pd.DataFrame())],
    ids=["stopped", "no rows", "no columns"],
)
def test_the_report_for_machines_fits_its_schema(made: Callable[[], ReportFacts], tmp_path: Path) -> None:
    Draft202012Validator(SCHEMA).validate(write(made(), tmp_path)[1])


def test_so_does_one_with_something_in_every_part(full: Written) -> None:
    Draft202012Validator(SCHEMA).validate(full[1])


@pytest.mark.parametrize(
    "change",
    [
        {"undocumented": 1},
        {"accounting": {"members": 1}},
        {"format": 2},
        {"statistics": None},
        {"documents": []},
        {"verdicts": [{"gate": "metadata", "passed": True, "outcomes": [{"code": "x"}]}]},
    ],
)
def test_the_schema_refuses_what_it_does_not_describe(change: dict[str, Any], plain: Written) -> None:
    _, report = plain
    assert Draft202012Validator(SCHEMA).is_valid(report)
    assert not Draft202012Validator(SCHEMA).is_valid({**report, **change})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (wording.share(1, 112120), "< 0.01 %"),
        (wording.share(112119, 112120), "> 99.99 %"),
        (wording.share(1, 8), "12.5 %"),
        (wording.share(0, 0), "–"),
        (wording.size(42_100_000_000), "42.1 GB"),
        (wording.size(999_950), "1 MB"),
        (wording.level(0.01), "1 %"),
        (wording.measured(90.0, "degrees"), "90°"),
        (wording.measured(0.02, "share"), "2.00 %"),
    ],
)
def test_numbers_read_well(text: str, expected: str) -> None:
    assert text == expected
