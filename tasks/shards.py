"""The unit of reading: plan shards, then copy encoded images into a tar and a Parquet file of the same samples.

Nothing is decoded here. A shard holds samples of one split and one archive, sorted by id, so that appending an archive
adds shards and leaves the bytes of the others alone. Same samples, same bytes: USTAR or PAX headers with mtime, uid and
gid 0, and Parquet without a clock.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import shard_tars as tars
from tasks.archives import Archive, MemberRefused, read_member
from tasks.chunks import ENCODED, distrusting
from tasks.code_version import library_versions
from tasks.files import canonical_json, known_sha256, name_again, read_json, write_bytes, write_json, writing
from tasks.schema import COMPARED_COLUMNS, FORMAT_VERSION, AccountingError, Store, UnusableInput
from tasks.storage import Location, location, open_table, size_of

SHARD_SAMPLES = 1000
SHARD_BYTES = 60 * 2**20
"""A shard is cut at either; bytes of images and masks. Its one Parquet row group, other columns included, stays below
64 MiB."""

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
"""What Hugging Face ``Image`` features are on disk."""
PLACES = ("chunk", "chunk_row", "offset")
"""Columns of the plan that say where an encoded image waits (``offset``: in its archive, for one that is stored as
published); they do not reach the stores."""


MASK_EXTENSION = "mask.png"
"""What a mask is called after its sample, however images are encoded."""

MARKERS = "shards"
"""Folder, among a release's working tables, of one JSON file per finished shard."""


@dataclass(frozen=True)
class Shard:
    """One shard to write: row group ``position`` of the plan."""

    position: int
    dataset: str
    split: str
    number: int
    extension: str

    @property
    def name(self) -> str:
        """As in the sample table: ``<split>/000000``."""
        return f"{self.split}/{self.number:06d}"

    def path(self, store: Store) -> str:
        """Path within the release, with forward slashes."""
        if store == "parquet":
            return f"parquet/{self.split}/{self.number:06d}.parquet"
        return f"webdataset/{self.split}/{self.dataset}-{self.split}-{self.number:06d}.tar"


def plan_shards(samples: pd.DataFrame, splits: tuple[str, ...], dataset: str, extension: str) -> list[Shard]:
    """Shards for samples sorted by :func:`in_reading_order`; ``samples['position']`` is set to each one's shard."""
    shards: list[Shard] = []
    positions = []
    numbers = dict.fromkeys(splits, 0)
    current: tuple[str, str] | None = None
    count = size = 0
    stored = samples["image_bytes"] + samples["mask_bytes"] if "mask_bytes" in samples else samples["image_bytes"]
    for split, archive, stored_bytes in zip(samples["split"], samples["archive"], stored, strict=True):
        if current != (split, archive) or count >= SHARD_SAMPLES or size + stored_bytes > SHARD_BYTES:
            shards.append(Shard(len(shards), dataset, split, numbers[split], extension))
            numbers[split] += 1
            current, count, size = (split, archive), 0, 0
        count += 1
        size += stored_bytes
        positions.append(len(shards) - 1)
    samples["position"] = positions
    return shards


def in_reading_order(samples: pd.DataFrame, splits: tuple[str, ...]) -> pd.DataFrame:
    """Samples by split (as declared), archive and sample id."""
    order = {split: number for number, split in enumerate(splits)}
    keyed = samples.assign(_split=samples["split"].map(order))
    return keyed.sort_values(["_split", "archive", "sample_id"], ignore_index=True).drop(columns="_split")


def write_plan(samples: pd.DataFrame, schema: pa.Schema, path: Location) -> None:
    """The plan: one row group per shard, so that a worker reads its own rows only."""
    table = pa.Table.from_pandas(samples, schema=schema, preserve_index=False)
    sizes = samples["position"].value_counts(sort=False)
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema) as writer:
        for end, size in zip(sizes.cumsum(), sizes, strict=True):
            writer.write_table(table.slice(end - size, size))
    write_bytes(path, buffer.getvalue())


