"""Run one gate: a table in, a verdict and the rows to set aside out. Great Expectations judges, we keep the books."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from expectations.put_off import left_out, put_off

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

with put_off("altair", "scipy.stats"), left_out("sqlalchemy", "boto3", "botocore"):
    import great_expectations as gx

import pandas as pd
from great_expectations.checkpoint.actions import UpdateDataDocsAction
from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

from expectations import vocabulary  # noqa: F401 (registers the expectation)
from expectations.data_docs import make_offline, write_index
from expectations.declaring import Expectation
from expectations.suites import suite
from tasks.schema import Dataset, GateName, Known, Outcome, Severity, Status, Verdict

KEY = "entry"
VIEW = {"class_name": "WordsView", "module_name": "expectations.docs_view"}
EXAMPLES = 5
FLAGS = ("image_problem", "row_problem", "image_without_row", "row_without_image")
"""Columns whose value says no more than the expectation's own name."""
RESULT_FORMAT = {
    "result_format": "COMPLETE",
    "return_unexpected_index_query": False,
    "partial_unexpected_count": EXAMPLES,
}
"""How Great Expectations is to answer: every failing row, by its label in the index, which is its entry. Asked to name
rows by a column it looks every cell up by itself: 24,106 failing rows took as long as everything else."""
SEVERITY: dict[str, Severity] = {"critical": "error", "warning": "warning", "info": "known"}


def judge(
    frame: pd.DataFrame, dataset: Dataset, gate: GateName, docs: Path | None
) -> tuple[Verdict, dict[int, str], set[tuple[int, str]]]:
    """Judge every row of ``frame`` (one per entry, see :func:`tasks.samples.join`).

    Returns the verdict; entry to reason code, for rows to quarantine (the first failing expectation names the reason);
    and entry and column of cells to empty. ``docs`` is the folder that gets Great Expectations' own pages.
    """
    declared = [_with_tolerance(expectation, dataset) for expectation in suite(dataset, gate)]
    expectations = [expectation for expectation in declared if _can_be_judged(expectation, dataset)]
    frame = frame.set_axis(pd.Index(frame[KEY].to_numpy()))
    results = _validate(_judged(frame, expectations), f"{dataset.name}-{gate}", expectations, docs and docs / gate)
    if docs is not None:
        write_index(docs)
    known = {k.code: k for k in dataset.known}
    outcomes: list[Outcome] = []
    refused: dict[int, str] = {}
    emptied: set[tuple[int, str]] = set()
    for expectation, result in zip(expectations, results, strict=True):
        failed = _failed_entries(result)
        outcome = _outcome(expectation, result, failed, frame, gate, known)
        if dataset.is_restricted and not {"count_by", "is_told"} & {*expectation["meta"]} and outcome.checked > 1:
            outcome = replace(outcome, observed="")  # examples are single rows
        outcomes.append(outcome)
        action = _action(expectation)
        if action == "quarantine":
            refused |= {entry: outcome.code for entry in failed if entry not in refused}
        elif action == "null":
            column = expectation["meta"].get("empties", expectation["kwargs"]["column"])
            emptied |= {(entry, column) for entry in failed}
    outcomes += [_unchecked(e, gate) for e in declared if not _can_be_judged(e, dataset)]
    return Verdict(gate, tuple(outcomes)), refused, emptied


def _can_be_judged(expectation: Expectation, dataset: Dataset) -> bool:
    return dataset.is_decoded or not expectation["meta"].get("needs_pixels", False)


def _unchecked(expectation: Expectation, gate: GateName) -> Outcome:
    """Of an expectation that nobody could judge: it did not pass."""
    meta = expectation["meta"]
    return Outcome(
        gate=gate,
        code=meta["code"],
        sentence=meta["sentence"],
        severity=SEVERITY[expectation["severity"]],
        tolerance=float(meta["tolerance"]),
        checked=0,
        failed=0,
        status="unchecked",
        observed="not checked: no image was decoded (--decode-check off)",
    )


