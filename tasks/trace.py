"""Where one training row came from: from its bytes in the stores back to the byte range of the publisher's file.

Reads the release, and of the raw release what it says of one member. ``verify`` reads the bytes again and does the
conversion once more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import limits, lineage
from tasks.archives import LOOSE, MemberRefused, frame_of, read_member
from tasks.code_version import DICOM_PACKAGES, PACKAGES, library_versions, release_version
from tasks.datasets import own_source
from tasks.decoding import ImageRefused
from tasks.files import read_frame, read_json, read_table, sha256_file
from tasks.images import convert
from tasks.lake import Lake, latest_release, not_published
from tasks.masks import convert_mask
from tasks.member_places import place_of
from tasks.pass_through import pass_through
from tasks.progress import Meter
from tasks.raw_again import Origin, RawAgain, has_header, lines_of, role_of, rule_of
from tasks.release.stored import read_range
from tasks.schema import DataRefused, Dataset, ScanmillError, TableRule, Transform, UnusableInput
from tasks.shards import MASK_EXTENSION
from tasks.sources.record import Record
from tasks.storage import Location, location, open_table

KINDS = {"patient": "the patient", "picture": "what shows one picture"}


@dataclass(frozen=True)
class Reference:
    """What ``scanmill trace`` is asked about: a release, and the run whose predictions are meant, if any."""

    lake: Lake
    release: str
    run: Location | None = None


def of_run(reference: str) -> Reference | None:
    """The release that the run ``LAKE/runs/RUN`` was trained from; None where the reference is of another form.

    Raises :class:`ScanmillError` where there is no such run.
    """
    place = location(reference.rstrip("/") or "/")
    if place.parent.name != "runs":
        return None
    if not (place / "run.json").is_file():
        raise ScanmillError(f"{place} is no run: it has no run.json")
    about = read_json(place / "run.json")["identity"]
    return Reference(Lake(str(place.parent.parent), about["dataset"]), about["release"], place)


def of_release(lake: Lake, release: str | None) -> Reference:
    """A published release; the latest without id.

    Raises :class:`ScanmillError` where there is none, and for a release of documents.
    """
    name = release or latest_release(lake)
    folder = lake.release(name)
    if not (folder / "manifest.json").is_file():
        raise UnusableInput(not_published(lake, name))
    if not (folder / "samples.parquet").is_file():
        raise ScanmillError(f"{lake.home}@{name} is a release of documents: documents.json says where each came from")
    return Reference(lake, name)


@dataclass(frozen=True)
class Traced:
    """A release that is traced, with what is at hand of its raw release."""

    reference: Reference
    folder: Location
    manifest: Mapping[str, Any]
    dataset: Dataset
    origin: Origin
    raw: RawAgain | None
    why_not: str
    """Why the raw release is not at hand."""


def trace(traced: Traced, sample_ids: Sequence[str], *, verify: bool) -> list[dict[str, Any]]:
    """For every id, in that order, plain values: ``stored conversion source rows split made_by fetched checks``.

    Raises :class:`ScanmillError` for ids that the release does not have.
    """
    samples = _only(traced.folder / "samples.parquet", "sample_id", sample_ids)
    missing = [name for name in sample_ids if name not in set(samples["sample_id"])]
    if missing:
        told = _refused(traced, missing) or _alike(traced, missing[0])
        raise ScanmillError(f"{traced.folder} has no sample {', '.join(missing)}{told}")
    there = (traced.folder / lineage.NAME).is_file()
    origins = _only(traced.folder / lineage.NAME, "sample_id", sample_ids) if there else pd.DataFrame({"sample_id": []})
    rows = {str(row["sample_id"]): row for row in samples.to_dict("records")}
    known = {str(row["sample_id"]): row for row in origins.to_dict("records")}
    groups = read_frame(traced.folder / "samples.parquet", columns=["group_id", "split"])
    names = Meter("trace", len(sample_ids), "samples").each(sample_ids)
    return [_one(traced, rows[name], known.get(name, {}), groups, verify=verify) for name in names]


def _only(path: Location, column: str, values: Sequence[str]) -> pd.DataFrame:
    """Rows with one of these values; read whole, for a filtered read leaves threads behind that abort at exit."""
    table = read_table(path)
    found: pd.DataFrame = table.filter(pc.is_in(table[column], pa.array(list(values), pa.string()))).to_pandas()
    return found


def _refused(traced: Traced, missing: Sequence[str]) -> str:
    refused = _only(traced.folder / "quarantine.parquet", "sample_id", missing)
    told = [f"{row.sample_id} was refused: {row.reason}" for row in refused.itertuples()]
    return f" ({'; '.join(told)})" if told else ""


def _alike(traced: Traced, start: str) -> str:
    """Ids of samples that begin as the one that was asked for, or any: what ids look like here."""
    known = read_frame(traced.folder / "samples.parquet", columns=["sample_id"])["sample_id"]
    near = list(known[known.str.startswith(start)][:ALIKE])
    return f"; ids that begin so: {', '.join(near)}" if near else f"; its ids are like {known.iloc[0]}"


def _one(
    traced: Traced, row: Mapping[Any, Any], origin: Mapping[Any, Any], groups: pd.DataFrame, *, verify: bool
) -> dict[str, Any]:
    reference = traced.reference
    told: dict[str, Any] = {
        "sample_id": row["sample_id"],
        "dataset": reference.lake.dataset,
        "release": reference.release,
        "stored": _stored(traced, row),
        "image": {name: _plain(row[name]) for name in IMAGE_FACTS},
        "conversion": _conversion(traced, row, origin),
        "source": _source(traced, row, origin),
        "rows": _rows(traced, row, origin),
        "made_by": _made_by(traced.manifest),
    }
    told["fetched"] = _fetched(traced, told["source"]["file"])
    told["split"] = _split(traced, row, told["rows"], groups)
    if row.get("mask_member") is not None and "mask_member" in row:
        told["mask"] = _mask(traced, row, origin)
    if reference.run is not None:
        told["prediction"] = _prediction(reference.run, str(row["sample_id"]))
    if verify:
        told["checks"] = [asdict(check) for check in _checks(traced, row, told)]
    return told


ALIKE = 5
"""Ids that an error names."""
IMAGE_FACTS = ("image_sha256", "image_bytes", "width", "height", "channels", "bit_depth", "pixel_sha256")


def _plain(value: Any) -> Any:
    """A cell as JSON has it."""
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    return value.item() if hasattr(value, "item") else value


def _stored(traced: Traced, row: Mapping[Any, Any]) -> dict[str, Any]:
    """Where the image lies in each store."""
    split, number = str(row["shard"]).split("/")
    extension = _transform(traced.manifest).extension
    found: dict[str, Any] = {}
    for entry in sorted(traced.manifest["shards"], key=lambda entry: str(entry["store"]), reverse=True):
        path = str(entry["path"])
        if path == f"webdataset/{split}/{traced.dataset.name}-{split}-{number}.tar":
            place = {"member": f"{row['sample_id']}.{extension}", "offset": int(row["tar_offset"])}
            found["webdataset"] = {**_file(entry), **place, "length": int(row["image_bytes"])}
        elif path == f"parquet/{split}/{number}.parquet":
            found["parquet"] = {**_file(entry), **_in_parquet(traced.folder / path, int(row["row"]))}
    return found


def _file(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in ("path", "bytes", "sha256")}


def _in_parquet(path: Location, row: int) -> dict[str, Any]:
    """Row group, row in the file, and the byte range of the column of images, from the file's footer."""
    with open_table(path) as stream:
        metadata = pq.read_metadata(stream)
    start = 0
    for group in range(metadata.num_row_groups):
        about = metadata.row_group(group)
        if row < start + about.num_rows:
            columns = [about.column(i) for i in range(about.num_columns)]
            column = next(c for c in columns if c.path_in_schema == "image.bytes")
            offset = column.dictionary_page_offset or column.data_page_offset
            return {
                "row_group": group,
                "row": row,
                "column": "image.bytes",
                "column_offset": offset,
                "column_length": column.total_compressed_size,
            }
        start += about.num_rows
    raise DataRefused(f"{path} has no row {row}: run `scanmill verify`")


