"""The nouns: plain frozen values that every other module speaks, and the one schema of the sample table.

This module knows no framework, no file system and no dataset. Everything may import it; it imports nothing of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

FORMAT_VERSION = 1
"""Version of the on-disk contract (DESIGN.md §5); a reader refuses a manifest of another one."""

Severity = Literal["error", "warning", "known"]
Status = Literal["passed", "tolerated", "known", "warned", "unchecked", "failed"]
GateName = Literal["metadata", "images", "documents"]
Store = Literal["webdataset", "parquet"]
Encoding = Literal["png", "jpeg"]
DecodeCheck = Literal["full", "off"]

STORES: tuple[Store, ...] = ("webdataset", "parquet")

DriftKind = Literal["label", "target", "age", "sex", "view", "site", "intensity", "size", "group"]
"""What is compared between splits and between releases; the expectation is ``<kind>-drift``."""
DRIFT_LIMITS: Mapping[DriftKind, float] = {
    "label": 0.2,
    "target": 0.147,
    "age": 0.147,
    "sex": 0.1,
    "view": 0.1,
    "site": 0.1,
    "intensity": 0.147,
    "size": 0.147,
    "group": 0.147,
}
"""From which effect size on a split is said to differ, the lower end of its interval counting: where an effect is no
longer negligible, by Cohen's h (labels), Cramér's V (sex, view, site) or Cliff's delta: tasks/quality/effects.py."""


BLANK_CONTRAST = 0.008
"""Standard deviation as a share of the grey range (2 of 255); films of the five datasets have more than 0.05."""


class ScanmillError(Exception):
    """An error that a user can cause and mend; the command line shows its text alone and exits with 2."""


class UnusableInput(ScanmillError):
    """The raw release or the lake cannot be worked with: missing table or column, unreadable archive, full disk."""


class DataRefused(ScanmillError):
    """The data, or a gate, said no: nothing was published; the command line exits with 1."""


class AccountingError(ScanmillError):
    """The sums do not meet: something was lost or counted twice. Always a defect of scanmill, never published."""


@dataclass(frozen=True)
class Source:
    """One place where a raw release, or a part of it, can be had."""

    name: str
    """File name, or a pattern such as ``images_0NN.zip`` for a numbered series."""
    url: str
    size_bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    """Publisher's or observed MD5, where no SHA-256 is published."""
    note: str = ""


@dataclass(frozen=True)
class Remote:
    """Where a whole raw release can be fetched from, by machine."""

    kind: Literal["figshare", "physionet", "https"]
    where: str
    """figshare: article id; PhysioNet: ``project/version``; https: empty, the files are the dataset's ``sources``."""
    needs_account: bool = False
    """Whether the host wants a user name and a password: secrets ``<kind>-username`` and ``<kind>-password``."""
    access: str = ""
    """What a user without access has to do to get it."""


@dataclass(frozen=True)
class Lock:
    """The password that the publisher's archives are encrypted with."""

    secret: str
    """Name of the secret, see :mod:`tasks.credentials`."""
    access: str
    """Where the password is to be had."""


@dataclass(frozen=True)
class MemberRule:
    """What an archive member is, by its path; the first rule whose pattern is found in the path decides.

    An ``image`` pattern has a group ``key``: the part of the path, extension left out, that names the image
    throughout the release. Metadata rows refer to images by this key, and the sample id is the escaped key. The mask
    of an image is a member of kind ``mask`` with the same key. A ``document`` becomes part of a document release.
    """

    kind: Literal["image", "mask", "document", "table", "ignored"]
    pattern: str
    """Regular expression, searched in the member's path with forward slashes."""
    reason: str
    """Why it is not an image (stable code of the accounting), or ``image``."""
    role: str = ""
    """For a table: the name by which ``parse`` asks for it; empty where the table's header tells."""
    conceals: str = ""
    """Regular expression of what a key must not tell, such as a grade in a folder's name: its first group stays."""


