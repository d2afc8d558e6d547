"""What must hold of members and tables in every dataset, before an image is decoded."""

from __future__ import annotations

from expectations.declaring import Expectation, expectation, never, warned, whole_groups
from tasks.schema import Dataset, PublishedCounts

AGE_LIMIT_YEARS = 120
"""No verified human age is above 122 years; the publishers' impossible ages start at 148 (facts/datasets.md)."""

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
MASK_MEMBER_PROBLEMS = {
    "image-without-mask": "Every image has its mask.",
    "mask-without-image": "Every mask has its image.",
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


def metadata(dataset: Dataset) -> list[Expectation]:
    """In the order in which reasons take precedence: members before rows, rows before people and splits."""
    return [
        *_table(dataset),
        *_members(dataset),
        *_rows(dataset),
        *_sample_ids(),
        *_people(),
        *_carved(dataset),
        *_patients(dataset),
        *map(_counts, dataset.counts),
        *_published_splits(dataset),
    ]


def _table(dataset: Dataset) -> list[Expectation]:
    """No row can be blamed for any of these."""
    columns = ["sample_id", "split", *(f"label.{n}" for n in dataset.labels), *(f"target.{n}" for n in dataset.targets)]
    made = [
        expectation(
            "table_columns_to_match_set",
            "schema",
            "The table has every declared column.",
            column_set=columns,
            exact_match=False,
            action="refuse",
        ),
        expectation(
            "table_row_count_to_be_between", "not-empty", "There is something to convert.", min_value=1, action="refuse"
        ),
    ]
    if dataset.samples is not None:
        made.append(
            expectation(
                "table_row_count_to_be_between",
                "complete-copy",
                f"This is a complete copy: {'about ' if dataset.samples_slack else ''}{dataset.samples:,} images.",
                "warning",
                min_value=dataset.samples - dataset.samples_slack,
                max_value=dataset.samples + dataset.samples_slack,
                action="note",
            )
        )
    return made


def _members(dataset: Dataset) -> list[Expectation]:
    masks = MASK_MEMBER_PROBLEMS if dataset.has_masks else {}
    problems = MEMBER_PROBLEMS | masks | (DICOM_PROBLEMS if dataset.dicom else {})
    return [never("image_problem", code, sentence, [code]) for code, sentence in problems.items()]


def _rows(dataset: Dataset) -> list[Expectation]:
    return [
        never("row_problem", "duplicate-row", "Each image has one metadata row.", ["duplicate-row"]),
        never("image_without_row", "image-without-row", "Every image is in the metadata table.", [True]),
        never(
            "row_without_image",
            "row-without-image",
            "Every metadata row has its image.",
            [True],
            tolerance=dataset.tolerance if dataset.allow_missing is None else dataset.allow_missing,
            remedy="--allow-missing SHARE publishes what is there",
            **({"count_by": "check.part"} if dataset.parts else {}),
        ),
    ]


def _sample_ids() -> list[Expectation]:
    return [
        expectation(
            "column_values_to_be_unique",
            "sample-id-unique",
            "No two samples share an id.",
            column="check.sample_id",
            tolerance=0.0,
            action="refuse",
        ),
        expectation(
            "column_values_to_match_regex",
            "sample-id-safe",
            "Sample ids hold only letters, digits, _ and -.",
            column="check.sample_id",
            regex=r"^[A-Za-z0-9_-]+$",
            tolerance=0.0,
            action="refuse",
        ),
    ]


def _people() -> list[Expectation]:
    """What nobody can be is set to unknown; the row stays."""
    return [
        warned(
            "implausible-age",
            f"Ages lie between 0 and {AGE_LIMIT_YEARS} years; others are set to unknown, the published text is kept.",
            "age_years",
            least=0,
            most=AGE_LIMIT_YEARS,
            action="null",
        ),
        expectation(
            "column_values_to_be_in_set",
            "sex",
            "Sex is F, M or unknown.",
            "warning",
            column="sex",
            value_set=["F", "M"],
            action="null",
        ),
    ]


def _carved(dataset: Dataset) -> list[Expectation]:
    """Of splits that are made here and not by the publisher."""
    if not dataset.carved:
        return []
    return [
        expectation(
            "column_values_to_be_in_set",
            "uneven-split",
            f"Every label is spread evenly over {' and '.join(dataset.carved)}, within a quarter.",
            "warning",
            column="check.uneven_label",
            value_set=[""],
            count_by="check.uneven_label",
        )
    ]


def _patients(dataset: Dataset) -> list[Expectation]:
    if dataset.group != "patient":
        return []
    return [
        never("check.has_group", "missing-group", "Every metadata row names its patient; none is made up.", ["no"]),
        never("check.one_sex", "sex-differs", "A patient is of one sex throughout.", ["no"], severity="warning"),
    ]


def _counts(published: PublishedCounts) -> Expectation:
    """One for all counts that belong together; its "rows" are counts, see ``tasks/published_counts.py``."""
    return expectation(
        "column_values_to_be_in_set",
        published.code,
        published.sentence,
        "warning",
        column=f"{COUNTS_COLUMN}{published.code}",
        value_set=[""],
        is_told=True,
    )


def _published_splits(dataset: Dataset) -> list[Expectation]:
    """Where splits come with the tables; others are judged with the images."""
    if dataset.split is not None:
        return []
    return [
        never("check.has_split", "no-split", "Every sample is in exactly one published split.", ["no"]),
        whole_groups(dataset),
    ]
