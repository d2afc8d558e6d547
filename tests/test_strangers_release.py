"""A release made by a stranger: refused in words or read for what it is; nothing outside it is opened, nothing runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import scanmill
from tasks.learning.admission import find_release, insist_on_whole
from tasks.release.stored import read_stored
from tasks.schema import DataRefused
from tests.command import scanmill as command
from tests.strangers import FILES, entry_of, vouch, watching_opens, whole_release
from tests.tiny_releases import DATASET


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A whole release, to be made hostile."""
    return whole_release(tmp_path / "lake")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A file that no release may lead to."""
    path = tmp_path / "outside" / "private.txt"
    path.parent.mkdir()
    path.write_text("private")
    return path


def listing(folder: Path, outside: Path, path: str) -> None:
    """A manifest that lists the file outside, rightly hashed, under this path."""
    entry = {**entry_of(outside.parent, outside.name), "path": path}
    vouch(folder, files=[*(entry_of(folder, name) for name in FILES), entry])


def linked(folder: Path, outside: Path) -> None:
    (folder / "extra.txt").symlink_to(outside)
    listing(folder, outside, "extra.txt")


def linked_folder(folder: Path, outside: Path) -> None:
    (folder / "extra").symlink_to(outside.parent)
    listing(folder, outside, "extra/private.txt")


def piped(folder: Path, outside: Path) -> None:
    os.mkfifo(folder / "extra.txt")
    vouch(
        folder, files=[*(entry_of(folder, name) for name in FILES), {**entry_of(folder, FILES[0]), "path": "extra.txt"}]
    )


def linked_shard(folder: Path, outside: Path) -> None:
    shard = next(folder.glob("webdataset/*/*.tar"))
    shutil.move(shard, outside)
    shard.symlink_to(outside)


def linked_manifest(folder: Path, outside: Path) -> None:
    shutil.move(folder / "manifest.json", outside)
    (folder / "manifest.json").symlink_to(outside)


LEADING_OUT: dict[str, Callable[[Path, Path], object]] = {
    "a path with ..": lambda folder, outside: listing(folder, outside, "../../../../outside/private.txt"),
    "an absolute path": lambda folder, outside: listing(folder, outside, str(outside)),
    "a path with backslashes": lambda folder, outside: listing(folder, outside, "..\\..\\private.txt"),
    "a link": linked,
    "a link to a folder": linked_folder,
    "a shard that is a link": linked_shard,
    "a pipe": piped,
}


@pytest.mark.parametrize("kind", LEADING_OUT)
def test_what_leads_out_is_refused_unread(kind: str, folder: Path, outside: Path) -> None:
    LEADING_OUT[kind](folder, outside)
    lake = str(folder.parent.parent.parent)
    with watching_opens() as opened_below:
        result = command("verify", folder.parent.parent)
        with pytest.raises(scanmill.ReleaseRefused):
            scanmill.open_release(folder.parent.parent)
        with pytest.raises(DataRefused):
            insist_on_whole(lake, find_release(lake, DATASET, None))
        assert opened_below(outside.parent) == []
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Traceback" not in result.stderr


def test_a_link_among_what_no_digest_covers_is_found(folder: Path, outside: Path) -> None:
    (folder / "quality" / "index.html").unlink()
    (folder / "quality" / "index.html").symlink_to(outside)
    result = command("verify", folder.parent.parent)
    assert (result.exit_code, "quality/index.html: is a link" in result.stderr) == (1, True)


def test_a_manifest_that_is_a_link_is_not_verified(folder: Path, outside: Path) -> None:
    linked_manifest(folder, outside)
    assert "is a link" in command("verify", folder.parent.parent).stderr


@pytest.mark.parametrize("release", ["../../../outside", "/etc", "..", "", "x"])
def test_a_pointer_leads_to_releases_alone(release: str, folder: Path) -> None:
    home = folder.parent.parent
    (home / "latest.json").write_text(json.dumps({"release": release, "manifest_sha256": "0" * 64}))
    with pytest.raises(scanmill.ReleaseRefused, match="no release id"):
        scanmill.open_release(home)
    assert "is damaged" in command("verify", home).stderr


ODD_MANIFESTS: dict[str, dict[str, Any]] = {
    "has path": {"files": [{"path": "..", "bytes": 1, "sha256": "0" * 64}]},
    "has no sha256": {"files": [{"path": "a", "bytes": 1}]},
    "has bytes -1": {"files": [{"path": "a", "bytes": -1, "sha256": "0" * 64}]},
    "an entry of 'shards' cannot be": {"shards": ["a.tar"]},
    "'splits' cannot be": {"splits": {"train": 3}},
    "'gates' cannot be": {"gates": {"images": "yes"}},
    "'inputs' cannot be": {"inputs": [1]},
    "is listed twice": {"files": [{"path": "a", "bytes": 1, "sha256": "0" * 64}] * 2},
}


@pytest.mark.parametrize("words", ODD_MANIFESTS)
def test_a_manifest_of_another_shape_is_refused_in_words_by_all(words: str, folder: Path) -> None:
    vouch(folder, **ODD_MANIFESTS[words])
    home = folder.parent.parent
    lake = str(home.parent)
    assert words in command("verify", home).stderr
    with pytest.raises(scanmill.ReleaseRefused, match=words):
        scanmill.open_release(home)
    with pytest.raises(DataRefused, match=words):
        find_release(lake, DATASET, None)


def test_no_command_stumbles_over_it(folder: Path) -> None:
    vouch(folder, shards=["a.tar"], inputs=[1])
    home = folder.parent.parent
    for arguments in (["verify", home], ["diff", home, home], ["trace", home, "train-0000"], ["report", home]):
        result = command(*arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), (arguments, result.exception)


def test_a_release_of_another_dataset_is_not_trained_from(folder: Path) -> None:
    vouch(folder, dataset="../elsewhere")
    with pytest.raises(DataRefused, match="is of dataset"):
        find_release(str(folder.parent.parent.parent), DATASET, None)


ODD_COLUMNS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "it has no column 'shard'": lambda samples: samples.drop(columns="shard"),
    "-1": lambda samples: samples.assign(row=-1),
    "cells that are no whole number": lambda samples: samples.assign(image_bytes="many"),
    "cells that are no text": lambda samples: samples.assign(sample_id=None),
    "ends behind the end": lambda samples: samples.assign(image_bytes=2**40),
    "more than 100,000,000 pixels": lambda samples: samples.assign(height=2**31, width=2**31),
}


@pytest.mark.parametrize("words", ODD_COLUMNS)
def test_a_sample_table_of_another_shape_is_refused_in_words(words: str, folder: Path) -> None:
    path = folder / "samples.parquet"
    ODD_COLUMNS[words](pd.read_parquet(path)).to_parquet(path, index=False)
    vouch(folder)
    with pytest.raises(scanmill.ReleaseRefused, match=words):
        scanmill.open_release(folder)


@pytest.mark.parametrize("shard", ["../../../../outside/private", "/etc/passwd", "train/../../x", "train"])
def test_a_shard_outside_the_release_is_not_read(shard: str, folder: Path) -> None:
    path = folder / "samples.parquet"
    samples = pd.read_parquet(path).assign(shard=shard)
    samples.to_parquet(path, index=False)
    vouch(folder)
    with pytest.raises(scanmill.ReleaseRefused, match="not in the manifest"):
        list(scanmill.Loader(scanmill.open_release(folder), size=8))
    with pytest.raises(DataRefused, match="no release has"):
        read_stored(folder, DATASET, [{str(name): value for name, value in samples.iloc[0].items()}])


class Payload:
    """Unpickled, it leaves a file behind."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "I ran")


def test_pickles_in_shards_are_bytes_like_any_other(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    payload = pickle.dumps(Payload(marker))
    for shard in folder.glob("webdataset/*/*.tar"):
        with tarfile.open(shard, "a") as tar:
            for name in ("evil.pkl", "evil.pyd", "train-0000.pth"):
                info = tarfile.TarInfo(name)
                info.size = len(payload)
                tar.addfile(info, io.BytesIO(payload))
    for shard in folder.glob("parquet/*/*.parquet"):
        table = pq.read_table(shard)
        typed = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": payload}
        odd = pa.field("odd", pa.int64(), metadata=typed)
        pq.write_table(table.append_column(odd, pa.array([0] * len(table), pa.int64())), shard)
    vouch(folder)
    assert command("verify", folder.parent.parent).exit_code == 0
    release = scanmill.open_release(folder)
    release.verify()
    for store in release.stores:
        assert sum(len(batch.rows) for batch in scanmill.Loader(release, size=8, store=store)) == 3
    assert not marker.exists()
    pickle.loads(payload)
    assert marker.exists(), "the payload would not have shown that it ran"