@dataclass(frozen=True)
class TableForm:
    """One published layout of a table, told from the others by its header alone, whatever the file is called."""

    name: str
    """Short name, as ``--table`` takes it."""
    columns: tuple[str, ...] = ()
    """Column names that this form has beyond those of its rule."""
    trailing_cells: int | None = None
    """Empty cells at the end of the header; None where they tell nothing."""
    rows: int | None = None
    """Data rows of a complete table."""


@dataclass(frozen=True)
class TableRule:
    """What a metadata table must look like before ``parse`` sees it."""

    role: str
    columns: tuple[str, ...]
    """Column names that must be there, verbatim; for a list without header, the single name given to its lines."""
    has_header: bool = True
    is_required: bool = True
    forms: tuple[TableForm, ...] = ()
    """In order of preference where several are there: the newest whole table first, tables of a part last."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Column names seen in copies, to the publisher's own."""
    encoding: Literal["utf-8", "cp1252", "latin-1"] = "utf-8"
    """Of the published file; a byte order mark is never text. UTF-16 is not read."""
    separator: Literal[",", ";", "\t", "|"] = ","
    """Between cells."""


@dataclass(frozen=True)
class Table:
    """One metadata table as text: every cell a string, exactly as published."""

    role: str
    name: str
    """``archive/member``, for messages and quarantine."""
    rows: pd.DataFrame
    """dtype str, empty cells ``""``; the index is the 1-based number of the data row (header not counted)."""
    form: str = ""
    """Name of the :class:`TableForm` that the header has, where the rule declares any."""


MEMBERS = "members"
"""Role of a table that no publisher wrote: the image members themselves, columns ``archive member key``. ``parse`` gets
it beside the published tables, for releases whose rows are patients and whose images are found by their folder."""


DICOM = "dicom"
"""Role of the table of DICOM headers, which a dataset of DICOM files gets beside it: columns ``archive member key``,
then one per kept keyword, all text and ``""`` where absent; a row per image or frame. Rows of ``Parsed`` may name it as
their table."""
HEADERS = "(DICOM headers)"
"""What that table is called in accounts and quarantine: no file has such a name."""


@dataclass(frozen=True)
class Parsed:
    """What a dataset's ``parse`` returns.

    ``rows``: one line per sample to be; several may come from one metadata row. Columns ``table`` (role), ``row``
    (1-based), ``image`` (key of the image), then any canonical column (``patient_id``, ``group_id``, ``age_years``,
    ``sex``, ``view``, ``split``, ``boxes``), ``label.<name>``, ``target.<name>`` and ``meta.<publisher's column>``. A
    value that cannot be read is null; the publisher's text stays in ``meta``. Canonical columns left out become null.
    Columns ``check.<name>`` (text) are for the gates' eyes only and do not reach the sample table.

    ``extras``: rows of further tables (boxes, split lists) that belong to an image: ``table``, ``row``, ``image``.
    They are accounted for with the sample they describe; where ``problem`` (a reason code) is given, the row is refused
    for that, with ``detail``.
    """

    rows: pd.DataFrame
    extras: pd.DataFrame = field(default_factory=lambda: pd.DataFrame({"table": [], "row": [], "image": []}))


@dataclass(frozen=True)
class Known:
    """A defect that is known to be in the published data, declared with its number so a report says "known"."""

    code: str
    """The expectation's stable name, see :class:`Outcome`."""
    rows: int
    """How many rows of a complete copy fail it; more than this is new."""
    statement: str
    """One sentence that a clinician understands."""
    source: str
    """Where the number comes from."""
    forms: tuple[str, ...] = ()
    """Forms of the tables that it is true of; empty for all."""
    is_leak: bool = False
    """Whether what a model is scored on, or is to predict, can be seen in training: the card warns of it at its top."""


