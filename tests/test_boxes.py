"""Boxes: scaled to the stored image, the same in COCO's format, and drawn in the report where they belong."""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image

from tasks import boxes
from tasks.demo_release import BOXES
from tasks.quality import box_sheet
from tasks.quality.contact_sheet import TILES
from tasks.quality.page import ReportFacts, build
from tasks.release.coco import coco
from tasks.schema import QUARANTINE, Dataset, Parsed
from tests.browser import Browser, needs_browser
from tests.conftest import Prepare

NAME = "nih-chest-xray"
SIDE, STORED = 56, 32
"""Longer side of the fake's films, and of what the release below stores; pixels."""

Box = tuple[str, float, float, float, float]


# ---- a release of the fake, reduced ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small(prepare: Prepare, fakes: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of the NIH fake with images of 32 pixels."""
    lake = tmp_path_factory.mktemp("small")
    return lake / NAME / "releases" / str(prepare(NAME, fakes(NAME), lake, size=STORED)["release"])


@pytest.fixture(scope="module")
def expected(fakes: Callable[[str], Path]) -> dict[str, list[Box]]:
    """Sample id to boxes in stored pixels, straight from the published table."""
    found: dict[str, list[Box]] = {}
    with (fakes(NAME) / BOXES).open(newline="") as stream:
        for image, label, x, y, w, h in list(csv.reader(stream))[1:]:
            numbers = (float(number) * STORED / SIDE for number in (x, y, w, h))
            name = {"Infiltrate": "Infiltration"}.get(label, label)
            found.setdefault(image.removesuffix(".png"), []).append((name, *numbers))  # type: ignore[arg-type]
    return found


@pytest.fixture(scope="module")
def annotated(small: Path) -> dict[str, Any]:
    """The COCO file of the release."""
    value: dict[str, Any] = json.loads((small / "boxes.coco.json").read_bytes())
    return value


def as_boxes(cell: Any) -> list[Box]:
    return [(box["label"], box["x"], box["y"], box["w"], box["h"]) for box in cell]


def assert_same(found: Mapping[str, list[Box]], expected: Mapping[str, list[Box]], tolerance: float = 1e-9) -> None:
    assert set(found) == set(expected)
    for name, of_sample in expected.items():
        assert [box[0] for box in found[name]] == [box[0] for box in of_sample]
        for one, other in zip(found[name], of_sample, strict=True):
            assert one[1:] == pytest.approx(other[1:], abs=tolerance)


def test_scaled_boxes_are_the_published_ones_in_stored_pixels(small: Path, expected: dict[str, list[Box]]) -> None:
    samples = pd.read_parquet(small / "samples.parquet").set_index("sample_id")
    assert set(samples["width"]) == {STORED}
    boxed = samples[samples["boxes_scaled"].notna()]
    assert 0 < len(boxed) < len(samples)
    assert list(boxed.index) == list(samples.index[samples["boxes"].notna()])
    assert_same({str(name): as_boxes(cell) for name, cell in boxed["boxes_scaled"].items()}, expected)
    in_published = {name: [(b[0], *(v * SIDE / STORED for v in b[1:])) for b in of] for name, of in expected.items()}
    assert_same({str(name): as_boxes(cell) for name, cell in boxed["boxes"].items()}, in_published)  # type: ignore[arg-type]


def test_both_stores_have_the_scaled_boxes(small: Path, expected: dict[str, list[Box]]) -> None:
    in_tars: dict[str, list[Box]] = {}
    in_parquet: dict[str, list[Box]] = {}
    for path in small.glob("webdataset/*/*.tar"):
        with tarfile.open(path) as opened:
            sidecars = [opened.extractfile(entry) for entry in opened.getmembers()[1::2]]
            rows = [json.load(sidecar) for sidecar in sidecars if sidecar is not None]
        in_tars |= {row["sample_id"]: as_boxes(row["boxes_scaled"]) for row in rows if row["boxes_scaled"]}
    for path in small.glob("parquet/*/*.parquet"):
        shard = pd.read_parquet(path, columns=["sample_id", "boxes_scaled"]).dropna()
        in_parquet |= {name: as_boxes(cell) for name, cell in shard.itertuples(index=False, name=None)}
    assert_same(in_tars, expected)
    assert_same(in_parquet, expected)


def test_a_sample_without_boxes_stays_null_and_a_number_without_value_too() -> None:
    box = {"label": "Mass", "x": 8.0, "y": 8.0, "w": None, "h": float("nan")}
    frame = pd.DataFrame({"boxes": [None, [box]], "width": 50, "source_width": 100, "height": 20, "source_height": 80})
    empty, filled = boxes.scaled(frame)
    assert pd.isna(empty)
    assert filled == [{"label": "Mass", "x": 4.0, "y": 2.0, "w": None, "h": None}]
    assert boxes.with_area(boxes.one_per_row(pd.DataFrame({"boxes": [filled]}), "boxes")).empty


