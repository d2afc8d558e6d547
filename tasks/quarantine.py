"""What a release refused, and why; and the refused bytes, brought back out of the raw archives."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from tasks.archives import LOOSE, Member, MemberRefused, read_member
from tasks.files import read_frame, write_bytes
from tasks.lake import Lake, latest_release
from tasks.limits import current
from tasks.member_places import salvage
from tasks.progress import Meter
from tasks.raw_again import Origin, RawAgain, TableLines, lines_of, role_of, rule_of
from tasks.reasons import REASONS, sentence
from tasks.schema import HEADERS, Dataset, ScanmillError, UnusableInput
from tasks.storage import Location

NAME = "quarantine.parquet"
LIST = "extracted.csv"
"""What ``extract`` has brought back, or not, line by line; every extraction into a folder writes it anew.
Names that a spreadsheet would take for a formula have an apostrophe before them."""
LOOSE_FOLDER = "loose"
SAFE_PUNCTUATION = " !#$&'()+,-=@[]^_`{}~."
"""Of a file name on any system; a percent sign is not among it, as it escapes."""
NAME_BYTES = 200
"""Longest file name that is written; file systems take 255, and ours gets a prefix while it is written."""
RESERVED = {"con", "prn", "aux", "nul", *(f"{kind}{number}" for kind in ("com", "lpt") for number in range(1, 10))}
"""Names that Windows keeps for devices."""

NUMBERS = ("offset", "row", "source_bytes")
"""Columns that are whole numbers, or null."""

Came = Literal["whole", "in part", "no"]


@dataclass(frozen=True)
class Refusals:
    """The quarantine of one release, published or refused."""

    lake: Lake
    release: str
    folder: Location
    is_published: bool
    rows: pd.DataFrame
    """As :data:`tasks.schema.QUARANTINE`."""
    others: tuple[str, ...]
    """Ids of refused releases of the dataset, other than this one."""


def find(lake: Lake, release: str | None) -> Refusals:
    """The quarantine of a release, of one that a gate refused too; without id that of the latest, or, where none is
    published, of the one refused last.

    Raises :class:`ScanmillError` where there is none.
    """
    refused = _refused(lake)
    if release is None:
        release = latest_release(lake) if lake.latest.is_file() else next(iter(refused), None)
    if release is None:
        raise ScanmillError(f"{lake.home} has no release, published or refused: run `scanmill prepare` first")
    others = tuple(name for name in refused if name != release)
    for folder, is_published in ((lake.release(release), True), (lake.refused(release), False)):
        if (folder / NAME).is_file():
            return Refusals(lake, release, folder, is_published, read_frame(folder / NAME), others)
    known = {"published": lake.published(), "refused": refused}
    told = "; ".join(f"{kind}: {', '.join(ids)}" for kind, ids in known.items() if ids)
    raise ScanmillError(f"{lake.home} has no release {release}; {told or 'it has none'}")


def _refused(lake: Lake) -> list[str]:
    """Ids of refused releases, the newest first."""
    folder = lake.home / "refused"
    if not folder.is_dir():
        return []
    there: list[Location] = [place for place in folder.iterdir() if (place / NAME).is_file()]
    return [place.name for place in sorted(there, key=lambda place: (-(place / NAME).stat().st_mtime, place.name))]


def chosen(found: Refusals, reason: str | None, stage: str | None) -> pd.DataFrame:
    """The rows of one reason, of one stage, or of both.

    Raises :class:`ScanmillError` for a reason or a stage that nothing has, with those that there are.
    """
    rows = found.rows
    for column, wanted, known in (("reason", reason, set(REASONS)), ("stage", stage, set())):
        there = sorted(set(found.rows[column].dropna()))
        if wanted is not None and wanted not in there and wanted not in known:
            raise ScanmillError(f"nothing was refused with {column} {wanted!r}; there is {', '.join(there) or 'none'}")
        rows = rows if wanted is None else rows[rows[column] == wanted]
    return rows


def groups(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """By reason, the most frequent first: ``reason count sentence members rows stages``; nothing of single ones."""
    found = [
        {
            "reason": str(reason),
            "count": len(part),
            "sentence": sentence(str(reason)),
            "members": int(part["member"].notna().sum()),
            "rows": int(part["table"].notna().sum()),
            "stages": {str(stage): int(n) for stage, n in part["stage"].value_counts().sort_index().items()},
        }
        for reason, part in rows.groupby("reason")
    ]
    return sorted(found, key=lambda group: (-int(group["count"]), group["reason"]))


def lines(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Every row as plain values, null for what it has not, in the order of archive, member, table and row."""
    for row in rows.astype(object).where(rows.notna(), None).to_dict("records"):
        yield {str(name): int(v) if name in NUMBERS and v is not None else v for name, v in row.items()}


