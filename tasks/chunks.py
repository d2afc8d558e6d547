"""The unit of conversion: a few hundred members of one archive, decoded exactly once, kept under a digest.

A chunk file holds, per member, the encoded image and its facts, or the reason why there is none; where the dataset has
masks, each member's mask as well, which may lie in another archive. Its name is a digest
of the bytes it came from, the transform and the code, so whoever finds the name need not do the work.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.archives import FRAME, Archive, Member, MemberRefused, frame_of, read_member
from tasks.code_version import conversion_version, library_versions
from tasks.decoding import ImageRefused
from tasks.dicom import installed
from tasks.files import digest, write_bytes
from tasks.fingerprints.polar import fingerprints_of
from tasks.images import HISTOGRAM_BINS, convert
from tasks.limits import DEFAULT, Limits
from tasks.limits import current as current_limits
from tasks.masks import convert_mask
from tasks.pass_through import pass_through
from tasks.schema import IMAGE_COLUMNS, MASK_COLUMNS, Dicom, ImageRules, Transform, UnusableInput
from tasks.storage import Location, location, open_table, remove

logger = logging.getLogger("scanmill.convert")

CHUNK_MEMBERS = 256
CHUNK_BYTES = 128 * 2**20
"""A chunk is cut at either; published bytes, so that a worker never holds much more."""
LOOSE_MEMBERS = (32, 128)
"""Of loose files: fewest in a chunk, and how many names there are on average to one that ends a chunk. Where chunks end
depends on names alone, so that a file more or less moves only the ends next to it."""
COMPRESSION = {"image": "NONE", "mask": "NONE", "picture": "ZSTD", "thumbnail": "ZSTD"}
"""Files are compressed already."""
ROWS_PER_GROUP = 64
"""Assembly reads row groups; small ones let a shard take its samples without reading the whole chunk."""

SCHEMA = pa.schema(
    [
        ("archive", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        *IMAGE_COLUMNS,
        ("histogram", pa.list_(pa.int64(), HISTOGRAM_BINS)),
        ("thumbnail", pa.binary()),
        ("fingerprint", pa.binary()),
        ("picture", pa.binary()),
        ("image", pa.binary()),
    ]
)
"""``reason`` is empty for a converted image; for a refused one ``image`` and the image facts are null. ``image`` is
also null where the published bytes are stored as they are: they stay in raw until assembly copies them. Without the
decode check all that takes pixels is null. What images are compared with each other by: ``thumbnail`` and ``picture``
(see :class:`tasks.images.Converted`), and ``fingerprint`` (:func:`tasks.fingerprints.polar.fingerprints`, its int8 in a
row)."""
MASK_SCHEMA = pa.schema([*SCHEMA, *MASK_COLUMNS, ("mask", pa.binary())])
"""The same with masks; a mask is stored in its chunk always."""
ENCODED = ("image", "mask")
"""Columns that hold files, not facts."""
BULKY = (*ENCODED, "picture", "thumbnail", "fingerprint")
"""Columns that are read out of the chunks, for as many members at a time as are needed."""


@dataclass(frozen=True)
class PairedMask:
    """The mask of an image, and what is known of the bytes that it lies in."""

    archive: Archive
    member: Member
    identity: str
    """Of its archive, or the SHA-256 of a loose file."""


@dataclass(frozen=True)
class Chunk:
    """One unit of work, small enough to send: where to read, what to do, and the name of the result."""

    digest: str
    archive: Archive
    members: tuple[Member, ...]
    transform: Transform
    rules: ImageRules
    masks: tuple[PairedMask | None, ...] = ()
    """One for each member, None where it has none; empty where the dataset has no masks."""
    limits: Limits = DEFAULT
    """Of the run, wherever the work is done."""
    dicom: Dicom | None = None
    """Of a dataset of DICOM files."""
    decoders: tuple[tuple[str, str], ...] = ()
    """What reads these, with versions: on a worker it must be the same."""
    part: tuple[int, int] | None = None
    """Of a chunk that was cut, first member and the one after the last; None for a whole one. See tasks.chunk_parts."""

    def __str__(self) -> str:
        """For logs; a member's name can tell who the patient is, so none is in it."""
        within = "" if self.part is None else f", {self.part[0] + 1} to {self.part[1]}"
        return f"{self.archive.name}: chunk {self.digest[:8]}{within} ({len(self.members)} images)"

    @property
    def schema(self) -> pa.Schema:
        """Of its file."""
        return MASK_SCHEMA if self.masks else SCHEMA

    @property
    def file_name(self) -> str:
        """Name below ``<lake>/<dataset>/chunks/``."""
        part = f"-{self.part[0]:03d}-{self.part[1]:03d}" if self.part else ""
        return f"{self.digest}{part}.parquet"


