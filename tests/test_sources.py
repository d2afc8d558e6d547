"""Fetching ends with the publisher's bytes, whole and of one version, whatever happens on the way; and never twice."""

from __future__ import annotations

import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.schema import UnusableInput
from tasks.sources.download import download
from tasks.sources.fetched import Fetched
from tasks.sources.fetching import fetch, nothing_new
from tasks.sources.listing import RemoteFile
from tasks.sources.remote_release import RemoteRelease, read_file_list
from tasks.sources.web import Manners, Unfetchable, Web
from tests.command import ROOT
from tests.fakes.servers.figshare import FakeFigshare
from tests.fakes.servers.http import Answer, Asked, Server, Stored
from tests.fakes.servers.https import FakeFiles
from tests.fakes.servers.physionet import DIGESTS, FakePhysioNet
from tests.remote_releases import (
    ARTICLE,
    PASSWORD,
    PROJECT,
    QUICK,
    SECRETS,
    USER,
    VERSION,
    bytes_sent,
    held,
    journal,
    on_figshare,
    on_physionet,
    on_plain_host,
    paths,
    some_bytes,
)

DATA = some_bytes(400_000)
OTHER = {"same size": some_bytes(400_000, seed=1), "longer": some_bytes(450_000, seed=2), "shorter": some_bytes(90_000)}
ONE_ATTEMPT = replace(QUICK, attempts=1)


class Meddling(Server):
    """Does something, once, as it cuts a file off; may take no notice of ``If-Range``, or have weak tags only."""

    at_cut: Callable[[], None] | None = None
    ignores_if_range = False
    has_weak_etag = False

    def take_cut(self, length: int) -> int:
        sent = super().take_cut(length)
        if sent < length and self.at_cut:
            act, self.at_cut = self.at_cut, None
            act()
        return sent

    def give(self, asked: Asked, stored: Stored, *, has_etag: bool = True) -> Answer:
        if self.ignores_if_range:
            headers = Message()
            headers["Range"] = asked.header("Range")
            asked = replace(asked, headers=headers)
        answer = super().give(asked, stored, has_etag=has_etag)
        weak = {"ETag": f"W/{stored.etag}"} if self.has_weak_etag else {}
        return replace(answer, headers={**answer.headers, **weak})


class Host(Meddling, FakeFigshare):
    """figshare, with that."""


class PlainHost(Meddling, FakeFiles):
    """A file host, with that."""


@pytest.fixture
def figshare() -> Iterator[Host]:
    with Host() as server:
        server.publish(ARTICLE, {"a.bin": DATA})
        yield server


@pytest.fixture
def physionet() -> Iterator[FakePhysioNet]:
    content = {"LICENSE.txt": b"free", "odd/50% #1?.csv": b"odd", **{f"films/{n}.csv": b"%d" % n for n in range(8)}}
    with FakePhysioNet(PROJECT, VERSION, content, user=USER, password=PASSWORD) as server:
        yield server


@pytest.fixture
def plain() -> Iterator[PlainHost]:
    with PlainHost({"a.bin": DATA}) as server:
        yield server


def bring(wanted: RemoteRelease, raw: Path, *, rehash: bool = False) -> Fetched:
    return fetch(wanted, raw, SECRETS, rehash=rehash)


def insistently(wanted: RemoteRelease, raw: Path) -> Fetched:
    """As a user who repeats the command until it works."""
    for _ in range(30):
        try:
            return bring(wanted, raw)
        except Unfetchable:
            continue
    raise AssertionError("it never worked")


# Broken off


def random_cuts(count: int) -> list[int]:
    """Lengths of the answers that lead to as many random offsets in the file."""
    offsets = sorted(random.Random(7).sample(range(1, len(DATA)), count))
    return [offset - before for before, offset in zip([0, *offsets], offsets, strict=False)]


