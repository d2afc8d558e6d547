"""How hosts are asked: at their pace, again only where that can help; a refusal is one clear error without secrets."""

from __future__ import annotations

import base64
import itertools
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import quote

import pytest

from tasks.schema import UnusableInput
from tasks.sources.download import OtherBytes
from tasks.sources.fetching import fetch
from tasks.sources.remote_release import RemoteRelease
from tasks.sources.web import Manners, Stopped, Unfetchable, Web
from tests.fakes.servers.figshare import FakeFigshare
from tests.fakes.servers.http import CHALLENGE, EMPTY, FORBIDDEN_HTML, HTML_PAGE, TOO_MANY, UNAVAILABLE, Failure
from tests.fakes.servers.https import FakeFiles
from tests.fakes.servers.physionet import DIGESTS, FakePhysioNet
from tests.remote_releases import (
    ACCESS,
    ARTICLE,
    DATASET,
    PASSWORD,
    PROJECT,
    QUICK,
    SECRETS,
    USER,
    VERSION,
    chain,
    held,
    on_figshare,
    on_physionet,
    on_plain_host,
    paths,
    some_bytes,
)

DATA = some_bytes(100_000)
LATER = Failure(429, {"Retry-After": "3600"})
NO_JSON = Failure(200, {"Content-Type": "application/json"}, b"Bad gateway, sorry")
ENDLESS = 20


@pytest.fixture
def figshare() -> Iterator[FakeFigshare]:
    with FakeFigshare() as server:
        server.publish(ARTICLE, {"a.bin": DATA})
        yield server


@pytest.fixture
def physionet() -> Iterator[FakePhysioNet]:
    content = {"LICENSE.txt": b"free", **{f"films/{n}.csv": b"%d" % n for n in range(8)}}
    with FakePhysioNet(PROJECT, VERSION, content, user=USER, password=PASSWORD) as server:
        yield server


# Refusals


@pytest.mark.parametrize("at", ["/v2/articles", "/ndownloader/"])
@pytest.mark.parametrize(
    ("answer", "asked", "words"),
    [
        (CHALLENGE, 1, ["challenge", "202", "browser", "--raw"]),
        (FORBIDDEN_HTML, 1, ["403", "browser", "--raw"]),
        (HTML_PAGE, 1, ["web page", "browser", "--raw"]),
        (EMPTY, QUICK.attempts, ["without content", "4 times", "same command"]),
        (UNAVAILABLE, QUICK.attempts, ["503", "4 times", "same command"]),
        (LATER, 1, ["429", "60 minutes", "same command"]),
        (Failure(410), 1, ["410"]),
    ],
    ids=["challenge", "forbidden", "page", "empty", "unavailable", "later", "gone"],
)
def test_a_refusal_is_told_in_words_and_repeated_only_where_it_may_pass(
    figshare: FakeFigshare, tmp_path: Path, at: str, answer: Failure, asked: int, words: list[str]
) -> None:
    figshare.failures = [answer.at(at)] * ENDLESS
    with pytest.raises(Unfetchable) as refusal:
        fetch(on_figshare(figshare), tmp_path, {})
    place = f"{figshare.api}/articles/{ARTICLE}" if "articles" in at else f"{figshare.api}/file/download/"
    assert str(refusal.value).startswith(place)
    assert [word for word in words if word not in str(refusal.value)] == []
    assert ENDLESS - len(figshare.failures) == asked
    figshare.failures = []
    assert held(fetch(on_figshare(figshare), tmp_path, {}).folder) == {"a.bin": DATA}


def test_an_answer_of_the_api_that_is_no_json_is_told(figshare: FakeFigshare, tmp_path: Path) -> None:
    figshare.failures = [NO_JSON]
    with pytest.raises(Unfetchable, match=rf"{figshare.api}/articles/{ARTICLE}: .*not JSON: 'Bad gateway"):
        fetch(on_figshare(figshare), tmp_path, {})


def test_articles_without_files_are_told_apart(figshare: FakeFigshare, tmp_path: Path) -> None:
    missing = on_figshare(figshare)
    missing = replace(missing, dataset=replace(missing.dataset, remote=replace(missing.remote, where="404")))
    with pytest.raises(Unfetchable, match=f"{figshare.api}/articles/404: .*no such article.*not public"):
        fetch(missing, tmp_path, {})
    figshare.publish(7, {})
    figshare.link(7, "b.bin", "https://example.org/b.bin")
    links = replace(missing, dataset=replace(missing.dataset, remote=replace(missing.remote, where="7")))
    with pytest.raises(Unfetchable, match="articles/7: the article holds no file"):
        fetch(links, tmp_path, {})
    figshare.embargo(ARTICLE)
    with pytest.raises(Unfetchable, match=f"articles/{ARTICLE}: the article is under embargo"):
        fetch(on_figshare(figshare), tmp_path, {})
    assert len(figshare.requests) == 1 + 3 + 1
    assert held(tmp_path).keys() == {".lock"}