def plan_chunks(
    archive: Archive,
    members: Sequence[Member],
    identity: str,
    member_hashes: dict[str, str],
    transform: Transform,
    rules: ImageRules,
    masks: Mapping[Member, PairedMask] | None = None,
    dicom: Dicom | None = None,
) -> list[Chunk]:
    """Cut the image members of one archive into chunks; the cut depends on this archive, and its masks, alone.

    ``identity`` and ``member_hashes`` as :func:`tasks.raw_memory.hash_archives` gives them. ``masks`` is None where the
    dataset has none, ``dicom`` where its images are no DICOM files.
    """
    limits = current_limits()
    common = {
        "transform": asdict(transform),
        "rules": asdict(rules),
        "limits": asdict(limits),
        "code": conversion_version(),
        "libraries": library_versions(),
    }
    decoders = installed.versions() if dicom else {}
    if dicom:
        common["dicom"] = {"window": dicom.window, **decoders}
    frames = Counter(archive.file_of(member.name) for member in members)
    chunks = []
    # A tar is read forwards, in the order in which its members lie; what it inflates to reach one is not lost.
    in_order = sorted(members, key=lambda member: member.offset) if archive.kind == "tar" else members
    paired = masks or {}
    cut = _cut_loose if archive.kind == "folder" else _cut

    def size_of(member: Member) -> int:
        """Of a frame its share of the file, which is read once for all of them in a chunk."""
        mask_bytes = paired[member].member.size_bytes if member in paired else 0
        return member.size_bytes // frames[archive.file_of(member.name)] + mask_bytes

    for part in cut(in_order, size_of):
        names = [(m.name, m.offset, m.size_bytes, member_hashes.get(m.name, "")) for m in part]
        # Loose files are identified one by one: adding one must not redo the chunks of the others.
        source: dict[str, Any] = {
            "name": archive.name,
            "identity": "" if archive.kind == "folder" else identity,
            "members": names,
        }
        own: tuple[PairedMask | None, ...] = () if masks is None else tuple(masks.get(member) for member in part)
        if own:
            source["masks"] = [mask and _mask_source(mask) for mask in own]
        name = digest([common, source])[:40]
        read_by = tuple(decoders.items())
        chunks.append(Chunk(name, archive, tuple(part), transform, rules, own, limits, dicom, read_by))
    return chunks


def _mask_source(mask: PairedMask) -> list[Any]:
    return [mask.archive.name, mask.identity, mask.member.name, mask.member.offset, mask.member.size_bytes]


def _cut_loose(members: Sequence[Member], size_of: Callable[[Member], int]) -> Iterable[list[Member]]:
    fewest, mean = LOOSE_MEMBERS
    part: list[Member] = []
    for member in members:
        part.append(member)
        is_end = int(hashlib.sha256(member.name.encode("utf-8", "surrogateescape")).hexdigest()[:8], 16) % mean == 0
        if is_end and len(part) >= fewest:
            yield from _cut(part, size_of)
            part = []
    yield from _cut(part, size_of)


def _cut(members: Sequence[Member], size_of: Callable[[Member], int]) -> Iterable[list[Member]]:
    part: list[Member] = []
    size = 0
    for member in members:
        if part and (len(part) >= CHUNK_MEMBERS or size + size_of(member) > CHUNK_BYTES):
            yield part
            part, size = [], 0
        part.append(member)
        size += size_of(member)
    if part:
        yield part


def is_done(chunk: Chunk, folder: Location) -> bool:
    """Whether the chunk's file exists, whole, with every member in it."""
    try:
        with open_table(folder / chunk.file_name) as stream:
            return bool(pq.read_metadata(stream).num_rows == len(chunk.members))
    except (OSError, pa.ArrowException):
        return False


@contextlib.contextmanager
def distrusting(path: Location) -> Iterator[None]:
    """Remove a chunk file that turns out to be damaged, and say so: the next run makes it anew.

    Raises :class:`UnusableInput` for whatever Arrow cannot read within the block.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        remove(path)
        raise UnusableInput(
            f"{path} was damaged on disk ({error}) and has been removed: run the same command again"
        ) from error


def convert_chunk(chunk: Chunk, folder: str) -> dict[str, int]:
    """Read, convert and write one chunk, on a Dask worker; returns counts only."""
    if chunk.dicom is not None:
        installed.insist_on_same(dict(chunk.decoders))
    read = _Reading(chunk.archive)
    rows = [_convert_member(chunk, member, read) for member in chunk.members]
    del read
    shown = [row for row in rows if row.get("thumbnail")]
    for row, found in zip(shown, fingerprints_of([row["thumbnail"] for row in shown]), strict=True):
        row["fingerprint"] = found
    if chunk.masks:
        rows = [_with_mask(row, mask, chunk.limits) for row, mask in zip(rows, chunk.masks, strict=True)]
    write_rows(chunk, rows, location(folder))
    refused = Counter(row["reason"] for row in rows if row["reason"])
    if refused:
        logger.info("%s: refused %s", chunk, ", ".join(f"{count} × {reason}" for reason, count in refused.items()))
    return {
        "members": len(rows),
        "refused": refused.total(),
        "source_bytes": sum(row["source_bytes"] for row in rows),
    }


def refuse_chunk(chunk: Chunk, reason: str, detail: str) -> list[dict[str, Any]]:
    """Rows that say why no member of a chunk could be converted; they are not kept in the cache."""
    return [_refusal(member, member.size_bytes, None, reason, detail) for member in chunk.members]


def write_rows(chunk: Chunk, rows: list[dict[str, Any]], folder: Location) -> None:
    """Write chunk rows under the chunk's name, whole or not at all."""
    table = pa.Table.from_pylist(rows, schema=chunk.schema)
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        row_group_size=ROWS_PER_GROUP,
        use_dictionary=False,
        compression={name: COMPRESSION.get(name, "SNAPPY") for name in _leaves(chunk.schema)},
        write_statistics=False,
        write_page_checksum=True,
    )
    write_bytes(folder / chunk.file_name, buffer.getvalue())


