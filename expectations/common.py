"""What must hold in every dataset, as plain mappings that Great Expectations accepts as they are.

``severity`` critical blocks (above its tolerance) and sends failing rows to quarantine, warning is shown, info is shown
small. In ``meta``: ``code`` (stable reason), ``sentence`` (for clinicians), ``gate``, ``tolerance`` (share of rows),
and ``action``: ``quarantine`` (default for critical), ``null`` (the cell is emptied, the row stays), ``refuse`` (no row
can be blamed: any failure is a failed gate) or ``note``.
"""

from __future__ import annotations

from typing import Any

from tasks.schema import Dataset, GateName

Expectation = dict[str, Any]

META = ("tolerance", "action", "count_by", "remedy")
"""Settings of an expectation that are ours and not Great Expectations'; ``count_by`` names a column by whose values
failing rows are counted, ``remedy`` says what a user can do about a failed gate."""

AGE_LIMIT_YEARS = 120
"""No verified human age is above 122 years; the publishers' impossible ages start at 148 (facts/datasets.md)."""

BLANK_CONTRAST = 0.008
"""Standard deviation as a share of the grey range (2 of 255); films of the five datasets have more than 0.05."""

MEMBER_PROBLEMS = {
    "duplicate-member": "Each image is in the raw release once.",
    "encrypted-member": "No archive member is encrypted.",
    "unsafe-path": "No archive member has a path that leaves the archive.",
    "oversized-member": "No archive member claims to unpack to an absurd size.",
    "truncated-archive": "Every archive is there to its end.",
    "corrupt-archive": "Every archive can be unpacked to its end.",
    "crc-mismatch": "The content of every archive fits its checksum.",
    "unexpected-member": "Every archive member is an image, a table, or ignored by a declared rule.",
}

MASK_MEMBER_PROBLEMS = {
    "image-without-mask": "Every image has its mask.",
    "mask-without-image": "Every mask has its image.",
}
MASK_PROBLEMS = {
    "mask-undecodable": "Every mask can be read and decoded.",
    "mask-size": "Every mask has the size of its image.",
    "mask-empty": "Every mask marks something.",
    "mask-parts": "Every mask is in one piece.",
}


def suite(dataset: Dataset, gate: GateName) -> list[Expectation]:
    """Common and dataset-specific expectations of one gate, in the order in which reasons take precedence."""
    common = {"metadata": _metadata, "images": _images, "documents": _documents}[gate](dataset)
    own = [_copied(e) for e in dataset.expectations if e["meta"]["gate"] == gate]
    return [*common, *own]


def _copied(expectation: Any) -> Expectation:
    return {**expectation, "kwargs": dict(expectation["kwargs"]), "meta": dict(expectation["meta"])}


def _expectation(kind: str, code: str, sentence: str, severity: str = "critical", **settings: Any) -> Expectation:
    """``settings``: those named in ``META`` go to meta, everything else to the expectation."""
    meta = {"code": code, "sentence": sentence}
    for name in META:
        if name in settings:
            meta[name] = settings.pop(name)
    return {"type": f"expect_{kind}", "kwargs": settings, "severity": severity, "meta": meta}


def _metadata(dataset: Dataset) -> list[Expectation]:
    columns = ["sample_id", "split", *(f"label.{n}" for n in dataset.labels), *(f"target.{n}" for n in dataset.targets)]
    made = [
        _expectation(
            "table_columns_to_match_set",
            "schema",
            "The table has every declared column.",
            column_set=columns,
            exact_match=False,
            action="refuse",
        ),
        _expectation(
            "table_row_count_to_be_between", "not-empty", "There is something to convert.", min_value=1, action="refuse"
        ),
    ]
    if dataset.samples is not None:
        made.append(
            _expectation(
                "table_row_count_to_be_between",
                "complete-copy",
                f"This is a complete copy: {'about ' if dataset.samples_slack else ''}{dataset.samples:,} images.",
                "warning",
                min_value=dataset.samples - dataset.samples_slack,
                max_value=dataset.samples + dataset.samples_slack,
                action="note",
            )
        )
    made += [
        _expectation("column_values_to_not_be_in_set", code, sentence, column="image_problem", value_set=[code])
        for code, sentence in (MEMBER_PROBLEMS | (MASK_MEMBER_PROBLEMS if dataset.has_masks else {})).items()
    ]
    made += [
        _flag("row_problem", "duplicate-row", "Each image has one metadata row.", ["duplicate-row"]),
        _flag("image_without_row", "image-without-row", "Every image is in the metadata table.", [True]),
        _expectation(
            "column_values_to_not_be_in_set",
            "row-without-image",
            "Every metadata row has its image.",
            column="row_without_image",
            value_set=[True],
            tolerance=dataset.tolerance if dataset.allow_missing is None else dataset.allow_missing,
            remedy="--allow-missing SHARE publishes what is there",
            **({"count_by": "check.part"} if dataset.parts else {}),
        ),
        _expectation(
            "column_values_to_be_unique",
            "sample-id-unique",
            "No two samples share an id.",
            column="check.sample_id",
            tolerance=0.0,
            action="refuse",
        ),
        _expectation(
            "column_values_to_match_regex",
            "sample-id-safe",
            "Sample ids hold only letters, digits, _ and -.",
            column="check.sample_id",
            regex=r"^[A-Za-z0-9_-]+$",
            tolerance=0.0,
            action="refuse",
        ),
        _expectation(
            "column_values_to_be_between",
            "implausible-age",
            f"Ages lie between 0 and {AGE_LIMIT_YEARS} years; others are set to unknown, the published text is kept.",
            "warning",
            column="age_years",
            min_value=0,
            max_value=AGE_LIMIT_YEARS,
            action="null",
        ),
        _expectation(
            "column_values_to_be_in_set",
            "sex",
            "Sex is F, M or unknown.",
            "warning",
            column="sex",
            value_set=["F", "M"],
            action="null",
        ),
    ]
    if dataset.carved:
        made.append(
            _expectation(
                "column_values_to_be_in_set",
                "uneven-split",
                f"Every label is spread evenly over {' and '.join(dataset.carved)}, within a quarter.",
                "warning",
                column="check.uneven_label",
                value_set=[""],
                count_by="check.uneven_label",
            )
        )
    if dataset.group == "patient":
        made.append(
            _flag("check.has_group", "missing-group", "Every metadata row names its patient; none is invented.", ["no"])
        )
    if dataset.split is None:
        made.append(_flag("check.has_split", "no-split", "Every sample is in exactly one published split.", ["no"]))
        made.append(_one_split("group-crosses-splits", dataset, "check.group_splits"))
    return made


