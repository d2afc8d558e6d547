"""The dataset card: README.md of a release, with the front matter by which Hugging Face ``datasets`` finds the splits.

Without that front matter ``load_dataset`` guesses splits from folder names, and a folder ``train_val`` becomes both a
``train`` and a ``validation`` split with the same images.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import yaml

from tasks.release import coco, datasheet
from tasks.release.licences import licence_url, of_images, spdx
from tasks.schema import Accounting, Dataset, Outcome, Status, Store, Verdict

SIZE_CATEGORIES: tuple[tuple[int, str], ...] = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)

SHARDS_OF_SPLIT: Mapping[Store, str] = {
    "parquet": "parquet/{split}/*.parquet",
    "webdataset": "webdataset/{split}/*.tar",
}

STATUSES: Mapping[Status, str] = {
    "failed": "failed",
    "warned": "warn",
    "tolerated": "found no more than is tolerated",
    "known": "found what is known of the published data",
    "passed": "passed",
    "unchecked": "were NOT CHECKED",
}
"""What is said of so many checks, the worst first; what was not checked last, where it is read."""


class Verbatim(str):
    """Text that stands in the card as it is; every other string is escaped."""


def card(
    dataset: Dataset, release: str, manifest: Mapping[str, Any], accounting: Accounting, verdicts: Sequence[Verdict]
) -> bytes:
    """``README.md`` of one release; ``manifest["splits"][...]["labels"]`` is shown where it is there."""
    dataset = of_images(dataset)
    outcomes = [outcome for verdict in verdicts for outcome in verdict.outcomes]
    splits = {name: manifest["splits"].get(name, {"samples": 0, "shards": 0}) for name in dataset.splits}
    text = template("card.md.jinja").render(
        front_matter=Verbatim(front_matter(dataset, manifest)),
        dataset=dataset,
        homepage=link(dataset.homepage),
        release=release,
        inputs=sorted(manifest["inputs"], key=lambda entry: str(entry["name"])),
        splits=splits,
        samples=sum(split["samples"] for split in splits.values()),
        label_rows=list(_label_rows(dataset, splits)),
        has_label_counts=any("labels" in split for split in splits.values()),
        example_split=next((name for name, split in splits.items() if split["samples"]), dataset.splits[0]),
        example_column=next((f"label.{name}" for name in dataset.labels), "sample_id"),
        stores=_stores(manifest),
        accounting=accounting,
        has_boxes=any(entry["path"] == coco.NAME for entry in manifest["files"]),
        known=list(_known_rows(dataset, outcomes)),
        leaks=list(_known_rows(dataset, outcomes, only_leaks=True)),
        findings=findings(outcomes),
        is_passed=all(verdict.passed for verdict in verdicts),
        kind="images",
        **terms(dataset, manifest, verdicts),
    )
    return text.encode()


def terms(dataset: Dataset, manifest: Mapping[str, Any], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What the cards of all kinds of release say alike: verdict, datasheet, redistribution, where the licence is."""
    statuses = Counter(outcome.status for verdict in verdicts for outcome in verdict.outcomes)
    return {
        "found": ", ".join(f"{statuses[status]:,} {words}" for status, words in STATUSES.items() if statuses[status]),
        "checks": statuses.total(),
        "unchecked": [code for verdict in verdicts for code in verdict.unchecked],
        "sections": datasheet.sections(dataset, manifest),
        "answer": datasheet.redistribution_answer(dataset),
        "licence_link": link(licence_url(dataset.licence) or dataset.terms.licence_url or dataset.homepage),
    }


def front_matter(dataset: Dataset, manifest: Mapping[str, Any]) -> str:
    """The YAML between the dashes, as the Hugging Face hub and ``datasets`` define it."""
    samples = sum(split["samples"] for split in manifest["splits"].values())
    values: dict[str, Any] = {
        "pretty_name": dataset.title,
        **licence(dataset),
        "size_categories": [size_category(samples)],
        **_tasks(dataset),
        "tags": ["medical", "radiology", "scanmill"],
    }
    if stores := _stores(manifest):
        # Parquet first: its columns are typed, a tar gives `datasets` one nested json column to guess from.
        values["configs"] = [{"config_name": "default", "data_files": _data_files(dataset, manifest, stores[0])}]
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def licence(dataset: Dataset) -> dict[str, str]:
    """Front matter of the licence: a known identifier, or ``other`` with its name and where it stands."""
    if identifier := spdx(dataset.licence):
        return {"license": identifier.lower()}
    name = re.sub(r"[^a-z0-9.]+", "-", dataset.licence.lower()).strip("-")
    where = dataset.terms.licence_url or dataset.homepage
    return {"license": "other", "license_name": name or "unknown", "license_link": where}


