"""What is fuzzed: each target takes bytes, and raises only what callers turn into words or a quarantine row."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pyarrow as pa
from pydantic import SecretStr

import scanmill
from scanmill import images as reading
from scanmill.stores import _files_of
from tasks import archives, tarballs
from tasks.archives import Archive, Member, MemberRefused
from tasks.datasets import catalogue
from tasks.decoding import ImageRefused
from tasks.dicom import headers
from tasks.dicom.pixels import decode as decode_dicom
from tasks.documents.docx import DocumentRefused, extract, parquet_bytes
from tasks.images import convert
from tasks.lake import Lake
from tasks.limits import DEFAULT
from tasks.release.manifest import name_of
from tasks.release.signature import private_key, public_key
from tasks.release.verify import IDENTITY, verify
from tasks.samples import escape_key, index_members, join, set_nested_copies_aside, unescape_key
from tasks.schema import MEMBERS, Dicom, ImageRules, Remote, ScanmillError, Table, TableRule, Transform
from tasks.sources import figshare, physionet
from tasks.sources.listing import insist_on_safe_paths
from tasks.sources.remote_release import read_file_list
from tasks.split_file import splits_of
from tasks.tables import form_of, header_of, read_table, recognise
from tests import strangers, tiny_releases
from tests.fuzz import seeds
from tests.fuzz.mutation import mutated, mutated_json

Mutate = Callable[..., bytes]
REFUSALS = (ScanmillError, MemberRefused, ImageRefused, DocumentRefused, scanmill.ReleaseRefused)
"""What callers expect."""
MEMBERS_READ = 8


@dataclass(frozen=True)
class Target:
    """One parser."""

    run: Callable[[bytes], object]
    seeds: Callable[[], list[bytes]]
    words: tuple[bytes, ...] = ()
    mutate: Mutate = mutated


@functools.cache
def _folder() -> Path:
    made = tempfile.TemporaryDirectory(prefix="scanmill-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    _folders.append(made)
    return Path(made.name)


_folders: list[tempfile.TemporaryDirectory[str]] = []


def _written(name: str, data: bytes) -> Path:
    """A file of these bytes; what an earlier one of its name left in caches is forgotten."""
    for cached in (archives._opened, archives._stream, *_tar_caches()):
        cached.cache_clear()
    path = _folder() / name
    path.write_bytes(data)
    return path


def _tar_caches() -> Iterator[Any]:
    from tasks.tarballs import reading as tar_reading

    yield from (tar_reading._is_packed, tar_reading._plain, tar_reading._indexed, tar_reading._from_the_start)


def _read_archive(archive: Archive) -> None:
    for member in [m for m in archives.list_members(archive) if not m.problem][:MEMBERS_READ]:
        try:
            archives.read_member(archive, member.name, member.offset, member.crc32)
        except MemberRefused:
            continue


def zip_archive(data: bytes) -> None:
    """Directory and members of a zip."""
    _read_archive(Archive("a.zip", "zip", (str(_written("a.zip", data)),)))


def locked_zip(data: bytes) -> None:
    """The same with a password."""
    path = str(_written("b.zip", data))
    _read_archive(Archive("b.zip", "zip", (path,), is_lockable=True, password=SecretStr(seeds.PASSWORD)))


def tar_archive(data: bytes) -> None:
    """Listing and members of a tar, with seek points."""
    seek = _folder() / "seek"
    path = _written("c.tar", data)
    tarballs.insist_on_content(path)
    tarballs.forget(str(seek))
    _read_archive(Archive("c.tar", "tar", (str(path),), seek=str(seek)))


def _rules() -> list[tuple[str, TableRule]]:
    return [(name, rule) for name, dataset in catalogue().items() for rule in dataset.tables]


def table(data: bytes) -> None:
    """A table of a dataset (the first byte says which), with sound ones beside it, parsed and joined."""
    name, rule = _rules()[(data[0] if data else 0) % len(_rules())]
    dataset = catalogue()[name]
    content = data[1:]
    recognise(dataset.tables, content)
    if rule.forms and form_of(rule, header_of(rule, content)) is None:
        return  # no table of this dataset, which is said
    tables = {role: table for role, table in _sound(name).items() if role != rule.role}
    tables[rule.role] = read_table(rule, "table.csv", content)
    if any(other.is_required and other.role not in tables for other in dataset.tables):
        return
    index = _index(name)
    images = index.loc[index["kind"] == "image", ["archive", "member", "key"]].drop_duplicates("key")
    parsed = dataset.parse({**tables, MEMBERS: Table(MEMBERS, MEMBERS, images.reset_index(drop=True))})
    join(index.copy(), parsed, tables, dataset)


@functools.cache
def _sound(name: str) -> dict[str, Table]:
    rules = {rule.role: rule for rule in catalogue()[name].tables}
    found: dict[str, Table] = {}
    for path in sorted((seeds.CORPUS / "tables").glob(f"{name}.*")):
        role = path.name.split(".")[1]
        found.setdefault(role, read_table(rules[role], path.name, path.read_bytes()))
    return found


@functools.cache
def _index(name: str) -> pd.DataFrame:
    path = seeds.CORPUS / "members" / f"{name}.txt"
    names = path.read_text("utf-8").splitlines() if path.exists() else []
    return index_members([Member("a.zip", member, at, 1, 1) for at, member in enumerate(names)], catalogue()[name])


def table_seeds() -> list[bytes]:
    """Tables of every dataset, each behind the number of its rule."""
    numbers = {(name, rule.role): number for number, (name, rule) in enumerate(_rules())}
    made = []
    for path in sorted((seeds.CORPUS / "tables").glob("*.*.*")):
        dataset, role = path.name.split(".")[:2]
        made.append(bytes([numbers[dataset, role]]) + path.read_bytes())
    return made


def names(data: bytes) -> None:
    """Member names, one a line, through every dataset's rules, and the ids that come of them."""
    lines = data.decode("utf-8", "backslashreplace").split("\n")[:40]
    members = [Member("a.zip", line, at, 1, 1) for at, line in enumerate(lines)]
    for dataset in catalogue().values():
        index = set_nested_copies_aside(index_members(members, dataset))
        for key in index.loc[index["kind"] == "image", "key"]:
            sample_id = escape_key(key)
            if unescape_key(sample_id) != key:
                raise AssertionError(f"{key!r} came back as {unescape_key(sample_id)!r}")


