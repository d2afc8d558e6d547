"""Score images with an exported model: needs onnxruntime, numpy and Pillow, and the files of this folder. No scanmill.

    python score.py IMAGE... [--age 57] [--sex F] [--clinical NAME=VALUE] [--fp16] [--csv out.csv]
    python score.py --check

Research only: no medical device, and no diagnosis.

scanmill copies this file to ``runs/<run>/export/score.py``. An image becomes what training saw, bit for bit: grey, its
longer side scaled down by area averaging (as ``cv2.resize`` with ``INTER_AREA`` does it), never enlarged, centred on
black, 8 bits. ``--check`` scores example.png and compares with what the model said when it was exported.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

HERE = Path(__file__).resolve().parent
BATCH = 8
"""Images that go through the model at once."""
LUMA = (9798, 19235, 3735)
"""Of red, green and blue, in 2**-15: ITU-R BT.601 as OpenCV rounds it (imgproc, color_rgb)."""
NARROW = 257
"""65535 / 255: white of 16 bits over white of 8."""
SEXES = {"F": 0.0, "M": 1.0}
CHECKED_TO = 1e-3
"""How far ``--check`` lets another machine's answers be from those in export.json."""

Pixels = npt.NDArray[Any]
"""(height, width) grey, uint8 or uint16."""
Array = npt.NDArray[np.float32]


class Refused(Exception):
    """Words for the user: which image, or which argument, and why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Answers on stdout, or in ``--csv``; 2 where an image or an argument cannot be used."""
    given = parser().parse_args(arguments)
    try:
        about = json.loads((HERE / "export.json").read_text(encoding="utf-8"))
        if given.check:
            return check(about, is_half=given.fp16)
        if not given.images:
            raise Refused("no image is given: python score.py IMAGE... (or --check)")
        clinical = clinical_of(about, given)
        columns = headings(about)
        rows = scored(about, given.images, clinical, is_half=given.fp16)
        if given.csv:
            write_csv(given.csv, columns, rows)
        else:
            for row in rows:
                sys.stdout.write("".join(f"{line}\n" for line in as_words(columns, row)))
    except (Refused, OSError) as error:
        sys.stderr.write(f"score.py: {error}\n")
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="score.py", description="Score images with an exported scanmill model.")
    made.add_argument("images", nargs="*", type=Path, metavar="IMAGE", help="PNG, JPEG or TIFF, 8 or 16 bits")
    made.add_argument("--age", type=float, help="age in years of all these images' patients, where the model uses it")
    made.add_argument("--sex", choices=sorted(SEXES), help="their sex, where the model uses it")
    made.add_argument("--clinical", action="append", default=[], metavar="NAME=VALUE", help="any other clinical input")
    made.add_argument("--fp16", action="store_true", help="use model_fp16.onnx: half the size")
    made.add_argument("--csv", type=Path, help="write a table there instead of words here")
    made.add_argument("--check", action="store_true", help="compare answers for example.png with those at export")
    return made


def clinical_of(about: Mapping[str, Any], given: argparse.Namespace) -> Array:
    """(inputs,) raw values in the model's order; NaN, which the model was trained to take, where one is not given."""
    wanted = about["input"]["clinical"]
    values = {"age_years": given.age, "sex": None if given.sex is None else SEXES[given.sex]}
    values = {name: value for name, value in values.items() if value is not None}
    for entry in given.clinical:
        name, _, value = entry.partition("=")
        try:
            values[name] = SEXES[value] if name == "sex" and value in SEXES else float(value)
        except ValueError as error:
            raise Refused(f"--clinical {entry}: NAME=VALUE is wanted, with a number for VALUE") from error
    surplus = sorted(set(values) - set(wanted))
    if surplus:
        known = ", ".join(wanted) or "nothing but images"
        raise Refused(f"this model does not take {', '.join(surplus)}; it takes {known}")
    return np.array([values.get(name, math.nan) for name in wanted], dtype=np.float32)


def session_of(about: Mapping[str, Any], *, is_half: bool) -> Any:
    """The model, opened by onnxruntime on the CPU."""
    import onnxruntime as ort

    entry = about["onnx_fp16" if is_half else "onnx"]
    if entry["max_difference"] is None:
        raise Refused(f"{entry['path']} is of no use: {entry['reason']}")
    return ort.InferenceSession(str(HERE / entry["path"]), providers=["CPUExecutionProvider"])


def scored(
    about: Mapping[str, Any], images: Iterable[Path], clinical: Array, *, is_half: bool
) -> Iterator[list[str | float]]:
    """One row per image, as :func:`headings` names them."""
    session = session_of(about, is_half=is_half)
    paths = list(images)
    for first in range(0, len(paths), BATCH):
        some = paths[first : first + BATCH]
        pixels = np.stack([prepared(path, about["size"]) for path in some])
        for path, answers in zip(some, answered(session, pixels, clinical), strict=True):
            yield [str(path), *said(about, answers)]


