"""What the report says of images that look alike: how sure it is, and what is in other datasets of the lake as well."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
from PIL import Image

from tasks import leakage, shards
from tasks.chunk_columns import reader, squares
from tasks.datasets import catalogue
from tasks.files import read_frame
from tasks.fingerprints.calibration import calibrate
from tasks.fingerprints.polar import from_bytes
from tasks.fingerprints.search import nearest
from tasks.images import picture_of
from tasks.lake import Lake, latest_release
from tasks.near_duplicates import Pictures
from tasks.release.stored import read_stored
from tasks.schema import ScanmillError
from tasks.stages.plan import Plan
from tasks.storage import Location

POOL = 400
"""Images among which copies are planted: with what is planted a thousand comparisons, a few seconds."""
PLANTED = 12
LEAST_IMAGES = 200
"""Of fewer nothing can be learned: a false pair in a thousand would not show."""
ALIKE = 0.6
"""Cosine of fingerprints from which on images of two datasets are laid on each other."""
LOOKED_AT = 4000
"""Most pairs of two datasets that are, the most alike: each is read from two stores."""


def measured(plan: Plan) -> dict[str, Any] | None:
    """How well copies are found among this release's images; None of a handful."""
    planned = read_frame(
        plan.work / "plan.parquet",
        columns=["sample_id", "archive", "member", "pixel_sha256", "group_id", *shards.PLACES, "image_sha256"],
    )
    first = leakage.different(planned)
    if len(first) < LEAST_IMAGES:
        return None
    pool = first.iloc[leakage.positions_of(first, POOL)].sort_values("pixel_sha256")
    planted = pa.Table.from_pandas(pool.head(PLANTED), preserve_index=False)
    encoded = shards.read_images(planted, plan.lake.chunks, plan.archives)
    groups = pd.factorize(pool["group_id"].fillna(pool["pixel_sha256"]))[0].astype(np.int64)
    pictures = leakage.pictures_of(pool, reader(plan.lake.chunks))
    return calibrate(pictures, groups, [_decoded(image) for image in encoded], least=plan.dataset.near_duplicate)


def _decoded(encoded: bytes) -> npt.NDArray[Any]:
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image)


def overlap(plan: Plan) -> list[dict[str, Any]]:
    """Images that the newest release of every other dataset of the lake has, too: ``dataset release pairs exact near``.

    Exact are equal pixels, near those that show the same picture. Releases from before fingerprints were kept are left
    out.
    """
    if not (plan.staging / "fingerprints.parquet").exists():
        return []
    others = list(_others(plan.lake))
    own = read_frame(plan.staging / "fingerprints.parquet") if others else pd.DataFrame()
    return [_shared(plan, own, other, release) for other, release in others]


def _others(lake: Lake) -> Iterator[tuple[Lake, str]]:
    for name in catalogue():
        other = Lake(lake.root, name)
        try:
            release = latest_release(other)
        except ScanmillError:
            continue
        if other.dataset != lake.dataset and (other.release(release) / "fingerprints.parquet").is_file():
            yield other, release


def _shared(plan: Plan, own: pd.DataFrame, other: Lake, release: str) -> dict[str, Any]:
    folder = other.release(release)
    theirs = read_frame(folder / "fingerprints.parquet")
    exact = int(own["pixel_sha256"].isin(theirs["pixel_sha256"]).sum())
    mine = own[~own["pixel_sha256"].isin(theirs["pixel_sha256"])].drop_duplicates("pixel_sha256")
    theirs = theirs.drop_duplicates("pixel_sha256")
    near = _near(plan, mine, folder, other.dataset, theirs)
    return {"dataset": other.dataset, "release": release, "pairs": exact + near, "exact": exact, "near": near}


def _near(plan: Plan, mine: pd.DataFrame, folder: Location, dataset: str, theirs: pd.DataFrame) -> int:
    """Images of this release that show the same picture as one of the other, without having its pixels."""
    if mine.empty or theirs.empty:
        return 0
    prints = from_bytes([*mine["fingerprint"], *theirs["fingerprint"]])
    sides = np.repeat([0, 1], [len(mine), len(theirs)])
    candidates = nearest(prints, sides, least=ALIKE, most=1)[:LOOKED_AT]
    needed = np.unique(candidates[:, :2])
    ours, others = needed[needed < len(mine)], needed[needed >= len(mine)] - len(mine)
    images = [
        *_pictures_here(plan, mine["sample_id"].iloc[ours]),
        *_pictures_there(folder, dataset, theirs["sample_id"].iloc[others]),
    ]
    if not images:
        return 0
    compared = Pictures.made_of(np.stack(images))
    renumbered = np.column_stack([np.searchsorted(needed, candidates[:, :2]), candidates[:, 2]])
    found = compared.agreeing(renumbered, plan.dataset.near_duplicate)
    return len({min(first, second) for first, second, _ in found})


def _pictures_here(plan: Plan, names: pd.Series) -> list[npt.NDArray[np.uint8]]:
    planned = read_frame(plan.work / "plan.parquet", columns=["sample_id", "chunk", "chunk_row"]).set_index("sample_id")
    rows = planned.loc[list(names)]
    return list(squares(rows, reader(plan.lake.chunks), "picture")(np.arange(len(rows))))


def _pictures_there(folder: Location, dataset: str, names: pd.Series) -> list[npt.NDArray[np.uint8]]:
    columns = ["sample_id", "shard", "row", "tar_offset", "image_bytes"]
    placed = read_frame(folder / "samples.parquet", columns=columns).set_index("sample_id")
    rows: Sequence[Mapping[str, Any]] = placed.loc[list(names)].to_dict("records")  # type: ignore[assignment]
    return [picture_of(_decoded(image)) for image in read_stored(folder, dataset, rows)]
