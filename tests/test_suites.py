"""What is declared to be wrong is found where it is planted, with its number; a clean release is not spoken ill of.

Gates are run as ``prepare`` runs them, stage by stage; what needs no file is planted into the tables that they judge.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import docx
import pandas as pd
import pytest

from expectations.gates import judge
from expectations.images import DRIFT_SENTENCES
from expectations.suites import suite
from tasks import published_counts
from tasks.datasets import catalogue
from tasks.datasets.mammography_density import DATASET as MAMMOGRAPHY
from tasks.datasets.nih_chest_xray import DATASET as NIH
from tasks.schema import Count, Dataset, GateName, Outcome, PublishedCounts, Verdict
from tasks.stages import conversion, documents, metadata, samples_gate
from tasks.stages import index as indexing
from tasks.stages.plan import Plan, request
from tests.bench.data_docs import fetched
from tests.command import scanmill
from tests.conftest import write_fake
from tests.fakes.defects import SPOIL, Expected

Code = tuple[GateName, str]

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "behsof": {"images": 114, "password": None},
    "chexchonet": {"images": 160},
    "mammography-density": {"images": 160},
    "nih-chest-xray": {"images": 240},
    "ovf-radiomics": {"images": 160},
}
"""How large the fakes are: as small as has room for every defect."""


@dataclass(frozen=True)
class Judged:
    """What both gates were shown, and what they said."""

    dataset: Dataset
    frames: Mapping[GateName, pd.DataFrame]
    outcomes: Mapping[Code, Outcome]

    @property
    def said(self) -> dict[Code, tuple[str, int]]:
        """Status and failing rows of all that did not pass."""
        return {code: (o.status, o.failed) for code, o in self.outcomes.items() if o.status != "passed"}


def judged(name: str, folder: Path) -> Judged:
    """Index, parse, convert and judge a raw folder; no shard is written."""
    frames: dict[GateName, pd.DataFrame] = {}

    def remembering(
        frame: pd.DataFrame, dataset: Dataset, gate: GateName, docs: Path | None
    ) -> tuple[Verdict, dict[int, str], set[tuple[int, str]]]:
        frames[gate] = frame
        return judge(frame, dataset, gate, None)

    plan = _plan(name, folder)
    metadata.parse(plan)
    verdicts = [metadata.validate_metadata(plan, remembering)]
    conversion.convert(plan, address=None)
    verdicts.append(samples_gate.validate_images(plan, remembering, address=None))
    outcomes = {(o.gate, o.code): o for verdict in verdicts for o in verdict.outcomes}
    return Judged(plan.dataset, frames, outcomes)


def _plan(name: str, folder: Path) -> Plan:
    wanted = request(name, [str(folder)], str(folder.with_name("lake")))
    return indexing.index(wanted, indexing.gather(wanted, {}))


@pytest.fixture(scope="module")
def clean_raw(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Dataset name to a raw folder without any defect, written once; do not change it."""

    @cache
    def write(name: str) -> Path:
        folder = tmp_path_factory.mktemp(f"clean-{name}") / "raw"
        write_fake(name, folder, defects=False, **OPTIONS[name])
        return folder

    return write


@pytest.fixture(scope="module")
def cleaned(clean_raw: Callable[[str], Path]) -> Callable[[str], Judged]:
    """Dataset name to what the gates make of it, judged once."""
    return cache(lambda name: judged(name, clean_raw(name)))


@pytest.fixture
def clean(dataset_name: str, cleaned: Callable[[str], Judged]) -> Judged:
    """The same of the dataset in turn."""
    return cleaned(dataset_name)


@pytest.fixture(scope="module")
def spoilt(
    clean_raw: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Expected, Judged]]:
    """Dataset name to what was planted into it and what the gates make of that, judged once."""

    @cache
    def spoil(name: str) -> tuple[Expected, Judged]:
        folder = tmp_path_factory.mktemp(f"spoilt-{name}") / "raw"
        shutil.copytree(clean_raw(name), folder)
        return SPOIL[name](folder), judged(name, folder)

    return spoil


