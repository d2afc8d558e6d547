"""What changed from one release of a dataset to another; reads manifests and tables, never an image.

Sample by sample, by id. Where a sample lies (``shard``, ``row``, ``tar_offset``) is no property of it and is not looked
at; where it came from (``archive``, ``member``) is told apart, as ``moved-in-raw``, and is no change either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scanmill.manifest import parsed
from tasks.datasets import catalogue
from tasks.files import read_table
from tasks.lake import Lake, not_published
from tasks.quality.drift import Shift, between_releases
from tasks.quality.drift import columns as drift_columns
from tasks.schema import COMPARED_COLUMNS, FORMAT_VERSION, IMAGE_COLUMNS, MASK_COLUMNS, ScanmillError, UnusableInput
from tasks.storage import Location, open_table, read_bytes

Kind = Literal[
    "moved",
    "added",
    "removed",
    "refused",
    "restored",
    "labels",
    "boxes",
    "metadata",
    "pixels",
    "stored-image",
    "image-facts",
    "moved-in-raw",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""``moved`` are in another split; ``refused`` are among the removed and in the later quarantine, ``restored`` among the
added and in the earlier one."""
CHANGES: tuple[Kind, ...] = ("labels", "boxes", "metadata", "pixels", "stored-image", "image-facts")
"""What makes a sample a changed one. ``image-facts`` is what conversion measured and did, on the image and its mask; it
may differ where decoded pixels and stored bytes are the same."""

PLACEMENT = ("sample_id", "split", "shard", "row", "tar_offset", *(name for name, _ in COMPARED_COLUMNS))
"""Not compared as columns; ``split`` has a kind of its own, and what the other images tell of one changes with them."""
KIND_OF: Mapping[str, Kind] = {
    **{name: "image-facts" for name, _ in (*IMAGE_COLUMNS, *MASK_COLUMNS)},
    "pixel_sha256": "pixels",
    "image_sha256": "stored-image",
    "mask_sha256": "stored-image",
    "boxes": "boxes",
    "boxes_scaled": "boxes",
    "archive": "moved-in-raw",
    "member": "moved-in-raw",
    "mask_archive": "moved-in-raw",
    "mask_member": "moved-in-raw",
}
TOLD: tuple[Kind, ...] = ("labels", "metadata", "moved-in-raw")
"""Kinds whose details give the values; of the others they name the columns."""
SETTINGS = ("dataset_version", "parameters", "code", "gates")


@dataclass(frozen=True)
class Finding:
    """The samples that one kind of difference concerns, sorted by id."""

    ids: tuple[str, ...] = ()
    parts: tuple[tuple[str, ...], ...] = ()
    """One per id: its split, the two splits, the reasons, or the columns that differ."""
    details: tuple[str, ...] = ()
    """The same in words, with values where they tell something."""
    counts: Mapping[str, int] = field(default_factory=dict)
    """Samples by split, by ``train → test``, by reason, or by column (where one sample may count several times)."""


@dataclass(frozen=True)
class Inputs:
    """Raw files by name."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    """Same name, other bytes."""
    same: tuple[str, ...]


@dataclass(frozen=True)
class Setting:
    """A parameter, a version of the code or of the declaration, or a gate's word; null where a release has none."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Columns:
    """Columns that cannot be compared row by row."""

    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    retyped: tuple[str, ...]
    """Text in one release, numbers in the other."""


@dataclass(frozen=True)
class Shards:
    """Shard files of the later release; shared are those that the earlier one has with the same bytes."""

    files: int
    shared: int
    size_bytes: int
    new_bytes: int


@dataclass(frozen=True)
class Difference:
    """Everything that tells two releases apart."""

    dataset: str
    before: str
    after: str
    samples_before: int
    samples_after: int
    quarantine_before: int
    quarantine_after: int
    findings: Mapping[Kind, Finding]
    """Every kind, empty ones too."""
    changed: int
    """Samples in both releases with at least one of :data:`CHANGES`."""
    same: int
    """Samples in both releases, in the same split and not changed."""
    inputs: Inputs
    settings: tuple[Setting, ...]
    columns: Columns
    shards: Shards
    drift: tuple[Shift, ...] = ()
    """How labels, patients and images differ as a whole; empty for a dataset that is not declared any more, and where
    one release is not published yet (its ``quality/drift.json`` has them)."""

    @property
    def moved(self) -> tuple[str, ...]:
        """Samples that changed their split; there must be none."""
        return self.findings["moved"].ids