def answered(session: Any, pixels: Array, clinical: Array) -> Array:
    """(n, columns) answers for (n, 1, size, size) images of patients who share the clinical values."""
    feeds = {"image": pixels}
    if clinical.size:
        feeds["clinical"] = np.repeat(clinical[None], len(pixels), axis=0)
    answers: Array = session.run(["answers"], feeds)[0]
    return answers


def check(about: Mapping[str, Any], *, is_half: bool) -> int:
    """0 where the model says of example.png what it said when it was exported."""
    example = about["example"]
    if example is None:
        raise Refused("this export has no example image to check with")
    clinical = np.array([math.nan if value is None else value for value in example["clinical"]], dtype=np.float32)
    pixels = prepared(HERE / example["path"], about["size"])[None]
    answers = answered(session_of(about, is_half=is_half), pixels, clinical)[0]
    expected = np.array(example["answers"])
    difference = float((np.abs(answers - expected) / np.maximum(1, np.abs(expected))).max())
    allowed = CHECKED_TO + (about["onnx_fp16"]["max_difference"] if is_half else 0)
    is_same = difference <= allowed
    sys.stdout.write(f"{'same' if is_same else 'OTHER'} answers as at export: largest difference {difference:.2g}\n")
    return 0 if is_same else 1


def headings(about: Mapping[str, Any]) -> list[str]:
    """``image``, then per question: predicted label and probabilities of classes, probability of a label, value."""
    answered_ones = [question for question in about["questions"] if places(about, question)]
    is_only_one = sum(question["kind"] == "classes" for question in answered_ones) == 1
    found = ["image"]
    for question in answered_ones:
        name = question["name"]
        if question["kind"] == "classes":
            found.append("predicted_label" if is_only_one else f"predicted_label.{name}")
            found += [f"probability.{name}.{one}" for one in question["of"]]
        else:
            found.append(f"{'probability' if question['kind'] == 'label' else 'predicted'}.{name}")
    return found


def said(about: Mapping[str, Any], answers: Array) -> list[str | float]:
    """The cells of one image, without its name."""
    cells: list[str | float] = []
    for question in about["questions"]:
        own = [float(answers[place]) for place in places(about, question)]
        if own and question["kind"] == "classes":
            cells.append(question["of"][int(np.argmax(own))])
        cells += own
    return cells


def places(about: Mapping[str, Any], question: Mapping[str, Any]) -> list[int]:
    """Where a question's answers are among the model's columns; nowhere, where it could not be learned."""
    name = question["name"]
    names = [f"{name}.{one}" for one in question["of"]] if question["kind"] == "classes" else [name]
    return [about["columns"].index(one) for one in names if one in about["columns"]]


