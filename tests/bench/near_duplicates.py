"""Near-duplicates: what is found of planted copies, what is taken for a copy that is none, and how long it takes.

    python -m tests.bench.near_duplicates --json bench-results/near-duplicates.json
    python -m tests.bench.near_duplicates --real mammography_images.zip      one crop of each lesion
    python -m tests.bench.near_duplicates --scale 112120 --scratch /var/tmp  seconds at the size of NIH ChestX-ray14

Made-up pictures, none like another, are dealt out to splits by patient; copies of some are changed and put into another
split. All go through conversion and through what ``prepare`` does with the images of a dataset that has patients.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
from rich.console import Console
from rich.table import Table

from tasks import chunk_columns, leakage, near_duplicates
from tasks.datasets.mammography_density import SAME_LESION
from tasks.datasets.nih_chest_xray import DATASET as NIH
from tasks.fingerprints import alignment, search
from tasks.fingerprints.copies import Grey
from tasks.fingerprints.glance import glance
from tasks.fingerprints.polar import fingerprints_of
from tasks.images import PICTURE_SIDE, convert
from tasks.phantoms import breast, liver
from tasks.schema import ImageRules, Transform
from tests.bench import distractors
from tests.bench.planting import KINDS, PROMISED

SEED = 4
LOOKED_AT = 2000
"""Images whose nearest neighbour is found by comparing all."""
SPLITS = NIH.labelled_splits


@dataclass(frozen=True)
class Found:
    """What became of the copies of one kind."""

    pictures: str
    kind: str
    is_promised: bool
    planted: int
    found: int
    lowest_similarity: float
    lowest_cosine: float
    """Of whitened fingerprints; then the correlations after both rough steps."""
    lowest_glance: float
    lowest_place: float

    @property
    def recall(self) -> float:
        """Share of the planted copies that was found."""
        return self.found / self.planted


@dataclass(frozen=True)
class Strangers:
    """What was made of pictures that are nobody's copy."""

    pictures: str
    number: int
    threshold: float
    looked_at: int
    """Pairs whose fingerprints were alike enough."""
    placed: int
    """Pairs of them that were laid on each other to the end."""
    highest_similarity: float
    false_pairs: int
    true_pairs: int
    """Planted ones among those that were said to be copies, promised or not."""

    @property
    def precision(self) -> float:
        """Share of true pairs among those said to be copies."""
        return self.true_pairs / max(1, self.true_pairs + self.false_pairs)


@dataclass(frozen=True)
class Films:
    """A set of pictures, converted: the table that the gate sees, and the pictures as chunks hold them."""

    samples: pd.DataFrame
    columns: Mapping[chunk_columns.Column, npt.NDArray[np.uint8]]
    """(n, length) each"""

    def read(self, places: Sequence[chunk_columns.Place], column: chunk_columns.Column) -> npt.NDArray[np.uint8]:
        """What is stored of them by place, as :data:`tasks.chunk_columns.Read` wants it."""
        return self.columns[column][[row for _, row in places]]

    @property
    def compared(self) -> near_duplicates.Pictures:
        """All of them, in the order of the table."""
        return leakage.pictures_of(self.samples, self.read)


def chest(number: int) -> Grey:
    """One of the chest films, 256 pixels."""
    return distractors.film((SEED, number), 256)


def breast_crop(number: int) -> Grey:
    """One of the breasts, 224 pixels."""
    rng = np.random.default_rng((SEED, number))
    return breast(rng, 224, density=int(rng.integers(1, 5)), is_malignant=bool(rng.random() < 0.5))


def liver_fan(number: int) -> Grey:
    """The fan alone, as conversion leaves it: outside of it all is black."""
    rng = np.random.default_rng((SEED, number))
    scan = liver(rng, steatosis=int(rng.integers(4)), fibrosis=int(rng.integers(5)), side=320)
    return np.asarray(cv2.cvtColor(scan.pixels, cv2.COLOR_RGB2GRAY) * scan.sector, np.uint8)


