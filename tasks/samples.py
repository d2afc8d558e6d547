"""From members and metadata rows to entries: what each thing is, what belongs together, and what is left over.

An *entry* is one line of the table that both gates look at: an image with its row, an image alone, or a row alone.
An image brings its mask along, in datasets that have masks; one without image is alone as well.
Every member that is not ignored by rule is in exactly one entry, and so is every row of a sample table; that is what
lets the accounting be enforced.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from operator import attrgetter

import pandas as pd
import pyarrow as pa

from tasks.archives import Member
from tasks.pairing import MASK_PLACE, NAMES, mark_duplicates, with_masks
from tasks.schema import BOX, CANONICAL, FIELD_TYPES, MEMBERS, Dataset, MemberRule, Parsed, Table
from tasks.tarballs import DAMAGES

JUNK = MemberRule("ignored", r"(?:^|/)(?:\.DS_Store|Thumbs\.db|desktop\.ini|\._[^/]*)$|(?:^|/)__MACOSX/", "junk")
"""What operating systems leave in archives; ignored in every dataset."""

DOUBLED = r"(?P<before>^|/)(?P<folder>[^/]+)/(?P=folder)/"
"""A folder that lies in a folder of its own name."""

UNSAFE = re.compile(r"[^A-Za-z0-9_]")


def escape_key(key: str) -> str:
    """A sample id for an image key: letters, digits and ``_`` stay, ``/`` becomes ``--``, other bytes ``-hh``.

    Reversible by :func:`unescape_key`; has no dot, at which WebDataset would cut it.
    """
    return UNSAFE.sub(_escaped, key)


def _escaped(letter: re.Match[str]) -> str:
    return "--" if letter[0] == "/" else "".join(f"-{byte:02x}" for byte in letter[0].encode())


def unescape_key(sample_id: str) -> str:
    """The image key that :func:`escape_key` made this sample id from."""

    def restore(match: re.Match[str]) -> str:
        return "/" if match[0] == "--" else chr(int(match[1], 16))

    return re.sub(r"--|-([0-9a-f]{2})", restore, sample_id).encode("latin-1").decode()


def index_members(members: Sequence[Member], dataset: Dataset) -> pd.DataFrame:
    """One row per member: ``archive member offset size_bytes crc32 problem detail kind key role reason``.

    ``kind`` is that of the member's rule, or unexpected.
    """
    names = [field.name for field in fields(Member)]
    frame = pd.DataFrame(list(map(attrgetter(*names), members)), columns=names).rename(columns={"name": "member"})
    rules = [(re.compile(rule.pattern), rule) for rule in (JUNK, *dataset.members)]
    kinds = [_classify(member.name, rules, is_break=member.problem in DAMAGES) for member in members]
    frame[["kind", "key", "role", "reason"]] = pd.DataFrame(
        kinds, columns=["kind", "key", "role", "reason"], index=frame.index, dtype=str
    )
    return frame


def _classify(
    name: str, rules: Sequence[tuple[re.Pattern[str], MemberRule]], *, is_break: bool
) -> tuple[str, str, str, str]:
    """``is_break``: the member carries the damage of its archive, and must not be ignored with it."""
    for pattern, rule in rules:
        if (match := pattern.search(name)) and not (is_break and rule.kind == "ignored"):
            return rule.kind, _key(rule, match), rule.role, rule.reason
    return "unexpected", "", "", "unexpected-member"


def _key(rule: MemberRule, match: re.Match[str]) -> str:
    if rule.kind not in ("image", "mask"):
        return ""
    return re.sub(rule.conceals, r"\1", match["key"]) if rule.conceals else match["key"]


def image_members(index: pd.DataFrame) -> Table:
    """The image members as a table for ``parse``: ``archive member key``, one row per key."""
    images = index.loc[index["kind"] == "image", ["archive", "member", "key"]].drop_duplicates("key")
    return Table(MEMBERS, MEMBERS, images.reset_index(drop=True))


def set_nested_copies_aside(index: pd.DataFrame) -> pd.DataFrame:
    """Ignore ``a/a/x`` where ``a/x`` has the same bytes: zips made of a folder that held its own copy.

    Kaggle's sample of NIH ChestX-ray14 has come so: ``sample/sample/images`` beside ``sample/images``.
    """
    doubled = re.compile(DOUBLED)
    nested = index[[doubled.search(member) is not None for member in index["member"]]]
    nested = nested[
        (nested["crc32"] != 0) & nested["kind"].isin(["image", "mask", "table"]) & (nested["problem"] == "")
    ]
    if nested.empty:
        return index
    facts = ["archive", "size_bytes", "crc32"]
    plain = nested.assign(
        member=nested["member"].str.replace(DOUBLED, r"\g<before>\g<folder>/", n=1, regex=True), place=nested.index
    )
    copies = plain.merge(index[["member", *facts]], on=["member", *facts])["place"]
    index.loc[copies, ["kind", "reason"]] = ["ignored", "nested-copy"]
    return index


def join(index: pd.DataFrame, parsed: Parsed, tables: Mapping[str, Table], dataset: Dataset) -> pd.DataFrame:
    """Entries: members and rows put together by image key.

    Columns: ``entry`` (0…), ``archive member offset source_bytes`` (null for a row alone), ``key sample_id``, ``table
    row`` (null for an image alone), ``image_problem``, ``row_problem`` (reason codes or empty), ``problem_detail``,
    ``image_without_row``, ``row_without_image``, and the columns of ``parsed.rows``; where the dataset has masks also
    those of :data:`tasks.pairing.MASK_PLACE`, null for what has none.
    """
    images = _members_by_key(index)
    if dataset.has_masks:
        images = with_masks(images, index)
    rows = parsed.rows.rename(columns={"image": "key"})
    rows["row_problem"] = ""
    rows.loc[rows["key"].duplicated(), "row_problem"] = "duplicate-row"
    is_first = rows["row_problem"] == ""
    primary = images[images["is_primary"]]
    together = primary.merge(rows[is_first], on="key", how="outer", indicator=True)
    entries = pd.concat([together, images[~images["is_primary"]], rows[~is_first]], ignore_index=True)
    return _complete(entries, tables, dataset)


def _members_by_key(index: pd.DataFrame) -> pd.DataFrame:
    """Image and unexpected members; the first of each key is primary, and duplicates carry their problem."""
    images = index[index["kind"].isin(["image", "unexpected"])].copy()
    images = images.rename(columns=NAMES)
    is_unexpected = (images["kind"] == "unexpected") & (images["image_problem"] == "")
    images.loc[is_unexpected, "image_problem"] = "unexpected-member"
    is_unexplained = is_unexpected & (images["problem_detail"] == "")
    images.loc[is_unexplained, "problem_detail"] = "no rule of this dataset says what this member is"
    # A member without key is its own entry; NUL cannot occur in a key.
    alone = images["kind"] == "unexpected"
    images.loc[alone, "key"] = "\0" + images.loc[alone, "archive"] + "\0" + images.loc[alone, "member"]
    images["is_primary"] = ~images["key"].duplicated()
    for key, twins in images[images["key"].duplicated(keep=False) & ~alone].groupby("key"):
        mark_duplicates(images, str(key), twins)
    columns = ["archive", "member", "offset", "source_bytes", "key", "image_problem", "problem_detail", "is_primary"]
    return images[columns]


def _complete(entries: pd.DataFrame, tables: Mapping[str, Table], dataset: Dataset) -> pd.DataFrame:
    """Flags, sample ids and the canonical columns that ``parse`` left out."""
    for column in ("image_problem", "row_problem", "problem_detail"):
        entries[column] = entries[column].fillna("")
    has_image = entries["member"].notna()
    has_row = entries["table"].notna()
    is_fine = (entries["image_problem"] == "") & (entries["row_problem"] == "")
    entries["image_without_row"] = has_image & ~has_row & is_fine
    entries["row_without_image"] = has_row & ~has_image & is_fine
    entries.loc[entries["row_problem"] == "duplicate-row", "problem_detail"] = "an earlier row names the same image"
    is_named = ~entries["key"].str.startswith("\0")
    entries["key"] = entries["key"].where(is_named)
    entries["sample_id"] = entries["key"].map(escape_key, na_action="ignore")
    names = {role: table.name for role, table in tables.items()}
    entries["table"] = entries["table"].map(names, na_action="ignore")
    schema = entry_schema(dataset, meta_columns(entries, dataset), check_columns(entries))
    entries = entries.sort_values(["archive", "member", "offset", "table", "row"], ignore_index=True)
    entries["entry"] = range(len(entries))
    complete = entries.reindex(columns=schema.names)
    if dataset.has_boxes:  # with no box at all pandas takes the column for numbers
        complete["boxes"] = complete["boxes"].astype(object).where(complete["boxes"].notna(), None)
    return complete


def meta_columns(frame: pd.DataFrame, dataset: Dataset) -> dict[str, pa.DataType]:
    """The columns ``meta.*`` in table order, each with its type.

    Text as published, unless the dataset declares a field of that name, or keeps columns of numbers as numbers.
    """
    return {str(name): _meta_type(frame[name], dataset) for name in frame.columns if str(name).startswith("meta.")}


def _meta_type(column: pd.Series, dataset: Dataset) -> pa.DataType:
    field = dataset.fields.get(str(column.name).removeprefix("meta."))
    if field is not None:
        return FIELD_TYPES[field.kind]
    is_number = dataset.has_number_columns and pd.api.types.is_float_dtype(column)
    return pa.float64() if is_number else pa.string()


def check_columns(frame: pd.DataFrame) -> tuple[str, ...]:
    """Names of the columns that only the gates look at."""
    return tuple(str(name) for name in frame.columns if str(name).startswith("check."))


def entry_schema(dataset: Dataset, meta: Mapping[str, pa.DataType], checks: tuple[str, ...]) -> pa.Schema:
    """Arrow schema of the entries."""
    own: list[tuple[str, pa.DataType]] = [
        ("entry", pa.int64()),
        *CANONICAL,
        ("key", pa.string()),
        ("offset", pa.int64()),
        ("source_bytes", pa.int64()),
        ("table", pa.string()),
        ("row", pa.int64()),
        ("image_problem", pa.string()),
        ("row_problem", pa.string()),
        ("problem_detail", pa.string()),
        ("image_without_row", pa.bool_()),
        ("row_without_image", pa.bool_()),
    ]
    own += [(f"label.{name}", pa.int8()) for name in dataset.labels]
    own += [(f"target.{name}", pa.float64()) for name in dataset.targets]
    if dataset.has_boxes:
        own.append(("boxes", pa.list_(BOX)))
    if dataset.has_masks:
        own += zip(MASK_PLACE.values(), (pa.string(), pa.string(), pa.int64(), pa.int64()), strict=True)
    own += meta.items()
    return pa.schema([*own, *((name, pa.string()) for name in checks)])