# ---- COCO -----------------------------------------------------------------------------------------------------------


def test_coco_names_the_boxed_images_as_the_tars_do(small: Path, annotated: dict[str, Any]) -> None:
    samples = pd.read_parquet(small / "samples.parquet").set_index("sample_id")
    images = annotated["images"]
    assert [image["id"] for image in images] == list(range(1, len(images) + 1))
    ids = [image["sample_id"] for image in images]
    assert ids == sorted(samples.index[samples["boxes"].notna()])
    for image in images:
        sample = samples.loc[image["sample_id"]]
        assert image["file_name"] == f"{image['sample_id']}.png"
        assert [image[key] for key in ("width", "height", "split", "shard")] == [
            sample[key] for key in ("width", "height", "split", "shard")
        ]


def test_coco_boxes_are_the_published_ones(
    annotated: dict[str, Any], expected: dict[str, list[Box]], small: Path
) -> None:
    names = {category["id"]: category["name"] for category in annotated["categories"]}
    images = {image["id"]: image for image in annotated["images"]}
    annotations = annotated["annotations"]
    assert len(names) == len(annotated["categories"])
    assert [annotation["id"] for annotation in annotations] == list(range(1, len(annotations) + 1))
    found: dict[str, list[Box]] = {}
    for annotation in annotations:
        x, y, w, h = annotation["bbox"]
        image = images[annotation["image_id"]]
        assert x >= 0
        assert y >= 0
        assert x + w <= image["width"] + 1e-9
        assert y + h <= image["height"] + 1e-9
        assert annotation["area"] == pytest.approx(w * h)
        assert (annotation["iscrowd"], annotation["segmentation"]) == (0, [])
        found.setdefault(image["sample_id"], []).append((names[annotation["category_id"]], x, y, w, h))
    assert_same(found, expected)
    columns = pd.read_parquet(small / "samples.parquet").columns
    labels = [name.removeprefix("label.") for name in columns if name.startswith("label.")]
    assert list(names.items()) == list(enumerate(labels, 1))


def test_coco_is_in_the_manifest(small: Path) -> None:
    manifest = json.loads((small / "manifest.json").read_bytes())
    assert "boxes.coco.json" in {entry["path"] for entry in manifest["files"]}
    assert "`boxes_scaled`" in (small / "README.md").read_text()
    described = json.loads((small / "croissant.json").read_bytes())
    fields = {field["@id"] for records in described["recordSet"] for field in records["field"]}
    assert {"samples/boxes", "samples/boxes_scaled", "images/boxes_scaled"} <= fields
    assert "boxes.coco.json" in {node.get("contentUrl") for node in described["distribution"]}


# ---- the report -----------------------------------------------------------------------------------------------------


class Overlays(HTMLParser):
    """Reads the drawn boxes of a report: sample name to the marks (label unknown, x, y, w, h) and to the names."""

    def __init__(self) -> None:
        super().__init__()
        self.alts: list[str] = []
        self.views: list[tuple[float, ...]] = []
        self.marks: list[list[tuple[float, ...]]] = []
        self.names: list[list[str]] = []
        self._is_over = self._is_name = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "img":
            self.alts.append(found["alt"])
        if tag == "svg":
            self._is_over = found.get("class") == "overlay"
        if not self._is_over:
            return
        if tag == "svg":
            self.views.append(tuple(float(n) for n in found["viewbox"].split()))
            self.marks.append([])
            self.names.append([])
        elif tag == "rect" and found["class"] == "mark":
            self.marks[-1].append(tuple(float(found[name]) for name in ("x", "y", "width", "height")))
        self._is_name = tag == "text"

    def handle_endtag(self, tag: str) -> None:
        self._is_over = self._is_over and tag != "svg"

    def handle_data(self, data: str) -> None:
        if self._is_name and self._is_over and data.strip():
            self.names[-1].append(data)


def section_of(page: str) -> str:
    """The section of boxes, as text."""
    (section,) = re.findall(r'<section id="boxes">.*?</section>', page, flags=re.DOTALL)
    return str(section)