def _leaves(schema: pa.Schema) -> list[str]:
    return [f"{f.name}.list.element" if pa.types.is_fixed_size_list(f.type) else f.name for f in schema]


class _Reading:
    """Members of an archive, one after the other: the frames of a file lie beside each other, and it is read once."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._place: tuple[str, int] | None = None
        self._data, self._sha256 = b"", ""

    def file_of(self, member: Member) -> tuple[bytes, str]:
        """Its bytes, as :func:`tasks.archives.read_member` gives them; and their SHA-256, of a file that has several
        frames, else an empty text."""
        if not (self._archive.has_frames and FRAME.search(member.name)):
            return read_member(self._archive, member.name, member.offset, member.crc32), ""
        place = self._archive.file_of(member.name), member.offset
        if place != self._place:
            self._place, self._data = None, b""
            self._data = read_member(self._archive, member.name, member.offset, member.crc32)
            self._sha256 = hashlib.sha256(self._data).hexdigest()
            self._place = place
        return self._data, self._sha256


def _convert_member(chunk: Chunk, member: Member, read: _Reading) -> dict[str, Any]:
    try:
        data, sha256 = read.file_of(member)
    except MemberRefused as refusal:
        return _refusal(member, member.size_bytes, None, *refusal.args)
    try:
        is_full = chunk.transform.decode_check == "full"
        told = _converted(data, sha256, member, chunk) if is_full else _passed_through(data, chunk)
    except ImageRefused as refusal:
        return _refusal(member, len(data), sha256 or hashlib.sha256(data).hexdigest(), *refusal.args)
    return {**_place(member), "reason": "", "detail": "", **told}


def _converted(data: bytes, sha256: str, member: Member, chunk: Chunk) -> dict[str, Any]:
    frame = frame_of(member.name) if chunk.dicom else None
    converted = convert(data, chunk.transform, chunk.rules, chunk.limits, chunk.dicom, frame, sha256)
    return {
        **converted.facts,
        "histogram": converted.histogram,
        "thumbnail": converted.thumbnail,
        "picture": converted.picture,
        "image": None if converted.is_original else converted.encoded,
    }


def _passed_through(data: bytes, chunk: Chunk) -> dict[str, Any]:
    facts, encoded = pass_through(data, chunk.transform, chunk.rules, chunk.limits)
    return {**facts, "image": encoded}


def _with_mask(row: dict[str, Any], mask: PairedMask | None, limits: Limits) -> dict[str, Any]:
    """The image's row with its mask; or refused for it, unless there was something wrong with the image already."""
    if mask is None:
        return row
    found = {"mask_archive": mask.member.archive, "mask_member": mask.member.name}
    try:
        data = read_member(mask.archive, mask.member.name, mask.member.offset, mask.member.crc32)
    except MemberRefused as refusal:
        return {**_refused_for(row, "mask-undecodable", ": ".join(refusal.args)), **found}
    found["mask_source_sha256"] = hashlib.sha256(data).hexdigest()
    if row["reason"]:
        return {**row, **found}
    try:
        sizes = [(row[f"{of}width"], row[f"{of}height"]) for of in ("source_", "")]
        converted = convert_mask(data, sizes[0], sizes[1], limits)
    except ImageRefused as refusal:
        return {**_refused_for(row, *refusal.args), **found}
    return {**row, **found, **converted.facts, "mask": converted.encoded}


def _refused_for(row: dict[str, Any], reason: str, detail: str) -> dict[str, Any]:
    """The row of an image that has no usable mask; an image that is refused already keeps its reason."""
    kept = {name: row[name] for name in ("archive", "member", "offset", "source_bytes", "source_sha256")}
    return row if row["reason"] else {**kept, "reason": reason, "detail": detail}


def _refusal(member: Member, size: int, sha256: str | None, reason: str, detail: str) -> dict[str, Any]:
    return {**_place(member), "reason": reason, "detail": detail, "source_bytes": size, "source_sha256": sha256}


def _place(member: Member) -> dict[str, Any]:
    return {"archive": member.archive, "member": member.name, "offset": member.offset}
