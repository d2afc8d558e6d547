"""The imports between our modules, read from the sources, and the diagram of them in docs/development.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("flows", "tasks", "expectations", "scanmill")

Arrows = Mapping[str, frozenset[str]]
"""Themes by the theme that imports them."""

THEMES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "flows": ("flows<br>Prefect, command line", ("flows",)),
    "expectations": ("expectations<br>Great Expectations", ("expectations",)),
    "steps": ("tasks.steps<br>the seam to Prefect", ("tasks.steps",)),
    "learning": ("tasks.learning<br>torch", ("tasks.learning",)),
    "back": ("trace, quarantine<br>back to raw", ("tasks.trace", "tasks.quarantine", "tasks.raw_again")),
    "stages": ("tasks.stages<br>from files to files", ("tasks.stages",)),
    "made": (
        "phantoms, drafts<br>made-up data, first drafts",
        ("tasks.demo_release", "tasks.invented_exams", "tasks.phantoms", "tasks.drafts"),
    ),
    "release": (
        "release, quality<br>manifest, card, report",
        ("tasks.release", "tasks.quality", "tasks.accounting", "tasks.reasons", "tasks.lineage"),
    ),
    "scanmill": ("scanmill<br>for training scripts", ("scanmill",)),
    "work": (
        "chunks, shards, likeness<br>the work on Dask",
        (
            "tasks.chunks",
            "tasks.chunk_columns",
            "tasks.chunk_parts",
            "tasks.shards",
            "tasks.shard_tars",
            "tasks.comparison",
            "tasks.leakage",
            "tasks.waves",
            "tasks.pieces",
            "tasks.clusters",
            "tasks.forked_workers",
            "tasks.deaf_workers",
            "tasks.memory",
        ),
    ),
    "tables": (
        "tables, documents<br>what goes with images",
        (
            "tasks.tables",
            "tasks.table_choice",
            "tasks.documents",
            "tasks.samples",
            "tasks.pairing",
            "tasks.split_file",
            "tasks.row_counts",
            "tasks.published_counts",
            "tasks.boxes",
            "tasks.appearance",
            "tasks.checks",
        ),
    ),
    "images": (
        "images, masks, DICOM<br>bytes in, bytes out",
        (
            "tasks.images",
            "tasks.decoding",
            "tasks.encoding",
            "tasks.reduction",
            "tasks.dicom",
            "tasks.masks",
            "tasks.scan_sector",
            "tasks.pass_through",
            "tasks.image_checks",
            "tasks.burned_in_text",
            "tasks.orientation",
            "tasks.fingerprints",
            "tasks.near_duplicates",
        ),
    ),
    "archives": (
        "sources, archives<br>how bytes arrive",
        (
            "tasks.sources",
            "tasks.credentials",
            "tasks.archives",
            "tasks.tarballs",
            "tasks.locked_zips",
            "tasks.plain_zips",
            "tasks.zip_directories",
            "tasks.member_places",
            "tasks.raw_memory",
        ),
    ),
    "datasets": (
        "tasks.datasets<br>one file each",
        ("tasks.datasets", "tasks.splits", "tasks.readings", "tasks.demands"),
    ),
    "places": (
        "lake, storage, files<br>disk and S3",
        (
            "tasks.lake",
            "tasks.storage",
            "tasks.object_storage",
            "tasks.files",
            "tasks.locks",
            "tasks.limits",
            "tasks.progress",
            "tasks.code_version",
        ),
    ),
    "schema": ("tasks.schema<br>the words", ("tasks.schema",)),
}
"""Nodes of the diagram: what is written on each, and the packages and modules that it stands for."""


def imports(path: Path) -> set[str]:
    """Modules that a file imports, at its top or inside functions; ``from a import b`` counts as ``a`` and ``a.b``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the arrows"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def name_of(path: Path) -> str:
    """Dotted module name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): imports(path) for folder in SOURCES for path in sorted((ROOT / folder).rglob("*.py"))}


def is_in(module: str, *packages: str) -> bool:
    """Whether a module is one of the packages or inside one."""
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def themes_of(module: str) -> list[str]:
    """The nodes that stand for a module: one, if the diagram is right."""
    return [theme for theme, (_, packages) in THEMES.items() if is_in(module, *packages)]


def crossings() -> Iterator[tuple[str, str, str]]:
    """Theme, theme that it imports, and by which modules, for every import between two themes."""
    for module, found in MODULES.items():
        for imported in sorted(found & MODULES.keys()):
            yield from (
                (one, other, f"{module} imports {imported}")
                for one in themes_of(module)
                for other in themes_of(imported)
                if one != other
            )


def arrows() -> Arrows:
    """Every import between two themes."""
    found: dict[str, set[str]] = {theme: set() for theme in THEMES}
    for one, other, _ in crossings():
        found[one].add(other)
    return {theme: frozenset(others) for theme, others in found.items()}


def reached(theme: str, among: Arrows) -> set[str]:
    """What a theme imports, and all that this imports."""
    found: set[str] = set()
    left = [theme]
    while left:
        new = among[left.pop()] - found
        found |= new
        left += new
    return found


def diagram() -> str:
    """A flowchart in Mermaid, which GitHub draws; an arrow that follows from two others is left out."""
    found = arrows()
    lines = ["```mermaid", "flowchart TD", *(f'    {theme}["{label}"]' for theme, (label, _) in THEMES.items())]
    for theme, others in found.items():
        beyond: set[str] = set().union(*(reached(other, found) for other in others))
        lines += [f"    {theme} --> {other}" for other in THEMES if other in others - beyond]
    return "\n".join([*lines, "```"])