@pytest.mark.parametrize("manners", [QUICK, ONE_ATTEMPT], ids=["in one call", "over many calls"])
def test_a_download_cut_at_20_offsets_goes_on_from_each(figshare: Host, tmp_path: Path, manners: Manners) -> None:
    figshare.cut_after, figshare.single_use, figshare.url_seconds = random_cuts(20), True, 5.0
    call = insistently if manners is ONE_ATTEMPT else bring
    fetched = call(on_figshare(figshare, manners), tmp_path)
    assert figshare.cut_after == []
    assert held(fetched.folder) == {"a.bin": DATA}
    assert bytes_sent(figshare, "/s3/") == len(DATA)
    assert [bool(one.if_range) for one in figshare.requests if "/s3/" in one.path] == [False] + [True] * 20
    # Every answer was asked for at the API, and no signed address twice.
    signed = [request.path for request in figshare.requests if "/s3/" in request.path]
    assert len(paths(figshare, "/v2/file/download/")) == len(signed) == len(set(signed)) == 21


def test_a_signed_address_that_expired_on_the_way_is_asked_for_anew(figshare: Host, tmp_path: Path) -> None:
    figshare.url_seconds = 0.0
    wanted = on_figshare(figshare)
    with pytest.raises(Unfetchable, match=r"short-lived.*403.*same command"):
        bring(wanted, tmp_path)
    assert [request.status for request in figshare.requests if "/s3/" in request.path] == [403] * QUICK.attempts
    figshare.url_seconds = 10.0
    assert held(bring(wanted, tmp_path).folder) == {"a.bin": DATA}


@pytest.mark.parametrize("knob", ["", "ignores_range", "wrong_range", "ignores_if_range"])
@pytest.mark.parametrize("change", ["", *OTHER])
def test_a_file_is_never_put_together_from_two(figshare: Host, tmp_path: Path, knob: str, change: str) -> None:
    figshare.publish(ARTICLE, {"a.bin": DATA, "b.bin": b"b"})
    if knob:
        setattr(figshare, knob, True)
    figshare.cut_after = [150_000]
    new = OTHER.get(change, DATA)
    figshare.at_cut = lambda: figshare.swap(ARTICLE, "a.bin", new)
    fetched = bring(on_figshare(figshare), tmp_path)
    assert figshare.at_cut is None
    assert held(fetched.folder) == {"a.bin": new, "b.bin": b"b"}
    assert (fetched.added, fetched.changed, fetched.unchanged) == (("a.bin", "b.bin"), (), 0)
    assert held(tmp_path / "superseded") == {}
    assert len(journal(tmp_path)) == 2
    # The list is read again where it turned out to be of other bytes, and only there.
    assert len(paths(figshare, f"/{ARTICLE}/files")) == (2 if change else 1)


@pytest.mark.parametrize("tag", ["strong", "weak", "none"])
def test_a_file_without_digest_is_told_apart_by_what_its_host_says(plain: PlainHost, tmp_path: Path, tag: str) -> None:
    plain.has_etag, plain.has_weak_etag, plain.cut_after = tag == "strong", tag == "weak", [150_000]
    wanted = replace(on_plain_host(plain), manners=ONE_ATTEMPT)
    with pytest.raises(Unfetchable):
        bring(wanted, tmp_path)
    plain.change("a.bin", OTHER["same size"])
    assert held(bring(wanted, tmp_path).folder) == {"a.bin": OTHER["same size"]}
    plain.forget_requests()
    assert not bring(wanted, tmp_path).is_new
    assert not bring(wanted, tmp_path, rehash=True).is_new
    assert {request.method for request in plain.requests} == {"HEAD"}
    plain.change("a.bin", DATA)
    assert bring(wanted, tmp_path).changed == ("a.bin",)
    assert sorted(held(tmp_path / "superseded").values()) == [OTHER["same size"]]


@pytest.mark.parametrize("ignores_if_range", [False, True])
@pytest.mark.parametrize("change", OTHER)
def test_a_file_without_digest_may_change_under_way(
    plain: PlainHost, tmp_path: Path, ignores_if_range: bool, change: str
) -> None:
    plain.ignores_if_range, plain.cut_after = ignores_if_range, [80_000]
    plain.at_cut = lambda: plain.change("a.bin", OTHER[change])
    fetched = bring(on_plain_host(plain), tmp_path)
    assert plain.at_cut is None
    assert held(fetched.folder) == {"a.bin": OTHER[change]}


