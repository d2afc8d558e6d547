"""What must hold of documents in every dataset that has some."""

from __future__ import annotations

from expectations.declaring import Expectation, expectation, never, odd, warned


def documents() -> list[Expectation]:
    """One row per member that is not ignored; what is asked of documents alone is null for an unexpected one."""
    return [
        expectation(
            "column_values_to_be_in_set",
            "document-readable",
            "Every document can be read.",
            column="problem",
            value_set=["", "empty-document"],
            tolerance=0.0,
            remedy="fetch it again, or --allow-gate-failure publishes the others",
        ),
        never(
            "problem",
            "empty-document",
            "Every document holds a text, a table or a figure.",
            ["empty-document"],
            tolerance=0.0,
        ),
        odd(
            "unexpected-member",
            "Every archive member is a document, or ignored by a declared rule.",
            "check.is_unexpected",
        ),
        warned("no-table", "Every document has at least one table.", "tables", least=1),
        warned("table-without-caption", "Every table of a document has a caption.", "tables_without_caption", most=0),
        odd("repeated-document", "No document is an exact repeat of an earlier one.", "check.is_repeat"),
    ]
