"""What must hold of images in every dataset: alone, beside each other, and split by split."""

from __future__ import annotations

from expectations.declaring import Expectation, expectation, in_one_split, never, odd, warned, whole_groups
from tasks.schema import BLANK_CONTRAST, Dataset, DriftKind

LOW_CONTRAST = 0.2
"""Range between the darkest and the brightest hundredth of the pixels, as a share of white; the least of the real
mammography set is 0.37, that of made-up films of the others 0.5."""
WIDE_BORDER = 0.1
"""Of the side that it lies across; shutters of made-up films reach 0.035."""

MASK_PROBLEMS = {
    "mask-undecodable": "Every mask can be read and decoded.",
    "mask-size": "Every mask has the size of its image.",
    "mask-empty": "Every mask marks something.",
    "mask-parts": "Every mask is in one piece.",
}

DRIFT_SENTENCES: dict[DriftKind, str] = {
    "label": "Every label is about as common in all labelled splits",
    "target": "Every measurement is about as high in all labelled splits",
    "age": "Patients are about as old in all labelled splits",
    "sex": "Women and men have about the same share in all labelled splits",
    "view": "Every view has about the same share in all labelled splits",
    "site": "Every hospital has about the same share in all labelled splits",
    "intensity": "Images are about as bright and as rich in contrast in all labelled splits",
    "size": "Published images are of about the same size and shape in all labelled splits",
    "group": "Patients or groups have about as many images each in all labelled splits",
}
DRIFT_MEASURES: dict[DriftKind, str] = {
    **dict.fromkeys(("target", "age", "intensity", "size", "group"), "Cliff's delta"),
    **dict.fromkeys(("sex", "view", "site"), "Cramér's V"),
    "label": "Cohen's h",
}


def images(dataset: Dataset) -> list[Expectation]:
    """In the order in which reasons take precedence: what cannot be read before how it looks, that before likeness."""
    return [
        *_boxes(dataset),
        *_masks(dataset),
        *_readable(dataset),
        *_as_declared(dataset),
        *_looks(dataset),
        *_size_and_negatives(dataset),
        never("check.has_split", "no-split", "Every sample is in exactly one split.", ["no"]),
        whole_groups(dataset),
        *_identical(dataset),
        *_likeness(dataset),
        *_drift(dataset),
    ]


def _boxes(dataset: Dataset) -> list[Expectation]:
    if not dataset.has_boxes:
        return []
    return [
        expectation(
            "column_values_to_be_in_set",
            "box-beyond-image",
            "Every box lies inside its image as decoded, so boxes and images are of one size.",
            column="check.boxes_inside",
            value_set=["yes"],
        )
    ]


def _masks(dataset: Dataset) -> list[Expectation]:
    """One per reason, named by it: the failing rows are those that conversion refused for their masks."""
    if not dataset.has_masks:
        return []
    return [
        *(never("reason", code, sentence, [code]) for code, sentence in MASK_PROBLEMS.items()),
        odd(
            "mask-at-border", "No mask is cut off by the border of its image.", "check.mask_at_border", count_by="split"
        ),
    ]


def _readable(dataset: Dataset) -> list[Expectation]:
    fine = ["", *(MASK_PROBLEMS if dataset.has_masks else ())]
    in_set = "column_values_to_be_in_set"
    by_header = expectation(
        in_set,
        "sound-header",
        "Every image can be read, and its header says that it is one.",
        column="reason",
        value_set=fine,
    )
    return [
        *([] if dataset.is_decoded else [by_header]),
        expectation(
            in_set,
            "decodable",
            "Every image can be read and decoded.",
            column="reason",
            value_set=fine,
            needs_pixels=True,
        ),
        expectation(
            "column_values_to_be_between",
            "blank-frame",
            "No image is blank (one grey level all over).",
            column="check.contrast",
            min_value=BLANK_CONTRAST,
            needs_pixels=True,
        ),
    ]


def _as_declared(dataset: Dataset) -> list[Expectation]:
    declared = dataset.image
    return [
        expectation(
            "column_values_to_be_in_set",
            "unexpected-channels",
            f"Images have {', '.join(map(str, declared.channels))} channel(s) once equal channels are merged.",
            column="channels",
            value_set=list(declared.channels),
        ),
        expectation(
            "column_values_to_be_between",
            "too-small",
            f"The shorter side of every image has at least {declared.min_side} pixels.",
            column="check.short_side",
            min_value=declared.min_side,
        ),
    ]


