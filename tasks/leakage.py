"""What shows the same picture as something else: the groups of a dataset whose publisher gave none, and the pairs that
would leak from one split into another. Tables in, tables out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from tasks.chunk_columns import Positions, Read, squares
from tasks.comparison import Comparing
from tasks.fingerprints.polar import FRAMES, LENGTH
from tasks.near_duplicates import Pictures, families, pairs
from tasks.readings import yes_no
from tasks.schema import Dataset

PAIRS = pa.schema(
    [
        ("sample_a", pa.string()),
        ("sample_b", pa.string()),
        ("split_a", pa.string()),
        ("split_b", pa.string()),
        ("similarity", pa.float64()),
        ("turned_degrees", pa.float64()),
        ("is_mirrored", pa.bool_()),
        ("labels_agree", pa.bool_()),
        ("crosses_groups", pa.bool_()),
        ("crosses_splits", pa.bool_()),
    ]
)
"""The table of pairs. ``sample_b`` lies on ``sample_a``, turned and mirrored so; ``similarity`` is 0–1, 1 for equal
pixels; ``crosses_splits``: both splits are labelled, and two; ``labels_agree`` is true where one has no labels."""


def different(samples: pd.DataFrame) -> pd.DataFrame:
    """The first sample of every picture content, in the order of archive and member."""
    decoded = samples[samples["pixel_sha256"].notna()]
    return decoded.sort_values(["archive", "member"]).drop_duplicates("pixel_sha256")


def pictures_of(samples: pd.DataFrame, read: Read) -> Pictures:
    """What these samples, which have ``chunk`` and ``chunk_row``, are compared by."""
    prints = read(list(zip(samples["chunk"], samples["chunk_row"], strict=True)), "fingerprint")
    return Pictures(
        prints.view(np.int8).reshape(-1, len(FRAMES), LENGTH),
        squares(samples, read, "thumbnail"),
        squares(samples, read, "picture"),
    )


def group_by_picture(
    samples: pd.DataFrame, read: Read, dataset: Dataset, comparing: Comparing | None = None
) -> tuple[pd.Series, pd.DataFrame]:
    """``group_id`` of samples whose publisher tells neither patient nor source: all that shows one picture.

    A group is named after the pixels of its first member by archive and member, so that what is added later, in an
    archive of a later name, renames none. Beside it the pairs that tie the groups, as :func:`find` gives them.
    """
    first = different(samples)
    if first.empty:
        return pd.Series(None, index=samples.index, dtype=object), _no_pairs()
    compare = comparing.among(first) if comparing else None
    family, ties = families(pictures_of(first, read), least=dataset.near_duplicate, compare=compare)
    pixels = first["pixel_sha256"].to_numpy()
    names = dict(zip(pixels, pixels[family], strict=True))
    groups = "px-" + samples["pixel_sha256"].map(names, na_action="ignore").str[:16]
    return groups, _named(ties, first.assign(group_id=groups), dataset)


def find(samples: pd.DataFrame, read: Read, dataset: Dataset, comparing: Comparing | None = None) -> pd.DataFrame:
    """Pairs of samples of two groups that show the same picture, :data:`PAIRS`; those that cross splits first.

    Equal pixels are compared once: for them see :func:`tasks.checks.findings`.
    """
    first = different(samples)
    if len(first) < 2:
        return _no_pairs()
    groups = pd.factorize(first["group_id"].fillna(first["pixel_sha256"]))[0]
    compare = comparing.among(first) if comparing else None
    found = pairs(pictures_of(first, read), groups, least=dataset.near_duplicate, compare=compare)
    return _named(found, first, dataset)


def _no_pairs() -> pd.DataFrame:
    """The table of pairs without a row, every column of its type, so that rows can be chosen by it."""
    empty: pd.DataFrame = PAIRS.empty_table().to_pandas()
    return empty


def _named(found: pd.DataFrame, samples: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    ends = {end: samples.iloc[found[column]] for end, column in (("a", "first"), ("b", "second"))}
    a, b = (ends[end].reset_index(drop=True) for end in "ab")
    labels = [f"label.{name}" for name in dataset.labels]
    differ = (a[labels] != b[labels]) & a[labels].notna() & b[labels].notna()
    is_labelled = a["split"].isin(dataset.labelled_splits) & b["split"].isin(dataset.labelled_splits)
    table = pd.DataFrame(
        {
            "sample_a": a["sample_id"],
            "sample_b": b["sample_id"],
            "split_a": a["split"],
            "split_b": b["split"],
            "similarity": found["similarity"],
            "turned_degrees": found["turned_degrees"],
            "is_mirrored": found["is_mirrored"].astype(bool),
            "labels_agree": ~differ.fillna(False).astype(bool).any(axis=1),
            "crosses_groups": (a["group_id"] != b["group_id"]).astype(bool),
            "crosses_splits": (is_labelled & (a["split"] != b["split"])).astype(bool),
        },
        columns=PAIRS.names,
    )
    return table.sort_values(
        ["crosses_splits", "similarity", "sample_a", "sample_b"],
        ascending=[False, False, True, True],
        ignore_index=True,
    )


def as_checks(found: pd.DataFrame, samples: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """What the gate looks at, by the index of ``samples``: ``check.leaks_picture`` (``yes`` for the side of a pair
    across labelled splits that is to go: that of the split that comes first, so that what is tested on stays whole),
    ``check.shows_other_group``, ``check.shows_labelled``, ``check.copy_labels_differ``; ``check.copy_of`` in words."""
    apart = found[found["crosses_groups"]]
    leaking = _leaking_side(apart[apart["crosses_splits"]], dataset)
    in_apart = set(apart["sample_a"]) | set(apart["sample_b"])
    differing = apart[~apart["labels_agree"].astype(bool)]
    names = samples["sample_id"]
    odd = names.isin(set(differing["sample_a"]) | set(differing["sample_b"]))
    if dataset.group == "picture":
        odd |= _label_sets(samples, dataset) > 1
    return pd.DataFrame(
        {
            "check.leaks_picture": yes_no(names.isin(list(leaking))),
            "check.shows_other_group": yes_no(names.isin(list(in_apart))),
            "check.shows_labelled": yes_no(_shows_labelled(found, samples, dataset)),
            "check.copy_labels_differ": yes_no(odd),
            "check.copy_of": names.map(leaking).astype(object),
        }
    )


def _leaking_side(crossing: pd.DataFrame, dataset: Dataset) -> dict[str, str]:
    """Sample to refuse, to the words that say why."""
    rank = {split: number for number, split in enumerate(dataset.labelled_splits)}
    words: dict[str, str] = {}
    for row in crossing.to_dict("records"):
        goes, stays = ("a", "b") if rank[row["split_a"]] < rank[row["split_b"]] else ("b", "a")
        mirrored = ", mirrored" if row["is_mirrored"] else ""
        words.setdefault(
            row[f"sample_{goes}"],
            f"the same picture as {row[f'sample_{stays}']} in {row[f'split_{stays}']}: similarity "
            f"{row['similarity']:.2f}, turned {row['turned_degrees']:.0f}°{mirrored}",
        )
    return words


def _shows_labelled(found: pd.DataFrame, samples: pd.DataFrame, dataset: Dataset) -> pd.Series:
    """Whether a sample of an unlabelled split shows what a labelled one does, equal pixels or not."""
    is_labelled = samples["split"].isin(dataset.labelled_splits)
    groups = samples["group_id"]
    shows = groups.isin(groups[is_labelled].dropna()) if dataset.group == "picture" else groups.isna() & False
    for own, other in (("a", "b"), ("b", "a")):
        labelled = found[f"split_{other}"].isin(dataset.labelled_splits)
        shows |= samples["sample_id"].isin(found.loc[labelled, f"sample_{own}"])
    return shows & ~is_labelled & samples["pixel_sha256"].notna()


def _label_sets(samples: pd.DataFrame, dataset: Dataset) -> pd.Series:
    """Number of distinct label sets among labelled samples of the same group; 0 where none is labelled."""
    labels = [f"label.{name}" for name in dataset.labels]
    is_labelled = samples[labels].notna().any(axis=1) & samples["group_id"].notna()
    distinct = samples.loc[is_labelled, ["group_id", *labels]].drop_duplicates()
    return samples["group_id"].map(distinct["group_id"].value_counts()).fillna(0).astype("int64")


def positions_of(samples: pd.DataFrame, count: int) -> Positions:
    """Up to ``count`` positions, spread by the hash of the pixels, so that a sample more or less changes few."""
    order = np.argsort(samples["pixel_sha256"].to_numpy(dtype=str), kind="stable")
    return np.sort(order[:count])
