"""``boxes.coco.json``: the boxes of a release in COCO's detection format, in pixels of the stored images.

The format: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, and https://cocodataset.org/#format-data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from tasks import boxes
from tasks.files import readable_json
from tasks.release.licences import licence_url
from tasks.schema import Dataset

NAME = "boxes.coco.json"
"""Path of the file within a release."""


def coco(dataset: Dataset, release: str, samples: pd.DataFrame, extension: str) -> bytes | None:
    """The file's bytes, of the samples that have boxes alone; None where there is no box.

    A box is ``[x, y, w, h]``: top-left corner and extent. One without area, or with a number that could not be read,
    stays in ``samples.parquet`` and is left out here: COCO has no way to say it.
    """
    if not dataset.has_boxes:
        return None
    ordered = samples.sort_values("sample_id", ignore_index=True)
    found = boxes.with_area(boxes.one_per_row(ordered, "boxes_scaled"))
    if found.empty:
        return None
    positions = sorted(found["position"].unique())
    image_ids = {int(position): number for number, position in enumerate(positions, 1)}
    categories = _categories(dataset, found)
    value = {
        "info": _info(dataset, release),
        "licenses": [{"id": 1, "name": dataset.licence, "url": licence_url(dataset.licence) or dataset.homepage}],
        "images": [_image(ordered.iloc[position], number, extension) for position, number in image_ids.items()],
        "annotations": _annotations(found, image_ids, categories),
        "categories": [{"id": number, "name": name, "supercategory": ""} for name, number in categories.items()],
    }
    return readable_json(value)


def _info(dataset: Dataset, release: str) -> dict[str, Any]:
    return {
        "contributor": "scanmill",
        "dataset": dataset.name,
        "description": f"Boxes of {dataset.title}, in pixels of the images of this release",
        "release": release,
        "url": dataset.homepage,
        "version": f"{dataset.version}+{release}",
    }


def _categories(dataset: Dataset, found: pd.DataFrame) -> dict[str, int]:
    """Label to id: every declared label, boxed or not, so that releases agree; then labels that only a box has."""
    names = boxes.labels_in_order(dataset, [*dataset.labels, *found["label"]])
    return {name: number for number, name in enumerate(names, 1)}


def _image(sample: pd.Series, number: int, extension: str) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": f"{sample['sample_id']}.{extension}",
        "height": int(sample["height"]),
        "license": 1,
        "sample_id": str(sample["sample_id"]),
        "shard": str(sample["shard"]),
        "split": str(sample["split"]),
        "width": int(sample["width"]),
    }


def _annotations(
    found: pd.DataFrame, image_ids: Mapping[int, int], categories: Mapping[str, int]
) -> list[dict[str, Any]]:
    rows = found[["position", "label", *boxes.NUMBERS]].itertuples(index=False, name=None)
    return [
        {
            "id": number,
            "area": w * h,
            "bbox": [x, y, w, h],
            "category_id": categories[label],
            "image_id": image_ids[position],
            "iscrowd": 0,
            "segmentation": [],
        }
        for number, (position, label, x, y, w, h) in enumerate(rows, 1)
    ]