def test_a_host_that_cuts_and_lies_for_ever_is_given_up(figshare: Host, tmp_path: Path) -> None:
    figshare.cut_after, figshare.wrong_range = [1000] * 1000, True
    with pytest.raises(Unfetchable, match="in a row"):
        bring(on_figshare(figshare), tmp_path)
    assert len(paths(figshare, "/s3/")) < 20


def test_a_part_that_was_all_there_is_only_checked(plain: PlainHost, tmp_path: Path) -> None:
    file = RemoteFile("a.bin", f"{plain.url}/a.bin", sha256=on_plain_host(plain, DATA).files[0].sha256 or "")
    web = Web("", QUICK)
    for _ in range(2):
        assert download(file, tmp_path / "part", web).size_bytes == len(DATA)
    assert [request.status for request in plain.requests] == [200, 416]
    (tmp_path / "part").write_bytes(DATA + b"too long")
    assert download(file, tmp_path / "part", web).sha256 == file.sha256
    assert (tmp_path / "part").read_bytes() == DATA


# Processes

SCRIPT = """
import signal
import sys
from pathlib import Path
from tasks.sources.fetching import fetch
from tests.remote_releases import ARTICLE, on_figshare
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs inherit that it is ignored
fetch(on_figshare(type("Host", (), {"api": sys.argv[1]})), Path(sys.argv[2]), {})
"""


def in_a_process(figshare: Host, raw: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SCRIPT, figshare.api, raw], cwd=ROOT, stderr=subprocess.PIPE)


def test_two_processes_fetch_a_source_once(figshare: Host, tmp_path: Path) -> None:
    figshare.delay = 0.05
    both = [in_a_process(figshare, tmp_path) for _ in range(2)]
    assert [process.communicate(timeout=60)[1] for process in both] == [b"", b""]
    assert [process.returncode for process in both] == [0, 0]
    assert held(tmp_path / f"figshare/{ARTICLE}") == {"a.bin": DATA}
    assert (len(paths(figshare, "/s3/")), bytes_sent(figshare, "/s3/")) == (1, len(DATA))
    assert len(journal(tmp_path)) == 1


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_loses_nothing(figshare: Host, tmp_path: Path, kind: signal.Signals) -> None:
    small = {f"{n}.bin": b"%d" % n for n in range(4)}
    big = some_bytes(3_000_000)
    figshare.publish(ARTICLE, {**small, "z.bin": big})
    figshare.delay = 0.15
    process = in_a_process(figshare, tmp_path)
    while bytes_sent(figshare, "/s3/") < 3 * 65536 or not (tmp_path / "fetched.jsonl").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(kind)
    killed = time.monotonic()
    process.communicate(timeout=60)
    assert time.monotonic() - killed < 4.0  # the rest of the file would have taken more than 6
    assert process.returncode == -kind
    figshare.delay = 0.0
    fetched = bring(on_figshare(figshare), tmp_path)
    assert held(fetched.folder) == {**small, "z.bin": big}
    assert sorted(event["path"].rpartition("/")[2] for event in journal(tmp_path)) == sorted([*small, "z.bin"])
    # All but a piece that was on its way is used again.
    assert bytes_sent(figshare, "/s3/") <= len(big) + len(small) + 2 * 65536
    assert int(figshare.requests[-1].range.removeprefix("bytes=").removesuffix("-")) >= 65536


def test_a_torn_last_line_of_the_journal_harms_no_other(figshare: Host, tmp_path: Path) -> None:
    bring(on_figshare(figshare), tmp_path)
    whole = (tmp_path / "fetched.jsonl").read_text()
    (tmp_path / "fetched.jsonl").write_text(whole + whole[:40])
    figshare.publish(ARTICLE, {"a.bin": DATA, "b.bin": b"b"})
    assert bring(on_figshare(figshare), tmp_path).added == ("b.bin",)
    figshare.forget_requests()
    assert nothing_new(on_figshare(figshare), tmp_path, {}) is not None
    assert bring(on_figshare(figshare), tmp_path, rehash=True).unchanged == 2
    assert paths(figshare, "/s3/") == []