@dataclass(frozen=True)
class _Release:
    folder: Location
    manifest: Mapping[str, Any]
    samples: pq.ParquetFile
    quarantine: pa.Table

    def column(self, name: str) -> pa.Array:
        """One column of the sample table in one piece; nothing else is read."""
        with _naming_damage(self.folder, "samples.parquet"):
            return self.samples.read(columns=[name])[name].combine_chunks()


def compare(before: tuple[Lake, str], after: tuple[Lake, str]) -> Difference:
    """Compare two releases, each given by its lake and its id; the lakes may be different ones.

    Raises :class:`ScanmillError` for releases of different datasets, :class:`UnusableInput` for a damaged one.
    """
    difference = _compared(_published(*before), _published(*after))
    declared = catalogue().get(difference.dataset)
    if declared is None:
        return difference
    frames = [read_samples(lake, release, drift_columns(declared)) for lake, release in (before, after)]
    return replace(difference, drift=tuple(between_releases(declared, *frames)))


def compare_staged(before: tuple[Lake, str], folder: Location, manifest: Mapping[str, Any]) -> Difference:
    """The same of a release and one in the making, which has a folder and will have this manifest."""
    return _compared(_published(*before), _open(folder, manifest))


def read_samples(lake: Lake, release: str, wanted: Sequence[str]) -> pd.DataFrame:
    """Those of the wanted columns that the sample table of a published release has.

    Raises :class:`ScanmillError` where there is no such release or it has no samples, :class:`UnusableInput` for a
    damaged one.
    """
    opened = _published(lake, release)
    there = set(opened.samples.schema_arrow.names)
    with _naming_damage(opened.folder, "samples.parquet"):
        frame: pd.DataFrame = opened.samples.read(columns=[name for name in wanted if name in there]).to_pandas()
        return frame


def _compared(old: _Release, new: _Release) -> Difference:
    if old.manifest["dataset"] != new.manifest["dataset"]:
        raise ScanmillError(
            f"{old.folder} is of {old.manifest['dataset']}, {new.folder} of {new.manifest['dataset']}: "
            f"only releases of one dataset can be compared"
        )
    old_ids, new_ids = _sample_ids(old), _sample_ids(new)
    rows = pc.index_in(old_ids, value_set=new_ids)
    in_old, in_new = pc.indices_nonzero(rows.is_valid()), rows.drop_null()
    ids = old_ids.take(in_old)
    columns, common = _columns(old, new)
    findings = dict.fromkeys(KINDS, Finding())
    findings |= _changes(old, new, common, in_old, in_new, ids)
    findings["moved"] = _split_moves(old, new, in_old, in_new, ids)
    findings["removed"] = _by_split(old, old_ids, pc.invert(rows.is_valid()))
    findings["added"] = _by_split(new, new_ids, pc.invert(pc.is_in(new_ids, value_set=old_ids)))
    findings["refused"] = _quarantined(findings["removed"].ids, new.quarantine)
    findings["restored"] = _quarantined(findings["added"].ids, old.quarantine)
    changed = {sample_id for kind in CHANGES for sample_id in findings[kind].ids}
    return Difference(
        dataset=str(new.manifest["dataset"]),
        before=str(old.manifest["release"]),
        after=str(new.manifest["release"]),
        samples_before=len(old_ids),
        samples_after=len(new_ids),
        quarantine_before=old.quarantine.num_rows,
        quarantine_after=new.quarantine.num_rows,
        findings=findings,
        changed=len(changed),
        same=len(ids) - len(changed.union(findings["moved"].ids)),
        inputs=_inputs(old.manifest["inputs"], new.manifest["inputs"]),
        settings=tuple(_settings(old.manifest, new.manifest)),
        columns=columns,
        shards=_shards(old.manifest["shards"], new.manifest["shards"]),
    )