@dataclass(frozen=True)
class Count:
    """How many of something a complete copy has, as the publisher counted it."""

    what: str
    """In plain words, such as ``Hernia in test``."""
    number: int
    where: Mapping[str, Any] = field(default_factory=dict)
    """Column to the value that it must have; of boxes, their ``label``."""
    of: Literal["rows", "images", "patients", "single patients", "largest patient", "boxes"] = "rows"
    """Rows of the metadata tables; images with a row; different patients; those with one image; images of the patient
    with the most; boxes."""
    slack: int = 0
    """How far a sound copy may be from it."""


@dataclass(frozen=True)
class PublishedCounts:
    """Counts of a complete copy that belong together: one expectation of the metadata gate, a warning where one is off.

    Says nothing of a copy that is not complete, nor where a column that a count asks for has no value at all.
    """

    code: str
    sentence: str
    complete: Count
    """What tells a complete copy."""
    counts: tuple[Count, ...]
    forms: tuple[str, ...] = ()
    """Forms of the tables that it is true of; empty for all."""


@dataclass(frozen=True)
class Terms:
    """What may be done with a dataset and with what is made of it, whose it is, and how to cite it."""

    may_redistribute: bool | None = None
    """Whether its images, and so the shards, may be passed on; None where it depends or is not known: ask first."""
    redistribution: str = "Nothing is declared: ask the publisher before you pass anything on."
    """The same in plain words, with the reason."""
    licence_url: str = ""
    """Where the terms stand, for a licence that is not on the SPDX list."""
    images_licence: str = ""
    """Where the dataset's licence covers documents alone: what images are under, such as ``your own``."""
    duo: Mapping[str, str] = field(default_factory=dict)
    """Terms of the Data Use Ontology that hold, number to name: ``0000042`` to ``general research use``."""
    creators: tuple[str, ...] = ()
    """Persons by name; empty where only the publication names them."""
    publisher: str = ""
    bibtex: str = ""


@dataclass(frozen=True)
class Datasheet:
    """What is known of how a dataset came about and what it is fit for, by the questions of Gebru et al. (2021).

    Each part is a list of sentences that a clinician understands. What is not certain says so: ``(recalled)``,
    ``(inferred)``, ``(generally known)``. An empty part is shown as not known.
    """

    motivation: tuple[str, ...] = ()
    composition: tuple[str, ...] = ()
    collection: tuple[str, ...] = ()
    preprocessing: tuple[str, ...] = ()
    """What the publisher did to the images."""
    labelling: tuple[str, ...] = ()
    sensitive: tuple[str, ...] = ()
    """What it tells of persons."""
    uses: tuple[str, ...] = ()
    not_for: tuple[str, ...] = ()
    biases: tuple[str, ...] = ()
    limitations: tuple[str, ...] = ()
    maintenance: tuple[str, ...] = ()


@dataclass(frozen=True)
class Field:
    """A typed reading of something published that is neither canonical nor a label: ``meta.<name>``."""

    kind: Literal["int", "float", "text"]
    description: str
    """What it is, with its unit."""


@dataclass(frozen=True)
class ImageRules:
    """How the images of a dataset are kept, and what must hold for them."""

    size: int | None = None
    """Default length of the longer side in pixels after conversion; None keeps the published size."""
    channels: tuple[int, ...] = (1,)
    """Channel counts that may come out of conversion (grey-in-RGB is 1)."""
    min_side: int = 1
    """Shortest acceptable side of a published image, in pixels."""
    drops_alpha: bool = False
    """Whether an alpha channel that is not fully opaque may be dropped; opaque ones always are, recorded."""
    to_grey: bool = False
    """Whether colour becomes luma (ITU-R BT.601), recorded: for grey pictures on a screen with coloured signs."""
    hides_outside_scan: bool = False
    """Whether everything outside the scan sector is blackened, recorded: scanner screens have names and clocks."""


