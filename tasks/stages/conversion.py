"""Convert: every image member decoded once, on Dask, into chunks that are found again by name."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import pandas as pd
import pyarrow as pa

from tasks.archives import Member
from tasks.chunk_parts import cut, found_parts, join, missing_parts
from tasks.chunks import (
    BULKY,
    MASK_SCHEMA,
    SCHEMA,
    Chunk,
    PairedMask,
    convert_chunk,
    distrusting,
    is_done,
    plan_chunks,
    refuse_chunk,
)
from tasks.files import make_folder, parquet, read_frame, read_json, read_table, write_bytes
from tasks.memory import giving_back
from tasks.pairing import usable_masks
from tasks.progress import Meter
from tasks.stages.plan import Plan
from tasks.storage import Location, listed
from tasks.waves import run_waves

logger = logging.getLogger("scanmill.convert")


@giving_back
def convert(plan: Plan, *, address: str | None, with_report: bool = False) -> dict[str, int]:
    """Convert every image member not converted before, then gather the facts of all: ``images.parquet``.

    ``address`` is that of a Dask scheduler; None converts in this process. A member that kills its worker is refused
    (``worker-lost``) without leaving a trace among the chunks, so that the next run tries it again.
    """
    chunks = _plan_chunks(plan)
    folder = plan.lake.chunks
    make_folder(folder)
    there = {file.name for file in listed(folder)}
    undone = [chunk for chunk in chunks if chunk.file_name not in there or not is_done(chunk, folder)]
    done = len(chunks) - len(undone)
    parts = found_parts(undone, folder, there)
    todo = _small_ones_last([part for chunk in undone for part in missing_parts(chunk, parts.get(chunk.digest, ()))])
    total = sum(len(chunk.members) for chunk in chunks)
    left = sum(len(chunk.members) for chunk in todo)
    found = (total - left, total, done, len(chunks))
    logger.info("convert: %d of %d images (%d of %d chunks) are there already, from an earlier run", *found)
    meter = Meter("convert", left, "images")

    def tick(chunk: Chunk) -> None:
        if chunk.part:
            parts.setdefault(chunk.digest, []).append(chunk)
        meter.add(len(chunk.members))

    lost = run_waves(
        convert_chunk,
        todo,
        address=address,
        tick=tick,
        cut=cut,
        page=plan.staging / "quality" / "dask-convert.html" if with_report else None,
        folder=str(folder),
    )
    _gather(plan, _in_pieces(chunks, parts, lost, folder))
    return {"images": total, "reused": total - left, "chunks": len(chunks), "chunks_reused": done}


def _small_ones_last(chunks: Sequence[Chunk]) -> list[Chunk]:
    """In their order, for neighbours come from one archive; but the ends of archives last, the largest of them first,
    so that all workers have something to do to the end."""
    sizes = [sum(member.size_bytes for member in chunk.members) for chunk in chunks]
    half = max(sizes, default=0) / 2
    order = sorted(range(len(chunks)), key=lambda n: -sizes[n] if sizes[n] < half else -math.inf)
    return [chunks[n] for n in order]


def _in_pieces(
    chunks: Sequence[Chunk], parts: Mapping[str, list[Chunk]], lost: Sequence[tuple[Chunk, str]], folder: Location
) -> list[tuple[Chunk, str]]:
    """Every chunk, or the parts that it is in, in order; those that killed their workers with what they did.

    Parts that are complete become one file again.
    """
    missing: dict[str, list[tuple[Chunk, str]]] = {}
    for chunk, why in lost:
        missing.setdefault(chunk.digest, []).append((chunk, why))
    pieces: list[tuple[Chunk, str]] = []
    for chunk in chunks:
        there = sorted(parts.get(chunk.digest, ()), key=lambda part: part.part or (0, 0))
        if chunk.digest in missing:
            own = [*missing[chunk.digest], *((part, "") for part in there)]
            pieces += sorted(own, key=lambda piece: piece[0].part or (0, 0))
            continue
        if there:
            join(chunk, there, folder)
        pieces.append((chunk, ""))
    return pieces


def _plan_chunks(plan: Plan) -> list[Chunk]:
    members = read_frame(plan.work / "members.parquet")
    identities = read_json(plan.work / "inputs.json")["identities"]
    is_readable = (members["kind"] == "image") & (members["problem"] == "")
    masks = _paired_masks(plan, members, identities) if plan.dataset.has_masks else None
    planned = []
    for archive in plan.archives:
        own = members[is_readable & (members["archive"] == archive.name)]
        readable = _as_members(own)
        hashes = dict(zip(own["member"], own["sha256"], strict=True)) if archive.kind == "folder" else {}
        identity = identities[archive.name]
        dataset, transform = plan.dataset, plan.request.transform
        planned += plan_chunks(archive, readable, identity, hashes, transform, dataset.image, masks, dataset.dicom)
    return planned


def _as_members(rows: pd.DataFrame) -> list[Member]:
    return [
        Member(str(r.archive), str(r.member), int(r.offset), int(r.size_bytes), int(r.crc32))  # type: ignore[arg-type]
        for r in rows.itertuples()
    ]


def _paired_masks(plan: Plan, members: pd.DataFrame, identities: Mapping[str, str]) -> dict[Member, PairedMask]:
    """Image member to its mask, by key: the pairs of :func:`tasks.samples.join`, whatever the tables say of them."""
    by_name = {archive.name: archive for archive in plan.archives}
    usable = members.loc[usable_masks(members).index]
    masks = {
        str(key): PairedMask(archive, mask, str(sha256) if archive.kind == "folder" else identities[archive.name])
        for key, sha256, mask in zip(usable["key"], usable["sha256"], _as_members(usable), strict=True)
        if (archive := by_name[mask.archive])
    }
    images = members[(members["kind"] == "image") & members["key"].isin(list(masks))]
    return {image: masks[str(key)] for image, key in zip(_as_members(images), images["key"], strict=True)}


def _gather(plan: Plan, pieces: Sequence[tuple[Chunk, str]]) -> None:
    """Facts of all images, with the chunk and row where each waits; and histograms apart, which are bulky."""
    whole = MASK_SCHEMA if plan.dataset.has_masks else SCHEMA
    schema = pa.schema([field for field in whole if field.name not in BULKY])
    tables = []
    for chunk, why in pieces:
        if why:
            count = len(chunk.members)
            detail = why if count == 1 else f"with {count - 1} others, {why}"
            table = pa.Table.from_pylist(refuse_chunk(chunk, "worker-lost", detail), schema=schema)
        else:
            path = plan.lake.chunks / chunk.file_name
            with distrusting(path):
                table = read_table(path, columns=schema.names).cast(schema)
        table = table.append_column("chunk", pa.array([chunk.file_name] * table.num_rows))
        tables.append(table.append_column("chunk_row", pa.array(range(table.num_rows), pa.int64())))
    write_bytes(plan.work / "images.parquet", parquet(pa.concat_tables(tables)))
