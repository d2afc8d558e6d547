"""Sampled: no damage of a release goes unnoticed, signed or not. ``python -m tests.flips`` tries every byte."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tasks.lake import Lake
from tasks.release.manifest import publish
from tasks.release.signature import NAME, make_key, private_key, public_key, sign
from tasks.release.verify import verify
from tests.flips import damages
from tests.strangers import whole_release

STRIDE = 97


def test_every_damage_that_is_tried_is_found(tmp_path: Path) -> None:
    folder = whole_release(tmp_path / "lake")
    tally = damages(folder, STRIDE)
    assert verify(Lake(str(tmp_path / "lake"), folder.parent.parent.name), folder.name).problems == ()
    assert {kind for kind, is_found in tally if not is_found} == set()
    assert len(tally) > 8
    assert sum(tally.values()) > 500


def test_without_the_pointer_the_signature_covers_every_byte_of_the_manifest(tmp_path: Path) -> None:
    folder = whole_release(tmp_path / "lake")
    make_key(tmp_path / "alice")
    keys = (public_key(f"{tmp_path / 'alice'}.pub"),)
    (folder.parent.parent / "latest.json").unlink()
    sign(folder, private_key(tmp_path / "alice"))
    whole = (folder / "manifest.json").read_bytes()
    for at in range(0, len(whole), STRIDE):
        (folder / "manifest.json").write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        assert verify(Lake(str(tmp_path / "lake"), folder.parent.parent.name), folder.name, keys).problems, at


def test_a_damaged_release_that_is_made_anew_keeps_its_signature(tmp_path: Path) -> None:
    folder = whole_release(tmp_path / "lake")
    lake = Lake(str(tmp_path / "lake"), folder.parent.parent.name)
    make_key(tmp_path / "alice")
    keys = (public_key(f"{tmp_path / 'alice'}.pub"),)
    sign(folder, private_key(tmp_path / "alice"))
    manifest = json.loads((folder / "manifest.json").read_bytes())
    staging = Path(str(lake.staging(folder.name)))
    shutil.copytree(folder, staging, ignore=shutil.ignore_patterns("manifest.json*"))
    next(folder.glob("webdataset/*/*.tar")).write_bytes(b"damaged")
    publish(lake, folder.name, manifest)
    assert (folder / NAME).is_file()
    assert verify(lake, folder.name, keys).problems == ()