def _transform(manifest: Mapping[str, Any]) -> Transform:
    parameters = manifest["parameters"]
    decode_check = parameters.get("decode_check", "full")  # releases of before it could be left out have none
    return Transform(parameters["size"], parameters["encoding"], parameters["quality"], decode_check)


def _conversion(traced: Traced, row: Mapping[Any, Any], origin: Mapping[Any, Any]) -> dict[str, Any]:
    chunk = origin.get("chunk")
    is_kept = bool(chunk) and (traced.reference.lake.chunks / f"{chunk}.parquet").is_file()
    return {
        "steps": str(row["transform"]).split("; "),
        "parameters": asdict(_transform(traced.manifest)),
        "chunk": chunk,
        "chunk_is_kept": is_kept,
    }


def _source(traced: Traced, row: Mapping[Any, Any], origin: Mapping[Any, Any]) -> dict[str, Any]:
    """The published file of the image, and the archive that holds it."""
    archive = str(row["archive"])
    entry = traced.origin.inputs.get(archive, {})
    facts = ("source_bytes", "source_sha256", "source_mode", "source_width", "source_height")
    offset = _plain(origin.get("offset"))
    return {
        "archive": archive,
        "archive_bytes": entry.get("bytes"),
        "archive_sha256": entry.get("sha256"),
        "member": str(row["member"]),
        **{name.removeprefix("source_"): _plain(row[name]) for name in facts},
        **_placed(traced, archive, str(row["member"]), None if offset is None else int(offset)),
    }