# What changed and what did not


@pytest.mark.parametrize(("host", "requests"), [("figshare", 1), ("physionet", 1), ("plain", 0)])
def test_looking_again_costs_next_to_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, host: str, requests: int
) -> None:
    server = request.getfixturevalue(host)
    wanted = {
        "figshare": lambda: on_figshare(server),
        "physionet": lambda: on_physionet(server),
        "plain": lambda: on_plain_host(server, DATA),
    }[host]()
    assert nothing_new(wanted, tmp_path / "raw", SECRETS) is None
    assert server.requests == ()
    first = bring(wanted, tmp_path / "raw")
    assert first.is_new
    assert first.size_bytes == sum(map(len, held(first.folder).values()))
    for look in (nothing_new, fetch):
        server.forget_requests()
        again = look(wanted, tmp_path / "raw", SECRETS)
        assert again is not None
        assert (again.is_new, again.folder, again.source, again.version) == (
            False,
            first.folder,
            first.source,
            first.version,
        )
        assert again.unchanged == len(first.added)
        assert len(server.requests) == again.requests == requests
        assert {one.status for one in server.requests} <= {200 if host == "figshare" else 304}
    assert not (tmp_path / "raw" / ".downloads").exists()


def test_of_many_files_only_the_changed_one_is_fetched(physionet: FakePhysioNet, tmp_path: Path) -> None:
    wanted = on_physionet(physionet)
    folder = Path(bring(wanted, tmp_path).folder)
    assert folder == tmp_path / "physionet.org/files" / PROJECT / VERSION
    assert (folder / "odd/50% #1?.csv").read_bytes() == b"odd"
    physionet.change("films/3.csv", b"new")
    physionet.forget_requests()
    assert nothing_new(wanted, tmp_path, SECRETS) is None
    fetched = bring(wanted, tmp_path)
    assert (fetched.added, fetched.changed, fetched.unchanged) == ((), (DIGESTS, "films/3.csv"), 9)
    assert sorted(paths(physionet)) == sorted(
        physionet.root + name for name in [DIGESTS, DIGESTS, DIGESTS, "films/3.csv"]
    )
    assert (folder / "films/3.csv").read_bytes() == b"new"
    aside = held(tmp_path / "superseded")
    assert sorted(name.partition("-")[2] for name in aside) == ["3.csv", DIGESTS]
    assert b"3" in aside.values()
    changed = [event for event in journal(tmp_path) if event["path"].endswith("films/3.csv")]
    assert [event["bytes"] for event in changed] == [1, 3]
    assert any(name.startswith(changed[0]["sha256"][:16]) for name in aside)


def test_a_new_version_costs_only_what_is_new_in_it(figshare: Host, tmp_path: Path) -> None:
    figshare.publish(ARTICLE, {"a.bin": DATA, "b.bin": b"b", "gone.bin": b"gone"})
    bring(on_figshare(figshare), tmp_path)
    figshare.publish(ARTICLE, {"a.bin": DATA, "b.bin": b"bb", "c.bin": b"c"})
    figshare.link(ARTICLE, "elsewhere.bin", "https://example.org/elsewhere.bin")
    figshare.forget_requests()
    fetched = bring(on_figshare(figshare), tmp_path)
    assert (fetched.added, fetched.changed, fetched.removed) == (("c.bin",), ("b.bin",), ("gone.bin",))
    assert fetched.left_out == ("elsewhere.bin: only a link to https://example.org/elsewhere.bin",)
    assert (fetched.version, fetched.unchanged, fetched.size_bytes) == ("3", 1, 3)
    assert held(fetched.folder) == {"a.bin": DATA, "b.bin": b"bb", "c.bin": b"c"}
    assert sorted(held(tmp_path / "superseded").values()) == [b"b", b"gone"]
    assert bytes_sent(figshare, "/s3/") == 3
    assert [event["event"] for event in journal(tmp_path)].count("went") == 1
    assert not bring(on_figshare(figshare), tmp_path).is_new


