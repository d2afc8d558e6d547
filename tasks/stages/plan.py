"""What a stage is given: the request, the release it makes, and where its tables lie."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import pandas as pd
import pyarrow as pa

from tasks import limits
from tasks.archives import Archive
from tasks.datasets import find
from tasks.dicom.identifying import insist_on_keeps
from tasks.dicom.installed import insist_on_extra
from tasks.files import parquet, read_frame, read_json, write_bytes
from tasks.lake import Lake
from tasks.pass_through import why_not
from tasks.release.manifest import identity
from tasks.samples import check_columns, entry_schema, meta_columns
from tasks.schema import STORES, Dataset, DecodeCheck, Encoding, GateName, Store, Transform, UnusableInput, Verdict
from tasks.storage import Location, as_local_folder, location
from tasks.table_choice import ChosenTable, as_json


@dataclass(frozen=True)
class Request:
    """What to prepare, and how; everything here but lake and raw paths shapes the release id."""

    dataset: str
    raw: tuple[str, ...]
    lake: str
    transform: Transform
    stores: tuple[Store, ...]
    table: str | None = None
    """Which label table to use where several are there: a form, or the end of its path."""
    split_file: str | None = None
    """A table of splits of the user's own."""
    allow_missing: float | None = None
    """Share of metadata rows that may be without image; None is the dataset's tolerance."""

    @property
    def place(self) -> Lake:
        """The dataset's part of the lake."""
        return Lake(self.lake, self.dataset)


@dataclass(frozen=True)
class Plan:
    """A request whose input is known: the release has its id."""

    request: Request
    archives: tuple[Archive, ...]
    tables: tuple[ChosenTable, ...]
    release: str
    is_published: bool
    is_documents: bool = False
    """Whether there are documents and no images: then a document release is made."""

    @property
    def lake(self) -> Lake:
        """The dataset's part of the lake."""
        return self.request.place

    @property
    def work(self) -> Location:
        """Folder of the tables between stages."""
        return self.lake.work(self.release)

    @property
    def staging(self) -> Location:
        """The release in the making."""
        return self.lake.staging(self.release)

    @property
    def data_docs(self) -> Location | None:
        """Folder of Great Expectations' own pages; None where single rows must not be shown, of which they are full."""
        return None if self.dataset.is_restricted else self.staging / "quality" / "data_docs"

    @property
    def dataset(self) -> Dataset:
        """The declaration, as it holds for the tables in use."""
        return declared(self.request, self.tables)


@contextlib.contextmanager
def local_docs(plan: Plan) -> Iterator[Path | None]:
    """Where Great Expectations may write its pages during the block: it knows folders of this machine only."""
    if plan.data_docs is None:
        yield None
        return
    with as_local_folder(plan.data_docs) as folder:
        yield folder


def request(
    dataset: str,
    raw: Sequence[str],
    lake: str,
    *,
    size: int | None = None,
    encoding: Encoding = "png",
    quality: int = 95,
    stores: Sequence[Store] = STORES,
    table: str | None = None,
    splits: str | None = None,
    allow_missing: float | None = None,
    decode_check: DecodeCheck = "full",
) -> Request:
    """A request from a user's words: ``size`` None is the dataset's own, 0 the published size.

    Raises :class:`UnusableInput` where images that are not to be decoded have to be, and for a dataset that would keep
    what must stay in a DICOM header.
    """
    insist_on_sound_dicom(find(dataset))
    chosen = find(dataset).image.size if size is None else size or None
    transform = Transform(chosen, encoding, quality if encoding == "jpeg" else None, decode_check)
    if decode_check == "off" and (why := why_not(find(dataset), transform)):
        raise UnusableInput(f"--decode-check off does not go with this: {why}")
    home = str(location(lake))
    return Request(dataset, tuple(raw), home, transform, tuple(sorted(set(stores))), table, splits, allow_missing)


def insist_on_sound_dicom(dataset: Dataset) -> None:
    """Raise :class:`UnusableInput` for a dataset of DICOM files that keeps what it must not, has masks or no window,
    and where the extra is not installed."""
    if dataset.dicom is None:
        return
    insist_on_extra()
    insist_on_keeps(dataset.dicom.keeps, dataset.name)
    window = dataset.dicom.window
    is_pair = isinstance(window, tuple) and len(window) == 2 and window[1] >= 1
    if not is_pair and window not in ("none", "header"):
        raise UnusableInput(
            f"{dataset.name} has the window {window!r}: it is 'none', 'header', or (centre, width), width at least 1"
        )
    if dataset.has_masks:
        raise UnusableInput(f"{dataset.name} has masks, whose keys are paths, and DICOM files, whose keys are UIDs")


def declared(request: Request, tables: Sequence[ChosenTable]) -> Dataset:
    """The declaration as it holds for these tables, and for what the request leaves out or allows to be missing."""
    dataset = find(request.dataset).judged_by({table.form for table in tables if table.form})
    dataset = replace(dataset, is_decoded=request.transform.decode_check == "full")
    return dataset if request.allow_missing is None else replace(dataset, allow_missing=request.allow_missing)


def identity_of(request: Request, tables: Sequence[ChosenTable], *, is_documents: bool) -> dict[str, Any]:
    """Parameters and code of the release that a request makes from these tables, as in the manifest.

    What images are turned into is no parameter of a document release.
    """
    parameters = {
        **asdict(request.transform),
        "stores": sorted(request.stores),
        "tables": as_json(tables),
        "allow_missing": request.allow_missing,
        **({"limits": changed} if (changed := limits.current().as_parameters()) else {}),
        **({"dicom": asdict(dicom)} if (dicom := find(request.dataset).dicom) else {}),
    }
    return identity(find(request.dataset), {} if is_documents else parameters)


def about(plan: Plan) -> dict[str, Any]:
    """Parameters and code of the release, as in the manifest."""
    return identity_of(plan.request, plan.tables, is_documents=plan.is_documents)


def inputs(plan: Plan) -> list[Mapping[str, Any]]:
    """Name, bytes and sha256 of everything the release is made from."""
    return list(read_json(plan.work / "inputs.json")["inputs"])


def verdicts(plan: Plan) -> list[Verdict]:
    """What the gates said so far."""
    files = [plan.work / f"verdict-{gate}.json" for gate in get_args(GateName)]
    return [Verdict.from_json(read_json(path)) for path in files if path.exists()]


def write_frame(path: Location, frame: pd.DataFrame, schema: pa.Schema | None = None) -> None:
    """Write a table whole."""
    write_bytes(path, parquet(pa.Table.from_pandas(frame, schema=schema, preserve_index=False)))


def read_entries(path: Location) -> pd.DataFrame:
    """Entries, indexed by their number."""
    frame = read_frame(path)
    frame.index = pd.Index(frame["entry"])
    return frame


def write_entries(path: Location, entries: pd.DataFrame, dataset: Dataset) -> None:
    """Entries with what the gates have added to them."""
    schema = entry_schema(dataset, meta_columns(entries, dataset), check_columns(entries))
    for column in ("stage", "reason", "detail", "source_sha256", "mask_source_sha256"):
        if column in entries:
            schema = schema.append(pa.field(column, pa.string()))
    write_frame(path, entries, schema)