def allowed(dataset: Dataset) -> dict[Code, tuple[str, int]]:
    """What may be said of a clean fake: it is no complete copy; BEHSOF's external test is another hospital; and of
    every lesion of the mammography set a quarter of the images is without label, 40 of 160."""
    said: dict[Code, tuple[str, int]] = {("metadata", "complete-copy"): ("warned", 1)} if dataset.samples else {}
    said |= {("images", "predict-shows-labelled"): ("known", 40)} if dataset.group == "picture" else {}
    return said | ({("images", "site-drift"): ("known", 1)} if dataset.site else {})


LOOKS = (
    "near-black",
    "near-white",
    "low-contrast",
    "burned-in-text",
    "unexpected-bit-depth",
    "unexpected-size",
    "wide-border",
    "inverted",
    "wrong-orientation",
)
"""What is said of how a picture looks; a picture spoilt for another reason may look so as well. Planted one by one in
tests/test_image_checks.py."""


def test_nothing_is_said_of_a_clean_release_but_that_it_is_small(clean: Judged) -> None:
    assert clean.said == allowed(clean.dataset)
    assert set(clean.outcomes) == {(gate, code) for gate, code in codes(clean.dataset) if gate != "documents"}


def test_every_planted_defect_is_found_with_its_number_and_nothing_else(
    dataset_name: str, spoilt: Callable[[str], tuple[Expected, Judged]]
) -> None:
    expected, found = spoilt(dataset_name)
    said = {code: what for code, what in found.said.items() if code[1] not in LOOKS}
    assert said == expected | allowed(found.dataset)
    examples = " ".join(outcome.observed for outcome in found.outcomes.values())
    places = found.frames["metadata"]["member"].dropna()
    assert any(place in examples for place in places) != found.dataset.is_restricted


IN_TABLES: Mapping[GateName, Mapping[str, tuple[str, Any]]] = {
    "metadata": {
        **{
            code: ("image_problem", code)
            for code in (
                "duplicate-member",
                "encrypted-member",
                "unsafe-path",
                "oversized-member",
                "unreadable-member",
                "truncated-archive",
                "corrupt-archive",
                "crc-mismatch",
                "unexpected-member",
                "image-without-mask",
                "mask-without-image",
            )
        },
        "duplicate-row": ("row_problem", "duplicate-row"),
        "image-without-row": ("image_without_row", True),
        "row-without-image": ("row_without_image", True),
        "sample-id-safe": ("check.sample_id", "a.b"),
        "implausible-age": ("age_years", 200.0),
        "sex": ("sex", "X"),
        "sex-differs": ("check.one_sex", "no"),
        "uneven-split": ("check.uneven_label", "Mass (2% in validation, 13% of all)"),
        "missing-group": ("check.has_group", "no"),
        "no-split": ("check.has_split", "no"),
        "group-crosses-splits": ("check.group_splits", 2),
    },
    "images": {
        **{f"{kind}-drift": (f"check.{kind}_drift", "much more in one split") for kind in DRIFT_SENTENCES},
        **{code: ("reason", code) for code in ("mask-undecodable", "mask-size", "mask-empty", "mask-parts")},
        "decodable": ("reason", "truncated-image"),
        "mask-at-border": ("check.mask_at_border", "yes"),
        "box-beyond-image": ("check.boxes_inside", "no"),
        "blank-frame": ("check.contrast", 0.001),
        "unexpected-channels": ("channels", 3),
        "too-small": ("check.short_side", 1),
        "no-split": ("check.has_split", "no"),
        "group-crosses-splits": ("check.group_splits", 2),
        "pixels-cross-splits": ("check.pixel_splits", 2),
        "conflicting-labels": ("check.pixel_labels", 2),
        "repeated-pixels": ("check.is_repeat", "yes"),
        "predict-copies-labelled": ("check.copies_labelled", "yes"),
        "near-black": ("check.mean_grey", 0.01),
        "near-white": ("check.mean_grey", 0.99),
        "low-contrast": ("check.grey_range", 0.01),
        "burned-in-text": ("text_regions", 3),
        "unexpected-bit-depth": ("bit_depth", 4),
        "unexpected-size": ("check.odd_size", "yes"),
        "wide-border": ("check.border", 0.9),
        "inverted": ("check.inverted", "yes"),
        "wrong-orientation": ("check.turned", 90),
        "near-duplicate-across-splits": ("check.leaks_picture", "yes"),
        "near-duplicate": ("check.shows_other_group", "yes"),
        "conflicting-copies": ("check.copy_labels_differ", "yes"),
        "predict-shows-labelled": ("check.shows_labelled", "yes"),
    },
}
"""Common expectations: the column that each looks at, and a value that it must not have. That the column is filled
rightly is held where defects are planted into files: here, and in the tests of damage, archives and tarballs."""