@dataclass(frozen=True)
class Dicom:
    """That the images of a dataset are DICOM files, and what becomes of their headers and grey levels: docs/dicom.md.

    An image's key is then its SOPInstanceUID, that of a frame of several ``<uid>/0001``; ``parse`` gets the headers
    under the role :data:`DICOM`.
    """

    keeps: tuple[str, ...] = ()
    """Keywords of elements that may leave the file, beyond the technical ones; one that tells who somebody is is
    refused (PS3.15, table E.1-1), but for PatientID, PatientSex, PatientAge and the UIDs of study, series and image."""
    window: Literal["none", "header"] | tuple[float, float] = "none"
    """``none`` keeps the stored numbers; ``header`` applies rescaling and window or LUT of the header, a pair rescaling
    and that window (centre, width, in rescaled units), both to 8 bits."""


@dataclass(frozen=True)
class Appearance:
    """What sound images of a dataset look like; the gate warns of others. Conversion does not depend on it."""

    bit_depths: tuple[int, ...] = (8,)
    sizes: tuple[tuple[int, int], ...] = ()
    """Width and height as published; empty where they vary."""
    mean_grey: tuple[float, float] = (0.02, 0.9)
    """Mean grey level over white of the darkest and the brightest image that one would not look at twice."""
    is_oriented: bool = False
    """Whether all images show the same part of the body the same way up, so that one that is turned, or a negative, can
    be told by the others."""
    fills_frame: bool = False
    """Whether the picture reaches all edges of the image, so that a border is padding or a shutter."""


@dataclass(frozen=True)
class Dataset:
    """Everything scanmill knows about one dataset, beside its ``parse`` function: a declaration, no behaviour."""

    name: str
    version: str
    """Version of this declaration; raise it when parsing changes."""
    title: str
    summary: str
    sources: tuple[Source, ...]
    licence: str
    citation: str
    homepage: str
    published: str
    """Year, or ISO date, of the publisher's release."""
    members: tuple[MemberRule, ...]
    tables: tuple[TableRule, ...]
    parse: Callable[[Mapping[str, Table]], Parsed]
    """Tables by role to rows; pure, touches no file."""
    labels: Mapping[str, str]
    """Label name to a short description; the column is ``label.<name>``, 1 present, 0 absent, null unknown."""
    label_kind: Literal["exclusive", "multiple"]
    """``exclusive``: exactly one label per sample; ``multiple``: any number."""
    splits: tuple[str, ...]
    """Every split in reading order."""
    labelled_splits: tuple[str, ...]
    """The splits between which nothing may leak."""
    group: Literal["patient", "picture"]
    """What must not cross labelled splits: the patient, or (no patient id published) all that shows one picture."""
    split: Callable[[pd.DataFrame], pd.Series] | None = None
    """Fills ``split`` where ``parse`` left it null, from ``group_id`` and labels; stable when rows are added."""
    near_duplicate: float = 0.72
    """From which similarity on (0–1, see :mod:`tasks.fingerprints.alignment`) two images show the same picture. Of
    unrelated phantom chests, which are more alike than patients, none is above 0.69; copies of one begin at 0.81,
    whether turned, mirrored, cropped by 5 %, brightened, compressed or scaled (tests/bench/near_duplicates.py)."""
    carved: tuple[str, str] | None = None
    """The two splits that we deal out of one of the publisher's, the larger first; labels should be spread evenly."""
    image: ImageRules = ImageRules()
    dicom: Dicom | None = None
    """Where the images are DICOM files; their rules' keys are then of no account."""
    appearance: Appearance = Appearance()
    samples: int | None = None
    """Number of samples in a complete copy."""
    samples_slack: int = 0
    """How far a sound copy may be from it, where the number is a paper's and not counted on the files."""
    targets: Mapping[str, str] = field(default_factory=dict)
    """Target name to unit; the column is ``target.<name>``."""
    has_boxes: bool = False
    has_masks: bool = False
    """Whether every image comes with a mask of what it shows, of the same size."""
    remote: Remote | None = None
    """Where ``prepare`` fetches the raw release from when none is given."""
    lock: Lock | None = None
    """The password of encrypted archives; None where none are expected."""
    is_restricted: bool = False
    """Whether its terms forbid showing single rows or pictures: reports and logs then hold aggregates only."""
    has_number_columns: bool = False
    """Whether a published column with nothing but numbers becomes a column of numbers, ``meta.<column>``."""
    fields: Mapping[str, Field] = field(default_factory=dict)
    """Typed columns ``meta.<name>`` beside the publisher's own, which stay text."""
    parts: tuple[tuple[str, str], ...] = ()
    """Archives of a complete copy, in order, each with the key of its last image: they tell what is missing."""
    expectations: tuple[Mapping[str, Any], ...] = ()
    """Expectations beyond the common ones, as plain mappings (see ``expectations/declaring.py``)."""
    site: str = ""
    """Column ``meta.<name>`` that names the hospital a sample is from, where more than one gave any."""
    drift: Mapping[DriftKind, float] = field(default_factory=dict)
    """Limits other than :data:`DRIFT_LIMITS`."""
    known: tuple[Known, ...] = ()
    counts: tuple[PublishedCounts, ...] = ()
    terms: Terms = Terms()
    datasheet: Datasheet = Datasheet()
    tolerance: float = 0.01
    """Largest share of rows that one error-severity expectation may send to quarantine before the gate fails."""
    allow_missing: float | None = None
    """Largest share of metadata rows without image; None is ``tolerance``."""
    is_decoded: bool = True
    """Whether the pixels of every image are looked at; False of a release that is prepared with ``--decode-check off``:
    then nothing that takes pixels is known or judged, and identical files are the only identical images."""

    def drift_limits(self) -> dict[DriftKind, float]:
        """What of this dataset is compared, each with its limit."""
        absent = {"label": not self.labels, "target": not self.targets, "site": not self.site}
        return {kind: limit for kind, limit in {**DRIFT_LIMITS, **self.drift}.items() if not absent.get(kind)}

    def judged_by(self, forms: Collection[str]) -> Dataset:
        """The declaration as it holds for tables of these forms: known defects, published counts, number of samples."""
        known_forms = [form for rule in self.tables for form in rule.forms if form.name in forms]
        rows = [form.rows for form in known_forms if form.rows is not None]
        known = tuple(k for k in self.known if not k.forms or set(k.forms) & set(forms))
        counts = tuple(c for c in self.counts if not c.forms or set(c.forms) & set(forms))
        return replace(self, known=known, counts=counts, samples=rows[0] if rows else self.samples)