def _flag(column: str, code: str, sentence: str, bad: list[Any]) -> Expectation:
    return _expectation("column_values_to_not_be_in_set", code, sentence, column=column, value_set=bad)


def _one_split(code: str, dataset: Dataset, column: str) -> Expectation:
    unit = {"patient": "patient", "pixels": "group of identical images"}[dataset.group]
    sentence = f"No {unit} is in two of the splits {', '.join(dataset.labelled_splits)}."
    if code != "group-crosses-splits":
        sentence = f"No two splits of {', '.join(dataset.labelled_splits)} share an identical image."
    return _expectation(
        "column_values_to_be_between", code, sentence, column=column, max_value=1, tolerance=0.0, action="refuse"
    )


def _masks() -> list[Expectation]:
    """One per reason, named by it: the failing rows are those that conversion refused for their masks."""
    return [
        *(_flag("reason", code, sentence, [code]) for code, sentence in MASK_PROBLEMS.items()),
        _expectation(
            "column_values_to_not_be_in_set",
            "mask-at-border",
            "No mask is cut off by the border of its image.",
            "warning",
            column="check.mask_at_border",
            value_set=["yes"],
            count_by="split",
        ),
    ]


def _images(dataset: Dataset) -> list[Expectation]:
    channels = ", ".join(map(str, dataset.image.channels))
    boxed = [
        _expectation(
            "column_values_to_be_in_set",
            "box-beyond-image",
            "Every box lies inside its image as decoded, so boxes and images are of one size.",
            column="check.boxes_inside",
            value_set=["yes"],
        )
    ]
    return [
        *(boxed if dataset.has_boxes else []),
        *(_masks() if dataset.has_masks else []),
        _expectation(
            "column_values_to_be_in_set",
            "decodable",
            "Every image can be read and decoded.",
            column="reason",
            value_set=["", *(MASK_PROBLEMS if dataset.has_masks else ())],
        ),
        _expectation(
            "column_values_to_be_between",
            "blank-frame",
            "No image is blank (one grey level all over).",
            column="check.contrast",
            min_value=BLANK_CONTRAST,
        ),
        _expectation(
            "column_values_to_be_in_set",
            "unexpected-channels",
            f"Images have {channels} channel(s) once equal channels are merged.",
            column="channels",
            value_set=list(dataset.image.channels),
        ),
        _expectation(
            "column_values_to_be_between",
            "too-small",
            f"The shorter side of every image has at least {dataset.image.min_side} pixels.",
            column="check.short_side",
            min_value=dataset.image.min_side,
        ),
        _flag("check.has_split", "no-split", "Every sample is in exactly one split.", ["no"]),
        _one_split("group-crosses-splits", dataset, "check.group_splits"),
        _one_split("pixels-cross-splits", dataset, "check.pixel_splits"),
        _expectation(
            "column_values_to_be_between",
            "conflicting-labels",
            "Identical images have identical labels.",
            "warning",
            column="check.pixel_labels",
            max_value=1,
        ),
        _expectation(
            "column_values_to_not_be_in_set",
            "repeated-pixels",
            "No image is an exact repeat of an earlier one.",
            "warning",
            column="check.is_repeat",
            value_set=["yes"],
        ),
        _expectation(
            "column_values_to_not_be_in_set",
            "predict-copies-labelled",
            "No unlabelled image is identical to a labelled one.",
            "warning",
            column="check.copies_labelled",
            value_set=["yes"],
        ),
    ]


def _documents(dataset: Dataset) -> list[Expectation]:
    """One row per member that is not ignored; what is asked of documents alone is null for an unexpected one."""
    return [
        _expectation(
            "column_values_to_be_in_set",
            "document-readable",
            "Every document can be read.",
            column="problem",
            value_set=["", "empty-document"],
            tolerance=0.0,
            remedy="fetch it again, or --allow-gate-failure publishes the others",
        ),
        _expectation(
            "column_values_to_not_be_in_set",
            "empty-document",
            "Every document holds a text, a table or a figure.",
            column="problem",
            value_set=["empty-document"],
            tolerance=0.0,
        ),
        _expectation(
            "column_values_to_not_be_in_set",
            "unexpected-member",
            "Every archive member is a document, or ignored by a declared rule.",
            "warning",
            column="check.is_unexpected",
            value_set=["yes"],
        ),
        _expectation(
            "column_values_to_be_between",
            "no-table",
            "Every document has at least one table.",
            "warning",
            column="tables",
            min_value=1,
        ),
        _expectation(
            "column_values_to_be_between",
            "table-without-caption",
            "Every table of a document has a caption.",
            "warning",
            column="tables_without_caption",
            max_value=0,
        ),
        _expectation(
            "column_values_to_not_be_in_set",
            "repeated-document",
            "No document is an exact repeat of an earlier one.",
            "warning",
            column="check.is_repeat",
            value_set=["yes"],
        ),
    ]