def _placed(traced: Traced, archive: str, member: str, offset: int | None) -> dict[str, Any]:
    """``file``: what to open now; ``place``: the byte ranges of a member in it, as far as they are known."""
    known = {} if archive == LOOSE or offset is None else {"header_offset": offset}
    if traced.raw is None:
        return {"file": None, "place": known or None, "unknown": traced.why_not}
    found = traced.raw.archives.get(archive)
    if found is None:
        return {"file": None, "place": known or None, "unknown": f"{archive} is not in the raw release any more"}
    if found.kind == "folder":
        files = [location(root) / found.file_of(member) for root in found.paths]
        return {"file": next((str(file) for file in files if file.is_file()), None), "place": None, "unknown": ""}
    if offset is None:
        at = traced.raw.member_named(archive, member)
        offset = at.offset if at else None
    try:
        place = None if offset is None else asdict(place_of(found, member, offset))
    except MemberRefused as refusal:
        return {"file": found.paths[0], "place": known or None, "unknown": str(refusal.args[1])}
    return {"file": found.paths[0], "place": place, "unknown": ""}


def _rows(traced: Traced, row: Mapping[Any, Any], origin: Mapping[Any, Any]) -> list[dict[str, Any]]:
    """The metadata rows, as published where the raw release is at hand; else as the release has kept them."""
    found = []
    places = origin.get("rows")
    for place in places if places is not None else ():
        role = role_of(traced.origin, place["table"])
        form = traced.origin.tables.get(role, {}).get("form", "")
        about = {"table": place["table"], "role": role, "form": form, "row": int(place["row"])}
        found.append({**about, **_published(traced, place["table"], role, int(place["row"]))})
    kept = {str(name).removeprefix("meta."): _plain(v) for name, v in row.items() if str(name).startswith("meta.")}
    if found and found[0]["text"] is None:
        found[0]["kept"] = kept
    return found


def _published(traced: Traced, table: str, role: str, number: int) -> dict[str, Any]:
    if traced.raw is None:
        return {"header": None, "text": None}
    rule = rule_of(traced.dataset, role)
    try:
        lines = lines_of(traced.raw.table(table), has_header=rule.has_header, separator=rule.separator)
    except UnusableInput:
        return {"header": None, "text": None}
    header, text = (_read(line, rule) for line in (lines.header, lines.rows.get(number)))
    return {"header": header or None, "text": text}


def _read(line: str | None, rule: TableRule) -> str | None:
    """A line as its publisher would read it, without its end."""
    if line is None or rule.encoding == "utf-8":
        return line and line.rstrip("\r\n")
    return line.encode("utf-8", "surrogateescape").decode(rule.encoding, "replace").rstrip("\r\n")


def _made_by(manifest: Mapping[str, Any]) -> dict[str, Any]:
    code = dict(manifest["code"])
    return {
        "scanmill": code.pop("scanmill"),
        "source": code.pop("source"),
        "declaration": code.pop("declaration", None),
        "libraries": code,
        "dataset_version": manifest["dataset_version"],
        "format_version": manifest["format_version"],
    }


