"""What must hold in every dataset, as plain mappings that Great Expectations accepts as they are.

``severity`` critical blocks (above its tolerance) and sends failing rows to quarantine, warning is shown, info is shown
small. In ``meta``: ``code`` (stable reason), ``sentence`` (for clinicians), ``gate``, ``tolerance`` (share of rows),
and ``action``: ``quarantine`` (default for critical), ``null`` (the cell is emptied, the row stays), ``refuse`` (no row
can be blamed: any failure is a failed gate) or ``note``.
"""

from __future__ import annotations

from typing import Any

from tasks.schema import BLANK_CONTRAST, Dataset, DriftKind, GateName, PublishedCounts

Expectation = dict[str, Any]

META = ("tolerance", "action", "count_by", "remedy", "is_told", "needs_pixels")
"""Settings of an expectation that are ours and not Great Expectations'; ``count_by`` names a column by whose values
failing rows are counted, ``remedy`` says what a user can do about a failed gate,
``is_told`` that the failing values are words about the whole table, to be shown one and all, ``needs_pixels`` that
there is nothing to judge where images were not decoded."""

AGE_LIMIT_YEARS = 120
"""No verified human age is above 122 years; the publishers' impossible ages start at 148 (facts/datasets.md)."""

LOW_CONTRAST = 0.2
"""Range between the darkest and the brightest hundredth of the pixels, as a share of white; the least of the real
mammography set is 0.37, that of made-up films of the others 0.5."""
WIDE_BORDER = 0.1
"""Of the side that it lies across; shutters of made-up films reach 0.035."""

COUNTS_COLUMN = "check.counts."
"""Prefix of the columns that tell what differs from the publisher's counts, see ``tasks/published_counts.py``."""

MEMBER_PROBLEMS = {
    "duplicate-member": "Each image is in the raw release once.",
    "encrypted-member": "No archive member is encrypted.",
    "unsafe-path": "No archive member has a path that leaves the archive.",
    "oversized-member": "No archive member claims to unpack to an absurd size.",
    "unreadable-member": "Every archive member has bytes of its own, and can be unpacked.",
    "truncated-archive": "Every archive is there to its end.",
    "corrupt-archive": "Every archive can be unpacked to its end.",
    "crc-mismatch": "The content of every archive fits its checksum.",
    "unexpected-member": "Every archive member is an image, a table, or ignored by a declared rule.",
}

DICOM_PROBLEMS = {
    "empty-file": "No DICOM file is empty.",
    "not-an-image": "Every image is a DICOM file with pixels.",
    "truncated-image": "Every DICOM file is there to its end.",
    "undecodable-image": "The header of every DICOM file can be read, and says what its pixels are.",
    "oversized-image": "No DICOM file claims an absurd number of pixels or frames.",
    "unsupported-mode": "The pixels of every DICOM file are of a kind that is read.",
}
"""What headers tell before an image is decoded."""

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


def _member_problems(dataset: Dataset) -> dict[str, str]:
    masks = MASK_MEMBER_PROBLEMS if dataset.has_masks else {}
    return MEMBER_PROBLEMS | masks | (DICOM_PROBLEMS if dataset.dicom else {})


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
        for code, sentence in _member_problems(dataset).items()
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
        made += [
            _flag("check.has_group", "missing-group", "Every metadata row names its patient; none is made up.", ["no"]),
            _expectation(
                "column_values_to_not_be_in_set",
                "sex-differs",
                "A patient is of one sex throughout.",
                "warning",
                column="check.one_sex",
                value_set=["no"],
            ),
        ]
    made += [_counts(published) for published in dataset.counts]
    if dataset.split is None:
        made.append(_flag("check.has_split", "no-split", "Every sample is in exactly one published split.", ["no"]))
        made.append(_one_split("group-crosses-splits", dataset, "check.group_splits"))
    return made


def _counts(published: PublishedCounts) -> Expectation:
    """One for all counts that belong together; its "rows" are counts, see ``tasks/published_counts.py``."""
    return _expectation(
        "column_values_to_be_in_set",
        published.code,
        published.sentence,
        "warning",
        column=f"{COUNTS_COLUMN}{published.code}",
        value_set=[""],
        is_told=True,
    )


def _flag(column: str, code: str, sentence: str, bad: list[Any]) -> Expectation:
    return _expectation("column_values_to_not_be_in_set", code, sentence, column=column, value_set=bad)


def _one_split(code: str, dataset: Dataset, column: str) -> Expectation:
    unit = {"patient": "patient", "picture": "group of images that show one picture"}[dataset.group]
    sentence = f"No {unit} is in two of the splits {', '.join(dataset.labelled_splits)}."
    if code != "group-crosses-splits":
        sentence = f"No two splits of {', '.join(dataset.labelled_splits)} share an identical {_what(dataset)}."
    return _expectation(
        "column_values_to_be_between", code, sentence, column=column, max_value=1, tolerance=0.0, action="refuse"
    )