REFUSING = ("sample-id-unique", "sample-id-safe", "group-crosses-splits", "pixels-cross-splits")
"""Not even one row may fail these."""

OF_THE_TABLE = ("schema", "not-empty", "complete-copy", "sample-id-unique")
"""Planted by tests of their own."""


@pytest.mark.parametrize("gate", ["metadata", "images"])
@pytest.mark.parametrize("name", ["nih-chest-xray", "ovf-radiomics"], ids=["with boxes", "with masks"])
def test_every_common_expectation_speaks_of_one_row_in_the_table(
    name: str, gate: GateName, cleaned: Callable[[str], Judged]
) -> None:
    clean = cleaned(name)
    dataset, frame = clean.dataset, clean.frames[gate].copy()
    severities = {
        e["meta"]["code"]: e["severity"] for e in suite(dataset, gate) if e["meta"]["code"] in IN_TABLES[gate]
    }
    rows = iter(frame.index[::-1])  # comparisons are written to the first rows
    for code in severities:
        column, value = IN_TABLES[gate][code]
        frame[column] = frame[column].astype(object)
        frame.loc[next(rows), column] = value
    verdict, refused, _ = judge(frame, dataset, gate, None)
    found = {o.code: o for o in verdict.outcomes if o.code in severities}
    assert {code: o.failed for code, o in found.items()} == {c: clean.outcomes[gate, c].failed + 1 for c in severities}
    statuses = {code: outcome.status for code, outcome in found.items()}
    assert statuses == {code: due(outcome, severities[code], dataset) for code, outcome in found.items()}
    assert set(refused.values()) == {c for c, s in severities.items() if s == "critical" and c not in REFUSING}


def due(outcome: Outcome, severity: str, dataset: Dataset) -> str:
    """The status that an outcome with failing rows must have."""
    if outcome.failed <= max((k.rows for k in dataset.known if k.code == outcome.code), default=0):
        return "known"
    if severity == "warning":
        return "warned"
    is_little = outcome.code not in REFUSING and outcome.failed <= outcome.tolerance * outcome.checked
    return "tolerated" if is_little else "failed"


def test_a_table_that_lacks_a_column_or_all_rows_or_repeats_an_id_is_refused(
    cleaned: Callable[[str], Judged],
) -> None:
    clean = cleaned("mammography-density")
    frame = clean.frames["metadata"]
    repeated = frame.assign(
        **{"check.sample_id": frame["check.sample_id"].where(frame.index != 1, frame["check.sample_id"][0])}
    )
    for code, spoilt in {
        "schema": frame.drop(columns=f"label.{next(iter(clean.dataset.labels))}"),
        "not-empty": frame.head(0),
        "sample-id-unique": repeated,
    }.items():
        verdict, _, _ = judge(spoilt, clean.dataset, "metadata", None)
        assert [o.code for o in verdict.outcomes if o.status == "failed"] == [code]
    whole = replace(clean.dataset, samples=len(frame), samples_slack=0)
    verdict, _, _ = judge(frame, whole, "metadata", None)
    assert verdict.passed
    assert {o.code: o.status for o in verdict.outcomes}["complete-copy"] == "passed"


