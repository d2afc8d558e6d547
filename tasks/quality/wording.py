"""The report's words and numbers as text: the verdict in one line, the key numbers, how to open the release."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tasks.quality.facts import DocumentFacts, ReleaseFacts, ReportFacts
from tasks.schema import Status, Verdict

ORDER: tuple[Status, ...] = ("failed", "unchecked", "warned", "known", "tolerated", "passed")
"""Outcomes that want reading come first."""
SET_ASIDE: tuple[Status, ...] = ("tolerated", "warned")
GLYPHS: Mapping[str, str] = {
    "passed": "✓",
    "tolerated": "≈",
    "known": "◆",
    "warned": "!",
    "unchecked": "?",
    "failed": "✕",
}
MEANINGS: Mapping[str, str] = {
    "passed": "nothing failed",
    "tolerated": "failing rows were set aside, within the tolerance",
    "known": "a defect of the published data, no worse than declared",
    "warned": "worth a look, blocks nothing",
    "unchecked": "not checked: it takes pixels, and no image was decoded",
    "failed": "the gate says no",
}


IGNORED: Mapping[str, str] = {
    "document": "a document that describes the data",
    "junk": "a left-over of an operating system or a packing program",
    "metadata-table": "a table, read as such",
    "split-list": "a list of splits, read as such",
    "placeholder-labels": "a table of labels that only fill a place",
    "table-copy": "the same table once more",
    "table-not-chosen": "another form of a table that was read",
    "nested-copy": "an equal file in a folder of the same name inside the folder",
}
"""Why a member was left out by rule, in words."""


def tally(facts: ReleaseFacts) -> dict[Status, int]:
    """Outcomes of all gates by status."""
    outcomes = [outcome for verdict in facts.verdicts for outcome in verdict.outcomes]
    return {status: sum(outcome.status == status for outcome in outcomes) for status in ORDER}


def gate_line(verdicts: Sequence[Verdict], tally: Mapping[Status, int]) -> str:
    """What stands beside the verdict: gates passed, and how many outcomes are not plainly so."""
    outcomes = sum(tally.values())
    parts = [f"{plural(tally['failed'], 'expectation')} of {outcomes} failed"] if tally["failed"] else []
    if verdicts and not tally["failed"]:
        parts.append("both gates passed" if len(verdicts) > 1 else f"the {verdicts[0].gate} gate passed")
    if tally["known"]:
        parts.append(plural(tally["known"], "known defect"))
    parts += [f"{tally[status]} {status}" for status in SET_ASIDE if tally[status]]
    if tally["unchecked"]:
        parts.append(f"{tally['unchecked']} not checked")
    line = ", ".join(parts)
    return line[:1].upper() + line[1:]


def key_numbers(facts: ReportFacts, statistics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(number, what it counts, note) for the tiles at the top."""
    accounting, groups = facts.accounting, statistics["groups"]
    complete = facts.dataset.samples
    tiles = [(count(statistics["samples"]), "samples", f"of {count(complete)} in a complete copy" if complete else "")]
    if groups:
        kind = "patients" if groups["kind"] == "patient" else "groups of one picture"
        tiles.append((count(groups["distinct"]), kind, f"up to {count(groups['largest'])} images each"))
    if facts.dataset.labels:
        tiles.append((count(len(facts.dataset.labels)), "labels", facts.dataset.label_kind))
    encoded = [split["bytes"] for split in statistics["splits"].values()]
    if statistics["samples"] and None not in encoded:
        tiles.append((size(sum(encoded)), "of images", str(facts.parameters.get("encoding", "")).upper()))
    refused = accounting.quarantined if accounting else 0
    noun = "member" if facts.dataset.has_masks else "image"
    note = f"{plural(refused, noun)}, {share(refused, accounting.members)} of members" if accounting else ""
    tiles.append((count(len(facts.quarantine)), "in quarantine", note))
    return tiles


def document_numbers(facts: DocumentFacts) -> list[tuple[str, str, str]]:
    """The same of a document release."""
    tables = [table for document in facts.documents for table in document["tables"]]
    figures = [figure for document in facts.documents for figure in document["figures"]]
    bare, rows = sum(not table["caption"] for table in tables), sum(table["rows"] for table in tables)
    members = facts.accounting.members if facts.accounting else 0
    return [
        _tile(len(facts.documents), "document", size(sum(document["bytes"] for document in facts.documents))),
        _tile(len(tables), "table", f"{plural(rows, 'row')}, {count(bare) if bare else 'none'} without caption"),
        _tile(len(figures), "figure", size(sum(figure["bytes"] for figure in figures)) if figures else ""),
        _tile(sum(document["characters"] for document in facts.documents), "character", "of Markdown"),
        (count(len(facts.quarantine)), "in quarantine", f"of {plural(members, 'archive member')}"),
    ]