@contextmanager
def _naming_damage(folder: Location, name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _damaged(folder, name, str(error) or type(error).__name__) from error


def _damaged(folder: Location, name: str, problem: str) -> UnusableInput:
    home = folder.parent.parent
    return UnusableInput(
        f"{folder / name} cannot be read: {problem}; `scanmill verify {home}@{folder.name}` says what else is damaged, "
        f"`scanmill prepare` makes the release again"
    )


def _published(lake: Lake, release: str) -> _Release:
    folder = lake.release(release)
    if not (folder / "manifest.json").is_file():
        raise UnusableInput(not_published(lake, release))
    with _naming_damage(folder, "manifest.json"):
        manifest = parsed(read_bytes(folder / "manifest.json"))
    return _open(folder, manifest)


def _open(folder: Location, manifest: Mapping[str, Any]) -> _Release:
    """A release with what is needed of its manifest checked."""
    with _naming_damage(folder, "manifest.json"):
        if manifest["format_version"] != FORMAT_VERSION:
            raise UnusableInput(
                f"{folder / 'manifest.json'} has format version {manifest['format_version']}, "
                f"this scanmill reads {FORMAT_VERSION}: prepare the release again, or use the scanmill that made it"
            )
        _ = manifest["dataset"], manifest["release"]
        if "documents" in manifest:
            raise ScanmillError(
                f"{folder} is a document release: it has no samples to compare. What differs between its tables and "
                f"texts and those of another release is said by: diff -r {folder / 'documents'} OTHER/documents"
            )
        _inputs(manifest["inputs"], manifest["inputs"])
        _shards(manifest["shards"], manifest["shards"])
    with _naming_damage(folder, "samples.parquet"):
        samples = pq.ParquetFile(open_table(folder / "samples.parquet"))
    with _naming_damage(folder, "quarantine.parquet"):
        quarantine = read_table(folder / "quarantine.parquet", columns=["sample_id", "reason"])
        quarantine = quarantine.select(["sample_id", "reason"])
    return _Release(folder, manifest, samples, quarantine)


def _sample_ids(release: _Release) -> pa.Array:
    ids = release.column("sample_id")
    if pc.count_distinct(ids, mode="all").as_py() != len(ids):
        raise _damaged(release.folder, "samples.parquet", "a sample id is there twice")
    return ids


def _columns(old: _Release, new: _Release) -> tuple[Columns, list[str]]:
    """Columns that only one has or that have another type, and the names of those to compare."""
    types, others = ({column.name: column.type for column in r.samples.schema_arrow} for r in (old, new))
    both = [name for name in types if name in others and name not in PLACEMENT]
    retyped = [name for name in both if not _are_comparable(types[name], others[name])]
    columns = Columns(
        only_before=tuple(name for name in types if name not in others),
        only_after=tuple(name for name in others if name not in types),
        retyped=tuple(retyped),
    )
    return columns, [name for name in both if name not in retyped]


def _are_comparable(one: pa.DataType, other: pa.DataType) -> bool:
    return one == other or _family(one) == _family(other) or pa.types.is_null(one) or pa.types.is_null(other)


def _family(kind: pa.DataType) -> str:
    """What a type is for: pandas writes the same texts, numbers and lists in other Arrow types than scanmill does."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return "number"
    return "nested" if pa.types.is_nested(kind) else str(kind)


def _kind_of(column: str) -> Kind:
    if column.startswith(("label.", "target.")):
        return "labels"
    return KIND_OF.get(column, "metadata")


def _changes(
    old: _Release, new: _Release, columns: Iterable[str], in_old: pa.Array, in_new: pa.Array, ids: pa.Array
) -> dict[Kind, Finding]:
    """Column by column, so that no more than two columns are in memory at a time."""
    found: dict[Kind, dict[int, list[tuple[str, str]]]] = {}
    counts: dict[Kind, dict[str, int]] = {}
    for column in columns:
        kind = _kind_of(column)
        before, after = old.column(column).take(in_old), new.column(column).take(in_new)
        places = pc.indices_nonzero(_differ(before, after))
        if not len(places):
            continue
        counts.setdefault(kind, {})[column] = len(places)
        texts = _told(column, before.take(places), after.take(places)) if kind in TOLD else [column] * len(places)
        cells = found.setdefault(kind, {})
        for place, text in zip(places.to_pylist(), texts, strict=True):
            cells.setdefault(place, []).append((column, text))
    return {kind: _changed(ids, cells, counts[kind]) for kind, cells in found.items()}


def _changed(ids: pa.Array, cells: Mapping[int, list[tuple[str, str]]], counts: Mapping[str, int]) -> Finding:
    names = ids.take(pa.array(list(cells))).to_pylist()
    rows = sorted(zip(names, cells.values(), strict=True))
    parts, details = (tuple(tuple(cell[i] for cell in found) for _, found in rows) for i in (0, 1))
    return Finding(tuple(name for name, _ in rows), parts, tuple(map("; ".join, details)), counts)


def _differ(before: pa.Array, after: pa.Array) -> pa.Array:
    """Where two columns have different values: nulls (and NaN) equal each other, floats must be the same exactly."""
    if before.equals(after):
        return pa.repeat(pa.scalar(False), len(before))
    if pa.types.is_nested(before.type) or pa.types.is_nested(after.type):
        return _differ_by_value(before, after)
    are_equal = pc.fill_null(pc.equal(before, after), False)
    are_null = pc.and_(*(pc.is_null(values, nan_is_null=True) for values in (before, after)))
    return pc.invert(pc.or_(are_equal, are_null))


def _differ_by_value(before: pa.Array, after: pa.Array) -> pa.Array:
    """Lists such as ``boxes``, which Arrow does not compare; most samples have none, so only the others are read."""
    differ = pc.xor(before.is_null(), after.is_null()).to_numpy(zero_copy_only=False).copy()
    places = pc.indices_nonzero(pc.and_(before.is_valid(), after.is_valid()))
    values = zip(before.take(places).to_pylist(), after.take(places).to_pylist(), strict=True)
    differ[places.to_numpy()] = [one != other for one, other in values]
    return pa.array(differ)


def _told(column: str, before: pa.Array, after: pa.Array) -> list[str]:
    pairs = zip(before.to_pylist(), after.to_pylist(), strict=True)
    return [f"{column} {_value(old)} → {_value(new)}" for old, new in pairs]


def _value(value: Any) -> str:
    return "null" if value is None else str(value)


def _finding(ids: Iterable[str], parts: Iterable[tuple[str, ...]], between: str = ", ") -> Finding:
    rows = sorted(zip(ids, parts, strict=True))
    details = tuple(between.join(part) for _, part in rows)
    return Finding(tuple(name for name, _ in rows), tuple(part for _, part in rows), details, Counter(details))


def _split_moves(old: _Release, new: _Release, in_old: pa.Array, in_new: pa.Array, ids: pa.Array) -> Finding:
    before, after = old.column("split").take(in_old), new.column("split").take(in_new)
    places = pc.indices_nonzero(_differ(before, after))
    sides = [map(_value, splits.take(places).to_pylist()) for splits in (before, after)]
    return _finding(ids.take(places).to_pylist(), zip(*sides, strict=True), " → ")


def _by_split(release: _Release, ids: pa.Array, wanted: pa.Array) -> Finding:
    splits = release.column("split").filter(wanted).to_pylist()
    return _finding(ids.filter(wanted).to_pylist(), ((_value(split),) for split in splits))


def _quarantined(ids: Sequence[str], quarantine: pa.Table) -> Finding:
    """Those of the samples that the other release refused, with its reasons."""
    refused = quarantine.filter(pc.is_in(quarantine["sample_id"], value_set=pa.array(ids, pa.string())))
    reasons: dict[str, set[str]] = {}
    for sample_id, reason in zip(*(refused[name].to_pylist() for name in ("sample_id", "reason")), strict=True):
        reasons.setdefault(sample_id, set()).add(_value(reason))
    return _finding(reasons, (tuple(sorted(found)) for found in reasons.values()))


def _inputs(old: Iterable[Mapping[str, Any]], new: Iterable[Mapping[str, Any]]) -> Inputs:
    before, after = ({str(entry["name"]): entry["sha256"] for entry in entries} for entries in (old, new))
    both = sorted(before.keys() & after.keys())
    return Inputs(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(name for name in both if before[name] != after[name]),
        same=tuple(name for name in both if before[name] == after[name]),
    )


def _settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[Setting]:
    before, after = (
        dict(item for part in SETTINGS for item in _flat("" if part == "parameters" else part, manifest.get(part)))
        for manifest in (old, new)
    )
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            yield Setting(name, before.get(name), after.get(name))


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Dotted name and plain value of everything in a nested mapping."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    else:
        yield name, value


def _shards(old: Iterable[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Shards:
    known = {shard["sha256"] for shard in old}
    fresh = [int(shard["bytes"]) for shard in new if shard["sha256"] not in known]
    return Shards(
        files=len(new),
        shared=len(new) - len(fresh),
        size_bytes=sum(int(shard["bytes"]) for shard in new),
        new_bytes=sum(fresh),
    )