def recounted(dataset: Dataset, rows: pd.DataFrame) -> Dataset:
    """The declaration with the numbers of these rows for the publisher's."""

    def counted(wanted: Count) -> Count:
        return replace(wanted, number=published_counts.count(rows, wanted), slack=0)

    def own(published: PublishedCounts) -> PublishedCounts:
        return replace(published, complete=counted(published.complete), counts=tuple(map(counted, published.counts)))

    return replace(dataset, counts=tuple(map(own, dataset.counts)))


def off_by_one(dataset: Dataset) -> Dataset:
    """The declaration with the first number of each kind one too high."""

    def first(published: PublishedCounts) -> PublishedCounts:
        counts = published.counts
        return replace(published, counts=(replace(counts[0], number=counts[0].number + 1), *counts[1:]))

    return replace(dataset, counts=tuple(map(first, dataset.counts)))


def told(dataset: Dataset, entries: pd.DataFrame) -> dict[str, tuple[str, int, str]]:
    """Status, how many numbers were looked at, and what is said of them, by code."""
    frame = entries.assign(**published_counts.with_counts(entries, dataset))
    verdict, refused, _ = judge(frame, dataset, "metadata", None)
    assert not refused
    asked = {published.code for published in dataset.counts}
    return {o.code: (o.status, o.checked, o.observed) for o in verdict.outcomes if o.code in asked}


def test_a_complete_copy_is_held_against_every_published_number(clean: Judged) -> None:
    entries = clean.frames["metadata"]
    own = recounted(clean.dataset, entries)
    if own.counts:
        columns = published_counts.with_counts(entries, own)
        assert [c.dropna().tolist() for c in columns.values()] == [[""] * len(p.counts) for p in own.counts]
        assert told(off_by_one(own), entries) == {
            p.code: ("warned", len(p.counts), f"{first.what} {first.number:,} instead of {first.number + 1:,}")
            for p in own.counts
            for first in p.counts[:1]
        }


def test_published_numbers_add_up() -> None:
    numbers = {name: {c.what: c.number for p in d.counts for c in p.counts} for name, d in catalogue().items()}
    nih, hearts, breasts, livers = (
        numbers[n] for n in ("nih-chest-xray", "chexchonet", "mammography-density", "behsof")
    )
    assert nih["films in train_val"] + nih["films in test"] == NIH.samples
    assert nih["patients in train_val"] + nih["patients in test"] == nih["patients"]
    assert nih["films of men"] + nih["films of women"] == nih["PA films"] + nih["AP films"] == NIH.samples
    assert sum(n for what, n in nih.items() if what.startswith("boxes of")) == 984
    assert nih["Hernia in train_val"] + nih["Hernia in test"] == 227
    assert hearts["hypertrophy"] + hearts["dilation"] - hearts["both"] == hearts["either"]
    assert hearts["films of women"] + hearts["films of men"] == catalogue()["chexchonet"].samples
    assert sum(breasts.values()) == MAMMOGRAPHY.samples
    assert sum(n for what, n in livers.items() if "steatosis" in what) == 113
    assert sum(n for what, n in livers.items() if "fibrosis" in what) == 113


def _word_file(path: Path, *texts: str, cells: tuple[str, ...] = ()) -> None:
    """Paragraphs, and below them a table of one column where there are cells."""
    document = docx.Document()
    for text in texts:
        document.add_paragraph(text)
    for row, text in enumerate(cells):
        table = document.add_table(len(cells), 1) if row == 0 else document.tables[0]
        table.cell(row, 0).text = text
    document.save(str(path))


DOCUMENTS = {
    "document-readable": ("failed", 1),
    "empty-document": ("failed", 1),
    "unexpected-member": ("warned", 1),
    "no-table": ("warned", 1),
    "table-without-caption": ("warned", 1),
    "repeated-document": ("warned", 1),
}


