"""What the gates look at beside the published columns: groups over splits, repeated pixels, contrast.

Pure functions of tables. Columns ``check.*`` are added here and nowhere reach the sample table.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from tasks import appearance, boxes
from tasks.published_counts import with_counts
from tasks.readings import yes_no
from tasks.schema import Dataset

UNEVEN = 0.25
"""Relative deviation of a label's share in the smaller carved split from that of all rows which is worth a word."""
EVEN_FROM = 50
"""Rows that a label must have; of fewer, chance alone deals more unevenly than that."""


def with_metadata_checks(entries: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Entries with ``check.sample_id`` (null for what is refused anyway), ``check.has_group``, ``check.has_split``,
    ``check.group_splits`` (labelled splits that the row's group is in), ``check.part`` (which archive of a complete
    copy holds the image), ``check.one_sex`` (whether all rows of the row's patient have its sex) and the columns of
    :func:`tasks.published_counts.with_counts`."""
    has_row = entries["table"].notna()
    is_sound = (entries["image_problem"] == "") & (entries["row_problem"] == "")
    checked = entries.copy()
    checked["check.sample_id"] = entries["sample_id"].where(is_sound)
    checked["check.has_group"] = yes_no(entries["group_id"].notna() | ~has_row)
    checked["check.has_split"] = yes_no(entries["split"].isin(dataset.splits) | ~has_row)
    checked["check.group_splits"] = _labelled_splits(entries, "group_id", dataset)
    checked["check.part"] = _parts(entries["key"], dataset)
    checked["check.one_sex"] = _one_sex(entries)
    checked = checked.assign(**with_counts(entries, dataset))
    if dataset.carved:
        checked["check.uneven_label"] = _uneven_labels(entries, dataset.carved, dataset)
    return checked


def _uneven_labels(entries: pd.DataFrame, carved: tuple[str, str], dataset: Dataset) -> pd.Series:
    """For rows of the carved splits a label of theirs that is spread unevenly over both, in words; else empty."""
    rows = entries[entries["split"].isin(carved)]
    is_smaller = rows["split"] == carved[1]
    words = pd.Series("", index=entries.index)
    for name in dataset.labels:
        carriers = rows[f"label.{name}"] == 1
        share = is_smaller[carriers].mean()
        if carriers.sum() >= EVEN_FROM and abs(share - is_smaller.mean()) > UNEVEN * is_smaller.mean():
            words[rows.index[carriers]] = f"{name} ({share:.1%} in {carved[1]}, {is_smaller.mean():.1%} of all)"
    return words


def _one_sex(entries: pd.DataFrame) -> pd.Series:
    """``yes`` or ``no``, null where patient or sex is unknown."""
    sexes = entries.groupby("group_id")["sex"].nunique()
    said = entries["group_id"].map(sexes).where(entries["sex"].notna())
    return yes_no((said == 1).astype(object).where(said.notna(), None))


def _parts(keys: pd.Series, dataset: Dataset) -> pd.Series:
    """Name of the archive of a complete copy that each image belongs to; empty where the dataset declares none."""
    if not dataset.parts:
        return pd.Series("", index=keys.index)
    names, last = zip(*dataset.parts, strict=True)
    places = np.searchsorted(np.array(last), keys.fillna("").to_numpy(dtype=str))
    return pd.Series(np.array([*names, f"after {names[-1]}"])[places], index=keys.index)


def with_image_checks(samples: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Samples with ``check.contrast`` (standard deviation as a share of the grey range), ``check.short_side`` (pixels),
    ``check.has_split``, ``check.group_splits``, ``check.pixel_splits``, ``check.pixel_labels`` (distinct label sets of
    identical images), ``check.is_repeat``, ``check.copies_labelled``, ``check.boxes_inside``, ``check.mask_at_border``
    and those of :func:`tasks.appearance.shown`."""
    checked = samples.copy()
    checked["check.contrast"] = samples["intensity_std"] / appearance.greatest(samples, dataset)
    checked["check.short_side"] = samples[["source_width", "source_height"]].min(axis=1)
    is_decoded = samples["reason"] == ""
    checked["check.has_split"] = yes_no(samples["split"].isin(dataset.splits) | ~is_decoded)
    checked["check.group_splits"] = _labelled_splits(samples, "group_id", dataset)
    content = contents(samples, dataset)
    checked["check.pixel_splits"] = _labelled_splits(samples.assign(content=content), "content", dataset)
    checked["check.pixel_labels"] = _label_sets(samples, dataset)
    checked["check.is_repeat"] = yes_no(is_decoded & content.duplicated())
    checked["check.copies_labelled"] = yes_no(copies_labelled(samples, dataset))
    if dataset.has_boxes:
        checked["check.boxes_inside"] = _boxes_inside(samples)
    if dataset.has_masks:
        checked["check.mask_at_border"] = yes_no(samples["mask_touches_border"])
    return checked.assign(**appearance.shown(samples, dataset))


def _boxes_inside(samples: pd.DataFrame) -> pd.Series:
    """``yes`` where all boxes of a decoded image lie in it, ``no`` where one does not, null without box or image."""
    found = boxes.one_per_row(samples, "boxes")
    sides = samples.iloc[found["position"]][["source_width", "source_height"]].to_numpy()
    far = found[["x", "y"]].to_numpy() + found[["w", "h"]].to_numpy()
    fits = (found[["x", "y"]].to_numpy() >= 0).all(axis=1) & (far <= sides).all(axis=1)
    each = pd.Series(fits).groupby(found["position"].to_numpy()).all()
    inside = pd.Series(yes_no(each).reindex(range(len(samples))).to_numpy(), index=samples.index, dtype=object)
    return inside.where(samples["source_width"].notna(), None)


def contents(samples: pd.DataFrame, dataset: Dataset) -> pd.Series:
    """What identical images have in common: the hash of their pixels, or of their files where no pixel was looked at.

    Null for an image that was refused.
    """
    return samples["pixel_sha256" if dataset.is_decoded else "source_sha256"].where(samples["image_sha256"].notna())


def copies_labelled(samples: pd.DataFrame, dataset: Dataset) -> pd.Series:
    """Whether a sample of an unlabelled split is identical to a sample of a labelled one."""
    is_labelled = samples["split"].isin(dataset.labelled_splits)
    pixels = contents(samples, dataset)
    return pixels.isin(pixels[is_labelled].dropna()) & ~is_labelled & pixels.notna()


def _labelled_splits(frame: pd.DataFrame, key: str, dataset: Dataset) -> pd.Series:
    """Number of labelled splits that each row's key is seen in; 0 without key."""
    labelled = frame.loc[frame["split"].isin(dataset.labelled_splits) & frame[key].notna(), [key, "split"]]
    counts = labelled.drop_duplicates()[key].value_counts()
    return frame[key].map(counts).fillna(0).astype("int64")


def _label_sets(samples: pd.DataFrame, dataset: Dataset) -> pd.Series:
    """Number of distinct label sets among labelled samples that are identical; 0 for unlabelled ones."""
    labels = [f"label.{name}" for name in dataset.labels]
    content = contents(samples, dataset)
    is_labelled = samples[labels].notna().any(axis=1) & content.notna()
    distinct = samples.loc[is_labelled, labels].assign(content=content).drop_duplicates()
    return content.map(distinct["content"].value_counts()).fillna(0).astype("int64")


def findings(samples: pd.DataFrame, dataset: Dataset) -> dict[str, dict[str, object]]:
    """Duplicates and leakage among the written samples: name to ``value`` and ``sentence``."""
    content = contents(samples, dataset)
    groups = _labelled_splits(samples, "group_id", dataset)
    by_hash = (
        "pictures, by hash of the decoded pixels" if dataset.is_decoded else "files, by hash; no pixel was compared"
    )
    values = {
        "distinct_pixel_contents": (content.nunique(), f"different {by_hash}"),
        "repeats": (int(content.duplicated().sum()), "samples that repeat an earlier picture exactly"),
        "groups": (samples["group_id"].nunique(), f"groups that stay together (by {dataset.group})"),
        "groups_across_labelled_splits": (
            samples.loc[groups > 1, "group_id"].nunique(),
            f"groups in two of {', '.join(dataset.labelled_splits)}",
        ),
        "unlabelled_copies_of_labelled": (
            int(copies_labelled(samples, dataset).sum()),
            "unlabelled samples identical to a labelled one",
        ),
        "conflicting_labels": (
            content[_label_sets(samples, dataset) > 1].nunique(),
            "pictures that carry two different labels",
        ),
    }
    return {name: {"value": int(value), "sentence": sentence} for name, (value, sentence) in values.items()}
