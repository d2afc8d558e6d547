"""One frame of a DICOM file to pixels: unsigned whole numbers, more is brighter, and every step is told.

pydicom unpacks, one frame alone, out of the few elements that say how. What scanmill does to the numbers is little:
MONOCHROME1 is inverted, signed numbers are lifted to unsigned ones, and a window is applied where the dataset asks for
one. Bits are kept: twelve of them are the same numbers in a PNG of sixteen.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.decoding import ImageRefused, Pixels, collapse
from tasks.dicom import elements, installed
from tasks.dicom.apart import DETAIL_LETTERS, unpacked
from tasks.dicom.codestreams import insist_on_frame
from tasks.dicom.elements import Broken, Cut, NoDicom, Opened
from tasks.dicom.headers import NATIVE, Shape, dataset_of, native_bytes, shape_of
from tasks.limits import Limits
from tasks.schema import Dicom

LEAST_LIFT = 1024
"""By which signed numbers are lifted, or by the next power of two that lifts all of the frame: Hounsfield units of air
are −1024."""
PLANAR = 0x00280006
PALETTE = (0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203)
RESCALE = (0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281054, 0x00281056)
LOOKUPS = (0x00283000, 0x00283010)
FUNCTIONAL = (0x52009229, 0x52009230)
"""Sequences of what all frames have in common, and of what each has of its own (PS3.3, C.7.6.16)."""
SEQUENCE_BYTES = 4 * 2**20
"""Most of a sequence that is read for a window: pydicom makes objects of all of it."""
OFFSETS = (0x7FE00001, 0x7FE00002)
"""Tables of where packed frames begin, and of their lengths (PS3.5, A.4)."""
WHITE = 255


def decode(data: bytes, frame: int | None, dicom: Dicom, limits: Limits) -> tuple[str, Pixels, list[str]]:
    """What a frame's pixels are, they, (height, width) or (height, width, 3), uint8 or uint16, and the steps to them.

    ``frame``: from 1; None of a file that has one.

    Raises :class:`ImageRefused` with one of ``empty-file``, ``not-an-image``, ``truncated-image``,
    ``undecodable-image``, ``oversized-image``, ``unsupported-mode``, and :class:`tasks.schema.UnusableInput` where the
    extra ``dicom`` is not installed.
    """
    installed.insist_on_extra()
    installed.quiet()
    if not data:
        raise ImageRefused("empty-file", "the file has no bytes")
    file = _opened(data, limits)
    shape = shape_of(file, limits)
    number = (frame or 1) - 1
    if number >= shape.frames:
        raise ImageRefused("truncated-image", f"the file has {shape.frames} frames, and no {number + 1}th")
    stored, photometric, steps = _stored(file, shape, number, limits)
    if shape.samples == 3:
        pixels, more = _colour(stored, photometric)
    elif shape.photometric == "PALETTE COLOR":
        pixels, more = _by_palette(stored, file)
    elif dicom.window != "none":
        pixels, more = _by_window(stored, file, shape, number, dicom)
    else:
        pixels, more = _grey(stored, shape)
    if pixels.ndim == 3:
        pixels, collapsed = collapse(pixels, drops_alpha=False)
        more = [*more, *collapsed]
    return f"{shape.photometric} {shape.stored} bits", np.ascontiguousarray(pixels), [*steps, *more]


def _opened(data: bytes, limits: Limits) -> Opened:
    try:
        return elements.opened(data, most_inflated=limits.member_bytes)
    except NoDicom as error:
        raise ImageRefused("not-an-image", f"{len(data)} bytes that are no DICOM file") from error
    except Broken as error:
        raise ImageRefused("undecodable-image", f"its header is damaged: {error}") from error
    except Cut as error:
        raise ImageRefused("truncated-image", f"it ends in its header, after {len(data)} bytes") from error


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Whatever pydicom and its decoders raise for damaged pixels, as a refusal."""
    try:
        yield
    except (ImageRefused, MemoryError):
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}".replace("\n", " ")
        raise ImageRefused("undecodable-image", text[:DETAIL_LETTERS]) from error