@pytest.mark.parametrize("name", ["../../evil.bin", "/etc/evil.bin", "a/../../evil.bin", "..\\evil.bin", ".."])
def test_a_path_that_leaves_the_folder_is_refused(figshare: FakeFigshare, tmp_path: Path, name: str) -> None:
    figshare.publish(ARTICLE, {"a.bin": DATA, name: b"evil"})
    with pytest.raises(Unfetchable, match="is no path inside a folder") as refusal:
        fetch(on_figshare(figshare), tmp_path / "deep" / "raw", {})
    assert repr(name) in str(refusal.value)
    assert paths(figshare, "/file/download/") == []
    assert held(tmp_path).keys() == {"deep/raw/.lock"}


def test_bytes_that_are_not_as_listed_are_not_kept(figshare: FakeFigshare, tmp_path: Path) -> None:
    figshare.corrupt(ARTICLE, "a.bin")
    with pytest.raises(OtherBytes, match=r"a\.bin arrived with MD5 [0-9a-f]{32}, the host lists"):
        fetch(on_figshare(figshare), tmp_path, {})
    assert held(tmp_path).keys() == {".lock"}


def test_a_host_that_is_not_there_is_told(tmp_path: Path) -> None:
    with FakeFigshare() as server:
        wanted = on_figshare(server)
    with pytest.raises(Unfetchable, match=rf"{wanted.base}/articles/{ARTICLE}: the host cannot be reached .*on-line\?"):
        fetch(wanted, tmp_path, {})


# PhysioNet


def test_a_wrong_digest_costs_its_own_file_only(physionet: FakePhysioNet, tmp_path: Path) -> None:
    physionet.wrong_digest("films/0.csv")
    folder = tmp_path / "physionet.org/files" / PROJECT / VERSION
    for _ in range(2):
        with pytest.raises(OtherBytes, match=r"films/0\.csv arrived with SHA-256 [0-9a-f]{64}, the host lists"):
            fetch(on_physionet(physionet), tmp_path, SECRETS)
        assert len(held(folder)) == 9
        assert "films/0.csv" not in held(folder)
    assert len(paths(physionet, "films/1.csv")) == len(paths(physionet, "LICENSE.txt")) == 1


@pytest.mark.parametrize("listed", [b"", b"<html>Please sign in</html>", b"no digest here\n"])
def test_a_list_of_digests_that_is_none_takes_nothing_away(
    physionet: FakePhysioNet, tmp_path: Path, listed: bytes
) -> None:
    before = held(fetch(on_physionet(physionet), tmp_path, SECRETS).folder)
    physionet.failures = [Failure(200, {"ETag": '"x"'}, listed).at(DIGESTS)] * ENDLESS
    with pytest.raises(Unfetchable, match=DIGESTS):
        fetch(on_physionet(physionet), tmp_path, SECRETS)
    assert held(tmp_path / "physionet.org/files" / PROJECT / VERSION) == before


def test_a_file_whose_address_is_refused_is_not_an_invitation_to_ask_for_all_others(tmp_path: Path) -> None:
    content = {f"films/{n}.csv": b"%d" % n for n in range(200)}
    with FakePhysioNet(PROJECT, VERSION, content, user=USER, password=PASSWORD) as server:
        server.failures = [Failure(403).at("films/")] * 200
        server.stall = [0.1]
        with pytest.raises(Unfetchable, match=rf"403.*{ACCESS}"):
            fetch(on_physionet(server), tmp_path, SECRETS)
        assert len(paths(server, "films/")) <= 20


@pytest.mark.parametrize("case", ["unknown", "not entitled"])
def test_an_account_that_is_refused_is_told_how_to_get_access(
    physionet: FakePhysioNet, tmp_path: Path, case: str
) -> None:
    physionet.entitled = False
    if case == "unknown":
        physionet.failures = [Failure(401, {"WWW-Authenticate": 'Basic realm="PhysioNet"'})]
    with pytest.raises(Unfetchable, match="401" if case == "unknown" else rf"403.*{ACCESS}") as refusal:
        fetch(on_physionet(physionet), tmp_path, SECRETS)
    assert ACCESS in str(refusal.value)
    assert paths(physionet) == [physionet.root + DIGESTS]


@pytest.mark.parametrize("missing", ["username", "password"])
def test_without_an_account_nothing_is_asked_for(physionet: FakePhysioNet, tmp_path: Path, missing: str) -> None:
    secrets = {name: value for name, value in SECRETS.items() if not name.endswith(missing)}
    with pytest.raises(UnusableInput, match=rf"SCANMILL_PHYSIONET_{missing.upper()}.*{ACCESS}"):
        fetch(on_physionet(physionet), tmp_path, secrets)
    assert physionet.requests == ()