DRAWN: dict[str, Callable[[int], Grey]] = {"chests": chest, "breasts": breast_crop, "livers": liver_fan}


def converted(film: Grey) -> tuple[bytes, bytes, bytes, str]:
    """Fingerprint, thumbnail, picture and the hash of the pixels of a film, once it went through conversion."""
    _, data = cv2.imencode(".png", film)
    found = convert(data.tobytes(), Transform(size=None), ImageRules())
    return fingerprints_of([found.thumbnail])[0], found.thumbnail, found.picture, found.facts["pixel_sha256"]


def _drawn(what: str, number: int) -> Grey:
    return DRAWN[what](number)


def _changed(film: Grey, kind: str, number: int) -> tuple[bytes, bytes, bytes, str]:
    return converted(KINDS[kind](film, np.random.default_rng((SEED, number, list(KINDS).index(kind)))))


def batches(films: Sequence[Grey], planted: int) -> Iterator[list[tuple[int, str]]]:
    """Film and kind of the copies; of no film two copies in one batch, for these are copies of each other as well."""
    planted = min(planted, len(films))
    together = len(films) // planted
    kinds = list(KINDS)
    for begin in range(0, len(kinds), together):
        some = kinds[begin : begin + together]
        order = np.random.default_rng((SEED, begin)).permutation(len(films))
        yield [(int(order[n * planted + i]), kind) for n, kind in enumerate(some) for i in range(planted)]


def as_films(rows: Sequence[tuple[bytes, bytes, bytes, str]], copied: Sequence[int], kinds: Sequence[str]) -> Films:
    """Films of a patient each, in splits by patient; copies, whose originals are ``copied``, in another split."""
    originals = len(rows) - len(copied)
    dealt = np.random.default_rng(SEED).choice(len(SPLITS), originals, p=[0.7, 0.1, 0.2])
    moved = 1 + np.random.default_rng(SEED + 1).integers(len(SPLITS) - 1, size=len(copied))
    splits = np.concatenate([dealt, (dealt[list(copied)] + moved) % len(SPLITS)])
    names = [f"film-{n:06d}" for n in range(len(rows))]
    samples = pd.DataFrame(
        {
            "sample_id": names,
            "archive": "a.zip",
            "member": names,
            "group_id": names,
            "split": np.array(SPLITS)[splits],
            "pixel_sha256": [row[3] for row in rows],
            "chunk": "c.parquet",
            "chunk_row": range(len(rows)),
            "original": [*names[:originals], *(names[n] for n in copied)],
            "kind": [*[""] * originals, *kinds],
        }
    )
    samples[[f"label.{name}" for name in NIH.labels]] = 0
    names_of: tuple[chunk_columns.Column, ...] = ("fingerprint", "thumbnail", "picture")
    joined = (b"".join(column) for column in zip(*(row[:3] for row in rows), strict=True))
    stored = [np.frombuffer(column, np.uint8) for column in joined]
    return Films(samples, {name: flat.reshape(len(rows), -1) for name, flat in zip(names_of, stored, strict=True)})


def steps_of(
    pictures: near_duplicates.Pictures, whitened: npt.NDArray[np.float32], pair: tuple[int, int]
) -> list[float]:
    """Cosine and both rough correlations of one pair, looked at from the side that fits better."""
    cosines = [whitened[a] @ whitened[b, 0] for a, b in (pair, pair[::-1])]
    way = int(cosines[1].max() > cosines[0].max())
    first, second = pair if way == 0 else pair[::-1]
    frame = int(cosines[way].argmax())
    seen = glance(pictures.thumbnails, np.array([[first, second, frame]]))
    small = [alignment.Shown(picture) for picture in pictures.thumbnails(np.array([first, second]))]
    rough = alignment.place(small[0], small[1], seen.matrices[0], least=0.0)
    return [float(cosines[way].max()), float(seen.agreement[0]), rough.similarity]


