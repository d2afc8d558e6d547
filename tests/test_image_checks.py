"""Image checks: each on images made for it, then all through ``prepare`` on a release with all of them planted."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tasks import orientation
from tasks.demo_release import write_nih_release
from tasks.images import THUMBNAIL_SIDE, convert
from tasks.phantoms import breast, chest, liver
from tasks.schema import ImageRules, Transform
from tests.bench.burned_in_text import GREYS, block, drawn, measure, with_marker, written
from tests.conftest import Prepare, released
from tests.fakes.damage import change_members

Grey = npt.NDArray[np.uint8]


def png(pixels: npt.NDArray[Any]) -> bytes:
    """A PNG file with these pixels."""
    target = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(target, "PNG")
    return target.getvalue()


def facts(pixels: npt.NDArray[Any], **rules: Any) -> dict[str, Any]:
    """What conversion says of an image with these pixels."""
    return convert(png(pixels), Transform(size=None), ImageRules(**rules)).facts


def film(seed: int = 3, side: int = 512) -> Grey:
    """A chest film with its lead letter and no other writing."""
    return chest(np.random.default_rng(seed), side, has_words=False).pixels


def turned(pixels: Grey, quarters: int) -> Grey:
    """The picture turned anticlockwise."""
    return np.asarray(np.rot90(pixels, quarters), np.uint8)


def darkened(pixels: Grey, top: int, bottom: int) -> Grey:
    """The picture with a darker band, for white to be seen on."""
    result = pixels.copy()
    result[top:bottom] //= 8
    return result


def negative(pixels: Grey) -> Grey:
    """Black for white."""
    return np.asarray(255 - pixels, np.uint8)


def deep(pixels: Grey, bits: int) -> npt.NDArray[np.uint16]:
    """The same picture with more grey levels."""
    return np.asarray(np.rint(pixels.astype(np.float64) * (2**bits - 1) / 255), np.uint16)


def padded(pixels: Grey, level: int, **borders: int) -> Grey:
    """The picture in a frame of one level with a little noise."""
    sides = ((borders.get("top", 0), borders.get("bottom", 0)), (borders.get("left", 0), borders.get("right", 0)))
    inside = np.pad(np.ones_like(pixels), sides)
    noise = np.random.default_rng(0).integers(-4, 5, inside.shape)
    frame = np.clip(level + noise, 0, 255).astype(np.uint8)
    return np.where(inside > 0, np.pad(pixels, sides), frame).astype(np.uint8)


def test_shares_of_black_and_white_and_contrast_are_those_of_the_pixels() -> None:
    steps = np.repeat(np.array([0, 12, 13, 128, 243, 255], np.uint8), [10, 10, 40, 20, 15, 5])
    found = facts(np.tile(steps, (10, 1)))
    assert (found["dark_share"], found["bright_share"]) == (0.2, 0.2)
    assert found["contrast"] == 1.0
    # A white letter of half a percent of the area does not make a flat film rich in contrast.
    flat = np.full((100, 100), 90, np.uint8)
    flat[:5, :10] = 255
    assert facts(flat)["contrast"] == 0.0


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_images_are_measured_by_the_white_that_their_detector_has(bits: int) -> None:
    picture = lettered(film(), "DOE^JANE", (30, 40))
    picture[0, 0] = 255
    shallow, found = facts(picture), facts(deep(picture, bits))
    for name in ("dark_share", "bright_share", "contrast"):
        assert found[name] == pytest.approx(shallow[name], abs=0.01)
    assert found["text_regions"] == shallow["text_regions"] == 1


def test_colour_is_judged_by_its_luma() -> None:
    green = np.zeros((40, 40, 3), np.uint8)
    green[..., 1] = 255
    green[:20] = 255
    found = facts(green, channels=(3,))
    assert (found["dark_share"], found["bright_share"]) == (0.0, 0.5)
    assert found["contrast"] == pytest.approx(1 - 0.587, abs=0.01)


BORDERS = {
    "none": {},
    "top": {"top": 40},
    "left and right": {"left": 33, "right": 64},
    "all around": {"top": 1, "right": 20, "bottom": 3, "left": 100},
}


@pytest.mark.parametrize("name", BORDERS)
@pytest.mark.parametrize("level", [0, 250])
def test_a_border_is_measured_to_the_pixel_although_it_is_noisy(name: str, level: int) -> None:
    found = facts(padded(film()[40:-40, 40:-40], level, **BORDERS[name]))
    sides = ("top", "right", "bottom", "left")
    assert {side: found[f"border_{side}"] for side in sides} == {s: BORDERS[name].get(s, 0) for s in sides}


def test_an_image_that_is_nothing_but_border_says_so_once() -> None:
    found = facts(np.full((50, 70), 9, np.uint8))
    assert [found[f"border_{side}"] for side in ("top", "right", "bottom", "left")] == [50, 0, 0, 0]


def lettered(picture: Grey, text: str, place: tuple[int, int], *, grey: str = "white", height: int = 14) -> Grey:
    """The picture with text written on it."""
    cover = block([drawn(line, "DejaVuSans", height) for line in text.split("\n")])
    return written(picture, cover, (*place, cover.shape[1], cover.shape[0]), GREYS[grey])


@pytest.mark.parametrize(
    ("text", "grey", "place", "lines"),
    [
        ("DOE^JANE", "white", (30, 40), 1),
        ("12/03/2021\n14:35:07\nID 00481523", "white", (10, 445), 3),
        ("MRN4471", "black", (200, 250), 1),
        ("NGUYEN", "grey", (5, 470), 1),
    ],
)
def test_names_dates_and_ids_are_text_and_their_place_is_known(
    text: str, grey: str, place: tuple[int, int], lines: int
) -> None:
    picture = film(side=512)
    picture[:80, :180] = picture[440:, :150] = 20
    assert facts(picture)["text_regions"] == 0
    found = facts(lettered(picture, text, place, grey=grey))
    assert found["text_regions"] == lines
    assert 0.001 < found["text_share"] < 0.04
    assert facts(deep(lettered(picture, text, place, grey=grey), 12))["text_regions"] == lines


@pytest.mark.parametrize("frame", [(2, 2, 509, 509), (15, 20, 150, 70)], ids=["of the film", "of the text"])
def test_text_in_a_frame_is_found(frame: tuple[int, int, int, int]) -> None:
    picture = darkened(film(side=512), 0, 80)
    left, top, right, bottom = frame
    cv2.rectangle(picture, (left, top), (right, bottom), 230, 2)
    assert facts(picture)["text_regions"] == 0
    assert facts(lettered(picture, "DOE^JANE", (30, 40)))["text_regions"] == 1


def test_a_side_marker_is_counted_and_is_no_text() -> None:
    rng = np.random.default_rng(4)
    found = [facts(with_marker(rng, film(seed, 1024))) for seed in range(4)]
    assert [f["text_regions"] for f in found] == [0] * 4
    assert sum(f["side_markers"] for f in found) >= 4


def test_a_screen_that_is_blackened_around_the_scan_has_no_text_and_a_whole_one_has() -> None:
    screen = liver(np.random.default_rng(0), steatosis=1, fibrosis=1, side=640).pixels
    assert facts(screen, channels=(3,))["text_regions"] > 3
    assert facts(screen, to_grey=True, hides_outside_scan=True)["text_regions"] == 0


@pytest.mark.parametrize("side", [56, 127])
def test_nothing_is_said_of_writing_on_an_image_that_is_too_small_to_be_read(side: int) -> None:
    found = facts(film(side=side))
    assert [found[name] for name in ("text_regions", "text_share", "side_markers")] == [None] * 3


def test_the_screen_finds_nine_of_ten_texts_and_flags_next_to_nothing() -> None:
    report = measure(seed=5, count=9)
    ((counts,),) = [report["recall"]["all"].values()]
    assert counts["texts"] > 30
    assert counts["found"] >= 0.9 * counts["texts"]
    assert sum(clean["flagged"] for clean in report["clean"].values()) <= 1
    assert report["markers"]["flagged_as_text"] <= 1


def looks(films: list[Grey], view: str = "PA") -> pd.DataFrame:
    """What the others tell of each film."""
    thumbnails = [convert(png(film), Transform(size=None), ImageRules()).thumbnail for film in films]
    stacked = np.frombuffer(b"".join(thumbnails), np.uint8).reshape(-1, THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    views = pd.Series([view] * len(films))
    return orientation.compare(views, views.notna(), stacked.__getitem__)


@pytest.fixture(scope="module")
def films() -> list[Grey]:
    """Sixty chest films."""
    return [film(seed, 64) for seed in range(60)]


def test_turned_films_and_negatives_are_told_by_the_others(films: list[Grey]) -> None:
    spoilt: dict[int, Callable[[Grey], Grey]] = {
        4: lambda f: turned(f, 3),
        17: lambda f: turned(f, 2),
        30: lambda f: turned(f, 1),
        41: negative,
        52: lambda f: negative(turned(f, 2)),
    }
    found = looks([spoilt[number](f) if number in spoilt else f for number, f in enumerate(films)])
    assert found.loc[[4, 17, 30, 52], "looks_turned_degrees"].tolist() == [90, 180, 270, 180]
    assert found.loc[[41, 52], "looks_inverted"].tolist() == [True, True]
    rest = found.drop(index=[4, 17, 30, 41, 52])
    assert set(rest["looks_turned_degrees"]) == {0}
    assert set(rest["looks_inverted"]) == {False}


def test_of_what_looks_like_none_of_the_others_or_of_few_images_nothing_is_said(films: list[Grey]) -> None:
    strange = breast(np.random.default_rng(0), 64)
    found = looks([*films, strange, np.full((64, 64), 7, np.uint8)])
    assert found.iloc[-2:].isna().all(axis=None)
    assert looks(films[: orientation.LEAST_IMAGES - 1]).isna().all(axis=None)
    noise = np.random.default_rng(1).integers(0, 255, (80, 64, 64), np.uint8)
    assert looks(list(noise)).isna().all(axis=None)


PLANTED: dict[str, Callable[[Grey], npt.NDArray[Any]]] = {
    "near-black": lambda f: (f * 0.09).astype(np.uint8),
    "near-white": lambda f: (255 - (255 - f) * 0.3).astype(np.uint8),
    "low-contrast": lambda f: (110 + f * 0.1).astype(np.uint8),
    "wide-border": lambda f: np.pad(f[40:-40, :], ((40, 40), (0, 0))),
    "burned-in-text": lambda f: lettered(darkened(f, 12, 40), "DOE^JANE", (20, 20)),
    "unexpected-bit-depth": lambda f: deep(f, 16),
    "unexpected-size": lambda f: np.ascontiguousarray(f[8:]),
    "inverted": negative,
    "wrong-orientation": lambda f: turned(f, 1),
}
ALSO = {"low-contrast": 1}
"""How many images with another defect have this one too: of what is nearly black the contrast is low."""


@pytest.fixture(scope="module")
def looked_at(prepare: Prepare, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A release of 80 films of 192 pixels, one with each defect, and the sample of each."""
    folder = tmp_path_factory.mktemp("looks") / "raw"
    write_nih_release(folder, images=80, archives=1, side=192, with_defects=False)
    archive = folder / "images_001.zip"
    rows = pd.read_csv(folder / "Data_Entry_2017_v2020.csv")
    # Films without boxes: cutting one off would move them.
    boxed = set(pd.read_csv(folder / "BBox_List_2017.csv")["Image Index"])
    names = [name for name in rows["Image Index"] if name not in boxed]
    planted = {f"images/{name}": code for name, code in zip(names[::3], PLANTED, strict=False)}

    def spoilt(name: str, content: bytes) -> bytes:
        if name not in planted:
            return content
        return png(PLANTED[planted[name]](np.asarray(Image.open(io.BytesIO(content)))))

    change_members(archive, spoilt)
    release = released(prepare, folder, tmp_path_factory.mktemp("looks-lake"))
    shutil.rmtree(folder)
    return release, {code: name.removeprefix("images/").removesuffix(".png") for name, code in planted.items()}