@dataclass(frozen=True)
class Transform:
    """What conversion does to every image; part of a chunk's and of a release's digest."""

    size: int | None
    """Longer side in pixels after area-averaged reduction; None keeps the size. Never enlarges, pads or crops."""
    encoding: Encoding = "png"
    quality: int | None = None
    """JPEG quality, 1–100; None for PNG."""
    decode_check: DecodeCheck = "full"
    """``off`` passes on undecoded what is stored as published; see :mod:`tasks.pass_through`."""

    @property
    def extension(self) -> str:
        """File extension in both stores, without the dot."""
        return {"png": "png", "jpeg": "jpg"}[self.encoding]


@dataclass(frozen=True)
class Outcome:
    """What one expectation found."""

    gate: GateName
    code: str
    """Stable name of the expectation; also the reason code of the rows it sends to quarantine."""
    sentence: str
    """What must hold, in words that a clinician understands."""
    severity: Severity
    tolerance: float
    """Share of rows that may fail, 0–1."""
    checked: int
    failed: int
    status: Status
    """passed: nothing failed · tolerated: failing rows were set aside, within the tolerance · known: as declared ·
    warned: worth a look, blocks nothing · unchecked: nobody looked, for it takes pixels and no image was decoded ·
    failed: the gate says no."""
    observed: str = ""
    """What was seen where the expectation is not about rows (a count, a set of columns), else counts of failing rows by
    where they belong, or up to five examples."""
    known_rows: int | None = None
    source: str = ""
    remedy: str = ""
    """What a user can do about it where the gate says no."""


