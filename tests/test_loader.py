"""The package that training scripts import: what it refuses, what it reads, in which order, and how it goes on."""

from __future__ import annotations

import io
import json
import multiprocessing
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader

import scanmill
from scanmill.images import decode, decode_alone, fitted
from scanmill.loader import Batch
from tests import tiny_releases
from tests.fakes.servers import s3

TRAIN, TEST = 47, 13
WAYS = [{"threads": 1}, {"threads": 3}, {"processes": 2}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of 60 images of one shape in seven shards of each store; do not change it."""
    images = {"train": tiny_releases.textures(TRAIN), "test": tiny_releases.textures(TEST, seed=1)}
    return tiny_releases.write_release(tmp_path_factory.mktemp("lake"), images, shard_samples=9)


@pytest.fixture(scope="module")
def release(folder: Path) -> scanmill.Release:
    """The same, opened."""
    return scanmill.open_release(folder.parent.parent)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A release to be damaged."""
    return tiny_releases.write_release(tmp_path, {"train": tiny_releases.textures(20)}, shard_samples=8)


def by_hand(folder: Path) -> dict[str, Any]:
    """Pixels by sample id, out of the tars and by OpenCV alone."""
    found = {}
    for path in sorted(folder.glob("webdataset/*/*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".png"):
                    content = np.frombuffer(tar.extractfile(member).read(), np.uint8)  # type: ignore[union-attr]
                    found[member.name.partition(".")[0]] = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    return found


def rows_of(batches: Any) -> list[int]:
    """Row numbers in the order in which they came."""
    return [int(row) for batch in batches for row in batch.rows]


def scanmill_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("scanmill")]


# What is read


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("store", ["webdataset", "parquet"])
@pytest.mark.parametrize("shuffle", [False, True])
def test_images_are_those_of_the_tars(
    release: scanmill.Release, folder: Path, store: str, way: dict[str, int], shuffle: bool
) -> None:
    expected = by_hand(folder)
    loader = scanmill.Loader(release, batch_size=7, store=store, shuffle=shuffle, **way)  # type: ignore[arg-type]
    seen: dict[str, Any] = {}
    for batch in loader:
        assert batch.images.dtype == np.uint8
        assert batch.images.shape == (len(batch.rows), 1, 24, 24)
        assert batch.sample_ids == release.samples["sample_id"].iloc[batch.rows].tolist()
        seen |= dict(zip(batch.sample_ids, batch.images[:, 0], strict=True))
    assert set(seen) == set(expected)
    assert all((seen[name] == expected[name]).all() for name in expected)


def test_a_prepared_release_is_read_as_it_is(flawless_release: Path) -> None:
    release = scanmill.open_release(flawless_release)
    release.verify()
    expected = by_hand(flawless_release)
    for store in ("webdataset", "parquet"):
        loader = scanmill.Loader(release, size=64, store=store, columns=["label.Effusion", "age_years", "view"])
        for batch in loader:
            for number, name in enumerate(batch.sample_ids):
                assert (batch.images[number, 0] == fitted(expected[name], 64)).all()
            own = release.samples.iloc[batch.rows]
            assert np.array_equal(batch.columns["label.Effusion"], own["label.Effusion"].to_numpy(np.float32))
            assert batch.columns["view"].tolist() == own["view"].tolist()


def test_columns_come_along_and_what_is_unknown_is_nan(release: scanmill.Release) -> None:
    names = ["label.even", "age_years", "target.grey", "sex", "image_bytes"]
    (batch,) = scanmill.Loader(release, split="train", batch_size=TRAIN, columns=names)
    assert batch.columns["label.even"].dtype == np.float32
    assert np.isnan(batch.columns["label.even"][::7]).all()
    assert batch.columns["label.even"][1:7].tolist() == [0, 1, 0, 1, 0, 1]
    assert np.isnan(batch.columns["age_years"][::5]).all()
    assert batch.columns["target.grey"] == pytest.approx(batch.images.mean(axis=(1, 2, 3)))
    assert batch.columns["sex"][:3].tolist() == ["F", "M", None]
    assert batch.columns["image_bytes"].dtype.kind == "i"


def test_splits_and_rows_are_chosen(release: scanmill.Release) -> None:
    assert release.splits == {"train": TRAIN, "test": TEST}
    assert rows_of(scanmill.Loader(release, split="test")) == list(range(TRAIN, TRAIN + TEST))
    assert rows_of(scanmill.Loader(release, split=["test", "train"])) == list(range(TRAIN + TEST))
    for store in ("webdataset", "parquet"):
        assert rows_of(scanmill.Loader(release, rows=[50, 3, 3, 41], batch_size=3, store=store)) == [50, 3, 3, 41]
    assert not rows_of(scanmill.Loader(release, rows=[]))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"split": "tset"}, "no split 'tset'; it has train, test"),
        ({"split": "test", "rows": [1]}, "not both"),
        ({"rows": [60]}, "0 to 59"),
        ({"rows": [0.5]}, "row numbers"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"bits": 12}, "known are 8 and 16"),
        ({"window": 0}, "window=0"),
        ({"verify": "sometimes"}, "True, False and 'once'"),
        ({"store": "zarr"}, "no store 'zarr'; it has webdataset, parquet"),
        ({"columns": ["label.odd"]}, "no column 'label.odd'; it has label.even"),
        ({"rank": 2, "ranks": 2}, "count from 0"),
        ({"rank": 1}, "both or neither"),
    ],
)
def test_what_cannot_be_is_said(release: scanmill.Release, wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        scanmill.Loader(release, **wrong)


def test_images_of_several_shapes_are_letterboxed_or_refused(tmp_path: Path) -> None:
    pictures = [
        *tiny_releases.textures(1, 40, 20),
        *tiny_releases.textures(1, 8, 6),
        *tiny_releases.textures(1, 90, 31),
    ]
    release = scanmill.open_release(tiny_releases.write_release(tmp_path, {"train": pictures}))
    with pytest.raises(ValueError, match=r"3 shapes.*give size="):
        scanmill.Loader(release)
    (batch,) = scanmill.Loader(release, size=20)
    reduced = cv2.resize(pictures[0], (10, 20), interpolation=cv2.INTER_AREA)
    assert (batch.images[0, 0, :, 5:15] == reduced).all()
    assert not batch.images[0, 0, :, :5].any()
    assert not batch.images[0, 0, :, 15:].any()
    assert (batch.images[1, 0, 6:14, 7:13] == pictures[1]).all()
    assert batch.images[1].sum() == pictures[1].sum(), "a smaller image is not enlarged"
    assert (batch.images[2, 0, :, 6:13] == cv2.resize(pictures[2], (7, 20), interpolation=cv2.INTER_AREA)).all()


@pytest.mark.parametrize("way", WAYS)
def test_sixteen_bits_are_kept_unless_they_are_narrowed_on_request(tmp_path: Path, way: dict[str, int]) -> None:
    deep, flat = tiny_releases.textures(4, dtype=np.uint16), tiny_releases.textures(3)
    release = scanmill.open_release(tiny_releases.write_release(tmp_path, {"train": [*deep, *flat]}))
    (batch,) = scanmill.Loader(release, **way)  # type: ignore[arg-type]
    assert batch.images.dtype == np.uint16
    assert (batch.images[:4, 0] == np.stack(deep)).all()
    assert (batch.images[4:, 0] == np.stack(flat).astype(np.uint16) * 257).all()
    (narrow,) = scanmill.Loader(release, bits=8, **way)  # type: ignore[arg-type]
    assert narrow.images.dtype == np.uint8
    assert (narrow.images[:4, 0] == np.rint(np.stack(deep) / 257)).all()
    assert (narrow.images[4:, 0] == np.stack(flat)).all()
    (own,) = scanmill.Loader(release, rows=[4, 5, 6], **way)  # type: ignore[arg-type]
    assert own.images.dtype == np.uint8


def test_both_decoders_see_the_same_in_every_kind_of_file() -> None:
    rng = np.random.default_rng(0)
    grey, deep = tiny_releases.textures(1, 31, 17)[0], tiny_releases.textures(1, 31, 17, np.uint16)[0]
    smooth = np.clip(np.add.outer(np.arange(64), np.arange(70)) + rng.integers(0, 3, (64, 70)), 0, 255).astype(np.uint8)
    colour = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
    files = [cv2.imencode(".png", image)[1].tobytes() for image in (grey, deep, smooth, colour)]
    files += [cv2.imencode(".png", smooth, [cv2.IMWRITE_PNG_FILTER, 1 << bit])[1].tobytes() for bit in range(3, 8)]
    files += [cv2.imencode(".jpg", image)[1].tobytes() for image in (smooth, colour)]
    for file in files:
        first, second = decode(file), decode_alone(file)
        assert first is not None
        assert second is not None
        assert first.dtype == second.dtype
        assert np.array_equal(first, second)
    for broken in (files[2][:-30], files[2][:60], b"no image", b""):
        assert decode(broken) is None
        assert decode_alone(broken) is None


# Order, ranks, going on


def test_the_order_is_the_same_on_any_machine(release: scanmill.Release) -> None:
    loader = scanmill.Loader(release, split="test", shuffle=True, seed=3)
    assert loader.order(0).tolist() == PINNED


PINNED = [48, 52, 53, 58, 50, 55, 59, 56, 49, 47, 57, 51, 54]
"""Written down once: states of interrupted trainings rely on it."""


def test_epochs_differ_and_whoever_reads_gets_the_same_order(release: scanmill.Release) -> None:
    loader = scanmill.Loader(release, shuffle=True, seed=1, batch_size=8)
    epochs = [rows_of(loader), rows_of(loader)]
    assert loader.epoch == 2
    assert epochs[0] != epochs[1]
    assert all(sorted(rows) == list(range(TRAIN + TEST)) for rows in epochs)
    for way in WAYS:
        other = scanmill.Loader(release, shuffle=True, seed=1, batch_size=5, prefetch=3, **way)  # type: ignore[arg-type]
        assert [rows_of(other), rows_of(other)] == epochs
    loader.epoch = 0
    assert rows_of(loader) == epochs[0]
    assert rows_of(scanmill.Loader(release, shuffle=True, seed=2)) != epochs[0]


def test_a_window_mixes_only_so_many_shards(release: scanmill.Release) -> None:
    loader = scanmill.Loader(release, shuffle=True, window=2, store="parquet", batch_size=4)
    shards = release.samples["shard"].iloc[rows_of(loader)].tolist()
    seen: list[str] = []
    for shard in shards:
        seen += [shard] if shard not in seen else []
    assert len(seen) == 8
    for first in range(0, 8, 2):
        places = [number for number, shard in enumerate(shards) if shard in seen[first : first + 2]]
        assert places == list(range(places[0], places[-1] + 1))
    assert seen != sorted(seen)
    window = shards[: shards.index(seen[2])]
    assert window != sorted(window), "the two are mixed, not one after the other"


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_ranks_share_every_sample_exactly_once(release: scanmill.Release, ranks: int) -> None:
    loaders = [scanmill.Loader(release, shuffle=True, batch_size=7, rank=rank, ranks=ranks) for rank in range(ranks)]
    batches = [list(loader) for loader in loaders]
    assert sorted(row for own in batches for row in rows_of(own)) == list(range(TRAIN + TEST))
    assert [len(own) for own in batches] == [len(loader) for loader in loaders]
    last = [len(own[-1].rows) for own in batches]
    assert max(last) - min(last) <= 1
    whole = [
        scanmill.Loader(release, shuffle=True, batch_size=7, rank=rank, ranks=ranks, drop_last=True)
        for rank in range(ranks)
    ]
    assert [[len(batch.rows) for batch in loader] for loader in whole] == [[7] * (60 // (7 * ranks))] * ranks


def test_ranks_come_from_the_environment(release: scanmill.Release, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    own = rows_of(scanmill.Loader(release, batch_size=10))
    assert own == [*range(10, 20), *range(30, 40), *range(50, 60)]


def after(loader: scanmill.Loader, batches: int) -> dict[str, Any]:
    """The state, through JSON, within the iteration in which so many batches have come."""
    for number, _ in enumerate(loader, start=1):
        if number == batches:
            return dict(json.loads(json.dumps(loader.state_dict())))
    raise AssertionError


@pytest.mark.parametrize("store", ["webdataset", "parquet"])
@pytest.mark.parametrize("first_ranks", [1, 2])
@pytest.mark.parametrize("second_ranks", [1, 3])
def test_a_resumed_epoch_has_exactly_what_remains(
    release: scanmill.Release, store: str, first_ranks: int, second_ranks: int
) -> None:
    same: dict[str, Any] = {"shuffle": True, "seed": 9, "store": store}
    whole = scanmill.Loader(release, **same)
    rows_of(whole)
    expected = rows_of(whole)
    states = []
    for rank in range(first_ranks):
        loader = scanmill.Loader(release, batch_size=6, rank=rank, ranks=first_ranks, threads=3, prefetch=4, **same)
        rows_of(loader)
        states.append(after(loader, 3))
    assert states == [states[0]] * first_ranks
    had = 6 * 3 * first_ranks
    assert states[0]["samples"] == had
    parts = []
    for rank in range(second_ranks):
        loader = scanmill.Loader(release, batch_size=5, rank=rank, ranks=second_ranks, threads=1, **same)
        loader.load_state_dict(states[0])
        parts.append([list(batch.rows) for batch in loader])
        assert loader.epoch == 2
    assert sorted(int(row) for part in parts for rows in part for row in rows) == sorted(expected[had:])
    if second_ranks == 1:
        assert [int(row) for rows in parts[0] for row in rows] == expected[had:]


def test_a_break_begins_the_epoch_again_and_a_loaded_place_stays(release: scanmill.Release) -> None:
    loader = scanmill.Loader(release, shuffle=True, batch_size=10)
    first = rows_of([next(iter(loader))])
    assert loader.state_dict()["samples"] == 10
    assert rows_of(loader)[:10] == first
    loader.load_state_dict({**loader.state_dict(), "epoch": 0, "samples": 20})
    loader.set_epoch(0)
    rest = rows_of([next(iter(loader))])
    assert rest != first
    assert rows_of(loader)[:10] == rest
    loader.load_state_dict({**loader.state_dict(), "epoch": 0, "samples": 60})
    assert not rows_of(loader)
    assert len(rows_of(loader)) == 60


@pytest.mark.parametrize("change", [{"seed": 1}, {"window": 2}, {"shuffle": False}, {"split": "train"}])
def test_a_state_of_another_order_is_not_gone_on_from(release: scanmill.Release, change: dict[str, Any]) -> None:
    state = scanmill.Loader(release, shuffle=True).state_dict()
    with pytest.raises(ValueError, match="cannot go on"):
        scanmill.Loader(release, **{"shuffle": True, **change}).load_state_dict(state)


def test_a_state_of_another_release_is_not_gone_on_from(release: scanmill.Release, own: Path) -> None:
    state = scanmill.Loader(release).state_dict()
    with pytest.raises(ValueError, match="the state has release"):
        scanmill.Loader(scanmill.open_release(own)).load_state_dict(state)


# What is refused


def spoil(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("store", ["webdataset", "parquet"])
def test_a_damaged_image_is_named_with_its_shard(own: Path, way: dict[str, int], store: str) -> None:
    release = scanmill.open_release(own)
    sample = release.samples.iloc[13]
    path = own / release.shard_path(store, sample["shard"])
    encoded = (own / release.shard_path("webdataset", sample["shard"])).read_bytes()[sample["tar_offset"] :][:200]
    spoil(path, path.read_bytes().index(encoded) + 150)
    loader = scanmill.Loader(release, store=store, batch_size=4, **way)  # type: ignore[arg-type]
    with pytest.raises(scanmill.ReleaseRefused, match=f"{path.name}.*sample train-0013 is damaged"):
        rows_of(loader)
    assert not scanmill_threads()
    loader.close()
    with pytest.raises(scanmill.ReleaseRefused, match=r"does not verify:\n  .*bytes were changed"):
        release.verify()


@pytest.mark.parametrize("store", ["webdataset", "parquet"])
def test_a_shard_that_is_cut_off_or_goes_away_while_it_is_read_is_named(own: Path, store: str) -> None:
    release = scanmill.open_release(own)
    path = own / release.shard_path(store, "train/000001")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(scanmill.ReleaseRefused, match=path.name):
        rows_of(scanmill.Loader(release, store=store))
    path.unlink()
    with pytest.raises(OSError, match=f"{path.name}.*cannot be read"):
        rows_of(scanmill.Loader(release, store=store))
    assert not scanmill_threads()


def lose(folder: Path) -> None:
    next(folder.glob("webdataset/train/*.tar")).unlink()


def shorten(folder: Path) -> None:
    path = next(folder.glob("parquet/train/*.parquet"))
    path.write_bytes(path.read_bytes()[:-1])


def change_a_label(folder: Path) -> None:
    spoil(folder / "samples.parquet", 100)


def swap_the_manifest(folder: Path) -> None:
    path = folder / "manifest.json"
    path.write_bytes(path.read_bytes() + b"\n")


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lose, "webdataset/train/.*is missing"),
        (shorten, "parquet/train/.*bytes, .*expected"),
        (change_a_label, r"samples\.parquet: bytes were changed"),
        (swap_the_manifest, r"not the one that latest\.json vouches for"),
        (lambda folder: tiny_releases.change_manifest(folder, gates={"images": False}), "images gate failed"),
        (lambda folder: tiny_releases.change_manifest(folder, format_version=2), "format version 2"),
        (lambda folder: tiny_releases.change_manifest(folder, parameters={"size": 7}), "named after"),
        (lambda folder: tiny_releases.change_manifest(folder, documents=1), "release of documents"),
        (lambda folder: tiny_releases.change_manifest(folder, shards=None), r"manifest\.json cannot be read"),
        (lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json is missing"),
        (lambda folder: (folder.parent.parent / "latest.json").write_text("{}"), r"latest\.json cannot be read"),
        (lambda folder: (folder.parent.parent / "latest.json").unlink(), "neither manifest.json nor latest.json"),
    ],
)
def test_a_release_that_does_not_hold_together_is_refused(own: Path, harm: Callable[[Path], None], words: str) -> None:
    scanmill.open_release(own.parent.parent)
    harm(own)
    with pytest.raises(scanmill.ReleaseRefused, match=words):
        scanmill.open_release(own.parent.parent)


def test_a_failed_gate_can_be_allowed_and_a_manifest_pinned(own: Path) -> None:
    pinned = scanmill.open_release(own).manifest_sha256
    assert scanmill.open_release(own, manifest_sha256=pinned).name == own.name
    tiny_releases.change_manifest(own, gates={"images": False})
    assert len(scanmill.open_release(own, allow_failed_gates=True).samples) == 20
    with pytest.raises(scanmill.ReleaseRefused, match="manifest_sha256= vouches for"):
        scanmill.open_release(own, manifest_sha256=pinned, allow_failed_gates=True)


def test_a_release_is_found_by_its_name_and_one_that_is_not_there_is_refused(own: Path) -> None:
    home = own.parent.parent
    for place in (home, f"{home}@{own.name}", own, f"{home}/"):
        assert scanmill.open_release(place).name == own.name
    with pytest.raises(scanmill.ReleaseRefused, match="no published release '0123'"):
        scanmill.open_release(f"{home}@0123")
    with pytest.raises(scanmill.ReleaseRefused, match="is no release"):
        scanmill.open_release(home.parent)


def test_without_verification_a_flipped_bit_passes_where_the_decoder_does_not_mind(own: Path) -> None:
    release = scanmill.open_release(own)
    first = release.samples.iloc[0]
    spoil(own / release.shard_path("webdataset", first["shard"]), int(first["tar_offset"] + first["image_bytes"] - 1))
    with pytest.raises(scanmill.ReleaseRefused, match="sample train-0000 is damaged"):
        rows_of(scanmill.Loader(release))
    assert rows_of(scanmill.Loader(release, verify=False)) == list(range(20))


def test_verified_once_is_verified_in_the_first_epoch_only(own: Path) -> None:
    release = scanmill.open_release(own)
    first = release.samples.iloc[0]
    loaders = {verify: scanmill.Loader(release, verify=verify) for verify in ("once", True)}
    assert all(rows_of(loader) == list(range(20)) for loader in loaders.values())
    spoil(own / release.shard_path("webdataset", first["shard"]), int(first["tar_offset"] + first["image_bytes"] - 1))
    assert rows_of(loaders["once"]) == list(range(20))
    for loader in (loaders[True], scanmill.Loader(release, verify="once")):
        with pytest.raises(scanmill.ReleaseRefused, match="sample train-0000 is damaged"):
            rows_of(loader)


# Threads, processes, torch, strangers


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("store", ["webdataset", "parquet"])
def test_nothing_is_left_behind_by_a_break(release: scanmill.Release, way: dict[str, int], store: str) -> None:
    loader = scanmill.Loader(release, batch_size=2, store=store, **way)  # type: ignore[arg-type]
    for _ in loader:
        break
    assert not scanmill_threads()
    children = [child._child for child in loader._children]
    del loader
    assert all(child.poll() is not None for child in children)


def test_closing_does_not_wait_for_processes_that_were_forked_meanwhile(release: scanmill.Release) -> None:
    loader = scanmill.Loader(release, batch_size=2, processes=1)
    for _ in loader:
        break
    (child,) = loader._children
    fork = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    fork.start()
    try:
        closing = threading.Thread(target=loader.close, daemon=True)
        closing.start()
        closing.join(20)
        assert child.is_dead
        assert fork.is_alive()
    finally:
        fork.kill()
        fork.join()


def test_a_process_that_dies_is_told(release: scanmill.Release) -> None:
    loader = scanmill.Loader(release, batch_size=2, processes=1)
    for _ in loader:
        break
    loader._children[0]._child.kill()
    with pytest.raises(RuntimeError, match="decoding process ended unexpectedly"):
        rows_of(loader)
    assert len(rows_of(loader)) == TRAIN + TEST, "a new one has taken its place"


def test_torch_takes_it_as_an_iterable_dataset(release: scanmill.Release) -> None:
    loader = scanmill.Loader(release, batch_size=10, columns=["label.even", "sex"])
    batches = list(DataLoader(cast(Any, loader), batch_size=None))
    assert all(isinstance(batch, Batch) for batch in batches)
    assert isinstance(batches[0].images, torch.Tensor)
    assert isinstance(batches[0].columns["label.even"], torch.Tensor)
    assert [int(row) for batch in batches for row in batch.rows] == list(range(60))
    with pytest.raises(ValueError, match="num_workers=0"):
        list(DataLoader(cast(Any, loader), batch_size=None, num_workers=1))


STRANGER = """
import sys, tasks, scanmill
assert tasks.MINE
loader = scanmill.Loader(scanmill.open_release(sys.argv[1]), batch_size=16, processes=1)
print(sum(len(batch.rows) for batch in loader))
print("torch" in sys.modules, "flows" in sys.modules)
"""


def test_a_stranger_with_tasks_of_their_own_imports_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tasks.py").write_text("MINE = True\n")
    (tmp_path / "flows.py").write_text("raise RuntimeError\n")
    (tmp_path / "scanmill").mkdir()  # a clone's parent folder has one
    (tmp_path / "train.py").write_text(STRANGER)
    said = subprocess.run(
        [sys.executable, "train.py", folder], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert said.stdout.split() == ["60", "False", "False"], said.stderr


# In memory


@pytest.mark.parametrize("ranks", [1, 2])
def test_resident_batches_are_those_of_the_loader(release: scanmill.Release, ranks: int) -> None:
    resident = scanmill.Resident(release, split="train", size=16, device="cpu", columns=["label.even"])
    assert resident.images.shape == (TRAIN, 1, 16, 16)
    assert resident.bytes == TRAIN * 256
    for rank in range(ranks):
        loader = scanmill.Loader(
            release, split="train", size=16, shuffle=True, seed=4, batch_size=9, rank=rank, ranks=ranks
        )
        for epoch in range(2):
            batches = list(resident.batches(9, seed=4, epoch=epoch, rank=rank, ranks=ranks))
            for batch, (images, rows) in zip(loader, batches, strict=True):
                assert np.array_equal(batch.rows, rows.numpy())
                assert np.array_equal(batch.images, images.numpy())
    labels = release.samples["label.even"].to_numpy(np.float32)
    assert np.array_equal(resident.columns["label.even"].numpy(), labels, equal_nan=True)
    rest = torch.cat([rows for _, rows in resident.batches(5, seed=4, start=18)]).tolist()
    assert rest == scanmill.Loader(release, split="train", shuffle=True, seed=4).order(0)[18:].tolist()


def test_what_does_not_fit_is_said_before_it_is_read(release: scanmill.Release, own: Path, tmp_path: Path) -> None:
    with pytest.raises(MemoryError, match=r"60 images need .* GiB, cpu has .* GiB free: give a smaller size="):
        scanmill.Resident(release, size=1_000_000, device="cpu")
    deep = tiny_releases.write_release(tmp_path / "deep", {"train": tiny_releases.textures(2, dtype=np.uint16)})
    with pytest.raises(ValueError, match="bits=8"):
        scanmill.Resident(scanmill.open_release(deep), size=8, device="cpu")
    assert scanmill.Resident(scanmill.open_release(deep), size=8, bits=8, device="cpu").images.dtype == torch.uint8


# Object storage


@pytest.fixture(scope="module")
def storage() -> Iterator[s3.Storage]:
    """A server of this module's own, found by clients through the environment."""
    with s3.in_environment() as running:
        yield running


@pytest.mark.parametrize("store", ["webdataset", "parquet"])
@pytest.mark.parametrize("way", WAYS[1:])
def test_object_storage_is_read_by_whole_shards_once(
    storage: s3.Storage, folder: Path, store: str, way: dict[str, int]
) -> None:
    import s3fs

    place = f"lake-{store}-{'processes' in way}"
    files = s3fs.S3FileSystem(use_listings_cache=False)
    files.mkdir(place)
    files.put(str(folder.parent.parent), f"{place}/tiny", recursive=True)
    release = scanmill.open_release(f"s3://{place}/tiny")
    assert scanmill.open_release(f"s3://{place}/tiny@{folder.name}").manifest_sha256 == release.manifest_sha256
    storage.forget()
    loader = scanmill.Loader(release, shuffle=True, batch_size=7, store=store, **way)  # type: ignore[arg-type]
    seen = {name: image for batch in loader for name, image in zip(batch.sample_ids, batch.images[:, 0], strict=True)}
    expected = by_hand(folder)
    assert set(seen) == set(expected)
    assert all((seen[name] == expected[name]).all() for name in expected)
    read = [path for method, path in storage.requests if method == "GET"]
    assert len(read) == len(set(read)) == 8
    release.verify()


def test_a_damaged_object_is_refused(storage: s3.Storage, own: Path) -> None:
    import s3fs

    release = scanmill.open_release(own)
    first = release.samples.iloc[0]
    spoil(own / release.shard_path("webdataset", first["shard"]), int(first["tar_offset"]) + 200)
    files = s3fs.S3FileSystem(use_listings_cache=False)
    files.mkdir("damaged")
    files.put(str(own.parent.parent), "damaged/tiny", recursive=True)
    with pytest.raises(scanmill.ReleaseRefused, match=r"s3://damaged.*sample train-0000 is damaged"):
        rows_of(scanmill.Loader(scanmill.open_release("s3://damaged/tiny")))


def test_what_it_reads_is_what_pandas_reads(folder: Path, release: scanmill.Release) -> None:
    own = pd.read_parquet(io.BytesIO((folder / "samples.parquet").read_bytes()))
    pd.testing.assert_frame_equal(own, release.samples)
