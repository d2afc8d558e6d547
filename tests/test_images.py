"""What conversion keeps, and what it refuses: one file in, exactly its pixels out, or a reason."""

from __future__ import annotations

import io
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tasks import decoding
from tasks.decoding import ImageRefused
from tasks.encoding import encode
from tasks.images import HISTOGRAM_BINS, convert
from tasks.reduction import reduced
from tasks.schema import IMAGE_COLUMNS, ImageRules, Transform

AS_IT_IS = Transform(size=None)
RNG = np.random.default_rng(7)
GREY = RNG.integers(0, 256, (20, 30), dtype=np.uint8)
COLOUR = RNG.integers(0, 256, (20, 30, 3), dtype=np.uint8)
DEEP = RNG.integers(0, 65536, (20, 30), dtype=np.uint16)
THREE_GREYS = np.dstack([GREY] * 3)
OPAQUE = np.full_like(GREY, 255)
ORIENTATION = 0x0112


def file_of(pixels: npt.NDArray[Any], kind: str = "PNG", mode: str | None = None, **options: Any) -> bytes:
    """An image file with these pixels; ``mode`` converts them first, palettes and bits included."""
    image = Image.fromarray(pixels)
    target = io.BytesIO()
    (image.convert(mode) if mode else image).save(target, kind, **options)
    return target.getvalue()


def decoded(data: bytes) -> npt.NDArray[Any]:
    """What Pillow, which scanmill does not encode with, reads from stored bytes."""
    return np.asarray(Image.open(io.BytesIO(data)))


def exif(orientation: int) -> Image.Exif:
    """EXIF that says how the camera was held."""
    value = Image.Exif()
    value[ORIENTATION] = orientation
    return value


KEPT = {
    "grey": (file_of(GREY), GREY, ""),
    "equal channels": (file_of(THREE_GREYS), GREY, "equal channels to grey; "),
    "colour": (file_of(COLOUR), COLOUR, ""),
    "opaque alpha over equal channels": (
        file_of(np.dstack([THREE_GREYS, OPAQUE])),
        GREY,
        "opaque alpha dropped; equal channels to grey; ",
    ),
    "opaque alpha over colour": (file_of(np.dstack([COLOUR, OPAQUE])), COLOUR, "opaque alpha dropped; "),
    "opaque alpha over grey": (file_of(np.dstack([GREY, OPAQUE])), GREY, "opaque alpha dropped; "),
    "grey palette": (file_of(GREY, mode="P"), GREY, "palette to rgb; equal channels to grey; "),
    "one bit": (file_of(GREY > 99), np.where(GREY > 99, 255, 0), "1 bit to 8; "),
    "16 bits of grey": (file_of(DEEP), DEEP, ""),
}


@pytest.mark.parametrize("name", KEPT)
def test_pixels_come_out_as_they_went_in(name: str) -> None:
    data, expected, steps = KEPT[name]
    converted = convert(data, AS_IT_IS, ImageRules(channels=(1, 3)))
    stored = decoded(converted.encoded)
    np.testing.assert_array_equal(stored, expected)
    assert converted.facts["bit_depth"] == (16 if expected.dtype == np.uint16 else 8)
    assert converted.facts["channels"] == (1 if expected.ndim == 2 else 3)
    assert converted.facts["transform"] == (f"{steps}png" if steps else "original bytes")
    assert converted.is_original == (converted.encoded == data) == (not steps)


@pytest.mark.parametrize(
    ("data", "transform"),
    [
        (file_of(GREY, "JPEG"), AS_IT_IS),
        (file_of(GREY), Transform(size=None, encoding="jpeg")),
        (file_of(GREY), Transform(size=64)),
    ],
    ids=["another format is wanted", "jpeg is wanted", "a size is wanted"],
)
def test_bytes_are_kept_at_native_size_and_in_the_wanted_format_only(data: bytes, transform: Transform) -> None:
    converted = convert(data, transform, ImageRules())
    assert not converted.is_original
    assert converted.encoded != data
    assert converted.facts["transform"] == transform.encoding