def test_the_report_draws_each_box_where_coco_says(small: Path, annotated: dict[str, Any]) -> None:
    page = (small / "quality" / "index.html").read_text("utf-8")
    assert '<a href="#boxes">' in page
    drawn = Overlays()
    drawn.feed(section_of(page))
    ids = [alt.split(",")[0] for alt in drawn.alts]
    images = {image["sample_id"]: image["id"] for image in annotated["images"]}
    labels = {category["id"]: category["name"].replace("_", " ") for category in annotated["categories"]}
    assert len(ids) == len(set(ids)) == min(TILES, len(images))
    for name, view, marks, names in zip(ids, drawn.views, drawn.marks, drawn.names, strict=True):
        of_image = [a for a in annotated["annotations"] if a["image_id"] == images[name]]
        assert view == (0, 0, STORED, STORED)
        assert names == [labels[a["category_id"]] for a in of_image]
        for mark, annotation in zip(marks, of_image, strict=True):
            assert mark == pytest.approx(annotation["bbox"], abs=0.001)
    boxed = {labels[annotation["category_id"]] for annotation in annotated["annotations"]}
    assert {name for names in drawn.names for name in names} == boxed


def test_the_report_counts_boxes(small: Path, expected: dict[str, list[Box]]) -> None:
    report = json.loads((small / "quality" / "report.json").read_bytes())["statistics"]["boxes"]
    samples = pd.read_parquet(small / "samples.parquet").set_index("sample_id")
    assert report["boxes"] == sum(map(len, expected.values()))
    assert report["samples"] == len(expected)
    split_of = samples["split"]
    for split, counted in report["splits"].items():
        inside = [of for name, of in expected.items() if split_of[name] == split]
        assert counted == {"samples": len(inside), "boxes": sum(map(len, inside))}
    for label, counts in report["labels"].items():
        assert sum(counts.values()) == sum(box[0] == label for of in expected.values() for box in of)
    assert set(report["labels"]) == {box[0] for of in expected.values() for box in of}


# ---- pictures made for the purpose ----------------------------------------------------------------------------------

HOSTILE = "<b>Mass</b>\"'&"


def made_up(**changes: Any) -> Dataset:
    """A declaration with boxes and two labels."""
    values: dict[str, Any] = {
        "name": "made-up",
        "version": "1",
        "title": "Squares",
        "summary": "White squares on black.",
        "sources": (),
        "licence": "CC0-1.0",
        "citation": "Nobody, 2024",
        "homepage": "https://example.org/squares",
        "published": "2024",
        "members": (),
        "tables": (),
        "parse": lambda tables: Parsed(pd.DataFrame()),
        "labels": {"Mass": "a mass", "Nodule": "a nodule"},
        "label_kind": "multiple",
        "splits": ("train", "test"),
        "labelled_splits": ("train", "test"),
        "group": "patient",
        "has_boxes": True,
    }
    return Dataset(**values | changes)


def table_of(cells: list[Any], width: int = 100, height: int = 60) -> pd.DataFrame:
    """A sample table with these boxes."""
    return pd.DataFrame(
        {
            "sample_id": [f"s{number:03d}" for number in range(len(cells))],
            "split": "test",
            "shard": "test/000000",
            "patient_id": "p",
            "boxes": cells,
            "boxes_scaled": cells,
            "width": width,
            "height": height,
            "image_sha256": "0" * 64,
        }
    )


def box_of(label: str, x: float = 10, y: float = 20, w: float = 30, h: float = 15) -> dict[str, Any]:
    return {"label": label, "x": x, "y": y, "w": w, "h": h}


def square(width: int, height: int, box: dict[str, Any]) -> bytes:
    """A black PNG that is white inside the box."""
    pixels = np.zeros((height, width), np.uint8)
    x, y, w, h = (int(box[name]) for name in "xywh")
    pixels[y : y + h, x : x + w] = 255
    target = io.BytesIO()
    Image.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


def page_of(dataset: Dataset, samples: pd.DataFrame, picture: bytes, folder: Path) -> str:
    """The report of a made-up release whose samples all have the same picture."""
    facts = ReportFacts(
        dataset=dataset,
        release="0123abcd",
        parameters={},
        inputs=(),
        verdicts=(),
        accounting=None,
        samples=samples,
        quarantine=pd.DataFrame(columns=[field.name for field in QUARANTINE]),
        histograms={},
        findings={},
        published=True,
        has_data_docs=False,
    )
    build(facts, folder, images=lambda ids: dict.fromkeys(ids, picture), refused=lambda places: {})
    return (folder / "index.html").read_text("utf-8")


def test_every_boxed_label_is_shown_and_no_sample_twice() -> None:
    cells = [[box_of("Mass")] if number % 50 else [box_of("Mass"), box_of("Nodule")] for number in range(100)]
    found = boxes.one_per_row(table_of(cells), "boxes")
    chosen = box_sheet.choose(found, ["Mass", "Nodule"])
    assert len(chosen) == len(set(chosen)) == TILES
    assert {0, 50} <= set(chosen)
    assert max(chosen) == 99
    assert box_sheet.choose(found[found["position"] < 3], ["Mass", "Nodule"]) == [0, 1, 2]