def test_a_file_that_lies_there_with_the_right_digest_is_taken_as_it_is(figshare: Host, tmp_path: Path) -> None:
    (folder := tmp_path / f"figshare/{ARTICLE}").mkdir(parents=True)
    (folder / "a.bin").write_bytes(DATA)
    assert bring(on_figshare(figshare), tmp_path).added == ("a.bin",)
    assert paths(figshare, "/file/download/") == []
    assert len(journal(tmp_path)) == 1


@pytest.mark.parametrize("harm", ["deleted", "shortened", "damaged"])
def test_what_is_harmed_here_is_fetched_again(figshare: Host, tmp_path: Path, harm: str) -> None:
    path = Path(bring(on_figshare(figshare), tmp_path).folder) / "a.bin"
    left = {"deleted": b"", "shortened": DATA[:-1], "damaged": DATA[:-1] + b"?"}[harm]
    path.write_bytes(left)
    if harm == "deleted":
        path.unlink()
    # Damage that does not show in the size is looked for only on request.
    assert (nothing_new(on_figshare(figshare), tmp_path, {}) is None) == (harm != "damaged")
    fetched = bring(on_figshare(figshare), tmp_path, rehash=harm == "damaged")
    assert (fetched.changed, path.read_bytes()) == (("a.bin",), DATA)
    # What was in its place is not passed off as what the publisher once had.
    good = journal(tmp_path)[0]["sha256"][:16]
    aside = held(tmp_path / "superseded")
    assert [*aside.values()] == ([left] if left else [])
    assert not any(name.startswith(good) for name in aside)


# Room and lists


def test_too_small_a_disk_is_told_before_any_file_is_asked_for(
    figshare: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * 2**20 + len(DATA) - 1))
    with pytest.raises(UnusableInput, match=r"0\.0 GB are to be fetched.*make room"):
        bring(on_figshare(figshare), tmp_path)
    assert paths(figshare, "/file/download/") == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64 * 2**20 + len(DATA)))
    assert bring(on_figshare(figshare), tmp_path).is_new


def test_a_list_of_files_is_read(tmp_path: Path) -> None:
    (lines := tmp_path / "files.txt").write_text(
        f"# mine\nhttps://host.example/a%20b.zip?download=1\n\n{'Ab' * 32} https://host.example/c.zip # pinned\n"
    )
    first, second = read_file_list(lines)
    assert (first.name, first.url, first.sha256) == ("a b.zip", "https://host.example/a%20b.zip?download=1", None)
    assert (second.name, second.url, second.sha256) == ("c.zip", "https://host.example/c.zip", "ab" * 32)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"https://host.example/a\nftp://host.example/b\n", r"line 2.*ftp://"),
        (b"abc https://host.example/a\n", "line 1.*SHA256"),
        (b"https://host.example/\n", "line 1"),
        (b"https://host.example/a https://host.example/b\n", "line 1"),
        (b"# nothing\n", "lists no address"),
        (b"PK\x03\x04\xff\xfe", "cannot be read"),
        (None, "cannot be read.*No such file"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, text: bytes | None, words: str) -> None:
    lines = tmp_path / "files.txt"
    if text is not None:
        lines.write_bytes(text)
    with pytest.raises(UnusableInput, match=words) as refusal:
        read_file_list(lines)
    assert str(lines) in str(refusal.value)


@pytest.mark.parametrize(("is_silent", "held_against"), [(False, "md5"), (True, None)])
def test_the_record_says_what_a_file_was_verified_by(
    figshare: Host, tmp_path: Path, is_silent: bool, held_against: str | None
) -> None:
    figshare.without_md5 = is_silent
    bring(on_figshare(figshare), tmp_path)
    (event,) = journal(tmp_path)
    assert event["verified_by"] == held_against
    assert event["sha256"] == hashlib.sha256(DATA).hexdigest()