def _tasks(dataset: Dataset) -> dict[str, list[str]]:
    categories = ["image-classification"] if dataset.labels else []
    categories += ["object-detection"] if dataset.has_boxes else []
    categories += ["image-segmentation"] if dataset.has_masks else []
    kinds = {"exclusive": "multi-class-image-classification", "multiple": "multi-label-image-classification"}
    tasks = {"task_categories": categories, "task_ids": [kinds[dataset.label_kind]] if dataset.labels else []}
    return {name: values for name, values in tasks.items() if values}


def _stores(manifest: Mapping[str, Any]) -> list[Store]:
    written = {shard["store"] for shard in manifest["shards"]}
    return [store for store in SHARDS_OF_SPLIT if store in written]


def _data_files(dataset: Dataset, manifest: Mapping[str, Any], store: Store) -> list[dict[str, str]]:
    """One pattern per split that has a shard: ``datasets`` fails on a pattern that matches nothing."""
    written = {shard["split"] for shard in manifest["shards"] if shard["store"] == store}
    return [
        {"split": re.sub(r"\W", "_", split), "path": SHARDS_OF_SPLIT[store].format(split=split)}
        for split in dataset.splits
        if split in written
    ]


def _label_rows(dataset: Dataset, splits: Mapping[str, Any]) -> Iterator[tuple[str, str, list[str]]]:
    """Label, meaning, and per split ``present / absent / unknown``."""
    for name, meaning in dataset.labels.items():
        counts = [split.get("labels", {}).get(name) for split in splits.values()]
        yield name, meaning, [_label_count(count) for count in counts]


def _label_count(count: Mapping[str, int] | None) -> str:
    if count is None:
        return ""
    return " / ".join(f"{count.get(value, 0):,}" for value in ("present", "absent", "unknown"))


def size_category(rows: int) -> str:
    """The hub's word for a number of rows."""
    return next((name for limit, name in SIZE_CATEGORIES if rows < limit), "n>10M")


def findings(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Outcomes that a reader of the card should know of."""
    return [outcome for outcome in outcomes if outcome.status in ("tolerated", "warned", "failed")]


def _known_rows(
    dataset: Dataset, outcomes: Sequence[Outcome], *, only_leaks: bool = False
) -> Iterator[tuple[str, int, int | str, str]]:
    """Statement, rows in a complete copy, rows found here, source."""
    found = {outcome.code: outcome.failed for outcome in outcomes if outcome.status != "unchecked"}
    for known in dataset.known:
        if only_leaks and not known.is_leak:
            continue
        yield known.statement, known.rows, found.get(known.code, "not checked"), known.source


@cache
def template(name: str) -> jinja2.Template:
    """A template of this folder; whatever its expressions yield is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        # Escaping is not left to the template: whatever an expression yields passes through here.
        finalize=_shown,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    environment.filters |= {"code": _code, "literal": _literal, "identifier": _identifier, "address": _address}
    environment.filters |= {"fenced": _fenced}
    return environment.get_template(name)


def _shown(value: object) -> str:
    if isinstance(value, Verbatim):
        return value
    return f"{value:,}" if isinstance(value, int) else markdown(str(value))


def markdown(text: str) -> str:
    """The text as one line that Markdown shows literally, in a paragraph as well as in a table cell."""
    # Line ends would start blocks and rows; control and direction marks would show something other than what is there.
    visible = "".join(" " if unicodedata.category(char)[0] in "CZ" else char for char in text)
    line = re.sub(r" +", " ", visible).strip()
    escaped = re.sub(r"([\\`*_{}\[\]#|~$])", r"\\\1", line)
    escaped = escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", escaped)


def link(url: str) -> Verbatim:
    """The address as a link where it is one."""
    if re.fullmatch(r"https?://[^\s<>\"'`\\|]+", url):
        return Verbatim(f"<{url}>")
    return Verbatim(markdown(url))


def _code(text: str) -> Verbatim:
    """A code span; names that cannot stand in one are shown as text."""
    return Verbatim(f"`{text}`" if re.fullmatch(r"[\w.-]+", text) else markdown(text))


def _address(path: str) -> Verbatim:
    """A path below the release, as it may stand in a link or between quotation marks."""
    return Verbatim(quote(path))


def _fenced(text: str) -> Verbatim:
    """Lines of a code block, which they cannot end."""
    lines = ["".join(char for char in line if char.isprintable()) for line in text.splitlines()]
    return Verbatim("\n".join(lines).replace("`", ""))


def _literal(text: str) -> Verbatim:
    """A Python string literal on one line, so that it cannot end the code block it stands in."""
    return Verbatim(json.dumps(text, ensure_ascii=not text.isprintable()))


def _identifier(column: str) -> Verbatim:
    """A quoted SQL identifier on one line."""
    line = "".join(char if char.isprintable() else " " for char in column)
    return Verbatim('"' + line.replace('"', '""') + '"')