NOISE = file_of(RNG.integers(0, 256, (64, 64), dtype=np.uint8))
REFUSED = {
    "no bytes": (b"", "empty-file"),
    "a web page": (b"<html><body>404 Not Found</body></html>", "not-an-image"),
    "a format that no dataset publishes": (file_of(GREY, "BMP"), "not-an-image"),
    "half a PNG": (NOISE[: len(NOISE) // 2], "truncated-image"),
    "half a JPEG": (file_of(GREY, "JPEG")[:-200], "truncated-image"),
    "see-through over colour": (file_of(np.dstack([COLOUR, GREY])), "alpha-channel"),
    "see-through over grey": (file_of(np.dstack([GREY, GREY])), "alpha-channel"),
    "a transparent grey": (file_of(GREY, transparency=int(GREY[0, 0])), "alpha-channel"),
    "a transparent palette entry": (file_of(GREY, mode="P", transparency=int(GREY[0, 0])), "alpha-channel"),
    "a transparent bit": (file_of(GREY > 99, transparency=0), "alpha-channel"),
    "a transparent 16-bit grey": (file_of(DEEP, transparency=int(DEEP[0, 0])), "alpha-channel"),
    "16 bits of colour": (cv2.imencode(".png", np.dstack([DEEP] * 3))[1].tobytes(), "unsupported-mode"),
    "printer's colours": (file_of(np.dstack([COLOUR, GREY]), "JPEG", "CMYK"), "unsupported-mode"),
    "an animation": (
        file_of(GREY, save_all=True, append_images=[Image.fromarray(GREY // 2)]),
        "unsupported-mode",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_whole_is_refused_with_its_reason(name: str) -> None:
    data, reason = REFUSED[name]
    with pytest.raises(ImageRefused) as refusal:
        convert(data, AS_IT_IS, ImageRules(channels=(1, 3)))
    assert refusal.value.args[0] == reason


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_file_cut_anywhere_is_refused_or_complete_but_never_painted(kind: str) -> None:
    whole = file_of(GREY, kind)
    expected = decoded(convert(whole, AS_IT_IS, ImageRules()).encoded)
    refused = 0
    for length in range(len(whole)):
        try:
            converted = convert(whole[:length], AS_IT_IS, ImageRules())
        except ImageRefused:
            refused += 1
        else:
            np.testing.assert_array_equal(decoded(converted.encoded), expected)
    # Only the end mark may be missing without loss.
    assert refused >= len(whole) - 20


def in_the_words_of_pillow(data: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, ...]:
    """Mode, pixels and steps, or the reason of the refusal, where no faster decoder has a say."""
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "_by_kornia", lambda data, limits: None)
        return outcome(data)


def outcome(data: bytes) -> tuple[Any, ...]:
    try:
        mode, pixels, steps = decoding.decode(data)
    except ImageRefused as refusal:
        return (refusal.args[0],)
    return mode, pixels.dtype, pixels.shape, pixels.tobytes(), steps


SMOOTH = cv2.GaussianBlur(RNG.integers(0, 256, (37, 53, 3), dtype=np.uint8), (0, 0), 2)
ANY_FORM = {
    "grey": file_of(SMOOTH[..., 0]),
    "grey, every filter": file_of(SMOOTH[..., 1], optimize=True),
    "colour": file_of(SMOOTH),
    "16 bits": file_of(SMOOTH[..., 2].astype(np.uint16) * 201),
    "by another hand": cv2.imencode(".png", SMOOTH)[1].tobytes(),
    "palette": file_of(SMOOTH, mode="P"),
    "bits": file_of(SMOOTH[..., 0] > 99),
    "alpha": file_of(np.dstack([SMOOTH, np.full(SMOOTH.shape[:2], 255, np.uint8)])),
    "turned by Exif": file_of(SMOOTH, exif=exif(6)),
    "grey JPEG": file_of(SMOOTH[..., 0], "JPEG", quality=100),
    "progressive JPEG": file_of(SMOOTH[..., 0], "JPEG", progressive=True),
    "colour JPEG, 4:2:0": file_of(SMOOTH, "JPEG"),
    "colour JPEG, 4:4:4, restarts": file_of(SMOOTH, "JPEG", subsampling=0, restart_marker_blocks=2),
    "JPEG that keeps RGB": file_of(SMOOTH, "JPEG", keep_rgb=True),
    "JPEG turned by Exif": file_of(SMOOTH, "JPEG", exif=exif(3)),
    "JPEG with a comment": file_of(SMOOTH, "JPEG", comment=b"left"),
    "printer's colours": file_of(np.dstack([SMOOTH, SMOOTH[..., 0]]), "JPEG", "CMYK"),
}


@pytest.mark.parametrize("name", ANY_FORM)
def test_the_fast_decoder_says_what_pillow_says_damage_included(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ANY_FORM[name]
    rng = np.random.default_rng(len(whole))
    damaged = [bytearray(whole) for _ in range(300)]
    for flipped in damaged:
        flipped[rng.integers(len(flipped))] ^= 1 << int(rng.integers(8))
    cut = [whole[: int(length)] for length in rng.integers(0, len(whole), 40)]
    for data in [whole, whole + b"tail", *map(bytes, damaged), *cut]:
        assert outcome(data) == in_the_words_of_pillow(data, monkeypatch)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize("pixels", [(64, 64), (64, 48), (33, 70)], ids=str)
def test_stored_pngs_of_any_depth_and_size_read_back_as_they_were_written(pixels: tuple[int, int], depth: Any) -> None:
    channels = () if depth == np.uint16 else (3,)
    for shape in (pixels, (*pixels, *channels)):
        written = RNG.integers(0, np.iinfo(depth).max + 1, shape).astype(depth)
        np.testing.assert_array_equal(decoded(encode(written, AS_IT_IS)), written)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("published", "stored"),
    [
        ((1024, 1024), (224, 224)),
        ((512, 1024), (112, 224)),
        ((256, 256), (96, 96)),
        ((224, 224), (128, 128)),
        ((600, 800), (168, 224)),
        ((300, 400, 3), (96, 128)),
        ((300, 200), (224, 149)),
    ],
    ids=str,
)
def test_averages_are_those_of_opencv(published: tuple[int, ...], stored: tuple[int, int], depth: Any) -> None:
    pixels = RNG.integers(0, np.iinfo(depth).max + 1, published).astype(depth)
    expected = cv2.resize(pixels, stored[::-1], interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(reduced(pixels, *stored[::-1]), expected)


def test_alpha_is_dropped_where_the_dataset_allows_it_and_the_transform_says_so() -> None:
    converted = convert(file_of(np.dstack([GREY, GREY])), AS_IT_IS, ImageRules(drops_alpha=True))
    np.testing.assert_array_equal(decoded(converted.encoded), GREY)
    assert converted.facts["transform"] == "alpha dropped; png"


@pytest.mark.parametrize(("orientation", "turned"), [(3, np.rot90(GREY, 2)), (6, np.rot90(GREY, -1))])
def test_exif_orientation_is_applied_and_recorded(orientation: int, turned: npt.NDArray[np.uint8]) -> None:
    converted = convert(file_of(GREY, exif=exif(orientation)), AS_IT_IS, ImageRules())
    np.testing.assert_array_equal(decoded(converted.encoded), turned)
    facts = converted.facts
    assert (facts["source_height"], facts["source_width"]) == turned.shape
    assert facts["transform"] == f"exif orientation {orientation}; png"


@pytest.mark.parametrize(
    ("size", "expected"), [(None, (300, 200)), (1000, (300, 200)), (300, (300, 200)), (150, (150, 100)), (1, (1, 1))]
)
def test_reduction_keeps_the_shape_and_never_enlarges(size: int | None, expected: tuple[int, int]) -> None:
    large = RNG.integers(0, 256, (200, 300), dtype=np.uint8)
    converted = convert(file_of(large), Transform(size=size), ImageRules())
    facts = converted.facts
    assert (facts["width"], facts["height"]) == expected
    assert decoded(converted.encoded).shape == expected[::-1]
    assert ("area 300x200" in facts["transform"]) == (expected != (300, 200))
    assert (facts["source_width"], facts["source_height"]) == (300, 200)


def test_reduction_averages_areas() -> None:
    large = RNG.integers(0, 256, (40, 60), dtype=np.uint8)
    stored = decoded(convert(file_of(large), Transform(size=30), ImageRules()).encoded)
    means = large.reshape(20, 2, 30, 2).mean(axis=(1, 3))
    assert np.abs(stored - means).max() <= 0.5


def test_the_pixel_hash_is_that_of_the_picture_and_not_of_the_file() -> None:
    same = [
        file_of(GREY),
        file_of(GREY, compress_level=0),
        file_of(THREE_GREYS),
        file_of(GREY, mode="P"),
        file_of(np.dstack([THREE_GREYS, OPAQUE])),
        file_of(np.rot90(GREY), exif=exif(6)),
    ]
    other = [file_of(GREY.T), file_of(GREY.astype(np.uint16)), file_of(GREY.reshape(30, 20)), file_of(COLOUR)]
    hashes = [convert(data, AS_IT_IS, ImageRules(channels=(1, 3))).facts["pixel_sha256"] for data in [*same, *other]]
    assert len(set(hashes[: len(same)])) == 1
    assert len(set(hashes)) == 1 + len(other)


@pytest.mark.parametrize("size", [None, 10])
@pytest.mark.parametrize("pixels", [GREY, COLOUR, DEEP], ids=["grey", "colour", "16 bits"])
def test_statistics_are_those_of_the_published_pixels(pixels: npt.NDArray[Any], size: int | None) -> None:
    converted = convert(file_of(pixels), Transform(size=size), ImageRules(channels=(1, 3)))
    facts = converted.facts
    assert set(facts) == {name for name, _ in IMAGE_COLUMNS}
    assert (facts["intensity_min"], facts["intensity_max"]) == (pixels.min(), pixels.max())
    assert facts["intensity_mean"] == pytest.approx(pixels.mean(dtype=np.float64), rel=1e-12)
    assert facts["intensity_std"] == pytest.approx(pixels.std(dtype=np.float64), rel=1e-9)
    levels = np.iinfo(pixels.dtype).max + 1
    assert converted.histogram == np.histogram(pixels, HISTOGRAM_BINS, (0, levels))[0].tolist()


def test_jpeg_by_choice_takes_8_bits_and_refuses_16() -> None:
    transform = Transform(size=None, encoding="jpeg", quality=95)
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    stored = decoded(convert(file_of(smooth), transform, ImageRules()).encoded)
    assert np.abs(stored.astype(int) - smooth).max() <= 4
    with pytest.raises(ImageRefused) as refusal:
        convert(file_of(DEEP), transform, ImageRules())
    assert refusal.value.args[0] == "bit-depth"