@dataclass(frozen=True)
class Extracted:
    """What became of one refused member, or of one refused metadata row."""

    reason: str
    archive: str
    member: str
    offset: int | None
    table: str
    row: int | None
    path: str
    """Below the folder that was extracted into; empty where nothing came."""
    bytes: int | None
    sha256: str
    came: Came
    note: str

    @property
    def is_trouble(self) -> bool:
        """Whether it should have come and did not: for what cannot be read, that it was refused for is the reason."""
        return self.came == "no" and self.note in (OTHER_BYTES, TAKEN, OUTSIDE, GONE)


OTHER_BYTES = "its bytes are others than the release saw; not written"
TAKEN = "another file is there already; not overwritten"
OUTSIDE = "its place would lie outside the folder; not written"
GONE = "it is not in the raw release any more"


def extract(rows: pd.DataFrame, raw: RawAgain, origin: Origin, dataset: Dataset, into: Path) -> list[Extracted]:
    """Bring refused bytes back into ``into/<reason>/<archive>/<member>``, and refused metadata rows, as published, into
    ``into/<reason>/rows-of-<table>.csv``; what came is told in ``into/extracted.csv`` as well.

    A file is written whole or not at all, and none is overwritten with other bytes. Names that are unsafe are written
    with percent signs. Raises :class:`UnusableInput` for an archive that is missing, or not the one of the release.
    """
    written = _Folder(into)
    records = list(lines(rows))
    order = sorted((r for r in records if r["member"] is not None), key=lambda r: (r["archive"], r["offset"] or 0))
    for name in sorted({record["archive"] for record in order}):
        raw.archive(name)  # all of them before the first byte
    done = [_member(record, raw, written) for record in Meter("extract", len(order), "members").each(order)]
    # A row of headers is in its member.
    named = [r for r in records if r["table"] not in (None, HEADERS) and r["row"] is not None]
    done += _rows(named, raw, origin, dataset, written)
    write_bytes(into / LIST, _csv(done))
    return done


def _member(record: Mapping[str, Any], raw: RawAgain, written: _Folder) -> Extracted:
    data, came, note = _bytes_of(record, raw)
    path = ""
    if data is not None and came == "whole" and _is_other(data, record["source_sha256"]):
        data, came, note = None, "no", OTHER_BYTES
    if data is not None:
        folder = LOOSE_FOLDER if record["archive"] == LOOSE else record["archive"]
        file = raw.archive(record["archive"]).file_of(record["member"])
        path, problem = written.put(f"{record['reason']}/{folder}/{file}", record["offset"] or 0, data)
        came, note = ("no", problem) if problem else (came, note)
    return _told(record, record["archive"], record["member"], record["offset"], "", None, path, data, came, note)


def _told(
    record: Mapping[str, Any],
    archive: str,
    member: str,
    offset: int | None,
    table: str,
    row: int | None,
    path: str,
    data: bytes | None,
    came: Came,
    note: str,
) -> Extracted:
    is_there = data is not None and came != "no"
    size = len(data) if data is not None and is_there else None
    sha256 = hashlib.sha256(data).hexdigest() if data is not None and is_there else ""
    where = path if is_there else ""
    return Extracted(str(record["reason"]), archive, member, offset, table, row, where, size, sha256, came, note)


def _is_other(data: bytes, sha256: str | None) -> bool:
    return bool(sha256) and hashlib.sha256(data).hexdigest() != sha256


def _bytes_of(record: Mapping[str, Any], raw: RawAgain) -> tuple[bytes | None, Came, str]:
    """The bytes of a refused member, whether that is all of it, and a word about it."""
    archive = raw.archive(record["archive"])
    member = raw.members(archive.name).get((archive.file_of(record["member"]), record["offset"] or 0))
    if member is None:
        return None, "no", GONE
    if member.name.startswith("(after byte "):
        return None, "no", "it stands for what the archive lacks"
    if member.problem == "oversized-member" or member.size_bytes > current().member_bytes:
        return None, "no", member.detail or f"it claims {member.size_bytes} bytes"
    if member.problem == "encrypted-member":
        return None, "no", member.detail
    if member.problem in ("", "unsafe-path"):
        try:
            return read_member(archive, member.name, member.offset, member.crc32), "whole", ""
        except MemberRefused as refusal:
            if refusal.args[0] == "encrypted-member" or archive.kind == "folder":
                return None, "no", str(refusal.args[1])
    return _salvaged(raw, member)


def _salvaged(raw: RawAgain, member: Member) -> tuple[bytes | None, Came, str]:
    try:
        data = salvage(raw.archive(member.archive), member.name, member.offset)
    except MemberRefused as refusal:
        return None, "no", str(refusal.args[1])
    if not data:
        return None, "no", "nothing of it can be unpacked"
    if len(data) == member.size_bytes:
        return data, "in part", "all its bytes are there, and do not fit their checksum"
    return data, "in part", f"{len(data)} of {member.size_bytes} bytes could be unpacked"