def as_words(columns: Sequence[str], row: Sequence[str | float]) -> Iterator[str]:
    """Lines for people."""
    yield str(row[0])
    width = max(map(len, columns))
    for name, cell in zip(columns[1:], row[1:], strict=True):
        yield f"  {name:<{width}}  {cell if isinstance(cell, str) else f'{cell:.4f}'}"


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str | float]]) -> None:
    """A table with a heading, probabilities to six digits."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([cell if isinstance(cell, str) else f"{cell:.6g}" for cell in row] for row in rows)


def prepared(path: Path, size: int) -> Array:
    """(1, size, size) float32, share of white: what the model takes. 16 bits become the nearest 8, as in training."""
    pixels = letterboxed(opened(path), size)
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + NARROW // 2) // NARROW).astype(np.uint8)
    return (pixels.astype(np.float32) / np.float32(255))[None]


def opened(path: Path) -> Pixels:
    """Grey pixels of an image file, upright, in its own depth.

    Raises :class:`Refused` for what is no image, or none that can be taken without guessing.
    """
    try:
        with Image.open(path) as image:
            _refuse(path, image)
            upright = ImageOps.exif_transpose(image)
            if upright.mode in ("P", "PA"):
                has_alpha = "transparency" in upright.info or upright.mode == "PA"
                upright = upright.convert("RGBA" if has_alpha else "RGB")
            elif "transparency" in upright.info and upright.mode in ("L", "RGB"):
                upright = upright.convert("LA" if upright.mode == "L" else "RGBA")
            elif upright.mode == "1":
                upright = upright.convert("L")
            pixels = np.asarray(upright)
    except FileNotFoundError as error:
        raise Refused(f"{path} is not there") from error
    except UnidentifiedImageError as error:
        raise Refused(f"{path} is no image that Pillow knows") from error
    except Image.DecompressionBombError as error:
        raise Refused(f"{path} is too large: {error}") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise Refused(f"{path} cannot be decoded: {error}") from error
    return _grey(path, pixels)


def _refuse(path: Path, image: Image.Image) -> None:
    """What Pillow would narrow, or read a part of, without a word."""
    if getattr(image, "n_frames", 1) > 1:
        raise Refused(f"{path} has {getattr(image, 'n_frames', 1)} frames: give one of them as a file of its own")
    if image.format == "PNG" and image.mode in ("RGB", "RGBA", "LA") and _png_depth(path) == 16:
        raise Refused(f"{path} is colour, or has transparency, at 16 bits: save it as 16-bit grey, or with 8 bits")
    known = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I;16L", "I;16B", "I")
    if image.mode not in known:
        raise Refused(f"{path} is of mode {image.mode}: save it as grey, or as RGB")


def _png_depth(path: Path) -> int:
    with path.open("rb") as stream:
        return stream.read(25)[24]  # bit depth within IHDR: PNG 3rd edition, 11.2.1


def _grey(path: Path, pixels: Pixels) -> Pixels:
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        alpha = pixels[..., -1]
        if alpha.min() < 255:
            raise Refused(f"{path} is transparent here and there (alpha from {alpha.min()}): save it without alpha")
        pixels = pixels[..., :-1]
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if pixels.ndim == 3:
        weighed = pixels.astype(np.uint32) @ np.array(LUMA, np.uint32)
        pixels = ((weighed + (1 << 14)) >> 15).astype(np.uint8)
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.min() < 0 or pixels.max() > 65535:
        raise Refused(f"{path} holds grey levels from {pixels.min()} to {pixels.max()}: 16 bits are the most")
    return pixels.astype(np.uint16)


def letterboxed(pixels: Pixels, size: int) -> Pixels:
    """(size, size): the longer side scaled down by area averaging, never enlarged; centred on black."""
    height, width = pixels.shape
    if max(height, width) > size:
        scale = size / max(height, width)
        pixels = area_averaged(pixels, max(1, round(height * scale)), max(1, round(width * scale)))
        height, width = pixels.shape
    square = np.zeros((size, size), pixels.dtype)
    top, left = (size - height) // 2, (size - width) // 2
    square[top : top + height, left : left + width] = pixels
    return square


def area_averaged(pixels: Pixels, height: int, width: int) -> Pixels:
    """What ``cv2.resize(..., interpolation=cv2.INTER_AREA)`` gives, single precision and order of sums included.

    See OpenCV's ``resize.cpp``: whole factors take sums of integers, others weights that begin and end within a pixel.
    """
    rows, columns = 1 / (height / pixels.shape[0]), 1 / (width / pixels.shape[1])
    if all(abs(factor - round(factor)) < np.finfo(np.float64).eps for factor in (rows, columns)):
        return _block_means(pixels, round(rows), round(columns))
    sums: Array = np.zeros((pixels.shape[0], width), np.float32)
    for spots, weights in _taps(pixels.shape[1], width):
        sums += pixels[:, spots].astype(np.float32) * weights
    averages: Array = np.zeros((height, width), np.float32)
    for spots, weights in _taps(pixels.shape[0], height):
        averages += sums[spots] * weights[:, None]
    return _rounded(averages, pixels.dtype)


def _block_means(pixels: Pixels, rows: int, columns: int) -> Pixels:
    height, width = pixels.shape[0] // rows, pixels.shape[1] // columns
    blocks = pixels[: height * rows, : width * columns].reshape(height, rows, width, columns)
    sums = blocks.sum(axis=(1, 3), dtype=np.int64)
    if rows == columns == 2:
        return _rounded(((sums + 2) >> 2).astype(np.float32), pixels.dtype)
    return _rounded(sums.astype(np.float32) * np.float32(1 / (rows * columns)), pixels.dtype)


def _rounded(values: Array, dtype: np.dtype[Any]) -> Pixels:
    return np.clip(np.rint(values), 0, np.iinfo(dtype).max).astype(dtype)


def _taps(source: int, target: int) -> Iterator[tuple[npt.NDArray[np.intp], Array]]:
    """For the first, second, … pixel that each of the target's pixels covers: where it is, and its weight."""
    scale = 1 / (target / source)
    covered: list[list[tuple[int, float]]] = []
    for index in range(target):
        begin, end = index * scale, index * scale + scale
        cell = min(scale, source - begin)
        last = min(math.floor(end), source - 1)
        first = min(math.ceil(begin), last)
        taps = [(first - 1, (first - begin) / cell)] if first - begin > 1e-3 else []
        taps += [(place, 1 / cell) for place in range(first, last)]
        if end - last > 1e-3:
            taps.append((last, min(end - last, 1.0, cell) / cell))
        covered.append(taps)
    for number in range(max(map(len, covered))):
        chosen = [taps[number] if number < len(taps) else (0, 0.0) for taps in covered]
        yield np.array([place for place, _ in chosen]), np.array([weight for _, weight in chosen], np.float32)


if __name__ == "__main__":
    sys.exit(main())