def _with_tolerance(expectation: Expectation, dataset: Dataset) -> Expectation:
    """Tell Great Expectations the tolerance as well, so that its pages agree with our verdict."""
    meta = expectation["meta"]
    tolerance = meta.setdefault("tolerance", dataset.tolerance if _action(expectation) == "quarantine" else 0.0)
    if "column" in expectation["kwargs"] and tolerance:
        expectation["kwargs"]["mostly"] = 1.0 - tolerance
    return expectation


def _judged(frame: pd.DataFrame, expectations: Sequence[Expectation]) -> pd.DataFrame:
    """The columns that are asked for, or all where the table itself is judged: Great Expectations copies every column
    for every expectation, and holds on to them."""
    kwargs = [expectation["kwargs"] for expectation in expectations]
    if any("column" not in asked or "row_condition" in asked for asked in kwargs):
        return frame
    return frame[[column for column in frame if column in {asked["column"] for asked in kwargs}]]


def _action(expectation: Expectation) -> str:
    default = "quarantine" if expectation["severity"] == "critical" else "note"
    return str(expectation["meta"].get("action", default))


def _validate(frame: pd.DataFrame, name: str, expectations: Sequence[Expectation], docs: Path | None) -> list[Any]:
    """One result per expectation, in the order given."""
    numbered = [{**e, "meta": {**e["meta"], "position": i}} for i, e in enumerate(expectations)]
    wanted = gx.ExpectationSuite(name=name, expectations=numbered)
    in_memory = DataContextConfig(store_backend_defaults=InMemoryStoreBackendDefaults())
    context = gx.get_context(mode="ephemeral", project_config=in_memory)
    context.variables.progress_bars = {"globally": False, "metric_calculations": False}  # type: ignore[assignment]
    pandas = context.data_sources.add_or_update_pandas("memory")
    definition = pandas.add_dataframe_asset(name).add_batch_definition_whole_dataframe("all")
    if docs is None:
        # Nothing is stored: copying 24,106 failing rows into a store that nobody reads takes longer than judging.
        result = definition.get_batch({"dataframe": frame}).validate(wanted, result_format=RESULT_FORMAT)
    else:
        result = _validate_with_docs(context, definition, wanted, frame, docs)
    return sorted(result.results, key=lambda r: int(r.expectation_config.meta["position"]))


def _validate_with_docs(context: Any, definition: Any, wanted: Any, frame: pd.DataFrame, docs: Path) -> Any:
    """The same through a checkpoint, which writes Great Expectations' own pages to ``docs``."""
    name = wanted.name
    # Not add_or_update: it would compare every expectation with every other, several times over.
    built = context.suites.add(wanted)
    validation = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=definition, suite=built))
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(
            name=name,
            validation_definitions=[validation],
            actions=_document(context, docs),
            result_format=RESULT_FORMAT,
        )
    )
    with _whole_pages(docs):
        outcome = checkpoint.run(batch_parameters={"dataframe": frame}, run_id=gx.RunIdentifier(run_name=name))
    (result,) = outcome.run_results.values()
    make_offline(docs)
    return result


@contextlib.contextmanager
def _whole_pages(docs: Path) -> Iterator[None]:
    """Within the block a page that the disk does not take is an ``OSError``.

    Great Expectations logs it, traceback and all, and goes on without the page.
    """

    def insist(record: logging.LogRecord) -> bool:
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            error.filename = error.filename or docs
            raise error
        return True

    logger = logging.getLogger("great_expectations.render.renderer.site_builder")
    logger.addFilter(insist)
    try:
        yield
    finally:
        logger.removeFilter(insist)


def _document(context: Any, docs: Path) -> list[Any]:
    """Point Great Expectations' data docs at our folder instead of its own."""
    site = {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        "site_section_builders": {"validations": {"view": VIEW}, "expectations": {"view": VIEW}},
        "store_backend": {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())},
    }
    context.add_data_docs_site("quality", site)
    return [UpdateDataDocsAction(name="docs", site_names=["quality"])]