def measure(what: str, films: Sequence[Grey], planted: int, threshold: float) -> tuple[list[Found], Strangers]:
    """Plant copies of every kind into these films and look for them."""
    found: list[Found] = []
    looked_at = placed = wrong = right = 0
    highest = 0.0
    with ProcessPoolExecutor(os.cpu_count()) as processes:
        own = list(processes.map(converted, films, chunksize=50))
        for batch in batches(films, planted):
            numbers, kinds = [n for n, _ in batch], [kind for _, kind in batch]
            copies = list(processes.map(_changed, [films[n] for n in numbers], kinds, numbers, chunksize=20))
            mixed = as_films([*own, *copies], numbers, kinds)
            pairs = leakage.find(mixed.samples, mixed.read, replace(NIH, near_duplicate=0.0))
            original = mixed.samples.set_index("sample_id")["original"]
            is_true = (pairs["sample_a"].map(original) == pairs["sample_b"].map(original)).to_numpy()
            similar = pairs["similarity"] >= threshold
            strange = pairs[~is_true]
            looked_at += _candidates(mixed)
            placed += len(strange)
            highest = max(highest, float(strange["similarity"].max()) if len(strange) else 0.0)
            wrong, right = wrong + int((similar & ~is_true).sum()), right + int((similar & is_true).sum())
            found += _by_kind(what, mixed, pairs[is_true], threshold)
    return found, Strangers(what, len(films), threshold, looked_at, placed, highest, wrong, right)


def _candidates(films: Films) -> int:
    """Pairs of different originals whose fingerprints are alike enough to be looked at."""
    groups = pd.factorize(films.samples["original"])[0]
    prints = films.compared.fingerprints
    found = search.nearest(prints, groups, least=near_duplicates.COSINE, most=near_duplicates.PARTNERS)
    return len(found)


def _by_kind(what: str, films: Films, pairs: pd.DataFrame, threshold: float) -> Iterator[Found]:
    copies = films.samples[films.samples["kind"] != ""]
    ends = pd.concat([pairs["sample_a"], pairs["sample_b"]])
    similarity = pd.Series([*pairs["similarity"]] * 2, index=ends).groupby(level=0).max()
    pictures = films.compared
    whitened = search.Whitening(pictures.fingerprints[:, 0])(pictures.fingerprints)
    number = {name: n for n, name in enumerate(films.samples["sample_id"])}
    for kind, some in copies.groupby("kind", sort=False):
        seen = some["sample_id"].map(similarity).fillna(0.0)
        steps = np.array(
            [
                steps_of(pictures, whitened, (number[a], number[b]))
                for a, b in zip(some["original"], some["sample_id"], strict=True)
            ]
        ).min(axis=0)
        is_found = int((seen >= threshold).sum())
        name = str(kind)
        low = [round(float(value), 3) for value in (seen.min(), *steps)]
        yield Found(what, name, name in PROMISED, len(some), is_found, *low)


def lesions(archive: Path) -> list[Grey]:
    """One published crop of each lesion of the real archive."""
    from tests.bench.lesions import recovered

    table, pictures = recovered(archive)
    return [pictures(int(row)) for row in table.drop_duplicates("lesion")["row"]]


@dataclass(frozen=True)
class Scale:
    """Cost of one search, in seconds and bytes."""

    images: int
    planted: int
    found: int
    false_pairs: int
    candidates: int
    nearest: float
    """The search for candidates alone, by cells even where a release of that size would compare all."""
    find: float
    """All of :func:`tasks.leakage.find`."""
    missed: float
    """Share of the nearest neighbours of 2,000 images, found by looking at all, that cells do not find."""
    peak_bytes: int