def _fetched(traced: Traced, file: str | None) -> dict[str, Any] | None:
    """What the record of the lake's raw folder says of that file; None for one that was brought by other means."""
    folder = traced.reference.lake.raw
    events = Record(folder).files()
    inside = file is not None and str(file).startswith(f"{folder}/")
    event = events.get(str(file).removeprefix(f"{folder}/")) if inside else None
    if event is None:
        by_hash = {e["sha256"]: e for e in events.values()}
        hashes = {entry["sha256"] for entry in traced.origin.inputs.values()}
        event = next((by_hash[sha256] for sha256 in sorted(hashes & set(by_hash)) if file is None), None)
    return event and {name: event.get(name) for name in ("url", "version", "time", "verified_by", "bytes", "sha256")}


def _split(
    traced: Traced, row: Mapping[Any, Any], rows: Sequence[Mapping[str, Any]], groups: pd.DataFrame
) -> dict[str, Any]:
    group = _plain(row["group_id"])
    own = groups.loc[groups["group_id"] == group, "split"]
    return {
        "split": row["split"],
        "why": _why(traced, str(row["split"]), rows),
        "group_id": group,
        "group_kind": KINDS.get(traced.dataset.group, traced.dataset.group),
        "group_samples": len(own),
        "group_splits": sorted(set(own)),
    }