def _looks(dataset: Dataset) -> list[Expectation]:
    """How images look, all of them warnings: the picture stays, whoever uses it is told."""
    looks = dataset.appearance
    darkest, brightest = looks.mean_grey
    return [
        warned(
            "near-black",
            f"No image is nearly black (mean grey below {255 * darkest:.0f} of 255).",
            "check.mean_grey",
            least=darkest,
            needs_pixels=True,
        ),
        warned(
            "near-white",
            f"No image is nearly white (mean grey above {255 * brightest:.0f} of 255).",
            "check.mean_grey",
            most=brightest,
            needs_pixels=True,
        ),
        warned(
            "low-contrast",
            f"Every image uses at least {LOW_CONTRAST:.0%} of the range from black to white.",
            "check.grey_range",
            least=LOW_CONTRAST,
            needs_pixels=True,
        ),
        warned("burned-in-text", _text_sentence(dataset), "text_regions", most=0, needs_pixels=True),
        expectation(
            "column_values_to_be_in_set",
            "unexpected-bit-depth",
            f"Images have {' or '.join(map(str, looks.bit_depths))} bits.",
            "warning",
            column="bit_depth",
            value_set=list(looks.bit_depths),
        ),
    ]


def _text_sentence(dataset: Dataset) -> str:
    if dataset.image.hides_outside_scan:
        return "Nothing is written on a scan, now that all around it is blackened: it could name the patient."
    return "Nothing is written on an image that could name the patient; a lone side marker (L, R) may be there."


def _size_and_negatives(dataset: Dataset) -> list[Expectation]:
    """Warnings too, for datasets that declare how their images lie in the frame."""
    looks = dataset.appearance
    made = []
    if looks.sizes:
        sizes = " or ".join(f"{width} × {height}" for width, height in looks.sizes)
        sentence = f"Images are of {sizes} pixels as published, or all of one other size."
        made.append(odd("unexpected-size", sentence, "check.odd_size"))
    if looks.fills_frame:
        sentence = f"No image has a black or white border wider than {WIDE_BORDER:.0%} of it."
        made.append(warned("wide-border", sentence, "check.border", most=WIDE_BORDER, needs_pixels=True))
    if looks.is_oriented:
        negative, turned = "a negative of what the others look like", "turned on its side or upside down"
        made.append(odd("inverted", f"No image is {negative}.", "check.inverted", needs_pixels=True))
        made.append(warned("wrong-orientation", f"No image is {turned}.", "check.turned", most=0, needs_pixels=True))
    return made


def _identical(dataset: Dataset) -> list[Expectation]:
    """What has the same hash: of pixels, or of bytes as published where images are not decoded."""
    what = "image" if dataset.is_decoded else "image file"
    splits = ", ".join(dataset.labelled_splits)
    return [
        in_one_split(
            "pixels-cross-splits", f"No two splits of {splits} share an identical {what}.", "check.pixel_splits"
        ),
        warned("conflicting-labels", f"Identical {what}s have identical labels.", "check.pixel_labels", most=1),
        odd("repeated-pixels", f"No {what} is an exact repeat of an earlier one.", "check.is_repeat"),
        odd(
            "predict-copies-labelled", f"No unlabelled {what} is identical to a labelled one.", "check.copies_labelled"
        ),
    ]


def _likeness(dataset: Dataset) -> list[Expectation]:
    """What shows the same picture without having the same pixels."""
    splits = ", ".join(dataset.labelled_splits)
    made = [
        odd(
            "conflicting-copies",
            "Images that show the same picture, turned, cropped or brightened perhaps, have the same labels.",
            "check.copy_labels_differ",
            needs_pixels=True,
        )
    ]
    if dataset.group == "patient":
        made += [
            never(
                "check.leaks_picture",
                "near-duplicate-across-splits",
                f"No image of one of {splits} shows the same picture as one of another of them.",
                ["yes"],
                remedy="quality/near_duplicates.parquet has the pairs; --splits FILE puts them together",
                needs_pixels=True,
            ),
            odd(
                "near-duplicate",
                "No image shows the same picture as an image of another patient.",
                "check.shows_other_group",
                needs_pixels=True,
            ),
        ]
    if set(dataset.splits) - set(dataset.labelled_splits):
        sentence = "No unlabelled image shows the same picture as a labelled one."
        made.append(odd("predict-shows-labelled", sentence, "check.shows_labelled", needs_pixels=True))
    return made


def _drift(dataset: Dataset) -> list[Expectation]:
    """One per kind of feature; its "rows" are comparisons, see :func:`tasks.quality.drift.as_checks`."""
    if len(dataset.labelled_splits) < 2:
        return []
    return [
        expectation(
            "column_values_to_be_in_set",
            f"{kind}-drift",
            f"{DRIFT_SENTENCES[kind]}; none surely differs from the largest by {DRIFT_MEASURES[kind]} > {limit:g}.",
            "warning",
            column=f"check.{kind}_drift",
            value_set=[""],
            is_told=True,
            needs_pixels=kind == "intensity",
        )
        for kind, limit in dataset.drift_limits().items()
    ]
