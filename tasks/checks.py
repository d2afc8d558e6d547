"""What the gates look at beside the published columns: groups over splits, repeated pixels, contrast.

Pure functions of tables. Columns ``check.*`` are added here and nowhere reach the sample table.
"""

from __future__ import annotations

import pandas as pd

from tasks.schema import Dataset


def with_metadata_checks(entries: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Entries with ``check.sample_id`` (null for what is refused anyway), ``check.has_group``, ``check.has_split`` and
    ``check.group_splits`` (labelled splits that the row's group is in)."""
    has_row = entries["table"].notna()
    is_sound = (entries["image_problem"] == "") & (entries["row_problem"] == "")
    checked = entries.copy()
    checked["check.sample_id"] = entries["sample_id"].where(is_sound)
    checked["check.has_group"] = _yes_no(entries["group_id"].notna() | ~has_row)
    checked["check.has_split"] = _yes_no(entries["split"].isin(dataset.splits) | ~has_row)
    checked["check.group_splits"] = _labelled_splits(entries, "group_id", dataset)
    return checked


def with_image_checks(samples: pd.DataFrame, dataset: Dataset) -> pd.DataFrame:
    """Samples with ``check.contrast`` (standard deviation as a share of the grey range), ``check.short_side`` (pixels),
    ``check.has_split``, ``check.group_splits``, ``check.pixel_splits``, ``check.pixel_labels`` (distinct label sets of
    identical images), ``check.is_repeat`` and ``check.copies_labelled``."""
    checked = samples.copy()
    checked["check.contrast"] = samples["intensity_std"] / (2.0 ** samples["bit_depth"] - 1)
    checked["check.short_side"] = samples[["source_width", "source_height"]].min(axis=1)
    is_decoded = samples["reason"] == ""
    checked["check.has_split"] = _yes_no(samples["split"].isin(dataset.splits) | ~is_decoded)
    checked["check.group_splits"] = _labelled_splits(samples, "group_id", dataset)
    checked["check.pixel_splits"] = _labelled_splits(samples, "pixel_sha256", dataset)
    checked["check.pixel_labels"] = _label_sets(samples, dataset)
    checked["check.is_repeat"] = _yes_no(is_decoded & samples["pixel_sha256"].duplicated())
    checked["check.copies_labelled"] = _yes_no(copies_labelled(samples, dataset))
    return checked


def copies_labelled(samples: pd.DataFrame, dataset: Dataset) -> pd.Series:
    """Whether a sample of an unlabelled split has the pixels of a sample of a labelled one."""
    is_labelled = samples["split"].isin(dataset.labelled_splits)
    pixels = samples["pixel_sha256"]
    return pixels.isin(pixels[is_labelled].dropna()) & ~is_labelled & pixels.notna()


def _labelled_splits(frame: pd.DataFrame, key: str, dataset: Dataset) -> pd.Series:
    """Number of labelled splits that each row's key is seen in; 0 without key."""
    labelled = frame.loc[frame["split"].isin(dataset.labelled_splits) & frame[key].notna(), [key, "split"]]
    counts = labelled.drop_duplicates()[key].value_counts()
    return frame[key].map(counts).fillna(0).astype("int64")


def _label_sets(samples: pd.DataFrame, dataset: Dataset) -> pd.Series:
    """Number of distinct label sets among labelled samples with the same pixels; 0 for unlabelled pixels."""
    labels = [f"label.{name}" for name in dataset.labels]
    is_labelled = samples[labels].notna().any(axis=1) & samples["pixel_sha256"].notna()
    distinct = samples.loc[is_labelled, ["pixel_sha256", *labels]].drop_duplicates()
    return samples["pixel_sha256"].map(distinct["pixel_sha256"].value_counts()).fillna(0).astype("int64")


def _yes_no(flags: pd.Series) -> pd.Series:
    return flags.map({True: "yes", False: "no"})


def findings(samples: pd.DataFrame, dataset: Dataset) -> dict[str, dict[str, object]]:
    """Duplicates and leakage among the written samples: name to ``value`` and ``sentence``."""
    pixels = samples["pixel_sha256"]
    groups = _labelled_splits(samples, "group_id", dataset)
    values = {
        "distinct_pixel_contents": (pixels.nunique(), "different pictures, by hash of the decoded pixels"),
        "repeats": (int(pixels.duplicated().sum()), "samples that repeat an earlier picture exactly"),
        "groups": (samples["group_id"].nunique(), f"groups that stay together ({dataset.group})"),
        "groups_across_labelled_splits": (
            samples.loc[groups > 1, "group_id"].nunique(),
            f"groups in two of {', '.join(dataset.labelled_splits)}",
        ),
        "unlabelled_copies_of_labelled": (
            int(copies_labelled(samples, dataset).sum()),
            "unlabelled samples identical to a labelled one",
        ),
        "conflicting_labels": (
            samples.loc[_label_sets(samples, dataset) > 1, "pixel_sha256"].nunique(),
            "pictures that carry two different labels",
        ),
    }
    return {name: {"value": int(value), "sentence": sentence} for name, (value, sentence) in values.items()}