def assemble_shard(
    shard: Shard,
    *,
    archives: tuple[Archive, ...],
    plan: str,
    chunks: str,
    staging: str,
    markers: str,
    earlier: str,
    stores: tuple[Store, ...],
) -> None:
    """Write one shard in every store, on a Dask worker; its marker, written last, holds hashes and tar offsets.

    ``earlier`` is a JSON file of shards in published releases by content digest; an equal one comes in by hard link.
    """
    marker = location(markers) / f"{shard.split}-{shard.number:06d}.json"
    target = location(staging)
    if marker.exists() and _is_whole(read_json(marker), target):
        return
    with open_table(location(plan)) as stream:
        rows = pq.ParquetFile(stream).read_row_group(shard.position)
    plain = _stored(rows)
    records = records_of(plain)
    content = content_digest(plain.schema, records, shard.extension)
    linked = _link(shard, read_json(location(earlier)).get(content, {}), target, stores)
    missing = [store for store in stores if store not in linked]
    images = read_images(rows, location(chunks), archives) if missing else []
    masks = read_masks(rows, location(chunks)) if missing and has_masks(rows) else []
    entries = entries_of(plain, records, shard.extension) if "webdataset" in stores else []
    written = {**linked, **_write(shard, plain, entries, images, masks, target, missing)}
    tar_offsets = [own.files[0].offset for own in entries]
    write_json(
        marker,
        {
            "split": shard.split,
            "number": shard.number,
            "samples": rows.num_rows,
            "content": content,
            "linked": sorted(linked),
            "stores": written,
            "tar_offsets": tar_offsets,
        },
    )


def has_masks(rows: pa.Table) -> bool:
    """Whether these are samples of a dataset that has masks."""
    return "mask_sha256" in rows.column_names


def content_digest(schema: pa.Schema, records: Sequence[bytes], extension: str) -> str:
    """What a shard holds, whatever its name: all columns of all samples, image hashes among them."""
    about = [FORMAT_VERSION, extension, library_versions()["pyarrow"], schema.to_string()]
    content = hashlib.sha256(canonical_json(about))
    for record in records:
        content.update(record)
    return content.hexdigest()


def _stored(rows: pa.Table) -> pa.Table:
    """What a shard tells of its samples: not where their files wait, and not what others of the dataset tell of them:
    that may change when other images come, and the shard could not be shared."""
    left_out = {*PLACES, *(name for name, _ in COMPARED_COLUMNS)}
    return rows.select([name for name in rows.column_names if name not in left_out])


def _is_whole(marker: dict[str, Any], staging: Location) -> bool:
    return all(size_of(staging / entry["path"]) == entry["bytes"] for entry in marker["stores"].values())


def _link(shard: Shard, found: dict[str, Any], staging: Location, stores: tuple[Store, ...]) -> dict[str, Any]:
    """Bring in what an earlier release has, unless its bytes are no longer what its manifest says."""
    linked: dict[str, Any] = {}
    for store in stores:
        source = found.get(store)
        if source and _is_unchanged(location(source["file"]), source["sha256"]):
            name_again(location(source["file"]), staging / shard.path(store))
            linked[store] = {"path": shard.path(store), "bytes": source["bytes"], "sha256": source["sha256"]}
    return linked


def _is_unchanged(path: Location, sha256: str) -> bool:
    try:
        return known_sha256(path) == sha256
    except FileNotFoundError:
        return False


def _write(
    shard: Shard,
    plain: pa.Table,
    entries: list[tars.Entries],
    images: list[bytes],
    masks: list[bytes],
    staging: Location,
    stores: list[Store],
) -> dict[str, Any]:
    files = [images, masks] if masks else [images]
    written: dict[str, Any] = {}
    for store in stores:
        with writing(staging / shard.path(store)) as stream:
            if store == "webdataset":
                for piece in tars.pieces(entries, files):
                    stream.write(piece)
            else:
                write_parquet(stream, plain, images, shard.extension, masks)
        written[store] = {"path": shard.path(store), "bytes": stream.size_bytes, "sha256": stream.sha256}
    return written