def _stored(file: Opened, shape: Shape, number: int, limits: Limits) -> tuple[npt.NDArray[Any], str, list[str]]:
    """The numbers of one frame as they are stored, (rows, columns) or (rows, columns, 3), and what they now mean."""
    is_native = file.syntax in NATIVE
    values, photometric = _unpacked(file, shape, number) if is_native else _by_decoder(file, shape, number, limits)
    if values.shape[:2] != (shape.rows, shape.columns) or values.dtype.itemsize > 2:
        raise ImageRefused("undecodable-image", f"it decodes to {values.shape} of {values.dtype}")
    if shape.samples == 1:
        low, high = _range(shape)
        if values.min() < low or values.max() > high:
            raise ImageRefused("undecodable-image", f"it decodes to numbers of more than {shape.stored} bits")
    asked = shape.photometric
    return values, photometric, [f"{asked} to rgb"] if shape.samples == 3 and asked != "RGB" else []


def _range(shape: Shape) -> tuple[int, int]:
    """The least and the greatest number that the stored bits hold."""
    half = 2 ** (shape.stored - 1)
    return (-half, half - 1) if shape.is_signed else (0, 2 * half - 1)


def _unpacked(file: Opened, shape: Shape, number: int) -> tuple[npt.NDArray[Any], str]:
    from pydicom.pixels.decoders.base import get_decoder
    from pydicom.uid import UID

    data, index = _native(file, shape, number)
    pixels = file.pixels
    assert pixels is not None
    kind = pixels.kind if pixels.kind in ("OB", "OW") else "OW"
    options = _options(file, shape) | {"pixel_vr": kind, "number_of_frames": shape.frames if index else 1}
    with _refusing():
        values, told = get_decoder(UID(file.syntax)).as_array(data, index=index, **options)
    return values, str(told["photometric_interpretation"])


def _by_decoder(file: Opened, shape: Shape, number: int, limits: Limits) -> tuple[npt.NDArray[Any], str]:
    from pydicom.encaps import encapsulate

    frame = _packed(file, shape, number)
    insist_on_frame(frame, shape, file.syntax, limits)
    return unpacked(encapsulate([frame], has_bot=False), file.syntax, _options(file, shape) | {"number_of_frames": 1})


def _options(file: Opened, shape: Shape) -> dict[str, Any]:
    """What pydicom asks of the pixels of a file."""
    found = dataset_of(file, [PLANAR])
    return {
        "rows": shape.rows,
        "columns": shape.columns,
        "samples_per_pixel": shape.samples,
        "bits_allocated": shape.allocated,
        "bits_stored": shape.stored,
        "pixel_representation": int(shape.is_signed),
        "photometric_interpretation": shape.photometric,
        "planar_configuration": int(found.get("PlanarConfiguration") or 0) if shape.samples == 3 else None,
        "pixel_keyword": "PixelData",
    }


def _native(file: Opened, shape: Shape, number: int) -> tuple[bytes, int]:
    """The bytes of one frame, as they lie; or of all, with its index, where frames do not begin with a byte, or bytes
    are swapped in pairs that two frames may share."""
    pixels = file.pixels
    assert pixels is not None
    if pixels.length == elements.UNDEFINED:
        raise ImageRefused("undecodable-image", "its pixels are packed, or not, other than its transfer syntax says")
    every = native_bytes(shape)
    there = min(len(file.body) - pixels.value, pixels.length)
    if there < every:
        raise ImageRefused("truncated-image", f"its pixels end after {max(there, 0)} of {every} bytes")
    if shape.allocated == 1 or (file.encoding.order == ">" and shape.allocated == 8):
        return file.body[pixels.value : pixels.value + every + every % 2], number
    size = every // shape.frames
    begin = pixels.value + number * size
    return file.body[begin : begin + size] + bytes(size % 2), 0