def test_documents_that_cannot_be_read_are_empty_repeated_or_bare_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "raw"
    folder.mkdir()
    _word_file(folder / "a.docx", "Supplementary Table S1. Numbers", cells=("n", "7"))
    assert _said_of_documents(folder) == {}
    (folder / "b.docx").write_bytes((folder / "a.docx").read_bytes())
    (folder / "c.docx").write_bytes(b"no Word file")
    _word_file(folder / "d.docx")
    _word_file(folder / "e.docx", "Words alone.")
    _word_file(folder / "f.docx", "Some text.", cells=("n", "7"))
    (folder / "g.xyz").write_bytes(b"?")
    assert _said_of_documents(folder) == DOCUMENTS


def _said_of_documents(folder: Path) -> dict[str, tuple[str, int]]:
    verdict = documents.extract(_plan("ovf-radiomics", folder), judge)
    return {o.code: (o.status, o.failed) for o in verdict.outcomes if o.status != "passed"}


def codes(dataset: Dataset) -> set[Code]:
    """Every expectation of a dataset."""
    return {(gate, e["meta"]["code"]) for gate in get_args(GateName) for e in suite(dataset, gate)}


def test_no_expectation_is_without_a_demonstration(
    dataset_name: str, spoilt: Callable[[str], tuple[Expected, Judged]]
) -> None:
    dataset = catalogue()[dataset_name]
    shown = set(spoilt(dataset_name)[0])
    shown |= {(gate, code) for gate, planted in IN_TABLES.items() for code in planted}
    shown |= {("metadata", code) for code in (*OF_THE_TABLE, *(c.code for c in dataset.counts))}
    shown |= {("documents", code) for code in DOCUMENTS}
    assert codes(dataset) - shown == set()


def test_every_sentence_is_one_that_a_clinician_reads(dataset_name: str) -> None:
    dataset = catalogue()[dataset_name]
    for gate in get_args(GateName):
        found = suite(dataset, gate)
        assert len({e["meta"]["code"] for e in found}) == len(found), "a code stands for one thing in a gate"
        for expectation in found:
            sentence = expectation["meta"]["sentence"]
            assert sentence[0].isupper()
            assert sentence.endswith(".")
            assert "check." not in sentence
            assert "meta." not in sentence
    known = {k.code for k in dataset.known}
    assert known <= {code for _, code in codes(dataset)}


def test_great_expectations_pages_ask_for_nothing_and_do_not_grow_with_failing_rows(
    cleaned: Callable[[str], Judged], tmp_path: Path
) -> None:
    clean = cleaned("mammography-density")
    frame = clean.frames["metadata"].assign(sex="X", age_years=200.0)
    sizes = {}
    for times in (1, 20):
        many = pd.concat([frame] * times, ignore_index=True)
        docs = tmp_path / str(times)
        judge(many.assign(entry=many.index), clean.dataset, "metadata", docs)
        files = [path for path in docs.rglob("*") if path.is_file()]
        assert not fetched(files)
        sizes[times] = sum(path.stat().st_size for path in files)
    assert 0 < sizes[20] < 1.05 * sizes[1]


def test_the_catalogue_tells_what_is_checked_of_a_dataset_and_what_is_known(dataset_name: str) -> None:
    dataset = catalogue()[dataset_name]
    told = json.loads(scanmill("datasets", dataset_name, "--json").stdout)["checks"]
    has_documents = any(rule.kind == "document" for rule in dataset.members)
    expected = {code for code in codes(dataset) if code[0] != "documents" or has_documents}
    assert {(check["gate"], check["code"]) for check in told} == expected
    assert sum(len(check["known"]) for check in told) == len(dataset.known)
    text = " ".join(scanmill("datasets", dataset_name).stdout.split())
    assert all(k.statement in text for k in dataset.known)
    assert all(check["sentence"] in text for check in told)