def name_seeds() -> list[bytes]:
    """Members of every dataset."""
    return [path.read_bytes() for path in sorted((seeds.CORPUS / "members").glob("*.txt"))]


def document(data: bytes) -> None:
    """A Word file, with its tables as Parquet."""
    for found in extract(data).tables:
        parquet_bytes(found)


def picture(data: bytes) -> None:
    """A published image, converted."""
    convert(data, Transform(size=16), ImageRules())


def dicom(data: bytes) -> None:
    """A DICOM file: its header, and the first and the last of its frames, by numbers and by window."""
    limits = replace(DEFAULT, image_mib=8, member_mib=32)
    header = headers.header_of(data, len(data), ("PatientID",), limits)
    if header.problem:
        return
    for frame in {1, header.frames}:
        for window in ("none", "header", (40.0, 400.0)):
            with contextlib.suppress(ImageRefused):
                decode_dicom(data, frame, Dicom(window=window), limits)


def shard_picture(data: bytes) -> None:
    """An image out of a shard, by both decoders of the loader."""
    for decode in (reading.decode, reading.decode_alone):
        decode(data)


def shard_table(data: bytes) -> None:
    """A Parquet shard."""
    for row in _files_of(data, ("image",), "shard", "")["image"]:
        row.as_buffer()


def shard_seeds() -> list[bytes]:
    """Parquet shards of a tiny release."""
    return [path.read_bytes() for path in _tiny().glob("parquet/*/*.parquet")]


@functools.cache
def _tiny() -> Path:
    made = strangers.whole_release(_folder() / "lake")
    (made.parent.parent / "latest.json").unlink()  # nobody vouches for a stranger's
    return made


def manifest_seeds() -> list[bytes]:
    """Of a tiny release."""
    return [_tiny_manifest()]


@functools.cache
def _tiny_manifest() -> bytes:
    return (_tiny() / "manifest.json").read_bytes()


def manifest(data: bytes) -> None:
    """A stranger's manifest beside sound files, under the name that it asks for."""
    name = _tiny().name
    try:
        content = json.loads(data)
        about = {key: content.get(key) for key in IDENTITY}
        name = name_of(about, content.get("inputs", []))
        content["release"] = name
        data = json.dumps(content).encode()
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass
    folder = _tiny().parent / name
    if folder != _tiny():
        shutil.copytree(_tiny(), folder, copy_function=_linked, dirs_exist_ok=True)
        (folder / "manifest.json").unlink(missing_ok=True)
    (folder / "manifest.json").write_bytes(data)
    try:
        verify(Lake(str(_tiny().parent.parent.parent), tiny_releases.DATASET), name)
        _read_release(folder)
    finally:
        if folder != _tiny():
            shutil.rmtree(folder)


