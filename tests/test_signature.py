"""Who vouches for a release: a signature that OpenSSL reads, and what is refused without it."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.learning.admission import find_release, insist_on_whole
from tasks.release.signature import NAME, PASSPHRASE, TRUSTED
from tasks.schema import DataRefused
from tests import tiny_releases
from tests.command import said, scanmill

MAMMOGRAPHY = "mammography-density"


@pytest.fixture
def home(lakes: Callable[[str], Path], tmp_path: Path) -> Path:
    """A dataset of a lake, with a published release."""
    return Path(shutil.copytree(lakes(MAMMOGRAPHY) / MAMMOGRAPHY, tmp_path / "lake" / MAMMOGRAPHY))


def release_in(home: Path) -> Path:
    (found,) = home.glob("releases/[!.]*")
    return found


def new_key(path: Path) -> Path:
    """A private key; the public one is beside it."""
    assert scanmill("sign", "--new-key", path).exit_code == 0
    return path


def public(key: Path) -> str:
    return f"{key}.pub"


def test_right_wrong_and_missing(home: Path, tmp_path: Path) -> None:
    alice, bob = new_key(tmp_path / "alice"), new_key(tmp_path / "bob")
    unsigned = scanmill("verify", home, "--key", public(alice))
    assert (unsigned.exit_code, "nobody has signed" in unsigned.stderr) == (1, True)
    answer = json.loads(scanmill("sign", home, "--key", alice, "--json").stdout)
    assert answer["signature"] == str(release_in(home) / NAME)
    assert scanmill("verify", home).exit_code == 0  # a signature is no strange file
    assert scanmill("verify", home, "--key", public(alice)).exit_code == 0
    assert scanmill("verify", home, "--key", public(bob), "--key", public(alice)).exit_code == 0
    other = scanmill("verify", home, "--key", public(bob))
    assert (other.exit_code, f"not by the holder of {public(bob)}" in other.stderr) == (1, True)


def test_openssl_checks_it(home: Path, tmp_path: Path) -> None:
    alice = new_key(tmp_path / "alice")
    assert scanmill("sign", home, "--key", alice).exit_code == 0
    folder = release_in(home)
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", public(alice), "-rawin"]
    files = ["-in", str(folder / "manifest.json"), "-sigfile", str(folder / NAME)]
    done = subprocess.run([*command, *files], capture_output=True, text=True, check=False)
    assert "Verified Successfully" in done.stdout, done.stderr


@pytest.mark.parametrize("name", ["manifest.json", NAME])
def test_no_byte_can_be_changed(name: str, home: Path, tmp_path: Path) -> None:
    alice = new_key(tmp_path / "alice")
    assert scanmill("sign", home, "--key", alice).exit_code == 0
    path = release_in(home) / name
    content = path.read_bytes()
    for at in range(0, len(content), max(1, len(content) // 20)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert scanmill("verify", home, "--key", public(alice)).exit_code == 1, at


def test_a_private_key_is_its_owners_alone_and_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE, "a made-up passphrase")
    alice = new_key(tmp_path / "alice")
    assert stat.S_IMODE(alice.stat().st_mode) == 0o600
    assert b"ENCRYPTED" in alice.read_bytes()
    again = scanmill("sign", "--new-key", alice)
    assert (again.exit_code, "never replaced" in said(again)) == (2, True)


def test_what_cannot_sign_is_said_in_words(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE, "a made-up passphrase")
    alice = new_key(tmp_path / "alice")
    monkeypatch.setenv(PASSPHRASE, "another")
    (tmp_path / "text").write_text("no key")
    wrong: dict[str, list[object]] = {
        "does not open it": [home, "--key", alice],
        "no private key": [home, "--key", tmp_path / "text"],
        "make a key with": [home, "--key", tmp_path / "nowhere"],
        "--key FILE says who": [home],
        "say what to sign": [],
    }
    for words, arguments in wrong.items():
        result = scanmill("sign", *arguments)
        assert result.exit_code == 2, words
        assert words in said(result)
        assert "another" not in result.stderr
    monkeypatch.delenv(PASSPHRASE)
    assert PASSPHRASE in said(scanmill("sign", home, "--key", alice))


def test_a_damaged_release_is_not_signed(home: Path, tmp_path: Path) -> None:
    (shard, *_) = release_in(home).glob("webdataset/*/*.tar")
    shard.write_bytes(shard.read_bytes()[:-1])
    result = scanmill("sign", home, "--key", new_key(tmp_path / "alice"))
    assert (result.exit_code, "does not verify" in said(result)) == (2, True)
    assert not (release_in(home) / NAME).exists()


def test_training_takes_only_what_trusted_keys_have_signed(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = new_key(tmp_path / "alice"), new_key(tmp_path / "bob")
    lake = str(home.parent)
    release = find_release(lake, MAMMOGRAPHY, None)
    insist_on_whole(lake, release)  # anybody's, where nobody is named
    monkeypatch.setenv(TRUSTED, f"{public(alice)}:{public(bob)}")
    with pytest.raises(DataRefused, match="nobody has signed"):
        insist_on_whole(lake, release)
    assert scanmill("sign", home, "--key", bob).exit_code == 0
    insist_on_whole(lake, release)
    monkeypatch.setenv(TRUSTED, public(alice))
    with pytest.raises(DataRefused, match="not by the holder"):
        insist_on_whole(lake, release)


def test_the_demo_of_a_stranger_is_refused_by_name(tmp_path: Path) -> None:
    folder = tiny_releases.write_release(tmp_path, {"train": tiny_releases.textures(3)})
    (folder / NAME).write_bytes(bytes(64))
    result = scanmill("verify", folder.parent.parent, "--key", public(new_key(tmp_path / "alice")))
    assert (result.exit_code, NAME in result.stderr) == (1, True)
