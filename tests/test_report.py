"""The data-quality report: what it counts, that it is harmless, self-contained and the same every time."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tasks.quality import contact_sheet, plots, statistics, wording
from tasks.quality.page import ReportFacts, build
from tasks.schema import QUARANTINE, Accounting, Dataset, Known, Outcome, Parsed, TableCount, Verdict

NASTY = "images/<script>alert('x')</script>.png"
HOMEPAGE = "https://example.org/dataset"


def dataset(**changes: Any) -> Dataset:
    value = Dataset(
        name="made-up",
        version="1",
        title="Made-up <b>radiographs</b>",
        summary="Nobody’s chest.",
        sources=(),
        licence="CC0",
        citation="Nobody, 2024",
        homepage=HOMEPAGE,
        published="2024",
        members=(),
        tables=(),
        parse=lambda tables: Parsed(pd.DataFrame()),
        labels={"Mass": "a mass", "Cost_$_a_$": "no mathematics"},
        label_kind="multiple",
        splits=("train", "test", "predict"),
        labelled_splits=("train", "test"),
        group="patient",
        known=(Known("follow_up", 3, "Renumbered by the publisher.", "counted"),),
    )
    return dataclasses.replace(value, **changes)


def samples(count: int = 40) -> pd.DataFrame:
    numbers = np.arange(count)
    split = np.where(numbers % 4 == 0, "test", np.where(numbers % 4 == 1, "predict", "train"))
    is_labelled = split != "predict"
    return pd.DataFrame(
        {
            "sample_id": [f"s{n:04d}" for n in numbers],
            "patient_id": [f"p{n // 3}" for n in numbers],
            "split": split,
            "age_years": np.where(numbers % 10 == 0, np.nan, 20.0 + numbers),
            "sex": pd.Series(["F", "M", None, "F"] * (count // 4), dtype="object"),
            "label.Mass": pd.array(np.where(numbers % 2 == 0, 1, 0), dtype="Int8"),
            "label.Cost_$_a_$": pd.array([1 if n % 8 == 0 else 0 for n in numbers], dtype="Int8"),
            "source_width": 1024 + numbers,
            "source_height": 1000,
            "width": 64,
            "height": 60,
            "bit_depth": 16,
            "image_bytes": 1000,
            "image_sha256": "0" * 64,
            "intensity_mean": 65535.0 / 2,
        }
    ).assign(**{"label.Mass": lambda frame: frame["label.Mass"].where(is_labelled)})


def quarantine(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), columns=[field.name for field in QUARANTINE])


REFUSED = (
    {
        "archive": "a.zip",
        "member": NASTY,
        "offset": 0,
        "stage": "convert",
        "reason": "undecodable",
        "detail": "<i>broken",
    },
    {
        "archive": "a.zip",
        "member": "blank.png",
        "offset": 9,
        "table": "labels",
        "row": 4,
        "stage": "images",
        "reason": "blank",
    },
    {"table": "labels", "row": 5, "stage": "metadata", "reason": "image_missing"},
)


def outcome(code: str, status: Any = "passed", failed: int = 0, **others: Any) -> Outcome:
    return Outcome("metadata", code, f"What {code} says.", "error", 0.01, 40, failed, status, **others)


def facts(**changes: Any) -> ReportFacts:
    metadata = (outcome("ids"), outcome("follow_up", "known", 3, known_rows=3, observed="<img src=x>"))
    value = ReportFacts(
        dataset=dataset(),
        release="0123abcd",
        parameters={"size": 64, "encoding": "png", "stores": ["parquet", "webdataset"], "quality": float("nan")},
        inputs=[{"name": "a\udcff.zip", "bytes": 12, "sha256": "ab" * 32}],
        verdicts=[Verdict("metadata", metadata), Verdict("images", (outcome("decodable", "tolerated", 1),))],
        accounting=Accounting(45, 40, 2, {"table": 3}, (TableCount("labels", 42, 40, 2),), {}),
        samples=samples(),
        quarantine=quarantine(REFUSED),
        histograms={"train": [5] * 64, "test": [900] + [1] * 63},
        findings={"repeats": {"value": 2, "sentence": "samples that repeat a picture"}},
        published=True,
        has_data_docs=True,
    )
    return dataclasses.replace(value, **changes)


def png(array: np.ndarray) -> bytes:
    target = io.BytesIO()
    Image.fromarray(array).save(target, "PNG")
    return target.getvalue()


GREY_16 = png(np.linspace(0, 4095, 64 * 60).reshape(60, 64).astype(np.uint16))


def write(value: ReportFacts, folder: Path) -> tuple[str, dict[str, Any]]:
    refused = {("a.zip", NASTY, 0): b"\x89PNG\r\n\x1a\nbroken", ("a.zip", "blank.png", 9): GREY_16}
    build(
        value,
        folder,
        images=lambda ids: dict.fromkeys(ids, GREY_16),
        refused=lambda places: {place: refused.get(place) for place in places},
    )
    return (folder / "index.html").read_text("utf-8"), json.loads((folder / "report.json").read_text("utf-8"))


def test_same_facts_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write(facts(), tmp_path / name)
    for file in ("index.html", "report.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_what_comes_from_data_is_escaped(tmp_path: Path) -> None:
    page, _ = write(facts(), tmp_path)
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "<b>radiographs" not in page
    assert "<i>broken" not in page
    assert "&lt;script&gt;" in page


def test_nothing_leaves_the_page(tmp_path: Path) -> None:
    page, _ = write(facts(), tmp_path)
    references = re.findall(r"""(?:src|href|action|data)\s*=\s*["']([^"']*)""", page)
    assert {r for r in references if not r.startswith(("#", "data:"))} == {
        HOMEPAGE,
        "changes.html",
        "data_docs/index.html",
        "report.json",
    }
    assert not re.findall(r"@import|@font-face|url\((?!#)", page)
    assert "default-src 'none'" in page
    scheming, _ = write(facts(dataset=dataset(homepage="javascript:alert(1)")), tmp_path)
    assert 'href="javascript' not in scheming


def test_the_sums_stand_on_the_page(tmp_path: Path) -> None:
    page, report = write(facts(), tmp_path)
    assert "✓ the sum meets" in page
    assert "Both gates passed, 1 known defect, 1 tolerated" in page
    assert "Renumbered by the publisher." in page
    assert report["accounting"]["members"] == 45
    assert report["quarantine"] == {"blank": 1, "image_missing": 1, "undecodable": 1}
    assert report["parameters"]["quality"] is None
    assert [verdict["passed"] for verdict in report["verdicts"]] == [True, True]


def test_a_refusal_says_why(tmp_path: Path) -> None:
    verdict = Verdict("metadata", (outcome("known_labels", "failed", 20, observed="Covid"),))
    metadata = samples().drop(columns=["image_sha256", "bit_depth", "intensity_mean", "width", "source_width"])
    stopped = facts(verdicts=[verdict], published=False, accounting=None, samples=metadata, histograms={}, findings={})
    page, report = write(stopped, tmp_path)
    assert "Not published: the metadata gate failed" in page
    assert "Seen: Covid" in page
    assert "not run" in page
    assert "Open this release" not in page
    assert report["statistics"]["mean_intensity"] is None


@pytest.mark.parametrize("columns", [[], list(samples().columns)], ids=["no columns", "no rows"])
def test_no_samples_and_no_quarantine(tmp_path: Path, columns: list[str]) -> None:
    empty = facts(samples=samples().head(0)[columns], quarantine=quarantine(()), histograms={}, findings={})
    page, report = write(empty, tmp_path)
    assert "Nothing was refused." in page
    assert report["statistics"]["samples"] == 0


def test_exclusive_labels_have_no_heat_map(tmp_path: Path) -> None:
    page, report = write(facts(dataset=dataset(label_kind="exclusive", group="pixels")), tmp_path)
    assert "Classes per split" in page
    assert report["statistics"]["cooccurrence"] is None


def test_labels_are_counted_per_split() -> None:
    described = statistics.describe(dataset(), samples(), {})
    assert described["labels"]["train"]["counts"]["Mass"] == {"present": 10, "absent": 10, "unknown": 0}
    assert described["labels"]["predict"]["counts"]["Mass"] == {"present": 0, "absent": 0, "unknown": 10}
    assert described["cooccurrence"] == [[20, 5], [5, 5]]
    assert described["mean_intensity"]["train"]["median"] == pytest.approx(0.5)
    assert described["age_years"]["splits"]["train"] == {
        **described["age_years"]["splits"]["train"],
        "known": 18,
        "missing": 2,
    }
    assert sum(cell[2] for cell in described["published_sizes"]["cells"]) == 40


def test_contact_sheet_is_spread_and_survives_damage() -> None:
    assert contact_sheet.spread(100, 5) == [0, 25, 50, 74, 99]
    assert contact_sheet.spread(3, 24) == [0, 1, 2]
    assert contact_sheet.spread(0, 24) == []
    assert contact_sheet.thumbnail(b"") is None
    assert contact_sheet.thumbnail(GREY_16[:200]) is None
    assert str(contact_sheet.thumbnail(GREY_16)).startswith("data:image/jpeg;base64,")
    tiles = contact_sheet.of_quarantine(quarantine(REFUSED), lambda places: dict.fromkeys(places))
    assert [(tile.words, tile.picture) for tile in tiles] == [("blank", None), ("undecodable", None)]


def test_figures_take_their_colours_from_the_page() -> None:
    figure = plots.bars(["#010101", "$x$"], [1, 2], "<x>", 'say "so"')
    assert not re.findall(r"(?:fill|stroke): #", figure)
    assert "$x$" in figure
    assert 'aria-label="say &quot;so&quot;"' in figure


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
    ],
)
def test_numbers_read_well(text: str, expected: str) -> None:
    assert text == expected