def _why(traced: Traced, split: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """How the sample came into its split, as far as the release tells."""
    own = next((name for name in traced.origin.inputs if name.startswith("splits: ")), None)
    if own is not None:
        return f"the split file of the user's own, {own.removeprefix('splits: ')}, says so"
    dataset = traced.dataset
    dealt = f"dealt by a hash of {KINDS.get(dataset.group, dataset.group)} alone"
    named = next((r for r in rows if r["role"] and not has_header(dataset, r["role"])), None)
    parts = [f"the publisher's list {named['table']}, row {named['row']}, names it"] if named else []
    if dataset.carved and split in dataset.carved:
        parts.append(f"{' and '.join(dataset.carved)} are {dealt}")
    elif dataset.split is not None and not parts:
        parts.append(f"as published, or where nothing is published {dealt}")
    return "; ".join(parts) or "as published"


def _mask(traced: Traced, row: Mapping[Any, Any], origin: Mapping[Any, Any]) -> dict[str, Any]:
    archive, member = str(row["mask_archive"]), str(row["mask_member"])
    offset = _plain(origin.get("mask_offset"))
    return {
        "archive": archive,
        "member": member,
        "source_sha256": row["mask_source_sha256"],
        "stored": f"{row['sample_id']}.{MASK_EXTENSION}",
        "mask_bytes": _plain(row["mask_bytes"]),
        "mask_sha256": row["mask_sha256"],
        **_placed(traced, archive, member, None if offset is None else int(offset)),
    }


def _prediction(run: Location, sample_id: str) -> dict[str, Any] | None:
    """What the run says of the sample; None for one that it has not been asked about."""
    if not (run / "predictions.parquet").is_file():
        return None
    found = _only(run / "predictions.parquet", "sample_id", [sample_id]).to_dict("records")
    wanted = ("truth.", "probability.", "predicted.")
    return {str(k): _plain(v) for k, v in found[0].items() if str(k).startswith(wanted)} if found else None


# ---- verify ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Check:
    """One thing that was read again."""

    what: str
    ok: bool
    detail: str


def _checks(traced: Traced, row: Mapping[Any, Any], told: Mapping[str, Any]) -> Iterator[Check]:
    yield _manifest_check(traced)
    yield from (_stored_check(traced, row, store, place) for store, place in told["stored"].items())
    source = told["source"]
    data, check = _reread(traced, "published file", source, row["source_sha256"])
    yield check
    if data is not None and check.ok:
        yield _again(
            traced,
            "conversion",
            lambda: _encoded(traced, data, str(row["member"])),
            str(row["image_sha256"]),
        )
    if "mask" in told:
        mask, check = _reread(traced, "published mask", told["mask"], row["mask_source_sha256"])
        yield check
        if mask is not None and check.ok:
            published, stored = (
                (int(row["source_width"]), int(row["source_height"])),
                (int(row["width"]), int(row["height"])),
            )
            yield _again(
                traced,
                "conversion of the mask",
                lambda: convert_mask(mask, published, stored, limits.current()).encoded,
                str(row["mask_sha256"]),
            )


def _manifest_check(traced: Traced) -> Check:
    """Whether the tables that all this is read from are those of the manifest."""
    named = {entry["path"]: entry["sha256"] for entry in traced.manifest["files"]}
    tables = [name for name in ("samples.parquet", lineage.NAME) if name in named]
    wrong = [name for name in tables if sha256_file(traced.folder / name) != named[name]]
    detail = f"{', '.join(wrong)} changed" if wrong else f"{' and '.join(tables)} are those of the manifest"
    return Check("tables", not wrong, detail)


def _stored_check(traced: Traced, row: Mapping[Any, Any], store: str, place: Mapping[str, Any]) -> Check:
    path = traced.folder / place["path"]
    try:
        if store == "webdataset":
            data = read_range(path, place["offset"], place["length"])
            where = f"bytes {place['offset']:,} to {place['offset'] + place['length']:,} of {place['path']}"
        else:
            data = _image_in_parquet(path, place)
            where = f"row {place['row']:,} of {place['path']}"
    except (OSError, pa.ArrowException) as error:
        return Check(f"stored image, {store}", False, f"{path} cannot be read: {error}")
    is_same = hashlib.sha256(data).hexdigest() == row["image_sha256"]
    said = "sha256 fits" if is_same else "other bytes than samples.parquet names"
    return Check(f"stored image, {store}", is_same, f"{where}: {said}")


def _image_in_parquet(path: Location, place: Mapping[str, Any]) -> bytes:
    with open_table(path) as stream:
        opened = pq.ParquetFile(stream)
        before = sum(opened.metadata.row_group(g).num_rows for g in range(place["row_group"]))
        column = opened.read_row_group(place["row_group"], columns=["image"])["image"]
        data: bytes = column[place["row"] - before].as_py()["bytes"]
    return data


def _reread(traced: Traced, what: str, place: Mapping[str, Any], sha256: str) -> tuple[bytes | None, Check]:
    """A published file, read again out of an archive that is still the same."""
    if traced.raw is None:
        return None, Check(what, False, traced.why_not)
    try:
        archive = traced.raw.archive(place["archive"])
        offset = place["place"]["header_offset"] if place["place"] else 0
        data = read_member(archive, place["member"], offset)
    except UnusableInput as error:
        return None, Check(what, False, str(error))
    except (MemberRefused, OSError) as error:
        return None, Check(what, False, f"it cannot be read: {error}")
    is_same = hashlib.sha256(data).hexdigest() == sha256
    said = "has the sha256 that the release names" if is_same else "has other bytes than the release was made of"
    return data, Check(what, is_same, f"{place['member']} {said}")


def _encoded(traced: Traced, data: bytes, member: str) -> bytes:
    transform, rules, dicom = _transform(traced.manifest), traced.dataset.image, traced.dataset.dicom
    if transform.decode_check == "full":
        frame = frame_of(member) if dicom else None
        return convert(data, transform, rules, limits.current(), dicom, frame).encoded
    _, encoded = pass_through(data, transform, rules, limits.current())
    return data if encoded is None else encoded


def _again(traced: Traced, what: str, make: Callable[[], bytes], sha256: str) -> Check:
    """Whether the conversion gives the stored bytes once more; by other code than then it may not."""
    code = traced.manifest["code"]
    packages = (*PACKAGES, *(DICOM_PACKAGES if traced.dataset.dicom else ()))
    libraries = library_versions(packages)
    ours = {"source": release_version(), "declaration": own_source(traced.dataset.name), **libraries}
    is_same_code = all(code.get(name) == version for name, version in ours.items())
    by = "" if is_same_code else " (the code here is another than that of the release)"
    try:
        is_same = hashlib.sha256(make()).hexdigest() == sha256
    except ImageRefused as refusal:
        return Check(what, False, f"refused: {': '.join(refusal.args)}{by}")
    said = "reproduced byte for byte" if is_same else "gives other bytes"
    return Check(what, is_same, f"{said}{by}")
