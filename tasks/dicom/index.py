"""The headers of a raw release's DICOM files: read once, remembered, and what they make of its list of members.

A file of several frames becomes a member for each, ``<file>#frame=<n>``; the key of an image is its SOPInstanceUID.
What is no image that can be used carries the reason, as a member with another problem does.
"""

from __future__ import annotations

import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import pandas as pd
import pyarrow as pa

from tasks.archives import FRAME, Archive, MemberRefused, read_head, read_member
from tasks.dicom import installed
from tasks.dicom.elements import Cut
from tasks.dicom.headers import HEADER_BYTES, PRIVATE, Header, header_of
from tasks.dicom.identifying import kept
from tasks.files import digest, parquet, read_frame, write_bytes
from tasks.limits import Limits, current, variable
from tasks.progress import Meter
from tasks.schema import DICOM, HEADERS, Dataset, Table, UnusableInput
from tasks.storage import Location

HEADS = (2**16, 2**20, HEADER_BYTES)
"""Bytes that are read of a file, until its header is among them."""
TOGETHER = 1000
"""Headers that are remembered in one file."""
LOOSE_TOGETHER = (32, 128)
"""Of loose files: fewest, and how many names there are on average to one that ends such a file, so that a file more or
less has few read again."""
ARCHIVES_AT_ONCE = 2
"""As many stay open in :mod:`tasks.archives`."""
LOOSE_AT_ONCE = 8
"""Of loose files alone: what takes time there is the way to an object."""
SCHEMA = pa.schema(
    [
        ("archive", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("uid", pa.string()),
        ("frames", pa.int64()),
        ("syntax", pa.string()),
        ("photometric", pa.string()),
        ("bits", pa.int64()),
        ("texts", pa.list_(pa.string())),
        ("dropped", pa.list_(pa.string())),
        ("problem", pa.string()),
        ("detail", pa.string()),
    ]
)
"""One row per file: its place, and :class:`tasks.dicom.headers.Header`."""


def read_headers(
    members: pd.DataFrame,
    archives: Sequence[Archive],
    dataset: Dataset,
    identities: dict[str, str] | None = None,
    folder: Location | None = None,
) -> pd.DataFrame:
    """The headers of all image members that may be read, as :data:`SCHEMA`.

    ``members`` as :func:`tasks.stages.index.classify` gives them. They are remembered in ``folder``, where there is
    one, by ``identities`` of the archives and ``sha256`` of loose files.
    """
    installed.insist_on_extra()
    wanted = members[(members["kind"] == "image") & (members["problem"] == "")]
    by_archive = {archive.name: archive for archive in archives}
    meter, limits, counting = Meter("headers", len(wanted), "files"), current(), threading.Lock()
    parts = [part for name, own in wanted.groupby("archive", sort=True) for part in _parts(by_archive[str(name)], own)]

    def tick(count: int) -> None:
        with counting:
            meter.add(count)

    def read(part: tuple[Archive, pd.DataFrame]) -> pd.DataFrame:
        return _part(*part, dataset, limits, _memory(*part, dataset, limits, identities, folder), tick)

    # One thread at a time reads an archive, forwards; loose files are read by several.
    at_once = LOOSE_AT_ONCE if all(archive.kind == "folder" for archive, _ in parts) else ARCHIVES_AT_ONCE
    lanes: dict[Any, list[tuple[int, tuple[Archive, pd.DataFrame]]]] = {}
    for number, part in enumerate(parts):
        lane = number % at_once if part[0].kind == "folder" else part[0].name
        lanes.setdefault(lane, []).append((number, part))
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        read_lanes = pool.map(lambda lane: [(number, read(part)) for number, part in lane], lanes.values())
        found = dict(one for lane in read_lanes for one in lane)
    frames = [found[number] for number in sorted(found)]
    every: pd.DataFrame = pd.concat(frames, ignore_index=True) if frames else SCHEMA.empty_table().to_pandas()
    return every


def _parts(archive: Archive, own: pd.DataFrame) -> Iterable[tuple[Archive, pd.DataFrame]]:
    if archive.kind != "folder":
        ordered = own.sort_values("offset", kind="stable")
        yield from ((archive, ordered.iloc[n : n + TOGETHER]) for n in range(0, len(ordered), TOGETHER))
        return
    fewest, mean = LOOSE_TOGETHER
    begin = 0
    for end, name in enumerate(own["member"], 1):
        is_end = end - begin >= fewest and zlib.crc32(name.encode("utf-8", "surrogateescape")) % mean == 0
        if is_end or end == len(own):
            yield archive, own.iloc[begin:end]
            begin = end


def _memory(
    archive: Archive,
    own: pd.DataFrame,
    dataset: Dataset,
    limits: Limits,
    identities: dict[str, str] | None,
    folder: Location | None,
) -> Location | None:
    """Where the headers of these members are remembered; None where nothing is."""
    if folder is None or identities is None or dataset.dicom is None:
        return None
    hashes = own["sha256"].tolist() if archive.kind == "folder" else identities[archive.name]
    places = own[["member", "offset", "size_bytes"]].to_numpy().tolist()
    about = [dict(installed.versions()), list(kept(dataset.dicom.keeps)), asdict(limits)]
    return folder / f"{digest([archive.name, places, hashes, about])[:40]}.headers.parquet"


def _part(
    archive: Archive,
    own: pd.DataFrame,
    dataset: Dataset,
    limits: Limits,
    memory: Location | None,
    tick: Callable[[int], None],
) -> pd.DataFrame:
    keeps = dataset.dicom.keeps if dataset.dicom else ()
    if memory is not None and memory.is_file():
        try:
            remembered = read_frame(memory)
            if len(remembered) == len(own):
                tick(len(own))
                return remembered
        except (OSError, pa.ArrowException):
            pass  # damaged: it is read again, and written anew
    rows = []
    for row in own[["archive", "member", "offset", "size_bytes"]].itertuples():
        member, offset = str(row.member), int(row.offset)  # type: ignore[arg-type]
        header = _header(archive, member, offset, int(row.size_bytes), keeps, limits)  # type: ignore[arg-type]
        rows.append({"archive": archive.name, "member": member, "offset": offset, **asdict(header)})
        tick(1)
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    if memory is not None:
        write_bytes(memory, parquet(table))
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _header(
    archive: Archive, member: str, offset: int, size_bytes: int, keeps: Sequence[str], limits: Limits
) -> Header:
    for most in HEADS:
        try:
            head = read_head(archive, member, offset, min(most, max(size_bytes, 1)))
            return header_of(head, size_bytes, keeps, limits)
        except MemberRefused as refusal:
            return Header(problem=refusal.args[0], detail=refusal.args[1])
        except Cut:
            continue
    raise AssertionError("a header that is longer than all that is read is refused")


def expanded(members: pd.DataFrame, headers: pd.DataFrame, archives: Sequence[Archive]) -> pd.DataFrame:
    """The members with what their headers say: a row per frame, keys, and problems.

    A name that looks like a frame's gets ``#frame=1`` itself, so that it stays another. A file that cannot be called by
    a UID is an unexpected member with its own reason. Raises :class:`UnusableInput` for more frames than members may
    be.
    """
    place = ["archive", "member", "offset"]
    joined = members.merge(
        headers[[*place, "uid", "frames", "problem", "detail"]], on=place, how="left", suffixes=("", "_of_header")
    )
    joined.index = members.index
    is_read = joined["uid"].notna()
    _insist_on_few(joined.loc[is_read, "frames"])
    problem = joined["problem_of_header"].where(is_read, "")
    joined["problem"] = joined["problem"].mask(problem != "", problem)
    joined["detail"] = joined["detail"].mask(problem != "", joined["detail_of_header"])
    joined["key"] = joined["uid"].where(is_read & (joined["uid"] != ""), joined["key"])
    is_nameless = (joined["kind"] == "image") & ~(is_read & (joined["uid"] != ""))
    joined.loc[is_nameless, "kind"] = "unexpected"
    joined["frames"] = joined["frames"].where(is_read & (joined["problem"] == ""), 1).fillna(1).astype("int64")
    _mark_other_counts(joined)
    _tell_copies(joined, archives)
    return _per_frame(joined)[list(members.columns)]


def _insist_on_few(frames: pd.Series) -> None:
    most = current().members
    if len(frames) and (total := int(frames.sum())) > most:
        raise UnusableInput(
            f"the DICOM files hold {total:,} frames; the most is {most:,}: set {variable('members')} to allow more"
        )


def _mark_other_counts(joined: pd.DataFrame) -> None:
    """Files of one UID of which one has one frame and another several: their keys differ, and one of them lies."""
    images = joined[joined["kind"] == "image"]
    counts = images.groupby("key")["frames"].nunique()
    for uid in counts.index[counts > 1]:
        twins = images.index[images["key"] == uid]
        joined.loc[twins, "problem"] = "duplicate-member"
        joined.loc[twins, "detail"] = f"{uid} is there {len(twins)} times, with different numbers of frames"
        joined.loc[twins, "frames"] = 1


def _tell_copies(joined: pd.DataFrame, archives: Sequence[Archive]) -> None:
    """Give loose files that share their UID with another the checksum by which identical ones are told."""
    by_name = {archive.name: archive for archive in archives}
    images = joined[joined["kind"] == "image"]
    twins = images[images["key"].duplicated(keep=False) & (images["crc32"] == 0)]
    for row in twins[["archive", "member", "offset"]].itertuples():
        archive = by_name[str(row.archive)]
        if archive.kind == "folder":
            data = read_member(archive, str(row.member), 0)
            joined.loc[row.Index, "crc32"] = zlib.crc32(data)


def _looks_like_a_frame(member: str) -> bool:
    return FRAME.search(member) is not None


def _per_frame(joined: pd.DataFrame) -> pd.DataFrame:
    looks_like_one = joined["kind"].isin(["image", "unexpected"]) & joined["member"].map(_looks_like_a_frame)
    is_several = (joined["frames"] > 1) | looks_like_one
    if not is_several.any():
        return joined
    rows = joined.loc[joined.index.repeat(joined["frames"])].copy()
    number = rows.groupby(level=0).cumcount() + 1
    is_named = is_several[rows.index].to_numpy()
    rows["member"] = rows["member"].where(~is_named, rows["member"] + "#frame=" + number.astype(str))
    is_frame = (rows["frames"] > 1).to_numpy()
    rows["key"] = rows["key"].where(~is_frame, rows["key"] + "/" + number.astype(str).str.zfill(4))
    return rows.reset_index(drop=True)


def header_table(members: pd.DataFrame, headers: pd.DataFrame, archives: Sequence[Archive], dataset: Dataset) -> Table:
    """The table of role ``dicom``: ``archive member key`` and the kept keywords, a row per key, from 1."""
    assert dataset.dicom is not None
    wanted = kept(dataset.dicom.keeps)
    images = members.loc[members["kind"] == "image", ["archive", "member", "offset", "key"]].drop_duplicates("key")
    by_name = {archive.name: archive for archive in archives}
    files = [by_name[a].file_of(m) for a, m in zip(images["archive"], images["member"], strict=True)]
    texts: dict[Any, Any] = {
        (header["archive"], header["member"], header["offset"]): header["texts"]
        for header in headers[["archive", "member", "offset", "texts"]].to_dict("records")
    }
    places = zip(images["archive"], files, images["offset"], strict=True)
    cells = [list(texts[place]) or [""] * len(wanted) for place in places]
    table = images[["archive", "member", "key"]].reset_index(drop=True)
    table = pd.concat([table, pd.DataFrame(cells, columns=list(wanted), dtype=str)], axis=1)
    table.index = pd.RangeIndex(1, len(table) + 1)
    return Table(DICOM, HEADERS, table)


def summary(headers: pd.DataFrame, dataset: Dataset) -> dict[str, Any]:
    """What ``dicom.json`` tells of all files that were read: counts, and no value of any header."""
    assert dataset.dicom is not None
    wanted = kept(dataset.dicom.keeps)
    read = headers[headers["syntax"] != ""]
    dropped = Counter(keyword for keywords in read["dropped"] for keyword in keywords)
    private = dropped.pop(PRIVATE, 0)
    texts = [dict(zip(wanted, texts, strict=True)) for texts in read["texts"] if len(texts)]
    burned = Counter(_yes_or_no(text["BurnedInAnnotation"]) for text in texts)
    return {
        "files": len(read),
        "files_not_read": len(headers) - len(read),
        "frames": int(read["frames"].sum()),
        "window": dataset.dicom.window,
        "transfer_syntaxes": _counted(read["syntax"]),
        "photometric_interpretations": _counted(read["photometric"]),
        "bits_stored": _counted(read["bits"]),
        "burned_in_annotation": dict(sorted(burned.items())),
        "kept": {keyword: sum(text[keyword] != "" for text in texts) for keyword in wanted},
        "dropped": dict(sorted(dropped.items())),
        "files_with_private_elements": private,
    }


def _yes_or_no(text: str) -> str:
    return {"YES": "yes", "NO": "no", "": "not said"}.get(text.strip().upper(), "other")


def _counted(values: pd.Series) -> dict[str, int]:
    return {str(value): int(count) for value, count in sorted(values.value_counts().items(), key=lambda v: str(v[0]))}