@dataclass(frozen=True)
class _Stored:
    """Pictures in a file, read when asked for, as they are from chunks."""

    folder: Path
    extra: Sequence[tuple[bytes, bytes, bytes, str]]
    """Of the copies, which are in no file."""
    count: int

    def read(self, places: Sequence[chunk_columns.Place], column: chunk_columns.Column) -> npt.NDArray[np.uint8]:
        length = int(np.prod(distractors.SHAPES[f"{column}s"][1]))
        found = np.empty((len(places), length), np.uint8)
        with (self.folder / f"{column}s").open("rb") as file:
            for n, (_, row) in enumerate(places):
                if row >= self.count:
                    copy = self.extra[row - self.count]
                    stored = {"fingerprint": copy[0], "thumbnail": copy[1], "picture": copy[2]}[column]
                else:
                    file.seek(row * length)
                    stored = file.read(length)
                found[n] = np.frombuffer(stored, np.uint8)
        return found


def at_scale(folder: Path, images: int, planted: int) -> Scale:
    """Copies of some of many films, of every promised kind in turn, looked for among all; see :mod:`.distractors`."""
    count = images - planted
    chosen = np.random.default_rng(SEED).choice(count, planted, replace=False)
    kinds = [list(PROMISED)[n % len(PROMISED)] for n in range(planted)]
    stored = _Stored(folder, [], count)
    originals = stored.read([("", int(n)) for n in chosen], "picture").reshape(-1, PICTURE_SIDE, PICTURE_SIDE)
    copies = [_changed(film, kind, int(n)) for film, kind, n in zip(originals, kinds, chosen, strict=True)]
    stored = replace(stored, extra=copies)
    samples = as_films([(b"", b"", b"", f"{n:064x}") for n in range(images)], chosen.tolist(), kinds).samples
    begin = time.perf_counter()
    pairs = leakage.find(samples, stored.read, NIH)
    took = time.perf_counter() - begin
    print(f"{images:,} images searched in {took:.0f} s", file=sys.stderr, flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    original = samples.set_index("sample_id")["original"]
    is_true = (pairs["sample_a"].map(original) == pairs["sample_b"].map(original)).to_numpy()
    ends = set(pairs.loc[is_true, "sample_a"]) | set(pairs.loc[is_true, "sample_b"])
    vectors = leakage.pictures_of(samples, stored.read).fingerprints
    begin = time.perf_counter()
    candidates = _by_cells(vectors)
    searched = time.perf_counter() - begin
    return Scale(
        images=images,
        planted=planted,
        found=int(samples.loc[count:, "sample_id"].isin(ends).sum()),
        false_pairs=int((~is_true).sum()),
        candidates=len(candidates),
        nearest=round(searched, 1),
        find=round(took, 1),
        missed=_missed(vectors, candidates),
        peak_bytes=peak,
    )


def _by_cells(prints: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    groups = np.arange(len(prints))
    return search.nearest(prints, groups, least=near_duplicates.COSINE, most=near_duplicates.PARTNERS, whole=0)


def _missed(prints: npt.NDArray[np.int8], candidates: npt.NDArray[np.int64]) -> float:
    """Share of the nearest neighbours of some images, found by looking at all, that cells do not find."""
    edges = {(int(min(a, b)), int(max(a, b))) for a, b, _ in candidates}
    vectors = search.Whitening(prints[:, 0])(prints)
    some = np.sort(np.random.default_rng(SEED).choice(len(prints), min(LOOKED_AT, len(prints)), replace=False))
    exact, missed = 0, 0
    for image in some.tolist():
        cosines = (vectors[:, 0] @ vectors[image].T).max(axis=1)
        cosines[image] = -1
        other = int(cosines.argmax())
        if cosines[other] >= near_duplicates.COSINE:
            exact += 1
            missed += (min(image, other), max(image, other)) not in edges
    return missed / max(1, exact)


def _in_own_process(folder: Path, images: int, planted: int) -> Scale:
    """So that peak memory is that of this search alone."""
    command = [sys.executable, "-m", "tests.bench.near_duplicates", "--only-scale", str(images)]
    command += ["--planted", str(planted), "--scratch", str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Scale(**json.loads(done.stdout.splitlines()[-1]))


def _show(found: Sequence[Found], strangers: Sequence[Strangers], scales: Sequence[Scale]) -> None:
    console = Console(width=140)
    table = Table("pictures", "kind", "planted", "found", "recall", "lowest similarity", "cosine", "glance", "place")
    for row in found:
        name = row.kind if row.is_promised else f"({row.kind}, not promised)"
        low = [row.lowest_similarity, row.lowest_cosine, row.lowest_glance, row.lowest_place]
        counts = [str(row.planted), str(row.found), f"{row.recall:.1%}"]
        table.add_row(row.pictures, name, *counts, *(f"{value:.2f}" for value in low))
    console.print(table)
    table = Table("pictures", "number", "looked at", "placed", "highest", "threshold", "false", "precision")
    for other in strangers:
        counts = [str(n) for n in (other.number, other.looked_at, other.placed)]
        similar = [f"{other.highest_similarity:.2f}", f"{other.threshold:.2f}"]
        table.add_row(other.pictures, *counts, *similar, str(other.false_pairs), f"{other.precision:.1%}")
    console.print(table)
    table = Table("images", "planted", "found", "false", "candidates", "nearest", "find", "missed", "GiB")
    for scale in scales:
        counts = [str(n) for n in (scale.images, scale.planted, scale.found, scale.false_pairs)]
        seconds = [f"{scale.nearest} s", f"{scale.find} s"]
        rest = [f"{scale.missed:.2%}", f"{scale.peak_bytes / 2**30:.1f}"]
        table.add_row(*counts, str(scale.candidates), *seconds, *rest)
    console.print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=2000, help="chests; of breasts and livers a fifth")
    parser.add_argument(
        "--planted", type=int, default=60, help="copies of each kind; at scale five times as many in all"
    )
    parser.add_argument("--scale", type=int, help="images to search among; a tenth of it first")
    parser.add_argument("--real", type=Path, help="the real mammography archive")
    parser.add_argument("--scratch", type=Path, help="folder of the many films, 20 kB each; kept where it is given")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only-scale", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _scales(asked: argparse.Namespace, folder: Path) -> list[Scale]:
    distractors.write(folder, asked.scale, SEED)
    planted = 5 * asked.planted
    return [_in_own_process(folder, images, planted) for images in (asked.scale // 10, asked.scale)]


def main() -> None:
    """Measure what was asked for, print it, write it."""
    asked = _arguments()
    if asked.only_scale:
        scale = at_scale(asked.scratch, asked.only_scale, asked.planted)
        print(json.dumps(asdict(scale)))
        return
    found: list[Found] = []
    strangers: list[Strangers] = []
    sets = [("chests", asked.films, asked.planted)] + [
        (n, asked.films // 5, asked.planted // 3) for n in ("breasts", "livers")
    ]
    for what, number, planted in sets if asked.films else []:
        with ProcessPoolExecutor(os.cpu_count()) as processes:
            films = list(processes.map(_drawn, [what] * number, range(number), chunksize=20))
        rows, others = measure(what, films, planted, NIH.near_duplicate)
        found, strangers = [*found, *rows], [*strangers, others]
    if asked.real:
        rows, others = measure("real lesions", lesions(asked.real), asked.planted, SAME_LESION)
        found, strangers = [*found, *rows], [*strangers, others]
    scales: list[Scale] = []
    if asked.scale:
        with tempfile.TemporaryDirectory() as own:
            scales = _scales(asked, asked.scratch or Path(own))
    _show(found, strangers, scales)
    if asked.json:
        result: dict[str, Any] = {
            "found": [asdict(row) | {"recall": row.recall} for row in found],
            "strangers": [asdict(row) | {"precision": row.precision} for row in strangers],
            "scale": [asdict(row) for row in scales],
        }
        asked.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
