"""The unit of measuring: some fifty samples and one engine, measured once, kept under a digest of all they depend on.

Radiomics is one engine, and each arm of the recipe another. Engines import what they need when they are first used, so
that a worker that measures texture never loads torch.
"""

from __future__ import annotations

import hashlib
import io
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

import scanmill
from scanmill.reading import pairs_in_order
from tasks.code_version import library_versions, source_digest
from tasks.files import digest, read_table, write_bytes
from tasks.learning.radiomics import texture
from tasks.learning.radiomics.regions import Image, Inside
from tasks.learning.reading import refusing
from tasks.learning.recipe import Radiomics
from tasks.pieces import OtherCode, differences
from tasks.storage import Location, location

logger = logging.getLogger("scanmill.measure")

FEWEST, MEAN, MOST = 24, 24, 96
"""Samples of a chunk: fewest, how many ids there are on average to one that ends a chunk after that, and most; 45 on
average. Where chunks end depends on ids alone, so that a sample more or less moves only the ends next to it."""
PARTS = 16
"""A chunk that kills its worker is cut into so many, and each of them again, down to the guilty sample."""
SCHEMA = pa.schema([("sample_id", pa.string()), ("reason", pa.string()), ("values", pa.list_(pa.float64()))])
"""Of a chunk file; ``values`` is null where there is a reason, else in the order of its engine's columns."""
SHARED = (
    "scanmill/images.py",
    "scanmill/reading.py",
    "tasks/learning/radiomics/feature_chunks.py",
    "tasks/learning/radiomics/regions.py",
)
CODE: Mapping[str, tuple[str, ...]] = {
    "texture": ("tasks/learning/radiomics/texture.py", *SHARED),
    "deep": (
        "tasks/learning/radiomics/deep.py",
        "tasks/learning/networks.py",
        "tasks/learning/weights.py",
        *SHARED,
    ),
}
LIBRARIES: Mapping[str, tuple[str, ...]] = {
    "texture": ("numpy", "opencv-python-headless", "pyradiomics", "PyWavelets", "SimpleITK"),
    "deep": ("monai", "numpy", "opencv-python-headless", "torch"),
}
"""Those whose version can change a feature."""
RADIOMICS = "radiomics"

Values: TypeAlias = "list[float]"
Measure: TypeAlias = "Callable[[Image, Inside], Values]"


class Sample(NamedTuple):
    """What the features of one sample depend on."""

    sample_id: str
    image_sha256: str
    mask_sha256: str


@dataclass(frozen=True)
class Engine:
    """What measures: PyRadiomics, or the network of an arm."""

    options: Radiomics
    seed: int
    """The recipe's."""
    arm: str | None = None
    """None: PyRadiomics."""

    @property
    def name(self) -> str:
        """For messages and counts."""
        return self.arm or RADIOMICS

    def code(self) -> dict[str, str]:
        """Its sources and libraries as they are in this process: never sent with it."""
        kind = "deep" if self.arm else "texture"
        return {"scanmill (features)": source_digest(*CODE[kind]), **library_versions(LIBRARIES[kind])}

    @cached_property
    def settings(self) -> dict[str, Any]:
        """All that shapes its features, as plain values; not where on this machine weights lie."""
        if self.arm is None:
            return texture.settings_of(self.options).as_json()
        arm = self.options.arms[self.arm]
        return {
            "network": "resnet50",
            "input": arm.input,
            "weights": arm.weights and {"sha256": arm.weights.sha256, "layout": arm.weights.layout},
            "random": None if arm.weights else [self.arm, self.seed],
            "size": self.options.size,
            "margin": self.options.margin,
        }


@dataclass(frozen=True)
class FeatureChunk:
    """Samples and an engine, small enough to send; a part of a chunk is a smaller one, with a name of its own."""

    engine: Engine
    samples: tuple[Sample, ...]
    code: Mapping[str, str]
    """:meth:`Engine.code` of whoever plans: another one elsewhere would write other bytes under the same name."""

    def __str__(self) -> str:
        """For logs, without a sample's name."""
        return f"{self.engine.name}: chunk {self.digest[:8]} ({len(self.samples)} images)"

    @cached_property
    def digest(self) -> str:
        """Of samples, settings, code and libraries."""
        return digest([self.engine.settings, dict(self.code), [list(sample) for sample in self.samples]])[:40]

    @property
    def file_name(self) -> str:
        """Name below ``<lake>/<dataset>/features/``."""
        return f"{self.digest}.parquet"

    @property
    def lost_name(self) -> str:
        """Of the note that it killed its worker, in the same folder; the next run tries it again all the same."""
        return f"{self.digest}.lost.json"