def _packed(file: Opened, shape: Shape, number: int) -> bytes:
    """The bytes of one packed frame."""
    from pydicom.encaps import get_frame

    pixels = file.pixels
    assert pixels is not None
    if pixels.length != elements.UNDEFINED:
        raise ImageRefused("undecodable-image", "its pixels are packed, or not, other than its transfer syntax says")
    tables = [file.body[e.value : e.end] for e in (file.elements.get(tag) for tag in OFFSETS) if e is not None]
    extended = (tables[0], tables[1]) if len(tables) == 2 and tables[0] else None
    _insist_on_fragments(file.body, pixels.value, shape.frames)
    stream = io.BytesIO(file.body)  # no copy: a file of many frames is opened for each
    stream.seek(pixels.value)
    with _refusing():
        return get_frame(stream, number, extended_offsets=extended, number_of_frames=shape.frames)


def _insist_on_fragments(body: bytes, at: int, frames: int) -> None:
    """Raise :class:`ImageRefused` where the packed pixels break off, or hold fewer pieces than there are frames."""
    pieces = -1  # the first is the table of offsets
    while True:
        if at + 8 > len(body):
            raise ImageRefused("truncated-image", f"its packed pixels break off after {len(body)} bytes")
        tag, length = int.from_bytes(body[at : at + 2], "little"), int.from_bytes(body[at + 4 : at + 8], "little")
        number = int.from_bytes(body[at + 2 : at + 4], "little")
        if (tag, number) == (0xFFFE, 0xE0DD):
            break
        if (tag, number) != (0xFFFE, 0xE000):
            raise ImageRefused("undecodable-image", f"no frame begins at byte {at}")
        pieces += 1
        at += 8 + length
    if pieces < frames:
        raise ImageRefused("truncated-image", f"{pieces} of {frames} frames are there")


def _colour(values: npt.NDArray[Any], photometric: str) -> tuple[Pixels, list[str]]:
    if photometric != "RGB":
        raise ImageRefused("unsupported-mode", "its colours could not be made red, green and blue")
    return values.astype(np.uint8, copy=False), []


def _by_palette(values: npt.NDArray[Any], file: Opened) -> tuple[Pixels, list[str]]:
    from pydicom.pixels.processing import apply_color_lut

    with _refusing():
        coloured = apply_color_lut(values, dataset_of(file, [0x00080005, *PALETTE]))
    if coloured.ndim != 3 or coloured.shape[2] != 3:
        raise ImageRefused("unsupported-mode", "a palette with transparency")
    if coloured.dtype == np.uint8:
        return coloured, ["palette to rgb"]
    high, low = coloured >> 8, coloured & 0xFF
    if low.any() and not np.array_equal(high, low):
        raise ImageRefused("unsupported-mode", "a palette of 16 bits a colour")
    return high.astype(np.uint8), ["palette to rgb"]


def _grey(values: npt.NDArray[Any], shape: Shape) -> tuple[Pixels, list[str]]:
    """The stored numbers, more brighter, none below zero."""
    steps = []
    numbers = values.astype(np.int32)
    if shape.photometric == "MONOCHROME1":
        numbers = sum(_range(shape)) - numbers
        steps.append("MONOCHROME1 inverted")
    if shape.is_signed:
        lift = _lift(shape, int(numbers.min()))
        numbers = numbers + lift
        steps.append(f"plus {lift}")
    if shape.stored == 1:
        numbers = numbers * WHITE
        steps.append("1 bit to 8")
    return numbers.astype(np.uint8 if shape.stored <= 8 else np.uint16), steps


def _lift(shape: Shape, least: int) -> int:
    """What makes the least number of a frame none below zero: half the range, or of deep images less, so that few of
    their grey levels lie in the middle of sixteen bits."""
    half: int = 2 ** (shape.stored - 1)
    enough = LEAST_LIFT if -least <= LEAST_LIFT else 2 ** math.ceil(math.log2(-least))
    return min(half, enough)