def test_every_planted_look_is_warned_of_and_nothing_is_refused(looked_at: tuple[Path, dict[str, str]]) -> None:
    release, planted = looked_at
    report = json.loads((release / "quality" / "report.json").read_text())
    (gate,) = [verdict for verdict in report["verdicts"] if verdict["gate"] == "images"]
    found = {outcome["code"]: outcome for outcome in gate["outcomes"]}
    for code, sample in planted.items():
        assert found[code]["status"] in ("warned", "known")
        assert sample in found[code]["observed"]
        assert found[code]["failed"] == 1 + ALSO.get(code, 0)
    assert pq.read_metadata(release / "samples.parquet").num_rows == 80


def test_what_was_found_stands_in_the_columns_of_the_sample(looked_at: tuple[Path, dict[str, str]]) -> None:
    release, planted = looked_at
    samples = pq.read_table(release / "samples.parquet").to_pandas().set_index("sample_id")
    of = {code: samples.loc[sample] for code, sample in planted.items()}
    assert of["near-black"]["dark_share"] > 0.3 > of["near-white"]["dark_share"]
    assert of["low-contrast"]["contrast"] < 0.11
    assert (of["wide-border"]["border_top"], of["wide-border"]["border_bottom"]) == (40, 40)
    assert of["burned-in-text"]["text_regions"] == 1
    assert of["unexpected-bit-depth"]["bit_depth"] == 16
    assert of["inverted"]["looks_inverted"]
    assert of["wrong-orientation"]["looks_turned_degrees"] == 270
    assert (samples["looks_turned_degrees"] == 0).sum() >= 75
    assert samples["text_regions"].sum() == 1