def read_images(rows: pa.Table, chunks: Location, archives: Sequence[Archive]) -> list[bytes]:
    """Encoded images in the order of the rows, each checked against the hash that conversion took.

    Those that are stored as they were published come from their archives. Raises :class:`tasks.schema.UnusableInput`
    where a chunk is damaged, or an archive is no longer what was converted.
    """
    images = _waiting(rows, chunks, "image")
    kept = [position for position, image in enumerate(images) if image is None]
    originals = dict(zip(kept, _originals(rows.take(pa.array(kept, pa.int64())), archives), strict=True))
    return [originals[position] if image is None else image for position, image in enumerate(images)]


def read_masks(rows: pa.Table, chunks: Location) -> list[bytes]:
    """Encoded masks in the order of the rows, checked like the images; they are never left in raw."""
    masks = [mask for mask in _waiting(rows, chunks, "mask") if mask is not None]
    if len(masks) != rows.num_rows:
        raise AccountingError(f"{rows.num_rows - len(masks)} of {rows.num_rows} samples have no mask in their chunks")
    return masks


def _waiting(rows: pa.Table, chunks: Location, column: str) -> list[bytes | None]:
    """What chunks hold for these rows in ``image`` or ``mask``, each file checked against its hash."""
    places = rows.select(["chunk", "chunk_row", f"{column}_sha256"]).to_pylist()
    files = in_chunks([(place["chunk"], place["chunk_row"]) for place in places], chunks, column)
    for place, file in zip(places, files, strict=True):
        with distrusting(chunks / place["chunk"]):
            if file is not None and hashlib.sha256(file).hexdigest() != place[f"{column}_sha256"]:
                raise pa.ArrowInvalid(f"row {place['chunk_row']} has other bytes than were converted")
    return files


def in_chunks(places: Sequence[tuple[str, int]], chunks: Location, column: str) -> list[bytes | None]:
    """What chunks hold in that column, for each file name and row, reading only row groups that are needed."""
    wanted: dict[str, list[int]] = {}
    for name, row in places:
        wanted.setdefault(name, []).append(row)
    found = {}
    for name, needed in wanted.items():
        with distrusting(chunks / name):
            found[name] = _chunk_files(chunks / name, needed, column)
    return [found[name][row] for name, row in places]


def _originals(rows: pa.Table, archives: Sequence[Archive]) -> list[bytes]:
    """Published bytes in the order of the rows, read in the order in which the archives hold them."""
    by_name = {archive.name: archive for archive in archives}
    places = rows.select(["archive", "member", "offset", "image_sha256"]).to_pylist()
    found: dict[int, bytes] = {}
    for position in sorted(range(len(places)), key=lambda p: (places[p]["archive"], places[p]["offset"])):
        place = places[position]
        try:
            found[position] = read_member(by_name[place["archive"]], place["member"], place["offset"])
        except (MemberRefused, FileNotFoundError) as error:
            raise UnusableInput(_changed(place, str(error))) from error
        if hashlib.sha256(found[position]).hexdigest() != place["image_sha256"]:
            raise UnusableInput(_changed(place, "other bytes"))
    return [found[position] for position in range(len(places))]


def _changed(place: Mapping[str, Any], how: str) -> str:
    return (
        f"{place['archive']}/{place['member']} changed in raw while the release was made ({how}): "
        f"run the same command again, and leave raw alone meanwhile"
    )


def _chunk_files(path: Location, rows: list[int], name: str) -> dict[int, bytes | None]:
    """Row number to the file in that column (None: stored as published), reading only row groups that are needed."""
    with open_table(path) as stream:
        return _rows_of(pq.ParquetFile(stream, page_checksum_verification=True), rows, name)


def _rows_of(opened: pq.ParquetFile, rows: list[int], name: str) -> dict[int, bytes | None]:
    found: dict[int, bytes | None] = {}
    start = 0
    needed = set(rows)
    for group in range(opened.num_row_groups):
        stop = start + opened.metadata.row_group(group).num_rows
        if not needed.isdisjoint(range(start, stop)):
            column = opened.read_row_group(group, columns=[name])[name]
            found |= {start + i: column[i].as_py() for i in range(stop - start) if start + i in needed}
        start = stop
    return found


def records_of(rows: pa.Table) -> list[bytes]:
    """The JSON of every sample."""
    return [canonical_json(row) for row in rows.to_pylist()]