def _by_window(
    values: npt.NDArray[Any], file: Opened, shape: Shape, number: int, dicom: Dicom
) -> tuple[Pixels, list[str]]:
    """Modality and VOI transformations (PS3.3, C.11.1 and C.11.2), then eight bits."""
    from pydicom.pixels.processing import apply_rescale, apply_voi_lut

    how = _how_to_show(file, shape, number)
    steps = []
    with _refusing():
        modality = apply_rescale(values, how)
        if "ModalityLUTSequence" in how:
            steps.append("modality LUT")
        elif how.get("RescaleSlope") is not None and how.get("RescaleIntercept") is not None:
            steps.append(f"times {how.RescaleSlope} plus {how.RescaleIntercept}")
        if isinstance(dicom.window, tuple):
            centre, width = dicom.window
            how.WindowCenter, how.WindowWidth, how.VOILUTFunction = centre, width, "LINEAR"
            how.pop("VOILUTSequence", None)
        shown, bounds, step = _shown(modality, how, shape, apply_voi_lut)
    steps.append(step)
    share = (shown.astype(np.float64) - bounds[0]) / ((bounds[1] - bounds[0]) or 1)
    levels = np.rint(np.clip(share, 0, 1) * WHITE).astype(np.uint8)
    if shape.photometric == "MONOCHROME1":
        levels = WHITE - levels
        steps.append("MONOCHROME1 inverted")
    return levels, steps


def _how_to_show(file: Opened, shape: Shape, number: int) -> Any:
    """What the header says of rescaling and windows, for this frame."""
    tags = [0x00080005, 0x00280002, 0x00280004, 0x00280100, 0x00280101, 0x00280103, *RESCALE, 0x00281055]
    for tag in (*LOOKUPS, *FUNCTIONAL):
        found = file.elements.get(tag)
        if found is not None and found.end - found.begin > SEQUENCE_BYTES:
            raise ImageRefused("undecodable-image", f"what it says of windows has more than {SEQUENCE_BYTES >> 20} MiB")
        tags += [tag] if found is not None else []
    how = dataset_of(file, tags)
    how.BitsStored, how.PixelRepresentation = shape.stored, int(shape.is_signed)
    with _refusing():
        for keyword, at in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", number)):
            groups = how.get(keyword) or []
            for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence") if at < len(groups) else ():
                for element in (groups[at].get(name) or [()])[0]:
                    how.add(element)
        if "ModalityLUTSequence" in how:
            how.pop("RescaleSlope", None)
    return how


def _shown(
    modality: npt.NDArray[Any], how: Any, shape: Shape, apply: Any
) -> tuple[npt.NDArray[Any], tuple[float, ...], str]:
    """Numbers to be shown, what of them is black and white, and how they came about."""
    if how.get("VOILUTSequence"):
        table = how.VOILUTSequence[0]
        return apply(modality, how, index=0), (0, 2 ** int(table.LUTDescriptor[2]) - 1), "VOI LUT to 8 bits"
    if how.get("WindowCenter") is None or how.get("WindowWidth") is None:
        low, high = float(modality.min()), float(modality.max())
        return modality, (low, high), f"no window in the header, {low:g} to {high:g} to 8 bits"
    centre, width = (how[name].value for name in ("WindowCenter", "WindowWidth"))
    centre, width = (float(one if isinstance(one, int | float) else one[0]) for one in (centre, width))
    function = str(how.get("VOILUTFunction") or "LINEAR").upper()
    low, high = _range(shape)
    if "ModalityLUTSequence" in how:
        low, high = 0, 2 ** int(how.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    slope, intercept = how.get("RescaleSlope"), how.get("RescaleIntercept")
    is_scaled = slope is not None and intercept is not None
    bounds = tuple(float(slope) * one + float(intercept) if is_scaled else float(one) for one in (low, high))
    told = "" if function == "LINEAR" else f" ({function.lower()})"
    return apply(modality, how, index=0), bounds, f"window {centre:g}, {width:g}{told} to 8 bits"