@pytest.mark.parametrize("trouble", ["none", "refused", "unavailable", "wrong digest", "gone", "no list"])
def test_a_password_shows_nowhere(
    physionet: FakePhysioNet, tmp_path: Path, caplog: pytest.LogCaptureFixture, trouble: str
) -> None:
    caplog.set_level(logging.DEBUG)
    physionet.entitled = trouble != "refused"
    if trouble == "wrong digest":
        physionet.wrong_digest("films/0.csv")
    troubles = {"unavailable": UNAVAILABLE, "no list": Failure(200, {}, b"what?")}
    physionet.failures = [troubles[trouble]] * ENDLESS if trouble in troubles else []
    wanted = on_physionet(physionet)
    if trouble == "gone":
        physionet.__exit__()
    told = ""
    try:
        told += repr(fetch(wanted, tmp_path, SECRETS))
    except UnusableInput as error:
        told += "".join(f"{link} {link!r} {link.args} {vars(link)}" for link in chain(error))
    assert told
    assert caplog.text
    told += caplog.text + "".join(content.decode("latin-1") for content in held(tmp_path).values())
    encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    hidden = [PASSWORD, PASSWORD.encode().decode("latin-1"), ascii(PASSWORD)[1:-1], quote(PASSWORD), encoded]
    assert [form for form in hidden if form in told] == []


# Patience


def test_the_pause_that_a_host_asks_for_is_kept(figshare: FakeFigshare, tmp_path: Path) -> None:
    figshare.failures = [TOO_MANY.at("/file/download/")]
    assert held(fetch(on_figshare(figshare), tmp_path, {}).folder) == {"a.bin": DATA}
    refused, again = (request.seconds for request in figshare.requests if "/file/download/" in request.path)
    assert 1.0 <= again - refused < 1.5


def test_pauses_grow_unless_the_host_says_how_long(
    figshare: FakeFigshare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(Web, "_pause", lambda self, seconds: pauses.append(seconds))
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    figshare.failures = [UNAVAILABLE] * 3 + [Failure(503, {"Retry-After": until}), Failure(502, {"Retry-After": "?"})]
    fetch(on_figshare(figshare, Manners(first_wait_seconds=1.0)), tmp_path, {})
    assert pauses[:3] == [1.0, 2.0, 4.0]
    assert 95 < pauses[3] <= 100
    assert pauses[4:] == [16.0]


def test_the_api_is_asked_at_its_pace_by_all_downloads_together(figshare: FakeFigshare, tmp_path: Path) -> None:
    figshare.publish(ARTICLE, {f"{n}.bin": DATA[n:] for n in range(4)})
    figshare.failures = [UNAVAILABLE.at("/file/download/")]
    figshare.delay = 0.05
    fetch(on_figshare(figshare, replace(QUICK, seconds_between=0.15, at_once=2)), tmp_path, {})
    asked = sorted(request.seconds for request in figshare.requests if request.path.startswith("/v2/"))
    assert len(asked) == 3 + 4 + 1
    # Measured where they arrive, so a little later than they left.
    assert min(later - earlier for earlier, later in itertools.pairwise(asked)) > 0.05
    assert asked[-1] - asked[0] > 0.15 * (len(asked) - 1) - 0.1


def test_who_waits_for_his_turn_holds_up_nobody_on_his_way_elsewhere(figshare: FakeFigshare) -> None:
    web = Web(figshare.api, Manners(seconds_between=60.0))
    with FakeFiles({"a.bin": DATA}) as elsewhere, ThreadPoolExecutor() as pool:
        article = f"{figshare.api}/articles/{ARTICLE}"
        web.get(article)
        waiting = pool.submit(web.get, article)
        while web.requests < 2:
            time.sleep(0.01)
        assert web.get(f"{elsewhere.url}/a.bin").content == DATA
        assert not waiting.done()
        web.stop()
        with pytest.raises(Stopped):
            waiting.result(timeout=10)
    assert len(figshare.requests) == 1


# Not to be fetched by machine


def test_a_dataset_that_only_a_person_can_fetch_says_where(tmp_path: Path) -> None:
    with pytest.raises(UnusableInput, match=r"cannot be fetched by machine: get it at https://.*--raw.*--files"):
        fetch(RemoteRelease(replace(DATASET, remote=None)), tmp_path, {})


def test_a_host_that_says_nothing_about_its_file_needs_a_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeFiles({"a.bin": DATA}) as server:
        server.failures = [Failure(200)]
        with pytest.raises(Unfetchable, match=r"neither ETag nor time.*pin its SHA-256"):
            fetch(on_plain_host(server), tmp_path, {})
        server.failures = [Failure(301, {"Location": f"{server.url}/a.bin"})] * 50
        with pytest.raises(Unfetchable, match=r"a\.bin: cannot be asked for: .*redirects"):
            fetch(on_plain_host(server, DATA), tmp_path, {})