def _what(dataset: Dataset) -> str:
    """What is compared by hash: pixels, or bytes as published."""
    return "image" if dataset.is_decoded else "image file"


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
    readable: dict[str, Any] = {"column": "reason", "value_set": ["", *(MASK_PROBLEMS if dataset.has_masks else ())]}
    by_header = _expectation(
        "column_values_to_be_in_set",
        "sound-header",
        "Every image can be read, and its header says that it is one.",
        **readable,
    )
    return [
        *(boxed if dataset.has_boxes else []),
        *(_masks() if dataset.has_masks else []),
        *([] if dataset.is_decoded else [by_header]),
        _expectation(
            "column_values_to_be_in_set",
            "decodable",
            "Every image can be read and decoded.",
            needs_pixels=True,
            **readable,
        ),
        _expectation(
            "column_values_to_be_between",
            "blank-frame",
            "No image is blank (one grey level all over).",
            column="check.contrast",
            min_value=BLANK_CONTRAST,
            needs_pixels=True,
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
        *_looks(dataset),
        _flag("check.has_split", "no-split", "Every sample is in exactly one split.", ["no"]),
        _one_split("group-crosses-splits", dataset, "check.group_splits"),
        _one_split("pixels-cross-splits", dataset, "check.pixel_splits"),
        _expectation(
            "column_values_to_be_between",
            "conflicting-labels",
            f"Identical {_what(dataset)}s have identical labels.",
            "warning",
            column="check.pixel_labels",
            max_value=1,
        ),
        _expectation(
            "column_values_to_not_be_in_set",
            "repeated-pixels",
            f"No {_what(dataset)} is an exact repeat of an earlier one.",
            "warning",
            column="check.is_repeat",
            value_set=["yes"],
        ),
        _expectation(
            "column_values_to_not_be_in_set",
            "predict-copies-labelled",
            f"No unlabelled {_what(dataset)} is identical to a labelled one.",
            "warning",
            column="check.copies_labelled",
            value_set=["yes"],
        ),
        *_likeness(dataset),
        *_drift(dataset),
    ]


def _likeness(dataset: Dataset) -> list[Expectation]:
    """What shows the same picture without having the same pixels."""
    splits = ", ".join(dataset.labelled_splits)
    made = [
        _odd(
            "conflicting-copies",
            "Images that show the same picture, turned, cropped or brightened perhaps, have the same labels.",
            "check.copy_labels_differ",
            needs_pixels=True,
        )
    ]
    if dataset.group == "patient":
        made += [
            _expectation(
                "column_values_to_not_be_in_set",
                "near-duplicate-across-splits",
                f"No image of one of {splits} shows the same picture as one of another of them.",
                column="check.leaks_picture",
                value_set=["yes"],
                remedy="quality/near_duplicates.parquet has the pairs; --splits FILE puts them together",
                needs_pixels=True,
            ),
            _odd(
                "near-duplicate",
                "No image shows the same picture as an image of another patient.",
                "check.shows_other_group",
                needs_pixels=True,
            ),
        ]
    if set(dataset.splits) - set(dataset.labelled_splits):
        made.append(
            _odd(
                "predict-shows-labelled",
                "No unlabelled image shows the same picture as a labelled one.",
                "check.shows_labelled",
                needs_pixels=True,
            )
        )
    return made


def _looks(dataset: Dataset) -> list[Expectation]:
    """How images look, all of them warnings: the picture stays, whoever uses it is told."""
    looks = dataset.appearance
    darkest, brightest = looks.mean_grey
    depths = " or ".join(map(str, looks.bit_depths))
    made = [
        _warned(
            "near-black",
            f"No image is nearly black (mean grey below {255 * darkest:.0f} of 255).",
            "check.mean_grey",
            least=darkest,
            needs_pixels=True,
        ),
        _warned(
            "near-white",
            f"No image is nearly white (mean grey above {255 * brightest:.0f} of 255).",
            "check.mean_grey",
            most=brightest,
            needs_pixels=True,
        ),
        _warned(
            "low-contrast",
            f"Every image uses at least {LOW_CONTRAST:.0%} of the range from black to white.",
            "check.grey_range",
            least=LOW_CONTRAST,
            needs_pixels=True,
        ),
        _warned("burned-in-text", _text_sentence(dataset), "text_regions", most=0, needs_pixels=True),
        _expectation(
            "column_values_to_be_in_set",
            "unexpected-bit-depth",
            f"Images have {depths} bits.",
            "warning",
            column="bit_depth",
            value_set=list(looks.bit_depths),
        ),
    ]
    if looks.sizes:
        sizes = " or ".join(f"{width} × {height}" for width, height in looks.sizes)
        sentence = f"Images are of {sizes} pixels as published, or all of one other size."
        made.append(_odd("unexpected-size", sentence, "check.odd_size"))
    if looks.fills_frame:
        sentence = f"No image has a black or white border wider than {WIDE_BORDER:.0%} of it."
        made.append(_warned("wide-border", sentence, "check.border", most=WIDE_BORDER, needs_pixels=True))
    if looks.is_oriented:
        made += [
            _odd(
                "inverted", "No image is a negative of what the others look like.", "check.inverted", needs_pixels=True
            ),
            _warned(
                "wrong-orientation",
                "No image is turned on its side or upside down.",
                "check.turned",
                most=0,
                needs_pixels=True,
            ),
        ]
    return made


def _text_sentence(dataset: Dataset) -> str:
    if dataset.image.hides_outside_scan:
        return "Nothing is written on a scan, now that all around it is blackened: it could name the patient."
    return "Nothing is written on an image that could name the patient; a lone side marker (L, R) may be there."


def _warned(
    code: str, sentence: str, column: str, least: float | None = None, most: float | None = None, **settings: Any
) -> Expectation:
    bounds = {name: bound for name, bound in (("min_value", least), ("max_value", most)) if bound is not None}
    return _expectation("column_values_to_be_between", code, sentence, "warning", column=column, **bounds, **settings)


def _odd(code: str, sentence: str, column: str, **settings: Any) -> Expectation:
    return _expectation(
        "column_values_to_not_be_in_set", code, sentence, "warning", column=column, value_set=["yes"], **settings
    )


def _drift(dataset: Dataset) -> list[Expectation]:
    """One per kind of feature; its "rows" are comparisons, see :func:`tasks.quality.drift.as_checks`."""
    if len(dataset.labelled_splits) < 2:
        return []
    return [
        _expectation(
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