@dataclass(frozen=True)
class Verdict:
    """What one gate said."""

    gate: GateName
    outcomes: tuple[Outcome, ...]

    @property
    def passed(self) -> bool:
        """Whether no outcome has failed."""
        return all(outcome.status != "failed" for outcome in self.outcomes)

    @property
    def unchecked(self) -> tuple[str, ...]:
        """Codes of the expectations that were not judged: none of them has passed."""
        return tuple(outcome.code for outcome in self.outcomes if outcome.status == "unchecked")

    def as_json(self) -> dict[str, Any]:
        """Plain mapping for report.json and the manifest."""
        return {"gate": self.gate, "passed": self.passed, "outcomes": [asdict(o) for o in self.outcomes]}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Verdict:
        """The inverse of :meth:`as_json`."""
        return Verdict(gate=value["gate"], outcomes=tuple(Outcome(**o) for o in value["outcomes"]))


@dataclass(frozen=True)
class TableCount:
    """Rows of one metadata table: found = written + quarantined."""

    table: str
    found: int
    written: int
    quarantined: int


@dataclass(frozen=True)
class Accounting:
    """Where everything that was found has gone. ``members`` are archive members, directories not counted; a written
    sample is one of them, or with its mask two."""

    members: int
    written: int
    quarantined: int
    ignored: Mapping[str, int]
    """Reason code to number of members left out by rule."""
    tables: tuple[TableCount, ...]
    reasons: Mapping[str, int]
    """Reason code to number of quarantine rows."""

    def check(self) -> None:
        """Raise :class:`AccountingError` unless every sum meets."""
        seen = self.written + self.quarantined + sum(self.ignored.values())
        if seen != self.members:
            raise AccountingError(
                f"members: {self.members} found, but {self.written} written + {self.quarantined} quarantined + "
                f"{sum(self.ignored.values())} ignored = {seen}"
            )
        for count in self.tables:
            if count.written + count.quarantined != count.found:
                raise AccountingError(
                    f"rows of {count.table}: {count.found} found, but {count.written} written + "
                    f"{count.quarantined} quarantined = {count.written + count.quarantined}"
                )

    def as_json(self) -> dict[str, Any]:
        """Plain mapping, reasons sorted by name."""
        value = asdict(self)
        value["ignored"] = dict(sorted(self.ignored.items()))
        value["reasons"] = dict(sorted(self.reasons.items()))
        return value

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Accounting:
        """The inverse of :meth:`as_json`."""
        return Accounting(**{**value, "tables": tuple(TableCount(**t) for t in value["tables"])})


BOX = pa.struct(
    [("label", pa.string()), ("x", pa.float64()), ("y", pa.float64()), ("w", pa.float64()), ("h", pa.float64())]
)
"""One box: top-left corner and extent, in pixels of the published (``boxes``) or stored image (``boxes_scaled``)."""

CANONICAL: tuple[tuple[str, pa.DataType], ...] = (
    ("sample_id", pa.string()),
    ("archive", pa.string()),
    ("member", pa.string()),
    ("patient_id", pa.string()),
    ("group_id", pa.string()),
    ("age_years", pa.float64()),
    ("sex", pa.string()),
    ("view", pa.string()),
    ("split", pa.string()),
)

IMAGE_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("source_bytes", pa.int64()),
    ("source_sha256", pa.string()),
    ("source_mode", pa.string()),
    ("source_width", pa.int32()),
    ("source_height", pa.int32()),
    ("width", pa.int32()),
    ("height", pa.int32()),
    ("channels", pa.int8()),
    ("bit_depth", pa.int8()),
    ("pixel_sha256", pa.string()),
    ("image_bytes", pa.int64()),
    ("image_sha256", pa.string()),
    ("transform", pa.string()),
    ("intensity_min", pa.float64()),
    ("intensity_max", pa.float64()),
    ("intensity_mean", pa.float64()),
    ("intensity_std", pa.float64()),
    ("dark_share", pa.float64()),
    ("bright_share", pa.float64()),
    ("contrast", pa.float64()),
    ("border_top", pa.int32()),
    ("border_right", pa.int32()),
    ("border_bottom", pa.int32()),
    ("border_left", pa.int32()),
    ("text_regions", pa.int32()),
    ("text_share", pa.float64()),
    ("side_markers", pa.int32()),
)
"""Facts of one converted image. ``source_*`` describe the published file; ``pixel_sha256`` is the hash of the decoded,
normalised pixels at published size (shape and dtype included); ``intensity_*`` are in grey levels of ``bit_depth``
(0–255 for 8, 0–65535 for 16) at published size; ``transform`` says what was done, step by step. From ``dark_share`` on,
see :mod:`tasks.image_checks`."""