def _tile(number: int, noun: str, note: str) -> tuple[str, str, str]:
    return count(number), plural(number, noun).partition(" ")[2], note


def document_snippets(facts: DocumentFacts) -> dict[str, str]:
    """The same of a document release, with its first table; nothing where it has none."""
    tables = [table for document in facts.documents for table in document["tables"]]
    if not tables:
        return {}
    release = f"{facts.dataset.name}/releases/{facts.release}"
    path = f"{release}/{tables[0]['path']}"
    return {
        "pandas": f'import pandas as pd\n\ntable = pd.read_parquet("{path}")',
        "DuckDB": f"from '{path}';",
        "Caption and notes": "import pyarrow.parquet as pq\n\n"
        f'about = pq.read_schema("{path}").metadata\nprint(about[b"caption"].decode(), about[b"notes"].decode())',
        "All tables": "import json\nfrom pathlib import Path\n\n"
        f'release = Path("{release}")\n'
        'for document in json.loads((release / "documents.json").read_bytes())["documents"]:\n'
        '    for table in document["tables"]:\n        print(release / table["path"], table["caption"])',
    }


def snippets(facts: ReportFacts, statistics: Mapping[str, Any]) -> dict[str, str]:
    """Tool to the few lines that open this release with it, run from the lake's folder."""
    name = facts.dataset.name
    release = f"{name}/releases/{facts.release}"
    split = next((s for s, part in statistics["splits"].items() if part["samples"]), facts.dataset.splits[0])
    extension = {"jpeg": "jpg"}.get(str(facts.parameters.get("encoding")), "png")
    stores = facts.parameters.get("stores", ("webdataset", "parquet"))
    found = {
        "pandas": f'import pandas as pd\n\nsamples = pd.read_parquet("{release}/samples.parquet")\n'
        f'samples.groupby("split").size()',
        "DuckDB": f"select split, count(*) as samples\nfrom '{release}/samples.parquet'\ngroup by split;",
    }
    if "webdataset" in stores:
        found["WebDataset"] = (
            "from glob import glob\n\nimport webdataset as wds\n\n"
            f'shards = sorted(glob("{release}/webdataset/{split}/*.tar"))\n'
            f"{split} = wds.WebDataset(shards, shardshuffle=False)\n"
            f'{split} = {split}.decode("pil").to_tuple("{extension}", "json")'
        )
    if "parquet" in stores:
        found["Hugging Face datasets"] = (
            f'from datasets import load_dataset\n\n{split} = load_dataset("{release}", split="{split}")'
        )
    found["mlcroissant"] = (
        f'import mlcroissant as mlc\n\nrelease = mlc.Dataset("{release}/croissant.json")\n'
        'for number, record in zip(range(10), release.records("images")):\n    print(number, sorted(record))'
    )
    return found


def count(value: float | None) -> str:
    """112120 → ``112,120``; a dash for None."""
    return "–" if value is None else f"{value:,.0f}"


def number(value: float | None) -> str:
    """A measured value to about three figures; a dash for None."""
    return "–" if value is None else f"{value:,.3g}" if abs(value) < 1000 else count(value)


def share(part: float, whole: float = 1.0) -> str:
    """Percent with as many decimals as tell it from nothing; a dash for a share of nothing."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.01:
        return "< 0.01 %"
    if 99.99 < percent < 100:
        return "> 99.99 %"
    return f"{percent:.{0 if percent in (0, 100) else 1 if percent >= 10 else 2}f} %"


def measured(value: float | None, unit: str) -> str:
    """The value of an image check: a share in percent, an angle in degrees, lines of text, or that it is flagged."""
    if value is None:
        return "–"
    words = {"share": share(value), "degrees": f"{value:.0f}°", "regions": plural(round(value), "line")}
    return words.get(unit, "flagged" if value else "not flagged")


def level(tolerance: float) -> str:
    """A declared share as it was declared: 0.01 → ``1 %``."""
    return f"{100 * tolerance:g} %"


def place(value: float) -> str:
    """A coordinate to a thousandth of a pixel, as short as it can be: 12.5 → ``12.5``."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def size(value: float | None) -> str:
    """Bytes in decimal units: 42100000000 → ``42.1 GB``."""
    if value is None:
        return "–"
    rounded = float(f"{value:.3g}")  # first, so that 999,950 is 1 MB and not 1000 kB
    power = min(int(math.log10(rounded) // 3), 4) if rounded >= 1 else 0
    return f"{rounded / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"


def plural(value: int, noun: str) -> str:
    """``1 known defect``, ``2 known defects``."""
    return f"{count(value)} {noun}{'' if value == 1 else 's'}"