def _linked(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


def _read_release(folder: Path) -> None:
    release = scanmill.open_release(folder, allow_failed_gates=True)
    try:
        loader = scanmill.Loader(release, size=8, threads=1, batch_size=2)
    except ValueError as error:  # what is asked for and cannot be had is an argument's error, in words
        if type(error) is not ValueError:
            raise
        return
    for _ in loader:
        pass


def sample_table(data: bytes) -> None:
    """A stranger's sample table, with a manifest that vouches for it."""
    folder = _tiny()
    content = json.loads(_tiny_manifest())
    for entry in content["files"]:
        if entry["path"] == "samples.parquet":
            entry.update(bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
    kept = (folder / "samples.parquet").read_bytes()
    try:
        (folder / "samples.parquet").write_bytes(data)
        (folder / "manifest.json").write_text(json.dumps(content))
        verify(Lake(str(folder.parent.parent.parent), tiny_releases.DATASET), folder.name)
        _read_release(folder)
    finally:
        (folder / "samples.parquet").write_bytes(kept)


def sample_seeds() -> list[bytes]:
    """The sound one."""
    return [(_tiny() / "samples.parquet").read_bytes()]


def odd_table(rng: Any, data: bytes, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """A column dropped, emptied, of another type or with an odd value; now and then bytes without regard to that."""
    if rng.random() < 0.2:
        return mutated(rng, data, others, words)
    try:
        frame = pd.read_parquet(io.BytesIO(data))
        name = rng.choice(list(frame.columns))
        match rng.randrange(4):
            case 0:
                frame = frame.drop(columns=name)
            case 1:
                frame[name] = None
            case 2:
                frame[name] = [rng.choice((None, -1, 0, 2**31, 2**62)) for _ in range(len(frame))]
            case _:
                frame[name] = rng.choice(("", "..", "../../x", "/etc/passwd", "a/b/c", b"\xff", 1.5, True))
        buffer = io.BytesIO()
        frame.to_parquet(buffer)
        return buffer.getvalue()
    except (ValueError, KeyError, IndexError, TypeError, OverflowError, pa.ArrowException, OSError):
        return mutated(rng, data, others, words)


def figshare_article(data: bytes) -> None:
    """What the API answers."""
    answer = json.loads(data) if _is_json(data) else None
    if not isinstance(answer, dict):
        answer = {"article": answer, "files": answer}

    def asked(url: str, *, params: Any = None) -> Any:
        return answer.get("files") if url.endswith("/files") else answer.get("article")

    web: Any = SimpleNamespace(base="https://figshare.example", json=asked)
    found = figshare.look(Remote("figshare", "26389069"), web, "")
    if found is not None:
        insist_on_safe_paths(found.files)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True


def physionet_sums(data: bytes) -> None:
    """A digest list."""
    answer = SimpleNamespace(status_code=200, content=data, headers={}, text=data.decode("utf-8", "replace"))
    web: Any = SimpleNamespace(base="https://physionet.example", get=lambda url, headers: answer)
    found = physionet.look(Remote("physionet", "chexchonet/1.0.0"), web, "")
    if found is not None:
        insist_on_safe_paths(found.files)


def file_list(data: bytes) -> None:
    """A user's list of addresses."""
    read_file_list(_written("list.txt", data))


def split_file(data: bytes) -> None:
    """A user's table of splits, as CSV and as Parquet."""
    rows = pd.DataFrame({"image": ["1", "2"], "patient_id": ["1", "2"], "group_id": ["1", "2"]})
    for name in ("splits.csv", "splits.parquet"):
        try:
            splits_of(_written(name, data), rows, catalogue()["nih-chest-xray"])
        except ScanmillError:
            continue


def split_seeds() -> list[bytes]:
    """Both forms."""
    frame = pd.DataFrame({"image": ["1", "2"], "split": ["train", "test"]})
    buffer = io.BytesIO()
    frame.to_parquet(buffer)
    return [frame.to_csv(index=False).encode(), buffer.getvalue()]


def key(data: bytes) -> None:
    """A key file, public or private."""
    for read in (lambda path: public_key(str(path)), private_key):
        try:
            read(_written("key.pem", data))
        except ScanmillError:
            continue


def key_seeds() -> list[bytes]:
    """One of each, made up."""
    from tasks.release.signature import make_key

    path = _folder() / "made.key"
    if not path.exists():
        make_key(path)
    return [path.read_bytes(), Path(f"{path}.pub").read_bytes()]


def _image_words() -> tuple[bytes, ...]:
    return (
        b"IHDR",
        b"IDAT",
        b"PLTE",
        b"tRNS",
        b"iCCP",
        b"zTXt",
        b"acTL",
        b"eXIf",
        b"IEND",
        b"\xff\xd8",
        b"\xff\xc0",
        b"\xff\xc2",
        b"\xff\xda",
        b"\xff\xe1",
        b"\xff\xee",
        b"Exif\0\0",
        b"II*\0",
        b"MM\0*",
        b"RIFF",
        b"WEBP",
    )


DICOM_WORDS = (
    b"DICM",
    b"\x02\x00\x10\x00UI",
    b"\x28\x00\x10\x00US\x02\x00",
    b"\x28\x00\x08\x00IS\x02\x00",
    b"\xe0\x7f\x10\x00OW\0\0",
    b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff",
    b"\xfe\xff\x00\xe0",
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
    b"\xfe\xff\x0d\xe0\0\0\0\0",
    b"\xfe\xff\xdd\xe0\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"SQ\0\0\xff\xff\xff\xff",
    b"UN",
    b"1.2.840.10008.1.2.4.70",
    b"1.2.840.10008.1.2.1.99",
    b"MONOCHROME1",
    b"PALETTE COLOR",
    b"YBR_FULL_422",
    b"\xff\xc3",
    b"\xff\x4f\xff\x51",
)
ZIP_WORDS = (b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"../", b"\\", b"\0", b"C:")
TAR_WORDS = (b"ustar\0", b"ustar  \0", b"0000000\0", b"7777777\0", b"-1", b"x", b"L", b"S", b"\x1f\x8b\x08", bytes(512))
CSV_WORDS = (
    b'"',
    b",",
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b"\xef\xbb\xbf",
    b"=1+1",
    b"|",
    b"-",
    b"1e400",
    b"nan",
    b"999Y",
    b"00000001_000.png",
    b"No Finding",
    b"1.5",
    "é".encode(),
    "\u2028".encode(),
    b"x" * 200_000,
)
XML_WORDS = (
    b"<w:tbl>",
    b"</w:tbl>",
    b'<w:gridSpan w:val="9999"/>',
    b"<w:vMerge/>",
    b'<!DOCTYPE x [<!ENTITY a "b">]>',
    b"&a;",
    b"<w:p>",
    b"</w:p>",
    b"<w:r>",
    b'<w:ilvl w:val="-1"/>',
    b'r:embed="x"',
    b"]]>",
)
NAME_WORDS = (
    b"/",
    b"..",
    b"\n",
    b"\\",
    b".png",
    b".PNG",
    b"images/",
    b"a/a/",
    b"\xff",
    "ü".encode(),
    b"-2d",
    b"--",
    b"\0",
    b"_" * 5000,
    b"0" * 5000,
    b"/" * 2000,
)

TARGETS: dict[str, Target] = {
    "zip": Target(zip_archive, seeds.zips, ZIP_WORDS),
    "locked-zip": Target(locked_zip, lambda: seeds.locked_zips(_folder()), ZIP_WORDS),
    "tar": Target(tar_archive, seeds.tars, TAR_WORDS),
    "table": Target(table, table_seeds, CSV_WORDS),
    "names": Target(names, name_seeds, NAME_WORDS),
    "docx": Target(document, seeds.documents, (*XML_WORDS, *ZIP_WORDS)),
    "image": Target(picture, seeds.pictures, _image_words()),
    "dicom": Target(dicom, seeds.dicoms, DICOM_WORDS),
    "shard-image": Target(shard_picture, seeds.pictures, _image_words()),
    "shard-parquet": Target(shard_table, shard_seeds, (b"PAR1",)),
    "manifest": Target(manifest, manifest_seeds, mutate=mutated_json),
    "sample-table": Target(sample_table, sample_seeds, (b"PAR1",), odd_table),
    "figshare": Target(figshare_article, seeds.articles, mutate=mutated_json),
    "physionet": Target(physionet_sums, seeds.sums, (b"../", b"\r", b"*", b" ", b"\xff")),
    "file-list": Target(file_list, seeds.file_lists, (b"https://", b"@", b"[", b"]", b"#", b"%00", b"%", b":99999")),
    "split-file": Target(split_file, split_seeds, (*CSV_WORDS, b"PAR1")),
    "key": Target(key, key_seeds, (b"-----BEGIN", b"-----END", b"RSA PRIVATE KEY-----")),
}


def outcome(target: Target, data: bytes) -> BaseException | None:
    """What was raised that should not have been."""
    try:
        target.run(data)
    except REFUSALS:
        return None
    except Exception as error:
        return error
    return None