def engines_of(options: Radiomics, seed: int) -> tuple[Engine, ...]:
    """PyRadiomics, then the recipe's arms."""
    return tuple(Engine(options, seed, arm) for arm in (None, *options.arms))


def plan_chunks(engine: Engine, samples: pd.DataFrame) -> list[FeatureChunk]:
    """Chunks of all samples (of a release's table), by split and id: those of a split lie in the same shards."""
    columns = [samples[name].astype(str) for name in ("split", *Sample._fields)]
    rows = sorted(zip(*columns, strict=True))
    code = engine.code()
    return [
        FeatureChunk(engine, part, code)
        for split in sorted(set(columns[0]))
        for part in _cut([Sample(*row[1:]) for row in rows if row[0] == split])
    ]


def _cut(samples: Sequence[Sample]) -> Iterator[tuple[Sample, ...]]:
    part: list[Sample] = []
    for sample in samples:
        part.append(sample)
        is_end = int(hashlib.sha256(sample.sample_id.encode()).hexdigest()[:8], 16) % MEAN == 0
        if (is_end and len(part) >= FEWEST) or len(part) == MOST:
            yield tuple(part)
            part = []
    if part:
        yield tuple(part)


def cut(chunk: FeatureChunk) -> list[FeatureChunk]:
    """Up to 16 parts; none of a single sample."""
    count = min(PARTS, len(chunk.samples))
    if count < 2:
        return []
    ends = [len(chunk.samples) * number // count for number in range(count + 1)]
    return [FeatureChunk(chunk.engine, chunk.samples[a:b], chunk.code) for a, b in pairwise(ends)]


def in_pieces(chunk: FeatureChunk, there: Collection[str]) -> list[FeatureChunk]:
    """The chunk, or the parts that it was once cut into, given the names of all files that are there."""
    if chunk.file_name in there or chunk.lost_name in there:
        return [chunk]
    pieces = [piece for part in cut(chunk) for piece in in_pieces(part, there)]
    is_cut = any(piece.file_name in there or piece.lost_name in there for piece in pieces)
    return pieces if is_cut else [chunk]


def measure_chunk(chunk: FeatureChunk, *, release: str, manifest_sha256: str, folder: str) -> None:
    """Read, measure and write one chunk, on a Dask worker.

    ``release`` is the release's own folder. Raises :class:`DataRefused` where an image or a mask is damaged, and
    :class:`OtherCode` where this process would measure something else than the digest stands for.
    """
    if found := differences(chunk.engine.code(), chunk.code):
        raise OtherCode(f"a Dask worker has {found}: install the same everywhere")
    source = _opened(release, manifest_sha256)
    ids = [sample.sample_id for sample in chunk.samples]
    rows = pd.Index(source.samples["sample_id"]).get_indexer(ids).astype(np.int64)
    measure = measure_of(chunk.engine)
    reasons: list[str] = []
    values: list[Values | None] = []
    with refusing():
        for _, pair in pairs_in_order(source, rows, threads=1):
            try:
                values.append(measure(*pair))
                reasons.append("")
            except texture.Unmeasurable as error:
                values.append(None)
                reasons.append(str(error))
    refused = Counter(reason.partition(":")[0] for reason in reasons if reason)
    if refused:
        said = ", ".join(f"{count} × {reason}" for reason, count in refused.items())
        logger.info("%s: could not measure %s", chunk, said)
    table = pa.table({"sample_id": ids, "reason": reasons, "values": values}, schema=SCHEMA)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="ZSTD", use_dictionary=False, write_page_checksum=True)
    write_bytes(location(folder) / chunk.file_name, buffer.getvalue())


def measure_of(engine: Engine) -> Measure:
    """Pixels and mask of one sample to the features of an engine, in their order.

    What it returns raises :class:`texture.Unmeasurable`.
    """
    if engine.arm is None:
        settings = texture.settings_of(engine.options)
        wanted = texture.names(settings)
        return lambda pixels, inside: texture.measured(pixels, inside, settings, wanted)
    from tasks.learning.radiomics import deep

    options = engine.options
    arm = options.arms[engine.arm]
    network = deep.kept_network(engine.arm, arm, deep.seed_of(engine.arm, engine.seed))
    return lambda pixels, inside: deep.measured(pixels, inside, network, arm.input, options.margin, options.size)


@lru_cache(1)
def _opened(release: str, manifest_sha256: str) -> scanmill.Release:
    with refusing():
        return scanmill.open_release(release, manifest_sha256=manifest_sha256)


def read_chunk(chunk: FeatureChunk, folder: Location) -> pa.Table:
    """What :func:`measure_chunk` left. Raises :class:`OSError` or :class:`pa.ArrowException` where it is damaged."""
    return read_table(folder / chunk.file_name)