HEADER_COLUMNS = (
    "source_bytes",
    "source_sha256",
    "source_mode",
    "source_width",
    "source_height",
    "width",
    "height",
    "channels",
    "bit_depth",
    "image_bytes",
    "image_sha256",
    "transform",
)
"""Those that a file and its header tell; the others take pixels, and are null in a release whose images were not
decoded (:attr:`Dataset.is_decoded`)."""

COMPARED_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("looks_inverted", pa.bool_()),
    ("looks_turned_degrees", pa.int16()),
)
"""What the others of its dataset tell of an image, see :mod:`tasks.orientation`; null where nothing can be told."""

MASK_COLUMNS: tuple[tuple[str, pa.DataType], ...] = (
    ("mask_archive", pa.string()),
    ("mask_member", pa.string()),
    ("mask_source_sha256", pa.string()),
    ("mask_sha256", pa.string()),
    ("mask_bytes", pa.int64()),
    ("mask_area", pa.float64()),
    ("mask_x", pa.int32()),
    ("mask_y", pa.int32()),
    ("mask_w", pa.int32()),
    ("mask_h", pa.int32()),
    ("mask_touches_border", pa.bool_()),
)
"""Facts of the mask of one image, in datasets that have masks. ``mask_source_sha256`` is the hash of the published
file, ``mask_sha256`` that of the stored one; ``mask_area`` is the share of the image's pixels that are inside,
``mask_x`` to ``mask_h`` their bounding box, both at published size."""

MASK_REASONS = ("mask-undecodable", "mask-size", "mask-empty", "mask-parts")
"""Why conversion refuses an image for its mask."""

QUARANTINE = pa.schema(
    [
        ("archive", pa.string()),
        ("member", pa.string()),
        ("offset", pa.int64()),
        ("table", pa.string()),
        ("row", pa.int64()),
        ("sample_id", pa.string()),
        ("stage", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
        ("source_bytes", pa.int64()),
        ("source_sha256", pa.string()),
    ]
)
"""One row per refused archive member (``archive``, ``member``, ``offset`` set), per refused metadata row (``table``,
``row`` set), or per refused pair of both."""


FIELD_TYPES = {"int": pa.int64(), "float": pa.float64(), "text": pa.string()}


def sample_schema(dataset: Dataset, meta: Mapping[str, pa.DataType], *, is_placed: bool = True) -> pa.Schema:
    """Schema of the sample table of one dataset; ``meta`` are its columns ``meta.*`` with their types.

    ``is_placed`` adds where a written sample lies: ``shard`` (``<split>/000000``), ``row`` in it, and ``tar_offset``,
    the byte offset of the image in the tar.
    """
    columns = [*CANONICAL]
    columns += [(f"label.{name}", pa.int8()) for name in dataset.labels]
    columns += [(f"target.{name}", pa.float64()) for name in dataset.targets]
    if dataset.has_boxes:
        columns += [("boxes", pa.list_(BOX)), ("boxes_scaled", pa.list_(BOX))]
    columns += meta.items()
    columns += [*IMAGE_COLUMNS, *COMPARED_COLUMNS]
    if dataset.has_masks:
        columns += MASK_COLUMNS
    if is_placed:
        columns += [("shard", pa.string()), ("row", pa.int32()), ("tar_offset", pa.int64())]
    return pa.schema(columns)