def entries_of(rows: pa.Table, records: Sequence[bytes], extension: str) -> list[tars.Entries]:
    """What a WebDataset shard holds: ``<sample_id>.<extension>``, ``<sample_id>.mask.png`` where there are masks, then
    ``<sample_id>.json``, for every sample in order."""
    endings = (extension, MASK_EXTENSION) if has_masks(rows) else (extension,)
    sizes = [rows[f"{name}_bytes"].to_pylist() for name in ENCODED[: len(endings)]]
    return tars.planned(rows["sample_id"].to_pylist(), endings, sizes, records)


def write_parquet(
    stream: Any, rows: pa.Table, images: Sequence[bytes], extension: str, masks: Sequence[bytes] = ()
) -> None:
    """The same samples as one Parquet row group, to a file that is open.

    ``image`` is a struct of ``bytes`` and ``path``, stored plain; so is ``mask``, where there are masks.
    """
    table = rows.add_column(1, pa.field("image", IMAGE), _files(rows, images, extension))
    if masks:
        table = table.add_column(2, pa.field("mask", IMAGE), _files(rows, masks, MASK_EXTENSION))
    features = {name: {"_type": "Image"} for name in ENCODED if name in table.column_names}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    plain = [f"{name}.bytes" for name in features]
    leaves = _leaf_paths(table.schema)
    pq.write_table(
        table,
        stream,
        row_group_size=len(images),
        use_dictionary=[path for path in leaves if path not in plain],
        compression={path: "NONE" if path in plain else "SNAPPY" for path in leaves},
        write_statistics=["sample_id"],
        write_page_index=True,
    )


def _files(rows: pa.Table, files: Sequence[bytes], extension: str) -> pa.Array:
    ends = np.cumsum([0, *map(len, files)], dtype=np.int32)  # a shard is far below 2 GiB
    # Put together by Python and not by Arrow, which would copy them again each time that its memory has to grow.
    content = pa.Array.from_buffers(pa.binary(), len(files), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(files))])
    paths = [f"{name}.{extension}" for name in rows["sample_id"].to_pylist()]
    return pa.StructArray.from_arrays([content, pa.array(paths, pa.string())], fields=list(IMAGE))


@lru_cache(maxsize=4)
def _leaf_paths(schema: pa.Schema) -> list[str]:
    """Parquet's own column paths, nested ones spelled out."""
    sink = io.BytesIO()
    pq.write_table(schema.empty_table(), sink)
    written = pq.ParquetFile(sink).schema
    return [written.column(i).path for i in range(len(written))]


def placements(markers: Location, shards: list[Shard]) -> pd.DataFrame:
    """``shard row tar_offset`` of every sample, in reading order."""
    parts = []
    for shard in shards:
        marker = read_json(markers / f"{shard.split}-{shard.number:06d}.json")
        count = marker["samples"]
        offsets = marker["tar_offsets"] or [None] * count
        parts.append(pd.DataFrame({"shard": shard.name, "row": range(count), "tar_offset": offsets}))
    return pd.concat(parts, ignore_index=True)


def describe(markers: Location, shards: list[Shard]) -> list[dict[str, Any]]:
    """Manifest entries of all shards: path, store, split, bytes, sha256, samples, content."""
    entries = []
    for shard in shards:
        marker = read_json(markers / f"{shard.split}-{shard.number:06d}.json")
        for store, entry in marker["stores"].items():
            common = {"store": store, "split": shard.split, "samples": marker["samples"], "content": marker["content"]}
            entries.append({**entry, **common})
    return sorted(entries, key=lambda entry: str(entry["path"]))


def earlier_shards(manifests: list[tuple[Location, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Content digest to store to file, bytes and sha256, over (release folder, manifest) of published releases."""
    found: dict[str, dict[str, Any]] = {}
    for folder, manifest in manifests:
        for entry in manifest["shards"]:
            place = {"file": str(folder / entry["path"]), "bytes": entry["bytes"], "sha256": entry["sha256"]}
            found.setdefault(entry["content"], {})[entry["store"]] = place
    return found