def _failed_entries(result: Any) -> list[int]:
    """Entries that fail, tolerated ones included: with ``mostly``, a passing expectation lists them as well."""
    return [int(entry) for entry in result.result.get("unexpected_index_list") or ()]


def _outcome(
    expectation: Expectation,
    result: Any,
    failed: list[int],
    frame: pd.DataFrame,
    gate: GateName,
    known: dict[str, Known],
) -> Outcome:
    meta = expectation["meta"]
    trouble = _exceptions(result.exception_info)
    is_about_rows = "column" in expectation["kwargs"]
    count = len(failed) if is_about_rows else int(not result.success)
    # A column that could not be judged at all has failed in every row.
    count = len(frame) if trouble and is_about_rows else count
    checked = _judged_rows(result, frame) if is_about_rows else 1
    declared = known.get(meta["code"])
    tolerance = float(meta["tolerance"])
    severity = SEVERITY[expectation["severity"]]
    return Outcome(
        gate=gate,
        code=meta["code"],
        sentence=meta["sentence"],
        severity="known" if declared else severity,
        tolerance=tolerance,
        checked=checked,
        failed=count,
        status=_status(count, checked, tolerance, severity, declared),
        observed="; ".join(trouble) or _observed(expectation, result, failed, frame),
        known_rows=declared.rows if declared else None,
        source=declared.source if declared else "",
        remedy=meta.get("remedy", ""),
    )


def _judged_rows(result: Any, frame: pd.DataFrame) -> int:
    """Rows with a value: nothing can be said of a null."""
    values = result.result
    return int(values["element_count"] - values["missing_count"]) if "missing_count" in values else len(frame)


def _status(failed: int, checked: int, tolerance: float, severity: Severity, declared: Known | None) -> Status:
    if failed == 0:
        return "passed"
    if declared is not None and failed <= declared.rows:
        return "known"
    if severity != "error":
        return "warned"
    return "tolerated" if failed <= tolerance * checked else "failed"


def _exceptions(info: Any) -> list[str]:
    """``exception_info`` comes flat, or one entry per metric; read both, or a mistyped column looks like bad data."""
    shapes = [info or {}, *(v for v in (info or {}).values() if isinstance(v, dict))]
    return [str(s["exception_message"]) for s in shapes if s.get("raised_exception")]


def _observed(expectation: Expectation, result: Any, failed: list[int], frame: pd.DataFrame) -> str:
    """What was seen: the observed value of a table, or up to five failing rows with their place."""
    if "column" not in expectation["kwargs"]:
        value = result.result.get("observed_value")
        return "" if value is None or isinstance(value, list) else str(value)
    if not failed:
        return ""
    if "count_by" in expectation["meta"]:
        return _counts(frame, failed, expectation["meta"]["count_by"])
    column = str(expectation["kwargs"]["column"])
    if "is_told" in expectation["meta"]:
        return "; ".join(frame.loc[failed, column])
    rows = frame.loc[failed[:EXAMPLES]]
    is_flag = column.startswith("check.") or column in FLAGS
    return "; ".join(_place(row) if is_flag else f"{_place(row)}: {row[column]}" for _, row in rows.iterrows())


def _counts(frame: pd.DataFrame, failed: list[int], column: str) -> str:
    """Failing rows by the values of a column: ``images_002 10,000 of 10,000``."""
    total = frame[column].value_counts()
    counts = frame.loc[frame[KEY].isin(failed), column].value_counts(sort=False).sort_index()
    return "; ".join(f"{value} {count:,} of {total[str(value)]:,}" for value, count in counts.items())


def _place(row: pd.Series) -> str:
    """Where a row is, in the publisher's terms."""
    parts = [str(row[name]) for name in ("member", "table") if name in row and pd.notna(row[name])]
    if "row" in row and pd.notna(row["row"]):
        parts[-1:] = [f"{parts[-1]} row {int(row['row'])}"] if parts else []
    return ", ".join(parts)