def test_labels_that_share_a_colour_differ_in_stroke() -> None:
    looks = box_sheet.looks_of([f"label {number}" for number in range(16)])
    assert len(set(looks.values())) == 16


def test_names_stay_on_the_picture_and_apart(tmp_path: Path) -> None:
    cells = [[box_of("Mass", 0, 0, 20, 10), box_of("Nodule", 0, 0, 22, 12), box_of("Mass", 90, 50, 10, 10)]]
    sheet = box_sheet.of_boxes(made_up(), table_of(cells), lambda ids: {})
    assert sheet is not None
    (tile,) = sheet.tiles
    assert tile.picture is None
    first, second, last = tile.marks
    length = box_sheet.LETTER_WIDTH * tile.font_size
    assert abs(first.name_y - second.name_y) > tile.font_size
    assert last.name_x + length * len("Mass") <= tile.width
    assert all(tile.font_size <= mark.name_y <= tile.height for mark in tile.marks)


def test_what_a_box_says_is_escaped(tmp_path: Path) -> None:
    page = page_of(made_up(), table_of([[box_of(HOSTILE)]]), square(100, 60, box_of("Mass")), tmp_path)
    section = section_of(page)
    assert "<b>Mass" not in section
    assert section.count("&lt;b&gt;Mass") >= 2
    drawn = Overlays()
    drawn.feed(section)
    assert "".join(drawn.names[0]) == HOSTILE


@pytest.mark.parametrize(
    "cells", [[None, None], [[], []], [[box_of("Mass", w=0)], None]], ids=["null", "empty", "flat"]
)
def test_without_a_box_there_is_no_section_and_no_file(cells: list[Any], tmp_path: Path) -> None:
    page = page_of(made_up(), table_of(cells), square(100, 60, box_of("Mass")), tmp_path)
    assert "#boxes" not in page
    assert 'id="boxes"' not in page
    assert coco(made_up(), "0123abcd", table_of(cells), "png") is None
    assert coco(made_up(has_boxes=False), "0123abcd", table_of([[box_of("Mass")]]), "png") is None


def test_coco_is_the_same_bytes_whatever_the_order_and_keeps_labels_of_boxes_alone() -> None:
    samples = table_of([[box_of("Nodule"), box_of("Scar")], None, [box_of("Mass")]])
    value = coco(made_up(), "0123abcd", samples, "jpg")
    assert value is not None
    assert value == coco(made_up(), "0123abcd", samples.iloc[::-1], "jpg")
    read = json.loads(value)
    assert [category["name"] for category in read["categories"]] == ["Mass", "Nodule", "Scar"]
    assert [image["file_name"] for image in read["images"]] == ["s000.jpg", "s002.jpg"]
    assert [(a["image_id"], a["category_id"]) for a in read["annotations"]] == [(1, 2), (1, 3), (2, 1)]


def bounds(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the pixels that are set; the last two lie outside."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One for all tests of this module."""
    opened = Browser()
    yield opened
    opened.close()


@needs_browser
@pytest.mark.parametrize("window", [1400, 420])
@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((224, 224), box_of("Mass", 40, 90, 96, 48)),
        ((96, 64), box_of("Mass", 16, 24, 32, 24)),
        ((600, 1024), box_of("Mass", 300, 520, 200, 400)),
    ],
    ids=["square", "small and wide", "large and tall"],
)
def test_the_drawn_box_surrounds_what_it_marks(
    size: tuple[int, int], box: dict[str, Any], window: int, browser: Browser, tmp_path: Path
) -> None:
    page = page_of(made_up(), table_of([[box]], *size), square(*size, box), tmp_path)
    # Nothing but the one picture and the stroke of its box, in a colour that neither film nor page has.
    alone = "header, footer, section:not(#boxes), #boxes > :not(.beside), .beside > .card, .overlay text, .casing, "
    alone += ".sheet span { display: none !important } nav { visibility: hidden } * { background: #000 !important } "
    alone += ".overlay { background: none !important } .mark { stroke: #f0f !important }"
    (tmp_path / "alone.html").write_text(page.replace("</style>", f"{alone}</style>"), "utf-8")
    pixels = browser.drawn(tmp_path / "alone.html", window).astype(int)
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    drawn = bounds((red > 150) & (blue > 150) & (green < 100))
    # The stroke of 2 px lies on the edge, so half of it is inside: the white that is left ends one pixel earlier.
    marked = bounds((red > 150) & (green > 150) & (blue > 150))
    assert marked[2] - marked[0] > 20
    for outer, inner, outwards in zip(drawn, marked, (-1, -1, 1, 1), strict=True):
        assert abs(outer - (inner + 2 * outwards)) <= 2
