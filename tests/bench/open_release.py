"""Does a release open from an environment that holds one foreign tool and nothing of scanmill?

    python -m tests.bench.open_release RELEASE [RELEASE ...] [--tools duckdb,pandas] [--json FILE]

For each tool a virtual environment is made with that tool alone, of the version in ``constraints.txt``, and the release
is read there (``tests/bench/foreign_readers.py``): validated and ten records of each record set loaded by mlcroissant,
``load_dataset``, SQL over the Parquet shards, pandas, every sample of the tars. What each saw must be what the manifest
says, or the command fails. Needs a package index; minutes, not seconds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tests.bench.foreign_readers import READERS, RECORDS

ROOT = Path(__file__).resolve().parents[2]
PACKAGES: Mapping[str, tuple[str, ...]] = {
    "mlcroissant": ("mlcroissant[image,parquet]",),
    "datasets": ("datasets[vision]",),
    "duckdb": ("duckdb",),
    "pandas": ("pandas", "pyarrow"),
    "webdataset": ("webdataset",),
}
"""What is installed for each tool, beside pip."""


@dataclass(frozen=True)
class Opened:
    """What one tool saw of one release."""

    release: str
    tool: str
    packages: int
    """In its environment, pip among them."""
    seconds: float
    seen: Mapping[str, Any]
    problems: tuple[str, ...]


def main(arguments: Sequence[str] | None = None) -> int:
    """Open every release with every tool; 1 if any saw something else than the manifest says."""
    options = _options(arguments)
    opened: list[Opened] = []
    with tempfile.TemporaryDirectory(prefix="open-release-") as scratch:
        for tool in options.tools.split(","):
            environment = make_environment(Path(scratch), tool)
            for release in options.releases:
                if tool != "webdataset" or (release / "webdataset").is_dir():  # a release may have one store, or none
                    opened.append(open_release(environment, tool, release.resolve()))
    Console(width=160).print(_table(opened))
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in opened], indent=1))
    return int(any(one.problems for one in opened))


def make_environment(scratch: Path, tool: str) -> Path:
    """A virtual environment with that tool alone; returns its Python."""
    python = scratch / tool / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(scratch / tool)], check=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pinned = [*pip, "-c", str(ROOT / "constraints.txt"), *PACKAGES[tool]]
    installed = subprocess.run(pinned, cwd=scratch, capture_output=True, text=True, check=False)
    if installed.returncode:
        raise SystemExit(f"cannot install {tool}:\n{installed.stderr}")
    found = subprocess.run([str(python), "-I", "-c", "import tasks"], capture_output=True, check=False)
    if found.returncode == 0:
        raise SystemExit(f"{python} can import scanmill; this would prove nothing")
    return python


def open_release(python: Path, tool: str, release: Path) -> Opened:
    """One reader in its own environment and an empty folder, isolated from the paths of this process."""
    listed = subprocess.run([str(python), "-m", "pip", "list", "--format=json"], capture_output=True, check=True)
    script = str(ROOT / "tests" / "bench" / "foreign_readers.py")
    with tempfile.TemporaryDirectory() as empty:
        begun = time.perf_counter()
        done = subprocess.run(
            [str(python), "-I", script, tool, str(release)], cwd=empty, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - begun
    lines = done.stdout.splitlines()
    seen = json.loads(lines[-1]) if done.returncode == 0 and lines else {}
    problems = (
        differences(seen, expected(release))
        if seen
        else (done.stderr.strip().rpartition("\n")[2] or "it said nothing",)
    )
    return Opened(_name(release), tool, len(json.loads(listed.stdout)), round(seconds, 2), seen, tuple(problems))


def expected(release: Path) -> dict[str, Any]:
    """What the manifest says: samples and present labels by split, or tables and rows; and what is in the tars."""
    manifest = json.loads((release / "manifest.json").read_bytes())
    if "documents" in manifest:
        documents = json.loads((release / "documents.json").read_bytes())["documents"]
        tables = [table for document in documents for table in document["tables"]]
        return {"tables": len(tables), "rows": sum(table["rows"] for table in tables)}
    return {
        "samples": {split: counts["samples"] for split, counts in manifest["splits"].items()},
        "present": {
            split: {name: count["present"] for name, count in counts["labels"].items()}
            for split, counts in manifest["splits"].items()
        },
    }


def differences(seen: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """One line for each thing that a tool saw otherwise; a tool need not tell everything."""
    needed = {"samples", "tables", "rows"} & wanted.keys()
    found = [f"{what}: nothing" for what in sorted(needed - seen.keys())]
    told = [what for what in wanted if what in seen]
    found += [f"{what}: {seen[what]} instead of {wanted[what]}" for what in told if seen[what] != wanted[what]]
    notes = seen.get("notes", {})
    if notes.get("validate") or notes.get("warnings") or notes.get("wrong hashes"):
        found.append(f"Croissant: {notes}")
    samples = sum(wanted.get("samples", {}).values())
    for name, count in notes.get("records", {}).items():
        if samples and name != "splits" and count != min(RECORDS, samples):
            found.append(f"{count} records of {name}")
    return found


def _table(opened: Sequence[Opened]) -> Table:
    table = Table("release", "tool", "packages", "s", "saw", "verdict", title="Opened with one tool, without scanmill")
    for one in opened:
        table.add_row(
            one.release,
            one.tool,
            str(one.packages),
            f"{one.seconds:.1f}",
            _words(one.seen),
            escape("\n".join(one.problems)) or "as the manifest says",
        )
    return table


def _words(seen: Mapping[str, Any]) -> str:
    if "tables" in seen:
        return f"{seen['tables']} tables, {seen['rows']:,} rows"
    words = ", ".join(f"{count:,} {split}" for split, count in seen.get("samples", {}).items())
    labels = sum(sum(found.values()) for found in seen.get("present", {}).values())
    words += f"; {labels:,} labels present" if labels else ""
    if "records" in seen.get("notes", {}):
        loaded = ", ".join(f"{count} of {name}" for name, count in seen["notes"]["records"].items())
        words += f"; valid, {seen['notes']['files']} hashes, records: {loaded}"
    return words


def _name(release: Path) -> str:
    manifest = json.loads((release / "manifest.json").read_bytes())
    return f"{manifest['dataset']}@{manifest['release'][:8]}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.open_release", description=__doc__)
    parser.add_argument("releases", nargs="+", type=Path, help="folders of published releases")
    parser.add_argument("--tools", default=",".join(READERS), help="which of them (default: all)")
    parser.add_argument("--json", type=Path, help="write what was seen here as well")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