def _rows(
    records: Sequence[Mapping[str, Any]], raw: RawAgain, origin: Origin, dataset: Dataset, written: _Folder
) -> Iterator[Extracted]:
    tables: dict[str, TableLines] = {}
    for name in sorted({record["table"] for record in records}):
        rule = rule_of(dataset, role_of(origin, name))
        tables[name] = lines_of(raw.table(name), has_header=rule.has_header, separator=rule.separator)
    for reason, name in sorted({(record["reason"], record["table"]) for record in records}):
        own = [r for r in records if (r["reason"], r["table"]) == (reason, name)]
        own.sort(key=lambda record: int(record["row"]))
        table = tables[name]
        texts = [table.rows.get(record["row"]) for record in own]
        kept = [text for number, text in dict(zip([r["row"] for r in own], texts, strict=True)).items() if text]
        content = "".join(_ended(text) for text in [table.header, *kept] if text)
        label = f"rows-of-{name.replace('/', '%2F')}" + ("" if name.lower().endswith(".csv") else ".csv")
        path, problem = written.put(f"{reason}/{label}", 0, content.encode("utf-8", "surrogateescape"), is_escaped=True)
        for record, text in zip(own, texts, strict=True):
            data = None if text is None else text.encode("utf-8", "surrogateescape")
            note = problem or ("" if text is not None else GONE)
            yield _told(record, "", "", None, name, record["row"], path, data, "no" if note else "whole", note)


def _ended(line: str) -> str:
    """The last line of a table may lack its end."""
    return line if line.endswith(("\n", "\r")) else f"{line}\n"


class _Folder:
    """Where extracted files go: each below it, none over another."""

    def __init__(self, root: Path) -> None:
        """``root`` is made when the first file is."""
        self._root = root
        self._taken: dict[str, tuple[str, int]] = {}

    def put(self, name: str, offset: int, data: bytes, *, is_escaped: bool = False) -> tuple[str, str]:
        """Write one file; returns its path below the root, and what was in the way, or an empty string.

        ``offset`` tells members of one name apart. ``is_escaped``: the last part of ``name`` has its percent signs.
        """
        *folders, last = name.split("/")
        parts = [*(escape(part) for part in folders), _shortened(last) if is_escaped else escape(last)]
        if self._taken.setdefault("/".join(parts).lower(), (name, offset)) != (name, offset):
            stem, dot, ending = parts[-1].rpartition(".")
            parts[-1] = f"{stem}~{offset}.{ending}" if dot and stem else f"{parts[-1]}~{offset}"
        path = self._root.joinpath(*parts)
        try:
            if not path.resolve().is_relative_to(self._root.resolve()):
                return "", OUTSIDE
            if path.is_symlink() or path.exists():
                is_same = path.is_file() and not path.is_symlink() and path.read_bytes() == data
                return "/".join(parts), "" if is_same else TAKEN
            write_bytes(path, data)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            return "", TAKEN
        return "/".join(parts), ""


def escape(part: str) -> str:
    """One part of a member's path as a file name that is safe anywhere; different parts stay different.

    Letters, digits and common punctuation stay; other bytes, and what makes a name special, become ``%XX``.
    """
    safe = "".join(c if c.isalnum() or c in SAFE_PUNCTUATION else _percent(c) for c in part)
    if not safe.strip("."):
        safe = "".join(map(_percent, part)) or "%"
    elif safe[-1] in ". ":
        safe = safe[:-1] + _percent(safe[-1])
    if safe.partition(".")[0].lower() in RESERVED:
        safe = _percent(safe[0]) + safe[1:]
    return _shortened(safe)


def _percent(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogateescape"))


def _shortened(name: str) -> str:
    """A name that is too long for a file system, cut, with a hash of all of it."""
    data = name.encode("utf-8", "surrogateescape")
    if len(data) <= NAME_BYTES:
        return name
    return f"{data[: NAME_BYTES - 18].decode('utf-8', 'ignore')}~{hashlib.sha256(data).hexdigest()[:16]}"


def _csv(done: Iterable[Extracted]) -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow([field.name for field in fields(Extracted)])
    writer.writerows([_no_formula(value) for value in asdict(one).values()] for one in done)
    return sink.getvalue().encode("utf-8", "backslashreplace")


def _no_formula(value: Any) -> Any:
    """A name that a spreadsheet would compute gets an apostrophe before it, as OWASP's page on CSV injection asks."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def insist_on_folder(into: Path) -> None:
    """Raise :class:`UnusableInput` where files cannot be put there."""
    if into.exists() and not into.is_dir():
        raise UnusableInput(f"--extract {into} is no folder")
